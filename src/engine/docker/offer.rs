//! A request on its way to a container that waits.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use bollard::container::AttachContainerResults;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::Shared;
use super::agent::{Inhabited, Removal, Way};
use super::container::{self, was_out_of_memory};
use super::warm::Turn;
use crate::agent::Answer;
use crate::engine::agent::{HandOver, HangUp, Refusal, head, outcome, status};
use crate::engine::streams::{Streams, pipes};
use crate::engine::{EngineError, EngineErrorKind, ExitStatus, Invocation, Process, Reaper};

/// How long an agent may take to say that it has a request. It takes half a millisecond; a paused one never says so.
const CONFIRMATION: Duration = Duration::from_secs(1);

/// How long a program runs before the next container is started in its stead.
const HEAD_START: Duration = Duration::from_millis(100);

/// How long a reaper waits for a removal that does not succeed.
const REAP_PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of a request that is offered to an agent.
pub(super) enum Offer {
    Taken(Box<Process>),
    /// It has run nothing, and never will.
    Declined(String),
}

/// Offers a request to a container. It belongs to that request from here on, or goes.
///
/// # Errors
/// Where dcgi itself has run out of something, or nobody can say whether the program has run.
pub(super) async fn offer(
    engine: &Arc<Shared>,
    inhabited: Inhabited,
    invocation: &Invocation,
    turn: &Arc<Turn>,
) -> Result<Offer, EngineError> {
    let Inhabited { way, name, removal } = inhabited;
    match way {
        Way::Attached(attached) => {
            Ok(by_attachment(engine, attached, &name, removal, invocation, turn).await)
        }
        Way::Dialled { connection, owner } => {
            let (streams, theirs) =
                pipes(owner).map_err(|error| failed("making the program's streams").because(error))?;
            let head = head(invocation, true);
            match confirmed(&connection, &HandOver { head: &head, streams: &theirs }).await? {
                Ok(()) => {
                    drop(theirs);
                    let process = attend(engine, connection, streams, name, removal, turn);
                    Ok(Offer::Taken(Box::new(process)))
                }
                Err(why) => Ok(Offer::Declined(why)),
            }
        }
    }
}

/// Hands a request over and waits until the agent has said that it has it; or why it has not.
async fn confirmed(
    connection: &UnixStream,
    hand_over: &HandOver<'_>,
) -> Result<Result<(), String>, EngineError> {
    let exchange = async {
        match hand_over.on(connection).await {
            Ok(()) => Ok(taken(outcome(connection).await)),
            Err(Refusal::Untouched(error)) => Ok(Err(error.to_string())),
            Err(Refusal::Exhausted(error)) => Err(failed("handing over the request").because(error)),
        }
    };
    if let Ok(result) = tokio::time::timeout(CONFIRMATION, exchange).await {
        return result;
    }
    // From here on its confirmation does not arrive, and then it runs nothing. One that was on its way is still read.
    _ = rustix::net::shutdown(connection.as_fd(), rustix::net::Shutdown::Read);
    match taken(outcome(connection).await) {
        Ok(()) => Err(failed("the container has taken the request, and said so too late to be heard")),
        Err(_) => Ok(Err("it does not answer: is it paused?".to_owned())),
    }
}

fn taken(answer: io::Result<Answer>) -> Result<(), String> {
    match answer {
        Ok(Answer::Taken) => Ok(()),
        // Before the confirmation nothing runs.
        Ok(other) => Err(format!("its agent says {other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Sees a program in its container to its end.
fn attend(
    engine: &Arc<Shared>,
    connection: Arc<UnixStream>,
    streams: Streams,
    name: String,
    mut removal: Removal,
    turn: &Arc<Turn>,
) -> Process {
    let gone = removal.gone();
    let (exit_sender, exit) = oneshot::channel();
    let (engine, control, turn) = (engine.clone(), connection.clone(), turn.clone());
    tokio::spawn(async move {
        let mut ended = std::pin::pin!(outcome(&control));
        let answer = tokio::select! {
            answer = &mut ended => answer,
            () = tokio::time::sleep(HEAD_START) => {
                turn.refill();
                ended.await
            }
        };
        let status = match status(answer, true, &turn.command()) {
            Ok(ExitStatus::Signalled { signal, out_of_memory: None }) => {
                let out_of_memory = was_out_of_memory(&engine, &name).await.then_some(true);
                Ok(ExitStatus::Signalled { signal, out_of_memory })
            }
            status => status,
        };
        _ = exit_sender.send(status);
    });
    Process {
        stdin: Box::pin(streams.stdin),
        stdout: Box::pin(streams.stdout),
        stderr: Box::pin(streams.stderr),
        exit: Box::pin(
            async move { exit.await.unwrap_or_else(|_| Err(failed("the runtime is shutting down"))) },
        ),
        reaper: Reaper::new((HangUp(connection), removal), async move {
            _ = tokio::time::timeout(REAP_PATIENCE, gone).await;
        }),
    }
}

/// The same by the engine's own stream: the head goes ahead of the body on standard input. Nothing says whether it has
/// arrived; a container that has died shows by a stream that takes nothing.
async fn by_attachment(
    engine: &Arc<Shared>,
    mut attached: AttachContainerResults,
    name: &str,
    mut removal: Removal,
    invocation: &Invocation,
    turn: &Arc<Turn>,
) -> Offer {
    let head = head(invocation, false);
    let handing_over = async {
        attached.input.write_all(&head).await?;
        attached.input.flush().await
    };
    match tokio::time::timeout(CONFIRMATION, handing_over).await {
        Ok(Ok(())) => {
            let gone = removal.gone();
            let kill = (removal, turn.clone());
            Offer::Taken(Box::new(container::process(engine, name, attached, kill, gone)))
        }
        Ok(Err(error)) => Offer::Declined(error.to_string()),
        Err(_) => Offer::Declined("it takes nothing".to_owned()),
    }
}

fn failed(what: &str) -> EngineError {
    EngineError::new(EngineErrorKind::Unreachable, what)
}
