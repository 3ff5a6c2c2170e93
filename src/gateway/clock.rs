//! The two clocks of a request: its deadline, and the silence since the last byte.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::Taken;

/// When a request must be over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<(Instant, Duration)>);

impl Deadline {
    pub(crate) const NEVER: Self = Self(None);

    /// The earlier one of this and so long from now; `None` is never.
    #[must_use]
    pub(super) fn within(self, timeout: Option<Duration>) -> Self {
        let other = timeout.map(|timeout| (Instant::now() + timeout, timeout));
        Self(self.0.into_iter().chain(other).min())
    }

    /// Resolves when it has passed; gives how long there was.
    pub(crate) async fn passed(self) -> Duration {
        match self.0 {
            Some((at, timeout)) => {
                tokio::time::sleep_until(at).await;
                timeout
            }
            None => std::future::pending().await,
        }
    }
}

/// When something last went either way: a byte of the request, or of what the program prints, or one that the client
/// took.
#[derive(Debug)]
pub(super) struct Activity(Mutex<Instant>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// A byte went.
    pub(super) fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Resolves when there was none for this long, and gives that; `None` is never. `taken` knows when the client last took something of
    /// its answers.
    pub(super) async fn ceased(&self, limit: Option<Duration>, taken: Option<&Taken>) -> Duration {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let last = taken.and_then(Taken::last).map_or(last, |taken| last.max(taken));
            let end = last + limit;
            if end <= Instant::now() {
                return limit;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_last_byte() {
        let activity = Activity::new();
        let began = Instant::now();
        let ceased = activity.ceased(Some(Duration::from_secs(10)), None);
        let talk = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            activity.touch();
        };
        tokio::join!(ceased, talk);
        assert_eq!(began.elapsed(), Duration::from_secs(17));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_something_now_and_then_is_not_silent() {
        let (activity, taken) = (Activity::new(), Taken::default());
        let began = Instant::now();
        let ceased = activity.ceased(Some(Duration::from_secs(10)), Some(&taken));
        let take = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                taken.note();
            }
        };
        tokio::join!(ceased, take);
        assert_eq!(began.elapsed(), Duration::from_secs(55));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_can_only_come_nearer() {
        let (near, far) = (Some(Duration::from_secs(1)), Some(Duration::from_secs(9)));
        for (first, second) in [(near, far), (far, near)] {
            let began = Instant::now();
            Deadline::NEVER.within(first).within(second).passed().await;
            assert_eq!(began.elapsed(), Duration::from_secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_silence_never_ends_anything() {
        let day = Duration::from_secs(86_400);
        assert!(tokio::time::timeout(day, Activity::new().ceased(None, None)).await.is_err());
        assert!(tokio::time::timeout(day, Deadline::NEVER.within(None).passed()).await.is_err());
    }
}
