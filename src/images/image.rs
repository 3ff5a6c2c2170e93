//! An image of the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::lock::Lock;

/// One image, unpacked. For as long as any clone of this exists, in any process, it is not removed.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) shared: Arc<Shared>,
}

/// What an image says of the program in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The image's own `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// The image's own `CMD`.
    pub command: Vec<String>,
    /// The image's own `WORKDIR`; empty where it has none.
    pub working_dir: String,
    /// The image's own `ENV`, as `NAME=value`.
    pub env: Vec<String>,
    /// The image's own `USER`; empty where it has none.
    pub user: String,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: String,
    pub(super) reference: String,
    pub(super) rootfs: PathBuf,
    pub(super) about: About,
    /// Held for its drop.
    pub(super) _lease: Lock,
}

/// What a store knows of an image without looking into it.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) config: ImageConfig,
    pub(super) volumes: Vec<String>,
    pub(super) architecture: String,
    pub(super) created: String,
    pub(super) record: Record,
}

/// The store's own file beside an image's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Of all files, in bytes.
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) imported: u64,
}

/// An image's configuration: the OCI image specification's config.md, which is Docker's format too. What is not
/// needed is left out.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ConfigFile {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) architecture: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<String>,
    #[serde(default)]
    pub(super) config: Option<Settings>,
    #[serde(default)]
    pub(super) rootfs: Layers,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Layers {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    /// Of each layer uncompressed, the lowest first.
    #[serde(default)]
    pub(super) diff_ids: Vec<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Settings {
    #[serde(default)]
    pub(super) user: Option<String>,
    #[serde(default)]
    pub(super) env: Option<Vec<String>>,
    #[serde(default)]
    pub(super) entrypoint: Option<Vec<String>>,
    #[serde(default)]
    pub(super) cmd: Option<Vec<String>>,
    #[serde(default)]
    pub(super) working_dir: Option<String>,
    /// The keys alone mean something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) volumes: Option<std::collections::BTreeMap<String, serde_json::Value>>,
}

// === impl Image ===

impl Image {
    /// The digest of the configuration, `sha256:` included: the same as Docker's id of the image.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// The reference that this image was found by, completed; or its id, where it was found by that.
    pub fn reference(&self) -> &str {
        &self.shared.reference
    }

    /// The root file system: a directory with everything that the image's layers make together, and with what an
    /// engine mounts over. Shared by all who use the image, so never to be written to.
    pub fn rootfs(&self) -> &Path {
        &self.shared.rootfs
    }

    /// What the image says of the program in it.
    pub fn config(&self) -> &ImageConfig {
        &self.shared.about.config
    }

    /// The image's `VOLUME` paths, in order. Each is a directory in the root file system.
    pub fn volumes(&self) -> &[String] {
        &self.shared.about.volumes
    }
}

// === impl ConfigFile ===

impl ConfigFile {
    pub(super) fn parse(text: &[u8]) -> Result<Self, StoreError> {
        let unreadable = || StoreError::invalid("its configuration cannot be read");
        // serde takes a list for a struct too.
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(unreadable());
        }
        serde_json::from_slice(text).map_err(|error| unreadable().because(error))
    }

    /// What an engine wants to know.
    pub(super) fn about(self, record: Record) -> About {
        let settings = self.config.unwrap_or_default();
        About {
            config: ImageConfig {
                entrypoint: settings.entrypoint.unwrap_or_default(),
                command: settings.cmd.unwrap_or_default(),
                working_dir: settings.working_dir.unwrap_or_default(),
                env: settings.env.unwrap_or_default(),
                user: settings.user.unwrap_or_default(),
            },
            volumes: settings.volumes.unwrap_or_default().into_keys().collect(),
            architecture: self.architecture,
            created: self.created.unwrap_or_default(),
            record,
        }
    }
}
