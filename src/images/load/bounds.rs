//! How much of an archive is looked at.
//!
//! A description names others by their digests, and any number of them may name the same one: an archive of some hundred
//! kilobytes describes as many images as its writer likes. So what is counted is each time that something is looked at,
//! however often it has been before.

use std::cell::Cell;

use crate::images::error::StoreError;

/// Each holds a descriptor for as long as the archive is loaded: fewer than a process has by default.
const MOST_IMAGES: usize = 512;

/// Each is written to the disk by itself.
const MOST_NAMES: usize = 1_000;

/// Entries of indexes, configurations and layers: 512 images of 30 layers. Each is looked at twice, whether it is all there and
/// when it is taken.
const MOST_PARTS: usize = 40_000;

/// Indexes, manifests and configurations have some kilobytes each. In bytes.
const MOST_DESCRIBED: u64 = 64 << 20;

/// What may still be looked at in one archive.
#[derive(Debug)]
pub(super) struct Bounds {
    images: Cell<usize>,
    names: Cell<usize>,
    parts: Cell<usize>,
    described: Cell<u64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            images: Cell::new(MOST_IMAGES),
            names: Cell::new(MOST_NAMES),
            parts: Cell::new(MOST_PARTS),
            described: Cell::new(MOST_DESCRIBED),
        }
    }
}

impl Bounds {
    /// One image more.
    pub(super) fn image(&self) -> Result<(), StoreError> {
        one(&self.images).ok_or_else(|| exceeded(&format!("more than {MOST_IMAGES} images")))
    }

    /// One name more.
    pub(super) fn name(&self) -> Result<(), StoreError> {
        one(&self.names).ok_or_else(|| exceeded(&format!("more than {MOST_NAMES} names")))
    }

    /// One more of what an index or a manifest names.
    pub(super) fn part(&self) -> Result<(), StoreError> {
        one(&self.parts).ok_or_else(|| exceeded(&format!("more than {MOST_PARTS} manifests and layers")))
    }

    /// So many bytes more of descriptions.
    pub(super) fn description(&self, bytes: u64) -> Result<(), StoreError> {
        let left = self.described.get().checked_sub(bytes);
        let mebibytes = MOST_DESCRIBED >> 20;
        self.described
            .set(left.ok_or_else(|| exceeded(&format!("more than {mebibytes} MiB of descriptions")))?);
        Ok(())
    }
}

fn one(left: &Cell<usize>) -> Option<()> {
    left.set(left.get().checked_sub(1)?);
    Some(())
}

fn exceeded(what: &str) -> StoreError {
    StoreError::invalid(format!("the archive has {what}; save what is in it into several, if it is so many"))
}
