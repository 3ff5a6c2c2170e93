//! Residents: containers that stay, in which an agent runs a program for each request.

use std::fmt::Debug;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::hand_over::{HandOver, Idle, Refusal, head};
use super::process::{self, Stays};
use crate::agent::{Answer, PING};
use crate::engine::streams::{output_pipes, pipes};
use crate::engine::{EngineError, EngineErrorKind, Invocation, Process};
use crate::reason::Reason;
use crate::sandbox;

/// Pauses before a container that has died is made again: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// How long one has to live for the pauses to begin anew.
const HEALTHY: Duration = Duration::from_secs(10);

/// How often a resident is asked whether it is there, and how long it may take to answer.
const PULSE: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(3);

/// How long one may be without a process, or the memory, to start a program: then something in it takes them all, and does not
/// end with its request.
const EXHAUSTION: Duration = Duration::from_secs(10);

/// How long nobody has to have failed to start for silence to be a sign that programs run.
const CALM: Duration = Duration::from_secs(2);

/// How long the next one waits for the removal of the one before.
const REMOVAL: Duration = Duration::from_secs(10);

/// How many residents a request tries that are found dead.
const TRIES: usize = 3;

/// Where residents are made.
pub(in crate::engine) trait Home: Debug + Send + Sync + 'static {
    /// Starts a container whose agent listens, and waits until it has dialled in. Dropped meanwhile, it leaves nothing.
    fn settle(self: Arc<Self>) -> BoxFuture<'static, Result<Resident, EngineError>>;
}

/// A container whose agent serves.
pub(in crate::engine) struct Resident {
    /// Requests go over it. Its end is the agent's end.
    pub(in crate::engine) master: Arc<UnixStream>,
    /// Who its programs are, as the kernel numbers them here, where that is not us.
    pub(in crate::engine) owner: Option<(u32, u32)>,
    /// What messages call it.
    pub(in crate::engine) name: String,
    /// Dropped, the container goes.
    pub(in crate::engine) removal: Box<dyn Send + Sync>,
    /// Resolves when nothing of the container is left.
    pub(in crate::engine) gone: BoxFuture<'static, ()>,
}

/// All residents of a route. Dropped, they finish what runs, and go.
#[derive(Debug)]
pub(in crate::engine) struct Residents {
    replicas: Vec<watch::Receiver<State>>,
    /// The program, for messages.
    command: Arc<str>,
    turn: AtomicUsize,
    _closing: DropGuard,
}

#[derive(Clone, Debug)]
enum State {
    /// For the first time.
    Starting,
    Up(Arc<Up>),
    Down(Down),
}

/// Why it takes none.
#[derive(Clone, Debug)]
struct Down {
    kind: EngineErrorKind,
    why: String,
    /// Whether others are made, which see what is there now.
    is_changed: bool,
}

/// A resident that takes requests. Held by each that runs.
#[derive(Debug)]
struct Up {
    master: Arc<UnixStream>,
    /// Connections for its next requests.
    idle: Idle,
    owner: Option<(u32, u32)>,
    /// Whether it has answered of late.
    answers: AtomicBool,
    /// Since when it has started no program, and seen none end, for want of processes or memory; and when it last has not.
    exhausted: Mutex<Option<(Instant, Instant)>>,
    /// Its end says that nobody holds this any more.
    _held: mpsc::Sender<()>,
}

impl Up {
    /// Whether too little is left in it to start a program, and has been for so long, with nobody asking in vain once only.
    fn is_exhausted(&self) -> bool {
        let span = *self.exhausted.lock().unwrap_or_else(PoisonError::into_inner);
        span.is_some_and(|(first, last)| last.duration_since(first) >= EXHAUSTION)
    }
}

impl Stays for Up {
    fn heard(&self, answer: &io::Result<Answer>) {
        let mut exhausted = self.exhausted.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(Answer::Failed(number))
                if matches!(sandbox::Refusal::from_number(*number).errno, libc::EAGAIN | libc::ENOMEM) =>
            {
                let now = Instant::now();
                exhausted.get_or_insert((now, now)).1 = now;
            }
            Ok(_) => *exhausted = None,
            Err(_) => {}
        }
    }

    fn runs(&self) {
        let mut exhausted = self.exhausted.lock().unwrap_or_else(PoisonError::into_inner);
        // While others fail, one of which nothing is heard may not have been looked at.
        if exhausted.is_some_and(|(_, last)| last.elapsed() >= CALM) {
            *exhausted = None;
        }
    }

    fn keep(&self, connection: UnixStream) {
        self.idle.keep(connection);
    }
}

impl Residents {
    /// Makes as many, and again when they die. `command` is the program, for messages; `tasks` has one for each until it
    /// is gone.
    pub(in crate::engine) fn new(
        home: &Arc<dyn Home>,
        replicas: u32,
        command: &[String],
        tasks: &TaskTracker,
    ) -> Self {
        let closing = CancellationToken::new();
        let start = |_| {
            let (sender, state) = watch::channel(State::Starting);
            tasks.spawn(supervise(home.clone(), sender, closing.clone()));
            state
        };
        let replicas = (0..replicas).map(start).collect();
        let command = command.join(" ").into();
        Self { replicas, command, turn: AtomicUsize::new(0), _closing: closing.drop_guard() }
    }

