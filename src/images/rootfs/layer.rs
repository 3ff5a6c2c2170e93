//! What one layer has made, which its own whiteouts do not affect.

use std::collections::HashSet;

use rustix::fs::OFlags;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::{Rootfs, unwritable};
use crate::images::error::StoreError;
use crate::images::removal::{join, list, open_directory, split};

/// The paths, without links, at which a layer has put something, and those above them.
///
/// Each is held as the first half of its SHA-256: a few million paths fit into memory, however long they are.
#[derive(Debug, Default)]
pub(super) struct Layer {
    made: HashSet<[u8; 16]>,
    /// Directories in which nothing of a lower layer is left: looking again would find nothing.
    cleared: HashSet<[u8; 16]>,
}

impl Layer {
    pub(super) fn note(&mut self, mut path: &[u8]) {
        // What is noted has been noted with all above it.
        while self.made.insert(key(path)) && !path.is_empty() {
            path = split(path).0;
        }
    }

    fn has(&self, path: &[u8]) -> bool {
        self.made.contains(&key(path))
    }
}

fn key(path: &[u8]) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&Sha256::digest(path)[..16]);
    key
}

impl Rootfs {
    /// Takes away what lower layers have at a path without links.
    pub(super) fn white_out(&mut self, path: &[u8], layer: &mut Layer) -> Result<(), StoreError> {
        if layer.has(path) { self.clear(path, layer) } else { self.remove(path) }
    }

    /// Takes away what lower layers have in the directory at a path without links. No directory is as good.
    pub(super) fn clear(&mut self, path: &[u8], layer: &mut Layer) -> Result<(), StoreError> {
        let mut pending = vec![path.to_vec()];
        while let Some(path) = pending.pop() {
            if !layer.cleared.insert(key(&path)) {
                continue;
            }
            let directory = match open_directory(&self.root, &path, OFlags::RDONLY) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                directory => directory.map_err(|error| unwritable(&path, error.into()))?,
            };
            for (name, is_directory) in list(&directory).map_err(|error| unwritable(&path, error))? {
                let child = join(&path, &name);
                if !layer.has(&child) {
                    self.remove(&child)?;
                } else if is_directory {
                    pending.push(child);
                }
            }
        }
        Ok(())
    }
}
