//! The agent's one loop: connections that bring requests, and programs that run for them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::Shutdown;
use rustix::process::Pid;

use super::answer::Answer;
use super::children::{self, End, Scope, Signals};
use super::connection::{Connection, PIECE, Request, Wish};
use super::program::{Program, Streams};
use super::scgi::Head;
use super::source::Source;
use super::strays::{self, Patience, Strays};
use super::workers::Workers;
use crate::sandbox::Refusal;

/// How long the head of a request may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a program that was killed may take to end: it takes milliseconds.
const KILLED_WITHIN: Duration = Duration::from_secs(1);

/// How long nothing is taken once descriptors have run out.
const RESPITE: Duration = Duration::from_millis(20);

/// How long one that has its answer may take to close its connection.
const LINGERING: Duration = Duration::from_secs(5);

/// How long what a program has left running may go on, and how long it may take to end when it is asked to, where nobody
/// else says so: for SCGI clients, who cannot.
const LINGER: Duration = Duration::from_secs(5);
const KILL_GRACE: Duration = Duration::from_secs(2);

/// How often it is looked whether somebody is still in a process group: its end tells nobody.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How much memory a thread that passes a body on has for its calls.
const STACK: usize = 64 << 10;

/// Serves what connections bring.
#[derive(Debug)]
pub(super) struct Server {
    program: Program,
    signals: Signals,
    sessions: Vec<Session>,
    workers: Workers,
    /// `None` where orphans do not come to this process, or end with it.
    strays: Option<Strays>,
    /// Whether whoever sends the requests is an agent to which they come; how long what a request leaves running may take, as
    /// the last one had it; and what of that the agent has been told.
    is_worker: bool,
    heard: Option<Patience>,
    told: Option<Patience>,
    max_concurrency: usize,
    timeout: Option<Duration>,
    /// Whether this is process 1 of a container that is there for one request.
    is_alone: bool,
    /// Whether a connection over which the other end was told how its program ended may bring another request.
    keeps_connections: bool,
    /// How the last one went.
    last: Option<Answer>,
}

/// A request: it comes, its program runs, and then what that has left running.
#[derive(Debug, Default)]
struct Session {
    /// `None` where the request came otherwise, and where the other end has gone.
    connection: Option<Connection>,
    /// `None` before the program runs, and when it has ended.
    program: Option<Pid>,
    /// What runs for it, from the program's beginning until nobody is left.
    scope: Option<Scope>,
    /// Whether the other end is told how the program ended, and says what is to end. Else the end of the connection is all
    /// that either hears.
    is_told: bool,
    /// Whether what runs has been asked to end: the next time, it is killed.
    is_ending: bool,
    /// When it was killed last, where its program has not ended by that yet.
    killed: Option<Instant>,
    /// Whether the end of this process is all that is heard of its end.
    ends_with_us: bool,
    /// When it was looked last who has its output open.
    looked: Option<Instant>,
    /// Whether all has ended, and the other end, which is not told, is still to close the connection.
    is_lingering: bool,
    /// When it must be over.
    deadline: Option<Instant>,
}

/// What has happened.
struct Events {
    child: bool,
    termination: bool,
    source: PollFlags,
    /// One for each session.
    sessions: Vec<PollFlags>,
}

impl Server {
    pub(super) fn new(
        program: Program,
        max_concurrency: usize,
        timeout: Option<Duration>,
        is_alone: bool,
    ) -> io::Result<Self> {
        let signals = Signals::new()?;
        Ok(Self {
            program,
            signals,
            sessions: Vec::new(),
            workers: Workers::default(),
            strays: None,
            is_worker: false,
            heard: None,
            told: None,
            max_concurrency,
            timeout,
            is_alone,
            keeps_connections: false,
            last: None,
        })
    }

    /// Has this process see to the daemons that programs leave: it is process 1, and they come to it.
    pub(super) fn mind_strays(&mut self) {
        self.strays = Some(Strays::default());
    }

    /// Keeps what runs for one request from what runs for others, as far as the kernel can: whether it can.
    pub(super) fn keep_apart(&mut self) -> bool {
        self.program.keep_apart()
    }

    /// Has the agent that has started this one hear how long what is left running may take: daemons come to that one.
    pub(super) fn tell_of_patience(&mut self) {
        self.is_worker = true;
    }

