//! Directories for what is unfinished: beside the finished images, on the same file system.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::error::StoreError;
use super::lock::Lock;
use super::removal::remove_tree;

/// One directory, removed with all that is in it when this is dropped. Where the process is killed, the next one that opens
/// the store does it: the lock tells the living from the dead.
#[derive(Debug)]
pub(crate) struct Work {
    path: PathBuf,
    lock: Lock,
}

impl Work {
    /// Makes a directory in `folder`. `store` is the lock that keeps others from looking before this one is locked.
    pub(crate) fn begin(folder: &Path, store: &Path) -> Result<Self, StoreError> {
        let path = folder.join(Uuid::now_v7().to_string());
        let made = || -> io::Result<Option<Lock>> {
            let _store = Lock::exclusive(store)?;
            DirBuilder::new().mode(0o700).create(&path)?;
            Lock::try_exclusive(&path)
        };
        match made() {
            Ok(Some(lock)) => Ok(Self { path, lock }),
            Ok(None) => Err(StoreError::storage(
                format!("cannot lock {}", path.display()),
                io::ErrorKind::ResourceBusy,
            )),
            Err(error) => Err(StoreError::storage(format!("cannot write in {}", folder.display()), error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in it.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.path.join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| StoreError::storage(format!("cannot make {}", path.display()), error))?;
        Ok(path)
    }

    /// Removes what dead processes have left.
    pub(crate) fn sweep(folder: &Path, store: &Path) -> Result<(), StoreError> {
        let failed = |error| StoreError::storage(format!("cannot clear {}", folder.display()), error);
        let dead = || -> io::Result<Vec<Self>> {
            let _store = Lock::exclusive(store)?;
            let mut dead = Vec::new();
            for found in fs::read_dir(folder)? {
                let path = found?.path();
                dead.extend(Lock::try_exclusive(&path)?.map(|lock| Self { path, lock }));
            }
            Ok(dead)
        };
        for work in dead().map_err(failed)? {
            tracing::info!(path = %work.path.display(), "removing what an interrupted process has left");
            work.remove().map_err(failed)?;
        }
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        // The lock is on the directory itself.
        for (name, _) in super::removal::list(self.lock.file())? {
            remove_tree(self.lock.file(), &name)?;
        }
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            let path = self.path.display();
            tracing::warn!(%path, %error, "cannot remove; the next start of dcgi tries again");
        }
    }
}
