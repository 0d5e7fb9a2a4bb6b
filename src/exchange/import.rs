//! Policies of other programs' rules: the text, and the proof that it lets through nothing more.

use super::docker::{self, Setting};
use super::profile::{self, Profile, Reading};
use crate::compile::{libseccomp, portable};
use crate::diagnostic::{Diagnostics, Severity};
use crate::kernel::calls::{self, CALLS, Call};
use crate::kernel::numbers::Arch;
use crate::policy::syscalls::{Action, EPERM, Rule};
use crate::policy::{OLDEST, Policy, TABLE, loader, resolve};
use crate::proof::diagram::{FALSE, Node, Store, TRUE};
use crate::proof::{bpf, program, witness};
use crate::source::Sources;

/// A policy's text, and what a reader should know of it.
#[derive(Debug)]
pub struct Imported {
    /// The policy.
    pub text: String,
    /// What the source's own runtime does otherwise than it says, or than the policy does; one a line.
    pub differences: Vec<String>,
    /// Other remarks.
    pub notes: Vec<String>,
}

/// Imports a seccomp profile as `profile NAME { syscalls { ... } }`.
pub fn docker(
    name: &str,
    text: &str,
    reading: Reading,
    capabilities: &[String],
    baseline: Option<(u16, u16)>,
    arch: Arch,
) -> Result<Imported, String> {
    let word = match arch {
        Arch::X86_64 => "amd64",
        Arch::Aarch64 => "arm64",
    };
    let setting = |kernel| Setting { arch: word, capabilities, kernel };
    // The newest call that the profile's author knew says what was reviewed.
    let newest = |p: &Profile| p.entries.iter().map(|e| e.call.since).max().unwrap_or(OLDEST).max(OLDEST);
    let kernel = match baseline {
        Some(k) => k,
        None => newest(&docker::read(text, &setting(TABLE))?.profile),
    };
    let mut read = docker::read(text, &setting(kernel))?;
    let mut notes = std::mem::take(&mut read.notes);
    if !read.unknown.is_empty() {
        notes.push(format!("neither x86-64 nor aarch64 has: {}", read.unknown.join(", ")));
    }
    let newer: Vec<&str> = read.profile.entries.iter().filter(|e| e.call.since > kernel).map(|e| e.call.name).collect();
    if !newer.is_empty() {
        notes.push(format!("newer than the baseline, and absent here: {}", newer.join(", ")));
    }
    read.profile.entries.retain(|e| e.call.since <= kernel);
    let mut nameless: Vec<&str> =
        read.profile.entries.iter().map(|e| e.call.name).filter(|n| !libseccomp::knows(n)).collect();
    nameless.sort_unstable();
    nameless.dedup();
    if !nameless.is_empty() {
        let left = "this host's libseccomp has no name for these, and runc leaves their entries out";
        notes.push(format!("{left}: {}", nameless.join(", ")));
        if reading == Reading::Runc {
            read.profile.entries.retain(|e| e.action > Action::Log || libseccomp::knows(e.call.name));
        }
    }
    let mut s = Store::default();
    let mut calls: Vec<&'static Call> = read.profile.entries.iter().map(|e| e.call).collect();
    calls.sort_unstable_by_key(|c| c.name);
    calls.dedup_by_key(|c| c.name);
    for call in calls {
        read.profile.runs(&mut s, call).map_err(|e| e.to_string())?;
        if s.exceeded() {
            return Err(format!("`{}`: too complex to be compared", call.name));
        }
    }
    let block = syscalls(&read.profile, reading, kernel, &mut notes);
    let text = format!(
        "policy 1\nkernel {}.{}\n\n# Made of a seccomp profile of Docker's format, read for the capabilities\n# {}.\n\
         profile {name} {{\n{block}}}\n",
        kernel.0,
        kernel.1,
        if capabilities.is_empty() { "(none)".to_owned() } else { capabilities.join(" ") }
    );
    let machine = "machine held { extends NAME; root host; exec \"/bin/true\"; user 0; capabilities { none } }\n";
    let policy = resolved(&format!("{text}{}", machine.replace("NAME", name)))?;
    let mut differences = held(&policy.syscalls, policy.kernel, &[&read.profile])?;
    if read.profile.default <= Action::Log {
        let refused = |n: &&&str| read.profile.entries.iter().any(|e| e.call.name == **n && e.action > Action::Log);
        let runs = nameless.iter().filter(refused);
        differences
            .extend(runs.map(|n| format!("{n}: refused by the entries, but it runs: libseccomp has no name for it")));
    }
    match read.profile.compiled(arch) {
        Ok(programs) => differences.extend(as_compiled(&policy, &read.profile, &programs, arch)?),
        Err(why) => notes.push(format!("libseccomp makes no filter of it ({why}): held against what its text says")),
    }
    notes.extend(unchecked(&policy));
    Ok(Imported { text: canonical(&text)?, differences, notes })
}

