//! From the names of system calls to their numbers, for each way into the kernel.

use std::ops::RangeInclusive;

use syscalls::{aarch64, arm, x86, x86_64};

/// A machine whose programs are filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "of each build's two, the tests alone use the other"))]
pub(super) enum Machine {
    X86_64,
    Aarch64,
}

/// One of the architectures that the kernel tells a filter of, and the ABIs that share its numbers.
#[derive(Debug)]
pub(super) struct Entry {
    /// The kernel's name for it: `AUDIT_ARCH_*` of linux/audit.h.
    pub(super) token: u32,
    pub(super) abis: &'static [Abi],
}

/// A set of numbers and the meaning of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    /// 32-bit pointers on x86_64. Marked by a bit of the number, not by an architecture of its own.
    X32,
    /// 32-bit x86.
    I386,
    Aarch64,
    /// 32-bit Arm, EABI.
    Arm,
}

/// `futex_waitv` of Linux 5.16, the newest call that both of Docker's profiles know. From 424 on all ABIs have the
/// same numbers.
const NEWEST: u32 = 449;

/// The bit of x32: `__X32_SYSCALL_BIT` of asm/unistd.h.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Where x32 has a number of its own, for its structures differ: arch/x86/entry/syscalls/syscall_64.tbl.
const ONLY_X32: &[(&str, u32)] = &[
    ("rt_sigaction", 512),
    ("rt_sigreturn", 513),
    ("ioctl", 514),
    ("readv", 515),
    ("writev", 516),
    ("recvfrom", 517),
    ("sendmsg", 518),
    ("recvmsg", 519),
    ("execve", 520),
    ("ptrace", 521),
    ("rt_sigpending", 522),
    ("rt_sigtimedwait", 523),
    ("rt_sigqueueinfo", 524),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("mq_notify", 527),
    ("kexec_load", 528),
    ("waitid", 529),
    ("set_robust_list", 530),
    ("get_robust_list", 531),
    ("vmsplice", 532),
    ("move_pages", 533),
    ("preadv", 534),
    ("pwritev", 535),
    ("rt_tgsigqueueinfo", 536),
    ("recvmmsg", 537),
    ("sendmmsg", 538),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("setsockopt", 541),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("execveat", 545),
    ("preadv2", 546),
    ("pwritev2", 547),
];

/// Those of the table that x86_64 has and x32 has not, in that same file.
const NOT_X32: &[&str] = &["epoll_ctl_old", "epoll_wait_old", "get_thread_area", "set_thread_area"];

/// Arm's own: `__ARM_NR_*` of its asm/unistd.h.
const ONLY_ARM: &[(&str, u32)] = &[("breakpoint", 0xf_0001), ("cacheflush", 0xf_0002), ("set_tls", 0xf_0005)];

/// Times of 64 bits for machines of 32: the others have no calls with these numbers.
const ONLY_32_BIT: RangeInclusive<u32> = 403..=423;

// === impl Machine ===

impl Machine {
    /// All that programs on this machine may come from. The first is the most common.
    pub(super) fn entries(self) -> &'static [Entry] {
        match self {
            Self::X86_64 => &[
                Entry { token: 0xc000_003e, abis: &[Abi::X86_64, Abi::X32] },
                Entry { token: 0x4000_0003, abis: &[Abi::I386] },
            ],
            Self::Aarch64 => &[
                Entry { token: 0xc000_00b7, abis: &[Abi::Aarch64] },
                Entry { token: 0x4000_0028, abis: &[Abi::Arm] },
            ],
        }
    }
}

// === impl Abi ===

impl Abi {
    /// Whether it is what programs for this machine are built for, dcgi among them.
    pub(super) fn is_native(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// The number of a call as a filter sees it. `None` where this ABI has no such call.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let own =
            |table: &[(&str, u32)]| table.iter().find(|(own, _)| *own == name).map(|(_, number)| *number);
        match self {
            Self::X86_64 => number(name.parse::<x86_64::Sysno>().ok()?.id()),
            Self::X32 if NOT_X32.contains(&name) => None,
            Self::X32 => Some(own(ONLY_X32).or_else(|| Self::X86_64.number(name))? | X32_BIT),
            Self::I386 => number(name.parse::<x86::Sysno>().ok()?.id()),
            Self::Aarch64 => {
                // The kernel's table has the latter; `syscalls` knows it by the name of the function.
                let name = if name == "newfstatat" { "fstatat" } else { name };
                number(name.parse::<aarch64::Sysno>().ok()?.id())
                    .filter(|number| !ONLY_32_BIT.contains(number))
            }
            Self::Arm => own(ONLY_ARM).or_else(|| number(name.parse::<arm::Sysno>().ok()?.id())),
        }
    }

    /// The numbers of calls as old as the profiles: one that is not in the table is meant to be refused. All others
    /// are unknown, and look to the program as if the kernel did not know them either.
    pub(super) fn known(self) -> &'static [RangeInclusive<u32>] {
        match self {
            Self::X86_64 | Self::I386 | Self::Aarch64 => &[0..=NEWEST],
            Self::X32 => &[X32_BIT..=X32_BIT | NEWEST, X32_BIT | 512..=X32_BIT | 547],
            Self::Arm => &[0..=NEWEST, 0xf_0001..=0xf_0006],
        }
    }

    /// Whether an argument has 64 bits. A filter sees as many for every ABI.
    pub(super) fn has_wide_arguments(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }
}

fn number(id: i32) -> Option<u32> {
    u32::try_from(id).ok()
}
