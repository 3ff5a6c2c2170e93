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
use crate::agent::{Answer, TERMINATE};
use crate::engine::agent::{HandOver, HangUp, Refusal, leaves_something, outcome, status};
use crate::engine::input::Input;
use crate::engine::streams::{Streams, pipes};
use crate::engine::{EngineError, EngineErrorKind, ExitStatus, Process, Reaper};

/// How long a program runs before the next container is started in its stead.
const HEAD_START: Duration = Duration::from_millis(100);

/// What becomes of a request that is offered to an agent.
pub(super) enum Offer {
    Taken(Box<Process>),
    /// It has run nothing, and never will.
    Declined(String),
    /// Likewise, and it was waited for in vain.
    Unanswered,
}

/// Offers a request to a container, by its [`head`](crate::engine::agent::head). It belongs to that request from here
/// on, or goes. `command` is what messages call the program; `turn` is the request's among those of its route; `patience`
/// is how long the agent may take to say that it has it: half a millisecond, as a rule, and for ever where it is paused.
///
/// # Errors
/// Where dcgi itself has run out of something, or nobody can say whether the program has run.
pub(super) async fn offer(
    engine: &Arc<Shared>,
    inhabited: Inhabited,
    head: &[u8],
    command: &str,
    turn: Option<&Arc<Turn>>,
    patience: Duration,
) -> Result<Offer, EngineError> {
    let Inhabited { way, name, removal } = inhabited;
    let turn = turn.cloned();
    match way {
        Way::Attached(attached) => {
            by_attachment(engine, attached, &name, removal, head, turn, patience).await
        }
        Way::Dialled { connection, owner, .. } => {
            let (streams, theirs) =
                pipes(owner).map_err(|error| failed("making the program's streams").because(error))?;
            match confirmed(&connection, &HandOver { head, streams: &theirs }, patience).await? {
                Answered::Taken => {
                    drop(theirs);
                    let process =
                        attend(engine, connection, streams, name, removal, command.to_owned(), turn);
                    Ok(Offer::Taken(Box::new(process)))
                }
                Answered::Otherwise(why) => Ok(Offer::Declined(why)),
                Answered::Never => Ok(Offer::Unanswered),
            }
        }
    }
}

/// What an agent says of a request, before it runs anything.
enum Answered {
    Taken,
    Otherwise(String),
    Never,
}

/// Hands a request over and waits until the agent has said that it has it.
async fn confirmed(
    connection: &UnixStream,
    hand_over: &HandOver<'_>,
    patience: Duration,
) -> Result<Answered, EngineError> {
    let exchange = async {
        match hand_over.on(connection).await {
            Ok(()) => Ok(taken(outcome(connection).await)),
            Err(Refusal::Untouched(error)) => Ok(Answered::Otherwise(error.to_string())),
            Err(Refusal::Exhausted(error)) => Err(failed("handing over the request").because(error)),
        }
    };
    if let Ok(result) = tokio::time::timeout(patience, exchange).await {
        return result;
    }
    // From here on its confirmation does not arrive, and then it runs nothing. One that was on its way is still read.
    _ = rustix::net::shutdown(connection.as_fd(), rustix::net::Shutdown::Read);
    match taken(outcome(connection).await) {
        Answered::Taken => {
            Err(failed("the container has taken the request, and said so too late to be heard"))
        }
        Answered::Otherwise(_) | Answered::Never => Ok(Answered::Never),
    }
}

fn taken(answer: io::Result<Answer>) -> Answered {
    match answer {
        Ok(Answer::Taken) => Answered::Taken,
        // Before the confirmation nothing runs.
        Ok(other) => Answered::Otherwise(format!("its agent says {other:?}")),
        Err(error) => Answered::Otherwise(error.to_string()),
    }
}

/// Sees a program in its container to its end.
fn attend(
    engine: &Arc<Shared>,
    connection: Arc<UnixStream>,
    streams: Streams,
    name: String,
    mut removal: Removal,
    command: String,
    turn: Option<Arc<Turn>>,
) -> Process {
    let gone = removal.gone();
    let (exit_sender, exit) = oneshot::channel();
    let (over_sender, over) = oneshot::channel::<()>();
    let (ended_sender, ended) = oneshot::channel::<()>();
    let progress = streams.progress;
    // An agent that is killed with its container is gone before the program is: that must not see its input end.
    removal.keep(streams.unfinished);
    let (engine, control) = (engine.clone(), connection.clone());
    tokio::spawn(async move {
        let mut ended = std::pin::pin!(progress.follow(outcome(&control)));
        let answer = tokio::select! {
            answer = &mut ended => answer,
            () = tokio::time::sleep(HEAD_START) => {
                if let Some(turn) = &turn {
                    turn.refill();
                }
                ended.await
            }
        };
        let mut is_left = leaves_something(&answer);
        drop(ended_sender);
        let status = match status(answer, true, &command) {
            Ok(ExitStatus::Signalled { signal, out_of_memory: None }) => {
                let out_of_memory = was_out_of_memory(&engine, &name).await.then_some(true);
                Ok(ExitStatus::Signalled { signal, out_of_memory })
            }
            status => status,
        };
        _ = exit_sender.send(status);
        while is_left {
            is_left = leaves_something(&outcome(&control).await);
        }
        drop(over_sender);
    });
    let control = connection.clone();
    // It fits into any socket's buffer; an agent that takes nothing is killed later.
    let terminate = move || _ = control.try_write(&[TERMINATE]);
    let over = async move {
        _ = over.await;
    };
    Process {
        stdin: Box::pin(streams.stdin),
        stdout: Box::pin(streams.stdout),
        stderr: Box::pin(streams.stderr),
        ended: Some(Box::pin(async move { _ = ended.await })),
        exit: Box::pin(
            async move { exit.await.unwrap_or_else(|_| Err(failed("the runtime is shutting down"))) },
        ),
        reaper: Reaper::new(terminate, (HangUp(connection), removal), over).clearing(gone),
    }
}

/// The same by the engine's own stream: the head goes ahead of the body on standard input. Nothing says whether it has
/// arrived; a container that has died shows by a stream that takes nothing.
async fn by_attachment(
    engine: &Arc<Shared>,
    mut attached: AttachContainerResults,
    name: &str,
    mut removal: Removal,
    head: &[u8],
    turn: Option<Arc<Turn>>,
    patience: Duration,
) -> Result<Offer, EngineError> {
    // Without its last byte it is no request, and nothing runs.
    let (most, last) = head.split_at(head.len().saturating_sub(1));
    let handing_over = async {
        attached.input.write_all(most).await?;
        attached.input.flush().await
    };
    match tokio::time::timeout(patience, handing_over).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Ok(Offer::Declined(error.to_string())),
        Err(_) => return Ok(Offer::Unanswered),
    }
    let sealing = async {
        attached.input.write_all(last).await?;
        attached.input.flush().await
    };
    // From here on nobody knows, so nobody else may have it.
    sealing.await.map_err(|error| failed("handing over the request").because(error))?;
    let gone = removal.gone();
    let (stdin, unfinished) = Input::new(attached.input);
    removal.keep(unfinished);
    let kill = (removal, turn);
    Ok(Offer::Taken(Box::new(container::process(engine, name, stdin, attached.output, kill, gone))))
}

fn failed(what: &str) -> EngineError {
    EngineError::new(EngineErrorKind::Unreachable, what)
}
