//! The launcher: from a prepared description to a program that runs in a container.
//!
//! Three kinds of processes, each forked from the one before, none of which ever executes anything but the program
//! itself:
//!
//! ```text
//! dcgi ─ zygote ─┬─ slot ─ init ─ program        slot: a route's cgroups, network namespace and mounts
//!                └─ slot ─ init (waits)          init: process 1 of a sandbox, one request's
//! ```
//!
//! dcgi holds a socket to each of them: to the zygote to ask for a slot, to a slot to ask for a sandbox, to a sandbox to
//! hand it a request and to hear how it ended. Where dcgi is gone, by whatever signal, each of them reads the end of its
//! socket and goes too.
//!
//! # Why forks of a fork
//! A fork costs what the parent's memory costs, and a copy of dcgi at work holds what other requests have sent. The
//! zygote is a copy of dcgi as it was at the start, with one thread; and a slot's sandboxes share its memory until they
//! execute a program. Everything is decided, and every string and filter
//! made, before a process is forked; what runs in a child goes through lists ([`step`]), makes raw system calls
//! ([`sys`]), and neither allocates nor takes a lock.
//!
//! # Security
//! `unsafe` is in [`sys`]; in [`slot`], [`sandbox`] and [`spawn`], where children share memory and a program is executed;
//! and in [`zygote`], where dcgi's own command line is blanked. It is nowhere else in the crate.
#![allow(unsafe_code)]

mod failure;
mod refusal;
mod sandbox;
mod slot;
mod spawn;
mod step;
mod sys;
mod telltale;
mod template;
mod traces;
mod wire;
mod zygote;

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

pub(crate) use failure::Failure;
pub(crate) use refusal::{Obstacle, Refusal};
pub(crate) use spawn::{Execution, Spawner, Tag};
pub(crate) use step::Identity;
pub(super) use step::{Steps, TooManyTrees, Tree, attribute, c_string};
pub(crate) use template::Template;

use sys::{DESCRIPTORS, Errno, Fork};
use wire::{RECORD, Record, parse, record};

/// How many bytes a message from the launcher has.
pub(crate) const MESSAGE: usize = RECORD;

/// What a slot or a sandbox says.
#[derive(Debug)]
pub(crate) enum Message {
    /// A sandbox waits for its request.
    Ready,
    /// A slot has nothing left of its sandbox.
    Gone { clean: bool },
    /// A sandbox's program has ended by itself.
    Exited(u8),
    /// A sandbox's program was ended by a signal.
    Signalled(u8),
    /// It cannot go on.
    Failed(Failure),
}

impl Message {
    /// Whether it is [`Message::Ready`].
    pub(crate) fn is_ready(bytes: &[u8; MESSAGE]) -> bool {
        matches!(parse(bytes), (wire::READY, _))
    }

    /// Reads what came from a socket. The template is for the words of a failure.
    pub(crate) fn read(bytes: &[u8; MESSAGE], template: &Template) -> Self {
        match parse(bytes) {
            (wire::READY, _) => Self::Ready,
            (wire::GONE, [clean, ..]) => Self::Gone { clean: clean != 0 },
            (wire::EXITED, [code, ..]) => Self::Exited(code as u8),
            (wire::SIGNALLED, [signal, ..]) => Self::Signalled(signal as u8),
            (_, numbers) => Self::Failed(Failure::from_numbers(numbers, Some(template))),
        }
    }
}

/// A template as the launcher takes it.
#[derive(Debug)]
pub(crate) struct Sealed {
    file: OwnedFd,
    size: u32,
}

impl Sealed {
    /// # Errors
    /// Where no descriptor or no memory is left.
    pub(crate) fn new(template: &Template) -> io::Result<Self> {
        let (file, size) = template.sealed()?;
        let size = size.try_into().map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        Ok(Self { file, size })
    }
}

/// The zygote, from outside. Dropped, it ends, and all slots and sandboxes with it.
#[derive(Debug)]
pub(crate) struct Zygote {
    /// Its end is the zygote's end.
    socket: Option<UnixStream>,
    pid: i32,
}

