//! Whether a network namespace is as it was when it was made.
//!
//! A slot keeps its network namespace for one sandbox after the other. What of a sandbox could outlive it there shows in
//! files of `/proc/net`: packets on the loopback, and with them connections that linger; names of unix sockets that are
//! on their way in messages; counters of whatever was tried. A program that has as much as tried to connect has left a
//! trace in one of them, and then the namespace goes.

use std::ffi::CStr;
use std::ops::Range;

use super::sys::{self, Fd};
use super::zygote::MASTER;

/// What is looked at. By way of `thread-self`, which is in the namespace that the caller is in now.
const FILES: [&CStr; 6] = [
    c"/proc/thread-self/net/dev",
    c"/proc/thread-self/net/unix",
    c"/proc/thread-self/net/snmp",
    c"/proc/thread-self/net/netstat",
    c"/proc/thread-self/net/snmp6",
    c"/proc/thread-self/net/ip6_flowlabel",
];

/// The first descriptor that is neither the socket to dcgi nor one of these.
pub(super) const BEYOND: Fd = MASTER + 1 + FILES.len() as Fd;

/// Opens the files of the network namespace that this process is in, at the places behind [`MASTER`]. A file that is
/// not there is left out: the kernel may have no IPv6.
pub(super) fn open() {
    for (place, path) in (MASTER + 1..).zip(FILES) {
        open_at(place, path);
    }
}

/// Opens a file as a certain descriptor, where it is there.
pub(super) fn open_at(place: Fd, path: &CStr) {
    if let Ok(file) = sys::open(path, libc::O_RDONLY, 0) {
        _ = sys::dup_to(file, place, true);
        if file != place {
            sys::close(file);
        }
    }
}

/// What the files say now, as a number: never 0, unless it cannot be told.
pub(super) fn fingerprint() -> u64 {
    fingerprint_of(MASTER + 1..BEYOND)
}

/// The same of whichever files are open as these descriptors.
pub(super) fn fingerprint_of(places: Range<Fd>) -> u64 {
    // FNV-1a, a word at a time: nobody chooses what is compared, it is whether counters have moved at all.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut buffer = [0; 8192];
    let mut found = false;
    for place in places {
        let mut offset = 0;
        // One that is not open was not there from the beginning.
        while let Ok(read @ 1..) = sys::read_at(place, &mut buffer, offset) {
            found = true;
            offset += read as u64;
            for word in buffer.get(..read).unwrap_or_default().chunks(8) {
                let word = word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
                hash = (hash ^ word).wrapping_mul(0x100_0000_01b3);
            }
        }
    }
    if found { hash.max(1) } else { 0 }
}
