//! Seccomp profiles in Docker's JSON, which Podman and Kubernetes read as well, and in the runtime
//! specification's, which is the same without conditions on the host (moby, profiles/seccomp).

use super::profile::{Compare, Entry, Op, Profile};
use crate::kernel::calls;
use crate::kernel::constants;
use crate::policy::syscalls::Action;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A profile as it stands in the file. An unknown key is an error: it might be a restriction.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct File {
    /// For calls that no entry matches.
    pub default_action: String,
    /// The errno of a default that refuses; EPERM when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u16>,
    /// The same by name (moby from 23.0 on).
    #[serde(skip_serializing)]
    pub(super) default_errno: Option<String>,
    /// ABIs that the filter lets through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// The same with their smaller siblings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) arch_map: Vec<ArchMap>,
    /// Flags of seccomp(2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) flags: Vec<String>,
    /// A process that is asked about calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listener_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listener_metadata: Option<String>,
    /// The entries.
    #[serde(default)]
    pub syscalls: Vec<Rule>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

/// One entry.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// Names of calls.
    #[serde(default)]
    pub names: Vec<String>,
    #[serde(default, skip_serializing)]
    pub(super) name: String,
    /// What happens.
    pub action: String,
    /// The errno; EPERM when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u16>,
    #[serde(skip_serializing)]
    pub(super) errno: Option<String>,
    /// Comparisons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<Arg>>,
    #[serde(default, rename = "comment", skip_serializing)]
    pub(super) _comment: String,
    #[serde(default, skip_serializing)]
    pub(super) includes: Filter,
    #[serde(default, skip_serializing)]
    pub(super) excludes: Filter,
}

/// One comparison.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Arg {
    /// Which argument.
    pub index: u8,
    /// With what.
    pub value: u64,
    /// The value under the mask.
    #[serde(default)]
    pub value_two: u64,
    /// How.
    pub op: String,
}

/// When an entry counts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Filter {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// On which host, with which rights, a profile is read.
pub struct Setting<'a> {
    /// Docker's name of the architecture.
    pub arch: &'a str,
    /// Capabilities by the names of the language.
    pub capabilities: &'a [String],
    /// The release.
    pub kernel: (u16, u16),
}

/// The capabilities that Docker gives when nothing is said (moby, oci/caps/defaults.go).
pub const CAPABILITIES: &[&str] = &[
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "net_bind_service",
    "net_raw",
    "sys_chroot",
    "mknod",
    "audit_write",
    "setfcap",
];

/// What libseccomp calls architectures, after `SCMP_ARCH_` (seccomp_arch_add(3), libseccomp 2.6).
const ARCHES: &[&str] = &[
    "AARCH64",
    "ARM",
    "LOONGARCH64",
    "M68K",
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "NATIVE",
    "PARISC",
    "PARISC64",
    "PPC",
    "PPC64",
    "PPC64LE",
    "RISCV64",
    "S390",
    "S390X",
    "SH",
    "SHEB",
    "X32",
    "X86",
    "X86_64",
];

/// A profile, and what is to be said about reading it.
pub struct Read {
    /// The rules that count in this setting.
    pub profile: Profile,
    /// Names that neither architecture has; a runtime skips them as well.
    pub unknown: Vec<String>,
    /// Other remarks.
    pub notes: Vec<String>,
}

/// Most comparisons of an entry; a call has six arguments.
const MOST_COMPARES: usize = 12;
/// Most entries for one call.
const MOST_ENTRIES: usize = 64;

