//! `check`, `fmt`, `test`, `explain` and `groups`.

use super::front::{self, Loaded, Outcome, Stop};
use super::review::{self, Format};
use crate::codes;
use crate::compile;
use crate::diagnostic::{Diagnostics, did_you_mean};
use crate::kernel::numbers::Arch;
use crate::policy::network::{Network, Port, Resolver, Use};
use crate::policy::syscalls::Action;
use crate::policy::{Policy, capabilities, loader, resolve, resources};
use crate::source::{Sources, display_name};
use crate::syntax::{self, ast, print};
use serde_json::json;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

pub(super) fn check(files: &[PathBuf], strict: bool, locked: bool, format: Format) -> Outcome {
    let json = format == Format::Json;
    let mut worst = 0;
    let mut found = Vec::new();
    let mut results = Vec::new();
    for file in files {
        let mut l = front::load(file)?;
        let filters = compile_all(&mut l);
        if strict {
            l.diagnostics.promote_warnings();
        }
        let failed = l.diagnostics.has_errors();
        if failed || locked && !review::is_locked(file)? {
            worst = 2;
        }
        if matches!(format, Format::Sarif | Format::Markdown) {
            found.push((display_name(file), review::check_found(&l), serde_json::Value::Null));
        } else if json {
            results.push(json!({
                "file": file.display().to_string(),
                "ok": !failed,
                "diagnostics": l.diagnostics.to_json(&l.sources),
                "machines": filters.iter().map(Checked::json).collect::<Vec<_>>(),
            }));
        } else {
            l.report();
            let machines: Vec<String> = filters.iter().map(Checked::to_string).collect();
            let verdict = if failed {
                match l.diagnostics.errors() {
                    1 => "1 error".to_owned(),
                    n => format!("{n} errors"),
                }
            } else {
                format!("ok: {}", if machines.is_empty() { "no machine".into() } else { machines.join(", ") })
            };
            front::print(&format!("{}: {verdict}\n", display_name(file)))?;
        }
    }
    match format {
        Format::Json => print_json(&json!({ "version": 1, "files": results }))?,
        Format::Human => {}
        _ => {
            let named: Vec<String> = files.iter().map(|p| display_name(p)).collect();
            review::print_found(&found, format, &format!("stockade check {}", named.join(" ")))?;
        }
    }
    Ok(worst)
}

/// A machine whose filter was made and proved.
struct Checked {
    name: String,
    instructions: usize,
    second: Result<compile::seccomp::Second, String>,
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (filter of {} instructions, proved", self.name, self.instructions)?;
        match &self.second {
            Ok(s) if s.proved.is_ok() => write!(f, "; libseccomp's of {} too)", s.program.len()),
            // It isn't loaded, so this is worth knowing and no fault of the policy.
            Ok(_) => write!(f, "; libseccomp makes a program that differs, which isn't used)"),
            Err(why) => write!(f, "; libseccomp makes none: {why})"),
        }
    }
}

impl Checked {
    fn json(&self) -> serde_json::Value {
        let second = match &self.second {
            Ok(s) => json!({
                "name": "libseccomp", "instructions": s.program.len(), "proved": s.proved.is_ok(), "loaded": false,
                "expected_instructions": mean(s.expected),
            }),
            Err(why) => json!({ "name": "libseccomp", "proved": false, "loaded": false, "error": why }),
        };
        let ours = self.second.as_ref().map_or(serde_json::Value::Null, |s| json!(mean(s.expected_ours)));
        json!({
            "name": self.name,
            "filter_instructions": self.instructions,
            "generators": [
                { "name": "stockade", "instructions": self.instructions, "proved": true, "loaded": true,
                  "expected_instructions": ours },
                second,
            ],
        })
    }
}

/// Thousandths as a number.
fn mean(thousandths: u64) -> f64 {
    f64::from(u32::try_from(thousandths).unwrap_or(u32::MAX)) / 1000.0
}

