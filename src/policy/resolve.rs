//! From files to one machine's policy: imports, parameters, inheritance, merging.
//!
//! Order never matters, neither in a file nor among parents; only mounts keep theirs.

use super::asserts::{self, Assertion, Case};
use super::reader::{Args, Context, Meta, number};
use super::{Policy, capabilities, files, loader, mounts, network, process, resources, syscalls};
use crate::diagnostic::{Diagnostic, Diagnostics, did_you_mean};
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
    overriding: bool,
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
    /// A limit, a mode, a version.
    Number(u64),
}

/// A `remove` statement.
#[derive(Clone, Debug)]
pub(super) struct Remove {
    pub(super) what: Removed,
    pub(super) span: Span,
}

/// What is taken out of the inherited grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    Capability(u8),
    Mount(String),
    File(files::Right, String),
    Port(network::Use, Option<u16>),
    Variable(String),
    Device(String),
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
    /// TCP ports.
    pub ports: Vec<network::Port>,
    /// The environment.
    pub environment: Vec<process::Variable>,
    /// Devices.
    pub devices: Vec<process::Device>,
    /// Assertions.
    pub assertions: Vec<Assertion>,
    pub(super) removes: Vec<Remove>,
    lines: Vec<syscalls::Line>,
    extends: Vec<Spanned<String>>,
}

impl Grants {
    /// Keeps a statement of which there is one.
    pub(super) fn scalar(&mut self, cx: &mut Context<'_>, key: &str, value: Value, args: &Args<'_>, overriding: bool) {
        if overriding && args.meta.why.is_none() {
            cx.error("E0305", args.span, "an override needs a reason", "add why \"...\"");
        }
        let new = Scalar { value, span: args.span, meta: args.meta.clone(), overriding };
        if let Some(old) = self.scalars.get(key)
            && old.value != new.value
        {
            conflict(cx, key, old, &new);
        }
        self.scalars.insert(key.to_owned(), new);
    }
}

fn conflict(cx: &mut Context<'_>, key: &str, old: &Scalar, new: &Scalar) {
    cx.diagnostics.push(
        Diagnostic::error("E0301", new.span, format!("`{key}` has two different values"))
            .label("this one")
            .also(old.span, "and this one")
            .help("write `override ... why \"...\"` before the one that is meant to win"),
    );
}

/// A declared profile or machine.
struct Declared<'a> {
    name: Spanned<String>,
    bootable: bool,
    body: &'a ast::Block,
}

struct Test<'a> {
    name: String,
    machine: Spanned<String>,
    body: &'a ast::Block,
    span: Span,
}

/// A machine under another name with other parameters.
struct Instance {
    name: Spanned<String>,
    of: Spanned<String>,
    values: BTreeMap<String, String>,
}

/// Everything that a file and its imports declare.
#[derive(Default)]
struct Declarations<'a> {
    items: BTreeMap<String, Declared<'a>>,
    groups: syscalls::Groups,
    params: BTreeMap<String, (ParamType, String)>,
    instances: Vec<Instance>,
    tests: Vec<Test<'a>>,
    kernel: Option<Spanned<(u16, u16)>>,
}

/// The machines of a file, resolved.
pub struct Resolved {
    /// In the order of their names.
    pub machines: Vec<Policy>,
    /// Groups that are visible from the file, expanded, for `stockade groups`.
    pub groups: Vec<(String, Vec<syscalls::Rule>)>,
}

/// Reads and resolves file `id` of `sources` with all its imports. Findings go to `diagnostics`;
/// a machine with an error in it is still returned, so that later passes can report more.
pub fn resolve(id: FileId, sources: &mut Sources, diagnostics: &mut Diagnostics, today: &str) -> Resolved {
    let mut files = Vec::new();
    load(id, sources, diagnostics, &mut files);
    let main_is_bad = diagnostics.has_errors();
    let mut decl = Declarations::default();
    for (file_id, file) in &files {
        declare(*file_id, *file_id == id, file, diagnostics, &mut decl);
    }
    let mut machines = Vec::new();
    if !main_is_bad {
        machines = build_all(id, &decl, diagnostics, today);
    }
    let params = BTreeMap::new();
    let mut cx = Context { diagnostics, params: &params };
    let groups = decl.groups.iter().map(|(name, g)| (name.clone(), group_rules(&mut cx, &decl.groups, g))).collect();
    Resolved { machines, groups }
}

