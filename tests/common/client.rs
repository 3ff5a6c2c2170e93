//! An HTTP/1 client that hides nothing: the response's bytes, and whether the message came in whole.

use std::collections::BTreeMap;
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

    /// Our end, as the server's `REMOTE_ADDR` and `REMOTE_PORT` have it.
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Sends a request with a body of known length, and reads its response.
    #[track_caller]
    pub fn post(&mut self, path: &str, body: impl AsRef<[u8]>) -> Response {
        self.send_head("POST", path, body.as_ref().len() as u64);
        self.send(body);
        self.response()
    }

    /// Sends a request's head that promises a body of this length.
    #[track_caller]
    pub fn send_head(&mut self, method: &str, path: &str, length: u64) {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"));
    }

    /// Has the probe answer with the `path`, and do what comes `then` only once the beginning of its answer is here.
    #[track_caller]
    pub fn answer_then(&mut self, path: &str, then: &str) -> Response {
        self.send_head("POST", &format!("{path}&read=1&{then}"), 1);
        let mut response = self.head();
        match response.framing {
            Framing::Chunked => response.body = self.chunk().expect("a first chunk"),
            Framing::Close => response.body = self.some_bytes(),
            Framing::Length(_) | Framing::None => {}
        }
        self.send("x");
        self.body(&mut response);
        response
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

    /// The next chunks of a chunked body, which together are `expected`: what was written at once may come in pieces.
    #[track_caller]
    pub fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut read = Vec::new();
        while read.len() < expected.len() {
            match self.chunk() {
                Some(chunk) if !chunk.is_empty() => read.extend(chunk),
                _ => break,
            }
        }
        assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(expected));
    }

    /// Some bytes, as soon as there are any. Empty at the end.
    pub fn some_bytes(&mut self) -> Vec<u8> {
        let mut chunk = vec![0; 64 << 10];
        let read = self.reader.read(&mut chunk).unwrap_or(0);
        chunk.truncate(read);
        chunk
    }

    /// At most so many bytes, as soon as there are any. Empty at the end. Past what is buffered here: so the client takes no
    /// more than it reads.
    pub fn some_of(&mut self, most: usize) -> Vec<u8> {
        let mut chunk = vec![0; most];
        let read = match self.reader.buffer().is_empty() {
            true => self.stream.read(&mut chunk),
            false => self.reader.read(&mut chunk),
        };
        chunk.truncate(read.unwrap_or(0));
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

    /// What the probe's `envall` printed: every variable that the program had.
    #[track_caller]
    pub fn variables(&self) -> BTreeMap<String, String> {
        assert_eq!(self.status, 200, "{}", self.text());
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.text().lines().map(|line| pair(line).unwrap_or_else(|| panic!("no variable: {line}"))).collect()
    }

    /// What the log, the program and the container call the request.
    #[track_caller]
    pub fn id(&self) -> &str {
        self.header("x-request-id").expect("each response names its request")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
