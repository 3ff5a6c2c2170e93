//! Removing a directory with all that is in it, whatever the modes in there.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, chmodat, openat2, statat, unlinkat};
use rustix::io::Errno;

/// Names below a directory: no symbolic link is followed, and nothing above it is reached.
pub(super) const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Opens the directory at a path below another one, which may be that one itself, to reach what is in it.
pub(super) fn open_directory(base: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    openat2(base, path, flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), BENEATH)
}

/// A path's directory and last name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// A directory's path, and a name in it.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// What is in a directory, and whether each is a directory too.
pub(super) fn list(directory: impl AsFd) -> io::Result<Vec<(Vec<u8>, bool)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                FileType::from_raw_mode(statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
            }
            kind => kind,
        };
        found.push((name.to_vec(), kind == FileType::Directory));
    }
    Ok(found)
}

/// Removes what is at a path below a directory, a directory with all that is in it. Nothing there is as good.
///
/// Holds no descriptor for longer than one directory's list, so that depth costs nothing.
pub(super) fn remove_tree(base: impl AsFd, path: &[u8]) -> io::Result<()> {
    let base = base.as_fd();
    // Directories to be looked into, and those whose content is gone.
    let mut pending = vec![(path.to_vec(), false)];
    while let Some((path, emptied)) = pending.pop() {
        let (parent, name) = split(&path);
        let parent = match open_directory(base, parent, OFlags::PATH) {
            Err(Errno::NOENT) => continue,
            parent => parent?,
        };
        let flags = if emptied { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        if !emptied {
            // unlink on a directory is EISDIR on Linux, and EPERM elsewhere.
            match unlinkat(&parent, name, flags) {
                Err(Errno::ISDIR) => {}
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            }
            let directory = match open_directory(&parent, name, OFlags::RDONLY) {
                // An ordinary user's own directory, without the permission to read it.
                Err(Errno::ACCESS) => {
                    chmodat(&parent, name, Mode::RWXU, AtFlags::empty())?;
                    open_directory(&parent, name, OFlags::RDONLY)?
                }
                directory => directory?,
            };
            rustix::fs::fchmod(&directory, Mode::RWXU)?;
            pending.push((path.clone(), true));
            for (name, is_directory) in list(&directory)? {
                if is_directory {
                    pending.push((join(&path, &name), false));
                } else {
                    unlinkat(&directory, name, AtFlags::empty())?;
                }
            }
            continue;
        }
        match unlinkat(&parent, name, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
