//! One request's sandbox, from the request to its end.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::Shared;
use super::pool::{Pool, Sandbox, exhausted};
use crate::engine::error::not_executed;
use crate::engine::output::Progress;
use crate::engine::streams::{Streams, pipes};
use crate::engine::{EngineError, EngineErrorKind, ExitStatus, Invocation, Process, Reaper};
use crate::sandbox::{Failure, MESSAGE, Message, Template};

/// How long a program runs before the next sandbox is made to wait in its stead.
const HEAD_START: Duration = Duration::from_millis(5);

/// How many sandboxes a request tries that do not take it.
const TRIES: u32 = 3;

/// SIGKILL, by signal(7).
const SIGKILL: u8 = 9;

/// Has a sandbox run the program for one request, hands out its process through `ready`, and sees to its end.
pub(super) async fn live(
    engine: Arc<Shared>,
    pool: Arc<Pool>,
    invocation: Invocation,
    ready: oneshot::Sender<Result<Process, EngineError>>,
) {
    let begun = begin(&engine, &pool, &invocation).await;
    let (sandbox, streams) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            _ = ready.send(Err(error));
            return;
        }
    };
    let (exit_sender, exit) = oneshot::channel();
    let (gone_sender, gone) = oneshot::channel::<()>();
    let process = Process {
        stdin: Box::pin(streams.stdin),
        stdout: Box::pin(streams.stdout),
        stderr: Box::pin(streams.stderr),
        ended: None,
        exit: Box::pin(async move { exit.await.unwrap_or_else(|_| Err(lost())) }),
        reaper: Reaper::new(
            terminate(sandbox.control.clone()),
            Hangup(sandbox.control.clone()),
            async move {
                _ = gone.await;
            },
        ),
    };
    // Where nobody waits any more, the process is dropped, and that hangs up.
    _ = ready.send(Ok(process));
    let slot = attend(&engine, &pool, sandbox, Some(&invocation), &streams.progress, exit_sender).await;
    drop(streams.unfinished);
    pool.give_back(&engine, slot);
    drop(invocation.lease);
    drop(gone_sender);
}

