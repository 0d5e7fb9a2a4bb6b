//! From files to one machine's policy: imports, parameters, inheritance, merging.
//!
//! Order never matters, neither in a file nor among parents; only mounts keep theirs.

use super::asserts::{self, Assertion, Case};
use super::declare::{Declarations, Declared, declare, twice};
use super::merge::{apply, union};
use super::reader::{Args, Context, Meta};
use super::removes::{Removal, Remove, Removed, Taken};
use super::sections::section_list;
use super::{Policy, capabilities, files, loader, mounts, network, process, syscalls};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::source::{FileId, Sources, Span, Spanned};
use crate::syntax::{ast, parse};
use std::collections::BTreeMap;

/// A statement of which a machine has one.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// What it says.
    pub value: Value,
    /// The line.
    pub span: Span,
    /// The author's metadata.
    pub meta: Meta,
    pub(super) overriding: bool,
}

/// The value of a [`Scalar`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `about`, `owner`, `hostname`, `chdir`.
    Text(String),
    /// `root`
    Root(mounts::Root),
    /// `exec` or `boot`
    Program(process::Program),
    /// `user`
    User(process::User),
    /// `userns`
    Userns(process::Userns),
    /// `network`
    Network(network::Network),
    /// `resolver`
    Resolver(network::Resolver),
    /// `address`
    Address(network::Address),
    /// A limit, a mode, a version.
    Number(u64),
}

/// All that a profile or machine grants, inherited grants included.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Statements of which there is one.
    pub scalars: BTreeMap<String, Scalar>,
    /// Rules for system calls.
    pub syscalls: Vec<syscalls::Rule>,
    /// Capabilities.
    pub capabilities: Vec<capabilities::Grant>,
    /// `capabilities { none }`
    pub capabilities_none: Option<Span>,
    /// Mounts in the order written, parents first.
    pub mounts: Vec<mounts::Mount>,
    /// File rules.
    pub files: Vec<files::Rule>,
    /// A `files` block, even without a rule.
    pub files_block: Option<Span>,
    /// Ports.
    pub ports: Vec<network::Port>,
    /// Ports of the host.
    pub publishes: Vec<network::Publish>,
    /// The environment.
    pub environment: Vec<process::Variable>,
    /// Devices.
    pub devices: Vec<process::Device>,
    /// Assertions.
    pub assertions: Vec<Assertion>,
    /// Names of profiles that bound this one.
    pub within: Vec<Spanned<String>>,
    /// Findings of `lint` that the author accepts.
    pub waivers: Vec<Waiver>,
    /// Lines that lift an inherited denial.
    pub lifts: Vec<Span>,
    /// What lines took away of what was inherited.
    pub taken: Vec<Taken>,
    /// What was removed by conditions, beside other lines of the same call.
    pub removals: Vec<Removal>,
    /// What all of this came through.
    pub ancestors: Vec<Ancestor>,
    /// Where each parameter got its value: its own line, or an instance's.
    pub values: BTreeMap<String, Span>,
    pub(super) removes: Vec<Remove>,
    pub(super) lines: Vec<syscalls::Line>,
    pub(super) extends: Vec<Spanned<String>>,
}

impl Grants {
    /// Keeps a `remove`, which ends nothing on a day.
    pub(super) fn remove(&mut self, cx: &mut Context<'_>, what: Removed, span: Span, args: &Args<'_>) {
        args.no_until(cx);
        self.removes.push(Remove { what, span, why: args.meta.why.clone() });
    }

    /// Keeps a statement of which there is one.
    pub(super) fn scalar(&mut self, cx: &mut Context<'_>, key: &str, value: Value, args: &Args<'_>, overriding: bool) {
        if overriding && args.meta.why.is_none() {
            cx.error("E0305", args.span, "an override needs a reason", "add why \"...\"");
        }
        let new = Scalar { value, span: args.span, meta: args.meta.clone(), overriding };
        match self.scalars.get(key) {
            Some(old) if old.value != new.value => conflict(cx, key, old, &new),
            // The same once more: what overrides stays, whichever comes first.
            Some(old) if old.overriding && !new.overriding => return,
            _ => {}
        }
        self.scalars.insert(key.to_owned(), new);
    }
}

pub(super) fn conflict(cx: &mut Context<'_>, key: &str, old: &Scalar, new: &Scalar) {
    cx.diagnostics.push(
        Diagnostic::error("E0301", new.span, format!("`{key}` has two different values"))
            .label("this one")
            .also(old.span, "and this one")
            .help("write `override ... why \"...\"` before the one that is meant to win"),
    );
}

