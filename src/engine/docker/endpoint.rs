//! Where the engine is: the conventions of the `docker` command.
//!
//! In order: `DOCKER_HOST`; the context that `DOCKER_CONTEXT` names; the `currentContext` of the client's
//! `config.json`; the default socket. Contexts are read from the client's store below `DOCKER_CONFIG` or
//! `~/.docker`.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::engine::{EngineError, EngineErrorKind};

/// The socket where an engine on this machine is expected.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// How to reach an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// Plain TCP, `host:port`. Whoever reaches that port is root there.
    Tcp(String),
    /// TCP with TLS, `host:port`, and the folder that holds `ca.pem`, `cert.pem` and `key.pem`.
    Tls(String, PathBuf),
    /// `docker system dial-stdio` on another machine through the `ssh` command: `[user@]host` and a port.
    Ssh(String, Option<u16>),
}

impl Endpoint {
    /// The endpoint that the environment names.
    ///
    /// # Errors
    /// Where a variable or a context does not make sense.
    pub fn from_env() -> Result<Self, EngineError> {
        Self::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// Whether it is a unix socket, and so an engine of this very machine.
    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Whether an engine is meant to answer here: its socket is there, and this user may speak to it.
    pub(crate) fn is_to_be_there(&self) -> bool {
        match self {
            Self::Unix(path) => rustix::fs::access(path, Access::WRITE_OK).is_ok(),
            Self::Tcp(_) | Self::Tls(..) | Self::Ssh(..) => true,
        }
    }

    /// Whether the engine there is likely to see this machine's files.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(address) | Self::Tls(address, _) => {
                let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']');
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
            Self::Ssh(..) => false,
        }
    }

    /// The same from any variables.
    pub(super) fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, EngineError> {
        let config_dir = get("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| get("HOME").map(|home| Path::new(&home).join(".docker")))
            .unwrap_or_else(|| PathBuf::from(".docker"));
        if let Some(host) = get("DOCKER_HOST") {
            let tls = get("DOCKER_TLS_VERIFY")
                .map(|_| get("DOCKER_CERT_PATH").map_or_else(|| config_dir.clone(), PathBuf::from));
            return Self::parse(&host, tls).map_err(|why| invalid(format!("DOCKER_HOST={host}: {why}")));
        }
        match get("DOCKER_CONTEXT").or_else(|| current_context(&config_dir)) {
            Some(name) if name != "default" => Self::from_context(&config_dir, &name),
            _ => Ok(Self::Unix(DEFAULT_SOCKET.into())),
        }
    }

    /// Reads `unix:///path`, `tcp://host:port` or `ssh://[user@]host[:port]`. With `tls`, a TCP endpoint speaks TLS
    /// with the certificates in that folder.
    fn parse(host: &str, tls: Option<PathBuf>) -> Result<Self, String> {
        let (scheme, rest) = host.split_once("://").ok_or("expected unix://, tcp:// or ssh://")?;
        let address = rest.trim_end_matches('/');
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" => Err("the path of a unix socket is absolute: unix:///var/run/docker.sock".into()),
            "tcp" | "http" | "https" if address.is_empty() => Err("no host".into()),
            "tcp" | "http" | "https" => {
                let port = if tls.is_some() { 2376 } else { 2375 };
                let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                let address = if has_port { address.to_owned() } else { format!("{address}:{port}") };
                Ok(match tls {
                    Some(certificates) => Self::Tls(address, certificates),
                    None => Self::Tcp(address),
                })
            }
            // ssh(1) takes a destination that begins with a dash for an option: CVE-2017-1000117.
            "ssh" if address.is_empty() || address.starts_with('-') => Err("no host".into()),
            "ssh" => match address.rsplit_once(':') {
                Some((destination, port)) => {
                    let port = port.parse().map_err(|_| format!("`{port}` is no port"))?;
                    Ok(Self::Ssh(destination.to_owned(), Some(port)))
                }
                None => Ok(Self::Ssh(address.to_owned(), None)),
            },
            _ => Err(format!("`{scheme}://` is not supported: expected unix://, tcp:// or ssh://")),
        }
    }

    fn from_context(config_dir: &Path, name: &str) -> Result<Self, EngineError> {
        #[derive(Deserialize)]
        struct Meta {
            #[serde(rename = "Endpoints")]
            endpoints: std::collections::HashMap<String, ContextEndpoint>,
        }
        #[derive(Deserialize)]
        struct ContextEndpoint {
            #[serde(rename = "Host")]
            host: String,
        }
        // The store names folders by the hash of the context's name.
        let digest: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
        let file = config_dir.join("contexts/meta").join(&digest).join("meta.json");
        let problem = |why: String| invalid(format!("Docker context `{name}`, {}: {why}", file.display()));
        let text = std::fs::read(&file).map_err(|e| problem(e.to_string()))?;
        let meta: Meta = serde_json::from_slice(&text).map_err(|e| problem(e.to_string()))?;
        let endpoint = meta.endpoints.get("docker").ok_or_else(|| problem("no endpoint `docker`".into()))?;
        let certificates = config_dir.join("contexts/tls").join(&digest).join("docker");
        Self::parse(&endpoint.host, certificates.is_dir().then_some(certificates)).map_err(problem)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Tls(address, _) => write!(f, "tcp://{address} (TLS)"),
            Self::Ssh(destination, None) => write!(f, "ssh://{destination}"),
            Self::Ssh(destination, Some(port)) => write!(f, "ssh://{destination}:{port}"),
        }
    }
}

