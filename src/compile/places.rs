//! What a machine can do below a path: a model of its tree from the policy alone, host unseen. Each place is as
//! `mounts` will mount it and `landlock` will open it; where the host decides whether something is there, it is.

use super::landlock::DEVICES;
use super::mounts::{NODES, PROC_MASKS, READ_ONLY, SYS_MASKS, TOP};
use crate::policy::Policy;
use crate::policy::files::{Right, Rule};
use crate::policy::mounts::{Access, Origin, Source};
use crate::proof::order::is_below;
use crate::source::Span;

/// Names under which Debian's folders are known as well: links that lead elsewhere (hier(7), file-hierarchy(7)).
pub const ALIASES: &[(&str, &str)] = &[
    ("/bin", "/usr/bin"),
    ("/sbin", "/usr/sbin"),
    ("/lib", "/usr/lib"),
    ("/lib32", "/usr/lib32"),
    ("/lib64", "/usr/lib64"),
    ("/libx32", "/usr/libx32"),
    ("/var/run", "/run"),
    ("/var/lock", "/run/lock"),
];

/// The links of every machine's /dev.
const LINKS: &[(&str, &str)] = &[
    ("/dev/ptmx", "/dev/pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Where a path leads when a link of these is on its way.
pub fn resolved(path: &str, links: &[(&str, &str)]) -> Option<String> {
    let (link, to) = links.iter().find(|(link, _)| is_below(path, link))?;
    Some(format!("{to}{}", path.strip_prefix(link)?))
}

/// Something mounted, in the order of the stack.
struct Place {
    target: String,
    /// Where its files are, beside those of every other place: a path of the host, or a name of its own.
    source: String,
    /// What is written there stays there: a layer over the source.
    layer: bool,
    /// What lies below it may be anything; else only what is mounted there.
    whole: bool,
    /// Nobody sees what stands there.
    hidden: bool,
    writable: bool,
    exec: bool,
    /// Device nodes work: they are written to whatever the mount says.
    devices: bool,
    /// The line; `None` for what every machine has.
    span: Option<Span>,
}

/// A part of what is seen: a place from a path on.
type Region<'t> = (&'t Place, String);

/// The line that lets a right exist on this path or below it, and how; `None` for the right is that it is seen.
pub(super) fn evidence(policy: &Policy, right: Option<Right>, path: &str) -> Option<(Span, String)> {
    let tree = tree(policy);
    let mut found = regions(&tree, path);
    for links in [ALIASES, LINKS] {
        found.extend(resolved(path, links).iter().flat_map(|p| regions(&tree, p)));
    }
    if matches!(right, Some(Right::Write | Right::Create | Right::Refer)) {
        // The same files by another name.
        let others: Vec<Region<'_>> = found.iter().flat_map(|r| elsewhere(&tree, r)).collect();
        found.extend(others);
    }
    found.into_iter().find_map(|(place, from)| {
        if !place.grants(right, &from) {
            return None;
        }
        let rule = match right {
            Some(right) if is_ruled(policy, right) => Some(opened(policy, &tree, place, right, &from)?),
            _ => None,
        };
        Some(match rule {
            Some(Opened::Rule(r)) => (r.span, format!("`{}` grants it", r.path)),
            Some(Opened::Device(span, path)) => (span.unwrap_or(policy.span), format!("`{path}` can be used")),
            None => (place.span.unwrap_or(policy.span), place.words()),
        })
    })
}

/// A place that can be written and executed, by one name or by two.
pub(super) fn write_and_exec(policy: &Policy) -> Option<(Span, String)> {
    let tree = tree(policy);
    let may = |right: Right, (place, from): &Region<'_>| {
        place.grants(Some(right), from)
            && (!is_ruled(policy, right) || opened(policy, &tree, place, right, from).is_some())
    };
    // Where a rule begins is where more may be allowed than at the place itself.
    let mut starts: Vec<String> = regions(&tree, "/").into_iter().map(|(_, from)| from).collect();
    starts.extend(policy.files.iter().map(|r| r.path.clone()));
    for start in &starts {
        let Some(place) = at(&tree, start) else { continue };
        let region = (place, start.clone());
        // The place itself from there on, without what is mounted in it.
        let ruled = |right| !is_ruled(policy, right) || covered(policy, &tree, right, &region);
        let written =
            place.writable && ruled(Right::Write) || elsewhere(&tree, &region).iter().any(|r| may(Right::Write, r));
        if !place.hidden && place.exec && ruled(Right::Exec) && written {
            return Some((place.span.unwrap_or(policy.span), format!("`{start}` can be written and executed")));
        }
    }
    None
}

/// Does a rule open all of a region, and not only something in it?
fn covered(policy: &Policy, tree: &[Place], right: Right, (place, from): &Region<'_>) -> bool {
    let own = place.on_host(from);
    policy
        .files
        .iter()
        .filter(|r| r.right == right)
        .any(|r| is_below(from, &r.path) || at(tree, &r.path).is_some_and(|p| is_below(&own, &p.on_host(&r.path))))
}

/// What is seen at a path and below it: each place with the path at which it begins.
fn regions<'t>(tree: &'t [Place], path: &str) -> Vec<Region<'t>> {
    let mut out: Vec<Region<'_>> = at(tree, path).map(|p| (p, path.to_owned())).into_iter().collect();
    for (i, place) in tree.iter().enumerate().filter(|(_, p)| p.target != path && is_below(&p.target, path)) {
        // What was mounted over it or above it later hides it.
        if !tree.iter().skip(i + 1).any(|later| is_below(&place.target, &later.target)) {
            out.push((place, place.target.clone()));
        }
    }
    out
}

