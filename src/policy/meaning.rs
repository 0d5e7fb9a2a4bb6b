//! What a policy means for one concrete call: the definition that every generated filter is held to.
//!
//! Written from the language's definition and apart from the compiler, in the plainest way; nothing
//! here is shared with the lowering of rules to filters.

use super::Policy;
use super::syscalls::{Action, Condition, ENOSYS, EPERM, Rule, Test};
use crate::kernel::calls::{self, Type};
use crate::kernel::numbers::Arch;
use std::collections::BTreeMap;

/// What the filter sees of a call (struct seccomp_data).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vector {
    /// The architecture word.
    pub arch: u32,
    /// The number.
    pub nr: u32,
    /// The registers.
    pub args: [u64; 6],
    /// The instruction pointer, of which no policy speaks.
    pub ip: u64,
}

/// The rules of one machine, found by number.
pub struct Meaning<'a> {
    arch: Arch,
    kernel: (u16, u16),
    rules: BTreeMap<u32, Vec<&'a Rule>>,
}

impl<'a> Meaning<'a> {
    /// The meaning of a policy's calls on an architecture.
    pub fn new(policy: &'a Policy, arch: Arch) -> Self {
        let mut rules: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
        for rule in &policy.syscalls {
            if let Some(number) = arch.number(rule.call.name) {
                rules.entry(number).or_default().push(rule);
            }
        }
        Self { arch, kernel: policy.kernel, rules }
    }

    /// The rules that match a call, whatever they say.
    pub fn rules(&self, v: &Vector) -> Vec<&'a Rule> {
        self.rules.get(&v.nr).into_iter().flatten().copied().filter(|r| holds(r, v)).collect()
    }

    /// The action for one call.
    pub fn decide(&self, v: &Vector) -> Action {
        // Another ABI has other numbers: nothing of the policy speaks of it.
        if v.arch != self.arch.audit() {
            return Action::Kill;
        }
        if self.arch == Arch::X86_64 && v.nr & 0x4000_0000 != 0 && v.nr != u32::MAX {
            return Action::Kill;
        }
        // Denials are sticky: the most restrictive matching action wins.
        if let Some(action) = self.rules(v).iter().map(|r| r.action).max() {
            return action;
        }
        let reviewed = self.arch.name(v.nr).and_then(calls::find).is_some_and(|c| c.since <= self.kernel);
        Action::Errno(if reviewed { EPERM } else { ENOSYS })
    }
}

fn holds(rule: &Rule, v: &Vector) -> bool {
    rule.conditions.iter().all(|c| v.args.get(usize::from(c.argument)).is_some_and(|register| condition(c, *register)))
}

/// The register as the kernel reads it.
fn typed(kind: Type, register: u64) -> i128 {
    let [b0, b1, b2, b3, ..] = register.to_le_bytes();
    match kind {
        Type::U16 => i128::from(u16::from_le_bytes([b0, b1])),
        Type::Int => i128::from(i32::from_le_bytes([b0, b1, b2, b3])),
        Type::Uint => i128::from(u32::from_le_bytes([b0, b1, b2, b3])),
        Type::Long => i128::from(register.cast_signed()),
        Type::Ulong | Type::Mixed | Type::Pointer => i128::from(register),
    }
}

/// Does a register pass a test?
pub(crate) fn condition(c: &Condition, register: u64) -> bool {
    let value = typed(c.kind, register);
    // For the tests on bits: the bits that the kernel reads, as a pattern.
    let pattern = match c.kind {
        Type::U16 => register & 0xffff,
        Type::Int | Type::Uint => register & 0xffff_ffff,
        Type::Long | Type::Ulong | Type::Mixed | Type::Pointer => register,
    };
    match &c.test {
        Test::In(values) => values.contains(&value),
        Test::NotIn(values) => !values.contains(&value),
        Test::Between(low, high) => (*low..=*high).contains(&value),
        Test::Masked(mask, values) => values.contains(&(pattern & mask)),
        Test::HasAll(mask) => pattern & mask == *mask,
        Test::HasAny(mask) => pattern & mask != 0,
        Test::HasNone(mask) => pattern & mask == 0,
        Test::Only(mask) => pattern & !mask == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bits_that_the_kernel_reads_count() {
        let c = |kind, test| Condition { argument: 0, kind, test };
        assert!(condition(&c(Type::Int, Test::In(vec![38])), 0x1_0000_0026));
        assert!(!condition(&c(Type::Ulong, Test::In(vec![38])), 0x1_0000_0026));
        assert!(condition(&c(Type::Int, Test::In(vec![-1])), 0xdead_ffff_ffff));
        assert!(condition(&c(Type::Int, Test::Between(-5, -1)), 0xffff_fffb));
        assert!(condition(&c(Type::U16, Test::Only(0o777)), 0xffff_0000_01ff));
        assert!(!condition(&c(Type::Uint, Test::HasNone(0x8000_0000)), 0x8000_0000));
    }
}
