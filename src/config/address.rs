//! Where a route answers: its host and its path.

use std::net::{Ipv4Addr, Ipv6Addr};

use toml::de::DeValue;

use super::value::{Reading, text};

/// A host in lower case and without a port; an IPv6 address in brackets, in its shortest form.
pub(super) fn host(value: &DeValue<'_>) -> Reading<String> {
    const WHAT: &str = "a host name such as \"example.org\", without a port";
    let host = text(value, WHAT)?.to_ascii_lowercase();
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address = address.parse::<Ipv6Addr>();
        return address.map(|address| format!("[{address}]")).map_err(|_| format!("expected {WHAT}"));
    }
    if host.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("expected an IPv6 address in brackets: \"[{host}]\""));
    }
    if host.contains('*') {
        return Err(format!("expected {WHAT}; there are no wildcards"));
    }
    if !host.is_ascii() {
        return Err(format!("expected {WHAT}, in its ASCII form (\"xn--…\")"));
    }
    let label = |label: &str| {
        matches!(label.len(), 1..=63)
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let valid = host.len() <= 253 && host.split('.').all(label);
    // Digits and dots that are no address would never match a request's either.
    let address_like = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !valid || (address_like && host.parse::<Ipv4Addr>().is_err()) {
        return Err(format!("expected {WHAT}"));
    }
    Ok(host)
}

/// A path prefix in the form of [`Route::path`](crate::site::Route::path).
pub(super) fn path(value: &DeValue<'_>) -> Reading<String> {
    let text = text(value, "a path such as \"/hello\"")?;
    let path = text.trim_end_matches('/');
    let segments = || path.split('/').skip(1);
    let why = if !text.starts_with('/') {
        "expected a path that begins with \"/\", such as \"/hello\""
    } else if text.contains(['?', '#']) {
        "expected a path alone, without a query or a fragment"
    } else if text.contains(char::is_control) {
        "expected a path without control characters"
    } else if has_escape(text) {
        "expected the path decoded: \"/a b\" and not \"/a%20b\""
    } else if segments().any(|segment| matches!(segment, "." | "..")) {
        "expected a path without \".\" and \"..\": requests have theirs resolved before they are routed"
    } else if segments().any(str::is_empty) {
        "expected a path without empty segments (\"//\")"
    } else {
        return Ok(path.to_owned());
    };
    Err(why.to_owned())
}

/// Whether a text has a percent escape, as a decoded one has only by mischance.
fn has_escape(text: &str) -> bool {
    text.as_bytes().windows(3).any(|w| w[0] == b'%' && w[1..].iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, reader: impl Fn(&DeValue<'_>) -> Reading<String>) -> Reading<String> {
        reader(&DeValue::String(text.into()))
    }

    #[test]
    fn a_host_is_put_in_lower_case() {
        assert_eq!(read("Example.ORG", host), Ok("example.org".to_owned()));
    }

    #[test]
    fn a_host_may_be_an_address() {
        assert_eq!(read("192.0.2.1", host), Ok("192.0.2.1".to_owned()));
        assert_eq!(read("[2001:DB8:0::1]", host), Ok("[2001:db8::1]".to_owned()));
    }

    #[test]
    fn an_ipv6_address_without_brackets_is_told_of_them() {
        assert_eq!(read("::1", host), Err("expected an IPv6 address in brackets: \"[::1]\"".to_owned()));
    }

    #[test]
    fn a_host_has_no_port_no_blank_and_no_empty_label() {
        for text in ["example.org:80", "a b", "a..b", "", "example.org.", "http://a", "[::1", "1.2.3"] {
            assert_eq!(
                read(text, host),
                Err("expected a host name such as \"example.org\", without a port".to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_host_is_no_wildcard() {
        assert_eq!(
            read("*.example.org", host),
            Err("expected a host name such as \"example.org\", without a port; there are no wildcards"
                .to_owned())
        );
    }

    #[test]
    fn slashes_at_the_end_of_a_path_are_trimmed() {
        assert_eq!(read("/hello/", path), Ok("/hello".to_owned()));
        assert_eq!(read("/", path), Ok(String::new()));
    }

    #[test]
    fn a_path_begins_with_a_slash() {
        for text in ["hello", ""] {
            assert_eq!(
                read(text, path),
                Err("expected a path that begins with \"/\", such as \"/hello\"".to_owned())
            );
        }
    }

    #[test]
    fn a_path_is_written_decoded() {
        assert_eq!(
            read("/a%20b", path),
            Err("expected the path decoded: \"/a b\" and not \"/a%20b\"".to_owned())
        );
        assert_eq!(read("/100% a b", path), Ok("/100% a b".to_owned()));
    }

    #[test]
    fn a_path_has_no_query_no_dot_segment_and_no_empty_one() {
        for text in ["/a?b", "/a#b", "/a/../b", "/.", "/a//b", "/a\nb"] {
            assert!(read(text, path).is_err(), "{text}");
        }
    }
}
