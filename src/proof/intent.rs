//! A policy's calls as a diagram, straight from the language's definition: typed arguments, the most
//! restrictive matching action, the baseline. Nothing here is shared with the lowering to filters.

use super::bpf;
use super::diagram::{FALSE, Node, Store, TRUE, Word};
use crate::kernel::calls::{self, Call, Type};
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::syscalls::{Action, Condition, ENOSYS, EPERM, Rule, Test};

/// The diagram of all calls, its leaves the words that a filter returns.
pub fn of_policy(s: &mut Store, policy: &Policy, arch: Arch) -> Node {
    of_rules(s, &policy.syscalls, policy.kernel, arch)
}

/// The same for rules alone, under a baseline.
pub fn of_rules(s: &mut Store, list: &[Rule], kernel: (u16, u16), arch: Arch) -> Node {
    let mut sorted: Vec<&Rule> = list.iter().collect();
    // As the table is sorted, each call's rules together and in their order.
    sorted.sort_by_key(|r| r.call.name);
    let mut rest = sorted.as_slice();
    let mut numbers: Vec<(u32, Node)> = Vec::new();
    for call in calls::CALLS {
        let (own, others) = rest.split_at(rest.partition_point(|r| r.call.name <= call.name));
        rest = others;
        let Some(number) = arch.number(call.name) else { continue };
        numbers.push((number, of_call(s, own, call.since <= kernel)));
    }
    numbers.sort_unstable_by_key(|(n, _)| *n);
    let kill = s.leaf(bpf::encode(Action::Kill));
    // Nobody reviewed the rest.
    let absent = s.leaf(bpf::encode(Action::Errno(ENOSYS)));
    let word = s.word(Word::Number);
    let mut native = dispatch(s, &word, &numbers, absent);
    if arch == Arch::X86_64 {
        // Bit 30 marks the x32 ABI; -1 is what a tracer writes to skip a call, and belongs to no ABI.
        let skipped = s.equals(&word, u64::MAX, u64::from(u32::MAX));
        let foreign = s.choose(skipped, absent, kill);
        native = s.choose(word.get(30).copied().unwrap_or(FALSE), foreign, native);
    }
    let word = s.word(Word::Arch);
    let ours = s.equals(&word, u64::MAX, u64::from(arch.audit()));
    s.choose(ours, native, kill)
}

/// One call: its rules over what happens where none matches.
pub fn of_call(s: &mut Store, rules: &[&Rule], reviewed: bool) -> Node {
    let otherwise = Action::Errno(if reviewed { EPERM } else { ENOSYS });
    let mut out = s.leaf(bpf::encode(otherwise));
    let mut sorted: Vec<&&Rule> = rules.iter().collect();
    // The most restrictive comes last, over all others.
    sorted.sort_by_key(|r| r.action);
    for r in sorted {
        let when = holds(s, &r.conditions);
        let then = s.leaf(bpf::encode(r.action));
        out = s.choose(when, then, out);
    }
    out
}

/// Where all conditions hold.
pub fn holds(s: &mut Store, conditions: &[Condition]) -> Node {
    let mut all = TRUE;
    for c in conditions {
        let one = condition(s, c);
        all = s.and(all, one);
    }
    all
}

/// Where a call runs, of these rules.
pub fn runs(s: &mut Store, rules: &[&Rule], reviewed: bool) -> Node {
    let node = of_call(s, rules, reviewed);
    s.combine(node, node, &|a, _| u32::from(bpf::decode(a) <= Action::Log))
}

/// What somebody means who asks whether a call can run so: where the conditions hold, and where the kernel takes
/// another argument for it. socket(2): an internet socket of type SOCK_PACKET is one of AF_PACKET (`__sock_create` in
/// net/socket.c rewrites the family).
pub fn asked(s: &mut Store, call: &Call, conditions: &[Condition]) -> Node {
    let plain = holds(s, conditions);
    if call.name != "socket" {
        return plain;
    }
    let is = |name: &str, test| Condition::on(call, name, test);
    let (Some(packet), Some(inet), Some(old)) = (
        is("family", Test::In(vec![AF_PACKET])),
        is("family", Test::In(vec![AF_INET])),
        is("type", Test::Masked(SOCK_TYPE_MASK, vec![SOCK_PACKET])),
    ) else {
        return plain;
    };
    let (of_family, others): (Vec<&Condition>, Vec<&Condition>) =
        conditions.iter().partition(|c| c.argument == packet.argument);
    let own = |list: Vec<&Condition>| list.into_iter().cloned().collect::<Vec<_>>();
    if holds(s, &[own(of_family), vec![packet]].concat()) == FALSE {
        return plain;
    }
    let old = holds(s, &[own(others), vec![inet, old]].concat());
    s.or(plain, old)
}

/// The families and the type of [`asked`] (include/linux/socket.h, include/linux/net.h).
pub const AF_PACKET: i128 = 17;
/// The same.
pub const AF_INET: i128 = 2;
/// The same.
pub const SOCK_PACKET: u64 = 10;
/// The bits of a socket's type that aren't flags.
pub const SOCK_TYPE_MASK: u64 = 0xf;

/// Number to diagram by halving the numbers, `otherwise` in the gaps.
fn dispatch(s: &mut Store, word: &[Node], numbers: &[(u32, Node)], otherwise: Node) -> Node {
    let Some((top, rest)) = word.split_last() else { return numbers.first().map_or(otherwise, |(_, n)| *n) };
    if numbers.is_empty() {
        return otherwise;
    }
    let bit = rest.len();
    let middle = numbers.partition_point(|(n, _)| n >> bit & 1 == 0);
    let (low, high) = numbers.split_at(middle);
    let low = dispatch(s, rest, low, otherwise);
    let high = dispatch(s, rest, high, otherwise);
    s.choose(*top, high, low)
}

