//! The one canonical form of a policy file (`stockade fmt`).

use super::ast::{Comment, Entry, File, Item, Kind, Statement};

/// Lines longer than this are broken inside lists where they can be.
const WIDTH: usize = 110;

/// The canonical text of a file: two blanks a level, one between arguments, at most one empty line.
pub fn print(file: &File) -> String {
    let mut out = String::new();
    entries(&file.entries, 0, &mut out);
    out
}

fn entries(list: &[Entry], depth: usize, out: &mut String) {
    let last = list.iter().rposition(|e| !matches!(e, Entry::Blank));
    for entry in list.iter().take(last.map_or(0, |l| l + 1)) {
        match entry {
            Entry::Blank => out.push('\n'),
            Entry::Comment(c) => line(depth, &c.text, out),
            Entry::Statement(s) => statement(s, depth, out),
        }
    }
}

fn line(depth: usize, text: &str, out: &mut String) {
    out.push_str(&"  ".repeat(depth));
    out.push_str(text);
    out.push('\n');
}

fn statement(s: &Statement, depth: usize, out: &mut String) {
    let mut head = items(&s.items, depth);
    let Some(block) = &s.block else {
        return line(depth, &with_comment(head, s.comment.as_ref()), out);
    };
    if block.inline
        && let Some(text) = inline(&block.entries, depth)
    {
        let whole = format!("{head} {{{text}}}");
        if whole.len() + 2 * depth <= WIDTH {
            return line(depth, &with_comment(whole, s.comment.as_ref()), out);
        }
    }
    head.push_str(" {");
    line(depth, &with_comment(head, block.comment.as_ref()), out);
    entries(&block.entries, depth + 1, out);
    line(depth, &with_comment("}".to_owned(), s.comment.as_ref()), out);
}

fn with_comment(mut text: String, comment: Option<&Comment>) -> String {
    if let Some(c) = comment {
        text.push_str("  ");
        text.push_str(&c.text);
    }
    text
}

/// The block's statements on one line, when it holds nothing that needs more.
fn inline(list: &[Entry], depth: usize) -> Option<String> {
    let mut parts = Vec::new();
    for e in list {
        match e {
            Entry::Statement(s) if s.block.is_none() && s.comment.is_none() => parts.push(items(&s.items, depth)),
            _ => return None,
        }
    }
    if parts.iter().any(|p| p.contains('\n')) {
        return None;
    }
    Some(if parts.is_empty() { String::new() } else { format!(" {} ", parts.join("; ")) })
}

fn items(list: &[Item], depth: usize) -> String {
    let one = flat(list);
    if !has_comment(list) && 2 * depth + one.len() <= WIDTH {
        return one;
    }
    let mut out = String::new();
    for (i, item) in list.iter().enumerate() {
        if i > 0 && !tight(&item.kind, list.get(i - 1).map(|p| &p.kind)) {
            out.push(' ');
        }
        match &item.kind {
            Kind::List(inner) if inner.len() > 1 => out.push_str(&wrapped('[', inner, ']', depth)),
            kind => out.push_str(&broken(kind, depth)),
        }
    }
    out
}

/// On one line, unless a comment inside needs its own: what follows on its line would be part of it.
fn broken(kind: &Kind, depth: usize) -> String {
    match kind {
        Kind::List(inner) if has_comment(inner) => wrapped('[', inner, ']', depth),
        Kind::Parens(inner) if has_comment(inner) => wrapped('(', inner, ')', depth),
        kind => flat_kind(kind),
    }
}

