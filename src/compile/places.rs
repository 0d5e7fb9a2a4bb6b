//! What a machine can do below a path: a model of its tree from the policy alone, host unseen. Each place is as
//! `mounts` will mount it and `landlock` will open it; where the host decides whether something is there, it is.

use super::landlock::DEVICES;
use super::mounts::{NODES, PROC_MASKS, READ_ONLY, SYS_MASKS, TOP};
use crate::policy::Policy;
use crate::policy::files::{Right, Rule};
use crate::policy::mounts::{Access, Origin, Source};
use crate::proof::order::is_below;
use crate::source::Span;

/// Something mounted, in the order of the stack.
struct Place {
    target: String,
    /// What lies below it may be anything; else only what is mounted there.
    whole: bool,
    /// Nobody sees what stands there.
    hidden: bool,
    writable: bool,
    exec: bool,
    /// The line; `None` for what every machine has.
    span: Option<Span>,
}

/// The line that lets a right exist on this path or below it, and how; `None` for the right is that it is seen.
pub(super) fn evidence(policy: &Policy, right: Option<Right>, path: &str) -> Option<(Span, String)> {
    let tree = tree(policy);
    regions(&tree, path).into_iter().find_map(|(place, from)| {
        if !place.grants(right, &from) {
            return None;
        }
        let rule = match right {
            Some(right) if !policy.files.is_empty() => Some(rule(policy, &tree, place, right, &from)?),
            _ => None,
        };
        Some(match rule {
            Some(Opened::Rule(r)) => (r.span, format!("`{}` grants it", r.path)),
            Some(Opened::Device(span, path)) => (span.unwrap_or(policy.span), format!("`{path}` can be used")),
            None => (place.span.unwrap_or(policy.span), place.words()),
        })
    })
}

/// A place that can be written and executed.
pub(super) fn write_and_exec(policy: &Policy) -> Option<(Span, String)> {
    let tree = tree(policy);
    let both = |place: &Place| place.writable && place.exec && !place.hidden;
    if policy.files.is_empty() {
        let (place, from) = regions(&tree, "/").into_iter().find(|(p, _)| both(p))?;
        return Some((place.span.unwrap_or(policy.span), format!("`{from}` can be written and executed")));
    }
    let rules = |right: Right| policy.files.iter().filter(move |r| r.right == right);
    for (w, e) in rules(Right::Write).flat_map(|w| rules(Right::Exec).map(move |e| (w, e))) {
        // Where both hold: below the deeper one.
        let Some(deeper) = [(w, e), (e, w)].into_iter().find_map(|(a, b)| is_below(&a.path, &b.path).then_some(a))
        else {
            continue;
        };
        if regions(&tree, &deeper.path).into_iter().any(|(p, _)| both(p)) {
            return Some((deeper.span, format!("`{}` can be written and executed", deeper.path)));
        }
    }
    None
}

/// What is seen at a path and below it: each place with the path at which it begins.
fn regions<'t>(tree: &'t [Place], path: &str) -> Vec<(&'t Place, String)> {
    let mut out: Vec<(&Place, String)> = at(tree, path).map(|p| (p, path.to_owned())).into_iter().collect();
    for (i, place) in tree.iter().enumerate().filter(|(_, p)| p.target != path && is_below(&p.target, path)) {
        // What was mounted over it or above it later hides it.
        if !tree.iter().skip(i + 1).any(|later| is_below(&place.target, &later.target)) {
            out.push((place, place.target.clone()));
        }
    }
    out
}

/// What is seen at a path: the last that was mounted there or above.
fn at<'t>(tree: &'t [Place], path: &str) -> Option<&'t Place> {
    tree.iter().rev().find(|p| is_below(path, &p.target))
}

