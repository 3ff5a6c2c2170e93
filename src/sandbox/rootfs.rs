//! An image's root file system, looked at from outside without ever being led out of it by a symbolic link.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2};
use rustix::io::Errno;

use super::launcher::Identity;

/// The largest file that is read of an image: `/etc/passwd` and the like.
const LARGEST: u64 = 4 << 20;

/// A directory that is to be a container's root.
#[derive(Debug)]
pub(crate) struct Rootfs {
    directory: OwnedFd,
    /// Whether only a part of it is to be seen: the paths below which, from the root on.
    parts: Option<&'static [&'static str]>,
}

/// What is found at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Directory,
    Other,
}

impl Rootfs {
    /// # Errors
    /// Where it is no directory, or cannot be read.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::empty())?;
        Ok(Self { directory, parts: None })
    }

    /// Of this machine's own root, what is at or below these paths, which begin with a slash.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub(super) fn of_machine(parts: &'static [&'static str]) -> io::Result<Self> {
        Ok(Self { parts: Some(parts), ..Self::open(Path::new("/"))? })
    }

    /// Which directory it is: its device, and its number there.
    ///
    /// # Errors
    /// Where its file system does not say.
    pub(crate) fn identity(&self) -> io::Result<Identity> {
        let found = fstat(&self.directory)?;
        Ok((found.st_dev, found.st_ino))
    }

    fn resolve(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        // Absolute paths and links begin at the root file system, as they will inside.
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let found = openat2(&self.directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        match self.parts {
            Some(parts) if !self.is_within(&found, parts) => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(found),
        }
    }

    /// Whether what was found is where something is to be seen.
    fn is_within(&self, found: &OwnedFd, parts: &[&str]) -> bool {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).unwrap_or_default();
        parts.iter().any(|part| path.starts_with(part))
    }

    /// Whether anything is at a path inside, links followed.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.find(path) != Found::Nothing
    }

    /// What is at a path inside, links followed.
    pub(super) fn find(&self, path: &str) -> Found {
        match self.resolve(path, OFlags::PATH).and_then(|file| Ok(fstat(&file)?)) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => Found::Directory,
            Ok(_) => Found::Other,
            Err(_) => Found::Nothing,
        }
    }

    /// Whether no link is on the way to a path, which itself need not be there.
    pub(crate) fn is_plain(&self, path: &str) -> bool {
        let above = Path::new(path).ancestors().skip(1);
        above.filter_map(Path::to_str).all(|above| self.find_itself(above) != Found::Other)
    }

    /// Whether it lies on an overlay, upon which the kernel takes one more and no two.
    pub(super) fn is_overlay(&self) -> bool {
        const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;
        fstatfs(&self.directory).is_ok_and(|found| found.f_type as u64 == OVERLAYFS_SUPER_MAGIC)
    }

    /// What is at a path itself: no part of it may be a link. A link is [`Found::Other`].
    pub(super) fn find_itself(&self, path: &str) -> Found {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Some(parts) = self.parts
            && !parts.iter().any(|part| Path::new(path).starts_with(part))
        {
            return Found::Nothing;
        }
        match openat2(&self.directory, path, flags, Mode::empty(), resolve).map(|file| fstat(&file)) {
            Ok(Ok(found)) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                Found::Directory
            }
            Err(Errno::NOENT) => Found::Nothing,
            _ => Found::Other,
        }
    }

    /// Where a path leads to inside, links followed: from the root on. `None` where there is nothing.
    pub(super) fn real_path(&self, path: &str) -> Option<PathBuf> {
        let link = |fd: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
        let (root, found) = (link(&self.directory)?, link(&self.resolve(path, OFlags::PATH).ok()?)?);
        Some(Path::new("/").join(found.strip_prefix(root).ok()?))
    }

    /// A directory inside, links followed.
    pub(crate) fn open_directory(&self, path: &str) -> Option<OwnedFd> {
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY).ok()
    }

    /// A text file's content; `None` where there is none that can be read.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        // Not blocking: it might be a FIFO.
        let file = File::from(self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).ok()?);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut content = Vec::new();
        file.take(LARGEST).read_to_end(&mut content).ok()?;
        Some(String::from_utf8_lossy(&content).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::create_dir_all(root.join("usr/bin")).unwrap();
        std::fs::write(root.join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", root.join("absolute")).unwrap();
        symlink("../../../../etc/passwd", root.join("above")).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        let rootfs = Rootfs::open(root).unwrap();
        for path in ["/etc/passwd", "etc/passwd", "/absolute", "/above", "/../etc/passwd"] {
            assert_eq!(rootfs.read(path).as_deref(), Some("inside"), "{path}");
        }
        assert_eq!(rootfs.find("/bin"), Found::Directory);
        assert_eq!(rootfs.find("/absolute"), Found::Other);
        assert_eq!(rootfs.find("/etc/shadow"), Found::Nothing);
        assert_eq!(rootfs.read("/etc"), None);
        assert_eq!(rootfs.find_itself("/usr/bin"), Found::Directory);
        assert_eq!(rootfs.find_itself("/bin"), Found::Other);
        assert_eq!(rootfs.find_itself("/nothing"), Found::Nothing);
        assert_eq!(rootfs.real_path("/bin").as_deref(), Some(Path::new("/usr/bin")));
        assert_eq!(rootfs.real_path("/nothing"), None);
    }
}