/// What `check` says of it, when that isn't yes.
fn unchecked(policy: &Policy) -> Option<String> {
    let mut d = Diagnostics::default();
    let _ = portable(policy, Arch::NATIVE, &mut d);
    let error = d.iter().find(|e| e.severity == Severity::Error)?;
    Some(format!("as it stands, `check` refuses it: {}: {}", error.code, error.message))
}

/// A `syscalls` block that says what a profile says.
pub(super) fn syscalls(p: &Profile, reading: Reading, kernel: (u16, u16), notes: &mut Vec<String>) -> String {
    let mut lines = p.lines(reading, notes);
    if p.default != Action::Errno(EPERM) {
        // The language's default is a refusal with EPERM: any other one is written out, where nothing else is said.
        let spoken = |c: &Call| p.entries.iter().any(|e| std::ptr::eq(e.call, c) && e.action != p.default);
        let rest = CALLS.iter().filter(|c| c.since <= kernel);
        let runs = p.default <= Action::Log;
        lines.extend(rest.filter(|c| runs || !spoken(c)).map(|c| (p.default, c.name.to_owned())));
    }
    block(&lines)
}

/// The lines of a `syscalls` block, names without conditions gathered in lists.
pub(super) fn block(lines: &[(Action, String)]) -> String {
    let mut actions: Vec<Action> = lines.iter().map(|(a, _)| *a).collect();
    actions.sort_unstable();
    actions.dedup();
    let mut out = String::from("  syscalls {\n");
    for a in actions {
        let (verb, tail) = match a {
            Action::Allow => ("allow", String::new()),
            Action::Log => ("log", String::new()),
            Action::Errno(EPERM) => ("deny", String::new()),
            Action::Errno(_) => ("deny", format!(" {}", a.word())),
            Action::Kill => ("kill", String::new()),
        };
        let (mut plain, conditional): (Vec<&str>, Vec<&str>) =
            lines.iter().filter(|(b, _)| *b == a).map(|(_, l)| l.as_str()).partition(|l| !l.contains('('));
        plain.sort_unstable();
        plain.dedup();
        match plain.as_slice() {
            [] => {}
            [one] => out.push_str(&format!("    {verb} {one}{tail}\n")),
            many => {
                let rows: Vec<String> = many.chunks(6).map(|row| format!("      {}", row.join(", "))).collect();
                out.push_str(&format!("    {verb} [\n{}\n    ]{tail}\n", rows.join(",\n")));
            }
        }
        for line in conditional.iter().filter(|l| !plain.iter().any(|p| l.split('(').next() == Some(p))) {
            out.push_str(&format!("    {verb} {line}{tail}\n"));
        }
    }
    out.push_str("  }\n");
    out
}

/// Reads a text that was just written; the error would be a fault of ours, or of names in the source.
pub(super) fn resolved(text: &str) -> Result<Policy, String> {
    let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
    let id = loader::from_text("the import", text.as_bytes(), &mut sources, &mut d).ok_or("the import is too large")?;
    let mut found = resolve::resolve(id, &mut sources, &mut d, "1970-01-01");
    // What this version knows and can't enforce is refused by `check`, and is no fault of the import.
    match (d.has_errors() && !d.only("E0901"), found.machines.pop()) {
        (false, Some(m)) => Ok(m),
        _ => Err(format!("what the file says can't be written as a policy:\n{}", d.render(&sources, false))),
    }
}

