//! What a change may bring along in the place of the folder that it is compared in: each of these was compared with
//! itself, and passed as no effect.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends at the first surprise")]

mod harness;

use harness::{Dir, Ran, stockade};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

fn policy(capabilities: &str) -> String {
    format!(
        "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine m {{\n  extends std/net-server\n  root dir \"/srv/m\" ro\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ {capabilities} }}\n}}\n"
    )
}

fn call(arguments: &[&str]) -> Ran {
    stockade().args(arguments).output().unwrap().into()
}

fn git(at: &Path, words: &[&str]) {
    let fixed = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "protocol.file.allow=always"];
    let out = Command::new("git").arg("-C").arg(at).args(fixed).args(words).output().unwrap();
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A repository with a tight policy in `a/policies` on the branch `main`, and a wide one in `wide/policies`.
fn repository(name: &str) -> (Dir, PathBuf) {
    let dir = Dir::new(name);
    let top = dir.0.join("r");
    for folder in ["a/policies", "wide/policies"] {
        std::fs::create_dir_all(top.join(folder)).unwrap();
    }
    dir.write("r/a/policies/m.stockade", &policy("none"));
    dir.write("r/wide/policies/m.stockade", &policy("keep sys_admin why \"example\""));
    git(&top, &["init", "-q", "-b", "main", "."]);
    commit(&top);
    (dir, top)
}

fn commit(top: &Path) {
    git(top, &["add", "-A"]);
    git(top, &["commit", "-qm", "x"]);
}

fn refused(top: &Path, revisions: &str, why: &str) {
    let folder = top.join("a/policies");
    let ran = call(&["diff", "--git", folder.to_str().unwrap(), revisions]);
    assert!(ran.code == 2 && ran.err.contains(why), "{revisions}: {} {}{}", ran.code, ran.out, ran.err);
}

#[test]
fn a_link_in_the_place_of_a_folder_is_refused() {
    for (at, to) in [("a", "wide"), ("a/policies", "../wide/policies")] {
        let (_dir, top) = repository("link");
        git(&top, &["rm", "-rq", at]);
        std::fs::create_dir_all(top.join(at).parent().unwrap()).unwrap();
        symlink(to, top.join(at)).unwrap();
        commit(&top);
        refused(&top, "HEAD~1..HEAD", "is a symbolic link: name the folder that it leads to");
        // From a work tree that doesn't have it yet.
        git(&top, &["checkout", "-q", "HEAD~1"]);
        refused(&top, "HEAD..main", "is a symbolic link in the revision");
    }
}

#[test]
fn a_submodule_in_the_place_of_a_folder_is_refused() {
    let (dir, top) = repository("submodule");
    let wide = dir.0.join("wide");
    std::fs::create_dir(&wide).unwrap();
    dir.write("wide/m.stockade", &policy("keep sys_admin why \"example\""));
    git(&wide, &["init", "-q", "-b", "main", "."]);
    commit(&wide);
    git(&top, &["rm", "-rq", "a/policies"]);
    git(&top, &["submodule", "--quiet", "add", wide.to_str().unwrap(), "a/policies"]);
    commit(&top);
    refused(&top, "main..HEAD", "is in a submodule");
    git(&top, &["submodule", "--quiet", "deinit", "-f", "a/policies"]);
    refused(&top, "HEAD~1..HEAD", "is a submodule in the revision");
}

/// A folder with the files of a repository in it, which git would take for one, with its configuration.
#[test]
fn files_that_look_like_a_repository_are_none() {
    let (_dir, top) = repository("bare");
    let folder = top.join("a/policies");
    git(&top, &["clone", "-q", "--bare", ".", "a/bare"]);
    for name in ["HEAD", "config", "objects", "refs"] {
        std::fs::rename(top.join("a/bare").join(name), folder.join(name)).unwrap();
    }
    refused(&top, "HEAD..HEAD", "");
}

#[test]
fn a_name_of_two_revisions_is_refused() {
    let (dir, top) = repository("names");
    let pull = dir.0.join("pull");
    git(&dir.0, &["clone", "-q", "r", "pull"]);
    dir.write("pull/a/policies/m.stockade", &policy("keep sys_admin why \"example\""));
    commit(&pull);
    let diff = |revisions: &str| {
        call(&["diff", "--git", pull.join("a/policies").to_str().unwrap(), revisions, "--fail-on", "widened>=high"])
    };
    assert_eq!(diff("origin/main..HEAD").code, 1);
    git(&pull, &["tag", "origin/main"]);
    for revisions in ["origin/main..HEAD", "origin/main...HEAD", "origin/main"] {
        let ran = diff(revisions);
        assert!(ran.code == 2 && ran.err.contains("ambiguous"), "{revisions}: {}{}", ran.out, ran.err);
    }
    assert_eq!(diff("refs/remotes/origin/main..HEAD").code, 1);
    drop(top);
}

/// A byte that is a backslash in the text that git keeps, and none in the one that it lays into a work tree.
#[test]
fn a_text_that_git_changes_on_the_way_is_refused() {
    let (dir, top) = repository("attributes");
    for (file, line, why) in [
        (".gitattributes", "*.stockade working-tree-encoding=CP1361", "`working-tree-encoding`"),
        ("a/.gitattributes", "m.stockade filter=wide", "`filter`"),
        ("a/policies/.gitattributes", "* ident", "`ident`"),
    ] {
        dir.write(&format!("r/{file}"), &format!("{line}\n"));
        commit(&top);
        // Whichever work tree it is asked in, and whichever side has it.
        refused(&top, "HEAD~1..HEAD", why);
        git(&top, &["checkout", "-q", "HEAD~1"]);
        refused(&top, "HEAD..main", why);
        git(&top, &["checkout", "-q", "main"]);
        git(&top, &["rm", "-q", file]);
        commit(&top);
        refused(&top, "HEAD~1..HEAD", why);
        let folder = top.join("a/policies");
        assert_eq!(call(&["diff", "--git", folder.to_str().unwrap(), "HEAD..HEAD"]).code, 0);
    }
}
