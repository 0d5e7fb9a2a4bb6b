//! The filter generator: one tree over the numbers, below it a chain of comparisons for each call that
//! has conditions.
//!
//! Calls whose answer hangs on the number alone load no argument on their way: the kernel finds that out
//! when the filter is loaded, and doesn't run it for those that are allowed (seccomp_cache_prepare_bitmap,
//! kernel/seccomp.c). The tree is therefore weighted by how often the others are made. What comes out is
//! proved equal to the policy by the caller; nothing here is trusted.

use super::cube::Cube;
use super::seccomp::Regions;
use crate::kernel::frequency;
use crate::kernel::numbers::Arch;
use crate::policy::syscalls::{Action, ENOSYS, EPERM};
use crate::proof::bpf::{self, AND_K, JA, JEQ, JGE, load, ret};
use crate::sys::confine::Instruction;
use std::collections::HashMap;

/// What a filter goes through, from its end: a block names only blocks made before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Block {
    Return(u32),
    /// Loads the word at the offset unless it is loaded already, masks it, and compares.
    Test {
        load: Option<u32>,
        mask: Option<u32>,
        compare: u16,
        with: u32,
        yes: usize,
        no: usize,
    },
}

/// A range of numbers that are treated alike.
struct Segment {
    first: u32,
    block: usize,
    weight: u64,
}

/// Makes the program; `None` when it would need more instructions than the kernel takes.
///
/// `reviewed` says of a number that its call is in the reviewed table, so that it fails with EPERM
/// where no rule matches; of the other numbers nobody knows anything.
pub(super) fn emit(regions: &[Regions], arch: Arch, reviewed: impl Fn(u32) -> bool) -> Option<Vec<Instruction>> {
    let mut b = Blocks::default();
    let kill = b.action(Action::Kill);
    let absent = b.action(Action::Errno(ENOSYS));
    let refused = b.action(Action::Errno(EPERM));
    let mut segments = Vec::new();
    let mut sorted: Vec<&Regions> = regions.iter().collect();
    sorted.sort_by_key(|r| r.number());
    let mut next = sorted.into_iter().peekable();
    for number in 0..=arch.last() {
        let region = next.next_if(|r| r.number() == number);
        let (block, weight) = match region {
            Some(r) => {
                let block = b.call(r, refused);
                // Constant answers are the kernel's cache's business; refusals are rare.
                let weight = if b.is_constant(block) { 1 } else { frequency::of(arch, number) };
                (block, weight)
            }
            None if reviewed(number) => (refused, 1),
            None => (absent, 0),
        };
        segments.push(Segment { first: number, block, weight });
    }
    let beyond = |first, block| Segment { first, block, weight: 0 };
    segments.push(beyond(arch.last() + 1, absent));
    if arch == Arch::X86_64 {
        // Bit 30 marks the x32 ABI; -1 is what a tracer writes to skip a call, and belongs to no ABI.
        segments.push(beyond(0x4000_0000, kill));
        segments.push(beyond(0x8000_0000, absent));
        segments.push(beyond(0xC000_0000, kill));
        segments.push(beyond(u32::MAX, absent));
    }
    segments.dedup_by(|later, first| {
        let same = later.block == first.block;
        if same {
            first.weight += later.weight;
        }
        same
    });
    let tree = b.tree(&segments);
    // The tree compares the number; the block that tests the architecture comes before it.
    let entry = b.number(tree);
    b.assemble(entry, arch, kill)
}

#[derive(Default)]
struct Blocks {
    list: Vec<Block>,
    known: HashMap<Block, usize>,
}

impl Blocks {
    /// Each block once: that is what makes tails shared.
    fn keep(&mut self, block: Block) -> usize {
        if let Block::Test { yes, no, .. } = block
            && yes == no
        {
            return yes;
        }
        let list = &mut self.list;
        *self.known.entry(block).or_insert_with(|| {
            list.push(block);
            list.len() - 1
        })
    }

