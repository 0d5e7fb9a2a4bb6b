//! The generated filters against the plain meaning of their policies, far beyond the gate that the
//! compiler itself applies. Needs nothing but the library.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use stockade::compile::seccomp::Filter;
use stockade::compile::{self, bpf, cube, vectors};
use stockade::diagnostic::Diagnostics;
use stockade::kernel::calls::{self, Call, Type};
use stockade::kernel::numbers::Arch;
use stockade::policy::meaning::{Meaning, Vector};
use stockade::policy::syscalls::{Action, Condition, ENOSYS, EPERM, Rule, Test};
use stockade::policy::{Policy, loader, resolve};
use stockade::source::Sources;

const ARCH: Arch = Arch::NATIVE;
const TODAY: &str = "2026-01-01";
const X32: u32 = 0x4000_0000;

/// splitmix64: small, seeded, the same everywhere.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn word(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).unwrap()
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
    }

    /// A register as programs and attackers fill them: small, sparse, sign-extended, or anything.
    fn register(&mut self) -> u64 {
        let r = self.next();
        match self.below(6) {
            0 => r & 0xff,
            1 => r & 0xffff_ffff,
            2 => 1 << (r % 64),
            3 => (r | 0xffff_ffff_0000_0000) & !(r >> 60),
            4 => r & self.next() & self.next(),
            _ => r,
        }
    }
}

/// Forks are taken one at a time: a child that is slow would hold the pipes of another test open.
static COMPILER: Mutex<()> = Mutex::new(());

fn compiled(policy: &Policy) -> Result<Filter, Diagnostics> {
    let _one = COMPILER.lock().unwrap_or_else(|e| e.into_inner());
    let mut d = Diagnostics::default();
    match compile::portable(policy, ARCH, &mut d) {
        Some(f) if !d.has_errors() => Ok(f),
        _ => Err(d),
    }
}

fn codes(d: &Diagnostics) -> BTreeSet<&'static str> {
    d.iter().map(|x| x.code).collect()
}

fn resolved(text: &str) -> Result<Vec<Policy>, Diagnostics> {
    let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
    let id = loader::from_text("test", text.as_bytes(), &mut sources, &mut d).unwrap();
    let machines = resolve::resolve(id, &mut sources, &mut d, TODAY).machines;
    if d.has_errors() { Err(d) } else { Ok(machines) }
}

/// The only machine of a text that must be without fault.
fn machine(text: &str) -> Policy {
    match resolved(text) {
        Ok(mut m) => m.remove(0),
        Err(d) => panic!("{text}\n{:?}", d.iter().map(|x| (x.code, &x.message)).collect::<Vec<_>>()),
    }
}

/// A machine with this `syscalls` block, after `before`.
fn around(before: &str, body: &str, lines: &str) -> String {
    format!(
        "policy 1\nkernel 6.18\n{before}\nmachine m {{\nroot host\nexec \"/usr/bin/true\"\nuser nobody\ncapabilities {{ none }}\n{body}\nsyscalls {{\n{lines}\n}}\n}}\n"
    )
}

/// Every policy file that is shipped: the examples and the starters.
fn shipped_files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut out = Vec::new();
    for folder in [root.clone(), root.join("starters")] {
        let list = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        out.extend(list.filter(|p| p.extension().is_some_and(|e| e == "stockade")));
    }
    out.sort();
    assert!(out.len() >= 4, "the shipped policies are gone");
    out
}

fn shipped() -> Vec<(String, Policy)> {
    let mut out = Vec::new();
    for path in shipped_files() {
        let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
        let id = loader::read(&path, &mut sources, &mut d).unwrap();
        let machines = resolve::resolve(id, &mut sources, &mut d, TODAY).machines;
        assert!(!d.has_errors(), "{}", d.render(&sources, false));
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        out.extend(machines.into_iter().map(|m| (format!("{stem}:{}", m.name), m)));
    }
    out
}

/// The values around which a test changes its answer, and those that only look like them.
fn interesting(c: &Condition) -> Vec<u64> {
    let pattern = |v: &i128| u64::try_from(v & i128::from(u64::MAX)).unwrap();
    let base: Vec<u64> = match &c.test {
        Test::In(v) | Test::NotIn(v) => v.iter().map(pattern).collect(),
        Test::Between(a, b) => vec![pattern(a), pattern(b), pattern(&((a + b) / 2))],
        Test::Masked(m, v) => v.iter().flat_map(|v| [*v, v | !m, v ^ (m & m.wrapping_neg())]).collect(),
        Test::HasAll(m) | Test::HasAny(m) | Test::HasNone(m) | Test::Only(m) => {
            let low = m & m.wrapping_neg();
            vec![0, *m, !m, low, m ^ low, m | !m.rotate_left(1)]
        }
    };
    let read = match c.kind {
        Type::U16 => 0xffff,
        Type::Int | Type::Uint => 0xffff_ffff,
        Type::Long | Type::Ulong | Type::Pointer => u64::MAX,
    };
    let around = |v: u64| {
        [v, v.wrapping_add(1), v.wrapping_sub(1), v ^ 1 << 15, v ^ 1 << 16, v ^ 1 << 31, v ^ 1 << 32, v ^ 1 << 63]
    };
    base.into_iter()
        .flat_map(around)
        .flat_map(|v| [v, v & read, v | !read, v & read | 0xdead_beef_0000_0000 & !read])
        .collect()
}

