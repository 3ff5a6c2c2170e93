//! Characters that would make a line of the log look like another one.
//!
//! SECURITY: what clients and programs wrote goes to terminals and into pagers. A carriage return overwrites a line there,
//! an escape colours it, U+2028 begins another, and U+202E turns it round (CVE-2021-42574).

use std::fmt::{self, Debug, Write as _};
use std::io;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Fields of an event or a span as people read them, escaped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escaped;

/// Writes lines of JSON, in which such a character can only be part of a string, and there has an escape.
#[derive(Debug)]
pub(super) struct JsonEscaped<W>(pub(super) W);

/// Control characters, the separators of lines and paragraphs, and what changes the direction of a text.
fn must_escape(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

// === impl Escaped ===

impl<'w> FormatFields<'w> for Escaped {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Visitor { writer, is_first: true, written: Ok(()) };
        fields.record(&mut visitor);
        visitor.written
    }
}

/// Writes `name=value` for each field but the message, which stands alone.
struct Visitor<'w> {
    writer: Writer<'w>,
    is_first: bool,
    written: fmt::Result,
}

impl Visitor<'_> {
    fn write(&mut self, field: &Field, value: &dyn Debug) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        let name = field.name();
        if name != "message" {
            // Italic, and a dim sign behind it.
            match self.writer.has_ansi_escapes() {
                true => write!(self.writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
                false => write!(self.writer, "{name}=")?,
            }
        }
        write!(Escaping(&mut self.writer), "{value:?}")
    }
}

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.written.is_ok() {
            self.written = self.write(field, value);
        }
    }
}

/// Escapes as Rust's strings do.
struct Escaping<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Escaping<'_, W> {
    fn write_str(&mut self, mut rest: &str) -> fmt::Result {
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| must_escape(*c)) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "{}", c.escape_default())?;
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

// === impl JsonEscaped ===

impl<W: io::Write> io::Write for JsonEscaped<W> {
    /// Takes whole lines, as they come from the formatter.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(lines);
        if !text.contains(|c| c != '\n' && must_escape(c)) {
            self.0.write_all(lines)?;
            return Ok(lines.len());
        }
        let mut escaped = String::with_capacity(text.len() + 64);
        for c in text.chars() {
            match must_escape(c) && c != '\n' {
                true => _ = write!(escaped, "\\u{:04x}", u32::from(c)),
                false => escaped.push(c),
            }
        }
        self.0.write_all(escaped.as_bytes())?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// What no line may hold as it is.
    const UNSAFE: &str = "\0\t\n\u{b}\r\u{1b}\u{7f}\u{85}\u{61c}\u{200e}\u{2028}\u{2029}\u{202e}\u{2066}";

    #[test]
    fn no_character_that_moves_the_cursor_or_the_direction_is_left() {
        let mut escaped = String::new();
        write!(Escaping(&mut escaped), "a{UNSAFE}b é 🦀").unwrap();
        assert!(!escaped.contains(must_escape), "{escaped:?}");
        assert!(escaped.starts_with("a\\u{0}\\t\\n\\u{b}\\r\\u{1b}\\u{7f}\\u{85}\\u{61c}"), "{escaped}");
        assert!(escaped.ends_with("\\u{202e}\\u{2066}b é 🦀"), "{escaped}");
    }

    #[test]
    fn json_means_the_same_as_before() {
        let line = serde_json::json!({ "message": format!("a{UNSAFE}b é") }).to_string() + "\n";
        let mut written = Vec::new();
        JsonEscaped(&mut written).write_all(line.as_bytes()).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert!(!written.trim_end_matches('\n').contains(must_escape), "{written:?}");
        let read: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(read["message"], format!("a{UNSAFE}b é"));
    }
}
