//! Reading a statement's arguments with types: what each keyword's reader uses.

use super::loader;
use crate::diagnostic::{Diagnostic, Diagnostics, did_you_mean};
use crate::source::{Span, Spanned};
use crate::syntax::ast::{Item, Kind, Statement};
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// What a reader needs besides the statement: where findings go, and the values of `${...}`.
pub(super) struct Context<'a> {
    pub(super) diagnostics: &'a mut Diagnostics,
    pub(super) params: &'a BTreeMap<String, Spanned<String>>,
    /// The day before which an `until` is past, `YYYY-MM-DD`.
    pub(super) today: &'a str,
}

impl Context<'_> {
    pub(super) fn error(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.diagnostics.push(Diagnostic::error(code, span, message).help(help));
    }

    /// An unknown word where one of `known` was expected.
    pub(super) fn unknown(&mut self, code: &'static str, what: &str, word: &Spanned<String>, known: &[&str]) {
        let help = did_you_mean(&word.value, known.iter().copied())
            .unwrap_or_else(|| format!("known are: {}", known.join(" ")));
        self.error(code, word.span, format!("unknown {what} `{}`", word.value), help);
    }

    /// A profile that no file here declares: one of the library's is a line away.
    pub(super) fn unknown_profile(&mut self, word: &Spanned<String>, known: &[&str]) {
        let Some(file) = loader::declares(&word.value) else { return self.unknown("E0303", "profile", word, known) };
        self.error(
            "E0303",
            word.span,
            format!("unknown profile `{}`", word.value),
            format!("it is one of the library's: import \"{file}\""),
        );
    }

    /// A statement that the language has and this version can't enforce.
    pub(super) fn not_yet(&mut self, span: Span, what: &str) {
        self.error(
            "E0901",
            span,
            format!("{what} can't be enforced by this version"),
            "remove the statement; nothing is accepted and then ignored",
        );
    }

    /// Replaces `${name}`; an unknown name is an error.
    fn substitute(&mut self, text: &str, span: Span) -> Option<String> {
        if !text.contains('$') {
            return Some(text.to_owned());
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let Some((name, tail)) = after.split_once('}') else {
                self.error("E0208", span, "`${` without `}`", "write `${NAME}`");
                return None;
            };
            match self.params.get(name) {
                Some(value) => out.push_str(&value.value),
                None => {
                    let known: Vec<&str> = self.params.keys().map(String::as_str).collect();
                    let help = did_you_mean(name, known).unwrap_or_else(|| {
                        format!(
                            "declare it with `param {name} TYPE` at the top of the file; groups and names take none"
                        )
                    });
                    self.error("E0208", span, format!("unknown parameter `{name}`"), help);
                    return None;
                }
            }
            rest = tail;
        }
        out.push_str(rest);
        Some(out)
    }
}

/// `why`, `until` and `ref` at the end of a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The author's reason.
    pub why: Option<String>,
    /// Last day on which the grant may be used, `YYYY-MM-DD`.
    pub until: Option<Spanned<String>>,
    /// A ticket or address.
    pub reference: Option<String>,
}

/// The arguments of one statement after its keyword, read from left to right.
pub(super) struct Args<'s> {
    items: Vec<&'s Item>,
    at: usize,
    pub(super) span: Span,
    pub(super) meta: Meta,
}

impl<'s> Args<'s> {
    /// Takes the trailing metadata off and stands before the first argument that follows `skip` items.
    pub(super) fn new(cx: &mut Context<'_>, s: &'s Statement, skip: usize) -> Self {
        let items: Vec<&Item> = s.items.iter().filter(|i| !matches!(i.kind, Kind::Comment(_))).collect();
        let mut args = Args { items, at: skip, span: s.span, meta: Meta::default() };
        args.take_meta(cx);
        args
    }

