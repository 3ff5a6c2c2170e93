//! The `auto` engine: which of the others runs a program, decided for each.
//!
//! | a program runs on | where |
//! | --- | --- |
//! | the one it names | [`Program::engine`](crate::engine::Program::engine) does |
//! | docker | the environment names an engine elsewhere; or the program asks for a network or a volume that is Docker's |
//! | embedded | the kernel and the user's rights allow it, and its image is in dcgi's own store, or in a registry |
//! | docker, then embedded | its image is in the Docker Engine of this machine: it is *taken over* into the store |
//! | docker | the embedded engine is refused |
//!
//! Until an image is taken over, Docker serves; the route moves from one request to the next, and back where the name means
//! another image in Docker by then. What somebody has put into dcgi's own store himself wins over what Docker has under the
//! same name.
//!
//! - `choice`: the rules, without asking anybody
//! - `daemon`: the Docker Engine, which may come and go
//! - `take_over`: its images on their way into the store
//! - `survey`: the same choices where nothing is to run

mod choice;
mod daemon;
mod keepers;
mod survey;
mod take_over;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;

use super::docker::Endpoint;
use super::embedded::{self, EmbeddedEngine};
use super::images::{self, Images, Source};
use super::{
    Engine, EngineError, EngineErrorKind, Folder, ImageConfig, Invocation, Process, Program, PullPolicy,
};
use crate::agent::Executable;
use crate::images::Store;
use crate::reason::Reason;
pub use choice::{Choice, EngineChoice};
use choice::{Decision, Keeper, Known, Surroundings, Which, Why};
use daemon::Daemon;
use keepers::Keepers;
pub use survey::survey;
use take_over::TakeOvers;

/// How often a Docker Engine is looked for that does not answer.
const ATTEND_INTERVAL: Duration = Duration::from_secs(2);

/// Runs each program on the engine that suits it: see the [module](self).
#[derive(Clone, Debug)]
pub struct AutoEngine {
    shared: Arc<Shared>,
}

/// An [`AutoEngine`] in the making.
#[derive(Debug)]
#[must_use]
pub struct AutoEngineBuilder {
    embedded: Result<EmbeddedEngine, EngineError>,
    endpoint: Endpoint,
    executable: Option<Executable>,
    take_over: bool,
}

/// What the engine's tasks hold together.
#[derive(Debug)]
struct Shared {
    this: Weak<Shared>,
    embedded: Result<EmbeddedEngine, Arc<str>>,
    daemon: Daemon,
    surroundings: Surroundings,
    /// What image names mean, in the store and in Docker, remembered for a short while.
    images: Images<Arc<Known>>,
    keepers: Keepers,
    take_overs: TakeOvers,
    /// Where each route's requests went last.
    seats: Mutex<HashMap<Arc<str>, Seat>>,
    /// Whether the store may hold images that were taken over and mean nothing any more.
    untidy: AtomicBool,
    /// One task an image that is taken over. `drained` waits on these.
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Seat {
    program: Program,
    decision: Decision,
}

// === impl AutoEngine ===

impl AutoEngine {
    /// The engines of this machine: the embedded one with a store, where it can be had, and the Docker Engine that the
    /// environment names.
    ///
    /// # Errors
    /// As [`AutoEngineBuilder::connect`].
    pub async fn with_env(store: Store) -> Result<Self, EngineError> {
        Self::builder(EmbeddedEngine::new(store).await, Endpoint::from_env()?).connect().await
    }

    /// Begins one that chooses between an embedded engine, or why there is none, and the Docker Engine at an endpoint,
    /// whether one answers there or not.
    pub fn builder(embedded: Result<EmbeddedEngine, EngineError>, endpoint: Endpoint) -> AutoEngineBuilder {
        AutoEngineBuilder { embedded, endpoint, executable: None, take_over: true }
    }
}

// === impl AutoEngineBuilder ===

impl AutoEngineBuilder {
    /// Lets containers wait and be shared, on both engines, as their `with_agent` does.
    pub fn agent(mut self, executable: Executable) -> Self {
        self.executable = Some(executable);
        self
    }

