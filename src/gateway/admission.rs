//! How many programs of a route run at once, and who waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::Limits;

/// The places of one route.
#[derive(Debug)]
pub(super) struct Gate {
    /// One permit for every program that may run.
    running: Arc<Semaphore>,
    /// One permit for every request that may wait for a place.
    waiting: Semaphore,
    /// One permit for every body that may be spooled: as many as there are requests that could get on. Spooling takes
    /// no place, but it takes memory and disk.
    spooling: Semaphore,
    patience: Duration,
}

/// The right to run one program. Given back on drop.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    QueueFull,
    WaitedTooLong,
}

impl Gate {
    pub(super) fn new(limits: &Limits) -> Self {
        let bounded = |wanted: usize| Semaphore::new(wanted.min(Semaphore::MAX_PERMITS));
        Self {
            running: Arc::new(bounded(limits.max_concurrency)),
            waiting: bounded(limits.queue),
            spooling: bounded(limits.max_concurrency.saturating_add(limits.queue)),
            patience: limits.queue_timeout,
        }
    }

    /// Refuses where [`enter`](Self::enter) would at once, without taking a place: worth asking before a body
    /// is read that would be read for nothing.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let full = self.running.available_permits() == 0 && self.waiting.available_permits() == 0;
        if full { Err(Refusal::QueueFull) } else { Ok(()) }
    }

    /// The right to spool a body. Given back on drop.
    pub(super) fn spool(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.spooling.try_acquire().map_err(|_| Refusal::QueueFull)
    }

    /// Takes a place, waiting for one where the queue has room. First come, first served.
    ///
    /// Cancel safe: a request that goes away leaves the queue.
    pub(super) async fn enter(&self) -> Result<Place, Refusal> {
        if let Ok(permit) = self.running.clone().try_acquire_owned() {
            return Ok(Place(permit));
        }
        let _turn = self.waiting.try_acquire().map_err(|_| Refusal::QueueFull)?;
        match tokio::time::timeout(self.patience, self.running.clone().acquire_owned()).await {
            Ok(permit) => Ok(Place(permit.expect("the semaphore is never closed"))),
            Err(_) => Err(Refusal::WaitedTooLong),
        }
    }

    /// What to tell a refused client: how many seconds to wait before another try.
    pub(super) fn retry_after(&self) -> u64 {
        self.patience.as_secs().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(max_concurrency: usize, queue: usize) -> Gate {
        let queue_timeout = Duration::from_secs(5);
        Gate::new(&Limits { max_concurrency, queue, queue_timeout, ..Limits::default() })
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let gate = gate(1, 0);
        let _place = gate.enter().await.unwrap();
        assert_eq!(gate.check(), Err(Refusal::QueueFull));
        assert_eq!(gate.enter().await.unwrap_err(), Refusal::QueueFull);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_no_longer_than_the_queue_timeout() {
        let gate = gate(1, 1);
        let _place = gate.enter().await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(gate.enter().await.unwrap_err(), Refusal::WaitedTooLong);
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test]
    async fn no_more_bodies_are_spooled_than_requests_could_get_on() {
        let gate = gate(1, 1);
        let _bodies = [gate.spool().unwrap(), gate.spool().unwrap()];
        assert_eq!(gate.spool().unwrap_err(), Refusal::QueueFull);
    }

    #[tokio::test]
    async fn a_place_given_back_goes_to_the_one_who_waits() {
        let gate = gate(1, 1);
        let place = gate.enter().await.unwrap();
        let (waited, ()) = tokio::join!(gate.enter(), async { drop(place) });
        waited.unwrap();
    }

    #[tokio::test]
    async fn a_request_that_goes_away_leaves_the_queue() {
        let gate = gate(1, 1);
        let _place = gate.enter().await.unwrap();
        let waits = tokio::time::timeout(Duration::ZERO, gate.enter()).await;
        assert!(waits.is_err());
        assert_eq!(gate.check(), Ok(()));
    }
}
