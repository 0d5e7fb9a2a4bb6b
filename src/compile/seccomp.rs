//! Rules to a seccomp program: disjoint sets of calls for each action, a generator, and the proof that
//! what it made is the policy.

use super::cube::{self, Cube};
use super::emit;
use super::libseccomp;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::kernel::numbers::Arch;
use crate::kernel::{calls, frequency};
use crate::policy::Policy;
use crate::policy::meaning::{Meaning, Vector};
use crate::policy::syscalls::{Action, ENOSYS, Rule};
use crate::proof::diagram::{FALSE, Store};
use crate::proof::{bpf, intent, program};
use crate::sys::confine::Instruction;
use std::collections::BTreeMap;

/// A machine's filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The architecture it is for.
    pub arch: Arch,
    /// Exactly the bytes that the kernel gets.
    pub program: Vec<Instruction>,
}

/// What becomes of one call, as disjoint sets of argument values; whatever is in none gets EPERM.
#[derive(Clone, Debug)]
pub struct Regions {
    number: u32,
    sets: Vec<(Action, Vec<Cube>)>,
}

/// Compiles the calls of a policy; `None` when there can be no filter, which is reported. A filter that other calls
/// go around is reported and there: what else is wrong with it can be said at once. Nothing is proved by that: see
/// [`proved`].
pub(super) fn compile(policy: &Policy, arch: Arch, d: &mut Diagnostics) -> Option<Filter> {
    let before = d.errors();
    let regions = regions(policy, arch, d);
    if d.errors() > before {
        return None;
    }
    super::bypass::check(policy, arch, &regions, d);
    super::bypass::ports(policy, arch, &regions, d);
    removed(policy, d);
    let program =
        emit::emit(&regions, arch, |n| arch.name(n).and_then(calls::find).is_some_and(|c| c.since <= policy.kernel));
    let Some(program) = program else {
        d.push(
            Diagnostic::error(
                "E0412",
                policy.span,
                format!("the filter of `{}` would have more than {} instructions", policy.name, bpf::MOST),
            )
            .help("simplify the conditions on arguments"),
        );
        return None;
    };
    Some(Filter { arch, program })
}

/// What a line removes must not run by another that was inherited beside it.
fn removed(policy: &Policy, d: &mut Diagnostics) {
    for removal in &policy.grants.removals {
        let (call, wider) = (removal.call, removal.wider);
        if !policy.syscalls.iter().any(|r| r.span == wider && r.call.name == call.name && r.action <= Action::Log) {
            continue;
        }
        let mut s = Store::default();
        let rules: Vec<&Rule> = policy.syscalls.iter().filter(|r| r.call.name == call.name).collect();
        let runs = intent::runs(&mut s, &rules, call.since <= policy.kernel);
        let both = intent::holds(&mut s, &removal.conditions);
        if s.and(runs, both) != FALSE || s.exceeded() {
            crate::policy::in_vain(d, removal.span, wider);
        }
    }
}

/// Whether a filter is proved equal to the policy; why not is reported.
pub(super) fn proved(policy: &Policy, filter: &Filter, d: &mut Diagnostics) -> bool {
    let Err(why) = prove(policy, filter.arch, &filter.program) else { return true };
    let message = format!("the filter of `{}` isn't proved equal to the policy: {why}", policy.name);
    d.push(
        Diagnostic::error("E0413", policy.span, message)
            .help("it is refused. Unless the policy is very large, please report this privately"),
    );
    false
}

/// The calls that a policy speaks of, each with its sets.
pub fn regions(policy: &Policy, arch: Arch, d: &mut Diagnostics) -> Vec<Regions> {
    let mut regions = Vec::new();
    let mut by_number: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &policy.syscalls {
        if let Some(number) = arch.number(rule.call.name) {
            by_number.entry(number).or_default().push(rule);
        }
    }
    for (number, rules) in by_number {
        let mut parts = partition(number, &rules, d);
        // What a call newer than the baseline does where no rule matches: it doesn't exist.
        if let (Some(r), Some(rule)) = (&mut parts, rules.first().filter(|r| r.call.since > policy.kernel)) {
            let named: Vec<Cube> = r.sets.iter().flat_map(|(_, c)| c.clone()).collect();
            match cube::minus(&[cube::ALL], &named) {
                Ok(rest) if rest.is_empty() => {}
                Ok(rest) => r.sets.push((Action::Errno(ENOSYS), rest)),
                Err(cube::TooComplex) => drop(too_complex(rule, d)),
            }
        }
        regions.extend(parts);
    }
    regions
}

