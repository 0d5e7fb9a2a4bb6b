//! Diagnostics: what is wrong, where, and what to do; all of them at once.

use crate::source::{Sources, Span};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; the policy is used.
    Warning,
    /// The policy is not used.
    Error,
}

/// A place and what to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// The text beside it; may be empty.
    pub text: String,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable code (`E0204`); `stockade explain CODE` prints its page.
    pub code: &'static str,
    /// One sentence, lower case, without a final stop.
    pub message: String,
    /// The first is the main place.
    pub labels: Vec<Label>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A finding that stops the policy from being used.
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: one_line(message.into()),
            labels: vec![Label { span, text: String::new() }],
            help: None,
        }
    }

    /// A finding that doesn't.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// Sets the text beside the main place.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        if let Some(first) = self.labels.first_mut() {
            first.text = text.into();
        }
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

/// What a policy calls a thing may be of several lines, and look like another finding.
fn one_line(text: String) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_debug().to_string() } else { c.into() }).collect()
}

/// Most findings that are kept of one run; a hostile file can't make the list grow without bound.
const MOST: usize = 100;

/// The findings of one run, in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// Of every error there was, kept or not.
    codes: BTreeSet<&'static str>,
    errors: usize,
    dropped: usize,
}

impl Diagnostics {
    /// Keeps a finding; the same code at the same place is kept once. Where no more are kept, an error takes a
    /// warning's place, and a grave grant without a reason that of another warning.
    pub fn push(&mut self, d: Diagnostic) {
        if self.list.iter().any(|o| o.code == d.code && o.labels == d.labels && o.message == d.message) {
            return;
        }
        if d.severity == Severity::Error {
            self.errors += 1;
            self.codes.insert(d.code);
        }
        if self.list.len() >= MOST {
            self.dropped += 1;
            let weight = |x: &Diagnostic| (x.severity == Severity::Error, x.code == "W0801");
            match self.list.iter().rposition(|o| weight(o) < weight(&d)) {
                Some(w) => drop(self.list.remove(w)),
                None => return,
            }
        }
        self.list.push(d);
    }

    /// Takes over what another list has, and what it dropped.
    pub fn extend(&mut self, other: Diagnostics) {
        let kept = other.list.iter().filter(|d| d.severity == Severity::Error).count();
        self.errors += other.errors - kept;
        self.codes.extend(&other.codes);
        self.dropped += other.dropped;
        other.list.into_iter().for_each(|d| self.push(d));
    }

    /// Forgets the warnings of which a condition isn't true.
    pub fn retain_warnings(&mut self, keep: impl Fn(&Diagnostic) -> bool) {
        self.list.retain(|d| d.severity == Severity::Error || keep(d));
    }

    /// How many findings there were, the ones not kept included.
    pub fn count(&self) -> usize {
        self.list.len() + self.dropped
    }

    /// True when something stops the policy from being used.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors there were, the ones not kept included.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// True when every error's code begins so.
    pub fn only(&self, prefix: &str) -> bool {
        self.codes.iter().all(|code| code.starts_with(prefix))
    }

    /// The exit code of a command that was kept from its work by these: 3 where the policy is fine and this host can't
    /// (E06xx), or something isn't proved (E0413, E0706); 2 for a fault in the policy.
    pub fn exit_code(&self) -> u8 {
        let elsewhere = |code: &&str| code.starts_with("E06") || ["E0413", "E0706"].contains(code);
        if self.codes.iter().all(elsewhere) { 3 } else { 2 }
    }

    /// What a list must say at its end when it isn't whole.
    fn rest(&self) -> Option<Diagnostic> {
        (self.dropped > 0).then(|| Diagnostic {
            severity: Severity::Warning,
            code: "W0001",
            message: format!("{} findings more aren't shown", self.dropped),
            labels: Vec::new(),
            help: Some("repair what is shown, and ask again".into()),
        })
    }

    /// The findings as they are shown: with a last one that says how many more there are.
    pub fn shown(&self) -> impl Iterator<Item = Cow<'_, Diagnostic>> {
        self.list.iter().map(Cow::Borrowed).chain(self.rest().map(Cow::Owned))
    }

    /// The findings.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// Turns warnings into errors, for `--strict`.
    pub fn promote_warnings(&mut self) {
        for d in self.list.iter_mut().filter(|d| d.severity == Severity::Warning) {
            d.severity = Severity::Error;
            self.codes.insert(d.code);
            self.errors += 1;
        }
    }

    /// As a person reads them, each with its place underlined.
    pub fn render(&self, sources: &Sources, color: bool) -> String {
        let mut list: Vec<&Diagnostic> = self.list.iter().collect();
        list.sort_by_key(|d| d.labels.first().map(|l| (l.span.file, l.span.start)));
        let mut out = String::new();
        for d in list {
            out.push_str(&render_one(d, sources, color));
            out.push_str("\n\n");
        }
        if self.dropped > 0 {
            out.push_str(&format!("... and {} more\n", self.dropped));
        }
        out
    }

    /// As `--json` prints them.
    pub fn to_json(&self, sources: &Sources) -> serde_json::Value {
        let place = |l: &Label| {
            let p = sources.position(l.span);
            serde_json::json!({
                "file": sources.get(l.span.file).map_or("", |f| f.name.as_str()),
                "line": p.line, "column": p.column, "start": l.span.start, "end": l.span.end, "text": l.text,
            })
        };
        self.shown()
            .map(|d| {
                serde_json::json!({
                    "severity": d.severity, "code": d.code, "message": d.message, "help": d.help,
                    "labels": d.labels.iter().map(place).collect::<Vec<_>>(),
                })
            })
            .collect()
    }
}

