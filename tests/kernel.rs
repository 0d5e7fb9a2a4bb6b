//! The running kernel as the judge: what it answers to a filter is what the policy means.
//!
//! Every return of a shipped policy's filter is rewritten to an errno with a code of its own for each
//! action, so the kernel runs the very same tests and executes nothing. `tests/probe/oracle.c` installs
//! that in a child and fires calls by the raw instruction, with all six registers; the codes that come
//! back are held against [`Meaning::decide`].
//!
//! Two numbers of x86-64 are left out: 335 (`uretprobe`) and 336 (`uprobe`). The kernel's seccomp lets
//! them past every filter by design (its own trampolines make them, and a process that is traced by
//! uprobes would die otherwise); outside a trampoline they are refused or raise SIGILL.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test ends at the first surprise"
)]
#![cfg(target_arch = "x86_64")]

mod harness;

use harness::Dir;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use stockade::compile::{self, seccomp, vectors};
use stockade::diagnostic::Diagnostics;
use stockade::kernel::calls;
use stockade::kernel::numbers::Arch;
use stockade::policy::meaning::{Meaning, Vector};
use stockade::policy::syscalls::Action;
use stockade::policy::{Policy, loader, resolve};
use stockade::proof::diagram::Store;
use stockade::proof::{bpf, intent};
use stockade::source::Sources;
use stockade::sys::confine::Instruction;

const ARCH: Arch = Arch::X86_64;
const I386: u32 = 0x4000_0003;
const EXEMPT: [u32; 2] = [335, 336];
const UNANSWERED: i64 = i64::MIN;

/// The errno that stands for an action. All are above any errno that the kernel itself returns (the last
/// is 529), and below 4096, beyond which it cuts them off.
fn code(action: Action) -> u16 {
    match action {
        Action::Allow => 4001,
        Action::Log => 4002,
        Action::Kill => 4003,
        Action::Errno(e) => 2000 + e,
    }
}

fn name_of(answer: i64) -> String {
    match answer {
        UNANSWERED => "a dead process".into(),
        -4001 => "allow".into(),
        -4002 => "log".into(),
        -4003 => "kill".into(),
        n @ -3999..=-2000 => format!("errno {}", -n - 2000),
        n => format!("{n}, which no filter of ours returns: the call was executed"),
    }
}

/// The same filter with every outcome made harmless.
fn neutral(program: &[Instruction]) -> Vec<Instruction> {
    let ret = |i: &Instruction| {
        assert_ne!(i.code, 0x16, "the filter returns its accumulator");
        if i.code == 0x06 { Instruction { k: bpf::encode(Action::Errno(code(bpf::decode(i.k)))), ..*i } } else { *i }
    };
    program.iter().map(ret).collect()
}

/// One call as it is fired: the number register has 64 bits, of which the kernel looks at 32.
struct Shot {
    register: u64,
    int80: bool,
    v: Vector,
}

impl Shot {
    fn native(v: Vector) -> Shot {
        Shot { register: u64::from(v.nr), int80: false, v }
    }
}

fn answers(program: &[Instruction], shots: &[Shot]) -> (Vec<i64>, String) {
    let dir = Dir::new("oracle");
    let code: Vec<u8> = program
        .iter()
        .flat_map(|i| [i.code.to_le_bytes().to_vec(), vec![i.jt, i.jf], i.k.to_le_bytes().to_vec()].concat())
        .collect();
    let words = |s: &Shot| -> Vec<u8> {
        let args = s.v.args.iter().flat_map(|a| a.to_le_bytes());
        s.register.to_le_bytes().into_iter().chain(args).chain(u64::from(s.int80).to_le_bytes()).collect()
    };
    let fired: Vec<u8> = shots.iter().flat_map(words).collect();
    let (a, b) = (dir.0.join("program"), dir.0.join("vectors"));
    std::fs::write(&a, code).unwrap();
    std::fs::write(&b, fired).unwrap();
    let out = Command::new(harness::probe("oracle")).arg(a).arg(b).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{:?}: {said}", out.status);
    let list: Vec<i64> = out.stdout.chunks_exact(8).map(|c| i64::from_le_bytes(c.try_into().unwrap())).collect();
    assert_eq!(list.len(), shots.len(), "{said}");
    (list, said)
}

