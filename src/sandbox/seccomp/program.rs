//! From ranges of numbers to instructions of classic BPF.
//!
//! Jumps only go forwards. One with a condition skips 255 instructions at most: `struct sock_filter` has a byte for it.

use libc::{
    BPF_ABS, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, EPERM,
    SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_THREAD,
};

use super::Instruction;
use super::ranges::{Decision, Range};
use super::table::{Condition, Key};

/// The requests of ptrace(2) that take options, in their fourth argument; the last one is of some architectures alone.
const PTRACE_SEIZE: u32 = libc::PTRACE_SEIZE;
const PTRACE_SETOPTIONS: u32 = libc::PTRACE_SETOPTIONS;
const PTRACE_OLDSETOPTIONS: u32 = 21;
const PTRACE_O_TRACEEXIT: u32 = libc::PTRACE_O_TRACEEXIT as u32;

/// Where the number lies in `struct seccomp_data`.
const NUMBER: u32 = 0;
/// Where the architecture does.
const ARCHITECTURE: u32 = 4;

/// The program that finds the architecture by its token, then the number's range.
pub(super) fn compile(entries: &[(u32, Vec<Range>)]) -> Vec<Instruction> {
    let mut program = vec![load(ARCHITECTURE)];
    for (token, ranges) in entries {
        let mut section = vec![load(NUMBER)];
        section.extend(search(ranges));
        program.push(compare(BPF_JEQ, *token, 1, 0));
        program.push(skip(section.len()));
        program.extend(section);
    }
    program.push(answer(SECCOMP_RET_KILL_THREAD));
    program
}

/// Bisects: the number is loaded.
fn search(ranges: &[Range]) -> Vec<Instruction> {
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let [first, ..] = upper else { unreachable!("there is a range for every number") };
    if lower.is_empty() {
        return leaf(first.decision);
    }
    let lower = search(lower);
    let mut code = match u8::try_from(lower.len()) {
        Ok(distance) => vec![compare(BPF_JGE, first.first, distance, 0)],
        Err(_) => vec![compare(BPF_JGE, first.first, 0, 1), skip(lower.len())],
    };
    code.extend(lower);
    code.extend(search(upper));
    code
}

fn leaf(decision: Decision) -> Vec<Instruction> {
    match decision {
        Decision::Allow => vec![answer(SECCOMP_RET_ALLOW)],
        Decision::Fail(error) => vec![fail(error)],
        Decision::Test { condition, wide } => test(condition, wide),
    }
}

/// Allows if the condition holds.
fn test(condition: Condition, wide: bool) -> Vec<Instruction> {
    let (allow, refuse) = (answer(SECCOMP_RET_ALLOW), fail(EPERM));
    match condition {
        Condition::Without { argument, bits } => {
            vec![load(low(argument)), compare(BPF_JSET, bits, 0, 1), refuse, allow]
        }
        Condition::OneOf { argument, values } => {
            let upper = [load(low(argument) + 4), compare(BPF_JEQ, 0, 1, 0), refuse];
            let upper = if wide { upper.to_vec() } else { Vec::new() };
            [upper, vec![load(low(argument))], one_of(values, allow, refuse)].concat()
        }
        Condition::OwnLimit { but, unless } => [
            vec![
                load(low(0)),
                compare(BPF_JEQ, 0, 1, 0),
                refuse,
                load(low(1)),
                compare(BPF_JEQ, but, 1, 0),
                allow,
            ],
            unless.map_or_else(Vec::new, |key| [with_key(key), vec![allow]].concat()),
            // What it is to be: nothing, where it is only asked.
            vec![
                load(low(2)),
                compare(BPF_JEQ, 0, 1, 0),
                refuse,
                load(low(2) + 4),
                compare(BPF_JEQ, 0, 1, 0),
                refuse,
                allow,
            ],
        ]
        .concat(),
        Condition::NotHeld => vec![
            load(low(0)),
            compare(BPF_JEQ, PTRACE_SEIZE, 2, 0),
            compare(BPF_JEQ, PTRACE_SETOPTIONS, 1, 0),
            compare(BPF_JEQ, PTRACE_OLDSETOPTIONS, 0, 3),
            load(low(3)),
            compare(BPF_JSET, PTRACE_O_TRACEEXIT, 0, 1),
            refuse,
            allow,
        ],
        Condition::NoneOf { argument, values } => {
            [vec![load(low(argument))], one_of(values, refuse, allow)].concat()
        }
    }
}

/// Goes on with the next instruction if the fifth and the sixth argument are the key, with the one after it if not.
fn with_key([fifth, sixth]: Key) -> Vec<Instruction> {
    let halves = [(4, fifth), (5, sixth)].map(|(argument, number)| {
        [(low(argument), number as u32), (low(argument) + 4, (number >> 32) as u32)]
    });
    let compared = [7, 5, 3, 1].into_iter().zip(halves.into_iter().flatten());
    compared.flat_map(|(past, (at, half))| [load(at), compare(BPF_JEQ, half, 0, past)]).collect()
}

/// Ends with the first instruction if what is loaded is one of these values, with the second if not.
fn one_of(values: &[u32], found: Instruction, missing: Instruction) -> Vec<Instruction> {
    let to_found = |at| u8::try_from(values.len() - at).expect("a condition has few values");
    let mut code: Vec<_> =
        values.iter().enumerate().map(|(at, value)| compare(BPF_JEQ, *value, to_found(at), 0)).collect();
    code.extend([missing, found]);
    code
}

/// Where the lower half of an argument lies in `struct seccomp_data`: both machines are little-endian.
fn low(argument: u8) -> u32 {
    16 + 8 * u32::from(argument)
}

fn load(offset: u32) -> Instruction {
    instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
}

fn compare(how: u32, operand: u32, jt: u8, jf: u8) -> Instruction {
    instruction(BPF_JMP | how | BPF_K, jt, jf, operand)
}

fn skip(distance: usize) -> Instruction {
    let distance = u32::try_from(distance).expect("a program is short");
    instruction(BPF_JMP | BPF_JA, 0, 0, distance)
}

fn answer(what: u32) -> Instruction {
    instruction(BPF_RET | BPF_K, 0, 0, what)
}

fn fail(error: i32) -> Instruction {
    answer(SECCOMP_RET_ERRNO | u32::try_from(error).expect("errors are positive"))
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code: u16::try_from(code).expect("codes have eight bits"), jt, jf, k }
}
