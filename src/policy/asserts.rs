//! `assert` blocks and `test` items: what the author claims about the machine.

use super::files::{self, Right};
use super::network::{self, Protocol, Use};
use super::reader::{Args, Context, number};
use super::syscalls::{self, Action, Condition, Target};
use super::{capabilities, loader, reader};
use crate::address::Block;
use crate::diagnostic::Diagnostics;
use crate::kernel::calls::{self, Call};
use crate::source::{Sources, Span, Spanned};
use crate::syntax::{self, ast::Statement};
use std::collections::BTreeMap;

/// A claim about everything the machine can do.
#[derive(Clone, Debug)]
pub struct Assertion {
    /// `never` or `can`.
    pub never: bool,
    /// What.
    pub claim: Claim,
    /// The line.
    pub span: Span,
}

/// What an assertion speaks of.
#[derive(Clone, Debug)]
pub enum Claim {
    /// A call under conditions.
    Syscall(&'static Call, Vec<Condition>),
    /// A capability in any set.
    Capability(u8),
    /// A right on a path; `None` is `see`: the path exists inside.
    File(Option<Right>, String),
    /// A port of a protocol with a peer; `None` is any.
    Port(Use, Option<Protocol>, Option<u16>, Option<Block>),
    /// Memory that is written and then executed.
    WriteAndExec,
    /// Gaining privileges by executing a set-user-ID file.
    SetuidExec,
}

/// A `test` item.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its title.
    pub title: String,
    /// The line.
    pub span: Span,
    /// Concrete calls and what must become of them.
    pub checks: Vec<Check>,
}

/// One call with concrete registers, and the outcome.
#[derive(Clone, Debug)]
pub struct Check {
    /// The call.
    pub call: &'static Call,
    /// All 64 bits of each register; what isn't written is 0.
    pub registers: [u64; 6],
    /// What must happen.
    pub expect: Expect,
    /// The line.
    pub span: Span,
}

/// The outcome that a test wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The call runs.
    Allow,
    /// It fails with any errno.
    Deny,
    /// It fails with this errno.
    Errno(u16),
    /// The process dies.
    Kill,
}

impl Expect {
    /// Does the action meet the expectation?
    pub fn met_by(self, action: Action) -> bool {
        match self {
            Self::Allow => action <= Action::Log,
            Self::Deny => matches!(action, Action::Errno(_)),
            Self::Errno(e) => action == Action::Errno(e),
            Self::Kill => action == Action::Kill,
        }
    }
}

const SUBJECTS: &[&str] = &[
    "syscall",
    "capability",
    "see",
    "read",
    "write",
    "exec",
    "create",
    "refer",
    "ioctl",
    "listen",
    "connect",
    "wx",
    "setuid-exec",
];

pub(super) fn read(cx: &mut Context<'_>, s: &Statement) -> Vec<Assertion> {
    let mut args = Args::new(cx, s, 0);
    args.no_until(cx);
    let claims = read_claims(cx, &mut args);
    let Some((never, claims)) = claims else { return Vec::new() };
    args.finish(cx);
    claims.into_iter().map(|claim| Assertion { never, claim, span: s.span }).collect()
}

/// Reads a question like `socket(family == AF_ALG)`, `capability sys_admin` or `connect tcp 5432`: what can
/// stand after `can` in an `assert` block, `syscall` left out where a call is named.
pub fn question(text: &str, sources: &mut Sources, diagnostics: &mut Diagnostics) -> Vec<Claim> {
    let first = text.split([' ', '(']).next().unwrap_or("");
    let subject = match first {
        "cap" => text.replacen("cap", "capability", 1),
        // `read`, `write`, `listen` and others are calls as well: a path or a port tells them apart.
        w if SUBJECTS.contains(&w) && (calls::find(w).is_none() || is_object(text.get(w.len()..).unwrap_or(""))) => {
            text.to_owned()
        }
        _ => format!("syscall {text}"),
    };
    let Some(id) = loader::from_text("question", format!("can {subject}\n").as_bytes(), sources, diagnostics) else {
        return Vec::new();
    };
    if diagnostics.has_errors() {
        return Vec::new();
    }
    let file = syntax::parse(sources, id, diagnostics);
    let params = BTreeMap::new();
    let mut cx = Context { diagnostics, params: &params, today: "" };
    let mut out = Vec::new();
    for (i, s) in file.statements().enumerate() {
        if i > 0 {
            cx.error("E0205", s.span, "one question at a time", "ask the second by itself");
        }
        out.extend(read(&mut cx, s).into_iter().map(|a| a.claim));
    }
    out
}

fn is_object(rest: &str) -> bool {
    let rest = rest.trim_start();
    rest.starts_with(['"', '[', '/']) || rest.starts_with("tcp") || rest.starts_with("udp") || rest.starts_with("any")
}

