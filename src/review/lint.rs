//! What a reviewer would ask about: grave grants without a reason, lines that do nothing. What does nothing
//! is decided exactly for calls, by what the policy would be without the line.

use super::risk::{self, Risk};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::syscalls::{Action, Rule};
use crate::proof::diagram::{FALSE, Store};
use crate::proof::{bpf, grants, intent};
use crate::source::{Sources, Span};
use std::collections::BTreeMap;

/// Findings on one machine: warnings, which its waivers take away.
pub fn check(policy: &Policy, sources: &Sources, d: &mut Diagnostics) {
    let mut found = Vec::new();
    reasons(policy, &mut found);
    calls_in_vain(policy, sources, &mut found);
    facts_in_vain(policy, sources, &mut found);
    let mut used = Vec::new();
    for f in found {
        match policy.grants.waivers.iter().position(|w| w.code == f.code) {
            Some(i) => used.push(i),
            None => d.push(f),
        }
    }
    for (i, w) in policy.grants.waivers.iter().enumerate() {
        if !used.contains(&i) && sources.is_written(w.span) {
            let message = format!("nothing here is a finding `{}`: the waiver is stale", w.code);
            d.push(Diagnostic::warning("W0805", w.span, message).help("delete the line"));
        }
    }
}

/// Grave grants whose author gives no reason.
fn reasons(policy: &Policy, out: &mut Vec<Diagnostic>) {
    let mut say = |span: Span, what: String, g: risk::Grade| {
        let message = format!("{} without a reason ({}): {}", what, g.risk.word(), g.consequence);
        let help =
            format!("add why \"...\" to the line, or `waive W0801 why \"...\"` to the machine; see {}", g.reference);
        if !out.iter().any(|o: &Diagnostic| o.labels.first().is_some_and(|l| l.span == span)) {
            out.push(Diagnostic::warning("W0801", span, message).help(help));
        }
    };
    for r in policy.syscalls.iter().filter(|r| r.action <= Action::Log && r.meta.why.is_none() && r.group.is_none()) {
        let g = risk::rule(r);
        if g.risk >= Risk::High {
            say(r.span, format!("`allow {r}`"), g);
        }
    }
    for f in grants::facts(&policy.grants, policy.span).iter().filter(|f| f.why.is_none() && f.span != policy.span) {
        let restrictive = matches!(f.what, grants::What::Rank(0) | grants::What::Hidden);
        let g = risk::fact(f, policy);
        if g.risk >= Risk::High && !restrictive {
            say(f.span, format!("`{}`", f.text), g);
        }
    }
}

/// Lines of `syscalls` without which every call would be treated the same.
fn calls_in_vain(policy: &Policy, sources: &Sources, out: &mut Vec<Diagnostic>) {
    let arch = Arch::NATIVE;
    let mut by_call: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
    let mut lines: BTreeMap<(Span, Action), Vec<&Rule>> = BTreeMap::new();
    for r in &policy.syscalls {
        by_call.entry(r.call.name).or_default().push(r);
        if sources.is_written(r.span) && arch.number(r.call.name).is_some() {
            lines.entry((r.span, r.action)).or_default().push(r);
        }
    }
    let mut s = Store::default();
    for ((span, action), own) in lines {
        let same = own.iter().all(|r| {
            let all = by_call.get(r.call.name).map_or(&[][..], Vec::as_slice);
            let rest: Vec<&Rule> = all.iter().copied().filter(|o| (o.span, o.action) != (span, action)).collect();
            let reviewed = r.call.since <= policy.kernel;
            intent::of_call(&mut s, all, reviewed) == intent::of_call(&mut s, &rest, reviewed)
        });
        if !same || s.exceeded() {
            continue;
        }
        // In vain for two reasons: a stricter rule wins everywhere, or the same is said elsewhere.
        let shadowed = own.iter().all(|r| {
            let all = by_call.get(r.call.name).map_or(&[][..], Vec::as_slice);
            let whole = intent::of_call(&mut s, all, r.call.since <= policy.kernel);
            let when = intent::holds(&mut s, &r.conditions);
            let acts = s.combine(whole, whole, &|a, _| u32::from(bpf::decode(a) == r.action));
            s.and(when, acts) == FALSE
        });
        let (code, what, help) = if shadowed {
            (
                "W0803",
                "never takes effect: a denial wins everywhere that it speaks of",
                "delete the line, or `override` the denial",
            )
        } else {
            ("W0802", "says nothing new: without it every call is treated the same", "delete the line")
        };
        out.push(Diagnostic::warning(code, span, format!("this line {what}")).help(help));
    }
}

/// File rules and ports that another line of the machine covers.
fn facts_in_vain(policy: &Policy, sources: &Sources, out: &mut Vec<Diagnostic>) {
    let all = grants::facts(&policy.grants, policy.span);
    for (i, f) in all.iter().enumerate() {
        let domain = matches!(f.domain, grants::Domain::Files | grants::Domain::Network);
        if !domain || !sources.is_written(f.span) || matches!(f.what, grants::What::Rank(_)) || f.span == policy.span {
            continue;
        }
        let others: Vec<grants::Fact> = all
            .iter()
            .enumerate()
            // Of two that cover each other the later one is in vain.
            .filter(|(j, o)| *j != i && (o.what != f.what || *j < i))
            .map(|(_, o)| o.clone())
            .collect();
        if grants::is_covered(f, &others) {
            let message = format!("`{}` says nothing new: another line grants it", f.text);
            out.push(Diagnostic::warning("W0802", f.span, message).help("delete it"));
        }
    }
}
