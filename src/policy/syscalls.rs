//! System calls: rules, their conditions, and the three outcomes.

use super::reader::{Args, Context, Meta, number};
use crate::diagnostic::did_you_mean;
use crate::kernel::calls::{self, Call, Type};
use crate::kernel::constants;
use crate::source::{Span, Spanned};
use crate::syntax::ast::{Item, Kind, Statement};
use std::collections::BTreeMap;

/// What the kernel does with a call. The order is the order of restriction (seccomp(2), "most
/// restrictive" rule for stacked filters).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The call runs.
    Allow,
    /// The call runs and is logged by the kernel.
    Log,
    /// The call fails with this errno.
    Errno(u16),
    /// The whole process is killed by SIGSYS.
    Kill,
}

impl Action {
    /// As the language writes it.
    pub fn word(self) -> String {
        match self {
            Action::Allow => "allow".into(),
            Action::Log => "log".into(),
            Action::Errno(e) => {
                format!("errno {}", constants::name_of("errno", u64::from(e)).map_or(e.to_string(), str::to_owned))
            }
            Action::Kill => "kill".into(),
        }
    }
}

/// A test on one argument register, in the type in which the kernel reads it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// One of these values.
    In(Vec<i128>),
    /// None of these values.
    NotIn(Vec<i128>),
    /// From the first to the second, both included.
    Between(i128, i128),
    /// `& mask` is one of these values.
    Masked(u64, Vec<u64>),
    /// All bits are set.
    HasAll(u64),
    /// At least one bit is set.
    HasAny(u64),
    /// No bit is set.
    HasNone(u64),
    /// No bit outside is set.
    Only(u64),
}

/// A condition on one argument.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition {
    /// Which argument, from 0.
    pub argument: u8,
    /// How the kernel reads it.
    pub kind: Type,
    /// The test.
    pub test: Test,
}

impl Condition {
    /// A test of an argument by its name; `None` where the call has none of that name.
    pub fn on(call: &Call, argument: &str, test: Test) -> Option<Condition> {
        let index = call.args.iter().position(|a| a.name == argument)?;
        Some(Condition { argument: u8::try_from(index).ok()?, kind: call.args.get(index)?.ty, test })
    }
}

/// One rule: a call, the conditions that all must hold, and the action.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The call.
    pub call: &'static Call,
    /// All must hold; none means always.
    pub conditions: Vec<Condition>,
    /// What happens.
    pub action: Action,
    /// The author's metadata.
    pub meta: Meta,
    /// The line that grants or denies it; for a group the line that uses the group.
    pub span: Span,
    /// Where that line names it.
    pub item: Span,
    /// The lines of groups on the way to it, the one that names the call the last; none where the line itself does.
    pub group: Vec<Place>,
}

impl Rule {
    /// Where the call is named.
    pub fn named_at(&self) -> Span {
        self.group.last().map_or(self.span, |p| p.item)
    }
}

/// One of several things that a line of a group names, and the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The thing.
    pub item: Span,
    /// The line.
    pub line: Span,
}

/// A group's rules as written, references to other groups resolved on use.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) span: Option<Span>,
    pub(super) lines: Vec<Line>,
}

/// What a statement names: a call with conditions, or a group.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Call(&'static Call, Vec<Condition>, Span),
    Group(Spanned<String>),
}

impl Target {
    pub(super) fn span(&self) -> Span {
        match self {
            Target::Call(_, _, span) => *span,
            Target::Group(name) => name.span,
        }
    }
}

pub(super) type Groups = BTreeMap<String, Group>;

/// The sections of a `syscalls` block as written, before groups are expanded.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) verb: Verb,
    pub(super) targets: Vec<Target>,
    pub(super) meta: Meta,
    pub(super) span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Set(Action),
    Remove,
    Lift(Lifted),
}

/// What an `override` takes away: the word says which, and no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifted {
    Log,
    Denial,
    Kill,
}

