//! Containers in which an agent waits: for one request, or for many.
//!
//! The agent is this very executable, in a volume of the engine's that is filled once and mounted read-only below `/dev`:
//! nothing of the image changes, and nothing need be in it. The container is otherwise made as for a request at once: the
//! agent has its user, its environment, its working directory, and gets the program's command line as arguments.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bollard::container::AttachContainerResults;
use bollard::models::{ContainerCreateBody, Mount, MountType, MountVolumeOptions, VolumeCreateRequest};
use bollard::query_parameters::{ContainerArchiveInfoOptionsBuilder, UploadToContainerOptionsBuilder};
use rustix::process::Pid;
use sha2::{Digest, Sha256};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::container::Container;
use super::import::pieces;
use super::{Found, Shared, api, labels, options};
use crate::agent::Executable;
use crate::engine::agent::{Door, RuntimeDir, Socket, is_alive};
use crate::engine::carry::{Carrier, Target, carry_tcp, carry_unix, listen_in};
use crate::engine::{Connect, EngineError, EngineErrorKind, Inside, Invocation, Lease, Program};

/// Where the agent's volume and its door are in a container. `/dev` is the container's own: nothing of these is to be
/// seen in its image, or in what it has changed of it.
const VOLUME_IN_CONTAINER: &str = "/dev/dcgi/bin";
const DOOR_IN_CONTAINER: &str = "/dev/dcgi/run";

/// The agent's name in its volume.
const EXECUTABLE: &str = "dcgi";

/// How long a volume that was looked at is taken to be as it was, whatever happens.
const VOLUME_BELIEVED_FOR: Duration = Duration::from_secs(10);

/// How long an agent may take to dial in once its container has started.
const DIAL_PATIENCE: Duration = Duration::from_secs(20);

/// How long containers for one request are made without agents once one has not come.
const WITHOUT: Duration = Duration::from_secs(60);

/// What this engine knows of its agents.
pub(super) struct Agents {
    /// Where agents dial in. None where the engine is elsewhere: then they take their request on standard input.
    runtime_dir: Option<RuntimeDir>,
    executable: Executable,
    /// The volume's name, while it is known to be filled, and since when. Somebody may clear away volumes that no container uses.
    volume: tokio::sync::Mutex<Option<(String, Instant)>>,
    /// When one has not come, the last time.
    missed: Mutex<Missed>,
}

/// Where agents have not come, and when.
#[derive(Debug, Default)]
struct Missed {
    /// Anywhere: the engine is to blame.
    anywhere: Option<Instant>,
    /// In a route's containers: they end too soon.
    of_routes: HashMap<Arc<str>, Instant>,
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agents").finish_non_exhaustive()
    }
}

/// What a container with an agent is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// One request, later.
    Once,
    /// All requests.
    Listen,
}

/// A container whose agent waits. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Inhabited {
    pub(super) way: Way,
    pub(super) name: String,
    pub(super) removal: Removal,
}

impl Inhabited {
    /// Whether it is still there, as far as can be told without a word.
    pub(super) fn is_alive(&self) -> bool {
        match &self.way {
            Way::Dialled { connection, .. } => is_alive(connection),
            Way::Attached(_) => true,
        }
    }
}

/// How an agent is reached.
pub(super) enum Way {
    /// It has dialled in.
    Dialled {
        connection: Arc<UnixStream>,
        /// Who its program is, as the kernel numbers it here, where that is not us.
        owner: Option<(u32, u32)>,
        /// Which process it is here. `None`: it is in no namespace that we see.
        process: Option<Pid>,
    },
    /// By the engine's own stream, from however far away.
    Attached(AttachContainerResults),
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dialled { .. } => "Dialled",
            Self::Attached(_) => "Attached",
        })
    }
}

/// Dropped, the container is removed, and then the lease given back.
#[derive(Debug)]
pub(super) struct Removal {
    held: Arc<Mutex<Held>>,
    gone: Option<oneshot::Receiver<()>>,
    _kill: DropGuard,
}

/// What is held for a container.
#[derive(Debug, Default)]
struct Held {
    /// Given back when nothing of it is left, or that does not come about for long.
    lease: Lease,
    /// Dropped when nothing of it is left, however long that takes.
    kept: Option<Box<dyn Any + Send>>,
}

impl Removal {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a request's lease held until nothing of the container is left.
    pub(super) fn hold(&self, lease: Lease) {
        self.held().lease = lease;
    }

    /// Keeps what is not to be dropped before nothing of the container is left, however long that takes.
    pub(super) fn keep(&self, kept: impl Send + 'static) {
        self.held().kept = Some(Box::new(kept));
    }