/// A profile that is extended, directly or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// Its body.
    pub body: Span,
    /// The names on the way to it, its own the last.
    pub path: Vec<String>,
    /// Where each is extended.
    pub lines: Vec<Span>,
}

impl Grants {
    /// The profiles through which a line came, the one that it stands in the last; none for a line of one's own.
    pub fn chain(&self, line: Span) -> &[String] {
        self.ancestor(line).map_or(&[], |a| &a.path)
    }

    /// Where those are extended.
    pub fn extending(&self, line: Span) -> &[Span] {
        self.ancestor(line).map_or(&[], |a| &a.lines)
    }

    fn ancestor(&self, line: Span) -> Option<&Ancestor> {
        let within = |a: &&Ancestor| a.body.file == line.file && a.body.start <= line.start && line.end <= a.body.end;
        self.ancestors.iter().find(within)
    }

    /// Is it on the host's network?
    pub fn is_on_host(&self) -> bool {
        matches!(self.scalars.get("network").map(|s| &s.value), Some(Value::Network(network::Network::Host)))
    }

    /// Where the parameters that a line names got their values.
    pub fn values_of(&self, line: &str) -> impl Iterator<Item = Span> {
        let named = |text: &str| text.split_once('}').and_then(|(name, _)| self.values.get(name)).copied();
        line.split("${").skip(1).filter_map(named)
    }
}

/// A finding that the author accepts, with the reason.
#[derive(Clone, Debug)]
pub struct Waiver {
    /// The finding's code.
    pub code: String,
    /// The reason.
    pub why: String,
    /// The line.
    pub span: Span,
}

/// A profile that a machine must not exceed.
#[derive(Clone, Debug)]
pub struct Ceiling {
    /// Its name, where the machine names it.
    pub name: Spanned<String>,
    /// Where it is declared.
    pub declared: Span,
    /// All that it grants, inherited grants included.
    pub grants: Grants,
}

/// The machines of a file, resolved.
pub struct Resolved {
    /// In the order of their names.
    pub machines: Vec<Policy>,
    groups: syscalls::Groups,
}

impl Resolved {
    /// Groups that are visible from the file, expanded, for `stockade groups`.
    pub fn groups(&self) -> Vec<(String, Vec<syscalls::Rule>)> {
        let (params, mut reported) = (BTreeMap::new(), Diagnostics::default());
        let mut cx = Context { diagnostics: &mut reported, params: &params, today: "" };
        let rules = |(name, g)| (String::clone(name), group_rules(&mut cx, &self.groups, name, g));
        self.groups.iter().map(rules).collect()
    }
}

/// Reads and resolves file `id` of `sources` with all its imports. Findings go to `diagnostics`;
/// a machine with an error in it is still returned, so that later passes can report more.
pub fn resolve(id: FileId, sources: &mut Sources, diagnostics: &mut Diagnostics, today: &str) -> Resolved {
    resolve_under(id, sources, diagnostics, today, None)
}

/// The same under another baseline than the file's own, to see what that would change.
pub fn resolve_under(
    id: FileId,
    sources: &mut Sources,
    diagnostics: &mut Diagnostics,
    today: &str,
    baseline: Option<(u16, u16)>,
) -> Resolved {
    let mut files = Vec::new();
    if diagnostics.has_errors() {
        // The text itself was refused: there is nothing to resolve.
        return Resolved { machines: Vec::new(), groups: syscalls::Groups::default() };
    }
    load(id, sources, diagnostics, &mut files);
    let main_is_bad = diagnostics.has_errors();
    let mut decl = Declarations::default();
    for (file_id, file) in &files {
        let library = sources.get(*file_id).is_some_and(|f| f.packed.is_some() || loader::is_library(&f.text));
        declare(*file_id, *file_id == id, file, (library, today), diagnostics, &mut decl);
    }
    if let (Some(to), Some(k)) = (baseline, &mut decl.kernel) {
        k.value = to;
    }
    let mut machines = Vec::new();
    if !main_is_bad {
        machines = build_all(id, &decl, diagnostics, today);
    }
    let params = BTreeMap::new();
    let mut cx = Context { diagnostics, params: &params, today };
    // Groups are read for their faults even when no machine uses them.
    let own = |g: &syscalls::Group| g.span.is_some_and(|s| sources.get(s.file).is_some_and(|f| f.packed.is_none()));
    for (name, g) in decl.groups.iter().filter(|(_, g)| own(g)) {
        group_rules(&mut cx, &decl.groups, name, g);
    }
    Resolved { machines, groups: decl.groups }
}

