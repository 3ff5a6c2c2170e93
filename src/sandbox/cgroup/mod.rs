//! Limits on memory, processors and processes: control groups of version 1, 2, or both beside each other.
//!
//! Each slot has a group of its own below the group that dcgi itself is in, so whatever bounds dcgi bounds its programs:
//! `…/dcgi/INSTANCE-ENGINE/N`. Version 1 has a tree a controller, version 2 one for all. A controller is used where we may make
//! groups in its tree; what cannot be enforced is known when the engine starts, and said.
//!
//! - `place`: where a controller's tree is, and this instance's directory in it
//! - `v1`, `v2`: what differs between the versions

mod place;
mod v1;
mod v2;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio_util::task::TaskTracker;

use super::spec::Limits;
use crate::instance::Instance;
use place::{find, sweep};

/// The length of a period in which processor time is counted, in microseconds: the kernel's and Docker's own default.
const PERIOD: u64 = 100_000;

/// The processes of the launcher that live in a slot's group beside the program: the slot. The init counts as the
/// program's, as under Docker.
const OWN_PROCESSES: u64 = 1;

/// As many as the kernel numbers, `PID_MAX_LIMIT`: a limit above is none, and refused.
const MOST_PIDS: u64 = 4 << 20;

/// Pauses between tries to remove a group whose last process has just gone.
const REMOVE_PAUSE: Duration = Duration::from_millis(5);
const REMOVE_TRIES: u32 = 400;

/// The try at which what is still in a group is killed: a slot's own end takes a few milliseconds, so this holds on.
const KILL_AT_TRY: u32 = 20;

/// The processes of a group, in every version.
const PROCESSES: &str = "cgroup.procs";

/// A kind of limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    /// The kernel's name for it.
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }

    /// The key of a route that it enforces.
    fn key(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpus",
            Self::Pids => "pids",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// A tree in which slots have groups.
#[derive(Clone, Debug)]
struct Tree {
    version: Version,
    /// The controllers that count in it.
    controllers: Vec<Controller>,
    /// This engine's own directory in it.
    folder: PathBuf,
}

/// The trees that can be used, and this instance's groups in them.
#[derive(Debug)]
pub(crate) struct Cgroups {
    trees: Vec<Tree>,
    /// The controllers that cannot be used, and why.
    unavailable: Vec<(Controller, String)>,
    /// Why TCP buffers are bounded by nothing, where they are not.
    uncounted: Option<String>,
    count: AtomicU64,
    removals: TaskTracker,
    /// Who looks for what the dead have left.
    instance: Instance,
    /// Groups of ours that would not go: a process in them sleeps where no signal reaches it.
    stubborn: Mutex<Vec<PathBuf>>,
}

impl Cgroups {
    /// Finds out what can be used, and removes the groups of instances that are dead.
    pub(crate) fn discover(instance: &Instance, removals: TaskTracker) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        // A process may have several engines.
        static ENGINES: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-{}", instance.label(), ENGINES.fetch_add(1, Ordering::Relaxed));
        let mut trees: Vec<Tree> = Vec::new();
        let mut unavailable = Vec::new();
        let mut uncounted = None;
        for controller in Controller::ALL {
            match find(controller, &mounts, &own).and_then(|place| place.prepare(controller, instance, &name))
            {
                Ok((version, folder)) => {
                    if (controller, version) == (Controller::Memory, Version::One) {
                        uncounted = v1::count_tcp_buffers(&folder)
                            .err()
                            .map(|error| format!("{}: {error}", folder.join(v1::TCP_BUFFERS).display()));
                    }
                    match trees.iter_mut().find(|tree| tree.folder == folder) {
                        Some(tree) => tree.controllers.push(controller),
                        None => trees.push(Tree { version, controllers: vec![controller], folder }),
                    }
                }
                Err(why) => unavailable.push((controller, why)),
            }
        }
        Self {
            trees,
            unavailable,
            uncounted,
            count: AtomicU64::new(0),
            removals,
            instance: instance.clone(),
            stubborn: Mutex::default(),
        }
    }

    /// Removes the groups of instances that are dead. To be called now and then: a process that was killed may still be
    /// on its way out when the next one starts.
    pub(crate) fn sweep(&self) {
        for shared in self.trees.iter().filter_map(|tree| tree.folder.parent()) {
            sweep(shared, &self.instance);
        }
        self.stubborn.lock().unwrap_or_else(PoisonError::into_inner).retain(|folder| {
            kill(folder);
            !removed(folder)
        });
    }

    /// What cannot be enforced, in sentences for an operator.
    pub(crate) fn shortcomings(&self) -> Vec<String> {
        let unavailable = self.unavailable.iter().map(|(controller, why)| {
            format!("`{}` cannot be enforced, containers are not limited in it: {why}", controller.key())
        });
        let uncounted = self
            .uncounted
            .iter()
            .map(|why| format!("`memory` does not bound what lies in TCP buffers: {why}"));
        unavailable.chain(uncounted).collect()
    }

    /// Makes a group with limits in every tree.
    ///
    /// # Errors
    /// Where a directory cannot be made, or the kernel refuses a limit: with its name.
    pub(crate) fn create(self: &Arc<Self>, limits: &Limits) -> Result<Group, CgroupError> {
        let name = self.count.fetch_add(1, Ordering::Relaxed).to_string();
        let mut group =
            Group { cgroups: self.clone(), folders: Vec::new(), oom_kills: None, oom_kills_before: 0 };
        for tree in &self.trees {
            let folder = tree.folder.join(&name);
            fs::create_dir(&folder).map_err(|error| CgroupError::new(&folder, error))?;
            group.folders.push(folder.clone());
            for controller in &tree.controllers {
                for (file, value) in settings(tree.version, *controller, limits) {
                    let path = folder.join(file);
                    match set(&path, &value) {
                        Ok(()) => {}
                        Err(error) if error.kind() == io::ErrorKind::NotFound && is_optional(file) => {}
                        Err(error) => return Err(CgroupError::new(&path, error)),
                    }
                }
                if *controller == Controller::Memory {
                    group.oom_kills = Some(folder.join(match tree.version {
                        Version::One => v1::OOM_KILLS,
                        Version::Two => v2::OOM_KILLS,
                    }));
                }
            }
        }
        Ok(group)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for tree in &self.trees {
            _ = fs::remove_dir(&tree.folder);
            // Shared with other instances: the last one removes it.
            _ = tree.folder.parent().map(fs::remove_dir);
        }
    }
}