    /// What resolves, once, when nothing of the container is left.
    pub(super) fn gone(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let gone = self.gone.take();
        async move {
            if let Some(gone) = gone {
                _ = gone.await;
            }
        }
    }
}

impl Agents {
    pub(super) fn new(runtime_dir: Option<RuntimeDir>, executable: Executable) -> Self {
        Self { runtime_dir, executable, volume: tokio::sync::Mutex::default(), missed: Mutex::default() }
    }

    /// Whether an agent can reach us.
    pub(super) fn can_dial(&self) -> bool {
        self.runtime_dir.is_some()
    }

    /// Whether one is worth waiting for with a route's request at hand.
    pub(super) fn come(&self, route: &Arc<str>) -> bool {
        let missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_past = |at: &Instant| at.elapsed() > WITHOUT;
        self.can_dial()
            && missed.anywhere.as_ref().is_none_or(is_past)
            && missed.of_routes.get(route).is_none_or(is_past)
    }

    /// One has not come to a route's container.
    pub(super) fn missed(&self, route: &Arc<str>, whose: Whose) {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        match whose {
            Whose::Engine => missed.anywhere = Some(Instant::now()),
            Whose::Container => _ = missed.of_routes.insert(route.clone(), Instant::now()),
        }
    }

    async fn volume(&self, engine: &Arc<Shared>, image: &str) -> Result<String, EngineError> {
        let mut known = self.volume.lock().await;
        if let Some((volume, _)) = &*known {
            return Ok(volume.clone());
        }
        let volume = fill_volume(engine, &self.executable, image).await?;
        Ok(known.insert((volume, Instant::now())).0.clone())
    }

    /// A container was not to be had. Looks at the volume again for the next one, unless that has been looked at just now: what is
    /// wrong with one route's containers is not to keep all others waiting.
    async fn doubt_volume(&self) {
        let mut known = self.volume.lock().await;
        *known = known.take().filter(|(_, since)| since.elapsed() < VOLUME_BELIEVED_FOR);
    }
}

/// Why a container has no agent that waits in it.
#[derive(Debug)]
pub(super) enum Uninhabited {
    /// There is no container.
    Failed(EngineError),
    /// Agents cannot be had here. Without one there might be a container.
    NoAgent(EngineError, Whose),
}

/// Whose fault it is that an agent does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// It cannot make it, or does not see this machine's files.
    Engine,
    /// It has ended there.
    Container,
}

impl From<Uninhabited> for EngineError {
    fn from(why: Uninhabited) -> Self {
        match why {
            Uninhabited::Failed(error) | Uninhabited::NoAgent(error, _) => error,
        }
    }
}

/// Makes a container, and waits until its agent has dialled in. Dropped meanwhile, it leaves nothing. `request`: the one
/// that it is made for, and whose lease is held until nothing of it is left.
pub(super) async fn inhabit(
    engine: &Arc<Shared>,
    program: &Program,
    image: &Found,
    route: &Arc<str>,
    purpose: Purpose,
    request: Option<&Invocation>,
) -> Result<Inhabited, Uninhabited> {
    let agents = engine.agents().map_err(|error| Uninhabited::NoAgent(error, Whose::Engine))?;
    let volume = agents.volume(engine, &program.image).await.map_err(|error| match error.kind() {
        // What does not answer has no container either.
        EngineErrorKind::ImageMissing | EngineErrorKind::Unreachable => Uninhabited::Failed(error),
        _ => Uninhabited::NoAgent(error, Whose::Engine),
    })?;
    let door = agents.runtime_dir.as_ref().map(Door::open).transpose().map_err(|error| {
        Uninhabited::Failed(unusable("making a socket for a container's agent").because(error))
    })?;
    let mut body = create_body(engine, program, image, route, purpose, &volume, door.as_ref());
    let reached = Reached::new(agents.runtime_dir.as_ref(), program, route).map_err(Uninhabited::Failed)?;
    body.host_config.get_or_insert_default().mounts.get_or_insert_default().extend(reached.mounts());
    let (id, lease) = match request {
        Some(request) => {
            body.labels.get_or_insert_default().extend(options::request_labels(request));
            (request.request_id.to_string(), request.lease.clone())
        }
        None => (uuid::Uuid::now_v7().simple().to_string(), Lease::default()),
    };
    let name = engine.instance.container_name(&id);
    let (ready, inhabited) = oneshot::channel();
    engine.containers.spawn(live(engine.clone(), name, body, door, reached, lease, ready));
    let shutting_down = || Err(Uninhabited::Failed(unusable("the runtime is shutting down")));
    let inhabited = inhabited.await.unwrap_or_else(|_| shutting_down());
    if inhabited.is_err() {
        agents.doubt_volume().await;
    }
    inhabited
}

