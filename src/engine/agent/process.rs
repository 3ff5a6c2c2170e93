//! A program that an agent runs, as the rest of dcgi sees it.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::hand_over::outcome;
use crate::agent::Answer;
use crate::engine::streams::Streams;
use crate::engine::{EngineError, EngineErrorKind, ExitStatus, Lease, Process, Reaper};

/// How long a reaper waits for an agent that does not answer.
const REAP_PATIENCE: Duration = Duration::from_secs(10);

/// A program in a container that stays. `container` is held until it has ended; `command` is what messages call it.
pub(super) fn shared(
    connection: UnixStream,
    streams: Streams,
    container: impl Send + Sync + 'static,
    lease: Lease,
    command: Arc<str>,
) -> Process {
    let connection = Arc::new(connection);
    let ended = CancellationToken::new();
    let (exit_sender, exit) = oneshot::channel();
    let (gone_sender, gone) = oneshot::channel::<()>();
    let (control, has_ended) = (connection.clone(), ended.clone());
    let hung_up = CancellationToken::new();
    let kill = (HangUp(connection), hung_up.clone().drop_guard());
    tokio::spawn(async move {
        let patience = async {
            hung_up.cancelled().await;
            tokio::time::sleep(REAP_PATIENCE).await;
        };
        // One that does not even answer to that, as in a paused container, holds nobody's place for ever.
        let result = tokio::select! {
            result = outcome(&control) => result,
            () = patience => Err(io::ErrorKind::TimedOut.into()),
        };
        has_ended.cancel();
        _ = exit_sender.send(status(result, false, &command));
        drop((container, lease, gone_sender));
    });
    Process {
        stdin: Box::pin(streams.stdin),
        stdout: Box::pin(UntilEnd::new(streams.stdout, ended.clone())),
        stderr: Box::pin(UntilEnd::new(streams.stderr, ended)),
        exit: Box::pin(async move { exit.await.unwrap_or_else(|_| Err(lost(None))) }),
        reaper: Reaper::new(kill, async move {
            _ = tokio::time::timeout(REAP_PATIENCE, gone).await;
        }),
    }
}

/// What an agent has told as the engine's answer. `alone`: it was process 1 of a container for this one request, and
/// goes without a word only where the container was killed.
pub(in crate::engine) fn status(
    result: io::Result<Answer>,
    alone: bool,
    command: &str,
) -> Result<ExitStatus, EngineError> {
    const SIGKILL: u8 = 9;
    let signalled =
        |signal| ExitStatus::Signalled { signal, out_of_memory: (signal != SIGKILL).then_some(false) };
    match result {
        Ok(Answer::Exited(code)) => Ok(ExitStatus::Exited(code)),
        Ok(Answer::Signalled(signal)) => Ok(signalled(signal)),
        Ok(Answer::Failed(errno)) => {
            Err(EngineError::new(EngineErrorKind::Refused, format!("the program `{command}` cannot be run"))
                .because(io::Error::from_raw_os_error(errno)))
        }
        Err(error) if alone && error.kind() == io::ErrorKind::UnexpectedEof => Ok(signalled(SIGKILL)),
        Ok(Answer::Taken | Answer::Malformed) => Err(lost(None)),
        Err(error) => Err(lost(Some(error))),
    }
}

fn lost(why: Option<io::Error>) -> EngineError {
    let error = EngineError::new(EngineErrorKind::Unreachable, "the container's agent has gone");
    match why {
        Some(why) => error.because(why),
        None => error,
    }
}

/// Dropped, it hangs up: the agent kills what runs.
pub(in crate::engine) struct HangUp(pub(in crate::engine) Arc<UnixStream>);

impl Drop for HangUp {
    fn drop(&mut self) {
        // The last one closes it, and that is as good.
        if Arc::strong_count(&self.0) > 1 {
            _ = rustix::net::shutdown(self.0.as_fd(), rustix::net::Shutdown::Write);
        }
    }
}

/// A program's output, until the program has ended and the pipe is empty: who else has it open may be there for long.
struct UntilEnd {
    pipe: pipe::Receiver,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    /// How much is still read once the program has ended: whatever it has left there, and not what others go on writing.
    left: usize,
}

/// The most that a pipe of an ordinary user's holds: `/proc/sys/fs/pipe-max-size`, see pipe(7).
const PIPE: usize = 1 << 20;

impl UntilEnd {
    fn new(pipe: pipe::Receiver, ended: CancellationToken) -> Self {
        Self { pipe, ended: Box::pin(ended.cancelled_owned()), left: PIPE }
    }
}

impl AsyncRead for UntilEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Before the pipe: what the program has written is in it when its end is told.
        let has_ended = self.ended.as_mut().poll(cx).is_ready();
        if has_ended && self.left == 0 {
            return Poll::Ready(Ok(()));
        }
        let filled = buffer.filled().len();
        let answer = match Pin::new(&mut self.pipe).poll_read(cx, buffer) {
            // Past the runtime, which may not have heard of the last of it yet.
            Poll::Pending if has_ended => {
                match rustix::io::read(self.pipe.as_fd(), buffer.initialize_unfilled()) {
                    Ok(read) => {
                        buffer.advance(read);
                        Poll::Ready(Ok(()))
                    }
                    Err(rustix::io::Errno::AGAIN) => Poll::Ready(Ok(())),
                    Err(errno) => Poll::Ready(Err(errno.into())),
                }
            }
            answer => answer,
        };
        if has_ended {
            self.left = self.left.saturating_sub(buffer.filled().len() - filled);
        }
        answer
    }
}
