//! Further agents in the same container, so that one starts programs while another waits.
//!
//! Until a program that it starts has been executed, an agent stands still (vfork(2)), and the processor that it ran on may
//! have nothing else to do. So an agent that may use several processors has workers: itself, executed again, each with a
//! connection over which it gets requests' connections, as the agent does from dcgi. What their programs orphan comes to
//! process 1 as ever.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal};

use super::source::REQUEST;
use super::strays::Patience;

/// Agents that this one has started.
#[derive(Debug, Default)]
pub(super) struct Workers {
    running: Vec<Worker>,
    turn: usize,
}

#[derive(Debug)]
struct Worker {
    process: Pid,
    /// Requests' connections go over it, and its end is the worker's.
    link: UnixStream,
}

impl Workers {
    /// Starts one more by a command that listens on its standard input.
    ///
    /// # Errors
    /// Where it cannot be executed, or no descriptor or process is left.
    pub(super) fn start(&mut self, mut command: Command) -> io::Result<()> {
        let (link, theirs) = UnixStream::pair()?;
        link.set_nonblocking(true)?;
        let child = command.stdin(OwnedFd::from(theirs)).spawn()?;
        self.running.push(Worker { process: Pid::from_child(&child), link });
        Ok(())
    }

    /// Their process ids.
    pub(super) fn processes(&self) -> Vec<Pid> {
        self.running.iter().map(|worker| worker.process).collect()
    }

    /// What one of them has heard last of how long what is left running may take.
    pub(super) fn told(&self) -> Option<Patience> {
        self.running.iter().filter_map(|worker| Patience::receive(&worker.link)).next_back()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Gives a connection to the one whose turn it is, and back where it is the agent's own.
    pub(super) fn pass(&mut self, connection: OwnedFd) -> Option<OwnedFd> {
        self.turn = (self.turn + 1) % (self.running.len() + 1);
        let Some(worker) = self.running.get(self.turn) else { return Some(connection) };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [connection.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let sent = sendmsg(&worker.link, &[IoSlice::new(&[REQUEST])], &mut ancillary, SendFlags::NOSIGNAL);
        // One that does not take it now is as good as busy.
        sent.is_err().then_some(connection)
    }

    /// Forgets one that has ended: whether it was one.
    pub(super) fn has_ended(&mut self, process: Pid) -> bool {
        let before = self.running.len();
        self.running.retain(|worker| worker.process != process);
        self.running.len() < before
    }

    /// Has them take nothing more. What runs may finish.
    pub(super) fn terminate(&self) {
        for worker in &self.running {
            _ = rustix::process::kill_process(worker.process, Signal::TERM);
        }
    }

    /// Has them end, and kill what runs.
    pub(super) fn abandon(&self) {
        for worker in &self.running {
            _ = worker.link.shutdown(Shutdown::Both);
        }
    }
}
