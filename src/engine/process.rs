//! One running instance of a program.

use std::fmt;
use std::pin::Pin;

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
    /// What the program reads. `shutdown` gives it end-of-file; dropping may not.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// What the program prints. Ends soon after the program does, even where an orphan holds it open.
    pub stdout: Pin<Box<dyn AsyncRead + Send>>,
    /// What the program complains about.
    pub stderr: Pin<Box<dyn AsyncRead + Send>>,
    /// How the program ended. Resolves once it has, or once the engine can no longer say.
    pub exit: BoxFuture<'static, Result<ExitStatus, EngineError>>,
    /// Ends the program, and clears away after it.
    pub reaper: Reaper,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

/// The end of a process. Dropped, it kills and clears away in the background; [`reap`](Reaper::reap)
/// does the same and waits for it.
pub struct Reaper {
    /// Dropping this is the signal that the process is to end. It may hold anything that ends it on drop.
    kill: Option<Box<dyn Send>>,
    /// Resolves when nothing of the process is left.
    gone: BoxFuture<'static, ()>,
}

impl Reaper {
    /// A reaper whose process ends when `kill` is dropped, and is wholly gone when `gone` resolves.
    pub fn new(kill: impl Send + 'static, gone: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { kill: Some(Box::new(kill)), gone: Box::pin(gone) }
    }

    /// Kills the process where it still runs, and waits until nothing of it is left.
    ///
    /// # Cancel safety
    /// Cancel safe: the process ends all the same.
    pub async fn reap(mut self) {
        drop(self.kill.take());
        self.gone.await;
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
