//! Differences that grant nothing by themselves: what is checked, how long a grant holds, which hosts are accepted.

use super::behind::{Cause, View};
use super::diff::{Found, Row, effect_of, merged};
use super::lines::{Explained, through};
use super::risk::{self, Risk};
use crate::compile::asserts;
use crate::diagnostic::Diagnostics;
use crate::kernel::calls::Call;
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::asserts::{Assertion, Claim};
use crate::policy::files;
use crate::policy::resolve::Ceiling;
use crate::policy::syscalls::{Action, Rule};
use crate::proof::diagram::{FALSE, Node, Store};
use crate::proof::grants::Domain;
use crate::proof::order::{self, Effect};
use crate::proof::{bpf, intent};
use crate::source::{Sources, Span};
use std::collections::BTreeMap;

/// Is what an assertion says still said? By what is claimed, parameters filled in, and not by the text: who says that
/// more never happens says this as well, as long as it holds.
fn is_claimed(old: &Assertion, new: &Policy, arch: Arch) -> bool {
    let same = |a: &Assertion| a.never == old.never && format!("{:?}", a.claim) == format!("{:?}", old.claim);
    if new.assertions.iter().any(same) {
        return true;
    }
    let mut nevers = new.assertions.iter().filter(|a| a.never).map(|a| &a.claim);
    // A path has other names, and names are moved: more than one path above it can say.
    let mut d = Diagnostics::default();
    let mut holds = || asserts::evidence(new, arch, &old.claim, &mut d).is_none() && d.errors() == 0;
    old.never
        && match &old.claim {
            Claim::Syscall(call, conditions) => {
                let mut s = Store::default();
                let mut rest = intent::holds(&mut s, conditions);
                for claim in nevers {
                    if let Claim::Syscall(c, wider) = claim
                        && std::ptr::eq(*c, *call)
                    {
                        let said = intent::holds(&mut s, wider);
                        rest = s.choose(said, FALSE, rest);
                    }
                }
                rest == FALSE && !s.exceeded()
            }
            Claim::File(right, path) => nevers.any(|claim| match claim {
                Claim::File(r, above) => r == right && files::is_below(path, above),
                _ => false,
            }),
            Claim::Port(how, protocol, port, peer) => nevers.any(|claim| match claim {
                Claim::Port(h, q, n, whole) => {
                    let peers = whole.is_none_or(|w| peer.is_some_and(|p| w.contains(p)));
                    h == how && (q.is_none() || q == protocol) && (n.is_none() || n == port) && peers
                }
                _ => false,
            }),
            _ => false,
        }
        && holds()
}

/// Assertions, tests and ceilings that are gone or were loosened, waivers that are new: nothing is granted by
/// that, and less is held.
pub(super) fn claims([before, after]: &[View<'_>; 2], arch: Arch, explained: &mut Explained) -> Vec<Row> {
    let (old, new) = (before.policy, after.policy);
    let mut out: Vec<Row> = Vec::new();
    let mut push = |text: String, span: Span, gone: bool, risk: Risk, [was, now]: [&str; 2], why: Option<String>| {
        let side = if gone { before } else { after };
        let cause = side.cause(side.changed(span), (span, span, &[]), why);
        side.explain(explained, span, &[]);
        let line = cause.line;
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
            why: cause.why,
            was: was.into(),
            now: now.into(),
            witness: None,
            others: Vec::new(),
            via: cause.via,
        });
    };
    let text = |span: Span| before.sources.text(span).split_whitespace().collect::<Vec<_>>().join(" ");
    for a in &old.assertions {
        if !is_claimed(a, new, arch) {
            push(format!("assert {}", text(a.span)), a.span, true, Risk::Low, ["held", "not held"], None);
        }
    }
    for c in old.tests.iter().flat_map(|t| &t.checks) {
        let same = |b: &crate::policy::asserts::Check| {
            (b.call.name, b.registers, b.expect) == (c.call.name, c.registers, c.expect)
        };
        if !new.tests.iter().flat_map(|t| &t.checks).any(same) {
            push(format!("test {}", text(c.span)), c.span, true, Risk::Low, ["tested", "not tested"], None);
        }
    }
    for c in &old.within {
        let name = &c.name.value;
        match new.within.iter().find(|n| n.name.value == *name) {
            None => push(format!("within {name}"), c.name.span, true, Risk::High, ["held", "not held"], None),
            Some(n) if is_raised(c, n, (old.kernel, new.kernel), arch) => {
                // The line in it that came, or the one that went.
                let came = after.first_changed(&n.grants, true).map(|l| (l, false));
                let (line, gone) = came
                    .or_else(|| before.first_changed(&c.grants, false).map(|l| (l, true)))
                    .or_else(|| after.first_changed(&n.grants, false).map(|l| (l, false)))
                    .unwrap_or((n.declared, false));
                let words = ["a lower ceiling", "a higher one"];
                push(format!("the ceiling {name} grants more"), line, gone, Risk::High, words, None)
            }
            Some(_) => {}
        }
    }
    for w in &new.grants.waivers {
        if !old.grants.waivers.iter().any(|o| o.code == w.code) {
            push(
                format!("waive {}", w.code),
                w.span,
                false,
                Risk::Low,
                ["a finding of lint", "waived"],
                Some(w.why.clone()),
            );
        }
    }
    out
}

