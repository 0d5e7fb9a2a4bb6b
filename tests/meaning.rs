//! The generated filters against the plain meaning of their policies, far beyond the gate that the
//! compiler itself applies. Needs nothing but the library.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test ends at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use stockade::compile::seccomp::{self, Filter};
use stockade::compile::{self, cube, vectors};
use stockade::diagnostic::Diagnostics;
use stockade::kernel::calls::{self, Call, Type};
use stockade::kernel::numbers::Arch;
use stockade::policy::meaning::{Meaning, Vector};
use stockade::policy::syscalls::{Action, Condition, ENOSYS, EPERM, Rule, Test};
use stockade::policy::{Policy, loader, resolve};
use stockade::proof::diagram::{FALSE, Store};
use stockade::proof::{bpf, intent, program};
use stockade::source::Sources;
use stockade::sys::confine::Instruction;

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
        Type::Long | Type::Ulong | Type::Mixed | Type::Pointer => u64::MAX,
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
    for c in cube::of(&rule.conditions).unwrap_or_default() {
        for free in [[0; 6], [u64::MAX; 6], std::array::from_fn(|_| rng.next())] {
            let inside: [u64; 6] = std::array::from_fn(|i| c.value[i] | free[i] & !c.mask[i]);
            out.push(Vector { arch: ARCH.audit(), nr, args: inside, ip: 0 });
            for i in 0..6 {
                for bit in (0..64).filter(|b| c.mask[i] >> b & 1 == 1) {
                    let mut args = inside;
                    args[i] ^= 1 << bit;
                    out.push(Vector { arch: ARCH.audit(), nr, args, ip: 0 });
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
            out.push(Vector { arch: ARCH.audit(), nr, args, ip: 0 });
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
        out.push(Vector { arch, nr, args: std::array::from_fn(|_| rng.register()), ip: 0 });
    }
    out
}

fn outcome(f: &Filter, v: &Vector) -> Action {
    bpf::decode(bpf::run(&f.program, v, None))
}

/// For each instruction a call that runs it; every instruction of ours is run by some call.
fn one_for_each_instruction(f: &Filter) -> Vec<Vector> {
    let mut s = Store::default();
    let reached = program::reached(&mut s, &f.program).unwrap();
    assert_eq!(reached.len(), f.program.len());
    let text = bpf::listing(&f.program);
    let pairs = reached.into_iter().zip(text.lines());
    pairs.map(|(n, l)| s.difference(n, FALSE).unwrap_or_else(|| panic!("no call runs {l}"))).collect()
}

/// Every rule both ways, every instruction at least once.
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
        for action in [Action::Allow, Action::Errno(EPERM), Action::Errno(ENOSYS), Action::Kill] {
            assert!(outcomes.contains(&action), "{name}: nothing was answered with {action:?}");
        }
        for (v, pc) in one_for_each_instruction(&filter).iter().zip(0..) {
            let mut own = vec![false; filter.program.len()];
            assert_eq!(bpf::decode(bpf::run(&filter.program, v, Some(&mut own))), meaning.decide(v), "{name}: {v:x?}");
            assert!(own[pc], "{name}: {v:x?} was to run instruction {pc}");
        }
        let by_rules = visited.iter().filter(|v| **v).count();
        println!("{name}: {} vectors, {by_rules} of {} instructions by the rules alone", tried.len(), visited.len());
        total += tried.len();
    }
    println!("{total} vectors");
    assert!(total >= 200_000, "only {total} vectors");
}