async fn live(
    engine: Arc<Shared>,
    name: String,
    body: ContainerCreateBody,
    door: Option<Door>,
    reached: Reached,
    lease: Lease,
    mut ready: oneshot::Sender<Result<Inhabited, Uninhabited>>,
) {
    let tasks = engine.containers.clone();
    let mut container = Container::new(engine, name);
    // Not raced with `ready`: a call that is given up may still take effect.
    if let Err(failure) = container.create(body).await {
        _ = ready.send(Err(Uninhabited::Failed(failure.error)));
        drop(lease);
        if failure.outcome_unknown {
            container.remove_if_it_appears().await;
        }
        return;
    }
    let inhabiting = async {
        let way = match &door {
            Some(door) => dialled(&container, door).await?,
            None => container.begin().await.map(Way::Attached).map_err(Uninhabited::Failed)?,
        };
        // Before there is a program.
        let carriers = reached.carried(Agent::of(&way), &tasks).await.map_err(Uninhabited::Failed)?;
        Ok((way, carriers))
    };
    let inhabited = tokio::select! {
        inhabited = inhabiting => inhabited,
        () = ready.closed() => return container.remove_holding(lease).await,
    };
    // From here on there is nothing that a program could dial.
    drop(door);
    let (way, carriers) = match inhabited {
        Ok(inhabited) => inhabited,
        Err(error) => {
            _ = ready.send(Err(error));
            return container.remove_holding(lease).await;
        }
    };
    let kill = CancellationToken::new();
    let held = Arc::new(Mutex::new(Held { lease, kept: None }));
    let (gone_sender, gone) = oneshot::channel();
    let inhabited = Inhabited {
        way,
        name: container.name().to_owned(),
        removal: Removal { held: held.clone(), gone: Some(gone), _kill: kill.clone().drop_guard() },
    };
    // Where nobody waits any more, it is dropped here, and that cancels.
    _ = ready.send(Ok(inhabited));
    kill.cancelled().await;
    // The request is to be answered first.
    tokio::task::yield_now().await;
    let Held { lease, kept } = std::mem::take(&mut *held.lock().unwrap_or_else(PoisonError::into_inner));
    container.remove_holding(lease).await;
    drop((kept, gone_sender, carriers));
}

/// An agent that has dialled in.
struct Agent {
    connection: Arc<UnixStream>,
    owner: Option<(u32, u32)>,
    process: Option<Pid>,
}

impl Agent {
    fn of(way: &Way) -> Option<Self> {
        let Way::Dialled { connection, owner, process } = way else { return None };
        Some(Self { connection: connection.clone(), owner: *owner, process: *process })
    }
}

/// What a container's programs reach without a network.
struct Reached {
    connect: Vec<Connect>,
    /// Those that unix sockets inside are, in their order.
    sockets: Vec<Socket>,
    route: Arc<str>,
}

impl Reached {
    fn new(
        runtime_dir: Option<&RuntimeDir>,
        program: &Program,
        route: &Arc<str>,
    ) -> Result<Self, EngineError> {
        let connect = program.connect.clone();
        let sockets = match runtime_dir {
            Some(within) => {
                let unix = connect.iter().filter(|connect| matches!(connect.inside, Inside::Unix(_)));
                let sockets: io::Result<_> = unix.map(|_| Socket::open(within)).collect();
                sockets.map_err(|error| {
                    unusable("making a socket for what a program connects to").because(error)
                })?
            }
            None if connect.is_empty() => Vec::new(),
            None => {
                let what = "`connect` needs an engine on this machine: dcgi carries the bytes";
                return Err(EngineError::new(EngineErrorKind::Refused, what));
            }
        };
        Ok(Self { connect, sockets, route: route.clone() })
    }

    /// The sockets, where they are seen inside.
    fn mounts(&self) -> Vec<Mount> {
        let unix = self.connect.iter().filter_map(|connect| match &connect.inside {
            Inside::Unix(path) => Some(path),
            Inside::Tcp(_) => None,
        });
        let mount = |(socket, path): (&Socket, &String)| Mount {
            typ: Some(MountType::BIND),
            source: Some(socket.path().to_string_lossy().into_owned()),
            target: Some(path.clone()),
            read_only: Some(true),
            ..Default::default()
        };
        self.sockets.iter().zip(unix).map(mount).collect()
    }

