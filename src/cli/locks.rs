//! Locks beside policies: written, and held against what a policy comes to now.

use super::front::{self, Outcome, Stop};
use super::places::policies_of;
use crate::review::lock;
use crate::review::output::Finding;
use crate::source::display_name;
use serde_json::json;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

pub(super) fn lock_of(file: &Path) -> PathBuf {
    file.with_extension("lock")
}

/// The lock's text now, empty for a file without a machine; the exit code when the policy has errors, which were
/// printed.
fn locked_now(file: &Path) -> Result<Result<String, u8>, Stop> {
    let mut l = front::load(file)?;
    if !l.diagnostics.has_errors() {
        if l.resolved.machines.is_empty() {
            return Ok(Ok(String::new()));
        }
        match lock::text(&l.resolved.machines, &l.sources) {
            Ok(text) => return Ok(Ok(text)),
            Err(d) => l.diagnostics = d,
        }
    }
    l.report();
    Ok(Err(l.diagnostics.exit_code()))
}

pub(super) fn write_locks(paths: &[PathBuf]) -> Outcome {
    for file in policies_of(paths)? {
        let text = match locked_now(&file)? {
            Ok(text) => text,
            Err(code) => return Ok(code),
        };
        // What only others import is locked where a machine uses it.
        if text.is_empty() {
            continue;
        }
        let to = lock_of(&file);
        let old = read_lock(&to).unwrap_or_default();
        if old == text {
            front::print(&format!("{}: unchanged\n", display_name(&to)))?;
            continue;
        }
        let temporary = to.with_extension("lock.tmp");
        // A file of its own: what a link there leads to isn't touched, and what a killed command left goes.
        fs::remove_file(&temporary).unwrap_or(());
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .and_then(|mut f| f.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&temporary, &to))
            // A full disk leaves the old lock and nothing beside it.
            .inspect_err(|_| fs::remove_file(&temporary).unwrap_or(()))
            .map_err(|e| Stop::host(format!("can't write {}: {e}", display_name(&to))))?;
        front::print(&format!("{}: {} lines\n", display_name(&to), text.lines().count()))?;
    }
    Ok(0)
}

/// Largest lock that is read, in bytes; that of the largest shipped machine is 60 KiB.
const MOST_LOCK: u64 = 16 << 20;

/// A lock's text: a file of its own and no link, device or pipe, as a repository can bring them along.
fn read_lock(path: &Path) -> std::io::Result<String> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut text = String::new();
    match file.take(MOST_LOCK).read_to_string(&mut text)? {
        n if u64::try_from(n).is_ok_and(|n| n < MOST_LOCK) => Ok(text),
        _ => Err(std::io::Error::other("too large for a lock")),
    }
}

/// A lock without its machine: it is gone, or was renamed, and a review has to see that.
pub(super) fn stale(lock: &Path) -> String {
    let policy = lock.with_extension("stockade");
    format!(
        "{} locks nothing: no machine is in {}; delete the lock, or bring the machine back",
        display_name(lock),
        display_name(&policy)
    )
}

/// What `check --locked` found, for readers of JSON, SARIF and Markdown.
pub(super) fn unlocked(lock: &Path, message: String) -> (Finding, serde_json::Value) {
    let file = display_name(lock);
    let value = json!({
        "severity": "error", "code": "E0810", "message": message, "help": null,
        "labels": [{ "file": file, "line": 1 }],
    });
    let identity = format!("E0810 {message}");
    (Finding { rule: "E0810".into(), level: "error", message, place: Some(format!("{file}:1")), identity }, value)
}

/// `check --locked`: what the committed lock says otherwise; `true` when it is the same.
pub(super) fn is_locked(file: &Path) -> Result<bool, Stop> {
    let Ok(now) = locked_now(file)? else { return Ok(false) };
    let to = lock_of(file);
    if now.is_empty() {
        let in_vain = read_lock(&to).is_ok_and(|t| t.starts_with(lock::BEGINNING));
        if in_vain {
            front::say(&format!("error: {}", stale(&to)));
        }
        return Ok(!in_vain);
    }
    let committed = match read_lock(&to) {
        Ok(t) => t,
        Err(e) => {
            front::say(&format!(
                "error: no lock for {}: {}: {e}; `stockade lock` writes it",
                display_name(file),
                display_name(&to)
            ));
            return Ok(false);
        }
    };
    let lines = lock::difference(&committed, &now);
    if lines.is_empty() && committed == now {
        return Ok(true);
    }
    let mut text = format!("error: {} isn't what {} comes to now\n", display_name(&to), display_name(file));
    for l in lines.iter().take(40) {
        text.push_str(&format!("  {l}\n"));
    }
    if lines.len() > 40 {
        text.push_str(&format!("  ... and {} more\n", lines.len() - 40));
    }
    text.push_str("  help: review the lines, then run `stockade lock` and commit the lock");
    front::say(&text);
    Ok(false)
}
