//! `check`, `fmt`, `test`, `explain` and `groups`.

use super::effective::Effective;
use super::front::{self, Loaded, Outcome, Stop};
use super::locks;
use super::places;
use super::review::{self, Format};
use crate::codes;
use crate::compile;
use crate::diagnostic::{Diagnostic, Diagnostics, Severity, did_you_mean};
use crate::kernel::numbers::Arch;
use crate::policy::{loader, resolve};
use crate::source::{Sources, display_name};
use crate::syntax::{self, ast, print};
use serde_json::json;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

pub(super) fn check(paths: &[PathBuf], strict: bool, locked: bool, format: Format) -> Outcome {
    let json = format == Format::Json;
    let mut worst = 0;
    let mut found = Vec::new();
    let mut results = Vec::new();
    for file in &places::policies_of(paths)? {
        let mut l = front::load(file)?;
        let filters = compile_all(&mut l);
        if strict {
            l.diagnostics.promote_warnings();
        }
        let broken = l.diagnostics.has_errors();
        let unlocked = match broken || !locked || locks::is_locked(file)? {
            true => None,
            false => {
                let lock = locks::lock_of(file);
                let message = format!("{} isn't what {} comes to", display_name(&lock), display_name(file));
                Some(locks::unlocked(&lock, message))
            }
        };
        let failed = broken || unlocked.is_some();
        if failed {
            // A fault of the policy is said before a filter that isn't proved.
            let code = if broken { l.diagnostics.exit_code() } else { 2 };
            worst = if worst == 0 { code } else { worst.min(code) };
        }
        if matches!(format, Format::Sarif | Format::Markdown) {
            let mut list = review::check_found(&l);
            list.extend(unlocked.map(|(finding, _)| finding));
            found.push((display_name(file), list, serde_json::Value::Null));
        } else if json {
            let mut diagnostics = l.diagnostics.to_json(&l.sources);
            if let (Some(list), Some((_, value))) = (diagnostics.as_array_mut(), unlocked) {
                list.push(value);
            }
            results.push(json!({
                "file": file.display().to_string(),
                "ok": !failed,
                "diagnostics": diagnostics,
                "machines": filters.iter().map(Checked::json).collect::<Vec<_>>(),
            }));
        } else {
            l.report();
            let machines: Vec<String> = filters.iter().map(Checked::to_string).collect();
            let verdict = if unlocked.is_some() {
                "its lock says otherwise".to_owned()
            } else if failed {
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
    if locked {
        for lock in places::stale_locks(paths)? {
            let message = locks::stale(&lock);
            front::say(&format!("error: {message}"));
            let (finding, value) = locks::unlocked(&lock, message);
            found.push((display_name(&lock), vec![finding], serde_json::Value::Null));
            let file = lock.display().to_string();
            results.push(json!({ "file": file, "ok": false, "machines": [], "diagnostics": [value] }));
            worst = 2;
        }
    }
    match format {
        Format::Json => print_json(&json!({ "version": 1, "files": results }))?,
        Format::Human => {}
        _ => {
            let flags = [(locked, "--locked"), (strict, "--strict")].into_iter().filter(|(on, _)| *on).map(|(_, f)| f);
            let words: Vec<&str> = std::iter::once("check").chain(flags).collect();
            review::print_found(&found, format, &review::reproduced(&words, paths))?;
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

pub(super) fn test(paths: &[PathBuf], json: bool) -> Outcome {
    let (mut passed, mut failed, mut refused) = (0, 0, None);
    let mut results = Vec::new();
    for file in &places::policies_of(paths)? {
        let mut l = front::load(file)?;
        if l.diagnostics.has_errors() {
            l.report();
            return Ok(2);
        }
        for m in &l.resolved.machines {
            let mut d = Diagnostics::default();
            let compiled = compile::portable(m, Arch::NATIVE, &mut d).is_some();
            let at = |x: &Diagnostic, span| x.labels.first().is_some_and(|lab| lab.span == span);
            let spans: Vec<_> = m.tests.iter().flat_map(|t| &t.checks).map(|c| c.span).collect();
            let own = |x: &Diagnostic| spans.iter().chain(m.assertions.iter().map(|a| &a.span)).any(|s| at(x, *s));
            // Nothing is passed by a policy that isn't one: without a filter no check was tried.
            let whole = compiled && d.iter().all(|x| x.severity == Severity::Warning || own(x));
            if !whole {
                refused = Some(refused.unwrap_or(3).min(d.exit_code()));
            }
            let broken = |span| !whole || d.iter().any(|x| at(x, span));
            for t in &m.tests {
                let bad = t.checks.iter().filter(|c| broken(c.span)).count();
                passed += t.checks.len() - bad;
                failed += bad;
                results.push(json!({"machine": m.name, "test": t.title, "checks": t.checks.len(), "failed": bad}));
                if !json {
                    let word = if bad == 0 { "pass" } else { "FAIL" };
                    front::print(&format!(
                        "{word}  {}: {} ({} checks)\n",
                        m.name,
                        t.title.escape_debug(),
                        t.checks.len()
                    ))?;
                }
            }
            let asserts = m.assertions.iter().filter(|a| broken(a.span)).count();
            passed += m.assertions.len() - asserts;
            failed += asserts;
            for x in d.iter() {
                l.diagnostics.push(x.clone());
            }
        }
        if !json || refused.is_some() {
            l.report();
        }
    }
    if json {
        print_json(&json!({ "version": 1, "passed": passed, "failed": failed, "tests": results }))?;
    } else {
        front::print(&format!("{passed} checks and assertions passed, {failed} failed\n"))?;
    }
    Ok(refused.unwrap_or(u8::from(failed > 0)))
}

pub(super) fn fmt(paths: &[PathBuf], check: bool) -> Outcome {
    let mut differ = 0;
    for file in &places::policies_of(paths)? {
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
        super::run::place(policy, &mut host, &super::run::home()?, &[])?;
    }
    let mut d = Diagnostics::default();
    let confinement = compile::compile(policy, &host, &l.sources, &mut d).and_then(|c| c.proved(policy, &mut d));
    let effective = Effective::of(policy, &l.sources, confinement.as_ref());
    if json {
        print_json(&json!(effective))?;
    } else {
        front::print(&effective.to_string())?;
    }
    // Why this host can't, where it can't.
    write!(std::io::stderr(), "{}", d.render(&l.sources, front::colour())).unwrap_or(());
    Ok(if d.has_errors() { d.exit_code() } else { 0 })
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
