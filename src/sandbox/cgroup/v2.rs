//! Version 2: one tree for all controllers, each of which is let into it from above. See cgroups(7).

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::getxattr;

use super::{Controller, PERIOD};

/// The file that counts kills for want of memory.
pub(super) const OOM_KILLS: &str = "memory.events";

/// The file by which all processes of a group are killed.
pub(super) const KILL: &str = "cgroup.kill";

/// Whether a mount is the tree, by its type.
pub(super) fn is_mount(kind: &str) -> bool {
    kind == "cgroup2"
}

/// Whether a line of `/proc/self/cgroup` is this version's, by the controllers that it names.
pub(super) fn is_hierarchy(controllers: &str) -> bool {
    controllers.is_empty()
}

/// The group below one that is handed over, in which this process then is.
const OWN: &str = "server";

/// Whether a service manager has handed a group over to be divided: systemd marks it so, see its CGROUP_DELEGATION.md.
pub(super) fn is_delegated(folder: &Path) -> bool {
    let mut value = [0; 1];
    let has = |name: &str| getxattr(folder, name, &mut value[..]).is_ok_and(|size| size == 1);
    ["user.delegate", "trusted.delegate"].into_iter().any(has) && value == *b"1"
}

/// Moves this process, and those that it has started, out of a group's way into one below it.
///
/// # Errors
/// Where others are in it too: they are not ours to move, and with them it cannot be divided.
pub(super) fn step_aside(folder: &Path) -> io::Result<()> {
    let inside = fs::read_to_string(folder.join("cgroup.procs"))?;
    if let Some(other) = inside.lines().find(|pid| !is_ours(pid)) {
        return Err(io::Error::other(format!(
            "process {other} is in it, and not dcgi's: start dcgi in a group of its own"
        )));
    }
    let own = folder.join(OWN);
    if !own.is_dir() {
        fs::create_dir(&own)?;
    }
    for pid in inside.lines() {
        match super::set(&own.join("cgroup.procs"), pid) {
            // It has gone meanwhile: ESRCH.
            Err(error) if error.raw_os_error() != Some(3) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether a process is this one, or comes from it. One that has gone is.
fn is_ours(pid: &str) -> bool {
    let own = std::process::id().to_string();
    let mut pid = pid.to_owned();
    while pid != own {
        // Who is outside of this PID namespace.
        if pid == "0" {
            return false;
        }
        // proc_pid_stat(5): behind the name, the state and the parent.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1));
        match parent {
            Some(parent) if parent == own => return true,
            Some(parent) if !matches!(parent, "0" | "1") => pid = parent.to_owned(),
            _ => return false,
        }
    }
    true
}

/// Whether the tree has a controller at all: version 1 may have taken it.
pub(super) fn has(mount: &Path, controller: Controller) -> bool {
    let available = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    available.split_ascii_whitespace().any(|name| name == controller.name())
}

/// Has a controller count in the groups below one: cgroups(7), `cgroup.subtree_control`.
pub(super) fn enable(folder: &Path, controller: Controller) -> io::Result<()> {
    let file = folder.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file)?;
    if enabled.split_ascii_whitespace().any(|name| name == controller.name()) {
        return Ok(());
    }
    super::set(&file, &format!("+{}", controller.name()))
}

pub(super) fn memory(bytes: u64) -> Vec<(&'static str, String)> {
    vec![("memory.max", bytes.to_string()), ("memory.swap.max", "0".to_owned())]
}

pub(super) fn cpu(quota: u64) -> Vec<(&'static str, String)> {
    vec![("cpu.max", format!("{quota} {PERIOD}"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_those_that_it_has_started_are_its_own() {
        assert!(is_ours(&std::process::id().to_string()));
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(is_ours(&child.id().to_string()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_ours("1"));
    }
}