/// Calls inside each cube of the rule, and for each bit that a cube fixes the call with just that bit turned.
fn corners(rule: &Rule, rng: &mut Rng) -> Vec<Vector> {
    let Some(nr) = ARCH.number(rule.call.name) else { return Vec::new() };
    let mut out = Vec::new();
    for c in cube::of(&rule.conditions).unwrap() {
        for free in [[0; 6], [u64::MAX; 6], std::array::from_fn(|_| rng.next())] {
            let inside: [u64; 6] = std::array::from_fn(|i| c.value[i] | free[i] & !c.mask[i]);
            out.push(Vector { arch: ARCH.audit(), nr, args: inside });
            for i in 0..6 {
                for bit in (0..64).filter(|b| c.mask[i] >> b & 1 == 1) {
                    let mut args = inside;
                    args[i] ^= 1 << bit;
                    out.push(Vector { arch: ARCH.audit(), nr, args });
                }
            }
        }
    }
    out
}

/// Calls whose registers are mixed from the interesting values of all rules on that call, and from noise.
fn mixed(policy: &Policy, each: usize, rng: &mut Rng) -> Vec<Vector> {
    let mut pools: BTreeMap<u32, [Vec<u64>; 6]> = BTreeMap::new();
    for rule in &policy.syscalls {
        let Some(nr) = ARCH.number(rule.call.name) else { continue };
        let pool = pools.entry(nr).or_default();
        for c in &rule.conditions {
            pool[usize::from(c.argument)].extend(interesting(c));
        }
    }
    let mut out = Vec::new();
    for (nr, pool) in pools {
        let count = if pool.iter().all(Vec::is_empty) { each.div_ceil(10) } else { each };
        for _ in 0..count {
            let args = std::array::from_fn(|i| {
                if pool[i].is_empty() || rng.below(8) == 0 { rng.register() } else { *rng.pick(&pool[i]) }
            });
            out.push(Vector { arch: ARCH.audit(), nr, args });
        }
    }
    out
}

/// Everything that one machine is tried with.
fn everything(policy: &Policy, each: usize, rng: &mut Rng) -> Vec<Vector> {
    let mut out = vectors::numbers(ARCH);
    for rule in &policy.syscalls {
        out.extend(vectors::of_rule(ARCH, rule, usize::MAX));
        out.extend(corners(rule, rng));
    }
    out.extend(mixed(policy, each, rng));
    for _ in 0..2_000 {
        let nr = if rng.below(4) == 0 { rng.word() } else { rng.word() % 520 };
        let arch = if rng.below(16) == 0 { rng.word() } else { ARCH.audit() };
        out.push(Vector { arch, nr, args: std::array::from_fn(|_| rng.register()) });
    }
    out
}

fn outcome(f: &Filter, v: &Vector) -> Action {
    bpf::decode(bpf::run(&f.program, v, None))
}

#[test]
fn every_shipped_filter_is_the_meaning_of_its_policy() {
    let mut rng = Rng(0x5eed);
    let mut total = 0;
    for (name, policy) in shipped() {
        let filter = compiled(&policy).unwrap_or_else(|d| panic!("{name}: {:?}", codes(&d)));
        let meaning = Meaning::new(&policy, ARCH);
        let tried = everything(&policy, 600, &mut rng);
        let mut visited = vec![false; filter.program.len()];
        let mut outcomes = BTreeSet::new();
        for v in &tried {
            let want = meaning.decide(v);
            let got = bpf::decode(bpf::run(&filter.program, v, Some(&mut visited)));
            assert_eq!(got, want, "{name}: {v:x?}");
            outcomes.insert(want);
        }
        // Both ways: something ran, something was refused, by each action that the policy writes.
        assert!(outcomes.contains(&Action::Allow) && outcomes.contains(&Action::Errno(EPERM)), "{name}: {outcomes:?}");
        let dead = visited.iter().filter(|s| !**s).count();
        println!("{name}: {} vectors, {} instructions, {dead} never visited", tried.len(), filter.program.len());
        if dead > 0 {
            let text = bpf::listing(&filter.program);
            for (i, line) in text.lines().enumerate().filter(|(i, _)| !visited[*i]) {
                println!("   {i} {line}");
            }
        }
        total += tried.len();
    }
    println!("{total} vectors");
    assert!(total >= 200_000, "only {total} vectors");
}