/// Proves, call by call, that rules let through nothing that the source's runtime keeps out, and says where
/// they let through less and where the runtime lets through more than its rules say.
pub(super) fn held(rules: &[Rule], kernel: (u16, u16), source: &[&Profile]) -> Result<Vec<String>, String> {
    let (mut holes, mut narrower, mut strict) = (Vec::new(), Vec::new(), Vec::new());
    let mut s = Store::default();
    for call in CALLS.iter().filter(|c| Arch::NATIVE.number(c.name).is_some()) {
        let mine = profile::granted(&mut s, rules, kernel, call);
        let raw = stacked(&mut s, source, call)?;
        let unread = profile::unread(call);
        // What a program reaches at all, and what it reaches with registers as a compiler fills them.
        let (reached, plain) = (s.some(raw, &unread), s.cleared(raw, &unread));
        let beyond = minus(&mut s, mine, reached);
        if s.exceeded() {
            return Err(format!("`{}`: too complex to be compared", call.name));
        }
        if let Some(v) = shown(&s, beyond, call) {
            return Err(format!("the import would let through {v}, which the source keeps out: please report this"));
        }
        let hole = minus(&mut s, raw, plain);
        if let Some(v) = shown(&s, hole, call) {
            holes.push(format!("{v}: refused as written, but it runs: the kernel doesn't read those bits"));
        }
        let less = minus(&mut s, plain, mine);
        let apart = source.iter().flat_map(|p| &p.entries).any(|e| std::ptr::eq(e.call, call) && e.takes_apart());
        if let Some(v) = shown(&s, less, call) {
            let why = match (apart, call.since > kernel) {
                (true, _) => "runs under runc, which takes the comparisons of an entry apart; not here",
                (_, true) => "runs there; here it is newer than the baseline",
                _ => "runs there, not here: another entry of the profile refuses it, or the language can't say it",
            };
            narrower.push(format!("{v}: {why}"));
        }
        if minus(&mut s, mine, raw) != FALSE {
            strict.push(call.name);
        }
    }
    let mut out = holes;
    out.extend(narrower);
    if !strict.is_empty() {
        out.push(format!(
            "compared in 64 bits there, in the width that the kernel reads here, so that nothing hangs on unread bits: {}",
            strict.join(", ")
        ));
    }
    Ok(out)
}

/// Holds a policy against the filters that libseccomp makes of its source, which can differ from what the rules say.
/// Where a filter lets through less than the policy the import is refused; where it lets through more it is told.
fn as_compiled(
    policy: &Policy,
    source: &Profile,
    programs: &[bpf::Program],
    arch: Arch,
) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for call in CALLS {
        let Some(number) = arch.number(call.name).filter(|_| libseccomp::knows(call.name)) else { continue };
        let mut s = Store::default();
        let mine = profile::granted(&mut s, &policy.syscalls, policy.kernel, call);
        let said = source.runs(&mut s, call).map_err(|e| e.to_string())?;
        for p in programs {
            let own = program::of_program(&mut s, &bpf::of_call(p, arch.audit(), number)).map_err(|e| e.to_string())?;
            let runs = profile::runs(&mut s, own);
            let reached = s.some(runs, &profile::unread(call));
            let (beyond, more) = (minus(&mut s, mine, reached), minus(&mut s, runs, said));
            if s.exceeded() {
                return Err(format!("`{}`: too complex to be compared with libseccomp's filter", call.name));
            }
            if let Some(v) = shown(&s, beyond, call) {
                return Err(format!(
                    "libseccomp makes a filter of it that keeps out {v}, which its entries let through: write the \
                     comparisons of `{}` otherwise",
                    call.name
                ));
            }
            if let Some(v) = shown(&s, more, call) {
                out.push(format!("{v}: refused by the entries, but it runs: libseccomp's filter lets it through"));
            }
        }
    }
    out.dedup();
    Ok(out)
}

/// Where a call runs under several filters: each has to let it through (seccomp(2)).
fn stacked(s: &mut Store, source: &[&Profile], call: &'static Call) -> Result<Node, String> {
    let mut all = TRUE;
    for p in source {
        let one = p.runs(s, call).map_err(|e| e.to_string())?;
        all = s.and(all, one);
    }
    Ok(all)
}