fn group_rules(cx: &mut Context<'_>, groups: &syscalls::Groups, g: &syscalls::Group) -> Vec<syscalls::Rule> {
    let Some(span) = g.span else { return Vec::new() };
    syscalls::expand(cx, groups, &g.entries)
        .into_iter()
        .map(|(call, conditions, inner)| syscalls::Rule {
            call,
            conditions,
            action: syscalls::Action::Allow,
            meta: Meta::default(),
            span,
            group: inner,
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
                let mut cx = Context { diagnostics, params: &params };
                let mut args = Args::new(&mut cx, s, 1);
                let name = args.text(&mut cx, "the import's name in quotes");
                args.finish(&mut cx);
                name
            };
            let Some(name) = name else { continue };
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

const TOP: &[&str] = &["policy", "kernel", "import", "param", "group", "profile", "machine", "instance", "test"];

fn declare<'a>(id: FileId, main: bool, file: &'a ast::File, diagnostics: &mut Diagnostics, out: &mut Declarations<'a>) {
    let no_params = BTreeMap::new();
    let mut edition = None;
    for (index, s) in file.statements().enumerate() {
        let keyword = s.keyword().unwrap_or("");
        if index == 0 && keyword != "policy" {
            let d = Diagnostic::error("E0215", s.span, "a policy file begins with its edition").help("the first line is `policy 1`");
            diagnostics.push(d);
        }
        if !TOP.contains(&keyword) {
            let mut cx = Context { diagnostics, params: &no_params };
            let word = Spanned { value: keyword.to_owned(), span: s.items.first().map_or(s.span, |i| i.span) };
            cx.unknown("E0201", "statement", &word, TOP);
            continue;
        }
        let mut cx = Context { diagnostics, params: &no_params };
        let mut args = Args::new(&mut cx, s, 1);
        let takes_block = matches!(keyword, "group" | "profile" | "machine" | "test");
        let block = block_of(&mut cx, s, takes_block);
        match keyword {
            "policy" => {
                let v = args.word(&mut cx, "the edition");
                args.finish(&mut cx);
                if let Some(v) = v
                    && v.value != "1"
                {
                    cx.error("E0215", v.span, format!("unknown edition `{}`", v.value), "this version knows edition 1");
                }
                if edition.replace(s.span).is_some() || index > 0 {
                    cx.error("E0215", s.span, "the edition is the first line, once", "remove this line");
                }
            }
            "kernel" => kernel(&mut cx, &mut args, main, out),
            "param" => param(&mut cx, &mut args, out),
            "group" => {
                let Some(name) = args.word(&mut cx, "the group's name, as in `@io`") else { continue };
                args.finish(&mut cx);
                if !name.value.starts_with('@') {
                    cx.error("E0211", name.span, "a group's name begins with `@`", format!("group @{}", name.value));
                }
                let mut group = syscalls::Group { span: Some(name.span), entries: Vec::new() };
                for s in block.map(|b| b.statements().collect::<Vec<_>>()).unwrap_or_default() {
                    no_block(&mut cx, s);
                    match syscalls::read(&mut cx, s) {
                        Some(l) if l.verb == syscalls::Verb::Set(syscalls::Action::Allow) => group.entries.extend(l.targets),
                        Some(l) => cx.error("E0216", l.span, "a group only names calls with `allow`", "deny the group where it is used"),
                        None => {}
                    }
                }
                if let Some(old) = out.groups.get(&name.value).and_then(|g| g.span) {
                    twice(&mut cx, &name, old);
                }
                out.groups.insert(name.value, group);
            }
            "profile" | "machine" => {
                let Some(name) = args.word(&mut cx, "a name") else { continue };
                args.finish(&mut cx);
                let bootable = keyword == "machine";
                name_check(&mut cx, &name, bootable);
                let Some(body) = block else { continue };
                if let Some(old) = out.items.get(&name.value) {
                    twice(&mut cx, &name, old.name.span);
                }
                out.items.insert(name.value.clone(), Declared { name, bootable, body });
            }
            "instance" => instance(&mut cx, &mut args, out),
            "test" => {
                let Some(title) = args.text(&mut cx, "what is tested, in quotes") else { continue };
                if args.one_of(&["on"]).is_none() {
                    cx.error("E0205", s.span, "expected `on MACHINE`", "test \"...\" on MACHINE { ... }");
                    continue;
                }
                let Some(machine) = args.word(&mut cx, "the machine") else { continue };
                args.finish(&mut cx);
                if let Some(body) = block {
                    out.tests.push(Test { name: title.value, machine, body, span: s.span });
                }
            }
            _ => {}
        }
    }
    if file.statements().next().is_none() {
        let span = Span { file: id, start: 0, end: 0 };
        diagnostics.push(Diagnostic::error("E0215", span, "the file says nothing").help("the first line is `policy 1`"));
    }
}

fn block_of<'a>(cx: &mut Context<'_>, s: &'a ast::Statement, takes: bool) -> Option<&'a ast::Block> {
    match (&s.block, takes) {
        (Some(b), true) => Some(b),
        (None, true) => {
            cx.error("E0217", s.span, "a block is missing after this", "add `{ ... }`");
            None
        }
        (Some(b), false) => {
            cx.error("E0218", b.span, "this statement takes no block", "remove the braces");
            None
        }
        (None, false) => None,
    }
}

fn no_block(cx: &mut Context<'_>, s: &ast::Statement) {
    block_of(cx, s, false);
}

fn twice(cx: &mut Context<'_>, name: &Spanned<String>, old: Span) {
    cx.diagnostics.push(
        Diagnostic::error("E0302", name.span, format!("`{}` is declared twice", name.value))
            .also(old, "first declared here")
            .help("give one of them another name"),
    );
}

fn name_check(cx: &mut Context<'_>, name: &Spanned<String>, bootable: bool) {
    let ok = if bootable { super::valid_name(&name.value) } else { name.value.split('/').all(super::valid_name) };
    if !ok {
        cx.error("E0211", name.span, format!("`{}` can't be a name", name.value), super::NAME_HELP);
    }
}

fn kernel(cx: &mut Context<'_>, args: &mut Args<'_>, main: bool, out: &mut Declarations<'_>) {
    let Some(w) = args.word(cx, "a kernel version, as in `6.12`") else { return };
    args.finish(cx);
    let parsed = w.value.split_once('.').and_then(|(a, b)| {
        let n = |t: &str| number(t).and_then(|n| u16::try_from(n).ok());
        Some((n(a)?, n(b)?))
    });
    match parsed {
        Some(v) if v > super::TABLE => {
            let (a, b) = super::TABLE;
            cx.error("E0219", w.span, format!("the table of system calls ends at Linux {a}.{b}"), format!("write `kernel {a}.{b}` or older"));
        }
        Some(v) if v < (4, 19) => {
            cx.error("E0219", w.span, "a baseline older than 4.19 is not supported", "write the version whose calls you reviewed");
        }
        Some(v) if main => {
            if out.kernel.replace(Spanned { value: v, span: w.span }).is_some() {
                cx.error("E0219", w.span, "the kernel baseline is written twice", "keep one");
            }
        }
        Some(_) => {}
        None => cx.error("E0219", w.span, format!("`{}` is not a kernel version", w.value), "as in `kernel 6.12`"),
    }
}

fn param(cx: &mut Context<'_>, args: &mut Args<'_>, out: &mut Declarations<'_>) {
    let Some(name) = args.word(cx, "the parameter's name") else { return };
    let Some(kind) = args.word(cx, "its type") else { return };
    if !PARAM_TYPES.contains(&kind.value.as_str()) {
        return cx.unknown("E0220", "parameter type", &kind, PARAM_TYPES);
    }
    let mut choices = Vec::new();
    if kind.value == "enum" {
        choices = args.words(cx, "a choice").into_iter().map(|w| w.value).collect();
    }
    let default = match args.peek().map(|i| &i.kind) {
        Some(ast::Kind::Text(_)) => args.text(cx, "the default"),
        Some(ast::Kind::Word(w)) if w != "in" => args.word(cx, "the default"),
        _ => None,
    };
    let mut bounds = None;
    if args.one_of(&["in"]).is_some() {
        let low = args.word(cx, "the smallest value").and_then(|w| number(&w.value));
        let between = args.op("..=");
        let high = args.word(cx, "the largest value").and_then(|w| number(&w.value));
        match (low, between, high) {
            (Some(l), true, Some(h)) if matches!(kind.value.as_str(), "int" | "port") => bounds = Some((l, h)),
            _ => return cx.error("E0220", args.span, "a range is two numbers of an int or port", "param port port 443 in 1..=1023"),
        }
    }
    args.finish(cx);
    let Some(default) = default else {
        return cx.error("E0220", name.span, format!("parameter `{}` has no default", name.value), "give it one; instances may set another");
    };
    let type_ = ParamType { kind: kind.value, choices, bounds };
    if let Some(fault) = type_.fault(&default.value) {
        return cx.error("E0220", default.span, fault, "the default must be of the parameter's type");
    }
    if out.params.insert(name.value.clone(), (type_, default.value)).is_some() {
        cx.error("E0302", name.span, format!("parameter `{}` is declared twice", name.value), "keep one");
    }
}

const PARAM_TYPES: &[&str] = &["path", "port", "cidr", "int", "size", "duration", "bool", "string", "enum"];

#[derive(Clone)]
struct ParamType {
    kind: String,
    choices: Vec<String>,
    bounds: Option<(i128, i128)>,
}

impl ParamType {
    /// What is wrong with a value of this type, if anything is.
    fn fault(&self, v: &str) -> Option<String> {
        use super::reader::{duration, path_fault, size};
        let ok = match self.kind.as_str() {
            "path" => path_fault(v).is_none(),
            "port" => number(v).is_some_and(|n| (1..=65535).contains(&n)),
            "int" => number(v).is_some(),
            "size" => size(v).is_some(),
            "duration" => duration(v).is_some(),
            "bool" => matches!(v, "true" | "false"),
            "enum" => self.choices.iter().any(|c| c == v),
            "cidr" => is_cidr(v),
            _ => !v.contains('\n'),
        };
        if !ok {
            return Some(format!("`{v}` is not a {}", self.kind));
        }
        match self.bounds {
            Some((low, high)) if !number(v).is_some_and(|n| (low..=high).contains(&n)) => {
                Some(format!("`{v}` is not in {low}..={high}"))
            }
            _ => None,
        }
    }
}

fn is_cidr(v: &str) -> bool {
    let Some((address, bits)) = v.split_once('/') else { return false };
    let bits = number(bits);
    match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => bits.is_some_and(|b| (0..=32).contains(&b)),
        Ok(std::net::IpAddr::V6(_)) => bits.is_some_and(|b| (0..=128).contains(&b)),
        Err(_) => false,
    }
}

