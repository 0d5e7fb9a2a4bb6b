//! What a reviewer would ask about: grave grants without a reason, lines that do nothing. What does nothing
//! is decided exactly for calls, by what the policy would be without the line.

use super::facts;
use super::risk::{self, Risk};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::kernel::constants;
use crate::kernel::numbers::Arch;
use crate::policy::syscalls::{Action, ENOSYS, EPERM, Rule};
use crate::policy::{Policy, words};
use crate::proof::diagram::{FALSE, Node, Store};
use crate::proof::grants::{self, Domain, Fact, What};
use crate::proof::{intent, order};
use crate::source::{Sources, Span};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Where a line stands, whichever policy imports it: its file, and its first byte.
pub type Place = (String, u32);

fn place(line: Span, sources: &Sources) -> Place {
    (sources.get(line.file).map(|f| f.name.clone()).unwrap_or_default(), line.start)
}

/// The lines of imported files that aren't in vain for some machine of a file, or that one of them takes away.
pub fn needed(machines: &[Policy], sources: &Sources) -> HashSet<Place> {
    let mut out = HashSet::new();
    for m in machines {
        let imported = |line: &Span| line.file != m.span.file && sources.is_written(*line);
        let g = &m.grants;
        let calls = m.syscalls.iter().map(|r| r.span).chain(g.files.iter().map(|r| r.span));
        let lines: BTreeSet<Span> = calls.chain(g.ports.iter().map(|p| p.span)).filter(imported).collect();
        out.extend(g.taken.iter().flat_map(|t| &t.lines).filter(|l| imported(l)).map(|l| place(*l, sources)));
        if !lines.is_empty() {
            let found = of_machine(m, sources, &mut Diagnostics::default()).all;
            let vain = |line: &Span| found.iter().any(|f| IN_VAIN.contains(&f.code) && span_of(f) == Some(*line));
            out.extend(lines.into_iter().filter(|l| !vain(l)).map(|l| place(l, sources)));
        }
    }
    out
}

/// The findings that say of a line that it can be deleted.
const IN_VAIN: [&str; 2] = ["W0802", "W0803"];

fn span_of(d: &Diagnostic) -> Option<Span> {
    d.labels.first().map(|l| l.span)
}

/// Findings on the machines of a file: warnings, which the machines' waivers take away. A line that several machines
/// inherit is in vain only when it is for each of them, and none takes it away; `needed` are those of other files.
pub fn check(machines: &[Policy], sources: &Sources, needed: &HashSet<Place>, d: &mut Diagnostics) {
    let lists: Vec<(Findings, &Policy)> = machines.iter().map(|m| (of_machine(m, sources, d), m)).collect();
    let mut said = HashSet::new();
    for list in lists.iter().map(|(f, _)| &f.left) {
        for f in list {
            let line = span_of(f);
            let has = |m: &Policy| {
                m.grants.taken.iter().any(|t| t.lines.iter().any(|l| Some(*l) == line))
                    || m.syscalls.iter().any(|r| Some(r.span) == span_of(f))
                    || m.grants.files.iter().any(|r| Some(r.span) == span_of(f))
                    || m.grants.ports.iter().any(|p| Some(p.span) == span_of(f))
            };
            // A waiver is no agreement: its machine may need the line.
            let everywhere = lists
                .iter()
                .filter(|(_, m)| has(m))
                .all(|(l, _)| l.all.iter().any(|o| (o.code, span_of(o)) == (f.code, span_of(f))));
            let elsewhere = line.is_some_and(|l| IN_VAIN.contains(&f.code) && needed.contains(&place(l, sources)));
            let told = everywhere && !elsewhere || f.code == "W0801";
            if told && said.insert((f.code, line, &f.message)) {
                d.push(f.clone());
            }
        }
    }
}

/// One machine's findings.
struct Findings {
    all: Vec<Diagnostic>,
    /// What its waivers leave.
    left: Vec<Diagnostic>,
}

