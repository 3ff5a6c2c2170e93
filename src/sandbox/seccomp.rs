//! Which system calls a program may make: a filter for seccomp(2), made before any process is.
//!
//! The table is Docker's: what the default profiles of Docker 20.10.24 and of a current Docker (moby/profiles,
//! August 2026) both let through. What the older one lets through and the newer one does not (`io_uring_*`, the
//! socket families `AF_ALG` and `AF_VSOCK`) is refused, and so is what only the newer one lets through. Where a
//! capability opens a call, the newer one alone decides: a capability is granted by name, so nothing is wider than
//! it was asked for. Of two calls that both let through, not all is: what of fcntl(2) concerns others, and that of ptrace(2)
//! which nobody could end.
//!
//! # Answers
//! - `EPERM` for a call that is not in the table.
//! - `ENOSYS` for a number above that of the newest call that both profiles know, unless the table has it. libc falls
//!   back to an older call on `ENOSYS` and on nothing else. runc answers so since 1.0.0-rc93, from the highest number
//!   that a profile has; here the limit stays where it is when a capability opens a higher one.
//! - `ENOSYS` for clone3 without `SYS_ADMIN`: its flags lie in memory, where a filter cannot look.
//! - Death of the thread, by `SIGSYS`, for a call of another architecture than the machine's own two, as is
//!   libseccomp's default (`SCMP_FLTATR_ACT_BADARCH`).
//!
//! # Speed
//! The numbers of an architecture are one row of ranges, found by bisection: about a dozen instructions a call. That
//! matters most while a filter is attached: since Linux 5.11 the kernel runs it then for each number of each
//! architecture, to learn which it need not ask about again (`seccomp_cache_prepare` in kernel/seccomp.c).
//!
//! # Limits
//! On 32-bit x86 `socketcall` makes sockets of every family, and a filter cannot see which: its arguments lie in
//! memory. It is so with Docker.
//!
//! - `table`: which calls, by what they need
//! - `abi`: from names to numbers
//! - `ranges`: from the table to ranges of numbers
//! - `program`: from ranges to instructions

mod abi;
mod program;
mod ranges;
mod table;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use abi::Machine;
pub(super) use table::Key;

/// One instruction of classic BPF as the kernel takes it: `struct sock_filter` of linux/filter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    /// What to do.
    code: u16,
    /// How many instructions to skip where a comparison holds.
    jt: u8,
    /// How many where it does not.
    jf: u8,
    /// The instruction's operand.
    k: u32,
}

impl Instruction {
    /// A program as it lies in the kernel's memory.
    pub(super) fn bytes_of(program: Vec<Self>) -> Vec<u8> {
        program.into_iter().flat_map(Self::to_bytes).collect()
    }

    fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&self.code.to_ne_bytes());
        bytes[2] = self.jt;
        bytes[3] = self.jf;
        bytes[4..].copy_from_slice(&self.k.to_ne_bytes());
        bytes
    }
}

/// The most instructions that the kernel takes: `BPF_MAXINSNS` of linux/bpf_common.h.
const MOST_INSTRUCTIONS: usize = 4096;

#[cfg(target_arch = "x86_64")]
const NATIVE: Machine = Machine::X86_64;
#[cfg(target_arch = "aarch64")]
const NATIVE: Machine = Machine::Aarch64;

/// The filters for programs that keep some capabilities: upper case, without `CAP_`, or `ALL`.
///
/// Two, because attaching one takes the kernel longer the more it has, and a child inherits its parent's for nothing:
/// the large one is attached once by whoever makes sandboxes, and lets through what that takes; the small one by each
/// sandbox, and takes that back. The kernel asks both and heeds the stricter: seccomp(2).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filters {
    pub(super) slot: Vec<Instruction>,
    pub(super) sandbox: Vec<Instruction>,
}

impl Filters {
    /// To be made once for many programs: it looks up each name of the table for each ABI.
    pub(super) fn new(capabilities: &BTreeSet<&str>) -> Self {
        Self::of(NATIVE, capabilities)
    }

    /// A filter for programs in containers whose own lets them hold each other on their way out, as Docker's does.
    pub(super) fn unheld() -> Vec<Instruction> {
        compiled(NATIVE, ranges::of_unheld)
    }

    /// A filter for programs that share a container, on top of the container's own: what Landlock does not keep one of them
    /// from doing to another. It is for whoever starts them, and inherited from him: with the key he can still set the limit
    /// by which they are known.
    pub(super) fn apart(key: Key) -> Vec<Instruction> {
        compiled(NATIVE, |entry| ranges::of_apart(entry, key))
    }

    fn of(machine: Machine, capabilities: &BTreeSet<&str>) -> Self {
        Self {
            slot: compiled(machine, |entry| ranges::of_slot(entry, capabilities)),
            sandbox: compiled(machine, |entry| ranges::of_sandbox(entry, capabilities)),
        }
    }
}

/// Of the ranges of each architecture.
fn compiled(machine: Machine, ranges: impl Fn(&abi::Entry) -> Vec<ranges::Range>) -> Vec<Instruction> {
    let entries: Vec<_> = machine.entries().iter().map(|entry| (entry.token, ranges(entry))).collect();
    let program = program::compile(&entries);
    assert!(program.len() <= MOST_INSTRUCTIONS, "the table has grown beyond what the kernel takes");
    program
}

/// The whole filter as it is on a machine.
#[cfg(test)]
fn filter_of(machine: Machine, capabilities: &BTreeSet<&str>) -> Vec<Instruction> {
    compiled(machine, |entry| ranges::of(entry, capabilities))
}