fn shipped() -> Vec<(String, Policy)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in [root.clone(), root.join("starters")] {
        let list = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        files.extend(list.filter(|p| p.extension().is_some_and(|e| e == "stockade")));
    }
    files.sort();
    let mut out = Vec::new();
    for path in files {
        let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
        let id = loader::read(&path, &mut sources, &mut d).unwrap();
        let machines = resolve::resolve(id, &mut sources, &mut d, "2026-01-01").machines;
        assert!(!d.has_errors(), "{}", d.render(&sources, false));
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        out.extend(machines.into_iter().map(|m| (format!("{stem}:{}", m.name), m)));
    }
    assert!(out.len() >= 4, "the shipped policies are gone");
    out
}

/// What one machine's filter is asked.
fn shots(policy: &Policy) -> Vec<Shot> {
    let mut list = Vec::new();
    let native = |nr: u32, args: [u64; 6]| Shot::native(Vector { arch: ARCH.audit(), nr, args, ip: 0 });
    // Natively: every number, the edges of the number space, every number with the x32 bit.
    list.extend(vectors::numbers(ARCH).into_iter().filter(|v| v.arch == ARCH.audit()).map(Shot::native));
    for nr in 0..=600 {
        list.push(native(nr, [u64::MAX; 6]));
        // The upper half of the number register is nothing to the kernel.
        list.push(Shot { register: 0xdead_beef_0000_0000 | u64::from(nr), ..native(nr, [0; 6]) });
    }
    // Each rule both ways, all cubes of it.
    for rule in &policy.syscalls {
        for v in vectors::of_rule(ARCH, rule, usize::MAX) {
            list.push(Shot::native(v));
            list.push(native(v.nr | 0x4000_0000, v.args));
        }
    }
    list.retain(|s| !EXEMPT.contains(&s.v.nr));
    list
}

/// The 32-bit entry of the kernel: it has other numbers, and nothing of the policy speaks of it.
fn shots_of_i386() -> Vec<Shot> {
    let edges = [0x3fff_ffff, 0x4000_0000, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1];
    let shot = |nr: u32, args| Shot { register: u64::from(nr), int80: true, v: Vector { arch: I386, nr, args, ip: 0 } };
    (0..=600).chain(edges).flat_map(|nr| [shot(nr, [0; 6]), shot(nr, [0xffff_ffff; 6])]).collect()
}

/// The differences between kernel and policy, and how fast the kernel was asked.
fn compare(name: &str, policy: &Policy, program: &[Instruction], shots: &[Shot]) -> (Vec<String>, f64) {
    let (list, said) = answers(program, shots);
    let meaning = Meaning::new(policy, ARCH);
    let mut wrong = Vec::new();
    for (shot, answer) in shots.iter().zip(&list) {
        let want = -i64::from(code(meaning.decide(&shot.v)));
        if want != *answer {
            let way = if shot.int80 { "int 0x80" } else { "syscall" };
            wrong.push(format!(
                "{name}: {way} {} {:x?}: the policy says {}, the kernel {}",
                shot.v.nr,
                shot.v.args,
                name_of(want),
                name_of(*answer)
            ));
        }
    }
    let words: Vec<&str> = said.lines().last().unwrap_or_default().split(' ').collect();
    let ns: f64 = words[3].parse().unwrap();
    (wrong, f64::from(u32::try_from(shots.len()).unwrap()) / ns * 1e9)
}

/// True when this kernel has the 32-bit entry at all.
fn has_int80() -> bool {
    // A filter of one instruction: everything is refused with one code.
    let all = [Instruction { code: 0x06, jt: 0, jf: 0, k: bpf::encode(Action::Errno(4003)) }];
    let (list, _) = answers(&all, &shots_of_i386()[..1]);
    list == [-4003]
}

#[test]
fn the_kernel_answers_as_the_policy_means() {
    let int80 = has_int80();
    if !int80 {
        harness::skip("the kernel has no 32-bit entry (int 0x80): i386 numbers aren't fired");
    }
    let mut wrong = Vec::new();
    let mut total = 0;
    for (name, policy) in shipped() {
        let mut d = Diagnostics::default();
        let filter = compile::portable(&policy, ARCH, &mut d).unwrap();
        let program = neutral(&filter.program);
        let mut fired = shots(&policy);
        if int80 {
            fired.extend(shots_of_i386());
        }
        let (differences, rate) = compare(&name, &policy, &program, &fired);
        let meaning = Meaning::new(&policy, ARCH);
        let mut by: BTreeMap<Action, usize> = BTreeMap::new();
        for s in &fired {
            *by.entry(meaning.decide(&s.v)).or_default() += 1;
        }
        println!("{name}: {} vectors, {rate:.0}/s, {} disagreements; {by:?}", fired.len(), differences.len());
        assert!(by.contains_key(&Action::Allow) && by.contains_key(&Action::Kill), "{name}: {by:?}");
        total += fired.len();
        wrong.extend(differences);
    }
    println!("{total} vectors in all");
    let first: Vec<&String> = wrong.iter().take(10).collect();
    assert!(wrong.is_empty(), "{} disagreements, such as {first:#?}", wrong.len());
}

