//! What is wrong with a file, where, and how it is told.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A configuration file cannot be used.
///
/// `Display` lists every problem that was found, each as `file:line:column: message` (both count from 1, the column
/// in characters) with the line itself below. Where the file could not be read at all, [`source`](Error::source)
/// says why.
#[derive(Debug)]
pub struct ConfigError {
    file: PathBuf,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Unreadable(io::Error),
    /// At least one, in the file's order.
    Problems(Vec<Problem>),
}

/// One thing that is wrong.
#[derive(Debug)]
struct Problem {
    /// Absent: the file as a whole.
    place: Option<Place>,
    message: String,
}

/// A stretch of one line.
#[derive(Debug)]
struct Place {
    /// From 1.
    line: usize,
    /// From 1, in characters.
    column: usize,
    /// In characters.
    length: usize,
    text: String,
}

/// Gathers problems, so that one look at a file finds all of them.
pub(super) struct Problems<'t> {
    text: &'t str,
    found: RefCell<Vec<(Option<Range<usize>>, String)>>,
}

/// A longer line is not shown: a terminal would fold it, and the caret would point nowhere.
const LONGEST_SHOWN: usize = 100;

// === impl ConfigError ===

impl ConfigError {
    pub(super) fn unreadable(file: &Path, error: io::Error) -> Self {
        Self { file: file.to_owned(), cause: Cause::Unreadable(error) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        let problems = match &self.cause {
            Cause::Unreadable(_) => return write!(f, "cannot read {file}"),
            Cause::Problems(problems) => problems,
        };
        for (i, Problem { place, message }) in problems.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            match place {
                Some(place) => {
                    write!(f, "{file}:{}:{}: {message}{place}", place.line, place.column)?;
                }
                None => write!(f, "{file}: {message}")?,
            }
        }
        Ok(())
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Unreadable(error) => Some(error),
            Cause::Problems(_) => None,
        }
    }
}

// === impl Place ===

impl Place {
    fn new(text: &str, at: Range<usize>) -> Self {
        // Some of the parser's errors end, or stand, after the last byte.
        let start = text.floor_char_boundary(at.start);
        let end = text.floor_char_boundary(at.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let line_end = line_start + line.len();
        Self {
            line: 1 + text[..line_start].matches('\n').count(),
            column: 1 + text[line_start..start].chars().count(),
            length: text[start..end.min(line_end).max(start)].chars().count().max(1),
            // One column for each character, so that the caret stands under its own.
            text: line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        }
    }
}

/// The line, and carets under the stretch.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, length, text } = self;
        if text.trim().is_empty() || text.chars().count() > LONGEST_SHOWN {
            return Ok(());
        }
        let indent = column - 1;
        write!(f, "\n{line:5} | {}\n      | {:indent$}{:^<length$}", text.trim_end(), "", "")
    }
}

// === impl Problems ===

impl<'t> Problems<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self { text, found: RefCell::default() }
    }

    /// Notes a problem at a byte range of the text.
    pub(super) fn note(&self, at: Range<usize>, message: String) {
        self.found.borrow_mut().push((Some(at), message));
    }

    /// Notes a problem of the file as a whole.
    pub(super) fn note_whole(&self, message: &str) {
        self.found.borrow_mut().push((None, message.to_owned()));
    }

    /// The bytes of the text at a range, where they are short enough to quote.
    pub(super) fn quote(&self, at: Range<usize>) -> Option<&'t str> {
        self.text.get(at).filter(|text| text.chars().count() <= 60 && !text.contains(char::is_control))
    }

    /// The line, from 1, that a range begins on.
    pub(super) fn line(&self, at: &Range<usize>) -> usize {
        Place::new(self.text, at.clone()).line
    }

    /// An error, if there was any problem.
    pub(super) fn check(&self, file: &Path) -> Result<(), ConfigError> {
        let mut found = self.found.take();
        if found.is_empty() {
            return Ok(());
        }
        // What concerns the whole file comes last: it tends to follow from the rest.
        found.sort_by_key(|(at, _)| at.as_ref().map_or(usize::MAX, |at| at.start));
        found.dedup();
        let problems = found
            .into_iter()
            .map(|(at, message)| Problem { place: at.map(|at| Place::new(self.text, at)), message });
        Err(ConfigError { file: file.to_owned(), cause: Cause::Problems(problems.collect()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, at: Range<usize>) -> String {
        let problems = Problems::of(text);
        problems.note(at, "wrong".to_owned());
        problems.check(Path::new("dcgi.toml")).unwrap_err().to_string()
    }

    #[test]
    fn a_problem_shows_its_line_with_carets_below() {
        assert_eq!(
            shown("a = 1\nbc = 23\n", 11..13),
            "dcgi.toml:2:6: wrong\n    2 | bc = 23\n      |      ^^"
        );
    }

    #[test]
    fn columns_count_characters_and_not_bytes() {
        assert_eq!(shown("é = 1", 5..6), "dcgi.toml:1:5: wrong\n    1 | é = 1\n      |     ^");
    }

    #[test]
    fn a_range_over_several_lines_is_marked_on_its_first() {
        assert_eq!(shown("a = [\n1]\n", 4..8), "dcgi.toml:1:5: wrong\n    1 | a = [\n      |     ^");
    }

    #[test]
    fn a_range_past_the_end_stays_on_the_last_line() {
        assert_eq!(shown("a = ", 9..9), "dcgi.toml:1:5: wrong\n    1 | a =\n      |     ^");
    }

    #[test]
    fn a_control_character_in_the_line_does_not_reach_the_terminal() {
        assert_eq!(shown("a\u{1b} = 1", 0..1), "dcgi.toml:1:1: wrong\n    1 | a  = 1\n      | ^");
    }

    #[test]
    fn a_very_long_line_is_not_shown() {
        assert_eq!(shown(&format!("a = \"{}\"", "x".repeat(200)), 4..6), "dcgi.toml:1:5: wrong");
    }

    #[test]
    fn problems_stand_in_the_order_of_the_file() {
        let problems = Problems::of("a\nb\n");
        problems.note_whole("third");
        problems.note(2..3, "second".to_owned());
        problems.note(0..1, "first".to_owned());
        let shown = problems.check(Path::new("f")).unwrap_err().to_string();
        assert_eq!(
            shown,
            "f:1:1: first\n    1 | a\n      | ^\nf:2:1: second\n    2 | b\n      | ^\nf: third"
        );
    }
}
