//! Refuses request heads, and chunked bodies, that two servers could read in two ways.
//!
//! A proxy before us and hyper must agree where each request ends, or one client's bytes become the
//! beginning of another's request (request smuggling, RFC 9112 §11.2). hyper is lenient where RFC 9112 allows it:
//! it takes bare LF for a line end, lets Transfer-Encoding win over Content-Length, and takes equal lengths
//! given twice for one. Each of that is a seam. So bytes are looked at on their way to hyper: the first one that
//! does not fit is replaced by a NUL, at which hyper answers 400 and closes, and nothing behind it is let
//! through.
//!
//! Beside the framing the guard follows one thing: bytes in a request target that hyper refuses without a word and other
//! servers take. It says where they are, so that they can be escaped on their way, and what the target was. What it lets
//! through, hyper still has to parse.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

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
    /// How many heads have ended.
    heads: u64,
    /// Whether the request line has come to its target.
    in_target: bool,
    /// Where in what was inspected last the bytes are that have to be escaped.
    odd: Vec<usize>,
    /// The targets that had any.
    targets: RawTargets,
}

/// The targets of a connection's requests that were changed on their way, as they came: each with its request's number, in
/// order.
#[derive(Clone, Debug, Default)]
pub(super) struct RawTargets(Arc<Mutex<VecDeque<(u64, Bytes)>>>);

impl RawTargets {
    /// The target of a request, counted from 0, where it was changed. Those before it are given up.
    pub(super) fn take(&self, request: u64) -> Option<Bytes> {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while targets.front().is_some_and(|(number, _)| *number < request) {
            targets.pop_front();
        }
        targets.pop_front_if(|(number, _)| *number == request).map(|(_, target)| target)
    }

    fn put(&self, request: u64, target: &[u8]) {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        targets.push_back((request, Bytes::copy_from_slice(target)));
    }
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

/// Whether a byte may not stand in a request target (RFC 3986 §2), clients send it there all the same, and hyper refuses it,
/// which Apache and others do not.
fn is_odd(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`' | 0x80..)
}

impl HeadGuard {
    /// A guard at the beginning of a connection whose heads may have this many bytes.
    pub(super) fn new(max_head: usize) -> Self {
        Self {
            state: State::Head { first_line: true },
            line: Vec::new(),
            framing: Framing::default(),
            max_line: max_head,
            heads: 0,
            in_target: false,
            odd: Vec::new(),
            targets: RawTargets::default(),
        }
    }

    /// The targets that were changed, for whoever serves the requests.
    pub(super) fn raw_targets(&self) -> RawTargets {
        self.targets.clone()
    }

    /// Which of the bytes that were inspected last, and let through, have to be percent-encoded, in order.
    pub(super) fn odd(&self) -> &[usize] {
        &self.odd
    }

    /// Whether bytes have been refused: nothing further may be read.
    pub(super) fn has_refused(&self) -> bool {
        matches!(self.state, State::Refused)
    }

    /// Looks at what has arrived; says how much of it may be passed on, the last byte of that spoilt where the guard
    /// refuses.
    pub(super) fn inspect(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        self.odd.clear();
        while at < bytes.len() {
            let is_request_line = matches!(self.state, State::Head { first_line: true });
            match self.step(&bytes[at..]) {
                Ok(seen) => {
                    if is_request_line {
                        self.note_odd(&bytes[at..at + seen], at);
                    }
                    at += seen;
                }
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

    /// Notes what is odd in a piece of a request line, which begins at this place.
    fn note_odd(&mut self, piece: &[u8], at: usize) {
        for (index, byte) in piece.iter().enumerate() {
            match byte {
                b' ' => self.in_target = true,
                b'\n' => self.in_target = false,
                _ if self.in_target && is_odd(*byte) => self.odd.push(at + index),
                _ => {}
            }
        }
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
                let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
                if target.iter().copied().any(is_odd) {
                    self.targets.put(self.heads, target);
                }
                Ok(())
            }
            State::Head { first_line: false } if line.is_empty() => {
                self.heads += 1;
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

    /// What has to be escaped of a stream, and its targets as they came.
    fn odd(stream: &[u8], piece: usize) -> (Vec<usize>, Vec<Option<Bytes>>) {
        let mut guard = HeadGuard::new(8192);
        let mut odd = Vec::new();
        for (index, bytes) in stream.chunks(piece).enumerate() {
            let mut bytes = bytes.to_vec();
            assert_eq!(guard.inspect(&mut bytes), bytes.len());
            odd.extend(guard.odd().iter().map(|at| index * piece + at));
        }
        let targets = (0..guard.heads).map(|request| guard.raw_targets().take(request)).collect();
        (odd, targets)
    }

    #[test]
    fn odd_bytes_of_a_target_are_found_however_they_come() {
        let stream =
            b"GET /<\xff? HTTP/1.1\r\nX: \"<\r\n\r\nG`T /plain HTTP/1.1\r\n\r\nGET /?\" HTTP/1.1\r\n\r\n";
        for piece in 1..stream.len() {
            let (at, targets) = odd(stream, piece);
            assert_eq!(at.iter().map(|at| stream[*at]).collect::<Vec<_>>(), b"<\xff\"", "{piece}");
            assert_eq!(
                targets,
                [Some(Bytes::from_static(b"/<\xff?")), None, Some(Bytes::from_static(b"/?\""))],
                "{piece}"
            );
        }
    }

    #[test]
    fn bytes_of_a_body_are_never_odd() {
        let (at, targets) = odd(b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nG \"<>\xff", 7);
        assert_eq!((at, targets), (vec![], vec![None]));
    }

    #[test]
    fn targets_that_nobody_has_asked_for_are_given_up() {
        let targets = RawTargets::default();
        for request in [1, 3] {
            targets.put(request, b"/");
        }
        assert_eq!((targets.take(0), targets.take(2)), (None, None));
        assert!(targets.take(3).is_some() && targets.take(3).is_none());
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
