//! Who may know whom: reads the imports of every source file and holds the table.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test ends at the first surprise"
)]

use std::collections::BTreeSet;
use std::path::Path;

/// (house, houses that it may import from)
const TABLE: &[(&str, &[&str])] = &[
    ("kernel", &[]),
    ("sys", &[]),
    ("files", &[]),
    ("source", &[]),
    ("address", &[]),
    ("codes", &[]),
    ("diagnostic", &["source"]),
    ("syntax", &["source", "diagnostic"]),
    ("policy", &["syntax", "source", "diagnostic", "kernel", "address"]),
    ("host", &["sys", "files", "kernel", "address"]),
    // `sys` for the layout of an instruction.
    ("proof", &["policy", "source", "kernel", "sys", "address"]),
    // `sys` for the layout of an instruction and for the child in which the filter generator runs.
    ("compile", &["policy", "proof", "host", "diagnostic", "source", "kernel", "sys", "address"]),
    // `policy` for the names of capabilities, `syntax` for quoting: both only to print.
    ("review", &["compile", "proof", "policy", "plan", "kernel", "source", "diagnostic", "address"]),
    // `syntax` for quoting and the canonical form of what it writes.
    ("exchange", &["compile", "proof", "policy", "syntax", "kernel", "source", "diagnostic"]),
    ("plan", &["compile", "source", "policy", "syntax", "sys", "address"]),
    ("launch", &["plan", "sys", "files", "address"]),
    ("machine", &["plan", "launch", "sys", "address"]),
    ("cli", &["*"]),
];

fn files(dir: &Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn sources() -> Vec<(String, String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut list = Vec::new();
    files(&src, &mut list);
    list.into_iter()
        .map(|p| {
            let relative = p.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
            let house = relative.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
            (house, relative, std::fs::read_to_string(&p).unwrap())
        })
        .collect()
}

#[test]
fn no_import_goes_upward() {
    let mut seen = BTreeSet::new();
    for (house, file, text) in sources() {
        if matches!(house.as_str(), "main" | "lib") {
            continue;
        }
        let (_, allowed) =
            TABLE.iter().find(|(h, _)| *h == house).unwrap_or_else(|| panic!("{file}: house not in the table"));
        seen.insert(house.clone());
        for part in text.split("crate::").skip(1) {
            let used: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let fine = used == house || allowed.contains(&"*") || allowed.contains(&used.as_str());
            assert!(fine, "{file} uses crate::{used}, which `{house}` may not know");
        }
    }
    assert_eq!(seen.len(), TABLE.len(), "a house of the table is gone");
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    for (house, file, text) in sources() {
        let found = text.lines().any(|l| {
            let code = l.split("//").next().unwrap_or("");
            code.contains("unsafe ") && !code.contains("unsafe_code") && !code.contains('"')
        });
        assert!(house == "sys" || !found, "{file} has unsafe code");
    }
}

/// A file of tests that `make test` doesn't name fails for nobody.
#[test]
fn every_test_is_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let make = std::fs::read_to_string(root.join("Makefile")).unwrap();
    let recipe = make.split("\ntest:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let named: BTreeSet<&str> = recipe.split("--test ").skip(1).filter_map(|t| t.split_whitespace().next()).collect();
    let there = std::fs::read_dir(root.join("tests")).unwrap().map(|e| e.unwrap().path());
    for path in there.filter(|p| p.extension().is_some_and(|e| e == "rs")) {
        assert!(named.contains(path.file_stem().unwrap().to_str().unwrap()), "{}", path.display());
    }
}

#[test]
fn a_file_is_read_in_ten_minutes() {
    // Data tables are looked up, not read; their bound is their own.
    let bounds = [("kernel/constants.rs", 3000), ("kernel/calls.rs", 750), ("codes.rs", 900)];
    for (_, file, text) in sources() {
        let most = bounds.iter().find(|(f, _)| *f == file).map_or(640, |(_, n)| *n);
        let lines = text.lines().count();
        assert!(lines <= most, "{file} has {lines} lines");
    }
}
