//! What a route runs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Connect, EngineChoice, EngineError, EngineErrorKind, Invocation, sources};
use crate::images::{ImageConfig, PullPolicy};

/// An image, the command in it, and what it may use: everything about a run that no request changes.
///
/// [`Program::new`] gives the safe defaults: no network, a read-only root with a `/tmp` in memory, no
/// capabilities, and limits on memory, processors and processes.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Which engine is to run it. Of meaning to [`AutoEngine`](super::auto::AutoEngine) alone: any other runs what it is
    /// given.
    pub engine: EngineChoice,
    /// The image's reference, such as `dcgi/hello` or `perl:5`. Of no meaning where there is a [`rootfs`](Self::rootfs).
    pub image: String,
    /// A directory of this machine's in place of an image, absolute: the root file system, never written to. It says
    /// nothing of a program, so [`entrypoint`](Self::entrypoint) or [`command`](Self::command) has to. `/` is this machine
    /// itself, as far as programs have any business with it. The embedded engine alone has this.
    pub rootfs: Option<PathBuf>,
    /// Files and directories that are not to be seen where [`rootfs`](Self::rootfs) is `/`: those of whoever serves.
    pub hidden: Vec<PathBuf>,
    /// Replaces the image's `ENTRYPOINT` and drops its `CMD`.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's `CMD`.
    pub command: Option<Vec<String>>,
    /// The working directory. Absent: the image's, else the directory that holds the program.
    pub working_dir: Option<String>,
    /// Variables beside the image's own.
    pub env: BTreeMap<String, String>,
    /// Memory limit in bytes, swap included. Absent: none.
    pub memory: Option<u64>,
    /// Processors, in whole ones: `0.5` is half a core. Absent: no limit.
    pub cpus: Option<f64>,
    /// How many processes and threads may exist at once. Absent: no limit.
    pub pids: Option<u32>,
    /// What the program can reach.
    pub network: Network,
    /// What it can reach where it has no network: each an address inside, and one outside.
    pub connect: Vec<Connect>,
    /// Whether the root file system refuses writes.
    pub read_only: bool,
    /// File systems in memory, in the form of `docker run --tmpfs`: a path, maybe `:options`.
    pub tmpfs: Vec<String>,
    /// Host directories and named volumes mounted into the container.
    pub volumes: Vec<Volume>,
    /// `user[:group]`, by name or number. Absent: the image's.
    pub user: Option<String>,
    /// Whether a small init is process 1 and the program its child.
    pub init: bool,
    /// Capabilities to keep, such as `NET_BIND_SERVICE`. All others are dropped.
    pub cap_add: Vec<String>,
    /// When to pull the image.
    pub pull: PullPolicy,
    /// How many containers are kept ready ahead of the requests. Of no meaning where they are shared.
    pub warm: Warm,
    /// Whether requests share a container.
    pub isolation: Isolation,
}