    /// The same over the inside of a list or parentheses.
    pub(super) fn inner(items: &'s [Item], span: Span) -> Self {
        let items = items.iter().filter(|i| !matches!(i.kind, Kind::Comment(_))).collect();
        Args { items, at: 0, span, meta: Meta::default() }
    }

    fn take_meta(&mut self, cx: &mut Context<'_>) {
        while let [.., key, value] = self.items.as_slice() {
            if self.items.len() < self.at + 2 {
                return;
            }
            let Kind::Word(word) = &key.kind else { return };
            let slot = match word.as_str() {
                "why" | "ref" => match &value.kind {
                    Kind::Text(t) if !t.trim().is_empty() => t.clone(),
                    _ => {
                        cx.error(
                            "E0206",
                            value.span,
                            format!("`{word}` takes a text in quotes"),
                            format!("{word} \"...\""),
                        );
                        String::new()
                    }
                },
                "until" => match &value.kind {
                    Kind::Word(t) | Kind::Text(t) if is_date(t) => t.clone(),
                    _ => {
                        cx.error("E0206", value.span, "`until` takes a date", "until 2027-03-31");
                        String::new()
                    }
                },
                _ => return,
            };
            let meta = &mut self.meta;
            let twice = match word.as_str() {
                "why" => meta.why.replace(slot).is_some(),
                "ref" => meta.reference.replace(slot).is_some(),
                _ if slot.is_empty() => false,
                _ => {
                    // Whatever becomes of the line: what nobody looked at again is in the text.
                    if slot.as_str() < cx.today {
                        let help = "remove it, or review it and move the date";
                        cx.error("E0702", value.span, format!("this grant ended on {slot}"), help);
                    }
                    meta.until.replace(Spanned { value: slot, span: value.span }).is_some()
                }
            };
            if twice {
                cx.error("E0206", key.span, format!("`{word}` stands here twice"), "keep one");
            }
            let end = self.items.len() - 2;
            self.items.truncate(end);
        }
    }

