//! Where policies lie: a file, a folder, a git revision of a folder.

use super::front::Stop;
use crate::review::lock;
use crate::source::display_name;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// A folder with a git revision's policy files in it; removed with the value.
pub(super) struct Checkout(pub(super) PathBuf);

impl Drop for Checkout {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or(());
    }
}

/// The nearest folder that is there now, and the way on from it: a revision may have one that is gone.
fn standing(folder: &Path) -> (&Path, &Path) {
    let there = folder.ancestors().find(|f| f.is_dir()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    (there, folder.strip_prefix(there).unwrap_or(folder))
}

/// What git says in a folder, or where it would be.
pub(super) fn git<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> Result<Vec<u8>, Stop> {
    let mut git = Command::new("git");
    // A hook runs with its own repository in these; the folder says which is meant.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        git.env_remove(name);
    }
    let out = git
        .arg("-C")
        .arg(standing(folder).0)
        .args(arguments)
        .output()
        .map_err(|e| Stop::host(format!("can't run git: {e}")))?;
    if out.status.success() {
        return Ok(out.stdout);
    }
    let why = String::from_utf8_lossy(&out.stderr).trim().escape_debug().to_string();
    let what = arguments.first().map_or("".into(), |a| a.as_ref().to_string_lossy());
    Err(Stop::usage(format!("git {what}: {why}")))
}

/// The policy files of a folder as they were in a revision, with the folders below.
pub(super) fn checkout(folder: &Path, revision: &str) -> Result<Checkout, Stop> {
    if revision.starts_with('-') {
        return Err(Stop::usage(format!("`{revision}` is no revision")));
    }
    // A commit, once: a tree would be another folder, and a branch may move while it is read.
    let commit = git(folder, &["rev-parse", "--verify", "--end-of-options", &format!("{revision}^{{commit}}")])
        .map_err(|e| if e.text.contains("single revision") { nothing(folder, revision) } else { e })?;
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let made = empty()?;
    let below = standing(folder).1;
    let within = Path::new(".").join(below);
    let mut list = ["ls-tree", "-r", "-z", &commit].map(OsStr::new).to_vec();
    list.push(within.as_os_str());
    let listed = git(folder, &list)?;
    for entry in listed.split(|b| *b == 0) {
        let tab = entry.iter().position(|b| *b == b'\t').unwrap_or(0);
        let (kind, name) = (entry.get(..tab).unwrap_or_default(), entry.get(tab + 1..).unwrap_or_default());
        // A name is bytes, and needn't be text.
        let name = OsStr::from_bytes(name);
        let refuse = |why: &str| Err(Stop::usage(format!("`{}` {why}", name.to_string_lossy().escape_debug())));
        // What isn't of this repository is in no revision of it.
        if kind.starts_with(b"160000 ") {
            return refuse("is a submodule: compare a folder beside it, and it by itself");
        }
        if !name.as_bytes().ends_with(b".stockade") {
            continue;
        }
        if kind.starts_with(b"120000 ") {
            return refuse("is a symbolic link: a folder's policies are files of their own");
        }
        let relative = Path::new(name).strip_prefix(below).unwrap_or(Path::new(name));
        if relative.as_os_str().is_empty() {
            return refuse("is a file: name its folder");
        }
        // What a repository calls its files must not lead out of the folder.
        if !relative.components().all(|c| matches!(c, std::path::Component::Normal(_))) {
            return refuse("is no name of a file in a folder");
        }
        let mut object = OsString::from(format!("{commit}:./"));
        object.push(name);
        let text = git(folder, &[OsStr::new("show"), &object])?;
        let to = made.0.join(relative);
        // Whatever umask(2) says: what others may write isn't read as a policy.
        let mut file = fs::OpenOptions::new();
        file.write(true).create_new(true).mode(0o600);
        let folder = fs::DirBuilder::new().recursive(true).mode(0o700).create(to.parent().unwrap_or(&made.0));
        let written = folder.and_then(|()| file.open(&to)).and_then(|mut f| f.write_all(&text));
        written.map_err(|e| Stop::host(format!("can't write {}: {e}", to.display())))?;
    }
    Ok(made)
}

/// A folder of its own without any file.
pub(super) fn empty() -> Result<Checkout, Stop> {
    let root = std::env::temp_dir().join(format!("stockade-diff-{}-{:x}", std::process::id(), rand()));
    let made = fs::DirBuilder::new().mode(0o700).create(&root);
    made.map_err(|e| Stop::host(format!("can't make {}: {e}", root.display())))?;
    Ok(Checkout(root))
}

fn nothing(folder: &Path, revision: &str) -> Stop {
    Stop::usage(format!("`{}` is no commit of {}", revision.escape_debug(), display_name(folder)))
}

fn rand() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
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