#[test]
fn foreign_abis_never_reach_allow() {
    let mut rng = Rng(0xab1);
    for (name, policy) in shipped() {
        let filter = compiled(&policy).unwrap();
        // Registers that are granted natively, so that a number alone could let the call through.
        let inside: Vec<[u64; 6]> =
            policy.syscalls.iter().flat_map(|r| corners(r, &mut rng).into_iter().take(1)).map(|v| v.args).collect();
        let mut kill = |arch: u32, nr: u32| {
            for args in [[0; 6], *rng.pick(&inside)] {
                let v = Vector { arch, nr, args, ip: 0 };
                assert_eq!(outcome(&filter, &v), Action::Kill, "{name}: {v:x?}");
            }
        };
        for nr in 0..=1023 {
            kill(0x4000_0003, nr);
            kill(0xC000_00B7 ^ (if ARCH == Arch::Aarch64 { 0xC000_003E ^ 0xC000_00B7 } else { 0 }), nr);
            if ARCH == Arch::X86_64 {
                kill(ARCH.audit(), nr | X32);
                kill(ARCH.audit(), nr | X32 | 0x8000_0000);
            }
        }
        let mut words = Rng(0xface);
        for _ in 0..20_000 {
            let one_bit = ARCH.audit() ^ 1 << words.below(32);
            let arch = if words.below(2) == 0 { words.word() } else { one_bit };
            if arch != ARCH.audit() {
                kill(arch, words.word() % 1024);
            }
        }
    }
}

#[test]
fn what_nobody_granted_is_absent_or_refused() {
    for (name, policy) in shipped() {
        let filter = compiled(&policy).unwrap();
        let named: BTreeSet<&str> = policy.syscalls.iter().map(|r| r.call.name).collect();
        let (mut unknown, mut refused, mut newer) = (0, 0, 0);
        for nr in (0..=4096).chain([0x3fff_ffff, 0x8000_0000, u32::MAX - X32]).filter(|n| n & X32 == 0) {
            let call = ARCH.name(nr);
            if call.is_some_and(|c| named.contains(c)) {
                continue;
            }
            let got = outcome(&filter, &Vector { arch: ARCH.audit(), nr, args: [u64::MAX; 6], ip: 0 });
            let since = call.map(|c| calls::find(c).unwrap().since);
            let want = match since {
                Some(s) if s <= policy.kernel => EPERM,
                _ => ENOSYS,
            };
            assert_eq!(got, Action::Errno(want), "{name}: call {nr} {call:?}");
            match since {
                None => unknown += 1,
                Some(s) if s > policy.kernel => newer += 1,
                Some(_) => refused += 1,
            }
        }
        println!("{name}: {unknown} unknown and {newer} newer numbers absent, {refused} known calls refused");
        assert!(unknown > 3000 && refused > 10, "{name}");
    }
    // A baseline that is far behind: everything later is absent, whatever its number.
    let old = machine(&around("", "", "allow read").replace("kernel 6.18", "kernel 5.1"));
    let filter = compiled(&old).unwrap();
    for call in calls::CALLS {
        let Some(nr) = ARCH.number(call.name).filter(|_| call.name != "read") else { continue };
        let want = if call.since <= (5, 1) { EPERM } else { ENOSYS };
        assert_eq!(
            outcome(&filter, &Vector { arch: ARCH.audit(), nr, args: [0; 6], ip: 0 }),
            Action::Errno(want),
            "{}",
            call.name
        );
    }
    // The number with which a tracer skips a call belongs to no ABI.
    let none = Vector { arch: ARCH.audit(), nr: u32::MAX, args: [0; 6], ip: 0 };
    assert_eq!(outcome(&filter, &none), Action::Errno(ENOSYS));
}

