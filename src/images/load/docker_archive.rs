//! What `docker save` writes: `manifest.json`, as the
//! [Docker image specification](https://github.com/moby/docker-image-spec/blob/main/spec.md) has it.

use serde::Deserialize;

use super::{Described, Files, complete};
use crate::images::error::StoreError;

/// One element of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Manifest {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn images(files: &Files) -> Result<Vec<Described>, StoreError> {
    let manifests: Vec<Manifest> = files.json("manifest.json")?;
    if manifests.is_empty() {
        return Err(StoreError::invalid("the archive holds no image"));
    }
    let described = |manifest: Manifest| {
        Ok(Described {
            config: files.description(&manifest.config)?,
            layers: manifest
                .layers
                .iter()
                .flatten()
                .map(|layer| files.path(layer))
                .collect::<Result<_, _>>()?,
            names: manifest
                .repo_tags
                .iter()
                .flatten()
                .map(|name| complete(name))
                .collect::<Result<_, _>>()?,
        })
    };
    manifests.into_iter().map(described).collect()
}
