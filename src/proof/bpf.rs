//! Classic BPF as seccomp(2) runs it: a checker and an interpreter.
//!
//! Follows net/core/filter.c and kernel/seccomp.c: absolute word loads from struct seccomp_data,
//! forward jumps, two registers, sixteen memory words, at most 4,096 instructions.

use crate::policy::meaning::Vector;
use crate::policy::syscalls::Action;
use crate::sys::confine::Instruction;

/// A filter.
pub type Program = Vec<Instruction>;

/// Most instructions of a filter (BPF_MAXINSNS).
pub const MOST: usize = 4096;

/// Why a program can't be a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Empty, or longer than [`MOST`].
    #[error("{0} instructions; a filter has 1 to {MOST}")]
    Length(usize),
    /// A jump leaves the program.
    #[error("instruction {0} jumps out of the program")]
    Jump(usize),
    /// An operation that seccomp refuses.
    #[error("instruction {0} has operation {1:#06x}, which seccomp doesn't know")]
    Operation(usize, u16),
    /// A load outside struct seccomp_data.
    #[error("instruction {0} loads from offset {1}")]
    Load(usize, u32),
    /// The last instruction doesn't return.
    #[error("the program doesn't end in a return")]
    End,
}

/// sizeof(struct seccomp_data)
pub(crate) const DATA_SIZE: u32 = 64;

// linux/bpf_common.h
pub(crate) const LD_W_ABS: u16 = 0x20;
pub(crate) const LD_W_LEN: u16 = 0x80;
pub(crate) const LDX_W_LEN: u16 = 0x81;
pub(crate) const LD_IMM: u16 = 0x00;
pub(crate) const LD_MEM: u16 = 0x60;
pub(crate) const LDX_IMM: u16 = 0x01;
pub(crate) const LDX_MEM: u16 = 0x61;
pub(crate) const ST: u16 = 0x02;
pub(crate) const STX: u16 = 0x03;
pub(crate) const JA: u16 = 0x05;
pub(crate) const RET_K: u16 = 0x06;
pub(crate) const RET_A: u16 = 0x16;
pub(crate) const TAX: u16 = 0x07;
pub(crate) const TXA: u16 = 0x87;

/// `ld [offset]`
pub(crate) fn load(offset: u32) -> Instruction {
    Instruction { code: LD_W_ABS, jt: 0, jf: 0, k: offset }
}

/// `ret`
pub(crate) fn ret(k: u32) -> Instruction {
    Instruction { code: RET_K, jt: 0, jf: 0, k }
}

/// `jeq`, `jgt`, `jge` with a constant.
pub(crate) fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// BPF_ALU|BPF_AND|BPF_K
pub(crate) const AND_K: u16 = 0x54;
/// BPF_JMP|BPF_JEQ|BPF_K
pub(crate) const JEQ: u16 = 0x15;
/// BPF_JMP|BPF_JGT|BPF_K
pub(crate) const JGT: u16 = 0x25;
/// BPF_JMP|BPF_JGE|BPF_K
pub(crate) const JGE: u16 = 0x35;

/// BPF_JMP|BPF_JSET|BPF_K
pub(crate) const JSET: u16 = 0x45;

/// The checks that the kernel makes before it takes a filter.
pub fn check(program: &[Instruction]) -> Result<(), Fault> {
    if program.is_empty() || program.len() > MOST {
        return Err(Fault::Length(program.len()));
    }
    for (i, insn) in program.iter().enumerate() {
        let reach = |n: usize| if i + 1 + n < program.len() { Ok(()) } else { Err(Fault::Jump(i)) };
        match insn.code {
            LD_W_ABS if insn.k % 4 == 0 && insn.k < 64 => {}
            LD_W_ABS => return Err(Fault::Load(i, insn.k)),
            LD_MEM | LDX_MEM | ST | STX if insn.k < 16 => {}
            LD_W_LEN | LD_IMM | LDX_IMM | RET_K | RET_A | TAX | TXA | LDX_W_LEN => {}
            JA => reach(usize::try_from(insn.k).map_err(|_| Fault::Jump(i))?)?,
            // A class of instructions is a whole number (bpf_check_classic): nothing beyond 8 bits, no negation of X.
            c if c >= 0x100 || c == 0x8c => return Err(Fault::Operation(i, c)),
            c if c & 0x07 == 0x05 && (0x10..=0x4f).contains(&(c & 0xf7)) => {
                reach(usize::from(insn.jt))?;
                reach(usize::from(insn.jf))?;
            }
            // A constant shift or divisor that the kernel refuses (bpf_check_classic).
            0x64 | 0x74 if insn.k >= 32 => return Err(Fault::Operation(i, insn.code)),
            0x34 if insn.k == 0 => return Err(Fault::Operation(i, insn.code)),
            c if c & 0x07 == 0x04 && c & 0xf0 <= 0xa0 && (c & 0xf0 != 0x90) => {}
            c => return Err(Fault::Operation(i, c)),
        }
    }
    match program.last().map(|i| i.code) {
        Some(RET_K | RET_A) => Ok(()),
        _ => Err(Fault::End),
    }
}

