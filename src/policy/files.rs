//! File access inside, for Landlock.

use super::reader::{Args, Context, Meta};
use super::removes::Removed;
use super::resolve::Grants;
use crate::source::Span;
use crate::syntax::ast::Statement;
use std::fmt;

/// What may be done below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Open files for reading, list folders.
    Read,
    /// Open existing files for writing, truncate them.
    Write,
    /// Execute, and what execution reads.
    Exec,
    /// Make and remove files, folders, links, sockets and fifos.
    Create,
    /// Rename and link between folders.
    Refer,
    /// ioctl(2) on devices.
    Ioctl,
}

/// True when everything below `inner` is below `outer`.
pub(crate) fn is_below(inner: &str, outer: &str) -> bool {
    outer == "/" || inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

/// The words of the language.
pub const RIGHTS: &[(&str, Right)] = &[
    ("read", Right::Read),
    ("write", Right::Write),
    ("exec", Right::Exec),
    ("create", Right::Create),
    ("refer", Right::Refer),
    ("ioctl", Right::Ioctl),
];

/// One right below one path.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The right.
    pub right: Right,
    /// The path inside; everything below it is meant.
    pub path: String,
    /// The rule may be dropped when the path doesn't exist, or the kernel doesn't know the right.
    pub optional: bool,
    /// The author's metadata.
    pub meta: Meta,
    /// The line.
    pub span: Span,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = RIGHTS.iter().find(|(_, r)| *r == self.right).map_or("?", |(n, _)| n);
        let optional = if self.optional { "optional " } else { "" };
        write!(f, "{word} {optional}\"{}\"", self.path.escape_debug())
    }
}

pub(super) fn read(cx: &mut Context<'_>, s: &Statement, out: &mut Grants) {
    let removing = s.keyword() == Some("remove");
    let mut args = Args::new(cx, s, usize::from(removing));
    let Some(verb) = args.word(cx, "a right") else { return };
    let Some((_, right)) = RIGHTS.iter().find(|(n, _)| *n == verb.value) else {
        let known: Vec<&str> = RIGHTS.iter().map(|(n, _)| *n).chain(["remove"]).collect();
        return cx.unknown("E0201", "statement", &verb, &known);
    };
    let optional = args.one_of(&["optional"]).is_some();
    if args.is_empty() {
        args.path(cx, "a path");
    }
    while !args.is_empty() {
        let Some(path) = args.path(cx, "a path") else { return };
        if removing {
            out.remove(cx, Removed::File(*right, path.value), path.span, &args);
        } else {
            out.files.push(Rule {
                right: *right,
                path: path.value,
                optional,
                meta: args.meta.clone(),
                span: path.span,
            });
        }
    }
}
