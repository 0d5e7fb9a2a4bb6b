//! What a machine can do below a path: a model of its tree from the policy alone, host unseen. Each place is as
//! `mounts` will mount it and `landlock` will open it; where the host decides whether something is there, it is.

use super::asserts::maps_files;
use super::landlock::DEVICES;
use super::mounts::{NODES, PROC_MASKS, READ_ONLY, SYS_MASKS, TOP};
use crate::diagnostic::Diagnostics;
use crate::host::Names;
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::files::{Right, is_below};
use crate::policy::mounts::{Access, Origin, Source};
use crate::policy::network::{Network, Resolver};
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
    /// A file system that the kernel fills.
    kernels: bool,
    /// The line; `None` for what every machine has.
    span: Option<Span>,
}

/// A part of what is seen: a place from a path on.
type Region<'t> = (&'t Place, String);

/// A file rule, or a device that can be used.
struct Opening<'p> {
    path: &'p str,
    /// `None` is a device: it is read, written to and spoken with.
    right: Option<Right>,
    /// The line; `None` for what every machine has.
    span: Option<Span>,
    /// The place that is seen there, and where that path's files are.
    place: Option<usize>,
    there: String,
}

/// What a machine sees, and which rules open it.
pub(super) struct Model<'p> {
    policy: &'p Policy,
    tree: Vec<Place>,
    openings: Vec<Opening<'p>>,
    /// What is read can be mapped to be executed.
    pub(super) maps: bool,
}

/// The lines that keep a machine from what is asked: what is mounted there.
pub fn against(policy: &Policy, path: &str) -> Option<Span> {
    let model = Model::of(policy, None, false);
    model.at(path).and_then(|p| p.span)
}

/// What is seen at a path, where it is a folder of the host: its name there, and whether it can be written to.
pub fn shown(policy: &Policy, path: &str) -> Option<(String, bool)> {
    let model = Model::of(policy, None, false);
    let place = model.at(path).filter(|p| p.whole && !p.hidden)?;
    let own = place.on_host(path);
    own.starts_with('/').then_some((own, place.writable && !place.layer))
}

/// Whether what is at a path can be written to, in whatever layer, and executed, as far as its mount goes.
pub fn allows(policy: &Policy, path: &str) -> Option<(bool, bool)> {
    let model = Model::of(policy, None, false);
    model.at(path).filter(|p| p.whole && !p.hidden).map(|p| (p.writable, p.exec))
}

