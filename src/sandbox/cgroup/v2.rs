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
pub(super) fn step_aside(folder: &Path) -> io::Result<()> {
    let own = folder.join(OWN);
    if !own.is_dir() {
        fs::create_dir(&own)?;
    }
    for pid in fs::read_to_string(folder.join("cgroup.procs"))?.lines() {
        match fs::write(own.join("cgroup.procs"), pid) {
            // It has gone meanwhile: ESRCH.
            Err(error) if error.raw_os_error() != Some(3) => return Err(error),
            _ => {}
        }
    }
    Ok(())
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
    fs::write(file, format!("+{}", controller.name()))
}

pub(super) fn memory(bytes: u64) -> Vec<(&'static str, String)> {
    vec![("memory.max", bytes.to_string()), ("memory.swap.max", "0".to_owned())]
}

pub(super) fn cpu(quota: u64) -> Vec<(&'static str, String)> {
    vec![("cpu.max", format!("{quota} {PERIOD}"))]
}
