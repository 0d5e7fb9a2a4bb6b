//! Forwarding of packets on a host that doesn't forward: switched on with the first machine that needs it,
//! off again after the last. Meanwhile nothing but machines' packets is forwarded.
//!
//! Who needs it holds a shared lock; who gets the lock alone puts back what was before.

use super::nft;
use super::state::{Home, hold, write_whole};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs::{self, File};
use std::io;

const V4: &str = "/proc/sys/net/ipv4/ip_forward";
const V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
/// A name that no machine can have.
const TABLE: &str = "stockade.forwarding";

/// What was before.
#[derive(Default, Serialize, Deserialize)]
struct Before {
    v4: bool,
    v6: bool,
    /// Links whose router advertisements are accepted only while nothing is forwarded (ip-sysctl.rst, accept_ra).
    listening: Vec<String>,
    /// This boot.
    boot: String,
}

fn record(home: &Home) -> Option<Before> {
    let text = fs::read(home.place("forwarding").join("before.json")).ok()?;
    let b: Before = serde_json::from_slice(&text).ok()?;
    (super::state::boot_id().ok()? == b.boot).then_some(b)
}

/// Whether IPv4 and IPv6 were forwarded before a machine switched it on; `None` when none did.
pub fn before(home: &Home) -> Option<[bool; 2]> {
    record(home).map(|b| [b.v4, b.v6])
}

/// Switches it on, for as long as the lock is held.
pub(super) fn switch_on(home: &Home, v4: bool, v6: bool) -> io::Result<Flock<File>> {
    let folder = home.place("forwarding");
    let gate = hold(&folder.join("gate"), FlockArg::LockExclusive)?;
    let user = hold(&folder.join("users"), FlockArg::LockShared)?;
    let on = |path: &str| fs::read_to_string(path).is_ok_and(|t| t.trim() != "0");
    let mut state = match record(home) {
        Some(b) => b,
        None => Before { v4: on(V4), v6: on(V6), listening: Vec::new(), boot: super::state::boot_id()? },
    };
    if v6 && !on(V6) {
        for entry in fs::read_dir("/proc/sys/net/ipv6/conf")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let accepts = fs::read_to_string(accept(&name)).is_ok_and(|t| t.trim() == "1");
            if accepts && name != "all" && name != "default" && !state.listening.contains(&name) {
                state.listening.push(name);
            }
        }
    }
    // Written down before anything is changed.
    write_whole(&folder.join("before.json"), &serde_json::to_vec(&state)?)?;
    nft::apply(&guard())?;
    for name in &state.listening {
        fs::write(accept(name), "2")?;
    }
    for (wanted, path) in [(v4, V4), (v6, V6)] {
        if wanted {
            fs::write(path, "1")?;
        }
    }
    drop(gate);
    Ok(user)
}

fn accept(link: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{link}/accept_ra")
}

/// Whoever doesn't come from a machine or go to one isn't forwarded, as before.
fn guard() -> serde_json::Value {
    let table = json!({ "table": { "family": "inet", "name": TABLE } });
    let link = |key: &str| json!({ "match": { "op": "!=", "left": { "meta": { "key": key } }, "right": "ve-*" } });
    let chain = json!({ "chain": {
        "family": "inet", "table": TABLE, "name": "forward",
        "type": "filter", "hook": "forward", "prio": -10, "policy": "accept"
    } });
    let rule = json!({ "rule": {
        "family": "inet", "table": TABLE, "chain": "forward",
        "expr": [link("iifname"), link("oifname"), { "drop": null }],
        "comment": "forwarding is on for machines only"
    } });
    json!({ "nftables": [
        { "add": table }, { "delete": table }, { "add": table }, { "add": chain }, { "add": rule }
    ] })
}

/// Puts back what was before, if no machine needs it any more.
pub(super) fn restore(home: &Home) -> io::Result<()> {
    let folder = home.place("forwarding");
    let there = || folder.join("before.json").exists();
    if !there() {
        return Ok(());
    }
    let _gate = hold(&folder.join("gate"), FlockArg::LockExclusive)?;
    // Another command may have done it while this one waited.
    if !there() {
        return Ok(());
    }
    match hold(&folder.join("users"), FlockArg::LockExclusiveNonblock) {
        Ok(_alone) => {}
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(e) => return Err(e),
    }
    // A record of another boot speaks of settings that are gone with it.
    if let Some(b) = record(home) {
        for (was, path) in [(b.v4, V4), (b.v6, V6)] {
            if !was {
                fs::write(path, "0")?;
            }
        }
        for name in &b.listening {
            match fs::write(accept(name), "1") {
                // The link went meanwhile.
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        nft::delete("inet", TABLE)?;
    }
    fs::remove_file(folder.join("before.json"))
}
