//! The `docker` engine: the Docker Engine API, spoken by Docker and by Podman.
//!
//! A request is five calls, as `docker run --rm` makes them: create, attach, start, wait, remove. The
//! container's life is a task of its own (`container`), so that a caller who loses interest, at whatever
//! point, leaves nothing behind: the task goes on to the removal.
//!
//! # Security
//! Every container starts without capabilities, with `no-new-privileges`, a read-only root, no network, and
//! limits; a [`Program`] loosens what it needs. Bodies pass through the engine's attach stream only: the log
//! driver is `none`, so the engine writes none of them to its disk. Whoever can talk to the engine's socket
//! is root on its machine, dcgi included; programs never see that socket.
//!
//! # Limits of the API
//! Variables travel as JSON, so bytes that are no UTF-8 reach the program as U+FFFD. The exit status is one
//! number, where a signal N looks like an exit with 128+N; such a code counts as the signal.

mod api;
mod container;
mod endpoint;
mod image;
mod import;
mod labels;
mod options;
mod orphans;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::RemoveContainerOptionsBuilder;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::images::Images;
use super::instance::Instance;
use super::{Engine, EngineError, ImageConfig, Invocation, Process, Program};
use api::ErrorContext;
pub use endpoint::Endpoint;

/// How often containers of dead instances are looked for after the first time.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// A client of the engine at an endpoint, which nobody has spoken to yet.
pub(super) fn client(endpoint: &Endpoint) -> Result<Docker, EngineError> {
    transport::client(endpoint)
}

/// Runs programs on a Docker engine.
#[derive(Clone, Debug)]
pub struct DockerEngine {
    shared: Arc<Shared>,
}

/// What the engine's tasks hold together.
#[derive(Debug)]
struct Shared {
    /// Calls to the engine, over pooled connections.
    docker: Docker,
    /// Where the engine is: for messages only.
    endpoint: Endpoint,
    /// Who we are, on every container's label.
    instance: Instance,
    /// What images say, remembered for a short while.
    images: Images<ImageConfig>,
    /// One task a container, from before its creation until after its removal. `drained` waits on these.
    containers: TaskTracker,
}

impl DockerEngine {
    /// Connects to the engine that the environment names, as the `docker` command would find it, and removes
    /// what dead instances of dcgi left there.
    ///
    /// # Errors
    /// Where the environment is contradictory, certificates cannot be read, or no engine answers.
    pub async fn connect_with_env() -> Result<Self, EngineError> {
        Self::connect(Endpoint::from_env()?).await
    }

    /// Connects to the engine at an endpoint.
    ///
    /// # Errors
    /// [`Unreachable`](super::EngineErrorKind::Unreachable) where no engine answers there.
    pub async fn connect(endpoint: Endpoint) -> Result<Self, EngineError> {
        let docker = transport::client(&endpoint)?;
        let version = docker
            .version()
            .await
            .map_err(|e| api::error(e, format!("no container engine answers at {endpoint}")))?;
        tracing::info!(
            %endpoint,
            version = version.version.as_deref().unwrap_or("unknown"),
            api = version.api_version.as_deref().unwrap_or("unknown"),
            "connected to the container engine"
        );
        let shared = Arc::new(Shared {
            docker,
            endpoint,
            instance: Instance::current(),
            images: Images::default(),
            containers: TaskTracker::new(),
        });
        orphans::sweep(&shared).await?;
        tokio::spawn(orphans::sweep_regularly(Arc::downgrade(&shared), SWEEP_INTERVAL));
        Ok(Self { shared })
    }
}

impl Engine for DockerEngine {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn image<'a>(&'a self, program: &'a Program) -> BoxFuture<'a, Result<ImageConfig, EngineError>> {
        self.shared.images.get(&self.shared, &program.image, program.pull).boxed()
    }

    fn start<'a>(
        &'a self,
        program: &'a Program,
        invocation: Invocation,
    ) -> BoxFuture<'a, Result<Process, EngineError>> {
        async move {
            let image = self.image(program).await?;
            let name = self.shared.instance.container_name(&invocation.request_id);
            let body = options::create_body(program, &image, &invocation, &self.shared.instance);
            let (ready, started) = oneshot::channel();
            let life = container::live(self.shared.clone(), name, body, invocation.lease, ready);
            self.shared.containers.spawn(life);
            let result = started.await.unwrap_or_else(|_| {
                Err(EngineError::new(super::EngineErrorKind::Unreachable, "the runtime is shutting down"))
            });
            if result.as_ref().is_err_and(|e| e.kind() == super::EngineErrorKind::ImageMissing) {
                // Removed since it was looked up: the next request asks, or pulls, again.
                self.shared.images.forget(&program.image);
            }
            result
        }
        .boxed()
    }

    fn describe(&self, program: &Program, invocation: &Invocation) -> serde_json::Value {
        let image = self.shared.images.recent(&program.image).unwrap_or_default();
        let body = options::create_body(program, &image, invocation, &self.shared.instance);
        serde_json::to_value(body).expect("a create request is plain JSON")
    }

    fn drained(&self) -> BoxFuture<'_, ()> {
        async move {
            self.shared.containers.close();
            self.shared.containers.wait().await;
            self.shared.containers.reopen();
        }
        .boxed()
    }
}

impl Shared {
    /// Removes a container, running or not, with its anonymous volumes. Gone already is as good.
    async fn remove_container(&self, container: &str) -> Result<(), bollard::errors::Error> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.docker.remove_container(container, Some(options)).await {
            Err(error) if !api::has_status(&error, 404) => Err(error),
            _ => Ok(()),
        }
    }

    /// Turns a failed call into an error, asking the engine whether it is there at all where the call's own
    /// words do not tell: an engine that is going down answers 500 to much.
    async fn failure(&self, error: bollard::errors::Error, what: impl Into<String>) -> EngineError {
        let context = ErrorContext { what: what.into(), endpoint: &self.endpoint };
        let doubtful = api::is_server_failure(&error);
        let alive = async {
            tokio::time::timeout(Duration::from_secs(2), self.docker.ping()).await.is_ok_and(|r| r.is_ok())
        };
        if doubtful && !alive.await { context.unreachable(&error) } else { context.error(error) }
    }
}
