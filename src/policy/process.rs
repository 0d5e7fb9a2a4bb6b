//! The program: what is started, as whom, with which environment and devices.

use super::reader::{Args, Context, Meta, number};
use super::removes::Removed;
use super::resolve::{Grants, Value};
use crate::source::Span;
use crate::syntax::ast::Statement;
use std::fmt;

/// What runs as the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// This program with these arguments; the first is the program itself.
    Exec(Vec<String>),
    /// The init system of the root, as PID 1.
    Boot,
}

/// A user or group as written: a number, or a name looked up in the machine's own files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// The number.
    Number(u32),
    /// The name.
    Name(String),
}

/// The `user` statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub user: Id,
    /// The group; the user's own when not written.
    pub group: Option<Id>,
    /// Supplementary groups; none when not written.
    pub groups: Vec<Id>,
    /// `groups caller`: an ordinary user's own groups, which it can't drop, may stay.
    pub caller_groups: bool,
}

impl User {
    /// Is it user id 0 inside? No other name may be one of it (E0523).
    pub fn is_root(&self) -> bool {
        self.user.is_root()
    }
}

impl Id {
    /// Is it 0, or its usual name (credentials(7))?
    pub fn is_root(&self) -> bool {
        match self {
            Id::Number(n) => *n == 0,
            Id::Name(n) => n == "root",
        }
    }
}

/// What every program is told unless the policy sets it otherwise: the marker that systemd asks for
/// (systemd.io/CONTAINER_INTERFACE) and where programs are.
pub const ENVIRONMENT: [(&str, &str); 2] =
    [("container", "stockade"), ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")];

/// The `userns` statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Userns {
    /// A free range of 65,536 ids for root; the caller's own id for everybody else.
    Auto,
    /// `map INSIDE -> OUTSIDE count N`
    Map(Vec<(u32, u32, u32)>),
    /// No user namespace: ids inside are the host's.
    Identity,
}

impl fmt::Display for Userns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Userns::Auto => f.write_str("auto"),
            Userns::Identity => f.write_str("identity"),
            Userns::Map(ranges) => {
                let texts: Vec<String> =
                    ranges.iter().map(|(inside, outside, n)| format!("map {inside} -> {outside} count {n}")).collect();
                f.write_str(&texts.join(", "))
            }
        }
    }
}

/// A variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value; `None` takes the caller's, if it has one.
    pub value: Option<String>,
    /// The line.
    pub span: Span,
}

/// A device node of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its path, the same inside and outside.
    pub path: String,
    /// The author's metadata.
    pub meta: Meta,
    /// The line.
    pub span: Span,
}

pub(super) fn read_exec(cx: &mut Context<'_>, args: &mut Args<'_>, out: &mut Grants, overriding: bool) {
    let Some(program) = args.path(cx, "the program's path") else { return };
    let mut argv = vec![program.value];
    while !args.is_empty() {
        let Some(a) = args.text(cx, "an argument") else { return };
        argv.push(a.value);
    }
    out.scalar(cx, "program", Value::Program(Program::Exec(argv)), args, overriding);
}

pub(super) fn read_user(cx: &mut Context<'_>, args: &mut Args<'_>, out: &mut Grants, overriding: bool) {
    let Some(user) = read_id(cx, args, "a user") else { return };
    let mut group = None;
    let mut groups = Vec::new();
    if args.one_of(&["group"]).is_some() {
        group = read_id(cx, args, "a group");
    }
    let mut caller_groups = false;
    if args.one_of(&["groups"]).is_some() {
        caller_groups = args.one_of(&["caller"]).is_some();
        if !caller_groups {
            groups = args.words(cx, "a group").iter().filter_map(|w| id(cx, &w.value, w.span)).collect();
        }
    }
    args.finish(cx);
    out.scalar(cx, "user", Value::User(User { user, group, groups, caller_groups }), args, overriding);
}

fn read_id(cx: &mut Context<'_>, args: &mut Args<'_>, what: &str) -> Option<Id> {
    let w = args.word(cx, what)?;
    id(cx, &w.value, w.span)
}

/// A number is a number exactly: no sign, no blanks, no wrap-around, and never the kernel's -1 (CVE-2019-14287).
pub(super) fn id(cx: &mut Context<'_>, text: &str, span: Span) -> Option<Id> {
    if text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') {
        let n = number(text).and_then(|n| u32::try_from(n).ok()).filter(|n| *n != u32::MAX && *n != 0xffff);
        let plain = text.chars().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        return match n.filter(|_| plain) {
            Some(n) => Some(Id::Number(n)),
            None => {
                cx.error(
                    "E0506",
                    span,
                    format!("`{text}` is not an id"),
                    "a decimal number from 0 to 4294967294 other than 65535, or a name",
                );
                None
            }
        };
    }
    let ok = text.len() <= 32 && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    if !ok {
        cx.error("E0506", span, format!("`{text}` is not a user or group name"), "letters, digits, `_`, `-` and `.`");
        return None;
    }
    Some(Id::Name(text.to_owned()))
}

