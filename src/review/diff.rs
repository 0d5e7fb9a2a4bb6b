//! What a change of a policy does, by meaning: calls proved, the other domains fact by fact.

use super::lines::Explained;
use super::risk::{self, Grade, Risk};
use crate::kernel::calls::{self, Call};
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::files;
use crate::policy::meaning::Vector;
use crate::policy::resolve::{Ceiling, Grants};
use crate::policy::syscalls::{Action, Rule};
use crate::proof::diagram::{FALSE, Node, Store};
use crate::proof::grants::{self, Domain, Effect, Fact, What};
use crate::proof::{bpf, intent, witness};
use crate::source::{Sources, Span};
use serde::Serialize;

/// One difference, as a reviewer reads it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What it does.
    pub effect: Effect,
    /// Its domain.
    pub domain: Domain,
    /// Of what is granted, or was.
    pub risk: Risk,
    /// The grant in the words of the language.
    pub text: String,
    /// What follows.
    pub consequence: &'static str,
    /// Where that is described.
    pub reference: &'static str,
    /// The line that causes it, `file:line`.
    pub line: String,
    /// The line is one of the old policy: what is gone.
    pub gone: bool,
    /// The author's reason.
    pub why: Option<String>,
    /// What held before, or holds now for what is gone.
    pub was: String,
    /// A call that shows it.
    pub witness: Option<String>,
    /// Through which profiles or groups the line came, nearest first.
    pub via: Vec<String>,
}

/// One machine's differences.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// `both`, `added` or `removed`.
    pub state: &'static str,
    /// Ranked: the gravest widening first.
    pub rows: Vec<Row>,
    /// Lines that were written differently and change nothing.
    pub lines_without_effect: usize,
    /// Calls are proved to be treated alike.
    pub calls_proved_equal: bool,
    /// Why something couldn't be decided.
    pub undecided: Option<String>,
}

impl Machine {
    /// Differences of one effect.
    pub fn count(&self, effect: Effect) -> usize {
        self.rows.iter().filter(|r| r.effect == effect).count()
    }

    /// The gravest of what is widened or changed.
    pub fn gravest(&self) -> Option<Risk> {
        self.rows.iter().filter(|r| r.effect != Effect::Narrowed).map(|r| r.risk).max()
    }
}

/// A resolved file and its text.
pub struct Side<'a> {
    /// Its machines.
    pub machines: &'a [Policy],
    /// Where their lines are.
    pub sources: &'a Sources,
}