fn wrapped(open: char, list: &[Item], close: char, depth: usize) -> String {
    let pad = "  ".repeat(depth + 1);
    let mut out = format!("{open}\n");
    let mut current = pad.clone();
    for (i, item) in list.iter().enumerate() {
        let text = broken(&item.kind, depth + 1);
        let comma = matches!(&item.kind, Kind::Op(o) if o == ",");
        if comma {
            current.push(',');
            continue;
        }
        if current.len() + text.len() + 1 > WIDTH && current.trim() != "" {
            out.push_str(current.trim_end());
            out.push('\n');
            current.clone_from(&pad);
        }
        if current != pad {
            let glued = list.get(i.wrapping_sub(1)).is_some_and(|p| tight(&item.kind, Some(&p.kind)));
            current.push_str(if glued { "" } else { " " });
        }
        current.push_str(&text);
        if matches!(item.kind, Kind::Comment(_)) {
            out.push_str(current.trim_end());
            out.push('\n');
            current.clone_from(&pad);
        }
    }
    if current.trim() != "" {
        out.push_str(current.trim_end());
        out.push('\n');
    }
    out.push_str(&"  ".repeat(depth));
    out.push(close);
    out
}

fn has_comment(list: &[Item]) -> bool {
    list.iter().any(|i| match &i.kind {
        Kind::Comment(_) => true,
        Kind::List(l) | Kind::Parens(l) => has_comment(l),
        _ => false,
    })
}

fn flat(list: &[Item]) -> String {
    let mut out = String::new();
    let mut previous = None;
    for item in list {
        if previous.is_some() && !tight(&item.kind, previous) {
            out.push(' ');
        }
        out.push_str(&flat_kind(&item.kind));
        previous = Some(&item.kind);
    }
    out
}

fn flat_kind(kind: &Kind) -> String {
    match kind {
        Kind::Word(w) | Kind::Op(w) | Kind::Comment(w) => w.clone(),
        Kind::Text(t) => quote(t),
        Kind::List(l) => format!("[{}]", flat(l)),
        Kind::Parens(l) => format!("({})", flat(l)),
    }
}

/// True when no blank stands between the two: `name(`, `a,`, `size=16MiB`, `0..=5`.
fn tight(this: &Kind, before: Option<&Kind>) -> bool {
    let glue = |k: &Kind| matches!(k, Kind::Op(o) if o == "=" || o == "..=");
    match (this, before) {
        // Two operators side by side would become another one.
        (Kind::Op(o), Some(Kind::Op(_))) => o == ",",
        (_, Some(b)) if glue(b) => true,
        (k, _) if glue(k) => true,
        (Kind::Op(o), _) => o == ",",
        (Kind::Parens(_), Some(Kind::Word(_))) => true,
        _ => false,
    }
}

/// A string as the language writes it.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Diagnostics;
    use crate::source::{SourceFile, Sources};
    use crate::syntax::{ast, parse};

    fn tree(text: &str) -> (ast::File, usize) {
        let mut sources = Sources::default();
        let id = sources.add(SourceFile { name: "t".into(), text: text.into(), root: None, packed: None }).unwrap();
        let mut d = Diagnostics::default();
        (parse(&sources, id, &mut d), d.errors())
    }

    #[test]
    fn canonical_form_is_stable_and_keeps_comments() {
        let text = "policy 1\n\n\n# top\nmachine   x {  # after brace\n\tallow socket ( family in [AF_INET ,AF_INET6] , type==1 )   # end\n limits { memory 512MiB; tasks 64 }\n publish tcp 1..=5->80\n allow [a, # why a\n  b,\n c]\n\n}  # close\n";
        let (first, errors) = tree(text);
        assert_eq!(errors, 0);
        let once = print(&first);
        let (second, errors) = tree(&once);
        assert_eq!(errors, 0, "{once}");
        assert!(ast::same(&first, &second), "{once}");
        assert_eq!(once, print(&second));
        assert!(once.contains("  allow socket(family in [AF_INET, AF_INET6], type == 1)  # end\n"), "{once}");
        assert!(once.contains("  limits { memory 512MiB; tasks 64 }\n"), "{once}");
        assert!(once.contains("publish tcp 1..=5 -> 80"), "{once}");
    }

    #[test]
    fn every_fault_of_shape_is_found_at_once() {
        let (_, errors) = tree("a \"open\nb [1, 2\n}\n}\n* c\n{ x }\n");
        assert!(errors >= 4, "{errors}");
    }
}