/// Runs a checked program; returns what it returns and the highest count of instructions is bounded
/// by its length, as jumps only go forward. `visited` collects the instructions that ran.
pub fn run(program: &[Instruction], v: &Vector, mut visited: Option<&mut Vec<bool>>) -> u32 {
    let (mut a, mut x, mut memory, mut pc) = (0u32, 0u32, [0u32; 16], 0usize);
    while let Some(insn) = program.get(pc) {
        if let Some(seen) = visited.as_deref_mut().and_then(|s| s.get_mut(pc)) {
            *seen = true;
        }
        pc += 1;
        let k = insn.k;
        let cell = usize::try_from(k).unwrap_or(usize::MAX);
        match insn.code {
            LD_W_ABS => a = word(v, k),
            LD_W_LEN | LDX_W_LEN => {
                if insn.code == LD_W_LEN {
                    a = DATA_SIZE
                } else {
                    x = DATA_SIZE
                }
            }
            LD_IMM => a = k,
            LD_MEM => a = memory.get(cell).copied().unwrap_or(0),
            LDX_IMM => x = k,
            LDX_MEM => x = memory.get(cell).copied().unwrap_or(0),
            ST | STX => {
                if let Some(m) = memory.get_mut(cell) {
                    *m = if insn.code == ST { a } else { x };
                }
            }
            JA => pc += cell,
            RET_K => return k,
            RET_A => return a,
            TAX => x = a,
            TXA => a = x,
            code if code & 0x07 == 0x05 => {
                let operand = if code & 0x08 != 0 { x } else { k };
                let taken = match code & 0xf0 {
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    _ => a & operand != 0,
                };
                pc += usize::from(if taken { insn.jt } else { insn.jf });
            }
            code => {
                let operand = if code & 0x08 != 0 { x } else { k };
                a = match code & 0xf0 {
                    0x00 => a.wrapping_add(operand),
                    0x10 => a.wrapping_sub(operand),
                    0x20 => a.wrapping_mul(operand),
                    // A division by zero ends the program with 0: kill (net/core/filter.c).
                    0x30 => match a.checked_div(operand) {
                        Some(q) => q,
                        None => return 0,
                    },
                    0x40 => a | operand,
                    0x50 => a & operand,
                    0x60 => a.wrapping_shl(operand),
                    0x70 => a.wrapping_shr(operand),
                    0x80 => a.wrapping_neg(),
                    _ => a ^ operand,
                };
            }
        }
    }
    0
}

/// A word of struct seccomp_data: nr, arch, instruction_pointer, args (linux/seccomp.h), little endian.
fn word(v: &Vector, offset: u32) -> u32 {
    let half =
        |value: u64, high: bool| u32::try_from(if high { value >> 32 } else { value & 0xffff_ffff }).unwrap_or(0);
    match offset {
        0 => v.nr,
        4 => v.arch,
        8 | 12 => half(v.ip, offset == 12),
        _ => {
            let index = usize::try_from((offset - 16) / 8).unwrap_or(usize::MAX);
            half(v.args.get(index).copied().unwrap_or(0), (offset - 16) % 8 == 4)
        }
    }
}

// linux/seccomp.h
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

