//! The end of processes, as process 1 and as a parent sees it.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use super::answer::Answer;

/// Signals that have come, to be waited for like anything else.
#[derive(Debug)]
pub(super) struct Signals {
    children: UnixStream,
    terminations: UnixStream,
}

impl Signals {
    /// # Errors
    /// Where no descriptor is left.
    pub(super) fn new() -> io::Result<Self> {
        let (children, child) = UnixStream::pair()?;
        let (terminations, terminate) = UnixStream::pair()?;
        pipe::register(SIGCHLD, child)?;
        pipe::register(SIGTERM, terminate.try_clone()?)?;
        pipe::register(SIGINT, terminate)?;
        children.set_nonblocking(true)?;
        terminations.set_nonblocking(true)?;
        Ok(Self { children, terminations })
    }

    /// Can be read when a child has ended.
    pub(super) fn children(&self) -> BorrowedFd<'_> {
        self.children.as_fd()
    }

    /// Can be read when we are to end.
    pub(super) fn terminations(&self) -> BorrowedFd<'_> {
        self.terminations.as_fd()
    }

    /// Forgets the ends of children that have been told so far.
    pub(super) fn children_seen(&self) {
        drain(&self.children);
    }

    /// Forgets the wishes to end that have come so far.
    pub(super) fn terminations_seen(&self) {
        drain(&self.terminations);
    }
}

fn drain(mut stream: &UnixStream) {
    let mut bytes = [0; 64];
    while matches!(stream.read(&mut bytes), Ok(read) if read == bytes.len()) {}
}

/// How a program ended, and with it its whole process group; `None` while it runs.
pub(super) fn ended(program: Pid) -> Option<Answer> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::Pid(program), look).ok()??;
    // Before it is reaped: until then the group's number is nobody else's.
    kill_group(program);
    let (_, status) = rustix::process::waitpid(Some(program), WaitOptions::empty()).ok()??;
    Some(answer(status))
}

/// Reaps one child, whoever it is: a program, or an orphan that came to process 1.
pub(super) fn reap() -> Option<(Pid, Answer)> {
    let (pid, status) = rustix::process::wait(WaitOptions::NOHANG).ok()??;
    Some((pid, answer(status)))
}

fn answer(status: WaitStatus) -> Answer {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Answer::Exited(code as u8),
        (None, signal) => Answer::Signalled(signal.unwrap_or_default() as u8),
    }
}

/// Kills a program that has not been reaped, and its process group, which it may have left.
pub(super) fn kill(program: Pid) {
    _ = rustix::process::kill_process(program, Signal::KILL);
    kill_group(program);
}

/// Kills what is left of a program's process group.
pub(super) fn kill_group(program: Pid) {
    _ = rustix::process::kill_process_group(program, Signal::KILL);
}

/// Asks a program's process group to end.
pub(super) fn terminate(program: Pid) {
    _ = rustix::process::kill_process_group(program, Signal::TERM);
}
