//! Where to listen.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// An address that connections are taken on.
///
/// Written as `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/dcgi.sock`. Host names are not looked up, and the address
/// is never left out: whether a server faces the world shows in its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// A TCP address; with port 0 the system chooses one.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// A string names no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address such as \"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/run/dcgi.sock\"{}",
    .hint.as_deref().unwrap_or_default()
)]
pub struct ParseListenError {
    hint: Option<String>,
}

impl Default for Listen {
    /// Port 8080, for this machine only.
    fn default() -> Self {
        Self::Tcp((Ipv4Addr::LOCALHOST, 8080).into())
    }
}

impl FromStr for Listen {
    type Err = ParseListenError;

    fn from_str(text: &str) -> Result<Self, ParseListenError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| ParseListenError { hint: hint(text) })
    }
}

/// How what was probably meant is written.
fn hint(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().ok()?;
    Some(match host {
        "localhost" => format!("; write \"127.0.0.1:{port}\""),
        "" | "*" => {
            format!(
                "; write \"127.0.0.1:{port}\" for this machine only, \"0.0.0.0:{port}\" for every interface"
            )
        }
        _ => "; host names are not looked up".to_owned(),
    })
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: &str =
        "expected an address such as \"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/run/dcgi.sock\"";

    #[test]
    fn every_form_is_shown_as_it_is_written() {
        for text in ["127.0.0.1:8080", "[::1]:8080", "unix:/run/dcgi.sock", "0.0.0.0:0"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_port_alone_is_asked_whom_it_faces() {
        for text in ["8080", ":8080", "*:8080"] {
            assert_eq!(
                text.parse::<Listen>().unwrap_err().to_string(),
                format!(
                    "{EXPECTED}; write \"127.0.0.1:8080\" for this machine only, \"0.0.0.0:8080\" for every interface"
                )
            );
        }
    }

    #[test]
    fn a_host_name_is_not_looked_up() {
        assert_eq!(
            "example.org:80".parse::<Listen>().unwrap_err().to_string(),
            format!("{EXPECTED}; host names are not looked up")
        );
    }

    #[test]
    fn localhost_is_told_its_address() {
        assert_eq!(
            "localhost:80".parse::<Listen>().unwrap_err().to_string(),
            format!("{EXPECTED}; write \"127.0.0.1:80\"")
        );
    }

    #[test]
    fn an_address_without_a_port_and_a_socket_without_a_path_are_refused() {
        for text in ["127.0.0.1", "unix:", ""] {
            assert_eq!(text.parse::<Listen>().unwrap_err().to_string(), EXPECTED);
        }
    }
}
