//! The `embedded` engine: containers by namespaces, cgroups, overlayfs and seccomp, without a daemon.
//!
//! This is the thin piece between a [`Program`] and an [`Invocation`] on one side and the sandbox's words on the other. It
//! uses `images`, where root file systems come from; `sandbox`, which makes the containers; the agent's executable, for
//! containers that are shared; and the [`docker`] engine, to have missing images from it. It makes no mount, no process and
//! no rule of security itself.
//!
//! A request takes a sandbox that waits, hands it the environment and three pipes, and reads how the program ended:
//! no file system is unpacked, nothing is asked of anybody else. What of a container a request cannot change is kept
//! for the next one, in a *slot*; the rest is made anew for each, ahead of time where the route is in use.
//!
//! - `base`: what containers are made from; `spec`: what they are to be; `volume`: the directories that it calls by name
//! - `pool`: a route's slots and waiting sandboxes
//! - `process`, `environment`: one request's use of one
//! - `shared`: sandboxes that stay, for many requests
//!
//! # Security
//! Inside, a program has at most what Docker's defaults give: see `docs/security.md`, where each line names its test.

mod base;
mod environment;
mod pool;
mod process;
mod shared;
mod spec;
mod unchangeable;
mod volume;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::agent::{Home, Key, Places, Residents, RuntimeDir, Socket};
use super::docker;
use super::images::{self, Images, Source};
use super::sources::{self, Seen, Sources};
use super::{
    Engine, EngineError, EngineErrorKind, Folder, ImageConfig, Inside, Invocation, Isolation, Lease, Process,
    Program, PullPolicy,
};
use crate::agent::Executable;
use crate::images::{Image, Store};
use crate::instance::Instance;
use crate::sandbox::{self, Cgroups, Host, Plan, Sealed, Spec, Zygote};
use base::{Base, Watched};
use pool::Pool;
use shared::{Agent, Lodging};
use volume::Volumes;

/// How often pools are looked at for what nobody needs.
const TIDY_INTERVAL: Duration = Duration::from_secs(2);

/// How often a request begins anew because what its container is made from has changed meanwhile.
const TRIES: u32 = 5;

/// Runs programs in containers of its own making.
#[derive(Clone, Debug)]
pub struct EmbeddedEngine {
    shared: Arc<Shared>,
    /// The last one lets go of what is shared.
    _standing: Arc<Standing>,
}

/// Shared containers stand as long as this does.
#[derive(Debug)]
struct Standing(Arc<Shared>);

impl Drop for Standing {
    fn drop(&mut self) {
        self.0.places.clear();
    }
}

/// What the engine's tasks hold together.
#[derive(Debug)]
struct Shared {
    store: Store,
    volumes: Volumes,
    host: Host,
    cgroups: Arc<Cgroups>,
    /// Forked when the engine is made; again, should it have been killed.
    zygote: Mutex<Arc<Zygote>>,
    /// What image names stand for, remembered for a short while.
    images: Images<Image>,
    /// Looks at directories of this machine that programs see.
    sources: Sources,
    /// Where sockets are that programs see, once there are any.
    runtime_dir: Mutex<Option<RuntimeDir>>,
    /// This machine as a root, and what of dcgi's own is not to be seen in it.
    machine: Watched,
    own: Arc<Vec<PathBuf>>,
    /// A pool a route.
    pools: Mutex<HashMap<Arc<str>, Arc<Pool>>>,
    /// Shared containers, by route.
    places: Places,
    /// What runs in those.
    agent: OnceLock<Agent>,
    /// A lock a route, held while its pool is made, so that many requests make one.
    planning: Mutex<HashMap<Arc<str>, Arc<tokio::sync::Mutex<()>>>>,
    /// One task a request that runs, a slot that is made, a cgroup that is removed. `drained` waits on these.
    tasks: TaskTracker,
}

