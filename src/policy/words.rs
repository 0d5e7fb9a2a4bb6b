//! Rules in the words of the language, constants by name.

use super::syscalls::{Condition, Rule, Test};
use crate::kernel::calls::Type;
use crate::kernel::constants;
use std::fmt;

/// (call, argument, family of its constants)
const FAMILIES: &[(&str, &str, &str)] = &[
    ("socket", "family", "af"),
    ("socketpair", "family", "af"),
    ("socket", "type", "sock"),
    ("socketpair", "type", "sock"),
    ("ioctl", "cmd", "ioctl"),
    ("prctl", "option", "prctl"),
    ("fcntl", "cmd", "fcntl"),
    ("clone", "clone_flags", "clone"),
    ("unshare", "unshare_flags", "clone"),
    ("setns", "nstype", "clone"),
    ("mmap", "prot", "prot"),
    ("mprotect", "prot", "prot"),
    ("pkey_mprotect", "prot", "prot"),
    ("mmap", "flags", "map"),
    ("open", "flags", "open"),
    ("openat", "flags", "open"),
    ("setsockopt", "level", "sol"),
    ("getsockopt", "level", "sol"),
    ("arch_prctl", "option", "arch_prctl"),
    ("futex", "op", "futex"),
    ("madvise", "behavior", "madv"),
    ("sendto", "flags", "msg"),
    ("sendmsg", "flags", "msg"),
    ("sendmmsg", "flags", "msg"),
    ("mount", "flags", "mount"),
    ("ptrace", "request", "ptrace"),
    ("keyctl", "option", "keyctl"),
    ("bpf", "cmd", "bpf"),
];

/// The family of an argument's constants, when it has one.
pub fn family(call: &str, argument: &str) -> Option<&'static str> {
    FAMILIES.iter().find(|(n, a, _)| *n == call && *a == argument).map(|(_, _, f)| *f)
}

impl Test {
    /// The values and masks that it names.
    pub fn values(&self) -> Vec<u64> {
        let plain = |v: &[i128]| v.iter().filter_map(|v| u64::try_from(*v).ok()).collect();
        match self {
            Test::In(v) | Test::NotIn(v) => plain(v),
            Test::Between(a, b) => plain(&[*a, *b]),
            Test::Masked(m, v) => v.iter().copied().chain([*m]).collect(),
            Test::HasAll(m) | Test::HasAny(m) | Test::HasNone(m) | Test::Only(m) => vec![*m],
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&call(self.call.name, self.call.args, &self.conditions))
    }
}

/// A call with conditions, as the language writes it.
pub fn call(name: &str, arguments: &[crate::kernel::calls::Arg], conditions: &[Condition]) -> String {
    if conditions.is_empty() {
        return name.to_owned();
    }
    let list: Vec<String> = conditions
        .iter()
        .map(|c| {
            let argument = arguments.get(usize::from(c.argument)).map_or("?", |a| a.name);
            let family = family(name, argument);
            match (&c.test, c.kind) {
                (Test::In(v), Type::Pointer) if *v == [0] => format!("{argument} == NULL"),
                (Test::NotIn(v), Type::Pointer) if *v == [0] => format!("{argument} != NULL"),
                _ => format!("{argument} {}", test(&c.test, family)),
            }
        })
        .collect();
    format!("{name}({})", list.join(", "))
}

fn test(t: &Test, family: Option<&str>) -> String {
    let one = |v: i128| u64::try_from(v).map_or(v.to_string(), |v| value(v, family));
    let many = |v: &[i128]| v.iter().map(|v| one(*v)).collect::<Vec<_>>().join(", ");
    match t {
        Test::In(v) => match v.as_slice() {
            [v] => format!("== {}", one(*v)),
            _ => format!("in [{}]", many(v)),
        },
        Test::NotIn(v) => format!("not in [{}]", many(v)),
        Test::Between(a, b) => format!("in {a}..={b}"),
        Test::Masked(m, v) => {
            let values: Vec<String> = v.iter().map(|v| value(*v, family)).collect();
            format!("& {m:#x} in [{}]", values.join(", "))
        }
        Test::HasAll(m) => format!("has all [{}]", bits(*m, family)),
        Test::HasAny(m) => format!("has any [{}]", bits(*m, family)),
        Test::HasNone(m) => format!("has none [{}]", bits(*m, family)),
        Test::Only(m) => format!("only [{}]", bits(*m, family)),
    }
}

fn value(v: u64, family: Option<&str>) -> String {
    match family.and_then(|f| constants::name_of(f, v)) {
        Some(name) => name.to_owned(),
        None if v > 4096 => format!("{v:#x}"),
        None => v.to_string(),
    }
}

/// A mask by the names of its bits; what has no name stays a number.
fn bits(mask: u64, family: Option<&str>) -> String {
    let mut out = Vec::new();
    let mut rest = 0;
    for bit in (0..64).map(|i| 1u64 << i).filter(|b| mask & b != 0) {
        match family.and_then(|f| constants::name_of(f, bit)) {
            Some(name) => out.push(name.to_owned()),
            None => rest |= bit,
        }
    }
    if rest != 0 || out.is_empty() {
        out.push(format!("{rest:#x}"));
    }
    out.join(", ")
}
