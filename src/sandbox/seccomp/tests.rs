//! The program is run by an interpreter and compared with the table, read line by line.

mod interpreter;
mod names;

use std::collections::BTreeSet;

use libc::{
    AF_ALG, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_VSOCK, CLONE_NEWNET, CLONE_NEWNS,
    CLONE_NEWUSER, CLONE_THREAD, CLONE_VM, ENOSYS, EPERM, SECCOMP_RET_ACTION_FULL, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_THREAD, SIGCHLD,
};
use proptest::prelude::*;
use proptest::sample::select;

use super::abi::{Abi, Machine, X32_BIT};
use super::ranges::{Decision, Range};
use super::table::{Condition, Key, Need, TABLE, Verdict};
use super::{Filters, Instruction, MOST_INSTRUCTIONS, compiled, filter_of, program, ranges};
use interpreter::{Call, run};

const MACHINES: [Machine; 2] = [Machine::X86_64, Machine::Aarch64];

const REFUSE: u32 = SECCOMP_RET_ERRNO | EPERM as u32;
const UNKNOWN: u32 = SECCOMP_RET_ERRNO | ENOSYS as u32;

/// Upper halves too, for the kernel reads none of them where it takes an `int`.
const ARGUMENTS: [u64; 14] = [
    0,
    8,
    0x2_0000,
    0x2_0008,
    0xffff_ffff,
    u64::MAX,
    1 << 32,
    SIGCHLD as u64,
    SIGCHLD as u64 | CLONE_NEWUSER as u64,
    (CLONE_VM | CLONE_THREAD) as u64,
    AF_ALG as u64,
    AF_ALG as u64 + 1,
    AF_VSOCK as u64,
    AF_VSOCK as u64 | 1 << 32,
];

/// The capabilities of the table, each alone, and none, one that is not there, and all of them.
fn capability_sets() -> Vec<BTreeSet<&'static str>> {
    let needs = TABLE.iter().map(|group| group.need);
    let alone: BTreeSet<_> = needs
        .filter_map(|need| match need {
            Need::Nothing => None,
            Need::With(capability) | Need::Without(capability) => Some(capability),
        })
        .chain(["NET_RAW", "ALL"])
        .collect();
    alone.into_iter().map(|capability| BTreeSet::from([capability])).chain([BTreeSet::new()]).collect()
}

/// What counts for an ABI: the table with names replaced by numbers, in its own order.
struct Reading {
    abi: Abi,
    verdicts: Vec<(u32, Verdict)>,
}

impl Reading {
    fn new(abi: Abi, capabilities: &BTreeSet<&str>) -> Self {
        let groups = TABLE.iter().filter(|group| group.need.is_met(capabilities));
        let verdicts = groups
            .flat_map(|group| group.names().map(|name| (abi.number(name), group.verdict)))
            .filter_map(|(number, verdict)| Some((number?, verdict)))
            .collect();
        Self { abi, verdicts }
    }

    /// The first line that has this number.
    fn line(&self, number: u32) -> Option<Verdict> {
        self.verdicts.iter().find(|(own, _)| *own == number).map(|(_, verdict)| *verdict)
    }

    /// What becomes of a call with that line.
    fn answer(&self, line: Option<Verdict>, call: &Call) -> u32 {
        let refuse_unless = |holds| if holds { SECCOMP_RET_ALLOW } else { REFUSE };
        let mask = if self.abi.has_wide_arguments() { u64::MAX } else { 0xffff_ffff };
        let argument = |at: u8| call.arguments[usize::from(at)] & mask;
        match line {
            Some(Verdict::Allow) => SECCOMP_RET_ALLOW,
            Some(Verdict::Fail(error)) => SECCOMP_RET_ERRNO | error as u32,
            Some(Verdict::AllowIf(Condition::Without { argument: at, bits })) => {
                refuse_unless(argument(at) & u64::from(bits) == 0)
            }
            Some(Verdict::AllowIf(Condition::OneOf { argument: at, values })) => {
                refuse_unless(values.iter().any(|value| u64::from(*value) == argument(at)))
            }
            Some(Verdict::AllowIf(Condition::NoneOf { argument: at, values })) => {
                refuse_unless(!values.contains(&(argument(at) as u32)))
            }
            Some(Verdict::AllowIf(Condition::NotHeld)) => {
                let takes_options = [0x4206, 0x4200, 21].contains(&(argument(0) as u32));
                refuse_unless(!takes_options || argument(3) & 0x40 == 0)
            }
            // Of nothing in the table.
            Some(Verdict::AllowIf(Condition::OwnLimit { .. })) => unreachable!(),
            None if self.abi.known().iter().any(|known| known.contains(&call.number)) => REFUSE,
            None => UNKNOWN,
        }
    }
}

