//! Directories of this machine that are served: which file a request's path names, and whether it may be had.
//!
//! And directories of images, by what is known of them. It uses nothing. It knows neither HTTP nor containers, and never executes what it finds.
//!
//! - `tree`: from a path to a file below a directory
//! - `reader`: who may read what is found
//! - `listing`: what is in a directory
//! - `catalog`: what was in one that cannot be looked at again and again
//! - `place`: either of them

mod catalog;
mod listing;
mod place;
mod reader;
mod tree;

pub(crate) use catalog::{Catalog, Node};
pub(crate) use listing::{Entry, modified};
pub(crate) use place::Place;
pub(crate) use reader::Reader;
pub(crate) use tree::{Candidate, Found, NotFound, Patience, Tree};
