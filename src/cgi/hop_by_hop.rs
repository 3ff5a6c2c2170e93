//! The fields that are meant for one connection only (RFC 9110 §7.6.1), in either direction.

use http::{HeaderName, HeaderValue};

/// Whether the field is hop-by-hop by its name alone.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The names that a `Connection` field lists, which make those fields hop-by-hop too.
pub(super) fn connection_options(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.as_bytes().split(|&byte| byte == b',').filter_map(|option| str::from_utf8(option.trim_ascii()).ok())
}