#[test]
fn the_same_policy_gives_the_same_bytes_in_any_order() {
    let mut rng = Rng(0x0de4);
    for (name, policy) in shipped() {
        let first = compiled(&policy).unwrap();
        assert_eq!(first, compiled(&policy).unwrap(), "{name}: two compilations differ");
        let mut turned = policy.clone();
        rng.shuffle(&mut turned.syscalls);
        let again = compiled(&turned).unwrap();
        assert_eq!(first.program, again.program, "{name}: the order of rules shows in the filter");
        let (a, b) = (Meaning::new(&policy, ARCH), Meaning::new(&turned, ARCH));
        for v in everything(&policy, 60, &mut rng) {
            assert_eq!(a.decide(&v), b.decide(&v), "{name}: {v:x?}");
        }
    }
    // As written: lines of a `syscalls` block, of groups and profiles, and the names after `extends`.
    let mut lines = [
        "allow @a",
        "deny clone3 errno ENOSYS",
        "deny openat2 errno ENOSYS",
        "kill @tripwire",
        "allow socket(family == AF_UNIX)",
        "log ioctl(cmd == TCGETS)",
        "deny ioctl(cmd == TIOCSTI) errno EACCES",
        "allow [getpid, gettid, kill(sig in 0..=15)]",
        "allow ioctl(cmd not in [TIOCLINUX])",
    ];
    let mut group = ["allow [read, write]", "allow lseek(whence < 3, offset >= 0)", "allow fcntl(cmd only [7])"];
    let mut parents = ["std/daemon", "one", "two", "std/net-server"];
    let build = |lines: &[&str], group: &[&str], parents: &[&str]| {
        let before = format!(
            "import \"std/daemon\"\ngroup @a {{\n{}\n}}\nprofile one {{ syscalls {{ allow @setuid; deny @keyring errno EACCES }} }}\nprofile two {{ syscalls {{ allow @chown; kill @keyring; log getppid }} }}",
            group.join("\n")
        );
        machine(&around(&before, &format!("extends {}", parents.join(", ")), &lines.join("\n")))
    };
    let base = build(&lines, &group, &parents);
    let filter = compiled(&base).unwrap_or_else(|d| panic!("{:?}", codes(&d)));
    let meaning = Meaning::new(&base, ARCH);
    let tried = everything(&base, 200, &mut rng);
    for _ in 0..20 {
        rng.shuffle(&mut lines);
        rng.shuffle(&mut group);
        rng.shuffle(&mut parents);
        let turned = build(&lines, &group, &parents);
        let other = Meaning::new(&turned, ARCH);
        let again = compiled(&turned).unwrap_or_else(|d| panic!("{:?}", codes(&d)));
        assert_eq!(filter.program, again.program, "{lines:?} {group:?} {parents:?}");
        for v in &tried {
            assert_eq!(meaning.decide(v), other.decide(v), "{lines:?} {group:?} {parents:?}: {v:x?}");
        }
    }
}

/// The calls that random policies are about: every type of argument is among them.
const RANDOM_CALLS: &[&str] = &[
    "chmod",
    "socket",
    "ioctl",
    "lseek",
    "mprotect",
    "fcntl",
    "prctl",
    "kill",
    "ftruncate",
    "personality",
    "getrandom",
    "fallocate",
    "mount",
    "getpid",
];

fn literal(kind: Type, rng: &mut Rng) -> i128 {
    let r = rng.register();
    match kind {
        Type::U16 => i128::from(r & 0xffff),
        Type::Int => i128::from(i32::from_le_bytes(rng.word().to_le_bytes())) >> *rng.pick(&[0, 8, 20, 28]),
        Type::Uint => i128::from(r & 0xffff_ffff),
        Type::Long => i128::from(r.cast_signed()) >> *rng.pick(&[0, 16, 32, 56]),
        Type::Ulong | Type::Mixed | Type::Pointer => i128::from(r),
    }
}

fn written(v: i128, rng: &mut Rng) -> String {
    match (v < 0, rng.below(3)) {
        (false, 0) => format!("{v:#x}"),
        (false, 1) => format!("{v:#o}"),
        _ => v.to_string(),
    }
}

