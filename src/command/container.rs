//! The container's options of `dcgi run` and `dcgi cgi-bin`, in the words of `docker run`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use bytesize::ByteSize;
use clap::Args;
use dcgi::cgi::is_request_variable;
use dcgi::config::{EngineChoice, parse_connect, parse_network, parse_user, parse_volume};
use dcgi::engine::{Connect, Network, Program, Volume};

use super::check::names_of_directories;

/// What a program gets.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Container")]
pub(super) struct Container {
    /// What runs it: auto, embedded or docker
    #[arg(long, default_value = "auto", value_parser = super::engine_choice)]
    pub(super) engine: EngineChoice,
    /// A variable for the program; without a value, dcgi's own of that name
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = variable)]
    env: Vec<(String, Option<String>)>,
    /// A directory or a named volume that it sees, such as ./data:/data:ro
    #[arg(short, long, value_name = "SOURCE:TARGET[:ro]", value_parser = volume)]
    volume: Vec<Volume>,
    /// Whom it runs as
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = parse_user)]
    user: Option<String>,
    /// Its memory, swap included: 512m, 1g, 256MiB, or none
    #[arg(short, long, value_name = "SIZE", default_value = "256MiB", value_parser = memory)]
    memory: Memory,
    /// What it can reach: none, bridge, host, or a network's name
    #[arg(long, default_value = "none", value_parser = parse_network)]
    network: Network,
    /// What it can reach without one: an address inside = one outside, such as 127.0.0.1:3306=db.example:3306 or
    /// unix:/run/mysqld/mysqld.sock=unix:/run/mysqld/mysqld.sock; may be said again
    #[arg(long, value_name = "INSIDE=OUTSIDE", value_parser = parse_connect)]
    connect: Vec<Connect>,
}

/// A limit, or none. A type of its own, since an optional option would be one that may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory(Option<u64>);

/// What Docker refuses to run anything in less than.
const LEAST_MEMORY: u64 = 6 << 20;

impl Container {
    /// A program of an image, or of a root directory, with these options.
    ///
    /// # Errors
    /// Where there is no working directory that a relative path could begin at, or they contradict each other.
    pub(super) fn program(self, image: Option<String>, rootfs: Option<PathBuf>) -> anyhow::Result<Program> {
        let mut program = Program::new(image.unwrap_or_default());
        program.engine = self.engine;
        program.rootfs = rootfs.map(std::path::absolute).transpose()?;
        let own = |name: String, value: Option<String>| {
            let value = value.or_else(|| std::env::var(&name).ok());
            value.map(|value| (name, value))
        };
        program.env = self.env.into_iter().filter_map(|(name, value)| own(name, value)).collect();
        program.volumes = self.volume;
        for name in names_of_directories(&program, Path::new("")) {
            tracing::warn!(
                "`{name}` is a named volume, and there is a directory of that name here: for that write `./{name}`"
            );
        }
        // A file refuses a volume at /tmp beside the one in memory, which it can leave out; here it goes without.
        let targets: Vec<_> = program.volumes.iter().map(target).collect();
        program.tmpfs.retain(|path| !targets.contains(&path.as_str()));
        program.user = self.user;
        program.memory = self.memory.0;
        program.network = self.network;
        program.connect = self.connect;
        if program.network != Network::None && !program.connect.is_empty() {
            bail!("--connect is for programs without a network: with --network they reach it themselves");
        }
        let inside = |of: &Connect| program.connect.iter().filter(|other| other.inside == of.inside).count();
        if let Some(twice) = program.connect.iter().find(|connect| inside(connect) > 1) {
            bail!("--connect has two places for {}", twice.inside);
        }
        Ok(program)
    }
}

fn variable(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    match name {
        "" => Err("expected NAME=VALUE, or NAME for a variable of dcgi's own".to_owned()),
        name if is_request_variable(name) => {
            Err(format!("{name} is each request's own, and set for it: leave it out"))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

fn volume(text: &str) -> Result<Volume, String> {
    let here = std::env::current_dir().map_err(|error| format!("where a relative path begins: {error}"))?;
    parse_volume(text, &here)
}

/// Where a volume is mounted.
pub(super) fn target(volume: &Volume) -> &str {
    let (Volume::Bind { target, .. } | Volume::Named { target, .. }) = volume;
    target.trim_end_matches('/')
}

/// As `docker run` takes it, where k, m and g are powers of 1024; or with a unit that says which it is.
fn memory(text: &str) -> Result<Memory, String> {
    if text == "none" {
        return Ok(Memory(None));
    }
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match &*unit.to_ascii_lowercase() {
        "" | "b" => Some(0),
        "k" => Some(10),
        "m" => Some(20),
        "g" => Some(30),
        _ => None,
    };
    let bytes = match (shift, number.parse::<u64>()) {
        (Some(shift), Ok(number)) => number.checked_mul(1 << shift),
        _ => text.parse::<ByteSize>().ok().map(|size| size.as_u64()),
    };
    match bytes {
        Some(bytes @ LEAST_MEMORY..=0x7fff_ffff_ffff_ffff) => Ok(Memory(Some(bytes))),
        _ => Err("expected a size such as 512m or 256MiB, at least 6m, or none".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_written_as_for_docker_or_with_a_unit_that_says_which_it_is() {
        for (text, bytes) in
            [("512m", 512 << 20), ("1G", 1 << 30), ("256MiB", 256 << 20), ("16MB", 16_000_000)]
        {
            assert_eq!(memory(text), Ok(Memory(Some(bytes))), "{text}");
        }
        assert_eq!(memory("none"), Ok(Memory(None)));
        for text in ["", "m", "5m", "12 parsecs", "99999999999g"] {
            assert!(memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_variable_has_a_value_or_is_dcgis_own() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), Some("b=c".to_owned()))));
        assert_eq!(variable("A"), Ok(("A".to_owned(), None)));
        assert!(variable("=b").is_err());
    }
}
