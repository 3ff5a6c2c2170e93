//! What the suites share: an engine, the probe's image, a dcgi process, and a client that sees every byte.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "no suite needs all of it")]

pub mod agent;
pub mod apache;
pub mod client;
pub mod docker;
pub mod embedded;
pub mod engine;
pub mod front_end;
pub mod gate;
pub mod http2;
pub mod images;
pub mod nginx;
pub mod packages;
pub mod processes;
pub mod server;

pub use client::{Connection, Response};
pub use engine::Under;
pub use server::Server;

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long anything that must happen may take before it counts as not happening.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds; says what did not.
#[track_caller]
pub fn wait_until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < patience, "not within {patience:?}: {what}");
        pause(Duration::from_millis(20));
    }
}

/// Says so when it is dropped, by a panic as well: then who goes on until it is said is not waited for without end.
pub struct Done<'a>(pub &'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a command with some input to its end: whether it succeeded, and all that it said.
pub fn piped(command: &mut Command, input: &[u8]) -> (bool, String) {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The interval of a poll; or a slow client. Never a guess at how long something takes.
#[allow(clippy::disallowed_methods)]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// The step that has the probe print a text.
pub fn print(text: impl AsRef<[u8]>) -> String {
    format!("print={}", encoded(text))
}

/// Percent-encodes a value for the probe.
pub fn encoded(text: impl AsRef<[u8]>) -> String {
    text.as_ref()
        .iter()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'/' => {
                char::from(*byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