impl EmbeddedEngine {
    /// An engine whose images are in a store. What is missing there is taken from the container engine that the
    /// environment names, where one answers, before its registry is asked.
    ///
    /// Forks a process, from which containers will be forked: a program with secrets in its memory does this before it
    /// reads them.
    ///
    /// # Errors
    /// Where the store's directories cannot be made, or the kernel refuses namespaces: then with what it refused.
    pub async fn new(store: Store) -> Result<Self, EngineError> {
        let store = store.with_engine(docker::answering);
        tokio::task::spawn_blocking(move || Self::prepare(store))
            .await
            .map_err(|error| unusable().because(error))?
    }

    fn prepare(store: Store) -> Result<Self, EngineError> {
        let host = Host::new(&store.root().join("scratch")).map_err(|error| unusable().because(error))?;
        let volumes = Volumes::open(Volumes::folder(&store)).map_err(|error| unusable().because(error))?;
        let zygote = Zygote::start(&host.preparation()).map_err(|error| unusable().because(error))?;
        // What others have left that were killed. Where there is none, nobody has.
        _ = RuntimeDir::sweep(&Instance::current());
        let tasks = TaskTracker::new();
        let cgroups = Arc::new(Cgroups::discover(&Instance::current(), tasks.clone()));
        let own = Arc::new(base::own_paths(store.root()));
        let shared = Arc::new(Shared {
            store,
            volumes,
            host,
            cgroups,
            zygote: Mutex::new(Arc::new(zygote)),
            images: Images::default(),
            sources: Sources::default(),
            runtime_dir: Mutex::default(),
            machine: Watched::default(),
            own,
            pools: Mutex::default(),
            places: Places::default(),
            agent: OnceLock::new(),
            planning: Mutex::default(),
            tasks,
        });
        let engine = Self { _standing: Arc::new(Standing(shared.clone())), shared };
        let shortcomings = engine.shared.cgroups.shortcomings().into_iter();
        for shortcoming in shortcomings.chain(engine.shared.host.shortcomings()) {
            tracing::warn!("{shortcoming}");
        }
        tokio::spawn(tidy_regularly(Arc::downgrade(&engine.shared)));
        tokio::spawn(images::refresh_regularly(Arc::downgrade(&engine.shared)));
        Ok(engine)
    }

    /// Lets containers be shared ([`Isolation::Shared`]): in each is an agent, which is this executable. Who calls this
    /// twice has the first.
    pub fn with_agent(self, executable: Executable) -> Self {
        _ = self.shared.agent.set(Agent::new(executable));
        self
    }

    /// Where its images are.
    pub fn store(&self) -> &Store {
        &self.shared.store
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

    /// Finds out whether an engine could be made here. Makes none, and writes in no store. Blocks.
    ///
    /// # Errors
    /// As [`new`](Self::new), for what has nothing to do with the store.
    pub fn probe() -> Result<(), EngineError> {
        let probed = || -> io::Result<()> {
            let folder = tempfile::tempdir()?;
            let host = Host::new(folder.path())?;
            Zygote::start(&host.preparation()).map(drop)
        };
        probed().map_err(|error| unusable().because(error))
    }

    /// Looks at a program's root directory (`rootfs`): who the program is in there, and what can be seen to be wrong before it
    /// is asked for. Neither, where it has none. Makes no engine. Blocks.
    pub fn look_at_root(program: &Program) -> RootLook {
        let (user, problems) = base::survey(program);
        let user = user.map(|sandbox::User { uid, gid, groups, .. }| RootUser { uid, gid, groups });
        RootLook { user, problems }
    }

    /// What an engine could not enforce here, in sentences for an operator. Makes none.
    pub fn shortcomings() -> Vec<String> {
        Cgroups::discover(&Instance::current(), TaskTracker::new()).shortcomings()
    }
}

/// Where a store has the embedded engine's named volumes.
pub(super) fn volumes_of(store: &Store) -> PathBuf {
    Volumes::folder(store)
}

/// Whether a store has a named volume of the embedded engine's. Blocks, for a moment.
pub(super) fn has_volume(store: &Store, name: &str) -> bool {
    volumes_of(store).join(name).is_dir()
}

/// What [`EmbeddedEngine::look_at_root`] has found.
#[derive(Debug)]
pub struct RootLook {
    /// Who the program is. `None`: nobody of that name is known there, or the directory cannot be looked at.
    pub user: Option<RootUser>,
    /// What its requests would fail of.
    pub problems: Vec<EngineError>,
}

/// A user, as a root directory knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootUser {
    /// Its number.
    pub uid: u32,
    /// The number of its first group.
    pub gid: u32,
    /// Those of its other groups.
    pub groups: Vec<u32>,
}