impl Verb {
    /// Does it take an inherited rule with this action away?
    pub(super) fn takes(self, action: Action) -> bool {
        match self {
            Verb::Set(_) => false,
            Verb::Remove => action <= Action::Log,
            Verb::Lift(Lifted::Log) => action == Action::Log,
            Verb::Lift(Lifted::Denial) => matches!(action, Action::Errno(_)),
            Verb::Lift(Lifted::Kill) => action == Action::Kill,
        }
    }
}

/// Reads one statement of a `syscalls` block or of a group.
pub(super) fn read(cx: &mut Context<'_>, s: &Statement) -> Option<Line> {
    let lifting = s.keyword() == Some("override");
    let mut args = Args::new(cx, s, usize::from(lifting));
    let verb = args.word(cx, "`allow`, `deny`, `kill`, `log` or `remove`")?;
    if matches!(verb.value.as_str(), "notify" | "abi") {
        cx.not_yet(args.span, &format!("`{}`", verb.value));
        return None;
    }
    let mut targets = Vec::new();
    if let Some(mut inner) = args.filled(cx) {
        targets.extend(inner.separated(cx, read_target));
    } else {
        targets.extend(read_target(&mut args, cx));
    }
    let verb = match (verb.value.as_str(), lifting) {
        ("allow", false) => Verb::Set(Action::Allow),
        ("log", false) => Verb::Set(Action::Log),
        ("kill", false) => Verb::Set(Action::Kill),
        ("deny", false) => Verb::Set(Action::Errno(errno(cx, &mut args)?)),
        ("remove", false) => Verb::Remove,
        ("deny", true) => Verb::Lift(Lifted::Denial),
        ("kill", true) => Verb::Lift(Lifted::Kill),
        ("log", true) => Verb::Lift(Lifted::Log),
        (_, true) => {
            cx.error("E0201", verb.span, "only a denial is overridden here", "override deny NAME why \"...\"");
            return None;
        }
        _ => {
            cx.unknown("E0201", "statement", &verb, &["allow", "deny", "kill", "log", "remove", "override"]);
            return None;
        }
    };
    args.finish(cx);
    if matches!(verb, Verb::Remove | Verb::Lift(_)) {
        args.no_until(cx);
    }
    if matches!(verb, Verb::Lift(_)) && args.meta.why.is_none() {
        cx.error("E0305", args.span, "an override needs a reason", "add why \"...\"");
    }
    Some(Line { verb, targets, meta: args.meta.clone(), span: args.span })
}

/// `errno NAME` after `deny`; EPERM when not written.
fn errno(cx: &mut Context<'_>, args: &mut Args<'_>) -> Option<u16> {
    if args.one_of(&["errno"]).is_none() {
        return Some(EPERM);
    }
    let name = args.word(cx, "an errno name")?;
    match errno_value(&name.value) {
        Some(v) => Some(v),
        None => {
            let known: Vec<&str> =
                constants::CONSTANTS.iter().filter(|c| c.family == "errno").map(|c| c.name).collect();
            let help = did_you_mean(&name.value, known).unwrap_or_else(|| "as in `errno ENOSYS`".into());
            cx.error("E0404", name.span, format!("unknown errno `{}`", name.value), help);
            None
        }
    }
}

/// The number of an errno name.
pub fn errno_value(name: &str) -> Option<u16> {
    constants::find(name).filter(|c| c.family == "errno").and_then(|c| u16::try_from(c.value).ok())
}

/// Errno 1.
pub const EPERM: u16 = 1;
/// Errno 38.
pub const ENOSYS: u16 = 38;

impl Context<'_> {
    pub(super) fn unknown_call(&mut self, name: &Spanned<String>) {
        let help = match &*name.value {
            // The word of tests and assertions.
            "syscall" => "among `syscalls` the call's name follows at once, as in `allow ptrace`".into(),
            given => did_you_mean(given, calls::CALLS.iter().map(|c| c.name))
                .unwrap_or_else(|| "`stockade groups` lists the calls that are known".into()),
        };
        self.error("E0401", name.span, format!("unknown system call `{}`", name.value), help);
    }
}

