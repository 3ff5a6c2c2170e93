//! The agent: what runs inside a container that waits for its request, or serves many.
//!
//! This room uses `sandbox`, to execute programs, and no other room: the same small program is to run in any engine's
//! containers. It knows no engine, image, route or HTTP, and never talks to anybody but dcgi, or whoever speaks SCGI to it.
//!
//! It speaks SCGI ([`scgi`]). Where it has dialled in to dcgi, over a unix socket, a request's standard input, output and
//! error ride along as descriptors (`SCM_RIGHTS`): the program reads and writes dcgi's own pipes, and the connection
//! remains to tell how the program ended ([`Answer`]), and to kill it by being closed. Where no descriptors come, it is an
//! SCGI server like any other.
//!
//! ```text
//! dcgi ── master ──▶ agent listen ─┬─ program      a connection a request comes over the master, as a descriptor
//!      ── request ─▶               └─ program
//! dcgi ── request ─▶ agent once ──── program       the one request comes on the connection itself
//! ```
//!
//! The agent is process 1 of its container, and so its init: it reaps orphans, and when it ends, everything does. It has
//! one thread, no runtime, and allocates a few KiB: it is ready a millisecond after it was executed. Where it may use several
//! processors, it shares its requests with workers, which are agents too. A program runs in a
//! process group of its own; where the agent is there for one request alone, all in the container is that request's. What
//! is left running when the program has ended may go on. It is asked to end by a byte on the request's connection
//! (`TERMINATE`), and killed when that is closed.
//!
//! `SIGTERM` lets what runs finish, and takes nothing more; a second one goes to the programs.
//!
//! # Security
//! The agent has the program's own user and rights, so it defends dcgi against nothing that a program does: dcgi believes
//! it only what concerns its own container. Its token is used up before the program exists, and no descriptor of the
//! agent's reaches the program: all are close-on-exec. Where many programs run beside each other it defends itself, and each
//! of them from the others, by Landlock, as far as the kernel can: `Spawner::keep_apart`.

mod answer;
mod children;
mod connection;
mod executable;
mod program;
pub mod scgi;
mod server;
mod source;
mod strays;
mod workers;

use std::ffi::{CStr, OsString};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZero;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Pid;

pub use answer::{ANSWER, Answer};
use connection::Connection;
pub(crate) use connection::TERMINATE;
pub use executable::Executable;
pub(crate) use program::{ARGUMENT, COMMAND, CONFIRM, DIRECTORY, KILL_GRACE, LINGER, NO_LENGTH};
use program::{Program, Streams};
use server::Server;
use source::Source;
pub(crate) use source::{PING, REQUEST};

use crate::sandbox::Refusal;

/// What `ps` calls an agent.
const AGENT: &CStr = c"dcgi-agent";

/// What an agent does.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// How many programs may run at once; others wait in the listening socket's queue. Of no meaning where requests come
    /// from dcgi, which counts them itself.
    pub max_concurrency: usize,
    /// How long a program may take. Absent: as long as whoever asked stays.
    pub timeout: Option<Duration>,
    /// How many processes start programs, this one included, where requests come from dcgi. Absent: one for each
    /// processor that may be used, and at most four.
    pub workers: Option<NonZero<usize>>,
}

/// Where the one request of [`Agent::once`] comes from.
#[derive(Clone, Debug)]
pub enum Once {
    /// A unix socket to dial, and what to say there first.
    Dial(PathBuf, String),
    /// Standard input: the head, then the body, which the program reads.
    Stdin,
}

/// Where the requests of [`Agent::listen`] come from.
#[derive(Clone, Debug)]
pub enum Listen {
    /// Connections over a unix socket to dial, and what to say there first.
    Dial(PathBuf, String),
    /// The same over a unix socket that is connected already: standard input.
    Stdin,
    /// The same, where the other end is an agent that has started this one to share its requests with.
    Link,
    /// Whoever connects to this unix socket.
    Unix(PathBuf),
    /// Whoever connects to this address.
    Tcp(SocketAddr),
}

impl Agent {
    /// Serves one request, and gives the status to exit with: the program's, or 128 and the number of the signal that
    /// ended it, as shells have it.
    ///
    /// # Errors
    /// Where nobody can be dialled, or the request is malformed: then nothing has run.
    pub fn once(self, from: Once) -> io::Result<u8> {
        let program = self.program(AGENT, true)?;
        // Process 1 has everybody in the container for its children, or their children.
        let is_alone = rustix::process::getpid() == Pid::INIT;
        let mut server = Server::new(program, self.max_concurrency, self.timeout, is_alone)?;
        match from {
            Once::Dial(path, token) => {
                server.expect(Connection::new(dial(&path, &token)?.into()));
            }
            Once::Stdin => {
                let head = read_head(&mut Stdin::new(&server)?)?;
                server.begin(&head, &Streams::default());
            }
        }
        Ok(match server.serve(None)? {
            Some(Answer::Exited { code, .. }) => code,
            Some(Answer::Signalled { signal, .. }) => signal.saturating_add(128),
            // As shells have it.
            Some(Answer::Failed(number)) if Refusal::from_number(number).errno == libc::ENOENT => 127,
            Some(Answer::Failed(_)) => 126,
            Some(Answer::Malformed) => 1,
            Some(Answer::Taken | Answer::Over) | None => 0,
        })
    }