pub(super) fn read_userns(cx: &mut Context<'_>, args: &mut Args<'_>, out: &mut Grants, overriding: bool) {
    let Some(kind) = args.word(cx, "`auto`, `map` or `identity`") else { return };
    let value = match kind.value.as_str() {
        "auto" => Userns::Auto,
        "identity" => {
            if args.meta.why.is_none() {
                cx.error("E0308", args.span, "`userns identity` needs a reason", "userns identity why \"...\"");
            }
            Userns::Identity
        }
        "map" => {
            let Some(inside) = id_number(cx, args) else { return };
            if !args.op("->") {
                return cx.error("E0205", args.span, "expected `->`", "userns map 0 -> 100000 count 65536");
            }
            let Some(outside) = id_number(cx, args) else { return };
            if args.one_of(&["count"]).is_none() {
                return cx.error("E0205", args.span, "expected `count N`", "userns map 0 -> 100000 count 65536");
            }
            let Some(count) = id_number(cx, args) else { return };
            let fits = |start: u32| start.checked_add(count).is_some();
            if count == 0 || !fits(inside) || !fits(outside) {
                return cx.error(
                    "E0507",
                    args.span,
                    "the range of ids is empty or passes the last id",
                    "count is at least 1",
                );
            }
            if count > 1 << 24 {
                return cx.error(
                    "E0507",
                    args.span,
                    "a map of more than 16777216 ids",
                    "65536 are enough for a whole system",
                );
            }
            if outside == 0 {
                return cx.error(
                    "E0507",
                    args.span,
                    "the map gives the host's root away",
                    "`userns identity why \"...\"` is the word for that",
                );
            }
            Userns::Map(vec![(inside, outside, count)])
        }
        _ => return cx.unknown("E0202", "kind of user namespace", &kind, &["auto", "map", "identity"]),
    };
    args.finish(cx);
    out.scalar(cx, "userns", Value::Userns(value), args, overriding);
}

fn id_number(cx: &mut Context<'_>, args: &mut Args<'_>) -> Option<u32> {
    let w = args.word(cx, "a number")?;
    let n = number(&w.value).and_then(|n| u32::try_from(n).ok());
    if n.is_none() {
        cx.error("E0506", w.span, format!("`{}` is not an id", w.value), "a decimal number");
    }
    n
}

pub(super) fn read_environment(cx: &mut Context<'_>, s: &Statement, out: &mut Grants) {
    let mut args = Args::new(cx, s, 0);
    args.no_until(cx);
    let Some(verb) = args.word(cx, "`set`, `pass` or `remove`") else { return };
    let Some(name) = args.word(cx, "a variable's name") else { return };
    let ok = name.value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !ok {
        return cx.error(
            "E0508",
            name.span,
            format!("`{}` is not a variable's name", name.value),
            "letters, digits and `_`",
        );
    }
    let value = match verb.value.as_str() {
        "set" => match args.text(cx, "the value") {
            Some(v) => Some(v.value),
            None => return,
        },
        "pass" => None,
        "remove" => {
            args.finish(cx);
            return out.remove(cx, Removed::Variable(name.value), args.span, &args);
        }
        _ => return cx.unknown("E0201", "statement", &verb, &["set", "pass", "remove"]),
    };
    args.finish(cx);
    out.environment.push(Variable { name: name.value, value, span: args.span });
}

pub(super) fn read_device(cx: &mut Context<'_>, s: &Statement, out: &mut Grants) {
    let mut args = Args::new(cx, s, 0);
    let Some(verb) = args.word(cx, "`allow` or `remove`") else { return };
    let Some(path) = args.path(cx, "a device's path") else { return };
    args.finish(cx);
    if !path.value.starts_with("/dev/") {
        return cx.error("E0509", path.span, "a device lies below /dev", "bind other files in `mounts`");
    }
    match verb.value.as_str() {
        "allow" => {
            if args.meta.why.is_none() {
                cx.error("E0308", args.span, "a device of the host needs a reason", "add why \"...\"");
            }
            out.devices.push(Device { path: path.value, meta: args.meta.clone(), span: args.span });
        }
        "remove" => out.remove(cx, Removed::Device(path.value), args.span, &args),
        _ => cx.unknown("E0201", "statement", &verb, &["allow", "remove"]),
    }
}
