//! Sets of calls as unions of cubes: some bits of some arguments are fixed, the others are free.
//!
//! Every condition of the language is a finite union of cubes, and cubes are what a filter can
//! compare (MASKED_EQ). Differences and intersections are exact.

use crate::kernel::calls::Type;
use crate::policy::syscalls::{Condition, Test};

/// Most cubes that one set may have; beyond it a rule is refused as too complex.
pub(super) const MOST: usize = 2048;

/// A set of register values: those where `register & mask == value` for each argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cube {
    /// Fixed bits of each argument.
    pub mask: [u64; 6],
    /// Their values; 0 where free.
    pub value: [u64; 6],
}

/// All calls.
pub const ALL: Cube = Cube { mask: [0; 6], value: [0; 6] };

/// The set needs more than the bounded number of cubes.
#[derive(Debug, PartialEq, Eq)]
pub struct TooComplex;

impl Cube {
    fn with(mut self, argument: usize, mask: u64, value: u64) -> Option<Cube> {
        let (m, v) = (self.mask.get_mut(argument)?, self.value.get_mut(argument)?);
        if *m & mask & (*v ^ value) != 0 {
            return None;
        }
        *m |= mask;
        *v |= value;
        Some(self)
    }

    /// The common part, if there is one.
    pub fn and(&self, other: &Cube) -> Option<Cube> {
        let mut out = *self;
        for (i, (m, v)) in other.mask.iter().zip(&other.value).enumerate() {
            out = out.with(i, *m, *v)?;
        }
        Some(out)
    }

    /// True when every call of `self` is in `other`.
    pub fn is_within(&self, other: &Cube) -> bool {
        let each = self.mask.iter().zip(&self.value).zip(other.mask.iter().zip(&other.value));
        each.into_iter().all(|((sm, sv), (om, ov))| om & !sm == 0 && sv & om == *ov)
    }

    /// Disjoint cubes that make up `self` without `other`.
    fn minus(&self, other: &Cube) -> Vec<Cube> {
        if self.and(other).is_none() {
            return vec![*self];
        }
        let mut out = Vec::new();
        let mut rest = *self;
        for (i, (om, ov)) in other.mask.iter().zip(&other.value).enumerate() {
            let mut free = om & !self.mask.get(i).copied().unwrap_or(u64::MAX);
            while free != 0 {
                let bit = 1u64 << (63 - free.leading_zeros());
                free &= !bit;
                out.extend(rest.with(i, bit, !ov & bit));
                match rest.with(i, bit, ov & bit) {
                    Some(r) => rest = r,
                    None => return out,
                }
            }
        }
        out
    }
}

/// The cubes in which all conditions hold.
pub fn of(conditions: &[Condition]) -> Result<Vec<Cube>, TooComplex> {
    let mut out = vec![ALL];
    for c in conditions {
        let choices = patterns(c.kind, &c.test);
        if out.len() * choices.len() > MOST {
            return Err(TooComplex);
        }
        let argument = usize::from(c.argument);
        out = out.iter().flat_map(|cube| choices.iter().filter_map(|(m, v)| cube.with(argument, *m, *v))).collect();
    }
    Ok(out)
}

/// `a` without `b`.
pub fn minus(a: &[Cube], b: &[Cube]) -> Result<Vec<Cube>, TooComplex> {
    let mut out = a.to_vec();
    for cube in b {
        out = out.iter().flat_map(|c| c.minus(cube)).collect();
        if out.len() > MOST {
            return Err(TooComplex);
        }
    }
    Ok(out)
}

/// The common part of two sets.
pub fn and(a: &[Cube], b: &[Cube]) -> Vec<Cube> {
    a.iter().flat_map(|x| b.iter().filter_map(|y| x.and(y))).collect()
}

/// True when some call is in both.
pub fn overlap(a: &[Cube], b: &[Cube]) -> bool {
    a.iter().any(|x| b.iter().any(|y| x.and(y).is_some()))
}

/// The same set without cubes that lie inside others.
pub fn simplify(mut cubes: Vec<Cube>) -> Vec<Cube> {
    cubes.sort();
    if cubes.first() == Some(&ALL) {
        return vec![ALL];
    }
    cubes.dedup();
    // Values of the same bits, as in most lists: none of them lies inside another.
    if cubes.iter().zip(cubes.iter().skip(1)).all(|(a, b)| a.mask == b.mask) {
        return cubes;
    }
    let all = cubes.clone();
    // No two are equal any more, so what is within another is no other's equal.
    cubes.retain(|c| !all.iter().any(|o| c.is_within(o) && o != c));
    cubes
}

