//! Containers that wait for a request each, started ahead of them.
//!
//! The engine takes a few hundred milliseconds to start a container, and a person should not wait for it. What waits is a
//! container whose agent has dialled in; the request goes to it over that connection, past the engine. When it is over, the
//! container is removed like any other, and another is started in its stead.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::agent::{Inhabited, Purpose, inhabit};
use super::offer::{Offer, offer};
use super::{Found, Shared};
use crate::engine::agent::head;
use crate::engine::demand::{Bounds, Demand};
use crate::engine::sources::Seen;
use crate::engine::{EngineError, Invocation, Process, Program, Warm};
use crate::reason::Reason;

/// How far `warm = "auto"` goes here. A container costs the engine some 15 MiB while it waits, and a third of a second
/// of a processor to be made: few, and not thrown away soon.
const BOUNDS: Bounds = Bounds { most: 4, kept_for: Duration::from_secs(60) };

/// How many are started at once: requests that find none want the engine too.
const MOST_COMING: usize = 2;

/// How long one may wait before another takes its place.
const OLDEST: Duration = Duration::from_secs(600);

/// How long the next one waits.
const HEAD_START: Duration = Duration::from_millis(2);

/// How long an agent may take to say that it has a request: then another is tried.
const CONFIRMATION: Duration = Duration::from_secs(1);

/// Pauses after a container could not be started: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A route's containers that wait.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) program: Program,
    pub(super) image: Found,
    /// Which directories of this machine they see.
    pub(super) seen: Seen,
    route: Arc<str>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The oldest first.
    waiting: VecDeque<(Inhabited, Instant)>,
    /// How many are being started.
    coming: usize,
    demand: Demand,
    /// When the engine is asked again after it has failed, and how long it is left alone then.
    respite: Option<(Instant, Duration)>,
    /// Whether the route has another pool by now, or the engine is being cleared.
    closed: bool,
}

/// A request is running, as far as its route's demand is concerned.
#[derive(Debug)]
pub(super) struct Turn {
    engine: Arc<Shared>,
    pool: Arc<Pool>,
}

impl Turn {
    /// Has the next container started, though this request is not over.
    pub(super) fn refill(&self) {
        self.pool.refill(&self.engine);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pool.state().demand.ended();
        // Whoever holds it last may be outside of the runtime, or at its end.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.pool.refill(&self.engine);
        }
    }
}

impl Pool {
    pub(super) fn new(program: Program, image: Found, seen: Seen, route: Arc<str>) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            coming: 0,
            demand: Demand::new(),
            respite: None,
            closed: false,
        };
        Self { program, image, seen, route, state: Mutex::new(state) }
    }

    /// Whether it ever has any waiting.
    pub(super) fn is_of_use(program: &Program) -> bool {
        // Without an init the program is process 1, and nobody can wait in its place.
        program.init && program.warm != Warm::Fixed(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request.
    pub(super) fn turn(self: &Arc<Self>, engine: &Arc<Shared>) -> Turn {
        self.state().demand.begun();
        Turn { engine: engine.clone(), pool: self.clone() }
    }

    /// Begins a program in a container that waits. `None`: none does, or none that is alive. Then nothing has run.
    ///
    /// # Errors
    /// Where dcgi itself has run out of something, or the program cannot be run.
    pub(super) async fn begin(
        &self,
        engine: &Arc<Shared>,
        invocation: &Invocation,
        turn: &Arc<Turn>,
    ) -> Result<Option<Process>, EngineError> {
        // One that is longer than an agent takes is for a container of its own.
        let Some(head) = head(invocation, true) else { return Ok(None) };
        let command = self.program.command_of(&self.image.config, invocation).join(" ");
        while let Some(inhabited) = self.take() {
            // From here on it may run: whoever gives up meanwhile, the request's place is taken until it is gone.
            inhabited.removal.hold(invocation.lease.clone());
            let name = inhabited.name.clone();
            match offer(engine, inhabited, &head, &command, Some(turn), CONFIRMATION).await? {
                Offer::Taken(process) => return Ok(Some(*process)),
                // It goes, and another one is tried.
                Offer::Declined(why) => {
                    tracing::info!(container = name, "a container that waited is left: {why}");
                }
                // So may the others be, and this one has cost the request a second.
                Offer::Unanswered => {
                    tracing::info!(
                        container = name,
                        "a container that waited does not answer: is it paused?"
                    );
                    break;
                }
            }
        }
        Ok(None)
    }

    fn take(&self) -> Option<Inhabited> {
        loop {
            let (inhabited, _) = self.state().waiting.pop_front()?;
            if inhabited.is_alive() {
                return Some(inhabited);
            }
        }
    }

    /// Has containers started until enough wait. What it takes happens in the background.
    pub(super) fn refill(self: &Arc<Self>, engine: &Arc<Shared>) {
        let mut state = self.state();
        while !state.closed
            && state.coming < MOST_COMING
            && state.waiting.len() + state.coming < state.demand.wanted(self.program.warm, BOUNDS)
            && state.respite.is_none_or(|(until, _)| until <= Instant::now())
        {
            state.coming += 1;
            let (pool, tasks, engine) = (self.clone(), &engine.containers, engine.clone());
            // Waited for at the end, though it is another task that has the container.
            tasks.spawn(async move {
                // The request that has made room is to be answered first.
                tokio::time::sleep(HEAD_START).await;
                // What would see something else than the others is no good, and the next request has another pool.
                if engine.has_changed(&pool.program, &pool.route, &pool.seen).await {
                    return pool.came_too_late();
                }
                let made =
                    inhabit(&engine, &pool.program, &pool.image, &pool.route, Purpose::Once, None).await;
                if made.is_ok() && engine.has_changed(&pool.program, &pool.route, &pool.seen).await {
                    return pool.came_too_late();
                }
                pool.arrived(made.map_err(EngineError::from));
                pool.refill(&engine);
            });
        }
    }

    /// None comes, and none is asked for before the next request or the next look.
    fn came_too_late(&self) {
        self.state().coming -= 1;
    }

    fn arrived(&self, made: Result<Inhabited, EngineError>) {
        let mut state = self.state();
        state.coming -= 1;
        match made {
            Ok(inhabited) if !state.closed => {
                state.respite = None;
                state.waiting.push_back((inhabited, Instant::now()));
            }
            Ok(_) => {}
            Err(error) => {
                let pause = state.respite.map_or(BACKOFF.0, |(_, before)| (before * 2).min(BACKOFF.1));
                // Once a series: requests go on without.
                if state.respite.is_none() {
                    tracing::warn!(route = %self.route, "no container can be kept ready: {}", Reason(&error));
                }
                state.respite = Some((Instant::now() + pause, pause));
            }
        }
    }

    /// Lets go of what has died, is old, or is not needed any more. To be called now and then.
    pub(super) fn tidy(self: &Arc<Self>, engine: &Arc<Shared>) {
        let mut unneeded = Vec::new();
        {
            let mut state = self.state();
            state.demand.forget();
            let wanted = state.demand.wanted(self.program.warm, BOUNDS);
            let mut kept = VecDeque::new();
            for (inhabited, since) in std::mem::take(&mut state.waiting) {
                let is_fresh = since.elapsed() < OLDEST && inhabited.is_alive();
                match is_fresh && kept.len() < wanted {
                    true => kept.push_back((inhabited, since)),
                    false => unneeded.push(inhabited),
                }
            }
            state.waiting = kept;
        }
        drop(unneeded);
        self.refill(engine);
    }

    /// Lets go of all that wait, and keeps none from here on.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }
}
