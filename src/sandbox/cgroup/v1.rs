//! Version 1: a tree a controller. See cgroups(7).

use super::{Controller, PERIOD};

/// The file that counts kills for want of memory.
pub(super) const OOM_KILLS: &str = "memory.oom_control";

/// Whether a mount is a controller's tree, by its type and its super block's options.
pub(super) fn is_mount(kind: &str, options: &str, controller: Controller) -> bool {
    kind == "cgroup" && options.split(',').any(|option| option == controller.name())
}

/// Whether a line of `/proc/self/cgroup` is the controller's, by the controllers that it names.
pub(super) fn is_hierarchy(controllers: &str, controller: Controller) -> bool {
    controllers.split(',').any(|name| name == controller.name())
}

pub(super) fn memory(bytes: u64) -> Vec<(&'static str, String)> {
    vec![
        ("memory.limit_in_bytes", bytes.to_string()),
        // Memory and swap together: no swap beside it.
        ("memory.memsw.limit_in_bytes", bytes.to_string()),
    ]
}

pub(super) fn cpu(quota: u64) -> Vec<(&'static str, String)> {
    vec![("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota.to_string())]
}
