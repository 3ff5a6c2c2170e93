//! Why the launcher forks as it does: what a child costs that does nothing, by what its parent holds and by how it is
//! made. A fork copies the parent's page tables, and undoes it at the child's end; a child that shares its parent's
//! memory until it ends (`CLONE_VM` and `CLONE_VFORK`, as in vfork(2)) copies nothing.

#![allow(unsafe_code, reason = "no safe way leads to a bare fork")]

use std::ffi::{c_int, c_void};
use std::fs;
use std::hint::black_box;
use std::io;
use std::ptr::null_mut;
use std::time::Instant;

/// What the parent holds besides the one MiB that it holds anyway, in MiB: as a zygote does, or a server at work.
const BALLASTS: [usize; 4] = [1, 10, 30, 100];
const CHILDREN: usize = 1000;
const MEBIBYTE: usize = 1 << 20;

fn main() {
    println!(
        "| the parent's resident memory | fork: median | p99 | vfork's way: median | p99 | fork : vfork's way |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for mebibytes in BALLASTS {
        let ballast = Ballast::new(mebibytes * MEBIBYTE);
        let resident = resident();
        let mut stack = vec![0_u8; 64 << 10];
        let forks = measure(fork);
        let sharing = measure(|| fork_sharing(&mut stack));
        drop(ballast);
        println!(
            "| {resident:.1} MiB | {:.0} µs | {:.0} µs | {:.0} µs | {:.0} µs | {:.2} |",
            forks.0,
            forks.1,
            sharing.0,
            sharing.1,
            forks.0 / sharing.0
        );
    }
}

/// Median and 99th percentile of what it takes until a child has been made, has ended, and was waited for, in µs.
fn measure(mut make: impl FnMut() -> libc::pid_t) -> (f64, f64) {
    let mut times: Vec<_> = (0..CHILDREN)
        .map(|_| {
            let began = Instant::now();
            wait(make());
            began.elapsed().as_secs_f64() * 1e6
        })
        .skip(CHILDREN / 10)
        .collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn fork() -> libc::pid_t {
    // SAFETY: the child does nothing but end. This process has one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: it runs no handlers, and does not return.
        unsafe { libc::_exit(0) }
    }
    assert!(pid > 0, "fork: {}", io::Error::last_os_error());
    pid
}

/// A child in this memory, on another stack, while this process waits.
fn fork_sharing(stack: &mut [u8]) -> libc::pid_t {
    extern "C" fn end(_: *mut c_void) -> c_int {
        // SAFETY: it runs no handlers, and does not return.
        unsafe { libc::_exit(0) }
    }
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: the stack is the child's alone, for this process waits until it has ended; glibc aligns its top. The
    // child touches nothing else.
    let pid = unsafe { libc::clone(end, top.cast(), flags, null_mut()) };
    assert!(pid > 0, "clone: {}", io::Error::last_os_error());
    pid
}

fn wait(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: the kernel writes one int.
    let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert!(ended == pid && status == 0, "waitpid: {ended}, {status}");
}

/// Memory that is there, in pages of the ordinary size: what many small allocations come to.
#[derive(Debug)]
struct Ballast {
    start: *mut c_void,
    length: usize,
}

impl Ballast {
    fn new(length: usize) -> Self {
        if length == 0 {
            return Self { start: null_mut(), length };
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the kernel chooses a place where nothing is.
        let start = unsafe { libc::mmap(null_mut(), length, protection, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        // SAFETY: it is this mapping. Where the kernel has no huge pages, it refuses, and there is nothing to forbid.
        unsafe { libc::madvise(start, length, libc::MADV_NOHUGEPAGE) };
        // SAFETY: it is this mapping, and all of it.
        unsafe { start.write_bytes(1, length) };
        Self { start: black_box(start), length }
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: it is the mapping of `new`, and nobody has a pointer into it any more.
            unsafe { libc::munmap(self.start, self.length) };
        }
    }
}

/// This process's resident memory in MiB.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
