//! What can be wrong with a header block, in words for the author of the program.

/// Why what a program printed is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderBlockError {
    /// The output ended before it began.
    #[error("the program printed nothing")]
    Empty,
    /// The output ended behind a 1xx block.
    #[error("the program printed a 1xx header block and nothing after it")]
    OnlyInterim,
    /// The output ended, or so it seems, within the header block.
    #[error("no blank line after the header block")]
    NoBlankLine,
    /// The output begins with the blank line that ends a header block.
    #[error("the output begins with a blank line, without a header before it")]
    BlankFirstLine,
    /// No blank line within the first 64 KiB.
    #[error("the header block is longer than 64 KiB")]
    TooLong,
    /// No blank line after a hundred others.
    #[error("the header block has more than 100 lines")]
    TooManyLines,
    /// A line is not `name: value`, or a control character is in it.
    #[error("line {line} is not a header: `{text}`")]
    Malformed {
        /// Which line of the output, from 1.
        line: usize,
        /// How it begins, with what cannot be shown escaped.
        text: String,
    },
    /// A status is not three digits and a reason, or is none that can be answered with.
    #[error("`{0}` is not a status")]
    BadStatus(String),
    /// A header has a value that it cannot have.
    #[error("`{value}` is not a value for {name}")]
    BadHeader {
        /// Which header.
        name: &'static str,
        /// How the value begins, with what cannot be shown escaped.
        value: String,
    },
    /// A header that the answer hangs on, `Status` or `Content-Length`, is there twice and says two things.
    #[error("two headers `{0}` that contradict each other")]
    Conflicting(&'static str),
}

impl HeaderBlockError {
    pub(super) fn malformed(line: usize, text: &[u8]) -> Self {
        Self::Malformed { line, text: quote(text) }
    }
}

/// The beginning of a text that may hold anything, fit for a log and an error page.
pub(super) fn quote(text: &[u8]) -> String {
    const SHOWN: usize = 80;
    let start = String::from_utf8_lossy(&text[..text.len().min(4 * SHOWN)]);
    let mut chars = start.chars();
    let mut quoted: String = chars.by_ref().take(SHOWN).flat_map(char::escape_debug).collect();
    if chars.next().is_some() {
        quoted.push('…');
    }
    quoted
}
