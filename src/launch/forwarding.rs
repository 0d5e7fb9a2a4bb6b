//! Forwarding of packets on a host that doesn't forward: on with the first machine that needs it, off again after
//! the last. Meanwhile nothing but machines' packets is forwarded.
//!
//! Who needs it holds a shared lock; who gets the lock alone puts back what was before. IPv4 is switched link by
//! link: the switch for all of them would change other settings too (inet_forward_change in net/ipv4/devinet.c).

use super::state::{Home, hold, write_whole};
use super::{netlink, nft};
use crate::files::{self, there};
use crate::plan::step::GROUP;
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
    /// Links that didn't forward IPv4, and do now.
    v4: Vec<String>,
    /// IPv6 wasn't forwarded, and is now.
    v6: bool,
    /// Links that forwarded IPv6 by a setting of their own.
    v6_own: Vec<String>,
    /// Links whose router advertisements are accepted only while nothing is forwarded (ip-sysctl.rst, accept_ra).
    listening: Vec<String>,
    /// This boot.
    boot: String,
}

/// A record of another boot speaks of settings that are gone with it.
fn record(home: &Home) -> io::Result<Option<Before>> {
    let path = home.place("forwarding").join("before.json");
    let Some(text) = there(fs::read(&path))? else { return Ok(None) };
    let before: Before = serde_json::from_slice(&text)
        .map_err(|e| io::Error::other(format!("{} is damaged ({e}): {HELP}", path.display())))?;
    Ok((before.boot == super::state::boot_id()?).then_some(before))
}

const HELP: &str = "put back what the host forwards (net.ipv4.conf.*.forwarding, net.ipv6.conf.all.forwarding), \
                    delete the table inet stockade.forwarding, then the file";

/// A setting that isn't there has no value: a link went, or the kernel has no IPv6.
fn is(path: &str, value: &str) -> io::Result<bool> {
    Ok(there(fs::read_to_string(path))?.is_some_and(|t| t.trim() == value))
}

fn setting(family: &str, link: &str, name: &str) -> String {
    format!("/proc/sys/net/{family}/conf/{link}/{name}")
}

/// Links with this value of a setting; those that stand for all others left out.
fn links(family: &str, name: &str, value: &str) -> io::Result<Vec<String>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(format!("/proc/sys/net/{family}/conf"))? {
        let link = entry?.file_name().to_string_lossy().into_owned();
        if !["all", "default", "lo"].contains(&link.as_str()) && is(&setting(family, &link, name), value)? {
            out.push(link);
        }
    }
    Ok(out)
}

/// A link may go at any time.
fn write_if_there(path: &str, value: &str) -> io::Result<()> {
    there(fs::write(path, value)).map(|_| ())
}

/// Switches it on, for as long as the lock is held.
pub(super) fn switch_on(home: &Home, v4: bool, v6: bool) -> io::Result<Flock<File>> {
    let folder = home.place("forwarding");
    let gate = hold(&folder.join("gate"), FlockArg::LockExclusive)?;
    let user = hold(&folder.join("users"), FlockArg::LockShared)?;
    let mut state = match record(home)? {
        Some(b) => b,
        None => Before { boot: super::state::boot_id()?, ..Before::default() },
    };
    let mut changes = false;
    if v4 && is(V4, "0")? {
        // Links that came since the first machine are added.
        for link in links("ipv4", "forwarding", "0")? {
            changes = true;
            if !state.v4.contains(&link) {
                state.v4.push(link);
            }
        }
    }
    if v6 && is(V6, "0")? {
        (changes, state.v6) = (true, true);
        state.v6_own = links("ipv6", "forwarding", "1")?;
        // The switch for all is one for those to come as well (addrconf_fixup_forwarding in net/ipv6/addrconf.c).
        if is(&setting("ipv6", "default", "forwarding"), "1")? {
            state.v6_own.push("default".to_owned());
        }
    }
    if v6 && state.v6 {
        // Those that came since the first machine as well; a machine's own link listens to none.
        for link in links("ipv6", "accept_ra", "1")? {
            // One that went meanwhile listens to nobody.
            if !netlink::is_anothers(&link)? {
                continue;
            }
            changes = true;
            if !state.listening.contains(&link) {
                state.listening.push(link);
            }
        }
    }
    if changes {
        // Written down before anything is changed; nobody is forwarded before the guard is there.
        write_whole(&folder.join("before.json"), &serde_json::to_vec(&state)?)?;
        nft::apply(&guard(&state))?;
        for link in &state.listening {
            write_if_there(&setting("ipv6", link, "accept_ra"), "2")?;
        }
        for link in &state.v4 {
            write_if_there(&setting("ipv4", link, "forwarding"), "1")?;
        }
        if state.v6 {
            fs::write(V6, "1")?;
        }
    }
    drop(gate);
    Ok(user)
}