fn of_machine(policy: &Policy, sources: &Sources, d: &mut Diagnostics) -> Findings {
    let mut found = Vec::new();
    reasons(policy, sources, &mut found);
    calls_in_vain(policy, sources, &mut found);
    facts_in_vain(policy, sources, &mut found);
    bare_numbers(policy, sources, &mut found);
    let mut used = Vec::new();
    let mut left = Vec::new();
    for f in found.iter().cloned() {
        match policy.grants.waivers.iter().position(|w| w.code == f.code) {
            Some(i) => used.push(i),
            None => left.push(f),
        }
    }
    for (i, w) in policy.grants.waivers.iter().enumerate() {
        if !used.contains(&i) && sources.is_written(w.span) {
            let message = format!("nothing here is a finding `{}`: the waiver is stale", w.code);
            d.push(Diagnostic::warning("W0805", w.span, message).help("delete the line"));
        }
    }
    Findings { all: found, left }
}

/// Grave grants whose author gives no reason.
fn reasons(policy: &Policy, sources: &Sources, out: &mut Vec<Diagnostic>) {
    let mut say = |span: Span, what: String, g: risk::Grade| {
        let message = format!("{} without a reason ({}): {}", what, g.risk.word(), g.consequence);
        let help =
            format!("add why \"...\" to the line, or `waive W0801 why \"...\"` to the machine; see {}", g.reference);
        if !out.iter().any(|o: &Diagnostic| o.labels.first().is_some_and(|l| l.span == span)) {
            out.push(Diagnostic::warning("W0801", span, message).help(help));
        }
    };
    let single = |r: &&Rule| r.action <= Action::Log && r.meta.why.is_none() && r.group.is_empty();
    let mut graded: Vec<_> = policy.syscalls.iter().filter(single).map(|r| (risk::rule(policy, r), r)).collect();
    // Of a line with several calls the gravest speaks.
    graded.sort_by_key(|(g, _)| std::cmp::Reverse(g.risk));
    for (g, r) in graded.into_iter().filter(|(g, _)| g.risk >= Risk::High) {
        say(r.span, format!("`allow {r}`"), g);
    }
    // Of a group the gravest call speaks for the line.
    let mut groups: BTreeMap<Span, (risk::Grade, String)> = BTreeMap::new();
    let grouped = |r: &&Rule| !r.group.is_empty() && r.action <= Action::Log && r.meta.why.is_none();
    for r in policy.syscalls.iter().filter(grouped).filter(|r| sources.is_written(r.span)) {
        let g = risk::rule(policy, r);
        if g.risk >= Risk::High && groups.get(&r.span).is_none_or(|(known, _)| g.risk > known.risk) {
            groups.insert(r.span, (g, format!("`{}`, with `{}`,", sources.text(r.span), r.call.name)));
        }
    }
    for (span, (g, what)) in groups {
        say(span, what, g);
    }
    for f in grants::of_machine(policy).iter().filter(|f| f.why.is_none() && f.span != policy.span) {
        let restrictive = matches!(f.what, What::Rank(0) | What::Hidden(_));
        let g = facts::fact(f, policy);
        if g.risk >= Risk::High && !restrictive {
            say(f.span, format!("`{}`", f.text), g);
        }
    }
}

