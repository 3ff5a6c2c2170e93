//! What a program reaches without a network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use toml::de::DeValue;

use super::mount;
use super::value::{Reading, text};
use crate::engine::{Connect, Inside, Outside};

/// An address inside, and one outside: `127.0.0.1:5432=db.example:5432`, each also `unix:/path`.
pub(super) fn connect(value: &DeValue<'_>) -> Reading<Connect> {
    const WHAT: &str = "an address inside and one outside, such as \"127.0.0.1:5432=db.example:5432\", each also \"unix:/path\"";
    let expected = |more: &str| format!("expected {WHAT}{more}");
    let (inside, outside) = text(value, WHAT)?.split_once('=').ok_or_else(|| expected(""))?;
    let inside = match inside.strip_prefix("unix:") {
        Some(path) if is_file(path) => Inside::Unix(path.to_owned()),
        Some(_) => return Err(expected("; a socket's path is absolute")),
        None => Inside::Tcp(loopback(inside).ok_or_else(|| {
            expected("; inside it is an address of the loopback (127.0.0.1, [::1], localhost) and a port")
        })?),
    };
    let outside = match outside.strip_prefix("unix:") {
        Some(path) if is_file(path) => Outside::Unix(path.into()),
        Some(_) => return Err(expected("; a socket's path is absolute")),
        None => {
            let (host, port) =
                host_and_port(outside).ok_or_else(|| expected("; outside it is a host and a port"))?;
            Outside::Tcp(host.to_owned(), port)
        }
    };
    Ok(Connect { inside, outside })
}

fn is_file(path: &str) -> bool {
    path.starts_with('/') && !path.ends_with('/') && mount::normal(Path::new(path)) == Path::new(path)
}

fn loopback(text: &str) -> Option<SocketAddr> {
    let (host, port) = host_and_port(text)?;
    let address = match host {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        address => address.parse().ok()?,
    };
    address.is_loopback().then_some(SocketAddr::new(address, port))
}

/// A host, an IPv6 address without its brackets, and a port that is none of the kernel's choice.
fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').filter(|address| address.contains(':'))?,
        None => Some(host).filter(|host| !host.contains(':'))?,
    };
    let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    (!host.is_empty() && host.bytes().all(is_host)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Reading<String> {
        let read = connect(&DeValue::String(text.into()))?;
        Ok(format!("{} {}", read.inside, read.outside))
    }

    #[test]
    fn each_is_an_address_or_a_socket() {
        for (text, shown) in [
            ("127.0.0.1:5432=db.example:5432", "127.0.0.1:5432 db.example:5432"),
            ("localhost:3306=10.0.0.1:3307", "127.0.0.1:3306 10.0.0.1:3307"),
            ("[::1]:1=[2001:db8::1]:2", "[::1]:1 [2001:db8::1]:2"),
            (
                "unix:/run/mysqld/mysqld.sock=unix:/var/db.sock",
                "unix:/run/mysqld/mysqld.sock unix:/var/db.sock",
            ),
            ("unix:/run/x=db:1", "unix:/run/x db:1"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_told_with_what_it_should_be() {
        for (text, why) in [
            ("127.0.0.1:5432", "an address inside and one outside"),
            ("10.0.0.1:5432=db:5432", "an address of the loopback"),
            ("127.0.0.1:0=db:1", "an address of the loopback"),
            ("5432=db:5432", "an address of the loopback"),
            ("127.0.0.1:1=db", "a host and a port"),
            ("127.0.0.1:1=db:", "a host and a port"),
            ("127.0.0.1:1=:5", "a host and a port"),
            ("127.0.0.1:1=a b:5", "a host and a port"),
            ("127.0.0.1:1=2001:db8::1:5", "a host and a port"),
            ("unix:run/x=db:1", "a socket's path is absolute"),
            ("unix:/run/../x=db:1", "a socket's path is absolute"),
            ("127.0.0.1:1=unix:", "a socket's path is absolute"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
