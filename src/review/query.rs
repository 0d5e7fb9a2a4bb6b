//! Questions about a machine: can it, who can, and which lines are behind the answer.

use super::risk::{self, Risk};
use crate::compile::{asserts, places};
use crate::diagnostic::Diagnostics;
use crate::kernel::calls;
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::asserts::Claim;
use crate::policy::meaning::{Meaning, Vector};
use crate::policy::syscalls::{Action, Rule};
use crate::proof::diagram::{FALSE, Store, TRUE};
use crate::proof::{intent, witness};
use crate::source::Sources;
use serde::Serialize;

/// What is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It can.
    Yes,
    /// It can't.
    No,
    /// It can't be decided.
    Unknown,
}

/// An answer with what it rests on.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// The machine.
    pub machine: String,
    /// Where it is declared, `file:line`.
    pub place: String,
    /// Can it?
    pub verdict: Verdict,
    /// In a sentence.
    pub reason: String,
    /// Lines behind it, `file:line` with what they say.
    pub lines: Vec<(String, String)>,
    /// A call that shows it, replayed.
    pub witness: Option<String>,
    /// `proved`, `exact` or `modelled`.
    pub basis: &'static str,
}

/// Answers one claim for one machine.
pub fn ask(policy: &Policy, sources: &Sources, claim: &Claim, arch: Arch) -> Answer {
    if let Claim::Syscall(call, conditions) = claim {
        return ask_call(policy, sources, call, conditions, arch);
    }
    let mut d = Diagnostics::default();
    let found = asserts::evidence(policy, arch, claim, &mut d);
    let basis = match claim {
        Claim::Capability(_) | Claim::Port(..) | Claim::SetuidExec => "exact",
        _ => "modelled",
    };
    // A no to a path has a line as well: of what is seen there.
    let against = match (&found, claim) {
        (None, Claim::File(_, path)) => places::against(policy, path),
        _ => None,
    };
    let spans = found.iter().map(|(span, _)| *span).chain(against);
    let lines = spans.map(|span| (sources.cite(span), sources.text(span).to_owned())).collect();
    let undecided = d.iter().next().map(|d| d.message.clone());
    let (verdict, reason) = match (found, undecided) {
        (Some((_, how)), _) => (Verdict::Yes, how),
        (None, Some(why)) => (Verdict::Unknown, why),
        // Its own sets are what is asked about; what it makes below has sets of its own.
        (None, None) if matches!(claim, Claim::Capability(_)) && asserts::makes_namespaces(policy, arch) => {
            let below = "nothing grants it; in a user namespace that it makes itself it has every one, over that alone";
            (Verdict::No, below.into())
        }
        (None, None) => (Verdict::No, "nothing grants it".into()),
    };
    Answer {
        machine: policy.name.clone(),
        place: sources.cite(policy.span),
        verdict,
        reason,
        lines,
        witness: None,
        basis,
    }
}

