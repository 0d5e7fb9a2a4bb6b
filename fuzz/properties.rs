//! What must hold for any input, one function a fuzz target. Also run as plain tests over the corpus and over
//! seeded noise (tests/fuzz.rs), so that a finding that was added to the corpus stays a test.

use std::fmt::Write as _;
use stockade::compile::{self, seccomp};
use stockade::diagnostic::Diagnostics;
use stockade::exchange::profile::{self, Reading};
use stockade::exchange::{import, nspawn, unit};
use stockade::kernel::calls::{self, Type};
use stockade::kernel::numbers::Arch;
use stockade::policy::meaning::{Meaning, Vector};
use stockade::policy::syscalls::Action;
use stockade::policy::{Policy, loader, resolve};
use stockade::proof::diagram::Store;
use stockade::proof::{bpf, grants, intent, order, program};
use stockade::review::{diff, lock};
use stockade::source::Sources;
use stockade::syntax::{self, ast, print};
use stockade::sys::confine::Instruction;

const ARCH: Arch = Arch::X86_64;

/// Tries a property on some bytes; false when they don't get as far as what it is about.
pub type Property = fn(&[u8]) -> bool;

/// Every property by the name of its target.
pub const ALL: &[(&str, Property)] = &[
    ("parse", parse),
    ("format", format),
    ("compiled", compiled),
    ("evaluator", evaluator),
    ("interpreter", interpreter),
    ("merge", merge),
    ("difference", difference),
    ("locks", locks),
    ("importers", importers),
];

/// Any bytes are read to the end: no panic, and whatever is wrong can be shown.
pub fn parse(data: &[u8]) -> bool {
    let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
    let Some(id) = loader::from_text("fuzz", data, &mut sources, &mut d) else { return false };
    resolve::resolve(id, &mut sources, &mut d, "2026-01-01");
    assert_eq!(d.render(&sources, false).is_empty(), d.iter().next().is_none());
    true
}

fn tree(text: &[u8]) -> Option<ast::File> {
    let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
    let id = loader::from_text("fuzz", text, &mut sources, &mut d)?;
    let file = syntax::parse(&sources, id, &mut d);
    (!d.has_errors()).then_some(file)
}

/// The canonical form has the same tree and the same comments, and is its own canonical form.
pub fn format(data: &[u8]) -> bool {
    let Some(first) = tree(data) else { return false };
    let once = print::print(&first);
    let second = tree(once.as_bytes()).expect("the canonical form parses");
    assert!(ast::same(&first, &second), "another tree:\n{once}");
    assert_eq!(print::print(&second), once);
    true
}

/// A reader of bytes that gives 0 at the end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n.max(1)
    }

    fn word(&mut self) -> u64 {
        // Small and odd-looking numbers are both likely.
        match self.byte() % 4 {
            0 => u64::from(self.byte()),
            1 => 1 << (self.byte() % 64),
            2 => u64::from(self.byte()).wrapping_sub(u64::from(self.byte())),
            _ => (0..8).fold(0, |n, _| n << 8 | u64::from(self.byte())),
        }
    }
}

/// Calls with few and many arguments, of each type.
const CALLS: &[&str] =
    &["socket", "ioctl", "openat", "fcntl", "lseek", "kill", "read", "prctl", "setpriority", "personality", "fchmodat"];

/// Lines of a `syscalls` block that the grammar and the types take.
fn lines(b: &mut Bytes<'_>) -> String {
    let mut out = String::new();
    for _ in 0..1 + b.below(6) {
        let name = CALLS[b.below(CALLS.len())];
        let call = calls::find(name).unwrap();
        let verb = ["allow", "allow", "allow", "deny", "kill", "log"][b.below(6)];
        let mut conditions = Vec::new();
        for a in call.args.iter().filter(|a| a.ty != Type::Pointer) {
            if b.below(3) == 0 {
                conditions.push(condition(b, a.name, a.ty));
            }
        }
        let list = if conditions.is_empty() { String::new() } else { format!("({})", conditions.join(", ")) };
        writeln!(out, "    {verb} {name}{list}").unwrap();
    }
    out
}

