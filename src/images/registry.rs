//! Images from a registry, by the [OCI distribution specification](https://github.com/opencontainers/distribution-spec).

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use docker_credential::DockerCredential;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use oci_client::manifest::{ImageIndexEntry, OciDescriptor, OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::digest::sha256_hex;
use super::error::{StoreError, StoreErrorKind, shown};
use super::image::{ConfigFile, Image};
use super::install::{LARGEST_CONFIG, Naming};
use super::load::unwritable;
use super::{Store, blocking, platform, reference};
use crate::reason::Reason;

/// How many layers come at once: what Docker does by default.
const AT_ONCE: usize = 3;

/// How long a registry may take to accept a connection, and to send the next bytes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How far a pull is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The image is here already, and nothing is downloaded.
    Present,
    /// So many layers, of so many bytes together, are downloaded.
    Begun {
        /// How many.
        layers: usize,
        /// Compressed.
        bytes: u64,
    },
    /// More of a layer has come.
    Layer {
        /// The layer's digest.
        digest: String,
        /// How many bytes are here.
        received: u64,
        /// How many it has, compressed.
        total: u64,
    },
    /// All is here, and is unpacked.
    Unpacking,
}

impl Store {
    /// Takes an image for this machine from its registry, with the credentials that `docker login` has left. Registries on
    /// this machine are spoken to without TLS.
    ///
    /// Where the image is there already, only its manifest and configuration are fetched, and the reference means it from now
    /// on. Where it is just being pulled, here or in another process, this waits for that.
    ///
    /// # Errors
    /// [`Missing`](StoreErrorKind::Missing) where the registry has no such image; [`Source`](StoreErrorKind::Source) where it
    /// does not answer, or refuses; [`Invalid`](StoreErrorKind::Invalid) where what it sends is not what a digest says;
    /// [`Platform`](StoreErrorKind::Platform) where there is none for this machine.
    ///
    /// # Cancel safety
    /// Cancel safe: what has come is removed. What is being unpacked by then is finished.
    pub async fn pull(
        &self,
        reference: &str,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Image, StoreError> {
        let reference = reference::parse(reference)?;
        let source = Source::connect(reference).await?;
        let described = source.describe().await?;
        let ConfigFile { os, architecture, .. } = ConfigFile::parse(&described.config)?;
        platform::check(&os, &architecture)?;

        let digits = sha256_hex(&described.config);
        let _pulling = self.waiting(format!("pull-{digits}")).await?;
        let store = self.clone();
        let work = blocking(move || store.work()).await?;
        if self.image_path(&digits).exists() {
            progress(Progress::Present);
            let store = self.clone();
            return blocking(move || store.commit(&work, &digits, Naming::Given(&described.names))).await;
        }
        let folder = work.directory("layers")?;
        let layers = source.layers(&described.manifest, &folder, &progress).await?;
        progress(Progress::Unpacking);
        let store = self.clone();
        let installed =
            move || store.install(&work, &described.config, &layers, Naming::Given(&described.names));
        blocking(installed).await.map_err(|error| error.within(format_args!("image `{}`", source.reference)))
    }
}

/// A registry, asked for one image.
struct Source {
    client: Client,
    auth: RegistryAuth,
    reference: Reference,
}

/// What a registry says of an image.
struct Described {
    manifest: OciImageManifest,
    config: Vec<u8>,
    /// Complete, the one that was asked for first, and the digests.
    names: Vec<String>,
}

impl Source {
    async fn connect(reference: Reference) -> Result<Self, StoreError> {
        // Where a program has chosen another one already, that one is good too.
        _ = rustls::crypto::ring::default_provider().install_default();
        let registry = reference.resolve_registry().to_owned();
        let config = ClientConfig {
            protocol: if is_local(&registry) { ClientProtocol::Http } else { ClientProtocol::Https },
            platform_resolver: None,
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: concat!("dcgi/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| {
            StoreError::new(
                StoreErrorKind::Source,
                "cannot make a client of registries (is the package ca-certificates installed?)",
            )
            .because(error)
        })?;
        let auth = credentials(reference.registry().to_owned()).await;
        Ok(Self { client, auth, reference })
    }