async fn begin(
    engine: &Arc<Shared>,
    pool: &Arc<Pool>,
    invocation: &Invocation,
) -> Result<(Sandbox, Streams), EngineError> {
    let mut tries = 0;
    loop {
        let (streams, theirs) =
            pipes(pool.plan.owner).map_err(|error| exhausted("making the program's streams", error))?;
        let sandbox = pool.take(engine).await?;
        let run = pool.run(invocation, &sandbox.host_name);
        let [stdin, stdout, stderr] = &theirs;
        let sent = run.send(sandbox.control.as_fd(), [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
        let result = match sent {
            Ok([]) => Ok(()),
            Ok(rest) => write_all(&sandbox.control, rest).await,
            Err(error) => Err(error),
        };
        let Err(error) = result else { return Ok((sandbox, streams)) };
        // Most likely it has died while it waited: take another, unless that goes on. It may have said why.
        let (exit_sender, exit) = oneshot::channel();
        drop(Hangup(sandbox.control.clone()));
        let slot = attend(engine, pool, sandbox, Some(invocation), &streams.progress, exit_sender).await;
        pool.give_back(engine, slot);
        tries += 1;
        if tries == TRIES {
            let why = match exit.await {
                Ok(Err(why)) => why,
                _ => exhausted("handing over the request", error),
            };
            return Err(why);
        }
    }
}

async fn write_all(control: &UnixStream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        control.writable().await?;
        match control.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits for a program's end, tells it, and then for the sandbox's. Gives the slot where that may serve again. `invocation` is
/// what runs, where that is no agent.
pub(super) async fn attend(
    engine: &Arc<Shared>,
    pool: &Arc<Pool>,
    mut sandbox: Sandbox,
    invocation: Option<&Invocation>,
    progress: &Progress,
    exit: oneshot::Sender<Result<ExitStatus, EngineError>>,
) -> Option<super::pool::Slot> {
    let template = &pool.plan.template;
    let control = sandbox.control.clone();
    // Most programs have ended by then, and their slots serve again: until then nothing is to be in their way.
    let mut head_start = std::pin::pin!(tokio::time::sleep(HEAD_START));
    let mut ended = std::pin::pin!(progress.follow(ended(&control, template)));
    let ended = tokio::select! {
        ended = &mut ended => ended,
        () = &mut head_start => {
            pool.refill(engine);
            ended.await
        }
    };
    let status = match ended {
        Some(Message::Exited(code)) => Some(Ok(ExitStatus::Exited(code))),
        Some(Message::Signalled(signal)) => Some(Ok(signalled(signal, &mut sandbox))),
        Some(Message::Failed(failure)) => Some(Err(pool.refusal(failure, invocation))),
        _ => None,
    };
    let exit = match status {
        Some(status) => {
            _ = exit.send(status);
            None
        }
        None => Some(exit),
    };
    let vacant = {
        let mut vacant = std::pin::pin!(sandbox.slot.vacant_after(template, silence(&control)));
        tokio::select! {
            vacant = &mut vacant => vacant,
            // What the program has left running lingers.
            () = &mut head_start, if !head_start.is_elapsed() => {
                pool.refill(engine);
                vacant.await
            }
        }
    };
    let clean = matches!(vacant, Ok(true));
    if let Some(exit) = exit {
        _ = exit.send(match vacant {
            // Its init has gone without a word: because we have hung up, or it was killed.
            Ok(_) => Ok(signalled(SIGKILL, &mut sandbox)),
            Err(Some(failure)) => Err(pool.refusal(failure, invocation)),
            // The kernel may have come to the slot itself, where what fills the memory is files.
            Err(None) => match sandbox.slot.group.ran_out_of_memory() {
                Some(true) => Ok(ExitStatus::Signalled { signal: SIGKILL, out_of_memory: Some(true) }),
                _ => Err(lost()),
            },
        });
    }
    // A child of the program's may have been killed for want of memory: that is not the next request's.
    _ = sandbox.slot.group.ran_out_of_memory();
    (clean && template.reuse).then_some(sandbox.slot)
}

/// What a sandbox says of its program's end; nothing, where it says nothing any more.
async fn ended(control: &UnixStream, template: &Template) -> Option<Message> {
    let mut message = [0; MESSAGE];
    let mut read = 0;
    loop {
        control.readable().await.ok()?;
        match control.try_read(&mut message[read..]) {
            Ok(0) => return None,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return None,
        }
        if read == MESSAGE {
            match Message::read(&message, template) {
                Message::Ready => read = 0,
                message => return Some(message),
            }
        }
    }
}

/// Completes when a sandbox says nothing any more: it has ended, or we have hung up.
async fn silence(control: &UnixStream) {
    let mut message = [0; MESSAGE];
    while control.readable().await.is_ok() {
        match control.try_read(&mut message) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

fn signalled(signal: u8, sandbox: &mut Sandbox) -> ExitStatus {
    let out_of_memory = match sandbox.slot.group.ran_out_of_memory() {
        Some(killed) => Some(killed && signal == SIGKILL),
        None if signal == SIGKILL => None,
        None => Some(false),
    };
    ExitStatus::Signalled { signal, out_of_memory }
}

fn lost() -> EngineError {
    EngineError::new(EngineErrorKind::Unreachable, "the container's launcher has gone")
}

/// Has a sandbox ask everything in it to end: nothing more is sent to it, which it takes for that wish.
fn terminate(control: Arc<UnixStream>) -> impl FnOnce() + Send {
    move || _ = rustix::net::shutdown(control.as_fd(), rustix::net::Shutdown::Write)
}

/// Dropped, it hangs up: the sandbox ends, and everything in it.
pub(super) struct Hangup(pub(super) Arc<UnixStream>);

impl Drop for Hangup {
    fn drop(&mut self) {
        _ = rustix::net::shutdown(self.0.as_fd(), rustix::net::Shutdown::Both);
    }
}

impl Pool {
    /// What cannot be made, or executed for a request, as the engine's error.
    pub(super) fn refusal(&self, failure: Failure, invocation: Option<&Invocation>) -> EngineError {
        let config = self.base.config();
        let command_line = invocation.map_or_else(
            || self.program.command_line(config),
            |invocation| self.program.command_of(config, invocation),
        );
        let kind = match failure.is_exhaustion {
            true => EngineErrorKind::Unreachable,
            false => EngineErrorKind::Refused,
        };
        let what = match failure.of_program {
            true => not_executed(&command_line.join(" "), failure.refusal),
            false => format!("a container of {} cannot be made", self.program.made_from()),
        };
        EngineError::new(kind, what).because(failure)
    }
}
