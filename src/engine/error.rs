//! What can go wrong in an engine.

use std::error::Error;
use std::fmt;

use crate::images::{StoreError, StoreErrorKind};
use crate::sandbox::Refusal;

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

/// That a command line is not executed, and what to do.
pub(super) fn not_executed(command: &str, refusal: Option<Refusal>) -> String {
    match refusal.and_then(Refusal::hint) {
        Some(hint) => format!("the program `{command}` cannot be run ({hint})"),
        None => format!("the program `{command}` cannot be run"),
    }
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
    use crate::sandbox::Obstacle;

    #[test]
    fn what_is_in_a_programs_way_is_said_with_what_to_do() {
        let said = |obstacle| not_executed("/cgi/x", Some(Refusal { errno: 2, obstacle }));
        assert_eq!(
            said(Obstacle::Missing),
            "the program `/cgi/x` cannot be run (there is no such file; name it by its path in the container)"
        );
        assert!(said(Obstacle::CarriageReturn).contains("CRLF"));
        assert!(said(Obstacle::NotExecutable).contains("`chmod a+rx`"));
        assert_eq!(said(Obstacle::Unknown), "the program `/cgi/x` cannot be run");
        assert_eq!(not_executed("/cgi/x", None), "the program `/cgi/x` cannot be run");
    }
}