/// The reading that counts for a number at an entry.
fn reading(readings: &[Reading], number: u32) -> &Reading {
    match readings {
        [only] => only,
        [x86_64, x32] => {
            if number & X32_BIT == 0 {
                x86_64
            } else {
                x32
            }
        }
        _ => unreachable!("two ABIs share an entry at most"),
    }
}

/// Everywhere that a table could have something, and around it.
fn numbers() -> impl Iterator<Item = u32> {
    let edges = [X32_BIT - 1, X32_BIT << 1, 1 << 31, u32::MAX - 1, u32::MAX];
    (0..=700).chain(X32_BIT..=X32_BIT + 700).chain(0xe_fff0..=0xf_0010).chain(edges)
}

#[test]
fn every_number_of_every_abi_is_answered_as_the_table_says() {
    for machine in MACHINES {
        for capabilities in capability_sets() {
            let program = filter_of(machine, &capabilities);
            for entry in machine.entries() {
                let readings: Vec<_> =
                    entry.abis.iter().map(|abi| Reading::new(*abi, &capabilities)).collect();
                for number in numbers() {
                    let reading = reading(&readings, number);
                    let line = reading.line(number);
                    for argument in ARGUMENTS {
                        let call = Call { number, architecture: entry.token, arguments: [argument; 6] };
                        let expected = reading.answer(line, &call);
                        assert_eq!(run(&program, &call).answer, expected, "{call:x?} with {capabilities:?}");
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_call_is_answered_as_the_table_says(
        machine in select(&MACHINES[..]),
        capabilities in select(capability_sets()),
        entry in 0..2_usize,
        number in prop_oneof![any::<u32>(), 0..500_u32, X32_BIT..X32_BIT + 600],
        arguments in any::<[u64; 6]>(),
        usual in proptest::option::of(select(&ARGUMENTS[..])),
    ) {
        let entry = &machine.entries()[entry];
        let mut arguments = arguments;
        arguments[0] = usual.unwrap_or(arguments[0]);
        let readings: Vec<_> = entry.abis.iter().map(|abi| Reading::new(*abi, &capabilities)).collect();
        let call = Call { number, architecture: entry.token, arguments };
        let reading = reading(&readings, number);
        let expected = reading.answer(reading.line(number), &call);
        prop_assert_eq!(run(&filter_of(machine, &capabilities), &call).answer, expected);
    }

    #[test]
    fn a_call_of_another_architecture_ends_the_thread(architecture in any::<u32>(), number in 0..500_u32) {
        for machine in MACHINES {
            prop_assume!(machine.entries().iter().all(|entry| entry.token != architecture));
            let call = Call { number, architecture, arguments: [0; 6] };
            let program = filter_of(machine, &BTreeSet::from(["ALL"]));
            prop_assert_eq!(run(&program, &call).answer, SECCOMP_RET_KILL_THREAD);
        }
    }
}

/// The answer to a call by name, on x86_64.
fn answer(abi: Abi, capabilities: &[&str], name: &str, argument: u64) -> u32 {
    let entry = Machine::X86_64.entries().iter().find(|entry| entry.abis.contains(&abi)).unwrap();
    let number = abi.number(name).unwrap();
    let call = Call { number, architecture: entry.token, arguments: [argument, 0, 0, 0, 0, 0] };
    let capabilities = capabilities.iter().copied().collect();
    run(&filter_of(Machine::X86_64, &capabilities), &call).answer
}

#[test]
fn each_machines_other_architecture_is_not_the_machines_own() {
    let [native, other] = Machine::X86_64.entries() else { panic!() };
    let call = |architecture| Call { number: 11, architecture, arguments: [0; 6] };
    // 11 is execve on i386 and munmap on x86_64; 1 << 30 | 11 is munmap on x32.
    let program = filter_of(Machine::X86_64, &BTreeSet::new());
    assert_eq!(run(&program, &call(native.token)).answer, SECCOMP_RET_ALLOW);
    assert_eq!(run(&program, &call(other.token)).answer, SECCOMP_RET_ALLOW);
    // 165 is mount on x86_64 and getresuid on i386.
    let call = |architecture| Call { number: 165, architecture, arguments: [0; 6] };
    assert_eq!(run(&program, &call(native.token)).answer, REFUSE);
    assert_eq!(run(&program, &call(other.token)).answer, SECCOMP_RET_ALLOW);
}

#[test]
fn what_a_newer_docker_took_back_is_refused_and_what_it_added_is_not_there() {
    for abi in [Abi::X86_64, Abi::I386, Abi::X32] {
        for name in
            ["io_uring_setup", "io_uring_enter", "io_uring_register", "pkey_alloc", "name_to_handle_at"]
        {
            assert_eq!(answer(abi, &[], name, 0), REFUSE, "{name} of {abi:?}");
        }
        for name in ["cachestat", "fchmodat2", "mseal", "statmount", "lsm_list_modules"] {
            assert_eq!(answer(abi, &[], name, 0), UNKNOWN, "{name} of {abi:?}");
        }
    }
}

#[test]
fn what_reaches_out_of_a_container_is_refused() {
    let names = "acct add_key bpf chroot init_module kexec_load keyctl mount move_mount open_by_handle_at open_tree
                 perf_event_open pivot_root process_vm_writev reboot request_key setns swapon syslog umount2 unshare
                 userfaultfd";
    for name in names.split_whitespace() {
        assert_eq!(answer(Abi::X86_64, &[], name, 0), REFUSE, "{name}");
        assert_eq!(answer(Abi::I386, &[], name, 0), REFUSE, "{name} of 32 bits");
        assert_eq!(answer(Abi::X32, &[], name, 0), REFUSE, "{name} of x32");
    }
}

#[test]
fn clone_makes_processes_and_threads_but_no_namespaces() {
    let flags = |flags: i32| flags as u64;
    assert_eq!(answer(Abi::X86_64, &[], "clone", flags(SIGCHLD)), SECCOMP_RET_ALLOW);
    assert_eq!(answer(Abi::X86_64, &[], "clone", flags(CLONE_VM | CLONE_THREAD)), SECCOMP_RET_ALLOW);
    for namespace in [CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWUSER] {
        assert_eq!(answer(Abi::X86_64, &[], "clone", flags(namespace | SIGCHLD)), REFUSE);
        assert_eq!(answer(Abi::I386, &[], "clone", flags(namespace | SIGCHLD)), REFUSE);
        assert_eq!(answer(Abi::X86_64, &["SYS_ADMIN"], "clone", flags(namespace)), SECCOMP_RET_ALLOW);
    }
}

#[test]
fn clone3_looks_as_if_it_did_not_exist_so_that_libc_falls_back() {
    assert_eq!(answer(Abi::X86_64, &[], "clone3", 0), UNKNOWN);
    assert_eq!(answer(Abi::X86_64, &["SYS_ADMIN"], "clone3", 0), SECCOMP_RET_ALLOW);
}

#[test]
fn sockets_are_of_any_family_but_two() {
    for abi in [Abi::X86_64, Abi::I386, Abi::X32] {
        for family in [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_ALG + 1, AF_VSOCK + 1, -1] {
            assert_eq!(answer(abi, &[], "socket", family as u64), SECCOMP_RET_ALLOW, "{family} of {abi:?}");
        }
        for family in [AF_ALG, AF_VSOCK] {
            assert_eq!(answer(abi, &[], "socket", family as u64), REFUSE, "{family} of {abi:?}");
            // The kernel takes an int.
            assert_eq!(answer(abi, &["ALL"], "socket", family as u64 | 7 << 32), REFUSE);
        }
    }
}

#[test]
fn a_file_is_locked_and_duplicated_but_nothing_is_left_with_it() {
    for abi in [Abi::X86_64, Abi::I386, Abi::X32] {
        let fcntl = |command: u64| {
            let entry = Machine::X86_64.entries().iter().find(|entry| entry.abis.contains(&abi)).unwrap();
            let number = abi.number("fcntl").unwrap();
            let arguments = [3, command, 1, 0, 0, 0];
            run(
                &filter_of(Machine::X86_64, &BTreeSet::from(["ALL"])),
                &Call { number, architecture: entry.token, arguments },
            )
            .answer
        };
        // F_DUPFD, F_GETFL, F_SETLK, F_OFD_SETLK, F_GETLEASE, F_DUPFD_CLOEXEC, F_ADD_SEALS, F_GET_RW_HINT.
        for allowed in [0, 3, 6, 37, 1025, 1030, 1033, 1035] {
            assert_eq!(fcntl(allowed), SECCOMP_RET_ALLOW, "{allowed} of {abi:?}");
        }
        for refused in [1024, 1026, 1036, 1038, 1040] {
            assert_eq!(fcntl(refused), REFUSE, "{refused} of {abi:?}");
            // The kernel takes an unsigned int.
            assert_eq!(fcntl(refused | 1 << 32), REFUSE);
        }
    }
}

#[test]
fn programs_that_share_a_container_limit_themselves_alone() {
    const KEY: Key = [0x1234_5678_9abc_def0, 0xfedc_ba98_7654_3210];
    let filter = compiled(Machine::X86_64, |entry| ranges::of_apart(entry, KEY));
    for abi in [Abi::X86_64, Abi::I386, Abi::X32] {
        let entry = Machine::X86_64.entries().iter().find(|entry| entry.abis.contains(&abi)).unwrap();
        let answer = |name, [first, second, third]: [u64; 3]| {
            let number = abi.number(name).unwrap();
            let arguments = [first, second, third, 0, 0, 0];
            run(&filter, &Call { number, architecture: entry.token, arguments }).answer
        };
        const NOFILE: u64 = 7;
        const RTTIME: u64 = 15;
        // For itself, and what it is not.
        for allowed in [[0, NOFILE, 0x1000], [0, RTTIME, 0], [1 << 32, NOFILE, 0]] {
            assert_eq!(answer("prlimit64", allowed), SECCOMP_RET_ALLOW, "{allowed:?} of {abi:?}");
        }
        for refused in [
            [1, NOFILE, 0],
            [u64::MAX, NOFILE, 0x1000],
            [0, RTTIME, 0x1000],
            [0, RTTIME, 1 << 32],
            [0, 1 << 32 | RTTIME, 8],
        ] {
            assert_eq!(answer("prlimit64", refused), REFUSE, "{refused:?} of {abi:?}");
        }
        assert_eq!(answer("setrlimit", [NOFILE, 0x1000, 0]), SECCOMP_RET_ALLOW);
        for refused in [RTTIME, 1 << 32 | RTTIME] {
            assert_eq!(answer("setrlimit", [refused, 0x1000, 0]), REFUSE, "{abi:?}");
        }
        assert_eq!(answer("kill", [1, 9, 0]), SECCOMP_RET_ALLOW, "{abi:?}");

        // Whoever has the key, for himself. A 32-bit program has no registers for it.
        let with = |key: Key, process| {
            let number = abi.number("prlimit64").unwrap();
            let arguments = [process, RTTIME, 0x1000, 0, key[0], key[1]];
            run(&filter, &Call { number, architecture: entry.token, arguments }).answer
        };
        let expected = if abi.is_native() { SECCOMP_RET_ALLOW } else { REFUSE };
        assert_eq!(with(KEY, 0), expected, "{abi:?}");
        assert_eq!(with(KEY, 1), REFUSE, "{abi:?}");
        for bit in 0..128 {
            let mut other = KEY;
            other[bit / 64] ^= 1 << (bit % 64);
            assert_eq!(with(other, 0), REFUSE, "{bit} of {abi:?}");
        }
    }
}

#[test]
fn a_personality_is_compared_with_all_of_its_bits() {
    const ADDR_NO_RANDOMIZE: u64 = 0x4_0000;
    for allowed in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        assert_eq!(answer(Abi::X86_64, &[], "personality", allowed), SECCOMP_RET_ALLOW);
        assert_eq!(answer(Abi::X86_64, &[], "personality", allowed | 1 << 32), REFUSE);
        // 32 bits are all that such a program has.
        assert_eq!(answer(Abi::I386, &[], "personality", allowed | 1 << 32), SECCOMP_RET_ALLOW);
    }
    assert_eq!(answer(Abi::X86_64, &[], "personality", ADDR_NO_RANDOMIZE), REFUSE);
}

#[test]
fn nobody_holds_another_on_its_way_out() {
    let seen = |abi: Abi, request: u64, options: u64| {
        let machine = Machine::X86_64;
        let entry = machine.entries().iter().find(|entry| entry.abis.contains(&abi)).unwrap();
        let arguments = [request, 7, 0, options, 0, 0];
        let call = Call { number: abi.number("ptrace").unwrap(), architecture: entry.token, arguments };
        let [whole, unheld] =
            [filter_of(machine, &BTreeSet::from(["ALL"])), compiled(machine, ranges::of_unheld)]
                .map(|program| run(&program, &call).answer);
        assert_eq!(whole, unheld);
        whole
    };
    for abi in [Abi::X86_64, Abi::I386] {
        for request in [0x4206, 0x4200, 21] {
            assert_eq!(seen(abi, request, 0x40), REFUSE);
            assert_eq!(seen(abi, request, 0x10_007f), REFUSE);
            // What strace and debuggers ask for else.
            assert_eq!(seen(abi, request, 0x10_003f), SECCOMP_RET_ALLOW);
        }
        // PTRACE_TRACEME, PTRACE_POKEDATA, PTRACE_CONT with a signal, PTRACE_ATTACH: no options.
        for request in [0, 5, 7, 16] {
            assert_eq!(seen(abi, request, 0x40), SECCOMP_RET_ALLOW);
        }
    }
}

#[test]
fn a_capability_opens_its_own_calls_and_no_others() {
    for (capability, name, other) in [
        ("SYS_CHROOT", "chroot", "mount"),
        ("SYS_PTRACE", "process_vm_readv", "bpf"),
        ("BPF", "bpf", "perf_event_open"),
        ("PERFMON", "perf_event_open", "bpf"),
        ("SYSLOG", "syslog", "acct"),
        ("SYS_TIME", "clock_settime", "vhangup"),
        ("SYS_NICE", "set_mempolicy_home_node", "reboot"),
        ("SYS_ADMIN", "mount", "reboot"),
        ("DAC_READ_SEARCH", "open_by_handle_at", "name_to_handle_at"),
    ] {
        assert_eq!(answer(Abi::X86_64, &[capability], name, 0), SECCOMP_RET_ALLOW, "{name}");
        assert_eq!(answer(Abi::X86_64, &[capability], other, 0), REFUSE, "{other} with {capability}");
        assert_eq!(answer(Abi::X86_64, &["ALL"], name, 0), SECCOMP_RET_ALLOW, "{name} with all");
    }
}

#[test]
fn a_call_that_a_capability_opens_does_not_make_older_unknown_ones_known() {
    // lsm_list_modules has a higher number than fchmodat2, whose callers in libc need ENOSYS.
    assert_eq!(answer(Abi::X86_64, &["SYS_ADMIN"], "lsm_list_modules", 0), SECCOMP_RET_ALLOW);
    assert_eq!(answer(Abi::X86_64, &["SYS_ADMIN"], "fchmodat2", 0), UNKNOWN);
}

#[test]
fn no_call_is_in_two_groups_that_say_different_things() {
    for capabilities in capability_sets() {
        let counting: Vec<_> = TABLE.iter().filter(|group| group.need.is_met(&capabilities)).collect();
        for (at, group) in counting.iter().enumerate() {
            for name in group.names() {
                let clash = counting[at + 1..].iter().find(|other| other.names().any(|other| other == name));
                assert_eq!(clash.map_or(group.verdict, |clash| clash.verdict), group.verdict, "{name}");
            }
        }
    }
}

#[test]
fn a_filter_fits_the_kernel_and_decides_in_few_steps() {
    for machine in MACHINES {
        for capabilities in capability_sets() {
            let program = filter_of(machine, &capabilities);
            assert!(program.len() <= MOST_INSTRUCTIONS / 4, "{} instructions", program.len());
            for entry in machine.entries() {
                for number in numbers() {
                    let call = Call { number, architecture: entry.token, arguments: [u64::MAX; 6] };
                    let steps = run(&program, &call).steps;
                    assert!(steps <= 20, "{steps} instructions for {call:x?}");
                }
            }
        }
    }
}

#[test]
fn a_row_too_long_for_a_short_jump_is_bisected_as_well() {
    let decision = |number: u32| if number % 6 < 3 { Decision::Allow } else { Decision::Fail(EPERM) };
    let ranges = (0..1000).map(|at| Range { first: at * 3, decision: decision(at * 3) }).collect();
    let program = program::compile(&[(7, ranges)]);
    for number in 0..3000 {
        let call = Call { number, architecture: 7, arguments: [0; 6] };
        let expected = if decision(number) == Decision::Allow { SECCOMP_RET_ALLOW } else { REFUSE };
        assert_eq!(run(&program, &call).answer, expected, "{number}");
    }
}

#[test]
fn an_instruction_is_laid_out_as_the_kernels() {
    assert_eq!(size_of::<Instruction>(), size_of::<libc::sock_filter>());
    assert_eq!(align_of::<Instruction>(), align_of::<libc::sock_filter>());
    assert_eq!(std::mem::offset_of!(Instruction, jt), std::mem::offset_of!(libc::sock_filter, jt));
    assert_eq!(std::mem::offset_of!(Instruction, jf), std::mem::offset_of!(libc::sock_filter, jf));
    assert_eq!(std::mem::offset_of!(Instruction, k), std::mem::offset_of!(libc::sock_filter, k));
}

#[test]
fn the_filters_are_this_machines() {
    let native = if cfg!(target_arch = "x86_64") { Machine::X86_64 } else { Machine::Aarch64 };
    assert_eq!(Filters::new(&BTreeSet::new()), Filters::of(native, &BTreeSet::new()));
}

/// As the kernel asks both: the stricter answer counts, and of two alike that of the one attached last. seccomp(2).
fn answer_by_both(filters: &Filters, call: &Call) -> u32 {
    let [slot, sandbox] = [&filters.slot, &filters.sandbox].map(|program| run(program, call).answer);
    let strictness = |answer: u32| answer & SECCOMP_RET_ACTION_FULL;
    if strictness(slot) < strictness(sandbox) { slot } else { sandbox }
}

#[test]
fn both_filters_together_are_the_whole_one() {
    for machine in MACHINES {
        for capabilities in capability_sets() {
            let (whole, both) = (filter_of(machine, &capabilities), Filters::of(machine, &capabilities));
            for entry in machine.entries() {
                for (number, argument) in
                    numbers().flat_map(|number| ARGUMENTS.map(|argument| (number, argument)))
                {
                    let call = Call { number, architecture: entry.token, arguments: [argument; 6] };
                    assert_eq!(answer_by_both(&both, &call), run(&whole, &call).answer, "{call:x?}");
                }
            }
        }
    }
}

#[test]
fn a_slot_may_make_sandboxes() {
    let filters = Filters::of(Machine::X86_64, &BTreeSet::new());
    let [native, _] = Machine::X86_64.entries() else { panic!() };
    for name in
        ["mount", "umount2", "mount_setattr", "move_mount", "open_tree", "pivot_root", "sethostname", "clone"]
    {
        let number = Abi::X86_64.number(name).unwrap();
        let call = Call { number, architecture: native.token, arguments: [u64::MAX; 6] };
        assert_eq!(run(&filters.slot, &call).answer, SECCOMP_RET_ALLOW, "{name}");
        assert_eq!(answer_by_both(&filters, &call), REFUSE, "{name}");
    }
}

#[test]
fn what_a_sandbox_attaches_is_short() {
    let filters = Filters::of(Machine::X86_64, &BTreeSet::new());
    assert!(filters.sandbox.len() < 100, "{} instructions", filters.sandbox.len());
}
