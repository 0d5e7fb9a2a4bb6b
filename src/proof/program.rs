//! A seccomp program as a diagram: executed once for all calls, over (place, accumulator, ...), states
//! merged. Follows net/core/filter.c and kernel/seccomp.c, as the interpreter in [`super::bpf`] does.
//!
//! A register is 32 conditions, one a bit, so every instruction that combines bits is exact; what isn't
//! (a product or quotient of two unknowns, a return of an unknown) is "cannot decide".

use super::bpf;
use super::diagram::{FALSE, Map, Node, Store, TRUE, Word};
use crate::sys::confine::Instruction;

/// Why there is no diagram.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// The kernel would refuse the program.
    #[error(transparent)]
    Refused(#[from] bpf::Fault),
    /// An instruction whose result isn't modelled.
    #[error("instruction {0} computes what can't be decided here")]
    Instruction(usize),
    /// The budget of states or nodes was used up.
    #[error("the program is too complex to be decided")]
    TooComplex,
}

/// Most states: (instruction, registers) pairs.
const MOST_STATES: usize = 200_000;

/// Values and memories are interned, so that states can be compared by number.
type Value = [Node; 32];

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    a: u32,
    x: u32,
    memory: u32,
}

/// Where a state goes on: place and number of the state there.
type Next = (usize, usize);

enum Step {
    Ends(Node),
    Goes(Next),
    Splits(Node, Next, Next),
    /// By the number of the call: the first from a least number on, up to before another, the second elsewhere.
    Ranges(std::ops::Range<u64>, Next, Next),
}

/// What happens by the number of the call: each diagram holds from its number to before the next one's. The
/// diagrams may ask for the number again; below it they hang on the rest.
type Ranges = Vec<(u64, Node)>;

/// Most ranges that are carried along; beyond, they become a diagram first.
const MOST_RANGES: usize = 1024;

/// What a state comes to.
enum Outcome {
    Whole(Node),
    Ranges(Ranges),
}

struct Machine<'a> {
    s: &'a mut Store,
    values: Vec<Value>,
    value_ids: Map<Value, u32>,
    /// The value of each word of the call, once it was loaded.
    words: [Option<u32>; 16],
    memories: Vec<[u32; 16]>,
    memory_ids: Map<[u32; 16], u32>,
    states: Vec<Vec<State>>,
    count: usize,
}

/// The diagram of a program, its leaves the words that it returns as the kernel understands them.
pub fn of_program(s: &mut Store, program: &[Instruction]) -> Result<Node, Undecided> {
    let steps = execute(s, program)?;
    let mut results: Vec<Vec<Outcome>> = program.iter().map(|_| Vec::new()).collect();
    for (pc, here) in steps.iter().enumerate().rev() {
        let at =
            |(place, number): Next| results.get(place).and_then(|l| l.get(number)).ok_or(Undecided::Instruction(pc));
        let mut done = Vec::with_capacity(here.len());
        for step in here {
            done.push(match step {
                Step::Ends(n) => Outcome::Whole(*n),
                Step::Goes(next) => match at(*next)? {
                    Outcome::Whole(n) => Outcome::Whole(*n),
                    Outcome::Ranges(r) => Outcome::Ranges(r.clone()),
                },
                Step::Splits(when, then, other) => {
                    let (then, other) = (at(*then)?.whole(s), at(*other)?.whole(s));
                    Outcome::Whole(s.choose(*when, then, other))
                }
                Step::Ranges(numbers, then, other) => {
                    let ranges = cut(numbers, &at(*then)?.ranges(), &at(*other)?.ranges());
                    let many = ranges.len() > MOST_RANGES;
                    let all = Outcome::Ranges(ranges);
                    if many { Outcome::Whole(all.whole(s)) } else { all }
                }
            });
        }
        if s.exceeded() {
            return Err(Undecided::TooComplex);
        }
        if let Some(slot) = results.get_mut(pc) {
            *slot = done;
        }
    }
    results.first().and_then(|l| l.first()).map(|o| o.whole(s)).ok_or(Undecided::TooComplex)
}

impl Outcome {
    fn ranges(&self) -> Ranges {
        match self {
            Outcome::Whole(n) => vec![(0, *n)],
            Outcome::Ranges(r) => r.clone(),
        }
    }

    fn whole(&self, s: &mut Store) -> Node {
        match self {
            Outcome::Whole(n) => *n,
            Outcome::Ranges(r) => {
                let word = s.word(Word::Number);
                by_number(s, &word, 0, r)
            }
        }
    }
}