/// The link of a machine forwards what the machine sends.
pub(super) fn link(name: &str) -> io::Result<()> {
    fs::write(setting("ipv4", name, "forwarding"), "1")
}

/// Loads the guard again, where there has to be one.
pub(super) fn guard_again(home: &Home) -> io::Result<()> {
    let _gate = hold(&home.place("forwarding").join("gate"), FlockArg::LockExclusive)?;
    match record(home)? {
        Some(state) if nft::count("inet", TABLE)? != rules(&state) => nft::apply(&guard(&state)),
        _ => Ok(()),
    }
}

/// What isn't there of the guard.
pub(super) fn guard_missing(home: &Home) -> io::Result<Option<String>> {
    let _gate = hold(&home.place("forwarding").join("gate"), FlockArg::LockShared)?;
    let Some(state) = record(home)? else { return Ok(None) };
    let (found, wanted) = (nft::count("inet", TABLE)?, rules(&state));
    Ok((found != wanted).then(|| format!("table inet {TABLE} has {found} rules, not {wanted}")))
}

fn rules(state: &Before) -> usize {
    usize::from(!state.v4.is_empty()) + usize::from(state.v6)
}

/// Is the table the guard's?
pub(super) fn is_guard(table: &str) -> bool {
    table == TABLE
}

/// Whoever doesn't come from a machine or go to one isn't forwarded, as before: of the families, and on the links,
/// on which it was off.
fn guard(state: &Before) -> serde_json::Value {
    let table = json!({ "table": { "family": "inet", "name": TABLE } });
    let compare = |op: &str, key: &str, right: serde_json::Value| json!({ "match": { "op": op, "left": { "meta": { "key": key } }, "right": right } });
    let apart = [compare("!=", "iifgroup", json!(GROUP)), compare("!=", "oifgroup", json!(GROUP))];
    let chain = json!({ "chain": {
        "family": "inet", "table": TABLE, "name": "forward",
        "type": "filter", "hook": "forward", "prio": -10, "policy": "accept"
    } });
    let rule = |start: Vec<serde_json::Value>| {
        let expr = [start, apart.to_vec(), vec![json!({ "drop": null })]].concat();
        json!({ "add": { "rule": {
            "family": "inet", "table": TABLE, "chain": "forward", "expr": expr,
            "comment": "forwarding is on for machines only"
        } } })
    };
    let mut list =
        vec![json!({ "add": table }), json!({ "delete": table }), json!({ "add": table }), json!({ "add": chain })];
    if !state.v4.is_empty() {
        let links = json!({ "set": state.v4 });
        list.push(rule(vec![compare("==", "nfproto", json!("ipv4")), compare("==", "iifname", links)]));
    }
    if state.v6 {
        list.push(rule(vec![compare("==", "nfproto", json!("ipv6"))]));
    }
    json!({ "nftables": list })
}

/// Puts back what was before, if no machine needs it any more.
pub(super) fn restore(home: &Home) -> io::Result<()> {
    let folder = home.place("forwarding");
    let before = folder.join("before.json");
    if !files::exists(&before)? {
        return Ok(());
    }
    let _gate = hold(&folder.join("gate"), FlockArg::LockExclusive)?;
    // Another command may have done it while this one waited.
    if !files::exists(&before)? {
        return Ok(());
    }
    match hold(&folder.join("users"), FlockArg::LockExclusiveNonblock) {
        Ok(_alone) => {}
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(e) => return Err(e),
    }
    if let Some(b) = record(home)? {
        // Somebody who switched IPv4 on for all meanwhile wants it on: an engine that came later.
        if is(V4, "0")? {
            for link in &b.v4 {
                write_if_there(&setting("ipv4", link, "forwarding"), "0")?;
            }
        }
        if b.v6 {
            fs::write(V6, "0")?;
            for link in &b.v6_own {
                write_if_there(&setting("ipv6", link, "forwarding"), "1")?;
            }
            for link in &b.listening {
                write_if_there(&setting("ipv6", link, "accept_ra"), "1")?;
            }
        }
        nft::delete("inet", TABLE)?;
    }
    fs::remove_file(before)
}

/// What isn't as a machine needs it.
pub(super) fn differs(link: &str, v4: bool, v6: bool) -> io::Result<Vec<String>> {
    let mut out = Vec::new();
    if v4 && !is(&setting("ipv4", link, "forwarding"), "1")? {
        out.push(format!("{link} doesn't forward IPv4"));
    }
    if v6 && !is(V6, "1")? && files::exists(V6)? {
        out.push("IPv6 isn't forwarded".to_owned());
    }
    Ok(out)
}