fn instance(cx: &mut Context<'_>, args: &mut Args<'_>, out: &mut Declarations<'_>) {
    let Some(name) = args.word(cx, "a name") else { return };
    name_check(cx, &name, true);
    if args.one_of(&["of"]).is_none() {
        return cx.error("E0205", args.span, "expected `of MACHINE`", "instance NAME of MACHINE [port=8443]");
    }
    let Some(of) = args.word(cx, "a machine") else { return };
    let mut values = BTreeMap::new();
    if let Some(mut list) = args.list() {
        let pairs = list.separated(cx, |a, cx| {
            let key = a.word(cx, "a parameter")?;
            if !a.op("=") {
                cx.error("E0205", key.span, "expected `=` and a value", "port=8443");
                return None;
            }
            let value = match a.peek().map(|i| &i.kind) {
                Some(ast::Kind::Text(_)) => a.text(cx, "a value")?,
                _ => a.word(cx, "a value")?,
            };
            Some((key, value))
        });
        for (key, value) in pairs {
            let Some((type_, _)) = out.params.get(&key.value) else {
                let known: Vec<&str> = out.params.keys().map(String::as_str).collect();
                cx.unknown("E0208", "parameter", &key, &known);
                continue;
            };
            if let Some(fault) = type_.fault(&value.value) {
                cx.error("E0220", value.span, fault, "the value must be of the parameter's type");
            }
            values.insert(key.value, value.value);
        }
    }
    args.finish(cx);
    out.instances.push(Instance { name, of, values });
}

