//! Putting grants together: parents with each other, and what an item says itself over what it inherits.

use super::declare::Declarations;
use super::files::Right;
use super::files::is_below;
use super::mounts::{Mount, Source};
use super::network::Use;
use super::reader::Context;
use super::removes::{Gone, Removal, Removed, Taken};
use super::resolve::{Grants, Scalar, Value, conflict};
use super::syscalls::Action;
use super::{files, network, process, syscalls};
use crate::address::Block;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::source::Span;
use std::cmp::Reverse;
use std::collections::HashSet;

/// The union of two parents. Scalars that differ are an error unless the child overrides them.
pub(super) fn union(cx: &mut Context<'_>, into: &mut Grants, from: Grants, child: &Grants) {
    for (key, new) in from.scalars {
        if let Some(old) = into.scalars.get(&key)
            && old.value != new.value
            && !child.scalars.get(&key).is_some_and(|c| c.overriding)
        {
            conflict(cx, &key, old, &new);
        }
        // Two that say the same: the one that lasts, whoever comes first.
        let lasts = |s: &Scalar| (s.meta.until.as_ref().map_or("\u{7f}".into(), |u| u.value.clone()), Reverse(s.span));
        match into.scalars.get(&key) {
            Some(old) if old.value == new.value && lasts(old) >= lasts(&new) => {}
            _ => drop(into.scalars.insert(key, new)),
        }
    }
    if into.syscalls.is_empty() {
        into.syscalls = from.syscalls;
    } else {
        let key = |r: &syscalls::Rule| (r.span, r.action, r.call.name, r.conditions.clone());
        let known: HashSet<_> = into.syscalls.iter().map(key).collect();
        into.syscalls.extend(from.syscalls.into_iter().filter(|r| !known.contains(&key(r))));
    }
    let seen: Vec<Span> = into.spans();
    into.capabilities.extend(from.capabilities.into_iter().filter(|g| !seen.contains(&g.span)));
    into.capabilities_none = into.capabilities_none.or(from.capabilities_none);
    into.mounts.extend(from.mounts.into_iter().filter(|g| !seen.contains(&g.span)));
    into.files_block = into.files_block.or(from.files_block);
    into.files.extend(from.files.into_iter().filter(|g| !seen.contains(&g.span)));
    for p in from.ports {
        // One line may name many ports, so the line alone doesn't say which.
        if !into.ports.iter().any(|o| (o.span, o.port) == (p.span, p.port)) {
            into.ports.push(p);
        }
    }
    into.publishes.extend(from.publishes.into_iter().filter(|g| !seen.contains(&g.span)));
    variables(cx, &into.environment, &from.environment);
    into.environment.extend(from.environment.into_iter().filter(|g| !seen.contains(&g.span)));
    into.devices.extend(from.devices.into_iter().filter(|g| !seen.contains(&g.span)));
    into.assertions.extend(from.assertions.into_iter().filter(|g| !seen.contains(&g.span)));
    // What comes by two ways is the same line.
    let known: HashSet<Span> = into.within.iter().map(|w| w.span).collect();
    into.within.extend(from.within.into_iter().filter(|w| !known.contains(&w.span)));
    let known: HashSet<Span> = into.lifts.iter().copied().collect();
    into.lifts.extend(from.lifts.into_iter().filter(|l| !known.contains(l)));
    let known: HashSet<Span> = into.taken.iter().map(|t| t.span).collect();
    into.taken.extend(from.taken.into_iter().filter(|t| !known.contains(&t.span)));
    let known: HashSet<Span> = into.removals.iter().map(|r| r.span).collect();
    into.removals.extend(from.removals.into_iter().filter(|r| !known.contains(&r.span)));
    let known: HashSet<Span> = into.waivers.iter().map(|w| w.span).collect();
    into.waivers.extend(from.waivers.into_iter().filter(|w| !known.contains(&w.span)));
}

/// A variable has one value, whoever sets it.
fn variables(cx: &mut Context<'_>, old: &[process::Variable], new: &[process::Variable]) {
    for n in new {
        if let Some(o) = old.iter().find(|o| o.name == n.name && o.value != n.value) {
            cx.diagnostics.push(
                Diagnostic::error("E0301", n.span, format!("`{}` has two different values", n.name))
                    .label("this one")
                    .also(o.span, "and this one")
                    .help("`remove NAME` the inherited one"),
            );
        }
    }
}

