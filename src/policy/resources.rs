//! Limits: of one process (setrlimit(2)), of the whole machine (cgroups(7)), and of time.

use super::reader::{Args, Context, duration, number, size};
use super::resolve::{Grants, Value};
use crate::source::Spanned;
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
    /// Of one CPU's time.
    Percent,
    /// A share beside other machines (cgroup-v2.rst, "Weights").
    Weight,
}

/// No bound.
pub const UNLIMITED: u64 = u64::MAX;

/// A limit of the whole machine.
struct Group {
    word: &'static str,
    unit: Unit,
    options: &'static [(&'static str, Unit)],
}

const GROUP: &[Group] = &[
    Group { word: "memory", unit: Unit::Bytes, options: &[("high", Unit::Bytes)] },
    Group { word: "swap", unit: Unit::Bytes, options: &[] },
    Group { word: "cpu", unit: Unit::Percent, options: &[("weight", Unit::Weight)] },
    Group { word: "tasks", unit: Unit::Count, options: &[] },
    Group { word: "time", unit: Unit::Seconds, options: &[] },
];

/// Maxima for one block device, in a second.
const IO: &[(&str, Unit)] =
    &[("read", Unit::Bytes), ("write", Unit::Bytes), ("read-ops", Unit::Count), ("write-ops", Unit::Count)];

/// Limits of the whole machine that have a name of their own, with what holds where none is written.
pub const MACHINE: &[(&str, u64)] = &[
    ("memory", UNLIMITED),
    ("memory-high", UNLIMITED),
    ("swap", UNLIMITED),
    ("cpu", UNLIMITED),
    ("cpu-weight", 100),
    ("tasks", UNLIMITED),
    ("io-weight", 100),
    ("time", UNLIMITED),
];

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
    if verb.value == "io" {
        return io(cx, &mut args, out, overriding);
    }
    let rlimit = RLIMITS.iter().find(|(n, ..)| *n == verb.value).map(|(n, _, unit)| (*n, *unit));
    let group = GROUP.iter().find(|g| g.word == verb.value);
    let Some((name, unit)) = rlimit.or(group.map(|g| (g.word, g.unit))) else {
        let known: Vec<&str> =
            RLIMITS.iter().map(|(n, ..)| *n).chain(GROUP.iter().map(|g| g.word)).chain(["io"]).collect();
        return cx.unknown("E0201", "limit", &verb, &known);
    };
    let Some(word) = args.word(cx, "a value") else { return };
    let value = read_value(cx, name, &word, unit);
    let mut list: Vec<(String, u64)> = value.into_iter().map(|v| (name.to_owned(), v)).collect();
    for (option, unit) in group.map_or(&[][..], |g| g.options) {
        if let Some(word) = args.option(cx, option) {
            list.extend(read_value(cx, option, &word, *unit).map(|v| (format!("{name}-{option}"), v)));
        }
    }
    args.finish(cx);
    for (key, value) in list {
        out.scalar(cx, &format!("limits.{key}"), Value::Number(value), &args, overriding);
    }
}

/// `io weight=50`, or `io "/dev/sda" read=10MiB write=5MiB read-ops=100 write-ops=100`, each in a second.
fn io(cx: &mut Context<'_>, args: &mut Args<'_>, out: &mut Grants, overriding: bool) {
    let mut list = Vec::new();
    if let Some(word) = args.option(cx, "weight") {
        list.extend(read_value(cx, "weight", &word, Unit::Weight).map(|v| ("io-weight".to_owned(), v)));
    } else {
        let Some(device) = args.path(cx, "a block device, or `weight=`") else { return };
        for (option, unit) in IO {
            if let Some(word) = args.option(cx, option) {
                list.extend(read_value(cx, option, &word, *unit).map(|v| (format!("io-{option} {}", device.value), v)));
            }
        }
        if list.is_empty() && args.is_empty() {
            let help = "io \"/dev/sda\" read=10MiB write=5MiB read-ops=100 write-ops=100";
            return cx.error("E0204", args.span, "no maximum is given for this device", help);
        }
    }
    args.finish(cx);
    for (key, value) in list {
        out.scalar(cx, &format!("limits.{key}"), Value::Number(value), args, overriding);
    }
}

