//! The exchange: everything between a program's start and its end, in one task.
//!
//! The request body goes in, standard output and standard error come out, all at once, until the program
//! has ended, a clock has run out, or the client has gone. Whatever comes first, the process is reaped before
//! the task ends. It is a task of its own because it outlives its caller at both ends: a client that leaves
//! must not leave the program running, and a program whose answer needs no body still runs to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::ProgramRoute;
use super::answer::{Answering, Failed, Given};
use super::clock::{Activity, Deadline};
use super::complaints::Complaints;
use super::failure::Failure;
use super::input::Input;
use crate::connection::ClientConnection;
use crate::engine::{Engine, Invocation, Process};

/// How long a client may go on sending a body that nobody needs, once its answer is complete.
const LINGER: Duration = Duration::from_secs(30);

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
    pub(super) deadline: Deadline,
    /// The client's connection, where it can be watched.
    pub(super) client: Option<ClientConnection>,
    /// Cancelled when nobody waits for the answer any more: the caller holds its guard until there is a reply,
    /// then the response's body does.
    pub(super) abandoned: CancellationToken,
}

impl Exchange {
    /// Runs the program from its start to its removal. The reply goes through `reply` as soon as there is one.
    pub(super) async fn run(self, reply: oneshot::Sender<Result<Given, Failed>>) {
        let detached = AtomicBool::new(false);
        let mut answering =
            Answering::new(&self.route, self.head_only, reply, self.abandoned.clone(), &detached);
        let started = tokio::select! {
            started = self.engine.start(&self.route.program, self.invocation) => started.map_err(Failure::from),
            () = self.deadline.passed() => Err(Failure::DeadlinePassed),
            () = self.abandoned.cancelled() => Err(Failure::ClientGone),
            () = gone(self.client.as_ref()) => Err(Failure::ClientGone),
        };
        let Process { stdin, stdout, stderr, exit, reaper } = match started {
            Ok(process) => process,
            Err(failure) => return answering.fail(failure, Vec::new()),
        };

        let limits = &self.route.limits;
        let activity = Activity::new();
        let ended = CancellationToken::new();
        let complaints = Complaints::default();
        let feeding = self.input.feed(stdin, limits.max_request_body, &activity, &ended);
        let mut feeding = std::pin::pin!(feeding);
        let mut fed = false;
        let mut left = false;

        let result = {
            let mut collecting = std::pin::pin!(complaints.collect(stderr));
            let mut collected = false;
            let mut giving = std::pin::pin!(answering.give(stdout, exit, &activity));
            let result = loop {
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
                    () = self.deadline.passed() => break Err(Failure::DeadlinePassed),
                    () = activity.ceased(limits.idle_timeout) => break Err(Failure::Idle),
                    () = self.abandoned.cancelled() => break Err(Failure::ClientGone),
                    () = gone(self.client.as_ref()), if !left => {
                        left = true;
                        // A client that has all it will get may leave; the program runs to its end.
                        if !detached.load(Ordering::Relaxed) {
                            break Err(Failure::ClientGone);
                        }
                    }
                }
            };
            if !collected {
                _ = tokio::time::timeout(LAST_WORDS, collecting).await;
            }
            result
        };

        ended.cancel();
        let lingers = !fed && !matches!(result, Err(Failure::ClientGone));
        match result {
            Ok(()) => drop(answering),
            Err(failure) => answering.fail(failure, complaints.last_lines()),
        }
        let linger = async {
            if lingers {
                _ = tokio::time::timeout(LINGER, feeding).await;
            }
        };
        tokio::join!(reaper.reap(), linger);
    }
}

/// Resolves when the client has gone, where anyone can tell.
async fn gone(client: Option<&ClientConnection>) {
    match client {
        Some(client) => client.closed().await,
        None => std::future::pending().await,
    }
}
