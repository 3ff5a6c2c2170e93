//! What programs of a shared container have left running, in whichever process group.
//!
//! A daemon leaves its group and its parent, and has come to process 1 as an orphan; so has the job of a shell that is gone, in a
//! group of its own. What still says whose it was is a limit that nobody uses, in which each program was started with a number
//! of its own, and which all that comes from it inherits ([`Tag`]). So process 1 looks, once a second after a program has ended, and always where workers have programs, for orphans whose
//! request does not run any more, and has them end as what a program leaves running in its group ends: after they have
//! lingered, first by `SIGTERM`, then by `SIGKILL`.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirEntry, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, Signal, kill_process};

use super::children::membership;
use super::program::{KILL_GRACE, LINGER};
use super::scgi::{self, Head};
use crate::sandbox::Tag;

/// How soon after a program's end, and how often, it is looked.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often in a row those of a request are killed: one that forks and goes on as its child may be another by the time
/// that it is.
const ROUNDS: usize = 50;

/// How often in a row nobody of a request has to be missed until all of it counts as ended: one that forks without end may not
/// be there whenever it is looked.
const MISSED: u32 = 3;

/// How long after that there may still be some: then nothing but the end of the container is left.
const HOPELESS: Duration = Duration::from_secs(10);

/// Orphans, and what has been done about those whose request does not run any more.
#[derive(Debug)]
pub(super) struct Strays {
    known: HashMap<Origin, Lineage>,
    /// When it is looked next. `None`: no program has ended since nothing was found.
    next: Option<Instant>,
    patience: Patience,
}

/// How long what a request leaves running may go on, and how long it may take to end when it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    linger: Duration,
    kill_grace: Duration,
}

/// How many bytes one has on its way.
const PATIENCE: usize = 16;

impl Patience {
    /// As a request has it: where one says so, it says both.
    pub(super) fn of(head: &Head) -> Option<Self> {
        let milliseconds = |name| {
            let value = scgi::value(&head.variables, name)?.to_str()?;
            Some(Duration::from_millis(value.parse().ok()?))
        };
        let (linger, kill_grace) = (milliseconds(LINGER)?, milliseconds(KILL_GRACE)?);
        Some(Self { linger, kill_grace })
    }

    /// Tells the other end of a connection: whether that has gone out.
    pub(super) fn send(self, to: &UnixStream) -> bool {
        let milliseconds =
            |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).to_le_bytes();
        let bytes = [milliseconds(self.linger), milliseconds(self.kill_grace)].concat();
        // It fits into the buffer at once, or not at all.
        rustix::net::send(to, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) == Ok(PATIENCE)
    }

    /// What has been told last, where something has.
    pub(super) fn receive(from: &UnixStream) -> Option<Self> {
        let mut last = None;
        let mut bytes = [0; PATIENCE];
        while let Ok((PATIENCE, _)) = rustix::net::recv(from, &mut bytes, RecvFlags::DONTWAIT) {
            let milliseconds = |at: usize| {
                let bytes = bytes[at..at + 8].try_into().expect("these are eight");
                Duration::from_millis(u64::from_le_bytes(bytes))
            };
            last = Some(Self { linger: milliseconds(0), kill_grace: milliseconds(8) });
        }
        last
    }
}

/// Whose an orphan is. Who is of none has come in from outside (`docker exec`), and is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Origin {
    /// That of the program that it comes from.
    Tag(Tag),
    /// The request's that it was started for, by its variables, where it has no tag.
    Request(Vec<u8>),
    /// It has done away with both, or there are no tags here: its own.
    Unknown(Pid),
}

impl Origin {
    fn of(process: Pid) -> Option<Self> {
        let limit = match Tag::of(process)? {
            Ok(tag) => return Some(Self::Tag(tag)),
            Err(limit) => limit,
        };
        if let Some(request) = request_of(process) {
            return Some(Self::Request(request));
        }
        // Who comes in from outside has this process's own, as the container has it.
        let own = Tag::of(rustix::process::getpid()).and_then(Result::err).unwrap_or(u64::MAX);
        (limit != own || !Tag::is_possible_below(own)).then_some(Self::Unknown(process))
    }
}

/// What one program has left: whoever is there of it, for a daemon may be another process each time that it is looked.
#[derive(Debug)]
struct Lineage {
    /// When somebody was first seen without a program that runs.
    since: Instant,
    /// How often in a row nobody of it was found.
    missed: u32,
    /// Who has been asked to end.
    asked: HashSet<Pid>,
    /// Who has been killed.
    killed: HashSet<Pid>,
}

