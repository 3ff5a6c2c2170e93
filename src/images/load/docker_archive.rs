//! What `docker save` writes: `manifest.json`, as the
//! [Docker image specification](https://github.com/moby/docker-image-spec/blob/main/spec.md) has it.

use serde::Deserialize;

use super::{Claim, Described, Files};
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
        files.left.image()?;
        let name = |name: String| -> Result<Claim, StoreError> {
            files.left.name()?;
            // A manifest, of which a name's digest would be, is not in here.
            Ok(Claim { name, verified: None })
        };
        Ok(Described {
            config: files.description(&manifest.config)?,
            layers: manifest
                .layers
                .iter()
                .flatten()
                .map(|layer| files.path(layer))
                .collect::<Result<_, _>>()?,
            names: manifest.repo_tags.into_iter().flatten().map(name).collect::<Result<_, _>>()?,
        })
    };
    manifests.into_iter().map(described).collect()
}
