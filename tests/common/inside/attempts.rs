//! What system calls come to.

use crate::Facts;
use crate::identity::text;
use crate::kernel::{Gate, attempt, attempt_for};

/// The numbers that are tried. Above lies nothing yet.
const NUMBERS: std::ops::RangeInclusive<u32> = 0..=480;

/// Wrong for a descriptor, an address, a set of flags, and a process alike.
const NONSENSE: [u64; 6] = [u64::MAX; 6];

/// For a call that takes its own time: as long as it wants.
const WITHOUT_END: i32 = -1;

const SIGCHLD: u64 = 17;

/// Each call with arguments that do nothing. What a filter refuses has its error; what it lets through, the kernel's.
pub fn by_number(facts: &mut Facts) {
    for number in NUMBERS {
        let outcome = match number {
            // clone(2) without a flag that makes a namespace, as fork(2) does it.
            56 => attempt(Gate::Native, number, [SIGCHLD, 0, 0, 0, 0, 0]),
            // personality(2): what it is.
            135 => attempt(Gate::Native, number, [0xffff_ffff, 0, 0, 0, 0, 0]),
            // modify_ldt(2) and futex(2) do not know all functions: to read, to wake.
            154 => attempt(Gate::Native, number, [0; 6]),
            202 => attempt(Gate::Native, number, [0, 1, 1, 0, 0, 0]),
            // msgget(2) makes no queue.
            68 => attempt(Gate::Native, number, [u64::MAX, 0, 0, 0, 0, 0]),
            // sync(2) takes as long as the machine's disks do.
            162 => attempt_for(Gate::Native, number, NONSENSE, WITHOUT_END),
            _ => attempt(Gate::Native, number, NONSENSE),
        };
        facts.add(format_args!("syscall.{number}"), outcome);
    }
}

/// The same as a 32-bit program would, by the gate that such programs use. All end in SIGSEGV where the kernel has no
/// such gate.
pub fn by_number_of_32_bits(facts: &mut Facts) {
    for number in NUMBERS {
        let outcome = match number {
            120 => attempt(Gate::Old, number, [SIGCHLD, 0, 0, 0, 0, 0]),
            123 => attempt(Gate::Old, number, [0; 6]),
            399 => attempt(Gate::Old, number, [u64::MAX, 0, 0, 0, 0, 0]),
            240 | 422 => attempt(Gate::Old, number, [0, 1, 1, 0, 0, 0]),
            36 => attempt_for(Gate::Old, number, NONSENSE, WITHOUT_END),
            _ => attempt(Gate::Old, number, NONSENSE),
        };
        facts.add(format_args!("syscall32.{number}"), outcome);
    }
}

