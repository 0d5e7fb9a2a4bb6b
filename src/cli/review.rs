//! `diff`, `lint`, `query`, `who`, `why`, `lock` and `kernel`.

use super::front::{self, Loaded, Outcome, Stop};
use super::language::print_json;
use super::places::{EMPTY, pairs, policies_of};
use super::revision::{self, Folder};
use crate::diagnostic::{Diagnostics, Severity};
use crate::kernel::numbers::Arch;
use crate::policy::asserts::{self, Claim};
use crate::policy::{OLDEST, TABLE, loader, resolve};
use crate::proof::order::Effect;
use crate::review::diff::{self, Machine};
use crate::review::output::{self, Finding};
use crate::review::query::{self, Verdict};
use crate::review::risk::Risk;
use crate::review::{lint, report};
use crate::source::{Sources, Span, display_name};
use clap::ValueEnum;
use serde_json::json;
use std::collections::HashSet;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For a terminal
    Human,
    /// One JSON document
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// One comment of a pull request
    Markdown,
}

/// `widened` (what changed to another value counts as well), `widened>=high`, `changed`, `any`.
#[derive(Clone, Copy, Debug)]
pub(super) struct FailOn {
    effect: Option<Effect>,
    least: Risk,
}

pub(super) fn fail_on(text: &str) -> Result<FailOn, String> {
    let (what, least) = text.split_once(">=").unwrap_or((text, "low"));
    let effect = match what {
        "widened" => Some(Effect::Widened),
        "changed" => Some(Effect::Changed),
        "narrowed" => Some(Effect::Narrowed),
        "any" => None,
        _ => return Err("write widened, changed, narrowed or any, then >=low, >=medium, >=high or >=critical".into()),
    };
    let least = Risk::parse(least).ok_or("a risk is low, medium, high or critical")?;
    Ok(FailOn { effect, least })
}

impl FailOn {
    fn is_met(self, machines: &[Machine]) -> bool {
        // Of another value nobody has shown that it isn't wider.
        let counts = |e: Effect, r: &diff::Row| e == r.effect || e == Effect::Widened && r.effect == Effect::Changed;
        let hit = |r: &diff::Row| self.effect.is_none_or(|e| counts(e, r)) && r.risk >= self.least;
        machines.iter().any(|m| m.rows.iter().any(hit))
    }
}

pub(super) struct Diff<'a> {
    pub(super) old: &'a str,
    pub(super) new: Option<&'a str>,
    pub(super) git: Option<&'a Path>,
    pub(super) format: Format,
    pub(super) fail_on: Option<FailOn>,
}

/// Compares, prints, and says whether `--fail-on` is met.
pub(super) fn compare(d: &Diff<'_>) -> Outcome {
    if d.old.is_empty() || d.new == Some("") {
        return Err(Stop::usage("an empty name is compared with nothing: is a variable unset?"));
    }
    let Some(machines) = compared(d)? else { return Ok(2) };
    let folder = d.git.map(|f| f.to_string_lossy());
    let mut words = vec!["diff"];
    words.extend(folder.iter().flat_map(|f| ["--git", f]));
    words.extend([Some(d.old), d.new].into_iter().flatten());
    let command = output::command(words);
    match d.format {
        Format::Human => front::print(&output::text(&machines))?,
        Format::Json => print_json(&json!({ "version": 1, "machines": machines }))?,
        Format::Sarif => print_json(&output::sarif(&output::findings(&machines)))?,
        Format::Markdown => front::print(&output::markdown(&machines, &command))?,
    }
    if machines.iter().any(|m| m.undecided.is_some()) {
        return Ok(3);
    }
    Ok(u8::from(d.fail_on.is_some_and(|f| f.is_met(&machines))))
}

/// A page in HTML: of a machine, or of a change when a second side is named.
pub(super) fn page(d: &Diff<'_>, machine: Option<&str>) -> Outcome {
    if d.new.is_none() && d.git.is_none() {
        let l = front::load(Path::new(d.old))?;
        if l.report() {
            return Ok(2);
        }
        let policy = l.machine(machine)?;
        let mut d = Diagnostics::default();
        let _ = crate::compile::portable(policy, Arch::NATIVE, &mut d);
        let said = d.render(&l.sources, false);
        if !said.is_empty() {
            front::say(&said);
        }
        // What isn't compiled or proved isn't shown as what a machine may do. A claim that fails changes nothing of it.
        if d.has_errors() && !d.only("E07") {
            return Ok(d.exit_code());
        }
        front::print(&report::machine(policy, &l.sources))?;
        return Ok(0);
    }
    let Some(mut machines) = compared(d)? else { return Ok(2) };
    if let Some(name) = machine {
        machines.retain(|m| m.name == name);
        if machines.is_empty() {
            return Err(Stop::usage(format!("no machine `{}` on either side", name.escape_debug())));
        }
    }
    front::print(&report::change(&machines))?;
    Ok(if machines.iter().any(|m| m.undecided.is_some()) { 3 } else { 0 })
}