/// Where the files of a region, or some of them, are seen by another name and can be changed there.
fn elsewhere<'t>(tree: &'t [Place], (place, from): &Region<'t>) -> Vec<Region<'t>> {
    let own = place.on_host(from);
    let others = tree.iter().filter(|p| !std::ptr::eq(*p, *place) && !p.layer && p.writable && !p.hidden);
    others
        .filter_map(|p| match own.strip_prefix(p.source.as_str()) {
            Some(rest) if is_below(&own, &p.source) => Some((p, format!("{}{rest}", p.target))),
            _ if is_below(&p.source, &own) => Some((p, p.target.clone())),
            _ => None,
        })
        .filter(|(p, path)| at(tree, path).is_some_and(|seen| std::ptr::eq(seen, *p)))
        .collect()
}

/// What is seen at a path: the last that was mounted there or above.
fn at<'t>(tree: &'t [Place], path: &str) -> Option<&'t Place> {
    tree.iter().rev().find(|p| is_below(path, &p.target))
}

/// Do file rules hold this right on every kernel that the policy accepts? Writing by truncate(2) is held since the
/// third version of Landlock, ioctl(2) on devices since the fifth (landlock(7)).
fn is_ruled(policy: &Policy, right: Right) -> bool {
    let since = match right {
        Right::Ioctl => 5,
        Right::Write => 3,
        _ => 1,
    };
    !policy.files.is_empty() && policy.landlock.as_ref().is_none_or(|floor| floor.value >= since)
}

enum Opened<'p> {
    Rule(&'p Rule),
    Device(Option<Span>, &'p str),
}

/// What opens a right in a place, from a path on. Landlock knows files and not names: a rule holds for the same files
/// under every name, and for all below a path that it names.
fn opened<'p>(policy: &'p Policy, tree: &[Place], place: &Place, right: Right, from: &str) -> Option<Opened<'p>> {
    let own = place.on_host(from);
    let meets = |path: &str| {
        is_below(from, path)
            || at(tree, path).is_some_and(|p| {
                let there = p.on_host(path);
                is_below(&there, &own) || is_below(&own, &there)
            })
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
                Some(Right::Write) => self.writable || self.devices,
                Some(Right::Create | Right::Refer) => self.writable,
                Some(Right::Exec) => self.exec,
                _ => true,
            }
    }

    /// The name of a path in it by where its files are.
    fn on_host(&self, path: &str) -> String {
        let rest = if self.target == "/" { path } else { path.strip_prefix(&self.target).unwrap_or("") };
        format!("{}{}", self.source.trim_end_matches('/'), rest.trim_end_matches('/'))
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
    let folder = match &root.value.origin {
        Origin::Host => "",
        Origin::Directory(d) => d.trim_end_matches('/'),
    };
    let mut push = |target: &str, source: Option<String>, whole, [writable, exec]: [bool; 2], span| {
        let source = source.unwrap_or_else(|| format!("own {}", out.len()));
        let (target, devices) = (target.to_owned(), false);
        out.push(Place { target, source, layer: false, whole, hidden: false, writable, exec, devices, span });
    };
    let access = root.value.access;
    if root.value.origin == Origin::Host || access == Access::Volatile {
        // In memory, and sealed once it is made; a booted system goes on writing to it.
        let open = root.value.origin != Origin::Host && boots;
        push("/", None, open, [open, true], span);
        push("/etc", None, true, [open, true], span);
        // Links into /usr, or not there: where the root is written to they may become folders.
        for name in TOP {
            push(&format!("/{name}"), Some(format!("{folder}/{name}")), true, [open, true], span);
        }
        push("/usr", Some(format!("{folder}/usr")), true, [false, true], span);
    } else {
        push("/", Some(folder.to_owned()), true, [access != Access::ReadOnly, true], span);
    }
    push("/proc", None, true, [true, false], None);
    push("/sys", None, true, [false, false], None);
    push("/dev", None, boots, [boots, false], None);
    // A read-only mount doesn't keep anybody from writing to a device.
    for node in NODES.iter().map(|n| format!("/dev/{n}")).chain(["/dev/console".to_owned()]) {
        push(&node, None, true, [true, false], None);
    }
    for place in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
        push(place, None, true, [true, false], None);
    }
    for d in &policy.devices {
        push(&d.path, Some(d.path.clone()), true, [true, false], Some(d.span));
    }
    if boots {
        push("/sys/fs/cgroup", None, true, [true, false], None);
        push("/run", None, true, [true, true], None);
    }
    let masks = |source: &Source| matches!(source, Source::Mask | Source::Hide);
    for m in policy.mounts.iter().filter(|m| !masks(&m.source)) {
        let source = match &m.source {
            Source::Bind(p) | Source::Overlay(p, _) => Some(p.trim_end_matches('/').to_owned()),
            _ => None,
        };
        push(&m.target, source, true, [m.writable, m.exec], Some(m.span));
    }
    for place in READ_ONLY {
        push(place, None, true, [false, false], None);
    }
    for place in &mut out {
        let written = policy.mounts.iter().find(|m| place.span == Some(m.span) && place.target == m.target);
        place.devices = written.is_some_and(|m| m.dev);
        place.layer = place.target == "/" && access == Access::Ephemeral
            || written.is_some_and(|m| matches!(m.source, Source::Overlay(..)));
    }
    let hidden = [PROC_MASKS, SYS_MASKS].concat().into_iter().map(|p| (p.to_owned(), None));
    let written = policy.mounts.iter().filter(|m| masks(&m.source)).map(|m| (m.target.clone(), Some(m.span)));
    for (target, span) in hidden.chain(written) {
        out.push(Place {
            source: "hidden".into(),
            target,
            layer: false,
            whole: false,
            hidden: true,
            writable: false,
            exec: false,
            devices: false,
            span,
        });
    }
    out
}