    /// Whether one takes requests.
    pub(in crate::engine) fn is_up(&self) -> bool {
        self.replicas.iter().any(|replica| matches!(*replica.borrow(), State::Up(_)))
    }

    /// Begins a program in one of them.
    ///
    /// # Errors
    /// [`Unreachable`](EngineErrorKind::Unreachable) where all have died or do not answer; why one could not be made.
    ///
    /// # Cancel safety
    /// Cancel safe: where it has begun, it is killed.
    pub(in crate::engine) async fn begin(&self, invocation: Invocation) -> Result<Process, EngineError> {
        let head = head(&invocation, false).ok_or_else(too_long)?;
        let mut dead = None;
        for _ in 0..TRIES {
            let up = self.one().await?;
            let exhausted = |error| {
                EngineError::new(EngineErrorKind::Unreachable, "making the program's streams").because(error)
            };
            let with_input;
            let without_input;
            let (streams, theirs): (_, &[OwnedFd]) = if invocation.has_input {
                let (streams, theirs) = pipes(up.owner).map_err(exhausted)?;
                with_input = theirs;
                (streams, &with_input)
            } else {
                let (streams, theirs) = output_pipes(up.owner).map_err(exhausted)?;
                without_input = theirs;
                (streams, &without_input)
            };
            match (HandOver { head: &head, streams: theirs }).over(&up.master, &up.idle).await {
                Ok(connection) => {
                    let own = invocation.command.as_ref().map(|command| command.join(" ").into());
                    return Ok(process::shared(
                        connection,
                        streams,
                        up,
                        invocation.lease,
                        own.unwrap_or_else(|| self.command.clone()),
                        invocation.has_input.then_some(invocation.linger + invocation.kill_grace),
                    ));
                }
                Err(Refusal::Exhausted(error)) => return Err(exhausted(error)),
                Err(Refusal::Untouched(error)) => dead = Some(error),
            }
        }
        let error = EngineError::new(EngineErrorKind::Unreachable, "the route's container has died");
        Err(match dead {
            Some(dead) => error.because(dead),
            None => error,
        })
    }

    async fn one(&self) -> Result<Arc<Up>, EngineError> {
        loop {
            let first = self.turn.fetch_add(1, Ordering::Relaxed);
            let in_turn = (0..self.replicas.len()).map(|index| (first + index) % self.replicas.len());
            let mut starting = None;
            let mut why = None;
            for replica in in_turn.map(|index| &self.replicas[index]) {
                match &*replica.borrow() {
                    State::Up(up) if up.answers.load(Ordering::Relaxed) => return Ok(up.clone()),
                    State::Up(_) => {
                        why = Some(Down::for_now("it does not answer"));
                    }
                    State::Starting => starting = Some(replica.clone()),
                    State::Down(down) => why = Some(down.clone()),
                }
            }
            match (starting, why) {
                // Its task has ended: everything is ending.
                (Some(mut starting), _) => starting.changed().await.map_err(|_| closing())?,
                (None, Some(Down { kind, why, is_changed })) => {
                    let error = EngineError::new(kind, "the route's container is not there").because(why);
                    return Err(error.changed_meanwhile(is_changed));
                }
                (None, None) => return Err(closing()),
            }
        }
    }
}

impl Down {
    fn for_now(why: &str) -> Self {
        Self { kind: EngineErrorKind::Unreachable, why: why.to_owned(), is_changed: false }
    }
}

fn too_long() -> EngineError {
    EngineError::new(
        EngineErrorKind::Refused,
        "the request's variables and arguments are longer than an agent takes: 1 MiB",
    )
}

fn closing() -> EngineError {
    EngineError::new(EngineErrorKind::Unreachable, "the route's container is going")
}

