//! Source text with places in it: what every later layer points back to.

use std::fmt;
use std::path::{Path, PathBuf};

/// Largest policy file that is read, in bytes. A policy that a person reviews is far below it.
pub const MAX_FILE: usize = 256 << 10;
/// Longest line that is accepted, in bytes.
pub const MAX_LINE: usize = 16 << 10;
/// Most lines of a file.
pub const MAX_LINES: usize = 10_000;
/// Deepest nesting of `{}`, `[]` and `()` that is accepted.
pub const MAX_DEPTH: usize = 24;

/// Which file of a [`Sources`] a span lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u16);

/// A half-open range of bytes in one source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The smallest span that covers both; both must lie in one file.
    pub fn to(self, other: Span) -> Span {
        Span { file: self.file, start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A value and the place where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// One file of policy text.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The name shown in messages: the path as given, or `std/NAME` for the built-in library.
    pub name: String,
    /// The text, checked by [`check_text`].
    pub text: String,
    /// The folder that imports are confined to; `None` for the built-in library.
    pub root: Option<PathBuf>,
    /// The tree of exactly this text, as the build packed it; of the built-in library alone.
    pub packed: Option<&'static [u8]>,
}

/// All files of one compilation; spans are meaningful only with it.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
    /// Where the lines of each begin.
    lines: Vec<Vec<u32>>,
}

/// Why something is done: a line of the policy, or a rule of Stockade that needs no line.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// `file:line`
    Written(String),
    /// The rule in a few words.
    Implied(std::borrow::Cow<'static, str>),
}

impl Origin {
    /// A rule of Stockade's own.
    pub const fn implied(rule: &'static str) -> Self {
        Origin::Implied(std::borrow::Cow::Borrowed(rule))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Written(place) => f.write_str(place),
            Origin::Implied(rule) => write!(f, "({rule})"),
        }
    }
}

/// Line and column, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Sources {
    /// Adds a file and returns its id; `None` when there are 65,536 files already.
    pub fn add(&mut self, file: SourceFile) -> Option<FileId> {
        let id = FileId(u16::try_from(self.files.len()).ok()?);
        let after = |at: usize| u32::try_from(at + 1).ok();
        let begins = file.text.bytes().enumerate().filter(|(_, b)| *b == b'\n').filter_map(|(at, _)| after(at));
        self.lines.push([0].into_iter().chain(begins).collect());
        self.files.push(file);
        Some(id)
    }

    /// The file behind an id.
    pub fn get(&self, id: FileId) -> Option<&SourceFile> {
        self.files.get(usize::from(id.0))
    }

    /// All files, in the order in which they were read.
    pub fn iter(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter()
    }

    /// Line and column of a span's start.
    pub fn position(&self, span: Span) -> Position {
        let text = self.get(span.file).map_or("", |f| f.text.as_str());
        let begins = self.lines.get(usize::from(span.file.0)).map_or(&[][..], Vec::as_slice);
        let line = begins.partition_point(|at| *at <= span.start);
        let begin = line.checked_sub(1).and_then(|n| begins.get(n)).copied().unwrap_or(0);
        let column = text.get(begin as usize..span.start as usize).map_or(0, |l| l.chars().count()) + 1;
        Position { line: u32::try_from(line).unwrap_or(u32::MAX), column: u32::try_from(column).unwrap_or(u32::MAX) }
    }

    /// `name:line`, the form in which plans and reports cite a place.
    pub fn cite(&self, span: Span) -> String {
        let name = self.get(span.file).map_or("?", |f| f.name.as_str());
        format!("{name}:{}", self.position(span).line)
    }

    /// Each line of a span, as [`Sources::cite`] does.
    pub fn lines(&self, span: Span) -> impl Iterator<Item = String> + '_ {
        let name = self.get(span.file).map_or("?", |f| f.name.as_str());
        let last = Span { start: span.end.saturating_sub(1).max(span.start), ..span };
        (self.position(span).line..=self.position(last).line).map(move |line| format!("{name}:{line}"))
    }

    /// The line behind a step of a plan.
    pub fn origin(&self, span: Span) -> Origin {
        Origin::Written(self.cite(span))
    }

    /// The files that somebody wrote: the built-in library left out.
    pub fn written(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|f| f.root.is_some())
    }

    /// Every file, the built-in library included.
    pub fn all(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter()
    }

    /// Calls the files below a folder by another name of it; false when there are none.
    pub fn rename(&mut self, prefix: &str, other: &str) -> bool {
        let mut found = false;
        for f in &mut self.files {
            if let Some(rest) = f.name.strip_prefix(prefix) {
                f.name = format!("{other}{rest}");
                found = true;
            }
        }
        found
    }

    /// True when a line stands in a file that somebody wrote.
    pub fn is_written(&self, span: Span) -> bool {
        self.get(span.file).is_some_and(|f| f.root.is_some())
    }

    /// The text that a span covers.
    pub fn text(&self, span: Span) -> &str {
        self.get(span.file).and_then(|f| f.text.get(span.start as usize..span.end as usize)).unwrap_or("")
    }
}