/// `wide`: also those that need many comparisons each, of which a rule can't have several.
fn random_condition(call: &Call, wide: bool, rng: &mut Rng) -> String {
    let arg = rng.pick(call.args);
    if arg.ty == Type::Pointer {
        return format!("{} {} NULL", arg.name, rng.pick(&["==", "!="]));
    }
    let bits = |rng: &mut Rng| {
        let (read, sparse) = match arg.ty {
            Type::U16 => (0xffff, rng.next()),
            Type::Int | Type::Uint | Type::Mixed => (0xffff_ffff, rng.next() & rng.next()),
            _ => (u64::MAX, rng.next() & rng.next() & rng.next()),
        };
        (sparse & read).max(1)
    };
    let one = |rng: &mut Rng| {
        let v = literal(arg.ty, rng);
        written(v, rng)
    };
    let list = |rng: &mut Rng| {
        let n = 1 + rng.below(4);
        (0..n).map(|_| one(rng)).collect::<Vec<_>>().join(", ")
    };
    let drawn = rng.below(11);
    let ordered = [1, 2, 4, 5].contains(&drawn);
    let fits = if arg.ty == Type::Mixed { !ordered && drawn != 10 } else { wide || !ordered };
    let test = match if fits { drawn } else { 0 } {
        0 => format!("== {}", one(rng)),
        1 => format!("!= {}", one(rng)),
        2 => format!("{} {}", rng.pick(&["<", "<=", ">", ">="]), one(rng)),
        3 => format!("in [{}]", list(rng)),
        4 => {
            let (a, b) = (literal(arg.ty, rng), literal(arg.ty, rng));
            format!("in {}..={}", a.min(b), a.max(b))
        }
        5 => format!("not in [{}]", list(rng)),
        6 | 7 => {
            let mask = bits(rng);
            let value = |rng: &mut Rng| mask & rng.next();
            if rng.below(2) == 0 {
                format!("& {mask:#x} == {:#x}", value(rng))
            } else {
                format!("& {mask:#x} in [{:#x}, {:#x}]", value(rng), value(rng))
            }
        }
        8 => format!("has {} [{:#x}]", rng.pick(&["all", "any", "none"]), bits(rng)),
        9 => format!("has {} [{:#x}, {:#x}]", rng.pick(&["all", "any", "none"]), bits(rng), bits(rng)),
        _ => format!("only [{:#x}]", bits(rng)),
    };
    format!("{} {test}", arg.name)
}

fn random_line(verbs: &[&str], errno: &str, most: usize, rng: &mut Rng) -> String {
    let call = calls::find(rng.pick::<&str>(RANDOM_CALLS)).unwrap();
    let mut target = call.name.to_owned();
    let count = if call.args.is_empty() { 0 } else { rng.below(most + 1) };
    if count > 0 {
        let conditions: Vec<String> = (0..count).map(|i| random_condition(call, i == 0, rng)).collect();
        target = format!("{target}({})", conditions.join(", "));
    }
    match *rng.pick(verbs) {
        "deny" => format!("deny {target} errno {errno}"),
        verb => format!("{verb} {target}"),
    }
}

const MIX: &[&str] = &["allow", "allow", "allow", "allow", "deny", "kill", "log"];

/// Up to `lines` lines with up to `most` conditions each.
fn random_lines(lines: usize, most: usize, rng: &mut Rng) -> Vec<String> {
    let errno = *rng.pick(&["EPERM", "ENOSYS", "EACCES", "EINVAL"]);
    let n = 1 + rng.below(lines);
    (0..n).map(|_| random_line(MIX, errno, most, rng)).collect()
}

/// At least 500 calls about the rules of a small policy.
fn sample(policy: &Policy, rng: &mut Rng) -> Vec<Vector> {
    let mut out = Vec::new();
    for rule in &policy.syscalls {
        let mut some = corners(rule, rng);
        rng.shuffle(&mut some);
        out.extend(some.into_iter().take(60));
    }
    out.extend(mixed(policy, 60, rng));
    for _ in 0..500usize.saturating_sub(out.len()).max(100) {
        let nr = ARCH.number(rng.pick::<&str>(RANDOM_CALLS)).unwrap_or(0);
        out.push(Vector { arch: ARCH.audit(), nr, args: std::array::from_fn(|_| rng.register()), ip: 0 });
    }
    out
}

/// What a random policy may be refused with: impossible and contradictory conditions, bypasses, and the
/// limits and the distrust of the generator.
const CLEAN: &[&str] = &["E0311", "E0405", "E0410", "E0412", "E0413", "E0414"];

