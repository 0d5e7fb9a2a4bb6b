//! Calls to try a filter with: each rule at its boundary and one step outside, and every number.

use super::cube::{self, Cube};
use crate::kernel::numbers::Arch;
use crate::policy::meaning::Vector;
use crate::policy::syscalls::{Rule, Test, bits_of};

/// Registers that no honest program passes: they show a filter that looks at too few or too many bits.
const NOISE: u64 = 0xdead_beef_0000_0000;

/// Every number up to 600 and the edges of the number space, natively and from foreign ABIs.
pub fn numbers(arch: Arch) -> Vec<Vector> {
    let mut out = Vec::new();
    let edges = [0x3fff_ffff, 0x4000_0000, 0x4000_0001, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];
    for nr in (0..=600).chain(edges).chain((0..512).map(|n| n | 0x4000_0000)) {
        out.push(Vector { arch: arch.audit(), nr, args: [0; 6], ip: 0 });
    }
    for foreign in [0x4000_0003, 0xC000_00B7, 0xC000_003E, 0, u32::MAX, 0x8000_003E] {
        if foreign != arch.audit() {
            out.extend((0..=470).map(|nr| Vector { arch: foreign, nr, args: [0; 6], ip: 0 }));
        }
    }
    out
}

/// For one rule: calls inside each of its cubes, and each argument moved one step outside, one half at
/// a time. At most `most` cubes are visited, spread evenly.
pub fn of_rule(arch: Arch, rule: &Rule, most: usize) -> Vec<Vector> {
    let Some(nr) = arch.number(rule.call.name) else { return Vec::new() };
    let mut out = Vec::new();
    let mut push = |args| out.push(Vector { arch: arch.audit(), nr, args, ip: 0 });
    let cubes = cube::of(&rule.conditions).unwrap_or_default();
    let step = cubes.len().div_ceil(most.max(1)).max(1);
    for c in cubes.iter().step_by(step) {
        let inside = fill(c, 0);
        push(inside);
        push(fill(c, u64::MAX));
        for condition in &rule.conditions {
            let index = usize::from(condition.argument);
            let values = edges(&condition.test).into_iter().flat_map(|v| {
                let bits = bits_of(condition.kind);
                [
                    v & bits,
                    v & bits | NOISE & !bits,
                    v,
                    v.wrapping_add(1),
                    v.wrapping_sub(1),
                    v ^ 1 << 32,
                    v ^ 1 << 31,
                    !v,
                ]
            });
            for value in values {
                let mut args = inside;
                if let Some(slot) = args.get_mut(index) {
                    *slot = value;
                }
                push(args);
            }
        }
    }
    out.sort_by_key(|v| v.args);
    out.dedup();
    out
}

/// A member of the cube with its free bits taken from `free`.
fn fill(c: &Cube, free: u64) -> [u64; 6] {
    let mut args = [0; 6];
    for (slot, (mask, value)) in args.iter_mut().zip(c.mask.iter().zip(&c.value)) {
        *slot = value | free & !mask;
    }
    args
}

/// The values at which a test changes its answer.
fn edges(test: &Test) -> Vec<u64> {
    let pattern = |v: &i128| u64::try_from(v & i128::from(u64::MAX)).unwrap_or(0);
    match test {
        Test::In(values) | Test::NotIn(values) => values.iter().map(pattern).collect(),
        Test::Between(low, high) => vec![pattern(low), pattern(high)],
        Test::Masked(mask, values) => values.iter().copied().chain([*mask]).collect(),
        Test::HasAll(m) | Test::HasAny(m) | Test::HasNone(m) | Test::Only(m) => vec![0, *m, m & m.wrapping_neg()],
    }
}
