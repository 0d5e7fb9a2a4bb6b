//! Which line of two texts is behind a difference: one that changed, not one that only says what it makes.

use super::lines::Explained;
use crate::policy::Policy;
use crate::policy::capabilities;
use crate::policy::network::{Protocol, Use};
use crate::policy::removes::{Gone, Removed, Taken};
use crate::policy::resolve::Grants;
use crate::policy::syscalls::{Action, Place, Rule};
use crate::proof::grants::{self, Domain, Fact, What};
use crate::proof::order::{self, Difference};
use crate::source::{Sources, Span};
use std::collections::{BTreeSet, HashSet};

/// One side of a comparison.
pub(super) struct View<'a> {
    pub(super) policy: &'a Policy,
    pub(super) sources: &'a Sources,
    /// It is the old one: its lines are gone.
    pub(super) old: bool,
    /// Places of lines that the other side hasn't, whatever reason they give.
    touched: BTreeSet<String>,
    /// What lines for calls say, and where they do.
    said: HashSet<String>,
}

/// What is behind a difference.
pub(super) struct Cause {
    /// A line of the old side.
    pub(super) gone: bool,
    /// The statement: what it makes alike is one row.
    pub(super) span: Span,
    /// The line to look at.
    pub(super) line: String,
    /// The way to it, and the others that have a part in it.
    pub(super) via: Vec<String>,
    /// Its reason.
    pub(super) why: Option<String>,
    /// `remove` or `override`, where it takes away what stands on both sides.
    pub(super) verb: Option<&'static str>,
}

impl<'a> View<'a> {
    pub(super) fn new((policy, sources): (&'a Policy, &'a Sources), old: bool, touched: BTreeSet<String>) -> View<'a> {
        let mut view = View { policy, sources, old, touched, said: HashSet::new() };
        let rules = policy.syscalls.iter().map(|r| r.span);
        let lines: BTreeSet<Span> = rules.chain(policy.grants.taken.iter().map(|t| t.span)).collect();
        view.said = lines.into_iter().map(|l| view.says(l)).collect();
        view
    }

    /// Has a line changed?
    pub(super) fn is_touched(&self, span: Span) -> bool {
        self.sources.lines(span).any(|l| self.touched.contains(&l))
    }

    /// A line, or the one by which it came: an `extends` on the way that changed.
    pub(super) fn changed(&self, line: Span) -> Span {
        let extends = || self.policy.grants.extending(line).iter().copied().find(|l| self.is_touched(*l));
        if self.is_touched(line) { line } else { extends().unwrap_or(line) }
    }

    /// The first line that changed of what grants something, or of what takes something away.
    pub(super) fn first_changed(&self, all: &Grants, grant: bool) -> Option<Span> {
        let rules = all.syscalls.iter().filter(|r| (r.action <= Action::Log) == grant);
        let calls = rules.flat_map(|r| r.group.iter().map(|p| p.item).chain([r.item, r.span]));
        let takes = |f: &&Fact| f.domain == Domain::Limits || matches!(f.what, What::Hidden(_));
        let facts = grants::facts(all, self.policy.span);
        let lines = calls.chain(facts.iter().filter(|f| takes(f) != grant).map(|f| f.span));
        lines.into_iter().find(|l| *l != self.policy.span && self.is_touched(*l))
    }

    /// What a statement says, its reason aside, where it says it, and what its parameters stand for.
    fn says(&self, line: Span) -> String {
        let text = self.sources.text(line);
        let mut out = self.policy.grants.chain(line).join(" > ");
        out.push('\n');
        out.push_str(super::lines::bare(text));
        for v in self.policy.grants.values_of(text) {
            out.push('\n');
            out.push_str(self.sources.text(v));
        }
        out
    }

    /// The item that changed, the innermost of those in groups; the library's can't be changed by who reads this.
    fn inner(&self, group: &[Place]) -> Option<Span> {
        let own = group.iter().rev().map(|p| p.item).filter(|i| self.sources.is_written(*i));
        own.into_iter().find(|i| self.is_touched(*i))
    }

    pub(super) fn cause(&self, shown: Span, (line, item, group): (Span, Span, &[Place]), why: Option<String>) -> Cause {
        let mut via = super::lines::through((self.policy, self.sources), line);
        let own = if self.sources.lines(item).eq(self.sources.lines(line)) { line } else { item };
        let places = [own].into_iter().chain(group.iter().map(|p| p.item));
        via.extend(places.map(|p| self.sources.cite(p)).filter(|p| *p != self.sources.cite(shown)));
        Cause { gone: self.old, span: line, line: self.sources.cite(shown), via, why, verb: None }
    }

    /// Every line of a statement, of the groups that it names, and of what extends where it stands.
    pub(super) fn explain(&self, explained: &mut Explained, line: Span, group: &[Place]) {
        for l in [line].into_iter().chain(group.iter().map(|p| p.line)) {
            explained.at(self.old, (self.policy, self.sources), l);
        }
        for l in self.policy.grants.extending(line) {
            explained.at(self.old, (self.policy, self.sources), *l);
        }
    }
}

/// What is behind a rule that only one side has; `None` where nothing but the baseline is.
pub(super) fn of_rule(of: &View<'_>, r: &Rule, other: &View<'_>, explained: &mut Explained) -> Option<Cause> {
    if let Some(cause) = taker(other, of, |t| takes_rule(t, r), explained) {
        return Some(cause);
    }
    let newer = r.call.since > other.policy.kernel && r.action <= Action::Log;
    explained.baseline |= newer;
    of.explain(explained, r.span, &r.group);
    let used = other.said.contains(&of.says(r.span));
    let direct = || [r.item, r.span].into_iter().find(|l| of.is_touched(*l)).filter(|_| !used);
    let extends = || of.policy.grants.extending(r.span).iter().copied().find(|l| of.is_touched(*l));
    let group = || of.inner(&r.group);
    let shown = if used { group().or_else(extends) } else { direct().or_else(group).or_else(extends) };
    if shown.is_none() && newer && !r.group.is_empty() {
        return None;
    }
    Some(of.cause(shown.unwrap_or(r.span), (r.span, r.item, &r.group), r.meta.why.clone()))
}