fn condition(b: &mut Bytes<'_>, name: &str, ty: Type) -> String {
    let fit = |v: u64| -> i128 {
        match ty {
            Type::U16 => i128::from(v & 0xffff),
            Type::Int => i128::from(i32::from_le_bytes(v.to_le_bytes()[..4].try_into().unwrap())),
            Type::Uint => i128::from(v & 0xffff_ffff),
            Type::Long => i128::from(v.cast_signed()),
            Type::Ulong | Type::Mixed | Type::Pointer => i128::from(v),
        }
    };
    let bits = match ty {
        Type::U16 => 0xffff,
        Type::Int | Type::Uint | Type::Mixed => 0xffff_ffff,
        _ => u64::MAX,
    };
    let (x, y) = (fit(b.word()), fit(b.word()));
    let mask = b.word() & bits | 1;
    let drawn = b.below(9);
    match if ty == Type::Mixed && [1, 3, 4, 8].contains(&drawn) { 0 } else { drawn } {
        0 => format!("{name} == {x}"),
        1 => format!("{name} != {x}"),
        2 => format!("{name} in [{x}, {y}]"),
        3 => format!("{name} not in [{x}, {y}]"),
        4 => format!("{name} in {}..={}", x.min(y), x.max(y)),
        5 => format!("{name} & {mask:#x} == {:#x}", b.word() & mask),
        6 => format!("{name} has any [{mask:#x}]"),
        7 => format!("{name} has none [{mask:#x}]"),
        _ => format!("{name} only [{mask:#x}]"),
    }
}

fn resolved(text: &str) -> Option<(Policy, Sources)> {
    let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
    let id = loader::from_text("fuzz", text.as_bytes(), &mut sources, &mut d)?;
    let mut machines = resolve::resolve(id, &mut sources, &mut d, "2026-01-01").machines;
    (!d.has_errors() && !machines.is_empty()).then(|| (machines.remove(0), sources))
}

fn machine(before: &str, extends: &str, lines: &str) -> String {
    format!(
        "policy 1\nkernel 6.12\n{before}machine m {{\n{extends}  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  syscalls {{\n    allow [execve, exit_group]\n{lines}  }}\n}}\n"
    )
}

fn policy(b: &mut Bytes<'_>) -> Option<(Policy, Sources)> {
    let lines = lines(b);
    resolved(&machine("", "", &lines))
}

fn vector(b: &mut Bytes<'_>) -> Vector {
    let name = CALLS[b.below(CALLS.len())];
    let nr = if b.below(8) == 0 { u32::try_from(b.word() & 0xffff_ffff).unwrap() } else { ARCH.number(name).unwrap() };
    let arch = if b.below(16) == 0 { u32::from(b.byte()) } else { ARCH.audit() };
    Vector { arch, nr, args: std::array::from_fn(|_| b.word()), ip: b.word() }
}

/// What compiles is a program that the kernel takes, is proved, and is the same each time.
pub fn compiled(data: &[u8]) -> bool {
    let mut b = Bytes(data);
    let Some((p, _)) = policy(&mut b) else { return false };
    let mut d = Diagnostics::default();
    let Some(f) = compile::portable(&p, ARCH, &mut d).filter(|_| !d.has_errors()) else { return false };
    bpf::check(&f.program).unwrap();
    assert_eq!(seccomp::prove(&p, ARCH, &f.program), Ok(()));
    let again = compile::portable(&p, ARCH, &mut Diagnostics::default()).unwrap();
    assert_eq!(f.program, again.program);
    let meaning = Meaning::new(&p, ARCH);
    for _ in 0..32 {
        let v = vector(&mut b);
        assert_eq!(bpf::decode(bpf::run(&f.program, &v, None)), meaning.decide(&v), "{v:x?}");
    }
    true
}

