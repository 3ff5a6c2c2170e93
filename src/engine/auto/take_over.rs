//! Docker's images on their way into dcgi's own store. Docker serves meanwhile, so nobody waits for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::choice::{InDocker, Known, TakeOver};
use crate::engine::embedded::EmbeddedEngine;
use crate::images::{Store, StoreError};
use crate::reason::Reason;

/// How many images come at once: the disk is the narrowest place, and each is held on it twice.
const AT_ONCE: usize = 2;

/// How often one that takes long tells how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Pauses after one that failed: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// What is being taken over, and what could not be.
#[derive(Debug)]
pub(super) struct TakeOvers {
    by_name: Mutex<HashMap<String, Attempt>>,
    turns: Semaphore,
    /// Whether anything is taken over at all.
    wanted: bool,
    /// How many wait for all of them to have ended: none begins meanwhile.
    paused: AtomicUsize,
}

/// While this is there, nothing is taken over.
#[derive(Debug)]
pub(super) struct Pause<'a>(&'a TakeOvers);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.paused.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum Attempt {
    /// Of the image of this id.
    Running {
        id: String,
        stop: CancellationToken,
        /// Why the one before it failed.
        failed: Option<Arc<str>>,
    },
    Failed {
        id: String,
        until: Instant,
        pause: Duration,
        why: Arc<str>,
    },
}

// === impl TakeOvers ===

impl TakeOvers {
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            by_name: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
            wanted,
            paused: AtomicUsize::new(0),
        }
    }

    fn by_name(&self) -> MutexGuard<'_, HashMap<String, Attempt>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the image of a name is that Docker has and the store has not.
    pub(super) fn of(&self, name: &str) -> TakeOver {
        match self.by_name().get(name) {
            _ if !self.wanted => TakeOver::Off,
            Some(Attempt::Failed { why, .. } | Attempt::Running { failed: Some(why), .. }) => {
                TakeOver::Failed(why.clone())
            }
            _ => TakeOver::Coming,
        }
    }

    /// Breaks off all that run, and has none begin. What they have made is removed when they have ended.
    pub(super) fn pause(&self) -> Pause<'_> {
        let by_name = self.by_name();
        self.paused.fetch_add(1, Ordering::Relaxed);
        for attempt in by_name.values() {
            if let Attempt::Running { stop, .. } = attempt {
                stop.cancel();
            }
        }
        Pause(self)
    }

    /// Whether the image of an id is to be taken over now: then by whom this returns something to, and by nobody else.
    fn begin(&self, name: &str, id: &str) -> Option<CancellationToken> {
        let mut by_name = self.by_name();
        if !self.wanted || self.paused.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let failed = match by_name.get(name) {
            // The name has moved on: what comes is of no use any more. The next look begins anew.
            Some(Attempt::Running { id: other, stop, .. }) => {
                if other != id {
                    stop.cancel();
                }
                return None;
            }
            Some(Attempt::Failed { id: other, until, .. }) if other == id && *until > Instant::now() => {
                return None;
            }
            Some(Attempt::Failed { id: other, why, .. }) if other == id => Some(why.clone()),
            _ => None,
        };
        let stop = CancellationToken::new();
        let running = Attempt::Running { id: id.to_owned(), stop: stop.clone(), failed };
        by_name.insert(name.to_owned(), running);
        Some(stop)
    }

    fn ended(&self, name: &str) {
        self.by_name().remove(name);
    }

    fn failed(&self, name: String, id: String, pause: Duration, why: Arc<str>) {
        let until = Instant::now() + pause;
        self.by_name().insert(name, Attempt::Failed { id, until, pause, why });
    }

    /// How long was waited after the last failure with the image of this id.
    fn last_pause(&self, name: &str, id: &str) -> Option<Duration> {
        match self.by_name().get(name) {
            Some(Attempt::Failed { id: other, pause, .. }) if other == id => Some(*pause),
            _ => None,
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Begins to take an image over, where that is of use.
    pub(super) fn consider(&self, name: &str, known: &Known) {
        let (Ok(embedded), InDocker::Has(id)) = (&self.embedded, &known.docker) else { return };
        let is_of_use = match &known.stored {
            None => true,
            Some(meaning) => meaning.taken_over.as_ref().is_some_and(|taken_over| taken_over != id),
        };
        if !is_of_use || !self.daemon.answers() {
            return;
        }
        let Some(this) = self.this.upgrade() else { return };
        let pause = self.take_overs.last_pause(name, id);
        if let Some(stop) = self.take_overs.begin(name, id) {
            let (embedded, name, id) = (embedded.clone(), name.to_owned(), id.clone());
            self.tasks.spawn(async move { this.take_over(&embedded, name, id, pause, stop).await });
        }
    }

    async fn take_over(
        self: Arc<Self>,
        embedded: &EmbeddedEngine,
        name: String,
        id: String,
        pause: Option<Duration>,
        stop: CancellationToken,
    ) {
        let turn = tokio::select! {
            turn = self.take_overs.turns.acquire() => turn,
            () = stop.cancelled() => return self.take_overs.ended(&name),
        };
        let taken = self.bring(embedded.store(), &name, &id, &stop).await;
        drop(turn);
        match taken {
            Ok(()) => {
                embedded.forget_image(&name);
                self.settle_in(embedded, &name).await;
                self.images.forget(&name);
                self.take_overs.ended(&name);
                self.move_over(&name).await;
                self.tidy_store();
            }
            Err(_) if stop.is_cancelled() => {
                tracing::debug!(image = name, "taking an image over was broken off");
                self.take_overs.ended(&name);
            }
            Err(error) => {
                let why = Reason(&error).to_string();
                let next = pause.map_or(BACKOFF.0, |before| (before * 2).min(BACKOFF.1));
                // Once an image: what is said every ten minutes is not read.
                match pause {
                    None => tracing::warn!(
                        image = name,
                        id,
                        "the image cannot be taken over, and its requests stay with Docker: {why}; the next try is in {next:?}"
                    ),
                    Some(_) => {
                        tracing::debug!(image = name, id, "the image still cannot be taken over: {why}");
                    }
                }
                self.take_overs.failed(name, id, next, why.into());
            }
        }
    }

    /// Brings an image into the store, and tells how far it is.
    async fn bring(
        &self,
        store: &Store,
        name: &str,
        id: &str,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        let received = AtomicU64::new(0);
        let tell = |bytes: usize| {
            received.fetch_add(bytes as u64, Ordering::Relaxed);
        };
        let mebibytes = || received.load(Ordering::Relaxed) >> 20;
        tracing::info!(
            image = name,
            id,
            "taking the image over from the Docker Engine, which serves it meanwhile"
        );
        let mut taking = std::pin::pin!(store.take_over(self.daemon.client(), name, id, tell, stop));
        let mut interval =
            tokio::time::interval_at(tokio::time::Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
        loop {
            tokio::select! {
                taken = &mut taking => {
                    taken?;
                    break;
                }
                _ = interval.tick() => {
                    tracing::info!(image = name, "taking the image over: {} MiB so far", mebibytes());
                }
            }
        }
        let seconds = began.elapsed().as_secs_f32();
        tracing::info!(
            image = name,
            id,
            seconds,
            "took the image over from the Docker Engine: {} MiB",
            mebibytes()
        );
        Ok(())
    }
}
