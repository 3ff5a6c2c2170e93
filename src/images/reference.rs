//! Names of images, and which image each means.
//!
//! A name is completed as Docker does: `hello` is `docker.io/library/hello:latest`. With a digest, the tag means nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use oci_client::Reference;
use serde::{Deserialize, Serialize};

use super::digest::{digits, is_digit, sha256_hex};
use super::error::{StoreError, StoreErrorKind};
use super::work::Work;

/// How many digits of an id name an image: fewer are too likely a mistake.
const LEAST_DIGITS: usize = 4;

/// What someone may mean by a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// An id, or how one begins.
    Id(String),
    Reference(Reference),
}

/// One file of the store's `references/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Complete.
    pub(super) reference: String,
    /// The image's id, `sha256:` included.
    pub(super) image: String,
    /// Where it was taken over from a container engine under this name: what that engine calls the image, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) taken_over: Option<String>,
}

// === impl Name ===

impl Name {
    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        let id = text.strip_prefix("sha256:").unwrap_or(text);
        let is_whole = id.len() == 64;
        if (is_whole || id.len() < text.len())
            && (LEAST_DIGITS..=64).contains(&id.len())
            && id.bytes().all(is_digit)
        {
            return Ok(Self::Id(id.to_owned()));
        }
        parse(text).map(Self::Reference)
    }
}

/// A complete reference.
pub(super) fn parse(text: &str) -> Result<Reference, StoreError> {
    text.parse().map_err(|error: oci_client::ParseError| {
        let what = format!(
            "`{}` is no reference to an image, such as perl:5 or ghcr.io/owner/name:tag",
            text.escape_debug()
        );
        StoreError::new(StoreErrorKind::Reference, what).because(error)
    })
}

/// The form in which the store knows a reference.
pub(super) fn key(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => format!("{}/{}@{digest}", reference.registry(), reference.repository()),
        None => reference.whole(),
    }
}

/// Whether a text may be the beginning of an id, where no reference is found by it.
pub(super) fn may_be_id(text: &str) -> bool {
    (LEAST_DIGITS..=64).contains(&text.len()) && text.bytes().all(is_digit)
}

// === the files ===

fn file(folder: &Path, key: &str) -> PathBuf {
    // References hold slashes, and may be longer than a file's name.
    folder.join(sha256_hex(key.as_bytes()))
}

/// The image that a reference means.
pub(super) fn read(folder: &Path, key: &str) -> Result<Option<Entry>, StoreError> {
    read_file(&file(folder, key))
}

fn read_file(path: &Path) -> Result<Option<Entry>, StoreError> {
    let failed = |error| StoreError::storage(format!("cannot read {}", path.display()), error);
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(failed)?,
    };
    let entry: Entry = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
    if digits(&entry.image).is_none() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "its image is no digest")));
    }
    Ok(Some(entry))
}

/// All references, in order.
pub(super) fn all(folder: &Path) -> Result<Vec<Entry>, StoreError> {
    let failed = |error| StoreError::storage(format!("cannot read {}", folder.display()), error);
    let mut found = Vec::new();
    for file in fs::read_dir(folder).map_err(failed)? {
        // Gone meanwhile is as good.
        found.extend(read_file(&file.map_err(failed)?.path())?);
    }
    found.sort_by(|a, b| a.reference.cmp(&b.reference));
    Ok(found)
}

/// Makes a reference mean an image. Call with the store locked, and sync the folder when all is written.
pub(super) fn write(folder: &Path, work: &Work, entry: &Entry) -> Result<(), StoreError> {
    let target = file(folder, &entry.reference);
    let failed = |error: io::Error| StoreError::storage(format!("cannot write {}", target.display()), error);
    let text = serde_json::to_vec(entry).map_err(|error| failed(error.into()))?;
    let beside = work.path().join("reference");
    fs::write(&beside, text).map_err(failed)?;
    File::open(&beside).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(&beside, &target).map_err(failed)
}

/// Forgets a reference.
pub(super) fn forget(folder: &Path, key: &str) -> Result<(), StoreError> {
    match fs::remove_file(file(folder, key)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::storage(format!("cannot forget `{key}`"), error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn complete(text: &str) -> String {
        key(&parse(text).unwrap())
    }

    #[test]
    fn a_name_is_completed_as_docker_does() {
        assert_eq!(complete("hello"), "docker.io/library/hello:latest");
        assert_eq!(complete("dcgi/hello:1"), "docker.io/dcgi/hello:1");
        assert_eq!(complete("index.docker.io/library/hello"), "docker.io/library/hello:latest");
        assert_eq!(complete("localhost:5000/a/b"), "localhost:5000/a/b:latest");
    }

    #[test]
    fn a_tag_beside_a_digest_means_nothing() {
        let digest = format!("sha256:{DIGITS}");
        let expected = format!("docker.io/library/hello@{digest}");
        assert_eq!(complete(&format!("hello@{digest}")), expected);
        assert_eq!(complete(&format!("hello:1@{digest}")), expected);
    }

    #[test]
    fn an_id_is_told_from_a_name() {
        assert_eq!(Name::parse(DIGITS).unwrap(), Name::Id(DIGITS.to_owned()));
        assert_eq!(Name::parse("sha256:0123").unwrap(), Name::Id("0123".to_owned()));
        // Without `sha256:`, what is short may as well be a name.
        assert_eq!(Name::parse("cafe").unwrap(), Name::Reference(parse("cafe").unwrap()));
        assert!(may_be_id("cafe") && !may_be_id("caf") && !may_be_id("coffee"));
    }

    #[test]
    fn what_is_no_reference_is_refused_and_named() {
        for text in ["", "Hello", "a b", "hello@sha256:12", "../x"] {
            let error = Name::parse(text).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Reference);
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }
}
