//! The engine that a configuration chooses.

use std::sync::Arc;

use dcgi::config::EngineChoice;
use dcgi::engine::Engine;
use dcgi::engine::docker::DockerEngine;

/// Connects to the engine. `auto` is docker: it is the only one so far.
pub(super) async fn connect(choice: EngineChoice) -> anyhow::Result<Arc<dyn Engine>> {
    match choice {
        EngineChoice::Auto | EngineChoice::Docker => Ok(Arc::new(DockerEngine::connect_with_env().await?)),
    }
}