/// Why bytes can't be policy text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFault {
    /// Byte offset of the fault.
    pub offset: usize,
    /// What it is.
    pub kind: TextFaultKind,
}

/// The classes of refused text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFaultKind {
    /// Over [`MAX_FILE`] bytes.
    FileTooLong,
    /// A line over [`MAX_LINE`] bytes.
    LineTooLong,
    /// More than [`MAX_LINES`] lines.
    TooManyLines,
    /// Not UTF-8.
    NotUtf8,
    /// A control character other than newline and tab (NUL, CR, ESC, ...).
    Control(char),
    /// A character that reorders or hides text on the reviewer's screen (CVE-2021-42574).
    Invisible(char),
    /// More than [`MAX_DEPTH`] open brackets.
    TooDeep,
}

impl fmt::Display for TextFaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileTooLong => write!(f, "the file is longer than {MAX_FILE} bytes"),
            Self::LineTooLong => write!(f, "a line is longer than {MAX_LINE} bytes"),
            Self::TooManyLines => write!(f, "the file has more than {MAX_LINES} lines"),
            Self::NotUtf8 => write!(f, "the text is not UTF-8"),
            Self::Control('\r') => write!(f, "carriage return: lines end in a newline alone"),
            Self::Control(c) => write!(f, "control character U+{:04X}", u32::from(*c)),
            Self::Invisible(c) => write!(f, "invisible or direction-changing character U+{:04X}", u32::from(*c)),
            Self::TooDeep => write!(f, "brackets nest deeper than {MAX_DEPTH}"),
        }
    }
}

impl TextFaultKind {
    /// What to do about it.
    pub fn help(self) -> &'static str {
        match self {
            Self::FileTooLong | Self::TooManyLines => "move parts of it to files of their own and `import` them",
            Self::LineTooLong => "write its list on several lines",
            Self::TooDeep => "blocks, lists and conditions never need as many",
            Self::NotUtf8 | Self::Control(_) | Self::Invisible(_) => {
                "policy text is UTF-8 without control, invisible or direction-changing characters"
            }
        }
    }
}