/// Compiles every machine as far as no host is needed, and holds the filter against a second generator's.
fn compile_all(l: &mut Loaded) -> Vec<Checked> {
    let mut out = Vec::new();
    if l.diagnostics.has_errors() {
        return out;
    }
    for m in &l.resolved.machines {
        if let Some(f) = compile::portable(m, Arch::NATIVE, &mut l.diagnostics) {
            let second = compile::seccomp::second(m, &f);
            out.push(Checked { name: m.name.clone(), instructions: f.program.len(), second });
        }
    }
    out
}

pub(super) fn test(files: &[PathBuf], json: bool) -> Outcome {
    let (mut passed, mut failed) = (0, 0);
    let mut results = Vec::new();
    for file in files {
        let mut l = front::load(file)?;
        if !json && l.report() || l.diagnostics.has_errors() {
            return Ok(2);
        }
        for m in &l.resolved.machines {
            let mut d = Diagnostics::default();
            compile::portable(m, Arch::NATIVE, &mut d);
            let broken = |span| d.iter().any(|x| x.labels.first().is_some_and(|lab| lab.span == span));
            for t in &m.tests {
                let bad = t.checks.iter().filter(|c| broken(c.span)).count();
                passed += t.checks.len() - bad;
                failed += bad;
                results.push(json!({"machine": m.name, "test": t.title, "checks": t.checks.len(), "failed": bad}));
                if !json {
                    let word = if bad == 0 { "pass" } else { "FAIL" };
                    front::print(&format!("{word}  {}: {} ({} checks)\n", m.name, t.title, t.checks.len()))?;
                }
            }
            let asserts = m.assertions.iter().filter(|a| broken(a.span)).count();
            passed += m.assertions.len() - asserts;
            failed += asserts;
            for x in d.iter() {
                l.diagnostics.push(x.clone());
            }
        }
        if !json {
            l.report();
        }
    }
    if json {
        print_json(&json!({ "version": 1, "passed": passed, "failed": failed, "tests": results }))?;
    } else {
        front::print(&format!("{passed} checks and assertions passed, {failed} failed\n"))?;
    }
    Ok(if failed == 0 { 0 } else { 1 })
}

pub(super) fn fmt(files: &[PathBuf], check: bool) -> Outcome {
    let mut differ = 0;
    for file in files {
        let mut sources = Sources::default();
        let mut d = Diagnostics::default();
        let id = loader::read(file, &mut sources, &mut d).map_err(|e| Stop::usage(e.to_string()))?;
        let tree = syntax::parse(&sources, id, &mut d);
        if d.has_errors() {
            write!(std::io::stderr(), "{}", d.render(&sources, front::colour())).unwrap_or(());
            return Ok(2);
        }
        let before = sources.get(id).map(|f| f.text.clone()).unwrap_or_default();
        let after = canonical(&tree)?;
        if after == before {
            continue;
        }
        differ += 1;
        if check {
            front::print(&format!("{} is not in canonical form\n", display_name(file)))?;
        } else {
            replace(file, &after).map_err(|e| Stop::host(format!("can't write {}: {e}", display_name(file))))?;
        }
    }
    Ok(u8::from(check && differ > 0))
}

/// The canonical text, only if it parses to the same tree with the same comments.
fn canonical(tree: &ast::File) -> Result<String, Stop> {
    let text = print::print(tree);
    let mut sources = Sources::default();
    let mut d = Diagnostics::default();
    let again = loader::from_text("formatted", text.as_bytes(), &mut sources, &mut d)
        .map(|id| syntax::parse(&sources, id, &mut d));
    match again {
        Some(again) if !d.has_errors() && ast::same(tree, &again) => Ok(text),
        _ => Err(Stop {
            code: 3,
            text: "the formatter would change the meaning of this file; it was left alone. Please report this".into(),
        }),
    }
}