/// The paths inside of a program's unix sockets.
fn unix_sockets(program: &Program) -> impl Iterator<Item = &str> {
    program.connect.iter().filter_map(|connect| match &connect.inside {
        Inside::Unix(path) => Some(&**path),
        Inside::Tcp(_) => None,
    })
}

fn unusable() -> EngineError {
    EngineError::new(EngineErrorKind::Unreachable, "the embedded engine cannot be used here")
}

impl Engine for EmbeddedEngine {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn image<'a>(&'a self, program: &'a Program) -> BoxFuture<'a, Result<ImageConfig, EngineError>> {
        let shared = &self.shared;
        async move {
            if program.rootfs.is_some() {
                return Ok(ImageConfig::default());
            }
            Ok(shared.images.get(shared, &program.image, program.pull).await?.config().clone())
        }
        .boxed()
    }

    fn folder<'a>(&'a self, program: &'a Program, _: &'a str) -> BoxFuture<'a, Result<Folder, EngineError>> {
        let shared = &self.shared;
        async move {
            if let Some(root) = &program.rootfs {
                return Ok(Folder::of_root(root, Lease::default()));
            }
            let image = shared.images.get(shared, &program.image, program.pull).await?;
            Ok(Folder::of_root(image.rootfs(), Lease::new(image.clone())))
        }
        .boxed()
    }

    fn prepare<'a>(
        &'a self,
        program: &'a Program,
        route: &'a Arc<str>,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        async move {
            if let Isolation::Shared { replicas } = program.isolation {
                return self.shared.residents(program, route, replicas).await.map(drop);
            }
            let pool = self.shared.pool(program, route).await?;
            pool.refill(&self.shared);
            Ok(())
        }
        .boxed()
    }

    fn start<'a>(
        &'a self,
        program: &'a Program,
        mut invocation: Invocation,
    ) -> BoxFuture<'a, Result<Process, EngineError>> {
        async move {
            if let Isolation::Shared { replicas } = program.isolation {
                return sources::begin(program, invocation, |invocation| async move {
                    let residents = self.shared.residents(program, &invocation.route, replicas).await?;
                    residents.begin(invocation).await
                })
                .await;
            }
            let mut tries = 0;
            loop {
                let pool = match self.shared.pool(program, &invocation.route).await {
                    Err(error) if error.is_changed() && tries < sources::TRIES => {
                        tokio::time::sleep(sources::PAUSE).await;
                        tries += 1;
                        continue;
                    }
                    pool => pool?,
                };
                let again = (!pool.seen.is_empty()).then(|| invocation.clone());
                let (ready, started) = oneshot::channel();
                self.shared.tasks.spawn(process::live(self.shared.clone(), pool.clone(), invocation, ready));
                let started = started.await.unwrap_or_else(|_| {
                    Err(EngineError::new(EngineErrorKind::Unreachable, "the runtime is shutting down"))
                });
                match again {
                    // A volume has been switched since it was looked at: nothing has run yet.
                    Some(again) if started.is_err() && pool.is_stale() && tries < TRIES => {
                        invocation = again;
                        tries += 1;
                    }
                    _ => return started,
                }
            }
        }
        .boxed()
    }

    fn describe(&self, program: &Program, _: &Invocation) -> serde_json::Value {
        let base = match &program.rootfs {
            None => self.shared.images.recent(&program.image).map(Base::Image),
            Some(_) if Watched::is_root(program, &Sources::look_now(program)) => {
                Some(Base::Machine(Arc::new(self.shared.machine.machine().hidden())))
            }
            Some(_) => Some(Base::Directory(Sources::look_now(program).first())),
        };
        match base.map(|base| self.shared.planned(program, &base, &[])) {
            Some(Ok((spec, plan))) => plan.describe(&spec),
            Some(Err(error)) => crate::reason::Reason(&error).to_string().into(),
            None => serde_json::Value::Null,
        }
    }

    fn drained(&self) -> BoxFuture<'_, ()> {
        async move {
            let pools: Vec<_> = self.shared.pools().drain().map(|(_, pool)| pool).collect();
            for pool in pools {
                pool.close();
            }
            self.shared.places.clear();
            self.shared.tasks.close();
            self.shared.tasks.wait().await;
            self.shared.tasks.reopen();
            // Nobody has a socket in it any more.
            *self.shared.runtime_dir.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        .boxed()
    }
}