impl Default for Strays {
    fn default() -> Self {
        // Until a request has said: without one nobody leaves anything.
        let (linger, kill_grace) = (Duration::from_secs(5), Duration::from_secs(2));
        let patience = Patience { linger, kill_grace };
        Self { known: HashMap::new(), next: None, patience }
    }
}

impl Strays {
    /// Hears how long what a request leaves running may take.
    pub(super) fn hear(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// A program has ended, or what came from one: somebody may have come to process 1. Likewise where workers begin.
    pub(super) fn expect(&mut self) {
        let next = Instant::now() + INTERVAL.min(self.patience.linger);
        self.next = Some(self.next.map_or(next, |due| due.min(next)));
    }

    /// When [`look`](Self::look) is to be called.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Looks, and does what is due. `programs` are those that this process has started
    /// and not seen end, `workers` those who may have started others.
    ///
    /// # Errors
    /// Who cannot be ended.
    pub(super) fn look(&mut self, programs: &[Pid], workers: &[Pid]) -> Result<(), Vec<Pid>> {
        let now = Instant::now();
        let Patience { linger, kill_grace } = self.patience;
        let pause = INTERVAL.min(linger).min(kill_grace).max(Duration::from_millis(50));
        let others: Vec<_> = workers.iter().flat_map(|worker| children_of(*worker)).collect();
        let running = || programs.iter().chain(&others);
        let find = || {
            let mut found: HashMap<Origin, Vec<Pid>> = HashMap::new();
            let children = children_of(rustix::process::getpid()).into_iter();
            for orphan in children.filter(|child| !programs.contains(child) && !workers.contains(child)) {
                // Who has ended is only to be reaped.
                let Some(membership) = membership(orphan).filter(|found| !found.has_ended) else { continue };
                match Origin::of(orphan) {
                    // It says no more than this: to whose group it has kept.
                    Some(Origin::Unknown(_))
                        if running().any(|program| program.as_raw_nonzero().get() == membership.group) => {}
                    Some(origin) => found.entry(origin).or_default().push(orphan),
                    None => {}
                }
            }
            found
        };
        let orphans = find();
        self.known.retain(|origin, lineage| {
            lineage.missed = if orphans.contains_key(origin) { 0 } else { lineage.missed + 1 };
            lineage.missed <= MISSED
        });
        // What workers' programs leave comes here too, and nobody tells of that.
        let is_expected = !workers.is_empty() || !self.known.is_empty();
        self.next = is_expected.then(|| now + INTERVAL.min(pause));
        if orphans.is_empty() {
            return Ok(());
        }
        self.next = Some(now + pause);
        let running: HashSet<_> = running().copied().filter_map(Origin::of).collect();
        for (origin, members) in orphans {
            let begun = || Lineage { since: now, missed: 0, asked: HashSet::new(), killed: HashSet::new() };
            let lineage = self.known.entry(origin.clone()).or_insert_with(begun);
            let lingered = lineage.since.elapsed();
            // What writes an answer goes on, with what writes to that.
            let is_at_work = || lingered >= linger && members.iter().any(|member| is_heard(*member, &origin));
            if running.contains(&origin) || is_at_work() {
                *lineage = begun();
                continue;
            }
            if lingered >= linger {
                for member in &members {
                    // Whoever has come since the others were asked too, as by the end of its parent.
                    if lineage.asked.insert(*member) {
                        _ = kill_process(*member, Signal::TERM);
                        _ = kill_process(*member, Signal::CONT);
                    }
                }
            }
            if lingered < linger + kill_grace {
                continue;
            }
            let before = std::mem::take(&mut lineage.killed);
            let mut left = members;
            for _ in 0..ROUNDS {
                for member in &left {
                    lineage.killed.insert(*member);
                    _ = kill_process(*member, Signal::KILL);
                }
                left = find().remove(&origin).unwrap_or_default();
                if left.is_empty() {
                    break;
                }
            }
            // What was killed a look ago, and waits for a file server that is away, would be there in the next container too.
            let is_stuck = |member: &Pid| {
                before.contains(member) && membership(*member).is_none_or(|found| found.is_stuck)
            };
            if lingered >= linger + kill_grace + HOPELESS && !left.iter().all(is_stuck) {
                return Err(left);
            }
        }
        Ok(())
    }
}

/// Kills all that comes from a program, and that itself. Where it has no tag any more, its children and theirs: who traces it
/// to hold it on its way out is one of these, unless it has become a stray.
pub(super) fn kill_relatives(program: Pid) {
    let Some(Ok(tag)) = Tag::of(program) else {
        let mut left = vec![program];
        // Each has one parent, so this ends.
        while let Some(process) = left.pop() {
            left.extend(children_of(process));
            _ = kill_process(process, Signal::KILL);
        }
        return;
    };
    for process in processes().filter(|process| Tag::of(*process).and_then(Result::ok) == Some(tag)) {
        _ = kill_process(process, Signal::KILL);
    }
}

/// Who is seen here.
fn processes() -> impl Iterator<Item = Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// Whether somebody outside of this container still reads what a process prints: then it is part of an answer. Of a pipe
/// without a reader, poll(2) says that there is an error; to be opened it needs none, other than by a name (fifo(7)).
fn is_heard(process: Pid, origin: &Origin) -> bool {
    let output = format!("/proc/{}/fd/1", process.as_raw_nonzero());
    let Ok(pipe) = fs::metadata(&output) else { return false };
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let is_read = || {
        let Ok(end) = OpenOptions::new().write(true).custom_flags(flags).open(&output) else { return false };
        let mut watched = [PollFd::new(&end, PollFlags::empty())];
        // It does not wait.
        rustix::event::poll(&mut watched, Some(&Timespec::default())).is_ok()
            && !watched[0].revents().contains(PollFlags::ERR)
    };
    pipe.file_type().is_fifo() && is_read() && !is_read_here((pipe.dev(), pipe.ino()), origin)
}

/// Whether a process of this container has the end of a pipe that is read, as the second of `a | b` has. Those of the same
/// origin that may not be looked at count as if.
fn is_read_here(pipe: (u64, u64), origin: &Origin) -> bool {
    let is_reader = |descriptor: &DirEntry| {
        let is_pipe = fs::metadata(descriptor.path()).is_ok_and(|file| (file.dev(), file.ino()) == pipe);
        is_pipe && !is_written_to(descriptor)
    };
    processes().any(|process| match fs::read_dir(format!("/proc/{}/fd", process.as_raw_nonzero())) {
        Ok(descriptors) => descriptors.flatten().any(|descriptor| is_reader(&descriptor)),
        Err(error) => {
            error.kind() == io::ErrorKind::PermissionDenied && Origin::of(process).as_ref() == Some(origin)
        }
    })
}

/// Whether a descriptor of a process, by its link in `/proc/PID/fd`, is there to be written to alone: the link's mode has no
/// bit to read then, proc_pid_fd(5).
fn is_written_to(descriptor: &DirEntry) -> bool {
    descriptor.metadata().is_ok_and(|link| link.mode() & 0o400 == 0)
}

/// The children of a process with one thread: proc_pid_task_tid_children(5).
fn children_of(process: Pid) -> Vec<Pid> {
    let pid = process.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_ascii_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)).collect()
}

