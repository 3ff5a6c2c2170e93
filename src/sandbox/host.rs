//! The machine, as far as containers depend on it.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::process::{Resource, getegid, geteuid, getgroups, getrlimit};

use super::launcher::{Steps, c_string};

/// How many files a program may have open unless it asks for more, and how many it may ask for: what Docker gives
/// since Engine 25.
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// Who we are here, and what we may.
#[derive(Debug)]
pub(crate) struct Host {
    /// Our user and group where we are not root, or root of nothing but a user namespace.
    ordinary: Option<(u32, u32)>,
    /// An empty directory of ours, over which slots and sandboxes mount what is theirs.
    scratch: CString,
    /// Whether our root cannot be exchanged for another as it is.
    has_first_root: bool,
}

impl Host {
    /// Looks around, and makes the directory `scratch` where it is not there.
    pub(crate) fn new(scratch: &Path) -> io::Result<Self> {
        // Other users of the machine have no business there.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(scratch)?;
        let is_root = geteuid().is_root() && !in_user_namespace();
        let ordinary = (!is_root).then(|| (geteuid().as_raw(), getegid().as_raw()));
        let scratch = c_string(scratch.as_os_str().as_bytes())?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Ok(Self { ordinary, scratch, has_first_root: has_first_root(&mounts) })
    }

    /// Whether we are root on this machine, or what passes for it.
    pub(super) fn is_root(&self) -> bool {
        self.ordinary.is_none()
    }

    /// See [`Host::scratch`](struct@Host).
    pub(super) fn scratch(&self) -> &CStr {
        &self.scratch
    }

    /// Whether containers can have a `/sys`: only in a network namespace of one's own does the kernel give an ordinary
    /// user one.
    pub(super) fn shows_sysfs(&self) -> bool {
        self.is_root()
    }

    pub(super) fn has_resolver(&self) -> bool {
        Path::new("/etc/resolv.conf").is_file()
    }

    /// What the zygote does first: it gets mounts of its own, and as an ordinary user becomes root in a user namespace.
    pub(crate) fn preparation(&self) -> Steps {
        let mut steps = Steps::default();
        if let Some((uid, gid)) = self.ordinary {
            steps.unshare(libc::CLONE_NEWUSER, "a user namespace");
            steps.write(c"/proc/self/setgroups", b"deny");
            steps.write(c"/proc/self/uid_map", format!("0 {uid} 1").as_bytes());
            steps.write(c"/proc/self/gid_map", format!("0 {gid} 1").as_bytes());
        }
        steps.unshare(libc::CLONE_NEWNS, "a mount namespace");
        // What the host mounts and unmounts later still shows here, and nothing that is mounted here shows there.
        steps.mount(c"none", c"/", c"", libc::MS_REC | libc::MS_SLAVE, c"");
        if self.has_first_root {
            steps.cover_root(&self.scratch);
        }
        steps
    }

    /// Resource limits of programs: never above our own.
    pub(super) fn limits(&self) -> Vec<(u32, u64, u64)> {
        let own = |resource| {
            let limit = getrlimit(resource);
            (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
        };
        let (soft, files) = own(Resource::Nofile);
        let mut hard = files.min(OPEN_FILES.1);
        if !self.is_root() {
            // Descriptors that are on their way in messages are counted for a user, unix(7): a program is to come to its
            // end before dcgi, whose user it shares.
            hard = hard.min(soft / 2);
        }
        vec![
            // A dump would be handled by the host, outside of the container.
            (libc::RLIMIT_CORE, 0, 0),
            (libc::RLIMIT_NOFILE, hard.min(OPEN_FILES.0), hard),
            half(libc::RLIMIT_SIGPENDING, own(Resource::Sigpending)),
            half(libc::RLIMIT_MSGQUEUE, own(Resource::Msgqueue)),
        ]
    }

    /// What an operator should know of how containers are here.
    pub(crate) fn shortcomings(&self) -> Vec<String> {
        let own = getegid();
        let others: Vec<_> =
            getgroups().unwrap_or_default().into_iter().filter(|group| *group != own).collect();
        match self.ordinary {
            Some(_) if !others.is_empty() => vec![format!(
                "programs keep the supplementary groups of the user that dcgi runs as, {}: start it without them",
                others.iter().map(|group| group.as_raw().to_string()).collect::<Vec<_>>().join(", ")
            )],
            _ => Vec::new(),
        }
    }
}

/// Half of a limit of ours. What it bounds is counted for a user of the machine, in whatever container his processes are:
/// programs leave the other half to his processes outside.
fn half(resource: u32, (soft, hard): (u64, u64)) -> (u32, u64, u64) {
    let half = |limit| if limit == libc::RLIM_INFINITY { limit } else { limit / 2 };
    (resource, half(soft), half(hard))
}

/// Whether the root is the first mount of all, below which there is none: an initramfs that nobody has left. Such a one
/// pivot_root(2) refuses to exchange. Told by its parent, which is itself: proc_pid_mountinfo(5).
fn has_first_root(mounts: &str) -> bool {
    mounts.lines().any(|line| {
        let mut fields = line.split(' ');
        let (id, parent) = (fields.next(), fields.next());
        id == parent && fields.nth(2) == Some("/")
    })
}

/// Whether user ids are not what they are for the machine: user_namespaces(7), `uid_map`. Who is root there may not make
/// devices, for one.
fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_ascii_whitespace().ne(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_without_another_below_it_is_the_first() {
        assert!(has_first_root("1 1 0:2 / / rw - rootfs none rw\n20 1 0:21 / /proc rw - proc proc rw\n"));
        let switched = "24 1 0:23 / / rw - tmpfs tmpfs rw\n25 24 0:21 / /proc rw - proc proc rw\n";
        assert!(!has_first_root(switched));
        assert!(!has_first_root(""));
    }
}
