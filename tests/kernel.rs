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
use stockade::compile::{self, vectors};
use stockade::diagnostic::Diagnostics;
use stockade::kernel::numbers::Arch;
use stockade::policy::meaning::{Meaning, Vector};
use stockade::policy::syscalls::Action;
use stockade::policy::{Policy, loader, resolve};
use stockade::proof::bpf;
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
    // Two can't be reached: the generator's own tests of architecture and x32 bit stand behind ours.
    assert!(found + 2 >= returns.len(), "{found} of {}", returns.len());
}
