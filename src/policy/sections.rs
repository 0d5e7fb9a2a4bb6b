//! The statements of a profile's or machine's body.

use super::declare::{block_of, no_block};
use super::reader::{Args, Context, number};
use super::resolve::{Grants, Value, Waiver};
use super::{asserts, capabilities, files, mounts, network, process, resources, syscalls};
use crate::syntax::ast;

const SECTIONS: &[&str] = &[
    "about",
    "owner",
    "root",
    "exec",
    "boot",
    "user",
    "userns",
    "hostname",
    "chdir",
    "umask",
    "no-new-privs",
    "require",
    "capabilities",
    "mounts",
    "files",
    "network",
    "syscalls",
    "devices",
    "environment",
    "credentials",
    "limits",
    "service",
    "assert",
    "extends",
    "within",
    "waive",
    "override",
];

/// Reads the body of a profile or machine.
pub(super) fn section_list(cx: &mut Context<'_>, body: &ast::Block) -> Grants {
    let mut out = Grants::default();
    for s in body.statements() {
        section(cx, s, &mut out);
    }
    out
}

pub(super) fn section(cx: &mut Context<'_>, s: &ast::Statement, out: &mut Grants) {
    let overriding = s.keyword() == Some("override");
    let mut args = Args::new(cx, s, usize::from(overriding));
    let Some(keyword) = args.word(cx, "a statement") else { return };
    let blocks =
        ["capabilities", "mounts", "files", "network", "syscalls", "devices", "environment", "limits", "assert"];
    if overriding && blocks.contains(&keyword.value.as_str()) {
        return cx.error(
            "E0307",
            keyword.span,
            "a block can't be overridden as a whole",
            "write `override` before the line inside it",
        );
    }
    if blocks.contains(&keyword.value.as_str()) {
        args.no_until(cx);
        args.finish(cx);
        let Some(block) = block_of(cx, s, true) else { return };
        if keyword.value == "files" {
            out.files_block.get_or_insert(keyword.span);
        }
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
                return cx.error(
                    "E0205",
                    args.span,
                    "expected `off`",
                    "it is on unless `no-new-privs off why \"...\"` is written",
                );
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
                ("landlock", Some(n)) if (1..=100).contains(&n) => {
                    out.scalar(cx, "landlock", Value::Number(n), &args, overriding)
                }
                ("landlock", _) => {
                    cx.error("E0212", w.span, "an ABI version of Landlock is a small number", "require landlock 4")
                }
                _ => cx.unknown("E0202", "requirement", &what, &["landlock"]),
            }
        }
        "extends" => {
            args.no_until(cx);
            let names = args.separated(cx, |a, cx| a.word(cx, "a profile"));
            out.extends.extend(names);
        }
        "within" => {
            if overriding {
                return cx.error("E0307", keyword.span, "a ceiling can't be overridden", "ask its owner to raise it");
            }
            let names = args.separated(cx, |a, cx| a.word(cx, "a profile that is the ceiling"));
            args.no_until(cx);
            args.finish(cx);
            out.within.extend(names);
        }
        "waive" => {
            let Some(code) = args.word(cx, "the code of a finding, as in W0801") else { return };
            args.no_until(cx);
            args.finish(cx);
            let known = ["W0801", "W0802", "W0803", "W0804", "W0806"];
            if !known.contains(&code.value.as_str()) {
                return cx.unknown("E0313", "finding", &code, &known);
            }
            match args.meta.why.clone() {
                Some(why) => out.waivers.push(Waiver { code: code.value, why, span: s.span }),
                None => cx.error("E0308", s.span, "a waiver needs a reason", "add why \"...\""),
            }
        }
        "credentials" | "service" => cx.not_yet(s.span, &format!("`{}`", keyword.value)),
        _ => cx.unknown("E0201", "statement", &keyword, SECTIONS),
    }
}
