//! OCI image layouts: `index.json` and `blobs/`, as the
//! [image specification](https://github.com/opencontainers/image-spec/blob/main/image-layout.md) has them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Claim, Described, Files};
use crate::images::digest::digits;
use crate::images::error::{StoreError, shown};
use crate::images::platform;

/// Indexes in indexes: what writes layouts makes one.
const DEEPEST: usize = 4;

/// How many other platforms a message names.
const MOST_OTHERS: usize = 16;

/// The complete name that containerd and BuildKit write.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Whatever the writer takes for a name: a complete one, or a bare tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An index or a manifest, told apart by what it has: media types are not always there.
#[derive(Deserialize)]
struct Document {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

#[derive(Clone, Deserialize)]
struct Descriptor {
    digest: String,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

pub(super) fn images(files: &Files) -> Result<Vec<Described>, StoreError> {
    let index: Document = files.json("index.json")?;
    let mut found = Found::default();
    for descriptor in index.manifests.unwrap_or_default() {
        found.look(files, &descriptor, None, 0)?;
    }
    if found.images.is_empty() {
        return Err(if found.others.is_empty() {
            StoreError::invalid("the archive holds no image")
        } else {
            platform::refused(&found.others.join(", "))
        });
    }
    Ok(found.images)
}

/// A name, and what has it: the image itself, or an index that leads to it.
#[derive(Clone, Copy)]
struct Named<'a> {
    name: &'a str,
    descriptor: &'a Descriptor,
}

#[derive(Default)]
struct Found {
    images: Vec<Described>,
    /// Platforms for which there is something.
    others: Vec<String>,
}

impl Found {
    fn look(
        &mut self,
        files: &Files,
        descriptor: &Descriptor,
        name: Option<Named<'_>>,
        depth: usize,
    ) -> Result<(), StoreError> {
        files.left.part()?;
        if let Some(Platform { os, architecture }) = &descriptor.platform {
            // What is for no platform at all speaks about the other manifests.
            if os == "unknown" && architecture == "unknown" {
                return Ok(());
            }
            if platform::check(os, architecture).is_err() {
                let other = format!("{}/{}", shown(os.as_bytes()), shown(architecture.as_bytes()));
                if self.others.len() < MOST_OTHERS && !self.others.contains(&other) {
                    self.others.push(other);
                }
                return Ok(());
            }
        }
        let name = own_name(descriptor).map(|name| Named { name, descriptor }).or(name);
        let document: Document = files.json(&blob(&descriptor.digest)?)?;
        match document {
            // SECURITY: a digest means one of the two, and what reads it otherwise has another image: CVE-2021-41190.
            Document { manifests: Some(_), config, layers } if config.is_some() || layers.is_some() => {
                Err(StoreError::invalid(format!(
                    "{} of the archive is an index and a manifest at once",
                    shown(descriptor.digest.as_bytes())
                )))
            }
            Document { manifests: Some(manifests), .. } if depth < DEEPEST => {
                manifests.iter().try_for_each(|manifest| self.look(files, manifest, name, depth + 1))
            }
            Document { config: Some(config), layers, .. } => {
                files.left.image()?;
                if name.is_some() {
                    files.left.name()?;
                }
                let layers = layers.unwrap_or_default();
                self.images.push(Described {
                    config: files.description(&blob(&config.digest)?)?,
                    layers: layers.iter().map(|l| files.path(&blob(&l.digest)?)).collect::<Result<_, _>>()?,
                    names: name.map(Claim::from).into_iter().collect(),
                });
                Ok(())
            }
            _ => Err(StoreError::invalid(format!(
                "{} of the archive is no manifest",
                shown(descriptor.digest.as_bytes())
            ))),
        }
    }
}

impl From<Named<'_>> for Claim {
    fn from(named: Named<'_>) -> Self {
        // Who has got as far as an image has read that blob, and found it to be of its digest.
        Self { name: named.name.to_owned(), verified: Some(named.descriptor.digest.clone()) }
    }
}

/// A name that is whole. A bare word may be a tag of who knows what.
fn own_name(descriptor: &Descriptor) -> Option<&str> {
    let annotations = descriptor.annotations.as_ref()?;
    let whole = |name: &&String| name.contains([':', '/']);
    annotations.get(CONTAINERD_NAME).or_else(|| annotations.get(REF_NAME).filter(whole)).map(String::as_str)
}

/// Where a layout has the content of a digest.
fn blob(digest: &str) -> Result<String, StoreError> {
    match digits(digest) {
        Some(digits) => Ok(format!("blobs/sha256/{digits}")),
        None => Err(StoreError::invalid(format!("`{}` is no SHA-256 digest", shown(digest.as_bytes())))),
    }
}