impl Grants {
    fn spans(&self) -> Vec<Span> {
        let mut out: Vec<Span> = self.capabilities.iter().map(|g| g.span).collect();
        out.extend(self.mounts.iter().map(|g| g.span));
        out.extend(self.files.iter().map(|g| g.span));
        out.extend(self.ports.iter().map(|g| g.span));
        out.extend(self.publishes.iter().map(|g| g.span));
        out.extend(self.environment.iter().map(|g| g.span));
        out.extend(self.devices.iter().map(|g| g.span));
        out.extend(self.assertions.iter().map(|g| g.span));
        out
    }
}

/// Most rules for calls of one item; each line of a group is one.
const MOST_RULES: usize = 50_000;

/// What the item itself says, over what it inherits.
pub(super) fn apply(cx: &mut Context<'_>, decl: &Declarations<'_>, mut base: Grants, own: Grants) -> Option<Grants> {
    for r in &own.removes {
        // What hides something is a denial: to take it away is to grant.
        let hides = |m: &Mount| matches!(m.source, Source::Mask | Source::Hide);
        let hidden = |t: &str| base.mounts.iter().any(|m| m.target == t && hides(m));
        if matches!(&r.what, Removed::Mount(t) if hidden(t)) {
            if r.why.is_none() {
                cx.error("E0305", r.span, "to show what is hidden needs a reason", "add why \"...\"");
            }
            base.lifts.push(r.span);
        }
        let lines = take_out(&mut base, &r.what);
        if lines.is_empty() {
            cx.error("E0306", r.span, "this removes what nobody granted", "delete the line, or correct the name");
        } else {
            let (why, what) = (r.why.clone(), Gone::Listed(r.what.clone()));
            base.taken.push(Taken { span: r.span, item: r.span, group: Vec::new(), why, what, lines });
        }
    }
    for r in &own.removes {
        if let Some(wider) = still_granted(&base, &r.what) {
            in_vain(cx.diagnostics, r.span, wider);
        }
    }
    let mut removed = Vec::new();
    for line in &own.lines {
        if let syscalls::Verb::Set(_) = line.verb {
            continue;
        }
        let lifting = matches!(line.verb, syscalls::Verb::Lift(_));
        // Each item of a list has to hit something: one that doesn't is stale or mistyped.
        for target in &line.targets {
            let mut found = super::groups::expand(cx, &decl.groups, std::slice::from_ref(target));
            if line.verb.takes(Action::Kill) || line.verb.takes(Action::Errno(0)) {
                found.iter_mut().for_each(|n| n.conditions = syscalls::low_bits(std::mem::take(&mut n.conditions)));
            }
            let mut nothing = true;
            for n in &found {
                let lines = strike(&mut base.syscalls, |r| {
                    let all = n.conditions.is_empty() || r.conditions == n.conditions;
                    (r.call.name == n.call.name && all && line.verb.takes(r.action)).then_some(r.span)
                });
                if !lines.is_empty() {
                    nothing = false;
                    let what = Gone::Call(n.call, n.conditions.clone());
                    let why = n.why.clone().or_else(|| line.meta.why.clone());
                    base.taken.push(Taken { span: line.span, item: n.item, group: n.group.clone(), why, what, lines });
                }
            }
            if nothing {
                let what = if lifting {
                    "this overrides what isn't there: the word is that of the inherited line"
                } else {
                    "this removes what nobody granted"
                };
                cx.error("E0306", line.span, what, "delete the line, or correct the name");
            }
            if line.verb == syscalls::Verb::Remove {
                removed.extend(found.into_iter().map(|n| (n.call, n.conditions, line.span)));
            }
        }
    }
    // Whether the lines that stay grant some of it as well is decided where conditions can be compared.
    for (call, conditions, span) in removed {
        for r in base.syscalls.iter().filter(|r| r.call.name == call.name && r.action <= Action::Log) {
            let conditions = [conditions.as_slice(), r.conditions.as_slice()].concat();
            base.removals.push(Removal { call, conditions, span, wider: r.span });
        }
    }
    for line in &own.lines {
        let syscalls::Verb::Set(action) = line.verb else { continue };
        // Each target once a line. What an inherited line says already is kept as well: `lint` names it, and a lock shows both.
        let mut said = HashSet::new();
        for n in super::groups::expand(cx, &decl.groups, &line.targets) {
            let conditions = if action > Action::Log { syscalls::low_bits(n.conditions) } else { n.conditions };
            if said.insert((std::ptr::from_ref(n.call), conditions.clone())) {
                let mut meta = line.meta.clone();
                // What the group says of the call is nearer to it.
                meta.why = n.why.or(meta.why);
                let (call, span, item, group) = (n.call, line.span, n.item, n.group);
                base.syscalls.push(syscalls::Rule { call, conditions, action, meta, span, item, group });
            }
        }
        if base.syscalls.len() > MOST_RULES {
            let text = format!("more than {MOST_RULES} rules for calls");
            cx.error("E0316", line.span, text, "name each group once");
            break;
        }
    }
    for (key, new) in own.scalars {
        match base.scalars.get(&key) {
            Some(old) if old.value != new.value && !new.overriding => conflict(cx, &key, old, &new),
            None if new.overriding => {
                cx.error("E0306", new.span, "this overrides what nobody wrote", "delete the word `override`");
            }
            _ => {}
        }
        base.scalars.insert(key, new);
    }
    base.capabilities.extend(own.capabilities);
    base.capabilities_none = own.capabilities_none.or(base.capabilities_none);
    base.mounts.extend(own.mounts);
    base.files_block = own.files_block.or(base.files_block);
    base.files.extend(own.files);
    base.ports.extend(own.ports);
    base.publishes.extend(own.publishes);
    for v in own.environment {
        variables(cx, &base.environment, std::slice::from_ref(&v));
        base.environment.push(v);
    }
    base.devices.extend(own.devices);
    base.assertions.extend(own.assertions);
    base.within.extend(own.within);
    base.waivers.extend(own.waivers);
    base.lifts.extend(own.lines.iter().filter(|l| matches!(l.verb, syscalls::Verb::Lift(_))).map(|l| l.span));
    Some(base)
}