/// (mask, value) pairs whose union is the test.
fn patterns(kind: Type, test: &Test) -> Vec<(u64, u64)> {
    let bits = crate::policy::syscalls::bits_of(kind);
    let pattern = |v: i128| u64::try_from(v & i128::from(bits)).unwrap_or(0);
    match test {
        Test::In(values) => values.iter().map(|v| (bits, pattern(*v))).collect(),
        Test::NotIn(values) => {
            let mut sorted: Vec<u64> = values.iter().map(|v| pattern(*v)).collect();
            sorted.sort_unstable();
            sorted.dedup();
            let mut out = Vec::new();
            let mut next = Some(0u64);
            for v in sorted {
                if let Some(start) = next.filter(|s| *s < v) {
                    out.extend(range(start, v - 1, bits));
                }
                next = v.checked_add(1).filter(|n| *n <= bits);
            }
            if let Some(start) = next {
                out.extend(range(start, bits, bits));
            }
            out
        }
        Test::Between(low, high) => {
            let (a, b) = (pattern(*low), pattern(*high));
            // A signed range over zero is two ranges of patterns.
            if *low < 0 && *high >= 0 { [range(a, bits, bits), range(0, b, bits)].concat() } else { range(a, b, bits) }
        }
        Test::Masked(mask, values) => values.iter().map(|v| (*mask, *v)).collect(),
        Test::HasAll(mask) => vec![(*mask, *mask)],
        Test::HasAny(mask) => (0..64).map(|i| 1u64 << i).filter(|b| mask & bits & b != 0).map(|b| (b, b)).collect(),
        Test::HasNone(mask) => vec![(*mask, 0)],
        Test::Only(mask) => vec![(bits & !mask, 0)],
    }
}

