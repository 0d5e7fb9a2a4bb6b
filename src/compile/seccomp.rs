//! Rules to a seccomp program.
//!
//! Our own preamble decides architecture, foreign ABIs and numbers that nobody reviewed; libseccomp
//! makes the rest from disjoint sets of MASKED_EQ comparisons. libseccomp is given numbers from our
//! table, runs in a child with a time limit, and is not trusted: the result is tried against the
//! meaning of the policy, each rule both ways and every number, and refused on the first difference.

use super::bpf::{self, JEQ, JGE, JGT, JSET, jump, load, ret};
use super::cube::{self, Cube};
use super::vectors;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::kernel::calls;
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::meaning::Meaning;
use crate::policy::syscalls::{Action, ENOSYS, EPERM, Rule};
use crate::sys::confine::Instruction;
use crate::sys::process::{self, Side};
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

/// How long libseccomp may take before the policy is refused.
const TIME_LIMIT: Duration = Duration::from_secs(10);

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
pub(super) struct Regions {
    number: u32,
    sets: Vec<(Action, Vec<Cube>)>,
}

/// Compiles the calls of a policy; `None` when an error was reported.
pub(super) fn compile(policy: &Policy, arch: Arch, d: &mut Diagnostics) -> Option<Filter> {
    let before = d.errors();
    let mut regions = Vec::new();
    let mut names: Vec<&str> = policy.syscalls.iter().map(|r| r.call.name).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let Some(number) = arch.number(name) else { continue };
        let rules: Vec<&Rule> = policy.syscalls.iter().filter(|r| r.call.name == name).collect();
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
    super::bypass::check(policy, arch, &regions, d);
    super::bypass::ports(policy, arch, &regions, d);
    if d.errors() > before {
        return None;
    }
    let body = match generate(&regions) {
        Ok(body) => body,
        Err(why) => {
            d.push(
                Diagnostic::error(
                    "E0412",
                    policy.span,
                    format!("the filter of `{}` can't be made: {why}", policy.name),
                )
                .help("simplify the conditions on arguments"),
            );
            return None;
        }
    };
    let mut program = preamble(policy, arch, &regions);
    program.extend(body);
    if let Err(fault) = bpf::check(&program) {
        d.push(
            Diagnostic::error(
                "E0412",
                policy.span,
                format!("the filter of `{}` can't be loaded: {fault}", policy.name),
            )
            .help("simplify the conditions on arguments"),
        );
        return None;
    }
    if let Some(why) = difference(policy, arch, &program) {
        d.push(
            Diagnostic::error(
                "E0413",
                policy.span,
                format!("the generated filter of `{}` differs from the policy: {why}", policy.name),
            )
            .help("the filter generator made a wrong program; the policy is refused. Please report it privately"),
        );
        return None;
    }
    Some(Filter { arch, program })
}

