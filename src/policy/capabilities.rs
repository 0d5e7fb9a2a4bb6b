//! Capabilities: which of the five sets hold what (capabilities(7)).

use super::reader::{Args, Context, Meta};
use super::resolve::Grants;
use crate::diagnostic::did_you_mean;
use crate::source::Span;
use crate::syntax::ast::Statement;
use std::str::FromStr as _;

/// The set that a line speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Set {
    /// `keep`: whatever sets make the program hold it after exec.
    Keep,
    /// The bounding set.
    Bounding,
    /// The permitted set.
    Permitted,
    /// The effective set.
    Effective,
    /// The inheritable set.
    Inheritable,
    /// The ambient set.
    Ambient,
}

const SETS: &[(&str, Set)] = &[
    ("keep", Set::Keep),
    ("bounding", Set::Bounding),
    ("permitted", Set::Permitted),
    ("effective", Set::Effective),
    ("inheritable", Set::Inheritable),
    ("ambient", Set::Ambient),
];

/// One capability in one set.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The set.
    pub set: Set,
    /// The kernel's number (linux/capability.h).
    pub capability: u8,
    /// The author's metadata.
    pub meta: Meta,
    /// The line.
    pub span: Span,
}

/// The kernel's name in lower case without `CAP_`, as the language writes it.
pub fn name(number: u8) -> String {
    caps::all()
        .into_iter()
        .find(|c| c.index() == number)
        .map_or_else(|| format!("{number}"), |c| c.to_string().trim_start_matches("CAP_").to_lowercase())
}

/// The number of a name.
pub fn number(name: &str) -> Option<u8> {
    caps::Capability::from_str(&format!("CAP_{}", name.to_uppercase()))
        .ok()
        .map(|c| c.index())
        .filter(|_| name == name.to_lowercase())
}

/// The names of a set given as bits, in the kernel's order.
pub fn names(bits: u64) -> Vec<String> {
    (0..64u8).filter(|n| bits >> n & 1 == 1).map(name).collect()
}

/// All capabilities that the table knows, as bits.
pub fn known() -> u64 {
    caps::all().into_iter().fold(0, |bits, c| bits | 1 << c.index())
}

pub(super) fn read(cx: &mut Context<'_>, s: &Statement, out: &mut Grants) {
    let mut args = Args::new(cx, s, 0);
    let Some(verb) = args.word(cx, "`keep`, `none`, or one of the five sets") else { return };
    if verb.value == "none" {
        args.no_until(cx);
        args.finish(cx);
        out.capabilities_none = Some(verb.span);
        return;
    }
    if verb.value == "remove" {
        for word in args.words(cx, "a capability") {
            if let Some(c) = number_or_error(cx, &word) {
                out.remove(cx, super::removes::Removed::Capability(c), word.span, &args);
            }
        }
        return args.finish(cx);
    }
    let Some((_, set)) = SETS.iter().find(|(n, _)| *n == verb.value) else {
        let mut known: Vec<&str> = SETS.iter().map(|(n, _)| *n).collect();
        known.extend(["none", "remove"]);
        return cx.unknown("E0201", "statement", &verb, &known);
    };
    for word in args.words(cx, "a capability") {
        if let Some(capability) = number_or_error(cx, &word) {
            out.capabilities.push(Grant { set: *set, capability, meta: args.meta.clone(), span: word.span });
        }
    }
    args.finish(cx);
}

/// The number of a name; an unknown one is reported.
pub(super) fn number_or_error(cx: &mut Context<'_>, word: &crate::source::Spanned<String>) -> Option<u8> {
    let found = number(&word.value);
    if found.is_none() {
        let all: Vec<String> = caps::all().iter().map(|c| name(c.index())).collect();
        let bare = word.value.to_lowercase();
        let bare = bare.strip_prefix("cap_").unwrap_or(&bare);
        let help = did_you_mean(bare, all.iter().map(String::as_str))
            .unwrap_or_else(|| "the kernel's name in lower case without CAP_, as in `net_bind_service`".into());
        cx.error("E0501", word.span, format!("unknown capability `{}`", word.value), help);
    }
    found
}