    /// Whether Docker's images are taken over: yes, unless this says no. For who soon ends, it is not worth it.
    pub fn take_over(mut self, wanted: bool) -> Self {
        self.take_over = wanted;
        self
    }

    /// Looks for the Docker Engine, for at most two seconds where it is to be on this machine. One that is not there is
    /// looked for again from then on.
    ///
    /// # Errors
    /// Where the endpoint is of another machine and no engine answers: then nothing is to run here instead. Where none
    /// answers and the embedded engine cannot be had either.
    pub async fn connect(self) -> Result<AutoEngine, EngineError> {
        let Self { embedded, endpoint, executable, take_over } = self;
        let daemon = Daemon::new(endpoint, executable.clone())?;
        let elsewhere = daemon.elsewhere();
        if elsewhere.is_some() {
            daemon.connect().await?;
        } else if !daemon.ping().await
            && let Err(refused) = embedded
        {
            let why = daemon.silence().unwrap_or_default();
            let what =
                format!("{}, and no Docker Engine answers at {}: {why}", Reason(&refused), daemon.endpoint());
            return Err(EngineError::new(EngineErrorKind::Unreachable, what));
        }
        let embedded = match (embedded, executable) {
            (Ok(engine), Some(executable)) => Ok(engine.with_agent(executable)),
            (Ok(engine), None) => Ok(engine),
            (Err(error), _) => Err(Arc::from(Reason(&error).to_string())),
        };
        let surroundings = Surroundings { refused: embedded.as_ref().err().cloned(), elsewhere };
        let shared = Arc::new_cyclic(|this| Shared {
            this: this.clone(),
            embedded,
            daemon,
            surroundings,
            images: Images::default(),
            keepers: Keepers::default(),
            take_overs: TakeOvers::new(take_over),
            seats: Mutex::default(),
            untidy: AtomicBool::new(true),
            tasks: TaskTracker::new(),
        });
        tokio::spawn(attend(Arc::downgrade(&shared)));
        tokio::spawn(images::refresh_regularly(Arc::downgrade(&shared)));
        Ok(AutoEngine { shared })
    }
}

// === impl Engine ===

impl Engine for AutoEngine {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn choice<'a>(&'a self, program: &'a Program) -> BoxFuture<'a, Choice> {
        async move { self.shared.decide(program).await.into() }.boxed()
    }

    fn image<'a>(&'a self, program: &'a Program) -> BoxFuture<'a, Result<ImageConfig, EngineError>> {
        async move {
            let decision = self.shared.decide(program).await;
            let found = self.shared.engine(program, &decision).await?.image(program).await;
            let Err(error) = found else { return found };
            if error.kind() != EngineErrorKind::ImageMissing || decision.why == Why::Configured {
                return Err(error);
            }
            if decision.why != Why::Nowhere {
                // Gone since it was looked up: it may be with the other.
                self.shared.images.forget(&program.image);
                let again = self.shared.decide(program).await;
                if again != decision {
                    return self.shared.engine(program, &again).await?.image(program).await;
                }
            }
            Err(self.shared.missing(program, decision.engine, &error))
        }
        .boxed()
    }

    fn folder<'a>(
        &'a self,
        program: &'a Program,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Folder, EngineError>> {
        async move {
            // For its words where the image is missing.
            self.image(program).await?;
            let decision = self.shared.decide(program).await;
            self.shared.engine(program, &decision).await?.folder(program, path).await
        }
        .boxed()
    }

