//! A route's slots and the sandboxes that wait in them.
//!
//! A slot is at rest, or it has a sandbox that waits, or one that runs. A request takes the sandbox that has waited
//! longest, else has a slot at rest make one, else has a slot made. While it runs, others are made to wait in its
//! place.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::base::Base;
use super::spec;
use crate::engine::agent::Socket;
use crate::engine::carry::{Carrier, Target, carry_tcp, carry_unix};
use crate::engine::demand::{Bounds, Demand};
use crate::engine::sources::Seen;
use crate::engine::{Connect, EngineError, EngineErrorKind, Inside, Program};
use crate::sandbox::{self, Failure, Group, MESSAGE, Message, Plan, Sealed, Template};

/// How far `warm = "auto"` goes here: a sandbox is three processes that share their memory, and made in a millisecond.
const BOUNDS: Bounds = Bounds { most: 8, kept_for: Duration::from_secs(10) };

/// How long a new slot may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

/// How long what was killed may take to end: it takes milliseconds.
const OVERDUE: Duration = Duration::from_secs(2);

/// How many sandboxes a request tries that do not come to be ready.
const READY_TRIES: u32 = 3;

/// What one program's containers are made from and of.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) program: Program,
    pub(super) base: Base,
    /// Which directories of this machine its containers see: no others, or they are not made.
    pub(super) seen: Seen,
    /// Whether one could not be made because of that.
    stale: AtomicBool,
    pub(super) plan: Plan,
    /// The template as the launcher takes it.
    sealed: Sealed,
    /// What is reached by way of each address that it is listened at inside, in their order.
    targets: Vec<Target>,
    /// What carries to where unix sockets inside lead.
    _carriers: Vec<Carrier>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Slots without a sandbox.
    at_rest: Vec<Slot>,
    /// Sandboxes that wait, or will as soon as they are made; the oldest first.
    waiting: VecDeque<Sandbox>,
    /// How many slots are being made for sandboxes that shall wait.
    coming: usize,
    demand: Demand,
    /// Whether the route has another pool by now, or the engine is being cleared.
    closed: bool,
}

/// A slot of the launcher. Dropped, it ends, and its cgroups are removed.
#[derive(Debug)]
pub(super) struct Slot {
    socket: UnixStream,
    pub(super) group: Group,
    /// What carries to where addresses inside lead.
    _carried: Option<Box<Carried>>,
}

#[derive(Debug)]
struct Carried(#[expect(dead_code, reason = "held for its drop")] Vec<Carrier>);

/// A sandbox, with the slot that made it. Dropped, both end.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) slot: Slot,
    /// Its end is the sandbox's end.
    pub(super) control: Arc<UnixStream>,
    /// The name that the sandbox was given as its host name.
    pub(super) host_name: [u8; 12],
    /// Whether it has said that it waits.
    is_ready: AtomicBool,
}

