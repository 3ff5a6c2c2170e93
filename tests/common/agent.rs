//! A `dcgi agent` on this machine, outside of any container, and clients that see every byte.

use std::fs::{self, File};
use std::io::{IoSlice, PipeReader, PipeWriter, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use dcgi::agent::scgi::Head;
use dcgi::agent::{ANSWER, Answer};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process};
use tempfile::TempDir;

use super::processes::descendants;
use super::{PATIENCE, wait_until};

/// How a program begins its answer.
pub const HEADER: &str = "printf 'Content-Type: text/plain\\r\\n\\r\\n'";

/// Where an agent listens.
#[derive(Clone, Debug)]
pub enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// As nginx and the agent write it.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// A running `dcgi agent` in a folder of its own, where its programs run too. Ended on drop, with all it runs.
pub struct Agent {
    child: Child,
    folder: TempDir,
    address: Option<Address>,
}

/// The command of a shell script.
pub fn shell(script: &str) -> [&str; 4] {
    ["--", "/bin/sh", "-c", script]
}

impl Agent {
    /// Listens on a unix socket, and runs this shell script for each request.
    #[track_caller]
    pub fn listen(script: &str) -> Self {
        Self::listen_with(&[], &shell(script))
    }

    /// The same with options, and any command.
    #[track_caller]
    pub fn listen_with(options: &[&str], command: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let socket = Address::Unix(path.clone()).to_string();
        let arguments = [&["listen", "--scgi", &socket], options, command].concat();
        let mut agent = Self::start(folder, &arguments, Stdio::null());
        agent.address = Some(Address::Unix(path.clone()));
        agent.wait_until("it listens", || UnixStream::connect(&path).is_ok());
        agent
    }

    /// The same on a port that is free.
    #[track_caller]
    pub fn listen_on_tcp(script: &str) -> Self {
        let arguments = [&["listen", "--scgi", "127.0.0.1:0"], shell(script).as_slice()].concat();
        let mut agent = Self::start(tempfile::tempdir().unwrap(), &arguments, Stdio::null());
        let mut port = None;
        agent.wait_until("it listens", || {
            port = agent.port();
            port.is_some()
        });
        agent.address = Some(Address::Tcp(([127, 0, 0, 1], port.unwrap()).into()));
        agent
    }

    /// `dcgi agent` with these arguments.
    pub fn start(folder: TempDir, arguments: &[&str], stdin: Stdio) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_dcgi"))
            .arg("agent")
            .args(arguments)
            .current_dir(&folder)
            .stdin(stdin)
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .expect("dcgi runs");
        Self { child, folder, address: None }
    }

    /// The port that it listens on, as the kernel tells: `/proc/net/tcp` has it by the socket's inode.
    fn port(&self) -> Option<u16> {
        let targets: Vec<_> = self.descriptors().into_values().collect();
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.pid())).unwrap();
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let (address, is_listening, inode) = (fields[1], fields[3] == "0A", fields[9]);
            let port = address.rsplit_once(':')?.1;
            (is_listening && targets.contains(&format!("socket:[{inode}]")))
                .then(|| u16::from_str_radix(port, 16).unwrap())
        })
    }

    #[track_caller]
    fn wait_until(&self, what: &str, holds: impl FnMut() -> bool) {
        let in_time = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(what, PATIENCE, holds);
        }));
        assert!(in_time.is_ok(), "not within {PATIENCE:?}: {what}. The agent said:\n{}", self.log());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn address(&self) -> &Address {
        self.address.as_ref().expect("it listens")
    }

    /// The path of a file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a program has written to a file, once there is a whole line.
    #[track_caller]
    pub fn line_of(&self, name: &str) -> String {
        let mut text = String::new();
        self.wait_until(&format!("{name} has a line"), || {
            text = fs::read_to_string(self.path(name)).unwrap_or_default();
            text.ends_with('\n')
        });
        text.trim_end().to_owned()
    }

    /// What it and its programs have written to standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Its descriptors, and what each is.
    pub fn descriptors(&self) -> std::collections::BTreeMap<i32, String> {
        descriptors_of(self.pid())
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().count()
    }

    /// How much time it has spent on processors, in seconds.
    pub fn busy(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<u64>().unwrap();
        // proc_pid_stat(5): utime and stime, where the state is field 3.
        (ticks(11) + ticks(12)) as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    /// Lets it have only so many descriptors more than it has now.
    pub fn limit_descriptors(&self, more: u64) {
        let taken = self.descriptors();
        // The limit is on their numbers, and what it was started with need not have the lowest.
        let free = (0..).filter(|number| !taken.contains_key(number));
        let current = free.map(|number| number as u64).nth(usize::try_from(more).unwrap());
        let limit = Rlimit { current, ..rustix::process::getrlimit(Resource::Nofile) };
        rustix::process::prlimit(Some(self.process()), Resource::Nofile, limit).unwrap();
    }

    fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        let child = &mut self.child;
        wait_until("the agent ends", PATIENCE, || {
            ended = child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// A connection to it.
    #[track_caller]
    pub fn connect(&self) -> File {
        match self.address() {
            Address::Unix(_) => File::from(OwnedFd::from(self.connect_to_unix())),
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).expect("it accepts");
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                File::from(OwnedFd::from(stream))
            }
        }
    }

    #[track_caller]
    fn connect_to_unix(&self) -> UnixStream {
        let Address::Unix(path) = self.address() else { panic!("it listens on TCP") };
        let stream = UnixStream::connect(path).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends these bytes on a connection of its own, and reads to its end.
    #[track_caller]
    pub fn send(&self, bytes: &[u8]) -> String {
        let mut connection = self.connect();
        connection.write_all(bytes).expect("it reads");
        to_the_end(connection)
    }

    /// The same with a request that has no body.
    #[track_caller]
    pub fn get(&self, variables: &[(&str, &str)]) -> String {
        self.send(&head(variables))
    }

    /// Begins a request, whose answer nobody reads yet.
    #[track_caller]
    pub fn begin(&self, variables: &[(&str, &str)]) -> File {
        let mut connection = self.connect();
        connection.write_all(&head(variables)).expect("it reads");
        connection
    }

    /// Sends a request with descriptors.
    #[track_caller]
    pub fn hand_over(&self, variables: &[(&str, &str)]) -> HandedOver {
        HandedOver::on(self.connect_to_unix(), &head(variables))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            let programs = descendants(self.pid());
            _ = self.child.kill();
            _ = self.child.wait();
            programs.into_iter().for_each(kill);
        }
        // Of one that left the agent's family, its program has written down which it is.
        if let Ok(orphan) = fs::read_to_string(self.path("orphan")) {
            orphan.trim().parse().into_iter().for_each(kill);
        }
        if std::thread::panicking() {
            eprintln!("--- what the agent said ---\n{}", self.log());
        }
    }
}

fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        _ = kill_process(pid, Signal::KILL);
    }
}

/// The descriptors of a process, and what each is.
pub fn descriptors_of(pid: impl std::fmt::Display) -> std::collections::BTreeMap<i32, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let target = |path: &Path| fs::read_link(path).unwrap_or_default().to_string_lossy().into_owned();
    entries
        .map(|entry| (entry.file_name().to_str().unwrap().parse().unwrap(), target(&entry.path())))
        .collect()
}

/// Whether a process is there, and not only its status.
pub fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.trim_start().starts_with('Z'))
}

/// The head of a request without a body.
pub fn head(variables: &[(&str, &str)]) -> Vec<u8> {
    head_for_body(0, variables)
}

/// The head of a request with a body of this length.
pub fn head_for_body(length: usize, variables: &[(&str, &str)]) -> Vec<u8> {
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Head { content_length: length as u64, variables }.write()
}

/// All that comes, until the other side ends it: an error is none.
#[track_caller]
pub fn to_the_end(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("it ends as it should");
    String::from_utf8(bytes).unwrap()
}

/// Our ends of what a request with descriptors was sent with.
pub struct HandedOver {
    pub connection: UnixStream,
    pub stdin: Option<PipeWriter>,
    pub stdout: PipeReader,
    pub stderr: PipeReader,
}

impl HandedOver {
    #[track_caller]
    pub fn on(connection: UnixStream, head: &[u8]) -> Self {
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let (theirs_in, stdin) = std::io::pipe().unwrap();
        let (stdout, theirs_out) = std::io::pipe().unwrap();
        let (stderr, theirs_err) = std::io::pipe().unwrap();
        send_with(&connection, head, &[&theirs_in.into(), &theirs_out.into(), &theirs_err.into()]);
        Self { connection, stdin: Some(stdin), stdout, stderr }
    }

    /// What the agent tells next; `None` where it closes the connection.
    #[track_caller]
    pub fn answer(&mut self) -> Option<Answer> {
        let mut bytes = [0; ANSWER];
        match self.connection.read_exact(&mut bytes) {
            Ok(()) => Some(Answer::from_bytes(bytes).unwrap_or_else(|| panic!("no answer: {bytes:?}"))),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

/// Sends bytes, and descriptors with them.
#[track_caller]
pub fn send_with(socket: &UnixStream, bytes: &[u8], descriptors: &[&OwnedFd]) {
    let descriptors: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL);
    assert_eq!(sent, Ok(bytes.len()));
}
