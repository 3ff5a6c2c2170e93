//! A root file system that is unpacked from layers.
//!
//! Layers are applied as the [OCI image specification](https://github.com/opencontainers/image-spec/blob/main/layer.md)
//! has it. What it leaves open:
//!
//! - Everything goes through descriptors. A parent directory is opened beneath the root without following symbolic links
//!   (`openat2`), and everything else happens to one name in it. A parent that *is* a symbolic link is first resolved
//!   to the path that a program in the image would reach, absolute targets from the root; one that climbs out of
//!   the root is an error, as are absolute names, names with `..`, and hard links to such.
//! - Whiteouts affect lower layers only, wherever they stand in their layer (`layer` has what this one made).
//! - Owners are kept by root. What an ordinary user unpacks is that user's: nobody else may give files away.
//! - Modes are kept, set-user-ID bits with them, which have no effect on programs that run with `no_new_privs`; times are
//!   kept. Directories get theirs at the end: until then they can be written.
//! - Extended attributes: `user.*` is kept where the file system can, save `user.overlay.*`, which would speak to an
//!   overlay mounted over the image. All others are dropped. `security.capability` is among them: capabilities of
//!   files have no effect under `no_new_privs` either.
//! - FIFOs are made. Device nodes are left out: an engine gives programs a `/dev` of its own.

mod entry;
mod layer;
mod mount_points;
mod path;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, fchmod, fchown, futimens,
    mkdirat, statat,
};
use rustix::io::Errno;

use super::archive::{Archive, End, Entry, Time};
use super::digest::Hashing;
use super::error::{StoreError, is_full, shown};
use super::removal::{list, open_directory, split};
use layer::Layer;

/// How much one image may have, in all of its layers: far beyond any that is meant well. What is behind a bomb's
/// compression ends here, where the disk's end has not come first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) entries: u64,
    /// Of uncompressed layers.
    pub(super) bytes: u64,
    /// Of the names of directories: these are held in memory.
    pub(super) names: usize,
}

pub(super) const BOUNDS: Bounds = Bounds { entries: 4 << 20, bytes: 256 << 30, names: 128 << 20 };

/// A root file system in the making, in a directory that nobody else can reach.
#[derive(Debug)]
pub(super) struct Rootfs {
    root: OwnedFd,
    /// Whether files can be given to others.
    privileged: bool,
    /// What each directory gets in the end, by its path without links. The root's is empty.
    directories: BTreeMap<Vec<u8>, Metadata>,
    left: Bounds,
    /// What was left out, for the log.
    devices: u64,
}

/// What a file or directory gets beside its content.
#[derive(Clone, Copy, Debug)]
struct Metadata {
    mode: u32,
    uid: u32,
    gid: u32,
    /// Absent: as it is.
    mtime: Option<Time>,
}

/// A directory that no archive speaks of.
const PLAIN: Metadata = Metadata { mode: 0o755, uid: 0, gid: 0, mtime: None };

// === impl Rootfs ===

impl Rootfs {
    /// Begins with an empty directory, which must exist.
    pub(super) fn new(directory: &Path, bounds: Bounds) -> Result<Self, StoreError> {
        let failed =
            |error: Errno| StoreError::storage(format!("cannot unpack into {}", directory.display()), error);
        let root =
            rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(failed)?;
        // Old kernels, and old filters of system calls, lack what keeps an image's names within its root.
        open_directory(&root, b"", OFlags::PATH).map_err(|error| match error {
            Errno::NOSYS | Errno::PERM => StoreError::storage(
                "images cannot be unpacked without openat2, which Linux has since 5.6",
                error,
            ),
            error => failed(error),
        })?;
        let directories = BTreeMap::from([(Vec::new(), PLAIN)]);
        Ok(Self {
            root,
            privileged: rustix::process::geteuid().is_root(),
            directories,
            left: bounds,
            devices: 0,
        })
    }

    /// Puts a layer, an uncompressed archive, over what is there. Gives its digest, without `sha256:`, and how it ended.
    pub(super) fn apply(&mut self, stream: impl io::Read) -> Result<(String, End), StoreError> {
        let mut left = self.left.bytes;
        let mut archive = Archive::new(Bounded { inner: Hashing::new(stream), left: &mut left });
        let mut layer = Layer::default();
        while let Some(entry) = archive.next().map_err(unreadable)? {
            self.left.entries = self
                .left
                .entries
                .checked_sub(1)
                .ok_or_else(|| StoreError::invalid("it has more files than an image may have"))?;
            self.entry(&entry, &mut archive, &mut layer)?;
        }
        let end = archive.end().unwrap_or(End::Unmarked);
        let mut bounded = archive.into_inner();
        // What follows belongs to the digest. A bomb may be there as well.
        io::copy(&mut bounded, &mut io::sink()).map_err(unreadable)?;
        let digest = bounded.inner.finish().map_err(unreadable)?;
        self.left.bytes = left;
        Ok((digest, end))
    }

