//! The program: from a request to a process.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::process::{DumpableBehavior, Pid};

use super::connection::Rights;
use super::scgi::{self, Head};
use crate::sandbox::{Execution, Obstacle, Refusal, Spawner};
use crate::variables::is_request_variable;

/// Variables that begin so are for the agent, where whoever sends them is trusted; no program sees them.
pub(crate) const OWN: &str = "DCGI_AGENT_";
/// The working directory, where it is not the container's.
pub(crate) const DIRECTORY: &str = "DCGI_AGENT_DIRECTORY";
/// A word of the command line, where that is not the agent's; a number follows, from 0.
pub(crate) const COMMAND: &str = "DCGI_AGENT_COMMAND_";
/// A further argument; a number follows, from 0.
pub(crate) const ARGUMENT: &str = "DCGI_AGENT_ARGUMENT_";
/// How long what the program leaves running may go on, and how long it may take to end when asked: milliseconds.
pub(crate) const LINGER: &str = "DCGI_AGENT_LINGER";
pub(crate) const KILL_GRACE: &str = "DCGI_AGENT_KILL_GRACE";
/// The request has no `CONTENT_LENGTH`, though SCGI has to have one.
pub(crate) const NO_LENGTH: &str = "DCGI_AGENT_NO_LENGTH";

/// Whoever asks wants to hear that the request has arrived, before the program runs.
pub(crate) const CONFIRM: &str = "DCGI_AGENT_CONFIRM";

/// Where a program without a slash in its name is, if nobody says.
const PATH: &str = "/bin:/usr/bin";

/// What is executed for each request.
#[derive(Debug)]
pub(super) struct Program {
    command: Vec<OsString>,
    /// Variables that every request has.
    environment: BTreeMap<OsString, OsString>,
    /// Where the agent was started.
    home: PathBuf,
    /// Where it is now.
    directory: PathBuf,
    /// Whether variables of [`OWN`] mean anything.
    trusting: bool,
    /// Something to read that is at its end. Opened before a program can put something else in its place.
    nothing: OwnedFd,
    spawner: Spawner,
}

/// Standard input, output and error, where they are not the agent's own.
#[derive(Debug, Default)]
pub(super) struct Streams {
    stdin: Input,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

#[derive(Debug, Default)]
enum Input {
    /// The agent's own.
    #[default]
    Own,
    Nothing,
    Given(OwnedFd),
}

impl From<Option<OwnedFd>> for Input {
    fn from(stdin: Option<OwnedFd>) -> Self {
        stdin.map_or(Self::Nothing, Self::Given)
    }
}

impl Streams {
    /// Those that came with a request.
    pub(super) fn given(Rights { stdin, stdout, stderr }: Rights) -> Self {
        Self { stdin: stdin.into(), stdout: Some(stdout), stderr: Some(stderr) }
    }

    /// A connection as both ends, as SCGI has it; errors go where the agent's own go.
    pub(super) fn of_connection(stdin: Option<OwnedFd>, stdout: OwnedFd) -> Self {
        Self { stdin: stdin.into(), stdout: Some(stdout), stderr: None }
    }
}

impl Program {
    /// # Errors
    /// Where the working directory is gone, there is no memory, or no command.
    pub(super) fn new(command: Vec<OsString>, trusting: bool) -> io::Result<Self> {
        if command.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program is named"));
        }
        // SECURITY: whoever a program is, it traces no agent, and takes nothing that one has open: no word of it is needed, and
        // who makes process 1 stop is taken for its end by engines.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        let home = std::env::current_dir()?;
        // What a request is, only it says; an image may have said something of it.
        let environment =
            std::env::vars_os().filter(|(name, _)| !name.to_str().is_some_and(is_request_variable)).collect();
        let nothing = match File::open("/dev/null") {
            Ok(null) => null.into(),
            // Not every image has one, and a mount may hide the container's.
            Err(_) => io::pipe()?.0.into(),
        };
        let spawner = Spawner::new()?;
        Ok(Self { command, environment, directory: home.clone(), home, trusting, nothing, spawner })
    }

