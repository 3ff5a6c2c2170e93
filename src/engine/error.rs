//! What can go wrong in an engine.

use std::error::Error;
use std::fmt;

use crate::images::{StoreError, StoreErrorKind};

/// An engine could not do what it was asked.
///
/// `Display` says this level only; [`source`](Error::source) has the rest.
#[derive(Debug)]
pub struct EngineError {
    kind: EngineErrorKind,
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
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
        Self { kind, what: what.into(), source: None }
    }

    /// Adds what lies below.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
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
        Self { kind, what, source }
    }
}