/// The file is replaced whole or not at all, and keeps its mode.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let mode = fs::metadata(file)?.permissions();
    let target = fs::canonicalize(file)?;
    let folder = target.parent().unwrap_or(Path::new("/"));
    let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let mut f = fs::OpenOptions::new().write(true).create_new(true).open(&temporary)?;
    let written = f.write_all(text.as_bytes()).and_then(|()| f.set_permissions(mode)).and_then(|()| f.sync_all());
    written.and_then(|()| fs::rename(&temporary, &target)).inspect_err(|_| fs::remove_file(&temporary).unwrap_or(()))
}

pub(super) fn explain(subject: &str, machine: Option<&str>, json: bool) -> Outcome {
    let code = subject.to_uppercase();
    if let Some(page) = codes::find(&code) {
        if json {
            print_json(&json!({ "version": 1, "code": page.code, "title": page.title, "text": page.text }))?;
        } else {
            front::print(&format!("{}: {}\n\n{}\n", page.code, page.title, page.text))?;
        }
        return Ok(0);
    }
    if code.len() == 5 && code.starts_with(['E', 'W']) && !Path::new(subject).exists() {
        let known = codes::CODES.iter().map(|c| c.code);
        let hint = did_you_mean(&code, known).map(|h| format!("; {h}")).unwrap_or_default();
        return Err(Stop::usage(format!("no diagnostic has the code `{subject}`{hint}")));
    }
    let mut l = front::load(Path::new(subject))?;
    if !l.diagnostics.has_errors() {
        for m in &l.resolved.machines {
            compile::portable(m, Arch::NATIVE, &mut l.diagnostics);
        }
    }
    if l.report() {
        return Ok(2);
    }
    let policy = l.machine(machine)?;
    let host = front::probe(policy)?;
    let mut host = host;
    host.free_ids = host.privileged.then_some(0x10_0000);
    if host.privileged {
        super::run::place(policy, &mut host, &super::run::home()?, &[]);
    }
    let mut d = Diagnostics::default();
    let confinement = compile::compile(policy, &host, &l.sources, &mut d);
    if json {
        print_json(&explain_json(policy, &l))?;
    } else {
        front::print(&effective(policy, &l, confinement.as_ref()))?;
        write!(std::io::stderr(), "{}", d.render(&l.sources, front::colour())).unwrap_or(());
    }
    Ok(if d.has_errors() { 3 } else { 0 })
}

fn explain_json(p: &Policy, l: &Loaded) -> serde_json::Value {
    let place = |s| l.sources.cite(s);
    json!({
        "version": 1,
        "machine": p.name,
        "about": p.about,
        "kernel": format!("{}.{}", p.kernel.0, p.kernel.1),
        "capabilities": p.capabilities.iter().map(|g| json!({"name": capabilities::name(g.capability), "line": place(g.span), "why": g.meta.why})).collect::<Vec<_>>(),
        "mounts": p.mounts.iter().map(|m| json!({"target": m.target, "writable": m.writable, "exec": m.exec, "line": place(m.span), "why": m.meta.why})).collect::<Vec<_>>(),
        "files": p.files.iter().map(|f| json!({"right": format!("{:?}", f.right).to_lowercase(), "path": f.path, "line": place(f.span), "why": f.meta.why})).collect::<Vec<_>>(),
        "network": p.network.value.to_string(),
        "ports": p.ports.iter().map(|f| json!({"use": f.how.word(), "protocol": f.protocol.word(), "port": f.port, "peers": f.peers.iter().map(ToString::to_string).collect::<Vec<_>>(), "line": place(f.span), "why": f.meta.why})).collect::<Vec<_>>(),
        "publish": p.publishes.iter().map(|f| json!({"text": f.to_string(), "protocol": f.protocol.word(), "address": f.address, "outside": f.outside, "inside": f.inside, "line": place(f.span), "why": f.meta.why})).collect::<Vec<_>>(),
        "syscalls": p.syscalls.iter().map(|r| json!({"call": r.to_string(), "action": r.action.word(), "line": place(r.span), "group": r.group.map(place), "why": r.meta.why})).collect::<Vec<_>>(),
        "limits": p.limits.iter().map(|(k, v)| json!({"name": k, "value": v.value, "line": place(v.span)})).collect::<Vec<_>>(),
    })
}