/// The differences of two sides; `None` when a policy has errors, which were printed.
fn compared(d: &Diff<'_>) -> Result<Option<Vec<Machine>>, Stop> {
    let (mut kept, mut prefixes) = (Vec::new(), Vec::new());
    // As `policies`, however it is written: `./policies/` as well.
    let folder: Option<PathBuf> = d.git.map(|f| {
        let plain: PathBuf = f.components().filter(|c| *c != Component::CurDir).collect();
        if plain.as_os_str().is_empty() { PathBuf::from(".") } else { plain }
    });
    let (old, new) = match (&folder, d.new) {
        (None, None) => return Err(Stop::usage("name two files or folders, or revisions with `--git FOLDER`")),
        (None, Some(new)) => (PathBuf::from(d.old), PathBuf::from(new)),
        (Some(folder), new) => {
            let repository = Folder::new(folder)?;
            let mut side = |revision: &str| -> Result<PathBuf, Stop> {
                let c = repository.checkout(revision)?;
                let path = c.0.clone();
                prefixes.push((format!("{}/", path.display()), revision.to_owned()));
                kept.push(c);
                Ok(path)
            };
            let head = |r: &str| if r.is_empty() { "HEAD".to_owned() } else { r.to_owned() };
            // As git reads them: A...B is from where the two parted.
            if let (true, Some(third)) = (d.old.contains(".."), new) {
                return Err(Stop::usage(format!("`{}` are two revisions: `{third}` is one too many", d.old)));
            }
            let (a, b) = match (d.old.split_once("..."), d.old.split_once("..")) {
                (Some((a, b)), _) => {
                    let (a, b) = (head(a), head(b));
                    (repository.merge_base(&a, &b)?, Some(b))
                }
                (None, Some((a, b))) => (head(a), Some(head(b))),
                (None, None) => (d.old.to_owned(), new.map(str::to_owned)),
            };
            let (a, b) = (a.as_str(), b.as_deref());
            let old = side(a)?;
            // Without a second revision: the folder as it lies there.
            let new = match b {
                Some(b) => side(b)?,
                None if folder.is_dir() => folder.to_owned(),
                // All of its policies are gone, and git keeps no empty folder.
                None => {
                    let c = revision::empty()?;
                    let path = c.0.clone();
                    prefixes.push((format!("{}/", path.display()), "the work tree".to_owned()));
                    kept.push(c);
                    path
                }
            };
            (old, new)
        }
    };
    // A line of a revision is cited as the same line of the folder: what reads the result finds the file by it.
    let shown = folder.filter(|f| f != Path::new(".")).map_or(String::new(), |f| format!("{}/", display_name(&f)));
    let mut machines = Vec::new();
    let named = |stop: Stop| {
        let folder = shown.trim_end_matches('/');
        let plain = |text: String, (p, r): &(String, String)| {
            text.replace(p.trim_end_matches('/'), &format!("{folder} in `{r}`"))
        };
        Stop { text: prefixes.iter().fold(stop.text, plain), ..stop }
    };
    for (a, b) in pairs(&old, &new).map_err(named)? {
        let side = |path: Option<PathBuf>| -> Result<Option<Loaded>, Stop> {
            let Some(mut l) = path.map(|p| load(&p)).transpose()? else { return Ok(None) };
            for (prefix, revision) in &prefixes {
                if l.sources.rename(prefix, &shown) && l.diagnostics.has_errors() {
                    front::say(&format!("in `{revision}`:"));
                }
            }
            Ok(Some(l))
        };
        let (Some(before), Some(after)) = (side(a)?, side(b)?) else { return Ok(None) };
        if before.report() | after.report() {
            return Ok(None);
        }
        after.say_refused(&after.resolved.machines);
        let [x, y] = [&before, &after].map(|l| diff::Side { machines: &l.resolved.machines, sources: &l.sources });
        machines.extend(diff::compare(&x, &y, Arch::NATIVE));
    }
    Ok(Some(machines))
}

