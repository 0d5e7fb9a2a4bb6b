//! The plan as a person reads it: numbered steps, who performs them, and why.

use super::step::{Action, INSIDE, Interface, Landlock, Lane, LinkKind, Plan};
use crate::compile::mounts::{Attributes, Shown, TreeStep};
use crate::compile::users::Range;
use crate::policy::capabilities::names;
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan for machine `{}`, {} steps", self.machine, self.steps.len())?;
        let texts: Vec<String> = self.steps.iter().map(|s| plain(&s.action.to_string())).collect();
        let width = texts.iter().map(|t| t.chars().count()).filter(|w| *w <= 90).max().unwrap_or(0);
        for (i, (step, text)) in self.steps.iter().zip(&texts).enumerate() {
            writeln!(f, "{:4}  {:<7}  {text:<width$}  {}", i + 1, step.lane.to_string(), step.origin)?;
        }
        Ok(())
    }
}

/// Text of images and paths can't move the cursor or begin a line of its own.
fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lane::Host => "host",
            Lane::Builder => "builder",
            Lane::Init => "init",
            Lane::Program => "program",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::LockMachine(o) => {
                f.write_str("lock the name")?;
                let tables = o.tables.iter().map(|(family, name)| format!("table {family} {name}"));
                let tables = tables.chain(o.link.iter().map(|l| format!("link {l}")));
                let zone = o.zone.iter().map(|z| format!("zone {z}"));
                let addresses = o.addresses.iter().map(ToString::to_string);
                let list: Vec<String> = o.cgroups.iter().cloned().chain(tables).chain(zone).chain(addresses).collect();
                if list.is_empty() { Ok(()) } else { write!(f, ", note {}", list.join(" ")) }
            }
            Action::ReserveIds(r) => write!(f, "reserve ids {}", ranges(r)),
            Action::CreateCgroup(g) => {
                write!(f, "make cgroup {}", g.path)?;
                if !g.controllers.is_empty() {
                    write!(f, " with {}", g.controllers.join(" "))?;
                }
                g.owner.map_or(Ok(()), |uid| write!(f, ", its program's part for uid {uid}"))
            }
            Action::SetLimit(l) => write!(f, "limit {}: {} > {}", l.name, l.value, l.path),
            Action::Deadline { seconds } => write!(f, "end the machine after {seconds} s"),
            Action::Watch(list) => write!(f, "watch {} counts of limits that are met", list.len()),
            Action::ReserveSubnet { .. }
            | Action::JoinZone { .. }
            | Action::HoldPorts(_)
            | Action::Forward { .. }
            | Action::LoadTable(_)
            | Action::LoadInnerTable(_)
            | Action::TellNetworkd { .. }
            | Action::ForgetConnections { .. }
            | Action::CreateLink { .. }
            | Action::ConfigureOutside { .. }
            | Action::ConfigureInside { .. } => network(f, self),
            Action::CloneBuilder { outer: None } => f.write_str("clone the builder: new mount namespace"),
            Action::CloneBuilder { outer: Some((u, g)) } => {
                write!(f, "clone the builder: new mount and user namespace, id 0 is uid {u} gid {g}")
            }
            Action::ResetInherited => {
                f.write_str("reset signals, nice, affinity, personality, umask, OOM score, working directory")
            }
            Action::MakePropagationPrivate => f.write_str("make propagation private"),
            Action::CloneInit { namespaces, owner: None } => write!(f, "clone init: new {}", flags(*namespaces)),
            Action::CloneInit { namespaces, owner: Some(uid) } => {
                write!(f, "clone init for uid {uid}: new {}", flags(*namespaces))
            }
            Action::WriteIdMaps { users, groups, setgroups } => {
                let allow = if *setgroups { "allow" } else { "deny" };
                write!(f, "map uids {}, gids {}, setgroups {allow}", ranges(users), ranges(groups))
            }
            Action::BecomeRoot => f.write_str("become id 0 inside"),
            Action::NewKeyring => f.write_str("new session keyring"),
            Action::DieWithSupervisor => f.write_str("die with the supervisor"),
            Action::EnterCgroup { paths } => write!(f, "enter cgroup {}", paths.join(" ")),
            Action::UnshareCgroup => f.write_str("unshare the cgroup namespace"),
            Action::ForkProgram { own_pids: false } => f.write_str("fork the program"),
            Action::ForkProgram { own_pids: true } => f.write_str("fork the program: new pid namespace"),
            Action::ConfineInit => f.write_str("drop every capability of init but kill"),
            Action::LeaveCgroup { path } => write!(f, "move init to cgroup {path}"),
            Action::JoinProgram { namespaces } => write!(f, "join the machine's {}", flags(*namespaces)),
            Action::OpenStaging { size } => write!(f, "open a staging place of {}", bytes(*size)),
            Action::Tree(t) => t.fmt(f),
            Action::PivotRoot => f.write_str("pivot to the new root"),
            Action::DetachOldRoot => f.write_str("detach the host's tree"),
            Action::UnshareMounts => f.write_str("unshare the mount namespace: all mounts are locked"),
            Action::SetHostname(n) => write!(f, "hostname {n}"),
            Action::Terminal { streams: [false, false, false] } => f.write_str("new session, no terminal"),
            Action::Terminal { streams } => {
                let names = ["stdin", "stdout", "stderr"];
                let on: Vec<&str> = names.iter().zip(streams).filter(|(_, s)| **s).map(|(n, _)| *n).collect();
                write!(f, "new session, own terminal on {}", on.join(" "))
            }
            Action::SetRlimit(l) if l.value == u64::MAX => write!(f, "rlimit {} unlimited", l.name),
            Action::SetRlimit(l) => write!(f, "rlimit {} {}", l.name, l.value),
            Action::SetUmask(m) => write!(f, "default signals, umask {m:03o}"),
            Action::ChangeDirectory(d) => write!(f, "working directory {d}"),
            Action::DropBounding { keep, .. } => write!(f, "bounding set: {}", set(*keep)),
            Action::SetCredentials { who, .. } => {
                write!(f, "uid {} gid {} groups {:?}", who.uid, who.gid, who.groups)
            }
            Action::SetCapabilities { sets, securebits, .. } => write!(
                f,
                "permitted and effective: {}; inheritable: {}; ambient: {}; securebits {securebits:#x}",
                set(sets.permitted),
                set(sets.inheritable),
                set(sets.ambient)
            ),
            Action::SetNoNewPrivs => f.write_str("no_new_privs"),
            Action::RestrictLandlock(l) => landlock(f, l),
            Action::CloseDescriptors => f.write_str("close every descriptor but 0, 1, 2 at exec"),
            Action::ReadBack => f.write_str("read the confinement back and compare"),
            Action::CommitState(_) => f.write_str("commit the state"),
            Action::LoadSeccomp(p) => {
                let sha = p.sha256();
                write!(f, "seccomp filter, {} instructions, sha256 {}", p.0.len(), sha.get(..16).unwrap_or(&sha))
            }
            Action::Exec { argv, .. } => {
                let words: Vec<String> = argv.iter().map(|a| crate::syntax::print::quote(a)).collect();
                write!(f, "exec {}", words.join(" "))
            }
        }
    }
}

