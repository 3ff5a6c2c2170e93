//! The engine that a configuration chooses.

use std::sync::Arc;

use anyhow::bail;
use dcgi::config::{Config, EngineChoice};
use dcgi::engine::docker::{DockerEngine, Endpoint};
use dcgi::engine::embedded::EmbeddedEngine;
use dcgi::engine::embedded::store::Store;
use dcgi::engine::{Engine, Warm};

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
    let connected = match config.engine {
        EngineChoice::Docker => Connected::Docker(DockerEngine::connect_with_env().await?),
        EngineChoice::Embedded => embedded().await?,
        EngineChoice::Auto => match DockerEngine::connect_with_env().await {
            // Nobody has named an engine, and none is there.
            Err(error) if error.is_unreachable() && Endpoint::is_default() => {
                let why = super::describe(&error.into());
                tracing::info!("containers are of dcgi's own making: {why}");
                embedded().await?
            }
            answer => Connected::Docker(answer?),
        },
    };
    if let Connected::Docker(_) = connected {
        for route in &config.routes {
            if matches!(route.program.warm, Warm::Fixed(1..)) {
                bail!(
                    "route `{}`: the docker engine keeps no containers ready (`warm`) in this version of dcgi; \
                     engine = \"embedded\" does",
                    route.name()
                );
            }
        }
    }
    Ok(connected)
}

async fn embedded() -> anyhow::Result<Connected> {
    let store = Store::open(Store::default_root())?;
    Ok(Connected::Embedded(EmbeddedEngine::new(store).await?))
}
