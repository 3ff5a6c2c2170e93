//! What is in a directory.

use std::time::{Duration, SystemTime};

/// A name in a directory that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_directory: bool,
    /// In bytes.
    pub(crate) size: u64,
    /// See [`modified`].
    pub(crate) modified: Option<SystemTime>,
}

/// The end of the year 9999, after which no date of HTTP can be written (RFC 9110 §5.6.7).
const LAST: u64 = 253_402_300_800;

/// When a file was changed, in seconds and nanoseconds of its file system, where that can be told to a client: `None` before
/// 1970, and after 9999.
pub(crate) fn modified(seconds: i64, nanoseconds: i64) -> Option<SystemTime> {
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds < LAST)?;
    Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, u32::try_from(nanoseconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_no_date_can_say_is_none() {
        assert_eq!(modified(0, 0), Some(SystemTime::UNIX_EPOCH));
        for seconds in [-1, LAST as i64, i64::MIN, i64::MAX] {
            assert_eq!(modified(seconds, 0), None, "{seconds}");
        }
        let last = modified(LAST as i64 - 1, 999_999_999).unwrap();
        assert_eq!(humantime::format_rfc3339_seconds(last).to_string(), "9999-12-31T23:59:59Z");
    }
}
