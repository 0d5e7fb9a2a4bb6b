//! What a change of a policy does, by meaning: calls proved, the other domains fact by fact.

use super::behind::{self, Cause, View};
use super::checks;
use super::facts;
use super::folders;
use super::lines::{Explained, Lines};
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
use crate::source::Sources;
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
    /// Ranked: the gravest of what is widened or changed first, what is narrowed last.
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
    let touched = [old_lines.touched(&before, (new_lines, &after)), new_lines.touched(&after, (old_lines, &before))];
    let [a, b] = touched;
    let views = [View::new((&before, old_sources), true, a), View::new((&after, new_sources), false, b)];
    for call in calls::CALLS.iter().filter(|c| arch.number(c.name).is_some()) {
        // What can't be decided of one call says nothing of the next.
        let (mut s, known) = (Store::default(), found.len());
        changed(&mut s, call, &views, arch, &mut found, &mut explained);
        if s.exceeded() {
            found.truncate(known);
            undecided.push(call.name);
        }
    }
    let mut rows = merged(found);
    let equal = rows.is_empty() && undecided.is_empty();
    let facts = |p: &Policy, there: bool| if there { grants::of_machine(p) } else { Vec::new() };
    rows.extend(other_domains(
        (&views[0], &facts(&before, old.is_some())),
        (&views[1], &facts(&after, new.is_some())),
        &mut explained,
    ));
    let state = match (old, new) {
        (Some(a), Some(b)) => {
            rows.extend(checks::claims(&views, arch, &mut explained));
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
    let less = |r: &Row| r.effect == Effect::Narrowed;
    rows.sort_by(|a, b| {
        (less(a), b.risk, a.effect, &a.line, &a.text).cmp(&(less(b), a.risk, b.effect, &b.line, &b.text))
    });
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
    pub(super) witness: String,
    pub(super) grade: Grade,
    pub(super) cause: Cause,
}

/// What changed on one call, by the rules that cause it.
fn changed(
    s: &mut Store,
    call: &'static Call,
    views: &[View<'_>; 2],
    arch: Arch,
    out: &mut Vec<Found>,
    explained: &mut Explained,
) {
    let rules = [0, 1].map(|i: usize| {
        let all = views.get(i).into_iter().flat_map(|v| &v.policy.syscalls);
        all.filter(|r| std::ptr::eq(r.call, call)).collect::<Vec<&Rule>>()
    });
    let [before, after] = [0, 1].map(|i: usize| {
        let own = rules.get(i).map_or(&[][..], Vec::as_slice);
        let reviewed = views.get(i).is_some_and(|v| call.since <= v.policy.kernel);
        intent::of_call(s, own, reviewed)
    });
    if before == after {
        return;
    }
    // A rule that both sides have explains nothing.
    let has = |which: usize, r: &Rule| {
        rules.get(which).is_some_and(|l| l.iter().any(|o| o.action == r.action && o.conditions == r.conditions))
    };
    let [old, new] = views;
    let from = |which| if which == 0 { (old, new) } else { (new, old) };
    for (which, list) in rules.iter().enumerate() {
        list.iter().filter(|r| !has(1 - which, r)).for_each(|r| from(which).0.explain(explained, r.span, &r.group));
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
            for r in rules.get(which).into_iter().flatten().filter(|r| !has(1 - which, r)) {
                if rest == FALSE {
                    break;
                }
                let when = intent::holds(s, &r.conditions);
                let acts = s.combine(node, node, &|a, _| u32::from(bpf::decode(a) == r.action));
                let own = s.and(when, acts);
                let caused = s.and(rest, own);
                if caused == FALSE {
                    continue;
                }
                let Some(mut cause) = behind::of_rule(of, r, other, explained) else { continue };
                rest = s.choose(caused, FALSE, rest);
                let v = shown(s, caused, call, arch);
                let runs = s.and(caused, either);
                let grade = if runs == FALSE { risk::REFUSED } else { risk::call(s, of.policy, call, runs) };
                // What was stricter was taken away first.
                let stricter = rules.first().into_iter().flatten().filter(|o| which == 1 && o.action > r.action);
                for o in stricter.filter(|_| cause.verb.is_none()) {
                    let when = intent::holds(s, &o.conditions);
                    if s.and(when, caused) == FALSE {
                        continue;
                    }
                    if let Some(lifts) = behind::taker(new, old, |t| behind::takes_rule(t, o), explained) {
                        cause.via.push(lifts.line);
                        cause.why = cause.why.or(lifts.why);
                    }
                }
                let verb = cause.verb.map_or_else(|| r.action.word(), str::to_owned);
                out.push(Found {
                    effect,
                    text: format!("{verb} {r}"),
                    was: answer(s, before, &v),
                    now: answer(s, after, &v),
                    witness: witness(call.name, &v),
                    grade,
                    cause,
                });
            }
        }
        if rest != FALSE {
            let v = shown(s, rest, call, arch);
            let runs = s.and(rest, either);
            let (a, b) = (old.policy, new.policy);
            let grade = if runs == FALSE { risk::REFUSED } else { risk::call(s, b, call, runs) };
            let baseline = a.kernel != b.kernel;
            explained.baseline |= baseline;
            let line = if baseline { b.baseline } else { b.span };
            out.push(Found {
                effect,
                text: format!("{} {}", answer(s, after, &v), call.name),
                was: answer(s, before, &v),
                now: answer(s, after, &v),
                witness: witness(call.name, &v),
                grade,
                cause: Cause {
                    gone: false,
                    span: line,
                    line: new.sources.cite(line),
                    via: Vec::new(),
                    why: baseline
                        .then(|| format!("kernel {}.{} -> {}.{}", a.kernel.0, a.kernel.1, b.kernel.0, b.kernel.1)),
                    verb: None,
                },
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
        let place = rows.iter_mut().find(|(l, _)| {
            l.first().is_some_and(|o| {
                let (a, b) = (&o.cause, &f.cause);
                (o.effect, &o.was, &o.now) == (f.effect, &f.was, &f.now)
                    && (a.span, a.gone, &a.line, &a.why) == (b.span, b.gone, &b.line, &b.why)
                    && outcome(&o.text).0 == outcome(&f.text).0
            })
        });
        match place {
            Some((list, row)) => {
                if grade.risk > row.risk {
                    (row.risk, row.consequence, row.reference) = (grade.risk, grade.consequence, grade.reference);
                    row.witness = Some(f.witness.clone());
                    row.via.clone_from(&f.cause.via);
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
        line: f.cause.line.clone(),
        gone: f.cause.gone,
        why: f.cause.why.clone(),
        was: f.was.clone(),
        now: f.now.clone(),
        witness: Some(f.witness.clone()),
        via: f.cause.via.clone(),
    }
}

/// A machine's facts.
type Facts<'a> = (&'a View<'a>, &'a [Fact]);

fn other_domains(old: Facts<'_>, new: Facts<'_>, explained: &mut Explained) -> Vec<Row> {
    let differences = order::compare(old.1, new.1);
    for d in &differences {
        d.old.iter().for_each(|f| old.0.explain(explained, f.span, &[]));
        d.new.iter().for_each(|f| new.0.explain(explained, f.span, &[]));
        if d.old.or(d.new).is_some_and(|f| f.domain == Domain::Capabilities) {
            for view in [old.0, new.0] {
                view.policy.grants.capabilities_none.iter().for_each(|l| view.explain(explained, *l, &[]));
            }
        }
    }
    // What a new line covers was replaced by it, and the other way round.
    let covers = |by: &Fact, f: &&Fact| f.domain == by.domain && order::covered(f, std::slice::from_ref(by));
    for d in &differences {
        if let Some(n) = d.new {
            old.1.iter().filter(|f| covers(n, f)).for_each(|f| old.0.explain(explained, f.span, &[]));
        }
        if let Some(o) = d.old {
            new.1.iter().filter(|f| covers(o, f)).for_each(|f| new.0.explain(explained, f.span, &[]));
        }
    }
    // A line that takes away what stands on both sides, or took it; a new value in its place says it by itself.
    let mut takes = |d: &order::Difference<'_>| {
        let now = d.old.and_then(|o| behind::taker(new.0, old.0, |t| behind::takes_fact(t, o), explained));
        let before = d.new.and_then(|n| behind::taker(old.0, new.0, |t| behind::takes_fact(t, n), explained));
        now.or(before).filter(|_| !d.new.is_some_and(|n| d.old.is_some() && new.0.is_touched(n.span)))
    };
    let takers: Vec<Option<Cause>> = differences.iter().map(&mut takes).collect();
    let row = |(d, taker): (&order::Difference<'_>, Option<Cause>)| {
        let (fact, gone): (&Fact, bool) = match (d.new, d.old) {
            // What is gone is shown as it was, unless a new value stands in its place.
            (Some(n), _) => (n, false),
            (None, Some(o)) => (o, true),
            (None, None) => return None,
        };
        // Of a whole machine that comes or goes, only what is written or grants something is a change.
        let alone = d.old.is_none() || d.new.is_none();
        let view = if gone { old.0 } else { new.0 };
        let policy = view.policy;
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
                let seen = folders::uncovered(new.0.policy, &fact.key, [flags[0], flags[1]], (grade, d.effect));
                // The mount around it may let more.
                match order::shown_at(new.1, &fact.key).map(|o| (o, &o.what)) {
                    Some((o, What::Mount(_, has))) if has.iter().zip(flags).any(|(has, had)| *has && !had) => {
                        let around = facts::fact(o, new.0.policy);
                        (if around.risk > seen.0.risk { around } else { seen.0 }, Effect::Widened)
                    }
                    _ => seen,
                }
            }
            (What::Hidden(_), true) => {
                let (seen, _) = folders::uncovered(new.0.policy, &fact.key, [false; 2], (grade, d.effect));
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
        let was: String = match (hides, d.old) {
            (_, None) if unlimited => "no bound".into(),
            (_, Some(o)) if unlimited || !gone => dated(o),
            _ => was.into(),
        };
        let now: String = match (hides, d.new) {
            (_, None) if unlimited => "no bound".into(),
            (_, Some(n)) if unlimited || d.old.is_some() => dated(n),
            _ => now.into(),
        };
        // What the line took that is gone, or takes that is new.
        let taken = taker.as_ref().and_then(|t| if t.gone { d.new } else { d.old }).unwrap_or(fact);
        let (text, cause) = match taker {
            Some(t) => (format!("{} {}", t.verb.unwrap_or("remove"), dated(taken)), t),
            None => (dated(fact), behind::of_fact(old, new, d)?),
        };
        Some(Row {
            effect,
            domain: fact.domain,
            risk: grade.risk,
            text,
            consequence: grade.consequence,
            reference: grade.reference,
            line: cause.line,
            gone: cause.gone,
            why: cause.why,
            was,
            now,
            witness: None,
            others: Vec::new(),
            via: cause.via,
        })
    };
    // Of several facts of one line, which read alike, the gravest is told.
    let mut rows: Vec<Row> = Vec::new();
    for r in differences.iter().zip(takers).filter_map(row) {
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
