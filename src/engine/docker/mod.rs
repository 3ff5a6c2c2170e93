//! The `docker` engine: the Docker Engine API, spoken by Docker and by Podman.
//!
//! A request is a container: created, started, and removed. On this machine an agent in it dials in and takes the request;
//! of an engine elsewhere the attach stream and `wait` tell what there is to tell. The
//! container's life is a task of its own (`container`), so that a caller who loses interest, at whatever
//! point, leaves nothing behind: the task goes on to the removal.
//!
//! # Security
//! Every container starts without capabilities, with `no-new-privileges`, a read-only root, no network, and
//! limits; a [`Program`] loosens what it needs. Bodies pass through pipes or the engine's attach stream only: the log
//! driver is `none`, so the engine writes none of them to its disk. Whoever can talk to the engine's socket
//! is root on its machine, dcgi included; programs never see that socket.
//!
//! # Limits of the API
//! Where no agent is in a container, variables travel as JSON, so bytes that are no UTF-8 reach the program as U+FFFD; and
//! the exit status is one number, where a signal N looks like an exit with 128+N; such a code counts as the signal.

mod agent;
mod api;
mod cold;
mod container;
mod endpoint;
mod folder;
mod image;
mod import;
mod labels;
mod offer;
mod options;
mod orphans;
mod outliving;
mod transport;
mod warm;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::RemoveContainerOptionsBuilder;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use super::agent::{Home, Key, Places, Resident, Residents, RuntimeDir};
use super::images::{self, Images};
use super::sources::{self, Seen, Sources};
use super::{
    Engine, EngineError, EngineErrorKind, Folder, ImageConfig, Invocation, Isolation, Lease, Process,
    Program, Warm,
};
use crate::agent::Executable;
use crate::instance::Instance;
use crate::reason::Reason;
use agent::{Agents, Inhabited, Purpose, Way};
use api::ErrorContext;
pub(super) use api::root_cause;
pub use endpoint::Endpoint;
use folder::Folders;
use image::Found;
use warm::Pool;

/// How often containers of dead instances are looked for after the first time.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Why there are no shared containers on an engine elsewhere.
const NOT_FROM_THERE: &str = "`isolation = \"shared\"` needs an engine on this machine: its agents dial in";

/// How often what waits is looked at.
const TIDY_INTERVAL: Duration = Duration::from_secs(2);

/// How long an engine may take to say that it is there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// A client of the engine that the environment names, where one answers: for a store that
/// [takes images from it](crate::images::Store::with_engine).
///
/// # Cancel safety
/// Cancel safe.
pub fn answering() -> BoxFuture<'static, Option<Docker>> {
    async {
        let client = transport::client(&Endpoint::from_env().ok()?).ok()?;
        tokio::time::timeout(ANSWERS_WITHIN, client.ping()).await.ok()?.ok()?;
        Some(client)
    }
    .boxed()
}

/// A client of the engine at an endpoint, which nobody has spoken to yet.
pub(super) fn client(endpoint: &Endpoint) -> Result<Docker, EngineError> {
    transport::client(endpoint)
}

/// Runs programs on a Docker engine.
#[derive(Clone, Debug)]
pub struct DockerEngine {
    shared: Arc<Shared>,
    /// The last one lets go of what waits and what is shared.
    _standing: Arc<Standing>,
}

/// Containers that are not for one request stand as long as this does.
#[derive(Debug)]
struct Standing(Arc<Shared>);

impl Drop for Standing {
    fn drop(&mut self) {
        self.0.clear_standing();
    }
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
    images: Images<Found>,
    /// What is in their directories.
    folders: Folders,
    /// Looks at directories of this machine that programs see.
    sources: Sources,
    /// What agents need, or why there are none.
    agents: OnceLock<Result<Agents, String>>,
    /// Containers that wait, by route.
    pools: Mutex<HashMap<Arc<str>, Arc<Pool>>>,
    /// Containers that are shared, by route.
    places: Places,
    /// One task a container, from before its creation until after its removal. `drained` waits on these.
    containers: TaskTracker,
    /// How many containers are removed at once, and how many that are to be shared are started.
    removals: Semaphore,
    settlers: Semaphore,
}

/// Docker 20.10 was seen to hang for good over fifty removals at once, on two processors, and to answer nobody for ten seconds
/// over as many starts. One after the other they take no longer.
const REMOVALS: usize = 6;
const SETTLERS: usize = 4;