/// splitmix64
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }
}

/// Calls around what the rules ask for: one of their own vectors with registers turned, halves swapped in,
/// noise above; and calls of any number.
fn around(base: &[Shot], count: usize, int80: bool, rng: &mut Rng) -> Vec<Shot> {
    let mut out = Vec::with_capacity(count);
    while out.len() < count {
        let mut v = base[rng.below(base.len())].v;
        for a in &mut v.args {
            match rng.below(12) {
                0 => *a ^= 1 << rng.below(64),
                1 => *a = a.wrapping_add(1),
                2 => *a = a.wrapping_sub(1),
                3 => *a = *a & 0xffff_ffff | rng.next() << 32,
                4 => *a = rng.next() >> rng.below(64),
                5 => *a = !*a,
                _ => {}
            }
        }
        match rng.below(40) {
            0 => v.nr ^= 0x4000_0000,
            1 => v.nr = u32::try_from(rng.next() >> 32).unwrap(),
            2 => v.nr = u32::try_from(rng.below(600)).unwrap(),
            _ => {}
        }
        let foreign = int80 && rng.below(50) == 0;
        if foreign {
            v.arch = I386;
            v.nr %= 600;
            // The 32-bit entry has 32-bit registers.
            v.args.iter_mut().for_each(|a| *a &= 0xffff_ffff);
        }
        if foreign || !EXEMPT.contains(&v.nr) {
            out.push(Shot { register: u64::from(v.nr), int80: foreign, v });
        }
    }
    out
}

/// The same policy as a program without any art: call after call, value after value, every word loaded anew. What the
/// generator's tree, shared tails and loads that are left out must not change.
fn unoptimised(policy: &Policy) -> Vec<Instruction> {
    let [load, jeq, jset, and, ja]: [u16; 5] = [0x20, 0x15, 0x45, 0x54, 0x05];
    let insn = |code, k, jt, jf| Instruction { code, jt, jf, k };
    let ret = |a: Action| insn(0x06, bpf::encode(a), 0, 0);
    let (refused, absent) = (Action::Errno(1), Action::Errno(38));
    let mut d = Diagnostics::default();
    let regions = seccomp::regions(policy, ARCH, &mut d);
    let mut out = vec![insn(load, 4, 0, 0), insn(jeq, ARCH.audit(), 1, 0), ret(Action::Kill), insn(load, 0, 0, 0)];
    // What a tracer writes to skip a call, then the x32 ABI.
    out.extend([insn(jeq, u32::MAX, 0, 1), ret(absent), insn(jset, 1 << 30, 0, 1), ret(Action::Kill)]);
    for number in 0..=ARCH.last() {
        let mut body = Vec::new();
        match regions.iter().find(|r| r.number() == number) {
            Some(r) => {
                for (action, cube) in r.sets().iter().flat_map(|(a, cubes)| cubes.iter().map(move |c| (*a, c))) {
                    let halves = (0..6usize).flat_map(|i| {
                        let at = 16 + 8 * i as u32;
                        [
                            (at, cube.mask[i] as u32, cube.value[i] as u32),
                            (at + 4, (cube.mask[i] >> 32) as u32, (cube.value[i] >> 32) as u32),
                        ]
                    });
                    let tests: Vec<_> = halves.filter(|(_, mask, _)| *mask != 0).collect();
                    for (n, (at, mask, value)) in tests.iter().enumerate() {
                        // Past the tests that follow and the return.
                        let skip = u8::try_from(3 * (tests.len() - n - 1) + 1).unwrap();
                        body.extend([insn(load, *at, 0, 0), insn(and, *mask, 0, 0), insn(jeq, *value, 0, skip)]);
                    }
                    body.push(ret(action));
                }
                body.push(ret(refused));
            }
            None => {
                let known = ARCH.name(number).and_then(calls::find).is_some_and(|c| c.since <= policy.kernel);
                body.push(ret(if known { refused } else { absent }));
            }
        }
        out.extend([insn(load, 0, 0, 0), insn(jeq, number, 1, 0), insn(ja, u32::try_from(body.len()).unwrap(), 0, 0)]);
        out.extend(body);
    }
    out.push(ret(absent));
    out
}