impl Zygote {
    /// Forks a zygote, which goes through these steps first.
    ///
    /// # Errors
    /// Where it cannot fork, or one of the steps fails: then with the step's name.
    pub(crate) fn start(preparation: &Steps) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let socket = theirs.as_raw_fd();
        let preparing =
            zygote::Preparation { steps: &preparation.encoded.0, inheritance: zygote::inheritance()? };
        let pid = match sys::fork_silently() {
            Ok(Fork::Child) => zygote::live(socket, &preparing),
            Ok(Fork::Parent(pid)) => pid,
            Err(Errno(errno)) => return Err(io::Error::from_raw_os_error(errno)),
        };
        drop(theirs);
        let mut zygote = Self { socket: Some(ours), pid };
        let mut answer = [0; MESSAGE];
        let socket = zygote.socket.as_mut().expect("it was just put there");
        socket.read_exact(&mut answer)?;
        match parse(&answer) {
            (wire::READY, _) => Ok(zygote),
            (_, [_, index, errno]) => {
                let error = io::Error::from_raw_os_error(errno as i32);
                Err(io::Error::new(error.kind(), format!("{}: {error}", preparation.name(index))))
            }
        }
    }

    /// Asks for a slot, which joins the cgroups whose `cgroup.procs` are given. What becomes of it is heard on its socket, which this gives.
    ///
    /// # Errors
    /// Where the zygote is gone, or descriptors have run out.
    pub(crate) fn slot(&self, template: &Sealed, doors: &[File]) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let zygote = self.socket.as_ref().expect("it is there until the drop");
        let mut descriptors = vec![template.file.as_fd(), theirs.as_fd()];
        descriptors.extend(doors.iter().map(AsFd::as_fd));
        send(zygote.as_fd(), &record(wire::SLOT, [template.size, 0, 0]), &descriptors)?;
        Ok(ours)
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        drop(self.socket.take());
        // It has nothing else to do, so this is soon.
        _ = sys::wait(self.pid, libc::__WALL);
    }
}

/// Receives the sockets that listen in a new slot's network namespace, as many as its plan has. Blocks until they are there.
///
/// # Errors
/// Where the slot is gone, or does not come to it: then, within, with what it says.
pub(crate) fn listening(
    slot: &UnixStream,
    template: &Template,
    count: usize,
) -> io::Result<Result<Vec<OwnedFd>, Failure>> {
    let mut sockets = Vec::with_capacity(count);
    while sockets.len() < count {
        let mut message = [0; MESSAGE];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
        let received = match recvmsg(slot, &mut [IoSliceMut::new(&mut message)], &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            received => received?,
        };
        let descriptor = ancillary.drain().find_map(|ancillary| match ancillary {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        match (received.bytes, parse(&message), descriptor) {
            (MESSAGE, (wire::LISTENING, _), Some(descriptor)) => sockets.push(descriptor),
            (MESSAGE, (wire::FAILED, numbers), _) => {
                return Ok(Err(Failure::from_numbers(numbers, Some(template))));
            }
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    Ok(Ok(sockets))
}

/// Asks a slot for a sandbox. Gives the socket to the sandbox.
///
/// # Errors
/// Where the slot is gone, or descriptors have run out.
pub(crate) fn make_sandbox(slot: BorrowedFd<'_>, host_name: &[u8; 12]) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut message: Record = record(wire::MAKE, [0; 3]);
    message[4..].copy_from_slice(host_name);
    send(slot, &message, &[theirs.as_fd()])?;
    Ok(ours)
}

/// A program's beginning: its directory, its command line, its environment.
#[derive(Debug)]
pub(crate) struct Run {
    head: Record,
    strings: Vec<u8>,
}

impl Run {
    /// `candidates` are the paths at which the program may be: the first that can be executed is.
    ///
    /// A string ends at its first NUL, as every string of the kernel's does.
    pub(crate) fn new<'a>(
        directory: &[u8],
        candidates: impl IntoIterator<Item = Vec<u8>>,
        arguments: impl IntoIterator<Item = &'a [u8]>,
        environment: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Self {
        let mut strings = Vec::with_capacity(2048);
        let mut push = |parts: &[&[u8]]| {
            for part in parts {
                let end = part.iter().position(|byte| *byte == 0).unwrap_or(part.len());
                strings.extend_from_slice(&part[..end]);
            }
            strings.push(0);
        };
        push(&[directory]);
        let mut counts = (0, 0);
        for candidate in candidates {
            push(&[&candidate]);
            counts.0 += 1;
        }
        for argument in arguments {
            push(&[argument]);
            counts.1 += 1;
        }
        for (name, value) in environment {
            push(&[name, b"=", value]);
        }
        Self { head: record(wire::RUN, [strings.len() as u32, counts.0, counts.1]), strings }
    }

    /// Sends as much as fits to a sandbox, with the program's three streams, and gives the rest.
    ///
    /// # Errors
    /// Where the sandbox is gone.
    pub(crate) fn send(&self, sandbox: BorrowedFd<'_>, streams: [BorrowedFd<'_>; 3]) -> io::Result<&[u8]> {
        let sent = send_parts(sandbox, &[IoSlice::new(&self.head), IoSlice::new(&self.strings)], &streams)?;
        Ok(self.strings.get(sent.saturating_sub(RECORD)..).unwrap_or_default())
    }
}

fn send(socket: BorrowedFd<'_>, message: &Record, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_parts(socket, &[IoSlice::new(message)], descriptors).map(drop)
}

fn send_parts(
    socket: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    Ok(sendmsg(socket, parts, &mut ancillary, SendFlags::NOSIGNAL)?)
}