/// The first list within the numbers, the second elsewhere.
fn cut(numbers: &std::ops::Range<u64>, inside: &[(u64, Node)], outside: &[(u64, Node)]) -> Ranges {
    let mut out: Ranges = Vec::with_capacity(inside.len() + outside.len());
    let parts = [(0..numbers.start, outside), (numbers.clone(), inside), (numbers.end..1 << 32, outside)];
    for (part, list) in parts.into_iter().filter(|(p, _)| !p.is_empty()) {
        // The one that holds where the part begins, and those that begin in it.
        let first = list.partition_point(|(n, _)| *n <= part.start).saturating_sub(1);
        let last = list.partition_point(|(n, _)| *n < part.end);
        for (n, node) in list.get(first..last).unwrap_or_default() {
            if out.last().is_none_or(|(_, before)| before != node) {
                out.push(((*n).max(part.start), *node));
            }
        }
    }
    out
}

/// The diagram of ranges, from the most significant bit down; `first` is the number with all higher bits as they
/// are on the way and the rest 0.
fn by_number(s: &mut Store, bits: &[Node], first: u64, ranges: &[(u64, Node)]) -> Node {
    let begins = ranges.partition_point(|(n, _)| *n <= first).saturating_sub(1);
    let ranges = ranges.get(begins..).unwrap_or_default();
    let (Some((top, rest)), [_, _, ..]) = (bits.split_last(), ranges) else {
        return ranges.first().map_or(FALSE, |(_, n)| *n);
    };
    let middle = first + (1 << rest.len());
    let until = ranges.partition_point(|(n, _)| *n < middle);
    let low = by_number(s, rest, first, ranges.get(..until).unwrap_or_default());
    let high = by_number(s, rest, middle, ranges);
    s.choose(*top, high, low)
}

/// For each instruction the calls for which it runs; [`FALSE`] for one that no call reaches.
pub fn reached(s: &mut Store, program: &[Instruction]) -> Result<Vec<Node>, Undecided> {
    let steps = execute(s, program)?;
    let mut when: Vec<Vec<Node>> = steps.iter().map(|here| vec![FALSE; here.len()]).collect();
    if let Some(first) = when.first_mut().and_then(|l| l.first_mut()) {
        *first = TRUE;
    }
    for (pc, here) in steps.iter().enumerate() {
        for (i, step) in here.iter().enumerate() {
            let now = when.get(pc).and_then(|l| l.get(i)).copied().unwrap_or(FALSE);
            let onward = match step {
                Step::Ends(_) => vec![],
                Step::Goes(next) => vec![(*next, now)],
                Step::Splits(test, then, other) => {
                    let (yes, no) = (s.and(now, *test), s.choose(*test, FALSE, now));
                    vec![(*then, yes), (*other, no)]
                }
                Step::Ranges(numbers, then, other) => {
                    let test = Outcome::Ranges(cut(numbers, &[(0, TRUE)], &[(0, FALSE)])).whole(s);
                    let (yes, no) = (s.and(now, test), s.choose(test, FALSE, now));
                    vec![(*then, yes), (*other, no)]
                }
            };
            for ((place, number), condition) in onward {
                if let Some(slot) = when.get_mut(place).and_then(|l| l.get_mut(number)) {
                    *slot = s.or(*slot, condition);
                }
            }
        }
        if s.exceeded() {
            return Err(Undecided::TooComplex);
        }
    }
    let mut out = Vec::with_capacity(program.len());
    for states in when {
        out.push(states.into_iter().fold(FALSE, |any, n| s.or(any, n)));
    }
    Ok(out)
}

/// Runs the program for all calls at once: the steps of each place's states.
fn execute(s: &mut Store, program: &[Instruction]) -> Result<Vec<Vec<Step>>, Undecided> {
    bpf::check(program)?;
    let mut m = Machine {
        s,
        values: Vec::new(),
        value_ids: Map::default(),
        words: [None; 16],
        memories: vec![[0; 16]],
        memory_ids: Map::from_iter([([0; 16], 0)]),
        states: program.iter().map(|_| Vec::new()).collect(),
        count: 0,
    };
    // The kernel clears both registers first.
    let zero = m.value([FALSE; 32]);
    m.go(0, State { a: zero, x: zero, memory: 0 });
    // Jumps only go forward: when a place is reached in this order, all its states are known.
    let mut steps: Vec<Vec<Step>> = Vec::with_capacity(program.len());
    for (pc, insn) in program.iter().enumerate() {
        let mut here = Vec::new();
        let mut i = 0;
        while let Some(state) = m.states.get(pc).and_then(|l| l.get(i)).copied() {
            here.push(m.step(pc, insn, state)?);
            i += 1;
        }
        steps.push(here);
        if m.count > MOST_STATES || m.s.exceeded() {
            return Err(Undecided::TooComplex);
        }
    }
    Ok(steps)
}

