//! Where paths are looked up: a directory that is there, or what is known of one.

use std::sync::Arc;

use super::catalog::Catalog;
use super::tree::{Candidate, Found, NotFound, Patience, Tree};

/// A directory, however it is looked at.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Tree(Arc<Tree>),
    Catalog(Arc<Catalog>),
}

impl Place {
    /// What a path names, and the file itself, where that can be had: see [`Tree::look`]. Blocks for as long as there is
    /// patience.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn look(
        &self,
        path: &[u8],
        patience: Patience,
    ) -> Result<(Found, Option<Candidate>), NotFound> {
        match self {
            Self::Tree(tree) => tree.look(path, patience),
            Self::Catalog(catalog) => Ok((catalog.look(path)?, None)),
        }
    }

    /// The first of these names that is a file in a directory that was [found](Self::look) at `path`. Blocks likewise.
    ///
    /// # Errors
    /// Where the directory cannot be opened, or such a file is there and may not be had.
    pub(crate) fn index(
        &self,
        path: &str,
        names: &[String],
        patience: Patience,
    ) -> Result<Option<(Found, Option<Candidate>)>, NotFound> {
        for name in names {
            match self.look(format!("{path}/{name}").as_bytes(), patience) {
                Ok((found @ Found::File { .. }, candidate)) => return Ok(Some((found, candidate))),
                Ok(_) | Err(NotFound::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The directory that is there.
    pub(crate) fn tree(&self) -> Option<&Tree> {
        match self {
            Self::Tree(tree) => Some(tree),
            Self::Catalog(_) => None,
        }
    }
}
