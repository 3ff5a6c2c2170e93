//! How much a route has been asked for of late: what it should have ready.

use std::time::{Duration, Instant};

use super::Warm;

/// How long a peak counts, at least; at most twice as long.
const SPAN: Duration = Duration::from_secs(5);

/// Counts a route's requests that run.
#[derive(Debug)]
pub(super) struct Demand {
    running: usize,
    /// The most that ran at once, in this [`SPAN`] and in the one before.
    peaks: (usize, usize),
    span_began: Instant,
    last_used: Instant,
}

/// How far [`Warm::Auto`] goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How many containers wait at most.
    pub(super) most: usize,
    /// How long a route that nobody asks for keeps them.
    pub(super) kept_for: Duration,
}

impl Demand {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { running: 0, peaks: (0, 0), span_began: now, last_used: now }
    }

    /// A request begins.
    pub(super) fn begun(&mut self) {
        self.running += 1;
        self.peaks.0 = self.peaks.0.max(self.running);
        self.last_used = Instant::now();
    }

    /// A request is over.
    pub(super) fn ended(&mut self) {
        self.running -= 1;
    }

    /// Forgets what is long ago. To be called now and then.
    pub(super) fn forget(&mut self) {
        if self.span_began.elapsed() >= SPAN {
            self.peaks = (self.running, self.peaks.0);
            self.span_began = Instant::now();
        }
    }

    /// The most that have run at once of late.
    pub(super) fn peak(&self) -> usize {
        self.peaks.0.max(self.peaks.1)
    }

    /// Whether nobody has asked for so long.
    pub(super) fn has_ceased(&self, since: Duration) -> bool {
        self.last_used.elapsed() >= since
    }

    /// How many containers should wait for requests.
    pub(super) fn wanted(&self, warm: Warm, bounds: Bounds) -> usize {
        match warm {
            Warm::Fixed(count) => count as usize,
            Warm::Auto if self.has_ceased(bounds.kept_for) => 0,
            // With those that run as many as have run at once of late, and one to be ahead.
            Warm::Auto => match self.peak() {
                0 => 0,
                peak => (peak + 1).saturating_sub(self.running).min(bounds.most),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { most: 4, kept_for: Duration::from_secs(60) };

    fn after(begun: usize, ended: usize) -> Demand {
        let mut demand = Demand::new();
        (0..begun).for_each(|_| demand.begun());
        (0..ended).for_each(|_| demand.ended());
        demand
    }

    #[test]
    fn a_route_that_nobody_has_asked_for_has_nothing_ready() {
        assert_eq!(after(0, 0).wanted(Warm::Auto, BOUNDS), 0);
    }

    #[test]
    fn as_many_as_have_run_at_once_and_one_ahead_are_ready() {
        assert_eq!(after(1, 0).wanted(Warm::Auto, BOUNDS), 1);
        assert_eq!(after(1, 1).wanted(Warm::Auto, BOUNDS), 2);
        assert_eq!(after(3, 1).wanted(Warm::Auto, BOUNDS), 2);
    }

    #[test]
    fn what_is_ready_is_bounded() {
        assert_eq!(after(100, 100).wanted(Warm::Auto, BOUNDS), 4);
    }

    #[test]
    fn a_number_is_that_number() {
        assert_eq!(after(9, 3).wanted(Warm::Fixed(7), BOUNDS), 7);
        assert_eq!(after(0, 0).wanted(Warm::Fixed(7), BOUNDS), 7);
    }

    #[test]
    fn nothing_is_ready_once_nobody_has_asked_for_long() {
        let bounds = Bounds { kept_for: Duration::ZERO, ..BOUNDS };
        assert_eq!(after(3, 3).wanted(Warm::Auto, bounds), 0);
    }
}
