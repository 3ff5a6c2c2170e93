//! Fresh containers: dcgi against a bare client of the same engine's API, in one run.
//!
//! The bare client (`support/api.rs`) asks for exactly the container that dcgi would ask for.
//! The two take turns, round by round, so that a machine that gets slower gets slower for both.

#[path = "support/mod.rs"]
mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use support::{Server, api, client::Connection, median};

const CONCURRENCIES: [usize; 4] = [1, 2, 4, 8];
const ROUNDS: usize = 3;
const REQUESTS: usize = 40;

const CONFIG: &str =
    "engine = \"docker\"\n[[route]]\npath = \"/hello\"\nimage = \"dcgi/hello\"\npull = \"never\"\n";

fn main() {
    let server = Server::start(CONFIG);
    let socket = api::socket();
    let body = server.container("/hello");

    // Nothing is measured cold.
    run(2, 4, || dcgi(&server));
    run(2, 4, || _ = api::run(&socket, &body));

    println!("| at once | bare API: median | requests/s | dcgi: median | requests/s | ratio of requests/s |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut best = (0.0_f64, 0.0_f64);
    for concurrency in CONCURRENCIES {
        let (mut bare_runs, mut dcgi_runs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare_runs.push(run(concurrency, REQUESTS, || _ = api::run(&socket, &body)));
            dcgi_runs.push(run(concurrency, REQUESTS, || dcgi(&server)));
        }
        let (bare_median, bare_rate) = summary(&bare_runs);
        let (dcgi_median, dcgi_rate) = summary(&dcgi_runs);
        best = (best.0.max(bare_rate), best.1.max(dcgi_rate));
        println!(
            "| {concurrency} | {:.1} ms | {bare_rate:.2} | {:.1} ms | {dcgi_rate:.2} | {:.3} |",
            bare_median * 1e3,
            dcgi_median * 1e3,
            dcgi_rate / bare_rate
        );
    }
    println!(
        "\nbest concurrency each: dcgi {:.2}/s, bare {:.2}/s, ratio {:.3}",
        best.1,
        best.0,
        best.1 / best.0
    );
}

/// Latencies in seconds, and requests a second.
type Run = (Vec<f64>, f64);

fn run(concurrency: usize, requests: usize, request: impl Fn() + Sync) -> Run {
    let latencies = Mutex::new(Vec::with_capacity(requests));
    let left = AtomicUsize::new(requests);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..concurrency {
            scope.spawn(|| {
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    let began = Instant::now();
                    request();
                    latencies.lock().unwrap().push(began.elapsed().as_secs_f64());
                }
            });
        }
    });
    let rate = requests as f64 / began.elapsed().as_secs_f64();
    (latencies.into_inner().unwrap(), rate)
}

/// The medians over the rounds.
fn summary(runs: &[Run]) -> (f64, f64) {
    let latencies = runs.iter().flat_map(|run| run.0.iter().copied()).collect();
    (median(latencies), median(runs.iter().map(|run| run.1).collect()))
}

thread_local! {
    /// One connection a worker, as browsers and proxies keep them.
    static CLIENT: std::cell::RefCell<Option<Connection>> = const { std::cell::RefCell::new(None) };
}

fn dcgi(server: &Server) {
    CLIENT.with_borrow_mut(|client| {
        let client = client.get_or_insert_with(|| Connection::open(server.address));
        let response = client.get("/hello");
        assert!(response.status == 200 && response.complete, "{response:?}");
    });
}