/// The bits that the kernel reads of an argument, least significant first; 0 above them.
fn bits(s: &mut Store, argument: u8, kind: Type) -> Vec<Node> {
    let width = match kind {
        Type::U16 => 16,
        Type::Int | Type::Uint => 32,
        Type::Long | Type::Ulong | Type::Mixed | Type::Pointer => 64,
    };
    let words = [s.word(Word::Low(argument)), s.word(Word::High(argument))];
    (0..).zip(words.iter().flatten()).map(|(i, n)| if i < width { *n } else { FALSE }).collect()
}

fn condition(s: &mut Store, c: &Condition) -> Node {
    let x = bits(s, c.argument, c.kind);
    match &c.test {
        Test::In(values) => one_of(s, &x, c.kind, values),
        Test::NotIn(values) => {
            let found = one_of(s, &x, c.kind, values);
            s.not(found)
        }
        Test::Between(low, high) => between(s, x, c.kind, *low, *high),
        Test::Masked(mask, values) => {
            let mut any = FALSE;
            for v in values.iter().filter(|v| *v & !mask == 0) {
                let one = s.equals(&x, *mask, *v);
                any = s.or(any, one);
            }
            any
        }
        Test::HasAll(mask) => s.equals(&x, *mask, *mask),
        Test::HasAny(mask) => s.any_of(&x, *mask),
        Test::HasNone(mask) => {
            let any = s.any_of(&x, *mask);
            s.not(any)
        }
        Test::Only(mask) => {
            let any = s.any_of(&x, !mask);
            s.not(any)
        }
    }
}

/// Smallest and largest value of a type.
fn range(kind: Type) -> (i128, i128) {
    match kind {
        Type::U16 => (0, i128::from(u16::MAX)),
        Type::Int => (i128::from(i32::MIN), i128::from(i32::MAX)),
        Type::Uint => (0, i128::from(u32::MAX)),
        Type::Long => (i128::from(i64::MIN), i128::from(i64::MAX)),
        Type::Ulong | Type::Mixed | Type::Pointer => (0, i128::from(u64::MAX)),
    }
}

fn one_of(s: &mut Store, x: &[Node], kind: Type, values: &[i128]) -> Node {
    let (least, most) = range(kind);
    let mut any = FALSE;
    for v in values.iter().filter(|v| (least..=most).contains(*v)) {
        // Two's complement in the width of the type: the bits above it are 0 in `x`.
        let pattern = u64::try_from(v.rem_euclid(1 << 64)).unwrap_or(0);
        let width = u64::try_from(most - least).unwrap_or(u64::MAX);
        let one = s.equals(x, u64::MAX, pattern & width);
        any = s.or(any, one);
    }
    any
}

fn between(s: &mut Store, mut x: Vec<Node>, kind: Type, low: i128, high: i128) -> Node {
    let (least, most) = range(kind);
    if high < least || low > most || low > high {
        return FALSE;
    }
    // Counted from the smallest value of the type; for a signed one that is the sign bit turned over.
    let from_least = |v: i128| u64::try_from(v.clamp(least, most) - least).unwrap_or(0);
    let sign = match kind {
        Type::Int => Some(31),
        Type::Long => Some(63),
        _ => None,
    };
    if let Some(bit) = sign.and_then(|i| x.get_mut(i)) {
        *bit = s.not(*bit);
    }
    let enough = s.at_least(&x, from_least(low));
    match from_least(high).checked_add(1) {
        Some(next) if high < most => {
            let beyond = s.at_least(&x, next);
            let within = s.not(beyond);
            s.and(enough, within)
        }
        _ => enough,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::meaning::{self, Vector};

    /// Every test at the edges of every type, within it and just outside, on registers with and without something
    /// above the bits that the kernel reads, as the definition has it.
    #[test]
    fn conditions_are_exact_at_the_edges_of_their_type() {
        let mut compared = 0;
        for kind in [Type::U16, Type::Int, Type::Uint, Type::Long, Type::Ulong, Type::Mixed, Type::Pointer] {
            let (least, most) = range(kind);
            let values: Vec<i128> = [least, 0, 7, most].iter().flat_map(|v| v - 2..=v + 2).collect();
            let registers: Vec<u64> = values
                .iter()
                .map(|v| u64::try_from(v.rem_euclid(1 << 64)).unwrap())
                .flat_map(|r| [r, r ^ 1 << 16, r ^ 1 << 32, r ^ 1 << 63])
                .collect();
            let mut tests: Vec<Test> = Vec::new();
            for (i, low) in values.iter().enumerate() {
                tests.extend(values.iter().map(|high| Test::Between(*low, *high)));
                tests.extend([Test::In(vec![*low]), Test::NotIn(vec![*low, 9]), Test::In(values[i..].to_vec())]);
            }
            for mask in &registers {
                tests.extend([Test::HasAll(*mask), Test::HasAny(*mask), Test::HasNone(*mask), Test::Only(*mask)]);
                tests.extend([Test::Masked(*mask, vec![0, *mask]), Test::Masked(*mask, registers.clone())]);
            }
            for test in tests {
                let mut s = Store::default();
                let c = Condition { argument: 2, kind, test };
                let node = condition(&mut s, &c);
                for register in &registers {
                    let v = Vector { arch: 0, nr: 0, args: [0, 0, *register, 0, 0, 0], ip: 0 };
                    let (is, meant) = (s.evaluate(node, &v) != 0, meaning::condition(&c, *register));
                    assert_eq!(is, meant, "{kind:?} {:?} of {register:#x}", c.test);
                    compared += 1;
                }
            }
        }
        assert!(compared > 400_000, "{compared}");
    }
}