/// Sees to one replica: makes it, and makes it again when it has died.
async fn supervise(home: Arc<dyn Home>, state: watch::Sender<State>, closing: CancellationToken) {
    let mut pause = BACKOFF.0;
    loop {
        let settled = tokio::select! {
            settled = home.clone().settle() => settled,
            () = closing.cancelled() => return,
        };
        match settled {
            Ok(resident) => {
                let since = Instant::now();
                let name = resident.name.clone();
                live(resident, &state, &closing).await;
                if closing.is_cancelled() {
                    return;
                }
                if since.elapsed() >= HEALTHY {
                    pause = BACKOFF.0;
                }
                tracing::warn!(container = name, "a shared container has died: making another in {pause:?}");
            }
            Err(error) => {
                let why = Reason(&error).to_string();
                match error.is_changed() {
                    true => tracing::debug!("a shared container is made anew: {why}"),
                    false => {
                        tracing::error!(
                            "a shared container cannot be made: {why}; trying again in {pause:?}"
                        );
                    }
                }
                let down = Down { kind: error.kind(), why, is_changed: error.is_changed() };
                state.send_replace(State::Down(down));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = closing.cancelled() => return,
        }
        pause = (pause * 2).min(BACKOFF.1);
    }
}

/// One container's life, from when its agent has come until nothing is left of it.
async fn live(resident: Resident, state: &watch::Sender<State>, closing: &CancellationToken) {
    let Resident { master, owner, name, removal, gone } = resident;
    tracing::debug!(container = name, "a shared container serves");
    let (held, mut holders) = mpsc::channel(1);
    let (idle, answers) = (Idle::default(), AtomicBool::new(true));
    let up = Arc::new(Up { master, idle, owner, answers, exhausted: Mutex::default(), _held: held });
    state.send_replace(State::Up(up.clone()));
    let is_dead = tokio::select! {
        () = watch_over(&up, &name) => true,
        () = closing.cancelled() => false,
    };
    let why = if is_dead { "it has died and is made again" } else { "it is going" };
    state.send_replace(State::Down(Down::for_now(why)));
    if !is_dead {
        // What runs may finish.
        drop(up);
        _ = holders.recv().await;
    }
    drop(removal);
    // Where it does not go, others are not to wait for that.
    _ = tokio::time::timeout(REMOVAL, gone).await;
}

/// Returns when the agent is gone, says what it is not asked, for a program may have taken it over, or has long been unable to
/// start a program. Meanwhile, asks it now and then whether it is there.
async fn watch_over(up: &Up, name: &str) {
    let mut heard = Instant::now();
    let mut unanswered = 0;
    let mut pulse = tokio::time::interval(PULSE);
    loop {
        tokio::select! {
            ready = up.master.readable() => {
                let mut bytes = [0; 64];
                match up.master.try_read(&mut bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Ok(read @ 1..) if ready.is_ok() && read <= unanswered => {
                        unanswered -= read;
                        heard = Instant::now();
                        if !up.answers.swap(true, Ordering::Relaxed) {
                            tracing::info!(container = name, "a shared container answers again");
                        }
                    }
                    _ => return,
                }
            }
            _ = pulse.tick() => {
                if up.is_exhausted() {
                    tracing::warn!(
                        container = name,
                        "a shared container has had no process or no memory left to start a program with for {EXHAUSTION:?}: \
                         see `pids` and `memory`"
                    );
                    return;
                }
                unanswered += up.master.try_write(&[PING]).unwrap_or(0);
                if heard.elapsed() > SILENCE && up.answers.swap(false, Ordering::Relaxed) {
                    tracing::warn!(container = name, "a shared container does not answer: is it paused?");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up() -> (Up, UnixStream) {
        let (master, agent) = UnixStream::pair().unwrap();
        let (held, _) = mpsc::channel(1);
        let (idle, answers) = (Idle::default(), AtomicBool::new(true));
        let up = Up {
            master: Arc::new(master),
            idle,
            owner: None,
            answers,
            exhausted: Mutex::default(),
            _held: held,
        };
        (up, agent)
    }

    #[tokio::test]
    async fn an_agent_that_says_what_it_is_not_asked_is_done_with() {
        let (up, agent) = up();
        agent.writable().await.unwrap();
        agent.try_write(&[PING; 64]).unwrap();
        tokio::time::timeout(Duration::from_secs(30), watch_over(&up, "x")).await.expect("it is listened to");
    }

    #[tokio::test]
    async fn an_agent_that_is_gone_is_done_with() {
        let (up, agent) = up();
        drop(agent);
        tokio::time::timeout(Duration::from_secs(30), watch_over(&up, "x")).await.expect("it is waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_can_start_nothing_for_long_is_done_with() {
        let (up, _agent) = up();
        let failed = Ok(Answer::Failed(libc::EAGAIN));
        let watching = watch_over(&up, "x");
        tokio::pin!(watching);
        let others = async {
            for _ in 0..20 {
                // One that ends, or goes on, says that others may begin.
                up.heard(&failed);
                tokio::time::sleep(EXHAUSTION / 2).await;
                up.heard(&Ok(Answer::Failed(libc::ENOENT)));
                up.heard(&failed);
                tokio::time::sleep(EXHAUSTION / 2).await;
                up.runs();
            }
            // Once is not all the time.
            up.heard(&failed);
            tokio::time::sleep(10 * EXHAUSTION).await;
            up.runs();
        };
        tokio::select! {
            () = &mut watching => panic!("it can start programs now and then"),
            () = others => {}
        }
        let failing = async {
            loop {
                up.heard(&failed);
                tokio::time::sleep(EXHAUSTION / 4).await;
            }
        };
        tokio::select! {
            () = &mut watching => {}
            () = failing => unreachable!(),
            () = tokio::time::sleep(3 * EXHAUSTION) => panic!("it can start none"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_is_silent_is_not_asked_for_programs_until_it_answers() {
        let (up, agent) = up();
        let watching = watch_over(&up, "x");
        let talking = async {
            while up.answers.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            agent.readable().await.unwrap();
            let mut asked = [0; 64];
            let count = agent.try_read(&mut asked).unwrap();
            agent.try_write(&asked[..count]).unwrap();
            while !up.answers.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = watching => panic!("it is there"),
            () = talking => {}
        }
    }
}