/// Days on which grants of calls end, the last first; `None` is never. Only days that matter: none where nothing ends.
fn days<'a>(rules: impl Iterator<Item = &'a Rule>) -> Vec<Option<String>> {
    let mut days: Vec<String> = rules.filter_map(|r| r.meta.until.as_ref().map(|u| u.value.clone())).collect();
    days.sort_unstable();
    days.dedup();
    if days.is_empty() { Vec::new() } else { std::iter::once(None).chain(days.into_iter().rev().map(Some)).collect() }
}

/// Does a rule still hold after that day? A denial that ends is still written.
fn lasts(r: &Rule, day: &Option<String>) -> bool {
    let own = r.meta.until.as_ref().map(|u| &u.value);
    r.action > Action::Log || own.is_none() || day.as_ref().is_some_and(|d| own >= Some(d))
}

/// Where a call runs, of what still holds after a day; all of it without one. Up to [`Action::Allow`]: without a word.
fn allowed(s: &mut Store, rules: &[&Rule], since: bool, day: Option<&Option<String>>, most: Action) -> Node {
    let own = rules.iter().copied().filter(|r| day.is_none_or(|d| lasts(r, d)));
    let node = intent::of_call(s, &own.collect::<Vec<_>>(), since);
    s.combine(node, node, &|a, _| u32::from(bpf::decode(a) <= most))
}