#[test]
fn random_policies_mean_what_they_say_or_are_refused() {
    let mut refusals: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut exact, mut vectors, mut wrong) = (0, 0, 0);
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let lines = random_lines(5, 2, &mut rng);
        let found = resolved(&around("", "", &lines.join("\n"))).and_then(|mut m| {
            let policy = m.remove(0);
            compiled(&policy).map(|f| (policy, f))
        });
        match found {
            Ok((policy, filter)) => {
                exact += 1;
                let meaning = Meaning::new(&policy, ARCH);
                let tried = sample(&policy, &mut rng);
                assert!(tried.len() >= 500);
                vectors += tried.len();
                wrong += usize::from(tried.iter().any(|v| outcome(&filter, v) != meaning.decide(v)));
            }
            Err(d) => {
                for code in codes(&d) {
                    assert!(CLEAN.contains(&code), "policy {seed} is refused with {code}");
                    *refusals.entry(code).or_default() += 1;
                }
            }
        }
    }
    println!("{exact} policies exact on {vectors} vectors; refused: {refusals:?}");
    // The proof would refuse it; a generator of our own may not need that.
    assert!(!refusals.contains_key("E0413"), "the generator made wrong programs: {refusals:?}");
    // Numbers only: a rule set that a generator gets wrong is reported in private, not printed.
    assert_eq!(wrong, 0, "filters that differ from their policy passed the compiler's own check");
    assert!(exact >= 100, "only {exact} random policies compile: the test shows nothing");
}

#[test]
fn less_is_never_more() {
    let (mut removed, mut denied, mut filters) = (0, 0, 0);
    for seed in 1000..1060 {
        let mut rng = Rng(seed);
        let lines = random_lines(5, 1, &mut rng);
        let Ok(mut base) = resolved(&around("", "", &lines.join("\n"))) else { continue };
        let base = base.remove(0);
        let (meaning, filter) = (Meaning::new(&base, ARCH), compiled(&base).ok());
        let runs = |a: Action| a <= Action::Log;
        let mut narrower = |text: &str, rng: &mut Rng, what: &str| -> bool {
            let Ok(mut other) = resolved(&around("", "", text)) else { return false };
            let other = other.remove(0);
            let m = Meaning::new(&other, ARCH);
            let tried: Vec<Vector> = sample(&base, rng).into_iter().chain(sample(&other, rng)).collect();
            for v in &tried {
                assert!(
                    !runs(m.decide(v)) || runs(meaning.decide(v)),
                    "{what} widens the policy: {lines:?} to {text}: {v:x?}"
                );
            }
            if let (Some(f), Ok(g)) = (&filter, compiled(&other)) {
                filters += 1;
                for v in &tried {
                    assert!(!runs(outcome(&g, v)) || runs(outcome(f, v)), "{what} widens the filter: {v:x?}");
                }
            }
            true
        };
        for i in (0..lines.len()).filter(|i| lines[*i].starts_with("allow")) {
            let mut fewer = lines.clone();
            fewer.remove(i);
            removed += usize::from(narrower(&fewer.join("\n"), &mut rng, "removing an allow line"));
        }
        for _ in 0..3 {
            let more = format!("{}\n{}", lines.join("\n"), random_line(&["deny", "kill"], "EPERM", 1, &mut rng));
            denied += usize::from(narrower(&more, &mut rng, "adding a denial"));
        }
        // Twice is once, wherever the second one stands.
        let mut twice = lines.clone();
        twice.extend(lines.iter().cloned());
        rng.shuffle(&mut twice);
        let double = machine(&around("", "", &twice.join("\n")));
        let m = Meaning::new(&double, ARCH);
        for v in sample(&base, &mut rng) {
            assert_eq!(m.decide(&v), meaning.decide(&v), "{lines:?} twice: {v:x?}");
        }
        if let Some(f) = filter {
            assert_eq!(
                compiled(&double).map(|g| g.program).map_err(|d| codes(&d)),
                Ok(f.program),
                "duplicates change the filter"
            );
        }
    }
    println!("{removed} allow lines removed, {denied} denials added, {filters} pairs of filters compared");
    assert!(removed > 60 && denied > 100 && filters > 60);
}

