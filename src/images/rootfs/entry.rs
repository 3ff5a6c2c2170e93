//! One entry of a layer.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags};
use rustix::fs::{
    chmodat, chownat, fsetxattr, linkat, mkdirat, mknodat, openat2, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use tar::EntryType;

use super::layer::Layer;
use super::path::{BadPath, parse};
use super::{Metadata, Rootfs, refused, timestamps, unreadable, unwritable};
use crate::images::archive::Entry;
use crate::images::error::{StoreError, shown};
use crate::images::removal::{BENEATH, join, open_directory, split};

/// OCI image specification, layer.md, "Whiteouts".
const WHITEOUT: &[u8] = b".wh.";

/// The same, "Opaque Whiteout". Other names that begin so are AUFS's own bookkeeping.
const OPAQUE: &[u8] = b".wh..wh..opq";
const BOOKKEEPING: &[u8] = b".wh..wh.";

/// Where something is to be made: its directory, its name in it, and its whole path without links.
struct Place {
    directory: OwnedFd,
    name: Vec<u8>,
    path: Vec<u8>,
}

impl Rootfs {
    /// Does what an entry says. `content` reads what follows it.
    pub(super) fn entry(
        &mut self,
        entry: &Entry,
        content: &mut impl Read,
        layer: &mut Layer,
    ) -> Result<(), StoreError> {
        let bad = |why: BadPath| refused(entry, why);
        let path = parse(&entry.path).map_err(bad)?;
        let (parent, name) = split(&path);
        if name.starts_with(WHITEOUT) {
            let parent = self.resolve(parent).map_err(bad)?;
            return self.whiteout(entry, &parent, name, layer);
        }
        if path.is_empty() {
            if entry.kind != EntryType::Directory {
                return Err(refused(entry, "would replace the root directory"));
            }
            self.note_directory(&path, Metadata::of(entry))?;
            let root = open_directory(&self.root, b"", OFlags::RDONLY);
            return self.set_xattrs(&root.map_err(|error| unwritable(&path, error.into()))?, entry);
        }

        let parent = self.resolve(parent).map_err(bad)?;
        let path = join(&parent, name);
        let place = Place { directory: self.make_directories(&parent)?, name: name.to_vec(), path };
        match entry.kind {
            EntryType::Directory => self.directory(entry, &place)?,
            EntryType::Regular | EntryType::Continuous => self.file(entry, content, &place)?,
            EntryType::Symlink => self.symbolic_link(entry, &place)?,
            EntryType::Link => self.hard_link(entry, &place)?,
            EntryType::Fifo => self.fifo(entry, &place)?,
            EntryType::Char | EntryType::Block => {
                self.devices += 1;
                return self.remove(&place.path);
            }
            EntryType::GNUSparse => {
                return Err(refused(entry, "is a sparse file; make the archive without `--sparse`"));
            }
            other => {
                let kind = char::from(other.as_byte());
                return Err(refused(
                    entry,
                    format!("is of a kind that is not known, `{}`", kind.escape_debug()),
                ));
            }
        }
        layer.note(&place.path);
        Ok(())
    }

    fn whiteout(
        &mut self,
        entry: &Entry,
        parent: &[u8],
        name: &[u8],
        layer: &mut Layer,
    ) -> Result<(), StoreError> {
        if name == OPAQUE {
            return self.clear(parent, layer);
        }
        if name.starts_with(BOOKKEEPING) {
            return Ok(());
        }
        match &name[WHITEOUT.len()..] {
            b"" | b"." | b".." => Err(refused(entry, "is a whiteout of no name")),
            hidden => self.white_out(&join(parent, hidden), layer),
        }
    }

    fn directory(&mut self, entry: &Entry, place: &Place) -> Result<(), StoreError> {
        let failed = |error: Errno| unwritable(&place.path, error.into());
        let made = match place.kind().map_err(failed)? {
            Some(FileType::Directory) => false,
            Some(_) => {
                self.remove(&place.path)?;
                true
            }
            None => true,
        };
        if made {
            mkdirat(&place.directory, &*place.name, Mode::RWXU).map_err(failed)?;
        }
        self.note_directory(&place.path, Metadata::of(entry))?;
        if entry.xattrs.is_empty() {
            return Ok(());
        }
        let directory = open_directory(&place.directory, &place.name, OFlags::RDONLY).map_err(failed)?;
        self.set_xattrs(&directory, entry)
    }

    fn file(&mut self, entry: &Entry, content: &mut impl Read, place: &Place) -> Result<(), StoreError> {
        let failed = |error: Errno| unwritable(&place.path, error.into());
        self.remove(&place.path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat2(
            &place.directory,
            &*place.name,
            flags,
            Mode::RUSR | Mode::WUSR,
            BENEATH | ResolveFlags::NO_XDEV,
        );
        let mut file = File::from(file.map_err(failed)?);
        let mut buffer = [0; 64 << 10];
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(error).within(format_args!("`{}`", shown(&entry.path)))),
            };
            file.write_all(&buffer[..read]).map_err(|error| unwritable(&place.path, error))?;
        }
        let file = OwnedFd::from(file);
        self.set_xattrs(&file, entry)?;
        self.set_metadata(&file, Metadata::of(entry)).map_err(failed)
    }

    fn symbolic_link(&mut self, entry: &Entry, place: &Place) -> Result<(), StoreError> {
        let failed = |error: Errno| unwritable(&place.path, error.into());
        // Where it points matters to programs in the image only: nothing here ever follows it.
        if entry.target.is_empty() || entry.target.contains(&0) {
            return Err(refused(entry, "is a symbolic link to no name"));
        }
        self.remove(&place.path)?;
        symlinkat(&*entry.target, &place.directory, &*place.name).map_err(failed)?;
        self.set_metadata_at(entry, place, false).map_err(failed)
    }

    fn hard_link(&mut self, entry: &Entry, place: &Place) -> Result<(), StoreError> {
        let to = format!("is a hard link to `{}`", shown(&entry.target));
        let bad = |why: BadPath| refused(entry, format_args!("{to}, which {why}"));
        let target = parse(&entry.target).map_err(bad)?;
        let (parent, name) = split(&target);
        let parent = self.resolve(parent).map_err(bad)?;
        let target = join(&parent, name);
        if target == place.path {
            return Err(refused(entry, format_args!("{to}, which is itself")));
        }
        let missing = |_| refused(entry, format_args!("{to}, which is not there"));
        let directory = open_directory(&self.root, &parent, OFlags::PATH).map_err(missing)?;
        let stat = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(missing)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(refused(entry, format_args!("{to}, which is a directory")));
        }
        self.remove(&place.path)?;
        // A symbolic link is linked itself: it is not followed.
        linkat(&directory, name, &place.directory, &*place.name, AtFlags::empty())
            .map_err(|error| unwritable(&place.path, error.into()))
    }

    fn fifo(&mut self, entry: &Entry, place: &Place) -> Result<(), StoreError> {
        let failed = |error: Errno| unwritable(&place.path, error.into());
        self.remove(&place.path)?;
        mknodat(&place.directory, &*place.name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .map_err(failed)?;
        self.set_metadata_at(entry, place, true).map_err(failed)
    }

    /// For what cannot be opened without waiting, or not at all.
    fn set_metadata_at(&self, entry: &Entry, place: &Place, has_mode: bool) -> rustix::io::Result<()> {
        let Place { directory, name, .. } = place;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if self.privileged {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            chownat(directory, &**name, Some(uid), Some(gid), flags)?;
        }
        if has_mode {
            // Just made, and no symbolic link.
            chmodat(directory, &**name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        }
        utimensat(directory, &**name, &timestamps(entry.mtime), flags)
    }

    fn set_xattrs(&self, file: &OwnedFd, entry: &Entry) -> Result<(), StoreError> {
        for (name, value) in &entry.xattrs {
            if !name.starts_with(b"user.") || name.starts_with(b"user.overlay.") || name.contains(&0) {
                continue;
            }
            match fsetxattr(file, &**name, value, XattrFlags::empty()) {
                // Not every file system has them, and some have little room.
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(error) => {
                    let what = format!("{}: the attribute {}", shown(&entry.path), shown(name));
                    return Err(unwritable(what.as_bytes(), error.into()));
                }
            }
        }
        Ok(())
    }
}

impl Metadata {
    fn of(entry: &Entry) -> Self {
        Self { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: Some(entry.mtime) }
    }
}

impl Place {
    /// What is there already.
    fn kind(&self) -> rustix::io::Result<Option<FileType>> {
        match statat(&self.directory, &*self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
