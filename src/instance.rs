//! Which dcgi something belongs to, and whether that one still lives.
//!
//! Whatever could be left behind carries its maker's identity: the machine's boot, the PID namespace, the process id
//! and the process's start time. A dcgi on the same boot and in the same PID namespace can tell from `/proc` whether
//! that very process still runs. From anywhere else it cannot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

/// The identity of a process that makes containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// The kernel's boot id, shortened.
    boot: String,
    /// The PID namespace's inode number.
    namespace: String,
    /// The process id in that namespace.
    pid: u32,
    /// When the process started, in clock ticks since the boot: process ids come round again.
    start: u64,
}

/// Whether an instance still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    Alive,
    Dead,
    /// It is on another machine, or in another PID namespace.
    Unknown,
}

impl Instance {
    pub(crate) fn current() -> Self {
        let pid = std::process::id();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/pid")
            .map(|link| link.to_string_lossy().chars().filter(char::is_ascii_digit).collect())
            .unwrap_or_default();
        Self {
            boot: boot.chars().filter(char::is_ascii_hexdigit).take(12).collect(),
            namespace,
            pid,
            start: start_time(pid).ok().flatten().unwrap_or_default(),
        }
    }

    /// It as a word, for a label or a name.
    pub(crate) fn label(&self) -> String {
        format!("{}.{}.{}.{}", self.boot, self.namespace, self.pid, self.start)
    }

    /// Reads a label's value back.
    pub(crate) fn parse(label: &str) -> Option<Self> {
        let mut parts = label.split('.');
        let instance = Self {
            boot: parts.next()?.to_owned(),
            namespace: parts.next()?.to_owned(),
            pid: parts.next()?.parse().ok()?,
            start: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(instance)
    }

    /// A name for a container of this instance. A request may have several, one after the other or at once.
    pub(crate) fn container_name(&self, request_id: &str) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        format!("dcgi-{}-{request_id}-{}", self.pid, COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// What this process can tell of another instance.
    pub(crate) fn liveness_of(&self, other: &Self) -> Liveness {
        if other == self {
            Liveness::Alive
        } else if self.boot.is_empty() || other.boot != self.boot || other.namespace != self.namespace {
            Liveness::Unknown
        } else {
            match start_time(other.pid) {
                Ok(Some(start)) if start == other.start => Liveness::Alive,
                Ok(_) => Liveness::Dead,
                Err(_) => Liveness::Unknown,
            }
        }
    }
}

/// When a process started, in clock ticks since the boot: field 22 of `/proc/PID/stat`, see proc(5). `None` where
/// there is no such process any more, or a zombie, which will do nothing.
///
/// # Errors
/// Where it cannot be told: other users' processes may be hidden (`hidepid`), or descriptors have run out.
fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if is_no_process(&error) => {
            // Process 1 is another user's. Who sees it sees them all.
            fs::read_to_string("/proc/1/stat")?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let fields = || {
        // The command's name, field 2, may itself hold spaces and parentheses.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        Some((state, fields.nth(18)?.parse().ok()?))
    };
    match fields() {
        Some(("Z" | "X", _)) => Ok(None),
        Some((_, start)) => Ok(Some(start)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The file is not there, or the process went while it was read (ESRCH, 3).
fn is_no_process(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_reads_back_as_the_instance_that_wrote_it() {
        let own = Instance::current();
        assert_eq!(Instance::parse(&own.label()), Some(own));
    }

    #[test]
    fn this_process_is_alive() {
        let own = Instance::current();
        let seen = Instance { pid: own.pid, ..own.clone() };
        assert_eq!(own.liveness_of(&seen), Liveness::Alive);
    }

    #[test]
    fn a_parent_process_is_alive() {
        let own = Instance::current();
        let parent = std::os::unix::process::parent_id();
        let parent = Instance { pid: parent, start: start_time(parent).unwrap().unwrap(), ..own.clone() };
        assert_eq!(own.liveness_of(&parent), Liveness::Alive);
    }

    #[test]
    fn a_process_id_that_came_round_again_is_dead() {
        let own = Instance::current();
        let earlier = Instance { start: own.start.wrapping_sub(1), ..own.clone() };
        assert_eq!(own.liveness_of(&earlier), Liveness::Dead);
    }

    #[test]
    fn an_ended_process_is_dead_even_before_it_is_reaped() {
        let own = Instance::current();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let start = start_time(child.id()).unwrap().unwrap();
        let other = Instance { pid: child.id(), start, ..own.clone() };
        assert_eq!(own.liveness_of(&other), Liveness::Alive);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(own.liveness_of(&other), Liveness::Dead);
    }

    #[test]
    fn of_another_boot_nothing_is_known() {
        let own = Instance::current();
        let other = Instance { boot: "0123456789ab".into(), ..own.clone() };
        assert_eq!(own.liveness_of(&other), Liveness::Unknown);
    }

    #[test]
    fn a_label_of_another_form_is_no_instance() {
        for label in ["", "x", "a.b.c.d", "a.1.2.3.4", "a.1.2"] {
            assert_eq!(Instance::parse(label), None, "{label}");
        }
    }
}
