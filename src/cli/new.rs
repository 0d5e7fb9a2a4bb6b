//! `new`: a commented starter that passes `check`.

use super::front::{self, Outcome, Stop};
use crate::policy::valid_name;
use std::fs;
use std::io::Write as _;

const DAEMON: &str = include_str!("../../policies/starters/daemon.stockade");
const OS: &str = include_str!("../../policies/starters/os.stockade");
const BUILD: &str = include_str!("../../policies/starters/build.stockade");

pub(super) fn new(name: &str, os: bool, build: bool) -> Outcome {
    if !valid_name(name) {
        return Err(Stop::usage(format!("`{name}` can't be a machine's name: {}", crate::policy::NAME_HELP)));
    }
    let starter = match (os, build) {
        (true, _) => OS,
        (_, true) => BUILD,
        _ => DAEMON,
    };
    let text = starter.replace("starter", name);
    let path = format!("{name}.stockade");
    let created = fs::OpenOptions::new().write(true).create_new(true).open(&path);
    // A starter that isn't whole is none: it would be in the way of the next attempt.
    let written =
        created.and_then(|mut f| f.write_all(text.as_bytes()).inspect_err(|_| fs::remove_file(&path).unwrap_or(())));
    written.map_err(|e| Stop::host(format!("can't write {path}: {e}")))?;
    front::print(&format!("wrote {path}; next: edit it, then `stockade check {path}` and `stockade plan {path}`\n"))?;
    Ok(0)
}