/// The word that a filter returns for an action.
pub fn encode(action: Action) -> u32 {
    match action {
        Action::Allow => RET_ALLOW,
        Action::Log => RET_LOG,
        Action::Errno(e) => RET_ERRNO | u32::from(e),
        Action::Kill => RET_KILL_PROCESS,
    }
}

/// The returned word as the kernel understands it: data that it ignores is 0, what it doesn't know kills
/// (kernel/seccomp.c, linux/seccomp.h).
pub fn canonical(word: u32) -> u32 {
    const KILL_THREAD: u32 = 0;
    const TRAP: u32 = 0x0003_0000;
    const USER_NOTIF: u32 = 0x7fc0_0000;
    const TRACE: u32 = 0x7ff0_0000;
    match word & 0xffff_0000 {
        RET_ERRNO => RET_ERRNO | (word & 0xffff).min(4095),
        TRAP | TRACE => word,
        a @ (KILL_THREAD | USER_NOTIF | RET_ALLOW | RET_LOG) => a,
        _ => RET_KILL_PROCESS,
    }
}

/// The action behind a returned word; what the kernel doesn't know kills (kernel/seccomp.c).
pub fn decode(word: u32) -> Action {
    match word & 0xffff_0000 {
        RET_ALLOW => Action::Allow,
        RET_LOG => Action::Log,
        // The kernel caps the errno at MAX_ERRNO.
        RET_ERRNO => Action::Errno(u16::try_from((word & 0xffff).min(4095)).unwrap_or(4095)),
        _ => Action::Kill,
    }
}

/// The listing that `explain` prints, one instruction a line.
pub fn listing(program: &[Instruction]) -> String {
    let mut out = String::new();
    for (i, insn) in program.iter().enumerate() {
        let to = |n: usize| i + 1 + n;
        let text = match insn.code {
            LD_W_ABS => format!("ld [{}]", insn.k),
            RET_K => format!("ret {:#010x}", insn.k),
            JA => format!("ja {}", to(usize::try_from(insn.k).unwrap_or(0))),
            0x54 => format!("and {:#x}", insn.k),
            c if c & 0x07 == 0x05 => {
                let name = match c & 0xf0 {
                    0x10 => "jeq",
                    0x20 => "jgt",
                    0x30 => "jge",
                    _ => "jset",
                };
                format!("{name} {:#x} ? {} : {}", insn.k, to(usize::from(insn.jt)), to(usize::from(insn.jf)))
            }
            c => format!("op {c:#06x} {:#x}", insn.k),
        };
        out.push_str(&format!("{i:4}  {text}\n"));
    }
    out
}

