//! An HTTP/1 client that hides nothing: the response's bytes, and whether the message came in whole.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a read may take before a test fails instead of hanging.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Connection {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// A response as it came over the wire.
#[derive(Debug)]
pub struct Response {
    /// `HTTP/1.1 200 OK`
    pub status_line: String,
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the message ended where its framing says. False for an answer that was cut.
    pub complete: bool,
    /// How the body was framed.
    pub framing: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    /// It ends with the connection.
    Close,
}

impl Connection {
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// The same, where the server may have stopped reading.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        self.response()
    }

    /// A second handle, to write from another thread.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Reads up to the head's end, and leaves the body.
    #[track_caller]
    pub fn head(&mut self) -> Response {
        let status_line = self.line().expect("a status line");
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {status_line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line().expect("a header or a blank line");
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut response = Response {
            status_line,
            status,
            headers,
            body: Vec::new(),
            complete: true,
            framing: Framing::None,
        };
        response.framing = if matches!(status, 100..=199 | 204 | 304) {
            Framing::None
        } else if response.header("transfer-encoding").is_some() {
            Framing::Chunked
        } else if let Some(length) = response.header("content-length") {
            Framing::Length(length.parse().unwrap())
        } else {
            Framing::Close
        };
        response
    }

    /// Reads one response.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        let mut response = self.head();
        self.body(&mut response);
        response
    }

    /// Reads one response to a HEAD request: it has no body, whatever its headers say.
    #[track_caller]
    pub fn response_to_head(&mut self) -> Response {
        let mut response = self.head();
        response.framing = Framing::None;
        response
    }

    /// Reads the body that belongs to a head.
    pub fn body(&mut self, response: &mut Response) {
        match response.framing {
            Framing::None => {}
            Framing::Length(length) => {
                _ = self.reader.by_ref().take(length).read_to_end(&mut response.body);
                response.complete = response.body.len() as u64 == length;
            }
            Framing::Chunked => {
                while let Some(chunk) = self.chunk() {
                    if chunk.is_empty() {
                        return;
                    }
                    response.body.extend_from_slice(&chunk);
                }
                response.complete = false;
            }
            Framing::Close => {
                // A reset is how a cut answer shows.
                response.complete = self.reader.read_to_end(&mut response.body).is_ok();
            }
        }
    }

    /// One chunk of a chunked body: empty for the last one, `None` where the connection ends before it is whole.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line()?;
        let size = usize::from_str_radix(line.split(';').next()?, 16).ok()?;
        let mut chunk = vec![0; size];
        self.reader.read_exact(&mut chunk).ok()?;
        (self.line()?.is_empty()).then_some(chunk)
    }

    /// Some bytes, as soon as there are any. Empty at the end.
    pub fn some_bytes(&mut self) -> Vec<u8> {
        let mut chunk = vec![0; 64 << 10];
        let read = self.reader.read(&mut chunk).unwrap_or(0);
        chunk.truncate(read);
        chunk
    }

    /// Whether the server has closed the connection, with nothing more to say.
    pub fn is_closed_by_server(&mut self) -> bool {
        matches!(self.reader.read(&mut [0]), Ok(0) | Err(_))
    }

    /// Says that no more will be sent, and stays to read.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).ok()?;
        let line = line.strip_suffix(b"\r\n")?;
        Some(String::from_utf8_lossy(line).into_owned())
    }
}

impl Response {
    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All headers of a name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