    /// Keeps what runs for one request from what runs for others, as far as the kernel can: whether it can.
    pub(super) fn keep_apart(&mut self) -> bool {
        self.spawner.keep_apart()
    }

    /// Whether the request is to be confirmed before the program runs.
    pub(super) fn confirms(&self, head: &Head) -> bool {
        self.trusting && scgi::value(&head.variables, CONFIRM).is_some()
    }

    /// Executes it in a session and process group of its own, whose id this gives.
    ///
    /// # Errors
    /// Where it cannot be executed, or its working directory cannot be entered.
    pub(super) fn start(&mut self, head: &Head, streams: &Streams) -> io::Result<Pid> {
        let own = head.variables.iter().filter(|(name, _)| self.trusting && is_of(name, COMMAND));
        let own: Vec<&OsStr> = own.map(|(_, word)| word.as_os_str()).collect();
        let command: Vec<&OsStr> = match own.is_empty() {
            true => self.command.iter().map(OsString::as_os_str).collect(),
            false => own,
        };
        let mut arguments =
            command.iter().map(|argument| c_string(&[argument])).collect::<Result<Vec<_>, _>>()?;
        let mut variables: BTreeMap<&OsStr, &OsStr> =
            self.environment.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str())).collect();
        let length = OsString::from(head.content_length.to_string());
        variables.insert(OsStr::new("CONTENT_LENGTH"), &length);
        for (name, value) in &head.variables {
            match name.to_str().filter(|name| self.trusting && name.starts_with(OWN)) {
                None => _ = variables.insert(name, value),
                Some(NO_LENGTH) => _ = variables.remove(OsStr::new("CONTENT_LENGTH")),
                Some(name) if name.starts_with(ARGUMENT) => arguments.push(c_string(&[value])?),
                Some(_) => {}
            }
        }
        let paths = paths(command[0], variables.get(OsStr::new("PATH")).copied())?;
        let environment =
            variables.into_iter().map(|(name, value)| c_string(&[name, OsStr::new("="), value]));
        let environment = environment.collect::<Result<Vec<_>, _>>()?;
        let asked = scgi::value(&head.variables, DIRECTORY).filter(|_| self.trusting).map(PathBuf::from);
        let directory = asked.as_ref().unwrap_or(&self.home);
        // The agent's own, which the program takes over.
        // One that a request names is entered each time: another may be at its path by now.
        if asked.is_some() || *directory != self.directory {
            std::env::set_current_dir(directory).map_err(|error| {
                let errno = Refusal::of(&error).errno;
                io::Error::from(Refusal { errno, obstacle: Obstacle::WorkingDirectory })
            })?;
            self.directory.clone_from(directory);
        }
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        self.spawner.spawn(&Execution {
            paths: &paths,
            arguments: &arguments,
            environment: &environment,
            streams: [
                match &streams.stdin {
                    Input::Own => stdin.as_fd(),
                    Input::Nothing => self.nothing.as_fd(),
                    Input::Given(stdin) => stdin.as_fd(),
                },
                or(&streams.stdout, stdout.as_fd()),
                or(&streams.stderr, stderr.as_fd()),
            ],
        })
    }
}

/// Where a program may be, as execvp(3) looks for it.
fn paths(program: &OsStr, path: Option<&OsStr>) -> io::Result<Vec<CString>> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(&[program])?]);
    }
    let path = path.unwrap_or(OsStr::new(PATH));
    // An empty one is the working directory.
    std::env::split_paths(path).map(|folder| c_string(&[folder.join(program).as_os_str()])).collect()
}

/// Whether a variable is one of those that have a number behind this.
fn is_of(name: &OsStr, numbered: &str) -> bool {
    name.as_bytes().starts_with(numbered.as_bytes())
}

fn or<'a>(stream: &'a Option<OwnedFd>, own: BorrowedFd<'a>) -> BorrowedFd<'a> {
    stream.as_ref().map_or(own, AsFd::as_fd)
}

fn c_string(parts: &[&OsStr]) -> io::Result<CString> {
    Ok(CString::new(parts.join(OsStr::new("")).into_vec())?)
}