/// The plain evaluator and the diagram agree.
pub fn evaluator(data: &[u8]) -> bool {
    let mut b = Bytes(data);
    let Some((p, _)) = policy(&mut b) else { return false };
    let mut s = Store::default();
    let n = intent::of_policy(&mut s, &p, ARCH);
    let meaning = Meaning::new(&p, ARCH);
    for _ in 0..64 {
        let v = vector(&mut b);
        assert_eq!(bpf::decode(s.evaluate(n, &v)), meaning.decide(&v), "{v:x?}");
    }
    true
}

/// Any program that is decided does what its diagram says, and runs what is said to be reached.
pub fn interpreter(data: &[u8]) -> bool {
    const CODES: &[u16] = &[
        0x20, 0x20, 0x20, 0x06, 0x06, 0x15, 0x15, 0x25, 0x35, 0x45, 0x05, 0x54, 0x54, 0x44, 0xa4, 0x04, 0x14, 0x64,
        0x74, 0x24, 0x34, 0x84, 0x07, 0x87, 0x60, 0x61, 0x02, 0x03, 0x80, 0x00, 0x01, 0x1d, 0x2d, 0x3d, 0x4d, 0x0c,
        0x1c, 0x5c, 0x4c, 0xac, 0x16,
    ];
    let mut b = Bytes(data);
    let mut text = Vec::new();
    for _ in 0..1 + b.below(24) {
        let code = CODES[b.below(CODES.len())];
        let k = match code {
            0x20 => 4 * u32::from(b.byte() % 16),
            0x06 => [0x7fff_0000, 0x0005_0001, 0x8000_0000, 0x7ffc_0000, 0, 0x0003_0007][b.below(6)],
            0x05 => u32::from(b.byte() % 4),
            0x60 | 0x61 | 0x02 | 0x03 => u32::from(b.byte() % 16),
            0x64 | 0x74 => u32::from(b.byte() % 32),
            _ => u32::try_from(b.word() & 0xffff_ffff).unwrap(),
        };
        text.push(Instruction { code, jt: b.byte() % 4, jf: b.byte() % 4, k });
    }
    for k in [0x7fff_0000, 0x0005_0026, 0x8000_0000, 0x0005_0001] {
        text.push(Instruction { code: 0x06, jt: 0, jf: 0, k });
    }
    let mut s = Store::with_budget(20_000);
    let Ok(n) = program::of_program(&mut s, &text) else { return false };
    let Ok(reached) = program::reached(&mut s, &text) else { return false };
    if s.exceeded() {
        return false;
    }
    for _ in 0..32 {
        let v = vector(&mut b);
        let mut visited = vec![false; text.len()];
        let word = bpf::run(&text, &v, Some(&mut visited));
        assert_eq!(bpf::canonical(word), s.evaluate(n, &v), "{v:x?}\n{}", bpf::listing(&text));
        for (pc, (ran, when)) in visited.iter().zip(&reached).enumerate() {
            assert_eq!(*ran, s.evaluate(*when, &v) == 1, "instruction {pc} for {v:x?}\n{}", bpf::listing(&text));
        }
    }
    true
}

/// Parents have no order, and one that is extended twice is extended once.
pub fn merge(data: &[u8]) -> bool {
    let mut b = Bytes(data);
    let (one, two) = (lines(&mut b), lines(&mut b));
    let profiles = format!("profile a {{\n  syscalls {{\n{one}  }}\n}}\nprofile b {{\n  syscalls {{\n{two}  }}\n}}\n");
    let with = |extends: &str| resolved(&machine(&profiles, extends, "")).map(|(p, _)| p);
    let first = with("  extends a, b\n");
    let second = with("  extends b, a\n");
    let third = with("  extends a, b, a\n");
    assert_eq!((first.is_some(), first.is_some()), (second.is_some(), third.is_some()));
    let (Some(x), Some(y), Some(z)) = (first, second, third) else { return false };
    let mut s = Store::default();
    let n = [&x, &y, &z].map(|p| intent::of_policy(&mut s, p, ARCH));
    assert!(n[0] == n[1] && n[1] == n[2]);
    true
}

