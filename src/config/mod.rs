//! `dcgi.toml`: what to serve, where, and within which limits.
//!
//! [`Config::load`] reads a file whole or refuses it: an unknown key is an error, never ignored, for a limit
//! misspelt is a limit that is not there. All problems of a file are found in one go and told with their lines.
//! The values left out are the safe ones of [`Program::new`](crate::engine::Program::new) and
//! [`Limits::default`](crate::gateway::Limits).
//!
//! ```
//! use dcgi::config::Config;
//!
//! let text = r#"
//!     [[route]]
//!     path = "/hello"
//!     image = "dcgi/hello"
//! "#;
//! let config = Config::parse(text, "dcgi.toml".as_ref())?;
//! assert_eq!(config.listen[0].to_string(), "127.0.0.1:8080");
//!
//! let error = Config::parse(&text.replace("path", "paht"), "dcgi.toml".as_ref()).unwrap_err();
//! assert!(error.to_string().contains("did you mean `path`?"));
//! # Ok::<(), dcgi::config::ConfigError>(())
//! ```
//!
//! - `section`: one table, key by key, with the unknown ones found
//! - `value`, `address`, `mount`, `capability`: from a value of the file to one of the program's
//! - `route`: `[defaults]` and `[[route]]`
//! - `error`: where a problem is, and how it is shown; `unquoted`: the one that everybody makes

use std::net::IpAddr;
use std::path::{self, Path};
use std::time::Duration;

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};

use crate::engine::{Connect, Network, Volume};
use crate::site::{ProxyHeaders, Route};

mod address;
mod around;
mod capability;
mod connect;
mod error;
mod listen;
mod mount;
mod route;
mod section;
mod unquoted;
mod value;

#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use listen::{Listen, ParseListenError};
pub use mount::normal;

pub use crate::engine::EngineChoice;

use error::Problems;
use section::{Elsewhere, Section};
use value::{count, duration, size, string};

/// What a file says, with everything that it leaves out.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where to listen. Empty only where the file says so: then on what systemd hands over, and nowhere else.
    pub listen: Vec<Listen>,
    /// Where programs run whose route does not say otherwise. Every route's program has it, or its own.
    pub engine: EngineChoice,
    /// The peers that are believed in what they tell of clients.
    pub trusted_proxies: Vec<IpNet>,
    /// By which headers they tell it.
    pub proxy_headers: ProxyHeaders,
    /// What bounds connections, whatever their route.
    pub server: ServerLimits,
    /// At least one, no two with the same host and path.
    pub routes: Vec<Route>,
}

/// What bounds connections, whatever their route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// How many connections are open at once.
    pub max_connections: usize,
    /// How long a client may take for a request's header fields.
    pub header_timeout: Duration,
    /// How many bytes those may have, the request line with them. From 8 KiB to 16 MiB.
    pub max_header_size: usize,
}

/// Hyper's least: below this it panics.
const LEAST_HEADER_SIZE: u64 = 8 << 10;

/// So that a client cannot pin memory by what is only a header, and the number fits HTTP/2's setting.
const MOST_HEADER_SIZE: u64 = 16 << 20;

// === impl ServerLimits ===

impl Default for ServerLimits {
    fn default() -> Self {
        Self { max_connections: 1024, header_timeout: Duration::from_secs(10), max_header_size: 64 << 10 }
    }
}

/// A volume as `volumes` of a file has it, `SOURCE:TARGET[:ro|rw]`; a relative source begins in `base`.
///
/// # Errors
/// What was expected, in words for whoever wrote it.
pub fn parse_volume(text: &str, base: &Path) -> Result<Volume, String> {
    mount::volume(base)(&DeValue::String(text.into()))
}

/// A user as `user` of a file has it, `user[:group]`.
///
/// # Errors
/// As [`parse_volume`].
pub fn parse_user(text: &str) -> Result<String, String> {
    route::user(&DeValue::String(text.into()))
}

/// A network as `network` of a file has it.
///
/// # Errors
/// As [`parse_volume`].
pub fn parse_network(text: &str) -> Result<Network, String> {
    route::network(&DeValue::String(text.into()))
}

/// An entry as `connect` of a file lists them.
///
/// # Errors
/// As [`parse_volume`].
pub fn parse_connect(text: &str) -> Result<Connect, String> {
    connect::connect(&DeValue::String(text.into()))
}

/// A path as `path` of a file has it, in the form of [`Route::path`].
///
/// # Errors
/// As [`parse_volume`].
pub fn parse_path(text: &str) -> Result<String, String> {
    address::path(&DeValue::String(text.into()))
}

/// A name as `index` of a file lists them.
///
/// # Errors
/// As [`parse_volume`].
pub fn parse_index(text: &str) -> Result<String, String> {
    route::index_name(&DeValue::String(text.into()))
}

