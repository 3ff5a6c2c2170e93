//! Version 1: a tree a controller. See cgroups(7).

use std::io;
use std::path::Path;

use super::{Controller, PERIOD};

/// The file that counts kills for want of memory.
pub(super) const OOM_KILLS: &str = "memory.oom_control";

/// The file that bounds TCP buffers, which `memory.limit_in_bytes` does not count: kernel, admin-guide/cgroup-v1/memory,
/// section 2.7.
pub(super) const TCP_BUFFERS: &str = "memory.kmem.tcp.limit_in_bytes";

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
        (TCP_BUFFERS, bytes.to_string()),
    ]
}

pub(super) fn cpu(quota: u64) -> Vec<(&'static str, String)> {
    vec![("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota.to_string())]
}

/// Has TCP buffers counted in the groups below one. With the first limit in any group the kernel changes its own code,
/// and with the last one's end back: a group that stays keeps it from doing so for each slot.
pub(super) fn count_tcp_buffers(folder: &Path) -> io::Result<()> {
    // No limit.
    super::set(&folder.join(TCP_BUFFERS), "-1")
}