    fn get(&self, id: usize) -> Block {
        self.list.get(id).copied().unwrap_or(Block::Return(bpf::encode(Action::Kill)))
    }

    fn action(&mut self, a: Action) -> usize {
        self.keep(Block::Return(bpf::encode(a)))
    }

    fn is_constant(&self, id: usize) -> bool {
        matches!(self.get(id), Block::Return(_))
    }

    /// The comparisons of one call.
    fn call(&mut self, r: &Regions, otherwise: usize) -> usize {
        let mut cubes: Vec<(Cube, usize)> = Vec::new();
        for (action, set) in r.sets() {
            let block = self.action(*action);
            cubes.extend(set.iter().map(|c| (*c, block)));
        }
        let all: Vec<&(Cube, usize)> = cubes.iter().collect();
        self.compare(&all, 0, None, otherwise)
    }

    /// Decides between disjoint cubes from word `place` on; `loaded` is the word in the accumulator,
    /// with the mask applied to it. Words that no cube asks for are passed over.
    fn compare(
        &mut self,
        cubes: &[&(Cube, usize)],
        place: usize,
        loaded: Option<(usize, u32)>,
        otherwise: usize,
    ) -> usize {
        let Some((first, _)) = cubes.first().copied() else { return otherwise };
        let mine = |c: &Cube| word(c, place);
        if place == WORDS {
            return cubes.first().map_or(otherwise, |c| c.1);
        }
        if cubes.iter().all(|(c, _)| mine(c).0 == 0) {
            return self.compare(cubes, place + 1, loaded, otherwise);
        }
        // Those that ask the same of this word go on together; the rest is asked when the answer is no.
        let asked = mine(first);
        type Part<'c> = Vec<&'c (Cube, usize)>;
        let (same, rest): (Part<'_>, Part<'_>) = cubes.iter().copied().partition(|c| mine(&c.0) == asked);
        // A call that this cube's comparison lets in may still be in one of the rest, if that one
        // doesn't exclude it by the same word.
        let overlaps = rest.iter().any(|(c, _)| {
            let (mask, value) = mine(c);
            (value ^ asked.1) & mask & asked.0 == 0
        });
        if asked.0 == 0 {
            // Asks nothing here: later, when all that ask something have said no.
            let (asking, silent): (Part<'_>, Part<'_>) = cubes.iter().copied().partition(|c| mine(&c.0).0 != 0);
            let last = self.compare(&silent, place + 1, None, otherwise);
            return self.compare(&asking, place, None, last);
        }
        let now = Some((place, asked.0));
        // Once this word was passed, another is in the accumulator: then the rest has to load its own.
        let no = self.compare(&rest, place, if overlaps { None } else { now }, otherwise);
        let yes = self.compare(&same, place + 1, None, if overlaps { no } else { otherwise });
        let load = (loaded != now).then_some(offset(place));
        self.keep(Block::Test {
            load,
            mask: load.and(Some(asked.0).filter(|m| *m != u32::MAX)),
            compare: JEQ,
            with: asked.1,
            yes,
            no,
        })
    }

    /// A search tree over the segments that asks least for what is asked most.
    fn tree(&mut self, segments: &[Segment]) -> usize {
        let [only] = segments else {
            let total: u64 = segments.iter().map(|s| s.weight).sum();
            let mut left = 0;
            let mut best = (u64::MAX, usize::MAX, 1);
            for i in 1..segments.len() {
                left += segments.get(i - 1).map_or(0, |s| s.weight);
                let uneven = left.abs_diff(total - left);
                // Where weights don't decide, halve.
                let off = i.abs_diff(segments.len() / 2);
                if (uneven, off) < (best.0, best.1) {
                    best = (uneven, off, i);
                }
            }
            let Some((below, from)) = segments.split_at_checked(best.2) else { return 0 };
            let with = from.first().map_or(0, |s| s.first);
            let (no, yes) = (self.tree(below), self.tree(from));
            return self.keep(Block::Test { load: None, mask: None, compare: JGE, with, yes, no });
        };
        only.block
    }