fn group_rules(
    cx: &mut Context<'_>,
    groups: &syscalls::Groups,
    name: &str,
    group: &syscalls::Group,
) -> Vec<syscalls::Rule> {
    let Some(span) = group.span else { return Vec::new() };
    let whole = syscalls::Target::Group(Spanned { value: name.to_owned(), span });
    super::groups::expand(cx, groups, &[whole])
        .into_iter()
        .map(|n| syscalls::Rule {
            call: n.call,
            conditions: n.conditions,
            action: syscalls::Action::Allow,
            meta: Meta::default(),
            span,
            item: n.item,
            group: n.group,
        })
        .collect()
}

/// Parses the file and its imports, each once.
fn load(id: FileId, sources: &mut Sources, diagnostics: &mut Diagnostics, out: &mut Vec<(FileId, ast::File)>) {
    let mut queue = vec![id];
    let mut seen: Vec<String> = sources.get(id).map(|f| f.name.clone()).into_iter().collect();
    while let Some(id) = queue.pop() {
        let before = diagnostics.errors();
        let file = parse(sources, id, diagnostics);
        if diagnostics.errors() > before {
            out.push((id, file));
            continue;
        }
        let params = BTreeMap::new();
        for s in file.statements().filter(|s| s.keyword() == Some("import")) {
            let name = {
                // Its day is looked at where the file is declared.
                let mut cx = Context { diagnostics, params: &params, today: "" };
                let mut args = Args::new(&mut cx, s, 1);
                let name = args.text(&mut cx, "the import's name in quotes");
                args.finish(&mut cx);
                name
            };
            let Some(name) = name else { continue };
            // Of the library each file is read once, whoever imports it.
            if name.value.starts_with("std/") && seen.contains(&name.value) {
                continue;
            }
            if let Some(file) = loader::import(&name, id, sources, diagnostics) {
                let shown = sources.get(file).map(|f| f.name.clone()).unwrap_or_default();
                if !seen.contains(&shown) {
                    seen.push(shown);
                    queue.push(file);
                }
            }
        }
        out.push((id, file));
    }
}

/// Most lines of all machines of a file, each instance's counted; and what a machine counts for at least. A file of
/// thousands of instances is small, and each of them is compiled and proved.
const MOST_LINES: usize = 250_000;
const LEAST: usize = 100;

