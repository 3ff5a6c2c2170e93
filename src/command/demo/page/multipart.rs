//! `multipart/form-data` (RFC 7578 over RFC 2046 §5.1.1), read as it comes: a body of any size takes the same memory.

use std::io::{self, Read};

/// How much of a body is held at once. More than a boundary and a part's head need.
const BUFFER: usize = 64 << 10;

/// How long the head of a part may be.
const LONGEST_HEAD: usize = 16 << 10;

/// A boundary's length (RFC 2046 §5.1.1).
const LONGEST_BOUNDARY: usize = 70;

/// A body of several parts. [`next`](Self::next) goes to each in turn; its content is what can be read then.
///
/// A body that is not well-formed is an error of the kind [`InvalidData`](io::ErrorKind::InvalidData).
pub(super) struct Multipart<R> {
    input: R,
    /// Line break, two hyphens, the boundary: what begins and ends each part.
    delimiter: Vec<u8>,
    /// Read and not used yet: `buffer[start..end]`.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// How much of that surely belongs to the present part.
    clear: usize,
    /// Whether the part's end is right behind.
    at_delimiter: bool,
    done: bool,
}

/// The head of a part.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// The field's name.
    pub(super) name: String,
    /// A file's name, as the client has it; absent where the part is no file.
    pub(super) filename: Option<String>,
    /// Empty where nothing is said.
    pub(super) content_type: String,
}

impl<R: Read> Multipart<R> {
    /// A body with this `Content-Type`. `None` where that is no `multipart/form-data` with a valid boundary.
    pub(super) fn new(content_type: &str, input: R) -> Option<Self> {
        let (kind, parameters) = content_type.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parameter(parameters, "boundary")?;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
        if boundary.is_empty()
            || boundary.len() > LONGEST_BOUNDARY
            || boundary.ends_with(' ')
            || !boundary.bytes().all(is_allowed)
        {
            return None;
        }
        let mut buffer = vec![0; BUFFER].into_boxed_slice();
        // The first boundary begins a line though none ends before it.
        buffer[..2].copy_from_slice(b"\r\n");
        Some(Self {
            input,
            delimiter: [b"\r\n--", boundary.as_bytes()].concat(),
            buffer,
            start: 0,
            end: 2,
            clear: 0,
            at_delimiter: false,
            done: false,
        })
    }

