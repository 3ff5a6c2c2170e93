//! Names in archives, and the paths in a root that they mean.

use std::collections::VecDeque;
use std::fmt;

use rustix::fs::{AtFlags, FileType, OFlags, readlinkat, statat};
use rustix::io::Errno;

use super::Rootfs;
use crate::images::removal::open_directory;

/// Linux's `PATH_MAX`, which counts a NUL.
const LONGEST: usize = 4095;

/// As many as Linux follows in one path.
const MOST_LINKS: usize = 40;

/// Why a name cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadPath {
    Absolute,
    Climbs,
    ClimbsThroughLink,
    TooLong,
    Nul,
    TooManyLinks,
    Unreadable(Errno),
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absolute => "is absolute",
            Self::Climbs => "leads upward by `..`",
            Self::ClimbsThroughLink => "leads out of the image through a symbolic link",
            Self::TooLong => "is longer than a path may be",
            Self::Nul => "holds a NUL",
            Self::TooManyLinks => "goes through too many symbolic links",
            Self::Unreadable(error) => return write!(f, "cannot be looked up: {error}"),
        })
    }
}

/// A name of an archive as a path below the root: without empty and `.` components. The root's own is empty.
pub(super) fn parse(name: &[u8]) -> Result<Vec<u8>, BadPath> {
    if name.first() == Some(&b'/') {
        return Err(BadPath::Absolute);
    }
    if name.contains(&0) {
        return Err(BadPath::Nul);
    }
    let components: Vec<_> = components(name).collect();
    if components.contains(&&b".."[..]) {
        return Err(BadPath::Climbs);
    }
    let path = components.join(&b'/');
    if path.len() > LONGEST { Err(BadPath::TooLong) } else { Ok(path) }
}

/// What a path is made of, without what means nothing.
pub(super) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b"."))
}

impl Rootfs {
    /// The path without links that a program in the image would reach by this one, the last component included.
    /// Nothing need be there.
    pub(super) fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, BadPath> {
        // Almost always.
        match open_directory(&self.root, path, OFlags::PATH) {
            Ok(_) => return Ok(path.to_vec()),
            Err(Errno::LOOP | Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(BadPath::Unreadable(error)),
        }
        let mut pending: VecDeque<Vec<u8>> = components(path).map(<[u8]>::to_vec).collect();
        let mut resolved: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name == b".." {
                resolved.pop().ok_or(BadPath::ClimbsThroughLink)?;
                continue;
            }
            let Some(target) = self.link_at(&resolved.join(&b'/'), &name)? else {
                resolved.push(name);
                if resolved.iter().map(|name| name.len() + 1).sum::<usize>() > LONGEST {
                    return Err(BadPath::TooLong);
                }
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return Err(BadPath::TooManyLinks);
            }
            if target.first() == Some(&b'/') {
                resolved.clear();
            }
            for component in components(&target).rev() {
                pending.push_front(component.to_vec());
            }
        }
        Ok(resolved.join(&b'/'))
    }

    /// Where the symbolic link of this name points, if it is one.
    fn link_at(&self, directory: &[u8], name: &[u8]) -> Result<Option<Vec<u8>>, BadPath> {
        let looked_up = open_directory(&self.root, directory, OFlags::PATH).and_then(|directory| {
            let stat = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                return Ok(None);
            }
            readlinkat(&directory, name, Vec::new()).map(|target| Some(target.into_bytes()))
        });
        match looked_up {
            // Nothing is there, or below a file: whoever makes something there will be told.
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            found => found.map_err(BadPath::Unreadable),
        }
    }
}
