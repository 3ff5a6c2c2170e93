//! The host that a request is meant for.

use std::net::Ipv6Addr;

/// Why the value of a `Host` field, or an authority, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// No host, or only a port.
    #[error("the host is empty")]
    Empty,
    /// Characters that no host has (user information among them), or an address in brackets that is none.
    #[error("the host is malformed")]
    Malformed,
    /// What follows the colon is not a number up to 65535.
    #[error("the port is malformed")]
    BadPort,
}

/// Splits `host[:port]` (RFC 9110 §7.2, RFC 3986 §3.2) into the host in lower case, an IPv6 address still in
/// its brackets, and the port where there is one. `example.org:` is valid and has none.
///
/// What comes out is fit for `SERVER_NAME` and for choosing a route: it is never empty.
///
/// # Errors
///
/// Where the value is not a host and port; a client gets 400 for it (RFC 9112 §3.2).
pub fn split_host(authority: &str) -> Result<(String, Option<u16>), HostError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(literal) => {
            let (address, port) = literal.split_once(']').ok_or(HostError::Malformed)?;
            address.parse::<Ipv6Addr>().map_err(|_| HostError::Malformed)?;
            (&authority[..address.len() + 2], port)
        }
        None => {
            let (name, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            if name.is_empty() {
                return Err(HostError::Empty);
            }
            if !is_registered_name(name) {
                return Err(HostError::Malformed);
            }
            (name, port)
        }
    };
    Ok((host.to_ascii_lowercase(), parse_port(port)?))
}

/// `*( unreserved / pct-encoded / sub-delims )`, RFC 3986 §3.2.2; an IPv4 address is one too.
fn is_registered_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    name.bytes().all(valid) && super::percent::decode(name).is_ok()
}

/// What follows the host: nothing, or a colon and any number of digits.
fn parse_port(port: &str) -> Result<Option<u16>, HostError> {
    if port.is_empty() {
        return Ok(None);
    }
    match port.strip_prefix(':').ok_or(HostError::Malformed)? {
        "" => Ok(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map(Some).map_err(|_| HostError::BadPort)
        }
        _ => Err(HostError::BadPort),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(authority: &str) -> Result<(String, Option<u16>), HostError> {
        split_host(authority)
    }

    #[test]
    fn a_host_without_a_port_has_none() {
        assert_eq!(split("example.org"), Ok(("example.org".into(), None)));
    }

    #[test]
    fn a_host_is_split_from_its_port() {
        assert_eq!(split("example.org:8080"), Ok(("example.org".into(), Some(8080))));
    }

    #[test]
    fn a_host_comes_out_in_lower_case() {
        assert_eq!(split("EXAMPLE.Org").unwrap().0, "example.org");
    }

    #[test]
    fn an_ipv6_host_keeps_its_brackets() {
        assert_eq!(split("[2001:DB8::1]:443"), Ok(("[2001:db8::1]".into(), Some(443))));
        assert_eq!(split("[::1]"), Ok(("[::1]".into(), None)));
    }

    #[test]
    fn an_ipv4_host_is_a_host() {
        assert_eq!(split("127.0.0.1:80"), Ok(("127.0.0.1".into(), Some(80))));
    }

    #[test]
    fn the_digits_of_a_port_may_be_missing() {
        assert_eq!(split("example.org:"), Ok(("example.org".into(), None)));
        assert_eq!(split("[::1]:"), Ok(("[::1]".into(), None)));
    }

    #[test]
    fn an_underscore_in_a_host_is_valid() {
        assert_eq!(split("my_host").unwrap().0, "my_host");
    }

    #[test]
    fn an_empty_host_is_refused() {
        assert_eq!(split(""), Err(HostError::Empty));
        assert_eq!(split(":80"), Err(HostError::Empty));
    }

    #[test]
    fn user_information_is_refused() {
        assert_eq!(split("user@example.org"), Err(HostError::Malformed));
        assert!(split("user:secret@example.org").is_err());
    }

    #[test]
    fn a_path_behind_the_host_is_refused() {
        assert!(split("example.org/x").is_err());
        assert!(split("example.org:80/x").is_err());
    }

    #[test]
    fn spaces_and_control_characters_in_a_host_are_refused() {
        for host in ["a b", "a\tb", "a\0b", " a", "a\r\nX: y"] {
            assert_eq!(split(host), Err(HostError::Malformed), "{host:?}");
        }
    }

    #[test]
    fn a_host_that_is_not_ascii_is_refused() {
        assert_eq!(split("bücher.example"), Err(HostError::Malformed));
    }

    #[test]
    fn a_broken_escape_in_a_host_is_refused() {
        assert_eq!(split("a%4"), Err(HostError::Malformed));
    }

    #[test]
    fn brackets_hold_an_ipv6_address_and_nothing_else() {
        for host in ["[", "[]", "[::1", "[example.org]", "[fe80::1%25eth0]", "[v1.x]", "[::1]x"] {
            assert_eq!(split(host), Err(HostError::Malformed), "{host:?}");
        }
    }

    #[test]
    fn an_ipv6_address_without_brackets_is_refused() {
        assert!(split("2001:db8::1").is_err());
    }

    #[test]
    fn a_port_is_digits_only() {
        for host in ["a:+80", "a:-1", "a:0x50", "a: 80", "a:80:80"] {
            assert_eq!(split(host), Err(HostError::BadPort), "{host:?}");
        }
    }

    #[test]
    fn a_port_fits_sixteen_bits() {
        assert_eq!(split("a:65535").unwrap().1, Some(65535));
        assert_eq!(split("a:65536"), Err(HostError::BadPort));
    }
}