    fn prepare<'a>(
        &'a self,
        program: &'a Program,
        route: &'a Arc<str>,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        async move {
            // For its words where the image is missing.
            self.image(program).await?;
            let decision = self.shared.decide(program).await;
            self.shared.seat(route, program, &decision);
            let engine = self.shared.engine(program, &decision).await?;
            self.shared.note_volumes(program, &decision).await;
            engine.prepare(program, route).await
        }
        .boxed()
    }

    fn start<'a>(
        &'a self,
        program: &'a Program,
        invocation: Invocation,
    ) -> BoxFuture<'a, Result<Process, EngineError>> {
        async move {
            let shared = &self.shared;
            let decision = shared.decide(program).await;
            let route = invocation.route.clone();
            shared.seat(&route, program, &decision);
            let engine = shared.engine(program, &decision).await?;
            shared.note_volumes(program, &decision).await;
            let started = engine.start(program, invocation).await;
            if !shared.is_seated(&route, decision.engine) {
                // It has moved meanwhile: nothing is to wait here for the next request.
                shared.let_go(decision.engine, &route);
            }
            match started.as_ref().map_err(EngineError::kind) {
                // Not tried on the other: nobody knows whether the program has run.
                Err(EngineErrorKind::Unreachable) if decision.engine == Which::Docker => {
                    shared.daemon.doubt();
                }
                Err(EngineErrorKind::ImageMissing) => shared.images.forget(&program.image),
                _ => {}
            }
            started
        }
        .boxed()
    }

    fn describe(&self, program: &Program, invocation: &Invocation) -> serde_json::Value {
        match self.shared.decided(program) {
            Some(Which::Embedded) => {
                self.shared.embedded.as_ref().ok().map(|e| e.describe(program, invocation))
            }
            Some(Which::Docker) => self.shared.daemon.connected().map(|e| e.describe(program, invocation)),
            None => None,
        }
        .unwrap_or_default()
    }

    fn drained(&self) -> BoxFuture<'_, ()> {
        async move {
            let shared = &self.shared;
            let _pause = shared.take_overs.pause();
            shared.tasks.close();
            shared.tasks.wait().await;
            shared.tasks.reopen();
            if let Ok(embedded) = &shared.embedded {
                embedded.drained().await;
            }
            if let Some(docker) = shared.daemon.connected() {
                docker.drained().await;
            }
        }
        .boxed()
    }
}

// === impl Shared ===

impl Shared {
    fn seats(&self) -> MutexGuard<'_, HashMap<Arc<str>, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a program is to run now.
    async fn decide(self: &Arc<Self>, program: &Program) -> Decision {
        if let Some(settled) = choice::settled(program, &self.surroundings) {
            return settled;
        }
        let mut volumes = Vec::new();
        for name in program.named_volumes() {
            volumes.push((name, self.keeper_of(name).await));
        }
        if let Some(settled) = choice::by_volumes(&volumes) {
            return settled;
        }
        // What may be pulled is the chosen engine's to pull.
        let known = self.images.get(self, &program.image, PullPolicy::Never).await.unwrap_or_default();
        let decision = self.by_image(program, &volumes, &known);
        if !matches!(decision.why, Why::Unheard(_)) || !self.daemon.ping().await {
            return decision;
        }
        self.images.forget(&program.image);
        let known = self.images.get(self, &program.image, PullPolicy::Never).await.unwrap_or_default();
        self.by_image(program, &volumes, &known)
    }

    fn by_image(&self, program: &Program, volumes: &[(&str, Keeper)], known: &Known) -> Decision {
        let take_over = || self.take_overs.of(&program.image);
        choice::by_image(program, volumes, known, self.daemon.voice(), take_over)
    }

    /// The same by what is known already.
    fn decided(&self, program: &Program) -> Option<Which> {
        if let Some(settled) = choice::settled(program, &self.surroundings) {
            return Some(settled.engine);
        }
        let keeper = |name| (name, self.keepers.known(name).unwrap_or(Keeper::Nobody));
        let volumes: Vec<_> = program.named_volumes().map(keeper).collect();
        if let Some(settled) = choice::by_volumes(&volumes) {
            return Some(settled.engine);
        }
        let known = self.images.recent(&program.image)?;
        Some(self.by_image(program, &volumes, &known).engine)
    }

