//! Looking at files without taking an error for an absence.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What isn't there is `None` (ENOENT, or ENOTDIR on the way); what can't be looked at stays an error: it may
/// well be there.
pub fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(v) => Ok(Some(v)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What lies in a folder, whole or not at all; nothing in one that isn't there.
pub fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = there(fs::read_dir(folder)).map_err(|e| named(folder, &e))?;
    entries.into_iter().flatten().map(|e| Ok(e.map_err(|e| named(folder, &e))?.path())).collect()
}

fn named(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

/// True when something is at the path.
pub fn exists(path: impl AsRef<Path>) -> io::Result<bool> {
    let path = path.as_ref();
    Ok(there(fs::metadata(path)).map_err(|e| named(path, &e))?.is_some())
}

/// The first of these places at which something is.
pub fn first_of(places: &[&'static str]) -> io::Result<Option<&'static str>> {
    for p in places {
        if exists(p)? {
            return Ok(Some(p));
        }
    }
    Ok(None)
}

/// The text of a file; nothing of one that isn't there. What isn't UTF-8 is shown as U+FFFD, not skipped.
pub fn text(path: impl AsRef<Path>) -> io::Result<Option<String>> {
    let path = path.as_ref();
    let bytes = there(fs::read(path)).map_err(|e| named(path, &e))?;
    Ok(bytes.map(|b| String::from_utf8_lossy(&b).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_no_absence() {
        assert_eq!(text("/proc/self/no-such-file").unwrap(), None);
        assert_eq!(text("/proc/self/stat/below-a-file").unwrap(), None);
        assert!(text("/proc/self").unwrap_err().to_string().starts_with("/proc/self: "), "a folder has no text");
        assert!(exists("/proc/self").unwrap() && !exists("/proc/self/none").unwrap());
        let long = format!("/{}", "x".repeat(300));
        assert!(exists(&long).is_err() && list(Path::new(&long)).is_err() && text(&long).is_err());
        assert!(list(Path::new("/proc/self/none")).unwrap().is_empty());
        assert!(list(Path::new("/proc/self/fd")).unwrap().len() > 2);
    }
}