/// What the machine may do, by domain, with the line behind each.
fn effective(p: &Policy, l: &Loaded, c: Option<&compile::Confinement>) -> String {
    let mut out = format!("machine `{}`", p.name);
    if let Some(about) = &p.about {
        out.push_str(&format!(": {}", about.escape_debug()));
    }
    out.push_str(&format!("\nreviewed against the calls of Linux {}.{}\n", p.kernel.0, p.kernel.1));
    let place = |s| l.sources.cite(s);
    let mut section = |title: &str, mechanism: &str, lines: Vec<(String, String, Option<String>)>| {
        out.push_str(&format!("\n{title}  [{mechanism}]\n"));
        if lines.is_empty() {
            out.push_str("  nothing\n");
        }
        let width = lines.iter().map(|(t, ..)| t.chars().count()).filter(|w| *w <= 70).max().unwrap_or(0);
        for (text, line, why) in lines {
            let why = why.map(|w| format!("  why \"{}\"", w.escape_debug())).unwrap_or_default();
            out.push_str(&format!("  {text:<width$}  {line}{why}\n"));
        }
    };
    let one = |text: String, span| (text, place(span), None);
    let program = c.map_or_else(|| format!("{:?}", p.program.value), |c| c.argv.0.join(" "));
    section(
        "program",
        "execve, own PID, IPC, UTS and mount namespaces",
        vec![
            one(program, p.program.span),
            one(format!("user {:?}", p.user.value.user), p.user.span),
            one(format!("user namespace {:?}", p.userns.value).to_lowercase(), p.userns.span),
            one(format!("root {:?} {:?}", p.root.value.origin, p.root.value.access), p.root.span),
            one(
                format!("no_new_privs {}", if p.no_new_privs { "on" } else { "OFF" }),
                p.no_new_privs_span.unwrap_or(p.span),
            ),
        ],
    );
    section(
        "capabilities",
        "the five sets",
        p.capabilities.iter().map(|g| (capabilities::name(g.capability), place(g.span), g.meta.why.clone())).collect(),
    );
    section(
        "mounts",
        "own mount namespace, locked",
        p.mounts
            .iter()
            .map(|m| {
                (
                    format!(
                        "{:?} -> {} {}{}",
                        m.source,
                        m.target,
                        if m.writable { "rw" } else { "ro" },
                        if m.exec { " exec" } else { "" }
                    ),
                    place(m.span),
                    m.meta.why.clone(),
                )
            })
            .collect(),
    );
    let files = if p.files.is_empty() { "mounts alone: no file rules written" } else { "Landlock" };
    section(
        "files",
        files,
        p.files
            .iter()
            .map(|f| (format!("{:?} {}", f.right, f.path).to_lowercase(), place(f.span), f.meta.why.clone()))
            .collect(),
    );
    let held = match (p.network.value.is_filtered(), p.network.value.is_routed()) {
        (true, true) => {
            "own network namespace; ports and addresses by the host's packet filter, TCP ports by Landlock too"
        }
        (true, false) => {
            "own network namespace; ports and addresses by the packet filter in it, TCP ports by Landlock too"
        }
        _ => "network namespace; TCP ports by Landlock",
    };
    section("network", held, network_lines(p, &place));
    section("exposure", "who reaches it, whom it reaches", exposure(p, c, &place));
    let mut calls: Vec<(String, String, Option<String>)> = Vec::new();
    let mut by_line: std::collections::BTreeMap<(crate::source::Span, Action), Vec<String>> =
        std::collections::BTreeMap::new();
    for r in &p.syscalls {
        by_line.entry((r.span, r.action)).or_default().push(r.to_string());
    }
    for ((span, action), list) in by_line {
        let why = p.syscalls.iter().find(|r| r.span == span).and_then(|r| r.meta.why.clone());
        let text = if list.len() > 4 {
            format!("{} calls: {} ...", list.len(), list.iter().take(3).cloned().collect::<Vec<_>>().join(" "))
        } else {
            list.join(" ")
        };
        calls.push((format!("{} {text}", action.word()), place(span), why));
    }
    let size = c.map_or(0, |c| c.filter.program.len());
    section(
        "system calls",
        &format!("seccomp, {size} instructions; the rest: EPERM, unreviewed numbers ENOSYS, foreign ABIs killed"),
        calls,
    );
    let limits = p.limits.iter().map(|(k, v)| {
        let by = c.and_then(|c| c.cgroups.limits.iter().find(|l| l.name == *k)).map(|l| format!("  [{}]", l.path));
        one(format!("{}{}", resources::text(k, v.value), by.unwrap_or_default()), v.span)
    });
    section("limits", "setrlimit for each process, control groups for the whole machine", limits.collect());
    out.push_str("\nx86-64 calls 335 (uretprobe) and 336 (uprobe) pass every seccomp filter by the kernel's design; outside a\ntrampoline of the kernel's own they do nothing.\n");
    out
}

