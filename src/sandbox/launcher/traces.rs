//! Whether a slot is as it was, as far as a sandbox can change it from inside.
//!
//! Until its program is executed, a sandbox's first process shares the slot's memory, and it is in the slot's session. Root
//! inside may write some of that process's files in `/proc/1`, and what the kernel keeps with the memory or the session then
//! holds for the slot, and for all sandboxes to come.

use std::ffi::CStr;

use super::sys::Fd;
use super::telltale::{self, BEYOND};

/// What is looked at: who is killed for want of memory, what a dump would hold, and the share of the processor. By name: the
/// process's own.
const FILES: [&CStr; 3] =
    [c"/proc/self/oom_score_adj", c"/proc/self/coredump_filter", c"/proc/self/autogroup"];

/// Opens the files of this process, beyond those of the network namespace: a sandbox closes them. A file that is not there is
/// left out: the kernel may be made without it.
pub(super) fn open() {
    for (place, path) in (BEYOND..).zip(FILES) {
        telltale::open_at(place, path);
    }
}

/// What the files say now, as a number.
pub(super) fn fingerprint() -> u64 {
    telltale::fingerprint_of(BEYOND..BEYOND + FILES.len() as Fd)
}