/// A new kernel's calls have to be put somewhere by a person before the table can grow.
#[test]
fn every_call_of_the_table_is_in_a_group() {
    let mut sources = Sources::default();
    let mut d = Diagnostics::default();
    let text = b"policy 1\nkernel 6.18\nimport \"std/groups\"\n";
    let id = loader::from_text("groups", text, &mut sources, &mut d).unwrap();
    let resolved = resolve::resolve(id, &mut sources, &mut d, "2026-01-01");
    assert!(!d.has_errors(), "{}", d.render(&sources, false));
    let grouped: std::collections::BTreeSet<&str> =
        resolved.groups().iter().flat_map(|(_, rules)| rules.iter().map(|r| r.call.name)).collect();
    let missing: Vec<&str> =
        stockade::kernel::calls::CALLS.iter().map(|c| c.name).filter(|n| !grouped.contains(n)).collect();
    assert!(missing.is_empty(), "in no group: {missing:?}");
    assert!(grouped.len() > 350, "{}", grouped.len());
}

/// What we load is no dearer than what libseccomp makes of the same rules, and both are the policy.
#[test]
fn the_second_generator_agrees_and_costs_more() {
    for (name, policy) in shipped() {
        let filter = compiled(&policy).unwrap_or_else(|d| panic!("{name}: {:?}", codes(&d)));
        let _one = COMPILER.lock().unwrap_or_else(|e| e.into_inner());
        let second = seccomp::second(&policy, &filter).unwrap();
        let (theirs, ours) = (second.program.len(), filter.program.len());
        println!(
            "{name}: {ours} instructions, {theirs} of libseccomp's; expected {} and {}",
            second.expected_ours, second.expected
        );
        assert_eq!(second.proved, Ok(()), "{name}");
        assert!(second.expected_ours <= second.expected, "{name}: {second:?}");
        // In thousandths of an instruction: what is asked most stands near the top.
        assert!((5_000..20_000).contains(&second.expected_ours), "{name}: {}", second.expected_ours);
        assert!(second.expected > 100_000, "{name}: {}", second.expected);
    }
}

/// One small change to a program.
fn mutant(program: &[Instruction], rng: &mut Rng) -> Vec<Instruction> {
    let mut out = program.to_vec();
    let pc = rng.below(out.len());
    let insn = &mut out[pc];
    match (insn.code, rng.below(4)) {
        // A load of the other half, or of another word.
        (0x20, 0) => insn.k ^= 4,
        (0x20, _) => insn.k = 4 * u32::try_from(rng.below(16)).unwrap(),
        (0x06, _) => insn.k = *rng.pick(&[0x7fff_0000, 0x0005_0001, 0x0005_0026, 0x8000_0000, 0x7ffc_0000, 0]),
        (0x54, _) => insn.k ^= 1 << rng.below(32),
        (_, 0) => insn.k = insn.k.wrapping_add(1),
        (_, 1) => insn.k ^= 1 << rng.below(32),
        (_, 2) => std::mem::swap(&mut insn.jt, &mut insn.jf),
        // A dropped check.
        _ => *(if rng.below(2) == 0 { &mut insn.jt } else { &mut insn.jf }) = u8::try_from(rng.below(4)).unwrap(),
    }
    out
}