    fn store(&self) -> Option<&Store> {
        self.embedded.as_ref().ok().map(EmbeddedEngine::store)
    }

    /// Who has a named volume.
    async fn keeper_of(&self, volume: &str) -> Keeper {
        match self.keepers.look_up(self.store(), volume).await {
            Some(keeper) => keeper,
            None => self.daemon.keeper_of(volume).await,
        }
    }

    /// Notes which named volumes of a program are Docker's, before its engine makes those that it has not: Docker keeps those of a
    /// program that it runs, and its own where a program can only run here, and begins others of their names.
    async fn note_volumes(&self, program: &Program, decision: &Decision) {
        // Those of another machine's Docker are none that a route here could come to.
        if self.surroundings.elsewhere.is_some() {
            return;
        }
        let can_only_be_here = matches!(decision.why, Why::Configured | Why::Directory);
        for name in program.named_volumes() {
            let is_dockers = decision.engine == Which::Docker
                || can_only_be_here && self.keeper_of(name).await == Keeper::Docker;
            if is_dockers {
                self.keepers.give_to_docker(self.store(), name).await;
            }
        }
    }

    /// The engine that a decision names.
    async fn engine(&self, program: &Program, decision: &Decision) -> Result<&dyn Engine, EngineError> {
        match decision.engine {
            _ if let Why::Unheard(volume) = &decision.why => {
                let why = self.daemon.unreachable();
                let (why, image) = (Reason(&why), &program.image);
                let what = match volume {
                    Some(volume) => format!(
                        "{why}, so whether it has volume `{volume}` is not known; start it (`engine = \"embedded\"` in the \
                         route begins an empty `{volume}` in dcgi's own store)"
                    ),
                    None => format!(
                        "{why}, so what it has is not known, and image `{image}` is not pulled in its stead; start it, or \
                         say `engine = \"embedded\"` in the route"
                    ),
                };
                Err(EngineError::new(EngineErrorKind::Unreachable, what))
            }
            _ if matches!(decision.why, Why::Torn { .. }) => {
                Err(EngineError::new(EngineErrorKind::Unreachable, decision.why.to_string()))
            }
            _ if matches!(decision.why, Why::Apart { .. }) => {
                Err(EngineError::new(EngineErrorKind::Refused, decision.why.to_string()))
            }
            Which::Embedded => match &self.embedded {
                Ok(embedded) => Ok(embedded),
                // It will not be there later either.
                Err(why) => Err(EngineError::new(EngineErrorKind::Refused, why.to_string())),
            },
            Which::Docker => match self.daemon.engine().await {
                Ok(docker) => Ok(docker),
                Err(error) => Err(match &self.surroundings.refused {
                    Some(why) => EngineError::new(error.kind(), format!("{why}; {}", Reason(&error))),
                    None => error,
                }),
            },
        }
    }

    /// What an image that is not there is told by.
    fn missing(&self, program: &Program, which: Which, error: &EngineError) -> EngineError {
        let image = &program.image;
        let store = match &self.embedded {
            Ok(embedded) => format!("dcgi's store {}", embedded.store().root().display()),
            Err(_) => "dcgi's store".to_owned(),
        };
        let endpoint = self.daemon.endpoint();
        let looked = match self.daemon.silence() {
            None => format!("{store} and the Docker Engine at {endpoint} have none of that name"),
            Some(why) => {
                format!("{store} has none of that name, no Docker Engine answers at {endpoint} ({why})")
            }
        };
        let pulled = match program.pull {
            PullPolicy::Never => "`pull = \"never\"` forbids pulling it".to_owned(),
            PullPolicy::Missing | PullPolicy::Always => format!("it cannot be pulled: {}", Reason(error)),
        };
        let what = format!(
            "image `{image}` is not there (engine {}): {looked}, and {pulled}; `docker build -t {image} .`, \
             `dcgi image pull {image}` or `dcgi image import` gets it there",
            which.name()
        );
        EngineError::new(EngineErrorKind::ImageMissing, what)
    }