/// Lines of `syscalls` without which every call would be treated the same. Of lines that say the same the
/// last stays; so all that are named can be deleted together.
fn calls_in_vain(policy: &Policy, sources: &Sources, out: &mut Vec<Diagnostic>) {
    let mut by_call: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
    for r in policy.syscalls.iter().filter(|r| Arch::NATIVE.number(r.call.name).is_some()) {
        by_call.entry(r.call.name).or_default().push(r);
    }
    let mut calls: Vec<Lines> = by_call.into_values().map(|rules| Lines::of(policy, &rules)).collect();
    // What the library says stays; of the author's lines those are asked first that stand first.
    let written = |(span, _): &&Line| sources.is_written(*span);
    let lines: BTreeSet<Line> = calls.iter().flat_map(|c| &c.lines).map(|(l, _)| *l).filter(|l| written(&l)).collect();
    let mut vain: BTreeSet<Line> = BTreeSet::new();
    for line in lines {
        // A line is in vain when it is for each call that it names.
        let mut verdict = Verdict { idle: true, shadowed: true };
        for call in &mut calls {
            let Some(v) = call.verdict(line, &vain) else { continue };
            verdict = Verdict { idle: verdict.idle && v.idle, shadowed: verdict.shadowed && v.shadowed };
            if !verdict.idle {
                break;
            }
        }
        let (code, what, help) = match verdict {
            Verdict { idle: false, .. } => continue,
            Verdict { shadowed: true, .. } => (
                "W0803",
                "never takes effect: a stricter line wins everywhere that it speaks of",
                "delete the line, or `override` the stricter one",
            ),
            Verdict { shadowed: false, .. } => {
                ("W0802", "says nothing new: without it every call is treated the same", "delete the line")
            }
        };
        vain.insert(line);
        out.push(Diagnostic::warning(code, line.0, format!("this line {what}")).help(help));
    }
    for call in calls.iter().filter(|c| c.store.exceeded()) {
        if let Some(((span, _), _)) = call.lines.iter().find(|(l, _)| written(&l)) {
            let message = format!(
                "which lines on `{}` say nothing new can't be decided: their conditions need more than the budget of the proof",
                call.name
            );
            out.push(Diagnostic::warning("W0806", *span, message).help("simplify the conditions on arguments"));
        }
    }
}

type Line = (Span, Action);

/// What becomes of a line's call without it.
struct Verdict {
    /// The same.
    idle: bool,
    /// It decides nowhere: a stricter line does.
    shadowed: bool,
}

/// The lines that speak of one call.
struct Lines<'a> {
    name: &'a str,
    /// Its own, so that a call that can't be decided hides nothing of the others.
    store: Store,
    lines: Vec<(Line, Node)>,
    /// The last day of a line.
    ends: HashMap<Span, &'a String>,
    /// What becomes of the call without any line.
    default: Action,
}

