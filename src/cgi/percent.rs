//! Percent-decoding that refuses what it does not understand.

use std::borrow::Cow;

/// A `%` without two hexadecimal digits behind it.
#[derive(Debug)]
pub(super) struct BadEscape;

/// Decodes once. Other decoders leave a broken escape as it stands; then two readers of the same string can
/// come to different results, which is how filters in front of a program are passed.
pub(super) fn decode(raw: &str) -> Result<Cow<'_, [u8]>, BadEscape> {
    let whole = |after: &str| matches!(after.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    if raw.split('%').skip(1).all(whole) {
        Ok(percent_encoding::percent_decode_str(raw).into())
    } else {
        Err(BadEscape)
    }
}