    /// Notes where a route's requests go. Where that is another engine than before, that one lets go of what it has ready.
    fn seat(&self, route: &Arc<str>, program: &Program, decision: &Decision) {
        let mut seats = self.seats();
        let left = match seats.get_mut(route) {
            Some(seat) if seat.decision == *decision => return,
            Some(seat) => {
                let before = std::mem::replace(&mut seat.decision, decision.clone());
                seat.program = program.clone();
                Some(before.engine).filter(|before| *before != decision.engine)
            }
            None => {
                seats.insert(route.clone(), Seat { program: program.clone(), decision: decision.clone() });
                drop(seats);
                self.warn_of_others(route, program, decision);
                return;
            }
        };
        drop(seats);
        tracing::info!(%route, "its requests go to {}: {}", decision.engine.name(), decision.why);
        if let Some(left) = left {
            self.let_go(left, route);
        }
    }

    /// Says so where a route's named volume is another than the one of that name that the other engine has. Once a route.
    fn warn_of_others(&self, route: &Arc<str>, program: &Program, decision: &Decision) {
        let volumes: Vec<_> = program.named_volumes().map(str::to_owned).collect();
        let (Some(this), Some(store)) = (self.this.upgrade(), self.store()) else { return };
        if volumes.is_empty() || self.surroundings.elsewhere.is_some() {
            return;
        }
        let (store, route, which) = (store.clone(), route.clone(), decision.engine);
        self.tasks.spawn(async move {
            for volume in volumes {
                // The one that is used is made where it is not there yet.
                let (is_twice, used, unused) = match which {
                    Which::Docker => {
                        let (store, name) = (store.clone(), volume.clone());
                        let here = tokio::task::spawn_blocking(move || embedded::has_volume(&store, &name));
                        (here.await.unwrap_or(false), "Docker's", "the one in dcgi's own store")
                    }
                    Which::Embedded => {
                        let there = this.daemon.keeper_of(&volume).await == Keeper::Docker;
                        (there, "the one in dcgi's own store", "Docker's")
                    }
                };
                if !is_twice {
                    continue;
                }
                tracing::warn!(
                    %route,
                    "there are two volumes `{volume}`: {used} is used, and {unused} is not; remove the one that is not wanted"
                );
            }
        });
    }

    fn is_seated(&self, route: &str, which: Which) -> bool {
        self.seats().get(route).is_none_or(|seat| seat.decision.engine == which)
    }

    /// Has an engine let go of what it has ready for a route.
    fn let_go(&self, which: Which, route: &str) {
        match which {
            Which::Embedded => _ = self.embedded.as_ref().map(|embedded| embedded.forget_route(route)),
            Which::Docker => _ = self.daemon.connected().map(|docker| docker.forget_route(route)),
        }
    }

    /// The routes whose image has this name, and that leave the choice to us.
    fn routes_of(&self, image: &str) -> Vec<(Arc<str>, Program)> {
        let is_concerned = |program: &Program| {
            program.image == image && choice::settled(program, &self.surroundings).is_none()
        };
        let seats = self.seats();
        let concerned = seats.iter().filter(|(_, seat)| is_concerned(&seat.program));
        concerned.map(|(route, seat)| (route.clone(), seat.program.clone())).collect()
    }