impl Machine<'_> {
    fn value(&mut self, v: Value) -> u32 {
        if let Some(id) = self.value_ids.get(&v) {
            return *id;
        }
        let id = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.values.push(v);
        self.value_ids.insert(v, id);
        id
    }

    fn load(&mut self, word: Word) -> u32 {
        let place = usize::from(word.place());
        if let Some(Some(id)) = self.words.get(place) {
            return *id;
        }
        let bits = self.s.word(word);
        let id = self.value(bits);
        if let Some(slot) = self.words.get_mut(place) {
            *slot = Some(id);
        }
        id
    }

    fn bits(&self, id: u32) -> Value {
        usize::try_from(id).ok().and_then(|i| self.values.get(i)).copied().unwrap_or([FALSE; 32])
    }

    fn memory(&self, id: u32) -> [u32; 16] {
        usize::try_from(id).ok().and_then(|i| self.memories.get(i)).copied().unwrap_or([0; 16])
    }

    /// Enters a state at a place, once.
    fn go(&mut self, pc: usize, state: State) -> Next {
        let Some(list) = self.states.get_mut(pc) else { return (pc, 0) };
        if let Some(i) = list.iter().position(|s| *s == state) {
            return (pc, i);
        }
        list.push(state);
        self.count += 1;
        (pc, list.len() - 1)
    }

    fn constant(&mut self, k: u32) -> u32 {
        let mut v = [FALSE; 32];
        for (bit, slot) in (0u32..).zip(v.iter_mut()) {
            *slot = if k >> bit & 1 == 1 { TRUE } else { FALSE };
        }
        self.value(v)
    }

    /// The value as a number, if it is one.
    fn known(&self, v: &Value) -> Option<u32> {
        (0u32..).zip(v).try_fold(0, |sum, (bit, n)| match *n {
            TRUE => Some(sum | 1 << bit),
            FALSE => Some(sum),
            _ => None,
        })
    }

    fn step(&mut self, pc: usize, insn: &Instruction, now: State) -> Result<Step, Undecided> {
        let mut next = now;
        let cell = usize::try_from(insn.k).unwrap_or(usize::MAX);
        match insn.code {
            bpf::RET_K => return Ok(Step::Ends(self.s.leaf(bpf::canonical(insn.k)))),
            bpf::RET_A => {
                let k = self.known(&self.bits(now.a)).ok_or(Undecided::Instruction(pc))?;
                return Ok(Step::Ends(self.s.leaf(bpf::canonical(k))));
            }
            bpf::JA => return Ok(Step::Goes(self.go(pc + 1 + cell, now))),
            bpf::LD_W_ABS => {
                let word = Word::at(insn.k).ok_or(Undecided::Instruction(pc))?;
                next.a = self.load(word);
            }
            bpf::LD_W_LEN => next.a = self.constant(bpf::DATA_SIZE),
            bpf::LDX_W_LEN => next.x = self.constant(bpf::DATA_SIZE),
            bpf::LD_IMM => next.a = self.constant(insn.k),
            bpf::LDX_IMM => next.x = self.constant(insn.k),
            bpf::LD_MEM => next.a = self.memory(now.memory).get(cell).copied().unwrap_or(0),
            bpf::LDX_MEM => next.x = self.memory(now.memory).get(cell).copied().unwrap_or(0),
            bpf::ST | bpf::STX => {
                let mut m = self.memory(now.memory);
                if let Some(slot) = m.get_mut(cell) {
                    *slot = if insn.code == bpf::ST { now.a } else { now.x };
                }
                let fresh = u32::try_from(self.memories.len()).unwrap_or(u32::MAX);
                next.memory = *self.memory_ids.entry(m).or_insert(fresh);
                if next.memory == fresh {
                    self.memories.push(m);
                }
            }
            bpf::TAX => next.x = now.a,
            bpf::TXA => next.a = now.x,
            code if code & 0x07 == 0x05 => {
                let (yes, no) = (pc + 1 + usize::from(insn.jt), pc + 1 + usize::from(insn.jf));
                if let Some(numbers) = self.numbers(code, now, insn.k) {
                    return Ok(match (numbers.is_empty(), numbers == (0..1 << 32)) {
                        (true, _) => Step::Goes(self.go(no, now)),
                        (_, true) => Step::Goes(self.go(yes, now)),
                        _ => Step::Ranges(numbers, self.go(yes, now), self.go(no, now)),
                    });
                }
                let when = self.compare(code, now, insn.k);
                return Ok(match when {
                    TRUE => Step::Goes(self.go(yes, now)),
                    FALSE => Step::Goes(self.go(no, now)),
                    _ => Step::Splits(when, self.go(yes, now), self.go(no, now)),
                });
            }
            code => {
                let operand = if code & 0x08 != 0 { now.x } else { self.constant(insn.k) };
                match self.compute(code & 0xf0, self.bits(now.a), self.bits(operand)) {
                    Some(v) => next.a = self.value(v),
                    // A division by zero ends the program with 0: kill (net/core/filter.c).
                    None if matches!(code & 0xf0, 0x30) && self.known(&self.bits(operand)) == Some(0) => {
                        return Ok(Step::Ends(self.s.leaf(bpf::canonical(0))));
                    }
                    None => return Err(Undecided::Instruction(pc)),
                }
            }
        }
        Ok(Step::Goes(self.go(pc + 1, next)))
    }

    /// The numbers of calls for which a jump is taken, when the number itself is compared with a constant.
    fn numbers(&self, code: u16, now: State, k: u32) -> Option<std::ops::Range<u64>> {
        let number = self.words.get(usize::from(Word::Number.place())).copied().flatten();
        let k = u64::from(k);
        (number == Some(now.a) && code & 0x08 == 0).then_some(())?;
        match code & 0xf0 {
            0x10 => Some(k..k + 1),
            0x20 => Some(k + 1..1 << 32),
            0x30 => Some(k..1 << 32),
            _ => None,
        }
    }

    /// The condition of a jump.
    fn compare(&mut self, code: u16, now: State, k: u32) -> Node {
        let a = self.bits(now.a);
        let x = if code & 0x08 != 0 { self.known(&self.bits(now.x)) } else { Some(k) };
        if let Some(k) = x.map(u64::from) {
            return match code & 0xf0 {
                0x10 => self.s.equals(&a, u64::MAX, k),
                0x20 => match k {
                    0xffff_ffff => FALSE,
                    _ => self.s.at_least(&a, k + 1),
                },
                0x30 => self.s.at_least(&a, k),
                _ => self.s.any_of(&a, k),
            };
        }
        let x = self.bits(now.x);
        // From the least significant bit: equal so far, greater so far, common bits so far.
        let (mut equal, mut greater, mut common) = (TRUE, FALSE, FALSE);
        for (a, x) in a.iter().zip(&x) {
            let differ = self.s.xor(*a, *x);
            equal = self.s.choose(differ, FALSE, equal);
            greater = self.s.choose(differ, *a, greater);
            let both = self.s.and(*a, *x);
            common = self.s.or(common, both);
        }
        match code & 0xf0 {
            0x10 => equal,
            0x20 => greater,
            0x30 => self.s.or(greater, equal),
            _ => common,
        }
    }

    /// The result of an arithmetic operation; `None` where it isn't modelled.
    fn compute(&mut self, operation: u16, a: Value, b: Value) -> Option<Value> {
        let constant = self.known(&b);
        let mut out = [FALSE; 32];
        match operation {
            0x00 => out = self.sum(&a, &b, FALSE),
            // a - b = a + !b + 1
            0x10 => out = self.difference(&a, &b),
            0x20 => {
                let mut factor = constant?;
                let mut shifted = a;
                while factor != 0 {
                    if factor & 1 == 1 {
                        out = self.sum(&out, &shifted, FALSE);
                    }
                    shifted = shift(&shifted, 1);
                    factor >>= 1;
                }
            }
            0x30 => {
                let by = constant.filter(|c| c.is_power_of_two())?;
                out = shift(&a, -i64::from(by.trailing_zeros()));
            }
            0x40 | 0x50 | 0xa0 => {
                for ((slot, a), b) in out.iter_mut().zip(&a).zip(&b) {
                    *slot = match operation {
                        0x40 => self.s.or(*a, *b),
                        0x50 => self.s.and(*a, *b),
                        _ => self.s.xor(*a, *b),
                    };
                }
            }
            // The interpreter and the JITs take the shift modulo 32 (a constant beyond is refused).
            0x60 => out = shift(&a, i64::from(constant? & 31)),
            0x70 => out = shift(&a, -i64::from(constant? & 31)),
            0x80 => out = self.difference(&[FALSE; 32], &a),
            _ => return None,
        }
        Some(out)
    }

    fn sum(&mut self, a: &Value, b: &Value, carry: Node) -> Value {
        let mut carry = carry;
        let mut out = [FALSE; 32];
        for ((slot, a), b) in out.iter_mut().zip(a).zip(b) {
            let half = self.s.xor(*a, *b);
            *slot = self.s.xor(half, carry);
            carry = self.s.choose(half, carry, *a);
        }
        out
    }

    fn difference(&mut self, a: &Value, b: &Value) -> Value {
        let mut inverted = *b;
        for n in &mut inverted {
            *n = self.s.not(*n);
        }
        self.sum(a, &inverted, TRUE)
    }
}

/// Bits moved up (or down, when negative), zeros filled in.
fn shift(v: &Value, by: i64) -> Value {
    let mut out = [FALSE; 32];
    for (i, slot) in (0i64..).zip(out.iter_mut()) {
        *slot = usize::try_from(i - by).ok().and_then(|from| v.get(from)).copied().unwrap_or(FALSE);
    }
    out
}

#[cfg(test)]
mod tests;
