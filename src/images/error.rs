//! What can go wrong in a store.

use std::error::Error;
use std::fmt;
use std::io;

use rustix::io::Errno;

/// A store could not do what it was asked. Nothing of it is left behind then.
///
/// `Display` says this level only; [`source`](Error::source) has the rest.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of failure a [`StoreError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// What was given is no reference to an image, or names several.
    Reference,
    /// No such image, here or where it was to come from.
    Missing,
    /// A process still runs programs from the image.
    InUse,
    /// The image is for another operating system or processor.
    Platform,
    /// The archive, a layer or a manifest is damaged, hostile, or of a kind that is not known.
    Invalid,
    /// A registry or a container engine does not answer, or refuses.
    Source,
    /// The store's own files cannot be read or written.
    Storage,
}

// === impl StoreError ===

impl StoreError {
    /// An error of a kind, with a sentence on what is wrong.
    pub(super) fn new(kind: StoreErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    /// Something in an archive, a layer or a manifest that must not be there.
    pub(super) fn invalid(what: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Invalid, what)
    }

    /// The store's own files.
    pub(super) fn storage(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self::new(StoreErrorKind::Storage, what).because(error.into())
    }

    /// Adds what lies below.
    #[must_use]
    pub(super) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says first what was being done.
    #[must_use]
    pub(super) fn within(mut self, what: impl fmt::Display) -> Self {
        self.what = format!("{what}: {}", self.what);
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// The sentence, and what lies below: for an error of another kind that says the same.
    pub(crate) fn into_parts(self) -> (String, Option<Box<dyn Error + Send + Sync>>) {
        (self.what, self.source)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Whether the disk, or a quota on it, is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| [Errno::NOSPC, Errno::DQUOT].contains(&Errno::from_raw_os_error(code)))
}

/// A name of an archive as it may be printed: other bytes than text, and control characters, are escaped.
pub(super) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(name);
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
