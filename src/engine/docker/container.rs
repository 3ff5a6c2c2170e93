//! One container's life, from before its creation until after its removal.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, EventsOptionsBuilder,
    KillContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot};
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Shared, api, outliving};
use crate::engine::input::Input;
use crate::engine::{EngineError, EngineErrorKind, ExitStatus, Lease, Process, Reaper};

/// How long the attach stream may be silent once the program has ended before it counts as ended too. The
/// engine closes it itself when it has handled the exit, 15–25 ms later; nothing promises that it does.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// How many chunks of output wait between the engine's stream and whoever reads it. More would only hide
/// back-pressure.
const CHUNKS: usize = 2;

/// How long a reaper waits for a removal that does not succeed. The container's own task goes on trying. Engines that make
/// many containers at a time were seen to stand still for ten seconds: until then there is nothing to despair of.
const REAP_PATIENCE: Duration = Duration::from_secs(60);

/// Pauses between tries to remove a container: from the first to at most the second.
const REMOVE_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How long after the exit of a program that was killed the engine may take to say that it was out of memory.
const OOM_NOTICE: Duration = Duration::from_millis(250);

/// How long it may take to say anything of that: a client waits for the end of its answer.
const OOM_PATIENCE: Duration = Duration::from_secs(2);

/// How long a container whose creation was never confirmed is looked for.
const DOUBT: Duration = Duration::from_secs(30);

/// Creates a container, starts it, hands out its process through `ready`, and removes it: when the process
/// is dropped or reaped, when something fails, when nobody waits on `ready` any more.
pub(super) async fn live(
    engine: Arc<Shared>,
    name: String,
    body: ContainerCreateBody,
    lease: Lease,
    ready: oneshot::Sender<Result<Process, EngineError>>,
) {
    let mut container = Container::new(engine, name);
    // Not raced with `ready`: a call that is given up may still take effect.
    if let Err(failure) = container.create(body).await {
        _ = ready.send(Err(failure.error));
        drop(lease);
        if failure.outcome_unknown {
            container.remove_if_it_appears().await;
        }
        return;
    }
    let kept = container.run(ready).await;
    container.remove_holding(lease).await;
    if container.engine.endpoint.is_local() {
        // It may have been no container's any more.
        outliving::kill(container.name.clone()).await;
    }
    drop(kept);
}

/// The names of the containers that have a task here, in all engines of this process.
static TENDED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Keeps a container's name among those that have a task.
struct Tended(String);

impl Tended {
    fn new(name: &str) -> Self {
        TENDED.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Self(name.to_owned())
    }
}