/// Calls that run, or run without being logged, until a later day than they did, or only until an earlier one; also
/// where they are fewer today.
pub(super) fn ends(
    (old, old_sources): (&Policy, &Sources),
    (new, sources): (&Policy, &Sources),
    explained: &mut Explained,
    undecided: &mut Vec<&'static str>,
) -> Vec<Row> {
    let mut found: Vec<Found> = Vec::new();
    let mut calls: BTreeMap<&str, (&'static Call, [Vec<&Rule>; 2])> = BTreeMap::new();
    for (side, policy) in [old, new].into_iter().enumerate() {
        for r in &policy.syscalls {
            let (_, lists) = calls.entry(r.call.name).or_insert_with(|| (r.call, [Vec::new(), Vec::new()]));
            lists.get_mut(side).into_iter().for_each(|l| l.push(r));
        }
    }
    let shown = |day: Option<&String>| day.map_or("without an end".to_owned(), |d| format!("until {d}"));
    for (call, [before, after]) in calls.values() {
        let (mut s, mut differs) = (Store::default(), false);
        let ending = days(before.iter().chain(after).copied());
        for (day, most) in ending.iter().flat_map(|d| [(d, Action::Log), (d, Action::Allow)]) {
            let mut both = |day: Option<&Option<String>>, most: Action| {
                let was = allowed(&mut s, before, call.since <= old.kernel, day, most);
                (was, allowed(&mut s, after, call.since <= new.kernel, day, most))
            };
            let (was, is) = both(None, Action::Log);
            let (was_quiet, is_quiet) = both(None, Action::Allow);
            let (lasted, goes_on) = both(Some(day), most);
            // What runs today on both sides, or is logged on both, and later on one of them only, or without a word.
            let mut today = s.and(was, is);
            if most == Action::Allow {
                let quiet = s.or(was_quiet, is_quiet);
                today = s.choose(quiet, FALSE, today);
            }
            for (effect, one, other) in [(Effect::Widened, goes_on, lasted), (Effect::Narrowed, lasted, goes_on)] {
                let only = s.choose(other, FALSE, one);
                let mut rest = s.and(only, today);
                // Where it runs without a word it is a line of `log` that ended.
                let by_its_end = most == Action::Allow;
                let lines =
                    after.iter().filter(|r| r.action == Action::Log || !by_its_end && r.action == Action::Allow);
                for r in lines.filter(|r| (lasts(r, day) == (effect == Effect::Widened)) != by_its_end) {
                    let when = intent::holds(&mut s, &r.conditions);
                    let caused = s.and(when, rest);
                    if caused == FALSE {
                        continue;
                    }
                    rest = s.choose(caused, FALSE, rest);
                    explained.at(false, (new, sources), r.span);
                    differs = true;
                    let (text, grade) = (format!("{} {r}", r.action.word()), risk::call(&mut s, new, call, caused));
                    let same = |f: &&mut Found| f.effect == effect && f.cause.span == r.span && f.text == text;
                    if let Some(f) = found.iter_mut().find(same) {
                        f.grade = if grade.risk > f.grade.risk { grade } else { f.grade };
                        continue;
                    }
                    found.push(Found {
                        effect,
                        text,
                        was: match (effect, by_its_end) {
                            (Effect::Widened, true) => "it was logged later as well".into(),
                            (_, true) => "later it wasn't logged".into(),
                            (Effect::Widened, false) => "it ended sooner".into(),
                            _ => shown(day.as_ref()),
                        },
                        now: shown(r.meta.until.as_ref().map(|u| &u.value)),
                        witness: String::new(),
                        grade,
                        cause: Cause {
                            gone: false,
                            span: r.span,
                            line: sources.cite(r.span),
                            via: through((new, sources), r.span),
                            why: r.meta.why.clone(),
                            verb: None,
                        },
                    });
                }
            }
        }
        if differs {
            before.iter().for_each(|o| explained.at(true, (old, old_sources), o.span));
        }
        undecided.extend(s.exceeded().then_some(call.name));
    }
    let ending = |row: Row| Row { text: format!("{} {}", row.text, row.now), witness: None, ..row };
    merged(found).into_iter().map(ending).collect()
}

/// File rules that may be dropped now, or mayn't any more: nothing is granted by that, and other hosts start it.
pub(super) fn optional_rules(
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
        was: if r.optional { "it had to be there" } else { "it could be missing" }.into(),
        now: if r.optional { "it can be missing" } else { "it has to be there" }.into(),
        witness: None,
        others: Vec::new(),
        via: through((new, sources), r.span),
    };
    let mut out = Vec::new();
    let same = |o: &files::Rule, r: &files::Rule| (o.right, &o.path) == (r.right, &r.path);
    // Of two rules for one path the stricter counts.
    let strict = |p: &Policy, r: &files::Rule| p.files.iter().any(|o| same(o, r) && !o.optional);
    for r in &new.files {
        let Some(o) = old.files.iter().find(|o| same(o, r)) else { continue };
        let now = strict(new, r);
        if now != strict(old, r) && r.optional != now {
            explained.at(true, (old, old_sources), o.span);
            out.push(row(r));
        }
    }
    out
}

/// Does a ceiling let through what it didn't, today or on a later day?
fn is_raised(old: &Ceiling, new: &Ceiling, kernels: ((u16, u16), (u16, u16)), arch: Arch) -> bool {
    let mut s = Store::default();
    let mut wider = |day: Option<&Option<String>>| {
        let own = |c: &Ceiling| -> Vec<Rule> {
            c.grants.syscalls.iter().filter(|r| day.is_none_or(|d| lasts(r, d))).cloned().collect()
        };
        let before = intent::of_rules(&mut s, &own(old), kernels.0, arch);
        let after = intent::of_rules(&mut s, &own(new), kernels.1, arch);
        let wider = |a, b| u32::from(effect_of(bpf::decode(a), bpf::decode(b)) == Some(Effect::Widened));
        s.combine(before, after, &wider) != FALSE || s.exceeded()
    };
    order::is_raised((&old.grants, old.declared), (&new.grants, new.declared))
        || wider(None)
        || days(old.grants.syscalls.iter().chain(&new.grants.syscalls)).iter().any(|d| wider(Some(d)))
}
