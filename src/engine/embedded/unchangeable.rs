//! A file that programs execute, and that is theirs in no way.
//!
//! # Security
//! All routes' agents are this one file. Content alone is not all of a file: its owner may take its modes, so that no other
//! agent starts, and leave extended attributes with it for others to find.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag,
    fsmount, fsopen,
};

/// The mode of what may be read and executed, and nothing else.
const EXECUTABLE: Mode = Mode::from_raw_mode(0o555);

/// A copy in memory that can be executed.
#[derive(Debug)]
pub(super) enum Unchangeable {
    /// The only file of a file system of its own, which is mounted nowhere and takes no writes of whatever kind.
    Mounted(OwnedFd),
    /// A sealed memfd. Who is the same user as dcgi can change its mode and its attributes, and nobody else: for who may not
    /// mount, and then runs programs as himself.
    Sealed(OwnedFd),
}

impl Unchangeable {
    /// Copies a file. Blocks.
    ///
    /// # Errors
    /// Where it cannot be read, or there is no room in memory.
    pub(super) fn copy(mut from: File) -> io::Result<Self> {
        match mounted(&mut from) {
            Ok(file) => Ok(Self::Mounted(file)),
            // An ordinary user; Linux before 5.2, and gVisor. Nothing has been read yet.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::PERM | Errno::NOSYS)) => {
                sealed(&mut from).map(Self::Sealed)
            }
            Err(error) => Err(error),
        }
    }

    /// Puts right what can have been changed after all.
    ///
    /// # Errors
    /// Where it is not ours any more.
    pub(super) fn restore(&self) -> io::Result<()> {
        match self {
            Self::Mounted(_) => Ok(()),
            Self::Sealed(file) => Ok(rustix::fs::fchmod(file, EXECUTABLE)?),
        }
    }
}

impl AsFd for Unchangeable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Mounted(file) | Self::Sealed(file) => file.as_fd(),
        }
    }
}

fn mounted(from: &mut File) -> io::Result<OwnedFd> {
    const NAME: &str = "dcgi";
    let system = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&system)?;
    let mount = fsmount(&system, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&mount, NAME, new, EXECUTABLE)?);
    io::copy(from, &mut file)?;
    rustix::fs::fchmod(&file, EXECUTABLE)?;
    drop(file);
    fsconfig_set_flag(&system, "ro")?;
    fsconfig_reconfigure(&system)?;
    Ok(rustix::fs::openat(&mount, NAME, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn sealed(from: &mut File) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Where the kernel knows how to say that it is to be executed (Linux 6.3), it may insist on that.
    let made = match rustix::fs::memfd_create("dcgi", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("dcgi", flags),
        made => made,
    };
    let mut file = File::from(made?);
    io::copy(from, &mut file)?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    rustix::fs::fchmod(&file, EXECUTABLE)?;
    // Not the one that can write.
    Ok(File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?.into())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use rustix::fs::XattrFlags;

    use super::*;

    fn copy() -> Unchangeable {
        Unchangeable::copy(File::open("/bin/true").unwrap()).unwrap()
    }

    #[test]
    fn a_copy_is_executed() {
        let copy = copy();
        let path = format!("/proc/{}/fd/{}", std::process::id(), copy.as_fd().as_raw_fd());
        assert!(Command::new(path).status().unwrap().success());
    }

    #[test]
    fn roots_copy_has_no_owner_who_can_change_it() {
        let copy = copy();
        if let Unchangeable::Sealed(_) = copy {
            assert!(!rustix::process::geteuid().is_root(), "root may mount");
            return;
        }
        let file = File::from(copy.as_fd().try_clone_to_owned().unwrap());
        let chmod = file.set_permissions(Permissions::from_mode(0o0)).unwrap_err();
        assert_eq!(Errno::from_io_error(&chmod), Some(Errno::ROFS));
        let set = rustix::fs::fsetxattr(&file, "user.mark", b"1", XattrFlags::empty());
        assert_eq!(set.unwrap_err(), Errno::ROFS);
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        assert!(File::options().write(true).open(path).is_err());
    }

    #[test]
    fn who_may_not_mount_has_a_sealed_one() {
        let copy = Unchangeable::Sealed(sealed(&mut File::open("/bin/true").unwrap()).unwrap());
        rustix::fs::fchmod(&copy, Mode::empty()).unwrap();
        copy.restore().unwrap();
        assert_eq!(rustix::fs::fstat(&copy).unwrap().st_mode & 0o7777, 0o555);
        assert!(rustix::io::write(&copy, b"x").is_err());
    }
}
