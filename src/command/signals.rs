//! Signals that end a command.

use std::time::{Duration, Instant};

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

/// How soon after the first a signal is taken for the same wish: `timeout`, and who else signals a process and its group, sends
/// two.
const SAME: Duration = Duration::from_millis(500);

/// Resolves at the first SIGTERM or SIGINT. The second, half a second later or more, ends the process at once.
pub(super) fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::warn!(
                "SIGHUP does nothing in this version: restart dcgi to read its configuration again"
            );
        }
    });
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        _ = sd_notify::notify(&[NotifyState::Stopping]);
        let first = Instant::now();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if first.elapsed() >= SAME {
                    break;
                }
            }
            tracing::warn!(
                "a second signal: ending at once; containers that still run go with the next start"
            );
            std::process::exit(1);
        });
    })
}
