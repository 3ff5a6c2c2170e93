//! Load for what is slow, or no server: workers of the bench's own, each of which always has a request. wrk forgets the
//! requests that are under way when its time is up, which are many of a few.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::load::Load;
use super::stage;
use super::support::median;

/// Begins requests for as long as `duration` is, and waits for the last of them. A request that says false, or panics,
/// is an error.
pub(crate) fn run(workers: usize, duration: Duration, request: impl Fn() -> bool + Sync) -> Load {
    let results = Mutex::new(Vec::new());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while began.elapsed() < duration {
                    let Some(result) = one(&request) else { break };
                    results.lock().unwrap().push(result);
                }
            });
        }
    });
    summary(&results.into_inner().unwrap(), began.elapsed())
}

/// So many requests, with a pause before each. The rate is that of requests without their pauses.
pub(crate) fn paced(count: usize, pause: Duration, request: impl Fn() -> bool) -> Load {
    let results: Vec<_> = (0..count)
        .map_while(|_| {
            std::thread::sleep(pause);
            one(&request)
        })
        .collect();
    let elapsed = results.iter().map(|(latency, _)| *latency).sum();
    summary(&results, elapsed)
}

/// How long one took, and whether it went well. `None` at the end of all.
fn one(request: &impl Fn() -> bool) -> Option<(Duration, bool)> {
    stage::undisturbed(|| {
        let began = Instant::now();
        let good = catch_unwind(AssertUnwindSafe(request)).unwrap_or(false);
        (began.elapsed(), good)
    })
}

fn summary(results: &[(Duration, bool)], elapsed: Duration) -> Load {
    let errors = results.iter().filter(|(_, good)| !good).count();
    let milliseconds = |(latency, good): &(Duration, bool)| good.then_some(latency.as_secs_f64() * 1e3);
    let mut latencies: Vec<f64> = results.iter().filter_map(milliseconds).collect();
    latencies.sort_by(f64::total_cmp);
    // At least 99 of a hundred are not longer.
    let last = (latencies.len() * 99).div_ceil(100).saturating_sub(1);
    Load {
        requests: latencies.len() as u64,
        errors: errors as u64,
        rate: latencies.len() as f64 / elapsed.as_secs_f64(),
        median: if latencies.is_empty() { f64::NAN } else { median(latencies.clone()) },
        p99: latencies.get(last).copied().unwrap_or(f64::NAN),
    }
}