/// One call with its conditions, or one group.
pub(super) fn read_target(args: &mut Args<'_>, cx: &mut Context<'_>) -> Option<Target> {
    let name = args.word(cx, "a system call or a @group")?;
    if name.value.starts_with('@') {
        return Some(Target::Group(name));
    }
    let Some(call) = calls::find(&name.value) else {
        cx.unknown_call(&name);
        if name.value == "syscall" {
            args.one_item();
        }
        args.parens();
        return None;
    };
    let (mut conditions, span) = match args.parens() {
        Some(mut inner) => {
            let span = name.span.to(inner.span);
            (inner.separated(cx, |a, cx| condition(a, cx, call)), span)
        }
        None => (Vec::new(), name.span),
    };
    conditions.sort();
    conditions.dedup();
    Some(Target::Call(call, conditions, span))
}

fn condition(args: &mut Args<'_>, cx: &mut Context<'_>, call: &'static Call) -> Option<Condition> {
    let name = args.word(cx, "an argument's name")?;
    let Some((index, arg)) = call.args.iter().enumerate().find(|(_, a)| a.name == name.value) else {
        let known: Vec<&str> = call.args.iter().map(|a| a.name).collect();
        cx.unknown("E0402", &format!("argument of `{}`", call.name), &name, &known);
        skip_to_comma(args);
        return None;
    };
    let test = test(args, cx, arg.ty, name.span)?;
    Some(Condition { argument: u8::try_from(index).ok()?, kind: arg.ty, test })
}

fn skip_to_comma(args: &mut Args<'_>) {
    let comma = |k: &Kind| matches!(k, Kind::Op(o) if o == ",");
    while args.peek().is_some_and(|i| !comma(&i.kind)) {
        args.one_item();
    }
}

fn test(args: &mut Args<'_>, cx: &mut Context<'_>, kind: Type, name: Span) -> Option<Test> {
    if kind == Type::Pointer {
        return pointer(args, cx, name);
    }
    let test = any_test(args, cx, kind, name)?;
    if kind == Type::Mixed && matches!(test, Test::NotIn(_) | Test::Between(..) | Test::Only(_)) {
        cx.error(
            "E0403",
            name,
            "the kernel reads all 64 bits here or the low 32 of them: another argument decides",
            "compare with `==`, `in [...]`, `& MASK ==` or `has`",
        );
        return None;
    }
    Some(test)
}

/// What a denial or a claim says of arguments whose width isn't known: the low bits alone. A grant compares all bits,
/// and so neither lets through what the other reading would.
pub(super) fn low_bits(conditions: Vec<Condition>) -> Vec<Condition> {
    const LOW: u64 = 0xffff_ffff;
    let mut out: Vec<Condition> = conditions
        .into_iter()
        .map(|c| match c.test {
            Test::In(values) if c.kind == Type::Mixed => {
                let low = values.iter().filter_map(|v| u64::try_from(*v).ok()).map(|v| v & LOW);
                let mut low: Vec<u64> = low.collect();
                low.sort_unstable();
                low.dedup();
                Condition { test: Test::Masked(LOW, low), ..c }
            }
            _ => c,
        })
        .collect();
    out.sort();
    out
}