/// How long an engine may take to remove a container until all in it is killed otherwise.
const OVERDUE: Duration = Duration::from_secs(2);

/// How long a removal that does not come to an end keeps others from beginning.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(10);

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
    /// [`Unreachable`](EngineErrorKind::Unreachable) where no engine answers there.
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
            folders: Folders::default(),
            sources: Sources::default(),
            agents: OnceLock::new(),
            pools: Mutex::default(),
            places: Places::default(),
            containers: TaskTracker::new(),
            removals: Semaphore::new(REMOVALS),
            settlers: Semaphore::new(SETTLERS),
        });
        orphans::sweep(&shared).await?;
        tokio::spawn(orphans::sweep_regularly(Arc::downgrade(&shared), SWEEP_INTERVAL));
        tokio::spawn(tidy_regularly(Arc::downgrade(&shared)));
        tokio::spawn(images::refresh_regularly(Arc::downgrade(&shared)));
        Ok(Self { _standing: Arc::new(Standing(shared.clone())), shared })
    }

    /// Lets containers wait for requests ([`Warm`]), and be shared
    /// ([`Isolation::Shared`]): both have an agent in them, which is this executable.
    ///
    /// The engine gets a copy of it in a volume, `dcgi-agent-VERSION-DIGEST`, which stays for the next time. Agents dial in
    /// over unix sockets below `DCGI_RUNTIME_DIR`, by default `/run/dcgi` for root; those of an engine that is not on this
    /// machine take their request through the engine, and are not shared. What stands in the way is said when it is needed:
    /// a program that would only be faster runs without.
    pub fn with_agent(self, executable: Executable) -> Self {
        let agents = match self.shared.endpoint.is_local() {
            true => RuntimeDir::new(&self.shared.instance)
                .map(|runtime_dir| Agents::new(Some(runtime_dir), executable))
                .map_err(|error| error.to_string()),
            false => Ok(Agents::new(None, executable)),
        };
        // Who calls it twice has the first.
        _ = self.shared.agents.set(agents);
        self
    }

    /// Lets go of what a route has ready. What runs goes on.
    pub(super) fn forget_route(&self, route: &str) {
        let pool = self.shared.pools().remove(route);
        if let Some(pool) = pool {
            pool.close();
        }
        self.shared.places.forget(route);
    }

    /// Asks at the next use what an image's name means.
    pub(super) fn forget_image(&self, image: &str) {
        self.shared.images.forget(image);
    }
}

impl Engine for DockerEngine {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn image<'a>(&'a self, program: &'a Program) -> BoxFuture<'a, Result<ImageConfig, EngineError>> {
        async move { Ok(self.shared.image(program).await?.config) }.boxed()
    }

