//! Processes of a container that the engine takes for ended.
//!
//! Where the program is process 1 itself (`init = false`), its parent is the engine's. That takes any word of wait(2) for its
//! end: a program that has its parent trace it, and stops, counts as ended while it runs, and is no container's any more. By
//! its control groups it still is.
//!
//! A dcgi that is not root may see such a process, and not kill it: then that is said, and the answer still not taken for
//! whole.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Kills what runs in the control groups of a container, by its full id: whether anything did. On this machine, and where its
/// processes are seen from here. Looks at every process: for containers without
/// an agent, and for those that do not end.
///
/// # Cancel safety
/// Not cancel safe: it ends in the background.
pub(super) async fn kill(id: String) -> bool {
    let unable = |id: &str, pid: Pid, errno| {
        tracing::warn!(
            pid = pid.as_raw_nonzero(),
            container = id,
            "a program that has itself traced goes on behind its container's end, and is not to be killed from here: \
             {errno}; `kill` it as root, or run dcgi as root"
        );
    };
    tokio::task::spawn_blocking(move || kill_now(&id, unable).unwrap_or(false)).await.unwrap_or(false)
}

/// The same for a container that the engine is about to remove, and has not yet. That may be for want of time alone.
///
/// # Cancel safety
/// As [`kill`].
pub(super) async fn kill_overdue(id: String) {
    let unable = |id: &str, pid: Pid, errno| {
        tracing::debug!(
            pid = pid.as_raw_nonzero(),
            container = id,
            "it is not to be killed from here: {errno}"
        );
    };
    _ = tokio::task::spawn_blocking(move || kill_now(&id, unable)).await;
}

fn kill_now(id: &str, unable: impl Fn(&str, Pid, Errno)) -> io::Result<bool> {
    let mut has_found = false;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(number) = number.filter(|number| is_in(*number, id)) else { continue };
        // SECURITY: the number may be another's by now, and is ours to kill only if its groups are still the container's.
        let Ok(process) = pidfd_open(number, PidfdFlags::empty()) else { continue };
        if !is_in(number, id) {
            continue;
        }
        has_found = true;
        match pidfd_send_signal(&process, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => unable(id, number, errno),
        }
    }
    Ok(has_found)
}

/// Whether a process that has not ended is in a control group of this name: `…/docker/ID`, `…/docker-ID.scope`.
fn is_in(process: Pid, id: &str) -> bool {
    let of = |file: &str| {
        fs::read_to_string(format!("/proc/{}/{file}", process.as_raw_nonzero())).unwrap_or_default()
    };
    of("cgroup").contains(id) && !has_ended(&of("stat"))
}

/// By proc_pid_stat(5): the state, and the number of threads. The first of them may have ended while others go on.
fn has_ended(stat: &str) -> bool {
    let Some((_, fields)) = stat.rsplit_once(')') else { return true };
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    let has_one_thread = fields.get(17).is_none_or(|threads| matches!(*threads, "0" | "1"));
    fields.first().is_none_or(|state| matches!(*state, "Z" | "X")) && has_one_thread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_ended_when_all_of_its_threads_have() {
        let stat =
            |state, threads| format!("7 (a) b) {state} 1 5 3 0 -1 64 9 9 9 9 9 9 9 9 20 0 {threads} 0 9");
        assert!(has_ended(""));
        assert!(has_ended(&stat("Z", 1)));
        assert!(!has_ended(&stat("Z", 2)));
        assert!(!has_ended(&stat("t", 1)));
    }
}
