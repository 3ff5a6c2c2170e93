//! Why a container cannot be planned.

use std::error::Error;
use std::fmt;

/// A container cannot be as its [`Spec`](super::Spec) says.
///
/// `Display` says this level only; [`source`](Error::source) has the rest.
#[derive(Debug)]
pub(crate) struct PlanError {
    kind: PlanErrorKind,
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of failure a [`PlanError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlanErrorKind {
    /// The directory that is to be the root cannot be opened.
    Missing,
    /// What is asked for cannot be had.
    Refused,
}

impl PlanError {
    pub(super) fn missing(what: impl Into<String>) -> Self {
        Self { kind: PlanErrorKind::Missing, what: what.into(), source: None }
    }

    pub(super) fn refused(what: impl Into<String>) -> Self {
        Self { kind: PlanErrorKind::Refused, what: what.into(), source: None }
    }

    /// Adds what lies below.
    #[must_use]
    pub(super) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure this is.
    pub(crate) fn kind(&self) -> PlanErrorKind {
        self.kind
    }

    /// The sentence, and what lies below: for an error of another kind that says the same.
    pub(crate) fn into_parts(self) -> (String, Option<Box<dyn Error + Send + Sync>>) {
        (self.what, self.source)
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for PlanError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