/// Disjoint sets by action: the most restrictive matching rule wins.
pub(super) fn partition(number: u32, rules: &[&Rule], d: &mut Diagnostics) -> Option<Regions> {
    let mut by_action: Vec<(Action, Vec<Cube>, &Rule)> = Vec::new();
    for rule in rules {
        let Ok(cubes) = cube::of(&rule.conditions) else { return too_complex(rule, d) };
        match by_action.iter_mut().find(|(a, ..)| *a == rule.action) {
            // The sum is bounded as well: comparing all with all takes the square of it.
            Some((_, set, _)) if set.len() + cubes.len() > cube::MOST => return too_complex(rule, d),
            Some((_, set, _)) => set.extend(cubes),
            None => by_action.push((rule.action, cubes, rule)),
        }
    }
    by_action.sort_by_key(|(a, ..)| std::cmp::Reverse(*a));
    for (i, (a, set, rule)) in by_action.iter().enumerate() {
        let twin = by_action.iter().skip(i + 1).find(|(b, other, _)| {
            matches!((a, b), (Action::Errno(_), Action::Errno(_))) && !cube::and(set, other).is_empty()
        });
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
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// The calls that run.
    pub(super) fn allowed(&self) -> Vec<Cube> {
        self.sets.iter().filter(|(a, _)| *a <= Action::Log).flat_map(|(_, c)| c.clone()).collect()
    }
}

/// Architecture, foreign ABIs, and numbers that are newer than what was reviewed or don't exist.
fn preamble(policy: &Policy, arch: Arch, regions: &[Regions]) -> Vec<Instruction> {
    let kill = bpf::encode(Action::Kill);
    let absent = bpf::encode(Action::Errno(ENOSYS));
    let mut out = vec![load(4), jump(JEQ, arch.audit(), 1, 0), ret(kill), load(0)];
    if arch == Arch::X86_64 {
        // The x32 bit; -1 is what a tracer writes to skip a call, and belongs to no ABI.
        out.extend([jump(JSET, 0x4000_0000, 0, 3), jump(JEQ, u32::MAX, 0, 1), ret(absent), ret(kill)]);
    }
    let last = arch.last();
    let unreviewed = |n: u32| {
        let since = arch.name(n).and_then(calls::find).map(|c| c.since);
        !regions.iter().any(|r| r.number == n) && since.is_none_or(|s| s > policy.kernel)
    };
    let mut n = 0;
    while n <= last {
        if !unreviewed(n) {
            n += 1;
            continue;
        }
        let start = n;
        while n <= last && unreviewed(n) {
            n += 1;
        }
        if n > last {
            out.extend([jump(JGE, start, 0, 1), ret(absent)]);
            return out;
        }
        out.extend([jump(JGE, start, 0, 2), jump(JGT, n - 1, 1, 0), ret(absent)]);
    }
    out.extend([jump(JGT, last, 0, 1), ret(absent)]);
    out
}

/// Runs libseccomp in a child and takes the program from a pipe.
fn generate(regions: &[Regions]) -> Result<Vec<Instruction>, String> {
    let (mut reader, writer) = std::io::pipe().map_err(|e| e.to_string())?;
    let pid = match process::fork().map_err(|e| e.to_string())? {
        Side::Child => {
            drop(reader);
            let done = export(regions).and_then(|f| f.export_bpf(writer.as_fd()).map_err(|e| e.to_string()));
            process::exit(i32::from(done.is_err()));
        }
        Side::Parent(pid) => pid,
    };
    drop(writer);
    let deadline = Instant::now() + TIME_LIMIT;
    let mut bytes = Vec::new();
    let read = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        let ready = process::poll(&mut fds, Some(i64::try_from(left.as_millis()).unwrap_or(0)));
        match ready {
            Ok(0) => break Err(format!("libseccomp took longer than {} s", TIME_LIMIT.as_secs())),
            Ok(_) => {
                let mut chunk = [0u8; 65536];
                match reader.read(&mut chunk) {
                    Ok(0) => break Ok(()),
                    Ok(n) => bytes.extend(chunk.iter().take(n)),
                    Err(e) => break Err(e.to_string()),
                }
                if bytes.len() > 16 * bpf::MOST {
                    break Err("libseccomp made a program beyond the kernel's limit".into());
                }
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => break Err(e.to_string()),
        }
    };
    if read.is_err() {
        process::kill(pid, libc::SIGKILL).map_err(|e| e.to_string())?;
    }
    let status = process::wait(pid, false).map_err(|e| e.to_string())?;
    read?;
    if status.and_then(|(_, s)| s.code()) != Some(0) {
        return Err("libseccomp refused the rules".into());
    }
    if bytes.len() % 8 != 0 {
        return Err("libseccomp's output is cut off".into());
    }
    let mut program = Vec::new();
    for chunk in bytes.chunks_exact(8) {
        if let [c0, c1, jt, jf, k0, k1, k2, k3] = *chunk {
            program.push(Instruction {
                code: u16::from_le_bytes([c0, c1]),
                jt,
                jf,
                k: u32::from_le_bytes([k0, k1, k2, k3]),
            });
        }
    }
    Ok(program)
}

/// The rules as libseccomp takes them. Runs in the child.
fn export(regions: &[Regions]) -> Result<ScmpFilterContext, String> {
    let text = |e: libseccomp::error::SeccompError| e.to_string();
    let mut f = ScmpFilterContext::new(ScmpAction::Errno(i32::from(EPERM))).map_err(text)?;
    f.set_act_badarch(ScmpAction::KillProcess).map_err(text)?;
    for r in regions {
        let number = ScmpSyscall::from(i32::try_from(r.number).map_err(|e| e.to_string())?);
        for (action, cubes) in &r.sets {
            let action = match action {
                Action::Allow => ScmpAction::Allow,
                Action::Log => ScmpAction::Log,
                // The filter's default.
                Action::Errno(EPERM) => continue,
                Action::Errno(e) => ScmpAction::Errno(i32::from(*e)),
                Action::Kill => ScmpAction::KillProcess,
            };
            for c in cubes {
                let compare: Vec<ScmpArgCompare> = (0u32..)
                    .zip(c.mask.iter().zip(&c.value))
                    .filter(|(_, (mask, _))| **mask != 0)
                    .map(|(i, (mask, value))| ScmpArgCompare::new(i, ScmpCompareOp::MaskedEqual(*mask), *value))
                    .collect();
                f.add_rule_conditional(action, number, &compare).map_err(text)?;
            }
        }
    }
    Ok(f)
}

/// The first call on which program and policy differ.
fn difference(policy: &Policy, arch: Arch, program: &[Instruction]) -> Option<String> {
    let meaning = Meaning::new(policy, arch);
    let mut tried = vectors::numbers(arch);
    for rule in policy.syscalls.iter().filter(|r| !r.conditions.is_empty()) {
        tried.extend(vectors::of_rule(arch, rule, 64));
    }
    tried.iter().find_map(|v| {
        let want = meaning.decide(v);
        let got = bpf::decode(bpf::run(program, v, None));
        (want != got).then(|| {
            let name = arch.name(v.nr).unwrap_or("?");
            format!("call {} ({name}) with {:x?} should be {want:?}, is {got:?}", v.nr, v.args)
        })
    })
}
