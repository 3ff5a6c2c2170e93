//! The pipes between dcgi and a program that was given their other ends.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::process::{Gid, Uid};
use tokio::io::AsyncWrite;
use tokio::net::unix::pipe;

/// Our ends of a program's streams.
pub(super) struct Streams {
    pub(super) stdin: Stdin,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
}

/// Makes pipes: our ends, and the program's standard input, output and error. `owner` is who the program is to the
/// kernel, where that is not us: `/dev/stdout` is opened by name, and so by owner and mode.
///
/// # Errors
/// Where no descriptor is left.
pub(super) fn pipes(owner: Option<(u32, u32)>) -> io::Result<(Streams, [OwnedFd; 3])> {
    let (stdin, our_stdin) = io::pipe()?;
    let (our_stdout, stdout) = io::pipe()?;
    let (our_stderr, stderr) = io::pipe()?;
    let theirs: [OwnedFd; 3] = [stdin.into(), stdout.into(), stderr.into()];
    if let Some((uid, gid)) = owner {
        for stream in &theirs {
            rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
    }
    let streams = Streams {
        stdin: Stdin(Some(pipe::Sender::from_owned_fd(our_stdin.into())?)),
        stdout: pipe::Receiver::from_owned_fd(our_stdout.into())?,
        stderr: pipe::Receiver::from_owned_fd(our_stderr.into())?,
    };
    Ok((streams, theirs))
}

/// A program's standard input. Shut down, it is closed: a pipe has no other way to end.
pub(super) struct Stdin(Option<pipe::Sender>);

impl AsyncWrite for Stdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Some(pipe) => Pin::new(pipe).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Some(pipe) => Pin::new(pipe).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(pipe) = &mut self.0 {
            ready!(Pin::new(pipe).poll_shutdown(cx))?;
        }
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}