impl<'a> Lines<'a> {
    fn of(policy: &Policy, rules: &[&'a Rule]) -> Lines<'a> {
        let mut store = Store::default();
        let mut lines: Vec<(Line, Node)> = Vec::new();
        for r in rules {
            let when = intent::holds(&mut store, &r.conditions);
            match lines.iter_mut().find(|(l, _)| *l == (r.span, r.action)) {
                Some((_, node)) => *node = store.or(*node, when),
                None => lines.push(((r.span, r.action), when)),
            }
        }
        let reviewed = rules.first().is_some_and(|r| r.call.since <= policy.kernel);
        Lines {
            name: rules.first().map_or("", |r| r.call.name),
            store,
            lines,
            ends: rules.iter().filter_map(|r| Some((r.span, &r.meta.until.as_ref()?.value))).collect(),
            default: Action::Errno(if reviewed { EPERM } else { ENOSYS }),
        }
    }

    /// `None` where the line doesn't speak of this call. Lines of the same action count that aren't themselves `vain`.
    fn verdict(&mut self, line: Line, vain: &BTreeSet<Line>) -> Option<Verdict> {
        let own = self.lines.iter().find(|(l, _)| *l == line)?.1;
        let (s, ends) = (&mut self.store, &self.ends);
        // A line that ends says nothing for one that goes on.
        let outlasts = |one: Span| match (ends.get(&one), ends.get(&line.0)) {
            (None, _) => true,
            (Some(a), Some(b)) => a >= b,
            (Some(_), None) => false,
        };
        // Where another line of the same action, or a stricter one, decides anyway; and what is looser.
        let [mut same, mut stricter, mut looser] = [FALSE; 3];
        for ((span, action), when) in self.lines.iter().filter(|(l, _)| *l != line) {
            if *action < line.1 {
                looser = s.or(looser, *when);
            } else if *action > line.1 && outlasts(*span) {
                stricter = s.or(stricter, *when);
            } else if *action == line.1 && outlasts(*span) && !vain.contains(&(*span, *action)) {
                same = s.or(same, *when);
            }
        }
        let acts = s.choose(stricter, FALSE, own);
        let rest = s.choose(same, FALSE, acts);
        // What it takes from a looser line, or from what happens without any, counts as well.
        let idle = rest == FALSE || line.1 == self.default && s.and(rest, looser) == FALSE;
        let decided = !s.exceeded();
        Some(Verdict { idle: idle && decided, shadowed: acts == FALSE && decided })
    }
}

/// File rules and ports that another line of the machine covers. Of lines that say the same the last stays.
fn facts_in_vain(policy: &Policy, sources: &Sources, out: &mut Vec<Diagnostic>) {
    let all = grants::of_machine(policy);
    // A line goes as a whole: one that grants something else as well is needed.
    let looked_at = |f: &Fact| matches!(f.domain, Domain::Files | Domain::Network);
    // Where only one that may be dropped grants as much, a rule says that the path has to be there.
    let demands = |f: &Fact, o: &Fact| {
        let optional = |span: Span| policy.files.iter().any(|r| r.span == span && r.optional);
        f.domain == Domain::Files && optional(o.span) && !optional(f.span)
    };
    // Such a line says whom to ask, and the ports how it is reached; or it is a value.
    let valued = |f: &Fact| matches!(f.what, What::Rank(_) | What::Other(_)) || f.key == "name server";
    let mut lines: BTreeMap<Span, Vec<&Fact>> = BTreeMap::new();
    for f in all.iter().filter(|f| looked_at(f) && sources.is_written(f.span) && f.span != policy.span) {
        lines.entry(f.span).or_default().push(f);
    }
    let mut vain: HashSet<Span> = HashSet::new();
    for (span, own) in lines.iter().filter(|(_, own)| !own.iter().any(|f| valued(f))) {
        let granted = |f: &&Fact| {
            let others = all.iter().filter(|o| o.domain == f.domain && o.span != *span && !vain.contains(&o.span));
            others.into_iter().any(|o| order::covered(f, std::slice::from_ref(o)) && !demands(f, o))
        };
        if let (Some(first), true) = (own.first(), own.iter().all(granted)) {
            let message = format!("`{}` says nothing new: another line grants it", first.text);
            out.push(Diagnostic::warning("W0802", *span, message).help("delete it"));
            vain.insert(*span);
        }
    }
}

/// Numbers where the kernel has a name: nobody sees in a review what 0x10000000 lets through.
fn bare_numbers(policy: &Policy, sources: &Sources, out: &mut Vec<Diagnostic>) {
    for (r, span) in policy.syscalls.iter().map(|r| (r, r.named_at())) {
        if !sources.is_written(span) {
            continue;
        }
        let text = sources.text(span);
        // The number alone, not a part of a word or of a reason.
        let code = text.split('"').next().unwrap_or_default();
        let written: Vec<u64> = code
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter_map(|w| match (w.strip_prefix("0x"), w.strip_prefix("0o")) {
                (Some(hex), _) => u64::from_str_radix(hex, 16).ok(),
                (_, Some(octal)) => u64::from_str_radix(octal, 8).ok(),
                _ => w.parse().ok(),
            })
            .collect();
        for c in &r.conditions {
            let Some(argument) = r.call.args.get(usize::from(c.argument)) else { continue };
            let Some(family) = words::family(r.call.name, argument.name) else { continue };
            for v in c.test.values().into_iter().filter(|v| written.contains(v)) {
                let Some(name) = constants::name_of(family, v) else { continue };
                let message = format!("`{}` of `{}` has a name for {v:#x}: {name}", argument.name, r.call.name);
                if code.contains(name) || out.iter().any(|o| o.message == message) {
                    continue;
                }
                out.push(Diagnostic::warning("W0804", span, message).help(format!("write {name}")));
            }
        }
    }
}