/// A program with the architecture and the number filled in: what it makes of one call's arguments.
pub fn of_call(program: &[Instruction], arch: u32, number: u32) -> Program {
    let fill = |i: &Instruction| match (i.code, i.k) {
        (LD_W_ABS, 0) => Instruction { code: LD_IMM, jt: 0, jf: 0, k: number },
        (LD_W_ABS, 4) => Instruction { code: LD_IMM, jt: 0, jf: 0, k: arch },
        _ => *i,
    };
    program.iter().map(fill).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_programs_are_refused() {
        assert_eq!(check(&[]), Err(Fault::Length(0)));
        assert_eq!(check(&[load(64), ret(0)]), Err(Fault::Load(0, 64)));
        assert_eq!(check(&[load(2), ret(0)]), Err(Fault::Load(0, 2)));
        assert_eq!(check(&[jump(JEQ, 0, 1, 0), ret(0)]), Err(Fault::Jump(0)));
        assert_eq!(check(&[load(0)]), Err(Fault::End));
        assert_eq!(
            check(&[Instruction { code: 0xffff, jt: 0, jf: 0, k: 0 }, ret(0)]),
            Err(Fault::Operation(0, 0xffff))
        );
        // Beyond 8 bits an operation looks like another one; X isn't negated.
        for code in [0x100 | JEQ, 0x104, 0x100 | RET_K, 0x8c] {
            assert_eq!(check(&[insn(code, 1), ret(0)]), Err(Fault::Operation(0, code)), "{code:#x}");
        }
        assert_eq!(check(&[insn(JA, u32::MAX), ret(0)]), Err(Fault::Jump(0)));
        assert_eq!(check(&vec![ret(0); MOST + 1]), Err(Fault::Length(MOST + 1)));
    }

    #[test]
    fn the_words_of_a_call_are_where_the_kernel_puts_them() {
        let v = Vector { arch: 7, nr: 9, args: [0x1_0000_0002, 0, 0, 0, 0, 0xaaaa_bbbb_cccc_dddd], ip: 0x5_0000_0006 };
        let at = |k| run(&[load(k), Instruction { code: RET_A, jt: 0, jf: 0, k: 0 }], &v, None);
        assert_eq!([at(8), at(12)], [6, 5]);
        assert_eq!([at(0), at(4), at(16), at(20), at(56), at(60)], [9, 7, 2, 1, 0xcccc_dddd, 0xaaaa_bbbb]);
    }

    fn insn(code: u16, k: u32) -> Instruction {
        Instruction { code, jt: 0, jf: 0, k }
    }

    /// linux/bpf_common.h and linux/filter.h: what each operation does to the accumulator.
    #[test]
    fn every_operation_is_the_kernels() {
        let v = Vector { arch: 0, nr: 0xf0f0_1234, args: [0; 6], ip: 0 };
        let a = v.nr;
        // After `ldx #k` for the forms with X.
        let ways = |code: u16, k: u32| {
            let plain = run(&[load(0), insn(code, k), insn(RET_A, 0)], &v, None);
            let by_x = run(&[load(0), insn(LDX_IMM, k), insn(code | 0x08, 99), insn(RET_A, 0)], &v, None);
            assert_eq!(plain, by_x, "{code:#x}");
            plain
        };
        assert_eq!(ways(0x04, 0x1000_0000), 0x00f0_1234);
        assert_eq!(ways(0x14, 0x1235), 0xf0ef_ffff);
        assert_eq!(ways(0x24, 0x10), 0x0f01_2340);
        assert_eq!(ways(0x34, 0x10), 0x0f0f_0123);
        assert_eq!(ways(0x44, 0x0f00_0001), 0xfff0_1235);
        assert_eq!(ways(0x54, 0x0ff0_ff00), 0x00f0_1200);
        assert_eq!(ways(0x64, 4), 0x0f01_2340);
        assert_eq!(ways(0x74, 4), 0x0f0f_0123);
        assert_eq!(ways(0xa4, 0xffff_ffff), 0x0f0f_edcb);
        assert_eq!(run(&[load(0), insn(0x84, 0), insn(RET_A, 0)], &v, None), 0u32.wrapping_sub(a));
        // By zero: the filter ends, and the answer is to kill.
        assert_eq!(run(&[load(0), insn(LDX_IMM, 0), insn(0x3c, 0), insn(RET_K, 7)], &v, None), 0);
        // Scratch memory, X and the length of the data.
        let program = [load(0), insn(ST, 3), insn(LD_IMM, 5), insn(LDX_MEM, 3), insn(TXA, 0), insn(RET_A, 0)];
        assert_eq!(run(&program, &v, None), a);
        let program = [insn(LD_IMM, 5), insn(TAX, 0), insn(STX, 0), insn(LD_IMM, 1), insn(LD_MEM, 0), insn(RET_A, 0)];
        assert_eq!(run(&program, &v, None), 5);
        assert_eq!(run(&[insn(LD_W_LEN, 0), insn(RET_A, 0)], &v, None), 64);
        assert_eq!(run(&[insn(LDX_W_LEN, 0), insn(TXA, 0), insn(RET_A, 0)], &v, None), 64);
    }

    #[test]
    fn jumps_go_where_the_kernel_goes() {
        let taken = |code: u16, k: u32, a: u32| {
            let v = Vector { arch: 0, nr: a, args: [0; 6], ip: 0 };
            let mut seen = vec![false; 5];
            let program = [load(0), jump(code, k, 1, 2), ret(1), ret(2), ret(3)];
            let answer = run(&program, &v, Some(&mut seen));
            assert_eq!(seen, [true, true, false, answer == 2, answer == 3]);
            let by_x = [load(0), insn(LDX_IMM, k), jump(code | 8, 77, 0, 1), ret(2), ret(3)];
            assert_eq!(run(&by_x, &v, None), answer);
            answer == 2
        };
        for (a, equal, greater, least, common) in [
            (4, false, false, false, true),
            (5, true, false, true, true),
            (6, false, true, true, true),
            (8, false, true, true, false),
        ] {
            assert_eq!(
                [taken(0x15, 5, a), taken(0x25, 5, a), taken(0x35, 5, a), taken(0x45, 5, a)],
                [equal, greater, least, common],
                "{a}"
            );
        }
        let v = Vector { arch: 0, nr: 0, args: [0; 6], ip: 0 };
        assert_eq!(run(&[insn(JA, 1), ret(1), ret(2)], &v, None), 2);
    }

    #[test]
    fn what_the_kernel_refuses_is_refused_and_no_more() {
        let fine = |p: &[Instruction]| assert_eq!(check(p), Ok(()), "{}", listing(p));
        fine(&vec![ret(0); MOST]);
        fine(&[load(60), jump(JEQ, 0, 1, 0), ret(0), ret(1)]);
        fine(&[insn(JA, 0), ret(0)]);
        for code in [0x04, 0x14, 0x24, 0x34, 0x44, 0x54, 0x64, 0x74, 0x84, 0xa4, 0x0c, 0x3c, 0x7c] {
            fine(&[insn(code, 31), ret(0)]);
        }
        for code in [LD_MEM, LDX_MEM, ST, STX] {
            fine(&[insn(code, 15), ret(0)]);
            assert_eq!(check(&[insn(code, 16), ret(0)]), Err(Fault::Operation(0, code)));
        }
        for code in [0x15, 0x25, 0x35, 0x45, 0x1d, 0x2d, 0x3d, 0x4d] {
            fine(&[jump(code, 0, 0, 0), ret(0)]);
            assert_eq!(check(&[jump(code, 0, 0, 1), ret(0)]), Err(Fault::Jump(0)), "{code:#x}");
        }
        assert_eq!(check(&[insn(JA, 1), ret(0)]), Err(Fault::Jump(0)));
        assert_eq!(check(&[insn(JA, u32::MAX), ret(0)]), Err(Fault::Jump(0)));
        for (code, k) in [(0x64, 32), (0x74, 32), (0x34, 0), (0x94, 1), (0xb4, 1), (0x55, 0), (0x28, 0), (0x30, 0)] {
            assert_eq!(check(&[insn(code, k), ret(0)]), Err(Fault::Operation(0, code)), "{code:#x}");
        }
    }

    #[test]
    fn words_and_actions_are_the_kernels() {
        for (action, word) in [
            (Action::Allow, 0x7fff_0000),
            (Action::Log, 0x7ffc_0000),
            (Action::Errno(38), 0x0005_0026),
            (Action::Errno(4095), 0x0005_0fff),
            (Action::Kill, 0x8000_0000),
        ] {
            assert_eq!((encode(action), decode(word), canonical(word)), (word, action, word));
        }
        assert_eq!((canonical(0x0005_ffff), decode(0x0005_ffff)), (0x0005_0fff, Action::Errno(4095)));
        assert_eq!((canonical(0x7fff_1234), canonical(0x1234_5678), canonical(5)), (0x7fff_0000, 0x8000_0000, 0));
        assert_eq!((canonical(0x0003_0007), canonical(0x7ff0_0009)), (0x0003_0007, 0x7ff0_0009));
    }

    #[test]
    fn the_listing_names_each_target() {
        let program = [
            load(4),
            jump(JEQ, 0x3e, 1, 2),
            insn(JA, 1),
            insn(0x54, 0xff),
            jump(JSET, 1, 0, 1),
            insn(RET_A, 0),
            ret(7),
        ];
        let text = listing(&program);
        let lines: Vec<&str> = text.lines().map(|l| l.trim_start().split_once("  ").unwrap().1).collect();
        let wanted =
            ["ld [4]", "jeq 0x3e ? 3 : 4", "ja 4", "and 0xff", "jset 0x1 ? 5 : 6", "op 0x0016 0x0", "ret 0x00000007"];
        assert_eq!(lines, wanted);
        assert!(listing(&[jump(0x25, 1, 0, 0)]).contains("jgt") && listing(&[jump(0x35, 1, 0, 0)]).contains("jge"));
    }
}
