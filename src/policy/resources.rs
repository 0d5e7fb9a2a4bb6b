//! Limits. This version enforces the rlimits; those of cgroups come with the network and resources.

use super::reader::{Args, Context, duration, number, size};
use super::resolve::{Grants, Value};
use crate::syntax::ast::Statement;
use nix::sys::resource::Resource;

/// How a limit is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Count,
    Bytes,
    Seconds,
    /// Nice values and the like: the kernel's own number.
    Raw,
}

/// (word of the language, resource of getrlimit(2), unit)
const RLIMITS: &[(&str, Resource, Unit)] = &[
    ("address-space", Resource::RLIMIT_AS, Unit::Bytes),
    ("core", Resource::RLIMIT_CORE, Unit::Bytes),
    ("cpu-time", Resource::RLIMIT_CPU, Unit::Seconds),
    ("data", Resource::RLIMIT_DATA, Unit::Bytes),
    ("fsize", Resource::RLIMIT_FSIZE, Unit::Bytes),
    ("locks", Resource::RLIMIT_LOCKS, Unit::Count),
    ("memlock", Resource::RLIMIT_MEMLOCK, Unit::Bytes),
    ("msgqueue", Resource::RLIMIT_MSGQUEUE, Unit::Bytes),
    ("nice", Resource::RLIMIT_NICE, Unit::Raw),
    ("nofile", Resource::RLIMIT_NOFILE, Unit::Count),
    ("nproc", Resource::RLIMIT_NPROC, Unit::Count),
    ("rtprio", Resource::RLIMIT_RTPRIO, Unit::Raw),
    ("sigpending", Resource::RLIMIT_SIGPENDING, Unit::Count),
    ("stack", Resource::RLIMIT_STACK, Unit::Bytes),
];

const LATER: &[&str] = &["memory", "swap", "cpu", "tasks", "io", "time"];

/// The resource behind a word of the language.
pub fn resource(word: &str) -> Option<Resource> {
    RLIMITS.iter().find(|(n, ..)| *n == word).map(|(_, r, _)| *r)
}

/// All words for rlimits.
pub fn rlimits() -> impl Iterator<Item = &'static str> {
    RLIMITS.iter().map(|(n, ..)| *n)
}

pub(super) fn read(cx: &mut Context<'_>, s: &Statement, out: &mut Grants) {
    let overriding = s.keyword() == Some("override");
    let mut args = Args::new(cx, s, usize::from(overriding));
    let Some(verb) = args.word(cx, "a limit") else { return };
    if LATER.contains(&verb.value.as_str()) {
        return cx.not_yet(args.span, &format!("the limit `{}`", verb.value));
    }
    let Some((name, _, unit)) = RLIMITS.iter().find(|(n, ..)| *n == verb.value) else {
        let known: Vec<&str> = RLIMITS.iter().map(|(n, ..)| *n).chain(LATER.iter().copied()).collect();
        return cx.unknown("E0201", "limit", &verb, &known);
    };
    let Some(word) = args.word(cx, "a value") else { return };
    let value = match (word.value.as_str(), unit) {
        ("unlimited", _) => Some(u64::MAX),
        (v, Unit::Count | Unit::Raw) => number(v).and_then(|n| u64::try_from(n).ok()),
        ("0", Unit::Bytes) => Some(0),
        (v, Unit::Bytes) => size(v),
        (v, Unit::Seconds) => duration(v),
    };
    args.finish(cx);
    let Some(value) = value else {
        let help = match unit {
            Unit::Bytes => "a whole number with its unit: B, KiB, MiB, GiB, TiB",
            Unit::Seconds => "a whole number with its unit: s, min, h",
            _ => "a whole number",
        };
        return cx.error("E0212", word.span, format!("`{}` is not a value for `{name}`", word.value), help);
    };
    out.scalar(cx, &format!("limits.{name}"), Value::Number(value), &args, overriding);
}
