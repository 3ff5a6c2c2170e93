//! Fresh containers: dcgi against a bare client of the same engine's API, in one run.
//!
//! The bare client does what must be done, and nothing else: create, attach, start, read to the end, wait, remove,
//! one after the other, on a kept-open connection a worker, and for exactly the container that dcgi would ask for.
//! The two take turns, round by round, so that a machine that gets slower gets slower for both.

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use support::{Server, client::Connection, median};

const CONCURRENCIES: [usize; 4] = [1, 2, 4, 8];
const ROUNDS: usize = 3;
const REQUESTS: usize = 40;

const CONFIG: &str = "[[route]]\npath = \"/hello\"\nimage = \"dcgi/hello\"\npull = \"never\"\n";

fn main() {
    let server = Server::start(CONFIG);
    let socket = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let socket = socket.strip_prefix("unix://").expect("the engine is on a unix socket").to_owned();
    let body = server.container("/hello");

    // Nothing is measured cold.
    run(2, 4, || dcgi(&server));
    run(2, 4, || bare(&socket, &body));

    println!("| at once | bare API: median | requests/s | dcgi: median | requests/s | ratio of requests/s |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut best = (0.0_f64, 0.0_f64);
    for concurrency in CONCURRENCIES {
        let (mut bare_runs, mut dcgi_runs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare_runs.push(run(concurrency, REQUESTS, || bare(&socket, &body)));
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
    static API: std::cell::RefCell<Option<BufReader<UnixStream>>> = const { std::cell::RefCell::new(None) };
}

fn dcgi(server: &Server) {
    CLIENT.with_borrow_mut(|client| {
        let client = client.get_or_insert_with(|| Connection::open(server.address));
        let response = client.get("/hello");
        assert!(response.status == 200 && response.complete, "{response:?}");
    });
}

fn bare(socket: &str, body: &str) {
    API.with_borrow_mut(|api| {
        let api = api.get_or_insert_with(|| BufReader::new(UnixStream::connect(socket).unwrap()));
        let created = call(api, "POST", "/containers/create", body);
        let id = created.split("\"Id\":\"").nth(1).unwrap().split('"').next().unwrap();

        let mut attach = BufReader::new(UnixStream::connect(socket).unwrap());
        let path = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1");
        let upgrade = format!(
            "POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
        );
        attach.get_mut().write_all(upgrade.as_bytes()).unwrap();
        assert_eq!(head(&mut attach).0, 101);
        call(api, "POST", &format!("/containers/{id}/start"), "");
        attach.get_mut().shutdown(Shutdown::Write).unwrap();
        let mut output = Vec::new();
        attach.read_to_end(&mut output).unwrap();
        assert!(!output.is_empty());
        call(api, "POST", &format!("/containers/{id}/wait"), "");
        call(api, "DELETE", &format!("/containers/{id}?force=1&v=1"), "");
    });
}

fn call(api: &mut BufReader<UnixStream>, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    api.get_mut().write_all(request.as_bytes()).unwrap();
    let (status, length) = head(api);
    let mut answer = Vec::new();
    match length {
        Some(length) => _ = api.by_ref().take(length).read_to_end(&mut answer).unwrap(),
        None if status == 204 => {}
        None => loop {
            let mut line = String::new();
            api.read_line(&mut line).unwrap();
            let size = u64::from_str_radix(line.trim(), 16).unwrap();
            api.by_ref().take(size + 2).read_to_end(&mut answer).unwrap();
            if size == 0 {
                break;
            }
        },
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(status < 300, "{method} {path}: {status} {answer}");
    answer
}

/// Status and declared length.
fn head(api: &mut BufReader<UnixStream>) -> (u16, Option<u64>) {
    let mut line = String::new();
    api.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut length = None;
    loop {
        line.clear();
        api.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            return (status, length);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        }
    }
}
