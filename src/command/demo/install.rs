//! Getting the demo's image into an engine.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dcgi::config::EngineChoice;
use dcgi::engine::docker::DockerEngine;
use dcgi::engine::embedded::EmbeddedEngine;
use dcgi::engine::{Engine, EngineErrorKind, Program, PullPolicy};

use super::image::{Image, REPOSITORY};
use crate::command::engine::{self, Single};

/// For how long the images of other builds are kept. There may be demos of them that run.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Connects to an engine, or makes it, and sees that it has the image.
pub(super) async fn engine_with(choice: EngineChoice, image: Image) -> anyhow::Result<Arc<dyn Engine>> {
    let single = engine::single(choice).await?;
    match &single {
        Single::Docker(engine) => into_docker(engine, image).await?,
        Single::Embedded(engine) => into_embedded(engine, image).await?,
    }
    Ok(single.into_shared())
}

async fn into_embedded(engine: &EmbeddedEngine, image: Image) -> anyhow::Result<()> {
    if has(engine, image.reference()).await? {
        return Ok(());
    }
    let store = engine.store().clone();
    let reference = image.reference().to_owned();
    let config = image.config().clone();
    tracing::info!(image = reference, "making the demo's image from this executable");
    let archive = image.into_archive().context("the demo's image cannot be made")?;
    tokio::task::spawn_blocking(move || store.import(archive, &reference, config)).await??;
    Ok(())
}

async fn into_docker(engine: &DockerEngine, image: Image) -> anyhow::Result<()> {
    if has(engine, image.reference()).await? {
        return Ok(());
    }
    let reference = image.reference().to_owned();
    let config = image.config().clone();
    tracing::info!(image = reference, "making the demo's image from this executable");
    let archive = image.into_archive().context("the demo's image cannot be made")?;
    engine.import(archive, &reference, &config).await?;
    match engine.remove_old_images(REPOSITORY, &reference, KEPT).await {
        Ok(removed) if !removed.is_empty() => {
            tracing::info!(count = removed.len(), "removed images of the demo that other builds had made");
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "the demo's old images stay"),
    }
    Ok(())
}

/// Whether the engine has an image already.
async fn has(engine: &dyn Engine, reference: &str) -> anyhow::Result<bool> {
    let mut program = Program::new(reference);
    program.pull = PullPolicy::Never;
    match engine.image(&program).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == EngineErrorKind::ImageMissing => Ok(false),
        Err(error) => Err(error.into()),
    }
}
