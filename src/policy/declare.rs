//! What a file declares: parameters, groups, profiles, machines, instances, tests.

use super::reader::{Args, Context, number};
use super::syscalls;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::source::{FileId, Span, Spanned};
use crate::syntax::ast;
use std::collections::BTreeMap;

/// A declared profile or machine.
pub(super) struct Declared<'a> {
    pub(super) name: Spanned<String>,
    pub(super) bootable: bool,
    pub(super) body: &'a ast::Block,
}

pub(super) struct Test<'a> {
    pub(super) name: String,
    pub(super) machine: Spanned<String>,
    pub(super) body: &'a ast::Block,
    pub(super) span: Span,
}

/// A machine under another name with other parameters.
pub(super) struct Instance {
    pub(super) name: Spanned<String>,
    pub(super) of: Spanned<String>,
    pub(super) span: Span,
    /// Each parameter that it sets: its name where it stands, and the value.
    pub(super) values: BTreeMap<String, (Spanned<String>, Spanned<String>)>,
}

impl Instance {
    /// The values by the names of the parameters.
    pub(super) fn given(&self) -> impl Iterator<Item = (String, Spanned<String>)> {
        self.values.iter().map(|(name, (_, value))| (name.clone(), value.clone()))
    }
}

/// Everything that a file and its imports declare.
#[derive(Default)]
pub(super) struct Declarations<'a> {
    pub(super) items: BTreeMap<String, Declared<'a>>,
    pub(super) groups: syscalls::Groups,
    pub(super) params: BTreeMap<String, (ParamType, Spanned<String>)>,
    pub(super) instances: Vec<Instance>,
    pub(super) tests: Vec<Test<'a>>,
    pub(super) kernel: Option<Spanned<(u16, u16)>>,
}

const TOP: &[&str] = &["policy", "kernel", "import", "param", "group", "profile", "machine", "instance", "test"];

