//! A git revision of a folder: the very texts that a checkout of it would lay there, or an error.

use super::front::Stop;
use crate::source::display_name;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Output};

/// A folder with a git revision's policy files in it; removed with the value.
pub(super) struct Checkout(pub(super) PathBuf);

impl Drop for Checkout {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or(());
    }
}

/// A folder of a repository, named by a path on which nothing leads elsewhere.
pub(super) struct Folder<'a> {
    path: &'a Path,
    /// The nearest folder that is there now: a revision may have one that is gone.
    there: &'a Path,
    /// The way on from it.
    below: &'a Path,
}

impl<'a> Folder<'a> {
    /// Who writes the change that is looked at may have put a link, a submodule or a repository of his own in the
    /// folder's place: each would be compared with itself.
    pub(super) fn new(path: &'a Path) -> Result<Self, Stop> {
        if let Some(p) = path.ancestors().find(|p| p.is_symlink()) {
            let name = display_name(p);
            return Err(Stop::usage(format!("{name} is a symbolic link: name the folder that it leads to")));
        }
        let there = path.ancestors().find(|f| f.is_dir()).unwrap_or(Path::new("."));
        let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
        let folder = Folder { path, there, below: path.strip_prefix(there).unwrap_or(path) };
        let ask = |at: &Path, what: &str| git(at, &["rev-parse", what], None);
        if ask(there, "--is-inside-git-dir")? != b"false\n" {
            return Err(Stop::usage(format!("{} is within a repository's own files", display_name(path))));
        }
        let outer = ask(there, "--show-superproject-working-tree")?;
        let top = |at| ask(at, "--show-toplevel");
        if !outer.is_empty() && top(Path::new(".")).ok() != Some(top(there)?) {
            let name = display_name(path);
            return Err(Stop::usage(format!(
                "{name} is in a submodule: it is compared by itself, from a folder in it"
            )));
        }
        Ok(folder)
    }

    /// A commit: a tree would be another folder, and a branch may move while it is read.
    pub(super) fn commit(&self, revision: &str) -> Result<String, Stop> {
        let fail = |why: &str| Err(Stop::usage(format!("`{}` is {why}", revision.escape_debug())));
        if revision.starts_with('-') {
            return fail("no revision");
        }
        let name = format!("{revision}^{{commit}}");
        let words = ["-c", "core.warnAmbiguousRefs=true", "rev-parse", "--verify", "--end-of-options", &name];
        let out = run(self.there, &words, None)?;
        let said = String::from_utf8_lossy(&out.stderr);
        // Who may push a tag `origin/main` would choose what a change is compared with.
        if said.contains("ambiguous") {
            return fail("ambiguous: write the whole name, as in refs/remotes/origin/main, or the commit");
        }
        match done("rev-parse", out) {
            Err(e) if e.text.contains("single revision") => fail(&format!("no commit of {}", display_name(self.path))),
            out => Ok(String::from_utf8_lossy(&out?).trim().to_owned()),
        }
    }

    /// Where two revisions parted.
    pub(super) fn merge_base(&self, a: &str, b: &str) -> Result<String, Stop> {
        let base = git(self.there, &["merge-base", &self.commit(a)?, &self.commit(b)?], None);
        let base = base.map_err(|stop| match &stop.text {
            t if t.ends_with(": ") => Stop::usage(format!("`{a}` and `{b}` have no common ancestor")),
            _ => stop,
        })?;
        Ok(String::from_utf8_lossy(&base).trim().to_owned())
    }

