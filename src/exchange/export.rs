//! A machine's system calls as a profile for other programs, and what is lost on the way.

use super::docker::{self, Arg, CAPABILITIES, File, Rule, Setting};
use super::profile::{Profile, granted, runs};
use crate::compile::cube::{ALL, Cube};
use crate::compile::{libseccomp, seccomp};
use crate::diagnostic::Diagnostics;
use crate::kernel::calls::CALLS;
use crate::kernel::numbers::Arch;
use crate::policy::syscalls::{Action, ENOSYS, EPERM};
use crate::policy::{Policy, TABLE};
use crate::proof::diagram::{FALSE, Store, TRUE};
use crate::proof::{bpf, intent, witness};
use std::collections::BTreeMap;

/// A file for another program.
#[derive(Debug)]
pub struct Exported {
    /// The file.
    pub text: String,
    /// What the target doesn't enforce, or enforces otherwise; one a line.
    pub lost: Vec<String>,
}

/// The calls of a machine as a profile of Docker's format, proved to let the same calls through.
///
/// Conditions become masked comparisons on just the bits that the kernel reads, at most one for each argument
/// of an entry, so nothing hangs on how a runtime reads two of them.
pub fn docker(policy: &Policy, arch: Arch) -> Result<(File, Vec<String>), String> {
    let file = profile(policy, arch);
    let text = serde_json::to_string(&file).map_err(|e| e.to_string())?;
    let mut lost = proved(policy, arch, &text)?;
    let allowing = file.syscalls.iter().filter(|r| ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"].contains(&r.action.as_str()));
    lost.extend(nameless(allowing.flat_map(|r| r.names.iter().map(String::as_str))));
    lost.push("a call of another ABI kills the thread that makes it, not the process".into());
    lost.push(format!(
        "a number without a call answers as the runtime has it (EPERM, or ENOSYS beyond the last call named), not ENOSYS \
         as here; a call that is newer than Linux {}.{} as well",
        TABLE.0, TABLE.1
    ));
    Ok((file, lost))
}

/// What is lost where names are resolved by a libseccomp as old as this host's.
pub(super) fn nameless<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut unknown: Vec<&str> = names.into_iter().filter(|n| !libseccomp::knows(n)).collect();
    unknown.sort_unstable();
    unknown.dedup();
    let text = "calls: this host's libseccomp has no name for these, and where it is no newer they are refused";
    (!unknown.is_empty()).then(|| format!("{text}: {}", unknown.join(", ")))
}

fn profile(policy: &Policy, arch: Arch) -> File {
    let mut whole: BTreeMap<Action, Vec<String>> = BTreeMap::new();
    let mut syscalls = Vec::new();
    let mut spoken = Vec::new();
    for r in seccomp::regions(policy, arch, &mut Diagnostics::default()) {
        let Some(name) = arch.name(r.number()) else { continue };
        spoken.push(name);
        for (action, cubes) in r.sets().iter().filter(|(a, _)| *a != Action::Errno(EPERM)) {
            if *cubes == [ALL] {
                whole.entry(*action).or_default().push(name.to_owned());
                continue;
            }
            syscalls.extend(cubes.iter().map(|c| rule(vec![name.to_owned()], *action, comparisons(c))));
        }
    }
    // Nobody reviewed these: libraries fall back on older calls when they don't exist.
    let newer = CALLS.iter().filter(|c| c.since > policy.kernel && !spoken.contains(&c.name));
    whole
        .entry(Action::Errno(ENOSYS))
        .or_default()
        .extend(newer.filter(|c| arch.number(c.name).is_some()).map(|c| c.name.to_owned()));
    let mut all: Vec<Rule> =
        whole.into_iter().filter(|(_, n)| !n.is_empty()).map(|(a, names)| rule(names, a, None)).collect();
    all.append(&mut syscalls);
    File {
        default_action: "SCMP_ACT_ERRNO".into(),
        default_errno_ret: Some(EPERM),
        architectures: vec![
            match arch {
                Arch::X86_64 => "SCMP_ARCH_X86_64",
                Arch::Aarch64 => "SCMP_ARCH_AARCH64",
            }
            .into(),
        ],
        syscalls: all,
        ..File::default()
    }
}