impl Shared {
    fn pools(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a program's containers are to be made from now, and which directories of this machine they will see.
    async fn base(
        self: &Arc<Self>,
        program: &Program,
        route: &Arc<str>,
    ) -> Result<(Base, Seen), EngineError> {
        let base = match program.rootfs {
            None => Some(Base::Image(self.images.get(self, &program.image, program.pull).await?)),
            Some(_) => None,
        };
        let seen = self.sources.look(program, route).await;
        Ok(match base {
            Some(base) => (base, seen),
            None if Watched::is_root(program, &seen) => {
                (Base::Machine(self.machine.hidden(&self.own).await), seen)
            }
            None => (Base::Directory(seen.first()), seen),
        })
    }

    /// The pool of a route, made where there is none or something that it is made from is another by now.
    async fn pool(self: &Arc<Self>, program: &Program, route: &Arc<str>) -> Result<Arc<Pool>, EngineError> {
        let (base, seen) = self.base(program, route).await?;
        let fitting = |pool: &&Arc<Pool>| {
            pool.base == base && pool.seen == seen && pool.program == *program && !pool.is_stale()
        };
        if let Some(pool) = self.pools().get(route).filter(fitting) {
            return Ok(pool.clone());
        }
        let turn = {
            let mut planning = self.planning.lock().unwrap_or_else(PoisonError::into_inner);
            planning.entry(route.clone()).or_default().clone()
        };
        let _alone = turn.lock().await;
        if let Some(pool) = self.pools().get(route).filter(fitting) {
            return Ok(pool.clone());
        }
        let pool = self.plan(program.clone(), base.clone(), &seen, route).await?;
        let pool = Arc::new(pool);
        let before = self.pools().insert(route.clone(), pool.clone());
        if let Some(before) = before {
            before.close();
        }
        Ok(pool)
    }

    /// A pool of a program's containers. `seen`: what its sources were when they were looked at; `route`: for the log.
    ///
    /// # Errors
    /// Where the program cannot be run here. It [is changed](EngineError::is_changed) where a source that was there is not now.
    pub(super) async fn plan(
        self: &Arc<Self>,
        program: Program,
        base: Base,
        seen: &Seen,
        route: &Arc<str>,
    ) -> Result<Pool, EngineError> {
        // Volumes may be large, and on file systems that do not answer.
        let (shared, before, route) = (self.clone(), seen.clone(), route.clone());
        let planned = tokio::task::spawn_blocking(move || {
            let sockets = shared.sockets(&program)?;
            let planned =
                shared.volumes.make(&program, &base).and_then(|()| shared.planned(&program, &base, &sockets));
            let (spec, plan) =
                planned.map_err(|error| before.told_of(error, || Sources::look_now(&program)))?;
            let seen = spec::seen(&program, &spec);
            Pool::new(program, base, seen, plan, &route, sockets, &shared.tasks)
                .map_err(|error| pool::exhausted("preparing containers", error))
        });
        planned.await.map_err(|error| pool::exhausted("preparing containers", error))?
    }

    /// The sockets of dcgi's own that a program sees as unix sockets inside. Blocks.
    fn sockets(&self, program: &Program) -> Result<Vec<Socket>, EngineError> {
        let unusable = |error| pool::exhausted("making a socket for what a program connects to", error);
        let count = unix_sockets(program).count();
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut within = self.runtime_dir.lock().unwrap_or_else(PoisonError::into_inner);
        let within = match &mut *within {
            Some(within) => within,
            none => none.insert(RuntimeDir::new(&Instance::current()).map_err(unusable)?),
        };
        (0..count).map(|_| Socket::open(within).map_err(unusable)).collect()
    }

    /// What a program's containers are to be, and what they are made of. `sockets`: those that unix sockets inside are. Blocks.
    fn planned(
        &self,
        program: &Program,
        base: &Base,
        sockets: &[Socket],
    ) -> Result<(Spec, Plan), EngineError> {
        let mut spec = spec::spec(program, base, &self.machine.machine(), &self.volumes)?;
        for (socket, target) in sockets.iter().zip(unix_sockets(program)) {
            let volume = spec::socket(socket, target);
            spec.volumes.push(volume.map_err(|error| pool::exhausted("looking at a socket", error))?);
        }
        let plan = sandbox::plan(&spec, &self.host)?;
        Ok((spec, plan))
    }

    /// The shared containers of a route.
    async fn residents(
        self: &Arc<Self>,
        program: &Program,
        route: &Arc<str>,
        replicas: u32,
    ) -> Result<Arc<Residents>, EngineError> {
        let (base, seen) = self.base(program, route).await?;
        let key = Key { program: program.clone(), image: base.id(), seen };
        let command = program.command_line(base.config());
        Ok(self.places.get(route, key, |key| {
            let engine = Arc::downgrade(self);
            let (seen, route) = (key.seen.clone(), route.clone());
            let home = Lodging { engine, program: program.clone(), base, seen, route };
            let home: Arc<dyn Home> = Arc::new(home);
            Residents::new(&home, replicas, &command, &self.tasks)
        }))
    }

    /// Asks the zygote for a slot; a new zygote, where it has gone.
    fn slot(&self, template: &Sealed, doors: &[File]) -> io::Result<UnixStream> {
        let mut zygote = self.zygote.lock().unwrap_or_else(PoisonError::into_inner);
        match zygote.slot(template, doors) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                tracing::error!("the containers' zygote has gone: starting another");
                *zygote = Arc::new(Zygote::start(&self.host.preparation())?);
                zygote.slot(template, doors)
            }
            answer => answer,
        }
    }
}