fn build_all(main: FileId, decl: &Declarations<'_>, diagnostics: &mut Diagnostics, today: &str) -> Vec<Policy> {
    let defaults: BTreeMap<String, String> = decl.params.iter().map(|(k, (_, v))| (k.clone(), v.clone())).collect();
    let mut cx = Context { diagnostics, params: &defaults };
    let Some(kernel) = &decl.kernel else {
        let span = Span { file: main, start: 0, end: 0 };
        cx.error("E0219", span, "the file doesn't say which kernel's calls were reviewed", "add `kernel 6.12` as the second line");
        return Vec::new();
    };
    let mut machines = Vec::new();
    // Profiles are read for their faults even when no machine uses them.
    for d in decl.items.values().filter(|d| !d.bootable && d.name.span.file == main) {
        effective(&mut cx, decl, d, &mut Vec::new());
    }
    for d in decl.items.values().filter(|d| d.bootable && d.name.span.file == main) {
        machines.extend(machine(&mut cx, decl, d, &d.name, kernel.value, today));
    }
    for i in &decl.instances {
        let Some(d) = decl.items.get(&i.of.value).filter(|d| d.bootable) else {
            let known: Vec<&str> = decl.items.values().filter(|d| d.bootable).map(|d| d.name.value.as_str()).collect();
            cx.unknown("E0303", "machine", &i.of, &known);
            continue;
        };
        if let Some(old) = decl.items.get(&i.name.value) {
            twice(&mut cx, &i.name, old.name.span);
        }
        let params = defaults.clone().into_iter().chain(i.values.clone()).collect();
        let mut cx = Context { diagnostics: cx.diagnostics, params: &params };
        machines.extend(machine(&mut cx, decl, d, &i.name, kernel.value, today));
    }
    for t in &decl.tests {
        let Some(m) = machines.iter_mut().find(|m| m.name == t.machine.value) else {
            let known: Vec<&str> = decl.items.values().filter(|d| d.bootable).map(|d| d.name.value.as_str()).collect();
            cx.unknown("E0303", "machine", &t.machine, &known);
            continue;
        };
        let checks = t.body.statements().filter_map(|s| asserts::read_case(&mut cx, s)).collect();
        m.tests.push(Case { title: t.name.clone(), span: t.span, checks });
    }
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    machines
}

