//! Tables of the packet filter, by nft(8): JSON on its standard input, never a text of ours.

use crate::files;
use serde_json::{Value, json};
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

/// Where nft(8) is. Never by the caller's PATH.
fn program() -> io::Result<&'static str> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "nft(8) isn't installed");
    files::first_of(crate::sys::NFT)?.ok_or_else(missing)
}

/// Applies a transaction, all of it or nothing.
pub(super) fn apply(transaction: &Value) -> io::Result<()> {
    let program = program()?;
    let mut child = Command::new(program)
        .args(["-j", "-f", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(transaction.to_string().as_bytes()),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    };
    let out = child.wait_with_output()?;
    // A program that ends before it read all says itself why.
    if out.status.success() {
        written?;
    }
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    let first = said.lines().find(|l| l.contains("rror")).or(said.lines().find(|l| !l.trim().is_empty()));
    let first = first.unwrap_or("it gave no reason").trim();
    Err(io::Error::other(format!("nft(8) refuses the rules: {first}")))
}

/// Removes a table with all that is in it; one that isn't there is no fault.
pub(super) fn delete(family: &str, name: &str) -> io::Result<()> {
    let table = json!({ "table": { "family": family, "name": name } });
    apply(&json!({ "nftables": [{ "add": table }, { "delete": table }] }))
}

/// How many rules a table has; 0 when it isn't there.
pub(super) fn count(family: &str, name: &str) -> io::Result<usize> {
    let program = program()?;
    let out =
        Command::new(program).args(["-j", "list", "table", family, name]).env_clear().stdin(Stdio::null()).output()?;
    if !out.status.success() {
        return Ok(0);
    }
    let all: Value = serde_json::from_slice(&out.stdout)?;
    let items = all.get("nftables").and_then(Value::as_array);
    Ok(items.map_or(0, |l| l.iter().filter(|i| i.get("rule").is_some()).count()))
}
