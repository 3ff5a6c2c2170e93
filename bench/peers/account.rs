//! What a server uses of the machine: proc(5) is asked about its processes and those that they have started.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often processes are looked at while they work.
const INTERVAL: Duration = Duration::from_millis(200);

/// A process, as `/proc/PID/stat` has it.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
    parent: u32,
    /// With the process id, it names a process for good.
    started: u64,
    /// Its own processor time and that of the children it has waited for, in ticks.
    ticks: u64,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may have blanks and brackets in it.
        let (begin, rest) = stat.rsplit_once(") ")?;
        let name = begin.split_once('(')?.1.to_owned();
        let fields: Vec<u64> = rest.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
        // `rest` begins with the third field of the manual: ppid is the 4th, utime to cstime the 14th to the 17th.
        let ticks = fields.get(11..15)?.iter().sum();
        Some(Self { pid, name, parent: *fields.get(1)? as u32, started: *fields.get(19)?, ticks })
    }
}

/// The processes with these ids, and all below them.
pub(crate) fn tree(roots: &[u32]) -> Vec<Process> {
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut children: HashMap<u32, Vec<Process>> = HashMap::new();
    let mut found = Vec::new();
    for process in pids.filter_map(Process::read) {
        if roots.contains(&process.pid) {
            found.push(process);
        } else {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut next = 0;
    while let Some(process) = found.get(next) {
        found.extend(children.remove(&process.pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// The processor time that processes and their children use while something is done, in seconds.
pub(crate) fn processor_time<T>(roots: &[u32], work: impl FnOnce() -> T) -> (T, f64) {
    let done = AtomicBool::new(false);
    let before = total(&tree(roots));
    let (result, after) = std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            // A slot's time is nobody's when it ends, for the zygote does not wait for it: it is remembered here.
            let mut slots: HashMap<(u32, u64), u64> = HashMap::new();
            loop {
                let last = done.load(Ordering::Acquire);
                let alive = tree(roots);
                for slot in alive.iter().filter(|process| process.name == "dcgi-slot") {
                    slots.insert((slot.pid, slot.started), slot.ticks);
                }
                if last {
                    let ended = slots.iter().filter(|(key, _)| {
                        !alive.iter().any(|process| (process.pid, process.started) == **key)
                    });
                    return total(&alive) + ended.map(|(_, ticks)| ticks).sum::<u64>();
                }
                std::thread::sleep(INTERVAL);
            }
        });
        // Also where the work panics, or the scope would wait for ever.
        let end = Done(&done);
        let result = work();
        drop(end);
        (result, counting.join().unwrap())
    });
    (result, after.saturating_sub(before) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Says so when it is dropped.
#[derive(Debug)]
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn total(processes: &[Process]) -> u64 {
    processes.iter().map(|process| process.ticks).sum()
}

/// Resident memory of one process, in MiB.
pub(crate) fn resident(pid: u32) -> f64 {
    kibibytes(&format!("/proc/{pid}/status"), "VmRSS:").expect("the process lives") / 1024.0
}

/// What processes hold together, in MiB; what several share counts once. `None` where one may not be looked at.
pub(crate) fn proportional(processes: &[Process]) -> Option<f64> {
    let each =
        processes.iter().map(|process| kibibytes(&format!("/proc/{}/smaps_rollup", process.pid), "Pss:"));
    Some(each.sum::<Option<f64>>()? / 1024.0)
}

fn kibibytes(file: &str, field: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// How many cgroups a dcgi has for its slots, in all trees together.
pub(crate) fn cgroups(pid: u32) -> usize {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut count = 0;
    for line in own.lines() {
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { continue };
        for mount in mounts.lines() {
            let [_, place, kind, options, ..] = mount.split(' ').collect::<Vec<_>>()[..] else { continue };
            let fits = match kind {
                "cgroup2" => controllers.is_empty(),
                "cgroup" => {
                    !controllers.is_empty()
                        && controllers.split(',').all(|one| options.split(',').any(|option| option == one))
                }
                _ => false,
            };
            if fits {
                count += slots(&Path::new(place).join(path.trim_start_matches('/')).join("dcgi"), pid);
            }
        }
    }
    count
}

/// Groups are `BOOT.NAMESPACE.PID.START-ENGINE/SLOT`.
fn slots(folder: &Path, pid: u32) -> usize {
    let folders = |path: PathBuf| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir())
    };
    let ours = folders(folder.to_owned()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.split('.').nth(2) == Some(pid.to_string().as_str())
    });
    ours.map(|path| folders(path).count()).sum()
}