impl Drop for Tended {
    fn drop(&mut self) {
        TENDED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Whether a task of this process sees to a container of this name: what it made and does not see to any more has
/// appeared after it was given up.
pub(super) fn is_tended(name: &str) -> bool {
    TENDED.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
}

/// What is to be dropped when nothing of a container is left: closed before, half of what its program reads would look like
/// all.
type Kept = Option<Box<dyn Send>>;

/// A container in the making, or one that is there.
pub(super) struct Container {
    engine: Arc<Shared>,
    /// What the engine knows it by: the name that we gave, then the id that it gave.
    name: String,
    _tended: Tended,
}

/// Why a container was not created.
pub(super) struct CreateFailure {
    pub(super) error: EngineError,
    /// Whether it may appear all the same.
    pub(super) outcome_unknown: bool,
}

impl Container {
    pub(super) fn new(engine: Arc<Shared>, name: String) -> Self {
        let tended = Tended::new(&name);
        Self { engine, name, _tended: tended }
    }

    /// What the engine knows it by.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Asks the engine to make it. Where that fails and the outcome is unknown, see to
    /// [`remove_if_it_appears`](Self::remove_if_it_appears).
    pub(super) async fn create(&mut self, body: ContainerCreateBody) -> Result<(), CreateFailure> {
        let image = body.image.clone().unwrap_or_default();
        let options = || CreateContainerOptionsBuilder::default().name(&self.name).build();
        let mut is_repeated = false;
        let mut result = self.engine.docker.create_container(Some(options()), body.clone()).await;
        if result.as_ref().is_err_and(is_stale_connection) {
            // A pooled connection that the engine had closed. The name makes a second try safe: where the first
            // one did arrive, the engine answers 409 Conflict, and the container is there under our name.
            is_repeated = true;
            result = self.engine.docker.create_container(Some(options()), body).await;
        }
        match result {
            Ok(created) => {
                for warning in created.warnings {
                    tracing::debug!(container = self.name, "the engine warns: {}", warning.trim());
                }
                self.name = created.id;
                Ok(())
            }
            Err(error)
                if is_repeated && api::has_status(&error, 409) && error.to_string().contains(&self.name) =>
            {
                // Its control groups are called by its id.
                if let Ok(made) = self.engine.docker.inspect_container(&self.name, None).await
                    && let Some(id) = made.id
                {
                    self.name = id;
                }
                Ok(())
            }
            Err(error) => {
                let outcome_unknown = api::is_outcome_unknown(&error);
                let what = format!("creating a container from image `{image}`");
                Err(CreateFailure { error: self.engine.failure(error, what).await, outcome_unknown })
            }
        }
    }

    /// Attaches, starts, hands out the process, and returns when the container is to be removed: with what is
    /// to be dropped after that.
    async fn run(&self, mut ready: oneshot::Sender<Result<Process, EngineError>>) -> Kept {
        let attached = tokio::select! {
            attached = self.attach() => attached,
            () = ready.closed() => return None,
        };
        let attached = match attached {
            Ok(attached) => attached,
            Err(error) => {
                _ = ready.send(Err(error));
                return None;
            }
        };
        let started = tokio::select! {
            started = self.start() => started,
            // It may run by now, though the engine has not said so.
            () = ready.closed() => return Some(Box::new(attached)),
        };
        if let Err(error) = started {
            _ = ready.send(Err(error));
            return Some(Box::new(attached));
        }
        let kill = CancellationToken::new();
        let (gone_sender, gone) = oneshot::channel::<()>();
        let (stdin, unfinished) = Input::new(attached.input);
        let killer = kill.clone().drop_guard();
        let process = process(&self.engine, &self.name, stdin, attached.output, killer, async move {
            _ = gone.await;
        });
        if ready.send(Ok(process)).is_ok() {
            kill.cancelled().await;
        }
        Some(Box::new((unfinished, gone_sender)))
    }

    /// Attaches to it, and starts it.
    pub(super) async fn begin(&self) -> Result<AttachContainerResults, EngineError> {
        // Before the start, or the first output is lost.
        let attached = self.attach().await?;
        self.start().await.map(|()| attached)
    }

    async fn attach(&self) -> Result<AttachContainerResults, EngineError> {
        let docker = &self.engine.docker;
        let options =
            AttachContainerOptionsBuilder::default().stream(true).stdin(true).stdout(true).stderr(true);
        match docker.attach_container(&self.name, Some(options.build())).await {
            Ok(attached) => Ok(attached),
            Err(error) => Err(self.engine.failure(error, "attaching to a container").await),
        }
    }

    /// Starts it.
    pub(super) async fn start(&self) -> Result<(), EngineError> {
        match self.engine.docker.start_container(&self.name, None).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.engine.failure(error, "starting a container").await),
        }
    }