fn machine(
    cx: &mut Context<'_>,
    decl: &Declarations<'_>,
    d: &Declared<'_>,
    name: &Spanned<String>,
    kernel: (u16, u16),
    today: &str,
) -> Option<Policy> {
    let grants = effective(cx, decl, d, &mut Vec::new())?;
    super::check::finish(cx, name, kernel, grants, today)
}

/// Parents merged, then what this item itself says.
fn effective(cx: &mut Context<'_>, decl: &Declarations<'_>, d: &Declared<'_>, path: &mut Vec<String>) -> Option<Grants> {
    let own = section_list(cx, d.body);
    let mut merged = Grants::default();
    path.push(d.name.value.clone());
    for parent in &own.extends {
        if path.contains(&parent.value) {
            cx.error("E0304", parent.span, format!("`{}` extends itself", parent.value), path.join(" -> "));
            continue;
        }
        let Some(p) = decl.items.get(&parent.value) else {
            let known: Vec<&str> = decl.items.keys().map(String::as_str).collect();
            let help = did_you_mean(&parent.value, known.iter().copied())
                .unwrap_or_else(|| "import the file that declares it".into());
            cx.error("E0303", parent.span, format!("unknown profile `{}`", parent.value), help);
            continue;
        };
        if p.bootable {
            cx.error("E0303", parent.span, format!("`{}` is a machine, not a profile", parent.value), "put what they share into a profile");
            continue;
        }
        if let Some(g) = effective(cx, decl, p, path) {
            union(cx, &mut merged, g, &own);
        }
    }
    path.pop();
    apply(cx, decl, merged, own)
}

/// The union of two parents. Scalars that differ are an error unless the child overrides them.
fn union(cx: &mut Context<'_>, into: &mut Grants, from: Grants, child: &Grants) {
    for (key, new) in from.scalars {
        if let Some(old) = into.scalars.get(&key)
            && old.value != new.value
            && !child.scalars.get(&key).is_some_and(|c| c.overriding)
        {
            conflict(cx, &key, old, &new);
        }
        into.scalars.insert(key, new);
    }
    let known = |r: &syscalls::Rule, list: &[syscalls::Rule]| {
        list.iter().any(|o| o.span == r.span && o.action == r.action && o.same_target(r))
    };
    for r in from.syscalls {
        if !known(&r, &into.syscalls) {
            into.syscalls.push(r);
        }
    }
    let seen: Vec<Span> = into.spans();
    into.capabilities.extend(from.capabilities.into_iter().filter(|g| !seen.contains(&g.span)));
    into.capabilities_none = into.capabilities_none.or(from.capabilities_none);
    into.mounts.extend(from.mounts.into_iter().filter(|g| !seen.contains(&g.span)));
    into.files.extend(from.files.into_iter().filter(|g| !seen.contains(&g.span)));
    into.ports.extend(from.ports.into_iter().filter(|g| !seen.contains(&g.span)));
    into.environment.extend(from.environment.into_iter().filter(|g| !seen.contains(&g.span)));
    into.devices.extend(from.devices.into_iter().filter(|g| !seen.contains(&g.span)));
    into.assertions.extend(from.assertions.into_iter().filter(|g| !seen.contains(&g.span)));
}