    pub(super) fn peek(&self) -> Option<&'s Item> {
        self.items.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'s Item> {
        let item = self.peek();
        self.at += usize::from(item.is_some());
        item
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peek().is_none()
    }

    /// Passes over one item of any kind.
    pub(super) fn one_item(&mut self) {
        self.at += usize::from(self.peek().is_some());
    }

    fn missing(&self, cx: &mut Context<'_>, what: &str) {
        let at = self.items.get(self.at.saturating_sub(1)).map_or(self.span, |i| i.span);
        cx.error("E0204", at, format!("{what} is missing here"), format!("write {what} after this"));
    }

    /// A bare word or number; `what` names it in the message.
    pub(super) fn word(&mut self, cx: &mut Context<'_>, what: &str) -> Option<Spanned<String>> {
        match self.next() {
            Some(Item { kind: Kind::Word(w), span }) => Some(Spanned { value: cx.substitute(w, *span)?, span: *span }),
            Some(item) => {
                cx.error("E0205", item.span, format!("expected {what}"), "a bare word or number, without quotes");
                None
            }
            None => {
                self.missing(cx, what);
                None
            }
        }
    }

    /// A quoted string.
    pub(super) fn text(&mut self, cx: &mut Context<'_>, what: &str) -> Option<Spanned<String>> {
        match self.next() {
            Some(Item { kind: Kind::Text(t), span }) => Some(Spanned { value: cx.substitute(t, *span)?, span: *span }),
            Some(item) => {
                // `exec "/a" read "/b"`: what was meant as a statement of its own looks like one more text.
                let help = match &item.kind {
                    Kind::Word(w) if w.chars().all(|c| c.is_ascii_lowercase()) => {
                        "a text in \"quotes\"; another grant begins on a line of its own or behind a `;`"
                    }
                    _ => "a text in \"quotes\"",
                };
                cx.error("E0205", item.span, format!("expected {what}"), help);
                None
            }
            None => {
                self.missing(cx, what);
                None
            }
        }
    }

    /// A bare word or a quoted string.
    pub(super) fn word_or_text(&mut self, cx: &mut Context<'_>, what: &str) -> Option<Spanned<String>> {
        match self.peek().map(|i| &i.kind) {
            Some(Kind::Text(_)) => self.text(cx, what),
            _ => self.word(cx, what),
        }
    }

    /// A quoted absolute path without `.`, `..`, doubled or trailing slashes.
    pub(super) fn path(&mut self, cx: &mut Context<'_>, what: &str) -> Option<Spanned<String>> {
        let t = self.text(cx, what)?;
        match path_fault(&t.value) {
            None => Some(t),
            Some(fault) => {
                cx.error(
                    "E0207",
                    t.span,
                    format!("`{}` {fault}", t.value),
                    "write the absolute path, as in \"/srv/www\"",
                );
                None
            }
        }
    }

    /// The next word if it is one of `choices`; nothing is read otherwise.
    pub(super) fn one_of<'c>(&mut self, choices: &[&'c str]) -> Option<Spanned<&'c str>> {
        let item = self.peek()?;
        let Kind::Word(w) = &item.kind else { return None };
        let found = choices.iter().find(|c| *c == w)?;
        self.at += 1;
        Some(Spanned { value: found, span: item.span })
    }

    /// True, and reads it, when the next item is this punctuation.
    pub(super) fn op(&mut self, op: &str) -> bool {
        let here = matches!(self.peek().map(|i| &i.kind), Some(Kind::Op(o)) if o == op);
        self.at += usize::from(here);
        here
    }

    /// The inside of a list, if one stands here.
    pub(super) fn list(&mut self) -> Option<Args<'s>> {
        let item = self.peek()?;
        let Kind::List(inner) = &item.kind else { return None };
        self.at += 1;
        Some(Args::inner(inner, item.span))
    }

    /// The inside of parentheses, if they stand here.
    pub(super) fn parens(&mut self) -> Option<Args<'s>> {
        let item = self.peek()?;
        let Kind::Parens(inner) = &item.kind else { return None };
        self.at += 1;
        Some(Args::inner(inner, item.span))
    }

    /// `name=VALUE`, if it stands here; the value is a word or a text.
    pub(super) fn option(&mut self, cx: &mut Context<'_>, name: &str) -> Option<Spanned<String>> {
        let here = matches!(self.peek().map(|i| &i.kind), Some(Kind::Word(w)) if w == name)
            && matches!(self.items.get(self.at + 1).map(|i| &i.kind), Some(Kind::Op(o)) if o == "=");
        if !here {
            return None;
        }
        self.at += 2;
        self.word_or_text(cx, name)
    }

    /// The inside of a list that names something, if one stands here: an empty one would say nothing.
    pub(super) fn filled(&mut self, cx: &mut Context<'_>) -> Option<Args<'s>> {
        let inner = self.list()?;
        if inner.is_empty() {
            cx.error("E0205", inner.span, "the list is empty", "name at least one, or delete the line");
        }
        Some(inner)
    }

    /// Either one word or a list of words separated by commas.
    pub(super) fn words(&mut self, cx: &mut Context<'_>, what: &str) -> Vec<Spanned<String>> {
        match self.filled(cx) {
            Some(mut inner) => inner.separated(cx, |a, cx| a.word(cx, what)),
            None => self.word(cx, what).into_iter().collect(),
        }
    }

    /// Reads `item , item , ...` to the end; a trailing comma is fine.
    pub(super) fn separated<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut one: impl FnMut(&mut Self, &mut Context<'_>) -> Option<T>,
    ) -> Vec<T> {
        let mut out = Vec::new();
        while !self.is_empty() {
            out.extend(one(self, cx));
            if !self.is_empty() && !self.op(",") {
                let span = self.peek().map_or(self.span, |i| i.span);
                cx.error("E0209", span, "expected `,` before this", "items of a list are separated by commas");
                while !self.is_empty() && !self.op(",") {
                    self.at += 1;
                }
            }
        }
        out
    }

    /// For statements that grant nothing: an end date on them would be accepted and then ignored.
    pub(super) fn no_until(&self, cx: &mut Context<'_>) {
        if let Some(until) = &self.meta.until {
            cx.error("E0206", until.span, "`until` has no meaning here", "only a grant can end");
        }
    }

    /// Whatever is left over is an error.
    pub(super) fn finish(&mut self, cx: &mut Context<'_>) {
        if let Some(item) = self.peek() {
            let last = self.items.last().map_or(item.span, |i| i.span);
            cx.error(
                "E0203",
                item.span.to(last),
                "this statement takes nothing more",
                "one grant a line, or a `;` between; a reason is written `why \"...\"`",
            );
        }
        self.at = self.items.len();
    }
}