fn render_one(d: &Diagnostic, sources: &Sources, color: bool) -> String {
    let level = if d.severity == Severity::Error { Level::ERROR } else { Level::WARNING };
    let mut group: Group<'_> = Group::with_title(level.primary_title(d.message.as_str()).id(d.code));
    let main_file = d.labels.first().map(|l| l.span.file);
    let mut files: Vec<_> = d.labels.iter().map(|l| l.span.file).collect();
    files.dedup();
    for id in files {
        let Some(file) = sources.get(id) else { continue };
        // Only the lines that are shown: the renderer looks at all that it is given.
        let here = || d.labels.iter().filter(|l| l.span.file == id);
        let first = here().map(|l| l.span.start as usize).min().unwrap_or(0);
        let last = here().map(|l| l.span.end as usize).max().unwrap_or(0);
        let start = file.text.get(..first).and_then(|t| t.rfind('\n')).map_or(0, |n| n + 1);
        let end = file.text.get(last..).and_then(|t| t.find('\n')).map_or(file.text.len(), |n| last + n);
        let line = file.text.get(..start).map_or(0, |t| t.bytes().filter(|b| *b == b'\n').count()) + 1;
        let shown = file.text.get(start..end).unwrap_or("");
        let mut snippet = Snippet::source(shown).path(file.name.as_str()).line_start(line);
        for (i, label) in d.labels.iter().enumerate().filter(|(_, l)| l.span.file == id) {
            let primary = i == 0 && Some(id) == main_file;
            let kind = if primary { AnnotationKind::Primary } else { AnnotationKind::Context };
            let mut a = kind.span(label.span.start as usize - start..label.span.end as usize - start);
            if !label.text.is_empty() {
                a = a.label(label.text.as_str());
            }
            snippet = snippet.annotation(a);
        }
        group = group.element(snippet);
    }
    if let Some(help) = &d.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

/// The known word nearest to a mistyped one, if one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = match word.chars().count() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, k)| (*d, k.len()))
        .map(|(_, k)| k)
}

/// `did you mean ...?`, ready for [`Diagnostic::help`].
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, known).map(|k| format!("did you mean `{k}`?"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
    use super::*;
    use crate::source::FileId;

    #[test]
    fn a_fault_of_the_policy_outweighs_what_the_host_cannot() {
        let span = Span { file: FileId(0), start: 0, end: 0 };
        let code = |codes: &[&'static str]| {
            let mut d = Diagnostics::default();
            codes.iter().for_each(|c| d.push(Diagnostic::error(c, span, "x")));
            d.push(Diagnostic::warning("W0801", span, "x"));
            d.exit_code()
        };
        for (codes, expected) in
            [(&["E0413"][..], 3), (&["E0605"], 3), (&["E0605", "E0413"], 3), (&["E0413", "E0201"], 2), (&["E0414"], 2)]
        {
            assert_eq!(code(codes), expected, "{codes:?}");
        }
    }

    /// A hundred warnings hid the error that came after them: the exit code was the host's, and SARIF showed none.
    #[test]
    fn an_error_takes_the_place_of_a_warning_where_no_more_are_kept() {
        let mut d = Diagnostics::default();
        let span = |n: u32| Span { file: FileId(0), start: n, end: n };
        (0..130).for_each(|n| d.push(Diagnostic::warning("W0701", span(n), "x")));
        d.push(Diagnostic::error("E0410", span(200), "y"));
        (0..120).for_each(|n| d.push(Diagnostic::error("E0605", span(n), "z")));
        assert_eq!((d.exit_code(), d.errors(), d.iter().count()), (2, 121, MOST));
        assert!(d.iter().all(|x| x.severity == Severity::Error) && d.iter().any(|x| x.code == "E0410"));
        assert!(!d.only("E06"));
        let last = d.shown().last().unwrap().message.clone();
        assert_eq!(last, "151 findings more aren't shown");
        let mut d = Diagnostics::default();
        (0..130).for_each(|n| d.push(Diagnostic::warning("W0802", span(n), "x")));
        d.push(Diagnostic::warning("W0801", span(200), "y"));
        let mut all = Diagnostics::default();
        all.extend(d);
        assert!(all.iter().any(|x| x.code == "W0801"));
        assert_eq!(all.shown().last().unwrap().message, "31 findings more aren't shown");
    }
}