/// What another generator makes of the same rules.
#[derive(Clone, Debug)]
pub struct Second {
    /// Its program.
    pub program: Vec<Instruction>,
    /// Instructions that are expected to run for a call, in thousandths.
    pub expected: u64,
    /// The same for the program that is loaded.
    pub expected_ours: u64,
    /// Whether it was proved equal to the policy as well, and if not, where it differs.
    pub proved: Result<(), String>,
}

/// Holds the filter against libseccomp's for the same rules: both proved, both costed. What is loaded is
/// ours, whatever comes out; that it is never the dearer one is held by a test over the shipped machines.
pub fn second(policy: &Policy, filter: &Filter) -> Result<Second, String> {
    let regions = regions(policy, filter.arch, &mut Diagnostics::default());
    let program = libseccomp::program(policy, filter.arch, &regions)?;
    Ok(Second {
        expected: expected(&regions, filter.arch, &program),
        expected_ours: expected(&regions, filter.arch, &filter.program),
        proved: prove(policy, filter.arch, &program),
        program,
    })
}

/// Mean number of instructions for a call, in thousandths: over the calls of the policy whose answer
/// hangs on an argument, weighted by how often they are made. The kernel doesn't run the filter at all
/// for those that are always allowed.
fn expected(regions: &[Regions], arch: Arch, program: &[Instruction]) -> u64 {
    let (mut sum, mut weights) = (0, 0);
    for r in regions {
        let Some((Action::Allow | Action::Log, cubes)) = r.sets.iter().find(|(a, _)| *a <= Action::Log) else {
            continue;
        };
        let Some(c) = cubes.first().filter(|c| **c != cube::ALL) else { continue };
        let weight = frequency::of(arch, r.number);
        let mut visited = vec![false; program.len()];
        bpf::run(program, &Vector { arch: arch.audit(), nr: r.number, args: c.value, ip: 0 }, Some(&mut visited));
        sum += weight * u64::try_from(visited.iter().filter(|v| **v).count()).unwrap_or(u64::MAX);
        weights += weight;
    }
    (sum * 1000).checked_div(weights).unwrap_or(0)
}

/// Proves that a program does for every call, in every ABI, what the policy says; or says why not.
pub fn prove(policy: &Policy, arch: Arch, program: &[Instruction]) -> Result<(), String> {
    let mut s = Store::default();
    let meant = intent::of_policy(&mut s, policy, arch);
    let done = program::of_program(&mut s, program).map_err(|e| e.to_string())?;
    if s.exceeded() {
        return Err(program::Undecided::TooComplex.to_string());
    }
    let Some(v) = s.difference(meant, done) else { return Ok(()) };
    // Replayed by the two that share nothing with the diagrams.
    let want = Meaning::new(policy, arch).decide(&v);
    let got = bpf::decode(bpf::run(program, &v, None));
    let name = arch.name(v.nr).unwrap_or("?");
    Err(format!(
        "call {} ({name}), architecture {:#x}, with {:x?} should be {want:?}, is {got:?}",
        v.nr, v.arch, v.args
    ))
}

/// Disjoint sets by action: the most restrictive matching rule wins.
pub(super) fn partition(number: u32, rules: &[&Rule], d: &mut Diagnostics) -> Option<Regions> {
    let mut by_action: Vec<(Action, Vec<Cube>, &Rule)> = Vec::new();
    for rule in rules {
        let Ok(cubes) = cube::of(&rule.conditions) else { return too_complex(rule, d) };
        if cubes.is_empty() {
            let message = format!("these conditions on `{}` never hold together", rule.call.name);
            d.push(Diagnostic::error("E0405", rule.span, message).help("delete the line, or correct a value"));
            return None;
        }
        // The sum is bounded as well: comparing all with all takes the square of it.
        if by_action.iter().map(|(_, set, _)| set.len()).sum::<usize>() + cubes.len() > cube::MOST {
            return too_complex(rule, d);
        }
        match by_action.iter_mut().find(|(a, ..)| *a == rule.action) {
            Some((_, set, _)) => set.extend(cubes),
            None => by_action.push((rule.action, cubes, rule)),
        }
    }
    by_action.sort_by_key(|(a, ..)| std::cmp::Reverse(*a));
    for (i, (a, set, rule)) in by_action.iter().enumerate() {
        let twin = by_action
            .iter()
            .skip(i + 1)
            .find(|(b, other, _)| matches!((a, b), (Action::Errno(_), Action::Errno(_))) && cube::overlap(set, other));
        if let Some((_, _, other)) = twin {
            let name = rule.call.name;
            d.push(
                Diagnostic::error("E0311", rule.span, format!("`{name}` is denied with two different errnos"))
                    .also(other.span, "the other errno")
                    .help("both match the same call: keep one of them"),
            );
            return None;
        }
    }
    let mut taken: Vec<Cube> = Vec::new();
    let mut sets = Vec::new();
    for (action, set, rule) in by_action {
        let set = cube::simplify(set);
        let Ok(own) = cube::minus(&set, &taken) else { return too_complex(rule, d) };
        taken.extend(set);
        let own = cube::simplify(own);
        if !own.is_empty() {
            sets.push((action, own));
        }
    }
    Some(Regions { number, sets })
}

