//! Hash-consed decision diagrams over the 512 bits that a filter sees of a call.
//!
//! A node asks for one bit; its leaves are words that a filter returns, or 0 and 1 where a diagram is a
//! condition. Every node exists once and none asks what doesn't matter, so two diagrams are equal exactly
//! when their nodes are (Bryant, "Graph-Based Algorithms for Boolean Function Manipulation", 1986).

use crate::policy::meaning::Vector;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A diagram, by its top node. Meaningful only together with the store that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(u32);

/// The condition that never holds; also the leaf 0.
pub const FALSE: Node = Node(0);
/// The condition that always holds; also the leaf 1.
pub const TRUE: Node = Node(1);

/// A 32-bit word of struct seccomp_data, in the order in which diagrams ask for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `arch`
    Arch,
    /// `nr`
    Number,
    /// The upper half of an argument.
    High(u8),
    /// The lower half of an argument.
    Low(u8),
    /// `instruction_pointer`: 0 the lower half, 1 the upper.
    Pointer(u8),
}

impl Word {
    /// Its place in that order.
    pub(super) fn place(self) -> u16 {
        match self {
            Word::Arch => 0,
            Word::Number => 1,
            Word::High(n) => 2 + 2 * u16::from(n),
            Word::Low(n) => 3 + 2 * u16::from(n),
            Word::Pointer(n) => 14 + u16::from(n),
        }
    }

    /// The word at an offset into struct seccomp_data, little endian (linux/seccomp.h).
    pub fn at(offset: u32) -> Option<Word> {
        let argument = |o: u32| u8::try_from(o / 8).ok();
        match offset {
            0 => Some(Word::Number),
            4 => Some(Word::Arch),
            8 => Some(Word::Pointer(0)),
            12 => Some(Word::Pointer(1)),
            16..64 if offset.is_multiple_of(8) => argument(offset - 16).map(Word::Low),
            16..64 if offset.is_multiple_of(4) => argument(offset - 16).map(Word::High),
            _ => None,
        }
    }
}

/// Level of leaves: below every bit.
const LEAF: u16 = u16::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Inner {
    level: u16,
    /// Where the bit is 0; the value of a leaf.
    low: Node,
    high: Node,
}

/// For maps whose keys are node numbers: fixed multiplication in place of a keyed hash: the keys are small numbers of our own making.
#[derive(Default)]
pub(super) struct Quick(u64);

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes.chunks(4) {
            self.write_u32(b.iter().fold(0, |n, b| n << 8 | u32::from(*b)));
        }
    }
    fn write_u16(&mut self, n: u16) {
        self.write_u32(u32::from(n));
    }
    fn write_u32(&mut self, n: u32) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

#[derive(Clone, Copy)]
struct Chosen {
    of: (Node, Node, Node),
    is: Node,
}

/// Of three constants nothing is ever worked out, so this is no answer to anything.
const NOTHING: Chosen = Chosen { of: (FALSE, FALSE, FALSE), is: FALSE };

/// Places for nodes that a store begins with.
const PLACES: usize = 1 << 13;

fn hash(a: u32, b: u32, c: u32) -> usize {
    let mut h = Quick::default();
    h.write_u32(a);
    h.write_u32(b);
    h.write_u32(c);
    usize::try_from(h.finish()).unwrap_or_default()
}

/// Where diagrams live.
pub struct Store {
    nodes: Vec<Inner>,
    /// Where each node is, by its hash; 0 is free, else one more than the node. At most half full.
    unique: Vec<u32>,
    /// What was chosen lately: a later answer takes the place of an earlier one with the same hash. As many
    /// places as `unique` has a fourth of, so it grows with the nodes.
    chosen: Vec<Chosen>,
    words: [Option<[Node; 32]>; 16],
    most: usize,
    /// Choices that were worked out.
    work: usize,
    /// The work, as distinct from the nodes, was too much.
    spent: bool,
}

/// Most nodes of a store unless said otherwise: a shipped machine needs some thousands.
pub const MOST: usize = 1_000_000;

