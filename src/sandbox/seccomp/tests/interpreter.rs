//! Classic BPF as far as seccomp(2) has it and the programs use it.

use libc::{BPF_ABS, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W};

use super::Instruction;

const LOAD: u32 = BPF_LD | BPF_W | BPF_ABS;
const SKIP: u32 = BPF_JMP | BPF_JA;
const EQUAL: u32 = BPF_JMP | BPF_JEQ | BPF_K;
const AT_LEAST: u32 = BPF_JMP | BPF_JGE | BPF_K;
const ANY_BIT: u32 = BPF_JMP | BPF_JSET | BPF_K;
const ANSWER: u32 = BPF_RET | BPF_K;

/// What a filter sees of a call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) architecture: u32,
    pub(super) arguments: [u64; 6],
}

/// How a program ended.
pub(super) struct End {
    pub(super) answer: u32,
    pub(super) steps: usize,
}

/// Runs a program. Panics where the kernel would not have taken it.
pub(super) fn run(program: &[Instruction], call: &Call) -> End {
    let data = data(call);
    let mut accumulator = 0;
    let mut at = 0;
    for steps in 1.. {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let mut branch = |holds| at += usize::from(if holds { jt } else { jf });
        match u32::from(code) {
            LOAD => {
                assert_eq!(k % 4, 0, "seccomp(2): loads are aligned");
                let k = k as usize;
                accumulator = u32::from_le_bytes(data[k..k + 4].try_into().unwrap());
            }
            EQUAL => branch(accumulator == k),
            AT_LEAST => branch(accumulator >= k),
            ANY_BIT => branch(accumulator & k != 0),
            SKIP => at += k as usize,
            ANSWER => return End { answer: k, steps },
            _ => panic!("instruction {code:#x}"),
        }
    }
    unreachable!("jumps only go forwards")
}

/// `struct seccomp_data`: number, architecture, instruction pointer, arguments.
fn data(call: &Call) -> Vec<u8> {
    let mut data = [call.number.to_le_bytes(), call.architecture.to_le_bytes()].concat();
    data.extend(0xdead_beef_dead_beef_u64.to_le_bytes());
    data.extend(call.arguments.iter().flat_map(|argument| argument.to_le_bytes()));
    data
}
