//! From the table to ranges of numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use libc::{ENOSYS, EPERM};

use super::abi::{Abi, Entry};
use super::table::{Condition, Key, TABLE, Verdict};

/// What happens to the calls of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Allow,
    /// The call fails with this error and is not made.
    Fail(i32),
    /// It depends on an argument.
    Test {
        condition: Condition,
        /// Whether the argument's upper half counts.
        wide: bool,
    },
}

/// What happens to every number from this one on, up to the next range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u32,
    pub(super) decision: Decision,
}

/// What happens to each number of an architecture: in ascending order, from 0 on, no two neighbours alike.
pub(super) fn of(entry: &Entry, capabilities: &BTreeSet<&str>) -> Vec<Range> {
    let mut decisions = BTreeMap::from([(0, Decision::Fail(ENOSYS))]);
    for abi in entry.abis {
        for known in abi.known() {
            decide(&mut decisions, known, Decision::Fail(EPERM));
        }
    }
    for abi in entry.abis {
        for group in TABLE.iter().filter(|group| group.need.is_met(capabilities)) {
            let decision = match group.verdict {
                Verdict::Allow => Decision::Allow,
                Verdict::Fail(error) => Decision::Fail(error),
                Verdict::AllowIf(condition) => Decision::Test { condition, wide: abi.has_wide_arguments() },
            };
            for number in group.names().filter_map(|name| abi.number(name)) {
                decide(&mut decisions, &(number..=number), decision);
            }
        }
    }
    merged(decisions)
}

/// The calls with which a sandbox is made, that a program may not all make.
const SETUP: &str =
    "mount umount2 mount_setattr open_tree move_mount pivot_root sethostname unshare clone clone3";

/// The same as [`of`] but for [`SETUP`], which the machine's own ABI lets through whatever its arguments.
pub(super) fn of_slot(entry: &Entry, capabilities: &BTreeSet<&str>) -> Vec<Range> {
    amended(of(entry, capabilities), entry, |_| Decision::Allow)
}

/// What [`of_slot`] has let through too much, and nothing else: with it, all is as in [`of`].
pub(super) fn of_sandbox(entry: &Entry, capabilities: &BTreeSet<&str>) -> Vec<Range> {
    let whole = of(entry, capabilities);
    let all = vec![Range { first: 0, decision: Decision::Allow }];
    amended(all, entry, |number| {
        let found = whole.partition_point(|range| range.first <= number);
        whole[found - 1].decision
    })
}

/// All is let through but what holds a process on its way out.
pub(super) fn of_unheld(entry: &Entry) -> Vec<Range> {
    all_but(entry, |_| [("ptrace", Condition::NotHeld)])
}

/// All is let through but limits for others, prlimit(2) with another's number: `RLIMIT_CPU` would end them, others keep them
/// from going on. And the limit by which it is known whose a process is, for all but who has the key.
pub(super) fn of_apart(entry: &Entry, key: Key) -> Vec<Range> {
    const TAG: u32 = libc::RLIMIT_RTTIME;
    all_but(entry, |abi| {
        [
            ("prlimit64", Condition::OwnLimit { but: TAG, unless: abi.is_native().then_some(key) }),
            ("setrlimit", Condition::NoneOf { argument: 0, values: &[TAG] }),
        ]
    })
}

/// All is let through but calls that do not meet their conditions.
fn all_but<const N: usize>(
    entry: &Entry,
    conditions: impl Fn(&Abi) -> [(&'static str, Condition); N],
) -> Vec<Range> {
    let mut decisions = BTreeMap::from([(0, Decision::Allow)]);
    for abi in entry.abis {
        for (name, condition) in conditions(abi) {
            if let Some(number) = abi.number(name) {
                let decision = Decision::Test { condition, wide: abi.has_wide_arguments() };
                decide(&mut decisions, &(number..=number), decision);
            }
        }
    }
    merged(decisions)
}

fn amended(ranges: Vec<Range>, entry: &Entry, decision: impl Fn(u32) -> Decision) -> Vec<Range> {
    let mut decisions: BTreeMap<_, _> =
        ranges.into_iter().map(|range| (range.first, range.decision)).collect();
    for abi in entry.abis.iter().filter(|abi| abi.is_native()) {
        for number in SETUP.split_ascii_whitespace().filter_map(|name| abi.number(name)) {
            decide(&mut decisions, &(number..=number), decision(number));
        }
    }
    merged(decisions)
}

fn merged(decisions: BTreeMap<u32, Decision>) -> Vec<Range> {
    let mut ranges: Vec<_> =
        decisions.into_iter().map(|(first, decision)| Range { first, decision }).collect();
    ranges.dedup_by(|later, earlier| later.decision == earlier.decision);
    ranges
}

/// Decides on some numbers, none of which was decided on apart from the others before.
fn decide(decisions: &mut BTreeMap<u32, Decision>, numbers: &RangeInclusive<u32>, decision: Decision) {
    if let Some(next) = numbers.end().checked_add(1) {
        let (_, beyond) = decisions.range(..=next).next_back().expect("every number is decided on, from 0");
        decisions.insert(next, *beyond);
    }
    decisions.insert(*numbers.start(), decision);
}
