//! Seccomp rules as the OCI runtime specification writes them (config-linux.md, "Seccomp"): what they were
//! meant to say, and what runc and libseccomp make of them.
//!
//! The two differ. libseccomp compares all 64 bits of a register where the kernel reads 16 or 32 of them, so a
//! call that is refused by its number can come back under another one; and runc takes the comparisons of an
//! entry apart, one rule each, when two of them are about the same argument.

use crate::compile::libseccomp;
use crate::kernel::calls::{Call, Type};
use crate::kernel::numbers::Arch;
use crate::policy::syscalls::{Action, Condition, Rule, Test};
use crate::policy::words;
use crate::proof::diagram::{FALSE, Node, Store, TRUE, Word};
use crate::proof::{bpf, intent};
use ::libseccomp::{ScmpArgCompare, ScmpCompareOp};
use std::collections::BTreeSet;

/// An operator of libseccomp (seccomp_rule_add(3)); unsigned, on 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `==`
    Eq,
    /// `>=`
    Ge,
    /// `>`
    Gt,
    /// `register & value == two`
    Masked,
}

/// One comparison of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Which argument, from 0.
    pub index: u8,
    /// How.
    pub op: Op,
    /// With what; the mask of [`Op::Masked`].
    pub value: u64,
    /// The value of [`Op::Masked`].
    pub two: u64,
}

/// One rule for one call.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The call.
    pub call: &'static Call,
    /// What happens.
    pub action: Action,
    /// The comparisons, all or one by one: see [`Reading`].
    pub compares: Vec<Compare>,
}

/// A whole list of rules.
#[derive(Clone, Debug)]
pub struct Profile {
    /// What happens to a call that no entry matches.
    pub default: Action,
    /// The rules.
    pub entries: Vec<Entry>,
}

/// How an entry with several comparisons is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All must hold: what the entry says.
    Intent,
    /// One is enough where two of them are about the same argument: what runc does.
    Runc,
}

/// Rules whose meaning can't be known.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// Two entries with comparisons match the same call, with different answers.
    #[error("`{0}` is both allowed and refused for the same arguments: which of the two a runtime does isn't defined")]
    Clash(&'static str),
    /// A masked comparison whose value has bits that the mask takes away.
    #[error(
        "a masked comparison of `{0}` has a value with bits outside its mask: which of the two counts isn't defined"
    )]
    Mask(&'static str),
}

impl Profile {
    /// The entries of a call that say something else than the default: runc leaves the others out.
    fn of(&self, call: &Call) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |e| std::ptr::eq(e.call, call) && e.action != self.default)
    }

    /// What becomes of a call, as runc and libseccomp make the filter; its leaves are the words that a filter
    /// returns. An entry without comparisons replaces those with some that stand before it, and is what counts
    /// for those behind it: libseccomp keeps the rule that covers more (db.c), whatever the actions.
    pub fn answers(&self, s: &mut Store, call: &'static Call) -> Result<Node, Unclear> {
        let mut parts: Vec<(Action, Node)> = Vec::new();
        for e in self.of(call) {
            if e.compares.is_empty() {
                parts = vec![(e.action, TRUE)];
                break;
            }
            if e.compares.iter().any(|c| c.op == Op::Masked && c.two & !c.value != 0) {
                return Err(Unclear::Mask(call.name));
            }
            let one_by_one = e.takes_apart();
            let mut when = if one_by_one { FALSE } else { TRUE };
            for c in &e.compares {
                let this = c.holds(s);
                when = if one_by_one { s.or(when, this) } else { s.and(when, this) };
            }
            parts.push((e.action, when));
        }
        let mut out = s.leaf(bpf::encode(self.default));
        for (i, (action, when)) in parts.iter().enumerate() {
            for (other, there) in parts.iter().take(i) {
                if other != action && s.and(*when, *there) != FALSE {
                    return Err(Unclear::Clash(call.name));
                }
            }
            let leaf = s.leaf(bpf::encode(*action));
            out = s.choose(*when, leaf, out);
        }
        Ok(out)
    }

    /// What runc and the libseccomp of this host make of the rules, at both of its levels; the error says why nothing.
    pub fn compiled(&self, arch: Arch) -> Result<Vec<bpf::Program>, String> {
        let mut rules = Vec::new();
        for e in self.entries.iter().filter(|e| e.action != self.default && libseccomp::knows(e.call.name)) {
            let Some(number) = arch.number(e.call.name) else { continue };
            let mut give = |compares: &[Compare]| {
                let compares = compares.iter().map(Compare::given).collect();
                rules.push(libseccomp::Given { number, action: e.action, compares });
            };
            if e.takes_apart() {
                e.compares.iter().for_each(|c| give(std::slice::from_ref(c)));
            } else {
                give(&e.compares);
            }
        }
        [1, 2].into_iter().map(|level| libseccomp::of_rules(self.default, &rules, level)).collect()
    }

    /// The registers for which a call runs.
    pub fn runs(&self, s: &mut Store, call: &'static Call) -> Result<Node, Unclear> {
        let answers = self.answers(s, call)?;
        Ok(runs(s, answers))
    }

    /// The same rules in the words of the language, compared in the width that the kernel reads. What the
    /// language can't say becomes narrower, with a note.
    pub fn lines(&self, reading: Reading, notes: &mut Vec<String>) -> Vec<(Action, String)> {
        let mut out: Vec<(Action, String)> = Vec::new();
        let mut said = BTreeSet::new();
        for e in self.entries.iter().filter(|e| e.action != self.default) {
            for conditions in e.alternatives(reading, notes) {
                let line = (e.action, words::call(e.call.name, e.call.args, &conditions));
                if said.insert(line.clone()) {
                    out.push(line);
                }
            }
        }
        out
    }
}

