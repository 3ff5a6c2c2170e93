//! What is in a directory.

use std::time::{Duration, SystemTime};

/// A name in a directory that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_directory: bool,
    /// In bytes.
    pub(crate) size: u64,
    /// `None` where that was before 1970.
    pub(crate) modified: Option<SystemTime>,
}

/// A file system's time, in seconds.
pub(super) fn time(seconds: i64) -> Option<SystemTime> {
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}
