//! What a change of a policy does, by meaning: calls proved, the other domains fact by fact.

use super::behind;
use super::checks;
use super::facts;
use super::folders;
use super::lines::{Explained, Lines, through};
use super::risk::{self, Grade, Risk};
use crate::kernel::calls::{self, Call};
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::meaning::Vector;
use crate::policy::resolve::Grants;
use crate::policy::syscalls::{Action, Rule};
use crate::proof::diagram::{FALSE, Node, Store};
use crate::proof::grants::{self, Domain, Fact, What};
use crate::proof::order::{self, Effect};
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
    /// The grant in the words of the language. Of several calls of one line the gravest come first.
    pub text: String,
    /// Calls of the same line that the text only counts: none of them is above low.
    pub others: Vec<String>,
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
    /// What held before.
    pub was: String,
    /// What holds now.
    pub now: String,
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
    /// Where it is declared, `file:line`: on the new side when it is there.
    pub place: String,
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
    let lines = [old, new].map(Lines::read);
    let find = |list: &'_ [Policy], name: &str| list.iter().position(|m| m.name == name);
    names
        .into_iter()
        .filter_map(|name| {
            let before = find(old.machines, name).and_then(|i| old.machines.get(i));
            let after = find(new.machines, name).and_then(|i| new.machines.get(i));
            machine(name, [(old, before), (new, after)], &lines, arch)
        })
        .collect()
}