fn read_value(cx: &mut Context<'_>, name: &str, word: &Spanned<String>, unit: Unit) -> Option<u64> {
    let whole = |v: &str| number(v).and_then(|n| u64::try_from(n).ok());
    let value = match (word.value.as_str(), unit) {
        ("unlimited", Unit::Weight) => None,
        ("unlimited", _) => Some(UNLIMITED),
        (v, Unit::Count | Unit::Raw) => whole(v),
        (v, Unit::Weight) => whole(v).filter(|n| (1..=10_000).contains(n)),
        (v, Unit::Percent) => v.strip_suffix('%').and_then(whole).filter(|n| (1..=1_000_000).contains(n)),
        ("0", Unit::Bytes) => Some(0),
        (v, Unit::Bytes) => size(v),
        (v, Unit::Seconds) => duration(v),
    };
    // What the kernel could take for no bound is none that a person means.
    let read = value;
    let value = read.filter(|v| *v == UNLIMITED && word.value == "unlimited" || *v <= most(unit, name));
    if value.is_none() {
        let help = match unit {
            Unit::Bytes => "a whole number with its unit: B, KiB, MiB, GiB, TiB",
            Unit::Seconds => "a whole number with its unit: s, min, h, d",
            Unit::Percent => "percent of one CPU: 50% is half of one, 200% two",
            Unit::Weight => "1 to 10000; 100 is what other machines have",
            _ => "a whole number",
        };
        let text = match read {
            Some(_) => format!("`{}` is more than `{name}` can be", word.value),
            None => format!("`{}` is not a value for `{name}`", word.value),
        };
        let help = match (read, unit) {
            (Some(_), Unit::Bytes) => "at most 1048576TiB, or `unlimited`".to_owned(),
            (Some(_), Unit::Seconds) => "at most 365d".to_owned(),
            (Some(_), _) => format!("at most {}", most(unit, name)),
            _ => help.to_owned(),
        };
        cx.error("E0212", word.span, text, help);
    }
    value
}

/// The largest value that means something.
fn most(unit: Unit, name: &str) -> u64 {
    match unit {
        // pids_max_write in kernel/cgroup/pids.c takes PID_MAX_LIMIT at most; our own init is one of them.
        Unit::Count if name == "tasks" => 4_194_303,
        // A year; pages of the largest memory; what a register holds.
        Unit::Seconds if name == "time" => 31_536_000,
        Unit::Bytes => 1 << 60,
        _ => u64::MAX - 1,
    }
}

/// How a limit is read by a person.
pub fn text(name: &str, value: u64) -> String {
    let bytes = |n: u64| match n {
        0 => "0".to_owned(),
        n if n.is_multiple_of(1 << 30) => format!("{}GiB", n >> 30),
        n if n.is_multiple_of(1 << 20) => format!("{}MiB", n >> 20),
        n if n.is_multiple_of(1 << 10) => format!("{}KiB", n >> 10),
        n => format!("{n}B"),
    };
    if value == UNLIMITED {
        return format!("{name} unlimited");
    }
    match name.split(' ').next().unwrap_or(name) {
        "cpu" => format!("cpu {value}%"),
        "memory" | "memory-high" | "swap" | "io-read" | "io-write" => format!("{name} {}", bytes(value)),
        "time" => format!("time {value}s"),
        _ => format!("{name} {value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_like_they_are_written() {
        let said: Vec<String> = [("memory", 512 << 20), ("cpu", 150), ("tasks", 64), ("io-read /dev/sda", 1 << 20)]
            .iter()
            .map(|(n, v)| text(n, *v))
            .collect();
        assert_eq!(said, ["memory 512MiB", "cpu 150%", "tasks 64", "io-read /dev/sda 1MiB"]);
        assert_eq!(text("swap", UNLIMITED), "swap unlimited");
    }
}
