//! Who may read what is found.

use rustix::fs::Stat;

/// For whom files are sent: who could not read one by its mode does not get it, though dcgi could.
///
/// Permissions that access control lists give or take beside the mode do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Everybody: a file that others may read, in directories that others may search.
    #[default]
    Others,
    /// A user, by number.
    User {
        /// Its number. Zero may read everything.
        uid: u32,
        /// Those of all its groups.
        groups: Vec<u32>,
    },
}

/// A file is read, a directory searched: the bits of the mode, as others have them.
const READ: u32 = 0o4;
const SEARCH: u32 = 0o1;

impl Reader {
    pub(super) fn may_read(&self, file: &Stat) -> bool {
        self.has(file, READ)
    }

    pub(super) fn may_search(&self, directory: &Stat) -> bool {
        self.has(directory, SEARCH)
    }

    fn has(&self, found: &Stat, bit: u32) -> bool {
        let shift = match self {
            Self::User { uid: 0, .. } => return true,
            Self::User { uid, .. } if *uid == found.st_uid => 6,
            Self::User { groups, .. } if groups.contains(&found.st_gid) => 3,
            _ => 0,
        };
        found.st_mode >> shift & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_that_a_user_is_counts_owner_group_or_others() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let user = |uid, groups: &[u32]| Reader::User { uid, groups: groups.to_vec() };
        // As the kernel has it, an owner who may not read is not helped by what others may.
        for (mode, owner, group, others) in [
            (0o400, true, false, false),
            (0o040, false, true, false),
            (0o004, false, false, true),
            (0o444, true, true, true),
        ] {
            file.as_file().set_permissions(PermissionsExt::from_mode(mode)).unwrap();
            let mut found = rustix::fs::fstat(file.as_file()).unwrap();
            found.st_uid = uid + 1000;
            let may = |reader: Reader| reader.may_read(&found);
            assert_eq!(may(user(uid + 1000, &[gid])), owner, "{mode:o}");
            assert_eq!(may(user(uid + 1, &[gid + 7, gid])), group, "{mode:o}");
            assert_eq!(may(user(uid + 1, &[gid + 7])), others, "{mode:o}");
            assert_eq!(may(Reader::Others), others, "{mode:o}");
            assert!(may(user(0, &[])));
        }
    }
}
