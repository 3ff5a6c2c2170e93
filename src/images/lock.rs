//! Locks on files, which end with the process that holds them, however it ends.
//!
//! They are `flock`'s: of an open file, so that two threads of one process exclude each other too, and inherited by
//! nobody, since the file is closed on exec.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// Removed with the lock, where the file is for nothing else.
    passing: Option<PathBuf>,
}

impl Lock {
    /// Waits for a file to be this one's alone. Makes the file where it is missing.
    pub(super) fn exclusive(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        wait(&file, FlockOperation::LockExclusive)?;
        Ok(Self { file, passing: None })
    }

    /// The same for a file that exists only while someone holds it or waits.
    pub(super) fn passing(path: &Path) -> io::Result<Self> {
        loop {
            let file = open(path)?;
            wait(&file, FlockOperation::LockExclusive)?;
            // Whoever held it has removed it, and another may have made it again.
            if is_at(&file, path)? {
                return Ok(Self { file, passing: Some(path.to_owned()) });
            }
        }
    }

    /// Waits to share a file that must exist. Absent where it does not, or is removed while this waits.
    pub(super) fn shared(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if is_missing(&error) => return Ok(None),
            file => file?,
        };
        wait(&file, FlockOperation::LockShared)?;
        Ok(is_at(&file, path)?.then_some(Self { file, passing: None }))
    }

    /// Takes a file or directory for this one alone, unless anyone has it. Absent where someone has, or it is gone.
    pub(super) fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if is_missing(&error) => return Ok(None),
            file => file?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(is_at(&file, path)?.then_some(Self { file, passing: None })),
        }
    }

    /// Removes the files of a folder that nobody holds any more: those of processes that were killed.
    pub(super) fn sweep(folder: &Path) -> io::Result<()> {
        for found in fs::read_dir(folder)? {
            let path = found?.path();
            if let Some(mut lock) = Self::try_exclusive(&path)? {
                lock.passing = Some(path);
            }
        }
        Ok(())
    }

    /// What is locked.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(path) = &self.passing {
            // Before the lock goes. Who waits for it sees that the file is gone.
            _ = fs::remove_file(path);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn wait(file: &File, operation: FlockOperation) -> io::Result<()> {
    Ok(rustix::io::retry_on_intr(|| flock(file, operation))?)
}

/// Whether a file still has its name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (held.dev(), held.ino())),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
