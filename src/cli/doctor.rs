//! `doctor`: what this host has and lacks, with the fix, before a policy needs it.

use super::front::{self, Outcome, Stop};
use super::language::print_json;
use crate::host::cgroups::Cgroups;
use crate::host::network::Network;
use crate::sys::confine;
use serde::Serialize;
use std::fs;

/// One thing that a policy may need.
#[derive(Serialize)]
struct Finding {
    /// `ok`, `lacks` or `note`.
    state: &'static str,
    /// What it is.
    subject: &'static str,
    /// As it is here.
    found: String,
    /// What needs it.
    needed: &'static str,
    /// What to do, where something is to be done.
    fix: Option<String>,
}

pub(super) fn doctor(json: bool) -> Outcome {
    let findings = look()?;
    let lacking = findings.iter().filter(|f| f.state == "lacks").count();
    if json {
        print_json(&serde_json::json!({ "version": 1, "lacking": lacking, "findings": findings }))?;
    } else {
        let mut out = String::new();
        for f in &findings {
            out.push_str(&format!("{:<6} {:<26} {}\n", f.state, f.subject, f.found));
            if f.state != "ok" {
                out.push_str(&format!("       needed by: {}\n", f.needed));
            }
            if let Some(fix) = &f.fix {
                out.push_str(&format!("       fix: {fix}\n"));
            }
        }
        out.push_str(&match lacking {
            0 => "nothing is lacking\n".to_owned(),
            n => format!("{n} lacking: policies that need it are refused with their line (E06xx), never weakened\n"),
        });
        front::print(&out)?;
    }
    Ok(u8::from(lacking > 0))
}

