//! A machine as the config.json of an OCI bundle (runtime-spec 1.0, config.md and config-linux.md), made of
//! what this host would be told: ids, mounts and masks are those of a start here.

use super::docker::File;
use super::export::Exported;
use crate::compile::mounts::{Attributes, Shown, TreeStep};
use crate::compile::{Confinement, users};
use crate::policy::Policy;
use crate::policy::capabilities::names;
use crate::policy::files::RIGHTS;
use crate::policy::network::{Network, Port};
use crate::source::Sources;
use serde_json::{Value, json};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

/// Standard devices, made by every runtime (config-linux.md, "Default Devices").
const DEFAULT: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// The bundle's configuration; the error says why there can be none.
pub fn export(
    policy: &Policy,
    c: &Confinement,
    sources: &Sources,
    seccomp: &File,
    mut lost: Vec<String>,
) -> Result<Exported, String> {
    let hosts_network = policy.network.value == Network::Host;
    let (root, mounts, masked, read_only) = tree(c, hosts_network, &mut lost)?;
    if policy.network.value == Network::None {
        lost.push(format!("network: the loopback is up ({})", sources.cite(policy.network.span)));
    }
    // The runtime makes the namespace and nothing in it.
    if policy.network.value.is_filtered() {
        let line = sources.cite(policy.network.span);
        lost.push(format!(
            "network: no `{}`: the namespace is empty, for a hook or a plugin to fill ({line})",
            policy.network.value
        ));
    }
    if !policy.environment.iter().any(|v| v.name == "HOME") {
        lost.push("environment: the runtime sets HOME, by the image's /etc/passwd".into());
    }
    landlock(policy, c, sources, &mut lost);
    if c.ids.is_some() {
        lost.push("userns: the ids outside are those that are free now; nothing keeps them free".into());
    }
    if c.securebits != 0 {
        lost.push("securebits: root inside gets its capabilities back on exec, within the bounding set".into());
    }
    if !c.boots {
        lost.push("the program is PID 1: no init of ours reaps processes and passes signals on".into());
    }
    if c.outer_userns.is_some() {
        lost.push("an ordinary user's outer namespace: use the runtime's rootless mode".into());
    }
    let mut namespaces = vec!["pid", "ipc", "uts", "mount", "cgroup"];
    if c.ids.is_some() {
        namespaces.push("user");
    }
    if policy.network.value != Network::Host {
        namespaces.push("network");
    }
    let kinds: Vec<Value> = namespaces.iter().map(|n| json!({ "type": n })).collect();
    let words =
        |bits: u64| -> Vec<String> { names(bits).iter().map(|n| format!("CAP_{}", n.to_uppercase())).collect() };
    let sets = &c.capabilities.0;
    let who = &c.credentials.0;
    let limits: Vec<Value> =
        c.rlimits.iter().map(|l| json!({ "type": rlimit(&l.name), "soft": l.value, "hard": l.value })).collect();
    let mut linux = json!({
        "namespaces": kinds,
        "maskedPaths": masked,
        "readonlyPaths": read_only,
        // What the host mounts later isn't seen.
        "rootfsPropagation": "rprivate",
        "seccomp": seccomp,
    });
    let resources = resources(policy, sources, &mut lost);
    if let (Some(map), Some(object)) = (resources.as_object().filter(|m| !m.is_empty()), linux.as_object_mut()) {
        object.insert("resources".into(), json!(map));
    }
    if let (Some(m), Some(object)) = (&c.ids, linux.as_object_mut()) {
        object.insert("uidMappings".into(), maps(&m.users));
        object.insert("gidMappings".into(), maps(&m.groups));
    }
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": c.terminal.contains(&true),
            "user": { "uid": who.uid, "gid": who.gid, "additionalGids": who.groups, "umask": c.umask },
            "args": c.argv.0,
            "env": c.environment,
            "cwd": c.chdir.0,
            "capabilities": {
                "bounding": words(sets.bounding), "effective": words(sets.effective),
                "permitted": words(sets.permitted), "inheritable": words(sets.inheritable),
                "ambient": words(sets.ambient),
            },
            "rlimits": limits,
            "noNewPrivileges": c.no_new_privs.0,
        },
        "root": root,
        "hostname": c.hostname.0,
        "mounts": mounts,
        "linux": linux,
    });
    let text = serde_json::to_string_pretty(&config).map_err(|e| e.to_string())?;
    Ok(Exported { text: format!("{text}\n"), lost })
}