fn read_claims(cx: &mut Context<'_>, args: &mut Args<'_>) -> Option<(bool, Vec<Claim>)> {
    let verb = args.word(cx, "`never` or `can`")?;
    if !matches!(verb.value.as_str(), "never" | "can") {
        cx.unknown("E0201", "statement", &verb, &["never", "can"]);
        return None;
    }
    let subject = args.word(cx, "what is claimed")?;
    let claims = match subject.value.as_str() {
        "syscall" => {
            let line = syscalls::read_target(args, cx)?;
            match line {
                Target::Call(call, conditions, _) => vec![Claim::Syscall(call, syscalls::low_bits(conditions))],
                Target::Group(name) => {
                    cx.error("E0205", name.span, "an assertion names a single call", "write one line for each call");
                    return None;
                }
            }
        }
        "capability" => {
            let words = args.words(cx, "a capability");
            words.iter().filter_map(|w| capabilities::number_or_error(cx, w)).map(Claim::Capability).collect()
        }
        "wx" => vec![Claim::WriteAndExec],
        "setuid-exec" => vec![Claim::SetuidExec],
        "see" => vec![Claim::File(None, args.path(cx, "a path")?.value)],
        "listen" | "connect" => {
            let how = if subject.value == "listen" { Use::Listen } else { Use::Connect };
            let protocol = args.one_of(&["tcp", "udp"]).map(|w| match w.value {
                "udp" => Protocol::Udp,
                _ => Protocol::Tcp,
            });
            let w = args.word(cx, "a port or `any`")?;
            let port = number(&w.value).and_then(|n| u16::try_from(n).ok()).filter(|p| *p > 0);
            if port.is_none() && w.value != "any" {
                let help = match how {
                    Use::Connect => "1 to 65535 or `any`, and whose after it, as in `443 to 10.0.0.1`",
                    Use::Listen => "1 to 65535 or `any`",
                };
                cx.error("E0214", w.span, format!("`{}` is not a port", w.value), help);
                return None;
            }
            // A number alone is that of a TCP port.
            let protocol = protocol.or(port.map(|_| Protocol::Tcp));
            let mut peer = None;
            if args.one_of(&[if how == Use::Listen { "from" } else { "to" }]).is_some() {
                let w = args.word(cx, "an address or a block of them")?;
                peer = Some(network::block(cx, &w, Block::parse)?);
            }
            vec![Claim::Port(how, protocol, port, peer)]
        }
        other => match files::RIGHTS.iter().find(|(n, _)| *n == other) {
            Some((_, right)) => vec![Claim::File(Some(*right), args.path(cx, "a path")?.value)],
            None => {
                cx.unknown("E0202", "subject", &subject, SUBJECTS);
                return None;
            }
        },
    };
    Some((verb.value == "never", claims))
}

pub(super) fn read_case(cx: &mut Context<'_>, s: &Statement) -> Option<Check> {
    let mut args = Args::new(cx, s, 0);
    args.no_until(cx);
    let verb = args.word(cx, "`allow`, `deny` or `kill`")?;
    let mut expect = match verb.value.as_str() {
        "allow" => Expect::Allow,
        "deny" => Expect::Deny,
        "kill" => Expect::Kill,
        _ => {
            cx.unknown("E0201", "statement", &verb, &["allow", "deny", "kill"]);
            return None;
        }
    };
    if args.one_of(&["syscall"]).is_none() {
        let at = args.peek().map_or(s.span, |i| i.span);
        cx.error("E0205", at, "expected `syscall`", "a test names a concrete call, as in `allow syscall epoll_wait`");
        return None;
    }
    let name = args.word(cx, "a system call")?;
    let Some(call) = calls::find(&name.value) else {
        cx.unknown_call(&name);
        return None;
    };
    let mut registers = [0u64; 6];
    if let Some(mut inner) = args.parens() {
        let pairs = inner.separated(cx, |a, cx| register(a, cx, call));
        for (index, value) in pairs {
            if let Some(r) = registers.get_mut(index) {
                *r = value;
            }
        }
    }
    if args.one_of(&["errno"]).is_some() {
        let w = args.word(cx, "an errno")?;
        match syscalls::errno_value(&w.value) {
            Some(e) if expect == Expect::Deny => expect = Expect::Errno(e),
            _ => cx.error("E0404", w.span, format!("unknown errno `{}`", w.value), "only `deny` has one"),
        }
    }
    args.finish(cx);
    Some(Check { call, registers, expect, span: s.span })
}

/// `family=AF_INET`: the whole register, upper half included, exactly as written.
fn register(args: &mut Args<'_>, cx: &mut Context<'_>, call: &'static Call) -> Option<(usize, u64)> {
    let name: Spanned<String> = args.word(cx, "an argument's name")?;
    let Some(index) = call.args.iter().position(|a| a.name == name.value) else {
        let known: Vec<&str> = call.args.iter().map(|a| a.name).collect();
        cx.unknown("E0402", &format!("argument of `{}`", call.name), &name, &known);
        return None;
    };
    if !args.op("=") {
        cx.error("E0205", name.span, "expected `=` and a value", "as in `family=AF_INET`");
        return None;
    }
    let word = args.word(cx, "a number or constant")?;
    let value = match reader::number(&word.value) {
        Some(n) if n < 0 => i64::try_from(n).ok().map(i64::cast_unsigned),
        Some(n) => u64::try_from(n).ok(),
        None => crate::kernel::constants::find(&word.value).map(|c| c.value),
    };
    if value.is_none() {
        cx.error(
            "E0407",
            word.span,
            format!("unknown constant `{}`", word.value),
            "a number of 64 bits or a constant's name",
        );
    }
    Some((index, value?))
}