/// What is wrong with a path of the language, if anything is.
pub(super) fn path_fault(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("is not an absolute path");
    }
    if path.contains('\0') || path.contains('\n') {
        return Some("holds a control character");
    }
    if path.len() > 4000 {
        return Some("is longer than the kernel's PATH_MAX");
    }
    let odd = Path::new(path).components().any(|c| matches!(c, Component::ParentDir | Component::CurDir));
    let clean =
        path == "/" || !(path.ends_with('/') || path.contains("//") || path.contains("/./") || path.ends_with("/."));
    (odd || !clean).then_some("holds `.`, `..`, or an empty component")
}

fn is_date(t: &str) -> bool {
    let parts: Vec<&str> = t.split('-').collect();
    match parts.as_slice() {
        [y, m, d] => {
            let n = |s: &str, len: usize| (s.len() == len).then(|| s.parse::<u32>().ok()).flatten();
            let (Some(y), Some(m), Some(d)) = (n(y, 4), n(m, 2), n(d, 2)) else { return false };
            let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
            let days = match m {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                1..=12 => 31,
                _ => 0,
            };
            (1..=days).contains(&d)
        }
        _ => false,
    }
}

/// A whole number: decimal, `0x` or `0o`, with an optional minus.
pub(super) fn number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(d) => (true, d),
        None => (false, text),
    };
    let value = if let Some(hex) = digits.strip_prefix("0x") {
        digits_only(hex, |c| c.is_ascii_hexdigit()).then(|| i128::from_str_radix(hex, 16).ok()).flatten()
    } else if let Some(octal) = digits.strip_prefix("0o") {
        digits_only(octal, |c| c.is_digit(8)).then(|| i128::from_str_radix(octal, 8).ok()).flatten()
    } else {
        digits_only(digits, |c| c.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    }?;
    Some(if negative { -value } else { value })
}

fn digits_only(text: &str, ok: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.len() <= 32 && text.chars().all(ok)
}

/// A size in bytes with its unit (`512MiB`); a bare number has no meaning.
pub(super) fn size(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let unit = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1u64 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// A duration in seconds with its unit (`30s`, `5min`, `2h`).
pub(super) fn duration(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let unit = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sizes_and_durations_are_exact() {
        assert_eq!(number("0x10"), Some(16));
        assert_eq!(number("0o755"), Some(0o755));
        assert_eq!(number("-1"), Some(-1));
        for bad in ["", "+1", "1 ", "0x", "1e3", "--1", "0x-1", "١"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!(size("512MiB"), Some(512 << 20));
        for bad in ["512", "512MB", "MiB", "-1MiB", "99999999999TiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        assert_eq!(duration("30min"), Some(1800));
        assert_eq!(duration("30"), None);
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        assert_eq!(path_fault("/srv/www"), None);
        assert_eq!(path_fault("/"), None);
        for bad in ["srv", "/a/../b", "/a/./b", "/a//b", "/a/", "/a/.", "", "/a\n"] {
            assert!(path_fault(bad).is_some(), "{bad}");
        }
    }
}