fn build_all(main: FileId, decl: &Declarations<'_>, diagnostics: &mut Diagnostics, today: &str) -> Vec<Policy> {
    let defaults: BTreeMap<String, Spanned<String>> =
        decl.params.iter().map(|(k, (_, v))| (k.clone(), v.clone())).collect();
    let mut cx = Context { diagnostics, params: &defaults, today };
    let Some(kernel) = &decl.kernel else {
        let span = Span { file: main, start: 0, end: 0 };
        cx.error(
            "E0219",
            span,
            "the file doesn't say which kernel's calls were reviewed",
            "add `kernel 6.12` as the second line",
        );
        return Vec::new();
    };
    let mut machines: Vec<Policy> = Vec::new();
    let mut walk = Walk::default();
    // Profiles are read for their faults even when no machine uses them.
    for d in decl.items.values().filter(|d| !d.bootable && d.name.span.file == main) {
        walk.work = 0;
        effective(&mut cx, decl, d, &mut walk);
    }
    let mut lines = 0;
    let mut many = |cx: &mut Context<'_>, name: &Spanned<String>, machine: &Option<Policy>| {
        let Some(m) = machine else { return false };
        let own = m.syscalls.len() + m.mounts.len() + m.files.len() + m.ports.len() + m.assertions.len();
        lines += own + LEAST;
        if lines > MOST_LINES {
            let message = format!("the machines of this file have more than {MOST_LINES} lines together");
            cx.error("E0316", name.span, message, "put some of them into a file of their own");
        }
        lines > MOST_LINES
    };
    for d in decl.items.values().filter(|d| d.bootable && d.name.span.file == main) {
        walk.work = 0;
        let made = machine(&mut cx, decl, (d, &d.name), &mut walk, kernel);
        if many(&mut cx, &d.name, &made) {
            return Vec::new();
        }
        machines.extend(made);
    }
    let mut made_before: BTreeMap<&str, Span> = BTreeMap::new();
    for i in decl.instances.iter().filter(|i| i.name.span.file == main) {
        let Some(d) = decl.items.get(&i.of.value).filter(|d| d.bootable) else {
            let known: Vec<&str> = decl.items.values().filter(|d| d.bootable).map(|d| d.name.value.as_str()).collect();
            cx.unknown("E0303", "machine", &i.of, &known);
            continue;
        };
        let other = decl.items.get(&i.name.value).map(|old| old.name.span);
        if let Some(old) = made_before.insert(i.name.value.as_str(), i.name.span).or(other) {
            twice(&mut cx, &i.name, old);
        }
        // Now all files are read: a parameter may be declared in any of them, anywhere.
        for (key, value) in i.values.values() {
            match decl.params.get(&key.value).map(|(type_, _)| type_.fault(&value.value)) {
                None => {
                    let known: Vec<&str> = decl.params.keys().map(String::as_str).collect();
                    cx.unknown("E0208", "parameter", key, &known);
                }
                Some(Some(fault)) => {
                    cx.error("E0220", value.span, fault, "the value must be of the parameter's type");
                }
                Some(None) => {}
            }
        }
        let params = defaults.clone().into_iter().chain(i.given()).collect();
        let mut cx = Context { diagnostics: cx.diagnostics, params: &params, today };
        let made = machine(&mut cx, decl, (d, &i.name), &mut Walk::default(), kernel);
        if many(&mut cx, &i.name, &made) {
            return Vec::new();
        }
        machines.extend(made.map(|m| Policy { instance: Some(i.span), ..m }));
    }
    for t in &decl.tests {
        let Some(m) = machines.iter_mut().find(|m| m.name == t.machine.value) else {
            let known: Vec<&str> = decl.items.values().filter(|d| d.bootable).map(|d| d.name.value.as_str()).collect();
            cx.unknown("E0303", "machine", &t.machine, &known);
            continue;
        };
        // Read with the parameters of the machine that is tested.
        let own = decl.instances.iter().find(|i| i.name.value == t.machine.value);
        let values = own.into_iter().flat_map(|i| i.given());
        let params = defaults.clone().into_iter().chain(values).collect();
        let mut cx = Context { diagnostics: cx.diagnostics, params: &params, today };
        let checks = t.body.statements().filter_map(|s| asserts::read_case(&mut cx, s)).collect();
        m.tests.push(Case { title: t.name.clone(), span: t.span, checks });
    }
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    machines
}