/// Checks bytes before any parser sees them, in one linear pass, and returns them as text.
///
/// What a reviewer sees must be what the compiler reads: control characters, bidirectional
/// controls and invisible characters are refused everywhere, comments and strings included.
pub fn check_text(bytes: &[u8]) -> Result<&str, TextFault> {
    let fault = |offset, kind| Err(TextFault { offset, kind });
    if bytes.len() > MAX_FILE {
        return fault(MAX_FILE, TextFaultKind::FileTooLong);
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => return fault(e.valid_up_to(), TextFaultKind::NotUtf8),
    };
    let mut lines = 0;
    // Counted apart: a stray `]` closes no block, so it must not make room for one.
    let (mut braces, mut brackets) = (0usize, 0usize);
    let (mut line_start, mut quoted, mut comment, mut escaped) = (0, false, false, false);
    for (offset, c) in text.char_indices() {
        match c {
            '\n' => {
                line_start = offset + 1;
                (quoted, comment) = (false, false);
                lines += 1;
                if lines > MAX_LINES {
                    return fault(offset, TextFaultKind::TooManyLines);
                }
            }
            // Most of every file.
            'a'..='z' | ' ' | '_' | '\t' => {}
            c if c.is_control() => return fault(offset, TextFaultKind::Control(c)),
            c if is_invisible(c) => return fault(offset, TextFaultKind::Invisible(c)),
            '"' if !comment && !escaped => quoted = !quoted,
            '#' if !quoted => comment = true,
            '{' | '[' | '(' if !quoted && !comment => {
                if c == '{' {
                    braces += 1;
                } else {
                    brackets += 1;
                }
                if braces + brackets > MAX_DEPTH {
                    return fault(offset, TextFaultKind::TooDeep);
                }
            }
            '}' if !quoted && !comment => braces = braces.saturating_sub(1),
            ']' | ')' if !quoted && !comment => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
        if offset.saturating_sub(line_start) > MAX_LINE {
            return fault(offset, TextFaultKind::LineTooLong);
        }
    }
    Ok(text)
}

/// Format and separator characters that change or hide what is displayed (Unicode Cf, Zl, Zp, fillers, and what each font
/// shows otherwise).
fn is_invisible(c: char) -> bool {
    // Blanks that look like a space and are none, or are wider.
    let blank = c.is_whitespace() && !c.is_ascii();
    blank
        || matches!(c,
        '\u{2800}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{13430}'..='\u{1345F}' | '\u{600}'..='\u{605}' | '\u{6DD}' | '\u{70F}'
        | '\u{890}' | '\u{891}' | '\u{8E2}' | '\u{110BD}' | '\u{110CD}' |
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}'
        | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFC}' | '\u{16FE4}' | '\u{1D159}' | '\u{E000}'..='\u{F8FF}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// The file's name for messages, with anything that a terminal could interpret escaped.
pub fn display_name(path: &Path) -> String {
    path.to_string_lossy()
        .chars()
        .flat_map(|c| if c.is_control() || is_invisible(c) { c.escape_unicode().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(bytes: &[u8]) -> TextFaultKind {
        check_text(bytes).unwrap_err().kind
    }

    #[test]
    fn hostile_text_is_refused_by_class() {
        assert_eq!(kind(b"a\0b"), TextFaultKind::Control('\0'));
        assert_eq!(kind(b"a\r\nb"), TextFaultKind::Control('\r'));
        assert_eq!(kind("a\u{202E}b".as_bytes()), TextFaultKind::Invisible('\u{202E}'));
        assert_eq!(kind("# c \u{200B}".as_bytes()), TextFaultKind::Invisible('\u{200B}'));
        assert_eq!(kind(b"a \xff"), TextFaultKind::NotUtf8);
        assert_eq!(kind(&vec![b'a'; MAX_FILE + 1]), TextFaultKind::FileTooLong);
        assert_eq!(kind(&vec![b'a'; MAX_LINE + 2]), TextFaultKind::LineTooLong);
        assert_eq!(kind("{".repeat(100_000).as_bytes()), TextFaultKind::TooDeep);
        // A closing bracket of another kind closes nothing: the parser goes one deeper each time.
        for part in ["{]", "{)", "({]", "[{)", "({({]", "{[}", "(}[}"] {
            let closes = part.contains('}');
            let text = part.repeat(5_000);
            assert!(closes || kind(text.as_bytes()) == TextFaultKind::TooDeep, "{part}");
        }
        assert!(check_text("# {{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{\n".as_bytes()).is_ok());
    }

    #[test]
    fn positions_count_lines_and_characters() {
        let mut s = Sources::default();
        let id = s.add(SourceFile { name: "x".into(), text: "ä b\ncd".into(), root: None, packed: None }).unwrap();
        assert_eq!(s.position(Span { file: id, start: 3, end: 4 }), Position { line: 1, column: 3 });
        assert_eq!(s.position(Span { file: id, start: 5, end: 6 }), Position { line: 2, column: 1 });
    }
}
