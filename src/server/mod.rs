//! Listeners and connections: HTTP/1.1 and HTTP/2 without TLS, on TCP and unix sockets.
//!
//! # Security
//! A client can hold a connection, and little more: connections, header sizes and the time for a header are
//! bounded, a response that is not read is given up, and a request head that two servers could read in
//! two ways is refused before it is parsed (`head_guard`).

mod client_io;
mod connection;
mod head_guard;
mod listener;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Handler;
use crate::config::{Listen, ServerLimits};
use listener::{Accepted, Listener};

/// How long removals may take once the grace is over and programs have had theirs. An engine that is gone removes nothing.
const LAST_REMOVALS: Duration = Duration::from_secs(20);

/// How long connections may take to tell of that, once the grace is over.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Pause after a connection could not be accepted: out of descriptors, say. Trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Sockets that listen, and nobody served yet.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    limits: ServerLimits,
}

/// What every connection shares.
struct Shared {
    handler: Handler,
    limits: ServerLimits,
    /// Cancelled when no further requests are to be taken.
    closing: CancellationToken,
    /// Cancelled when the time for those that were taken is over.
    aborting: CancellationToken,
    /// One task a connection.
    connections: TaskTracker,
    /// One permit a connection, lingering ones included.
    places: Arc<Semaphore>,
}

impl Server {
    /// Listens on sockets that systemd passed on, else on these addresses.
    ///
    /// # Errors
    /// Where an address cannot be listened on; the message names it.
    pub async fn bind(listen: &[Listen], limits: ServerLimits) -> io::Result<Self> {
        let mut listeners = listener::from_systemd()?;
        if listeners.is_empty() {
            for address in listen {
                listeners.push(Listener::bind(address).await?);
            }
        }
        Ok(Self { listeners, limits })
    }

    /// Where it listens, as URLs: with port 0 resolved.
    pub fn urls(&self) -> Vec<String> {
        self.listeners.iter().map(Listener::url).collect()
    }

    /// Serves until `shutdown` resolves; then takes no further requests, gives those that run `grace` to finish,
    /// and waits until nothing of them is left.
    ///
    /// # Cancel safety
    /// Dropped, it stops accepting; connections and programs go on until the runtime ends, and what the engine
    /// still runs then is left to the next start.
    pub async fn serve(self, handler: Handler, grace: Duration, shutdown: impl Future<Output = ()>) {
        let shared = Arc::new(Shared {
            handler,
            places: Arc::new(Semaphore::new(self.limits.max_connections)),
            limits: self.limits,
            closing: CancellationToken::new(),
            aborting: CancellationToken::new(),
            connections: TaskTracker::new(),
        });
        let accepting: Vec<_> = self
            .listeners
            .into_iter()
            .map(|listener| tokio::spawn(accept(listener, shared.clone())))
            .collect();

        shutdown.await;
        tracing::info!(?grace, "shutting down: requests that run may finish");
        shared.closing.cancel();
        for task in accepting {
            _ = task.await;
        }
        shared.connections.close();
        let finish = async {
            shared.connections.wait().await;
            shared.handler.drained().await;
        };
        if tokio::time::timeout(grace, finish).await.is_err() {
            tracing::warn!("the grace is over: requests that still run are ended");
            let grace = shared.handler.interrupt();
            // Who has no answer yet gets one; an answer that is cut closes its connection by itself.
            _ = tokio::time::timeout(LAST_WORDS, shared.connections.wait()).await;
            shared.aborting.cancel();
            let last = async {
                shared.connections.wait().await;
                shared.handler.drained().await;
            };
            if tokio::time::timeout(grace + LAST_REMOVALS, last).await.is_err() {
                tracing::error!("not everything could be removed; the next start will try again");
            }
        }
    }
}

async fn accept(listener: Listener, shared: Arc<Shared>) {
    loop {
        let place = tokio::select! {
            place = shared.places.clone().acquire_owned() => place.expect("the semaphore is never closed"),
            () = shared.closing.cancelled() => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.closing.cancelled() => return,
        };
        match accepted {
            Ok(Accepted::Tcp(socket, info)) => {
                shared.connections.spawn(connection::serve(socket, info, place, shared.clone()));
            }
            Ok(Accepted::Unix(socket, info)) => {
                shared.connections.spawn(connection::serve(socket, info, place, shared.clone()));
            }
            Err(error) => {
                tracing::error!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