    fn folder<'a>(
        &'a self,
        program: &'a Program,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Folder, EngineError>> {
        async move {
            let image = self.shared.image(program).await?;
            let catalog = self.shared.folders.get(&self.shared, &program.image, &image, path).await?;
            Ok(Folder::learnt(catalog))
        }
        .boxed()
    }

    fn prepare<'a>(
        &'a self,
        program: &'a Program,
        route: &'a Arc<str>,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        async move {
            let image = self.shared.image(program).await?;
            let seen = self.shared.seen(program, route).await;
            match program.isolation {
                Isolation::Shared { .. } => _ = self.shared.residents(program, image, seen, route)?,
                Isolation::Fresh => {
                    if let Some(pool) = self.shared.pool(program, image, seen, route) {
                        pool.refill(&self.shared);
                    } else if let Warm::Fixed(1..) = program.warm {
                        let why = match self.shared.agents() {
                            Ok(_) => "`init = false` leaves no room for an agent".to_owned(),
                            Err(error) => Reason(&error).to_string(),
                        };
                        tracing::warn!(%route, "no container is kept ready for its requests: {why}");
                    }
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn start<'a>(
        &'a self,
        program: &'a Program,
        invocation: Invocation,
    ) -> BoxFuture<'a, Result<Process, EngineError>> {
        async move {
            let image = self.shared.image(program).await?;
            if let Isolation::Shared { .. } = program.isolation {
                return sources::begin(program, invocation, |invocation| async {
                    let seen = self.shared.seen(program, &invocation.route).await;
                    let residents = self.shared.residents(program, image.clone(), seen, &invocation.route)?;
                    residents.begin(invocation).await
                })
                .await;
            }
            let mut turn = None;
            // A container that is made for the request sees what is there when it is made.
            let seen = match self.shared.has_pool(program) {
                true => self.shared.seen(program, &invocation.route).await,
                false => Seen::default(),
            };
            if let Some(pool) = self.shared.pool(program, image.clone(), seen, &invocation.route) {
                let turn = turn.insert(Arc::new(pool.turn(&self.shared)));
                if let Some(process) = pool.begin(&self.shared, &invocation, turn).await? {
                    return Ok(process);
                }
            }
            if let Some(begun) = cold::begin(&self.shared, program, &image, &invocation, turn.as_ref()).await
            {
                return begun;
            }
            if !program.connect.is_empty() {
                let what = "`connect` needs an agent in the container, and there can be none: is `init` true, and the engine on this machine?";
                return Err(EngineError::new(EngineErrorKind::Refused, what));
            }
            let name = self.shared.instance.container_name(&invocation.request_id);
            let body = options::create_body(program, &image.config, &invocation, &self.shared.instance);
            let lease = Lease::new((turn, invocation.lease));
            let (ready, started) = oneshot::channel();
            let life = container::live(self.shared.clone(), name, body, lease, ready);
            self.shared.containers.spawn(life);
            let result = started.await.unwrap_or_else(|_| {
                Err(EngineError::new(EngineErrorKind::Unreachable, "the runtime is shutting down"))
            });
            if result.as_ref().is_err_and(|e| e.kind() == EngineErrorKind::ImageMissing) {
                // Removed since it was looked up: the next request asks, or pulls, again.
                self.shared.images.forget(&program.image);
            }
            result
        }
        .boxed()
    }

    fn describe(&self, program: &Program, invocation: &Invocation) -> serde_json::Value {
        let image = self.shared.images.recent(&program.image).unwrap_or_default();
        let body = options::create_body(program, &image.config, invocation, &self.shared.instance);
        serde_json::to_value(body).expect("a create request is plain JSON")
    }

    fn drained(&self) -> BoxFuture<'_, ()> {
        async move {
            self.shared.clear_standing();
            self.shared.containers.close();
            self.shared.containers.wait().await;
            self.shared.containers.reopen();
        }
        .boxed()
    }
}

impl Shared {
    /// What is known of a program's image.
    async fn image(self: &Arc<Self>, program: &Program) -> Result<Found, EngineError> {
        if let Some(why) = program.needs_embedded() {
            let what = format!("{} cannot be run by Docker", program.made_from());
            return Err(EngineError::new(EngineErrorKind::Refused, what)
                .because(format!("{why}: use engine = \"embedded\"")));
        }
        self.images.get(self, &program.image, program.pull).await
    }

    /// Which directories a program's containers would see now. What is not there is the engine's to complain about: we
    /// may not see all that it sees, and of an engine elsewhere nothing.
    async fn seen(&self, program: &Program, route: &Arc<str>) -> Seen {
        match self.endpoint.is_local() {
            true => self.sources.look(program, route).await,
            false => Seen::default(),
        }
    }

    /// Whether they are others by now than they were. To be asked when a container has been made for more than a request
    /// that is there already.
    async fn has_changed(&self, program: &Program, route: &Arc<str>, seen: &Seen) -> bool {
        !seen.is_empty() && self.seen(program, route).await != *seen
    }