fn any_test(args: &mut Args<'_>, cx: &mut Context<'_>, kind: Type, name: Span) -> Option<Test> {
    if args.op("&") {
        let mask = bits(args, cx, kind)?;
        let values = if args.op("==") {
            vec![bits(args, cx, kind)?]
        } else if args.one_of(&["in"]).is_some() {
            args.list()?.separated(cx, |a, cx| bits(a, cx, kind))
        } else {
            cx.error(
                "E0403",
                name,
                "`& MASK` needs `== VALUE` or `in [...]`",
                "as in `type & SOCK_TYPE_MASK == SOCK_STREAM`",
            );
            return None;
        };
        if values.is_empty() {
            never(cx, name, "the list is empty");
            return None;
        }
        if mask == 0 {
            never(cx, name, "no bit is compared");
            return None;
        }
        if values.iter().any(|v| v & !mask != 0) {
            cx.error(
                "E0405",
                name,
                "the condition can never hold: the value has bits outside the mask",
                "widen the mask or correct the value",
            );
            return None;
        }
        return Some(Test::Masked(mask, values));
    }
    for (op, build) in COMPARISONS {
        if args.op(op) {
            let v = if matches!(*op, "==" | "!=") { value(args, cx, kind)? } else { bound(args, cx, kind)? };
            let (low, high) = range(kind);
            let test = build(v, low, high);
            if matches!(test, Test::Between(a, b) if a > b) {
                cx.error("E0405", name, "the condition can never hold", "no value of this type is in that range");
                return None;
            }
            return Some(test);
        }
    }
    match args.one_of(&["in", "not", "has", "only"]).map(|w| w.value) {
        Some("in") => {
            if let Some(mut inner) = args.list() {
                let mut values = inner.separated(cx, |a, cx| value(a, cx, kind));
                values.sort_unstable();
                values.dedup();
                if values.is_empty() {
                    never(cx, name, "the list is empty");
                    return None;
                }
                return Some(Test::In(values));
            }
            let low = bound(args, cx, kind)?;
            if !args.op("..=") {
                cx.error("E0403", name, "`in` takes a list or a range", "`in [A, B]` or `in A..=B`");
                return None;
            }
            let high = bound(args, cx, kind)?;
            if low > high {
                cx.error(
                    "E0405",
                    name,
                    "the condition can never hold: the range is empty",
                    "write the smaller value first",
                );
                return None;
            }
            Some(Test::Between(low, high))
        }
        Some("not") => {
            if args.one_of(&["in"]).is_none() {
                cx.error("E0403", name, "`not` stands before `in [...]`", "as in `family not in [AF_INET, AF_INET6]`");
                return None;
            }
            let mut values = args.list()?.separated(cx, |a, cx| value(a, cx, kind));
            values.sort_unstable();
            values.dedup();
            if values.is_empty() {
                never(cx, name, "the list is empty");
                return None;
            }
            Some(Test::NotIn(values))
        }
        Some("has") => {
            let which = args.one_of(&["all", "any", "none"]);
            let Some(which) = which else {
                cx.error("E0403", name, "`has` takes `all`, `any` or `none`", "as in `flags has none [CLONE_NEWUSER]`");
                return None;
            };
            let mask = flags(args, cx, kind)?;
            if mask == 0 {
                never(cx, name, "there is no bit to have");
                return None;
            }
            Some(match which.value {
                "all" => Test::HasAll(mask),
                "any" => Test::HasAny(mask),
                _ => Test::HasNone(mask),
            })
        }
        Some(_) => Some(Test::Only(flags(args, cx, kind)?)),
        None => {
            cx.error(
                "E0403",
                name,
                "a comparison is missing after the argument's name",
                "one of `== != < <= > >= in not in & has only`",
            );
            skip_to_comma(args);
            None
        }
    }
}

type Build = fn(i128, i128, i128) -> Test;

const COMPARISONS: &[(&str, Build)] = &[
    ("==", |v, _, _| Test::In(vec![v])),
    ("!=", |v, _, _| Test::NotIn(vec![v])),
    ("<=", |v, low, _| Test::Between(low, v)),
    (">=", |v, _, high| Test::Between(v, high)),
    ("<", |v, low, _| Test::Between(low, v - 1)),
    (">", |v, _, high| Test::Between(v + 1, high)),
];

fn pointer(args: &mut Args<'_>, cx: &mut Context<'_>, name: Span) -> Option<Test> {
    let equal = args.op("==");
    if (equal || args.op("!=")) && args.one_of(&["NULL"]).is_some() {
        return Some(if equal { Test::In(vec![0]) } else { Test::NotIn(vec![0]) });
    }
    skip_to_comma(args);
    cx.error(
        "E0406",
        name,
        "this argument is a pointer: a filter sees the address, never what it points to",
        "only `== NULL` and `!= NULL` can be tested; paths are the business of `files` and `mounts`",
    );
    None
}

/// Smallest and largest value of a type.
pub(crate) fn range(kind: Type) -> (i128, i128) {
    match kind {
        Type::U16 => (0, 0xffff),
        Type::Int => (i128::from(i32::MIN), i128::from(i32::MAX)),
        Type::Uint => (0, i128::from(u32::MAX)),
        Type::Long => (i128::from(i64::MIN), i128::from(i64::MAX)),
        Type::Ulong | Type::Mixed | Type::Pointer => (0, i128::from(u64::MAX)),
    }
}