    /// Has the embedded engine make ready what the routes of an image need, so that their next requests need not wait. Not for
    /// those that stay with Docker, or may: it would make their volumes too.
    async fn settle_in(&self, embedded: &EmbeddedEngine, image: &str) {
        'routes: for (route, program) in self.routes_of(image) {
            for volume in program.named_volumes() {
                if matches!(self.keeper_of(volume).await, Keeper::Docker | Keeper::Unknown) {
                    continue 'routes;
                }
            }
            if let Err(error) = embedded.prepare(&program, &route).await {
                tracing::warn!(%route, "nothing can be made ready for its requests: {}", Reason(&error));
            }
        }
    }

    /// Has the routes of an image move to where they are to be now.
    async fn move_over(self: &Arc<Self>, image: &str) {
        for (route, program) in self.routes_of(image) {
            let decision = self.decide(&program).await;
            self.seat(&route, &program, &decision);
        }
    }

    /// Removes from the store what was taken over and means nothing any more; later, where it is in use.
    fn tidy_store(&self) {
        self.untidy.store(false, Ordering::Relaxed);
        let (Ok(embedded), Some(this)) = (&self.embedded, self.this.upgrade()) else { return };
        let store = embedded.store().clone();
        self.tasks.spawn_blocking(move || match store.remove_superseded() {
            Ok(superseded) => {
                for id in superseded.removed {
                    tracing::info!(
                        id,
                        "removed an image that had been taken over: its name means another one"
                    );
                }
                this.untidy.fetch_or(superseded.in_use > 0, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!("images that mean nothing any more stay: {}", Reason(&error)),
        });
    }
}

impl Source for Shared {
    type Found = Arc<Known>;

    fn images(&self) -> &Images<Arc<Known>> {
        &self.images
    }

    fn look_up<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<Known>>, EngineError>> {
        async move {
            let Ok(embedded) = &self.embedded else { return Ok(None) };
            let before = self.images.recent(name);
            let known = look_up(embedded.store(), &self.daemon, name, before.as_deref()).await;
            if let (Some(before), Some(docker)) = (before, self.daemon.connected())
                && before.docker != known.docker
            {
                // It is to serve the image that there is now.
                docker.forget_image(name);
            }
            self.consider(name, &known);
            Ok(Some(Arc::new(known)))
        }
        .boxed()
    }

    fn pull<'a>(&'a self, _: &'a str, _: PullPolicy) -> BoxFuture<'a, Result<(), EngineError>> {
        // Never asked for: an engine does it.
        async { Ok(()) }.boxed()
    }

    fn missing(&self, image: &str) -> String {
        format!("nothing is known of image `{image}`")
    }

    fn remedy(&self, image: &str) -> String {
        format!("`docker build -t {image} .` or `dcgi image pull {image}` gets it there")
    }
}

/// What a name means in a store and in Docker; where that does not answer, what it meant `before`.
async fn look_up(store: &Store, daemon: &Daemon, name: &str, before: Option<&Known>) -> Known {
    let (store, asked) = (store.clone(), name.to_owned());
    let stored = tokio::task::spawn_blocking(move || store.meaning(&asked));
    let asked = async {
        match daemon.answers() {
            true => daemon.look_up(name).await,
            false => None,
        }
    };
    let (stored, docker) = futures_util::join!(stored, asked);
    let stored = match stored {
        Ok(Ok(stored)) => stored,
        // An engine that has to use it says so to whoever wants it.
        Ok(Err(error)) => {
            tracing::debug!(image = name, "looking up an image in the store: {}", Reason(&error));
            None
        }
        Err(_) => None,
    };
    let docker = docker.or_else(|| before.map(|known| known.docker.clone())).unwrap_or_default();
    Known { stored, docker }
}

/// Looks for a Docker Engine that does not answer, connects to one that does, and sees that the store is tidy, for as long
/// as the engine is there.
async fn attend(engine: Weak<Shared>) {
    let mut interval = tokio::time::interval(ATTEND_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_doubted = false;
    loop {
        let Some(shared) = engine.upgrade() else { return };
        let daemon = &shared.daemon;
        if (is_doubted || !daemon.answers()) && !daemon.ping().await {
            tracing::trace!("no Docker Engine answers");
        } else if daemon.connected().is_none()
            && let Err(error) = daemon.connect().await
        {
            tracing::warn!("the Docker Engine cannot be used: {}", Reason(&error));
        }
        if shared.untidy.load(Ordering::Relaxed) {
            shared.tidy_store();
        }
        let doubted = daemon.doubted();
        drop(shared);
        is_doubted = tokio::select! {
            _ = interval.tick() => false,
            () = doubted.notified() => true,
        };
    }
}