    /// Listens in a container whose agent has come, and carries from there on.
    async fn carried(self, agent: Option<Agent>, tasks: &TaskTracker) -> Result<Vec<Carrier>, EngineError> {
        let Self { connect, sockets, route } = self;
        if connect.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |error: io::Error| {
            let what = "listening in a container for what its program connects to";
            EngineError::new(EngineErrorKind::Refused, what).because(error)
        };
        let Some(Agent { connection, owner, process }) = agent else {
            return Err(failed(io::Error::other("the engine is not on this machine")));
        };
        let target = |connect: &Connect| Target {
            outside: connect.outside.clone(),
            user: owner.map(|(uid, gid)| (uid, gid, Vec::new())),
            route: route.clone(),
        };
        let (tcp, unix): (Vec<_>, Vec<_>) =
            connect.iter().partition(|connect| matches!(connect.inside, Inside::Tcp(_)));
        let mut carriers: Vec<_> =
            sockets.into_iter().zip(unix).map(|(socket, to)| carry_unix(socket, target(to), tasks)).collect();
        if tcp.is_empty() {
            return Ok(carriers);
        }
        let addresses = tcp.iter().filter_map(|connect| match connect.inside {
            Inside::Tcp(address) => Some(address),
            Inside::Unix(_) => None,
        });
        let no_process = || failed(io::Error::other("its processes are not seen here"));
        let listening = listen_in(process.ok_or_else(no_process)?, addresses.collect()).await;
        let listening = listening.map_err(failed)?;
        // Else its number may be another's by now.
        if !is_alive(&connection) {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        for (listener, to) in listening.into_iter().zip(tcp) {
            carriers.push(carry_tcp(listener, target(to), tasks).map_err(failed)?);
        }
        Ok(carriers)
    }
}

/// Starts a container and waits for its agent to dial in.
async fn dialled(container: &Container, door: &Door) -> Result<Way, Uninhabited> {
    container.start().await.map_err(Uninhabited::Failed)?;
    agent_of(container, door).await
}

async fn agent_of(container: &Container, door: &Door) -> Result<Way, Uninhabited> {
    let died = async {
        match container.ended().await {
            Ok(status) => {
                let what = format!("a container's agent ended before it was ready: {status}");
                Uninhabited::NoAgent(EngineError::new(EngineErrorKind::Refused, what), Whose::Container)
            }
            Err(error) => Uninhabited::Failed(error),
        }
    };
    let failed = |what| move |error: io::Error| Uninhabited::Failed(unusable(what).because(error));
    let connection = tokio::select! {
        biased;
        agent = door.agent() => agent.map_err(failed("waiting for a container's agent"))?,
        why = died => return Err(why),
        () = tokio::time::sleep(DIAL_PATIENCE) => {
            let what = "a container's agent has not dialled in: does the engine see this machine's files?";
            return Err(Uninhabited::NoAgent(unusable(what), Whose::Engine));
        }
    };
    let peer = connection.peer_cred().map_err(failed("asking who an agent is"))?;
    let owner = (peer.uid() != rustix::process::geteuid().as_raw()).then(|| (peer.uid(), peer.gid()));
    let process = peer.pid().and_then(Pid::from_raw);
    Ok(Way::Dialled { connection: Arc::new(connection), owner, process })
}

/// The create request of a container with an agent.
fn create_body(
    engine: &Shared,
    program: &Program,
    image: &Found,
    route: &Arc<str>,
    purpose: Purpose,
    volume: &str,
    door: Option<&Door>,
) -> ContainerCreateBody {
    let purpose = match purpose {
        Purpose::Once => "once",
        Purpose::Listen => "listen",
    };
    let mut agent = vec![format!("{VOLUME_IN_CONTAINER}/{EXECUTABLE}"), "agent".into(), purpose.into()];
    let mut body = options::standing_body(program, route, &engine.instance);
    let mut mounts = vec![volume_mount(volume, VOLUME_IN_CONTAINER, true)];
    if let Some(door) = door {
        let socket = format!("{DOOR_IN_CONTAINER}/{}", Door::socket_name());
        agent.extend(["--dial".into(), socket, "--token".into(), door.token().to_owned()]);
        mounts.push(Mount {
            typ: Some(MountType::BIND),
            source: Some(door.folder().to_string_lossy().into_owned()),
            target: Some(DOOR_IN_CONTAINER.to_owned()),
            read_only: Some(true),
            ..Default::default()
        });
    } else {
        body.attach_stdin = Some(true);
        body.attach_stdout = Some(true);
        body.attach_stderr = Some(true);
        body.open_stdin = Some(true);
        body.stdin_once = Some(true);
    }
    agent.push("--".into());
    body.entrypoint = Some(agent);
    body.cmd = Some(program.command_line(&image.config));
    if !image.id.is_empty() {
        // Not by its name, which may stand for another one by now: the command line is this one's.
        body.image = Some(image.id.clone());
    }
    let host = body.host_config.get_or_insert_default();
    // It is the init itself, and when it ends, whoever is left of us, nothing of the container is to stay.
    host.init = Some(false);
    // Not where its end is asked for by name.
    host.auto_remove = Some(door.is_some());
    host.mounts.get_or_insert_default().extend(mounts);
    body
}

fn volume_mount(volume: &str, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..Default::default() }),
        ..Default::default()
    }
}

