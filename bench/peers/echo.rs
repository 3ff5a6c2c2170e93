//! A large body there and back, over a connection of its own.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// For how long nothing may come or go. A server that waits for its program, which waits for the server, hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

const PIECE: usize = 64 << 10;

/// Sends `length` bytes and reads the answer meanwhile.
///
/// # Errors
/// Where the answer is none, too short, or an error.
pub(crate) fn run(address: SocketAddr, path: &str, length: usize) -> io::Result<()> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let result = std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(&stream, path, length));
        let received = receive(&stream, length);
        // What is still being sent is of no use to anybody.
        if received.is_err() {
            _ = stream.shutdown(Shutdown::Both);
        }
        let sent = sending.join().expect("no panic");
        received.and(sent)
    });
    // What the kernel says of a time that is up says nothing to readers.
    result.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::other(format!("hangs for {} s", PATIENCE.as_secs())),
        _ => error,
    })
}

/// HTTP/1.0: the answer ends with the connection, and is not chunked.
fn send(mut stream: &TcpStream, path: &str, length: usize) -> io::Result<()> {
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
    )?;
    let piece = [b'x'; PIECE];
    let mut left = length;
    while left > 0 {
        let size = left.min(PIECE);
        stream.write_all(&piece[..size])?;
        left -= size;
    }
    Ok(())
}

fn receive(mut stream: &TcpStream, length: usize) -> io::Result<()> {
    let mut head = Vec::new();
    let mut piece = vec![0; PIECE];
    let mut received = loop {
        let read = stream.read(&mut piece)?;
        head.extend_from_slice(&piece[..read]);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break head.len() - end - 4;
        }
        if read == 0 {
            return Err(io::Error::other("no answer"));
        }
    };
    if !head.starts_with(b"HTTP/1.") || !head[8..].starts_with(b" 200") {
        let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
        return Err(io::Error::other(line));
    }
    while received < length {
        match stream.read(&mut piece)? {
            0 => return Err(io::Error::other(format!("only {received} bytes came back"))),
            read => received += read,
        }
    }
    Ok(())
}
