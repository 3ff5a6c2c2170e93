//! 1 GiB up and 1 GiB down through one request, both at once: how much of it dcgi holds.

#[path = "support/mod.rs"]
mod support;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use support::{Server, client::Connection};

const SIZE: u64 = 1 << 30;
const MEBIBYTE: f64 = (1 << 20) as f64;

const CONFIG: &str = "engine = \"docker\"
[[route]]
path = \"/toupper\"
image = \"dcgi/toupper\"
pull = \"never\"
output = \"raw\"
timeout = \"10m\"
max_request_body = \"none\"
";

fn main() {
    let server = Server::start(CONFIG);
    let (idle, _) = server.memory();
    let mut connection = Connection::open(server.address);
    let mut writer = connection.writer();
    let sent = AtomicU64::new(0);
    let began = Instant::now();
    let (sent_at_first_byte, received) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let chunk = vec![b'a'; 256 << 10];
            let head = format!("POST /toupper HTTP/1.1\r\nHost: localhost\r\nContent-Length: {SIZE}\r\n\r\n");
            writer.write_all(head.as_bytes()).unwrap();
            while sent.load(Ordering::Relaxed) < SIZE {
                writer.write_all(&chunk).unwrap();
                sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        });
        let head = connection.head();
        assert_eq!(head.status, 200);
        let (mut first, mut received) = (None, 0);
        loop {
            let chunk = connection.chunk().expect("a whole answer");
            first.get_or_insert_with(|| sent.load(Ordering::Relaxed));
            if chunk.is_empty() {
                break;
            }
            assert!(chunk.iter().all(|byte| *byte == b'A'));
            received += chunk.len() as u64;
        }
        (first.unwrap(), received)
    });
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(received, SIZE);
    let (_, peak) = server.memory();
    println!("| what | figure |\n| --- | --- |");
    println!("| up and down through one request | {} MiB each |", SIZE >> 20);
    println!("| time, throughput each way | {seconds:.1} s, {:.0} MiB/s |", SIZE as f64 / MEBIBYTE / seconds);
    println!("| first output byte after | {:.2} MiB of input |", sent_at_first_byte as f64 / MEBIBYTE);
    println!("| dcgi's resident memory, idle | {:.1} MiB |", idle as f64 / MEBIBYTE);
    println!("| dcgi's resident memory, peak | {:.1} MiB |", peak as f64 / MEBIBYTE);
}