/// One machine before and after. `None` on one side: all that the other grants is the change.
fn machine(
    name: &str,
    sides: [(&Side<'_>, Option<&Policy>); 2],
    [old_lines, new_lines]: &[Lines; 2],
    arch: Arch,
) -> Option<Machine> {
    let [(old_side, old), (new_side, new)] = sides;
    let any = new.or(old)?;
    let nothing = |p: &Policy| Policy { syscalls: Vec::new(), grants: Grants::default(), ..p.clone() };
    let [old_sources, new_sources] = [old_side.sources, new_side.sources];
    let (before, after) =
        (old.map_or_else(|| nothing(any), Clone::clone), new.map_or_else(|| nothing(any), Clone::clone));
    let mut found = Vec::new();
    let mut explained = Explained::default();
    let mut undecided = Vec::new();
    for call in calls::CALLS.iter().filter(|c| arch.number(c.name).is_some()) {
        let sides = [(&before, old_sources), (&after, new_sources)];
        // What can't be decided of one call says nothing of the next.
        let (mut s, known) = (Store::default(), found.len());
        changed(&mut s, call, sides, arch, &mut found, &mut explained);
        if s.exceeded() {
            found.truncate(known);
            undecided.push(call.name);
        }
    }
    let mut rows = merged(found);
    let equal = rows.is_empty() && undecided.is_empty();
    let facts = |p: &Policy, there: bool| if there { grants::of_machine(p) } else { Vec::new() };
    rows.extend(other_domains(
        (&before, &facts(&before, old.is_some()), old_sources),
        (&after, &facts(&after, new.is_some()), new_sources),
        &mut explained,
    ));
    let state = match (old, new) {
        (Some(a), Some(b)) => {
            rows.extend(checks::claims(a, old_sources, b, new_sources, arch));
            rows.extend(checks::ends((a, old_sources), (b, new_sources), &mut explained, &mut undecided));
            rows.extend(checks::optional_rules((a, old_sources), (b, new_sources), &mut explained));
            rows.iter().for_each(|r| explained.by(r.gone, &r.line));
            "both"
        }
        (None, _) => "added",
        _ => "removed",
    };
    if state != "both" {
        // What a new machine is denied is no grant.
        match state {
            "added" => rows.iter_mut().filter(|r| r.effect == Effect::Changed).for_each(|r| r.effect = Effect::Widened),
            _ => rows.iter_mut().for_each(|r| r.effect = Effect::Narrowed),
        }
        rows.dedup_by(|b, a| (a.domain, &a.text, &a.line, a.effect) == (b.domain, &b.text, &b.line, b.effect));
    }
    rows.sort_by(|a, b| (a.effect, b.risk, &a.line, &a.text).cmp(&(b.effect, a.risk, &b.line, &b.text)));
    let lines_without_effect =
        if state == "both" { explained.rest([(old_lines, &before), (new_lines, &after)]) } else { 0 };
    undecided.sort_unstable();
    undecided.dedup();
    let undecided = (!undecided.is_empty()).then(|| {
        format!("the conditions on arguments of {} need more than the budget of the proof", undecided.join(", "))
    });
    let lines_without_effect = if undecided.is_some() { 0 } else { lines_without_effect };
    let place = match new {
        Some(p) => new_sources.cite(p.span),
        None => old_sources.cite(any.span),
    };
    Some(Machine {
        name: name.to_owned(),
        place,
        state,
        rows,
        lines_without_effect,
        calls_proved_equal: equal,
        undecided,
    })
}

/// A difference on one call, before those of one line are put together.
pub(super) struct Found {
    pub(super) effect: Effect,
    pub(super) text: String,
    pub(super) was: String,
    pub(super) now: String,
    pub(super) span: Span,
    pub(super) gone: bool,
    pub(super) why: Option<String>,
    pub(super) line: String,
    pub(super) via: Vec<String>,
    pub(super) witness: String,
    pub(super) grade: Grade,
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
    // A rule that both sides have explains nothing, and neither does one that the baseline brings.
    let has = |which: usize, r: &Rule| {
        rules.get(which).is_some_and(|l| l.iter().any(|o| o.action == r.action && o.conditions == r.conditions))
    };
    let [old, new] = sides;
    let from = |which| if which == 0 { (old, new) } else { (new, old) };
    let behind = |which: usize, r: &Rule| {
        let (of, other) = from(which);
        !has(1 - which, r) && !behind::by_baseline(of, r, other)
    };
    for (which, list) in rules.iter().enumerate() {
        for r in list.iter().filter(|r| behind(which, r)) {
            [r.span].iter().chain(&r.group).for_each(|l| explained.at(which == 0, from(which).0, *l));
        }
    }
    // Where it runs before or after.
    let either = {
        let lets = |n| u32::from(bpf::decode(n) <= Action::Log);
        s.combine(before, after, &|a, b| lets(a) | lets(b))
    };
    for effect in [Effect::Widened, Effect::Changed, Effect::Narrowed] {
        let mut rest =
            s.combine(before, after, &|a, b| u32::from(effect_of(bpf::decode(a), bpf::decode(b)) == Some(effect)));
        // The cause is a rule that is there now; or one that was there; or the baseline.
        for (which, node) in [(1, after), (0, before)] {
            let (of, other) = from(which);
            for r in rules.get(which).into_iter().flatten() {
                if rest == FALSE {
                    break;
                }
                let when = intent::holds(s, &r.conditions);
                let acts = s.combine(node, node, &|a, _| u32::from(bpf::decode(a) == r.action));
                let own = s.and(when, acts);
                let caused = s.and(rest, own);
                if caused == FALSE || !behind(which, r) {
                    continue;
                }
                rest = s.choose(caused, FALSE, rest);
                let v = shown(s, caused, call, arch);
                let runs = s.and(caused, either);
                let grade = if runs == FALSE { risk::REFUSED } else { risk::call(s, of.0, call, runs) };
                let line = behind::cause(of, r, other);
                let mut found = Found {
                    effect,
                    text: format!("{} {r}", r.action.word()),
                    was: answer(s, before, &v),
                    now: answer(s, after, &v),
                    span: r.span,
                    gone: which == 0,
                    why: r.meta.why.clone(),
                    line: of.1.cite(line),
                    via: behind::way(of, (r.span, &r.group), line),
                    witness: witness(call.name, &v),
                    grade,
                };
                // The line stands as it stood: the other side takes it away.
                if let Some(t) = behind::taker(other, of, of.1.text(r.span), Some(call)) {
                    [t.span].iter().chain(t.group).for_each(|l| explained.at(which == 1, other, *l));
                    let verb = behind::verb(other.1.text(t.span));
                    out.push(Found {
                        text: format!("{verb} {r}"),
                        span: t.span,
                        gone: which == 1,
                        why: t.why,
                        line: other.1.cite(t.shown),
                        via: behind::way(other, (t.span, t.group), t.shown),
                        ..found
                    });
                    continue;
                }
                // What was stricter was taken away first.
                let stricter = rules.first().into_iter().flatten().filter(|o| which == 1 && o.action > r.action);
                let lifted = stricter.into_iter().find_map(|o| {
                    let when = intent::holds(s, &o.conditions);
                    let met = s.and(when, caused) != FALSE;
                    behind::taker(new, old, old.1.text(o.span), Some(call)).filter(|_| met)
                });
                if let Some(t) = lifted {
                    [t.span].iter().chain(t.group).for_each(|l| explained.at(false, new, *l));
                    found.via.push(new.1.cite(t.shown));
                    found.why = found.why.or(t.why);
                }
                out.push(found);
            }
        }
        if rest != FALSE {
            let v = shown(s, rest, call, arch);
            let runs = s.and(rest, either);
            let [(a, _), (b, sources)] = sides;
            let grade = if runs == FALSE { risk::REFUSED } else { risk::call(s, b, call, runs) };
            let baseline = a.kernel != b.kernel;
            explained.baseline |= baseline;
            let line = if baseline { b.baseline } else { b.span };
            out.push(Found {
                effect,
                text: format!("{} {}", answer(s, after, &v), call.name),
                was: answer(s, before, &v),
                now: answer(s, after, &v),
                span: line,
                gone: false,
                why: baseline.then(|| format!("kernel {}.{} -> {}.{}", a.kernel.0, a.kernel.1, b.kernel.0, b.kernel.1)),
                line: sources.cite(line),
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
pub(super) fn effect_of(before: Action, after: Action) -> Option<Effect> {
    match (before, after) {
        (a, b) if a == b => None,
        (Action::Errno(_), Action::Errno(_)) => Some(Effect::Changed),
        (a, b) if b < a => Some(Effect::Widened),
        _ => Some(Effect::Narrowed),
    }
}

/// The calls that one line brings are one row.
pub(super) fn merged(found: Vec<Found>) -> Vec<Row> {
    let mut rows: Vec<(Vec<Found>, Row)> = Vec::new();
    for f in found {
        let grade = f.grade;
        let place = rows.iter_mut().find(|(l, r)| {
            l.first().is_some_and(|o| {
                (o.effect, o.span, o.gone, &o.was, &o.now, &o.why) == (f.effect, f.span, f.gone, &f.was, &f.now, &f.why)
                    && outcome(&o.text).0 == outcome(&f.text).0
            }) && r.line == f.line
        });
        match place {
            Some((list, row)) => {
                if grade.risk > row.risk {
                    (row.risk, row.consequence, row.reference) = (grade.risk, grade.consequence, grade.reference);
                    row.witness = Some(f.witness.clone());
                    (row.via, row.why) = (f.via.clone(), f.why.clone());
                }
                list.push(f);
            }
            None => {
                let row = row_of(&f, grade);
                rows.push((vec![f], row));
            }
        }
    }
    rows.into_iter().map(|(list, row)| named(list, row)).collect()
}

/// Most calls of low risk that a row names; whoever wants all has them in [`Row::others`].
const MOST_LOW: usize = 4;

/// Puts the calls of a row into its text, every one of them that is above low.
fn named(mut list: Vec<Found>, mut row: Row) -> Row {
    list.sort_by_key(|f| std::cmp::Reverse(f.grade.risk));
    let verb = outcome(&row.text).0.to_owned();
    let mut names: Vec<String> = list.iter().map(|o| outcome(&o.text).1.to_owned()).collect();
    let grave = list.iter().filter(|f| f.grade.risk > Risk::Low).count();
    row.others = names.split_off(names.len().min(grave.max(MOST_LOW)));
    let more = if row.others.is_empty() { String::new() } else { format!(", ... ({} rules)", list.len()) };
    row.text = format!("{verb} {}{more}", names.join(", "));
    row
}

/// What becomes of a call, and the call: `allow getpid`, `errno EPERM getpid`.
fn outcome(text: &str) -> (&str, &str) {
    let after = if text.starts_with("errno ") { "errno ".len() } else { 0 };
    let end = text.get(after..).and_then(|rest| rest.find(' ')).map_or(text.len(), |n| after + n);
    (text.get(..end).unwrap_or(text), text.get(end + 1..).unwrap_or_default())
}

fn row_of(f: &Found, grade: Grade) -> Row {
    Row {
        effect: f.effect,
        domain: Domain::Syscalls,
        risk: grade.risk,
        text: f.text.clone(),
        others: Vec::new(),
        consequence: grade.consequence,
        reference: grade.reference,
        line: f.line.clone(),
        gone: f.gone,
        why: f.why.clone(),
        was: f.was.clone(),
        now: f.now.clone(),
        witness: Some(f.witness.clone()),
        via: f.via.clone(),
    }
}

type View<'a> = (&'a Policy, &'a [Fact], &'a Sources);

fn other_domains<'a>(old: View<'a>, new: View<'a>, explained: &mut Explained) -> Vec<Row> {
    let differences = order::compare(old.1, new.1);
    for d in &differences {
        d.old.iter().for_each(|f| explained.at(true, (old.0, old.2), f.span));
        d.new.iter().for_each(|f| explained.at(false, (new.0, new.2), f.span));
    }
    // What a new line covers was replaced by it, and the other way round.
    let covers = |by: &Fact, f: &&Fact| f.domain == by.domain && order::covered(f, std::slice::from_ref(by));
    for d in &differences {
        if let Some(n) = d.new {
            old.1.iter().filter(|f| covers(n, f)).for_each(|f| explained.at(true, (old.0, old.2), f.span));
        }
        if let Some(o) = d.old {
            new.1.iter().filter(|f| covers(o, f)).for_each(|f| explained.at(false, (new.0, new.2), f.span));
        }
    }
    let sides = [(old.0, old.2), (new.0, new.2)];
    // The line stands as it stood, and the other side takes it away.
    let [before, now] = sides;
    let takes = |d: &order::Difference<'_>| match (d.old, d.new) {
        (Some(o), None) => Some((behind::taker(now, before, old.2.text(o.span), None)?, false, now)),
        (None, Some(n)) => Some((behind::taker(before, now, new.2.text(n.span), None)?, true, before)),
        _ => None,
    };
    for (t, was, by) in differences.iter().filter_map(takes) {
        explained.at(was, by, t.span);
    }
    let row = |d: &order::Difference<'_>| {
        let (fact, gone): (&Fact, bool) = match (d.new, d.old) {
            // What is gone is shown as it was, unless a new value stands in its place.
            (Some(n), _) => (n, false),
            (None, Some(o)) => (o, true),
            (None, None) => return None,
        };
        // Of a whole machine that comes or goes, only what is written or grants something is a change.
        let alone = d.old.is_none() || d.new.is_none();
        let (policy, _, sources) = if gone { old } else { new };
        if alone
            && fact.span == policy.span
            && matches!(fact.what, What::Rank(_) | What::Bits(_) | What::Other(_) | What::Inherited)
        {
            return None;
        }
        if alone && matches!(fact.what, What::Rank(0)) {
            return None;
        }
        let hides = matches!(fact.what, What::Hidden(_));
        let dated = |f: &Fact| match (d.new, d.old) {
            (Some(n), Some(o)) if n.until != o.until => match &f.until {
                Some(day) => format!("{} until {day}", f.text),
                None => format!("{} without an end", f.text),
            },
            _ => f.text.clone(),
        };
        // A limit that only one side writes.
        let unlimited = alone && fact.domain == Domain::Limits;
        let unbounded = gone && fact.domain == Domain::Limits && d.effect == Effect::Widened;
        let grade = if unbounded { facts::UNBOUNDED } else { facts::fact(fact, policy) };
        let (grade, effect) = match (&fact.what, gone) {
            (What::Mount(_, flags), true) => {
                let seen = folders::uncovered(new.0, &fact.key, [flags[0], flags[1]], (grade, d.effect));
                // The mount around it may let more.
                match order::shown_at(new.1, &fact.key).map(|o| (o, &o.what)) {
                    Some((o, What::Mount(_, has))) if has.iter().zip(flags).any(|(has, had)| *has && !had) => {
                        let around = facts::fact(o, new.0);
                        (if around.risk > seen.0.risk { around } else { seen.0 }, Effect::Widened)
                    }
                    _ => seen,
                }
            }
            (What::Hidden(_), true) => {
                let (seen, _) = folders::uncovered(new.0, &fact.key, [false; 2], (grade, d.effect));
                (if seen.risk > grade.risk { seen } else { grade }, d.effect)
            }
            _ => (grade, d.effect),
        };
        let inherited = d.old.is_some_and(|o| o.what == What::Inherited) && d.effect != Effect::Narrowed;
        let grade = if inherited && grade.risk < Risk::Medium { facts::BEYOND } else { grade };
        let (was, now) = match (hides, gone) {
            (false, true) => ("granted", "not granted"),
            (false, false) => ("not granted", "granted"),
            (true, true) => ("hidden", "seen"),
            (true, false) => ("seen", "hidden"),
        };
        if let Some((t, gone, by)) = takes(d) {
            let verb = behind::verb(by.1.text(t.span));
            return Some(Row {
                effect,
                domain: fact.domain,
                risk: grade.risk,
                text: format!("{verb} {}", dated(fact)),
                others: Vec::new(),
                consequence: grade.consequence,
                reference: grade.reference,
                line: by.1.cite(t.span),
                gone,
                why: t.why,
                was: was.into(),
                now: now.into(),
                witness: None,
                via: through(by, t.span),
            });
        }
        // Where nothing is written any more, or wasn't before, what was written or is now is the line.
        let ruled = |(p, facts, _): View<'a>| facts.iter().find(|f| f.domain == Domain::Files && f.span != p.span);
        let implied = |p: &Policy| fact.domain == Domain::Files && fact.span == p.span;
        let unsaid = match d.old.filter(|o| !gone && fact.span == new.0.span && o.span != old.0.span) {
            None if !gone && implied(new.0) => ruled(old),
            other => other,
        };
        let said = if gone && implied(old.0) { ruled(new) } else { None };
        let (cause, (policy, sources)) = match (unsaid, said) {
            (Some(o), _) => (o, sides[0]),
            (None, Some(n)) => (n, sides[1]),
            (None, None) => (fact, (policy, sources)),
        };
        Some(Row {
            effect,
            domain: fact.domain,
            risk: grade.risk,
            text: dated(fact),
            consequence: grade.consequence,
            reference: grade.reference,
            line: sources.cite(cause.span),
            gone: gone && said.is_none() || unsaid.is_some(),
            why: fact.why.clone(),
            was: match (hides, d.old) {
                (_, None) if unlimited => "no bound".into(),
                (_, Some(o)) if unlimited => dated(o),
                (_, Some(o)) if !gone => dated(o),
                _ => was.into(),
            },
            now: match (hides, d.new) {
                (_, None) if unlimited => "no bound".into(),
                (_, Some(n)) if unlimited => dated(n),
                (_, Some(n)) if d.old.is_some() => dated(n),
                _ => now.into(),
            },
            witness: None,
            others: Vec::new(),
            via: through((policy, sources), fact.span),
        })
    };
    // Of several facts of one line, which read alike, the gravest is told.
    let mut rows: Vec<Row> = Vec::new();
    for r in differences.iter().filter_map(row) {
        let alike = |o: &&mut Row| {
            let narrowed = |e| e == Effect::Narrowed;
            (o.domain, &o.line, o.gone, &o.text) == (r.domain, &r.line, r.gone, &r.text)
                && narrowed(o.effect) == narrowed(r.effect)
        };
        match rows.iter_mut().find(alike) {
            Some(o) if (o.risk, r.effect) < (r.risk, o.effect) => *o = Row { effect: o.effect.min(r.effect), ..r },
            Some(o) => o.effect = o.effect.min(r.effect),
            None => rows.push(r),
        }
    }
    rows
}