fn current_context(config_dir: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "currentContext")]
        current_context: Option<String>,
    }
    let text = std::fs::read(config_dir.join("config.json")).ok()?;
    serde_json::from_slice::<Config>(&text).ok()?.current_context.filter(|name| !name.is_empty())
}

fn invalid(what: String) -> EngineError {
    EngineError::new(EngineErrorKind::Refused, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Endpoint, String> {
        let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Endpoint::from_variables(get).map_err(|e| e.to_string())
    }

    #[test]
    fn without_any_variable_it_is_the_default_socket() {
        assert_eq!(from(&[("HOME", "/nowhere")]), Ok(Endpoint::Unix("/var/run/docker.sock".into())));
    }

    #[test]
    fn docker_host_names_a_unix_socket() {
        assert_eq!(from(&[("DOCKER_HOST", "unix:///run/x.sock")]), Ok(Endpoint::Unix("/run/x.sock".into())));
    }

    #[test]
    fn docker_host_names_a_tcp_address_with_the_usual_port() {
        assert_eq!(from(&[("DOCKER_HOST", "tcp://h")]), Ok(Endpoint::Tcp("h:2375".into())));
        assert_eq!(from(&[("DOCKER_HOST", "tcp://h:99")]), Ok(Endpoint::Tcp("h:99".into())));
        assert_eq!(from(&[("DOCKER_HOST", "tcp://[::1]:99")]), Ok(Endpoint::Tcp("[::1]:99".into())));
    }

    #[test]
    fn docker_tls_verify_asks_for_tls_with_the_certificates_of_docker_cert_path() {
        let host = ("DOCKER_HOST", "tcp://h");
        let verify = ("DOCKER_TLS_VERIFY", "1");
        assert_eq!(
            from(&[host, verify, ("DOCKER_CERT_PATH", "/certs")]),
            Ok(Endpoint::Tls("h:2376".into(), "/certs".into()))
        );
        assert_eq!(
            from(&[host, verify, ("HOME", "/home/a")]),
            Ok(Endpoint::Tls("h:2376".into(), "/home/a/.docker".into()))
        );
    }

    #[test]
    fn docker_host_names_a_machine_behind_ssh() {
        assert_eq!(from(&[("DOCKER_HOST", "ssh://me@h")]), Ok(Endpoint::Ssh("me@h".into(), None)));
        assert_eq!(from(&[("DOCKER_HOST", "ssh://me@h:22")]), Ok(Endpoint::Ssh("me@h".into(), Some(22))));
    }

    #[test]
    fn an_ssh_destination_cannot_be_an_option() {
        assert!(from(&[("DOCKER_HOST", "ssh://-oProxyCommand=x")]).is_err());
    }

    #[test]
    fn a_strange_docker_host_is_named_in_the_error() {
        assert_eq!(
            from(&[("DOCKER_HOST", "npipe://x")]).unwrap_err(),
            "DOCKER_HOST=npipe://x: `npipe://` is not supported: expected unix://, tcp:// or ssh://"
        );
    }

    #[test]
    fn the_current_context_is_followed() {
        let home = tempfile::tempdir().unwrap();
        let digest: String = Sha256::digest("far").iter().map(|b| format!("{b:02x}")).collect();
        let meta = home.path().join("contexts/meta").join(&digest);
        std::fs::create_dir_all(&meta).unwrap();
        let json = r#"{"Name":"far","Endpoints":{"docker":{"Host":"tcp://far:1","SkipTLSVerify":false}}}"#;
        std::fs::write(meta.join("meta.json"), json).unwrap();
        std::fs::write(home.path().join("config.json"), r#"{"currentContext":"far"}"#).unwrap();
        let dir = home.path().to_str().unwrap();
        let far = Ok(Endpoint::Tcp("far:1".into()));
        assert_eq!(from(&[("DOCKER_CONFIG", dir)]), far);
        assert_eq!(from(&[("DOCKER_CONFIG", dir), ("DOCKER_CONTEXT", "far")]), far);
        let default = Ok(Endpoint::Unix(DEFAULT_SOCKET.into()));
        assert_eq!(from(&[("DOCKER_CONFIG", dir), ("DOCKER_CONTEXT", "default")]), default);
        let unknown = from(&[("DOCKER_CONFIG", dir), ("DOCKER_CONTEXT", "near")]).unwrap_err();
        assert!(unknown.starts_with("Docker context `near`, "), "{unknown}");
    }
}