    /// The number is loaded once, before the tree.
    fn number(&mut self, tree: usize) -> usize {
        match self.get(tree) {
            Block::Test { mask, compare, with, yes, no, .. } => {
                self.keep(Block::Test { load: Some(NUMBER), mask, compare, with, yes, no })
            }
            Block::Return(_) => tree,
        }
    }

    /// The blocks as instructions, written from the end: then every target of a jump is known.
    fn assemble(&self, entry: usize, arch: Arch, kill: usize) -> Option<Vec<Instruction>> {
        let mut a = Assembler { blocks: self, out: Vec::new(), placed: HashMap::new() };
        let tree = a.place(entry)?;
        let foreign = a.place(kill)?;
        let (yes, no) = a.both(tree, foreign, entry, kill)?;
        a.out.push(bpf::jump(JEQ, arch.audit(), yes, no));
        a.out.push(load(ARCH));
        a.out.reverse();
        Some(a.out)
    }
}

struct Assembler<'a> {
    blocks: &'a Blocks,
    /// Last instruction first.
    out: Vec<Instruction>,
    /// Where a block begins: the number of instructions from there to the end.
    placed: HashMap<usize, usize>,
}

impl Assembler<'_> {
    /// Writes a block with all that it leads to, once; says where it begins.
    fn place(&mut self, id: usize) -> Option<usize> {
        if let Some(at) = self.placed.get(&id) {
            return Some(*at);
        }
        match self.blocks.get(id) {
            Block::Return(k) => self.out.push(ret(k)),
            Block::Test { load: from, mask, compare, with, yes, no } => {
                let (first, second) = (self.place(yes)?, self.place(no)?);
                let (jt, jf) = self.both(first, second, yes, no)?;
                self.out.push(bpf::jump(compare, with, jt, jf));
                self.out.extend(mask.map(|k| Instruction { code: AND_K, jt: 0, jf: 0, k }));
                self.out.extend(from.map(load));
            }
        }
        if self.out.len() > bpf::MOST {
            return None;
        }
        self.placed.insert(id, self.out.len());
        Some(self.out.len())
    }

    /// The two distances of a jump that is written next. A target beyond a jump's reach of 255 gets a
    /// copy nearby when it is a return, else a stepping stone.
    fn both(&mut self, yes: usize, no: usize, yes_block: usize, no_block: usize) -> Option<(u8, u8)> {
        let (mut yes, mut no) = (yes, no);
        // One more than the reach, for the stone of the other.
        if self.out.len() + 1 - yes > 255 {
            yes = self.nearer(yes, yes_block)?;
        }
        if self.out.len() + 1 - no > 255 {
            no = self.nearer(no, no_block)?;
        }
        Some((u8::try_from(self.out.len() - yes).ok()?, u8::try_from(self.out.len() - no).ok()?))
    }

    fn nearer(&mut self, target: usize, block: usize) -> Option<usize> {
        match self.blocks.get(block) {
            Block::Return(k) => {
                self.out.push(ret(k));
                self.placed.insert(block, self.out.len());
            }
            Block::Test { .. } => {
                let k = u32::try_from(self.out.len() - target).ok()?;
                self.out.push(Instruction { code: JA, jt: 0, jf: 0, k });
            }
        }
        Some(self.out.len())
    }
}

/// Words of the six arguments.
const WORDS: usize = 12;

// Offsets into struct seccomp_data (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// Offset of the word at a place: of each argument the lower half first, which is the one that differs.
fn offset(place: usize) -> u32 {
    u32::try_from(16 + place * 4).unwrap_or(0)
}

/// What a cube asks of a word: mask and value.
fn word(c: &Cube, place: usize) -> (u32, u32) {
    let half = |list: &[u64; 6]| {
        let register = list.get(place / 2).copied().unwrap_or(0);
        u32::try_from(register >> (place % 2 * 32) & 0xffff_ffff).unwrap_or(0)
    };
    (half(&c.mask), half(&c.value))
}
