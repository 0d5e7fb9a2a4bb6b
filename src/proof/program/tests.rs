//! Programs as diagrams, against the interpreter.

use super::bpf::{JA, JEQ, JGE, load, ret};
use super::*;
use crate::policy::meaning::Vector;

const JGT: u16 = 0x25;
/// Two errnos.
const ONE: u32 = 0x5_0001;
const OTHER: u32 = 0x5_0002;

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// What a chain of comparisons of the number does, with more of them than are carried along as ranges.
#[test]
fn comparisons_of_the_number_are_exact_however_many() {
    for (code, count) in [(JEQ, 40), (JGE, 40), (JGT, 40), (JEQ, 1300), (JGE, 1300)] {
        let mut program = vec![load(0)];
        for k in 0..count {
            // Each goes on to the next, or returns its own; descending, so that every one of them is met.
            program.extend([jump(code, 3 * (count - k), 0, 1), ret(ONE + (k & 3))]);
        }
        program.push(ret(0));
        let mut s = Store::default();
        let n = of_program(&mut s, &program).unwrap();
        for nr in (0..3 * count + 9).chain([u32::MAX, 1 << 31, 1 << 30]) {
            let v = Vector { arch: 7, nr, args: [9; 6], ip: 3 };
            let run = bpf::canonical(bpf::run(&program, &v, None));
            assert_eq!(s.evaluate(n, &v), run, "{code:#x} {count} {nr}");
        }
    }
}

/// The number asked for again below an argument, and both branches the same.
#[test]
fn ranges_and_other_conditions_mix() {
    let program = [
        load(0),
        jump(JGE, 10, 0, 4),
        load(16),
        jump(JEQ, 1, 0, 2),
        load(0),
        jump(JEQ, 12, 2, 1),
        jump(JA, 0, 0, 0),
        ret(ONE),
        ret(OTHER),
    ];
    let mut s = Store::default();
    let n = of_program(&mut s, &program).unwrap();
    for nr in [0, 9, 10, 11, 12, 13, u32::MAX] {
        for first in [0, 1, 2] {
            let v = Vector { arch: 0, nr, args: [first, 0, 0, 0, 0, 0], ip: 0 };
            assert_eq!(s.evaluate(n, &v), bpf::canonical(bpf::run(&program, &v, None)), "{nr} {first}");
        }
    }
    // All numbers, none of them: no range is left to ask for.
    let mut s = Store::default();
    let all = of_program(&mut s, &[load(0), jump(JGE, 0, 0, 1), ret(ONE), ret(OTHER)]).unwrap();
    let none = of_program(&mut s, &[load(0), jump(JGT, u32::MAX, 0, 1), ret(ONE), ret(OTHER)]).unwrap();
    assert_eq!((s.value(all), s.value(none)), (Some(ONE), Some(OTHER)));
}

/// Programs of any instructions, the index register, the scratch memory and arithmetic among them, run as the
/// interpreter runs them, wherever they are decided.
#[test]
fn any_instructions_are_run_as_the_interpreter_runs_them() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u32| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        u32::try_from(seed >> 33).unwrap() % below
    };
    let cells = [bpf::ST, bpf::STX, bpf::LD_MEM, bpf::LDX_MEM];
    let others = [bpf::TAX, bpf::TXA, bpf::LD_W_LEN, bpf::LDX_W_LEN];
    // All but multiplication and division, whose diagrams are large.
    const COMPUTED: [u16; 8] = [0x04, 0x14, 0x44, 0x54, 0x64, 0x74, 0x84, 0xa4];
    const JUMPS: [u16; 4] = [JEQ, JGT, JGE, 0x45];
    const FROM: [u16; 2] = [0, 8];
    let mut decided = 0;
    for _ in 0..3000 {
        let length = 6 + random(14);
        let mut program = vec![load(8 * random(4)), jump(cells[random(2) as usize], random(3), 0, 0)];
        for at in 0..length {
            let (small, left) = (random(4), length - at);
            program.push(match random(10) {
                0 | 1 => load(16 + 4 * random(4)),
                2..=4 => jump(cells[random(4) as usize], random(3), 0, 0),
                5 => jump(others[random(4) as usize], 0, 0, 0),
                6 => jump([bpf::LD_IMM, bpf::LDX_IMM][random(2) as usize], small, 0, 0),
                // Arithmetic and jumps, with a constant and with the index register.
                7 => jump(COMPUTED[random(8) as usize] | FROM[random(2) as usize], small, 0, 0),
                _ => {
                    let to = |r: u32| u8::try_from(r % left).unwrap();
                    let (jt, jf) = (to(random(64)), to(random(64)));
                    jump(JUMPS[random(4) as usize] | FROM[random(2) as usize], small, jt, jf)
                }
            });
        }
        program.extend([jump(bpf::LD_MEM, 1, 0, 0), jump(JEQ, 2, 0, 1), ret(ONE), ret(OTHER)]);
        let mut s = Store::with_budget(1 << 14);
        let Ok(n) = of_program(&mut s, &program) else { continue };
        decided += 1;
        for _ in 0..24 {
            let args = [0; 6].map(|_: u64| u64::from(random(4)) | u64::from(random(4)) << 32);
            let v = Vector { arch: random(4), nr: random(4), args, ip: 0 };
            let run = bpf::canonical(bpf::run(&program, &v, None));
            assert_eq!(s.evaluate(n, &v), run, "{program:?} {v:?}");
        }
    }
    assert!(decided > 1500, "{decided}");
}

