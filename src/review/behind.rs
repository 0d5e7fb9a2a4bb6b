//! Which line of two texts is behind a difference: the one that changed, not one that only says what it makes.

use crate::kernel::calls::Call;
use crate::policy::Policy;
use crate::policy::resolve::Taken;
use crate::policy::syscalls::{Action, Rule};
use crate::source::{Sources, Span};

/// One side of a comparison.
pub(super) type Text<'a> = (&'a Policy, &'a Sources);

/// The line of a rule to look at. Where the other side allows the very group too, it is the line in it, if its author
/// can change that.
pub(super) fn cause(of: Text<'_>, r: &Rule, other: Text<'_>) -> Span {
    let used = || other.0.syscalls.iter().any(|o| same_line(of, r.span, other, o.span));
    let own = || r.group.iter().rev().find(|g| of.1.is_written(**g));
    own().filter(|_| used()).copied().unwrap_or(r.span)
}

/// Do both say the same by a line? A parameter in it says what its value says.
fn same_line(a: Text<'_>, x: Span, b: Text<'_>, y: Span) -> bool {
    let values = |(policy, sources): Text<'_>, line| -> Vec<String> {
        policy.grants.values_of(sources.text(line)).map(|v| sources.text(v).to_owned()).collect()
    };
    a.1.text(x) == b.1.text(y) && values(a, x) == values(b, y)
}

/// The lines of a rule on the way from its machine, but for the one that is shown.
pub(super) fn way((policy, sources): Text<'_>, (line, group): (Span, &[Span]), shown: Span) -> Vec<String> {
    let mut way = super::lines::through((policy, sources), line);
    way.extend([line].iter().chain(group).filter(|l| **l != shown).map(|l| sources.cite(*l)));
    way
}

/// Is it only the baseline that brings a rule? What groups name beyond it stays absent.
pub(super) fn by_baseline(of: Text<'_>, r: &Rule, other: Text<'_>) -> bool {
    let newer = r.call.since > other.0.kernel && r.action <= Action::Log;
    newer && !r.group.is_empty() && other.0.syscalls.iter().any(|o| same_line(of, r.span, other, o.span))
}

/// A line that takes away what the other side has.
pub(super) struct Taker<'a> {
    /// The `remove` or `override`.
    pub(super) span: Span,
    /// The lines of groups by which it names the call.
    pub(super) group: &'a [Span],
    /// The line to look at.
    pub(super) shown: Span,
    /// Its reason.
    pub(super) why: Option<String>,
}

/// The line of one side that takes away a line which stands on the other as well, and isn't taken there.
pub(super) fn taker<'a>(of: Text<'a>, other: Text<'_>, line: &str, call: Option<&Call>) -> Option<Taker<'a>> {
    let took = |t: &Taken, sources: &Sources| {
        let named = call.is_none_or(|c| t.calls.iter().any(|(known, ..)| std::ptr::eq(*known, c)));
        named && t.was.iter().any(|w| sources.text(*w) == line)
    };
    let (here, there) = (&of.0.grants.taken, &other.0.grants.taken);
    let both = |t: &Taken| there.iter().filter(|o| same_line(of, t.span, other, o.span)).any(|o| took(o, other.1));
    let t = here.iter().find(|t| took(t, of.1) && !both(t))?;
    let (group, reason) = match t.calls.iter().find(|(known, ..)| call.is_some_and(|c| std::ptr::eq(*known, c))) {
        Some((_, group, reason)) => (group.as_slice(), reason.clone()),
        None => (&[][..], None),
    };
    // The line stands on both sides, and what it names grew.
    let grew = there.iter().any(|o| same_line(of, t.span, other, o.span));
    let own = group.iter().rev().find(|g| of.1.is_written(**g)).filter(|_| grew);
    Some(Taker { span: t.span, group, shown: own.copied().unwrap_or(t.span), why: reason.or_else(|| t.why.clone()) })
}

/// How a line takes away: in a list of several things the word stands before the list.
pub(super) fn verb(line: &str) -> &'static str {
    if line.starts_with("override") { "override" } else { "remove" }
}
