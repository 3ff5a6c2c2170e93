//! The chunked transfer coding (RFC 9112 §7.1), for programs that print a whole HTTP response, framing
//! included, as non-parsed-header scripts do.

use bytes::{Buf, Bytes};

/// The longest line of framing, chunk extensions included, in bytes.
const MAX_LINE: usize = 4096;

/// How many lines of trailers are read, and thrown away.
const MAX_TRAILERS: usize = 100;

/// Takes the framing off a body that a program chunked itself.
///
/// Lines may end in LF or CRLF, as in the header block. Trailers are read and thrown away. No data is copied,
/// and no more than a line is kept between calls.
#[derive(Debug, Default)]
pub struct ChunkedDecoder {
    state: State,
    /// The line of framing that has begun.
    line: Vec<u8>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// The line with a chunk's size.
    #[default]
    Size,
    /// So many more bytes of a chunk.
    Data(u64),
    /// The end of line behind a chunk's bytes.
    DataEnd,
    /// Trailers, after so many of them, up to a blank line.
    Trailers(usize),
    /// Nothing.
    Done,
}

/// What is wrong with a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkedError {
    /// A chunk does not begin with its size in hexadecimal digits, or it is above 2⁶⁴.
    #[error("a chunk does not begin with its size")]
    BadSize,
    /// A chunk is longer than it says.
    #[error("a chunk does not end where its size says")]
    BadEnd,
    /// A line of framing is too long, or the trailers are too many.
    #[error("the framing of a chunked body is too long")]
    TooLong,
    /// The output goes on behind the last chunk.
    #[error("the output goes on behind the last chunk")]
    TrailingData,
}

impl ChunkedDecoder {
    /// A decoder at the beginning of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the data in the next piece of the body, none of it empty.
    ///
    /// # Errors
    ///
    /// Where the framing is malformed. What was decoded of this piece before is not given then; the answer
    /// is broken and must be seen to be.
    pub fn push(&mut self, mut input: Bytes) -> Result<Vec<Bytes>, ChunkedError> {
        let mut data = Vec::new();
        while !input.is_empty() {
            self.state = match self.state {
                // ## Size => (Data | Trailers)
                State::Size => {
                    let Some(line) = self.take_line(&mut input)? else { break };
                    match chunk_size(&line)? {
                        0 => State::Trailers(0),
                        size => State::Data(size),
                    }
                }
                // ## Data => (Data | DataEnd)
                State::Data(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    data.push(input.split_to(take));
                    match left - take as u64 {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    }
                }
                // ## DataEnd => Size
                State::DataEnd => match self.take_line(&mut input)? {
                    None => break,
                    Some(line) if line.is_empty() => State::Size,
                    Some(_) => return Err(ChunkedError::BadEnd),
                },
                // ## Trailers => (Trailers | Done)
                State::Trailers(count) => match self.take_line(&mut input)? {
                    None => break,
                    Some(line) if line.is_empty() => State::Done,
                    Some(_) if count == MAX_TRAILERS => return Err(ChunkedError::TooLong),
                    Some(_) => State::Trailers(count + 1),
                },
                State::Done => return Err(ChunkedError::TrailingData),
            };
        }
        Ok(data)
    }

    /// Whether the body is whole: its last chunk and trailers were read.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The next line without its end, once it is whole.
    fn take_line(&mut self, input: &mut Bytes) -> Result<Option<Vec<u8>>, ChunkedError> {
        // A newline further on than a line may be long is as good as none.
        let within = &input[..input.len().min(MAX_LINE - self.line.len())];
        let Some(end) = within.iter().position(|&byte| byte == b'\n') else {
            self.line.extend_from_slice(within);
            input.advance(within.len());
            return if self.line.len() < MAX_LINE { Ok(None) } else { Err(ChunkedError::TooLong) };
        };
        self.line.extend_from_slice(&within[..end]);
        input.advance(end + 1);
        let mut line = std::mem::take(&mut self.line);
        line.pop_if(|last| *last == b'\r');
        Ok(Some(line))
    }
}

/// `chunk-size [ chunk-ext ]`; extensions mean nothing to us.
fn chunk_size(line: &[u8]) -> Result<u64, ChunkedError> {
    let size = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
    // `from_str_radix` alone would take a sign.
    if size.is_empty() || !size.iter().all(u8::is_ascii_hexdigit) {
        return Err(ChunkedError::BadSize);
    }
    let digits = std::str::from_utf8(size).map_err(|_| ChunkedError::BadSize)?;
    u64::from_str_radix(digits, 16).map_err(|_| ChunkedError::BadSize)
}

#[cfg(test)]
mod tests;