/// Says that what a line removes is granted all the same.
pub fn in_vain(d: &mut Diagnostics, line: Span, wider: Span) {
    d.push(
        Diagnostic::error("E0306", line, "what this removes is granted by a wider line as well")
            .also(wider, "the wider line")
            .help("remove that one, and grant what of it is needed"),
    );
}

/// The line that grants what was taken out, with more.
fn still_granted(base: &Grants, what: &Removed) -> Option<Span> {
    match what {
        Removed::File(right, path) => {
            // Execution reads.
            let same = |f: &&files::Rule| f.right == *right || (f.right, *right) == (Right::Exec, Right::Read);
            base.files.iter().filter(same).find(|f| is_below(path, &f.path)).map(|f| f.span)
        }
        Removed::Port(how, protocol, Some(port), peers) => {
            let among = |p: &network::Port| {
                let covers = |b: &Block| p.peers.iter().any(|o| o.contains(*b));
                p.peers.is_empty() || (!peers.is_empty() && peers.iter().all(covers))
            };
            let same = |p: &&network::Port| p.how == *how && p.protocol == *protocol;
            let wider = |p: &&network::Port| p.port.is_none_or(|n| n == *port) && among(p);
            let any = base.scalars.get("egress").filter(|s| *how == Use::Connect && s.value == Value::Number(1));
            base.ports.iter().filter(same).find(wider).map(|p| p.span).or(any.map(|s| s.span))
        }
        _ => None,
    }
}

/// Takes what is hit out of a list; its lines.
fn strike<T>(list: &mut Vec<T>, hit: impl Fn(&T) -> Option<Span>) -> Vec<Span> {
    let mut lines = Vec::new();
    list.retain(|x| {
        let line = hit(x);
        lines.extend(line);
        line.is_none()
    });
    lines
}

fn take_out(base: &mut Grants, what: &Removed) -> Vec<Span> {
    match what {
        Removed::Capability(c) => strike(&mut base.capabilities, |g| (g.capability == *c).then_some(g.span)),
        Removed::Mount(t) => strike(&mut base.mounts, |m| (m.target == *t).then_some(m.span)),
        Removed::File(right, path) => {
            strike(&mut base.files, |f| (f.right == *right && f.path == *path).then_some(f.span))
        }
        Removed::Port(how, protocol, port, peers) => strike(&mut base.ports, |p| {
            let same = p.how == *how && p.protocol == *protocol && p.port == *port;
            (same && (peers.is_empty() || p.peers == *peers)).then_some(p.span)
        }),
        Removed::Publish(protocol, address, first) => strike(&mut base.publishes, |p| {
            (p.protocol == *protocol && p.address == *address && p.outside.0 == *first).then_some(p.span)
        }),
        Removed::Variable(n) => strike(&mut base.environment, |v| (v.name == *n).then_some(v.span)),
        Removed::Device(p) => strike(&mut base.devices, |d| (d.path == *p).then_some(d.span)),
    }
}
