//! Differences that grant nothing by themselves: what is checked, how long a grant holds, which hosts are accepted.

use super::diff::{Row, effect_of};
use super::lines::Explained;
use super::risk::{self, Risk};
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::files;
use crate::policy::resolve::Ceiling;
use crate::policy::syscalls::{Action, Rule};
use crate::proof::diagram::{FALSE, Store};
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

/// Grants of calls whose last day is another one.
pub(super) fn ends(
    (old, old_sources): (&Policy, &Sources),
    (new, sources): (&Policy, &Sources),
    explained: &mut Explained,
) -> Vec<Row> {
    let mut out: Vec<Row> = Vec::new();
    let day = |r: &Rule| r.meta.until.as_ref().map(|u| u.value.clone());
    let shown = |d: &Option<String>| d.as_ref().map_or("without an end".to_owned(), |d| format!("until {d}"));
    let dated = |p: &Policy| p.syscalls.iter().any(|r| r.meta.until.is_some());
    if !dated(old) && !dated(new) {
        return out;
    }
    for r in &new.syscalls {
        let alike = |o: &&Rule| std::ptr::eq(o.call, r.call) && (o.action, &o.conditions) == (r.action, &r.conditions);
        let (now, mut twins) = (day(r), old.syscalls.iter().filter(alike).peekable());
        // One that both sides have with the same day is no change.
        let Some(o) = twins.peek().copied().filter(|_| !old.syscalls.iter().filter(alike).any(|o| day(o) == now))
        else {
            continue;
        };
        let was = day(o);
        explained.at(true, old_sources, o.span);
        explained.at(false, sources, r.span);
        let longer = match (&was, &now) {
            (Some(before), Some(now)) => now > before,
            (Some(_), None) => true,
            _ => false,
        };
        // A denial that ends sooner lets more through.
        let denial = r.action > Action::Log;
        let grade = risk::rule(r);
        let line = sources.cite(r.span);
        if out.iter().any(|x| x.line == line) {
            continue;
        }
        out.push(Row {
            effect: if longer == denial { Effect::Narrowed } else { Effect::Widened },
            domain: Domain::Syscalls,
            risk: grade.risk,
            text: format!("{} {r} {}", r.action.word(), shown(&now)),
            consequence: grade.consequence,
            reference: grade.reference,
            line,
            gone: false,
            why: r.meta.why.clone(),
            was: shown(&was),
            now: shown(&now),
            witness: None,
            via: new.grants.chain(r.span).to_vec(),
        });
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
    let facts = order::is_raised((&old.grants, old.declared), (&new.grants, new.declared));
    let mut s = Store::default();
    let before = intent::of_rules(&mut s, &old.grants.syscalls, kernels.0, arch);
    let after = intent::of_rules(&mut s, &new.grants.syscalls, kernels.1, arch);
    let wider =
        s.combine(before, after, &|a, b| u32::from(effect_of(bpf::decode(a), bpf::decode(b)) == Some(Effect::Widened)));
    facts || wider != FALSE || s.exceeded()
}
