//! The engine that a configuration chooses.

use std::sync::Arc;

use dcgi::agent::Executable;
use dcgi::config::{Config, EngineChoice};
use dcgi::engine::Engine;
use dcgi::engine::docker::{DockerEngine, Endpoint};
use dcgi::engine::embedded::EmbeddedEngine;
use dcgi::images::Store;

/// An engine, and what kind it is.
pub(super) enum Connected {
    Docker(DockerEngine),
    Embedded(EmbeddedEngine),
}

impl Connected {
    /// The engine, whatever kind it is.
    pub(super) fn into_shared(self) -> Arc<dyn Engine> {
        match self {
            Self::Docker(engine) => Arc::new(engine),
            Self::Embedded(engine) => Arc::new(engine),
        }
    }
}

/// Connects to the engine of a configuration, or makes it.
pub(super) async fn connect(config: &Config) -> anyhow::Result<Connected> {
    Ok(match config.engine {
        EngineChoice::Docker => docker(DockerEngine::connect_with_env().await?),
        EngineChoice::Embedded => embedded().await?,
        EngineChoice::Auto => match DockerEngine::connect_with_env().await {
            // Nobody has named an engine, and none is there.
            Err(error) if error.is_unreachable() && Endpoint::is_default() => {
                let why = super::describe(&error.into());
                tracing::info!("containers are of dcgi's own making: {why}");
                embedded().await?
            }
            answer => docker(answer?),
        },
    })
}

fn docker(engine: DockerEngine) -> Connected {
    Connected::Docker(engine.with_agent(Executable::current()))
}

async fn embedded() -> anyhow::Result<Connected> {
    let store = Store::open(Store::default_root())?;
    let engine = EmbeddedEngine::new(store).await?;
    Ok(Connected::Embedded(engine.with_agent(Executable::current())))
}
