//! Directories of this machine that are served: which file a request's path names, and whether it may be had.
//!
//! It uses nothing. It knows neither HTTP nor containers, and never executes what it finds.
//!
//! - `tree`: from a path to a file below a directory
//! - `reader`: who may read what is found
//! - `listing`: what is in a directory

mod listing;
mod reader;
mod tree;

pub(crate) use listing::{Entry, modified};
pub(crate) use reader::Reader;
pub(crate) use tree::{Candidate, Found, NotFound, Patience, Tree};
