//! Limits on memory, processors and processes: control groups of version 1, 2, or both beside each other.
//!
//! Each slot has a group of its own below the group that dcgi itself is in, so whatever bounds dcgi bounds its programs:
//! `…/dcgi/INSTANCE-ENGINE/N`. Version 1 has a tree a controller, version 2 one for all. A controller is used where we may make
//! groups in its tree; what cannot be enforced is known when the engine starts, and said.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::engine::Program;
use crate::instance::{Instance, Liveness};

/// The length of a period in which processor time is counted, in microseconds: the kernel's and Docker's own default.
const PERIOD: u64 = 100_000;

/// The processes of the launcher that live in a slot's group beside the program: the slot. The init counts as the
/// program's, as under Docker.
const OWN_PROCESSES: u64 = 1;

/// Pauses between tries to remove a group whose last process has just gone.
const REMOVE_PAUSE: Duration = Duration::from_millis(5);
const REMOVE_TRIES: u32 = 400;

/// A kind of limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    /// The kernel's name for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }

    /// The key of a route that it enforces.
    pub(super) fn key(self) -> &'static str {
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
pub(super) struct Cgroups {
    trees: Vec<Tree>,
    /// The controllers that cannot be used, and why.
    unavailable: Vec<(Controller, String)>,
    count: AtomicU64,
    removals: TaskTracker,
    /// Who looks for what the dead have left.
    instance: Instance,
    /// Groups of ours that would not go: a process in them sleeps where no signal reaches it.
    stubborn: Mutex<Vec<PathBuf>>,
}

