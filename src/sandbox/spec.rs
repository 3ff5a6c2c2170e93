//! What a container is to be, in this room's own words.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::launcher::Identity;

/// Everything about a container that is the same each time it is made.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// What it is made from, as messages call it: such as "image `perl:5`".
    pub(crate) name: String,
    /// What is to be its root. It is never written to.
    pub(crate) root: Root,
    /// `user[:group]`, by name or number; names are looked up inside. Empty: root; where the root is this machine's,
    /// somebody who is nobody in particular.
    pub(crate) user: String,
    /// Whether the root refuses writes. Else what is written there lies in memory, and goes with the container.
    pub(crate) read_only: bool,
    /// What it can reach.
    pub(crate) network: Network,
    /// Where it is to be listened, in a network of its own.
    pub(crate) listen: Vec<SocketAddr>,
    /// File systems in memory, in the form of `docker run --tmpfs`: a path, maybe `:options`.
    pub(crate) tmpfs: Vec<String>,
    /// Files and directories of this machine that are seen inside.
    pub(crate) volumes: Vec<Volume>,
    /// The directories that an image declares as volumes, absolute inside: writable, and each container's own.
    pub(crate) image_volumes: Vec<String>,
    /// Capabilities to keep, such as `NET_BIND_SERVICE`, or `ALL`. All others are dropped.
    pub(crate) cap_add: Vec<String>,
    /// Whether a small init is process 1 and the program its child.
    pub(crate) init: bool,
    /// What all of its processes together may use.
    pub(crate) limits: Limits,
}

/// Where a container's root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// A directory that nobody changes: an unpacked image.
    Image(PathBuf),
    /// A directory that may be another by now: then it is not this one any more, and no container is made of it.
    Directory {
        /// Absolute, and without links.
        path: PathBuf,
        identity: Identity,
    },
    /// This machine's own, as far as programs have any business with it: see `plan::mounts::root`.
    Machine {
        /// What is hidden beside what is not there at all: absolute paths, of files and directories.
        hidden: Vec<PathBuf>,
    },
}

/// Which network a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// One of its own, with nothing in it but its loopback.
    Own,
    /// The host's: no isolation.
    Host,
}

/// A file or directory of this machine that a container sees.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    /// Absolute, on this machine, and without links. It is there.
    pub(crate) source: PathBuf,
    /// Which file that is. Where another one is there when a container is made, that fails.
    pub(crate) identity: Identity,
    /// Absolute, inside.
    pub(crate) target: String,
    /// Whether writes are refused.
    pub(crate) read_only: bool,
    /// Whether it is a directory: what its mount point has to be.
    pub(crate) is_directory: bool,
}

/// What the processes of a container may use, together. Absent: as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    /// In bytes, swap included.
    pub(crate) memory: Option<u64>,
    /// Processors, in whole ones: `0.5` is half a core.
    pub(crate) cpus: Option<f64>,
    /// How many processes and threads may exist at once.
    pub(crate) pids: Option<u32>,
}
