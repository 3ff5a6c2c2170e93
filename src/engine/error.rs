//! What can go wrong in an engine.

use std::error::Error;
use std::fmt;

use rustix::io::Errno;

use crate::images::{StoreError, StoreErrorKind};

/// An engine could not do what it was asked.
///
/// `Display` says this level only; [`source`](Error::source) has the rest.
#[derive(Debug)]
pub struct EngineError {
    kind: EngineErrorKind,
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    is_changed: bool,
}

/// What kind of failure an [`EngineError`] is: enough to choose an answer by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineErrorKind {
    /// The engine does not answer: it is down, restarting, or out of reach. It may come back.
    Unreachable,
    /// The image is not there and may not or cannot be pulled.
    ImageMissing,
    /// The engine answers and refuses: bad options, or a program that cannot be executed.
    Refused,
}

impl EngineError {
    /// An error of a kind, with a sentence on what was being done.
    pub fn new(kind: EngineErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), source: None, is_changed: false }
    }

    /// Adds what lies below.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Notes whether it is that what containers are made from has changed meanwhile: then another try finds what is there
    /// now.
    pub(super) fn changed_meanwhile(mut self, is_changed: bool) -> Self {
        self.is_changed = is_changed;
        self
    }

    /// Whether it is that.
    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> EngineErrorKind {
        self.kind
    }

    /// Whether the engine could not be reached, so that another try may succeed.
    pub fn is_unreachable(&self) -> bool {
        self.kind == EngineErrorKind::Unreachable
    }
}

/// Why a command line is not executed, as far as execve(2) tells by its error.
pub(super) fn not_executed(command: &str, error: Option<i32>) -> String {
    let ask = match error.map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => {
            " (is it there, and its working directory, and what its `#!` line names? Where that line ends in CRLF, the CR is part of the name)"
        }
        Some(Errno::ACCESS) => {
            " (may its user execute it? `chmod +x`, and let that user into its directories and the working directory)"
        }
        Some(Errno::NOEXEC) => {
            " (a script needs a `#!` line, anything else has to be made for this processor)"
        }
        _ => "",
    };
    format!("the program `{command}` cannot be run{ask}")
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for EngineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// What an engine says of it: an image that cannot be had is missing, whatever the reason.
impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind() {
            StoreErrorKind::InUse | StoreErrorKind::Storage => EngineErrorKind::Refused,
            _ => EngineErrorKind::ImageMissing,
        };
        let (what, source) = error.into_parts();
        Self { kind, what, source, is_changed: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_executed_is_asked_about_by_its_error() {
        let said = |error: Errno| not_executed("/cgi/x", Some(error.raw_os_error()));
        assert!(said(Errno::NOENT).starts_with("the program `/cgi/x` cannot be run (is it there"));
        assert!(said(Errno::NOENT).contains("CRLF"));
        assert!(said(Errno::ACCESS).contains("chmod +x"));
        assert!(said(Errno::NOEXEC).contains("needs a `#!` line"));
        assert_eq!(said(Errno::NOMEM), "the program `/cgi/x` cannot be run");
        assert_eq!(not_executed("/cgi/x", None), "the program `/cgi/x` cannot be run");
    }
}