    /// Starts another agent to share the connections with.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(super) fn start_worker(&mut self, command: Command) -> io::Result<()> {
        self.workers.start(command)?;
        if let Some(strays) = &mut self.strays {
            strays.expect();
        }
        Ok(())
    }

    /// Waits for a request on a connection, for as long as it takes.
    pub(super) fn expect(&mut self, connection: Connection) {
        let connection = Some(connection);
        self.sessions.push(Session { connection, ..Session::default() });
    }

    /// Begins a program of whose end nobody is told. Where it cannot be executed, [`serve`](Self::serve) gives that.
    pub(super) fn begin(&mut self, head: &Head, streams: &Streams) {
        match self.program.start(head, streams) {
            Ok(program) => {
                let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
                let scope = Some(Scope::of(program, self.is_alone));
                let program = Some(program);
                self.sessions.push(Session {
                    program,
                    scope,
                    deadline,
                    ends_with_us: true,
                    ..Session::default()
                });
            }
            Err(error) => self.last = Some(failed(&error)),
        }
    }

    /// Waits until something can be read: false where we are to end before.
    ///
    /// # Errors
    /// Where the kernel refuses to wait.
    pub(super) fn wait_for(&self, input: BorrowedFd<'_>) -> io::Result<bool> {
        let mut watched =
            [input, self.signals.terminations()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        loop {
            match rustix::event::poll(&mut watched, None) {
                Ok(_) => return Ok(watched[1].revents().is_empty()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Serves until there is nothing left to serve: how the last program ended.
    ///
    /// # Errors
    /// Where the kernel refuses to wait, or a worker has died.
    pub(super) fn serve(mut self, mut source: Option<Source>) -> io::Result<Option<Answer>> {
        let mut respite: Option<Instant> = None;
        while source.is_some() || !self.sessions.is_empty() || !self.workers.is_empty() {
            respite = respite.filter(|until| *until > Instant::now());
            self.keeps_connections = matches!(source, Some(Source::Master(_)));
            let events = self.wait(source.as_ref(), respite)?;
            // As they were when it was looked: those that come meanwhile are at the end.
            for (index, flags) in events.sessions.into_iter().enumerate() {
                self.look_at(index, flags);
            }
            if events.termination {
                self.signals.terminations_seen();
                // What runs may finish, unless we have been asked before. A program that has an agent of its own hears
                // it at once.
                if source.is_none() {
                    self.sessions.iter_mut().for_each(Session::terminate);
                }
                self.workers.terminate();
                source = None;
                // What ends from here on, in this very turn too, leaves no connection that is waited for.
                self.keeps_connections = false;
                self.sessions.retain(|session| session.scope.is_some() || session.is_lingering);
            }
            // After the wish to end, of which workers may have heard too.
            if events.child {
                self.signals.children_seen();
                let is_worker_gone = self.reap();
                if is_worker_gone && source.is_some() {
                    // Its programs are nobody's now. Where the container ends, they do.
                    return Err(io::Error::other("a worker has died"));
                }
            }
            if !events.source.is_empty()
                && let Some(open) = &source
            {
                let mut found = Vec::new();
                match open.take(&mut found) {
                    Ok(true) => {}
                    // Who sent them all has gone, and nobody is left who wants what runs.
                    Ok(false) => {
                        source = None;
                        self.sessions.iter_mut().for_each(Session::abandon);
                        self.workers.abandon();
                    }
                    Err(_) => respite = Some(Instant::now() + RESPITE),
                }
                let deadline = Some(Instant::now() + PATIENCE);
                for socket in found {
                    if let Some(socket) = self.workers.pass(socket) {
                        self.accept(socket, deadline);
                    }
                }
            }
            if let Some(Source::Master(master)) = &source
                && self.is_worker
                && self.told != self.heard
                && self.heard.is_some_and(|patience| patience.send(master))
            {
                self.told = self.heard;
            }
            let now = Instant::now();
            if let Some(strays) =
                self.strays.as_mut().filter(|strays| strays.due().is_some_and(|due| due <= now))
            {
                let programs: Vec<_> = self.sessions.iter().filter_map(|session| session.program).collect();
                if let Some(patience) = self.workers.told() {
                    strays.hear(patience);
                }
                if let Err(left) = strays.look(&programs, &self.workers.processes()) {
                    let pids: Vec<_> = left.iter().map(|pid| pid.as_raw_nonzero().to_string()).collect();
                    return Err(io::Error::other(format!(
                        "what a request has left running cannot be ended, but with the container: processes {} in it",
                        pids.join(", ")
                    )));
                }
            }
            let mut answered = Vec::new();
            for session in &mut self.sessions {
                session.look_who_is_left(self.keeps_connections);
                answered.extend(session.answered());
                if session.deadline.is_some_and(|deadline| deadline <= now) {
                    session.expire();
                }
                session.kill_again(now);
            }
            self.sessions.append(&mut answered);
            self.sessions.retain(|session| session.scope.is_some() || session.connection.is_some());
        }
        Ok(self.last)
    }

    fn wait(&self, source: Option<&Source>, respite: Option<Instant>) -> io::Result<Events> {
        let taken = self.sessions.iter().filter(|session| !session.is_lingering).count();
        let takes = respite.is_none() && taken < self.max_concurrency;
        let interest = if takes { PollFlags::IN } else { PollFlags::empty() };
        let source = source.map_or(self.signals.children(), AsFd::as_fd);
        let fixed = [
            (self.signals.children(), PollFlags::IN),
            (self.signals.terminations(), PollFlags::IN),
            (source, interest),
        ];
        let sessions = self.sessions.iter().map(|session| session.interest(self.signals.children()));
        let mut watched: Vec<_> = fixed
            .into_iter()
            .chain(sessions)
            .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
            .collect();
        let killed = self.sessions.iter().filter_map(|session| session.killed.map(|at| at + KILLED_WITHIN));
        let deadlines = self.sessions.iter().filter_map(|session| session.deadline).chain(killed);
        let is_waited_for = self.sessions.iter().any(Session::is_waited_for);
        let look = is_waited_for.then(|| Instant::now() + LOOK_AGAIN);
        let strays = self.strays.as_ref().and_then(Strays::due);
        let timeout = deadlines.chain(respite).chain(look).chain(strays).min().map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match rustix::event::poll(&mut watched, timeout.as_ref()) {
            Ok(_) => {}
            // A signal: its own descriptor tells of it.
            Err(rustix::io::Errno::INTR) => watched.iter_mut().for_each(PollFd::clear_revents),
            Err(errno) => return Err(errno.into()),
        }
        let flags = |index: usize| watched[index].revents();
        Ok(Events {
            child: !flags(0).is_empty(),
            termination: !flags(1).is_empty(),
            source: flags(2),
            sessions: watched[3..].iter().map(PollFd::revents).collect(),
        })
    }

    fn accept(&mut self, socket: OwnedFd, deadline: Option<Instant>) {
        let connection = Some(Connection::new(socket));
        self.sessions.push(Session { connection, deadline, ..Session::default() });
        // It has come with its request, as a rule.
        self.look_at(self.sessions.len() - 1, PollFlags::IN);
    }

    fn look_at(&mut self, index: usize, flags: PollFlags) {
        let session = &mut self.sessions[index];
        let Some(connection) = session.connection.as_mut().filter(|_| !flags.is_empty()) else { return };
        if session.scope.is_some() {
            match connection.wish() {
                _ if !session.is_told => session.leave_to_itself(),
                Wish::None => {}
                Wish::Terminate => session.terminate(),
                Wish::Kill => session.abandon(),
            }
            return;
        }
        if session.is_lingering {
            if !connection.discard() {
                session.hang_up();
            }
            return;
        }
        match connection.read() {
            Ok(None) => {}
            Ok(Some(request)) => self.run(index, request),
            Err(error) => {
                let (why, is_told) = match error.raw_os_error() {
                    // Its descriptors are lost.
                    Some(libc::EMFILE) => (Some(Answer::Failed(libc::EMFILE)), true),
                    _ if error.kind() == io::ErrorKind::InvalidData => {
                        (Some(Answer::Malformed), connection.is_told())
                    }
                    _ => (None, false),
                };
                if let Some(why) = why {
                    complain(&error);
                    self.last = Some(why);
                    if is_told {
                        connection.tell(why);
                    }
                }
                session.abandon();
            }
        }
    }

    fn run(&mut self, index: usize, request: Request) {
        let session = &mut self.sessions[index];
        let Some(connection) = &session.connection else { return };
        let is_told = request.streams.is_some();
        if is_told && self.program.confirms(&request.head) && !connection.tell(Answer::Taken) {
            // Given up for lost, and with another by now.
            return session.abandon();
        }
        if let Some(patience) = is_told.then(|| Patience::of(&request.head)).flatten() {
            if let Some(strays) = &mut self.strays {
                strays.hear(patience);
            }
            self.heard = Some(patience);
        }
        let streams = match request.streams {
            Some(streams) => Ok(Streams::given(streams)),
            None => plain(connection, request.head.content_length, request.body),
        };
        match streams.and_then(|streams| self.program.start(&request.head, &streams)) {
            Ok(program) => {
                session.program = Some(program);
                session.scope = Some(Scope::of(program, self.is_alone));
                session.is_told = is_told;
                session.deadline = self.timeout.map(|timeout| Instant::now() + timeout);
            }
            Err(error) => {
                let failed = failed(&error);
                if is_told {
                    connection.tell(failed);
                }
                self.last = Some(failed);
                session.abandon();
            }
        }
    }

    /// Sees to the children that have ended: whether a worker is among them.
    fn reap(&mut self) -> bool {
        let mut is_worker_gone = false;
        while let Some((pid, end)) = children::reap() {
            // It has stopped.
            let Some(end) = end else { continue };
            if let Some(strays) = &mut self.strays {
                strays.expect();
            }
            is_worker_gone |= self.workers.has_ended(pid);
            // Others are orphans, and nobody asks how they ended.
            if let Some(session) = self.sessions.iter_mut().find(|session| session.program == Some(pid)) {
                self.last = Some(end.answer(false));
                session.ended(end, self.keeps_connections);
            }
        }
        is_worker_gone
    }
}

impl Session {
    /// What to wait for. A descriptor that is waited for anyway stands in where there is none.
    fn interest<'a>(&'a self, instead: BorrowedFd<'a>) -> (BorrowedFd<'a>, PollFlags) {
        match (&self.connection, self.scope) {
            (None, _) => (instead, PollFlags::empty()),
            (Some(connection), Some(_)) if !self.is_told => (connection.socket.as_fd(), PollFlags::RDHUP),
            (Some(connection), _) => (connection.socket.as_fd(), PollFlags::IN),
        }
    }

    /// Asks what runs to end.
    fn terminate(&mut self) {
        self.is_ending = true;
        if let Some(scope) = self.scope {
            scope.terminate();
        }
        // Which may have left its group.
        if let Some(program) = self.program {
            children::terminate(program);
        }
    }

    /// Kills what runs.
    fn kill(&mut self) {
        if let Some(scope) = self.scope {
            scope.kill();
        }
        if let Some(program) = self.program {
            children::kill(program);
            self.killed = Some(Instant::now());
        }
        // Killed, it is not to be killed again; its end is still to be seen.
        self.deadline = None;
    }

    /// Where its program has not ended although it was killed, kills all that comes from it: somebody traces it, and it waits
    /// on its way out for who does, ptrace(2), `PTRACE_O_TRACEEXIT`.
    fn kill_again(&mut self, now: Instant) {
        if let (Some(program), Some(killed)) = (self.program, self.killed)
            && killed + KILLED_WITHIN <= now
        {
            strays::kill_relatives(program);
            self.killed = Some(now);
        }
    }

    /// Lets go of the other end, and kills what runs for it.
    fn abandon(&mut self) {
        self.kill();
        self.hang_up();
    }

    /// The other end has gone, and would never have said more: what runs is asked to end, and then killed.
    fn leave_to_itself(&mut self) {
        self.terminate();
        self.deadline = Some(Instant::now() + KILL_GRACE);
        self.hang_up();
    }

    /// Its time is up. Where something runs, the other end hears of that as of any end.
    fn expire(&mut self) {
        match self.scope {
            Some(_) if self.is_ending => self.kill(),
            Some(_) => {
                self.terminate();
                self.deadline = Some(Instant::now() + KILL_GRACE);
            }
            None => self.hang_up(),
        }
    }

    /// Its program has ended. Tells how, and whether something is left.
    fn ended(&mut self, end: End, keeps_connection: bool) {
        self.program = None;
        self.killed = None;
        let left = self.scope.is_some_and(Scope::is_inhabited);
        if !left {
            self.scope = None;
        }
        match &self.connection {
            Some(connection) if self.is_told => {
                if !connection.tell(end.answer(left)) {
                    self.abandon();
                } else if !left {
                    self.done(keeps_connection);
                }
            }
            _ if left => self.deadline = self.deadline.or_else(|| Some(Instant::now() + LINGER)),
            _ => self.done(keeps_connection),
        }
    }

    /// Whether what the program has left running is to be looked for: its end tells nobody, nor does it that it has let go
    /// of the output.
    fn is_waited_for(&self) -> bool {
        self.program.is_none() && (matches!(self.scope, Some(Scope::Group(_))) || self.awaits_output())
    }

    /// Whether what is left running is an answer's end where it lets go of the output.
    fn awaits_output(&self) -> bool {
        self.scope.is_some() && !self.is_told && (self.connection.is_some() || self.ends_with_us)
    }

    /// Where nobody is told how the program has ended, the end of its output is the end of the answer: for what is left
    /// running and does not have that open, the answer does not wait. Gives the connection, which is to be closed.
    fn answered(&mut self) -> Option<Self> {
        let scope = self.scope.filter(|_| self.program.is_none() && self.awaits_output())?;
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN) {
            return None;
        }
        self.looked = Some(Instant::now());
        let has_open = match &self.connection {
            Some(connection) => scope.has_open(&connection.socket),
            None => scope.has_open(&io::stdout()),
        };
        if has_open {
            return None;
        }
        if self.ends_with_us {
            scope.kill();
            self.scope = None;
            return None;
        }
        let mut rest = Self { connection: self.connection.take(), ..Self::default() };
        rest.done(false);
        Some(rest)
    }

    /// Looks whether somebody is still left, and tells where nobody is.
    fn look_who_is_left(&mut self, keeps_connection: bool) {
        if self.program.is_none() && self.scope.is_some_and(|scope| !scope.is_inhabited()) {
            self.scope = None;
            match &self.connection {
                Some(connection) if self.is_told && !connection.tell(Answer::Over) => self.hang_up(),
                _ => self.done(keeps_connection),
            }
        }
    }

    /// Nothing runs any more, and who is told knows that.
    fn done(&mut self, keeps_connection: bool) {
        self.is_ending = false;
        match &self.connection {
            Some(_) if self.is_told && keeps_connection => self.deadline = None,
            Some(_) if self.is_told => self.hang_up(),
            // Closed while something of the body is unread, or still to come, the kernel would reset it, and the answer
            // would have no end, or be lost.
            Some(connection) => {
                _ = rustix::net::shutdown(&connection.socket, Shutdown::Write);
                self.is_lingering = true;
                self.deadline = Some(Instant::now() + LINGERING);
            }
            None => {}
        }
    }

    fn hang_up(&mut self) {
        if let Some(connection) = mem::take(&mut self.connection) {
            // Not only closed: a thread that passes a body on may wait on it, and an orphan may have it open.
            if !self.is_told {
                _ = rustix::net::shutdown(&connection.socket, Shutdown::Both);
            }
        }
    }
}

/// A connection as a program's streams. What of the body is still to come is passed on, so that the program sees its end
/// where it ends: the other side keeps the connection open.
fn plain(connection: &Connection, length: u64, mut begun: Vec<u8>) -> io::Result<Streams> {
    let stdout = connection.socket.try_clone()?;
    rustix::io::ioctl_fionbio(&stdout, false)?;
    if length == 0 {
        return Ok(Streams::of_connection(None, stdout));
    }
    let (stdin, mut to_stdin) = io::pipe()?;
    let mut from = File::from(connection.socket.try_clone()?);
    begun.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    let rest = length - begun.len() as u64;
    let passing = move || {
        // A program that reads no more has had enough.
        let passed = to_stdin.write_all(&begun).and_then(|()| pass_on(&mut from, rest, &mut to_stdin));
        if passed.is_ok_and(|is_whole| !is_whole) {
            // It is ended because of that, and until then half a body is not to look like all.
            await_reader(&to_stdin);
        }
    };
    std::thread::Builder::new().stack_size(STACK).spawn(passing)?;
    Ok(Streams::of_connection(Some(stdin.into()), stdout))
}

/// Waits until nobody has the other end of a pipe open any more.
fn await_reader(pipe: &io::PipeWriter) {
    let mut watched = [PollFd::new(pipe, PollFlags::empty())];
    while rustix::event::poll(&mut watched, None) == Err(rustix::io::Errno::INTR) {}
}

/// Passes so many bytes on: whether they have all come.
///
/// Not with [`io::copy`], which has the kernel do it by splice(2). While that waits for the socket, the pipe is locked: the
/// program could neither close it nor, killed, end.
fn pass_on(from: &mut impl Read, mut rest: u64, to: &mut impl Write) -> io::Result<bool> {
    let mut piece = [0; PIECE];
    while rest > 0 {
        let most = usize::try_from(rest).unwrap_or(PIECE).min(PIECE);
        let read = match from.read(&mut piece[..most]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok(false);
        }
        to.write_all(&piece[..read])?;
        rest -= read as u64;
    }
    Ok(true)
}

/// Why a program could not be executed.
fn failed(error: &io::Error) -> Answer {
    complain(error);
    Answer::Failed(Refusal::of(error).to_number())
}

fn complain(error: &io::Error) {
    eprintln!("dcgi agent: {error}");
}
