//! Where to listen.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::Spanned;
use toml::de::DeValue;

use super::section::LATER;
use super::value::{Reading, string, text};

/// An address that connections are taken on.
///
/// Written as `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/dcgi.sock`. Host names are not looked up, and the address
/// is never left out: whether a server faces the world shows in its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// A TCP address; with port 0 the system chooses one.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix {
        /// Where its file is made.
        path: PathBuf,
        /// The file's permission bits. Absent: as the umask has it.
        mode: Option<u32>,
        /// The file's group, by name or number. Absent: that of whoever runs dcgi.
        group: Option<String>,
    },
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

impl Listen {
    /// A unix socket with the permissions that the umask leaves.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::Unix { path: path.into(), mode: None, group: None }
    }

    /// As a file has it: a string, or a table of an address and, for a unix socket, `mode` and `group`. A relative path
    /// begins in `base`.
    pub(super) fn read(value: &DeValue<'_>, base: &Path) -> Reading<Self> {
        const WHAT: &str = "an address such as \"127.0.0.1:8080\"";
        let read = |value: &DeValue<'_>| {
            let listen: Self =
                text(value, WHAT)?.parse().map_err(|error: ParseListenError| error.to_string())?;
            Ok(match listen {
                Self::Unix { path, .. } => Self::unix(base.join(path)),
                tcp @ Self::Tcp(_) => tcp,
            })
        };
        let Some(table) = value.as_table() else { return read(value) };
        let find = |key: &str| table.get(key).map(Spanned::get_ref);
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.get_ref().as_ref())) {
            let key = key.get_ref().escape_debug();
            let later =
                if key.to_string() == "tls" { format!(" is {LATER}") } else { " is unknown here".to_owned() };
            return Err(format!("`{key}`{later}; expected `address`, `mode` and `group`"));
        }
        let mut listen = read(find("address").ok_or("expected an `address` in the table")?)?;
        match &mut listen {
            Self::Unix { mode, group, .. } => {
                *mode = find("mode").map(permissions).transpose()?;
                *group = find("group").map(string("a group, by name or number", group_name)).transpose()?;
            }
            Self::Tcp(_) if table.len() > 1 => {
                return Err("`mode` and `group` are for a unix socket's file".to_owned());
            }
            Self::Tcp(_) => {}
        }
        Ok(listen)
    }
}

/// What a table of [`Listen::read`] may have.
const KEYS: [&str; 3] = ["address", "mode", "group"];

fn permissions(value: &DeValue<'_>) -> Reading<u32> {
    let octal = |text: &str| u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    let mode = value.as_str().and_then(octal);
    mode.ok_or_else(|| "expected a `mode` in octal and in quotes, such as \"0660\"".to_owned())
}

fn group_name(text: &str) -> Option<String> {
    let valid = !text.is_empty() && !text.contains(|c: char| c == ':' || c.is_whitespace());
    valid.then(|| text.to_owned())
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
            return Ok(Self::unix(path));
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
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
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