/// The registers for which a policy's rules let a call run.
pub fn granted(s: &mut Store, rules: &[Rule], kernel: (u16, u16), call: &'static Call) -> Node {
    let own: Vec<&Rule> = rules.iter().filter(|r| std::ptr::eq(r.call, call)).collect();
    let answers = intent::of_call(s, &own, call.since <= kernel);
    runs(s, answers)
}

/// Where answers let a call run.
pub fn runs(s: &mut Store, answers: Node) -> Node {
    s.combine(answers, FALSE, &|a, _| u32::from(bpf::decode(a) <= Action::Log))
}

/// The bits of each argument that the kernel doesn't read.
pub fn unread(call: &Call) -> [u64; 6] {
    let mut out = [u64::MAX; 6];
    for (slot, a) in out.iter_mut().zip(call.args) {
        *slot = match a.ty {
            Type::U16 => !0xffff,
            Type::Int | Type::Uint => !0xffff_ffff,
            Type::Long | Type::Ulong | Type::Mixed | Type::Pointer => 0,
        };
    }
    out
}

impl Compare {
    fn given(&self) -> ScmpArgCompare {
        let (op, value) = match self.op {
            Op::Ne => (ScmpCompareOp::NotEqual, self.value),
            Op::Lt => (ScmpCompareOp::Less, self.value),
            Op::Le => (ScmpCompareOp::LessOrEqual, self.value),
            Op::Eq => (ScmpCompareOp::Equal, self.value),
            Op::Ge => (ScmpCompareOp::GreaterEqual, self.value),
            Op::Gt => (ScmpCompareOp::Greater, self.value),
            Op::Masked => (ScmpCompareOp::MaskedEqual(self.value), self.two),
        };
        ScmpArgCompare::new(u32::from(self.index), op, value)
    }

    fn holds(&self, s: &mut Store) -> Node {
        let (low, high) = (s.word(Word::Low(self.index)), s.word(Word::High(self.index)));
        let x: Vec<Node> = low.into_iter().chain(high).collect();
        let beyond = |s: &mut Store| match self.value.checked_add(1) {
            Some(next) => s.at_least(&x, next),
            None => FALSE,
        };
        match self.op {
            Op::Eq => s.equals(&x, u64::MAX, self.value),
            Op::Ne => {
                let equal = s.equals(&x, u64::MAX, self.value);
                s.not(equal)
            }
            Op::Ge => s.at_least(&x, self.value),
            Op::Lt => {
                let enough = s.at_least(&x, self.value);
                s.not(enough)
            }
            Op::Gt => beyond(s),
            Op::Le => {
                let above = beyond(s);
                s.not(above)
            }
            Op::Masked => s.equals(&x, self.value, self.two),
        }
    }
}

/// A comparison in the type in which the kernel reads the argument.
enum Typed {
    Always,
    Never,
    /// One of these.
    Tests(Vec<Test>),
    /// The language has no such test.
    Unsayable,
}

/// Most rules that one entry becomes. A comparison of a signed number is two ranges, and each pair of them a rule.
const MOST_ALTERNATIVES: usize = 16;

impl Entry {
    /// True when runc makes a rule of each comparison (libcontainer/seccomp, matchCall).
    pub fn takes_apart(&self) -> bool {
        self.compares.iter().enumerate().any(|(i, c)| self.compares.iter().skip(i + 1).any(|d| d.index == c.index))
    }