/// Numbers that no table has, and the calls that matter, with arguments that would do it.
pub fn with_arguments(facts: &mut Facts) {
    let mut add = |key: &str, number: u32, arguments: &[u64]| {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        facts.add(key, attempt(Gate::Native, number, all));
    };
    for (key, number) in [
        ("x32.getpid", 0x4000_0000 | 39),
        ("x32.unknown", 0x4000_0000 | 600),
        ("far", 0x1000),
        ("minus", u32::MAX),
    ] {
        add(&format!("number.{key}"), number, &[]);
    }

    const NAMESPACES: [(&str, u64); 8] = [
        ("time", 0x80),
        ("mount", 0x2_0000),
        ("cgroup", 0x200_0000),
        ("uts", 0x400_0000),
        ("ipc", 0x800_0000),
        ("user", 0x1000_0000),
        ("pid", 0x2000_0000),
        ("net", 0x4000_0000),
    ];
    for (name, flag) in NAMESPACES {
        add(&format!("unshare.{name}"), 272, &[flag]);
        // CLONE_NEWTIME's bit is part of the signal there.
        add(&format!("clone.{name}"), 56, &[flag | if name == "time" { 0 } else { SIGCHLD }]);
    }
    // Each fails in the end, with another error than that of rights: no such file system, no mount point.
    let (none, nothing, tmpfs, root, process, file) =
        (c"none", c"no-such-type", c"tmpfs", c"/", c"/proc/self", c"/proc/self/stat");
    let at = |text: &std::ffi::CStr| text.as_ptr() as u64;
    add("mount.new", 165, &[at(none), at(root), at(nothing), 0, 0]);
    add("mount.remount", 165, &[at(none), at(process), 0, 0x20, 0]);
    add("mount.bind", 165, &[at(root), at(file), 0, 0x1000, 0]);
    add("umount", 166, &[at(process), 0]);
    add("fsopen.tmpfs", 430, &[at(tmpfs), 0]);
    add("open_tree.clone", 428, &[u64::MAX, at(root), 1]);
    add("pivot_root", 155, &[at(root), at(root)]);
    add("chroot", 161, &[at(root)]);
    let (device, disk) = (c"/dev/shm/inside.null", c"/dev/shm/inside.disk");
    add("mknod.null", 133, &[at(device), 0o20666, 1 << 8 | 3]);
    add("mknod.disk", 133, &[at(disk), 0o60666, 8 << 8]);
    _ = std::fs::remove_file("/dev/shm/inside.null");
    _ = std::fs::remove_file("/dev/shm/inside.disk");

    for (name, family, kind) in [
        ("unix", 1, 1),
        ("inet", 2, 1),
        ("inet6", 10, 1),
        ("key", 15, 3),
        ("netlink", 16, 3),
        ("packet", 17, 3),
        ("alg", 38, 5),
        ("vsock", 40, 1),
        ("xdp", 44, 3),
        ("vsock_hidden", 40 | 1 << 32, 1),
    ] {
        add(&format!("socket.{name}"), 41, &[family, kind, 0]);
    }
    // Of ICMP, as ping has it.
    add("socket.raw", 41, &[2, 3, 1]);
    add("socket.ping", 41, &[2, 2, 1]);

    for (name, value) in [("linux32", 0x8), ("uname26", 0x2_0000), ("no_randomize", 0x4_0000), ("svr4", 0x1)]
    {
        add(&format!("personality.{name}"), 135, &[value]);
    }
    // KEYCTL_GET_KEYRING_ID of the session's.
    add("keyctl.session", 250, &[0, -3_i64 as u64, 0]);
    // SYSLOG_ACTION_SIZE_BUFFER, and SYSLOG_ACTION_READ_ALL of one byte.
    let byte = [0_u8];
    add("syslog.size", 103, &[10]);
    add("syslog.read", 103, &[3, byte.as_ptr() as u64, 1]);
    // PTRACE_SEIZE of the first process: its tracer is gone at once, and it never stops.
    add("ptrace.init", 101, &[0x4206, 1, 0, 0]);
    // What process_vm_readv(2) reads of it: nothing.
    add("process_vm_readv.init", 310, &[1, 0, 0, 0, 0, 0]);
    add("kill.init", 62, &[1, 0]);
    // A structure that asks for the first event of all: of hardware, cycles, in user space only.
    let event = [64_u64 << 32, 0, 0, 0, 0, 1 << 5 | 1 << 6, 0, 0];
    add("perf_event_open", 298, &[event.as_ptr() as u64, 0, u64::MAX, u64::MAX, 0]);
    add("bpf.nonsense", 321, &[u64::MAX, 0, 0]);
    let rings = [0_u64; 15];
    add("io_uring_setup", 425, &[1, rings.as_ptr() as u64]);
    // For faults in user space only, as anyone may.
    add("userfaultfd", 323, &[1]);
    add("kexec_load", 246, &[0, 0, 0, u64::MAX]);
    add("setuid.other", 105, &[12345]);
    add("setgroups.none", 116, &[0, 0]);
    add("nice.lower", 141, &[0, 0, -5_i64 as u64]);
    // A hard limit of descriptors above all: RLIMIT_NOFILE.
    let limit = [1_u64 << 20, 1 << 30];
    add("setrlimit.more", 160, &[7, limit.as_ptr() as u64]);

    let status = text("/proc/self/status");
    let no_new_privileges = status.lines().any(|line| line.split_whitespace().eq(["NoNewPrivs:", "1"]));
    let mounts = text("/proc/self/mountinfo");
    let root = mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/")).next_back();
    let nosuid =
        root.is_some_and(|line| line.split(' ').nth(5).is_some_and(|o| o.split(',').any(|o| o == "nosuid")));
    facts.add("setuid_files", if no_new_privileges || nosuid { "no" } else { "yes" });
}