impl Cgroups {
    /// Finds out what can be used, and removes the groups of instances that are dead.
    pub(super) fn discover(instance: &Instance, removals: TaskTracker) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        // A process may have several engines.
        static ENGINES: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-{}", instance.label(), ENGINES.fetch_add(1, Ordering::Relaxed));
        let mut trees: Vec<Tree> = Vec::new();
        let mut unavailable = Vec::new();
        for controller in Controller::ALL {
            match find(controller, &mounts, &own).and_then(|place| place.prepare(controller, instance, &name))
            {
                Ok((version, folder)) => match trees.iter_mut().find(|tree| tree.folder == folder) {
                    Some(tree) => tree.controllers.push(controller),
                    None => trees.push(Tree { version, controllers: vec![controller], folder }),
                },
                Err(why) => unavailable.push((controller, why)),
            }
        }
        Self {
            trees,
            unavailable,
            count: AtomicU64::new(0),
            removals,
            instance: instance.clone(),
            stubborn: Mutex::default(),
        }
    }

    /// Removes the groups of instances that are dead. To be called now and then: a process that was killed may still be
    /// on its way out when the next one starts.
    pub(super) fn sweep(&self) {
        for shared in self.trees.iter().filter_map(|tree| tree.folder.parent()) {
            sweep(shared, &self.instance);
        }
        self.stubborn.lock().unwrap_or_else(PoisonError::into_inner).retain(|folder| !removed(folder));
    }

    /// What cannot be enforced, in sentences for an operator.
    pub(super) fn shortcomings(&self) -> Vec<String> {
        let unavailable = self.unavailable.iter();
        unavailable
            .map(|(controller, why)| {
                format!("`{}` cannot be enforced, containers are not limited in it: {why}", controller.key())
            })
            .collect()
    }

    /// Makes a group with a program's limits in every tree.
    ///
    /// # Errors
    /// Where a directory cannot be made, or the kernel refuses a limit: with its name.
    pub(super) fn create(self: &Arc<Self>, program: &Program) -> Result<Group, CgroupError> {
        let name = self.count.fetch_add(1, Ordering::Relaxed).to_string();
        let mut group =
            Group { cgroups: self.clone(), folders: Vec::new(), oom_kills: None, oom_kills_before: 0 };
        for tree in &self.trees {
            let folder = tree.folder.join(&name);
            fs::create_dir(&folder).map_err(|error| CgroupError::new(&folder, error))?;
            group.folders.push(folder.clone());
            for controller in &tree.controllers {
                for (file, value) in settings(tree.version, *controller, program) {
                    let path = folder.join(file);
                    match fs::write(&path, value) {
                        Ok(()) => {}
                        // Swap is not counted on every kernel; then there is none to be bounded, or it cannot be.
                        Err(error) if error.kind() == io::ErrorKind::NotFound && file.contains("sw") => {}
                        Err(error) => return Err(CgroupError::new(&path, error)),
                    }
                }
                if *controller == Controller::Memory {
                    group.oom_kills = Some(folder.join(match tree.version {
                        Version::One => "memory.oom_control",
                        Version::Two => "memory.events",
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
pub(super) struct CgroupError {
    path: PathBuf,
    source: io::Error,
}

impl CgroupError {
    fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_owned(), source }
    }
}

/// The files that set a limit, and what goes into each. In the order in which they must be written.
fn settings(version: Version, controller: Controller, program: &Program) -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    match (controller, version) {
        (Controller::Memory, Version::One) => {
            if let Some(bytes) = program.memory {
                files.push(("memory.limit_in_bytes", bytes.to_string()));
                // Memory and swap together: no swap beside it.
                files.push(("memory.memsw.limit_in_bytes", bytes.to_string()));
            }
        }
        (Controller::Memory, Version::Two) => {
            if let Some(bytes) = program.memory {
                files.push(("memory.max", bytes.to_string()));
                files.push(("memory.swap.max", "0".to_owned()));
            }
        }
        (Controller::Cpu, version) => {
            if let Some(cpus) = program.cpus {
                // The kernel's least quota is a millisecond.
                let quota = ((cpus * PERIOD as f64) as u64).max(1000);
                match version {
                    Version::One => {
                        files.push(("cpu.cfs_period_us", PERIOD.to_string()));
                        files.push(("cpu.cfs_quota_us", quota.to_string()));
                    }
                    Version::Two => files.push(("cpu.max", format!("{quota} {PERIOD}"))),
                }
            }
        }
        (Controller::Pids, _) => {
            if let Some(pids) = program.pids {
                files.push(("pids.max", (u64::from(pids) + OWN_PROCESSES).to_string()));
            }
        }
    }
    files
}

/// A slot's groups. Dropped, they are removed in the background, as soon as the last process has left.
#[derive(Debug)]
pub(super) struct Group {
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
    pub(super) fn doors(&self) -> Result<Vec<fs::File>, CgroupError> {
        let open = |folder: &PathBuf| {
            let path = folder.join("cgroup.procs");
            fs::File::options().write(true).open(&path).map_err(|error| CgroupError::new(&path, error))
        };
        self.folders.iter().map(open).collect()
    }

    /// Whether the kernel has killed a process here for want of memory since the last call. `None`: memory is not
    /// counted.
    pub(super) fn ran_out_of_memory(&mut self) -> Option<bool> {
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

fn removed(folder: &Path) -> bool {
    match fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Where a controller's tree is mounted, and where in it this process is.
struct Place {
    version: Version,
    mount: PathBuf,
    own: PathBuf,
}

fn find(controller: Controller, mounts: &str, own: &str) -> Result<Place, String> {
    let first = find_in(controller, Version::One, mounts, own);
    first
        .or_else(|| find_in(controller, Version::Two, mounts, own))
        .ok_or_else(|| format!("the kernel has no `{}` controller mounted", controller.name()))
}

fn find_in(controller: Controller, version: Version, mounts: &str, own: &str) -> Option<Place> {
    // proc_pid_mountinfo(5): id, parent, device, root, mount point, options, …, `-`, type, source, super options.
    let (root, mount) = mounts.lines().find_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut tail = tail.split(' ');
        let kind = tail.next()?;
        let options = tail.nth(1)?;
        let matches = match version {
            Version::One => kind == "cgroup" && options.split(',').any(|option| option == controller.name()),
            Version::Two => kind == "cgroup2",
        };
        let mut head = head.split(' ').skip(3);
        matches.then_some((head.next()?, head.next()?))
    })?;
    // cgroups(7): hierarchy, controllers, path.
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let matches = match version {
            Version::One => controllers.split(',').any(|name| name == controller.name()),
            Version::Two => controllers.is_empty(),
        };
        matches.then_some(path)
    })?;
    let mount = PathBuf::from(mount);
    let inside = path.strip_prefix(root).unwrap_or(path).trim_start_matches('/');
    let own = if inside.is_empty() { mount.clone() } else { mount.join(inside) };
    if version == Version::Two {
        let available = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        if !available.split_ascii_whitespace().any(|name| name == controller.name()) {
            return None;
        }
    }
    Some(Place { version, mount, own })
}

impl Place {
    /// Makes this instance's directory, where the controller counts.
    fn prepare(
        self,
        controller: Controller,
        instance: &Instance,
        name: &str,
    ) -> Result<(Version, PathBuf), String> {
        let mut refusal = String::new();
        let mut candidates = vec![self.own.clone()];
        if self.own != self.mount {
            if self.version == Version::Two {
                // A group of version 2 that has processes cannot be divided: cgroups(7), "no internal processes". A
                // service manager that hands one over puts the service into a group below it.
                candidates.extend(self.own.parent().map(Path::to_owned));
            }
            // Where our own group is not ours to divide, a system administrator may still use the whole tree.
            candidates.push(self.mount.clone());
        }
        for base in candidates {
            match prepare_below(&base, self.version, controller, instance, name) {
                Ok(folder) => return Ok((self.version, folder)),
                Err(error) if refusal.is_empty() => refusal = format!("{}: {error}", base.display()),
                Err(_) => {}
            }
        }
        Err(refusal)
    }
}

fn prepare_below(
    base: &Path,
    version: Version,
    controller: Controller,
    instance: &Instance,
    name: &str,
) -> io::Result<PathBuf> {
    let shared = base.join("dcgi");
    let folder = shared.join(name);
    if version == Version::Two {
        enable(base, controller)?;
    }
    make(&shared)?;
    if version == Version::Two {
        enable(&shared, controller)?;
    }
    sweep(&shared, instance);
    make(&folder)?;
    if version == Version::Two {
        enable(&folder, controller)?;
    }
    Ok(folder)
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Has a controller count in the groups below one: cgroups(7), `cgroup.subtree_control`.
fn enable(folder: &Path, controller: Controller) -> io::Result<()> {
    let file = folder.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file)?;
    if enabled.split_ascii_whitespace().any(|name| name == controller.name()) {
        return Ok(());
    }
    fs::write(file, format!("+{}", controller.name()))
}

/// Removes what dead instances have left: their processes have ended with them.
fn sweep(shared: &Path, instance: &Instance) {
    for entry in fs::read_dir(shared).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let other = name.to_str().and_then(|name| Instance::parse(name.split_once('-')?.0));
        let dead = other.is_some_and(|other| match instance.liveness_of(&other) {
            Liveness::Dead => true,
            Liveness::Alive => false,
            // Groups do not survive a boot: it is in another PID namespace, and its own to clear.
            Liveness::Unknown => false,
        });
        if dead {
            for group in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                if group.path().is_dir() {
                    _ = fs::remove_dir(group.path());
                }
            }
            _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 /outer /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const HYBRID_OWN: &str = "4:memory:/outer/inner\n1:cpu,cpuacct:/\n0::/x\n";

    #[test]
    fn a_controller_of_version_1_is_found_in_its_own_tree() {
        let place = find(Controller::Cpu, HYBRID_MOUNTS, HYBRID_OWN).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((place.version, place.own.to_str()), (Version::One, Some("/sys/fs/cgroup/cpu")));
        let place = find(Controller::Memory, HYBRID_MOUNTS, HYBRID_OWN).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(place.own.to_str(), Some("/sys/fs/cgroup/memory/inner"));
    }

    #[test]
    fn a_controller_that_is_nowhere_is_named() {
        let why = find(Controller::Pids, "", "").err().unwrap();
        assert_eq!(why, "the kernel has no `pids` controller mounted");
    }

    #[test]
    fn limits_become_the_files_of_each_version() {
        let program = Program { memory: Some(1 << 20), cpus: Some(0.5), pids: Some(10), ..Program::new("x") };
        let files = |version, controller| settings(version, controller, &program);
        assert_eq!(
            files(Version::Two, Controller::Memory),
            [("memory.max", "1048576".to_owned()), ("memory.swap.max", "0".to_owned()),]
        );
        assert_eq!(files(Version::One, Controller::Memory)[0].0, "memory.limit_in_bytes");
        assert_eq!(files(Version::Two, Controller::Cpu), [("cpu.max", "50000 100000".to_owned())]);
        assert_eq!(files(Version::One, Controller::Cpu)[1], ("cpu.cfs_quota_us", "50000".to_owned()));
        assert_eq!(files(Version::One, Controller::Pids), [("pids.max", "11".to_owned())]);
        let unlimited = Program { memory: None, ..program };
        assert_eq!(settings(Version::Two, Controller::Memory, &unlimited), []);
    }
}