    /// Serves requests until whoever sends them is gone, or `SIGTERM` has come.
    ///
    /// # Errors
    /// Where nobody can be dialled, or the address cannot be listened on.
    pub fn listen(self, from: Listen) -> io::Result<()> {
        let trusting = matches!(from, Listen::Dial(..) | Listen::Stdin | Listen::Link);
        let is_worker = matches!(from, Listen::Link);
        let program = self.program(if is_worker { c"dcgi-worker" } else { AGENT }, trusting)?;
        // Whoever is trusted counts by himself, and wants to hear from us however many run.
        let most = if trusting { usize::MAX } else { self.max_concurrency };
        let mut server = Server::new(program, most, self.timeout, false)?;
        if !is_worker && rustix::process::getpid() == Pid::INIT {
            server.mind_strays();
        }
        if is_worker {
            server.tell_of_patience();
        }
        let source = match from {
            Listen::Dial(path, token) => Source::Master(dial(&path, &token)?),
            Listen::Stdin | Listen::Link => {
                let master = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
                master.set_nonblocking(true)?;
                Source::Master(master)
            }
            Listen::Unix(path) => {
                let listener = UnixListener::bind(&path)?;
                listener.set_nonblocking(true)?;
                Source::Unix(listener, path)
            }
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Source::Tcp(listener)
            }
        };
        if trusting && !is_worker {
            for _ in 1..self.count_of_workers() {
                if let Err(error) = server.start_worker(self.worker()) {
                    // Slower, and no worse.
                    eprintln!("dcgi agent: starting a worker: {error}");
                    break;
                }
            }
        }
        // Last, for what holds this agent's programs would hold a worker's too.
        if !server.keep_apart() && trusting && !is_worker {
            eprintln!(
                "dcgi agent: requests that run here at a time can signal and trace each other: that takes Linux 6.12, and \
                 no_new_privs"
            );
        }
        server.serve(Some(source)).map(drop)
    }
}

impl Agent {
    fn count_of_workers(&self) -> usize {
        const MOST: NonZero<usize> = NonZero::new(4).unwrap();
        let processors =
            || std::thread::available_parallelism().map_or(NonZero::<usize>::MIN, |it| it.min(MOST));
        self.workers.unwrap_or_else(processors).get()
    }

    /// Makes a worker of this executable, wherever that is.
    fn worker(&self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("dcgi").args(["agent", "listen", "--link"]);
        if let Some(timeout) = self.timeout {
            command.arg("--timeout").arg(humantime::format_duration(timeout).to_string());
        }
        command.arg("--").args(&self.command);
        command
    }

    fn program(&self, name: &CStr, trusting: bool) -> io::Result<Program> {
        // What `ps` shows: the executable may have been found by the number of a descriptor.
        _ = rustix::thread::set_name(name);
        Program::new(self.command.clone(), trusting)
    }
}

fn dial(path: &Path, token: &str) -> io::Result<UnixStream> {
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut stream = UnixStream::connect(path).map_err(at)?;
    stream.write_all(format!("{token}\n").as_bytes()).map_err(at)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Standard input without a buffer, until we are to end.
struct Stdin<'a> {
    input: std::fs::File,
    server: &'a Server,
}

impl<'a> Stdin<'a> {
    fn new(server: &'a Server) -> io::Result<Self> {
        Ok(Self { input: io::stdin().as_fd().try_clone_to_owned()?.into(), server })
    }
}

impl Read for Stdin<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.server.wait_for(self.input.as_fd())? {
            true => self.input.read(bytes),
            false => Err(io::Error::other("asked to end before the request had come")),
        }
    }
}

/// Reads a head, and not a byte more.
fn read_head(from: &mut impl Read) -> io::Result<scgi::Head> {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        let more = scgi::Head::missing(&bytes).map_err(invalid)?;
        if more == 0 {
            let head = scgi::Head::read(&bytes).map_err(invalid)?;
            return head.map(|(head, _)| head).ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
        let filled = bytes.len();
        bytes.resize(filled + more, 0);
        from.read_exact(&mut bytes[filled..])?;
    }
}

fn invalid(malformed: scgi::Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_without_a_byte_of_the_body() {
        let head = scgi::Head { content_length: 4, variables: vec![("A".into(), "1".into())] };
        let sent = [head.write(), b"body".to_vec()].concat();
        let mut rest = sent.as_slice();
        assert_eq!(read_head(&mut rest).unwrap(), head);
        assert_eq!(rest, b"body");
    }

    #[test]
    fn a_head_that_is_cut_off_is_an_error() {
        let mut rest = b"20:CONTENT".as_slice();
        assert_eq!(read_head(&mut rest).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