impl Program {
    /// A program with the safe defaults.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            engine: EngineChoice::Auto,
            image: image.into(),
            rootfs: None,
            hidden: Vec::new(),
            entrypoint: None,
            command: None,
            working_dir: None,
            env: BTreeMap::new(),
            memory: Some(256 << 20),
            cpus: Some(1.0),
            pids: Some(128),
            network: Network::None,
            connect: Vec::new(),
            read_only: true,
            tmpfs: vec!["/tmp".to_owned()],
            volumes: Vec::new(),
            user: None,
            init: true,
            cap_add: Vec::new(),
            pull: PullPolicy::Missing,
            warm: Warm::Auto,
            isolation: Isolation::Fresh,
        }
    }

    /// The same in a directory of this machine's, without an image: see [`rootfs`](Self::rootfs).
    pub fn of_rootfs(
        directory: impl Into<PathBuf>,
        command: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            rootfs: Some(directory.into()),
            entrypoint: Some(command.into_iter().map(Into::into).collect()),
            ..Self::new("")
        }
    }

    /// Why only the embedded engine can run it, in words that end a sentence; `None` where others can.
    pub fn needs_embedded(&self) -> Option<&'static str> {
        self.rootfs.as_ref().map(|_| "`rootfs` is the embedded engine's alone")
    }

    /// The names of its named volumes.
    pub(crate) fn named_volumes(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().filter_map(|volume| match volume {
            Volume::Named { name, .. } => Some(&**name),
            Volume::Bind { .. } => None,
        })
    }

    /// Why the embedded engine cannot run it, in words that make a sentence; `None` where it can.
    pub fn needs_docker(&self) -> Option<String> {
        let (Network::Bridge | Network::Named(_)) = &self.network else { return None };
        let network = self.network.as_str();
        Some(format!(
            "the embedded engine has no network `{network}`: it knows `none` and `host`; use engine = \"docker\""
        ))
    }

    /// What of this machine it names and is not there now, each with its reason: its root directory and the sources of its
    /// volumes. It may come before a request does. Blocks.
    pub fn missing(&self) -> Vec<EngineError> {
        sources::missing_of(self)
    }

    /// What its containers are made from, as messages call it.
    pub fn made_from(&self) -> String {
        match &self.rootfs {
            Some(directory) => format!("the root directory {}", directory.display()),
            None => format!("image `{}`", self.image),
        }
    }

    /// Where there is a program at all.
    ///
    /// # Errors
    /// [`Refused`](EngineErrorKind::Refused), where nobody names one.
    pub(crate) fn has_command(&self, image: &ImageConfig) -> Result<(), EngineError> {
        if !self.command_line(image).is_empty() {
            return Ok(());
        }
        let what = match &self.rootfs {
            Some(_) => {
                format!("{} says nothing of a program: `entrypoint` or `command` has to", self.made_from())
            }
            None => format!(
                "{} names no program to run: it has neither ENTRYPOINT nor CMD; say `command = [\"/path/in/the/image\"]`",
                self.made_from()
            ),
        };
        Err(EngineError::new(EngineErrorKind::Refused, what))
    }

    /// The command line of one use, without the further arguments of that.
    pub(crate) fn command_of(&self, image: &ImageConfig, invocation: &Invocation) -> Vec<String> {
        invocation.command.clone().unwrap_or_else(|| self.command_line(image))
    }

    /// The whole command line in this image, as `docker run` would put it together: an entrypoint of the program's own
    /// drops the image's command.
    pub fn command_line(&self, image: &ImageConfig) -> Vec<String> {
        let entrypoint = self.entrypoint.as_ref().unwrap_or(&image.entrypoint);
        let command = match (&self.command, &self.entrypoint) {
            (Some(command), _) => command.as_slice(),
            (None, Some(_)) => &[],
            (None, None) => image.command.as_slice(),
        };
        entrypoint.iter().chain(command).cloned().collect()
    }
}

/// What a program can reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Nothing but its own loopback.
    #[default]
    None,
    /// The engine's default bridge.
    Bridge,
    /// The host's own network: no isolation.
    Host,
    /// A network of the engine, by name.
    Named(String),
}

impl Network {
    /// The word for it in the configuration and in the engine's API.
    pub fn as_str(&self) -> &str {
        match self {
            Self::None => "none",
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Named(name) => name,
        }
    }
}

/// What requests to one program have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Nothing: each has a container of its own, thrown away after it.
    #[default]
    Fresh,
    /// A container that stays, in which each has a process of its own: files in memory, other processes and limits are
    /// everybody's.
    Shared {
        /// How many such containers take requests in turn.
        replicas: u32,
    },
}

/// How many containers wait for requests, one request each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Warm {
    /// As many as the requests of the last seconds have needed; none where there were none.
    #[default]
    Auto,
    /// This many, always.
    Fixed(u32),
}

/// Something of the host's, or of the engine's, that a container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    /// A file or directory of the machine that the engine runs on.
    Bind {
        /// Absolute, on the engine's machine.
        source: PathBuf,
        /// Absolute, inside the container.
        target: String,
        /// Whether writes are refused.
        read_only: bool,
    },
    /// A volume that the engine keeps under a name.
    Named {
        /// The volume's name.
        name: String,
        /// Absolute, inside the container.
        target: String,
        /// Whether writes are refused.
        read_only: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_an_engine_needs_docker_and_is_named() {
        let with = |network| Program { network, ..Program::new("x") };
        for network in [Network::None, Network::Host] {
            assert_eq!(with(network).needs_docker(), None);
        }
        for (network, name) in [(Network::Bridge, "bridge"), (Network::Named("db".to_owned()), "db")] {
            let why = with(network).needs_docker().expect("only Docker has it");
            assert!(why.contains(&format!("has no network `{name}`")), "{why}");
        }
    }
}