impl Source for Shared {
    type Found = Image;

    fn images(&self) -> &Images<Image> {
        &self.images
    }

    fn look_up<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Image>, EngineError>> {
        async move {
            match self.store.resolve(name, PullPolicy::Never).await {
                // The same as before: with one lease on it, not two.
                Ok(image) => Ok(Some(match self.images.recent(name) {
                    Some(before) if before.id() == image.id() => before,
                    _ => image,
                })),
                Err(error) => match EngineError::from(error) {
                    error if error.kind() == EngineErrorKind::ImageMissing => Ok(None),
                    error => Err(error),
                },
            }
        }
        .boxed()
    }

    fn pull<'a>(&'a self, image: &'a str, policy: PullPolicy) -> BoxFuture<'a, Result<(), EngineError>> {
        async move { Ok(self.store.resolve(image, policy).await.map(drop)?) }.boxed()
    }

    fn missing(&self, image: &str) -> String {
        format!("the image store {} has no image `{image}`", self.store.root().display())
    }

    fn remedy(&self, image: &str) -> String {
        format!("`dcgi image pull {image}`, `dcgi image load` or `import` puts it there")
    }
}

async fn tidy_regularly(engine: Weak<Shared>) {
    let mut interval = tokio::time::interval(TIDY_INTERVAL);
    loop {
        interval.tick().await;
        let Some(engine) = engine.upgrade() else { return };
        let cgroups = engine.cgroups.clone();
        // Both may take long: other instances' groups are in the kernel's hands, and this machine's files are many.
        _ = tokio::task::spawn_blocking(move || cgroups.sweep()).await;
        let shared = engine.clone();
        tokio::spawn(async move { shared.machine.refresh(&shared.own).await });
        let pools: Vec<_> = engine.pools().values().cloned().collect();
        for pool in pools {
            pool.tidy(&engine);
        }
    }
}
