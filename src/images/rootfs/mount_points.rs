//! What an engine mounts over, and where programs begin: made where an image lacks it, so that its root file system
//! can be used as it is, read-only.

use rustix::fs::{AtFlags, Mode, OFlags, openat2, statat};
use rustix::io::Errno;

use super::path::components;
use super::{Metadata, PLAIN, Rootfs, unwritable};
use crate::images::error::{StoreError, shown};
use crate::images::removal::{BENEATH, join, open_directory};

/// Directories that every program may expect, and their modes.
const DIRECTORIES: [(&[u8], u32); 5] =
    [(b"proc", 0o555), (b"sys", 0o555), (b"dev", 0o755), (b"etc", 0o755), (b"tmp", 0o1777)];

/// Files in `/etc` that an engine writes for a container.
const FILES: [&[u8]; 3] = [b"hosts", b"hostname", b"resolv.conf"];

impl Rootfs {
    /// Makes what is missing. `paths` are absolute, as an image's configuration has them: its working directory and volumes.
    pub(in super::super) fn make_mount_points<'p>(
        &mut self,
        paths: impl IntoIterator<Item = &'p str>,
    ) -> Result<(), StoreError> {
        for (name, mode) in DIRECTORIES {
            if !self.exists(b"", name)? {
                self.make_directories(name)?;
                self.note_directory(name, Metadata { mode, ..PLAIN })?;
            }
        }
        // A link to nowhere, or out of the image, is the image's own affair.
        if let Ok(etc) = self.resolve(b"etc") {
            for name in FILES {
                if !self.exists(&etc, name)? {
                    self.make_empty_file(&etc, name)?;
                }
            }
        }
        for path in paths {
            self.make_mount_point(path)?;
        }
        Ok(())
    }

    /// Makes the directory at a path as a program in the image would name it, unless something is there.
    fn make_mount_point(&mut self, path: &str) -> Result<(), StoreError> {
        // As a shell reads it: `..` at the root stays there.
        let mut names: Vec<&[u8]> = Vec::new();
        for component in components(path.as_bytes()) {
            if component == b".." {
                names.pop();
            } else {
                names.push(component);
            }
        }
        let refused = |why: &str| {
            StoreError::invalid(format!("the image's directory `{}` {why}", shown(path.as_bytes())))
        };
        if path.contains('\0') {
            return Err(refused("holds a NUL"));
        }
        let path = self.resolve(&names.join(&b'/')).map_err(|why| refused(&why.to_string()))?;
        match open_directory(&self.root, &path, OFlags::PATH) {
            // A file: for whoever wants to mount over it.
            Ok(_) | Err(Errno::NOTDIR) => Ok(()),
            _ => self.make_directories(&path).map(drop),
        }
    }

    /// Whether anything has this name, a link to nowhere included.
    fn exists(&self, directory: &[u8], name: &[u8]) -> Result<bool, StoreError> {
        let found = open_directory(&self.root, directory, OFlags::PATH)
            .and_then(|directory| statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW));
        match found {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            // Below a file nothing can be made.
            Err(Errno::NOTDIR) => Ok(true),
            Err(error) => Err(unwritable(&join(directory, name), error.into())),
        }
    }

    fn make_empty_file(&mut self, directory: &[u8], name: &[u8]) -> Result<(), StoreError> {
        let parent = self.make_directories(directory)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let failed = |error: Errno| unwritable(&join(directory, name), error.into());
        let file = openat2(&parent, name, flags, Mode::RUSR | Mode::WUSR, BENEATH).map_err(failed)?;
        self.set_metadata(&file, Metadata { mode: 0o644, ..PLAIN }).map_err(failed)
    }
}