    /// Lists of conditions of which one must hold; none: the entry never matches.
    fn alternatives(&self, reading: Reading, notes: &mut Vec<String>) -> Vec<Vec<Condition>> {
        let mut each: Vec<Option<Vec<Condition>>> = Vec::new();
        for c in &self.compares {
            let Some(argument) = self.call.args.get(usize::from(c.index)) else {
                each.push(self.unsayable(c, "the kernel reads no such argument", notes));
                continue;
            };
            each.push(match typed(c, argument.ty) {
                Typed::Always => None,
                Typed::Never => Some(Vec::new()),
                Typed::Tests(tests) => {
                    let with = |test| Condition { argument: c.index, kind: argument.ty, test };
                    Some(tests.into_iter().map(with).collect())
                }
                Typed::Unsayable => self.unsayable(c, "the argument is an address", notes),
            });
        }
        // Taken apart, a refusal refuses more: what runc keeps out stays out.
        if self.takes_apart() && (reading == Reading::Runc || self.action > Action::Log) {
            return match each.iter().any(Option::is_none) {
                true => vec![Vec::new()],
                false => each.into_iter().flatten().flatten().map(|c| vec![c]).collect(),
            };
        }
        let many = each.iter().flatten().try_fold(1usize, |n, tests| n.checked_mul(tests.len()));
        if many.is_none_or(|n| n > MOST_ALTERNATIVES) {
            let refused = self.action > Action::Log;
            let what = if refused { "it is refused altogether" } else { "this rule grants nothing" };
            notes.push(format!("`{}`: its comparisons have too many alternatives: {what}", self.call.name));
            return if refused { vec![Vec::new()] } else { Vec::new() };
        }
        let mut out = vec![Vec::new()];
        for tests in each.into_iter().flatten() {
            out = out
                .iter()
                .flat_map(|so_far| tests.iter().map(move |t| so_far.iter().cloned().chain([t.clone()]).collect()))
                .collect();
        }
        out
    }

    /// What can't be said is never granted, and always refused.
    fn unsayable(&self, c: &Compare, why: &str, notes: &mut Vec<String>) -> Option<Vec<Condition>> {
        let refused = self.action > Action::Log;
        let what = if refused { "it is refused altogether" } else { "this rule grants nothing" };
        notes.push(format!("`{}`: a comparison of argument {} can't be said ({why}): {what}", self.call.name, c.index));
        if refused { None } else { Some(Vec::new()) }
    }
}

fn typed(c: &Compare, ty: Type) -> Typed {
    let (width, signed) = match ty {
        Type::U16 => (16, false),
        Type::Int => (32, true),
        Type::Uint => (32, false),
        Type::Long => (64, true),
        Type::Ulong => (64, false),
        Type::Mixed if matches!(c.op, Op::Eq | Op::Masked) && c.value >> 32 == 0 => (64, false),
        Type::Mixed => return Typed::Unsayable,
        Type::Pointer => {
            return match (c.op, c.value) {
                (Op::Eq | Op::Le, 0) | (Op::Lt, 1) => Typed::Tests(vec![Test::In(vec![0])]),
                (Op::Ne | Op::Gt, 0) | (Op::Ge, 1) => Typed::Tests(vec![Test::NotIn(vec![0])]),
                (Op::Ge, 0) => Typed::Always,
                _ => Typed::Unsayable,
            };
        }
    };
    let most: u64 = u64::MAX >> (64 - width);
    // A negative number that was written with the sign in all 64 bits is that number.
    let extended = signed && width < 64 && c.value >> (width - 1) == u64::MAX >> (width - 1);
    let value = match c.value {
        v if v <= most => Some(v),
        v if extended => Some(v & most),
        _ => None,
    };
    let half = 1u64 << (width - 1);
    let number = |v: u64| {
        let negative = signed && v >= half;
        i128::from(v) - if negative { 1i128 << width } else { 0 }
    };
    // Unsigned, as libseccomp compares, cut to what the type holds.
    let range = |low: u64, high: u64| {
        if low == 0 && high >= most {
            return Typed::Always;
        }
        if low > most || low > high {
            return Typed::Never;
        }
        let high = high.min(most);
        let piece = |a: u64, b: u64| (a <= b).then(|| Test::Between(number(a), number(b)));
        let pieces = if signed {
            [piece(low, high.min(half - 1)), piece(low.max(half), high)]
        } else {
            [piece(low, high), None]
        };
        Typed::Tests(pieces.into_iter().flatten().collect())
    };
    match c.op {
        Op::Eq => value.map_or(Typed::Never, |v| Typed::Tests(vec![Test::In(vec![number(v)])])),
        Op::Ne => value.map_or(Typed::Always, |v| Typed::Tests(vec![Test::NotIn(vec![number(v)])])),
        Op::Lt => c.value.checked_sub(1).map_or(Typed::Never, |v| range(0, v)),
        Op::Le => range(0, c.value),
        Op::Ge => range(c.value, u64::MAX),
        Op::Gt => c.value.checked_add(1).map_or(Typed::Never, |v| range(v, u64::MAX)),
        Op::Masked => match (c.value & most, c.two & most) {
            _ if c.two & !most != 0 => Typed::Never,
            (0, _) => Typed::Always,
            (mask, 0) => Typed::Tests(vec![Test::HasNone(mask)]),
            (mask, two) if mask == two => Typed::Tests(vec![Test::HasAll(mask)]),
            (mask, two) => Typed::Tests(vec![Test::Masked(mask, vec![two])]),
        },
    }
}