fn look() -> Result<Vec<Finding>, Stop> {
    let mut out = Vec::new();
    let mut say = |ok: Option<bool>, subject, found: String, needed, fix: Option<&str>| {
        let state = match ok {
            Some(true) => "ok",
            Some(false) => "lacks",
            None => "note",
        };
        out.push(Finding { state, subject, found, needed, fix: fix.map(str::to_owned).filter(|_| ok != Some(true)) });
    };
    let root = nix::unistd::geteuid().is_root();
    let who = if root { "root" } else { "an ordinary user" };
    let found = format!(
        "{who}: {}",
        if root { "every policy can run" } else { "`exec` machines without a network or limits of a group" }
    );
    say(
        if root { Some(true) } else { None },
        "caller",
        found,
        "boot, networks, limits of a whole machine",
        Some("run it as root"),
    );

    let read = |path: &str| fs::read_to_string(path).ok().map(|t| t.trim().to_owned());
    let kernel = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    // mount_setattr(2) for id-mapped mounts came with 5.12.
    let mut parts = kernel.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    say(Some(version >= (5, 12)), "kernel", kernel.clone(), "id-mapped mounts", Some("Linux 5.12 or newer"));
    let userns = read("/proc/sys/user/max_user_namespaces").and_then(|t| t.parse::<u64>().ok()).unwrap_or(0);
    let closed = read("/proc/sys/kernel/unprivileged_userns_clone").is_some_and(|t| t == "0")
        || read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").is_some_and(|t| t != "0");
    let fix = "sysctl user.max_user_namespaces=10000";
    say(Some(userns > 0), "user namespaces", format!("{userns} at most"), "userns auto, the default", Some(fix));
    if closed {
        let fix = "run it as root; or sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0";
        let found = "closed for ordinary users".to_owned();
        say(
            if root { None } else { Some(false) },
            "user namespaces of users",
            found,
            "machines of ordinary users",
            Some(fix),
        );
    }
    let abi = confine::landlock_abi();
    let fix = "a kernel with CONFIG_SECURITY_LANDLOCK and `landlock` in its lsm= list, 6.10 or newer for ABI 5";
    say(
        Some(abi >= 5),
        "landlock",
        format!("ABI {abi}"),
        "file rules (ABI 5), ports on the host's network (ABI 6)",
        Some(fix),
    );
    let seccomp = fs::read_to_string("/proc/self/status").is_ok_and(|t| t.contains("Seccomp:"));
    say(
        Some(seccomp),
        "seccomp",
        if seccomp { "filters" } else { "none" }.into(),
        "every machine",
        Some("CONFIG_SECCOMP_FILTER"),
    );

    let groups = Cgroups::probe().map_err(|e| Stop::host(format!("can't read the control groups: {e}")))?;
    let found = groups.v2.clone().map_or("not mounted below /sys/fs/cgroup".to_owned(), |m| format!("v2 at {m}"));
    let fix = "mount -t cgroup2 none /sys/fs/cgroup/unified";
    say(Some(groups.v2.is_some()), "cgroup v2", found, "boot", Some(fix));
    for (subject, controller, older, needed) in [
        ("controller memory", "memory", "memory", "limits { memory ...; swap ... }"),
        ("controller cpu", "cpu", "cpu", "limits { cpu ... }"),
        ("controller pids", "pids", "pids", "limits { tasks ... }"),
        ("controller io", "io", "blkio", "limits { io ... }"),
    ] {
        let (ok, found) = match (groups.v2_with(controller), groups.v1.get(older)) {
            (Some(m), _) => (Some(true), format!("v2 at {m}")),
            (None, Some(m)) => (None, format!("v1 at {m}: no `high=`, no io weight")),
            _ => (Some(false), "nowhere".to_owned()),
        };
        let fix = match ok {
            None => "boot with systemd.unified_cgroup_hierarchy=1 for all of it",
            _ => "boot a kernel that has it, without cgroup_disable=",
        };
        say(ok, subject, found, needed, Some(fix));
    }

    let net = Network::probe("/").map_err(|e| Stop::host(format!("can't read the network: {e}")))?;
    let fix = "apt-get install nftables";
    say(Some(net.nft.is_some()), "nft(8)", net.nft.clone().unwrap_or("not installed".into()), "networks", Some(fix));
    if net.nft.is_some() && root {
        let found = if net.filter { "answers" } else { "doesn't answer" };
        say(
            Some(net.filter),
            "packet filter",
            found.into(),
            "networks",
            Some("modprobe nf_tables nft_chain_nat nft_masq nft_fib_inet"),
        );
    }
    let pool = crate::compile::network::pool(&net.used);
    let [alone, ..] = crate::compile::network::subnet(pool, None, 0);
    say(Some(true), "addresses for machines", format!("from {} on", alone.address), "network { private }", None);
    let found = if net.ipv6 { "on" } else { "switched off: machines have IPv4 only" };
    say(if net.ipv6 { Some(true) } else { None }, "IPv6", found.into(), "addresses of IPv6", None);
    let [v4, v6] = net.forwarding;
    let found = match (v4, v6) {
        (true, true) => "on already".to_owned(),
        _ => "off: switched on while a machine needs it, for machines only, and off again".to_owned(),
    };
    say(Some(true), "forwarding", found, "network { private }", None);
    for chain in &net.dropping {
        let fix = format!("nft add rule {chain} iifname \"ve-*\" accept; nft add rule {chain} oifname \"ve-*\" accept");
        let found = format!("`{chain}` drops what it doesn't know");
        say(Some(false), "other firewall", found, "published ports and outgoing connections", Some(&fix));
    }
    if net.older_filter {
        let fix = "iptables-legacy -S FORWARD; iptables-legacy -I FORWARD -i ve-+ -j ACCEPT, and the same with -o";
        let found = "a filter table of the older iptables, which may drop what is forwarded".to_owned();
        say(None, "other firewall", found, "published ports and outgoing connections", Some(fix));
    }
    let servers: Vec<String> = net.resolvers.iter().map(ToString::to_string).collect();
    let found = if servers.is_empty() { "none but on the host's loopback".to_owned() } else { servers.join(" ") };
    let ok = if servers.is_empty() { None } else { Some(true) };
    say(ok, "name servers", found, "resolver host, egress any", Some("list them in the policy: resolver 192.0.2.53"));
    if net.networkd {
        let found = "runs, and is told to leave machines' links alone".to_owned();
        say(Some(true), "systemd-networkd", found, "networks", None);
    }
    Ok(out)
}
