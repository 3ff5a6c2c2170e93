//! OCI image layouts: `index.json` and `blobs/`, as the
//! [image specification](https://github.com/opencontainers/image-spec/blob/main/image-layout.md) has them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Described, Files, complete};
use crate::images::digest::digits;
use crate::images::error::{StoreError, shown};
use crate::images::platform;

/// Indexes in indexes: what writes layouts makes one.
const DEEPEST: usize = 4;

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
        name: Option<&str>,
        depth: usize,
    ) -> Result<(), StoreError> {
        if let Some(Platform { os, architecture }) = &descriptor.platform {
            // What is for no platform at all speaks about the other manifests.
            if os == "unknown" && architecture == "unknown" {
                return Ok(());
            }
            if platform::check(os, architecture).is_err() {
                self.others.push(format!("{}/{}", shown(os.as_bytes()), shown(architecture.as_bytes())));
                return Ok(());
            }
        }
        let name = own_name(descriptor).or(name);
        let document: Document = files.json(&blob(&descriptor.digest)?)?;
        match document {
            Document { manifests: Some(manifests), .. } if depth < DEEPEST => {
                manifests.iter().try_for_each(|manifest| self.look(files, manifest, name, depth + 1))
            }
            Document { config: Some(config), layers, .. } => {
                let layers = layers.unwrap_or_default();
                self.images.push(Described {
                    config: files.description(&blob(&config.digest)?)?,
                    layers: layers.iter().map(|l| files.path(&blob(&l.digest)?)).collect::<Result<_, _>>()?,
                    names: name.map(complete).transpose()?.into_iter().collect(),
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