fn network(f: &mut fmt::Formatter<'_>, a: &Action) -> fmt::Result {
    let list = |l: &[Interface]| {
        let one = |i: &Interface| {
            let gateway = i.gateway.map_or(String::new(), |g| format!(" by {g}"));
            format!("{}/{}{gateway}", i.address, i.prefix)
        };
        l.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    match a {
        Action::ReserveSubnet { zone: None, number } => write!(f, "reserve subnet {number}"),
        Action::ReserveSubnet { zone: Some(z), number } => {
            write!(f, "reserve subnet {number} of zone {}, the zone number {}", z.name, z.number)
        }
        Action::JoinZone { zone, addresses } => {
            let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            write!(f, "join zone {} as {}", zone.name, all.join(", "))
        }
        Action::HoldPorts(h) => {
            let all: Vec<String> = h.addresses.iter().map(ToString::to_string).collect();
            let (first, last) = h.ports;
            let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
            write!(f, "hold {} {ports} of {}", h.protocol, all.join(" and "))
        }
        Action::Forward { v4, v6 } => {
            let names = [(*v4, "IPv4"), (*v6, "IPv6")];
            let on: Vec<&str> = names.into_iter().filter(|(on, _)| *on).map(|(_, n)| n).collect();
            write!(f, "let {} be forwarded; where it wasn't, for machines only", on.join(" and "))
        }
        Action::ForgetConnections { addresses } => {
            let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            write!(f, "forget connections of {}", all.join(", "))
        }
        Action::TellNetworkd { path, .. } => write!(f, "tell systemd-networkd by {path} to leave the link alone"),
        Action::LoadTable(t) => write!(f, "load table {} {}: {} rules", t.family, t.name, t.len()),
        Action::LoadInnerTable(t) => {
            write!(f, "load table {} {} into the machine's network: {} rules", t.family, t.name, t.len())
        }
        Action::CreateLink { kind, mac } => {
            let mac: Vec<String> = mac.iter().map(|b| format!("{b:02x}")).collect();
            match kind {
                LinkKind::Veth { outside, bridge: None } => {
                    write!(f, "make veth {outside} - {INSIDE} {}", mac.join(":"))
                }
                LinkKind::Veth { outside, bridge: Some(b) } => {
                    write!(f, "make veth {outside}, a port of {b}, - {INSIDE} {}", mac.join(":"))
                }
                LinkKind::Macvlan { lower } => write!(f, "make macvlan {INSIDE} {} of {lower}", mac.join(":")),
                LinkKind::Ipvlan { lower } => write!(f, "make ipvlan {INSIDE} of {lower}"),
            }
        }
        Action::ConfigureOutside { link, addresses } if addresses.is_empty() => write!(f, "set {link} up"),
        Action::ConfigureOutside { link, addresses } => write!(f, "set {link} up with {}", list(addresses)),
        Action::ConfigureInside { accepts_configuration: true, .. } => {
            write!(f, "set lo up; {INSIDE} is left to the machine")
        }
        Action::ConfigureInside { addresses, link_local, .. } => {
            write!(f, "set lo and {INSIDE} up with {}", list(addresses))?;
            if *link_local { Ok(()) } else { f.write_str(", no link-local address") }
        }
        _ => Ok(()),
    }
}

/// What was asked for and what this kernel does of it, side by side.
fn landlock(f: &mut fmt::Formatter<'_>, l: &Landlock) -> fmt::Result {
    let [files, network, scopes] = l.requested;
    write!(f, "landlock ABI {}, effective of requested: ", l.abi)?;
    match files {
        0 => write!(f, "no file rules")?,
        _ => write!(f, "files {:#x} of {files:#x} with {} path rules", l.handled_files, l.paths.len())?,
    }
    match network {
        0 => write!(f, ", any tcp port")?,
        _ => write!(f, ", tcp {:#x} of {network:#x} with {} port rules", l.handled_network, l.ports.len())?,
    }
    write!(f, ", scopes {:#x} of {scopes:#x}", l.scoped)?;
    if l.beyond.is_empty() { Ok(()) } else { write!(f, "; not in this kernel: {}", l.beyond.join(", ")) }
}

impl fmt::Display for TreeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TreeStep::Mount { target, shown, attributes } => {
                let what = match shown {
                    Shown::Bind { from, idmap, recursive } => {
                        format!(
                            "bind {} ({}:{}){}{} ->",
                            from.path,
                            from.device,
                            from.inode,
                            if *idmap { " idmapped" } else { "" },
                            if *recursive { " recursive" } else { "" }
                        )
                    }
                    Shown::Overlay { lower, idmap, size } => {
                        format!(
                            "overlay {} ({}:{}){} size {} ->",
                            lower.path,
                            lower.device,
                            lower.inode,
                            if *idmap { " idmapped" } else { "" },
                            bytes(*size)
                        )
                    }
                    Shown::Tmpfs { size, mode, owner } => {
                        format!("tmpfs size {} mode {mode:o} owner {owner}", bytes(*size))
                    }
                    Shown::Proc => "proc".into(),
                    Shown::Sysfs => "sysfs".into(),
                    Shown::Devpts { .. } => "devpts".into(),
                    Shown::Mqueue => "mqueue".into(),
                    Shown::Cgroup2 => "cgroup2".into(),
                    Shown::Again => "bind itself".into(),
                    Shown::Text { content, .. } => format!("file of {} bytes ->", content.len()),
                    Shown::ZoneNames { zone } => format!("names of zone {zone} ->"),
                    Shown::Mask { hidden: false } => "mask".into(),
                    Shown::Mask { hidden: true } => "hide".into(),
                    Shown::Console { .. } => "the machine's terminal".into(),
                };
                write!(f, "mount {what} {target} {attributes}")
            }
            TreeStep::Directory { path, mode, owner } => write!(f, "folder {path} mode {mode:o} owner {owner}"),
            TreeStep::Link { path, text } => write!(f, "link {path} -> {text}"),
            TreeStep::File { path, content, .. } => write!(f, "file {path} ({} bytes)", content.len()),
            TreeStep::Seal { target } => write!(f, "make {target} read-only"),
        }
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.read_only { "ro" } else { "rw" })?;
        for (on, word) in [(self.nosuid, "nosuid"), (self.nodev, "nodev"), (self.noexec, "noexec")] {
            if on {
                write!(f, ",{word}")?;
            }
        }
        Ok(())
    }
}