/// Reads a profile; the error says what is wrong with it.
pub fn read(text: &str, setting: &Setting<'_>) -> Result<Read, String> {
    let file: File = serde_json::from_str(text).map_err(|e| format!("not a seccomp profile: {e}"))?;
    if file.listener_path.is_some() || file.listener_metadata.is_some() {
        return Err("`listenerPath`: asking a process about calls can't be imported".into());
    }
    let mut notes = Vec::new();
    for f in &file.flags {
        match f.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => notes.push(format!("`{f}`: refusals aren't logged by the filter")),
            // Weakens nothing that we keep: it isn't taken over.
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => notes.push(format!("`{f}` isn't taken over: mitigations stay on")),
            _ => return Err(format!("`flags`: unknown flag `{f}`")),
        }
    }
    let mapped = file.arch_map.iter().flat_map(|m| m.sub_architectures.iter().flatten().chain([&m.architecture]));
    let named: Vec<&str> = file.architectures.iter().chain(mapped).map(String::as_str).collect();
    if let Some(unknown) = named.iter().find(|a| !a.strip_prefix("SCMP_ARCH_").is_some_and(|a| ARCHES.contains(&a))) {
        return Err(format!("unknown architecture `{}`", unknown.escape_debug()));
    }
    let foreign: Vec<&str> =
        named.into_iter().filter(|a| ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM"].contains(a)).collect();
    if !foreign.is_empty() {
        notes.push(format!("calls of {} run there; here any foreign ABI kills the process", foreign.join(", ")));
    }
    let default = action(&file.default_action, file.default_errno_ret, file.default_errno.as_deref())
        .map_err(|e| format!("`defaultAction`: {e}"))?;
    let default_kind = kind(&file.default_action, file.default_errno_ret, file.default_errno.as_deref());
    // Calls with an entry that a runtime keeps, and that is the default's action here: see below.
    let mut merged: Vec<&str> = Vec::new();
    let (mut entries, mut unknown, mut skipped) = (Vec::new(), Vec::new(), 0);
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut faults = Vec::new();
    let mut entry = |i: usize| -> Result<(), String> {
        let Some(r) = file.syscalls.get(i) else { return Ok(()) };
        let fail = |e: String| format!("entry {} of `syscalls`: {e}", i + 1);
        let act = action(&r.action, r.errno_ret, r.errno.as_deref()).map_err(fail)?;
        let names: Vec<&String> = if r.name.is_empty() { r.names.iter().collect() } else { vec![&r.name] };
        if !r.name.is_empty() && !r.names.is_empty() {
            return Err(fail("both `name` and `names`".into()));
        }
        let compares: Vec<Compare> =
            r.args.iter().flatten().map(compare).collect::<Result<_, String>>().map_err(fail)?;
        if compares.len() > MOST_COMPARES {
            return Err(fail(format!("more than {MOST_COMPARES} comparisons")));
        }
        if !counts(&r.includes, &r.excludes, act <= Action::Log, setting).map_err(fail)? {
            skipped += 1;
            return Ok(());
        }
        for name in names {
            match calls::find(name) {
                Some(call) => {
                    if act == default && kind(&r.action, r.errno_ret, r.errno.as_deref()) != default_kind {
                        merged.push(call.name);
                    }
                    entries.push(Entry { call, action: act, compares: compares.clone() });
                }
                None if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                    return Err(fail(format!("`{}` is no name of a call", name.escape_debug())));
                }
                None if !told.insert(name) => {}
                None => unknown.push(name.clone()),
            }
        }
        Ok(())
    };
    for i in 0..file.syscalls.len() {
        faults.extend(entry(i).err());
    }
    if !faults.is_empty() {
        return Err(faults.join("\n  "));
    }
    // An entry that does what the default does is left out by a runtime, and another that allows the call counts. One
    // that refuses in another way is kept there, and stands before it.
    if let Some(name) =
        merged.iter().find(|n| entries.iter().any(|e: &Entry| e.call.name == **n && e.action != default))
    {
        return Err(format!(
            "`{name}` is refused by an entry in another way than by `defaultAction`, which is one here, and has other \
             entries: write the action of the default in that entry, or take it away"
        ));
    }
    let mut each: BTreeMap<&str, usize> = BTreeMap::new();
    entries.iter().for_each(|e: &Entry| *each.entry(e.call.name).or_default() += 1);
    if let Some((name, _)) = each.iter().find(|(_, n)| **n > MOST_ENTRIES) {
        return Err(format!("more than {MOST_ENTRIES} entries for `{name}`"));
    }
    if skipped > 0 {
        notes.push(format!("{skipped} entries are for other capabilities, architectures or kernels, and don't count"));
    }
    Ok(Read { profile: Profile { default, entries }, unknown, notes })
}