    /// What agents need.
    fn agents(&self) -> Result<&Agents, EngineError> {
        let refused = |why: String| {
            EngineError::new(EngineErrorKind::Refused, "no container can have an agent here").because(why)
        };
        match self.agents.get() {
            Some(agents) => agents.as_ref().map_err(|why| refused(why.clone())),
            None => Err(refused("no executable was named that is an agent".to_owned())),
        }
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a program's route has a pool.
    fn has_pool(&self, program: &Program) -> bool {
        Pool::is_of_use(program) && self.agents().is_ok()
    }

    /// The pool of a route, made where there is none, or the image or a volume's source is another by now. `None`: the
    /// route has none.
    fn pool(
        self: &Arc<Self>,
        program: &Program,
        image: Found,
        seen: Seen,
        route: &Arc<str>,
    ) -> Option<Arc<Pool>> {
        if !self.has_pool(program) {
            return None;
        }
        let mut pools = self.pools();
        if let Some(pool) = pools.get(route)
            && pool.image.id == image.id
            && pool.seen == seen
            && pool.program == *program
        {
            return Some(pool.clone());
        }
        let pool = Arc::new(Pool::new(program.clone(), image, seen, route.clone()));
        let before = pools.insert(route.clone(), pool.clone());
        drop(pools);
        if let Some(before) = before {
            before.close();
        }
        Some(pool)
    }

    /// The shared containers of a route.
    fn residents(
        self: &Arc<Self>,
        program: &Program,
        image: Found,
        seen: Seen,
        route: &Arc<str>,
    ) -> Result<Arc<Residents>, EngineError> {
        if !self.agents()?.can_dial() {
            return Err(EngineError::new(EngineErrorKind::Refused, NOT_FROM_THERE)
                .because(format!("the engine is at {}", self.endpoint)));
        }
        let Isolation::Shared { replicas } = program.isolation else {
            return Err(EngineError::new(EngineErrorKind::Refused, "the route's containers are not shared"));
        };
        let key = Key { program: program.clone(), image: image.id.clone(), seen };
        let command = program.command_line(&image.config);
        Ok(self.places.get(route, key, |key| {
            let home = Rented {
                engine: Arc::downgrade(self),
                program: program.clone(),
                image,
                seen: key.seen.clone(),
                route: route.clone(),
            };
            let home: Arc<dyn Home> = Arc::new(home);
            Residents::new(&home, replicas, &command, &self.containers)
        }))
    }

    /// Lets go of all that wait, and of all that are shared once nothing runs in them.
    fn clear_standing(&self) {
        let pools: Vec<_> = self.pools().drain().map(|(_, pool)| pool).collect();
        for pool in pools {
            pool.close();
        }
        self.places.clear();
    }

    /// Removes a container, running or not, with its anonymous volumes. Gone already is as good.
    async fn remove_container(&self, container: &str) -> Result<(), bollard::errors::Error> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let turn = self.removals.acquire().await;
        let removing = async {
            let mut removing = std::pin::pin!(self.docker.remove_container(container, Some(options)));
            if let Ok(removed) = tokio::time::timeout(OVERDUE, &mut removing).await {
                return removed;
            }
            if self.endpoint.is_local() {
                // Somebody in it may hold process 1 on its way out, as who traces it can. Engines kill that alone.
                outliving::kill_overdue(container.to_owned()).await;
            }
            removing.await
        };
        let mut removing = std::pin::pin!(removing);
        let removed = match tokio::time::timeout(REMOVAL_PATIENCE, &mut removing).await {
            Ok(removed) => removed,
            Err(_) => {
                drop(turn);
                removing.await
            }
        };
        match removed {
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

async fn tidy_regularly(engine: Weak<Shared>) {
    let mut interval = tokio::time::interval(TIDY_INTERVAL);
    loop {
        interval.tick().await;
        let Some(engine) = engine.upgrade() else { return };
        let pools: Vec<_> = engine.pools().values().cloned().collect();
        for pool in pools {
            pool.tidy(&engine);
        }
    }
}

/// Shared containers on a Docker engine.
#[derive(Debug)]
struct Rented {
    engine: Weak<Shared>,
    program: Program,
    image: Found,
    /// Which directories of this machine they are to see.
    seen: Seen,
    route: Arc<str>,
}

impl Home for Rented {
    fn settle(self: Arc<Self>) -> BoxFuture<'static, Result<Resident, EngineError>> {
        async move {
            let gone = || EngineError::new(EngineErrorKind::Unreachable, "the engine is not in use any more");
            let engine = self.engine.upgrade().ok_or_else(gone)?;
            if engine.has_changed(&self.program, &self.route, &self.seen).await {
                return Err(sources::changed());
            }
            let turn = engine.settlers.acquire().await;
            let inhabited =
                agent::inhabit(&engine, &self.program, &self.image, &self.route, Purpose::Listen, None)
                    .await?;
            drop(turn);
            // It may have been made of what was there a moment ago, or is no more.
            if engine.has_changed(&self.program, &self.route, &self.seen).await {
                return Err(sources::changed());
            }
            let Inhabited { way, name, mut removal } = inhabited;
            let Way::Dialled { connection, owner, .. } = way else {
                return Err(EngineError::new(EngineErrorKind::Refused, NOT_FROM_THERE));
            };
            let gone = removal.gone().boxed();
            Ok(Resident { master: connection, owner, name, removal: Box::new(removal), gone })
        }
        .boxed()
    }
}
