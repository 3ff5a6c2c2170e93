//! Named volumes: directories that this engine keeps, and that outlive requests.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::base::Base;
use crate::engine::{EngineError, EngineErrorKind, Program, Volume};
use crate::images::{Store, Work};
use crate::sandbox::Rootfs;

/// Below the volumes', where no volume's name leads: those that are being made.
const DRAFTS: &str = ".new";

/// The same: the lock behind which they are begun.
const LOCK: &str = ".lock";

/// The directory that has one of each name.
#[derive(Debug)]
pub(super) struct Volumes(PathBuf);

impl Volumes {
    /// Opens the directory, which is made where it is missing.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        // Other users of the machine are not to reach a set-user-id file that a program has left in a volume.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.join(DRAFTS))?;
        let new = Self(folder);
        Work::sweep(&new.path(DRAFTS), &new.path(LOCK)).map_err(io::Error::other)?;
        Ok(new)
    }

    /// Where those of a store are.
    pub(super) fn folder(store: &Store) -> PathBuf {
        store.root().join("volumes")
    }

    /// Where a volume's files are.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a program's named volumes where they are not there, with what the root file system has at their places. May copy much.
    ///
    /// # Errors
    /// Where the store cannot be written to.
    pub(super) fn make(&self, program: &Program, base: &Base) -> Result<(), EngineError> {
        for volume in &program.volumes {
            if let Volume::Named { name, target, .. } = volume {
                let volume = self.path(name);
                if volume.is_dir() {
                    continue;
                }
                self.prepare(&volume, base.files(program)?, target).map_err(|error| {
                    let what = format!("making the volume `{name}`");
                    EngineError::new(EngineErrorKind::Refused, what).because(error)
                })?;
                tracing::info!("made the volume `{name}` in dcgi's own store");
            }
        }
        Ok(())
    }

    /// Makes a volume. As under Docker, a new one begins with what the image has at its place, owners and modes included.
    fn prepare(&self, volume: &Path, root: Option<Rootfs>, target: &str) -> io::Result<()> {
        let work = Work::begin(&self.path(DRAFTS), &self.path(LOCK)).map_err(io::Error::other)?;
        let draft = work.directory("volume").map_err(io::Error::other)?;
        match root.and_then(|rootfs| rootfs.open_directory(target)) {
            Some(source) => copy(Path::new(&format!("/proc/self/fd/{}", source.as_raw_fd())), &draft)?,
            None => fs::set_permissions(&draft, fs::Permissions::from_mode(0o755))?,
        }
        // Who is not root may move only a directory that it may write to.
        let mode = fs::metadata(&draft)?.permissions();
        let writable = fs::Permissions::from_mode(mode.mode() | 0o700);
        let changed = mode != writable;
        if changed {
            fs::set_permissions(&draft, writable)?;
        }
        // By this it is found wherever it is by then.
        let directory = File::open(&draft)?;
        // Never in another's place, though that be empty: somebody may have it mounted by now.
        match renameat_with(CWD, &draft, CWD, volume, RenameFlags::NOREPLACE) {
            // Another was first.
            Err(Errno::EXIST) => return Ok(()),
            // A file system that knows only how to replace.
            Err(Errno::INVAL) if !volume.is_dir() => fs::rename(draft, volume)?,
            done => done?,
        }
        match changed {
            true => directory.set_permissions(mode),
            false => Ok(()),
        }
    }
}

/// Copies a directory's content, and its own owner and mode. Links stay links; devices and the like are left out.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
        } else {
            continue;
        }
        own(&source, &target)?;
    }
    let metadata = fs::metadata(from)?;
    if geteuid().is_root() {
        lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    fs::set_permissions(to, metadata.permissions())
}

fn own(source: &Path, target: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(source)?;
    if geteuid().is_root() {
        lchown(target, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    if metadata.is_file() {
        // After the change of owner, which drops set-user-id bits.
        fs::set_permissions(target, metadata.permissions())?;
    }
    Ok(())
}