/// Runs `code` on words of a call, and asks what comes out, as the interpreter does; it has to be decided.
fn agrees(program: &[Instruction], s: &mut Store) {
    let n = of_program(s, program).unwrap_or_else(|e| panic!("{program:?}: {e}"));
    let words = [0, 1, 2, 3, 5, 7, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
    for low in words {
        for high in words {
            let v = Vector { arch: 9, nr: 1, args: [low | high << 32, 0, 0, 0, 0, 0], ip: 0 };
            let run = bpf::canonical(bpf::run(program, &v, None));
            assert_eq!(s.evaluate(n, &v), run, "{program:?} {v:?}");
        }
    }
}

/// Every operation that is modelled, with a constant and with an index register that is one.
#[test]
fn arithmetic_is_decided() {
    const MANY: [u32; 8] = [0, 1, 2, 3, 5, 0x10, 0x8000_0001, u32::MAX];
    const SHIFTS: [u32; 4] = [0, 1, 7, 31];
    let operations: [(u16, &[u32], &[u32]); 10] = [
        (0x04, &MANY, &[]),
        (0x14, &MANY, &[]),
        // By more bits its diagram is too large.
        (0x24, &MANY[..7], &[]),
        // A division by zero by the index register ends the program; by a constant it is refused.
        (0x34, &[1, 2, 0x40, 1 << 31], &[0]),
        (0x44, &MANY, &[]),
        (0x54, &MANY, &[]),
        (0xa4, &MANY, &[]),
        (0x64, &SHIFTS, &[32, 33, u32::MAX]),
        (0x74, &SHIFTS, &[32, 33, u32::MAX]),
        (0x84, &[0], &[]),
    ];
    for (operation, constants, by_register) in operations {
        for k in constants.iter().chain(by_register) {
            let mut forms = vec![[jump(bpf::LDX_IMM, *k, 0, 0), jump(operation | 8, 0, 0, 0)]];
            if !by_register.contains(k) {
                forms.push([jump(bpf::LDX_IMM, 0, 0, 0), jump(operation, *k, 0, 0)]);
            }
            for form in forms.iter().filter(|f| f[1].code != 0x8c) {
                for asked in [0, 1, 3, 0xf, 0x8000_0000, u32::MAX] {
                    for test in [JEQ, JGT, JGE, 0x45] {
                        let program = [load(16), form[0], form[1], jump(test, asked, 0, 1), ret(ONE), ret(OTHER)];
                        agrees(&program, &mut Store::default());
                    }
                }
            }
        }
    }
    // What isn't modelled is said not to be.
    for unknown in [[jump(0x34, 3, 0, 0), jump(bpf::TAX, 0, 0, 0)], [jump(bpf::TAX, 0, 0, 0), jump(0x2c, 0, 0, 0)]] {
        let program = [load(16), unknown[0], unknown[1], jump(JEQ, 1, 0, 1), ret(ONE), ret(OTHER)];
        assert!(matches!(of_program(&mut Store::default(), &program), Err(Undecided::Instruction(1 | 2))));
    }
    let divided = [load(16), jump(bpf::LDX_IMM, 3, 0, 0), jump(0x3c, 0, 0, 0), ret(ONE)];
    assert_eq!(of_program(&mut Store::default(), &divided), Err(Undecided::Instruction(2)));
}

/// A program of a few lines whose states double with each bit that it looks at: decided while they are few, and
/// said to be too complex before they are more than a host holds.
#[test]
fn states_without_end_are_too_complex() {
    let summing = |bits: u32| {
        let mut program = Vec::new();
        for bit in 0..bits {
            // Whoever has the bit adds it to the index register; what is there is another sum on each way.
            program.extend([load(16), jump(0x45, 1 << bit, 0, 3), jump(bpf::TXA, 0, 0, 0)]);
            program.extend([jump(0x04, 1 << bit, 0, 0), jump(bpf::TAX, 0, 0, 0)]);
        }
        program.extend([jump(bpf::TXA, 0, 0, 0), jump(JEQ, (1 << bits) - 1, 0, 1), ret(ONE), ret(OTHER)]);
        program
    };
    agrees(&summing(6), &mut Store::default());
    assert_eq!(of_program(&mut Store::default(), &summing(31)), Err(Undecided::TooComplex));
}

/// Two words against each other, of a few bits; and results that are known or not.
#[test]
fn registers_are_compared_and_returned() {
    for test in [JEQ, JGT, JGE, 0x45] {
        for mask in [7, 0x8000_0001] {
            let program = [
                load(16),
                jump(0x54, mask, 0, 0),
                jump(bpf::TAX, 0, 0, 0),
                load(20),
                jump(0x54, mask, 0, 0),
                jump(test | 8, 0, 1, 0),
                ret(ONE),
                ret(OTHER),
            ];
            agrees(&program, &mut Store::default());
        }
    }
    for k in [ONE, 0x7fff_0000, 0] {
        agrees(&[jump(bpf::LD_IMM, k, 0, 0), jump(bpf::RET_A, 0, 0, 0)], &mut Store::default());
    }
    let unknown = [load(16), jump(bpf::RET_A, 0, 0, 0)];
    assert_eq!(of_program(&mut Store::default(), &unknown), Err(Undecided::Instruction(1)));
    agrees(&[load(16), jump(JA, 1, 0, 0), ret(ONE), ret(OTHER)], &mut Store::default());
    agrees(&[load(16), jump(JGT, u32::MAX, 0, 1), ret(ONE), ret(OTHER)], &mut Store::default());
}

/// Comparisons of the number are carried as ranges (a thousand of them would be as many diagrams else), what can't
/// be otherwise is no branch, and what no call reaches is known.
#[test]
fn steps_are_as_few_as_they_can_be() {
    let steps = |word: u32, code: u16, k: u32| {
        let program = [load(word), jump(code, k, 0, 1), ret(ONE), ret(OTHER)];
        let mut s = Store::default();
        let last = execute(&mut s, &program).unwrap().remove(1).remove(0);
        let reached = reached(&mut s, &program).unwrap();
        assert!(reached.len() == 4 && reached[..2] == [TRUE; 2]);
        assert_eq!(reached[3], s.not(reached[2]));
        (last, [reached[2], reached[3]])
    };
    for (code, from, to) in [(JEQ, 5, 6), (JGT, 6, 1 << 32), (JGE, 5, 1 << 32)] {
        let (step, _) = steps(0, code, 5);
        assert!(matches!(step, Step::Ranges(r, (2, 0), (3, 0)) if r == (from..to)), "{code:#x}");
    }
    assert!(matches!(steps(0, 0x45, 5), (Step::Splits(_, (2, 0), (3, 0)), _)));
    assert!(matches!(steps(16, JEQ, 5), (Step::Splits(_, (2, 0), (3, 0)), _)));
    for word in [0, 16] {
        assert!(matches!(steps(word, JGE, 0), (Step::Goes((2, 0)), [TRUE, FALSE])));
        assert!(matches!(steps(word, JGT, u32::MAX), (Step::Goes((3, 0)), [FALSE, TRUE])));
    }
}