impl Default for Store {
    fn default() -> Self {
        Self::with_budget(MOST)
    }
}

impl Store {
    /// A store that gives up beyond `most` nodes; ask [`Store::exceeded`] before trusting an answer.
    pub fn with_budget(most: usize) -> Self {
        let mut s = Self {
            nodes: Vec::with_capacity(PLACES / 2),
            unique: vec![0; PLACES],
            chosen: vec![NOTHING; PLACES / 4],
            words: [None; 16],
            most,
            work: 0,
            spent: false,
        };
        // The two constants first, so that they have their fixed places.
        s.leaf(0);
        s.leaf(1);
        s
    }

    /// True when the budget was used up: then no diagram made since means anything.
    pub fn exceeded(&self) -> bool {
        self.spent || self.nodes.len() >= self.most
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: a store has its two constants.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn inner(&self, n: Node) -> Inner {
        let index = usize::try_from(n.0).unwrap_or(usize::MAX);
        self.nodes.get(index).copied().unwrap_or(Inner { level: LEAF, low: FALSE, high: FALSE })
    }

    fn keep(&mut self, inner: Inner) -> Node {
        let mut place = hash(u32::from(inner.level), inner.low.0, inner.high.0);
        loop {
            place &= self.unique.len() - 1;
            match self.unique.get(place) {
                Some(&n) if n > 0 => {
                    if self.inner(Node(n - 1)) == inner {
                        return Node(n - 1);
                    }
                    place += 1;
                }
                _ => break,
            }
        }
        if self.exceeded() {
            return FALSE;
        }
        let Ok(id) = u32::try_from(self.nodes.len()) else { return FALSE };
        self.nodes.push(inner);
        if let Some(slot) = self.unique.get_mut(place) {
            *slot = id + 1;
        }
        // They come one by one, so half full is met exactly.
        if self.nodes.len() == self.unique.len() / 2 {
            self.grow();
        }
        Node(id)
    }

    fn grow(&mut self) {
        let places = self.unique.len() * 2;
        let mut unique = vec![0u32; places];
        for (n, inner) in (1u32..).zip(&self.nodes) {
            let mut place = hash(u32::from(inner.level), inner.low.0, inner.high.0);
            while unique.get(place & (places - 1)).is_some_and(|n| *n > 0) {
                place += 1;
            }
            if let Some(slot) = unique.get_mut(place & (places - 1)) {
                *slot = n;
            }
        }
        self.unique = unique;
        // What was answered is asked again at little cost: it only saves time.
        self.chosen = vec![NOTHING; places / 4];
    }

    /// A constant.
    pub fn leaf(&mut self, value: u32) -> Node {
        self.keep(Inner { level: LEAF, low: Node(value), high: FALSE })
    }

    /// The value of a leaf; `None` for a node that asks for a bit.
    pub fn value(&self, n: Node) -> Option<u32> {
        let inner = self.inner(n);
        (inner.level == LEAF).then_some(inner.low.0)
    }

    fn node(&mut self, level: u16, low: Node, high: Node) -> Node {
        if low == high { low } else { self.keep(Inner { level, low, high }) }
    }

    /// One bit of a word, 0 the least significant.
    pub fn bit(&mut self, word: Word, bit: u8) -> Node {
        let level = word.place() * 32 + 31 - u16::from(bit & 31);
        self.node(level, FALSE, TRUE)
    }

    /// All bits of a word, the least significant first.
    pub fn word(&mut self, word: Word) -> [Node; 32] {
        let place = usize::from(word.place());
        if let Some(Some(bits)) = self.words.get(place) {
            return *bits;
        }
        let mut out = [FALSE; 32];
        for (slot, bit) in out.iter_mut().zip(0u8..) {
            *slot = self.bit(word, bit);
        }
        if let Some(slot) = self.words.get_mut(place) {
            *slot = Some(out);
        }
        out
    }

    /// `then` where `when` holds, `other` elsewhere.
    pub fn choose(&mut self, when: Node, then: Node, other: Node) -> Node {
        match (when, then, other) {
            (TRUE, ..) => return then,
            (FALSE, ..) => return other,
            _ if then == other => return then,
            _ => {}
        }
        let (w, t, o) = (self.inner(when), self.inner(then), self.inner(other));
        let level = w.level.min(t.level).min(o.level);
        let of = (when, then, other);
        let place = hash(when.0, then.0, other.0);
        if let Some(c) = self.chosen.get(place & (self.chosen.len() - 1)).filter(|c| c.of == of) {
            return c.is;
        }
        if self.exceeded() {
            return FALSE;
        }
        self.work += 1;
        if self.work > 8 * self.most {
            self.spent = true;
            return FALSE;
        }
        let split = |i: Inner, n: Node| if i.level == level { (i.low, i.high) } else { (n, n) };
        let ((wl, wh), (tl, th), (ol, oh)) = (split(w, when), split(t, then), split(o, other));
        let low = self.choose(wl, tl, ol);
        let high = self.choose(wh, th, oh);
        let is = self.node(level, low, high);
        let places = self.chosen.len();
        if let Some(slot) = self.chosen.get_mut(place & (places - 1)) {
            *slot = Chosen { of, is };
        }
        is
    }

    /// Both conditions.
    pub fn and(&mut self, a: Node, b: Node) -> Node {
        self.choose(a, b, FALSE)
    }

    /// One of the conditions.
    pub fn or(&mut self, a: Node, b: Node) -> Node {
        self.choose(a, TRUE, b)
    }

    /// Not the condition.
    pub fn not(&mut self, a: Node) -> Node {
        self.choose(a, FALSE, TRUE)
    }

    /// Exactly one of the conditions.
    pub fn xor(&mut self, a: Node, b: Node) -> Node {
        let not = self.not(b);
        self.choose(a, not, b)
    }

    /// `value & mask == wanted & mask`, bits least significant first.
    pub fn equals(&mut self, bits: &[Node], mask: u64, wanted: u64) -> Node {
        let mut all = TRUE;
        for (i, bit) in (0u32..).zip(bits).filter(|(i, _)| mask >> i & 1 == 1) {
            all = if wanted >> i & 1 == 1 { self.choose(*bit, all, FALSE) } else { self.choose(*bit, FALSE, all) };
        }
        all
    }

    /// `value >= least`, unsigned, bits least significant first.
    pub fn at_least(&mut self, bits: &[Node], least: u64) -> Node {
        let mut so_far = TRUE;
        for (i, bit) in (0u32..).zip(bits) {
            so_far =
                if least >> i & 1 == 1 { self.choose(*bit, so_far, FALSE) } else { self.choose(*bit, TRUE, so_far) };
        }
        so_far
    }

    /// `value & mask != 0`, bits least significant first.
    pub fn any_of(&mut self, bits: &[Node], mask: u64) -> Node {
        let mut any = FALSE;
        for (_, bit) in (0u32..).zip(bits).filter(|(i, _)| mask >> i & 1 == 1) {
            any = self.choose(*bit, TRUE, any);
        }
        any
    }

    /// The diagram of `f` over the answers of two; shared parts are visited once.
    pub fn combine(&mut self, a: Node, b: Node, f: &impl Fn(u32, u32) -> u32) -> Node {
        let mut done = Map::default();
        self.combine_inner(a, b, f, &mut done)
    }

    fn combine_inner(
        &mut self,
        a: Node,
        b: Node,
        f: &impl Fn(u32, u32) -> u32,
        done: &mut Map<(Node, Node), Node>,
    ) -> Node {
        if let Some(n) = done.get(&(a, b)) {
            return *n;
        }
        if self.exceeded() || done.len() >= self.most {
            self.spent = true;
            return FALSE;
        }
        let (x, y) = (self.inner(a), self.inner(b));
        let level = x.level.min(y.level);
        let n = if level == LEAF {
            self.leaf(f(x.low.0, y.low.0))
        } else {
            let split = |i: Inner, n: Node| if i.level == level { (i.low, i.high) } else { (n, n) };
            let ((al, ah), (bl, bh)) = (split(x, a), split(y, b));
            let low = self.combine_inner(al, bl, f, done);
            let high = self.combine_inner(ah, bh, f, done);
            self.node(level, low, high)
        };
        done.insert((a, b), n);
        n
    }

    /// A condition without some bits of the arguments: it holds where it did for at least one value of them.
    pub fn some(&mut self, n: Node, bits: &[u64; 6]) -> Node {
        self.forget(n, bits, true, &mut Map::default())
    }

    /// A condition with some bits of the arguments fixed to 0.
    pub fn cleared(&mut self, n: Node, bits: &[u64; 6]) -> Node {
        self.forget(n, bits, false, &mut Map::default())
    }

    fn forget(&mut self, n: Node, bits: &[u64; 6], both: bool, done: &mut Map<Node, Node>) -> Node {
        let i = self.inner(n);
        if i.level == LEAF {
            return n;
        }
        if let Some(n) = done.get(&n) {
            return *n;
        }
        let low = self.forget(i.low, bits, both, done);
        let high = self.forget(i.high, bits, both, done);
        let out = match (forgotten(bits, i.level), both) {
            (true, true) => self.or(low, high),
            (true, false) => low,
            _ => self.node(i.level, low, high),
        };
        done.insert(n, out);
        out
    }

    /// What the diagram answers for one call.
    pub fn evaluate(&self, n: Node, v: &Vector) -> u32 {
        let mut at = self.inner(n);
        while at.level != LEAF {
            let bit = 31 - at.level % 32;
            at = self.inner(if word_of(v, at.level / 32) >> bit & 1 == 1 { at.high } else { at.low });
        }
        at.low.0
    }

    /// A call on which two diagrams differ, with as few bits set as the diagrams allow on the way down;
    /// `None` when they are the same.
    pub fn difference(&self, a: Node, b: Node) -> Option<Vector> {
        if a == b {
            return None;
        }
        let mut v = Vector { arch: 0, nr: 0, args: [0; 6], ip: 0 };
        let (mut a, mut b) = (a, b);
        loop {
            let (x, y) = (self.inner(a), self.inner(b));
            let level = x.level.min(y.level);
            if level == LEAF {
                return Some(v);
            }
            let split = |i: Inner, n: Node| if i.level == level { (i.low, i.high) } else { (n, n) };
            let ((al, ah), (bl, bh)) = (split(x, a), split(y, b));
            if al != bl {
                (a, b) = (al, bl);
            } else {
                (a, b) = (ah, bh);
                set(&mut v, level);
            }
        }
    }
}

/// True when the bit that a level asks for is one of these.
fn forgotten(bits: &[u64; 6], level: u16) -> bool {
    let mut v = Vector { arch: 0, nr: 0, args: [0; 6], ip: 0 };
    set(&mut v, level);
    v.args.iter().zip(bits).any(|(a, b)| a & b != 0)
}

fn word_of(v: &Vector, word: u16) -> u32 {
    let half = |n: u16, shift: u32| {
        let register = v.args.get(usize::from(n)).copied().unwrap_or(0);
        u32::try_from(register >> shift & 0xffff_ffff).unwrap_or(0)
    };
    match word {
        0 => v.arch,
        1 => v.nr,
        2..14 if word.is_multiple_of(2) => half((word - 2) / 2, 32),
        2..14 => half((word - 2) / 2, 0),
        _ => u32::try_from(v.ip >> (32 * (word - 14)) & 0xffff_ffff).unwrap_or(0),
    }
}

fn set(v: &mut Vector, level: u16) {
    let (word, bit) = (level / 32, 31 - u32::from(level % 32));
    match word {
        0 => v.arch |= 1 << bit,
        1 => v.nr |= 1 << bit,
        2..14 => {
            let shift = if word % 2 == 0 { bit + 32 } else { bit };
            if let Some(a) = v.args.get_mut(usize::from((word - 2) / 2)) {
                *a |= 1 << shift;
            }
        }
        _ => v.ip |= 1 << (bit + 32 * u32::from(word - 14)),
    }
}

#[cfg(test)]
mod tests;