fn load(path: &Path) -> Result<Loaded, Stop> {
    if path.as_os_str() != EMPTY {
        // What has ended by now was granted then: `check` says so, a comparison compares.
        return front::load_on(path, "1970-01-01");
    }
    let (mut sources, mut diagnostics) = (Sources::default(), Diagnostics::default());
    let id = loader::from_text("none", b"policy 1\nkernel 6.18\n", &mut sources, &mut diagnostics)
        .ok_or_else(|| Stop::host("too many files"))?;
    let resolved = resolve::resolve(id, &mut sources, &mut diagnostics, &front::today());
    Ok(Loaded { sources, diagnostics, resolved })
}

/// Diagnostics as findings of SARIF.
fn found(d: &Diagnostics, sources: &Sources) -> Vec<Finding> {
    let file = |span: Span| sources.get(span.file).map_or("", |f| f.name.as_str());
    d.shown()
        .map(|x| {
            // Readers of SARIF look for the file in the repository: what the library says is found where it is used.
            let written = x.labels.iter().map(|l| l.span).find(|s| sources.is_written(*s));
            let span = written.or(x.labels.first().map(|l| l.span));
            Finding {
                rule: x.code.to_owned(),
                level: if x.severity == Severity::Error { "error" } else { "warning" },
                message: x.help.as_ref().map_or(x.message.clone(), |h| format!("{} ({h})", x.message)),
                place: span.map(|s| sources.cite(s)),
                identity: {
                    let (file, text) = span.map_or(("", ""), |s| (file(s), sources.text(s)));
                    // A file that can't be shown has its place in the message.
                    let message = x.message.split(", at line ").next().unwrap_or_default();
                    format!("{file} {} {message} {text}", x.code)
                },
            }
        })
        .collect()
}

/// Findings of one file in the form that was asked for.
pub(super) fn print_found(
    files: &[(String, Vec<Finding>, serde_json::Value)],
    format: Format,
    command: &str,
) -> Outcome {
    match format {
        Format::Sarif => print_json(&output::sarif(&files.iter().flat_map(|(_, f, _)| f.clone()).collect::<Vec<_>>()))?,
        Format::Json => {
            let list: Vec<_> = files.iter().map(|(n, _, v)| json!({ "file": n, "diagnostics": v })).collect();
            print_json(&json!({ "version": 1, "files": list }))?;
        }
        Format::Markdown => {
            let mut out = output::Comment::new("Policy findings");
            // Where a comment ends, what stops a policy was said.
            let mut all: Vec<&Finding> = files.iter().flat_map(|(_, f, _)| f).collect();
            all.sort_by_key(|f| (f.level != "error", f.rule != "W0801"));
            let errors = all.iter().filter(|f| f.level == "error").count();
            let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
            if all.is_empty() {
                out.push("None.\n");
            } else {
                let (errors, warnings) = (count(errors, "error"), count(all.len() - errors, "warning"));
                out.push(&format!("{errors}, {warnings}.\n\n| | code | finding | line |\n|---|---|---|---|\n"));
            }
            for f in all {
                let place = f.place.as_ref().map(|p| output::cell(p)).unwrap_or_default();
                out.push(&format!("| {} | {} | {} | {place} |\n", f.level, f.rule, output::cell(&f.message)));
            }
            front::print(&out.end(command))?;
        }
        Format::Human => {}
    }
    Ok(0)
}

pub(super) fn check_found(l: &Loaded) -> Vec<Finding> {
    found(&l.diagnostics, &l.sources)
}

pub(super) fn lint(paths: &[PathBuf], format: Format) -> Outcome {
    let mut code = 0;
    let mut files = Vec::new();
    let all = policies_of(paths)?;
    // What one policy doesn't need another that imports the same file may.
    let mut needed = HashSet::new();
    for file in all.iter().filter(|_| all.len() > 1) {
        let l = front::load(file)?;
        needed.extend(lint::needed(&l.resolved.machines, &l.sources));
    }
    for file in all {
        let mut l = front::load(&file)?;
        if l.diagnostics.has_errors() {
            code = 2;
        } else {
            let mut d = Diagnostics::default();
            lint::check(&l.resolved.machines, &l.sources, &needed, &mut d);
            // Said once already, in the words of `check`.
            let spans: Vec<_> = d.iter().filter_map(|x| x.labels.first().map(|s| s.span)).collect();
            l.diagnostics
                .retain_warnings(|x| !(x.code == "W0701" && x.labels.first().is_some_and(|s| spans.contains(&s.span))));
            l.diagnostics.extend(d);
            if l.diagnostics.iter().next().is_some() {
                code = code.max(1);
            }
        }
        if format == Format::Human {
            l.report();
            let verdict = match l.diagnostics.count() {
                0 => "no findings".to_owned(),
                n => format!("{n} findings"),
            };
            front::print(&format!("{}: {verdict}\n", display_name(&file)))?;
        }
        files.push((display_name(&file), found(&l.diagnostics, &l.sources), l.diagnostics.to_json(&l.sources)));
    }
    print_found(&files, format, &reproduced(&["lint"], paths))?;
    Ok(code)
}

