//! The exchange: everything between a program's start and its end, in one task.
//!
//! The request body goes in, standard output and standard error come out, all at once, until the answer is whole,
//! a clock has run out, or the client has gone. Then what still runs is ended: after a whole answer it may linger, else it
//! is asked to end at once; and in both cases killed where it does not. Whatever comes first, the process is gone before
//! the task ends. It is a task of its own because it outlives its caller at both ends: a client that leaves
//! must not leave the program running, and a program whose answer needs no body still runs to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::answer::{Answering, Failed, Given, Source};
use super::clock::{Activity, Deadline};
use super::complaints::Complaints;
use super::failure::Failure;
use super::input::Input;
use super::{Limits, ProgramRoute};
use crate::connection::{ClientConnection, Taken};
use crate::engine::{Engine, Invocation, Process, Reaper};

/// How long a client may go on sending a body that nobody needs, once its answer is complete.
const UNWANTED: Duration = Duration::from_secs(30);

/// How long standard error is still read once standard output is settled.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// All that an exchange needs.
pub(super) struct Exchange {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) route: Arc<ProgramRoute>,
    pub(super) invocation: Invocation,
    pub(super) input: Input,
    /// Whether the client asked for the head alone.
    pub(super) head_only: bool,
    /// Whether the program may name a file to be sent in its body's stead.
    pub(super) names_files: bool,
    pub(super) deadline: Deadline,
    /// The client's connection, where it can be watched.
    pub(super) client: Option<ClientConnection>,
    /// How much of its answers the client has taken, where that is known.
    pub(super) taken: Option<Taken>,
    /// Cancelled when everything is to end.
    pub(super) interrupted: CancellationToken,
    /// Cancelled when nobody waits for the answer any more: the caller holds its guard until there is a reply,
    /// then the response's body does.
    pub(super) abandoned: CancellationToken,
}

impl Exchange {
    /// Runs the program from its start to its removal. The reply goes through `reply` as soon as there is one.
    pub(super) async fn run(self, reply: oneshot::Sender<Result<Given, Failed>>) {
        let detached = AtomicBool::new(false);
        let mut answering =
            Answering::new(&self.route, self.head_only, reply, self.abandoned.clone(), &detached)
                .naming_files(self.names_files);
        let started = tokio::select! {
            biased;
            // Nothing is begun any more.
            () = self.interrupted.cancelled() => Err(Failure::Interrupted),
            started = self.engine.start(&self.route.program, self.invocation) => started.map_err(Failure::from),
            timeout = self.deadline.passed() => Err(Failure::DeadlinePassed(timeout)),
            () = self.abandoned.cancelled() => Err(Failure::ClientGone),
            () = gone(self.client.as_ref()) => Err(Failure::ClientGone),
        };
        // Standard input is held to the very end: not to be taken for the end of what is read, where that breaks off.
        let Process { mut stdin, stdout, stderr, ended, exit, reaper } = match started {
            Ok(process) => process,
            Err(failure) => return answering.fail(failure, Vec::new()),
        };

        let limits = &self.route.limits;
        let activity = Activity::new();
        let is_over = CancellationToken::new();
        let complaints = Complaints::default();
        let mut source = Source::new(stdout, ended, exit, &activity);
        let feeding = self.input.feed(&mut stdin, limits.max_request_body, &activity, &is_over);
        let mut feeding = std::pin::pin!(feeding);
        let mut fed = false;
        let mut left = false;
        let mut collecting = std::pin::pin!(complaints.collect(stderr, &activity));
        let mut collected = false;

        let result = {
            let mut giving = std::pin::pin!(answering.give(&mut source));
            loop {
                tokio::select! {
                    // A client that has taken in the last of an answer may be gone by the time that this is seen.
                    biased;
                    given = &mut giving => break given,
                    () = &mut collecting, if !collected => collected = true,
                    done = &mut feeding, if !fed => {
                        fed = true;
                        if let Err(failure) = done {
                            break Err(failure);
                        }
                    }
                    timeout = self.deadline.passed() => break Err(Failure::DeadlinePassed(timeout)),
                    silence = activity.ceased(limits.idle_timeout, self.taken.as_ref()) => {
                        break Err(Failure::Idle(silence));
                    }
                    () = self.interrupted.cancelled() => break Err(Failure::Interrupted),
                    () = self.abandoned.cancelled() => break Err(Failure::ClientGone),
                    () = gone(self.client.as_ref()), if !left => {
                        left = true;
                        // A client that has all it will get may leave; the program runs to its end.
                        if !detached.load(Ordering::Relaxed) {
                            break Err(Failure::ClientGone);
                        }
                    }
                }
            }
        };
        // A program that has its answer out and runs on may still want what comes.
        if result.is_err() || source.has_ended() {
            is_over.cancel();
        }
        let discards = !fed && !matches!(result, Err(Failure::ClientGone));
        let is_whole = result.is_ok();
        match result {
            Ok(()) => drop(answering),
            Err(failure) => {
                if !collected {
                    collected = tokio::time::timeout(LAST_WORDS, &mut collecting).await.is_ok();
                }
                answering.fail(failure, complaints.last_lines());
            }
        }
        let lost = AtomicU64::new(0);
        let ending = end(reaper, is_whole, limits, &self.interrupted);
        // Whoever still prints must not have to wait for somebody to read it, nor be ended by that nobody does.
        let mut draining = std::pin::pin!(async {
            tokio::join!(source.drain(&lost), async {
                if !collected {
                    collecting.await;
                }
            })
        });
        let ending = async {
            let mut ending = std::pin::pin!(ending);
            tokio::select! {
                _ = &mut draining => ending.await,
                // The last that was printed is in the pipes by then.
                () = &mut ending => {
                    _ = tokio::time::timeout(LAST_WORDS, draining).await;
                }
            }
        };
        let discarding = async {
            if discards {
                _ = tokio::time::timeout(UNWANTED, feeding).await;
            }
        };
        tokio::join!(ending, discarding);
        let lost = lost.load(Ordering::Relaxed);
        if is_whole && lost > 0 {
            tracing::warn!("{lost} bytes that were printed after the end of the answer are lost");
        }
    }
}

/// Sees to the end of what runs, however much that is. Behind a whole answer it may linger.
async fn end(mut reaper: Reaper, is_whole: bool, limits: &Limits, interrupted: &CancellationToken) {
    if is_whole {
        tokio::select! {
            () = reaper.over() => return reaper.reap().await,
            () = tokio::time::sleep(limits.linger) => {
                let linger = humantime::format_duration(limits.linger);
                tracing::info!("what the program has left running is ended: `linger` ({linger}) is over");
            }
            () = interrupted.cancelled() => {}
        }
    }
    reaper.end(limits.kill_grace).await;
}

/// Resolves when the client has gone, where anyone can tell.
async fn gone(client: Option<&ClientConnection>) {
    match client {
        Some(client) => client.closed().await,
        None => std::future::pending().await,
    }
}
