//! Diagrams against truth tables, numbers and their budgets.

use super::*;

/// Every function of three bits, made in two ways, against its truth table.
#[test]
fn equal_functions_are_equal_nodes() {
    let mut s = Store::default();
    let bits: Vec<Node> = (0..3).map(|b| s.bit(Word::Low(0), b)).collect();
    for table in 0..256u32 {
        // As a sum of minterms, and from the top down.
        let mut sum = FALSE;
        for row in (0..8u64).filter(|r| table >> r & 1 == 1) {
            let term = s.equals(&bits, 7, row);
            sum = s.or(sum, term);
        }
        let mut rows: Vec<Node> = (0..8).map(|r| if table >> r & 1 == 1 { TRUE } else { FALSE }).collect();
        for bit in &bits {
            rows = rows.chunks(2).map(|c| s.choose(*bit, c[1], c[0])).collect();
        }
        assert_eq!(sum, rows[0], "{table:#x}");
        for row in 0..8u64 {
            let v = Vector { arch: 0, nr: 0, args: [row, 0, 0, 0, 0, 0], ip: 0 };
            assert_eq!(s.evaluate(sum, &v), table >> row & 1);
        }
        let not = s.not(sum);
        let back = s.not(not);
        assert_eq!((back, s.difference(sum, back)), (sum, None));
        let v = s.difference(sum, not).unwrap();
        assert_ne!(s.evaluate(sum, &v), s.evaluate(not, &v));
    }
}

#[test]
fn comparisons_are_exact_at_their_edges() {
    let mut s = Store::default();
    let bits = s.word(Word::Number);
    for k in [0u64, 1, 2, 255, 256, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        let (ge, eq, any) = (s.at_least(&bits, k), s.equals(&bits, u64::MAX, k), s.any_of(&bits, k));
        for near in [k.wrapping_sub(1), k, k + 1, 0, 0xffff_ffff, !k] {
            let nr = u32::try_from(near & 0xffff_ffff).unwrap();
            let v = Vector { arch: 0, nr, args: [0; 6], ip: 0 };
            let n = u64::from(nr);
            assert_eq!(s.evaluate(ge, &v) == 1, n >= k);
            assert_eq!(s.evaluate(eq, &v) == 1, n == k);
            assert_eq!(s.evaluate(any, &v) == 1, n & k != 0);
        }
    }
}

#[test]
fn a_budget_ends_the_work() {
    let mut s = Store::with_budget(40);
    let bits = s.word(Word::Low(1));
    s.at_least(&bits, 12345);
    assert!(s.exceeded());
}

/// The pairs of two diagrams may be many where what comes of them is one node.
#[test]
fn a_budget_ends_a_walk_over_pairs() {
    for (most, ends) in [(320, true), (1 << 20, false)] {
        let mut s = Store::with_budget(most);
        let bits: Vec<Node> = (0..32).map(|b| s.bit(Word::Low(0), b)).collect();
        // How many bits are set, modulo a number.
        let mut rest = |of: usize| {
            let mut states: Vec<Node> = (0..of).map(|n| if n == 0 { TRUE } else { FALSE }).collect();
            for bit in &bits {
                states = (0..of).map(|n| s.choose(*bit, states[(n + 1) % of], states[n])).collect();
            }
            states[0]
        };
        let (threes, fives) = (rest(3), rest(5));
        assert!(!s.exceeded(), "{} nodes", s.nodes.len());
        assert_eq!((s.combine(threes, fives, &|_, _| 0), s.exceeded()), (FALSE, ends));
    }
}

/// struct seccomp_data, linux/seccomp.h: `nr`, `arch`, `instruction_pointer`, `args[6]`.
#[test]
fn a_store_that_grew_finds_its_nodes() {
    let mut s = Store::default();
    let many = 4 * u32::try_from(PLACES).unwrap();
    let made: Vec<Node> = (0..many).map(|n| s.leaf(n)).collect();
    assert!(s.unique.len() > PLACES && !s.exceeded());
    assert!((0..many).zip(made).all(|(n, node)| s.leaf(n) == node && s.value(node) == Some(n)));
}

#[test]
fn words_stand_where_the_kernel_has_them() {
    let mut words = vec![Word::Number, Word::Arch, Word::Pointer(0), Word::Pointer(1)];
    words.extend((0..6).flat_map(|n| [Word::Low(n), Word::High(n)]));
    for offset in 0..80 {
        let whole = offset % 4 == 0;
        let expected = words.get(offset as usize / 4).filter(|_| whole).copied();
        assert_eq!(Word::at(offset), expected, "{offset}");
    }
}

#[test]
fn every_word_is_asked_where_it_stands() {
    let mut s = Store::default();
    let v = Vector {
        arch: 1,
        nr: 2,
        args: std::array::from_fn(|i| (i as u64 + 3) << 32 | (i as u64 + 20)),
        ip: 9 << 32 | 40,
    };
    let mut wanted = vec![(Word::Arch, 1), (Word::Number, 2), (Word::Pointer(0), 40), (Word::Pointer(1), 9)];
    wanted.extend((0..6u8).flat_map(|i| [(Word::High(i), u64::from(i) + 3), (Word::Low(i), u64::from(i) + 20)]));
    for (word, value) in wanted {
        let bits = s.word(word);
        let (equal, other) = (s.equals(&bits, u64::MAX, value), s.equals(&bits, u64::MAX, value + 1));
        assert_eq!((s.evaluate(equal, &v), s.evaluate(other, &v)), (1, 0), "{word:?}");
        // The call that shows a difference is one on which it holds.
        let shown = s.difference(equal, FALSE).unwrap();
        assert_eq!(s.evaluate(equal, &shown), 1);
        for bit in 0..32 {
            let one = s.bit(word, bit);
            let shown = s.difference(one, FALSE).unwrap();
            assert_eq!(s.evaluate(one, &shown), 1, "{word:?} {bit}");
        }
    }
}

#[test]
fn a_leaf_has_its_value_and_a_question_none() {
    let mut s = Store::default();
    let (seven, bit) = (s.leaf(7), s.bit(Word::Arch, 3));
    assert_eq!((s.value(seven), s.value(TRUE), s.value(bit)), (Some(7), Some(1), None));
    assert!(!s.is_empty() && s.len() >= 3);
    assert_eq!(s.choose(bit, TRUE, FALSE), bit);
}

/// A condition on a register of which the kernel reads the lower half.
#[test]
fn forgetting_bits_is_exact() {
    let unread = [!0xffff_ffff, 0, 0, 0, 0, 0];
    let mut s = Store::default();
    let (low, high) = (s.word(Word::Low(0)), s.word(Word::High(0)));
    let bits: Vec<Node> = low.into_iter().chain(high).collect();
    let exactly = s.equals(&bits, u64::MAX, 40);
    let (other, family) = (s.not(exactly), s.equals(&low, u64::MAX, 40));
    assert_eq!(s.some(exactly, &unread), family);
    // Refused as one 64-bit value, it is reached by another.
    assert_eq!(s.some(other, &unread), TRUE);
    assert_eq!(s.cleared(other, &unread), s.not(family));
    assert_eq!(s.some(FALSE, &unread), FALSE);
    // Bits of another register stay.
    let second = s.bit(Word::High(1), 0);
    assert_eq!((s.some(second, &unread), s.cleared(second, &unread)), (second, second));
}
