//! The end of processes, as process 1 and as a parent sees it.

use std::fs::{self, DirEntry};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
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

/// Reaps one child, whoever it is: a program, or an orphan that came to process 1. `None`: none has ended. One without an
/// end has stopped: asked for or not, wait(2) tells of that where a process is traced.
pub(super) fn reap() -> Option<(Pid, Option<End>)> {
    let (pid, status) = rustix::process::wait(WaitOptions::NOHANG).ok()??;
    Some((pid, End::of(status)))
}

/// Whether this process has no child at all, neither one that runs nor one to be reaped. For process 1: whether nobody else
/// is there.
pub(super) fn has_none() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(rustix::process::waitid(WaitId::All, look), Err(Errno::CHILD))
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Exited(u8),
    Signalled(u8),
}

impl End {
    fn of(status: WaitStatus) -> Option<Self> {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(Self::Exited(code as u8)),
            (None, signal) => signal.map(|signal| Self::Signalled(signal as u8)),
        }
    }

    /// It as it is told.
    pub(super) fn answer(self, left: bool) -> Answer {
        match self {
            Self::Exited(code) => Answer::Exited { code, left },
            Self::Signalled(signal) => Answer::Signalled { signal, left },
        }
    }
}

/// What runs for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everybody in the container but process 1, which we are: it is there for this request alone.
    Container,
    /// A program's process group, by the program's own number.
    Group(Pid),
}

impl Scope {
    /// That of a program. `is_alone`: nobody else is in this container.
    pub(super) fn of(program: Pid, is_alone: bool) -> Self {
        if is_alone { Self::Container } else { Self::Group(program) }
    }

    /// Whether somebody is in it. Who was a program and has not been reaped counts.
    pub(super) fn is_inhabited(self) -> bool {
        match self {
            Self::Container => !has_none(),
            // While there is one in it, the group's number is nobody else's.
            Self::Group(group) => rustix::process::test_kill_process_group(group) != Err(Errno::SRCH),
        }
    }

    /// Whether somebody in it has the same file open as we have by this descriptor. Who may not be looked at has not.
    pub(super) fn has_open(self, file: &impl AsFd) -> bool {
        let Ok(file) = rustix::fs::fstat(file) else { return false };
        let is_in = |pid: Pid| match self {
            Self::Container => pid != Pid::INIT,
            Self::Group(group) => {
                membership(pid).is_some_and(|own| own.group == group.as_raw_nonzero().get())
            }
        };
        let is_same = |entry: DirEntry| {
            fs::metadata(entry.path())
                .is_ok_and(|found| (found.dev(), found.ino()) == (file.st_dev, file.st_ino))
        };
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut numbers =
            processes.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        numbers.any(|pid| {
            let descriptors = || fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()));
            is_in(pid) && descriptors().into_iter().flatten().flatten().any(is_same)
        })
    }

    /// Asks all in it to end. Who is stopped hears that when he goes on.
    pub(super) fn terminate(self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    /// Kills all in it.
    pub(super) fn kill(self) {
        self.signal(Signal::KILL);
    }

    fn signal(self, signal: Signal) {
        _ = match self {
            // As kill(2) has it for -1: all that may be signalled, but process 1 and the caller.
            Self::Container => rustix::process::kill_process_group(Pid::INIT, signal),
            Self::Group(group) => rustix::process::kill_process_group(group, signal),
        };
    }
}

/// Which group a process is in. 0 is one that nobody here leads: of who has come in from outside (`docker exec`),
/// or the kernel's. The calls that ask for them cannot give that here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) group: i32,
    /// Whether it has ended and was not waited for.
    pub(super) has_ended: bool,
    /// Whether it waits for a device or a file system, and takes no signal until that has answered.
    pub(super) is_stuck: bool,
}

/// A process's, by proc_pid_stat(5).
pub(super) fn membership(process: Pid) -> Option<Membership> {
    membership_of(&fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?)
}

fn membership_of(stat: &str) -> Option<Membership> {
    // The name before may hold anything, a parenthesis too.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // The third of proc_pid_stat(5) is the first here.
    let field = |number: usize| fields.get(number - 3).copied();
    // Its first thread may have ended while others go on.
    let has_one_thread = field(20).is_none_or(|threads| matches!(threads, "0" | "1"));
    let state = field(3)?;
    Some(Membership {
        group: field(5)?.parse().ok()?,
        has_ended: matches!(state, "Z" | "X") && has_one_thread,
        is_stuck: state == "D",
    })
}

/// Asks a program that has not been reaped to end.
pub(super) fn terminate(program: Pid) {
    _ = rustix::process::kill_process(program, Signal::TERM);
    _ = rustix::process::kill_process(program, Signal::CONT);
}

/// Kills a program that has not been reaped.
pub(super) fn kill(program: Pid) {
    _ = rustix::process::kill_process(program, Signal::KILL);
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn who_leads_a_group_is_told_whatever_a_process_is_called() {
        let of = |group, has_ended| Some(Membership { group, has_ended, is_stuck: false });
        assert_eq!(membership_of("7 (a) b (c) S 1 5 3 0 -1 0"), of(5, false));
        assert_eq!(membership_of("7 (a) Z 1 5 3 0 -1 0"), of(5, true));
        // Of three threads the first has ended.
        let threads = |count| format!("7 (a) Z 1 5 3 0 -1 4194304 9 9 9 9 9 9 9 9 20 0 {count} 0 9");
        assert_eq!(membership_of(&threads(3)), of(5, false));
        assert_eq!(membership_of(&threads(1)), of(5, true));
        // Nobody here: it has come in from outside.
        assert_eq!(membership_of("7 (sh) S 0 0 0 0 -1 0"), of(0, false));
    }

    #[test]
    fn the_leader_of_a_session_is_in_its_own_group() {
        // Not this process: whoever leads its session may be outside of its PID namespace, as in a container.
        let mut leader = Command::new("setsid");
        let mut leader = leader.arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = leader.stdin.take().unwrap();
        input.write_all(b"!").unwrap();
        leader.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let own = leader.id().try_into().unwrap();
        let seen = membership(Pid::from_raw(own).unwrap());
        drop(input);
        leader.wait().unwrap();
        assert_eq!(seen, Some(Membership { group: own, has_ended: false, is_stuck: false }));
    }
}
