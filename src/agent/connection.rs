//! A connection that brings a request at a time, and what is known of it so far.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recv, recvmsg};

use super::answer::Answer;
use super::scgi::{Head, LONGEST_HEAD};

/// How much is read at once: most heads whole.
pub(super) const PIECE: usize = 16 << 10;

/// What `recvmsg` found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// So many bytes.
    Bytes(usize),
    /// The other end sends no more.
    End,
    /// Nothing now.
    Nothing,
}

/// How many descriptors are received at once: one more than a request brings.
const DESCRIPTORS: usize = 4;

/// Receives bytes behind those that are there, and the descriptors that come with them. They are close-on-exec.
///
/// # Errors
/// Where the connection is broken. `EMFILE` where no descriptor is left for those that came: they are lost.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let filled = bytes.len();
    bytes.resize(filled + PIECE, 0);
    let mut parts = [io::IoSliceMut::new(&mut bytes[filled..])];
    let result = loop {
        match recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result,
        }
    };
    let (read, is_cut) = match result {
        Ok(message) => (message.bytes, message.flags.contains(ReturnFlags::CTRUNC)),
        Err(rustix::io::Errno::AGAIN) => {
            bytes.truncate(filled);
            return Ok(Received::Nothing);
        }
        Err(errno) => {
            bytes.truncate(filled);
            return Err(errno.into());
        }
    };
    bytes.truncate(filled + read);
    let known = descriptors.len();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    // The kernel calls it no error. Taken for a request that brought none, its program would write to the connection.
    if is_cut && descriptors.len() - known < DESCRIPTORS {
        return Err(rustix::io::Errno::MFILE.into());
    }
    Ok(if read == 0 { Received::End } else { Received::Bytes(read) })
}

/// What comes over a request's connection once its program runs: all that runs for it is to be asked to end.
pub(crate) const TERMINATE: u8 = b'T';

/// What the other end of a connection wishes of a program that runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    None,
    Terminate,
    /// It has gone.
    Kill,
}

/// A connection whose request has not come wholly yet.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    /// Whether descriptors have come: whoever sent them wants to be told how it goes.
    is_told: bool,
}

/// A program's streams, as they come along.
#[derive(Debug)]
pub(super) struct Rights {
    /// `None`: there is nothing to read.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// A request that is whole.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) head: Head,
    /// Standard input, output and error, or the last two of them, where they came with it.
    pub(super) streams: Option<Rights>,
    /// What of the body has come already.
    pub(super) body: Vec<u8>,
}

impl Rights {
    fn last_of(descriptors: &mut Vec<OwnedFd>) -> Option<Self> {
        let (stderr, stdout) = (descriptors.pop()?, descriptors.pop()?);
        Some(Self { stdin: descriptors.pop(), stdout, stderr })
    }
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, bytes: Vec::new(), descriptors: Vec::new(), is_told: false }
    }

    /// Reads what has come. `None`: the request is not whole yet.
    ///
    /// # Errors
    /// Where it is malformed, or there will be no more of it: then [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
    pub(super) fn read(&mut self) -> io::Result<Option<Request>> {
        loop {
            match receive(self.socket.as_fd(), &mut self.bytes, &mut self.descriptors)? {
                Received::Bytes(_) => {}
                Received::Nothing => return Ok(None),
                Received::End => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
            if self.is_told {
                // The wish that the last one's end has overtaken. No request begins so.
                let wishes = self.bytes.iter().take_while(|byte| **byte == TERMINATE).count();
                self.bytes.drain(..wishes);
            }
            self.is_told |= !self.descriptors.is_empty();
            // Whoever sends more is not worth the memory.
            if self.descriptors.len() > 3 {
                return Err(invalid("more than three descriptors"));
            }
            match Head::read(&self.bytes) {
                Ok(Some((head, taken))) => {
                    let streams = match self.descriptors.len() {
                        0 => None,
                        1 => return Err(invalid("one descriptor alone")),
                        _ => Rights::last_of(&mut self.descriptors),
                    };
                    let mut body = std::mem::take(&mut self.bytes);
                    body.drain(..taken);
                    return Ok(Some(Request { head, streams, body }));
                }
                Ok(None) => debug_assert!(self.bytes.len() <= LONGEST_HEAD + PIECE),
                Err(malformed) => return Err(invalid(malformed)),
            }
        }
    }

    /// Whether answers mean anything at the other end. Before the request is whole, it may not be known yet.
    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }

    /// What the other end wishes by now.
    pub(super) fn wish(&self) -> Wish {
        let mut bytes = [0; 16];
        match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((read @ 1.., _)) if bytes.iter().take(read).any(|byte| *byte == TERMINATE) => Wish::Terminate,
            Ok((1.., _)) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Wish::None,
            Ok((0, _)) | Err(_) => Wish::Kill,
        }
    }

    /// Reads on, for nobody: false where nothing more will come.
    pub(super) fn discard(&self) -> bool {
        let result = recv(&self.socket, &mut [0; PIECE], RecvFlags::DONTWAIT);
        matches!(result, Ok((1.., _)) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR))
    }

    /// Tells something: false where nobody hears it any more.
    pub(super) fn tell(&self, answer: Answer) -> bool {
        // It fits into any socket's buffer.
        rustix::net::send(&self.socket, &answer.to_bytes(), rustix::net::SendFlags::NOSIGNAL).is_ok()
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
