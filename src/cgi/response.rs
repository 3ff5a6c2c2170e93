//! Header block → head of the response (RFC 3875 §6).

use bytes::Bytes;
use http::header::{self, HeaderValue};

mod error;
mod fields;
mod location;
mod status;

pub use error::HeaderBlockError;

use fields::Fields;

/// The longest header block, in bytes, blank line and skipped 1xx blocks included.
const MAX_BYTES: usize = 64 * 1024;

/// The most lines, blank ones not counted.
const MAX_LINES: usize = 100;

/// Collects what a program prints until its header block is whole.
///
/// The block ends at the first blank line; lines end in LF, CRLF or a mixture. How the output is cut into
/// pieces makes no difference to the answer, and little to the cost, which is linear.
#[derive(Debug, Default)]
pub struct HeaderBlock {
    /// The block so far.
    block: Vec<u8>,
    /// Where its last line begins.
    line: usize,
    /// How many lines are before that one.
    lines: usize,
    /// The 1xx blocks that came before it, since the limits hold for all together.
    skipped: Skipped,
}

#[derive(Debug, Default)]
struct Skipped {
    bytes: usize,
    /// Without the blank ones.
    lines: usize,
    blocks: usize,
}

/// What a program's header block says.
#[derive(Debug)]
pub enum Answer {
    /// The head of the response; the body follows.
    Response(Head),
    /// The request is to be routed again, to another path here.
    LocalRedirect(LocalRedirect),
}

/// The head of a response, with only such header fields as may go to a client.
#[derive(Debug)]
pub struct Head {
    /// Status and header fields, and as an extension the
    /// [`ReasonPhrase`](hyper::ext::ReasonPhrase) that the program gave, if any.
    pub parts: http::response::Parts,
    /// What the program says that its body has, in bytes.
    pub content_length: Option<u64>,
    /// The program chunks its body itself, as non-parsed-header scripts do:
    /// a [`ChunkedDecoder`](super::ChunkedDecoder) has to take the framing off.
    pub chunked: bool,
}

/// A `Location` with a path and no `Status` (RFC 3875 §6.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRedirect {
    /// Path and query, `/x?y`: a valid request target in origin form.
    pub location: String,
    /// The cookies set beside it, which the final answer is to carry.
    pub set_cookie: Vec<HeaderValue>,
}

// === impl HeaderBlock ===

impl HeaderBlock {
    /// Nothing printed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what the program printed next. Once the block is whole, the answer comes back, and with it what of
    /// `bytes` is body already; nothing may be pushed after that.
    ///
    /// # Errors
    ///
    /// Where the block is malformed, contradicts itself or is too long; a client gets 502 for it.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Option<(Answer, Bytes)>, HeaderBlockError> {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = bytes.split_at(end + 1);
            self.extend(line)?;
            bytes = rest;
            if !matches!(&self.block[self.line..], b"\n" | b"\r\n") {
                self.next_line()?;
            } else if let Some(answer) = self.finish()? {
                return Ok(Some((answer, Bytes::copy_from_slice(bytes))));
            }
        }
        self.extend(bytes)?;
        Ok(None)
    }

    /// The program's output ended and no block was whole: what was wrong with it.
    pub fn end(self) -> HeaderBlockError {
        match (self.block.is_empty(), self.skipped.blocks) {
            (true, 0) => HeaderBlockError::Empty,
            (true, _) => HeaderBlockError::OnlyInterim,
            // Output without any header is far more common than one cut short, so look at the lines first.
            (false, _) => self.malformed_line(&self.block).unwrap_or(HeaderBlockError::NoBlankLine),
        }
    }

    /// Appends a line or the beginning of one.
    fn extend(&mut self, bytes: &[u8]) -> Result<(), HeaderBlockError> {
        if bytes.len() > MAX_BYTES - self.skipped.bytes - self.block.len() {
            return Err(self.malformed_line(&self.block[..self.line]).unwrap_or(HeaderBlockError::TooLong));
        }
        self.block.extend_from_slice(bytes);
        Ok(())
    }

    /// Goes on behind a line that is whole and not blank.
    fn next_line(&mut self) -> Result<(), HeaderBlockError> {
        self.line = self.block.len();
        self.lines += 1;
        if self.skipped.lines + self.lines > MAX_LINES {
            return Err(self.malformed_line(&self.block).unwrap_or(HeaderBlockError::TooManyLines));
        }
        Ok(())
    }

    /// Reads the block, now that its blank line is there. A 1xx block is not the answer but is skipped.
    fn finish(&mut self) -> Result<Option<Answer>, HeaderBlockError> {
        if self.lines == 0 {
            return Err(HeaderBlockError::BlankFirstLine);
        }
        let fields = Fields::parse(&self.block).ok_or_else(|| {
            // One line at least is malformed where the whole is; the other case is for safety only.
            self.malformed_line(&self.block).unwrap_or(HeaderBlockError::NoBlankLine)
        })?;
        let answer = fields.answer()?;
        if answer.is_none() {
            self.skipped.bytes += self.block.len();
            self.skipped.lines += self.lines;
            self.skipped.blocks += 1;
            (self.line, self.lines) = (0, 0);
            self.block.clear();
        }
        Ok(answer)
    }

    /// The first line that is no header, for those who have to find it in their script.
    #[cold]
    fn malformed_line(&self, block: &[u8]) -> Option<HeaderBlockError> {
        let before = self.skipped.lines + self.skipped.blocks;
        block.split(|&byte| byte == b'\n').enumerate().find_map(|(index, line)| {
            let alone = Fields::parse(&[line, b"\n\n"].concat());
            let well_formed = alone.is_some_and(|fields| index == 0 || fields.status_line.is_none());
            let shown = line.strip_suffix(b"\r").unwrap_or(line);
            (!well_formed).then(|| HeaderBlockError::malformed(before + index + 1, shown))
        })
    }
}

// === impl Head ===

impl Head {
    /// Whether the program said what its body is. Without, the answer passes as it is, but deserves a warning.
    pub fn has_content_type(&self) -> bool {
        self.parts.headers.contains_key(header::CONTENT_TYPE)
    }
}

#[cfg(test)]
mod tests;