/// Compares two sides machine by machine.
pub fn compare(old: &Side<'_>, new: &Side<'_>, arch: Arch) -> Vec<Machine> {
    let mut names: Vec<&str> = old.machines.iter().chain(new.machines).map(|m| m.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let find = |list: &'_ [Policy], name: &str| list.iter().position(|m| m.name == name);
    names
        .into_iter()
        .filter_map(|name| {
            let before = find(old.machines, name).and_then(|i| old.machines.get(i));
            let after = find(new.machines, name).and_then(|i| new.machines.get(i));
            machine(name, [(old, before), (new, after)], arch)
        })
        .collect()
}

/// One machine before and after. `None` on one side: all that the other grants is the change.
fn machine(name: &str, sides: [(&Side<'_>, Option<&Policy>); 2], arch: Arch) -> Option<Machine> {
    let [(old_side, old), (new_side, new)] = sides;
    let any = new.or(old)?;
    let nothing = |p: &Policy| Policy { syscalls: Vec::new(), grants: Grants::default(), ..p.clone() };
    let [old_sources, new_sources] = [old_side.sources, new_side.sources];
    let (before, after) =
        (old.map_or_else(|| nothing(any), Clone::clone), new.map_or_else(|| nothing(any), Clone::clone));
    let mut found = Vec::new();
    let mut explained = Explained::default();
    let mut s = Store::default();
    for call in calls::CALLS.iter().filter(|c| arch.number(c.name).is_some()) {
        let sides = [(&before, old_sources), (&after, new_sources)];
        changed(&mut s, call, sides, arch, &mut found, &mut explained);
    }
    let undecided = s.exceeded().then(|| "the conditions on arguments need more than the budget of the proof".into());
    let mut rows = merged(found);
    let equal = rows.is_empty() && undecided.is_none();
    let facts = |p: &Policy, there: bool| if there { grants::facts(&p.grants, p.span) } else { Vec::new() };
    rows.extend(other_domains(
        (&before, &facts(&before, old.is_some()), old_sources),
        (&after, &facts(&after, new.is_some()), new_sources),
        &mut explained,
    ));
    let state = match (old, new) {
        (Some(a), Some(b)) => {
            rows.extend(claims(a, old_sources, b, new_sources, arch));
            rows.extend(optional_rules((a, old_sources), (b, new_sources), &mut explained));
            rows.iter().for_each(|r| explained.by(r.gone, &r.line));
            "both"
        }
        (None, _) => "added",
        _ => "removed",
    };
    if state != "both" {
        let all = if state == "added" { Effect::Widened } else { Effect::Narrowed };
        rows.iter_mut().for_each(|r| r.effect = all);
    }
    rows.sort_by(|a, b| (a.effect, b.risk, &a.line, &a.text).cmp(&(b.effect, a.risk, &b.line, &b.text)));
    let lines_without_effect =
        if state == "both" { explained.rest([(old_side, &before), (new_side, &after)]) } else { 0 };
    Some(Machine { name: name.to_owned(), state, rows, lines_without_effect, calls_proved_equal: equal, undecided })
}

/// A difference on one call, before those of one line are put together.
struct Found {
    effect: Effect,
    text: String,
    was: String,
    span: Span,
    gone: bool,
    why: Option<String>,
    line: String,
    via: Vec<String>,
    witness: String,
    grade: Grade,
}

/// What changed on one call, by the rules that cause it.
fn changed(
    s: &mut Store,
    call: &'static Call,
    sides: [(&Policy, &Sources); 2],
    arch: Arch,
    out: &mut Vec<Found>,
    explained: &mut Explained,
) {
    let rules = sides.map(|(p, _)| p.syscalls.iter().filter(|r| std::ptr::eq(r.call, call)).collect::<Vec<&Rule>>());
    let [before, after] = [0, 1].map(|i: usize| {
        let own = rules.get(i).map_or(&[][..], Vec::as_slice);
        let reviewed = sides.get(i).is_some_and(|(p, _)| call.since <= p.kernel);
        intent::of_call(s, own, reviewed)
    });
    if before == after {
        return;
    }
    // A rule that both sides have explains nothing.
    let has = |which: usize, r: &Rule| {
        rules.get(which).is_some_and(|l| l.iter().any(|o| o.action == r.action && o.conditions == r.conditions))
    };
    for (which, ((_, sources), list)) in sides.iter().zip(&rules).enumerate() {
        for r in list.iter().filter(|r| !has(1 - which, r)) {
            explained.at(which == 0, sources, r.span);
            r.group.iter().for_each(|g| explained.at(which == 0, sources, *g));
        }
    }
    for effect in [Effect::Widened, Effect::Changed, Effect::Narrowed] {
        let mut rest =
            s.combine(before, after, &|a, b| u32::from(effect_of(bpf::decode(a), bpf::decode(b)) == Some(effect)));
        // The cause is a rule that is there now; or one that was there; or the baseline.
        for (which, node) in [(1, after), (0, before)] {
            let Some(((policy, sources), list)) = sides.get(which).zip(rules.get(which)) else { continue };
            for r in list {
                if rest == FALSE {
                    break;
                }
                let when = intent::holds(s, &r.conditions);
                let acts = s.combine(node, node, &|a, _| u32::from(bpf::decode(a) == r.action));
                let own = s.and(when, acts);
                let caused = s.and(rest, own);
                if caused == FALSE || has(1 - which, r) {
                    continue;
                }
                rest = s.choose(caused, FALSE, rest);
                let v = shown(s, caused, call, arch);
                let grade = risk::call(s, call, caused);
                let mut via = policy.grants.chain(r.span).to_vec();
                via.extend(r.group.map(|g| sources.cite(g)));
                out.push(Found {
                    effect,
                    text: format!("{} {r}", r.action.word()),
                    was: answer(s, if which == 1 { before } else { after }, &v),
                    span: r.span,
                    gone: which == 0,
                    why: r.meta.why.clone(),
                    line: sources.cite(r.span),
                    via,
                    witness: witness(call.name, &v),
                    grade,
                });
            }
        }
        if rest != FALSE {
            let v = shown(s, rest, call, arch);
            let grade = risk::call(s, call, rest);
            let [(a, _), (b, sources)] = sides;
            let baseline = a.kernel != b.kernel;
            explained.baseline |= baseline;
            out.push(Found {
                effect,
                text: format!("{} {}", answer(s, after, &v), call.name),
                was: answer(s, before, &v),
                span: b.span,
                gone: false,
                why: baseline.then(|| format!("kernel {}.{} -> {}.{}", a.kernel.0, a.kernel.1, b.kernel.0, b.kernel.1)),
                line: sources.cite(b.span),
                via: Vec::new(),
                witness: witness(call.name, &v),
                grade,
            });
        }
    }
}

/// What a diagram says of a call, as the language writes it.
fn answer(s: &Store, n: Node, v: &Vector) -> String {
    bpf::decode(s.evaluate(n, v)).word()
}

fn shown(s: &Store, condition: Node, call: &Call, arch: Arch) -> Vector {
    let found = s.difference(condition, FALSE).unwrap_or(Vector { arch: 0, nr: 0, args: [0; 6], ip: 0 });
    Vector { arch: arch.audit(), nr: arch.number(call.name).unwrap_or(0), ..found }
}

/// What a change of one answer does; refusals with another errno are neither more nor less.
fn effect_of(before: Action, after: Action) -> Option<Effect> {
    match (before, after) {
        (a, b) if a == b => None,
        (Action::Errno(_), Action::Errno(_)) => Some(Effect::Changed),
        (a, b) if b < a => Some(Effect::Widened),
        _ => Some(Effect::Narrowed),
    }
}

/// The calls that one line brings are one row.
fn merged(found: Vec<Found>) -> Vec<Row> {
    let mut rows: Vec<(Vec<Found>, Row)> = Vec::new();
    for f in found {
        let grade = f.grade;
        let place = rows.iter_mut().find(|(l, r)| {
            l.first().is_some_and(|o| {
                (o.effect, o.span, o.gone, &o.was) == (f.effect, f.span, f.gone, &f.was)
                    && o.text.split(' ').next() == f.text.split(' ').next()
            }) && r.line == f.line
        });
        match place {
            Some((list, row)) => {
                if grade.risk > row.risk {
                    (row.risk, row.consequence, row.reference) = (grade.risk, grade.consequence, grade.reference);
                    row.witness = Some(f.witness.clone());
                    // The gravest is named first.
                    list.insert(0, f);
                } else {
                    list.push(f);
                }
                let verb =
                    list.first().and_then(|o| o.text.split_once(' ').map(|(v, _)| v.to_owned())).unwrap_or_default();
                let names: Vec<&str> = list.iter().map(|o| o.text.split_once(' ').map_or("", |(_, t)| t)).collect();
                let shown = names.iter().take(4).copied().collect::<Vec<_>>().join(", ");
                let more = if names.len() > 4 { format!(", ... ({} rules)", names.len()) } else { String::new() };
                row.text = format!("{verb} {shown}{more}");
            }
            None => {
                let row = row_of(&f, grade);
                rows.push((vec![f], row));
            }
        }
    }
    rows.into_iter().map(|(_, r)| r).collect()
}

fn row_of(f: &Found, grade: Grade) -> Row {
    Row {
        effect: f.effect,
        domain: Domain::Syscalls,
        risk: grade.risk,
        text: f.text.clone(),
        consequence: grade.consequence,
        reference: grade.reference,
        line: f.line.clone(),
        gone: f.gone,
        why: f.why.clone(),
        was: f.was.clone(),
        witness: Some(f.witness.clone()),
        via: f.via.clone(),
    }
}

type View<'a> = (&'a Policy, &'a [Fact], &'a Sources);

fn other_domains(old: View<'_>, new: View<'_>, explained: &mut Explained) -> Vec<Row> {
    let differences = grants::compare(old.1, new.1);
    for d in &differences {
        d.old.iter().for_each(|f| explained.at(true, old.2, f.span));
        d.new.iter().for_each(|f| explained.at(false, new.2, f.span));
    }
    let row = |d: &grants::Difference<'_>| {
        let (fact, gone): (&Fact, bool) = match (d.new, d.old) {
            // What is gone is shown as it was, unless a new value stands in its place.
            (Some(n), _) => (n, false),
            (None, Some(o)) => (o, true),
            (None, None) => return None,
        };
        // Of a whole machine that comes or goes, only what is written or grants something is a change.
        let alone = d.old.is_none() || d.new.is_none();
        let (policy, _, sources) = if gone { old } else { new };
        if alone && fact.span == policy.span && matches!(fact.what, What::Rank(_) | What::Other(_)) {
            return None;
        }
        if alone && matches!(fact.what, What::Rank(0)) {
            return None;
        }
        let unbounded = gone && fact.domain == Domain::Limits && d.effect == Effect::Widened;
        let grade = if unbounded { risk::UNBOUNDED } else { risk::fact(fact, policy) };
        Some(Row {
            effect: d.effect,
            domain: fact.domain,
            risk: grade.risk,
            text: fact.text.clone(),
            consequence: grade.consequence,
            reference: grade.reference,
            line: sources.cite(fact.span),
            gone,
            why: fact.why.clone(),
            was: match (gone, d.old) {
                (false, Some(o)) => o.text.clone(),
                (true, _) => "granted".into(),
                _ => "not granted".into(),
            },
            witness: None,
            via: policy.grants.chain(fact.span).to_vec(),
        })
    };
    differences.iter().filter_map(row).collect()
}

/// Assertions, tests and ceilings that are gone or were loosened, waivers that are new: nothing is granted by
/// that, and less is held.
fn claims(old: &Policy, old_sources: &Sources, new: &Policy, new_sources: &Sources, arch: Arch) -> Vec<Row> {
    let mut out: Vec<Row> = Vec::new();
    let mut push = |text: String, span: Span, gone: bool, risk: Risk, was: &str, why: Option<String>| {
        let line = if gone { old_sources } else { new_sources }.cite(span);
        if out.iter().any(|r| r.text == text && r.line == line) {
            return;
        }
        out.push(Row {
            effect: Effect::Changed,
            domain: Domain::Process,
            risk,
            text,
            consequence: "what was held by a check is held by nobody",
            reference: "stockade check",
            line,
            gone,
            why,
            was: was.into(),
            witness: None,
            via: Vec::new(),
        });
    };
    let text = |span: Span| old_sources.text(span).split_whitespace().collect::<Vec<_>>().join(" ");
    for a in &old.assertions {
        // By what is claimed, parameters filled in, and not by the text.
        let same = |b: &crate::policy::asserts::Assertion| {
            b.never == a.never && format!("{:?}", b.claim) == format!("{:?}", a.claim)
        };
        if !new.assertions.iter().any(same) {
            push(format!("assert {}", text(a.span)), a.span, true, Risk::Low, "held", None);
        }
    }
    for c in old.tests.iter().flat_map(|t| &t.checks) {
        let same = |b: &crate::policy::asserts::Check| {
            (b.call.name, b.registers, b.expect) == (c.call.name, c.registers, c.expect)
        };
        if !new.tests.iter().flat_map(|t| &t.checks).any(same) {
            push(format!("test {}", text(c.span)), c.span, true, Risk::Low, "tested", None);
        }
    }
    for c in &old.within {
        let name = &c.name.value;
        match new.within.iter().find(|n| n.name.value == *name) {
            None => push(format!("within {name}"), c.name.span, true, Risk::High, "held", None),
            Some(n) if is_raised(c, n, (old.kernel, new.kernel), arch) => {
                push(format!("the ceiling {name} grants more"), n.declared, false, Risk::High, "a lower ceiling", None)
            }
            Some(_) => {}
        }
    }
    for w in &new.grants.waivers {
        if !old.grants.waivers.iter().any(|o| o.code == w.code) {
            push(format!("waive {}", w.code), w.span, false, Risk::Low, "a finding of lint", Some(w.why.clone()));
        }
    }
    out
}

/// File rules that may be dropped now, or mayn't any more: nothing is granted by that, and other hosts start it.
fn optional_rules(
    (old, old_sources): (&Policy, &Sources),
    (new, sources): (&Policy, &Sources),
    explained: &mut Explained,
) -> Vec<Row> {
    let row = |r: &files::Rule| Row {
        effect: Effect::Changed,
        domain: Domain::Files,
        risk: Risk::Low,
        text: format!("{r}"),
        consequence: if r.optional {
            "it starts without the rule where the path isn't there or the kernel doesn't know the right"
        } else {
            "it doesn't start where the path isn't there or the kernel doesn't know the right"
        },
        reference: "landlock(7)",
        line: sources.cite(r.span),
        gone: false,
        why: r.meta.why.clone(),
        was: if r.optional { "the same, not optional".into() } else { "the same, optional".into() },
        witness: None,
        via: new.grants.chain(r.span).to_vec(),
    };
    let mut out = Vec::new();
    for r in &new.files {
        let other = |o: &&files::Rule| (o.right, &o.path, o.optional) == (r.right, &r.path, !r.optional);
        if let Some(o) = old.files.iter().find(other) {
            explained.at(true, old_sources, o.span);
            out.push(row(r));
        }
    }
    out
}

/// Does a ceiling let through what it didn't?
fn is_raised(old: &Ceiling, new: &Ceiling, kernels: ((u16, u16), (u16, u16)), arch: Arch) -> bool {
    let (a, b) = (grants::facts(&old.grants, old.declared), grants::facts(&new.grants, new.declared));
    let facts = grants::compare(&a, &b).iter().any(|d| d.effect != Effect::Narrowed);
    let mut s = Store::default();
    let before = intent::of_rules(&mut s, &old.grants.syscalls, kernels.0, arch);
    let after = intent::of_rules(&mut s, &new.grants.syscalls, kernels.1, arch);
    let wider =
        s.combine(before, after, &|a, b| u32::from(effect_of(bpf::decode(a), bpf::decode(b)) == Some(Effect::Widened)));
    facts || wider != FALSE || s.exceeded()
}