/// Reads `MACHINE can CLAIM`, or `can CLAIM` for every machine, or just a claim.
fn claims(text: &str, sources: &mut Sources) -> Result<(Option<String>, Vec<Claim>), Stop> {
    let named = text.split_once(" can ").filter(|(m, _)| crate::policy::valid_name(m.trim()));
    let (machine, claim) = match named {
        Some((m, c)) => (Some(m.trim().to_owned()), c),
        None => (None, text.strip_prefix("can ").unwrap_or(text)),
    };
    let mut d = Diagnostics::default();
    let claims = asserts::question(claim.trim(), sources, &mut d);
    if d.has_errors() || claims.is_empty() {
        write!(std::io::stderr(), "{}", d.render(sources, front::colour())).unwrap_or(());
        return Err(Stop::usage("the question isn't one; as in \"nginx can socket(family == AF_ALG)\""));
    }
    Ok((machine, claims))
}

/// Answers for one machine, or for all of several files.
pub(super) fn ask(question: &str, paths: &[PathBuf], all: bool, format: Format) -> Outcome {
    let mut answers = Vec::new();
    for file in policies_of(paths)? {
        let mut l = front::load(&file)?;
        if l.diagnostics.has_errors() {
            l.report();
            return Ok(2);
        }
        let (machine, claims) = claims(question, &mut l.sources)?;
        let wanted: Vec<_> = if all {
            l.resolved.machines.iter().filter(|m| machine.as_ref().is_none_or(|n| *n == m.name)).collect()
        } else {
            // "Who can ..." of the only machine, unless that is its name.
            let machine = machine.filter(|m| m != "who" || l.resolved.machines.iter().any(|o| o.name == *m));
            vec![l.machine(machine.as_deref())?]
        };
        l.say_refused(wanted.iter().copied());
        for m in wanted {
            answers.extend(claims.iter().map(|c| query::ask(m, &l.sources, c, Arch::NATIVE)));
        }
    }
    if all {
        answers.retain(|a| a.verdict != Verdict::No);
    }
    match format {
        Format::Json => print_json(&json!({ "version": 1, "question": question, "answers": answers }))?,
        Format::Sarif => {
            let list: Vec<Finding> = answers
                .iter()
                .map(|a| Finding {
                    rule: "query".into(),
                    level: "note",
                    message: format!("{}: {}: {}", a.machine, format!("{:?}", a.verdict).to_lowercase(), a.reason),
                    place: Some(
                        a.lines.iter().map(|(p, _)| p).find(|p| output::is_written(p)).unwrap_or(&a.place).clone(),
                    ),
                    identity: format!("{question} {} {}", output::file_of(&a.place), a.machine),
                })
                .collect();
            print_json(&output::sarif(&list))?;
        }
        Format::Markdown => {
            let verb = if all { "who" } else { "query" };
            front::print(&answered(question, &answers, &reproduced(&[verb, question], paths)))?;
        }
        Format::Human => {
            let mut out = String::new();
            for a in &answers {
                let verdict = format!("{:?}", a.verdict).to_lowercase();
                out.push_str(&format!("{}: {verdict} ({}): {}\n", a.machine, a.basis, a.reason));
                for (place, text) in &a.lines {
                    out.push_str(&format!("  {place}  {text}\n"));
                }
                out.extend(a.witness.iter().map(|w| format!("  shown by {w}\n")));
            }
            if answers.is_empty() {
                out.push_str("nobody\n");
            }
            front::print(&out)?;
        }
    }
    // Of several answers one yes is one: what was asked is whether it can.
    let any = |v| answers.iter().any(|a| a.verdict == v);
    Ok(match () {
        () if any(Verdict::Yes) => 0,
        () if any(Verdict::Unknown) => 3,
        () => 1,
    })
}

