//! Version 2: one tree for all controllers, each of which is let into it from above. See cgroups(7).

use std::fs;
use std::io;
use std::path::Path;

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