/// What is behind a fact that one side has, or has otherwise.
pub(super) fn of_fact(old: (&View<'_>, &[Fact]), new: (&View<'_>, &[Fact]), d: &Difference<'_>) -> Option<Cause> {
    let (fact, gone) = d.new.map(|n| (n, false)).or(d.old.map(|o| (o, true)))?;
    let implied = |v: &View<'_>, f: &Fact| f.span == v.policy.span;
    let ruled = |(v, facts): (&View<'_>, &[Fact])| -> Option<Fact> {
        let written = facts.iter().find(|f| f.domain == Domain::Files && !implied(v, f));
        written.filter(|_| fact.domain == Domain::Files && implied(if gone { old.0 } else { new.0 }, fact)).cloned()
    };
    // Where nothing is written any more, or wasn't before, what was written or is now is the line; and where what is
    // written stood there before, what was written over it.
    let unsaid = |o: &&Fact| {
        !gone
            && !implied(old.0, o)
            && (implied(new.0, fact) || !new.0.is_touched(fact.span) && old.0.is_touched(o.span))
    };
    let (view, behind) = match (d.old.filter(unsaid), gone) {
        (Some(o), _) => (old.0, o.clone()),
        (None, false) => ruled(old).map_or_else(|| (new.0, fact.clone()), |f| (old.0, f)),
        (None, true) => ruled(new).map_or_else(|| (old.0, fact.clone()), |f| (new.0, f)),
    };
    // Of files that are seen by another name as well: what shows them there, when the rule stood as it stands.
    let facts = if view.old { old.1 } else { new.1 };
    let mounted = match &behind.what {
        What::Path(_, name, Some(rule)) if !view.is_touched(behind.span) => {
            let shown = [name, rule].into_iter().filter_map(|p| order::shown_at(facts, p)).map(|m| m.span);
            shown.into_iter().find(|s| view.is_touched(*s))
        }
        _ => None,
    };
    let (line, shown) = (behind.span, mounted.unwrap_or_else(|| view.changed(behind.span)));
    let why = if behind.span == fact.span { fact.why.clone() } else { behind.why };
    Some(view.cause(shown, (line, line, &[]), why))
}

/// The line of one side that takes away what stands on the other, and isn't taken there.
pub(super) fn taker(
    by: &View<'_>,
    other: &View<'_>,
    takes: impl Fn(&Taken) -> bool,
    explained: &mut Explained,
) -> Option<Cause> {
    let there: HashSet<String> =
        other.policy.grants.taken.iter().filter(|t| takes(t)).map(|t| other.says(t.span)).collect();
    let alone = |t: &&Taken| takes(t) && !there.contains(&by.says(t.span));
    let mut found: Option<Cause> = None;
    for t in by.policy.grants.taken.iter().filter(alone) {
        by.explain(explained, t.span, &t.group);
        let grew = other.said.contains(&by.says(t.span));
        let shown = by.inner(&t.group).filter(|_| grew).unwrap_or(if by.is_touched(t.item) { t.item } else { t.span });
        match &mut found {
            None => {
                let verb = Some(verb(by.sources.text(t.span)));
                found = Some(Cause { verb, ..by.cause(shown, (t.span, t.item, &t.group), t.why.clone()) });
            }
            // Each of them is needed for it.
            Some(cause) => cause.via.push(by.sources.cite(shown)),
        }
    }
    found
}

/// Does it take away this very rule?
pub(super) fn takes_rule(t: &Taken, r: &Rule) -> bool {
    matches!(&t.what, Gone::Call(c, conditions) if std::ptr::eq(*c, r.call)
        && (conditions.is_empty() || *conditions == r.conditions))
}

/// Does it take away what a fact is made of?
pub(super) fn takes_fact(t: &Taken, f: &Fact) -> bool {
    let Gone::Listed(what) = &t.what else { return false };
    match (what, &f.what) {
        (Removed::Capability(c), _) => {
            f.domain == Domain::Capabilities && f.key.split(' ').next() == Some(capabilities::name(*c).as_str())
        }
        (Removed::Mount(target), _) => {
            let about = f.key.strip_suffix(" size").or(f.key.strip_suffix(" owners"));
            f.domain == Domain::Mounts && (f.key == *target || about == Some(target))
        }
        (Removed::File(right, path), What::Path(r, p, rule)) => (right, path) == (r, rule.as_ref().unwrap_or(p)),
        (Removed::Port(how, protocol, port, _), What::Port(h, q, p, _)) => (how, protocol, port) == (h, q, p),
        (Removed::Port(Use::Connect, Protocol::Udp, port, _), What::Broadcast(p, _)) => port == p,
        (Removed::Publish(protocol, address, first), What::Publish(q, a, (f, _), _)) => {
            (protocol, address, first) == (q, a, f)
        }
        (Removed::Variable(name), _) => f.domain == Domain::Environment && f.key == *name,
        (Removed::Device(path), _) => f.domain == Domain::Devices && f.key == *path,
        _ => false,
    }
}

/// How a line takes away: in a list of several things the word stands before the list.
fn verb(line: &str) -> &'static str {
    if line.starts_with("override") { "override" } else { "remove" }
}
