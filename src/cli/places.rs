//! Where policies lie: in a file, or in a folder.

use super::front::Stop;
use crate::review::lock;
use crate::source::display_name;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The policy files of a path: itself, or all below a folder. A folder without any is a mistake.
pub(super) fn policies(path: &Path) -> Result<Vec<PathBuf>, Stop> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    match lying_in(path)? {
        out if out.is_empty() => Err(none(path)),
        out => Ok(out),
    }
}

/// The policy files of several paths.
pub(super) fn policies_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Stop> {
    let mut out = Vec::new();
    for path in paths {
        out.extend(policies(path)?);
    }
    Ok(out)
}

/// Locks below the folders among the paths whose policy isn't there any more.
pub(super) fn stale_locks(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Stop> {
    let mut found = Vec::new();
    for folder in paths.iter().filter(|p| p.is_dir()) {
        below(folder, "lock", 0, &mut found)?;
    }
    found.sort();
    let mut out = Vec::new();
    for lock in found.into_iter().filter(|l| !l.with_extension("stockade").is_file()) {
        // Other programs have files of this name as well.
        let fail = |e: std::io::Error| Stop::usage(format!("can't read {}: {e}", display_name(&lock)));
        let mut text = Vec::new();
        let beginning = u64::try_from(lock::BEGINNING.len()).unwrap_or(0);
        fs::File::open(&lock).and_then(|f| f.take(beginning).read_to_end(&mut text)).map_err(fail)?;
        if text == lock::BEGINNING.as_bytes() {
            out.push(lock);
        }
    }
    Ok(out)
}

fn none(folder: &Path) -> Stop {
    Stop::usage(format!("no file NAME.stockade in {} or below", display_name(folder)))
}

/// The policy files below a folder; what can't be read is an error.
fn lying_in(folder: &Path) -> Result<Vec<PathBuf>, Stop> {
    let mut out = Vec::new();
    below(folder, "stockade", 0, &mut out)?;
    out.sort();
    Ok(out)
}

/// Deepest folder that is looked into: beyond it nothing is left out in silence.
const DEEPEST: usize = 32;

fn below(folder: &Path, extension: &str, depth: usize, out: &mut Vec<PathBuf>) -> Result<(), Stop> {
    let fail = |e: std::io::Error| Stop::usage(format!("can't read {}: {e}", display_name(folder)));
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let (p, kind) = (entry.path(), entry.file_type().map_err(fail)?);
        // What git keeps for itself is no part of the work tree.
        if kind.is_dir() && entry.file_name() != ".git" {
            if depth >= DEEPEST {
                return Err(Stop::usage(format!("{} is more than {DEEPEST} folders deep", display_name(&p))));
            }
            below(&p, extension, depth + 1, out)?;
        } else if p.extension().is_some_and(|e| e == extension) {
            // A policy that lies elsewhere isn't the folder's; what others link isn't looked at.
            if kind.is_symlink() && extension == "stockade" {
                let text =
                    format!("{} is a symbolic link: a folder's policies are files of their own", display_name(&p));
                return Err(Stop::usage(text));
            }
            if kind.is_file() {
                out.push(p);
            }
        }
    }
    Ok(())
}

pub(super) type Pair = (Option<PathBuf>, Option<PathBuf>);

/// Files of the same name; a file on one side only stands against an empty policy.
pub(super) fn pairs(old: &Path, new: &Path) -> Result<Vec<Pair>, Stop> {
    if !old.is_dir() && !new.is_dir() {
        return Ok(vec![(Some(old.to_owned()), Some(new.to_owned()))]);
    }
    if old.is_dir() != new.is_dir() {
        let there = |p: &Path| if p.exists() { "" } else { ", which isn't there" };
        let (a, b) = (there(old), there(new));
        return Err(Stop::usage(format!(
            "a folder is compared with a folder: {}{a} and {}{b}; revisions are compared with --git FOLDER",
            display_name(old),
            display_name(new)
        )));
    }
    // All policies may be new, or gone; none on both sides is a mistake.
    let (a, b) = (lying_in(old)?, lying_in(new)?);
    if a.is_empty() && b.is_empty() {
        return Err(none(new));
    }
    let name = |p: &Path, side: &Path| p.strip_prefix(side).map(Path::to_owned).ok();
    let mut out: Vec<Pair> = Vec::new();
    for p in &a {
        let other = b.iter().find(|q| name(q, new) == name(p, old)).cloned();
        out.push((Some(p.clone()), Some(other.unwrap_or_else(|| PathBuf::from(EMPTY)))));
    }
    for q in b.iter().filter(|q| !a.iter().any(|p| name(p, old) == name(q, new))) {
        out.push((Some(PathBuf::from(EMPTY)), Some(q.clone())));
    }
    Ok(out)
}

/// Stands for a policy file that isn't there.
pub(super) const EMPTY: &str = "";
