//! System calls as such, past libc, and in a process of their own.

use std::arch::asm;
use std::fmt;
use std::io;

unsafe extern "C" {
    fn fork() -> i32;
    fn pipe(descriptors: *mut i32) -> i32;
    fn close(descriptor: i32) -> i32;
    fn read(descriptor: i32, into: *mut u8, count: usize) -> isize;
    fn write(descriptor: i32, from: *const u8, count: usize) -> isize;
    fn poll(descriptors: *mut Poll, count: u64, milliseconds: i32) -> i32;
    fn kill(pid: i32, signal: i32) -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn setsid() -> i32;
    fn _exit(code: i32) -> !;
}

/// `struct pollfd`.
#[repr(C)]
struct Poll {
    descriptor: i32,
    wanted: i16,
    seen: i16,
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It came back with this.
    Returned(i64),
    /// It killed its process.
    Signal(i32),
    /// It ended its process.
    Exit(i32),
    /// It did not come back in time.
    Waits,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned(error @ -4095..=-1) => write!(f, "errno {}", -error),
            Self::Returned(_) => f.write_str("ok"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Exit(code) => write!(f, "exit {code}"),
            Self::Waits => f.write_str("waits"),
        }
    }
}

/// What an error of the standard library's comes to in a fact.
pub fn result<T>(result: io::Result<T>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => failure(&error),
    }
}

/// The same of the error alone.
pub fn failure(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| format!("{:?}", error.kind()), |number| format!("errno {number}"))
}

/// Whether a call is made as a 64-bit program does or as a 32-bit one.
#[derive(Clone, Copy)]
pub enum Gate {
    Native,
    Old,
}

/// How long a call may take. Those that wait wait for ever; the others are done at once.
const PATIENCE_MILLISECONDS: i32 = 1000;

const SIGKILL: i32 = 9;

/// Makes a call in a process of its own. Where the call itself makes a process, that one ends at once.
///
/// The call must not write to memory that the process goes on to use.
pub fn attempt(gate: Gate, number: u32, arguments: [u64; 6]) -> Outcome {
    attempt_for(gate, number, arguments, PATIENCE_MILLISECONDS)
}

/// The same with another patience; without end where it is negative.
pub fn attempt_for(gate: Gate, number: u32, arguments: [u64; 6], patience: i32) -> Outcome {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    assert_eq!(unsafe { pipe(ends.as_mut_ptr()) }, 0, "a pipe can be made");
    let [from, to] = ends;
    // SAFETY: this process has one thread, so the child has all that its code needs.
    let child = unsafe { fork() };
    assert!(child >= 0, "a process can be made");
    if child == 0 {
        if matches!((gate, number), (Gate::Native, 153) | (Gate::Old, 111)) {
            // vhangup(2) is for this process's terminal: let it have none.
            // SAFETY: it takes nothing.
            unsafe { setsid() };
        }
        // SAFETY: what the call does to this process concerns nobody else; the caller vouches for its memory.
        let value = unsafe { call(gate, number, arguments) }.to_ne_bytes();
        // SAFETY: `value` is as long as it says.
        unsafe {
            write(to, value.as_ptr(), value.len());
            _exit(0);
        }
    }
    let mut value = [0; 8];
    let mut poll_on = Poll { descriptor: from, wanted: 1, seen: 0 };
    let mut status = 0;
    // SAFETY: the descriptors are ours, `value` and `status` are as long as they say, and `child` is our child until
    // it was waited for.
    let (ready, count) = unsafe {
        close(to);
        let ready = poll(&mut poll_on, 1, patience);
        if ready == 0 {
            kill(child, SIGKILL);
        }
        let count = if ready == 0 { 0 } else { read(from, value.as_mut_ptr(), value.len()) };
        waitpid(child, &mut status, 0);
        close(from);
        (ready, count)
    };
    match (ready, count, status & 0x7f) {
        (0, ..) => Outcome::Waits,
        (_, 8, _) => Outcome::Returned(i64::from_ne_bytes(value)),
        (_, _, 0) => Outcome::Exit(status >> 8 & 0xff),
        (_, _, signal) => Outcome::Signal(signal),
    }
}

/// Makes a call. In a process that the call made, it does not return.
///
/// # Safety
/// The call must not break this process's memory, nor make threads.
#[inline(always)]
unsafe fn call(gate: Gate, number: u32, arguments: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    // Inline, for a vfork's child must not return from a function; it ends where it began.
    match gate {
        Gate::Native => {
            let made = matches!(number, 56..=58);
            let mut value = i64::from(number);
            // SAFETY: as the caller says; the registers are those of syscall(2).
            unsafe {
                asm!("syscall", inlateout("rax") value, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
                     in("r8") e, in("r9") f, out("rcx") _, out("r11") _);
                if made && value == 0 {
                    asm!("syscall", in("rax") 60, in("rdi") 0, options(noreturn));
                }
            }
            value
        }
        Gate::Old => {
            let made = matches!(number, 2 | 120 | 190);
            let mut value = u64::from(number);
            // SAFETY: as above, with those of 32-bit programs. rbx and rbp are the compiler's, so they are put back.
            unsafe {
                asm!("push rbx", "push rbp", "mov rbx, r12", "mov rbp, r13", "int 0x80", "pop rbp", "pop rbx",
                     inlateout("rax") value, in("r12") a, in("r13") f, in("rcx") b, in("rdx") c, in("rsi") d,
                     in("rdi") e, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
                if made && value as u32 == 0 {
                    asm!("syscall", in("rax") 60, in("rdi") 0, options(noreturn));
                }
            }
            i64::from(value as i32)
        }
    }
}