pub(super) fn declare<'a>(
    id: FileId,
    main: bool,
    file: &'a ast::File,
    (library, today): (bool, &str),
    diagnostics: &mut Diagnostics,
    out: &mut Declarations<'a>,
) {
    let no_params = BTreeMap::new();
    let mut edition = None;
    for (index, s) in file.statements().enumerate() {
        let keyword = s.keyword().unwrap_or("");
        if index == 0 && keyword != "policy" {
            let d = Diagnostic::error("E0215", s.span, "a policy file begins with its edition")
                .help("the first line is `policy 1`");
            diagnostics.push(d);
        }
        if !TOP.contains(&keyword) {
            let mut cx = Context { diagnostics, params: &no_params, today };
            let word = Spanned { value: keyword.to_owned(), span: s.items.first().map_or(s.span, |i| i.span) };
            cx.unknown("E0201", "statement", &word, TOP);
            continue;
        }
        let mut cx = Context { diagnostics, params: &no_params, today };
        let mut args = Args::new(&mut cx, s, 1);
        args.no_until(&mut cx);
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
                let mut group = syscalls::Group { span: Some(name.span), lines: Vec::new() };
                for s in block.map(|b| b.statements().collect::<Vec<_>>()).unwrap_or_default() {
                    no_block(&mut cx, s);
                    let line = syscalls::read(&mut cx, s);
                    if let Some(until) = line.as_ref().and_then(|l| l.meta.until.as_ref()) {
                        let help = "write it where the group is allowed";
                        cx.error("E0206", until.span, "`until` has no meaning in a group", help);
                    }
                    match line {
                        Some(l) if l.verb == syscalls::Verb::Set(syscalls::Action::Allow) => group.lines.push(l),
                        Some(l) => cx.error(
                            "E0216",
                            l.span,
                            "a group only names calls with `allow`",
                            "deny the group where it is used",
                        ),
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
                // Who reads `within std/ceiling/...` means the library's.
                if !library && name.value.starts_with("std/") {
                    cx.error("E0211", name.span, "names below `std/` are the library's", "give it another name");
                }
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
        diagnostics
            .push(Diagnostic::error("E0215", span, "the file says nothing").help("the first line is `policy 1`"));
    }
}

pub(super) fn block_of<'a>(cx: &mut Context<'_>, s: &'a ast::Statement, takes: bool) -> Option<&'a ast::Block> {
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

pub(super) fn no_block(cx: &mut Context<'_>, s: &ast::Statement) {
    block_of(cx, s, false);
}

pub(super) fn twice(cx: &mut Context<'_>, name: &Spanned<String>, old: Span) {
    cx.diagnostics.push(
        Diagnostic::error("E0302", name.span, format!("`{}` is declared twice", name.value))
            .also(old, "first declared here")
            .help("give one of them another name"),
    );
}

pub(super) fn name_check(cx: &mut Context<'_>, name: &Spanned<String>, bootable: bool) {
    let ok = if bootable { super::valid_name(&name.value) } else { name.value.split('/').all(super::valid_name) };
    if !ok {
        cx.error("E0211", name.span, format!("`{}` can't be a name", name.value), super::NAME_HELP);
    }
    if bootable && name.value == "tasks" {
        let text = "`tasks` can't be a machine: each control group of the older hierarchies has a file of that name";
        cx.error("E0211", name.span, text, "another name; see Documentation/admin-guide/cgroup-v1/cgroups.rst");
    }
}

pub(super) fn kernel(cx: &mut Context<'_>, args: &mut Args<'_>, main: bool, out: &mut Declarations<'_>) {
    let Some(w) = args.word(cx, "a kernel version, as in `6.12`") else { return };
    args.finish(cx);
    let parsed = w.value.split_once('.').and_then(|(a, b)| {
        let n = |t: &str| number(t).and_then(|n| u16::try_from(n).ok());
        Some((n(a)?, n(b)?))
    });
    match parsed {
        Some(v) if v > super::TABLE => {
            let (a, b) = super::TABLE;
            cx.error(
                "E0219",
                w.span,
                format!("the table of system calls ends at Linux {a}.{b}"),
                format!("write `kernel {a}.{b}` or older"),
            );
        }
        Some(v) if v < super::OLDEST => {
            cx.error(
                "E0219",
                w.span,
                "a baseline older than 4.19 is not supported",
                "write the version whose calls you reviewed",
            );
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

pub(super) fn param(cx: &mut Context<'_>, args: &mut Args<'_>, out: &mut Declarations<'_>) {
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
            _ => {
                return cx.error(
                    "E0220",
                    args.span,
                    "a range is two numbers of an int or port",
                    "param port port 443 in 1..=1023",
                );
            }
        }
    }
    args.finish(cx);
    let Some(default) = default else {
        return cx.error(
            "E0220",
            name.span,
            format!("parameter `{}` has no default", name.value),
            "give it one; instances may set another",
        );
    };
    let type_ = ParamType { kind: kind.value, choices, bounds };
    if let Some(fault) = type_.fault(&default.value) {
        return cx.error("E0220", default.span, fault, "the default must be of the parameter's type");
    }
    if out.params.insert(name.value.clone(), (type_, default)).is_some() {
        cx.error("E0302", name.span, format!("parameter `{}` is declared twice", name.value), "keep one");
    }
}

const PARAM_TYPES: &[&str] = &["path", "port", "cidr", "int", "size", "duration", "bool", "string", "enum"];

#[derive(Clone)]
pub(super) struct ParamType {
    kind: String,
    choices: Vec<String>,
    bounds: Option<(i128, i128)>,
}

impl ParamType {
    /// What is wrong with a value of this type, if anything is.
    pub(super) fn fault(&self, v: &str) -> Option<String> {
        use super::reader::{duration, path_fault, size};
        let ok = match self.kind.as_str() {
            "path" => path_fault(v).is_none(),
            "port" => number(v).is_some_and(|n| (1..=65535).contains(&n)),
            "int" => number(v).is_some(),
            "size" => size(v).is_some(),
            "duration" => duration(v).is_some(),
            "bool" => matches!(v, "true" | "false"),
            "enum" => self.choices.iter().any(|c| c == v),
            "cidr" => crate::address::Block::parse(v).is_ok(),
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

pub(super) fn instance(cx: &mut Context<'_>, args: &mut Args<'_>, out: &mut Declarations<'_>) {
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
            let (name, span) = (key.value.clone(), key.span);
            if values.insert(name.clone(), (key, value)).is_some() {
                cx.error("E0302", span, format!("parameter `{name}` is given twice"), "keep one");
            }
        }
    }
    args.finish(cx);
    out.instances.push(Instance { name, of, span: args.span, values });
}