/// An entry of `handlers`, `.ending=program`, the words of its command line apart by spaces.
///
/// # Errors
/// As [`parse_volume`].
pub fn parse_handler(text: &str) -> Result<(String, Vec<String>), String> {
    let (ending, line) = text.split_once('=').ok_or("expected .ENDING=PROGRAM, such as .pl=/usr/bin/perl")?;
    route::ending(ending)?;
    let line = line.split_ascii_whitespace().map(str::to_owned).collect();
    Ok((ending.to_ascii_lowercase(), line))
}

// === impl Config ===

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has any problem at all.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, error))?;
        Self::parse(&text, path)
    }

    /// Reads the text of a file. Relative paths in it begin in the directory of `file`, which need not exist.
    ///
    /// # Errors
    ///
    /// The text has any problem at all; `file` is what messages call it.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        Self::parse_with(text, file, &|name| std::env::var(name).ok())
    }

    /// `environment` is where `pass_env` looks.
    fn parse_with(
        text: &str,
        file: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let problems = Problems::of(text);
        let (document, errors) = DeTable::parse_recoverable(text);
        let line_of = |at: usize| text.get(..at).map_or(0, |before| before.matches('\n').count());
        let mut lost: Option<usize> = None;
        for error in errors {
            let at = error.span().unwrap_or_default();
            let line = line_of(at.start);
            match unquoted::value_on_line(text, at.start) {
                Some(value) => {
                    let quoted = &text[value.clone()];
                    problems.note(value, format!("a string is quoted: \"{quoted}\""));
                }
                // On the next line it is as a rule what the last one has made of that.
                None if lost.is_some_and(|before| line <= before + 1) => lost = Some(line),
                None => {
                    lost = Some(line);
                    problems.note(at, error.message().to_owned());
                }
            }
        }
        // What the keys of half a document mean is guesswork.
        problems.check(file)?;

        let absolute = path::absolute(file).map_err(|error| ConfigError::unreadable(file, error))?;
        let base = absolute.parent().unwrap_or(Path::new("/"));
        let context = route::Context { base, file: &absolute, environment, problems: &problems };
        let config = Self::read(document.get_ref(), &context);
        problems.check(file)?;
        Ok(config)
    }

    /// What a document says. Where something is wrong with it, the problem is noted and the value does not matter.
    fn read(document: &DeTable<'_>, context: &route::Context<'_>) -> Self {
        let mut config = Self {
            listen: vec![Listen::default()],
            engine: EngineChoice::default(),
            trusted_proxies: Vec::new(),
            proxy_headers: ProxyHeaders::default(),
            server: ServerLimits::default(),
            routes: Vec::new(),
        };
        let mut section = Section::new(document, String::new(), context.problems);
        config.read_top_level(&mut section, context.base);

        let nothing = DeTable::new();
        let defaults = section.find("defaults").map_or(Some(&nothing), |value| value.get_ref().as_table());
        let tables =
            section.find("route").map_or(Some(&[][..]), |value| value.get_ref().as_array().map(|a| &a[..]));
        if defaults.is_none() {
            section.complain("defaults", "expected one table: write [defaults]");
        }
        match tables {
            None => section
                .complain("route", "expected tables in a list: write [[route]], in two pairs of brackets"),
            Some([]) => context.problems.note_whole("no routes: write at least one [[route]]"),
            Some(_) => {}
        }
        let (routes, keys) = route::routes(
            config.engine,
            defaults.unwrap_or(&nothing),
            tables.unwrap_or_default(),
            section.asked(),
            context,
        );
        section.finish(&Elsewhere { keys: &keys, place: "in a [[route]] or in [defaults]" });
        Self { routes, ..config }
    }

    fn read_top_level(&mut self, section: &mut Section<'_>, base: &Path) {
        let listen = |value: &DeValue<'_>| Listen::read(value, base);
        let network = |text: &str| text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let header_size = size(LEAST_HEADER_SIZE, MOST_HEADER_SIZE);

        section.set_one_or_list(&mut self.listen, "listen", listen);
        section.set(&mut self.engine, "engine", value::engine);
        let what = "a network or an address such as \"10.0.0.0/8\" or \"::1\"";
        section.set_list(&mut self.trusted_proxies, "trusted_proxies", string(what, network));
        let kinds = [
            ("either", ProxyHeaders::Either),
            ("x-forwarded", ProxyHeaders::XForwarded),
            ("forwarded", ProxyHeaders::Forwarded),
        ];
        section.set(&mut self.proxy_headers, "proxy_headers", value::word(&kinds));
        section.set(&mut self.server.max_connections, "max_connections", count::<usize>(1));
        section.set(&mut self.server.header_timeout, "header_timeout", duration);
        section.set(&mut self.server.max_header_size, "max_header_size", |value| {
            header_size(value).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
        });
        section.later("admin");
        section.later("tls");
    }
}