    /// The manifest for this machine, and the configuration.
    async fn describe(&self) -> Result<Described, StoreError> {
        let asked = &self.reference;
        let by_digest = |digest: &str| reference::key(&asked.clone_with_digest(digest.to_owned()));
        let manifest = |reference: Reference| async move {
            self.client.pull_manifest(&reference, &self.auth).await.map_err(|error| self.error(&error))
        };
        let (found, digest) = manifest(asked.clone()).await?;
        let mut names = vec![reference::key(asked), by_digest(&digest)];
        let found = match found {
            OciManifest::Image(found) => found,
            OciManifest::ImageIndex(index) => {
                let digest = choose(&index.manifests).map_err(|error| self.within(error))?;
                names.push(by_digest(&digest));
                match manifest(asked.clone_with_digest(digest)).await?.0 {
                    OciManifest::Image(found) => found,
                    OciManifest::ImageIndex(_) => {
                        return Err(self.within(StoreError::invalid("its index names another index")));
                    }
                }
            }
        };
        names.dedup();
        let mut config = Vec::new();
        let size = found.config.size.try_into().unwrap_or(u64::MAX);
        if size > LARGEST_CONFIG {
            return Err(self.within(StoreError::invalid(format!("its configuration has {size} bytes"))));
        }
        self.blob(&found.config, &mut config, |_| {}).await?;
        Ok(Described { manifest: found, config, names })
    }

    /// Downloads all layers into files of a folder, the lowest first.
    async fn layers(
        &self,
        manifest: &OciImageManifest,
        folder: &Path,
        progress: &(impl Fn(Progress) + Send + Sync),
    ) -> Result<Vec<PathBuf>, StoreError> {
        let bytes = manifest.layers.iter().filter_map(|layer| u64::try_from(layer.size).ok()).sum();
        progress(Progress::Begun { layers: manifest.layers.len(), bytes });
        let layers: Vec<_> = manifest.layers.iter().cloned().enumerate().collect();
        let download =
            |(number, layer)| self.layer(layer, folder.join(format!("{number}")), progress).boxed();
        futures_util::stream::iter(layers).map(download).buffered(AT_ONCE).try_collect().await
    }

    async fn layer(
        &self,
        layer: OciDescriptor,
        path: PathBuf,
        progress: &(impl Fn(Progress) + Send + Sync),
    ) -> Result<PathBuf, StoreError> {
        let file = tokio::fs::File::create_new(&path).await.map_err(|error| unwritable(&path, error))?;
        let mut file = tokio::io::BufWriter::with_capacity(1 << 20, file);
        let total = u64::try_from(layer.size).unwrap_or_default();
        let tell = |received| progress(Progress::Layer { digest: layer.digest.clone(), received, total });
        self.blob(&layer, &mut file, tell).await?;
        Ok(path)
    }

    /// Reads a blob, which must have the size and the digest that its descriptor says.
    async fn blob(
        &self,
        blob: &OciDescriptor,
        out: &mut (impl AsyncWrite + Unpin + Send),
        tell: impl Fn(u64) + Send,
    ) -> Result<(), StoreError> {
        let total = u64::try_from(blob.size).unwrap_or_default();
        let wrong = |received: u64| {
            let digest = shown(blob.digest.as_bytes());
            self.within(StoreError::invalid(format!(
                "{digest} has {received} bytes or more instead of {total}"
            )))
        };
        let failed = |error| unwritable(Path::new(&blob.digest), error);
        let mut stream =
            self.client.pull_blob_stream(&self.reference, blob).await.map_err(|error| self.error(&error))?;
        let mut received = 0;
        // The stream checks the digest, and fails at its end.
        while let Some(bytes) = stream.try_next().await.map_err(|error| self.error(&error.into()))? {
            received += bytes.len() as u64;
            if received > total {
                return Err(wrong(received));
            }
            out.write_all(&bytes).await.map_err(failed)?;
            tell(received);
        }
        out.flush().await.map_err(failed)?;
        if received == total { Ok(()) } else { Err(wrong(received)) }
    }

    fn within(&self, error: StoreError) -> StoreError {
        error.within(format_args!("image `{}`", self.reference))
    }

