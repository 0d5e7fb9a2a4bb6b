//! `within`: a machine grants no more than its ceiling, proved for calls and compared fact by fact for the
//! other domains.

use crate::compile::places;
use crate::compile::seccomp::Filter;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::meaning::Meaning;
use crate::policy::mounts::Mount;
use crate::policy::resolve::Ceiling;
use crate::policy::syscalls::{Action, Rule};
use crate::proof::diagram::{FALSE, Store};
use crate::proof::{bpf, grants, intent, order, program};

/// Holds a machine against each of its ceilings.
pub(super) fn check(policy: &Policy, filter: &Filter, d: &mut Diagnostics) {
    if policy.within.is_empty() {
        return;
    }
    let mut s = Store::default();
    let mine = intent::of_policy(&mut s, policy, filter.arch);
    let own = grants::of_machine(policy);
    for c in &policy.within {
        calls(policy, filter, c, mine, &mut s, d);
        later(policy, c, d);
        let ceiling = grants::facts(&c.grants, c.declared);
        for f in order::uncovered(&own, &ceiling) {
            let message = format!("`{}` doesn't hide what `{}` hides: `{}`", policy.name, c.name.value, f.text);
            d.push(
                Diagnostic::error("E0705", c.name.span, message)
                    .also(f.span, "the ceiling hides it")
                    .help("write the same line in `mounts`"),
            );
        }
        let shown = |m: &Mount| ceiling.iter().any(|f| f.span == m.span && order::shows_no_more(&own, f));
        for (m, place) in uncovered(policy, c).into_iter().filter(|(m, _)| !shown(m)) {
            let message = format!(
                "`{}` shows `{place}` of the host at `{}`, where `{}` mounts something else",
                policy.name, m.target, c.name.value
            );
            d.push(
                Diagnostic::error("E0705", c.name.span, message)
                    .also(m.span, "the ceiling covers it")
                    .help("write the same line in `mounts`"),
            );
        }
        let mut said = Vec::new();
        for f in order::beyond(&own, &ceiling, &c.grants) {
            if said.contains(&(f.span, &f.text)) {
                continue;
            }
            said.push((f.span, &f.text));
            // What only the ceiling says is a bound that the machine hasn't.
            if ceiling.iter().any(|bound| std::ptr::eq(bound, f)) {
                let message = format!("`{}` has no bound where `{}` has `{}`", policy.name, c.name.value, f.text);
                d.push(
                    Diagnostic::error("E0705", c.name.span, message)
                        .also(f.span, "the ceiling's")
                        .help("write as much or less in `limits`"),
                );
                continue;
            }
            let message =
                format!("`{}` grants more than `{}`: {} `{}`", policy.name, c.name.value, f.domain.word(), f.text);
            d.push(
                Diagnostic::error("E0705", f.span, message)
                    .also(c.declared, "the ceiling")
                    .help("remove the grant, or ask the ceiling's owner to raise it"),
            );
        }
    }
}

/// Where a ceiling mounts something over what it shows, and the machine leaves the host's own folder seen.
fn uncovered<'c>(policy: &Policy, c: &'c Ceiling) -> Vec<(&'c Mount, String)> {
    let missing = order::covers(&c.grants).filter(|m| !policy.mounts.iter().any(|o| o.target == m.target));
    missing.filter_map(|m| Some((m, places::shown(policy, &m.target)?.0))).collect()
}

/// Proves that no call is treated less strictly than by the ceiling; two refusals are alike.
fn calls(
    policy: &Policy,
    filter: &Filter,
    c: &Ceiling,
    mine: crate::proof::diagram::Node,
    s: &mut Store,
    d: &mut Diagnostics,
) {
    let arch: Arch = filter.arch;
    let ceiling = intent::of_rules(s, &c.grants.syscalls, policy.kernel, arch);
    let wider = s.combine(mine, ceiling, &|a, b| u32::from(is_wider(bpf::decode(a), bpf::decode(b))));
    if s.exceeded() {
        let message = format!(
            "whether `{}` is within `{}` can't be decided: {}",
            policy.name,
            c.name.value,
            program::Undecided::TooComplex
        );
        d.push(Diagnostic::error("E0706", c.name.span, message).help("simplify the conditions on arguments"));
        return;
    }
    let Some(v) = s.difference(wider, FALSE) else { return };
    // The counterexample is replayed by what shares nothing with the diagrams.
    let meaning = Meaning::new(policy, arch);
    let (want, got) = (meaning.decide(&v), bpf::decode(bpf::run(&filter.program, &v, None)));
    let bound = bpf::decode(s.evaluate(ceiling, &v));
    let name = arch.name(v.nr).unwrap_or("?");
    let span = meaning.rules(&v).iter().find(|r| r.action == got).map_or(policy.span, |r| r.span);
    let agreed = if want == got { "" } else { " (and the replay disagrees: please report this)" };
    let message = format!(
        "`{}` grants more than `{}`: {} is {}, the ceiling says {}{agreed}",
        policy.name,
        c.name.value,
        crate::proof::witness(name, &v),
        got.word(),
        bound.word()
    );
    d.push(
        Diagnostic::error("E0705", span, message)
            .also(c.declared, "the ceiling")
            .help("narrow the grant, or ask the ceiling's owner to raise it"),
    );
}

/// What a ceiling grants until a day must not go on after it. Denials don't end.
fn later(policy: &Policy, c: &Ceiling, d: &mut Diagnostics) {
    let dated: Vec<(&Rule, &String)> =
        c.grants.syscalls.iter().filter_map(|r| Some((r, &r.meta.until.as_ref()?.value))).collect();
    for (rule, day) in dated {
        let goes_on = |list: &[Rule]| -> Vec<Rule> {
            let on = |r: &&Rule| r.action > Action::Log || r.meta.until.as_ref().is_none_or(|u| u.value > *day);
            list.iter().filter(|r| r.call.name == rule.call.name).filter(on).cloned().collect()
        };
        let (own, bound) = (goes_on(&policy.syscalls), goes_on(&c.grants.syscalls));
        let mut s = Store::default();
        let reviewed = rule.call.since <= policy.kernel;
        let [own, bound] = [&own, &bound].map(|l| intent::runs(&mut s, &l.iter().collect::<Vec<_>>(), reviewed));
        let more = s.choose(bound, FALSE, own);
        // As far as it is granted until then.
        let until = intent::holds(&mut s, &rule.conditions);
        let more = s.and(more, until);
        if more == FALSE && !s.exceeded() {
            continue;
        }
        let lines = policy.syscalls.iter().filter(|r| r.call.name == rule.call.name && r.action <= Action::Log);
        let line = lines.filter(|r| r.meta.until.as_ref().is_none_or(|u| u.value > *day)).find(|r| {
            let when = intent::holds(&mut s, &r.conditions);
            s.and(when, more) != FALSE
        });
        let message =
            format!("`{}` grants `{}` after {day}, until when `{}` does", policy.name, rule.call.name, c.name.value);
        d.push(
            Diagnostic::error("E0705", line.map_or(policy.span, |r| r.span), message)
                .also(rule.span, "the ceiling")
                .help(format!("write `until {day}`, or an earlier day")),
        );
    }
}

/// A refusal is a refusal, whatever the errno; otherwise the order of restriction counts.
fn is_wider(mine: Action, bound: Action) -> bool {
    match (mine, bound) {
        (Action::Errno(_), Action::Errno(_)) => false,
        _ => mine < bound,
    }
}
