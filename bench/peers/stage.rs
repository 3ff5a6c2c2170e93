//! What a run puts into the world, and takes away again however it ends: processes, a folder, an image.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};

/// How long a server may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is there now.
#[derive(Debug, Default)]
struct Props {
    /// Leaders of process groups.
    processes: Vec<Pid>,
    folder: Option<PathBuf>,
    /// Docker's.
    image: Option<&'static str>,
}

static PROPS: Mutex<Props> = Mutex::new(Props { processes: Vec::new(), folder: None, image: None });

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
    // Before the lock is let go of, or a signal could miss it.
    let mut props = props();
    let child = command.process_group(0).stdin(Stdio::null()).spawn();
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

/// An image of Docker's that is to be removed in the end.
pub(crate) fn remember_image(name: &'static str) {
    props().image = Some(name);
}

fn clear() {
    let mut props = props();
    let processes = std::mem::take(&mut props.processes);
    for leader in &processes {
        _ = kill_process_group(*leader, Signal::TERM);
    }
    let deadline = Instant::now() + PATIENCE;
    while processes.iter().any(|pid| runs(*pid)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    for leader in processes {
        _ = kill_process_group(leader, Signal::KILL);
        _ = waitpid(Some(leader), WaitOptions::empty());
    }
    if let Some(image) = props.image.take() {
        _ = Command::new("docker").args(["image", "rm", image]).stdout(Stdio::null()).status();
    }
    if let Some(folder) = props.folder.take() {
        remove(&folder);
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