    /// Goes to the next part, past what is left of the present one. `None`: that was the last. What follows it, the
    /// epilogue, is nobody's and is not read.
    pub(super) fn next(&mut self) -> io::Result<Option<Part>> {
        if self.done {
            return Ok(None);
        }
        // Before the first part: the preamble, nobody's too.
        io::copy(self, &mut io::sink())?;
        self.start += self.delimiter.len();
        self.at_delimiter = false;
        self.need(2)?;
        if self.held().starts_with(b"--") {
            self.done = true;
            return Ok(None);
        }
        if !self.line()?.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(malformed("a boundary has something behind it"));
        }
        self.head().map(Some)
    }

    /// The header fields of a part, and the blank line behind them.
    fn head(&mut self) -> io::Result<Part> {
        let mut part = Part::default();
        let mut disposition = None;
        let mut length = 0;
        loop {
            self.need(2)?;
            if self.held().starts_with(b"\r\n") {
                // The line break of a part without content may be the delimiter's own.
                self.fill_to(self.delimiter.len())?;
                if !self.held().starts_with(&self.delimiter) {
                    self.start += 2;
                }
                break;
            }
            let line = self.line()?;
            length += line.len() + 2;
            if length > LONGEST_HEAD {
                return Err(malformed("the head of a part is too long"));
            }
            let line = String::from_utf8_lossy(&line);
            let (name, value) =
                line.split_once(':').ok_or_else(|| malformed("a header field has no colon"))?;
            match name.to_ascii_lowercase().as_str() {
                "content-disposition" => disposition = Some(value.trim().to_owned()),
                "content-type" => part.content_type = value.trim().to_owned(),
                // RFC 7578 §4.8: all others are to be ignored.
                _ => {}
            }
        }
        // RFC 7578 §4.2: each part has it, with a name.
        let disposition = disposition.ok_or_else(|| malformed("a part has no Content-Disposition"))?;
        let (kind, parameters) = disposition.split_once(';').unwrap_or((&disposition, ""));
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return Err(malformed("a part is no form-data"));
        }
        part.name = parameter(parameters, "name").ok_or_else(|| malformed("a part has no name"))?;
        part.filename = parameter(parameters, "filename");
        part.name = unescaped(&part.name);
        part.filename = part.filename.map(|name| unescaped(&name));
        Ok(part)
    }

    /// A line up to its line break, which goes too.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(length) = find(self.held(), b"\r\n") {
                let line = self.held()[..length].to_vec();
                self.start += length + 2;
                return Ok(line);
            }
            if self.end - self.start > LONGEST_HEAD {
                return Err(malformed("the head of a part is too long"));
            }
            if !self.fill()? {
                return Err(cut());
            }
        }
    }

    /// Sees that this much is held.
    fn need(&mut self, length: usize) -> io::Result<()> {
        if self.fill_to(length)? { Ok(()) } else { Err(cut()) }
    }

    /// Reads until this much is held. False: there is no more.
    fn fill_to(&mut self, length: usize) -> io::Result<bool> {
        while self.end - self.start < length {
            if !self.fill()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads some more. False: there is no more.
    fn fill(&mut self) -> io::Result<bool> {
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn held(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Finds out how much of what is held belongs to the present part.
    fn look(&mut self) -> io::Result<()> {
        loop {
            if let Some(at) = find(self.held(), &self.delimiter) {
                (self.clear, self.at_delimiter) = (at, true);
                return Ok(());
            }
            // What is shorter than a delimiter may be the beginning of one.
            self.clear = (self.end - self.start).saturating_sub(self.delimiter.len() - 1);
            if self.clear > 0 {
                return Ok(());
            }
            if !self.fill()? {
                return Err(cut());
            }
        }
    }
}

/// The present part's content. It ends where the part does.
impl<R: Read> Read for Multipart<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.clear == 0 && !self.at_delimiter && !self.done {
            self.look()?;
        }
        let length = self.clear.min(out.len());
        out[..length].copy_from_slice(&self.held()[..length]);
        self.start += length;
        self.clear -= length;
        Ok(length)
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        from += text[from..].iter().position(|byte| *byte == wanted[0])?;
        if text[from..].starts_with(wanted) {
            return Some(from);
        }
        from += 1;
    }
}

/// The value of a parameter of a header field: a token, or a quoted string.
fn parameter(mut text: &str, wanted: &str) -> Option<String> {
    loop {
        let (name, rest) = text.split_once('=')?;
        let name = name.trim_matches(|c: char| c == ';' || c.is_ascii_whitespace());
        let (value, rest) = match rest.trim_start().strip_prefix('"') {
            Some(quoted) => quoted_string(quoted)?,
            None => {
                let (value, rest) = rest.split_once(';').unwrap_or((rest, ""));
                (value.trim().to_owned(), rest)
            }
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        text = rest;
    }
}

/// A quoted string behind its opening quote, and what follows it.
///
/// Only quotes and backslashes are taken as escaped: old browsers send a file's path as it is, backslashes and all.
fn quoted_string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' if text[at + 1..].starts_with(['"', '\\']) => {
                value.extend(characters.next().map(|(_, c)| c));
            }
            c => value.push(c),
        }
    }
    None
}

/// A name without the three escapes that browsers write in names (HTML Standard, "Multipart form data").
fn unescaped(name: &str) -> String {
    name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n")
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut() -> io::Error {
    malformed("the body ends before its last boundary")
}

#[cfg(test)]
mod tests;
