//! Processes of a container that the engine takes for ended.
//!
//! Where the program is process 1 itself (`init = false`), its parent is the engine's. That takes any word of wait(2) for its
//! end: a program that has its parent trace it, and stops, counts as ended while it runs, and is no container's any more. By
//! its control groups it still is.

use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Kills what runs in the control groups of a container, by its full id: whether anything did. On this machine, and where its
/// processes are seen from here. Looks at every process: for containers without an agent alone.
///
/// # Cancel safety
/// Not cancel safe: it ends in the background.
pub(super) async fn kill(id: String) -> bool {
    tokio::task::spawn_blocking(move || kill_now(&id).unwrap_or(false)).await.unwrap_or(false)
}

fn kill_now(id: &str) -> io::Result<bool> {
    let mut has_killed = false;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(number) = number.filter(|number| is_in(*number, id)) else { continue };
        // SECURITY: the number may be another's by now, and is ours to kill only if its groups are still the container's.
        if let Ok(process) = pidfd_open(number, PidfdFlags::empty())
            && is_in(number, id)
            && pidfd_send_signal(&process, Signal::KILL).is_ok()
        {
            has_killed = true;
        }
    }
    Ok(has_killed)
}

/// Whether a process that has not ended is in a control group of this name: `…/docker/ID`, `…/docker-ID.scope`.
fn is_in(process: Pid, id: &str) -> bool {
    let of = |file: &str| {
        fs::read_to_string(format!("/proc/{}/{file}", process.as_raw_nonzero())).unwrap_or_default()
    };
    let has_ended = || of("stat").rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']));
    of("cgroup").contains(id) && !has_ended()
}
