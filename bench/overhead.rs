//! What dcgi itself adds to a request: everything but the engine, over a real connection.
//!
//! The engine here starts nothing: its program has printed its answer before anyone asks. What is left is
//! parsing, routing, meta-variables, the exchange and its clocks, and the response.

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dcgi::Handler;
use dcgi::config::ServerLimits;
use dcgi::engine::{Engine, EngineError, ExitStatus, ImageConfig, Invocation, Process, Program, Reaper};
use dcgi::server::Server;
use dcgi::site::Route;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use support::{client::Connection, median};

const REQUESTS: usize = 20_000;

/// A program that is done before it starts.
#[derive(Debug)]
struct Nothing;

impl Engine for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn image<'a>(&'a self, _: &'a Program) -> BoxFuture<'a, Result<ImageConfig, EngineError>> {
        async { Ok(ImageConfig { entrypoint: vec!["/hello".into()], ..Default::default() }) }.boxed()
    }

    fn start<'a>(
        &'a self,
        _: &'a Program,
        invocation: Invocation,
    ) -> BoxFuture<'a, Result<Process, EngineError>> {
        std::hint::black_box(invocation);
        let output = b"Content-Type: text/plain\n\nHello, world!\n".as_slice();
        let process = Process {
            stdin: Box::pin(tokio::io::sink()),
            stdout: Box::pin(output),
            stderr: Box::pin(tokio::io::empty()),
            ended: None,
            exit: async { Ok(ExitStatus::Exited(0)) }.boxed(),
            reaper: Reaper::new(|| {}, (), async {}),
        };
        async { Ok(process) }.boxed()
    }

    fn describe(&self, _: &Program, _: &Invocation) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn drained(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let listen = ["127.0.0.1:0".parse().unwrap()];
    let server = runtime.block_on(Server::bind(&listen, ServerLimits::default())).unwrap();
    let address = server.urls()[0].strip_prefix("http://").unwrap().parse().unwrap();
    let handler = Handler::new(Arc::new(Nothing), [Route::new("/hello", Program::new("nothing"))]);
    runtime.spawn(server.serve(handler, Duration::ZERO, std::future::pending()));

    let mut connection = Connection::open(address);
    let mut latencies: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let began = Instant::now();
            let response = connection.get("/hello");
            assert!(response.status == 200 && response.complete);
            began.elapsed().as_secs_f64() * 1e6
        })
        .skip(REQUESTS / 10)
        .collect();
    latencies.sort_by(f64::total_cmp);
    let p99 = latencies[latencies.len() * 99 / 100];
    println!("| dcgi's own latency, engine excluded, {} requests | µs |\n| --- | --- |", latencies.len());
    println!("| median | {:.0} |\n| 99th percentile | {p99:.0} |", median(latencies));
}
