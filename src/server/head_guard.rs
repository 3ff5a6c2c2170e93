//! Refuses request heads, and chunked bodies, that two servers could read in two ways.
//!
//! A proxy before us and hyper must agree where each request ends, or one client's bytes become the
//! beginning of another's request (request smuggling, RFC 9112 §11.2). hyper is lenient where RFC 9112 allows it:
//! it takes bare LF for a line end, lets Transfer-Encoding win over Content-Length, and takes equal lengths
//! given twice for one. Each of that is a seam. So bytes are looked at on their way to hyper: the first one that
//! does not fit is replaced by a NUL, at which hyper answers 400 and closes, and nothing behind it is let
//! through.
//!
//! The guard follows the framing and nothing else. What it lets through, hyper still has to parse.

/// How long a line of chunked framing may be, in bytes.
const MAX_CHUNK_LINE: usize = 4096;

/// Follows one HTTP/1 connection.
#[derive(Debug)]
pub(super) struct HeadGuard {
    state: State,
    /// The line that is being read, without its end.
    line: Vec<u8>,
    framing: Framing,
    /// How long a line may get before hyper answers 431 by itself.
    max_line: usize,
}

#[derive(Debug)]
enum State {
    /// In a head's lines, the request line first.
    Head {
        first_line: bool,
    },
    /// In a body: this many bytes are to come.
    Body(u64),
    ChunkSize,
    Chunk(u64),
    /// Behind a chunk: this much of its CRLF has come.
    ChunkEnd(u8),
    Trailer,
    /// A line is too long to look at. hyper answers 431 before it ends; should it not, its end is refused.
    Overlong,
    Refused,
}

/// What a head says of the body.
#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
}

/// The bytes are refused.
struct Ambiguous;

impl HeadGuard {
    /// A guard at the beginning of a connection whose heads may have this many bytes.
    pub(super) fn new(max_head: usize) -> Self {
        Self {
            state: State::Head { first_line: true },
            line: Vec::new(),
            framing: Framing::default(),
            max_line: max_head,
        }
    }

    /// Whether bytes have been refused: nothing further may be read.
    pub(super) fn has_refused(&self) -> bool {
        matches!(self.state, State::Refused)
    }