fn rule(names: Vec<String>, action: Action, args: Option<Vec<Arg>>) -> Rule {
    let (word, errno_ret) = match action {
        Action::Allow => ("SCMP_ACT_ALLOW", None),
        Action::Log => ("SCMP_ACT_LOG", None),
        Action::Errno(e) => ("SCMP_ACT_ERRNO", Some(e)),
        Action::Kill => ("SCMP_ACT_KILL_PROCESS", None),
    };
    Rule { names, action: word.into(), errno_ret, args, ..Rule::default() }
}

fn comparisons(c: &Cube) -> Option<Vec<Arg>> {
    let each = (0u8..).zip(c.mask.iter().zip(&c.value)).filter(|(_, (m, _))| **m != 0);
    let arg =
        |(index, (m, v)): (u8, (&u64, &u64))| Arg { index, value: *m, value_two: *v, op: "SCMP_CMP_MASKED_EQ".into() };
    Some(each.map(arg).collect())
}

/// Reads an exported profile as its runtime would, and compares it with the policy, call by call.
fn proved(policy: &Policy, arch: Arch, text: &str) -> Result<Vec<String>, String> {
    let capabilities: Vec<String> = CAPABILITIES.iter().map(|c| (*c).to_owned()).collect();
    let read = docker::read(text, &Setting { arch: "", capabilities: &capabilities, kernel: TABLE })?;
    let mut lost = Vec::new();
    let mut s = Store::default();
    for call in CALLS.iter().filter(|c| arch.number(c.name).is_some()) {
        let own: Vec<_> = policy.syscalls.iter().filter(|r| std::ptr::eq(r.call, call)).collect();
        let meant = intent::of_call(&mut s, &own, call.since <= policy.kernel);
        let made = read.profile.answers(&mut s, call).map_err(|e| e.to_string())?;
        let (runs_here, runs_there) = (runs(&mut s, meant), runs(&mut s, made));
        if s.exceeded() {
            return Err(format!("`{}`: too complex to be compared", call.name));
        }
        if let Some(v) = s.difference(runs_here, runs_there) {
            let shown = witness(call.name, &v);
            return Err(format!("the profile isn't the policy: {shown}: please report this"));
        }
        if let Some(v) = s.difference(meant, made) {
            let of = |n| bpf::decode(s.evaluate(n, &v)).word();
            lost.push(format!("{} answers {}, not {}", witness(call.name, &v), of(made), of(meant)));
        }
    }
    Ok(lost)
}

/// What a target lets run beyond the policy under its own filters, one line for each call.
pub(super) fn wider(policy: &Policy, arch: Arch, there: &[Profile]) -> Vec<String> {
    let mut lost = Vec::new();
    let mut s = Store::default();
    for call in CALLS.iter().filter(|c| arch.number(c.name).is_some()) {
        let here = granted(&mut s, &policy.syscalls, policy.kernel, call);
        let mut all = TRUE;
        for p in there {
            let Ok(one) = p.runs(&mut s, call) else { continue };
            all = s.and(all, one);
        }
        let not = s.not(here);
        let wider = s.and(all, not);
        if let Some(v) = s.difference(wider, FALSE) {
            lost.push(format!("calls: {} runs there, not here", witness(call.name, &v)));
        }
    }
    lost
}

/// Whether a filter takes nothing away from a policy, on registers as a compiler fills them.
pub(super) fn leaves(policy: &Policy, arch: Arch, filter: &Profile) -> bool {
    let mut s = Store::default();
    CALLS.iter().filter(|c| arch.number(c.name).is_some()).all(|call| {
        let here = granted(&mut s, &policy.syscalls, policy.kernel, call);
        let Ok(there) = filter.runs(&mut s, call) else { return false };
        let not = s.not(there);
        let taken = s.and(here, not);
        s.cleared(taken, &super::profile::unread(call)) == FALSE && !s.exceeded()
    })
}