/// Denies what a policy lets through beyond its source, proves that nothing is left, and writes it in the
/// canonical form.
pub(super) fn settle(text: &str, source: &[&Profile], notes: &mut Vec<String>) -> Result<String, String> {
    let policy = resolved(text)?;
    let mut beyond = Vec::new();
    let mut s = Store::default();
    // A name that this architecture doesn't have is no rule here.
    for call in CALLS.iter().filter(|c| Arch::NATIVE.number(c.name).is_some()) {
        let mine = profile::granted(&mut s, &policy.syscalls, policy.kernel, call);
        let there = stacked(&mut s, source, call)?;
        let reached = s.some(there, &profile::unread(call));
        if minus(&mut s, mine, reached) != FALSE {
            beyond.push((Action::Errno(EPERM), call.name.to_owned()));
        }
    }
    let mut text = text.to_owned();
    if !beyond.is_empty() {
        let end = text.rfind('}').ok_or("the import has no block")?;
        text.truncate(end);
        text.push_str(&format!("  # The source doesn't let these through.\n{}}}\n", block(&beyond)));
    }
    let policy = resolved(&text)?;
    held(&policy.syscalls, policy.kernel, source)?;
    // Assertions of the library may ask for more than the file lets through.
    notes.extend(unchecked(&policy));
    canonical(&text)
}

/// Holds a line that was put together of a source's words: it is one statement without a block, or nothing.
pub(super) fn one_statement(line: &str) -> Result<(), String> {
    use crate::syntax::ast::Entry;
    let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
    let id = loader::from_text("the import", line.as_bytes(), &mut sources, &mut d).ok_or("the import is too large")?;
    let file = crate::syntax::parse(&sources, id, &mut d);
    match (d.has_errors(), file.entries.as_slice()) {
        (false, [Entry::Statement(s)]) if s.block.is_none() && s.comment.is_none() => Ok(()),
        _ => Err(format!("`{}` would not be one line of a policy", line.escape_debug())),
    }
}

/// The text as `fmt` writes it.
pub(super) fn canonical(text: &str) -> Result<String, String> {
    let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
    let id = loader::from_text("the import", text.as_bytes(), &mut sources, &mut d).ok_or("the import is too large")?;
    Ok(crate::syntax::print::print(&crate::syntax::parse(&sources, id, &mut d)))
}

fn minus(s: &mut Store, a: Node, b: Node) -> Node {
    let not = s.not(b);
    s.and(a, not)
}

/// A call for which the condition holds, in words.
fn shown(s: &Store, n: Node, call: &Call) -> Option<String> {
    s.difference(n, FALSE).map(|v| witness(call.name, &v))
}

/// A profile that lets through exactly these names (libseccomp rules without comparisons).
pub(super) fn names<'a>(list: impl IntoIterator<Item = &'a str>) -> Profile {
    let entry = |call| profile::Entry { call, action: Action::Allow, compares: Vec::new() };
    let entries = list.into_iter().filter_map(calls::find).map(entry).collect();
    Profile { default: Action::Errno(EPERM), entries }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A filter of the source that isn't what its rules say: less is an error, more is told.
    #[test]
    fn a_compiled_source_is_held_to_its_rules() {
        let text = "policy 1\nkernel 6.12\nmachine m { root host; exec \"/bin/true\"; user 0; capabilities { none }; syscalls { allow read } }\n";
        let (policy, arch) = (resolved(text).unwrap(), Arch::NATIVE);
        let source = names(["read"]);
        let held = |programs: Vec<bpf::Program>| as_compiled(&policy, &source, &programs, arch);
        assert_eq!(held(source.compiled(arch).unwrap()), Ok(Vec::new()));
        assert!(held(names([]).compiled(arch).unwrap()).unwrap_err().contains("keeps out read()"));
        let more = held(names(["read", "mount"]).compiled(arch).unwrap()).unwrap();
        assert!(more.len() == 1 && more[0].starts_with("mount(): refused by the entries"), "{more:?}");
    }
}
