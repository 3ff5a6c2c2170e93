//! What a server uses of the machine: proc(5) is asked about its processes and those that they have started.

use std::collections::HashMap;
use std::fs;
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
    /// Its own processor time, in ticks.
    own_ticks: u64,
    /// The same with that of the children it has waited for.
    ticks: u64,
    /// Its resident memory, in pages.
    pages: u64,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may have blanks and brackets in it.
        let (begin, rest) = stat.rsplit_once(") ")?;
        let name = begin.split_once('(')?.1.to_owned();
        let fields: Vec<u64> = rest.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
        // `rest` begins with the third field of the manual: ppid is the 4th, utime to cstime the 14th to the 17th.
        Some(Self {
            pid,
            name,
            parent: *fields.get(1)? as u32,
            started: *fields.get(19)?,
            own_ticks: fields.get(11..13)?.iter().sum(),
            ticks: fields.get(11..15)?.iter().sum(),
            pages: *fields.get(21)?,
        })
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

/// What has been used while something was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time of processes and of all that they have started, in seconds.
    pub(crate) together: f64,
    /// Of the first process alone.
    pub(crate) own: f64,
    /// Of the whole machine, whoever used it.
    pub(crate) machine: f64,
    /// The peak of the processes' own resident memory, in MiB.
    pub(crate) peak: f64,
    /// The most that was seen of theirs and of all that they have started. What several share counts for each.
    pub(crate) peak_together: f64,
}

/// What processes and their children use while something is done.
pub(crate) fn observe<T>(roots: &[u32], work: impl FnOnce() -> T) -> (T, Usage) {
    let done = AtomicBool::new(false);
    roots.iter().copied().for_each(forget_peak);
    let begin = tree(roots);
    let machine = machine_ticks();
    let (result, (after, alive, pages)) = std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            // A slot's time is nobody's when it ends, for the zygote does not wait for it: it is remembered here.
            let mut slots: HashMap<(u32, u64), u64> = HashMap::new();
            let mut most = 0;
            loop {
                let last = done.load(Ordering::Acquire);
                let alive = tree(roots);
                most = most.max(alive.iter().map(|process| process.pages).sum::<u64>());
                for slot in alive.iter().filter(|process| process.name == "dcgi-slot") {
                    slots.insert((slot.pid, slot.started), slot.ticks);
                }
                if last {
                    let ended = slots.iter().filter(|(key, _)| {
                        !alive.iter().any(|process| (process.pid, process.started) == **key)
                    });
                    let after = total(&alive) + ended.map(|(_, ticks)| ticks).sum::<u64>();
                    return (after, alive, most);
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
    let own = |processes: &[Process]| {
        let first = processes.iter().find(|process| Some(&process.pid) == roots.first());
        first.map_or(0, |process| process.own_ticks)
    };
    let seconds = |after: u64, before: u64| seconds(after.saturating_sub(before));
    let peak = roots.iter().filter_map(|pid| memory(*pid, "VmHWM:")).sum();
    let seen = (pages * rustix::param::page_size() as u64) as f64 / f64::from(1 << 20);
    let usage = Usage {
        together: seconds(after, total(&begin)),
        own: seconds(own(&alive), own(&begin)),
        machine: seconds(machine_ticks(), machine),
        peak,
        // Looks are taken now and then: a peak may be between them.
        peak_together: seen.max(peak),
    };
    (result, usage)
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Has the kernel take the peak of a process's memory from here on (proc(5), `clear_refs`).
fn forget_peak(pid: u32) {
    _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// What no processor was idle for, since the machine has started.
fn machine_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> =
        line.split_ascii_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, (idle, iowait,) irq, softirq
    [0, 1, 2, 5, 6].iter().filter_map(|field| fields.get(*field)).sum()
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
    memory(pid, "VmRSS:").expect("the process lives")
}

fn memory(pid: u32, field: &str) -> Option<f64> {
    Some(kibibytes(&format!("/proc/{pid}/status"), field)? / 1024.0)
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
