//! The syntax tree: one node for each shape, comments included, so that `fmt` loses nothing.

use crate::source::Span;

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Statements and comments in the order written.
    pub entries: Vec<Entry>,
}

/// What stands on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A statement.
    Statement(Statement),
    /// A comment on a line of its own.
    Comment(Comment),
    /// One or more empty lines.
    Blank,
}

/// A comment, from `#` to the end of the line, without trailing blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// The text with its `#`.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A word, its arguments, and an optional block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// At least one.
    pub items: Vec<Item>,
    /// The block in braces.
    pub block: Option<Block>,
    /// A comment at the end of the same line.
    pub comment: Option<Comment>,
    /// From the first item to the last, the block left out.
    pub span: Span,
}

/// `{ ... }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What is inside.
    pub entries: Vec<Entry>,
    /// A comment after the opening brace.
    pub comment: Option<Comment>,
    /// True when it was written on one line.
    pub inline: bool,
    /// From `{` to `}`.
    pub span: Span,
}

/// One argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub span: Span,
}

/// The kinds of arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bare word or number: `read`, `@group`, `512MiB`, `std/daemon`.
    Word(String),
    /// A quoted string, unescaped; `${param}` is still in it.
    Text(String),
    /// Punctuation: `->`, `==`, `in`-ranges' `..=`, a comma, ...
    Op(String),
    /// `[ ... ]`
    List(Vec<Item>),
    /// `( ... )`
    Parens(Vec<Item>),
    /// A comment inside brackets that span lines.
    Comment(String),
}

impl File {
    /// The statements, comments left out.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        statements(&self.entries)
    }
}

impl Block {
    /// The statements, comments left out.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        statements(&self.entries)
    }
}

fn statements(entries: &[Entry]) -> impl Iterator<Item = &Statement> {
    entries.iter().filter_map(|e| match e {
        Entry::Statement(s) => Some(s),
        _ => None,
    })
}

impl Statement {
    /// The first item if it is a bare word: the statement's keyword.
    pub fn keyword(&self) -> Option<&str> {
        match self.items.first().map(|i| &i.kind) {
            Some(Kind::Word(w)) => Some(w),
            _ => None,
        }
    }
}

/// Equality of what was written, spans and blank lines left out: what `fmt` must keep.
pub fn same(a: &File, b: &File) -> bool {
    same_entries(&a.entries, &b.entries)
}

fn same_entries(a: &[Entry], b: &[Entry]) -> bool {
    let solid = |e: &&Entry| !matches!(e, Entry::Blank);
    let (a, b): (Vec<_>, Vec<_>) = (a.iter().filter(solid).collect(), b.iter().filter(solid).collect());
    a.len() == b.len()
        && a.iter().zip(&b).all(|(a, b)| match (a, b) {
            (Entry::Statement(a), Entry::Statement(b)) => same_statement(a, b),
            (Entry::Comment(a), Entry::Comment(b)) => a.text == b.text,
            _ => false,
        })
}

fn same_statement(a: &Statement, b: &Statement) -> bool {
    let text = |c: &Option<Comment>| c.as_ref().map(|c| c.text.clone());
    let blocks = match (&a.block, &b.block) {
        (Some(a), Some(b)) => text(&a.comment) == text(&b.comment) && same_entries(&a.entries, &b.entries),
        (None, None) => true,
        _ => false,
    };
    blocks && text(&a.comment) == text(&b.comment) && same_items(&a.items, &b.items)
}

fn same_items(a: &[Item], b: &[Item]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| match (&a.kind, &b.kind) {
            (Kind::Word(a), Kind::Word(b))
            | (Kind::Text(a), Kind::Text(b))
            | (Kind::Op(a), Kind::Op(b))
            | (Kind::Comment(a), Kind::Comment(b)) => a == b,
            (Kind::List(a), Kind::List(b)) | (Kind::Parens(a), Kind::Parens(b)) => same_items(a, b),
            _ => false,
        })
}