fn ranges(list: &[Range]) -> String {
    let texts: Vec<String> = list.iter().map(|r| format!("{}->{} count {}", r.inside, r.outside, r.count)).collect();
    texts.join(", ")
}

fn set(bits: u64) -> String {
    if bits == 0 { "empty".into() } else { names(bits).join(" ") }
}

fn bytes(n: u64) -> String {
    match n {
        n if n >= 1 << 30 && n.is_multiple_of(1 << 30) => format!("{}GiB", n >> 30),
        n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => format!("{}MiB", n >> 20),
        n if n >= 1 << 10 && n.is_multiple_of(1 << 10) => format!("{}KiB", n >> 10),
        n => format!("{n}B"),
    }
}

/// Names of CLONE_NEW* flags (namespaces(7)).
fn flags(bits: u64) -> String {
    let all = [
        (0x1000_0000u64, "user"),
        (0x2_0000, "mount"),
        (0x2000_0000, "pid"),
        (0x800_0000, "ipc"),
        (0x400_0000, "uts"),
        (0x4000_0000, "network"),
        (0x200_0000, "cgroup"),
    ];
    let names: Vec<&str> = all.iter().filter(|(b, _)| bits & b != 0).map(|(_, n)| *n).collect();
    format!("{} namespace{}", names.join(", "), if names.len() == 1 { "" } else { "s" })
}
