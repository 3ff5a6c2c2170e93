//! Directories of what a program runs in, looked at from outside.

use std::path::Path;
use std::sync::Arc;

use super::Lease;
use crate::files::Catalog;

/// A directory of what a program runs in: what [`Engine::folder`](super::Engine::folder) finds.
#[derive(Clone, Debug)]
pub struct Folder(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Root { root: Arc<Path>, _held: Lease },
    Learnt(Arc<Catalog>),
}

impl Folder {
    /// One of a root file system that lies on this machine for as long as something is held.
    pub(super) fn of_root(root: &Path, held: Lease) -> Self {
        Self(Kind::Root { root: root.into(), _held: held })
    }

    /// One of which is known what is in it.
    pub(super) fn learnt(catalog: Arc<Catalog>) -> Self {
        Self(Kind::Learnt(catalog))
    }

    /// The root file system that it is in, where that lies on this machine.
    pub(crate) fn root(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Root { root, .. } => Some(root),
            Kind::Learnt(_) => None,
        }
    }

    /// What is in it, where that is known.
    pub(crate) fn catalog(&self) -> Option<&Arc<Catalog>> {
        match &self.0 {
            Kind::Learnt(catalog) => Some(catalog),
            Kind::Root { .. } => None,
        }
    }
}
