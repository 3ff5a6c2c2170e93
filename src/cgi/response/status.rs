//! The status, as the `Status` header or a status line gives it.

use http::StatusCode;
use hyper::ext::ReasonPhrase;

/// A status code and the program's own words for it.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) code: StatusCode,
    pub(super) reason: Option<ReasonPhrase>,
}

impl Status {
    /// `NNN reason` (RFC 3875 §6.3.3). Apache and others take a number off the front of whatever stands
    /// there; here a status that is none says that the program went wrong.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let (code, reason) = value.split_at_checked(3)?;
        if !matches!(reason, [] | [b' ' | b'\t', ..]) {
            return None;
        }
        let code = StatusCode::from_bytes(code).ok().filter(has_class)?;
        Some(Self { code, reason: reason_phrase(reason) })
    }

    /// The status of a line that httparse has read.
    pub(super) fn from_line(code: u16, reason: &str) -> Option<Self> {
        let code = StatusCode::from_u16(code).ok().filter(has_class)?;
        Some(Self { code, reason: reason_phrase(reason.as_bytes()) })
    }
}

/// Whether a client can tell what it means: of a code that it does not know it knows the class, and there are five of
/// them (RFC 9110 §15).
fn has_class(code: &StatusCode) -> bool {
    code.as_u16() < 600
}

fn reason_phrase(text: &[u8]) -> Option<ReasonPhrase> {
    let text = text.trim_ascii();
    if text.is_empty() { None } else { ReasonPhrase::try_from(text).ok() }
}