/// A difference of two policies is complete (a call that differs has a row) and sound (no row, no difference).
pub fn difference(data: &[u8]) -> bool {
    let mut b = Bytes(data);
    let (Some((old, a)), Some((new, c))) = (policy(&mut b), policy(&mut b)) else { return false };
    let (old, new) = ([old], [new]);
    let found =
        diff::compare(&diff::Side { machines: &old, sources: &a }, &diff::Side { machines: &new, sources: &c }, ARCH);
    let rows = &found[0].rows;
    let (before, after) = (Meaning::new(&old[0], ARCH), Meaning::new(&new[0], ARCH));
    let has = |effect| rows.iter().any(|r| r.effect == effect && r.domain == grants::Domain::Syscalls);
    for _ in 0..64 {
        let v = vector(&mut b);
        let (x, y) = (before.decide(&v), after.decide(&v));
        if x != y {
            assert!(!found[0].calls_proved_equal, "{v:x?}");
            use stockade::policy::syscalls::Action::Errno;
            match (x, y) {
                (Errno(_), Errno(_)) => assert!(has(order::Effect::Changed), "{v:x?}"),
                _ if y < x => assert!(has(order::Effect::Widened), "{v:x?}"),
                _ => assert!(has(order::Effect::Narrowed), "{v:x?}"),
            }
        }
    }
    if rows.is_empty() {
        let mut s = Store::default();
        assert_eq!(intent::of_policy(&mut s, &old[0], ARCH), intent::of_policy(&mut s, &new[0], ARCH));
    }
    true
}

/// A lock is the same for the same policy, and another for another meaning.
pub fn locks(data: &[u8]) -> bool {
    let mut b = Bytes(data);
    let (Some((one, a)), Some((two, c))) = (policy(&mut b), policy(&mut b)) else { return false };
    let (one, two) = ([one], [two]);
    let (Ok(first), Ok(again), Ok(other)) = (lock::text(&one, &a), lock::text(&one, &a), lock::text(&two, &c)) else {
        return false;
    };
    assert_eq!(first, again);
    assert!(lock::difference(&first, &again).is_empty());
    let mut s = Store::default();
    let same = intent::of_policy(&mut s, &one[0], ARCH) == intent::of_policy(&mut s, &two[0], ARCH);
    assert!(same || !lock::difference(&first, &other).is_empty());
    true
}

/// An importer never widens: what it writes lets through no call that the source's runtime keeps out.
pub fn importers(data: &[u8]) -> bool {
    let mut b = Bytes(data);
    let kind = b.below(6);
    let text = String::from_utf8_lossy(b.0).into_owned();
    let done = match kind {
        0 => import::docker("imported/x", &text, Reading::Intent, &[], None, ARCH),
        1 => nspawn::import("m", "/srv", &text),
        2 => unit::import("m", &text),
        _ => return docker(&mut b),
    };
    match done {
        // What it wrote can be read, and is its own canonical form.
        Ok(done) => assert_eq!(print::print(&tree(done.text.as_bytes()).unwrap()), done.text),
        Err(e) => assert!(!e.contains("report this"), "{e}"),
    }
    true
}

/// An entry of a profile: names one call.
struct Entry {
    name: &'static str,
    action: &'static str,
    compares: Vec<(u8, usize, u64, u64)>,
}