fn ask_call(
    policy: &Policy,
    sources: &Sources,
    call: &'static calls::Call,
    conditions: &[crate::policy::syscalls::Condition],
    arch: Arch,
) -> Answer {
    let mut s = Store::default();
    let rules: Vec<&Rule> = policy.syscalls.iter().filter(|r| std::ptr::eq(r.call, call)).collect();
    let runs = intent::runs(&mut s, &rules, call.since <= policy.kernel);
    let asked = intent::asked(&mut s, call, conditions);
    let both = s.and(asked, runs);
    let text = crate::policy::words::call(call.name, call.args, conditions);
    let answer = |verdict, reason: String, lines, witness| Answer {
        machine: policy.name.clone(),
        place: sources.cite(policy.span),
        verdict,
        reason,
        lines,
        witness,
        basis: "proved",
    };
    let Some(number) = arch.number(call.name) else {
        return answer(Verdict::No, format!("{} has no `{}`", arch.word(), call.name), Vec::new(), None);
    };
    if s.exceeded() {
        return answer(
            Verdict::Unknown,
            "the conditions need more than the budget of the proof".into(),
            Vec::new(),
            None,
        );
    }
    let of = |list: Vec<&Rule>| -> Vec<(String, String)> {
        let line = |r: &Rule| {
            let by = r.group.last().map(|g| format!(", in the group at {}", sources.cite(g.item))).unwrap_or_default();
            let why = r.meta.why.as_ref().map(|w| format!(", why \"{}\"", w.escape_debug())).unwrap_or_default();
            (sources.cite(r.span), format!("{} {r}{by}{why}", r.action.word()))
        };
        list.into_iter().map(line).collect()
    };
    if let Some(found) = s.difference(both, FALSE) {
        let v = Vector { arch: arch.audit(), nr: number, ..found };
        let meaning = Meaning::new(policy, arch);
        // Replayed by what shares nothing with the diagrams.
        if meaning.decide(&v) > Action::Log {
            return answer(
                Verdict::Unknown,
                "the replay of the call disagrees: please report this".into(),
                Vec::new(),
                None,
            );
        }
        let everything = s.choose(asked, runs, TRUE) == TRUE;
        let how = if everything { "always runs" } else { "runs for some arguments" };
        // What was asked for by another name.
        let literal = intent::holds(&mut s, conditions);
        let named = if s.evaluate(literal, &v) == 1 {
            ""
        } else {
            ": AF_INET with SOCK_PACKET is AF_PACKET to the kernel (packet(7))"
        };
        return answer(
            Verdict::Yes,
            format!("`{text}` {how}{named}"),
            of(meaning.rules(&v)),
            Some(witness(call.name, &v)),
        );
    }
    let mut denials: Vec<&Rule> = rules.iter().copied().filter(|r| r.action > Action::Log).collect();
    denials.retain(|r| {
        let when = intent::holds(&mut s, &r.conditions);
        s.and(when, asked) != FALSE
    });
    let mut union = |list: &mut dyn Iterator<Item = &&Rule>| {
        list.fold(FALSE, |sum, r| {
            let when = intent::holds(&mut s, &r.conditions);
            s.or(sum, when)
        })
    };
    let (denied, allowed) = (union(&mut denials.iter()), union(&mut rules.iter().filter(|r| r.action <= Action::Log)));
    let (undenied, unallowed) = (s.choose(denied, FALSE, asked), s.and(asked, allowed) == FALSE);
    let because = if asked == FALSE {
        "its conditions exclude each other"
    } else {
        match (unallowed, denials.is_empty(), undenied == FALSE) {
            (_, false, true) => "it is denied",
            (true, false, false) => "no line allows it (errno EPERM), and some of it is denied",
            (false, false, false) => "it is denied where a line allows it",
            (_, true, _) if call.since > policy.kernel => "newer than the baseline (errno ENOSYS)",
            (_, true, _) => "no line allows it (errno EPERM)",
        }
    };
    answer(Verdict::No, format!("`{text}` never runs: {because}"), of(denials), None)
}

/// A call that a newer baseline knows.
#[derive(Clone, Debug, Serialize)]
pub struct Newer {
    /// The call.
    pub call: &'static str,
    /// The release that has it first.
    pub since: String,
    /// How grave that is.
    pub risk: Risk,
    /// What follows.
    pub consequence: &'static str,
    /// What becomes of it if only the baseline is raised.
    pub becomes: String,
    /// The line that would do it.
    pub line: Option<String>,
}

/// What raising the baseline adds: each call that is newer than the policy's and no newer than `to`, with
/// what becomes of it. `raised` is the same policy with the baseline raised.
pub fn raise(policy: &Policy, raised: &Policy, sources: &Sources, arch: Arch) -> Vec<Newer> {
    let newer = |c: &&calls::Call| c.since > policy.kernel && c.since <= raised.kernel && arch.number(c.name).is_some();
    let mut out: Vec<Newer> = calls::CALLS
        .iter()
        .filter(newer)
        .map(|c| {
            let mut rules: Vec<&Rule> = raised.syscalls.iter().filter(|r| r.call.name == c.name).collect();
            // What lets it run comes first, and what is taken from that after it.
            rules.sort_by_key(|r| r.action);
            let mut s = Store::default();
            let runs = intent::runs(&mut s, &rules, true);
            let region = if s.exceeded() { TRUE } else { runs };
            // What is refused afterwards as well is no danger, whatever the call could do.
            let grade = match region {
                FALSE => risk::grade(Risk::Low, "refused as before, with another errno", "seccomp(2)"),
                region => risk::call(&mut s, policy, c, region),
            };
            let rule = rules.first();
            let becomes = match rules.as_slice() {
                [] => "errno EPERM in place of ENOSYS".to_owned(),
                list => list.iter().map(|r| format!("{} {r}", r.action.word())).collect::<Vec<_>>().join("; "),
            };
            Newer {
                call: c.name,
                since: format!("{}.{}", c.since.0, c.since.1),
                risk: grade.risk,
                consequence: grade.consequence,
                becomes,
                line: rule.map(|r| sources.cite(r.span)),
            }
        })
        .collect();
    out.sort_by(|a, b| b.risk.cmp(&a.risk).then(a.call.cmp(b.call)));
    out
}
