//! Who a program runs as: `user[:group]`, by name or number, looked up in the image's own `/etc/passwd` and `/etc/group`.

use std::str::FromStr;

use super::rootfs::Rootfs;

/// A user of an image, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups: those that list the user, where no group was named.
    pub(crate) groups: Vec<u32>,
    /// The home directory, `/` where the image knows none.
    pub(crate) home: String,
}

/// No such user or group in the root.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no {kind} `{name}` in its /etc/{file}")]
pub(super) struct UnknownUser {
    kind: &'static str,
    file: &'static str,
    name: String,
}

/// Looks a user up as Docker does: numbers need not be known to the image, names must.
pub(super) fn resolve(rootfs: &Rootfs, spec: &str) -> Result<User, UnknownUser> {
    let passwd = rootfs.read("/etc/passwd").unwrap_or_default();
    let group = rootfs.read("/etc/group").unwrap_or_default();
    resolve_in(&passwd, &group, spec)
}

/// Who a program is where nobody says, and it is not to be root: the web server's user, else nobody in particular.
pub(super) fn unprivileged(rootfs: &Rootfs) -> User {
    let known = ["www-data", "nobody"].into_iter().filter_map(|name| resolve(rootfs, name).ok());
    let mut known = known.filter(|user| user.uid != 0 && user.gid != 0);
    match known.next() {
        // In no further group: that one may read what others may not.
        Some(user) => User { groups: Vec::new(), ..user },
        // The kernel's own number for who is nobody: user_namespaces(7).
        None => User { uid: 65534, gid: 65534, groups: Vec::new(), home: "/".to_owned() },
    }
}

fn resolve_in(passwd: &str, group: &str, spec: &str) -> Result<User, UnknownUser> {
    let (user, named_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    // A name that looks like a number is a name first.
    let entry = entries(passwd)
        .find(|fields| fields[0] == user)
        .or_else(|| entries(passwd).find(|fields| fields.get(2) == Some(&user)));
    let known = entry.as_ref().and_then(|fields| {
        let home = fields.get(5).filter(|home| !home.is_empty()).unwrap_or(&"/");
        Some((number(fields.get(2)?)?, number(fields.get(3)?)?, (*home).to_owned(), fields[0]))
    });
    let (uid, gid, home, name) = match (known, number(user)) {
        (Some(known), _) => known,
        (None, Some(uid)) => (uid, 0, "/".to_owned(), ""),
        (None, None) => {
            return Err(UnknownUser { kind: "user", file: "passwd", name: user.to_owned() });
        }
    };
    let Some(wanted) = named_group else {
        let lists_user = |fields: &Vec<&str>| {
            !name.is_empty() && fields.get(3).is_some_and(|m| m.split(',').any(|m| m == name))
        };
        let groups = entries(group).filter(lists_user).filter_map(|fields| number(fields.get(2)?)).collect();
        return Ok(User { uid, gid, groups, home });
    };
    let listed = entries(group).find(|fields| fields[0] == wanted).and_then(|fields| number(fields.get(2)?));
    match listed.or_else(|| number(wanted)) {
        Some(gid) => Ok(User { uid, gid, groups: Vec::new(), home }),
        None => Err(UnknownUser { kind: "group", file: "group", name: wanted.to_owned() }),
    }
}

fn entries(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').collect())
}

/// An id that the kernel takes: -1 stands for "no change".
fn number(text: &str) -> Option<u32> {
    u32::from_str(text).ok().filter(|id| *id <= i32::MAX as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www:/var/www:/bin/sh\n42:x:7:8::/n:\n";
    const GROUP: &str = "root:x:0:\nwww-data:x:33:\nstaff:x:50:www-data,root\nadm:x:4:root\n";

    fn found(spec: &str) -> (u32, u32, Vec<u32>, String) {
        let user = resolve_in(PASSWD, GROUP, spec).unwrap();
        (user.uid, user.gid, user.groups, user.home)
    }

    #[test]
    fn a_name_is_looked_up_with_its_groups_and_home() {
        assert_eq!(found("www-data"), (33, 33, vec![50], "/var/www".into()));
        assert_eq!(found(""), (0, 0, vec![50, 4], "/root".into()));
    }

    #[test]
    fn a_number_that_the_image_knows_is_that_user() {
        assert_eq!(found("33"), (33, 33, vec![50], "/var/www".into()));
    }

    #[test]
    fn a_number_that_it_does_not_know_is_in_group_0_at_the_root() {
        assert_eq!(found("1234"), (1234, 0, vec![], "/".into()));
        assert_eq!(found("1234:2345"), (1234, 2345, vec![], "/".into()));
    }

    #[test]
    fn a_named_group_is_the_only_one() {
        assert_eq!(found("www-data:staff"), (33, 50, vec![], "/var/www".into()));
        assert_eq!(found("www-data:7"), (33, 7, vec![], "/var/www".into()));
    }

    #[test]
    fn a_name_of_digits_is_a_name_first() {
        assert_eq!(found("42"), (7, 8, vec![], "/n".into()));
    }

    #[test]
    fn an_unknown_name_is_an_error_that_says_where_it_was_looked_for() {
        let error = |spec| resolve_in(PASSWD, GROUP, spec).unwrap_err().to_string();
        assert_eq!(error("nobody"), "no user `nobody` in its /etc/passwd");
        assert_eq!(error("root:wheel"), "no group `wheel` in its /etc/group");
        assert_eq!(error("4294967295"), "no user `4294967295` in its /etc/passwd");
    }
}