    /// Waits for the end of its first process, and says how that ended.
    pub(super) async fn ended(&self) -> Result<ExitStatus, EngineError> {
        let (sender, exit) = oneshot::channel();
        wait(self.engine.clone(), self.name.clone(), CancellationToken::new(), sender).await;
        exit.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Removes the container, and gives a lease back when that is done, or does not come about.
    pub(super) async fn remove_holding(&self, lease: Lease) {
        let mut removal = std::pin::pin!(self.remove());
        // A container that will not go must not keep its route's place for ever.
        if tokio::time::timeout(REAP_PATIENCE, &mut removal).await.is_err() {
            drop(lease);
            removal.await;
        }
    }

    /// Removes the container, however long that takes.
    pub(super) async fn remove(&self) {
        let (mut pause, longest) = REMOVE_BACKOFF;
        let mut complained = false;
        while let Err(error) = self.engine.remove_container(&self.name).await {
            // 409: a removal is in progress. It is worth waiting for, not worth a word.
            if !complained && !api::has_status(&error, 409) {
                tracing::warn!(container = self.name, %error, "a container cannot be removed yet; trying on");
                complained = true;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
        if complained {
            tracing::info!(container = self.name, "the container is removed");
        }
    }

    /// Removes a container whose creation was asked for and never confirmed. It may appear late, as an engine
    /// that was killed comes back and finishes or forgets.
    pub(super) async fn remove_if_it_appears(&self) {
        let deadline = tokio::time::Instant::now() + DOUBT;
        while tokio::time::Instant::now() < deadline {
            match self.engine.docker.inspect_container(&self.name, None).await {
                Ok(_) => return self.remove().await,
                // It answers, and has had a moment to finish: there is none.
                Err(error) if api::has_status(&error, 404) => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    return self.remove().await;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }
}

/// The program of a container to which somebody is attached. It is killed where `kill` is dropped; `gone` resolves when
/// nothing of the container is left, and until then what is left unfinished of `stdin` is to be kept.
pub(super) fn process(
    engine: &Arc<Shared>,
    name: &str,
    stdin: Input<Stdin>,
    output: Output,
    kill: impl Send + 'static,
    gone: impl Future<Output = ()> + Send + 'static,
) -> Process {
    let exited = CancellationToken::new();
    let over = exited.clone();
    // The engine ends its stream when it has seen the container's end, and tells how that was when it has time.
    let ended = CancellationToken::new();
    let known = ended.clone();
    let (stdout_sender, stdout) = mpsc::channel(CHUNKS);
    let (stderr_sender, stderr) = mpsc::channel(CHUNKS);
    let (exit_sender, exit) = oneshot::channel();
    let pumping = tokio::spawn({
        let pump = pump(output, stdout_sender, stderr_sender, exited.clone());
        let ended = ended.drop_guard();
        async move {
            pump.await;
            drop(ended);
        }
    });
    let waiting = tokio::spawn(wait(engine.clone(), name.to_owned(), exited, exit_sender));
    let (docker, container) = (engine.docker.clone(), name.to_owned());
    // To process 1, which is all that the engine can do: its init passes it on to the program.
    let terminate = move || {
        tokio::spawn(async move {
            let options = KillContainerOptionsBuilder::default().signal("SIGTERM").build();
            // Gone already, or soon to be killed.
            _ = docker.kill_container(&container, Some(options)).await;
        });
    };
    // Where the program is not wanted any more, neither are these two.
    let kill = (kill, AbortOnDropHandle::new(pumping), AbortOnDropHandle::new(waiting));
    Process {
        stdin: Box::pin(stdin),
        stdout: Box::pin(reader(stdout)),
        stderr: Box::pin(reader(stderr)),
        ended: Some(Box::pin(async move { known.cancelled().await })),
        exit: Box::pin(async move { exit.await.unwrap_or_else(|_| Err(lost())) }),
        reaper: Reaper::new(terminate, kill, async move { over.cancelled().await }).clearing(gone),
    }
}

/// Whether a call failed because its connection was closed under it.
fn is_stale_connection(error: &Error) -> bool {
    fn closed(error: &(dyn std::error::Error + 'static)) -> bool {
        error.downcast_ref::<hyper::Error>().is_some_and(|e| e.is_incomplete_message() || e.is_canceled())
            || error.source().is_some_and(closed)
    }
    match error {
        Error::HyperLegacyError { err } => closed(err),
        Error::HyperResponseError { err } => closed(err),
        _ => false,
    }
}

fn lost() -> EngineError {
    EngineError::new(EngineErrorKind::Unreachable, "the engine no longer tells how the program ended")
}

fn reader(mut chunks: mpsc::Receiver<io::Result<Bytes>>) -> impl tokio::io::AsyncRead + Send {
    StreamReader::new(futures_util::stream::poll_fn(move |context| chunks.poll_recv(context)))
}

type Stdin = Pin<Box<dyn AsyncWrite + Send>>;
type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

/// Takes the engine's one stream apart, until it ends, or stays silent after the program's end.
///
/// A closed `stdout` does not end it: standard error is still wanted, and the program must not block.
async fn pump(
    mut output: Output,
    stdout: mpsc::Sender<io::Result<Bytes>>,
    stderr: mpsc::Sender<io::Result<Bytes>>,
    exited: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            biased;
            next = output.next() => next,
            () = async { exited.cancelled().await; tokio::time::sleep(DRAIN_DEADLINE).await } => None,
        };
        match next {
            Some(Ok(LogOutput::StdOut { message })) => _ = stdout.send(Ok(message)).await,
            Some(Ok(LogOutput::StdErr { message })) => _ = stderr.send(Ok(message)).await,
            Some(Ok(LogOutput::StdIn { .. })) => {}
            // Without a terminal every piece has a header: this one was cut off in the middle.
            Some(Ok(LogOutput::Console { .. })) => {
                _ = stdout.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                break;
            }
            // The engine has closed it before it had read all that the program has not: so the kernel tells it, behind
            // the last of the output. How the program ended is asked apart, and without that no answer is whole.
            Some(Err(Error::IOError { err })) if err.kind() == io::ErrorKind::ConnectionReset => break,
            // Passed on: a stream that broke must not look like one that ended.
            Some(Err(error)) => {
                _ = stdout.send(Err(io::Error::other(error))).await;
                break;
            }
            None => break,
        }
    }
}

/// Waits for the program's end and says how it ended.
async fn wait(
    engine: Arc<Shared>,
    name: String,
    exited: CancellationToken,
    exit: oneshot::Sender<Result<ExitStatus, EngineError>>,
) {
    let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
    let mut answers = Box::pin(engine.docker.wait_container(&name, Some(options)));
    let mut code = match answers.next().await {
        Some(Ok(answer)) => Ok(answer.status_code),
        // For bollard a non-zero exit is an error; for us it is an answer.
        Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code),
        Some(Err(error)) => Err(engine.failure(error, "waiting for the program's end").await),
        None => Err(lost()),
    };
    if code.is_ok() && engine.endpoint.is_local() && outliving::kill(name.clone()).await {
        // It would stay for ever, and its answer look whole.
        let what = "the engine takes the program for ended, which has itself traced and has stopped";
        code = Err(EngineError::new(EngineErrorKind::Refused, what));
    }
    exited.cancel();
    let status = match code {
        Ok(code) => Ok(status(&engine, &name, code).await),
        Err(error) => Err(error),
    };
    _ = exit.send(status);
}

async fn status(engine: &Shared, name: &str, code: i64) -> ExitStatus {
    const SIGKILL: u8 = 9;
    match u8::try_from(code) {
        Ok(code @ 129..=192) => {
            let signal = code - 128;
            // Only a kill can be the kernel's for want of memory, and only then are the calls worth their time.
            let out_of_memory = match signal {
                SIGKILL if was_out_of_memory(engine, name).await => Some(true),
                // With cgroup v1 the kernel's word can get lost when the container goes right after the program.
                SIGKILL => None,
                _ => Some(false),
            };
            ExitStatus::Signalled { signal, out_of_memory }
        }
        Ok(code) => ExitStatus::Exited(code),
        Err(_) => ExitStatus::Exited(u8::MAX),
    }
}

/// Whether the memory limit was reached. The engine learns of that apart from the exit, and on a busy machine after
/// it: then the container's state never says so, and only the engine's events do.
pub(super) async fn was_out_of_memory(engine: &Shared, name: &str) -> bool {
    tokio::time::timeout(OOM_PATIENCE, says_out_of_memory(engine, name)).await.unwrap_or(false)
}

async fn says_out_of_memory(engine: &Shared, name: &str) -> bool {
    let state = engine.docker.inspect_container(name, None).await.ok().and_then(|container| container.state);
    if state.and_then(|state| state.oom_killed).unwrap_or(false) {
        return true;
    }
    let filters = HashMap::from([("container", vec![name]), ("event", vec!["oom"])]);
    // All that it remembers; without a beginning it would tell of what is to come and nothing else.
    let options = EventsOptionsBuilder::default().since("1").filters(&filters).build();
    let mut events = Box::pin(engine.docker.events(Some(options)));
    matches!(tokio::time::timeout(OOM_NOTICE, events.next()).await, Ok(Some(Ok(_))))
}