/// Mutants of proved programs are refuted, each with a call on which the two really differ. One that is
/// said to be equal is tried with every vector of the policy, and with a call for each of its instructions.
#[test]
fn mutants_of_proved_programs_are_refuted() {
    let mut rng = Rng(0x0bad_5eed);
    let (mut refuted, mut equal, mut invalid) = (0, 0, 0);
    for (name, policy) in shipped() {
        let filter = compiled(&policy).unwrap_or_else(|d| panic!("{name}: {:?}", codes(&d)));
        let meaning = Meaning::new(&policy, ARCH);
        let mut s = Store::default();
        let meant = intent::of_policy(&mut s, &policy, ARCH);
        let vectors = everything(&policy, 60, &mut rng);
        for _ in 0..150 {
            let changed = mutant(&filter.program, &mut rng);
            if changed == filter.program || bpf::check(&changed).is_err() {
                invalid += 1;
                continue;
            }
            let done = program::of_program(&mut s, &changed).unwrap();
            let outcome = |v: &Vector| bpf::decode(bpf::run(&changed, v, None));
            match s.difference(meant, done) {
                Some(v) => {
                    let word = bpf::run(&changed, &v, None);
                    assert_ne!(bpf::canonical(word), bpf::encode(meaning.decide(&v)), "{name}: {v:x?}");
                    refuted += 1;
                }
                None => {
                    for v in &vectors {
                        assert_eq!(outcome(v), meaning.decide(v), "{name}: {v:x?}");
                    }
                    equal += 1;
                }
            }
        }
    }
    println!("{refuted} mutants refuted, {equal} equivalent, {invalid} not programs");
    assert!(refuted >= 500, "only {refuted} mutants refuted");
    assert!(equal * 4 < refuted, "{equal} mutants changed nothing");
}

/// A program over three words with constants below eight. What it does hangs on the low three bits of a word
/// and on whether a higher one is set, so words below sixteen stand for all: they are an oracle by brute force.
fn narrow_program(rng: &mut Rng) -> Vec<Instruction> {
    let length = 6 + rng.below(12);
    let mut out = Vec::new();
    for i in 0..length {
        let left = u8::try_from(length - i).unwrap();
        let k = rng.below(8) as u32;
        let to = |rng: &mut Rng| u8::try_from(rng.below(usize::from(left).min(3))).unwrap();
        out.push(match rng.below(if i == 0 { 3 } else { 10 }) {
            0..=2 => Instruction { code: 0x20, jt: 0, jf: 0, k: [0, 16, 20][rng.below(3)] },
            3 => Instruction { code: 0x54, jt: 0, jf: 0, k },
            n => Instruction { code: [0x15, 0x25, 0x35, 0x45][n % 4], jt: to(rng), jf: to(rng), k },
        });
    }
    // The last jumps land on one of five answers.
    for k in [0x7fff_0000, 0x0005_0001, 0x0005_0026, 0x8000_0000, 0x7ffc_0000] {
        out.push(Instruction { code: 0x06, jt: 0, jf: 0, k });
    }
    out
}

#[test]
fn mutants_are_judged_as_brute_force_judges_them() {
    let mut rng = Rng(0x5eed_0002);
    let words: Vec<Vector> = (0..16u32 * 16 * 16)
        .map(|n| {
            let (nr, low, high) = (n % 16, u64::from(n / 16 % 16), u64::from(n / 256));
            Vector { arch: 0, nr, args: [low | high << 32, 0, 0, 0, 0, 0], ip: 0 }
        })
        .collect();
    let (mut refuted, mut equal) = (0, 0);
    while refuted < 250 {
        let program = narrow_program(&mut rng);
        let mut changed = mutant(&program, &mut rng);
        // Still constants below eight: the words tried stand for no others.
        for i in changed.iter_mut().filter(|i| matches!(i.code, 0x54 | 0x15 | 0x25 | 0x35 | 0x45)) {
            i.k &= 7;
        }
        let narrow = changed.iter().all(|i| i.code != 0x20 || [0, 16, 20].contains(&i.k));
        if changed == program || !narrow || bpf::check(&changed).is_err() {
            continue;
        }
        let mut s = Store::default();
        let a = program::of_program(&mut s, &program).unwrap();
        let b = program::of_program(&mut s, &changed).unwrap();
        let run = |p: &[Instruction], v: &Vector| bpf::canonical(bpf::run(p, v, None));
        let differs = words.iter().find(|v| run(&program, v) != run(&changed, v));
        match (a == b, differs) {
            (true, None) => equal += 1,
            (false, Some(_)) => refuted += 1,
            (proved, found) => panic!("proved equal: {proved}, but {found:x?}:\n{}", bpf::listing(&program)),
        }
    }
    println!("{refuted} mutants refuted, {equal} equivalent, all by both judges");
    assert!(equal > 300, "{equal}");
}

