//! A program that an agent runs, as the rest of dcgi sees it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::hand_over::outcome;
use crate::agent::Answer;
use crate::engine::streams::Streams;
use crate::engine::{EngineError, EngineErrorKind, ExitStatus, Lease, Process, Reaper};

/// How long a reaper waits for an agent that does not answer.
const REAP_PATIENCE: Duration = Duration::from_secs(10);

/// A program in a container that stays. `container` is held until it has ended; `command` is what messages call it.
/// `done` gets the connection back where it may serve again.
pub(super) fn shared<C: Send + Sync + 'static>(
    connection: UnixStream,
    streams: Streams,
    container: C,
    lease: Lease,
    command: Arc<str>,
    done: impl FnOnce(&C, UnixStream) + Send + 'static,
) -> Process {
    let progress = streams.progress;
    let (exit_sender, exit) = oneshot::channel();
    let (gone_sender, gone) = oneshot::channel::<()>();
    let hung_up = CancellationToken::new();
    let kill = hung_up.clone().drop_guard();
    tokio::spawn(async move {
        let telling = async {
            let mut outcome = std::pin::pin!(outcome(&connection));
            tokio::select! {
                biased;
                result = &mut outcome => result,
                () = hung_up.cancelled() => {
                    _ = rustix::net::shutdown(&connection, rustix::net::Shutdown::Write);
                    // One that does not even answer to that, as in a paused container, holds nobody's place for ever.
                    let patient = tokio::time::timeout(REAP_PATIENCE, outcome).await;
                    patient.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                }
            }
        };
        let result = progress.follow(telling).await;
        if let Ok(Answer::Exited(_) | Answer::Signalled(_)) = result
            && !hung_up.is_cancelled()
        {
            done(&container, connection);
        }
        _ = exit_sender.send(status(result, false, &command));
        drop((container, lease, gone_sender));
    });
    Process {
        stdin: Box::pin(streams.stdin),
        stdout: Box::pin(streams.stdout),
        stderr: Box::pin(streams.stderr),
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
