//! The program: from a request to a process.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Pid;

use super::connection::Rights;
use super::scgi::{self, Head};

/// Variables that begin so are for the agent, where whoever sends them is trusted; no program sees them.
pub(crate) const OWN: &str = "DCGI_AGENT_";
/// The working directory, where it is not the container's.
pub(crate) const DIRECTORY: &str = "DCGI_AGENT_DIRECTORY";
/// A further argument; a number follows, from 0.
pub(crate) const ARGUMENT: &str = "DCGI_AGENT_ARGUMENT_";
/// The request has no `CONTENT_LENGTH`, though SCGI has to have one.
pub(crate) const NO_LENGTH: &str = "DCGI_AGENT_NO_LENGTH";

/// Whoever asks wants to hear that the request has arrived, before the program runs.
pub(crate) const CONFIRM: &str = "DCGI_AGENT_CONFIRM";

/// What is executed for each request.
#[derive(Debug)]
pub(super) struct Program {
    command: Vec<OsString>,
    /// Where the agent was started.
    home: PathBuf,
    /// Where it is now.
    directory: PathBuf,
    /// Whether variables of [`OWN`] mean anything.
    trusting: bool,
}

/// Standard input, output and error.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) stdin: Stdio,
    pub(super) stdout: Stdio,
    pub(super) stderr: Stdio,
}

impl Streams {
    pub(super) fn inherited() -> Self {
        Self { stdin: Stdio::inherit(), stdout: Stdio::inherit(), stderr: Stdio::inherit() }
    }

    /// Those that came with a request.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub(super) fn given(Rights { stdin, stdout, stderr }: Rights) -> io::Result<Self> {
        Ok(Self { stdin: input(stdin)?, stdout: stdout.into(), stderr: stderr.into() })
    }

    /// A connection as both ends, as SCGI has it; errors go where the agent's own go.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub(super) fn of_connection(stdin: Option<OwnedFd>, stdout: OwnedFd) -> io::Result<Self> {
        Ok(Self { stdin: input(stdin)?, stdout: stdout.into(), stderr: Stdio::inherit() })
    }
}

/// Something to read, or something that is at its end.
fn input(stdin: Option<OwnedFd>) -> io::Result<Stdio> {
    match stdin.map_or_else(|| File::open("/dev/null").map(OwnedFd::from), Ok) {
        // Not every image has one, and a mount may hide the container's.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(io::pipe()?.0.into()),
        stdin => stdin.map(Stdio::from),
    }
}

impl Program {
    /// # Errors
    /// Where the working directory is gone, or there is no command.
    pub(super) fn new(command: Vec<OsString>, trusting: bool) -> io::Result<Self> {
        if command.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program is named"));
        }
        let home = std::env::current_dir()?;
        Ok(Self { command, directory: home.clone(), home, trusting })
    }

    /// Whether the request is to be confirmed before the program runs.
    pub(super) fn confirms(&self, head: &Head) -> bool {
        self.trusting && scgi::value(&head.variables, CONFIRM).is_some()
    }

    /// Executes it in a process group of its own, whose id this gives.
    ///
    /// # Errors
    /// Where it cannot be executed, or its working directory cannot be entered.
    pub(super) fn start(&mut self, head: &Head, streams: Streams) -> io::Result<Pid> {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        let mut directory = &self.home;
        let asked;
        let mut has_length = true;
        for (name, value) in &head.variables {
            match name.to_str().filter(|name| self.trusting && name.starts_with(OWN)) {
                None => _ = command.env(name, value),
                Some(NO_LENGTH) => has_length = false,
                Some(name) if name.starts_with(ARGUMENT) => _ = command.arg(value),
                Some(_) => {}
            }
        }
        if let Some(value) = scgi::value(&head.variables, DIRECTORY).filter(|_| self.trusting) {
            asked = PathBuf::from(value);
            directory = &asked;
        }
        match has_length {
            true => command.env("CONTENT_LENGTH", head.content_length.to_string()),
            false => command.env_remove("CONTENT_LENGTH"),
        };
        // The agent's own, not the child's: then the C library can start it without copying this process.
        if *directory != self.directory {
            std::env::set_current_dir(directory)?;
            self.directory.clone_from(directory);
        }
        command.stdin(streams.stdin).stdout(streams.stdout).stderr(streams.stderr).process_group(0);
        let child = command.spawn()?;
        Ok(Pid::from_child(&child))
    }
}