enum Opened<'p> {
    Rule(&'p Rule),
    Device(Option<Span>, &'p str),
}

/// The file rule that opens a right in a place, from a path on.
fn rule<'p>(policy: &'p Policy, tree: &[Place], place: &Place, right: Right, from: &str) -> Option<Opened<'p>> {
    // A rule above holds for all below; one below has to lie in this very place.
    let meets = |path: &str| {
        is_below(from, path) || is_below(path, from) && at(tree, path).is_some_and(|p| std::ptr::eq(p, place))
    };
    // Execution reads.
    let opens = |r: &&Rule| r.right == right || r.right == Right::Exec && right == Right::Read;
    if let Some(r) = policy.files.iter().filter(opens).find(|r| meets(&r.path)) {
        return Some(Opened::Rule(r));
    }
    if !matches!(right, Right::Read | Right::Write | Right::Ioctl) {
        return None;
    }
    let own = policy.devices.iter().find(|d| meets(&d.path)).map(|d| Opened::Device(Some(d.span), &d.path));
    own.or_else(|| DEVICES.iter().find(|d| meets(d)).map(|d| Opened::Device(None, d)))
}

impl Place {
    fn grants(&self, right: Option<Right>, path: &str) -> bool {
        let there = !self.hidden && (self.whole || self.target == path);
        there
            && match right {
                Some(Right::Write | Right::Create | Right::Refer) => self.writable,
                Some(Right::Exec) => self.exec,
                _ => true,
            }
    }

    fn words(&self) -> String {
        match (self.span, self.target.as_str()) {
            (None, target) => format!("every machine has `{target}`"),
            (Some(_), "/") => "it is in the root".into(),
            (Some(_), target) => format!("`{target}` is mounted so"),
        }
    }
}

/// The tree as [`super::mounts`] stacks it.
fn tree(policy: &Policy) -> Vec<Place> {
    let boots = policy.boots();
    let root = &policy.root;
    let span = Some(root.span);
    let mut out: Vec<Place> = Vec::new();
    let mut push = |target: &str, whole, [writable, exec]: [bool; 2], span| {
        out.push(Place { target: target.to_owned(), whole, hidden: false, writable, exec, span });
    };
    if root.value.origin == Origin::Host || root.value.access == Access::Volatile {
        // In memory, and sealed once it is made; a booted system goes on writing to it.
        let open = root.value.origin != Origin::Host && boots;
        push("/", open, [open, true], span);
        push("/etc", true, [open, true], span);
        for place in TOP.iter().map(|t| format!("/{t}")).chain(["/usr".to_owned()]) {
            push(&place, true, [false, true], span);
        }
    } else {
        push("/", true, [root.value.access != Access::ReadOnly, true], span);
    }
    push("/proc", true, [true, false], None);
    push("/sys", true, [false, false], None);
    push("/dev", boots, [boots, false], None);
    // A read-only mount doesn't keep anybody from writing to a device.
    for node in NODES.iter().map(|n| format!("/dev/{n}")).chain(["/dev/console".to_owned()]) {
        push(&node, true, [true, false], None);
    }
    for place in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
        push(place, true, [true, false], None);
    }
    for d in &policy.devices {
        push(&d.path, true, [true, false], Some(d.span));
    }
    if boots {
        push("/sys/fs/cgroup", true, [true, false], None);
        push("/run", true, [true, true], None);
    }
    let masks = |source: &Source| matches!(source, Source::Mask | Source::Hide);
    for m in policy.mounts.iter().filter(|m| !masks(&m.source)) {
        push(&m.target, true, [m.writable, m.exec], Some(m.span));
    }
    for place in READ_ONLY {
        push(place, true, [false, false], None);
    }
    let hidden = [PROC_MASKS, SYS_MASKS].concat().into_iter().map(|p| (p.to_owned(), None));
    let written = policy.mounts.iter().filter(|m| masks(&m.source)).map(|m| (m.target.clone(), Some(m.span)));
    for (target, span) in hidden.chain(written) {
        out.push(Place { target, whole: false, hidden: true, writable: false, exec: false, span });
    }
    out
}