/// The request that a process was started for, by what it began with.
fn request_of(process: Pid) -> Option<Vec<u8>> {
    let environment = fs::read(format!("/proc/{}/environ", process.as_raw_nonzero())).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let request = variables.find_map(|variable| variable.strip_prefix(b"REQUEST_ID="))?;
    Some(request.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(linger: &str, kill_grace: &str) -> Option<Patience> {
        let variables = vec![(LINGER.into(), linger.into()), (KILL_GRACE.into(), kill_grace.into())];
        Patience::of(&Head { content_length: 0, variables })
    }

    #[test]
    fn what_a_worker_tells_of_patience_is_heard_and_the_last_counts() {
        let (ours, workers) = UnixStream::pair().unwrap();
        assert_eq!(Patience::receive(&ours), None);
        for linger in ["1", "3600000"] {
            assert!(patience(linger, "250").unwrap().send(&workers));
        }
        let heard = Patience::receive(&ours).unwrap();
        assert_eq!((heard.linger, heard.kill_grace), (Duration::from_secs(3600), Duration::from_millis(250)));
        assert_eq!(Patience::receive(&ours), None);
        drop(workers);
        assert_eq!(Patience::receive(&ours), None);
    }

    #[test]
    fn a_request_that_does_not_say_leaves_patience_as_it_was() {
        assert_eq!(Patience::of(&Head { content_length: 0, variables: Vec::new() }), None);
        assert_eq!(patience("long", "2"), None);
    }
}
