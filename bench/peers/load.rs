//! Load, by wrk: as many requests as there are answers, on connections that are kept open.

use std::io::Read;
use std::process::Stdio;

use super::server::Server;
use super::stage::{self, Stage};
use super::tool::tool;

/// wrk calls this when it has ended, and it says all in numbers without units.
const SCRIPT: &str = r#"
done = function(summary, latency, requests)
    local errors = summary.errors
    print(string.format("RESULT %d %d %d %d %.0f %.0f", summary.requests, summary.duration, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50), latency:percentile(99)))
end
"#;

/// What one run has shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Answered, and not by an error.
    pub(crate) requests: u64,
    /// Answered by an error, or not at all.
    pub(crate) errors: u64,
    /// Requests a second.
    pub(crate) rate: f64,
    /// In milliseconds.
    pub(crate) median: f64,
    pub(crate) p99: f64,
}

/// Sends requests for some seconds.
///
/// # Panics
/// Where wrk cannot be run.
pub(crate) fn run(stage: &Stage, server: &Server, path: &str, connections: usize, seconds: u64) -> Load {
    let script = stage.write("wrk.lua", SCRIPT);
    let url = format!("http://{}{path}", server.address);
    let mut command = tool("wrk");
    command.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--timeout", "60s", "-s"]);
    let mut child = stage::start(command.arg(script).arg(&url).stdout(Stdio::piped()));
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(stage::ended(child).success(), "{url}: {said}");
    let numbers = said.lines().find_map(|line| line.strip_prefix("RESULT ")).expect("wrk's result");
    let numbers: Vec<f64> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
    let [requests, microseconds, refused, broken, median, p99] = numbers[..] else { panic!("{said}") };
    let good = (requests - refused).max(0.0);
    Load {
        requests: good as u64,
        errors: (refused + broken) as u64,
        rate: good / (microseconds / 1e6),
        median: median / 1e3,
        p99: p99 / 1e3,
    }
}