impl Grants {
    fn spans(&self) -> Vec<Span> {
        let mut out: Vec<Span> = self.capabilities.iter().map(|g| g.span).collect();
        out.extend(self.mounts.iter().map(|g| g.span));
        out.extend(self.files.iter().map(|g| g.span));
        out.extend(self.ports.iter().map(|g| g.span));
        out.extend(self.environment.iter().map(|g| g.span));
        out.extend(self.devices.iter().map(|g| g.span));
        out.extend(self.assertions.iter().map(|g| g.span));
        out
    }
}

/// What the item itself says, over what it inherits.
fn apply(cx: &mut Context<'_>, decl: &Declarations<'_>, mut base: Grants, own: Grants) -> Option<Grants> {
    for r in &own.removes {
        if !take_out(&mut base, &r.what) {
            cx.error("E0306", r.span, "this removes what nobody granted", "delete the line, or correct the name");
        }
    }
    for line in &own.lines {
        let found = syscalls::expand(cx, &decl.groups, &line.targets);
        match line.verb {
            syscalls::Verb::Set(_) => {}
            syscalls::Verb::Remove | syscalls::Verb::Lift => {
                let lifting = line.verb == syscalls::Verb::Lift;
                let before = base.syscalls.len();
                for (call, conditions, _) in &found {
                    base.syscalls.retain(|r| {
                        let hit = r.call.name == call.name && (conditions.is_empty() || r.conditions == *conditions);
                        let denial = r.action > syscalls::Action::Log;
                        !(hit && denial == lifting)
                    });
                }
                if base.syscalls.len() == before {
                    let what = if lifting { "this overrides a denial that isn't there" } else { "this removes what nobody granted" };
                    cx.error("E0306", line.span, what, "delete the line, or correct the name");
                }
            }
        }
    }
    for line in &own.lines {
        let syscalls::Verb::Set(action) = line.verb else { continue };
        for (call, conditions, group) in syscalls::expand(cx, &decl.groups, &line.targets) {
            let rule = syscalls::Rule { call, conditions, action, meta: line.meta.clone(), span: line.span, group };
            if !base.syscalls.iter().any(|r| r.action == action && r.same_target(&rule)) {
                base.syscalls.push(rule);
            }
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
    base.files.extend(own.files);
    base.ports.extend(own.ports);
    base.environment.extend(own.environment);
    base.devices.extend(own.devices);
    base.assertions.extend(own.assertions);
    Some(base)
}

fn take_out(base: &mut Grants, what: &Removed) -> bool {
    fn drop<T>(list: &mut Vec<T>, hit: impl Fn(&T) -> bool) -> bool {
        let before = list.len();
        list.retain(|x| !hit(x));
        list.len() < before
    }
    match what {
        Removed::Capability(c) => drop(&mut base.capabilities, |g| g.capability == *c),
        Removed::Mount(t) => drop(&mut base.mounts, |m| m.target == *t),
        Removed::File(right, path) => drop(&mut base.files, |f| f.right == *right && f.path == *path),
        Removed::Port(how, port) => drop(&mut base.ports, |p| p.how == *how && p.port == *port),
        Removed::Variable(n) => drop(&mut base.environment, |v| v.name == *n),
        Removed::Device(p) => drop(&mut base.devices, |d| d.path == *p),
    }
}

const SECTIONS: &[&str] = &[
    "about", "owner", "root", "exec", "boot", "user", "userns", "hostname", "chdir", "umask", "no-new-privs", "require",
    "capabilities", "mounts", "files", "network", "syscalls", "devices", "environment", "credentials", "limits",
    "service", "assert", "extends", "within", "override",
];

/// Reads the body of a profile or machine.
fn section_list(cx: &mut Context<'_>, body: &ast::Block) -> Grants {
    let mut out = Grants::default();
    for s in body.statements() {
        section(cx, s, &mut out);
    }
    out
}

fn section(cx: &mut Context<'_>, s: &ast::Statement, out: &mut Grants) {
    let overriding = s.keyword() == Some("override");
    let mut args = Args::new(cx, s, usize::from(overriding));
    let Some(keyword) = args.word(cx, "a statement") else { return };
    let blocks = [
        "capabilities", "mounts", "files", "network", "syscalls", "devices", "environment", "limits", "assert",
    ];
    if overriding && blocks.contains(&keyword.value.as_str()) {
        return cx.error("E0307", keyword.span, "a block can't be overridden as a whole", "write `override` before the line inside it");
    }
    if blocks.contains(&keyword.value.as_str()) {
        args.finish(cx);
        let Some(block) = block_of(cx, s, true) else { return };
        for s in block.statements() {
            no_block(cx, s);
            match keyword.value.as_str() {
                "capabilities" => capabilities::read(cx, s, out),
                "mounts" => mounts::read(cx, s, out),
                "files" => files::read(cx, s, out),
                "network" => network::read(cx, s, out),
                "syscalls" => out.lines.extend(syscalls::read(cx, s)),
                "devices" => process::read_device(cx, s, out),
                "environment" => process::read_environment(cx, s, out),
                "limits" => resources::read(cx, s, out),
                _ => out.assertions.extend(asserts::read(cx, s)),
            }
        }
        return;
    }
    if !matches!(keyword.value.as_str(), "credentials" | "service") {
        no_block(cx, s);
    }
    match keyword.value.as_str() {
        "about" | "owner" => {
            if let Some(t) = args.text(cx, "a text") {
                args.finish(cx);
                out.scalar(cx, &keyword.value, Value::Text(t.value), &args, overriding);
            }
        }
        "root" => mounts::read_root(cx, &mut args, out, overriding),
        "exec" => process::read_exec(cx, &mut args, out, overriding),
        "boot" => {
            args.finish(cx);
            out.scalar(cx, "program", Value::Program(process::Program::Boot), &args, overriding);
        }
        "user" => process::read_user(cx, &mut args, out, overriding),
        "userns" => process::read_userns(cx, &mut args, out, overriding),
        "hostname" => {
            let Some(w) = args.word(cx, "a host name") else { return };
            args.finish(cx);
            if !super::valid_name(&w.value) {
                return cx.error("E0211", w.span, format!("`{}` can't be a host name", w.value), super::NAME_HELP);
            }
            out.scalar(cx, "hostname", Value::Text(w.value), &args, overriding);
        }
        "chdir" => {
            if let Some(p) = args.path(cx, "a path") {
                args.finish(cx);
                out.scalar(cx, "chdir", Value::Text(p.value), &args, overriding);
            }
        }
        "umask" => {
            let Some(w) = args.word(cx, "an octal mode") else { return };
            args.finish(cx);
            match u64::from_str_radix(&w.value, 8).ok().filter(|m| *m <= 0o777) {
                Some(m) => out.scalar(cx, "umask", Value::Number(m), &args, overriding),
                None => cx.error("E0213", w.span, "a umask is an octal number up to 777", "umask 022"),
            }
        }
        "no-new-privs" => {
            if args.one_of(&["off"]).is_none() {
                return cx.error("E0205", args.span, "expected `off`", "it is on unless `no-new-privs off why \"...\"` is written");
            }
            args.finish(cx);
            if args.meta.why.is_none() {
                cx.error("E0308", args.span, "giving no_new_privs up needs a reason", "add why \"...\"");
            }
            out.scalar(cx, "no-new-privs", Value::Number(0), &args, overriding);
        }
        "require" => {
            let Some(what) = args.word(cx, "`landlock`") else { return };
            let Some(w) = args.word(cx, "a version") else { return };
            args.finish(cx);
            match (what.value.as_str(), number(&w.value).and_then(|n| u64::try_from(n).ok())) {
                ("landlock", Some(n)) if (1..=100).contains(&n) => out.scalar(cx, "landlock", Value::Number(n), &args, overriding),
                ("landlock", _) => cx.error("E0212", w.span, "an ABI version of Landlock is a small number", "require landlock 4"),
                _ => cx.unknown("E0202", "requirement", &what, &["landlock"]),
            }
        }
        "extends" => {
            let names = args.separated(cx, |a, cx| a.word(cx, "a profile"));
            out.extends.extend(names);
        }
        "within" => cx.not_yet(s.span, "`within`"),
        "credentials" | "service" => cx.not_yet(s.span, &format!("`{}`", keyword.value)),
        _ => cx.unknown("E0201", "statement", &keyword, SECTIONS),
    }
}
