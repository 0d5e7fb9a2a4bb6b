//! Finding imports: the built-in library, or files below the policy's own folder. Nothing else.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::source::{FileId, SourceFile, Sources, Span, Spanned, check_text, display_name};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{SFlag, fstat};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file of the library that is part of the program.
struct Library {
    /// `std/NAME`
    name: &'static str,
    text: &'static str,
    /// Its tree; policies/build.rs makes it of this text and writes both.
    packed: &'static [u8],
}

macro_rules! library {
    ($($name:literal),*) => {
        &[$(Library {
            name: concat!("std/", $name),
            text: include_str!(concat!(env!("OUT_DIR"), "/", $name, ".stockade")),
            packed: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".tree")),
        }),*]
    };
}

const STD: &[Library] = library!("build", "ceiling", "daemon", "groups", "os");

/// Names of the built-in library's files.
pub fn library() -> impl Iterator<Item = &'static str> {
    STD.iter().map(|l| l.name)
}

/// The library's file that declares a profile.
pub(super) fn declares(profile: &str) -> Option<&'static str> {
    let head = format!("\nprofile {profile} {{");
    STD.iter().find(|l| l.text.contains(&head)).map(|l| l.name)
}

/// Is this the text of one of the library's files?
pub(super) fn is_library(text: &str) -> bool {
    STD.iter().any(|l| l.text == text)
}

/// Why a policy file can't be read.
#[derive(Debug, thiserror::Error)]
#[error("can't read policy `{name}`: {cause}")]
pub struct ReadError {
    name: String,
    cause: String,
}

/// Reads the file that a command names.
///
/// Its folder becomes the root that imports are confined to. A file that belongs to somebody else than
/// root and the caller, or that anybody else can write, is refused: what is reviewed would not be what is read.
pub fn read(path: &Path, sources: &mut Sources, diagnostics: &mut Diagnostics) -> Result<FileId, ReadError> {
    let name = display_name(path);
    let fail = |cause: String| ReadError { name: name.clone(), cause };
    // Without waiting: a fifo in the place of a policy is refused below.
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = opened.map_err(|e| fail(e.to_string()))?;
    let root = match path.parent() {
        Some(p) if p != Path::new("") => p.to_owned(),
        _ => PathBuf::from("."),
    };
    let bytes = read_checked(&file).map_err(fail)?;
    add(sources, diagnostics, &name, &bytes, Some(root)).ok_or_else(|| fail("too many files".into()))
}

/// Adds text that is already in memory, for the built-in library, tests and fuzzing.
pub fn from_text(name: &str, text: &[u8], sources: &mut Sources, diagnostics: &mut Diagnostics) -> Option<FileId> {
    add(sources, diagnostics, name, text, None)
}

fn read_checked(mut file: &File) -> Result<Vec<u8>, String> {
    let st = fstat(file.as_fd()).map_err(|e| e.to_string())?;
    if SFlag::from_bits_truncate(st.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err("not a regular file".into());
    }
    let me = nix::unistd::geteuid().as_raw();
    if st.st_uid != 0 && st.st_uid != me {
        return Err(format!("it belongs to uid {}, neither to root nor to you: copy it first", st.st_uid));
    }
    if st.st_mode & 0o020 != 0 && st.st_gid != 0 && st.st_gid != nix::unistd::getegid().as_raw() {
        return Err(format!("group {} can write it: chmod g-w it first", st.st_gid));
    }
    if st.st_mode & 0o002 != 0 {
        return Err("anyone can write it: chmod o-w it first".into());
    }
    let mut bytes = Vec::new();
    // One byte more than allowed is enough to see that it is too long.
    (&mut file).take(crate::source::MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

fn add(
    sources: &mut Sources,
    diagnostics: &mut Diagnostics,
    name: &str,
    bytes: &[u8],
    root: Option<PathBuf>,
) -> Option<FileId> {
    let (text, fault) = match check_text(bytes) {
        Ok(text) => (text.to_owned(), None),
        // Nothing of a refused file is interpreted or shown: as many lines without text stand for those before the fault.
        Err(f) => (bytes.iter().take(f.offset).filter(|b| **b == b'\n').map(|_| '\n').collect(), Some(f)),
    };
    let at = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let id = sources.add(SourceFile { name: name.to_owned(), text, root, packed: None })?;
    if let Some(f) = fault {
        let span = Span { file: id, start: at, end: at };
        let d = Diagnostic::error("E0001", span, format!("{}, at line {} (byte {})", f.kind, at + 1, f.offset))
            .help(f.kind.help());
        diagnostics.push(d);
    }
    Some(id)
}

/// Reads `import "NAME"` as written in file `from`.
pub(super) fn import(
    name: &Spanned<String>,
    from: FileId,
    sources: &mut Sources,
    diagnostics: &mut Diagnostics,
) -> Option<FileId> {
    let mut fail = |message: String, help: &str| {
        diagnostics.push(Diagnostic::error("E0210", name.span, message).help(help));
        None
    };
    if let Some(l) = STD.iter().find(|l| l.name == name.value) {
        // The build checked the text.
        let (name, text) = (l.name.to_owned(), l.text.to_owned());
        return sources.add(SourceFile { name, text, root: None, packed: Some(l.packed) });
    }
    if name.value.starts_with("std/") {
        let known: Vec<&str> = library().collect();
        return fail(
            format!("no `{}` in the built-in library", name.value),
            &format!("there are: {}", known.join(" ")),
        );
    }
    let Some(root) = sources.get(from).and_then(|f| f.root.clone()) else {
        return fail("the built-in library imports only from itself".into(), "use a `std/...` name");
    };
    let relative = format!("{}.stockade", name.value);
    let plain = Path::new(&relative).components().all(|c| matches!(c, std::path::Component::Normal(_)));
    if !plain {
        return fail(
            format!("`{}` leaves the policy's folder", name.value),
            "an import is a path below the folder of the policy, without `..`",
        );
    }
    let opened = File::open(&root).map_err(|e| e.to_string()).and_then(|dir| {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        openat2(dir.as_fd(), relative.as_str(), how).map(File::from).map_err(|e| e.to_string())
    });
    match opened.and_then(|f| read_checked(&f)) {
        Ok(bytes) => {
            let shown = display_name(&root.join(&relative));
            let shown = shown.strip_prefix("./").unwrap_or(&shown).to_owned();
            add(sources, diagnostics, &shown, &bytes, Some(root))
        }
        Err(e) => fail(format!("can't import `{}`: {e}", name.value), "imports are files NAME.stockade, no symlinks"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax;

    /// What the build packed is what the parser makes of the text that is shown.
    #[test]
    fn the_library_comes_with_its_own_trees() {
        for l in STD {
            let mut sources = Sources::default();
            let (name, text) = (l.name.to_owned(), l.text.to_owned());
            let id = sources.add(SourceFile { name, text, root: None, packed: None }).unwrap();
            let parsed = syntax::parse(&sources, id, &mut Diagnostics::default());
            assert_eq!(syntax::packed::unpack(l.packed, l.text, id), Some(parsed), "{}", l.name);
            assert_eq!(check_text(l.text.as_bytes()), Ok(l.text));
        }
    }
}