const OPERATORS: &[&str] = &["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

fn docker(b: &mut Bytes<'_>) -> bool {
    let actions = ["ALLOW", "ALLOW", "ALLOW", "LOG", "ERRNO", "KILL_PROCESS", "TRAP"];
    let default = ["ERRNO", "ERRNO", "KILL", "ALLOW"][b.below(4)];
    let mut entries = Vec::new();
    for _ in 0..1 + b.below(6) {
        let name = CALLS[b.below(CALLS.len())];
        let action = actions[b.below(actions.len())];
        let count = b.below(4);
        let compares = (0..count).map(|_| (u8::try_from(b.below(6)).unwrap(), b.below(7), b.word(), b.word()));
        let compares = compares.map(|(i, op, v, two)| (i, op, v, if op == 6 { two & v } else { two })).collect();
        entries.push(Entry { name, action, compares });
    }
    let list: Vec<String> = entries
        .iter()
        .map(|e| {
            let args: Vec<String> = e
                .compares
                .iter()
                .map(|(i, op, v, two)| {
                    format!(r#"{{"index":{i},"op":"SCMP_CMP_{}","value":{v},"valueTwo":{two}}}"#, OPERATORS[*op])
                })
                .collect();
            format!(r#"{{"names":["{}"],"action":"SCMP_ACT_{}","args":[{}]}}"#, e.name, e.action, args.join(","))
        })
        .collect();
    let json = format!(r#"{{"defaultAction":"SCMP_ACT_{default}","syscalls":[{}]}}"#, list.join(","));
    for reading in [Reading::Intent, Reading::Runc] {
        let done = match import::docker("imported/x", &json, reading, &[], Some((6, 12)), ARCH) {
            Ok(done) => done,
            Err(e) => {
                assert!(!e.contains("report this") && !e.contains("as a policy"), "{e}\n{json}");
                continue;
            }
        };
        let machine =
            "machine m { extends imported/x; root host; exec \"/bin/true\"; user 1; capabilities { none } }\n";
        let (p, _) = resolved(&format!("{}{machine}", done.text)).unwrap();
        let meaning = Meaning::new(&p, ARCH);
        for _ in 0..48 {
            let mut v = vector(b);
            v.arch = ARCH.audit();
            v.nr = ARCH.number(CALLS[b.below(CALLS.len())]).unwrap();
            if meaning.decide(&v) > Action::Log {
                continue;
            }
            let name = ARCH.name(v.nr).unwrap();
            // Some value of the bits that the kernel doesn't read lets the same call through there.
            let unread = profile::unread(calls::find(name).unwrap());
            let reached = (0..64u32).any(|which| {
                let args: [u64; 6] = std::array::from_fn(|i| {
                    let kept = v.args[i] & !unread[i];
                    if which >> i & 1 == 1 { kept | unread[i] } else { kept }
                });
                runs_under_runc(default, &entries, name, &args)
            });
            assert!(reached, "{v:x?} {reading:?}\n{json}\n{}", done.text);
        }
    }
    true
}

/// The rules as runc and libseccomp take them, in plain words.
fn runs_under_runc(default: &str, entries: &[Entry], name: &str, args: &[u64; 6]) -> bool {
    let runs = |action: &str| action == "ALLOW" || action == "LOG";
    let alike = |action: &str| action == default || (action == "KILL_PROCESS" || action == "TRAP") && default == "KILL";
    let own: Vec<&Entry> = entries.iter().filter(|e| e.name == name && !alike(e.action)).collect();
    if let Some(whole) = own.iter().find(|e| e.compares.is_empty()) {
        return runs(whole.action);
    }
    let holds = |(i, op, v, two): &(u8, usize, u64, u64)| {
        let x = args[usize::from(*i)];
        match op {
            0 => x != *v,
            1 => x < *v,
            2 => x <= *v,
            3 => x == *v,
            4 => x >= *v,
            5 => x > *v,
            _ => x & v == *two,
        }
    };
    let matching = own.iter().find(|e| {
        let indexes: Vec<u8> = e.compares.iter().map(|c| c.0).collect();
        let twice = indexes.iter().enumerate().any(|(n, i)| indexes[n + 1..].contains(i));
        if twice { e.compares.iter().any(holds) } else { e.compares.iter().all(holds) }
    });
    runs(matching.map_or(default, |e| e.action))
}