/// The answers for a pull request.
fn answered(question: &str, answers: &[query::Answer], command: &str) -> String {
    let mut out = output::Comment::new("Policy question");
    out.push(&format!("{}\n\n", output::code(question)));
    if answers.is_empty() {
        out.push("Nobody.\n");
    } else {
        out.push("| machine | answer | basis | because |\n|---|---|---|---|\n");
    }
    let mut details = String::new();
    for a in answers {
        let verdict = format!("{:?}", a.verdict).to_lowercase();
        let (machine, reason) = (output::cell(&a.machine), output::cell(&a.reason));
        out.push(&format!("| {machine} | {verdict} | {} | {reason} |\n", a.basis));
        for (place, text) in &a.lines {
            details.push_str(&format!("- {} {}\n", output::code(place), output::code(text)));
        }
        details.extend(a.witness.iter().map(|w| format!("- shown by {}\n", output::code(w))));
    }
    out.fold("Lines", &details);
    out.end(command)
}

/// A kernel release that can be a baseline, for the command line.
pub(super) fn release(text: &str) -> Result<(u16, u16), String> {
    let parsed = text.split_once('.').and_then(|(a, b)| Some((a.parse::<u16>().ok()?, b.parse::<u16>().ok()?)));
    match parsed {
        None => Err("it is no kernel release, as in 6.18".into()),
        Some(r) if r > TABLE => Err(format!("the table of system calls ends at Linux {}.{}", TABLE.0, TABLE.1)),
        Some(r) if r < OLDEST => Err(format!("the oldest baseline is {}.{}", OLDEST.0, OLDEST.1)),
        Some(r) => Ok(r),
    }
}

/// The command that makes a result again.
pub(super) fn reproduced(words: &[&str], paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|p| p.to_string_lossy()).collect();
    output::command(words.iter().copied().chain(paths.iter().map(AsRef::as_ref)))
}

/// What raising the baseline to a release adds.
pub(super) fn kernel(to: (u16, u16), paths: &[PathBuf], format: Format) -> Outcome {
    let (mut results, mut found) = (Vec::new(), Vec::new());
    let mut out = String::new();
    for file in policies_of(paths)? {
        let l = front::load(&file)?;
        if l.report() {
            return Ok(2);
        }
        // The same file, under the baseline that is asked about.
        let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
        let id = loader::read(&file, &mut sources, &mut d).map_err(|e| Stop::usage(e.to_string()))?;
        let raised = resolve::resolve_under(id, &mut sources, &mut d, &front::today(), Some(to));
        for m in &l.resolved.machines {
            let Some(r) = raised.machines.iter().find(|r| r.name == m.name) else { continue };
            let list = query::raise(m, r, &sources, Arch::NATIVE);
            out.push_str(&format!(
                "{}: kernel {}.{} -> {}.{} adds {} calls\n",
                m.name,
                m.kernel.0,
                m.kernel.1,
                to.0,
                to.1,
                list.len()
            ));
            for n in &list {
                found.push(Finding {
                    rule: "kernel/added".into(),
                    level: if n.risk >= Risk::High { "warning" } else { "note" },
                    message: format!("{}: {} of Linux {} ({}): {}", m.name, n.call, n.since, n.risk.word(), n.becomes),
                    place: Some(
                        n.line.clone().filter(|p| output::is_written(p)).unwrap_or_else(|| l.sources.cite(m.span)),
                    ),
                    identity: format!("{} {} {} {}", display_name(&file), m.name, n.call, n.becomes),
                });
                let line = n.line.as_ref().map(|l| format!("  {l}")).unwrap_or_default();
                out.push_str(&format!(
                    "  {:<8} {:<24} {:<5} {}{line}\n",
                    n.risk.word().to_uppercase(),
                    n.call,
                    n.since,
                    n.becomes
                ));
            }
            results.push(json!({ "machine": m.name, "from": format!("{}.{}", m.kernel.0, m.kernel.1), "to": format!("{}.{}", to.0, to.1), "calls": list }));
        }
    }
    match format {
        Format::Human => front::print(&out)?,
        Format::Json => print_json(&json!({ "version": 1, "machines": results }))?,
        Format::Sarif | Format::Markdown => {
            let command = reproduced(&["kernel", &format!("{}.{}", to.0, to.1)], paths);
            print_found(&[(String::new(), found, json!([]))], format, &command)?;
        }
    }
    Ok(0)
}