fn too_complex(rule: &Rule, d: &mut Diagnostics) -> Option<Regions> {
    let message = format!("the conditions on `{}` need too many comparisons", rule.call.name);
    d.push(Diagnostic::error("E0414", rule.span, message).help("narrow the ranges, or use a mask"));
    None
}

impl Regions {
    /// The call.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Disjoint sets, each with what becomes of it.
    pub fn sets(&self) -> &[(Action, Vec<Cube>)] {
        &self.sets
    }

    /// The calls that run.
    pub(super) fn allowed(&self) -> Vec<Cube> {
        self.sets.iter().filter(|(a, _)| *a <= Action::Log).flat_map(|(_, c)| c.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{loader, resolve};
    use crate::source::Sources;

    fn compiled(kernel: &str, before: &str, more: &str) -> (Policy, Option<Filter>, Vec<&'static str>) {
        machine(&format!(
            "policy 1\nkernel {kernel}\n{before}\nmachine m {{\nroot host\nexec \"/usr/bin/true\"\nuser nobody\ncapabilities {{ none }}\n{more}\n}}\n"
        ))
    }

    /// The machine of a text, compiled and proved, and the codes of what is said of it.
    fn machine(text: &str) -> (Policy, Option<Filter>, Vec<&'static str>) {
        let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
        let id = loader::from_text("test", text.as_bytes(), &mut sources, &mut d).unwrap();
        let mut machines = resolve::resolve(id, &mut sources, &mut d, "2026-01-01").machines;
        assert!(!d.has_errors(), "{}", d.render(&sources, false));
        let policy = machines.remove(0);
        let filter = crate::compile::portable(&policy, Arch::NATIVE, &mut d);
        (policy, filter, d.iter().map(|x| x.code).collect())
    }

    #[test]
    fn what_is_removed_does_not_run_by_a_wider_line() {
        let of = |profile: &str, own: &str| {
            let before = format!("profile p {{\nsyscalls {{\nallow [execve, exit_group]\n{profile}\n}}\n}}");
            let (_, filter, codes) = compiled("6.12", &before, &format!("extends p\nsyscalls {{\n{own}\n}}"));
            assert_eq!(filter.is_none(), !codes.is_empty(), "{profile}: {codes:?}");
            codes
        };
        let (all, unix) = ("allow socket", "allow socket(family == AF_UNIX)");
        let remove = "remove socket(family == AF_UNIX)";
        assert_eq!(of(&format!("{all}\n{unix}"), remove), ["E0306"]);
        // The other line is about other families, about another call, or what it grants is denied.
        assert!(of(&format!("allow socket(family == AF_INET)\n{unix}"), remove).is_empty());
        assert!(of(&format!("allow ptrace\n{unix}"), remove).is_empty());
        assert!(of(&format!("{all}\n{unix}\ndeny socket(family in [AF_UNIX, AF_ALG])"), remove).is_empty());
        // The other line is gone by now, and what runs is granted anew.
        let before = format!(
            "profile p {{\nsyscalls {{\nallow [execve, exit_group]\n{all}\n{unix}\n}}\n}}\nprofile q {{\nextends p\nsyscalls {{ {remove} }}\n}}"
        );
        let own = format!("extends q\nsyscalls {{\nremove socket\n{unix}\n}}");
        assert!(compiled("6.12", &before, &own).2.is_empty());
    }

    #[test]
    fn the_first_release_with_a_call_is_one_that_has_it() {
        let (policy, filter, codes) =
            compiled("6.5", "", "syscalls { allow [execve, exit_group]; allow cachestat(flags == 0) }");
        assert!(codes.is_empty(), "{codes:?}");
        let meaning = crate::policy::meaning::Meaning::new(&policy, Arch::NATIVE);
        let nr = Arch::NATIVE.number("cachestat").unwrap();
        for (flags, action) in [(0, Action::Allow), (1, Action::Errno(crate::policy::syscalls::EPERM))] {
            let v =
                crate::policy::meaning::Vector { arch: Arch::NATIVE.audit(), nr, args: [0, 0, 0, flags, 0, 0], ip: 0 };
            assert_eq!(bpf::decode(bpf::run(&filter.as_ref().unwrap().program, &v, None)), action);
            assert_eq!(meaning.decide(&v), action);
            assert_eq!(meaning.rules(&v).len(), usize::from(flags == 0));
        }
    }

    /// Filters of the library's profiles, and of every kind of comparison in shapes that need long jumps and several
    /// words, are proved, and have no more instructions than is expected.
    #[test]
    fn what_is_emitted_is_proved_and_short() {
        let values = |step: usize| (0..300).map(|n| (n * step + 1).to_string()).collect::<Vec<_>>().join(", ");
        let many = [
            format!("allow lseek(offset in [{}])", values(0x1_0000_0003)),
            format!("allow prctl(option in [{}])", values(5)),
            "allow lseek(offset in 70000..=0x300000010, whence != 3)".into(),
            "allow fcntl(cmd in [F_GETFD, F_GETFL], fd > 2)".into(),
            "deny fcntl(cmd == F_GETFL, fd in 5..=9) errno EACCES".into(),
            "log mmap(prot has none [PROT_EXEC], flags has any [MAP_SHARED, MAP_PRIVATE])".into(),
            "allow mmap(prot only [PROT_READ, PROT_EXEC])".into(),
            "allow madvise(start != 0, len_in & 0xfff00000fff == 0x100000000)".into(),
            "kill mprotect(prot has all [PROT_WRITE, PROT_EXEC])".into(),
            "allow mprotect".into(),
        ]
        .join("\n");
        let own = format!(
            "root host\nexec \"/usr/bin/true\"\nuser nobody\ncapabilities {{ none }}\nsyscalls {{\nallow [execve, exit_group]\n{many}\n}}"
        );
        let library = "import \"std/daemon\"\nimport \"std/build\"\nimport \"std/os\"\n";
        let daemon =
            |p: &str| format!("extends {p}\nroot host\nexec \"/usr/bin/true\"\nuser nobody\ncapabilities {{ none }}");
        let cases =
            [own, daemon("std/daemon"), daemon("std/net-server"), "extends std/os\nroot dir \"/srv\" ro".to_owned()];
        let mut costs = Vec::new();
        for body in cases {
            let (_, filter, codes) = machine(&format!("policy 1\nkernel 6.12\n{library}\nmachine m {{\n{body}\n}}\n"));
            assert!(codes.iter().all(|c| c.starts_with('W')), "{body}: {codes:?}");
            costs.push(filter.unwrap().program.len());
        }
        // A little above what they are: a filter that grows by itself is a fault.
        let most = [2600, 500, 485, 280];
        assert!(costs.iter().zip(most).all(|(cost, most)| *cost <= most), "{costs:?}");
    }

    #[test]
    fn a_condition_is_not_gone_around() {
        let of = |calls: &str| compiled("6.12", "", &format!("syscalls {{ allow [execve, exit_group]; {calls} }}")).2;
        assert!(of("allow socket(family == AF_UNIX)").is_empty());
        assert_eq!(of("allow socket(family == AF_UNIX); allow io_uring_setup"), ["E0410"]);
    }

    #[test]
    fn another_program_is_not_proved() {
        let (policy, filter, _) = compiled("6.12", "", "syscalls { allow [execve, exit_group, read] }");
        let (mut filter, mut d) = (filter.unwrap(), Diagnostics::default());
        assert!(proved(&policy, &filter, &mut d) && !d.has_errors());
        filter.program = vec![bpf::ret(0x7fff_0000)];
        assert!(!proved(&policy, &filter, &mut d));
        assert_eq!(d.iter().map(|x| x.code).collect::<Vec<_>>(), ["E0413"]);
    }
}