/// Sees to it that the engine has a volume with this executable in it, and gives its name. An engine takes files only
/// into a container: one is made from an image that is there anyway, never started, and removed.
async fn fill_volume(
    engine: &Arc<Shared>,
    executable: &Executable,
    image: &str,
) -> Result<String, EngineError> {
    let read = |error: io::Error| {
        EngineError::new(EngineErrorKind::Refused, "reading the agent's executable").because(error)
    };
    let executable = executable.clone();
    let digesting = tokio::task::spawn_blocking(move || {
        let mut file = executable.open()?;
        let (mut hash, mut size) = (Sha256::new(), 0);
        let mut piece = vec![0; 64 << 10];
        loop {
            match file.read(&mut piece)? {
                0 => break,
                read => {
                    hash.update(&piece[..read]);
                    size += read as u64;
                }
            }
        }
        file.rewind()?;
        Ok((file, size, hash.finalize()))
    });
    let digested = digesting.await.map_err(io::Error::other).and_then(|result| result);
    let (executable, size, digest) = digested.map_err(read)?;
    let digest: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let volume = format!("dcgi-agent-{}-{digest}", env!("CARGO_PKG_VERSION"));
    let failed = |error| async { engine.failure(error, "putting the agent into a volume").await };
    let request = VolumeCreateRequest {
        name: Some(volume.clone()),
        labels: Some([(labels::AGENT.to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into()),
        ..Default::default()
    };
    if let Err(error) = engine.docker.create_volume(request).await {
        return Err(failed(error).await);
    }
    let id = uuid::Uuid::now_v7().simple().to_string();
    let mut container = Container::new(engine.clone(), engine.instance.container_name(&id));
    let body =
        options::filling_body(image, volume_mount(&volume, VOLUME_IN_CONTAINER, false), &engine.instance);
    let (filled_sender, filled) = oneshot::channel();
    let shared = engine.clone();
    // A task: whoever asks may go away, and the container is to be removed all the same.
    engine.containers.spawn(async move {
        if let Err(failure) = container.create(body).await {
            _ = filled_sender.send(Err(failure.error));
            if failure.outcome_unknown {
                container.remove_if_it_appears().await;
            }
            return;
        }
        let result = match fill(&shared, container.name(), executable, size).await {
            Ok(()) => Ok(()),
            Err(error) => Err(shared.failure(error, "putting the agent into a volume").await),
        };
        _ = filled_sender.send(result);
        container.remove().await;
    });
    filled.await.unwrap_or_else(|_| Err(unusable("the runtime is shutting down")))?;
    Ok(volume)
}

async fn fill(
    engine: &Shared,
    container: &str,
    executable: File,
    size: u64,
) -> Result<(), bollard::errors::Error> {
    let path = format!("{VOLUME_IN_CONTAINER}/{EXECUTABLE}");
    let options = ContainerArchiveInfoOptionsBuilder::default().path(&path).build();
    match engine.docker.get_container_archive_info(container, Some(options)).await {
        // Put there before, and whole.
        Ok(stat) if u64::try_from(stat.size) == Ok(size) => return Ok(()),
        Ok(_) => {}
        Err(error) if api::has_status(&error, 404) => {}
        Err(error) => return Err(error),
    }
    let mut header = tar::Header::new_gnu();
    header.set_path(EXECUTABLE)?;
    header.set_size(size);
    header.set_mode(0o555);
    header.set_cksum();
    // Not in memory: it is several times as large as everything else here. Two blocks of zeros end an archive.
    let padding = io::repeat(0).take(size.next_multiple_of(512) - size + 1024);
    let archive = Cursor::new(header.as_bytes().to_vec()).chain(executable.take(size)).chain(padding);
    let options = UploadToContainerOptionsBuilder::default().path(VOLUME_IN_CONTAINER).build();
    let body = bollard::body_try_stream(pieces(archive));
    engine.docker.upload_to_container(container, Some(options), body).await
}

fn unusable(what: &str) -> EngineError {
    EngineError::new(EngineErrorKind::Unreachable, what)
}