fn machine(
    cx: &mut Context<'_>,
    decl: &Declarations<'_>,
    (d, name): (&Declared<'_>, &Spanned<String>),
    walk: &mut Walk,
    kernel: &Spanned<(u16, u16)>,
) -> Option<Policy> {
    let mut grants = effective(cx, decl, d, walk)?;
    grants.values = cx.params.iter().map(|(k, v)| (k.clone(), v.span)).collect();
    let defaults: BTreeMap<String, Spanned<String>> =
        decl.params.iter().map(|(k, (_, v))| (k.clone(), v.clone())).collect();
    // A ceiling is its owner's: no instance of a machine sets its parameters.
    let mut owner = Context { diagnostics: cx.diagnostics, params: &defaults, today: cx.today };
    let within = ceilings(&mut owner, decl, &grants);
    for c in &within {
        grants.assertions.extend(c.grants.assertions.iter().cloned());
    }
    super::check::finish(cx, (name, d.body.span), kernel, grants, within)
}

/// Most profiles that bound one machine: it is held against each.
const MOST_CEILINGS: usize = 32;

/// The profiles that bound a machine, resolved like parents and merged with nothing.
fn ceilings(cx: &mut Context<'_>, decl: &Declarations<'_>, grants: &Grants) -> Vec<Ceiling> {
    let mut out: Vec<Ceiling> = Vec::new();
    if let (Some(lift), Some(bound)) = (grants.lifts.first(), grants.within.first()) {
        cx.diagnostics.push(
            Diagnostic::error("E0312", *lift, "a denial can't be overridden below a ceiling")
                .also(bound.span, "the ceiling")
                .help("remove the override, or the ceiling"),
        );
    }
    let mut names = grants.within.clone();
    let mut next = 0;
    // A ceiling's own ceilings hold as well.
    while let Some(name) = names.get(next).cloned() {
        next += 1;
        let name = &name;
        if out.iter().any(|c| c.name.value == name.value) {
            continue;
        }
        if out.len() >= MOST_CEILINGS {
            let message = format!("a machine has at most {MOST_CEILINGS} ceilings");
            cx.error("E0316", name.span, message, "put what they say into fewer profiles");
            break;
        }
        match decl.items.get(&name.value) {
            Some(p) if !p.bootable => {
                if let Some(mut grants) = effective(cx, decl, p, &mut Walk::default()) {
                    super::check::bound_ports(cx, &mut grants);
                    if let (Some(span), true) = (grants.files_block, grants.files.is_empty()) {
                        cx.error(
                            "E0521",
                            span,
                            "this `files` block bounds nothing",
                            "name a path, or remove the block",
                        );
                    }
                    names.extend(grants.within.iter().cloned());
                    out.push(Ceiling { name: name.clone(), declared: p.name.span, grants });
                }
            }
            _ => {
                let known: Vec<&str> =
                    decl.items.values().filter(|d| !d.bootable).map(|d| d.name.value.as_str()).collect();
                cx.unknown_profile(name, &known);
            }
        }
    }
    out
}

/// Deepest chain of profiles, and of groups.
pub(super) const MAX_CHAIN: usize = 32;

/// Where the merging of profiles stands.
#[derive(Default)]
struct Walk {
    path: Vec<String>,
    /// Profiles that are merged already: each is read once, however many extend it.
    done: BTreeMap<String, Grants>,
    /// What was merged into this item so far.
    work: usize,
}

/// Most lines and names that are merged into one item, each as often as it comes.
const MOST_WORK: usize = 200_000;

fn too_long(cx: &mut Context<'_>, span: Span) {
    let message = format!("more than {MAX_CHAIN} profiles extend each other in a row");
    cx.error("E0304", span, message, "a reviewer must be able to follow the chain");
}

/// Parents merged, then what this item itself says.
fn effective(cx: &mut Context<'_>, decl: &Declarations<'_>, d: &Declared<'_>, walk: &mut Walk) -> Option<Grants> {
    if let Some(g) = walk.done.get(&d.name.value) {
        return Some(g.clone());
    }
    let own = section_list(cx, d.body);
    let mut merged = Grants::default();
    walk.path.push(d.name.value.clone());
    let mut ancestors: Vec<Ancestor> = Vec::new();
    let mut parents: Vec<&Spanned<String>> = Vec::new();
    for parent in &own.extends {
        if !parents.iter().any(|p| p.value == parent.value) {
            parents.push(parent);
        }
    }
    for parent in parents {
        if walk.path.contains(&parent.value) {
            cx.error("E0304", parent.span, format!("`{}` extends itself", parent.value), walk.path.join(" -> "));
            continue;
        }
        if walk.path.len() >= MAX_CHAIN {
            too_long(cx, parent.span);
            continue;
        }
        let Some(p) = decl.items.get(&parent.value) else {
            let known: Vec<&str> = decl.items.keys().map(String::as_str).collect();
            cx.unknown_profile(parent, &known);
            continue;
        };
        if p.bootable {
            cx.error(
                "E0303",
                parent.span,
                format!("`{}` is a machine, not a profile", parent.value),
                "put what they share into a profile",
            );
            continue;
        }
        if let Some(g) = effective(cx, decl, p, walk) {
            // One that was merged before comes with its whole chain.
            let depth = g.ancestors.iter().map(|a| a.path.len()).max().unwrap_or(0);
            if walk.path.len() + 1 + depth > MAX_CHAIN {
                too_long(cx, parent.span);
                continue;
            }
            let names: usize = g.ancestors.iter().map(|a| a.path.len()).sum();
            walk.work += names + g.syscalls.len() + g.mounts.len() + g.files.len() + g.ports.len();
            if walk.work > MOST_WORK {
                let message = format!("`{}` comes by too many ways", parent.value);
                cx.error("E0304", parent.span, message, "extend each profile once, by the shortest way");
                break;
            }
            let name = &p.name.value;
            let further = g.ancestors.iter().map(|a| Ancestor {
                body: a.body,
                path: [std::slice::from_ref(name), a.path.as_slice()].concat(),
                lines: [&[parent.span], a.lines.as_slice()].concat(),
            });
            let near = Ancestor { body: p.body.span, path: vec![name.clone()], lines: vec![parent.span] };
            ancestors.extend([near].into_iter().chain(further));
            union(cx, &mut merged, g, &own);
        }
    }
    walk.path.pop();
    let mut result = apply(cx, decl, merged, own)?;
    // The shortest way to each.
    ancestors.sort_by_key(|a| (a.body, a.path.len()));
    ancestors.dedup_by_key(|a| a.body);
    result.ancestors = ancestors;
    // Nobody extends a machine.
    if !d.bootable {
        walk.done.insert(d.name.value.clone(), result.clone());
    }
    Some(result)
}