/// A group of a limit could not be made.
#[derive(Debug, thiserror::Error)]
#[error("setting up {}", path.display())]
pub(crate) struct CgroupError {
    path: PathBuf,
    source: io::Error,
}

impl CgroupError {
    fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_owned(), source }
    }
}

/// The files that set a limit, and what goes into each. In the order in which they must be written.
fn settings(version: Version, controller: Controller, limits: &Limits) -> Vec<(&'static str, String)> {
    match (controller, version) {
        (Controller::Memory, Version::One) => limits.memory.map(v1::memory).unwrap_or_default(),
        (Controller::Memory, Version::Two) => limits.memory.map(v2::memory).unwrap_or_default(),
        (Controller::Cpu, Version::One) => limits.cpus.map(quota).map(v1::cpu).unwrap_or_default(),
        (Controller::Cpu, Version::Two) => limits.cpus.map(quota).map(v2::cpu).unwrap_or_default(),
        // The same in both.
        (Controller::Pids, _) => {
            let most = limits.pids.map(|pids| (u64::from(pids) + OWN_PROCESSES).min(MOST_PIDS).to_string());
            most.map(|most| ("pids.max", most)).into_iter().collect()
        }
    }
}

/// Whether a kernel may be without the file. Swap is not counted on every one: then there is none to be bounded, or it
/// cannot be. That TCP buffers are not is a shortcoming that is told.
fn is_optional(file: &str) -> bool {
    file.contains("sw") || file == v1::TCP_BUFFERS
}

/// How much processor time there is in a [`PERIOD`], in microseconds.
fn quota(cpus: f64) -> u64 {
    // The kernel's least is a millisecond.
    ((cpus * PERIOD as f64) as u64).max(1000)
}

/// A slot's groups. Dropped, they are removed in the background, as soon as the last process has left.
#[derive(Debug)]
pub(crate) struct Group {
    cgroups: Arc<Cgroups>,
    folders: Vec<PathBuf>,
    oom_kills: Option<PathBuf>,
    /// How many there had been when somebody last asked.
    oom_kills_before: u64,
}

impl Group {
    /// The files into which a process writes `0` to join.
    ///
    /// # Errors
    /// Where one cannot be opened.
    pub(crate) fn doors(&self) -> Result<Vec<fs::File>, CgroupError> {
        let open = |folder: &PathBuf| {
            let path = folder.join(PROCESSES);
            fs::File::options().write(true).open(&path).map_err(|error| CgroupError::new(&path, error))
        };
        self.folders.iter().map(open).collect()
    }