/// Can something from a path on be written to and executed? What can't be decided is so.
pub fn writes_and_executes(policy: &Policy, path: &str) -> bool {
    let mut d = Diagnostics::default();
    let maps = maps_files(policy, Arch::NATIVE, &mut d) || d.errors() > 0;
    let model = Model::of(policy, None, maps);
    let by_link = resolved(path, ALIASES);
    by_link.as_deref().into_iter().chain([path]).any(|p| model.write_and_exec(p).is_some())
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

impl<'p> Model<'p> {
    pub(super) fn of(policy: &'p Policy, names: Option<&Names>, maps: bool) -> Self {
        let tree = tree(policy, names);
        let mut model = Model { policy, tree, openings: Vec::new(), maps };
        let rules = policy.files.iter().map(|r| (r.path.as_str(), Some(r.right), Some(r.span)));
        let devices = policy.devices.iter().map(|d| (d.path.as_str(), None, Some(d.span)));
        let all = rules.chain(devices).chain(DEVICES.iter().map(|d| (*d, None, None)));
        model.openings = all
            .map(|(path, right, span)| {
                let place = model.tree.iter().rposition(|p| is_below(path, &p.target));
                let there = place.and_then(|i| model.tree.get(i)).map(|p| p.on_host(path)).unwrap_or_default();
                Opening { path, right, span, place, there }
            })
            .collect();
        model
    }

    /// The line that lets a right exist on this path or below it, and how; `None` for the right is that it is seen. What is
    /// read can be executed where the filter `maps` files so and their mount isn't noexec.
    pub(super) fn evidence(&self, right: Option<Right>, path: &str) -> Option<(Span, String)> {
        let mut found = self.regions(path);
        for links in [ALIASES, LINKS] {
            found.extend(resolved(path, links).iter().flat_map(|p| self.regions(p)));
        }
        let granted = found.iter().find_map(|region| self.granted(right, region));
        granted
            .or_else(|| {
                // The same files by another name.
                let others = found.iter().flat_map(|r| self.elsewhere(r));
                let others = others.filter(|(p, _)| match right {
                    Some(Right::Write | Right::Create | Right::Refer) => p.writable,
                    Some(Right::Exec) => p.exec,
                    _ => false,
                });
                let (span, how) = others.into_iter().find_map(|r| self.granted(right, &r))?;
                Some((span, format!("{how}, and shows the same files")))
            })
            .or_else(|| self.unhidden(right, &found))
            .or_else(|| self.replaced(right, path))
    }

    /// What is hidden by one name and shown by another.
    fn unhidden(&self, right: Option<Right>, found: &[Region<'_>]) -> Option<(Span, String)> {
        let hidden = found.iter().filter(|(p, _)| p.hidden && p.span.is_some());
        let below = hidden.filter_map(|(_, from)| {
            let under = self.tree.iter().rev().filter(|p| !p.hidden).find(|p| is_below(from, &p.target))?;
            Some((under, from.clone()))
        });
        let others = below.flat_map(|r| self.elsewhere(&r)).collect::<Vec<_>>();
        let (span, how) = others.iter().find_map(|r| self.granted(right, r))?;
        Some((span, format!("{how}, and shows the same files")))
    }

    /// A place from `path` on that can be written and executed, by one name or by two.
    pub(super) fn write_and_exec(&self, path: &str) -> Option<(Span, String)> {
        let policy = self.policy;
        // Where a rule begins is where more may be allowed than at the place itself.
        let regions = self.regions(path);
        let elsewhere = regions.iter().flat_map(|r| self.elsewhere(r)).collect::<Vec<_>>();
        let mut starts: Vec<String> = regions.into_iter().chain(elsewhere).map(|(_, from)| from).collect();
        starts.extend(policy.files.iter().map(|r| r.path.clone()).filter(|rule| is_below(rule, path)));
        starts.sort_unstable();
        starts.dedup();
        let found = starts.into_iter().find_map(|start| {
            let place = self.at(&start)?;
            // The place itself from there on, without what is mounted in it.
            let region = (place, start);
            let ruled = |right| !is_ruled(policy, right) || self.covered(right, &region);
            if place.hidden || !place.exec || !ruled(Right::Exec) {
                return None;
            }
            let may = |r: &Region<'_>| self.granted(Some(Right::Write), r).is_some();
            let written = place.writable && ruled(Right::Write) || self.elsewhere(&region).iter().any(may);
            written.then_some(region)
        });
        found
            .map(|(place, start)| (place.span.unwrap_or(policy.span), format!("`{start}` can be written and executed")))
    }

    /// Why a right exists in a region, if it does.
    fn granted(&self, right: Option<Right>, region @ (place, from): &Region<'_>) -> Option<(Span, String)> {
        if !place.grants(right, from) {
            return None;
        }
        Some(match right.filter(|r| is_ruled(self.policy, *r)) {
            None => (place.span.unwrap_or(self.policy.span), place.words()),
            Some(right) => {
                let o = self.opened(right, region)?;
                let how = if o.right.is_some() { "grants it" } else { "can be used" };
                (o.span.unwrap_or(self.policy.span), format!("`{}` {how}", o.path))
            }
        })
    }

    /// What opens a right in a region, or somewhere in it.
    fn opened(&self, right: Right, (place, from): &Region<'_>) -> Option<&Opening<'p>> {
        let own = place.on_host(from);
        self.openings.iter().filter(|o| o.opens(right, self.maps)).find(|o| {
            // Landlock goes up from a file by folders and mounts as they are seen from there.
            is_below(from, o.path)
                || self.shares(o, place) && (is_below(&o.there, &own) || o.is_above(&own, &place.source))
        })
    }

    /// Does a rule open all of a region, and not only something in it?
    fn covered(&self, right: Right, (place, from): &Region<'_>) -> bool {
        let own = place.on_host(from);
        let rules = self.openings.iter().filter(|o| o.right.is_some() && o.opens(right, self.maps));
        rules.into_iter().any(|o| is_below(from, o.path) || self.shares(o, place) && o.is_above(&own, &place.source))
    }

    /// Are the files of a rule's path those of the place where the places overlap? A layer's files are its own.
    fn shares(&self, o: &Opening<'_>, place: &Place) -> bool {
        let there = o.place.and_then(|i| self.tree.get(i));
        there.is_some_and(|p| std::ptr::eq(p, place) || !p.layer && !place.layer)
    }

    /// What is seen at a path and below it: each place with the path at which it begins.
    fn regions(&self, path: &str) -> Vec<Region<'_>> {
        let mut out: Vec<Region<'_>> = self.at(path).map(|p| (p, path.to_owned())).into_iter().collect();
        for (i, place) in self.tree.iter().enumerate().filter(|(_, p)| p.target != path && is_below(&p.target, path)) {
            // What was mounted over it or above it later hides it.
            if !self.tree.iter().skip(i + 1).any(|later| is_below(&place.target, &later.target)) {
                out.push((place, place.target.clone()));
            }
        }
        out
    }

    /// Where the files of a region, or some of them, are seen by another name.
    fn elsewhere(&self, (place, from): &Region<'_>) -> Vec<Region<'_>> {
        let own = place.on_host(from);
        // What every machine has of the kernel isn't the host's: its /proc shows other processes.
        let others = self.tree.iter().filter(|p| !std::ptr::eq(*p, *place) && p.span.is_some() && !p.layer);
        let others = others.filter(|p| !p.hidden);
        others
            .filter_map(|p| match own.strip_prefix(p.source.as_str()) {
                Some(rest) if is_below(&own, &p.source) => Some((p, format!("{}{rest}", p.target))),
                _ if is_below(&p.source, &own) => Some((p, p.target.clone())),
                _ => None,
            })
            .filter(|(p, path)| self.at(path).is_some_and(|seen| std::ptr::eq(seen, *p)))
            .collect()
    }

    /// Can the name be made to lead to other files? Rules and mounts stay with the files, not with their names: in a
    /// folder where names are made and removed (rename(2), symlink(2)), each name on the way is moved aside with all
    /// that is below it, and another folder, or a link, takes its place. Only a name on which something is mounted
    /// stays.
    fn replaced(&self, right: Option<Right>, path: &str) -> Option<(Span, String)> {
        let right = right.filter(|r| matches!(r, Right::Write | Right::Create | Right::Exec))?;
        let mut name = path;
        while name != "/" {
            let folder = parent(name);
            if !self.tree.iter().any(|p| p.target == name)
                && let Some((span, _)) = self.renames(folder)
                && self.leads(right, folder, name)
            {
                return Some((span, format!("`{name}` can be renamed, and something else be put in its stead")));
            }
            name = folder;
        }
        None
    }

    /// What lets names in a folder be changed, by this name of it or another.
    fn renames(&self, folder: &str) -> Option<(Span, String)> {
        let place = self.at(folder)?;
        let own = place.on_host(folder);
        let mut all = vec![(place, folder.to_owned())];
        let region = (place, folder.to_owned());
        // The folder itself by another name, not one below it.
        let others = self.elsewhere(&region).into_iter();
        all.extend(others.filter(|(p, path)| p.writable && p.on_host(path) == own));
        all.iter()
            .filter(|(p, _)| !p.is_fixed())
            .find(|r| self.holds(Right::Create, r))
            .and_then(|r| self.granted(Some(Right::Create), r))
    }

    /// Does a right hold at the top of a region, and not only somewhere in it?
    fn holds(&self, right: Right, region @ (place, from): &Region<'_>) -> bool {
        place.grants(Some(right), from) && (!is_ruled(self.policy, right) || self.covered(right, region))
    }

    /// Does the right exist where a new thing of this name would lead?
    fn leads(&self, right: Right, folder: &str, name: &str) -> bool {
        let Some((index, place)) = self.tree.iter().enumerate().rev().find(|(_, p)| is_below(folder, &p.target)) else {
            return false;
        };
        // To what is made there.
        if self.granted(Some(right), &(place, name.to_owned())).is_some() {
            return true;
        }
        match right {
            // To a folder that is moved there, and that may be executed where it is: from beside it, or from where
            // names are made and may go to other folders (landlock(7), LANDLOCK_ACCESS_FS_REFER).
            Right::Exec => self.openings.iter().any(|o| {
                let from = |path: &str| self.granted(Some(Right::Create), &(place, path.to_owned())).is_some();
                let refers = || self.holds(Right::Refer, &(place, folder.to_owned()));
                let moves = parent(o.path) == folder || refers() && (from(parent(o.path)) || from(o.path));
                let opens = o.right.is_some() && o.opens(right, self.maps);
                let there = o.place == Some(index) && o.path != place.target && opens;
                there && place.grants(Some(right), o.path) && moves
            }),
            // Or by a link to anything that is kept.
            _ => self.regions("/").iter().any(|r| {
                let own = r.0.span.is_some() || ["/dev/shm", "/run"].contains(&r.0.target.as_str());
                own && !r.0.is_fixed() && self.granted(Some(right), r).is_some()
            }),
        }
    }

    /// What is seen at a path: the last that was mounted there or above.
    fn at(&self, path: &str) -> Option<&Place> {
        self.tree.iter().rev().find(|p| is_below(path, &p.target))
    }
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        None | Some(("", _)) => "/",
        Some((above, _)) => above,
    }
}

impl Opening<'_> {
    fn opens(&self, right: Right, maps: bool) -> bool {
        match self.right {
            None => matches!(right, Right::Read | Right::Write | Right::Ioctl),
            // Execution reads; and what is read is mapped.
            Some(r) => {
                r == right
                    || r == Right::Exec && right == Right::Read
                    || maps && (r, right) == (Right::Read, Right::Exec)
            }
        }
    }

    /// Does it open what lies at `own` from above it? Not from above what a mount shows: a file that is reached by
    /// that mount doesn't lie there.
    fn is_above(&self, own: &str, shown: &str) -> bool {
        is_below(own, &self.there) && is_below(&self.there, shown)
    }
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

    /// Are its names the kernel's, which nobody changes? Of /proc, /sys and what else it shows of itself.
    fn is_fixed(&self) -> bool {
        self.kernels || ["/proc", "/sys"].iter().any(|p| is_below(&self.source, p))
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
fn tree(policy: &Policy, names: Option<&Names>) -> Vec<Place> {
    let boots = policy.boots();
    let root = &policy.root;
    let span = Some(root.span);
    let mut out: Vec<Place> = Vec::new();
    let name = |path: &str| match names.and_then(|n| n.of.get(path)) {
        Some(known) => known.clone(),
        None => resolved(path, ALIASES).unwrap_or_else(|| path.trim_end_matches('/').to_owned()),
    };
    let folder = match &root.value.origin {
        Origin::Host => "",
        Origin::Directory(d) => d.trim_end_matches('/'),
    };
    // What is mounted on the host below it is shown with it.
    let below = |path: &str| names.and_then(|n| n.below.get(path)).map_or(&[][..], Vec::as_slice);
    let mut push = |target: &str, source: Option<String>, whole, [writable, exec]: [bool; 2], span| {
        let source = source.unwrap_or_else(|| format!("own {}", out.len()));
        let (target, devices) = (target.to_owned(), false);
        out.push(Place {
            target,
            source,
            layer: false,
            whole,
            hidden: false,
            writable,
            exec,
            devices,
            kernels: false,
            span,
        });
    };
    let access = root.value.access;
    if root.value.origin == Origin::Host || access == Access::Volatile {
        // In memory, and sealed once it is made; a booted system goes on writing to it.
        let open = root.value.origin != Origin::Host && boots;
        push("/", None, open, [open, true], span);
        push("/etc", None, true, [open, true], span);
        // Links into /usr, or not there: where the root is written to they may become folders.
        for top in TOP {
            push(&format!("/{top}"), Some(name(&format!("{folder}/{top}"))), true, [open, true], span);
        }
        push("/usr", Some(name(&format!("{folder}/usr"))), true, [false, true], span);
    } else {
        let shown = if folder.is_empty() { "/" } else { folder };
        push("/", Some(name(shown)), true, [access != Access::ReadOnly, true], span);
        for (rest, source) in below(shown) {
            push(rest, Some(source.clone()), true, [access == Access::ReadWrite, true], span);
        }
    }
    // What the kernel shows of itself it shows in every mount of it.
    push("/proc", Some(name("/proc")), true, [true, false], None);
    push("/sys", Some(name("/sys")), true, [false, false], None);
    push("/dev", None, boots, [boots, false], None);
    // A read-only mount doesn't keep anybody from writing to a device.
    for node in NODES.iter().map(|n| format!("/dev/{n}")) {
        push(&node, Some(name(&node)), true, [true, false], None);
    }
    for place in ["/dev/console", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        push(place, None, true, [true, false], None);
    }
    for d in &policy.devices {
        push(&d.path, Some(name(&d.path)), true, [true, false], Some(d.span));
    }
    if boots {
        push("/sys/fs/cgroup", Some(name("/sys/fs/cgroup")), true, [true, false], None);
        push("/run", None, true, [true, true], None);
    }
    if !boots && policy.network.value.is_routed() {
        if matches!(policy.resolver.value, Resolver::List(_)) {
            push("/etc/resolv.conf", None, true, [false, false], Some(policy.resolver.span));
        }
        if matches!(policy.network.value, Network::Zone(_)) {
            push("/etc/hosts", None, true, [false, false], Some(policy.network.span));
        }
    }
    let masks = |source: &Source| matches!(source, Source::Mask | Source::Hide);
    for m in policy.mounts.iter().filter(|m| !masks(&m.source)) {
        let source = match &m.source {
            Source::Bind(p) | Source::Overlay(p, _) => Some(p),
            _ => None,
        };
        push(&m.target, source.map(|p| name(p)), true, [m.writable, m.exec], Some(m.span));
        for (rest, source) in source.map_or(&[][..], |p| below(p)) {
            push(&format!("{}{rest}", m.target), Some(source.clone()), true, [m.writable, m.exec], Some(m.span));
        }
    }
    for place in READ_ONLY {
        push(place, Some(name(place)), true, [false, false], None);
    }
    for place in &mut out {
        let written = policy.mounts.iter().find(|m| place.span == Some(m.span) && is_below(&place.target, &m.target));
        place.devices = written.is_some_and(|m| m.dev);
        let filled = [Source::Proc, Source::Sysfs, Source::Devpts, Source::Mqueue, Source::Cgroup2];
        place.kernels = written.is_some_and(|m| filled.contains(&m.source))
            || place.span.is_none()
                && ["/proc", "/sys", "/dev/pts", "/dev/mqueue"].iter().any(|p| is_below(&place.target, p));
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
            kernels: false,
            span,
        });
    }
    out
}
