//! One running instance of a program.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use super::EngineError;

/// A program that runs, with its three streams.
///
/// The streams are independent: a caller that wants no deadlock reads `stdout` and `stderr` while it writes
/// `stdin`. Each is bounded inside, so a program that prints faster than it is read has to wait.
///
/// Dropping a `Process` kills the program and has everything made for it removed.
pub struct Process {
    /// What the program reads. `shutdown` gives it end-of-file; dropping does not, before the program has ended: half of
    /// what it reads is not to look like all.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// What the program, and whatever it has started, prints. Ends when nobody has it open any more, which may be long
    /// after the program's end.
    pub stdout: Pin<Box<dyn AsyncRead + Send>>,
    /// What they complain about.
    pub stderr: Pin<Box<dyn AsyncRead + Send>>,
    /// Resolves once the program itself has ended, where an engine knows that before it can say how: some are asked for the
    /// reason of a kill. `None` where `exit` resolves as soon.
    pub ended: Option<BoxFuture<'static, ()>>,
    /// How the program itself ended, whatever it has left running. Resolves once it has, or once the engine can no longer
    /// say.
    pub exit: BoxFuture<'static, Result<ExitStatus, EngineError>>,
    /// Ends the program and what it has left running, and clears away after them.
    pub reaper: Reaper,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

/// How long a reaper waits for what was killed and does not go. Whoever sees to it goes on waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// The end of a process, and of everything that it has started. Dropped, it kills and clears away in the background; its
/// methods wait for that.
pub struct Reaper {
    /// Asks all that runs to end.
    terminate: Box<dyn FnOnce() + Send>,
    /// Dropping this is the signal that all is to end at once. It may hold anything that ends it on drop.
    kill: Option<Box<dyn Send>>,
    /// Resolves when nothing runs any more. `None`: it has.
    over: Option<BoxFuture<'static, ()>>,
    /// Resolves when all is cleared away too. `None`: that is done when it is over.
    gone: Option<BoxFuture<'static, ()>>,
}

impl Reaper {
    /// A reaper whose process, with what it has started, is asked to end by `terminate` (`SIGTERM`) and is killed when
    /// `kill` is dropped; and of which nothing runs any more, and nothing is left, when `over` resolves.
    pub fn new(
        terminate: impl FnOnce() + Send + 'static,
        kill: impl Send + 'static,
        over: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let (terminate, kill) = (Box::new(terminate), Some(Box::new(kill) as _));
        Self { terminate, kill, over: Some(over.boxed()), gone: None }
    }

    /// The same, where something is still left when it is over: that is cleared away once `kill` is dropped, and `gone`
    /// resolves then.
    #[must_use]
    pub fn clearing(mut self, gone: impl Future<Output = ()> + Send + 'static) -> Self {
        self.gone = Some(gone.boxed());
        self
    }

    /// Waits until nothing runs any more: neither the program nor what it has left running.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn over(&mut self) {
        if let Some(over) = &mut self.over {
            over.await;
            self.over = None;
        }
    }

    /// Asks what runs to end (`SIGTERM`), kills it where it has not after `grace`, and waits until nothing of it is left.
    ///
    /// # Cancel safety
    /// Cancel safe in that nothing is left: dropped, it kills at once.
    pub async fn end(mut self, grace: Duration) {
        if !grace.is_zero() {
            std::mem::replace(&mut self.terminate, Box::new(|| {}))();
            _ = tokio::time::timeout(grace, self.over()).await;
        }
        self.reap().await;
    }

    /// Kills what still runs, and waits until nothing of it is left.
    ///
    /// # Cancel safety
    /// Cancel safe: it ends all the same.
    pub async fn reap(mut self) {
        drop(self.kill.take());
        if let Some(last) = self.gone.take().or(self.over.take()) {
            _ = tokio::time::timeout(PATIENCE, last).await;
        }
    }
}

impl fmt::Debug for Reaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reaper").finish_non_exhaustive()
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It ended by itself with this code.
    Exited(u8),
    /// A signal ended it.
    Signalled {
        /// The signal's number.
        signal: u8,
        /// Whether it was the kernel, because the memory limit was reached. `None` where the engine cannot tell.
        out_of_memory: Option<bool>,
    },
}

impl ExitStatus {
    /// Whether the program ended by itself with code 0.
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit status {code}"),
            Self::Signalled { out_of_memory: Some(true), .. } => {
                f.write_str("killed: out of memory (the route's `memory` limit)")
            }
            Self::Signalled { signal, out_of_memory: None } => {
                write!(
                    f,
                    "killed by signal {signal} (out of memory, or from outside: the engine does not say)"
                )
            }
            Self::Signalled { signal, .. } => write!(f, "killed by signal {signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_told_with_as_much_of_its_reason_as_is_known() {
        let killed = |signal, out_of_memory| ExitStatus::Signalled { signal, out_of_memory }.to_string();
        assert_eq!(killed(9, Some(true)), "killed: out of memory (the route's `memory` limit)");
        assert_eq!(
            killed(9, None),
            "killed by signal 9 (out of memory, or from outside: the engine does not say)"
        );
        assert_eq!(killed(11, Some(false)), "killed by signal 11");
    }
}
