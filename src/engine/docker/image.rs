//! What images say, and pulling them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use docker_credential::DockerCredential;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};

use super::{Shared, api};
use crate::engine::images::{Images, Source};
use crate::engine::{EngineError, EngineErrorKind, ImageConfig, PullPolicy};
use crate::reason::Reason;

/// How often a pull tells of its progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// An image that the engine has.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Its id, which its name may not stand for any more.
    pub(super) id: String,
    pub(super) config: ImageConfig,
}

impl Source for Shared {
    type Found = Found;

    fn images(&self) -> &Images<Found> {
        &self.images
    }

    fn look_up<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<Option<Found>, EngineError>> {
        async move {
            let (id, found) = match self.docker.inspect_image(image).await {
                Ok(found) => (found.id.unwrap_or_default(), found.config.unwrap_or_default()),
                Err(error) if api::has_status(&error, 404) => return Ok(None),
                Err(error) => return Err(self.failure(error, format!("looking up image `{image}`")).await),
            };
            let config = ImageConfig {
                entrypoint: found.entrypoint.unwrap_or_default(),
                command: found.cmd.unwrap_or_default(),
                working_dir: found.working_dir.unwrap_or_default(),
                env: found.env.unwrap_or_default(),
                user: found.user.unwrap_or_default(),
            };
            Ok(Some(Found { id, config }))
        }
        .boxed()
    }

    fn pull<'a>(&'a self, image: &'a str, _: PullPolicy) -> BoxFuture<'a, Result<(), EngineError>> {
        pull(self, image).boxed()
    }

    fn missing(&self, image: &str) -> String {
        format!("the container engine at {} has no image `{image}`", self.endpoint)
    }

    fn remedy(&self, image: &str) -> String {
        format!("`docker build -t {image} .` or `docker pull {image}` puts it there")
    }
}

async fn pull(engine: &Shared, image: &str) -> Result<(), EngineError> {
    tracing::info!(image, "pulling image");
    let began = Instant::now();
    // Without a tag the engine would pull every one there is.
    let tagged = if has_tag_or_digest(image) { image.to_owned() } else { format!("{image}:latest") };
    let options = CreateImageOptionsBuilder::default().from_image(&tagged).build();
    let credentials = credentials(registry(image)).await;
    let mut steps = Box::pin(engine.docker.create_image(Some(options), None, credentials));
    let mut progress = Progress::default();
    let mut told = Instant::now();
    while let Some(step) = steps.next().await {
        match step {
            Ok(step) => progress.note(step),
            Err(error) => {
                let error = engine.failure(error, format!("image `{image}` cannot be pulled")).await;
                if error.is_unreachable() {
                    return Err(error);
                }
                let what = format!("{}; {}", Reason(&error), engine.remedy(image));
                return Err(EngineError::new(EngineErrorKind::ImageMissing, what));
            }
        }
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            tracing::info!(image, "pulling image: {progress}");
        }
    }
    tracing::info!(image, seconds = began.elapsed().as_secs_f32(), "pulled image");
    Ok(())
}

/// Layers that a pull has told of.
#[derive(Default)]
struct Progress(HashMap<String, (i64, i64, bool)>);

impl Progress {
    fn note(&mut self, step: CreateImageInfo) {
        let (Some(layer), Some(status)) = (step.id, step.status) else { return };
        let (current, total, done) = self.0.entry(layer).or_default();
        if let (true, Some(detail)) = (status == "Downloading", step.progress_detail) {
            *current = detail.current.unwrap_or(*current);
            *total = detail.total.unwrap_or(*total);
        }
        if matches!(status.as_str(), "Download complete" | "Pull complete" | "Already exists") {
            *current = *total;
            *done = true;
        }
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mebibytes = |bytes: i64| bytes / (1 << 20);
        let (current, total) = self.0.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        let done = self.0.values().filter(|layer| layer.2).count();
        let layers = self.0.len();
        write!(f, "{done} of {layers} layers, {} of {} MiB", mebibytes(current), mebibytes(total))
    }
}

fn has_tag_or_digest(image: &str) -> bool {
    let name = image.rsplit_once('/').map_or(image, |(_, name)| name);
    name.contains([':', '@'])
}

/// The registry that an image's reference names, as the client's `config.json` spells it.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "https://index.docker.io/v1/",
    }
}

/// What `docker login` has left for a registry.
async fn credentials(registry: &str) -> Option<bollard::auth::DockerCredentials> {
    let registry = registry.to_owned();
    // Credential helpers are programs: asking one blocks.
    let found =
        tokio::task::spawn_blocking(move || docker_credential::get_credential(&registry)).await.ok()?;
    Some(match found.ok()? {
        DockerCredential::UsernamePassword(username, password) => bollard::auth::DockerCredentials {
            username: Some(username),
            password: Some(password),
            ..Default::default()
        },
        DockerCredential::IdentityToken(token) => {
            bollard::auth::DockerCredentials { identitytoken: Some(token), ..Default::default() }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_without_tag_is_recognised_behind_a_registrys_port() {
        assert!(!has_tag_or_digest("localhost:5000/hello"));
        assert!(has_tag_or_digest("localhost:5000/hello:1"));
        assert!(has_tag_or_digest("hello@sha256:00"));
    }

    #[test]
    fn an_image_names_its_registry() {
        assert_eq!(registry("perl:5"), "https://index.docker.io/v1/");
        assert_eq!(registry("dcgi/hello"), "https://index.docker.io/v1/");
        assert_eq!(registry("ghcr.io/a/b"), "ghcr.io");
        assert_eq!(registry("localhost:5000/hello"), "localhost:5000");
    }
}