impl Pool {
    /// `route`: for the log. `sockets`: those that unix sockets inside are, in the order of the program's.
    pub(super) fn new(
        program: Program,
        base: Base,
        seen: Seen,
        plan: Plan,
        route: &Arc<str>,
        sockets: Vec<Socket>,
        tasks: &TaskTracker,
    ) -> io::Result<Self> {
        // To a socket outside, who it is that connects is the program, as on a plain host.
        let user = plan.owner.map(|(uid, gid)| (uid, gid, plan.user.groups.clone()));
        let target = |connect: &Connect| Target {
            outside: connect.outside.clone(),
            user: user.clone(),
            route: route.clone(),
        };
        let (tcp, unix): (Vec<_>, Vec<_>) =
            program.connect.iter().partition(|connect| matches!(connect.inside, Inside::Tcp(_)));
        let targets = tcp.into_iter().map(target).collect();
        let carriers =
            sockets.into_iter().zip(unix).map(|(socket, to)| carry_unix(socket, target(to), tasks));
        let carriers = carriers.collect();
        let sealed = Sealed::new(&plan.template)?;
        let state = State {
            at_rest: Vec::new(),
            waiting: VecDeque::new(),
            coming: 0,
            demand: Demand::new(),
            closed: false,
        };
        Ok(Self {
            program,
            base,
            seen,
            stale: AtomicBool::new(false),
            plan,
            sealed,
            targets,
            _carriers: carriers,
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a container could not be made because a directory that it was to see is another by now. Then another pool
    /// can be had.
    pub(super) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// A sandbox for a request.
    pub(super) async fn take(self: &Arc<Self>, engine: &Arc<Shared>) -> Result<Sandbox, EngineError> {
        if self.seen.is_empty() {
            return self.take_any(engine).await;
        }
        // A request that is handed over is not given back: only to one that has found all that it was to see.
        let mut tries = 0;
        loop {
            let mut sandbox = self.take_any(engine).await?;
            let Err(failure) = sandbox.ready(&self.plan.template).await else { return Ok(sandbox) };
            self.state().demand.ended();
            tries += 1;
            match failure {
                Some(failure) if failure.is_stale => return Err(self.failed(failure)),
                // Most likely it has died while it waited.
                _ if tries < READY_TRIES => {}
                Some(failure) => return Err(self.refusal(failure, None)),
                None => {
                    return Err(exhausted(
                        "making a container",
                        io::Error::from(io::ErrorKind::UnexpectedEof),
                    ));
                }
            }
        }
    }

    /// Why a container cannot be made; where that is because of what the whole pool is made for, that is at its end.
    fn failed(&self, failure: Failure) -> EngineError {
        if failure.is_stale {
            self.stale.store(true, Ordering::Relaxed);
            self.close();
        }
        self.refusal(failure, None)
    }

    async fn take_any(self: &Arc<Self>, engine: &Arc<Shared>) -> Result<Sandbox, EngineError> {
        loop {
            let (waiting, slot) = {
                let mut state = self.state();
                match state.waiting.pop_front() {
                    Some(sandbox) => (Some(sandbox), None),
                    None => (None, state.at_rest.pop()),
                }
            };
            match (waiting, slot) {
                (Some(sandbox), _) if sandbox.is_alive() => return Ok(self.taken(sandbox)),
                (Some(_), _) => {}
                (None, Some(slot)) => {
                    if let Ok(sandbox) = slot.make_sandbox() {
                        return Ok(self.taken(sandbox));
                    }
                }
                (None, None) => {
                    let slot = self.new_slot(engine).await?;
                    return match slot.make_sandbox() {
                        Ok(sandbox) => Ok(self.taken(sandbox)),
                        // It has ended already, and says why.
                        Err((mut slot, error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                            Err(match slot.vacant(&self.plan.template).await {
                                Err(Some(failure)) => self.failed(failure),
                                _ => exhausted("making a sandbox", error),
                            })
                        }
                        Err((_, error)) => Err(exhausted("making a sandbox", error)),
                    };
                }
            }
        }
    }

    fn taken(&self, sandbox: Sandbox) -> Sandbox {
        self.state().demand.begun();
        sandbox
    }

    /// Takes back what is left of a sandbox that has had its request: its slot, where that may serve again.
    pub(super) fn give_back(self: &Arc<Self>, engine: &Arc<Shared>, slot: Option<Slot>) {
        let mut state = self.state();
        state.demand.ended();
        if let Some(slot) = slot
            && !state.closed
        {
            state.at_rest.push(slot);
        }
        drop(state);
        self.refill(engine);
    }

    /// Has sandboxes made until enough wait. What it takes happens in the background.
    pub(super) fn refill(self: &Arc<Self>, engine: &Arc<Shared>) {
        let mut state = self.state();
        while !state.closed && state.waiting.len() + state.coming < self.wanted(&state) {
            if let Some(slot) = state.at_rest.pop() {
                if let Ok(sandbox) = slot.make_sandbox() {
                    state.waiting.push_back(sandbox);
                }
                continue;
            }
            state.coming += 1;
            let (pool, shared) = (self.clone(), engine.clone());
            engine.tasks.spawn(async move {
                let made = pool.new_slot(&shared).await;
                let sandbox = made.and_then(|slot| {
                    slot.make_sandbox().map_err(|(_, error)| exhausted("making a sandbox to wait", error))
                });
                let mut state = pool.state();
                state.coming -= 1;
                match sandbox {
                    Ok(sandbox) if !state.closed => state.waiting.push_back(sandbox),
                    Ok(_) => {}
                    // A request that needs one meets the same error, and says so.
                    Err(error) => tracing::debug!("{}", crate::reason::Reason(&error)),
                }
            });
        }
    }

    /// How many sandboxes should wait.
    fn wanted(&self, state: &State) -> usize {
        state.demand.wanted(self.program.warm, BOUNDS)
    }

    /// Lets go of what nobody has needed for a while. To be called now and then.
    pub(super) fn tidy(self: &Arc<Self>, engine: &Arc<Shared>) {
        let mut unneeded = Vec::new();
        {
            let mut state = self.state();
            state.demand.forget();
            let wanted = self.wanted(&state);
            while state.waiting.len() > wanted {
                unneeded.extend(state.waiting.pop_front().map(|sandbox| sandbox.slot));
            }
            // Those that wait are what has died, if any: a request need not find that out.
            state.waiting.retain(Sandbox::is_alive);
            let resting = match state.demand.has_ceased(BOUNDS.kept_for) {
                true => 0,
                false => state.demand.peak(),
            };
            while state.at_rest.len() > resting {
                unneeded.extend(state.at_rest.pop());
            }
        }
        drop(unneeded);
        self.refill(engine);
    }

    /// Lets go of everything that has no request, and keeps nothing from here on.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let (waiting, at_rest) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.at_rest));
        drop(state);
        drop((waiting, at_rest));
    }

    async fn new_slot(self: &Arc<Self>, engine: &Arc<Shared>) -> Result<Slot, EngineError> {
        let (pool, tasks, engine) = (self.clone(), engine.tasks.clone(), engine.clone());
        // Making a cgroup may wait for a lock of the kernel's.
        let made = tokio::task::spawn_blocking(move || {
            let group = engine
                .cgroups
                .create(&spec::limits(&pool.program))
                .map_err(|error| exhausted("limiting a container", error))?;
            let doors = group.doors().map_err(|error| exhausted("limiting a container", error))?;
            let socket = engine
                .slot(&pool.sealed, &doors)
                .map_err(|error| exhausted("asking for a container", error))?;
            let listening = match pool.targets.len() {
                0 => Vec::new(),
                count => {
                    let listening = socket
                        .set_read_timeout(Some(LISTENS_WITHIN))
                        .and_then(|()| sandbox::listening(&socket, &pool.plan.template, count));
                    let listening =
                        listening.map_err(|error| exhausted("listening in a container", error))?;
                    listening.map_err(|failure| pool.failed(failure))?
                }
            };
            Ok::<_, EngineError>((pool, group, socket, listening))
        });
        let made = made.await.map_err(|error| exhausted("asking for a container", error))?;
        let (pool, group, socket, listening) = made?;
        let carriers = listening.into_iter().zip(&pool.targets);
        let carriers = carriers.map(|(listener, target)| carry_tcp(listener, target.clone(), &tasks));
        let carriers: io::Result<Vec<_>> = carriers.collect();
        let carriers = carriers.map_err(|error| exhausted("listening in a container", error))?;
        socket.set_nonblocking(true).map_err(|error| exhausted("asking for a container", error))?;
        let socket =
            UnixStream::from_std(socket).map_err(|error| exhausted("asking for a container", error))?;
        // Few slots have any, and they are handed around.
        let carried = (!pool.targets.is_empty()).then(|| Box::new(Carried(carriers)));
        Ok(Slot { socket, group, _carried: carried })
    }
}

impl Slot {
    fn make_sandbox(self) -> Result<Sandbox, (Self, io::Error)> {
        let mut host_name = [0; 12];
        let mut random = [0; uuid::fmt::Simple::LENGTH];
        let id = uuid::Uuid::now_v7().simple().encode_lower(&mut random).as_bytes();
        // The end is random, where the beginning is the time.
        host_name.copy_from_slice(&id[id.len() - 12..]);
        let control = sandbox::make_sandbox(self.socket.as_fd(), &host_name).and_then(|control| {
            control.set_nonblocking(true)?;
            UnixStream::from_std(control)
        });
        match control {
            Ok(control) => Ok(Sandbox {
                control: Arc::new(control),
                slot: self,
                host_name,
                is_ready: AtomicBool::new(false),
            }),
            Err(error) => Err((self, error)),
        }
    }

    /// Whether it has neither ended nor said anything, as it is while it has a sandbox.
    fn is_silent(&self) -> bool {
        let mut message = [0; MESSAGE];
        let said = recv(&self.socket, &mut message, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        said.is_err_and(|error| error == Errno::AGAIN)
    }

    /// Waits until nothing is left of the slot's sandbox: whether the slot is as it was, or why it failed.
    pub(super) async fn vacant(&mut self, template: &Template) -> Result<bool, Option<Failure>> {
        vacant(&mut self.socket, template).await
    }

    /// The same for a sandbox of which nothing more is heard once `silence` completes. What holds on then is killed by its control
    /// group, with the slot: a process that is traced may stop on its way out, and no signal but the end of who traces it moves
    /// it from there (ptrace(2), `PTRACE_O_TRACEEXIT`).
    pub(super) async fn vacant_after(
        &mut self,
        template: &Template,
        silence: impl Future<Output = ()>,
    ) -> Result<bool, Option<Failure>> {
        let mut vacant = std::pin::pin!(vacant(&mut self.socket, template));
        let overdue = async {
            silence.await;
            tokio::time::sleep(OVERDUE).await;
        };
        tokio::select! {
            biased;
            vacant = &mut vacant => return vacant,
            () = overdue => {}
        }
        tracing::warn!(
            "what runs for a request does not end when it is killed: all in its control group is killed"
        );
        loop {
            self.group.kill().await;
            tokio::select! {
                // The slot went with it, and says nothing.
                _ = &mut vacant => return Ok(false),
                () = tokio::time::sleep(OVERDUE) => {}
            }
        }
    }
}

async fn vacant(socket: &mut UnixStream, template: &Template) -> Result<bool, Option<Failure>> {
    let mut message = [0; MESSAGE];
    match socket.read_exact(&mut message).await {
        Ok(_) => match Message::read(&message, template) {
            Message::Gone { clean } => Ok(clean),
            Message::Failed(failure) => Err(Some(failure)),
            _ => Err(None),
        },
        Err(_) => Err(None),
    }
}

impl Sandbox {
    /// Waits until it waits for its request; or why it does not come to that.
    async fn ready(&mut self, template: &Template) -> Result<(), Option<Failure>> {
        if *self.is_ready.get_mut() {
            return Ok(());
        }
        let mut message = [0; MESSAGE];
        let read = loop {
            if self.control.readable().await.is_err() {
                break 0;
            }
            match self.control.try_read(&mut message) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => break read.unwrap_or(0),
            }
        };
        match (read, Message::read(&message, template)) {
            (MESSAGE, Message::Ready) => Ok(()),
            (MESSAGE, Message::Failed(failure)) => Err(Some(failure)),
            // Its slot may say why.
            _ => Err(self.slot.vacant(template).await.err().flatten()),
        }
    }

    /// Whether it has not died while it waited. Where its slot has, it will too, but a moment later.
    fn is_alive(&self) -> bool {
        if !self.slot.is_silent() {
            return false;
        }
        let mut message = [0; MESSAGE];
        loop {
            match self.control.try_read(&mut message) {
                // That it is ready, whole: messages are written in one piece.
                Ok(MESSAGE) if Message::is_ready(&message) => self.is_ready.store(true, Ordering::Relaxed),
                Ok(_) => return false,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}

/// Something of the machine's has run out, or the launcher is gone: another try may succeed.
pub(super) fn exhausted(
    what: &str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> EngineError {
    EngineError::new(EngineErrorKind::Unreachable, what).because(error)
}