    /// The policy files of the folder as they were in a revision, with the folders below.
    pub(super) fn checkout(&self, revision: &str) -> Result<Checkout, Stop> {
        let commit = self.commit(revision)?;
        self.is_folder_in(&commit)?;
        let made = empty()?;
        let within = Path::new(".").join(self.below);
        let mut list = ["ls-tree", "-r", "-z", &commit].map(OsStr::new).to_vec();
        list.push(within.as_os_str());
        let mut names = Vec::new();
        for (mode, name) in entries(&git(self.there, &list, None)?) {
            // What isn't of this repository is in no revision of it.
            if mode == b"160000" {
                return refuse(name, "is a submodule: compare a folder beside it, and it by itself");
            }
            if !name.as_bytes().ends_with(b".stockade") {
                continue;
            }
            if mode == b"120000" {
                return refuse(name, "is a symbolic link: a folder's policies are files of their own");
            }
            names.push(name.to_owned());
        }
        self.is_what_git_lays_out(&commit, &names, &made)?;
        for name in &names {
            let relative = Path::new(name).strip_prefix(self.below).unwrap_or(Path::new(name));
            // What a repository calls its files must not lead out of the folder.
            if !relative.components().all(|c| matches!(c, Component::Normal(_))) {
                return refuse(name, "is no name of a file in a folder");
            }
            let mut object = OsString::from(format!("{commit}:./"));
            object.push(name);
            let text = git(self.there, &[OsStr::new("cat-file"), OsStr::new("blob"), &object], None)?;
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

    /// The folder and those that it is in are folders of the revision, or not there at all.
    fn is_folder_in(&self, commit: &str) -> Result<(), Stop> {
        let mut prefix = git(self.there, &["rev-parse", "--show-prefix"], None)?;
        prefix.truncate(prefix.len().saturating_sub(1));
        // Without a slash at its end, which would ask for what is in it.
        let whole: PathBuf = Path::new(&OsString::from_vec(prefix)).join(self.below).components().collect();
        for p in whole.ancestors().filter(|p| !p.as_os_str().is_empty()) {
            let mut list = ["ls-tree", "--full-tree", "-z", commit, "--"].map(OsStr::new).to_vec();
            list.push(p.as_os_str());
            for (mode, name) in entries(&git(self.there, &list, None)?) {
                match mode {
                    b"040000" => {}
                    b"120000" => return refuse(name, "is a symbolic link in the revision, and no folder"),
                    b"160000" => return refuse(name, "is a submodule in the revision, and no folder"),
                    _ => return refuse(name, "is a file: name its folder"),
                }
            }
        }
        Ok(())
    }

    /// What lies in a work tree is the text that git keeps, unless .gitattributes has it changed on the way: then what
    /// a review reads isn't what is enforced.
    fn is_what_git_lays_out(&self, commit: &str, names: &[OsString], made: &Checkout) -> Result<(), Stop> {
        let index = made.0.join("index");
        git(self.there, &["read-tree", commit], Some(&index))?;
        let ask = ["check-attr", "-z", "--cached", "working-tree-encoding", "filter", "ident", "--"].map(OsStr::new);
        for some in names.chunks(100) {
            let words: Vec<&OsStr> = ask.into_iter().chain(some.iter().map(OsString::as_os_str)).collect();
            let said = git(self.there, &words, Some(&index))?;
            let fields: Vec<&[u8]> = said.split(|b| *b == 0).collect();
            for field in fields.chunks_exact(3) {
                let [name, attribute, value] = field else { continue };
                if ![&b"unspecified"[..], b"unset"].contains(value) {
                    let attribute = String::from_utf8_lossy(attribute);
                    let why = format!("has the attribute `{attribute}`: git would lay another text into a work tree");
                    return refuse(OsStr::from_bytes(name), &why);
                }
            }
        }
        fs::remove_file(&index).map_err(|e| Stop::host(format!("can't remove {}: {e}", index.display())))
    }
}

/// What `git ls-tree -z` lists: the mode and the name, which is bytes, and needn't be text.
fn entries(listed: &[u8]) -> impl Iterator<Item = (&[u8], &OsStr)> {
    listed.split(|b| *b == 0).filter_map(|entry| {
        let tab = entry.iter().position(|b| *b == b'\t')?;
        Some((entry.get(..6)?, OsStr::from_bytes(entry.get(tab + 1..)?)))
    })
}

fn refuse<T>(name: &OsStr, why: &str) -> Result<T, Stop> {
    Err(Stop::usage(format!("`{}` {why}", name.to_string_lossy().escape_debug())))
}

/// Runs git in a folder, on its own index if one is named.
fn run<A: AsRef<OsStr>>(at: &Path, arguments: &[A], index: Option<&Path>) -> Result<Output, Stop> {
    let mut git = Command::new("git");
    // A hook runs with its own repository in these; the folder says which is meant.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_ATTR_SOURCE"] {
        git.env_remove(name);
    }
    git.envs(index.map(|i| ("GIT_INDEX_FILE", i))).env("LC_ALL", "C");
    // Files that look like a repository, committed to another, aren't one: their configuration could run programs.
    git.args(["-c", "safe.bareRepository=explicit", "-C"]).arg(at).args(arguments);
    git.output().map_err(|e| Stop::host(format!("can't run git: {e}")))
}

/// What git printed.
fn done(what: &str, out: Output) -> Result<Vec<u8>, Stop> {
    if out.status.success() {
        return Ok(out.stdout);
    }
    let why = String::from_utf8_lossy(&out.stderr).trim().escape_debug().to_string();
    Err(Stop::usage(format!("git {what}: {why}")))
}

fn git<A: AsRef<OsStr>>(at: &Path, arguments: &[A], index: Option<&Path>) -> Result<Vec<u8>, Stop> {
    let what = arguments.first().map_or("".into(), |a| a.as_ref().to_string_lossy());
    done(&what, run(at, arguments, index)?)
}

/// A folder of its own without any file.
pub(super) fn empty() -> Result<Checkout, Stop> {
    let root = std::path::absolute(std::env::temp_dir()).map_err(|e| Stop::host(format!("can't find TMPDIR: {e}")))?;
    let root = root.join(format!("stockade-diff-{}-{:x}", std::process::id(), rand()));
    let made = fs::DirBuilder::new().mode(0o700).create(&root);
    made.map_err(|e| Stop::host(format!("can't make {}: {e}", root.display())))?;
    Ok(Checkout(root))
}

fn rand() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
