//! Differences that grant nothing by themselves: what is checked, how long a grant holds, which hosts are accepted.

use super::diff::{Row, effect_of};
use super::lines::{Explained, through};
use super::risk::{self, Risk};
use crate::kernel::calls::Call;
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::files;
use crate::policy::resolve::Ceiling;
use crate::policy::syscalls::{Action, Rule};
use crate::proof::diagram::{FALSE, Node, Store};
use crate::proof::grants::Domain;
use crate::proof::order::{self, Effect};
use crate::proof::{bpf, intent};
use crate::source::{Sources, Span};

/// Assertions, tests and ceilings that are gone or were loosened, waivers that are new: nothing is granted by
/// that, and less is held.
pub(super) fn claims(old: &Policy, old_sources: &Sources, new: &Policy, new_sources: &Sources, arch: Arch) -> Vec<Row> {
    let mut out: Vec<Row> = Vec::new();
    let mut push = |text: String, span: Span, gone: bool, risk: Risk, [was, now]: [&str; 2], why: Option<String>| {
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
            now: now.into(),
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
            Some(n) if is_raised(c, n, (old.kernel, new.kernel), arch) => push(
                format!("the ceiling {name} grants more"),
                n.declared,
                false,
                Risk::High,
                ["a lower ceiling", "a higher one"],
                None,
            ),
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

/// Where a call runs, of what still holds after a day; all of it without one.
fn allowed(s: &mut Store, call: &'static Call, p: &Policy, day: Option<&Option<String>>) -> Node {
    let own = p.syscalls.iter().filter(|r| std::ptr::eq(r.call, call) && day.is_none_or(|d| lasts(r, d)));
    let node = intent::of_call(s, &own.collect::<Vec<_>>(), call.since <= p.kernel);
    s.combine(node, node, &|a, _| u32::from(bpf::decode(a) <= Action::Log))
}

/// Calls that run until a later day than they did, or only until an earlier one; also where they are fewer today.
pub(super) fn ends(
    (old, old_sources): (&Policy, &Sources),
    (new, sources): (&Policy, &Sources),
    explained: &mut Explained,
) -> Vec<Row> {
    let mut out: Vec<Row> = Vec::new();
    let mut s = Store::default();
    let both = || old.syscalls.iter().chain(&new.syscalls);
    let mut dated: Vec<&'static Call> = both().filter(|r| r.meta.until.is_some()).map(|r| r.call).collect();
    dated.sort_by_key(|c| c.name);
    dated.dedup_by_key(|c| c.name);
    let shown = |day: Option<&String>| day.map_or("without an end".to_owned(), |d| format!("until {d}"));
    for (call, day) in dated.into_iter().flat_map(|c| days(both()).into_iter().map(move |d| (c, d))) {
        let [was, is] = [old, new].map(|p| allowed(&mut s, call, p, None));
        let [before, after] = [old, new].map(|p| allowed(&mut s, call, p, Some(&day)));
        // What runs today on both sides, and later on one of them only.
        let today = s.and(was, is);
        for (effect, one, other) in [(Effect::Widened, after, before), (Effect::Narrowed, before, after)] {
            let only = s.choose(other, FALSE, one);
            let only = s.and(only, today);
            let own = new.syscalls.iter().filter(|r| std::ptr::eq(r.call, call) && r.action <= Action::Log);
            let mut behind = own.filter(|r| lasts(r, &day) == (effect == Effect::Widened));
            let Some(r) = behind.find(|r| {
                let when = intent::holds(&mut s, &r.conditions);
                s.and(when, only) != FALSE
            }) else {
                continue;
            };
            explained.at(false, (new, sources), r.span);
            for o in old.syscalls.iter().filter(|o| std::ptr::eq(o.call, call)) {
                explained.at(true, (old, old_sources), o.span);
            }
            let (line, grade) = (sources.cite(r.span), risk::call(&mut s, call, only));
            if out.iter().any(|x| x.line == line) {
                continue;
            }
            let now = shown(r.meta.until.as_ref().map(|u| &u.value));
            out.push(Row {
                effect,
                domain: Domain::Syscalls,
                risk: grade.risk,
                text: format!("{} {r} {now}", r.action.word()),
                consequence: grade.consequence,
                reference: grade.reference,
                line,
                gone: false,
                why: r.meta.why.clone(),
                was: if effect == Effect::Widened { "it ended sooner".into() } else { shown(day.as_ref()) },
                now,
                witness: None,
                via: through((new, sources), r.span),
            });
        }
    }
    out
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
        via: through((new, sources), r.span),
    };
    let mut out = Vec::new();
    for r in &new.files {
        let other = |o: &&files::Rule| (o.right, &o.path, o.optional) == (r.right, &r.path, !r.optional);
        if let Some(o) = old.files.iter().find(other) {
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