/// The gate itself: a program that isn't the policy is refused, with a call that shows it.
#[test]
fn the_proof_refuses_another_program() {
    for (name, policy) in shipped() {
        let filter = compiled(&policy).unwrap_or_else(|d| panic!("{name}: {:?}", codes(&d)));
        assert_eq!(stockade::compile::seccomp::prove(&policy, ARCH, &filter.program), Ok(()));
        let mut changed = filter.program;
        let allow = changed.iter_mut().rev().find(|i| i.code == 0x06 && i.k == 0x7fff_0000).unwrap();
        allow.k = 0x0005_0001;
        let why = stockade::compile::seccomp::prove(&policy, ARCH, &changed).unwrap_err();
        assert!(why.contains("should be Allow, is Errno(1)"), "{name}: {why}");
    }
}

/// A call that is newer than the baseline stays absent where no rule speaks of its arguments.
#[test]
fn a_newer_call_is_absent_where_no_rule_matches() {
    let text = around("", "", "    deny cachestat(flags == 1) errno EINVAL\n    deny mseal errno EINVAL\n");
    let policy = machine(&text.replace("kernel 6.18", "kernel 5.10").replace("kernel 6.12", "kernel 5.10"));
    assert_eq!(policy.kernel, (5, 10));
    let filter = compiled(&policy).unwrap_or_else(|d| panic!("{:?}", codes(&d)));
    let at = |name: &str, flags: u64| {
        let nr = ARCH.number(name).unwrap();
        outcome(&filter, &Vector { arch: ARCH.audit(), nr, args: [0, 0, 0, flags, 0, 0], ip: 0 })
    };
    assert_eq!([at("cachestat", 1), at("cachestat", 0)], [Action::Errno(22), Action::Errno(38)]);
    assert_eq!([at("mseal", 1), at("mseal", 0)], [Action::Errno(22); 2]);
}

/// The bound on comparisons is one on all rules of a call together.
#[test]
fn rules_of_a_call_are_bounded_together() {
    let list = |from: usize, n: usize| (0..n).map(|i| (from + 2 * i).to_string()).collect::<Vec<_>>().join(", ");
    let with = |n: usize| {
        let lines = format!(
            "    allow lseek(offset in [{}])\n    deny lseek(offset in [{}])\n",
            list(1, 1000),
            list(10_001, n)
        );
        resolved(&around("", "", &format!("    allow [execve, exit_group]\n{lines}")))
            .ok()
            .and_then(|m| compiled(&m[0]).err())
            .map(|d| codes(&d))
    };
    // 2,048 comparisons are taken by the rules, whatever the filter then needs.
    assert!(with(1048).is_none_or(|c| !c.contains("E0414")), "{:?}", with(1048));
    assert!(with(1049).is_some_and(|c| c.contains("E0414")), "{:?}", with(1049));
}

/// Two errnos for one call are found where the conditions of both can hold at once, and only there.
#[test]
fn two_errnos_for_one_call_are_an_error() {
    let refused = |rules: &str| {
        let text = format!(
            "policy 1\nkernel 6.12\nimport \"std/groups\"\nmachine m {{\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  syscalls {{\n    allow @start\n    {rules}\n  }}\n}}\n"
        );
        let policies = resolved(&text).unwrap_or_else(|d| panic!("{:?}", codes(&d)));
        compiled(&policies[0]).err().map(|d| codes(&d))
    };
    let both = Some(BTreeSet::from(["E0311"]));
    assert_eq!(refused("deny ptrace errno EPERM; deny ptrace errno ENOSYS"), both);
    assert_eq!(refused("deny ptrace(request in 1..=5) errno EACCES; deny ptrace(request == 5) errno ENOSYS"), both);
    assert_eq!(refused("deny ptrace(request in 1..=4) errno EACCES; deny ptrace(request == 5) errno ENOSYS"), None);
    assert_eq!(refused("deny ptrace errno EPERM; deny ptrace errno EPERM"), None);
}
