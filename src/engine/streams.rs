//! The pipes between dcgi and a program that was given their other ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use tokio::io::AsyncWrite;
use tokio::net::unix::pipe;

use super::input::{Input, Unfinished};
use super::output::{Output, Progress};

/// How often it is looked whether somebody still has a program's input open that was not finished.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Our ends of a program's streams.
pub(super) struct Streams {
    pub(super) stdin: Input<Stdin>,
    /// Where `stdin` goes if it is not finished: to be held until the program has ended.
    pub(super) unfinished: Unfinished<Stdin>,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    /// Who starts the program says here how far it has come.
    pub(super) progress: Arc<Progress>,
}

/// Makes pipes: our ends, and the program's standard input, output and error. `owner` is who the program is to the
/// kernel, where that is not us: `/dev/stdout` is opened by name, and so by owner and mode.
///
/// # Errors
/// Where no descriptor is left.
pub(super) fn pipes(owner: Option<(u32, u32)>) -> io::Result<(Streams, [OwnedFd; 3])> {
    let (stdin, our_stdin) = io::pipe()?;
    let stdin = owned_by(stdin.into(), owner)?;
    let (streams, [stdout, stderr]) = output_pipes(owner)?;
    let (our_stdin, unfinished) = Input::new(Stdin::Unused(our_stdin.into()));
    Ok((Streams { stdin: our_stdin, unfinished, ..streams }, [stdin, stdout, stderr]))
}

/// The same for a program that has nothing to read: its standard output and error.
///
/// # Errors
/// Where no descriptor is left.
pub(super) fn output_pipes(owner: Option<(u32, u32)>) -> io::Result<(Streams, [OwnedFd; 2])> {
    let (our_stdout, stdout) = io::pipe()?;
    let (our_stderr, stderr) = io::pipe()?;
    let theirs = [owned_by(stdout.into(), owner)?, owned_by(stderr.into(), owner)?];
    let (stdout, stderr, progress) = Output::both(our_stdout.into(), our_stderr.into())?;
    let (stdin, unfinished) = Input::new(Stdin::Closed);
    Ok((Streams { stdin, unfinished, stdout, stderr, progress }, theirs))
}

fn owned_by(stream: OwnedFd, owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    if let Some((uid, gid)) = owner {
        match rustix::fs::fchown(&stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
            // Who is not root gives nothing away. A pipe has no name but in `/proc`, below those who have it open.
            Err(Errno::PERM) => rustix::fs::fchmod(&stream, Mode::from_raw_mode(0o666))?,
            result => result?,
        }
    }
    Ok(stream)
}

/// A program's standard input. Shut down, it is closed: a pipe has no other way to end.
#[derive(Debug)]
pub(super) enum Stdin {
    /// Nobody has written yet. Most requests have no body, and then the runtime need not hear of it.
    Unused(OwnedFd),
    Open(pipe::Sender),
    Closed,
}

impl Stdin {
    fn pipe(&mut self) -> io::Result<&mut pipe::Sender> {
        if let Self::Unused(_) = self
            && let Self::Unused(end) = std::mem::replace(self, Self::Closed)
        {
            rustix::io::ioctl_fionbio(&end, true)?;
            *self = Self::Open(pipe::Sender::from_owned_fd_unchecked(end)?);
        }
        match self {
            Self::Open(pipe) => Ok(pipe),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Stdin {
    /// Waits until nobody has the other end open any more.
    pub(super) async fn unread(&self) {
        let end = match self {
            Self::Unused(end) => end.as_fd(),
            Self::Open(pipe) => pipe.as_fd(),
            Self::Closed => return,
        };
        // A pipe that nobody has open to read is in error: poll(2). It is asked for now and then: most have been let go of
        // by then, and having the runtime watch each would cost them all.
        let is_read = || {
            poll(&mut [PollFd::from_borrowed_fd(end, PollFlags::empty())], Some(&Timespec::default()))
                != Ok(1)
        };
        while is_read() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

impl AsyncWrite for Stdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.pipe()?).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is written to a pipe is there.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        *self = Self::Closed;
        Poll::Ready(Ok(()))
    }
}