    /// Kills all that is in it.
    ///
    /// # Cancel safety
    /// Not cancel safe: it ends in the background.
    pub(crate) async fn kill(&self) {
        let folders = self.folders.clone();
        _ = tokio::task::spawn_blocking(move || folders.iter().for_each(|folder| kill(folder))).await;
    }

    /// Whether the kernel has killed a process here for want of memory since the last call. `None`: memory is not
    /// counted.
    pub(crate) fn ran_out_of_memory(&mut self) -> Option<bool> {
        let file = fs::read_to_string(self.oom_kills.as_ref()?).ok()?;
        // The same line in the files of both versions.
        let count = file.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()?;
        Some(std::mem::replace(&mut self.oom_kills_before, count) < count)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let folders = std::mem::take(&mut self.folders);
        let remaining: Vec<_> = folders.into_iter().filter(|folder| !removed(folder)).collect();
        if remaining.is_empty() {
            return;
        }
        let cgroups = self.cgroups.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        cgroups.removals.clone().spawn_on(
            async move {
                for folder in remaining {
                    let mut tries = 0;
                    while !removed(&folder) {
                        tries += 1;
                        if tries >= KILL_AT_TRY {
                            // What it forks meanwhile is there at the next try. It may be thousands.
                            let folder = folder.clone();
                            _ = tokio::task::spawn_blocking(move || kill(&folder)).await;
                        }
                        if tries == REMOVE_TRIES {
                            cgroups.stubborn.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
                            break;
                        }
                        tokio::time::sleep(REMOVE_PAUSE).await;
                    }
                }
            },
            &runtime,
        );
    }
}

/// How many processes are killed at a time where the kernel does not kill all of a group at once.
const AT_ONCE: usize = 64;

/// Kills what is in a group, in whichever PID namespace of this one it is: it has got away from its slot.
fn kill(folder: &Path) {
    // All at once, from Linux 5.14 on.
    if set(&folder.join(v2::KILL), "1").is_ok() {
        return;
    }
    let listed = || -> BTreeSet<_> {
        fs::read_to_string(folder.join(PROCESSES)).unwrap_or_default().lines().map(str::to_owned).collect()
    };
    let open = |pid: String| {
        let number = Pid::from_raw(pid.parse().ok()?)?;
        Some((pidfd_open(number, PidfdFlags::empty()).ok()?, pid))
    };
    // Some at a time: each takes a descriptor.
    let mut pids = listed().into_iter().peekable();
    while pids.peek().is_some() {
        let opened: Vec<_> = pids.by_ref().take(AT_ONCE).filter_map(open).collect();
        // SECURITY: by now a number may be another's, whom it named before it was opened too, if it is listed no more.
        let still = listed();
        for (process, _) in opened.iter().filter(|(_, pid)| still.contains(pid)) {
            _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}

/// Writes to a file of the kernel's. Where it is not there it is not made: that the kernel refuses, and not as missing.
fn set(file: &Path, value: &str) -> io::Result<()> {
    fs::File::options().write(true).open(file)?.write_all(value.as_bytes())
}

fn removed(folder: &Path) -> bool {
    match fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_kernel_has_not_is_missing_and_not_refused() {
        // As root is refused to make one in a file system of the kernel's.
        let error = set(Path::new("/proc/self/memory.swap.max"), "0").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn limits_become_the_files_of_each_version() {
        let limits = Limits { memory: Some(1 << 20), cpus: Some(0.5), pids: Some(10) };
        let files = |version, controller| settings(version, controller, &limits);
        assert_eq!(
            files(Version::Two, Controller::Memory),
            [("memory.max", "1048576".to_owned()), ("memory.swap.max", "0".to_owned()),]
        );
        let of_version_1 =
            ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes"];
        assert_eq!(
            files(Version::One, Controller::Memory),
            of_version_1.map(|file| (file, "1048576".to_owned()))
        );
        assert_eq!(files(Version::Two, Controller::Cpu), [("cpu.max", "50000 100000".to_owned())]);
        assert_eq!(files(Version::One, Controller::Cpu)[1], ("cpu.cfs_quota_us", "50000".to_owned()));
        assert_eq!(files(Version::One, Controller::Pids), [("pids.max", "11".to_owned())]);
        let many = Limits { pids: Some(u32::MAX), ..limits };
        assert_eq!(settings(Version::Two, Controller::Pids, &many), [("pids.max", "4194304".to_owned())]);
        let unlimited = Limits { memory: None, ..limits };
        assert_eq!(settings(Version::Two, Controller::Memory, &unlimited), []);
    }
}