/// Limits of the whole container, and the devices that it may open (config-linux.md, "Control groups"): a runtime
/// refuses all but the standard ones.
fn resources(policy: &Policy, sources: &Sources, lost: &mut Vec<String>) -> Value {
    let mut out = serde_json::Map::new();
    for (name, limit) in policy.limits.iter().filter(|(n, l)| {
        crate::policy::resources::resource(n).is_none() && l.value != crate::policy::resources::UNLIMITED
    }) {
        match name.as_str() {
            "memory" => out.insert("memory".into(), json!({ "limit": limit.value })),
            "tasks" => out.insert("pids".into(), json!({ "limit": limit.value })),
            "cpu" => out.insert("cpu".into(), json!({ "quota": limit.value.saturating_mul(1000), "period": 100_000 })),
            _ => {
                let text = crate::policy::resources::text(name, limit.value);
                lost.push(format!("limits: {text}: isn't set ({})", sources.cite(limit.span)));
                None
            }
        };
    }
    let mut devices = Vec::new();
    for d in &policy.devices {
        match std::fs::metadata(&d.path) {
            Ok(m) if m.file_type().is_char_device() || m.file_type().is_block_device() => devices.push(json!({
                "allow": true,
                "type": if m.file_type().is_char_device() { "c" } else { "b" },
                "major": nix::sys::stat::major(m.rdev()),
                "minor": nix::sys::stat::minor(m.rdev()),
                "access": "rw",
            })),
            _ => lost.push(format!("devices: {} isn't there, and can't be opened ({})", d.path, sources.cite(d.span))),
        }
    }
    if !devices.is_empty() {
        out.insert("devices".into(), json!([vec![json!({ "allow": false, "access": "rwm" })], devices].concat()));
    }
    Value::Object(out)
}

fn maps(list: &[users::Range]) -> Value {
    list.iter().map(|r| json!({ "containerID": r.inside, "hostID": r.outside, "size": r.count })).collect()
}

/// The specification's name of a limit (getrlimit(2)).
fn rlimit(word: &str) -> String {
    let name = match word {
        "address-space" => "as",
        "cpu-time" => "cpu",
        other => other,
    };
    format!("RLIMIT_{}", name.to_uppercase())
}

fn options(a: &Attributes) -> Vec<&'static str> {
    let flags = [(a.read_only, "ro"), (a.nosuid, "nosuid"), (a.nodev, "nodev"), (a.noexec, "noexec")];
    flags.into_iter().filter(|(on, _)| *on).map(|(_, w)| w).collect()
}

type Tree = (Value, Vec<Value>, Vec<String>, Vec<String>);

