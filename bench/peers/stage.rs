//! What a run puts into the world, and takes away again however it ends: processes, a folder, containers, images.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};

/// How long a server may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is there now.
#[derive(Debug)]
struct Props {
    /// Leaders of process groups.
    processes: Vec<Pid>,
    folder: Option<PathBuf>,
    /// crun's folder of states.
    crun: Option<PathBuf>,
    docker: Option<Docker>,
}

/// What is to be removed from Docker, and what was there before.
#[derive(Debug)]
struct Docker {
    images: Vec<String>,
    volumes: String,
}

static PROPS: Mutex<Props> =
    Mutex::new(Props { processes: Vec::new(), folder: None, crun: None, docker: None });

/// Whether nothing is to begin any more.
static ENDING: AtomicBool = AtomicBool::new(false);

/// What has begun outside of the processes that the stage knows.
static BUSY: AtomicUsize = AtomicUsize::new(0);

fn props() -> MutexGuard<'static, Props> {
    PROPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Dropped, also by a panic, it clears everything away.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) folder: PathBuf,
}

impl Stage {
    /// A new folder; and a thread that clears the stage and ends the process when a signal asks for it.
    pub(crate) fn set() -> Self {
        let folder = tempfile::Builder::new().prefix("dcgi-peers-").tempdir().unwrap().keep();
        // Programs may run as another user.
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        props().folder = Some(folder.clone());
        std::thread::spawn(|| {
            await_signal().unwrap();
            clear();
            std::process::exit(130);
        });
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        clear();
    }
}

fn await_signal() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        Ok(())
    })
}

/// Starts a process in a group of its own, which ends with the stage: a server that forks need not end its children.
pub(crate) fn start(command: &mut Command) -> Child {
    start_fed(command.stdin(Stdio::null()))
}

/// The same for one that reads.
pub(crate) fn start_fed(command: &mut Command) -> Child {
    // Before the lock is let go of, or a signal could miss it.
    let mut props = props();
    let child = command.process_group(0).spawn();
    let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    props.processes.push(Pid::from_child(&child));
    child
}

/// Waits for a process that ends by itself. Its number may be another's from here on.
pub(crate) fn ended(mut child: Child) -> ExitStatus {
    let pid = Pid::from_child(&child);
    // Seen as ended, but not yet waited for: nobody else has its number while it is forgotten.
    while runs(pid) {
        std::thread::sleep(Duration::from_millis(1));
    }
    props().processes.retain(|process| *process != pid);
    child.wait().unwrap()
}

/// Does something that the stage is not cleared under, or, where it is being cleared, nothing.
pub(crate) fn undisturbed<T>(work: impl FnOnce() -> T) -> Option<T> {
    struct Busy;
    impl Drop for Busy {
        fn drop(&mut self) {
            BUSY.fetch_sub(1, Ordering::SeqCst);
        }
    }
    BUSY.fetch_add(1, Ordering::SeqCst);
    let busy = Busy;
    let result = (!ENDING.load(Ordering::SeqCst)).then(work);
    drop(busy);
    result
}

/// The label of containers that are to be removed in the end, whoever has made them.
pub(crate) fn label() -> String {
    format!("dcgi-bench.peers={}", std::process::id())
}

/// Images that are to be removed in the end. Containers with the label, and volumes that are new, are so anyway.
pub(crate) fn remember_docker(images: Vec<String>) {
    props().docker = Some(Docker { images, volumes: docker(&VOLUMES) });
}

pub(crate) fn remember_crun(state: &Path) {
    props().crun = Some(state.to_owned());
}

/// dcgi's agent is in one, which it leaves for the next dcgi.
const VOLUMES: [&str; 5] = ["volume", "ls", "--quiet", "--filter", "name=dcgi-agent-"];

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn clear() {
    ENDING.store(true, Ordering::SeqCst);
    let mut props = props();
    let processes = std::mem::take(&mut props.processes);
    for leader in &processes {
        _ = kill_process_group(*leader, Signal::TERM);
    }
    let deadline = Instant::now() + PATIENCE;
    let unfinished = || BUSY.load(Ordering::SeqCst) > 0 || processes.iter().any(|pid| runs(*pid));
    while unfinished() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    for leader in processes {
        _ = kill_process_group(leader, Signal::KILL);
        _ = waitpid(Some(leader), WaitOptions::empty());
    }
    if let Some(state) = props.crun.take() {
        super::crun::remove_all(&state);
    }
    if let Some(docker) = props.docker.take() {
        docker.clear();
    }
    if let Some(folder) = props.folder.take() {
        remove(&folder);
    }
}

impl Docker {
    fn clear(&self) {
        let label = format!("label={}", label());
        let containers = docker(&["ps", "--all", "--quiet", "--filter", &label]);
        for container in containers.lines() {
            docker(&["rm", "--force", container]);
        }
        for image in &self.images {
            docker(&["image", "rm", image]);
        }
        for volume in docker(&VOLUMES).lines().filter(|name| !self.volumes.lines().any(|old| old == *name)) {
            docker(&["volume", "rm", volume]);
        }
    }
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        eprintln!("peers: {} is left behind: {error}", folder.display());
    }
}

/// Whether a child has not ended yet. Until it is waited for, its number is nobody else's.
fn runs(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
