//! A tree as bytes that stand beside its text: how the built-in library comes with the program.
//!
//! The library never changes after the build, so it is parsed then, and a start only puts the tree together
//! again. The bytes hold shapes and places; words, comments and punctuation are cut out of the text itself,
//! so they can't say anything else than the text does.

use super::ast::{Block, Comment, Entry, File, Item, Kind, Statement};
use crate::source::{FileId, Span};

/// The bytes of a tree. Numbers are LEB128, places count from the place before.
pub fn pack(file: &File) -> Vec<u8> {
    let mut p = Packer::default();
    p.entries(&file.entries);
    p.out
}

#[derive(Default)]
struct Packer {
    out: Vec<u8>,
    at: u32,
}

impl Packer {
    fn number(&mut self, mut n: u32) {
        loop {
            let [low, ..] = (n & 0x7f).to_le_bytes();
            n >>= 7;
            self.out.push(if n > 0 { low | 0x80 } else { low });
            if n == 0 {
                return;
            }
        }
    }

    /// A count; no text has so many of anything that it doesn't fit.
    fn count(&mut self, n: usize) {
        self.number(u32::try_from(n).unwrap_or(u32::MAX));
    }

    fn span(&mut self, s: Span) {
        // A block begins before what is in it and is written after: differences may be negative.
        self.number(s.start.abs_diff(self.at) << 1 | u32::from(s.start < self.at));
        self.number(s.end - s.start);
        self.at = s.start;
    }

    fn entries(&mut self, entries: &[Entry]) {
        self.count(entries.len());
        for e in entries {
            match e {
                Entry::Blank => self.number(0),
                Entry::Comment(c) => {
                    self.number(1);
                    self.span(c.span);
                }
                Entry::Statement(s) => {
                    self.number(2 | u32::from(s.block.is_some()) << 2 | u32::from(s.comment.is_some()) << 3);
                    self.span(s.span);
                    self.items(&s.items);
                    if let Some(b) = &s.block {
                        self.number(u32::from(b.inline) | u32::from(b.comment.is_some()) << 1);
                        self.span(b.span);
                        self.comment(&b.comment);
                        self.entries(&b.entries);
                    }
                    self.comment(&s.comment);
                }
            }
        }
    }

    fn comment(&mut self, c: &Option<Comment>) {
        if let Some(c) = c {
            self.span(c.span);
        }
    }

    fn items(&mut self, items: &[Item]) {
        self.count(items.len());
        for i in items {
            let kind = match i.kind {
                Kind::Word(_) => 0,
                Kind::Text(_) => 1,
                Kind::Op(_) => 2,
                Kind::List(_) => 3,
                Kind::Parens(_) => 4,
                Kind::Comment(_) => 5,
            };
            self.number(kind);
            self.span(i.span);
            match &i.kind {
                Kind::List(inner) | Kind::Parens(inner) => self.items(inner),
                // Unescaped: not a part of the text.
                Kind::Text(t) => {
                    self.count(t.len());
                    self.out.extend(t.bytes());
                }
                _ => {}
            }
        }
    }
}

/// The tree again, as [`super::parse`] makes it of the same text; `None` when these aren't its bytes.
pub fn unpack(bytes: &[u8], text: &str, file: FileId) -> Option<File> {
    let mut u = Unpacker { bytes, text, file, at: 0 };
    let entries = u.entries()?;
    u.bytes.is_empty().then_some(File { entries })
}

struct Unpacker<'a> {
    bytes: &'a [u8],
    text: &'a str,
    file: FileId,
    at: u32,
}

impl Unpacker<'_> {
    fn number(&mut self) -> Option<u32> {
        let (mut n, mut shift) = (0u32, 0);
        loop {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            n |= u32::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(n);
            }
            shift += 7;
        }
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn span(&mut self) -> Option<Span> {
        let step = self.number()?;
        self.at = if step & 1 == 1 { self.at.checked_sub(step >> 1)? } else { self.at.checked_add(step >> 1)? };
        Some(Span { file: self.file, start: self.at, end: self.at.checked_add(self.number()?)? })
    }

    fn cut(&self, s: Span) -> Option<String> {
        self.text.get(s.start as usize..s.end as usize).map(str::to_owned)
    }

    fn comment(&mut self) -> Option<Comment> {
        let span = self.span()?;
        let text = self.text.get(span.start as usize..span.end as usize)?.trim_end().to_owned();
        Some(Comment { text, span })
    }

    fn entries(&mut self) -> Option<Vec<Entry>> {
        let count = self.count()?;
        let mut out = Vec::with_capacity(count.min(self.bytes.len()));
        for _ in 0..count {
            out.push(match self.number()? {
                0 => Entry::Blank,
                1 => Entry::Comment(self.comment()?),
                flags => {
                    let span = self.span()?;
                    let items = self.items()?;
                    let block = if flags & 4 != 0 { Some(self.block()?) } else { None };
                    let comment = if flags & 8 != 0 { Some(self.comment()?) } else { None };
                    Entry::Statement(Statement { items, block, comment, span })
                }
            });
        }
        Some(out)
    }

    fn block(&mut self) -> Option<Block> {
        let flags = self.number()?;
        let span = self.span()?;
        let comment = if flags & 2 != 0 { Some(self.comment()?) } else { None };
        Some(Block { entries: self.entries()?, comment, inline: flags & 1 != 0, span })
    }

    fn items(&mut self) -> Option<Vec<Item>> {
        let count = self.count()?;
        let mut out = Vec::with_capacity(count.min(self.bytes.len()));
        for _ in 0..count {
            let kind = self.number()?;
            let span = self.span()?;
            let kind = match kind {
                0 => Kind::Word(self.cut(span)?),
                1 => {
                    let length = self.count()?;
                    let (inner, rest) = self.bytes.split_at_checked(length)?;
                    self.bytes = rest;
                    Kind::Text(std::str::from_utf8(inner).ok()?.to_owned())
                }
                2 => Kind::Op(self.cut(span)?),
                3 => Kind::List(self.items()?),
                4 => Kind::Parens(self.items()?),
                _ => Kind::Comment(self.cut(span)?.trim_end().to_owned()),
            };
            out.push(Item { kind, span });
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Diagnostics;
    use crate::source::{SourceFile, Sources};
    use crate::syntax::parse;

    /// Every text of the corpus that parses without a fault, and the shipped policies.
    #[test]
    fn what_was_packed_is_what_was_parsed() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut tried = 0;
        for folder in ["policies", "policies/lib", "policies/starters", "grammar/corpus/accept"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|e| e != "stockade") {
                    continue;
                }
                let mut sources = Sources::default();
                let text = std::fs::read_to_string(&path).unwrap();
                let id = sources.add(SourceFile { name: "t".into(), text, root: None, packed: None }).unwrap();
                let file = parse(&sources, id, &mut Diagnostics::default());
                let text = &sources.get(id).unwrap().text;
                let packed = pack(&file);
                assert_eq!(unpack(&packed, text, id).as_ref(), Some(&file), "{}", path.display());
                // Cut short it is nothing, rather than a part of it.
                for end in (0..packed.len()).step_by(7) {
                    assert!(unpack(&packed[..end], text, id).is_none_or(|f| f != file));
                }
                tried += 1;
            }
        }
        assert!(tried > 20, "{tried}");
    }
}
