//! Where programs run.
//!
//! An [`Engine`] begins a [`Program`] for one [`Invocation`] and gives a [`Process`]: standard input,
//! output and error, an exit status, and an end that always comes.
//!
//! This room uses `agent`, which runs in containers that wait or stay; `images` and `sandbox`, both for [`embedded`]; of
//! `files` what is known of a directory; and the leaves `instance` and `reason`. Engines never know HTTP, CGI or a route's configuration: what a request means is settled
//! before it reaches them.
//!
//! The trait is small on purpose. An engine that makes containers itself and one that asks a scheduler for
//! them differ in everything but these calls.

mod agent;
pub mod auto;
mod carry;
mod demand;
mod error;
mod folder;
mod images;
mod input;
mod output;
mod process;
mod program;
mod sources;
mod streams;

pub mod docker;
pub mod embedded;

use std::ffi::OsString;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;

pub use auto::{Choice, EngineChoice};
pub use carry::{Connect, Inside, Outside};
pub use error::{EngineError, EngineErrorKind};
pub use folder::Folder;
pub use process::{ExitStatus, Process, Reaper};
pub use program::{Isolation, Network, Program, Volume, Warm};

pub use crate::images::{ImageConfig, PullPolicy};

/// A place where programs run.
///
/// Object safe: a server holds one `Arc<dyn Engine>` and does not care which.
pub trait Engine: Debug + Send + Sync + 'static {
    /// The engine's name as the configuration spells it, such as `docker`.
    fn name(&self) -> &'static str;

    /// Which engine runs a program, and why: this one, unless it is one that chooses.
    ///
    /// # Cancel safety
    /// Cancel safe.
    fn choice<'a>(&'a self, _program: &'a Program) -> BoxFuture<'a, Choice> {
        Box::pin(async { Choice::only(self.name()) })
    }

    /// Finds out what an image says of the program in it, pulling the image where the program's
    /// [`PullPolicy`] allows that.
    ///
    /// Cheap enough to be asked once a request: engines remember the answer for a short while.
    ///
    /// # Errors
    /// [`EngineErrorKind::ImageMissing`] where the image is not there and may not or cannot be pulled,
    /// [`EngineErrorKind::Unreachable`] where the engine does not answer.
    ///
    /// # Cancel safety
    /// Cancel safe. A pull that has begun goes on for the next caller.
    fn image<'a>(&'a self, program: &'a Program) -> BoxFuture<'a, Result<ImageConfig, EngineError>>;

    /// A directory of what a program runs in, by its path in there: so that it can be told which of its files is a program.
    /// The image is pulled where the program's [`PullPolicy`] allows that.
    ///
    /// Cheap enough to be asked once a request: what is in an image is learnt once.
    ///
    /// # Errors
    /// As [`image`](Engine::image); where the directory is not there; and from engines that cannot look into images.
    ///
    /// # Cancel safety
    /// Cancel safe, as [`image`](Engine::image) is.
    fn folder<'a>(
        &'a self,
        program: &'a Program,
        _path: &'a str,
    ) -> BoxFuture<'a, Result<Folder, EngineError>> {
        let what = format!("the engine {} cannot look into {}", self.name(), program.made_from());
        Box::pin(async move { Err(EngineError::new(EngineErrorKind::Refused, what)) })
    }

    /// Makes ready what a route's requests will need: its image, and as many containers as are to wait for them.
    ///
    /// Nothing needs it; without it the first request waits longer.
    ///
    /// # Errors
    /// As [`image`](Engine::image), and where the program could not be started here anyway.
    ///
    /// # Cancel safety
    /// Cancel safe, as [`image`](Engine::image) is.
    fn prepare<'a>(
        &'a self,
        program: &'a Program,
        _route: &'a Arc<str>,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move { self.image(program).await.map(drop) })
    }

    /// Begins to run a program.
    ///
    /// # Errors
    /// Where the engine cannot be reached, refuses the options, or cannot execute the program. Nothing is
    /// left behind then.
    ///
    /// # Cancel safety
    /// Cancel safe: where the returned future is dropped, whatever was already made for it is removed.
    fn start<'a>(
        &'a self,
        program: &'a Program,
        invocation: Invocation,
    ) -> BoxFuture<'a, Result<Process, EngineError>>;

    /// What [`start`](Engine::start) would ask for, as JSON that an operator can read. Runs nothing.
    fn describe(&self, program: &Program, invocation: &Invocation) -> serde_json::Value;

    /// Waits until everything that this engine still has to clear away is gone.
    ///
    /// Call it once no process is in use any more. It does not return before the last container is removed or
    /// the engine stays unreachable; bound it with a timeout of your own.
    fn drained(&self) -> BoxFuture<'_, ()>;
}

/// One use of a program: what differs from request to request.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The route's name, for labels and logs.
    pub route: Arc<str>,
    /// The request's id: unique among everything this process starts.
    pub request_id: Arc<str>,
    /// Variables that win over the program's own and the image's.
    pub env: Vec<(String, OsString)>,
    /// The command line in place of the program's and the image's: of a program that is a directory of scripts, each use
    /// runs one of them.
    pub command: Option<Vec<String>>,
    /// Further command-line arguments, behind those.
    pub args: Vec<String>,
    /// The working directory, where it is not the image's.
    pub working_dir: Option<String>,
    /// Whether there is anything for its standard input. Else that is at its end from the beginning.
    pub has_input: bool,
    /// How long what the program leaves running may go on, and how long that may take to end when it is asked to. Whoever
    /// waits for the program sees to it; the engine does where it alone can tell what is left.
    pub linger: Duration,
    /// See `linger`.
    pub kill_grace: Duration,
    /// When this run must have ended, whoever started it. After that anyone may clear it away.
    pub expires: Option<SystemTime>,
    /// Dropped by the engine when nothing of this run is left, though nobody waits for it any more.
    pub lease: Lease,
}

/// Something that is held for as long as anything of a run exists: a place among those that may run at once, say.
/// It means nothing to the engine.
#[derive(Clone, Default)]
pub struct Lease(#[expect(dead_code, reason = "held for its drop")] Option<Arc<dyn Send + Sync>>);

impl Lease {
    /// A lease of something.
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(held)))
    }
}

impl Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}