type Line = (String, String, Option<String>);

/// What the policy says of the network, a line each.
fn network_lines(p: &crate::policy::Policy, place: &dyn Fn(crate::source::Span) -> String) -> Vec<Line> {
    let mut out = vec![(p.network.value.to_string(), place(p.network.span), None)];
    for f in &p.publishes {
        out.push((f.to_string(), place(f.span), f.meta.why.clone()));
    }
    for f in p.ports.iter().filter(|f| p.egress != Some(f.span)) {
        for peer in f.each_peer() {
            out.push((Port::text(f.how, f.protocol, f.port, peer), place(f.span), f.meta.why.clone()));
        }
    }
    out.extend(p.egress.map(|span| ("egress any".to_owned(), place(span), None)));
    let servers = match &p.resolver.value {
        Resolver::None => return out,
        Resolver::Host => "resolver host".to_owned(),
        Resolver::List(l) => format!("resolver {}", l.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    };
    out.push((servers, place(p.resolver.span), None));
    out
}

/// In the end: by which addresses of this host, and of the machine, and from where.
fn exposure(
    p: &crate::policy::Policy,
    c: Option<&compile::Confinement>,
    place: &dyn Fn(crate::source::Span) -> String,
) -> Vec<Line> {
    let mut out = Vec::new();
    let own: Vec<String> =
        c.and_then(|c| c.wiring.as_ref()).iter().flat_map(|w| &w.inside).map(|i| i.address.to_string()).collect();
    let reachable = |port: &Port| match port.peers.as_slice() {
        [] => "anybody".to_owned(),
        l => l.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    for f in &p.publishes {
        let (first, last) = f.outside;
        let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
        let (who, from) = match f.address {
            Some(a) if a.is_loopback() => (a.to_string(), "this host's own programs".to_owned()),
            Some(a) => (a.to_string(), "whoever reaches that address".to_owned()),
            None => {
                ("every address of this host, loopback included".to_owned(), "whoever reaches this host".to_owned())
            }
        };
        let listens = p
            .ports
            .iter()
            .find(|l| l.how == Use::Listen && l.protocol == f.protocol && l.port.is_none_or(|n| n == f.inside));
        let only =
            listens.filter(|l| !l.peers.is_empty()).map_or(String::new(), |l| format!(", of them {}", reachable(l)));
        out.push((format!("in   {} {ports} of {who}: {from}{only}", f.protocol.word()), place(f.span), None));
    }
    for f in p.ports.iter().filter(|f| f.how == Use::Listen) {
        let port = f.port.map_or("any port".to_owned(), |n| n.to_string());
        let text = match &p.network.value {
            Network::Host => {
                format!("in   {} {port} of every address of this host: whoever reaches it", f.protocol.word())
            }
            Network::None => continue,
            Network::Private => format!("in   {} {port} of {}: this host itself", f.protocol.word(), own.join(" and ")),
            Network::Zone(z) => format!(
                "in   {} {port} of {}: this host itself, members of zone {z}",
                f.protocol.word(),
                own.join(" and ")
            ),
            other => format!(
                "in   {} {port} of {}: {} on the network of `{other}`",
                f.protocol.word(),
                own.join(" and "),
                reachable(f)
            ),
        };
        out.push((text, place(f.span), None));
    }
    for f in p.ports.iter().filter(|f| f.how == Use::Connect && p.network.value != Network::None) {
        let port = f.port.map_or("any port".to_owned(), |n| n.to_string());
        let whom = match f.peers.as_slice() {
            [] if p.network.value == Network::Host => {
                "whatever this host reaches, its own loopback included".to_owned()
            }
            [] => "whatever this host reaches, but no link-local address and not its loopback".to_owned(),
            _ => reachable(f),
        };
        out.push((format!("out  {} {port} of {whom}", f.protocol.word()), place(f.span), None));
    }
    out
}

pub(super) fn groups(group: Option<&str>, file: Option<&Path>, json: bool) -> Outcome {
    let mut sources = Sources::default();
    let mut d = Diagnostics::default();
    let id = match file {
        Some(f) => loader::read(f, &mut sources, &mut d).map_err(|e| Stop::usage(e.to_string()))?,
        None => loader::from_text("stockade", b"policy 1\nkernel 6.18\nimport \"std/groups\"\n", &mut sources, &mut d)
            .ok_or_else(|| Stop::host("the built-in library can't be read"))?,
    };
    let resolved = resolve::resolve(id, &mut sources, &mut d, &front::today());
    if d.has_errors() {
        write!(std::io::stderr(), "{}", d.render(&sources, front::colour())).unwrap_or(());
        return Ok(2);
    }
    let wanted = group.map(|g| if g.starts_with('@') { g.to_owned() } else { format!("@{g}") });
    let groups = resolved.groups();
    let found: Vec<_> = groups.iter().filter(|(n, _)| wanted.as_ref().is_none_or(|w| w == n)).collect();
    if let (Some(w), true) = (&wanted, found.is_empty()) {
        let hint =
            did_you_mean(w, groups.iter().map(|(n, _)| n.as_str())).map(|h| format!("; {h}")).unwrap_or_default();
        return Err(Stop::usage(format!("no group `{w}`{hint}")));
    }
    if json {
        let list: Vec<_> = found
            .iter()
            .map(|(n, r)| json!({"name": n, "rules": r.iter().map(ToString::to_string).collect::<Vec<_>>()}))
            .collect();
        print_json(&json!({ "version": 1, "groups": list }))?;
        return Ok(0);
    }
    let mut out = String::new();
    for (name, rules) in found {
        if wanted.is_some() {
            out.push_str(&format!("{name}\n"));
            let mut texts: Vec<String> = rules.iter().map(ToString::to_string).collect();
            texts.sort();
            texts.dedup();
            for t in texts {
                out.push_str(&format!("  {t}\n"));
            }
        } else {
            out.push_str(&format!("{name:<24} {:4} rules\n", rules.len()));
        }
    }
    front::print(&out)?;
    Ok(0)
}

pub(super) fn print_json(v: &serde_json::Value) -> Result<(), Stop> {
    let text = serde_json::to_string_pretty(v).map_err(|e| Stop::host(e.to_string()))?;
    front::print(&format!("{text}\n"))
}
