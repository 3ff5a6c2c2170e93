//! Who has which named volume, as far as that is known without asking Docker.
//!
//! What has been written to a volume is with one of the two, and a route's data stays where it is. The store's are
//! directories in it. Which ones Docker was given is noted beside these: a Docker that is away when dcgi starts cannot say so.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::choice::Keeper;
use crate::engine::embedded;
use crate::images::Store;

/// Below a store's volumes, where no volume's name leads: an empty file for each that Docker was given.
const DOCKERS: &str = ".docker";

/// What was found out. It is for good: neither is taken from who has it.
#[derive(Debug, Default)]
pub(super) struct Keepers(Mutex<HashMap<String, Keeper>>);

impl Keepers {
    /// What is known already.
    pub(super) fn known(&self, name: &str) -> Option<Keeper> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// The same, or what the store says.
    pub(super) async fn look_up(&self, store: Option<&Store>, name: &str) -> Option<Keeper> {
        if let Some(known) = self.known(name) {
            return Some(known);
        }
        let (store, asked) = (store?.clone(), name.to_owned());
        let found = tokio::task::spawn_blocking(move || noted(&store, &asked)).await.ok().flatten()?;
        self.learn(name, found);
        Some(found)
    }

    /// Notes that Docker has a volume, or is to make it, unless the store has it.
    pub(super) async fn give_to_docker(&self, store: Option<&Store>, name: &str) {
        if self.look_up(store, name).await.is_some() {
            return;
        }
        if let Some(store) = store {
            let (store, name) = (store.clone(), name.to_owned());
            let noting = tokio::task::spawn_blocking(move || {
                note(&store, &name).inspect_err(|error| {
                    tracing::warn!(
                        "it cannot be noted in dcgi's store that volume `{name}` is Docker's: {error}; where Docker is away \
                         when dcgi is started, another of the name may be made"
                    );
                })
            });
            _ = noting.await;
        }
        self.learn(name, Keeper::Docker);
    }

    fn learn(&self, name: &str, keeper: Keeper) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), keeper);
    }
}

/// Who has a volume, by what stands in a store. Blocks.
pub(super) fn noted(store: &Store, name: &str) -> Option<Keeper> {
    if folder(store).join(name).exists() {
        return Some(Keeper::Docker);
    }
    embedded::has_volume(store, name).then_some(Keeper::Store)
}

fn note(store: &Store, name: &str) -> io::Result<()> {
    let folder = folder(store);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    File::create(folder.join(name)).map(drop)
}

fn folder(store: &Store) -> PathBuf {
    embedded::volumes_of(store).join(DOCKERS)
}