    fn error(&self, error: &OciDistributionError) -> StoreError {
        use OciDistributionError as E;
        use OciErrorCode::{ManifestUnknown, NameUnknown, NotFound};

        let (reference, registry) = (&self.reference, self.reference.registry());
        let kind = match error {
            E::ImageManifestNotFoundError(_) | E::ServerError { code: 404, .. } => StoreErrorKind::Missing,
            E::RegistryError { envelope, .. }
                if envelope
                    .errors
                    .iter()
                    .any(|e| matches!(e.code, ManifestUnknown | NameUnknown | NotFound)) =>
            {
                StoreErrorKind::Missing
            }
            E::DigestError(_)
            | E::ManifestParsingError(_)
            | E::VersionedParsingError(_)
            | E::ManifestEncodingError(_)
            | E::UnsupportedMediaTypeError(_)
            | E::UnsupportedSchemaVersionError(_) => StoreErrorKind::Invalid,
            E::IoError(error) if is_wrong_digest(error) => StoreErrorKind::Invalid,
            _ => StoreErrorKind::Source,
        };
        if kind == StoreErrorKind::Missing {
            return StoreError::new(kind, format!("the registry {registry} has no image `{reference}`"));
        }
        let what = format!("image `{reference}` cannot be pulled from the registry {registry}");
        StoreError::new(kind, what).because(Reason(error).to_string())
    }
}

/// What the client's own stream says where a blob is not what its digest says.
fn is_wrong_digest(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<DigestError>)
}

/// The manifest for this machine, by its digest.
fn choose(manifests: &[ImageIndexEntry]) -> Result<String, StoreError> {
    let mut others = Vec::new();
    for entry in manifests {
        let Some(platform) = &entry.platform else { continue };
        let (os, architecture) = (platform.os.to_string(), platform.architecture.to_string());
        if platform::check(&os, &architecture).is_ok() {
            return Ok(entry.digest.clone());
        }
        if os != "unknown" {
            others.push(format!("{}/{}", shown(os.as_bytes()), shown(architecture.as_bytes())));
        }
    }
    match manifests {
        // Nothing is said, and there is no choice.
        [entry] if entry.platform.is_none() => Ok(entry.digest.clone()),
        _ if others.is_empty() => Err(StoreError::invalid("its index names no image")),
        _ => Err(platform::refused(&others.join(", "))),
    }
}

/// Whether a registry is on this machine, so that Docker too speaks to it without TLS.
fn is_local(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback())
}

/// What `docker login` has left for a registry.
async fn credentials(registry: String) -> RegistryAuth {
    let server = if registry == "docker.io" { "https://index.docker.io/v1/".to_owned() } else { registry };
    let asked = server.clone();
    // Credential helpers are programs: asking one blocks.
    let found = tokio::task::spawn_blocking(move || docker_credential::get_credential(&asked)).await;
    match found {
        Ok(Ok(DockerCredential::UsernamePassword(user, password))) => RegistryAuth::Basic(user, password),
        Ok(Ok(DockerCredential::IdentityToken(_))) => {
            tracing::warn!(
                registry = server,
                "an identity token of `docker login` cannot be used; pulling anonymously"
            );
            RegistryAuth::Anonymous
        }
        _ => RegistryAuth::Anonymous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(os: &str, architecture: &str) -> ImageIndexEntry {
        serde_json::from_value(serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{os}-{architecture}"),
            "size": 1,
            "platform": { "os": os, "architecture": architecture },
        }))
        .unwrap()
    }

    #[test]
    fn the_manifest_for_this_machine_is_chosen() {
        let ours = entry(platform::OS, platform::ARCHITECTURE);
        let chosen = choose(&[entry("linux", "s390x"), ours.clone(), entry("unknown", "unknown")]).unwrap();
        assert_eq!(chosen, ours.digest);
    }

    #[test]
    fn where_there_is_none_for_this_machine_those_that_are_there_are_named() {
        let manifests = [entry("linux", "s390x"), entry("windows", "amd64"), entry("unknown", "unknown")];
        let error = choose(&manifests).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Platform);
        assert!(error.to_string().contains("linux/s390x, windows/amd64"), "{error}");
    }

    #[test]
    fn registries_on_this_machine_are_spoken_to_without_tls() {
        for local in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3"] {
            assert!(is_local(local), "{local}");
        }
        for remote in ["ghcr.io", "index.docker.io", "localhost.example.org:5000", "10.0.0.1:5000"] {
            assert!(!is_local(remote), "{remote}");
        }
    }
}
