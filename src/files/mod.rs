//! Directories of this machine that are served: which file a request's path names, and whether it may be had.
//!
//! It uses nothing. It knows neither HTTP nor containers, and never executes what it finds.
//!
//! - `tree`: from a path to a file below a directory

mod tree;

pub(crate) use tree::{Found, NotFound, Tree};