    /// Gives the directories their owners, modes and times, and the size of all files in bytes.
    pub(super) fn finish(self) -> Result<u64, StoreError> {
        if self.devices > 0 {
            tracing::debug!(devices = self.devices, "device nodes of an image are left out");
        }
        let mut size = 0;
        // What is deeper sorts behind: a directory that its owner cannot enter any more is closed last.
        for (path, metadata) in self.directories.iter().rev() {
            let failed = |error: io::Error| unwritable(path, error);
            let directory = match open_directory(&self.root, path, OFlags::RDONLY) {
                // A whiteout took it, or it is no directory any more.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                directory => directory.map_err(|error| failed(error.into()))?,
            };
            for (name, is_directory) in list(&directory).map_err(failed)? {
                if !is_directory {
                    let stat = statat(&directory, &*name, AtFlags::SYMLINK_NOFOLLOW);
                    let stat = stat.map_err(|error| failed(error.into()))?;
                    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                        size += u64::try_from(stat.st_size).unwrap_or_default() / stat.st_nlink.max(1);
                    }
                }
            }
            self.set_metadata(&directory, *metadata).map_err(|error| failed(error.into()))?;
        }
        Ok(size)
    }

    /// Owner, mode, time, in the order that keeps them.
    fn set_metadata(&self, file: impl AsFd, metadata: Metadata) -> rustix::io::Result<()> {
        if self.privileged {
            fchown(&file, Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid)))?;
        }
        // Behind the owner: a change of that takes set-user-ID away.
        fchmod(&file, Mode::from_raw_mode(metadata.mode))?;
        match metadata.mtime {
            Some(time) => futimens(&file, &timestamps(time)),
            None => Ok(()),
        }
    }

    /// Makes a directory, and those above it, where they are missing. `path` is without links.
    fn make_directories(&mut self, path: &[u8]) -> Result<OwnedFd, StoreError> {
        let failed = |error: Errno| match error {
            Errno::NOTDIR => {
                StoreError::invalid(format!("`{}` is needed as a directory, and is none", shown(path)))
            }
            error => unwritable(path, error.into()),
        };
        // From the end: almost always all of it is there.
        let mut there = path;
        let mut directory = loop {
            match open_directory(&self.root, there, OFlags::PATH) {
                Err(Errno::NOENT) => there = split(there).0,
                directory => break directory.map_err(failed)?,
            }
        };
        while there.len() < path.len() {
            let begin = if there.is_empty() { 0 } else { there.len() + 1 };
            let length = path[begin..].iter().position(|byte| *byte == b'/').unwrap_or(path.len() - begin);
            let name = &path[begin..begin + length];
            there = &path[..begin + length];
            mkdirat(&directory, name, Mode::RWXU).map_err(failed)?;
            self.note_directory(there, PLAIN)?;
            directory = open_directory(&directory, name, OFlags::PATH).map_err(failed)?;
        }
        Ok(directory)
    }

    /// Notes what a directory gets in the end.
    fn note_directory(&mut self, path: &[u8], metadata: Metadata) -> Result<(), StoreError> {
        if self.directories.insert(path.to_vec(), metadata).is_none() {
            let left = self.left.names.checked_sub(path.len());
            self.left.names =
                left.ok_or_else(|| StoreError::invalid("it has more directories than an image may have"))?;
        }
        Ok(())
    }

    /// Removes what is at a path without links, a directory with all that is in it.
    fn remove(&mut self, path: &[u8]) -> Result<(), StoreError> {
        super::removal::remove_tree(&self.root, path).map_err(|error| unwritable(path, error))?;
        // By two searches: many names may begin as this one does.
        let below = [path, b"/"].concat();
        let gone: Vec<_> = self
            .directories
            .range(below.clone()..)
            .map(|(found, _)| found)
            .take_while(|found| found.starts_with(&below))
            .chain(self.directories.get_key_value(path).map(|(found, _)| found))
            .cloned()
            .collect();
        for directory in gone {
            self.directories.remove(&directory);
            self.left.names += directory.len();
        }
        Ok(())
    }
}

fn timestamps(time: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
    }
}

/// The archive is at fault, or where it comes from.
fn unreadable(error: io::Error) -> StoreError {
    StoreError::invalid("it cannot be read").because(error)
}

/// The disk is at fault, or the name.
fn unwritable(path: &[u8], error: io::Error) -> StoreError {
    let path = shown(path);
    if is_full(&error) {
        return StoreError::storage(format!("the disk is full; it was to take `{path}`"), error);
    }
    StoreError::storage(format!("cannot write `{path}`"), error)
}

/// An entry is at fault.
fn refused(entry: &Entry, why: impl std::fmt::Display) -> StoreError {
    StoreError::invalid(format!("the entry `{}` {why}", shown(&entry.path)))
}

/// Reads no more than may be.
struct Bounded<'l, R> {
    inner: R,
    left: &'l mut u64,
}

impl<R: io::Read> io::Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        *self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is larger than an image may be"))?;
        Ok(read)
    }
}
