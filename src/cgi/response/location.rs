//! What a `Location` without a `Status` means (RFC 3875 §6.2).

/// The request target of a local redirect: where the value is a path with perhaps a query, and nothing else.
/// `//host/x` names another host, and a fragment is for a client only.
///
/// What may not stand in a request target is percent-encoded, since programs print paths as they find them.
pub(super) fn local_target(location: &[u8]) -> Option<String> {
    if !location.starts_with(b"/") || location.starts_with(b"//") || location.contains(&b'#') {
        return None;
    }
    let mut target = String::with_capacity(location.len());
    let mut rest = location;
    while let [byte, after @ ..] = rest {
        let stands = match byte {
            b'%' => matches!(after, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()),
            // RFC 3986 §3.3 and §3.4: `pchar`, `/` and `?`.
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(byte),
        };
        if stands {
            target.push(char::from(*byte));
        } else {
            target.push_str(percent_encoding::percent_encode_byte(*byte));
        }
        rest = after;
    }
    Some(target)
}