/// How many low bits of the register the kernel reads.
pub(crate) fn width(kind: Type) -> u32 {
    match kind {
        Type::U16 => 16,
        Type::Int | Type::Uint => 32,
        Type::Long | Type::Ulong | Type::Mixed | Type::Pointer => 64,
    }
}

/// All bits that the kernel reads of this type.
pub(crate) fn bits_of(kind: Type) -> u64 {
    u64::MAX >> (64 - width(kind))
}

/// A number or constant in the type's range; bit patterns of a signed type are read as the kernel would.
fn value(args: &mut Args<'_>, cx: &mut Context<'_>, kind: Type) -> Option<i128> {
    let word = args.word(cx, "a number or constant")?;
    let (low, high) = range(kind);
    let mut v = match number(&word.value) {
        Some(v) => v,
        None => i128::from(constant(cx, &word)?),
    };
    // 0xffffffff for an int, or a constant that the table holds as its 64-bit pattern (AT_FDCWD).
    if low < 0 && v > high {
        let mask = i128::from(bits_of(kind));
        let low_bits = v & mask;
        let sign_extended = v == low_bits || low_bits > high && v == low_bits | (i128::from(u64::MAX) & !mask);
        if sign_extended {
            v = if low_bits > high { low_bits - mask - 1 } else { low_bits };
        }
    }
    if v < low || v > high {
        cx.error(
            "E0405",
            word.span,
            format!("`{}` doesn't fit: the kernel reads {} bits here ({low}..={high})", word.value, width(kind)),
            "a value that the kernel can't see can't be compared",
        );
        return None;
    }
    Some(v)
}

/// The end of a range: a number as it is written, for a pattern of bits of a signed type has two orders.
fn bound(args: &mut Args<'_>, cx: &mut Context<'_>, kind: Type) -> Option<i128> {
    if let Some(Item { kind: Kind::Word(w), span }) = args.peek()
        && number(w).is_some_and(|n| n > range(kind).1)
    {
        let (word, span) = (w.clone(), *span);
        let text = format!("`{word}` is no end of a range: the kernel reads {} bits here, with a sign", width(kind));
        cx.error("E0405", span, text, "write the number with its sign");
        return None;
    }
    value(args, cx, kind)
}

fn never(cx: &mut Context<'_>, name: Span, why: &str) {
    cx.error("E0405", name, format!("the condition says nothing: {why}"), "name at least one value");
}

fn bits(args: &mut Args<'_>, cx: &mut Context<'_>, kind: Type) -> Option<u64> {
    let span = args.peek().map_or(args.span, |i| i.span);
    let v = value(args, cx, kind)?;
    if kind == Type::Mixed && v > 0xffff_ffff {
        let text = "the kernel may read no more than 32 bits here: another argument decides";
        cx.error("E0405", span, text, "a value that the kernel can't see can't be compared");
        return None;
    }
    let pattern = if v < 0 { v + (1i128 << 64) } else { v };
    u64::try_from(pattern).ok().map(|p| p & bits_of(kind))
}

fn flags(args: &mut Args<'_>, cx: &mut Context<'_>, kind: Type) -> Option<u64> {
    let Some(mut inner) = args.list() else {
        let span = args.peek().map_or(args.span, |i| i.span);
        cx.error("E0205", span, "expected a list of flags", "as in `[CLONE_NEWUSER, CLONE_NEWNS]`");
        return None;
    };
    let values = inner.separated(cx, |a, cx| bits(a, cx, kind));
    Some(values.into_iter().fold(0, |a, b| a | b))
}

fn constant(cx: &mut Context<'_>, word: &Spanned<String>) -> Option<u64> {
    if let Some(c) = constants::find(&word.value) {
        return Some(c.value);
    }
    let help = did_you_mean(&word.value, constants::CONSTANTS.iter().map(|c| c.name))
        .unwrap_or_else(|| "write the number if the name isn't known".into());
    cx.error("E0407", word.span, format!("unknown constant `{}`", word.value), help);
    None
}