    /// Looks at what has arrived; says how much of it may be passed on, the last byte of that spoilt where the guard
    /// refuses.
    pub(super) fn inspect(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            match self.step(&bytes[at..]) {
                Ok(seen) => at += seen,
                Err((seen, Ambiguous)) => {
                    self.state = State::Refused;
                    at += seen;
                    bytes[at] = 0;
                    return at + 1;
                }
            }
        }
        bytes.len()
    }

    /// Takes the next piece, at least a byte of it; on refusal says which byte it was.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, (usize, Ambiguous)> {
        match &mut self.state {
            State::Body(left) | State::Chunk(left) => {
                let taken = (bytes.len() as u64).min(*left);
                *left -= taken;
                if *left == 0 {
                    self.state = match self.state {
                        State::Chunk(_) => State::ChunkEnd(0),
                        _ => State::Head { first_line: true },
                    };
                }
                Ok(taken as usize)
            }
            State::ChunkEnd(come) => {
                if bytes[0] != b"\r\n"[usize::from(*come)] {
                    return Err((0, Ambiguous));
                }
                *come += 1;
                if *come == 2 {
                    self.state = State::ChunkSize;
                }
                Ok(1)
            }
            State::Overlong => match bytes.iter().position(|&byte| byte == b'\n') {
                Some(end) => Err((end, Ambiguous)),
                None => Ok(bytes.len()),
            },
            State::Refused => Ok(bytes.len()),
            State::Head { .. } | State::ChunkSize | State::Trailer => {
                let end = bytes.iter().position(|&byte| byte == b'\n');
                let taken = end.map_or(bytes.len(), |end| end + 1);
                self.line.extend_from_slice(&bytes[..taken]);
                if self.line.len() > self.max_line {
                    self.state = State::Overlong;
                    self.line = Vec::new();
                    if end.is_some() {
                        return Err((taken - 1, Ambiguous));
                    }
                } else if matches!(self.state, State::ChunkSize | State::Trailer)
                    && self.line.len() > MAX_CHUNK_LINE
                {
                    return Err((0, Ambiguous));
                } else if end.is_some() {
                    let line = std::mem::take(&mut self.line);
                    let result =
                        line.strip_suffix(b"\r\n").ok_or(Ambiguous).and_then(|line| self.end_line(line));
                    self.line = line;
                    self.line.clear();
                    result.map_err(|ambiguous| (taken - 1, ambiguous))?;
                }
                Ok(taken)
            }
        }
    }

    fn end_line(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        match self.state {
            // RFC 9112 §2.2: an empty line before the request line is to be ignored.
            State::Head { first_line: true } => {
                self.state = State::Head { first_line: line.is_empty() };
                Ok(())
            }
            State::Head { first_line: false } if line.is_empty() => {
                self.state = match std::mem::take(&mut self.framing) {
                    Framing { chunked: true, .. } => State::ChunkSize,
                    Framing { length: Some(length @ 1..), .. } => State::Body(length),
                    Framing { .. } => State::Head { first_line: true },
                };
                Ok(())
            }
            State::Head { first_line: false } => self.header(line),
            State::ChunkSize => {
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let (size, rest) = line.split_at(digits);
                // RFC 9112 §7.1.1: white space may stand before the semicolon of an extension, and nowhere else.
                let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
                if !rest.is_empty() && rest.get(blank) != Some(&b';') {
                    return Err(Ambiguous);
                }
                let size = std::str::from_utf8(size).ok().and_then(|size| u64::from_str_radix(size, 16).ok());
                self.state = match size.ok_or(Ambiguous)? {
                    0 => State::Trailer,
                    size => State::Chunk(size),
                };
                Ok(())
            }
            State::Trailer => {
                if line.is_empty() {
                    self.state = State::Head { first_line: true };
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        // RFC 9112 §5.2: obs-fold.
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(Ambiguous);
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return Ok(()) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            if !digits || length.is_none() || self.framing.length.is_some() || self.framing.chunked {
                return Err(Ambiguous);
            }
            self.framing.length = length;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let chunked = value.eq_ignore_ascii_case(b"chunked");
            if !chunked || self.framing.chunked || self.framing.length.is_some() {
                return Err(Ambiguous);
            }
            self.framing.chunked = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What passes of a stream that arrives in pieces of this size.
    fn passed(stream: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let mut guard = HeadGuard::new(8192);
        let mut out = Vec::new();
        for piece in stream.chunks(piece) {
            let mut piece = piece.to_vec();
            let kept = guard.inspect(&mut piece);
            out.extend_from_slice(&piece[..kept]);
            if guard.has_refused() {
                return (out, true);
            }
        }
        (out, false)
    }

    fn refuses(stream: &str) -> bool {
        let (whole, refused) = passed(stream.as_bytes(), stream.len());
        assert_eq!(passed(stream.as_bytes(), 1), (whole.clone(), refused), "depends on how it is split");
        if refused {
            assert_eq!(whole.last(), Some(&0), "nothing tells hyper");
        } else {
            assert_eq!(whole, stream.as_bytes(), "changed what it let through");
        }
        refused
    }

    #[test]
    fn plain_requests_pass_unchanged() {
        assert!(!refuses("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(!refuses("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n"));
        assert!(!refuses("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n\n\n\n\n\nGET / HTTP/1.1\r\n\r\n"));
        assert!(!refuses(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n\n\n\n\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        ));
    }

    #[test]
    fn content_length_beside_transfer_encoding_is_refused() {
        assert!(refuses("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"));
        assert!(refuses("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"));
    }

    #[test]
    fn two_lengths_are_refused_even_if_equal() {
        assert!(refuses("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"));
        assert!(refuses("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n"));
        assert!(refuses("POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n"));
    }

    #[test]
    fn a_length_that_is_no_plain_number_is_refused() {
        for length in ["", "+5", "-5", "0x5", "5 5", "99999999999999999999999"] {
            assert!(refuses(&format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n")), "{length}");
        }
    }

    #[test]
    fn a_bare_line_feed_is_refused() {
        assert!(refuses("GET / HTTP/1.1\nHost: x\r\n\r\n"));
        assert!(refuses("GET / HTTP/1.1\r\nHost: x\n\r\n"));
        assert!(refuses("GET / HTTP/1.1\r\nHost: x\r\n\n"));
    }

    #[test]
    fn a_folded_header_is_refused() {
        assert!(refuses("GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n"));
        assert!(refuses("GET / HTTP/1.1\r\n\tX: a\r\n\r\n"));
    }

    #[test]
    fn a_transfer_coding_other_than_chunked_is_refused() {
        assert!(refuses("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"));
        assert!(refuses(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        assert!(refuses("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n"));
    }

    #[test]
    fn behind_a_line_that_is_too_long_nothing_passes() {
        let long = "x".repeat(9000);
        let (out, refused) =
            passed(format!("GET / HTTP/1.1\r\nX: {long}\r\nSecret: x\r\n\r\n").as_bytes(), 100);
        assert!(refused && !out.windows(6).any(|window| window == b"Secret"));
        assert!(refuses(&format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n")));
    }

    #[test]
    fn malformed_chunks_are_refused() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in [
            "x\r\n",
            "\r\n",
            "3\n",
            "3 \r\n",
            " 3\r\n",
            "3 x\r\n",
            "3 3;x\r\n",
            " ;x\r\n",
            "3\r;x\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n",
            "0\r\nX: y\n\r\n",
        ] {
            assert!(refuses(&format!("{head}{body}")), "{body:?}");
        }
    }

    #[test]
    fn white_space_before_a_chunk_extension_passes() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for size in ["3 ;q=x", "3\t ; q = \"x\"", "3; q"] {
            assert!(!refuses(&format!("{head}{size}\r\nabc\r\n0 ;q\r\n\r\n")), "{size:?}");
        }
    }

    #[test]
    fn nothing_behind_a_refusal_passes() {
        let (out, _) = passed(b"GET / HTTP/1.1\nGET /secret HTTP/1.1\r\n\r\n", 64);
        assert!(!out.windows(6).any(|window| window == b"secret"));
    }

    proptest! {
        #[test]
        fn the_verdict_does_not_depend_on_how_the_bytes_are_split(
            stream in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b'0'), Just(b'5'), Just(b' '), any::<u8>()],
                0..200,
            ),
            piece in 1usize..20,
        ) {
            let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
            let stream = [head, &stream].concat();
            prop_assert_eq!(passed(&stream, piece), passed(&stream, stream.len()));
        }
    }
}