/// The aligned blocks that make up `low..=high`, like the prefixes of an address range.
fn range(low: u64, high: u64, bits: u64) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    let (mut at, end) = (u128::from(low), u128::from(high));
    while at <= end {
        let mut size = if at == 0 { u128::from(bits) + 1 } else { at & at.wrapping_neg() };
        while at + size - 1 > end {
            size >>= 1;
        }
        let mask = bits & !u64::try_from(size - 1).unwrap_or(u64::MAX);
        out.push((mask, u64::try_from(at).unwrap_or(0)));
        at += size;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(cubes: &[Cube], values: impl Iterator<Item = u64>) -> Vec<u64> {
        values.filter(|v| cubes.iter().any(|c| v & c.mask[0] == c.value[0])).collect()
    }

    #[test]
    fn ranges_and_complements_are_exact_on_sixteen_bits() {
        let c = |test| vec![Condition { argument: 0, kind: Type::U16, test }];
        for (low, high) in [(0, 0), (0, 65535), (1, 65534), (7, 4000), (300, 301), (65535, 65535)] {
            let cubes = of(&c(Test::Between(low, high))).unwrap();
            let expect: Vec<u64> = (0..=65535u64).filter(|v| (low..=high).contains(&i128::from(*v))).collect();
            assert_eq!(count(&cubes, 0..=65535), expect);
        }
        let cubes = of(&c(Test::NotIn(vec![0, 5, 6, 65535]))).unwrap();
        let expect: Vec<u64> = (0..=65535u64).filter(|v| ![0, 5, 6, 65535].contains(v)).collect();
        assert_eq!(count(&cubes, 0..=65535), expect);
    }

    #[test]
    fn each_test_is_exact_on_sixteen_bits() {
        type Holds = fn(u64) -> bool;
        let holds: [(Test, Holds); 9] = [
            (Test::In(vec![0, 7, 65535]), |v| [0, 7, 65535].contains(&v)),
            (Test::NotIn(vec![]), |_| true),
            (Test::NotIn(vec![65535, 1]), |v| v != 1 && v != 65535),
            (Test::Masked(0xf0, vec![0x10, 0x70]), |v| [0x10, 0x70].contains(&(v & 0xf0))),
            (Test::HasAll(0x8001), |v| v & 0x8001 == 0x8001),
            (Test::HasAny(0x8001), |v| v & 0x8001 != 0),
            (Test::HasAny(0x1_0000), |_| false),
            (Test::HasNone(0x8001), |v| v & 0x8001 == 0),
            (Test::Only(0x8001), |v| v & !0x8001 == 0),
        ];
        for (test, expect) in holds {
            let said = format!("{test:?}");
            let cubes = of(&[Condition { argument: 0, kind: Type::U16, test }]).unwrap();
            let expect: Vec<u64> = (0..=65535u64).filter(|v| expect(*v)).collect();
            // What is above an argument's type is free: the kernel doesn't read it.
            assert!(cubes.iter().all(|c| c.mask[0] <= 0xffff), "{said}");
            assert!(count(&cubes, 0..=65535) == expect, "{said}");
        }
    }

    #[test]
    fn a_signed_range_goes_over_zero_and_a_wide_one_to_the_end() {
        let of = |kind, low, high| of(&[Condition { argument: 0, kind, test: Test::Between(low, high) }]).unwrap();
        let signed = of(Type::Int, -3, 5);
        for v in -10i32..10 {
            let register = u64::from(v.cast_unsigned());
            assert_eq!(count(&signed, [register].into_iter()).len(), usize::from((-3..=5).contains(&v)), "{v}");
        }
        for (v, is) in [(i32::MIN, true), (-1, true), (0, false), (i32::MAX, false)] {
            let register = u64::from(v.cast_unsigned());
            assert_eq!(count(&of(Type::Int, i128::from(i32::MIN), -1), [register].into_iter()).len(), usize::from(is));
        }
        let wide = of(Type::Ulong, 5, i128::from(u64::MAX));
        for v in [0, 4, 5, 6, 1 << 32, u64::MAX - 1, u64::MAX] {
            assert_eq!(count(&wide, [v].into_iter()).len(), usize::from(v >= 5), "{v}");
        }
    }

    #[test]
    fn difference_is_exact_and_disjoint() {
        let c = |test| of(&[Condition { argument: 0, kind: Type::U16, test }]).unwrap();
        let a = c(Test::Between(10, 5000));
        let b = c(Test::Masked(0xff, vec![3, 9]));
        let d = minus(&a, &b).unwrap();
        for v in 0..=65535u64 {
            let hits = d.iter().filter(|c| v & c.mask[0] == c.value[0]).count();
            let expect = (10..=5000).contains(&v) && v & 0xff != 3 && v & 0xff != 9;
            assert_eq!(hits, usize::from(expect), "{v}");
        }
    }

    /// Every cube over two bits of each of two arguments, 81 of them, against the sixteen calls that they speak of.
    #[test]
    fn operations_are_those_of_sets() {
        let mut cubes = Vec::new();
        for (m0, m1) in (0..4u64).flat_map(|m0| (0..4u64).map(move |m1| (m0, m1))) {
            for (v0, v1) in (0..4u64).flat_map(|v0| (0..4u64).map(move |v1| (v0, v1))) {
                if v0 & !m0 == 0 && v1 & !m1 == 0 {
                    cubes.push(Cube { mask: [m0, m1, 0, 0, 0, 0], value: [v0, v1, 0, 0, 0, 0] });
                }
            }
        }
        assert_eq!(cubes.len(), 81);
        let has = |c: &Cube, call: u64| (call & 3) & c.mask[0] == c.value[0] && (call >> 2) & c.mask[1] == c.value[1];
        let set = |cubes: &[Cube]| (0..16u64).filter(|x| cubes.iter().any(|c| has(c, *x))).collect::<Vec<_>>();
        for (a, b) in cubes.iter().flat_map(|a| cubes.iter().map(move |b| (a, b))) {
            let (in_a, in_b) = (set(&[*a]), set(&[*b]));
            let both: Vec<u64> = in_a.iter().filter(|x| in_b.contains(x)).copied().collect();
            assert_eq!(set(a.and(b).as_slice()), both, "{a:?} {b:?}");
            assert_eq!(set(&and(&[*a], &[*b])), both);
            assert_eq!(overlap(&[*a], &[*b]), !both.is_empty());
            assert_eq!(a.is_within(b), in_a.iter().all(|x| in_b.contains(x)), "{a:?} {b:?}");
            let rest = minus(&[*a], &[*b]).unwrap();
            assert_eq!(
                set(&rest),
                in_a.iter().filter(|x| !in_b.contains(x)).copied().collect::<Vec<_>>(),
                "{a:?} {b:?}"
            );
            let parts: usize = rest.iter().map(|c| set(&[*c]).len()).sum();
            assert_eq!(parts, set(&rest).len(), "parts overlap: {a:?} {b:?}");
            // None of what is left lies inside another, and nothing of the set is lost.
            for more in [*a, ALL, cubes[40]] {
                let less = simplify(vec![*a, *b, more, *b]);
                assert_eq!(set(&less), set(&[*a, *b, more]), "{a:?} {b:?} {more:?}");
                let inside = |c: &Cube| less.iter().filter(|o| c.is_within(o)).count();
                assert!(less.iter().all(|c| inside(c) == 1), "{less:?}");
            }
        }
    }

    #[test]
    fn the_bound_on_cubes_is_where_it_is_said() {
        let odd = |n: usize| {
            let values = (0..n).map(|i| 2 * i128::try_from(i).unwrap() + 1).collect();
            vec![Condition { argument: 0, kind: Type::Ulong, test: Test::In(values) }]
        };
        assert_eq!(of(&odd(MOST)).map(|c| c.len()), Ok(MOST));
        assert_eq!(of(&odd(MOST + 1)), Err(TooComplex));
        // Of 2,048 values with a low bit that is free one takes out half of each.
        let all =
            |n| (0..n).map(|i| Cube { mask: [!1, 0, 0, 0, 0, 0], value: [2 * i, 0, 0, 0, 0, 0] }).collect::<Vec<_>>();
        let one = Cube { mask: [1, 0, 0, 0, 0, 0], value: [1, 0, 0, 0, 0, 0] };
        let most = u64::try_from(MOST).unwrap();
        assert_eq!(minus(&all(most), &[one]).map(|c| c.len()), Ok(MOST));
        assert_eq!(minus(&all(most + 1), &[one]), Err(TooComplex));
    }
}
