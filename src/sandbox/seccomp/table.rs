//! Which system calls are let through, and what that depends on.
//!
//! Names are Linux's, those of every architecture together; an ABI takes what it has. See the module above for where
//! the table comes from.

use std::collections::BTreeSet;

use libc::{
    AF_ALG, AF_VSOCK, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER,
    CLONE_NEWUTS, ENOSYS, F_NOTIFY, F_SETLEASE,
};

/// Calls that are treated alike.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) need: Need,
    pub(super) verdict: Verdict,
    /// With white space between them.
    names: &'static str,
}

/// When a group counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    /// With this capability.
    With(&'static str),
    /// Unless with this capability.
    Without(&'static str),
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// Allowed under a condition, else as if it were not in the table.
    AllowIf(Condition),
    /// It fails with this error.
    Fail(i32),
}

/// Something about one argument; the first is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// None of these bits is set.
    Without { argument: u8, bits: u32 },
    /// It is one of these values, all of its bits taken.
    OneOf { argument: u8, values: &'static [u32] },
    /// It is none of these values. Only the lower half counts, for more the kernel does not read either: with 64 bits
    /// compared, as Docker's filter does, something in the upper half would hide a value.
    NoneOf { argument: u8, values: &'static [u32] },
    /// Of prlimit(2): it is about the caller itself, and does not set this resource's limit, or has a key in its fifth and
    /// sixth argument, which the kernel does not read. Of the numbers that it does read, it takes the lower half.
    OwnLimit { but: u32, unless: Option<Key> },
    /// Of ptrace(2): it does not have a tracee stop on its way out (`PTRACE_O_TRACEEXIT`). What has been killed and stops there
    /// waits for its tracer, whatever else it is sent; two that trace each other so can be ended by nobody until the machine
    /// is started anew, and keep their container for as long. Docker lets them.
    NotHeld,
}

/// What a filter lets who has made it do, and nobody who inherits it: 128 bits that nobody guesses. A filter shows itself to
/// nobody who has one: `PTRACE_SECCOMP_GET_FILTER`, ptrace(2).
pub(in crate::sandbox) type Key = [u64; 2];

/// All flags of clone(2) that make a namespace. `CLONE_NEWTIME` is none of them: its bit belongs to the signal.
const NAMESPACES: u32 = (CLONE_NEWCGROUP
    | CLONE_NEWIPC
    | CLONE_NEWNET
    | CLONE_NEWNS
    | CLONE_NEWPID
    | CLONE_NEWUSER
    | CLONE_NEWUTS) as u32;

/// What personality(2) may become: `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`; and the question what it is.
const PERSONALITIES: &[u32] = &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The kernel's cryptography, and a virtual machine's way to its host.
const REFUSED_FAMILIES: &[u32] = &[AF_ALG as u32, AF_VSOCK as u32];

/// What fcntl(2) does to a file for everybody who has it open, and to whoever will: leases, by which an `exec` elsewhere is
/// held up, notices of what others do, and hints of how it is used, which stay.
const OTHERS_AFFAIRS: &[u32] =
    &[F_SETLEASE as u32, F_NOTIFY as u32, F_SET_RW_HINT, F_SET_FILE_RW_HINT, F_SETDELEG];
const F_SET_RW_HINT: u32 = 1036;
const F_SET_FILE_RW_HINT: u32 = 1038;
/// A lease for directories too, from Linux 6.19 on.
const F_SETDELEG: u32 = 1040;

/// No call is in two groups that count at once, unless they say the same.
pub(super) const TABLE: &[Group] = &[
    // Open files.
    allow(
        "read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 close close_range dup dup2 dup3
         ioctl flock lseek _llseek getdents getdents64 fsync fdatasync sync syncfs sync_file_range
         arm_sync_file_range fallocate ftruncate ftruncate64 fadvise64 fadvise64_64 arm_fadvise64_64 readahead
         sendfile sendfile64 copy_file_range splice tee vmsplice pipe pipe2",
    ),
    // Files by name.
    allow(
        "open openat openat2 creat link linkat symlink symlinkat readlink readlinkat unlink unlinkat rename renameat
         renameat2 mkdir mkdirat rmdir mknod mknodat truncate truncate64 chdir fchdir getcwd umask",
    ),
    // What files are.
    allow(
        "stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64 access
         faccessat faccessat2 chmod fchmod fchmodat chown chown32 fchown fchown32 lchown lchown32 fchownat utime
         utimes futimesat utimensat utimensat_time64",
    ),
    // Extended attributes.
    allow(
        "getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr llistxattr flistxattr removexattr
         lremovexattr fremovexattr",
    ),
    // Waiting for descriptors.
    allow(
        "select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64 epoll_create epoll_create1 epoll_ctl
         epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4
         inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark",
    ),
    // Asynchronous input and output.
    allow(
        "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64",
    ),
    // Memory.
    allow(
        "brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall
         remap_file_pages membarrier memfd_create memfd_secret process_mrelease cacheflush",
    ),
    // Processes and threads.
    allow(
        "fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid getpgid getpgrp
         setpgid getsid setsid pidfd_open set_tid_address set_robust_list get_robust_list get_thread_area
         set_thread_area set_tls arch_prctl modify_ldt prctl rseq futex futex_time64 futex_waitv restart_syscall
         breakpoint",
    ),
    // Tracing, but not beyond an end.
    Group {
        need: Need::Nothing,
        verdict: Verdict::AllowIf(Condition::NotHeld),
        names: "ptrace",
    },
    // Scheduling and limits.
    allow(
        "sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam
         sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval
         sched_rr_get_interval_time64 getpriority setpriority ioprio_get ioprio_set getcpu getrlimit ugetrlimit
         setrlimit prlimit64 getrusage times",
    ),
    // Signals.
    allow(
        "kill tkill tgkill pause sigaltstack sigprocmask sigreturn rt_sigaction rt_sigpending rt_sigprocmask
         rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
         pidfd_send_signal",
    ),
    // Time.
    allow(
        "time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_adjtime
         clock_adjtime64 adjtimex nanosleep clock_nanosleep clock_nanosleep_time64 alarm getitimer setitimer
         timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
         timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    ),
    // Users, groups, capabilities.
    allow(
        "getuid getuid32 geteuid geteuid32 getresuid getresuid32 setuid setuid32 setreuid setreuid32 setresuid
         setresuid32 setfsuid setfsuid32 getgid getgid32 getegid getegid32 getresgid getresgid32 setgid setgid32
         setregid setregid32 setresgid setresgid32 setfsgid setfsgid32 getgroups getgroups32 setgroups setgroups32
         capget capset",
    ),
    // Confinement of oneself: fewer rights are always one's own to take.
    allow(
        "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    ),
    // Sockets.
    allow(
        "socketcall socketpair bind listen accept accept4 connect shutdown getsockname getpeername getsockopt
         setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64",
    ),
    // Sockets of all families but two.
    Group {
        need: Need::Nothing,
        verdict: Verdict::AllowIf(Condition::NoneOf { argument: 0, values: REFUSED_FAMILIES }),
        names: "socket",
    },
    // Communication between processes.
    allow(
        "ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
         mq_open mq_unlink mq_notify mq_getsetattr mq_timedreceive mq_timedreceive_time64 mq_timedsend
         mq_timedsend_time64",
    ),
    // About the machine.
    allow(
        "uname sysinfo getrandom",
    ),
    // Descriptors and locks, but not what others have to do with a file.
    Group {
        need: Need::Nothing,
        verdict: Verdict::AllowIf(Condition::NoneOf { argument: 1, values: OTHERS_AFFAIRS }),
        names: "fcntl fcntl64",
    },
    // The usual personalities.
    Group {
        need: Need::Nothing,
        verdict: Verdict::AllowIf(Condition::OneOf { argument: 0, values: PERSONALITIES }),
        names: "personality",
    },
    // Processes and threads in the same namespaces.
    Group {
        need: Need::Without("SYS_ADMIN"),
        verdict: Verdict::AllowIf(Condition::Without { argument: 0, bits: NAMESPACES }),
        names: "clone",
    },
    // The same with flags that cannot be seen.
    Group {
        need: Need::Without("SYS_ADMIN"),
        verdict: Verdict::Fail(ENOSYS),
        names: "clone3",
    },
    // Namespaces, mounts, and the rest of administration.
    with("SYS_ADMIN", "clone clone3 unshare setns mount umount umount2 mount_setattr move_mount open_tree fsopen fsconfig fsmount
         fspick name_to_handle_at lookup_dcookie quotactl quotactl_fd fanotify_init sethostname setdomainname syslog
         bpf perf_event_open lsm_get_self_attr lsm_set_self_attr lsm_list_modules"),
    // Files by handle.
    with("DAC_READ_SEARCH", "open_by_handle_at"),
    // Restart.
    with("SYS_BOOT", "reboot"),
    // Another root.
    with("SYS_CHROOT", "chroot"),
    // Kernel modules.
    with("SYS_MODULE", "init_module finit_module delete_module"),
    // Accounting.
    with("SYS_PACCT", "acct"),
    // Other processes' insides.
    with("SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev"),
    // Ports.
    with("SYS_RAWIO", "iopl ioperm"),
    // The clock.
    with("SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    // Terminals.
    with("SYS_TTY_CONFIG", "vhangup"),
    // Where memory lies.
    with("SYS_NICE", "get_mempolicy set_mempolicy mbind set_mempolicy_home_node"),
    // The kernel's log.
    with("SYSLOG", "syslog"),
    // Programs in the kernel.
    with("BPF", "bpf"),
    // Performance counters.
    with("PERFMON", "perf_event_open"),
];

const fn allow(names: &'static str) -> Group {
    Group { need: Need::Nothing, verdict: Verdict::Allow, names }
}

const fn with(capability: &'static str, names: &'static str) -> Group {
    Group { need: Need::With(capability), verdict: Verdict::Allow, names }
}

// === impl Group ===

impl Group {
    /// The calls, by name.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.names.split_ascii_whitespace()
    }
}

// === impl Need ===

impl Need {
    /// Whether a group with this need counts for programs that keep these capabilities.
    pub(super) fn is_met(self, capabilities: &BTreeSet<&str>) -> bool {
        let has = |capability| capabilities.contains(capability) || capabilities.contains("ALL");
        match self {
            Self::Nothing => true,
            Self::With(capability) => has(capability),
            Self::Without(capability) => !has(capability),
        }
    }
}