fn tree(c: &Confinement, hosts_network: bool, lost: &mut Vec<String>) -> Result<Tree, String> {
    let (mut root, mut mounts, mut masked, mut read_only) = (None, Vec::new(), Vec::new(), Vec::new());
    let inside = |owner: u32| {
        let Some(ids) = &c.ids else { return owner };
        let there = ids.users.iter().find(|r| owner >= r.outside && owner - r.outside < r.count);
        there.map_or(0, |r| owner - r.outside + r.inside)
    };
    for (step, origin) in &c.tree {
        let TreeStep::Mount { target, shown, attributes } = step else {
            if let TreeStep::File { path, content, .. } = step
                && !content.is_empty()
            {
                lost.push(format!("the file {path} isn't written ({origin})"));
            }
            continue;
        };
        let mut list: Vec<String> = options(attributes).iter().map(|o| (*o).to_owned()).collect();
        let mut push = |kind: &str, source: &str, list: Vec<String>| {
            mounts.push(json!({ "destination": target, "type": kind, "source": source, "options": list }));
        };
        let translated = |lost: &mut Vec<String>| {
            lost.push(format!("{target}: owners aren't translated into the machine's ids ({origin})"));
        };
        match shown {
            Shown::Bind { from, idmap, .. } | Shown::Overlay { lower: from, idmap, .. } if target == "/" => {
                let overlay = matches!(shown, Shown::Overlay { .. });
                if overlay {
                    lost.push(format!("/: there is no layer for writes, so it is read-only ({origin})"));
                }
                if *idmap {
                    translated(lost);
                }
                lost.push(format!(
                    "/: what the host mounts below {} is shown as well, with its own flags ({origin})",
                    from.path
                ));
                for o in list.iter().filter(|o| *o != "ro") {
                    lost.push(format!("/: {o} isn't set ({origin})"));
                }
                root = Some(json!({ "path": from.path, "readonly": overlay || attributes.read_only }));
            }
            Shown::Bind { .. } if DEFAULT.contains(&target.as_str()) => {}
            Shown::Bind { from, idmap, recursive } => {
                list.extend([if *recursive { "rbind" } else { "bind" }.into(), "rprivate".into()]);
                // What the host mounts below is bound as well, and without these keeps its own flags.
                if *recursive {
                    list.extend(options(attributes).iter().map(|o| format!("r{o}")));
                }
                if *idmap {
                    translated(lost);
                }
                push("bind", &from.path, list);
            }
            Shown::Text { .. } | Shown::ZoneNames { .. } => {
                lost.push(format!("{target}: the file isn't written ({origin})"));
            }
            Shown::Overlay { .. } => return Err(format!("{target}: an overlay has no place in a bundle ({origin})")),
            Shown::Tmpfs { .. } if target == "/" => {
                return Err(format!("/: a bundle needs a folder as its root: `root dir \"...\"` ({origin})"));
            }
            Shown::Tmpfs { size, mode, owner } => {
                // The runtime fills /dev itself, and seals it where it is read-only.
                if target == "/dev" && !list.iter().any(|o| o == "ro") {
                    list.insert(0, "ro".into());
                }
                // Where no user namespace keeps it from that, it makes the nodes there and opens them.
                if target == "/dev" && c.ids.is_none() {
                    list.retain(|o| o != "nodev");
                }
                let own = [format!("size={size}"), format!("mode={mode:o}"), format!("uid={}", inside(*owner))];
                list.extend(own);
                push("tmpfs", "tmpfs", list);
            }
            Shown::Proc => push("proc", "proc", list),
            // Who doesn't own the network namespace mounts none (sysfs_init_fs_context in fs/sysfs/mount.c).
            Shown::Sysfs if hosts_network && c.ids.is_some() => {
                let recursive: Vec<String> = list.iter().map(|o| format!("r{o}")).collect();
                list.extend(["rbind".into(), "rprivate".into()].into_iter().chain(recursive));
                lost.push(format!("{target}: it is the host's own, with all that is mounted in it ({origin})"));
                push("bind", "/sys", list);
            }
            Shown::Sysfs => push("sysfs", "sysfs", list),
            Shown::Devpts { .. } => {
                list.extend(["newinstance", "ptmxmode=0666", "mode=0620"].map(str::to_owned));
                push("devpts", "devpts", list);
            }
            Shown::Mqueue => push("mqueue", "mqueue", list),
            Shown::Cgroup2 => push("cgroup", "cgroup", list),
            Shown::Again => read_only.push(target.clone()),
            Shown::Mask { hidden } => {
                masked.push(target.clone());
                if *hidden {
                    lost.push(format!("{target}: it is empty there, here nobody can open it ({origin})"));
                }
            }
            Shown::Console { .. } => {}
        }
    }
    let root = root.ok_or("the machine has no root that a bundle could name")?;
    Ok((root, mounts, masked, read_only))
}

/// What only Landlock enforces, line by line.
pub(super) fn landlock(policy: &Policy, c: &Confinement, sources: &Sources, lost: &mut Vec<String>) {
    if c.landlock.as_ref().is_some_and(|(l, _)| l.scoped != 0) {
        let network = if policy.network.value == Network::Host { " and abstract Unix sockets" } else { "" };
        lost.push(format!("signals{network} aren't held back by Landlock's scopes, only by the namespaces"));
    }
    for r in &policy.files {
        let word = RIGHTS.iter().find(|(_, right)| *right == r.right).map_or("?", |(w, _)| w);
        lost.push(format!("files: {word} \"{}\" bounds nothing ({})", r.path, sources.cite(r.span)));
    }
    for p in &policy.ports {
        for peer in p.each_peer() {
            let text = Port::text(p.how, p.protocol, p.port, peer);
            lost.push(format!("network: {text} bounds nothing ({})", sources.cite(p.span)));
        }
    }
    for p in &policy.publishes {
        lost.push(format!("network: {p} isn't set up ({})", sources.cite(p.span)));
    }
    if policy.ports.is_empty() {
        lost.push("network: TCP ports that aren't written aren't denied by Landlock".into());
    }
}
