//! pest's pairs to the syntax tree. Reports every fault of shape; what is left is still a tree.

use super::ast::{Block, Comment, Entry, File, Item, Kind, Statement};
use super::grammar::{Grammar, Rule};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::source::{FileId, Sources, Span};
use pest::Parser;
use pest::iterators::Pair;

/// Parses one file of `sources`. Always returns a tree; faults are in `diagnostics`.
pub fn parse(sources: &Sources, id: FileId, diagnostics: &mut Diagnostics) -> File {
    let text = sources.get(id).map_or("", |f| f.text.as_str());
    let packed = sources.get(id).and_then(|f| f.packed);
    if let Some(file) = packed.and_then(|p| super::packed::unpack(p, text, id)) {
        return file;
    }
    let mut b = Builder { id, diagnostics };
    match Grammar::parse(Rule::file, text) {
        Ok(pairs) => {
            let inner = pairs.flat_map(Pair::into_inner);
            File { entries: b.entries(inner.collect(), text) }
        }
        // The grammar is total, and the text's check bounds the nesting: nothing is known that gets here.
        Err(e) => {
            let at = match e.location {
                pest::error::InputLocation::Pos(p) | pest::error::InputLocation::Span((p, _)) => p,
            };
            let span = b.span(at, at);
            b.diagnostics.push(Diagnostic::error("E0100", span, "the text can't be parsed"));
            File { entries: Vec::new() }
        }
    }
}

struct Builder<'a> {
    id: FileId,
    diagnostics: &'a mut Diagnostics,
}

impl Builder<'_> {
    fn span(&self, start: usize, end: usize) -> Span {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span { file: self.id, start: narrow(start), end: narrow(end) }
    }

    fn of(&self, p: &Pair<'_, Rule>) -> Span {
        self.span(p.as_span().start(), p.as_span().end())
    }

    fn error(&mut self, code: &'static str, span: Span, message: &str, help: &str) {
        self.diagnostics.push(Diagnostic::error(code, span, message).help(help));
    }

    fn entries(&mut self, pairs: Vec<Pair<'_, Rule>>, text: &str) -> Vec<Entry> {
        let mut out: Vec<Entry> = Vec::new();
        let mut newlines = 1;
        for p in pairs {
            match p.as_rule() {
                Rule::newline => newlines += p.as_str().bytes().filter(|b| *b == b'\n').count(),
                Rule::comment => {
                    let comment = self.comment(&p);
                    match out.last_mut() {
                        Some(Entry::Statement(s)) if newlines == 0 && s.comment.is_none() => s.comment = Some(comment),
                        _ => {
                            blank(&mut out, newlines);
                            out.push(Entry::Comment(comment));
                        }
                    }
                    newlines = 0;
                }
                Rule::statement => {
                    blank(&mut out, newlines);
                    newlines = 0;
                    if let Some(s) = self.statement(p, text) {
                        out.push(Entry::Statement(s));
                    }
                }
                Rule::stray => {
                    let span = self.of(&p);
                    self.error("E0101", span, "`}` closes nothing", "remove it, or find the `{` that is missing above");
                }
                _ => {}
            }
        }
        out
    }

    fn comment(&self, p: &Pair<'_, Rule>) -> Comment {
        Comment { text: p.as_str().trim_end().to_owned(), span: self.of(p) }
    }

    fn statement(&mut self, pair: Pair<'_, Rule>, text: &str) -> Option<Statement> {
        let whole = self.of(&pair);
        let mut items = Vec::new();
        let mut block = None;
        for p in pair.into_inner() {
            if p.as_rule() == Rule::block {
                block = Some(self.block(p, text));
            } else if let Some(item) = self.item(p) {
                items.push(item);
            }
        }
        let (Some(first), Some(last)) = (items.first(), items.last()) else {
            if block.is_some() {
                self.error(
                    "E0102",
                    whole,
                    "a block without a keyword",
                    "write what the block is, as in `limits { ... }`",
                );
            }
            return None;
        };
        let span = first.span.to(last.span);
        Some(Statement { items, block, comment: None, span })
    }

    fn block(&mut self, pair: Pair<'_, Rule>, text: &str) -> Block {
        let span = self.of(&pair);
        let open = self.span(span.start as usize, span.start as usize + 1);
        let mut inner: Vec<_> = pair.into_inner().collect();
        let closed = inner.last().is_some_and(|p| p.as_rule() == Rule::close);
        inner.pop();
        if !closed {
            self.error("E0103", open, "`{` is never closed", "add the `}` that belongs to it");
        }
        let comment = match inner.first() {
            Some(p) if p.as_rule() == Rule::comment => {
                let c = self.comment(p);
                inner.remove(0);
                Some(c)
            }
            _ => None,
        };
        let inline = !text.get(span.start as usize..span.end as usize).unwrap_or("").contains('\n');
        let mut entries = self.entries(inner, text);
        if matches!(entries.first(), Some(Entry::Blank)) {
            entries.remove(0);
        }
        Block { entries, comment, inline, span }
    }

    fn item(&mut self, p: Pair<'_, Rule>) -> Option<Item> {
        let span = self.of(&p);
        let kind = match p.as_rule() {
            Rule::word => Kind::Word(p.as_str().to_owned()),
            Rule::op => Kind::Op(p.as_str().to_owned()),
            Rule::comment => Kind::Comment(p.as_str().trim_end().to_owned()),
            Rule::string => Kind::Text(self.text(p)),
            Rule::list => Kind::List(self.brackets(p, "[", "]")),
            Rule::parens => Kind::Parens(self.brackets(p, "(", ")")),
            Rule::junk | Rule::junk_inner => {
                let message =
                    format!("`{}` has no meaning here", p.as_str().escape_debug().to_string().replace("\\'", "'"));
                self.error("E0104", span, &message, "text with other characters belongs in \"quotes\"");
                return None;
            }
            _ => return None,
        };
        Some(Item { kind, span })
    }

    fn brackets(&mut self, pair: Pair<'_, Rule>, open: &str, close: &str) -> Vec<Item> {
        let start = pair.as_span().start();
        let inner: Vec<_> = pair.into_inner().collect();
        if inner.iter().any(|p| p.as_rule() == Rule::unclosed) {
            let at = self.span(start, start + 1);
            self.error(
                "E0103",
                at,
                &format!("`{open}` is never closed"),
                &format!("add the `{close}` that belongs to it"),
            );
        }
        inner.into_iter().filter_map(|p| self.item(p)).collect()
    }

    fn text(&mut self, pair: Pair<'_, Rule>) -> String {
        let span = self.of(&pair);
        let mut out = String::new();
        for p in pair.into_inner() {
            if p.as_rule() == Rule::unclosed {
                self.error(
                    "E0105",
                    span,
                    "the string is never closed",
                    "a string ends on its line with `\"`; `\\n` in it is a newline",
                );
                continue;
            }
            let mut chars = p.as_str().chars();
            while let Some(c) = chars.next() {
                match (c, c == '\\') {
                    (_, false) => out.push(c),
                    _ => match chars.next() {
                        Some(e @ ('"' | '\\')) => out.push(e),
                        Some('n') => out.push('\n'),
                        Some('t') => out.push('\t'),
                        _ => self.error(
                            "E0106",
                            span,
                            "unknown escape in the string",
                            "known are `\\\"`, `\\\\`, `\\n` and `\\t`",
                        ),
                    },
                }
            }
        }
        out
    }
}

fn blank(out: &mut Vec<Entry>, newlines: usize) {
    if newlines > 1 && !out.is_empty() {
        out.push(Entry::Blank);
    }
}
