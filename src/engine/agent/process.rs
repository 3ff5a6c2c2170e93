//! A program that an agent runs, as the rest of dcgi sees it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

use super::hand_over::outcome;
use crate::agent::{Answer, TERMINATE};
use crate::engine::error::not_executed;
use crate::engine::streams::Streams;
use crate::engine::{EngineError, EngineErrorKind, ExitStatus, Lease, Process, Reaper};
use crate::sandbox::Refusal;

/// How long the programs of a container may take to be gone when its agent is.
const DEATH_THROES: Duration = Duration::from_secs(1);

/// How long after it was asked for a program has begun, where nothing else was heard.
const BEGUN: Duration = Duration::from_secs(1);

/// How long an agent may take to answer to the wish that all should be killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A container that stays.
pub(super) trait Stays: Send + Sync + 'static {
    /// Hears how a program of its ended, or that it did not begin.
    fn heard(&self, answer: &io::Result<Answer>);

    /// Hears that one has begun: it has been there for a while.
    fn runs(&self);

    /// Gets a connection back that may serve again.
    fn keep(&self, connection: UnixStream);
}

/// A program in a container that stays. `container` is held until nothing of it runs any more; `command` is what messages
/// call it. `held_for`, where it has something to read, is how long what it leaves running may be there.
pub(super) fn shared(
    connection: UnixStream,
    streams: Streams,
    container: Arc<impl Stays>,
    lease: Lease,
    command: Arc<str>,
    held_for: Option<Duration>,
) -> Process {
    let progress = streams.progress;
    if let Some(patience) = held_for {
        let unfinished = streams.unfinished;
        tokio::spawn(async move {
            // Daemons may have it open though the program has ended, and an agent that is killed with its container is gone
            // before its programs are: none is to see the end of half a body. Where nobody can, it goes at once.
            if let Ok(input) = unfinished.await {
                _ = tokio::time::timeout(patience + DEATH_THROES, input.unread()).await;
            }
        });
    }
    let (exit_sender, exit) = oneshot::channel();
    let (over_sender, over) = oneshot::channel::<()>();
    let (wishes, mut wished) = watch::channel(Wish::None);
    let kill = Kill(wishes.clone());
    tokio::spawn(async move {
        let result = {
            let mut ended = std::pin::pin!(progress.follow(heard(&connection, &mut wished)));
            tokio::select! {
                biased;
                result = &mut ended => result,
                () = tokio::time::sleep(BEGUN) => {
                    container.runs();
                    ended.await
                }
            }
        };
        container.heard(&result);
        let mut is_left = leaves_something(&result);
        let mut is_done_with = is_done_with(&result);
        _ = exit_sender.send(status(result, false, &command));
        while is_left {
            let answer = heard(&connection, &mut wished).await;
            (is_left, is_done_with) = (leaves_something(&answer), self::is_done_with(&answer));
        }
        // What is on its way would be taken for the next request's.
        if is_done_with && *wished.borrow() == Wish::None {
            container.keep(connection);
        }
        drop((container, lease, over_sender));
    });
    Process {
        stdin: Box::pin(streams.stdin),
        stdout: Box::pin(streams.stdout),
        stderr: Box::pin(streams.stderr),
        ended: None,
        exit: Box::pin(async move { exit.await.unwrap_or_else(|_| Err(lost(None))) }),
        reaper: Reaper::new(move || _ = wishes.send(Wish::Terminate), kill, async move {
            _ = over.await;
        }),
    }
}

/// What is wished of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    None,
    Terminate,
    Kill,
}

/// Dropped, it is the wish that all should be killed.
struct Kill(watch::Sender<Wish>);

impl Drop for Kill {
    fn drop(&mut self) {
        self.0.send_replace(Wish::Kill);
    }
}

/// Waits for what the agent has to tell, and tells it meanwhile what is wished.
async fn heard(connection: &UnixStream, wished: &mut watch::Receiver<Wish>) -> io::Result<Answer> {
    let mut outcome = std::pin::pin!(outcome(connection));
    loop {
        let wish = tokio::select! {
            biased;
            answer = &mut outcome => return answer,
            Ok(()) = wished.changed() => *wished.borrow_and_update(),
        };
        match wish {
            Wish::None => {}
            // It fits into any socket's buffer; an agent that takes nothing is killed later.
            Wish::Terminate => _ = connection.try_write(&[TERMINATE]),
            Wish::Kill => {
                _ = rustix::net::shutdown(connection, rustix::net::Shutdown::Write);
                // One that does not even answer to that, as in a paused container, holds nobody's place for ever.
                let patient = tokio::time::timeout(PATIENCE, outcome).await;
                return patient.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            }
        }
    }
}

/// Whether an agent will tell more.
pub(in crate::engine) fn leaves_something(answer: &io::Result<Answer>) -> bool {
    matches!(answer, Ok(Answer::Exited { left: true, .. } | Answer::Signalled { left: true, .. }))
}

/// Whether an agent is through with a request, and waits for another on its connection. That of a program which could not be
/// executed it closes: a request that was sent meanwhile would be lost.
fn is_done_with(answer: &io::Result<Answer>) -> bool {
    match answer {
        Ok(Answer::Exited { left, .. } | Answer::Signalled { left, .. }) => !left,
        Ok(Answer::Over) => true,
        Ok(Answer::Taken | Answer::Failed(_) | Answer::Malformed) | Err(_) => false,
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
        Ok(Answer::Exited { code, .. }) => Ok(ExitStatus::Exited(code)),
        Ok(Answer::Signalled { signal, .. }) => Ok(signalled(signal)),
        Ok(Answer::Failed(number)) => {
            let refusal = Refusal::from_number(number);
            Err(EngineError::new(EngineErrorKind::Refused, not_executed(command, Some(refusal)))
                .because(refusal.error()))
        }
        Err(error) if alone && error.kind() == io::ErrorKind::UnexpectedEof => Ok(signalled(SIGKILL)),
        Ok(Answer::Taken | Answer::Over | Answer::Malformed) => Err(lost(None)),
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