/// Six judges on the same calls: the plain evaluator, the diagram, our program, the same without any art, and
/// libseccomp's in the interpreter, and the running kernel. `make judges` asks ten million; CI a share.
#[test]
fn the_judges_agree() {
    let wanted: usize = std::env::var("STOCKADE_JUDGES").map_or(320_000, |n| n.parse().unwrap());
    let int80 = has_int80();
    let machines = shipped();
    let each = wanted.div_ceil(machines.len());
    let mut rng = Rng(0x1ad9e);
    let (mut total, mut wrong) = (0usize, Vec::new());
    for (name, policy) in &machines {
        let mut d = Diagnostics::default();
        let filter = compile::portable(policy, ARCH, &mut d).unwrap();
        let second = seccomp::second(policy, &filter).unwrap();
        let mut store = Store::default();
        let diagram = intent::of_policy(&mut store, policy, ARCH);
        let meaning = Meaning::new(policy, ARCH);
        let neutral = neutral(&filter.program);
        let plain = unoptimised(policy);
        assert!(plain.len() > 2 * filter.program.len(), "{name}: {} instructions", plain.len());
        let base = shots(policy);
        let mut left = each;
        while left > 0 {
            let now = left.min(250_000);
            left -= now;
            let fired = around(&base, now, int80, &mut rng);
            let (answers, said) = answers(&neutral, &fired);
            assert!(!said.is_empty());
            for (shot, kernel) in fired.iter().zip(&answers) {
                let v = &shot.v;
                let want = meaning.decide(v);
                let judged = [
                    ("the diagram", bpf::decode(store.evaluate(diagram, v)) == want),
                    ("our program", bpf::decode(bpf::run(&filter.program, v, None)) == want),
                    ("the unoptimised program", bpf::decode(bpf::run(&plain, v, None)) == want),
                    ("libseccomp's program", bpf::decode(bpf::run(&second.program, v, None)) == want),
                    ("the kernel", *kernel == -i64::from(code(want))),
                ];
                for (judge, _) in judged.iter().filter(|(_, same)| !same) {
                    wrong.push(format!("{name}: {judge} differs on {v:x?}: the evaluator says {want:?}"));
                }
            }
            total += fired.len();
        }
    }
    println!("{total} calls, 6 judges, {} disagreements", wrong.len());
    let first: Vec<&String> = wrong.iter().take(10).collect();
    assert!(wrong.is_empty(), "{} disagreements, such as {first:#?}", wrong.len());
}

/// The judge must be able to say no: one outcome of the filter is changed, and the kernel shows it.
#[test]
fn a_wrong_filter_is_found_out() {
    let (name, policy) = shipped().remove(0);
    let mut d = Diagnostics::default();
    let filter = compile::portable(&policy, ARCH, &mut d).unwrap();
    let mut fired = shots(&policy);
    if !has_int80() {
        return harness::skip(
            "the kernel has no 32-bit entry (int 0x80): the filter's test of the architecture can't be seen",
        );
    }
    fired.extend(shots_of_i386());
    let program = neutral(&filter.program);
    let mut found = 0;
    let returns: Vec<usize> = (0..program.len()).filter(|i| program[*i].code == 0x06).collect();
    for i in &returns {
        let mut broken = program.clone();
        broken[*i].k = bpf::encode(Action::Errno(4004));
        found += usize::from(!compare(&name, &policy, &broken, &fired).0.is_empty());
    }
    println!("{found} of {} changed returns are seen from outside", returns.len());
    assert_eq!(found, returns.len());
}

/// What the kernel reads of an argument can be less than its declaration says. A comparison of bits that it doesn't
/// read is passed by setting them.
#[test]
fn no_comparison_sees_more_than_the_kernel() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe/narrowed.py");
    let ran = Command::new("python3").arg(script).output().unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{text}{}", String::from_utf8_lossy(&ran.stderr));
    let mut taken = 0;
    for line in text.lines() {
        let [name, argument, worked] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let found = calls::find(name).unwrap().args.iter().find(|a| a.name == argument).unwrap();
        let whole = matches!(found.ty, calls::Type::Long | calls::Type::Ulong);
        assert!(worked == "0" || !whole, "{line}: the table says {:?}", found.ty);
        taken += usize::from(worked == "1");
    }
    assert!(taken >= 15, "{text}");
}