/// What a runtime compares an action by: `SCMP_ACT_KILL` is that of a thread, and only two have a number (libseccomp,
/// seccomp.h.in; runc, libcontainer/seccomp, `getAction`).
fn kind<'a>(word: &'a str, errno: Option<u16>, name: Option<&str>) -> (&'a str, Option<Action>) {
    match word {
        "SCMP_ACT_KILL" => ("SCMP_ACT_KILL_THREAD", None),
        "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE" => (word, action("SCMP_ACT_ERRNO", errno, name).ok()),
        _ => (word, None),
    }
}

fn action(word: &str, errno: Option<u16>, name: Option<&str>) -> Result<Action, String> {
    let named = name.map(|n| {
        let known = constants::find(n).filter(|c| c.family == "errno").and_then(|c| u16::try_from(c.value).ok());
        known.ok_or(format!("unknown errno `{n}`"))
    });
    let number = match (errno, named.transpose()?) {
        (Some(a), Some(b)) if a != b => {
            return Err(format!("two errnos, {a} and {b}: runtimes differ in which counts"));
        }
        (a, b) => a.or(b).unwrap_or(1),
    };
    if number == 0 || number > 4095 {
        return Err(format!("{number} is no errno"));
    }
    Ok(match word {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::Errno(number),
        // A thread that dies or a signal that can be caught: the whole process is stricter.
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" | "SCMP_ACT_KILL_PROCESS" | "SCMP_ACT_TRAP" => Action::Kill,
        // What the kernel answers when no tracer is there (seccomp(2)).
        "SCMP_ACT_TRACE" => Action::Errno(crate::policy::syscalls::ENOSYS),
        "SCMP_ACT_NOTIFY" => return Err("`SCMP_ACT_NOTIFY`: asking a process about calls can't be imported".into()),
        _ => return Err(format!("unknown action `{word}`")),
    })
}

fn compare(a: &Arg) -> Result<Compare, String> {
    let op = match a.op.as_str() {
        "SCMP_CMP_NE" => Op::Ne,
        "SCMP_CMP_LT" => Op::Lt,
        "SCMP_CMP_LE" => Op::Le,
        "SCMP_CMP_EQ" => Op::Eq,
        "SCMP_CMP_GE" => Op::Ge,
        "SCMP_CMP_GT" => Op::Gt,
        "SCMP_CMP_MASKED_EQ" => Op::Masked,
        _ => return Err(format!("unknown operator `{}`", a.op)),
    };
    if a.index > 5 {
        return Err(format!("there is no argument {}", a.index));
    }
    Ok(Compare { index: a.index, op, value: a.value, two: a.value_two })
}

/// Whether an entry counts: all that `includes` names, nothing that `excludes` names. A kernel's release is only
/// known to be at least the baseline: what grants counts only where it does on every later one, and what
/// refuses counts wherever it may.
fn counts(includes: &Filter, excludes: &Filter, grants: bool, setting: &Setting<'_>) -> Result<bool, String> {
    let holds = |c: &String| {
        let word = c.strip_prefix("CAP_").unwrap_or_default().to_lowercase();
        // Docker compares names as they are written: another case is another name.
        if crate::policy::capabilities::number(&word).is_none() || *c != c.to_uppercase() {
            return Err(format!("unknown capability `{}`", c.escape_debug()));
        }
        Ok(setting.capabilities.contains(&word))
    };
    let caps = |list: &[String]| list.iter().map(holds).collect::<Result<Vec<bool>, String>>();
    let new_enough = |v: &Option<String>| match v {
        None => Ok(None),
        Some(text) => {
            let mut parts = text.split('.').map(|p| p.parse::<u16>());
            match (parts.next(), parts.next(), parts.next()) {
                (Some(Ok(major)), Some(Ok(minor)), None) => Ok(Some(setting.kernel >= (major, minor))),
                _ => Err(format!("`minKernel`: `{text}` is no release")),
            }
        }
    };
    let ours = |list: &[String]| list.iter().any(|a| a == setting.arch);
    let from = new_enough(&includes.min_kernel)?;
    let with = caps(&includes.caps)?.iter().all(|c| *c)
        && (includes.arches.is_empty() || ours(&includes.arches))
        && from.is_none_or(|now| now || !grants);
    let until = new_enough(&excludes.min_kernel)?;
    let without = caps(&excludes.caps)?.iter().any(|c| *c) || ours(&excludes.arches) || until.is_some() && grants;
    Ok(with && !without)
}
