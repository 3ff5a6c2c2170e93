//! No name of the table is lost unseen, as `newfstatat` would be on aarch64: `syscalls` calls it `fstatat` there.

use std::collections::BTreeSet;

use super::super::abi::Abi;
use super::super::table::{Group, TABLE};

/// What only machines of 32 bits have, or had.
const OF_32_BITS: &str = "
    _llseek _newselect chown32 clock_adjtime64 clock_getres_time64 clock_gettime64 clock_nanosleep_time64
    clock_settime64 fadvise64_64 fchown32 fcntl64 fstat64 fstatat64 fstatfs64 ftruncate64 futex_time64 getegid32
    geteuid32 getgid32 getgroups32 getresgid32 getresuid32 getuid32 io_pgetevents_time64 ipc lchown32 lstat64 mmap2
    mq_timedreceive_time64 mq_timedsend_time64 ppoll_time64 pselect6_time64 recv recvmmsg_time64
    rt_sigtimedwait_time64 sched_rr_get_interval_time64 semtimedop_time64 send sendfile64 setfsgid32 setfsuid32
    setgid32 setgroups32 setregid32 setresgid32 setresuid32 setreuid32 setuid32 sigprocmask sigreturn socketcall
    stat64 statfs64 stime timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64 truncate64 ugetrlimit
    umount utimensat_time64 waitpid";

const OF_ARM: &str = "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls";

const OF_X86: &str =
    "arch_prctl epoll_ctl_old epoll_wait_old get_thread_area ioperm iopl modify_ldt set_thread_area";

/// What a machine as young as aarch64 does without.
const OLD: &str = "
    access alarm chmod chown creat dup2 epoll_create epoll_wait eventfd fork futimesat getdents getpgrp inotify_init
    lchown link lstat mkdir mknod open pause pipe poll readlink rename rmdir select signalfd stat symlink time unlink
    utime utimes vfork";

fn words<'a>(lists: &[&'a str]) -> BTreeSet<&'a str> {
    lists.iter().flat_map(|list| list.split_whitespace()).collect()
}

#[test]
fn every_name_is_known_to_each_abi_but_where_it_is_meant_not_to_be() {
    let names: BTreeSet<_> = TABLE.iter().flat_map(Group::names).collect();
    let expected = [
        (Abi::X86_64, words(&[OF_32_BITS, OF_ARM])),
        (
            Abi::X32,
            words(&[OF_32_BITS, OF_ARM, "epoll_ctl_old epoll_wait_old get_thread_area set_thread_area"]),
        ),
        (
            Abi::I386,
            words(&[OF_ARM, "accept epoll_ctl_old epoll_wait_old newfstatat recv semop semtimedop send"]),
        ),
        (Abi::Aarch64, words(&[OF_32_BITS, OF_ARM, OF_X86, OLD])),
        (
            Abi::Arm,
            words(&[
                OF_X86,
                "alarm fadvise64 fadvise64_64 getrlimit ipc memfd_secret mmap newfstatat select socketcall stime
                 sync_file_range time umount utime waitpid",
            ]),
        ),
    ];
    for (abi, expected) in expected {
        let skipped: BTreeSet<_> = names.iter().copied().filter(|name| abi.number(name).is_none()).collect();
        assert_eq!(skipped, expected, "of {abi:?}");
    }
}

#[test]
fn no_two_names_of_an_abi_have_one_number() {
    for abi in [Abi::X86_64, Abi::X32, Abi::I386, Abi::Aarch64, Abi::Arm] {
        let names: BTreeSet<_> = TABLE.iter().flat_map(Group::names).collect();
        let named = names.iter().filter_map(|name| abi.number(name));
        let mut numbers = BTreeSet::new();
        for number in named {
            assert!(numbers.insert(number), "{number} of {abi:?}");
        }
    }
}

#[test]
fn x32_has_numbers_of_its_own() {
    assert_eq!(Abi::X32.number("read"), Some(0x4000_0000));
    assert_eq!(Abi::X32.number("execve"), Some(0x4000_0000 + 520));
    assert_eq!(Abi::X32.number("pwritev2"), Some(0x4000_0000 + 547));
    assert_eq!(Abi::X32.number("set_thread_area"), None);
}

#[test]
fn aarch64_has_no_times_apart_for_machines_of_32_bits() {
    assert_eq!(Abi::Aarch64.number("clock_gettime64"), None);
    assert_eq!(Abi::Arm.number("clock_gettime64"), Some(403));
    assert_eq!(Abi::Aarch64.number("newfstatat"), Some(79));
    assert_eq!(Abi::Aarch64.number("clone3"), Some(435));
}

#[test]
fn arm_has_calls_of_its_own() {
    assert_eq!(Abi::Arm.number("set_tls"), Some(0xf_0005));
    assert_eq!(Abi::Aarch64.number("set_tls"), None);
}
