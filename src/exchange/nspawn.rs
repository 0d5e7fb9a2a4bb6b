//! Machines made of .nspawn files (systemd.nspawn(5), systemd 252). Each key is honoured, said to hold anyway,
//! or an error: none is skipped.

use super::import::{Imported, names, one_statement, resolved, settle};
use super::ini::{self, Limits, Line, block, boolean, path};
use super::profile::{Compare, Entry, Op, Profile};
use super::systemd_groups::{expand, nspawn};
use super::unit_calls::nameless_note;
use crate::compile::libseccomp;
use crate::kernel::calls;
use crate::policy::capabilities;
use crate::policy::syscalls::Action;
use crate::syntax::print::quote;

/// Capabilities that systemd-nspawn leaves a machine (systemd-nspawn(1), --capability=).
const KEPT: &[&str] = &[
    "audit_control",
    "audit_write",
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "ipc_owner",
    "kill",
    "lease",
    "linux_immutable",
    "mknod",
    "net_bind_service",
    "net_broadcast",
    "net_raw",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_admin",
    "sys_boot",
    "sys_chroot",
    "sys_nice",
    "sys_ptrace",
    "sys_resource",
    "sys_tty_config",
];

/// What the keys add up to.
#[derive(Default)]
struct Machine {
    boot: bool,
    ephemeral: bool,
    volatile: Option<String>,
    read_only: bool,
    arguments: Vec<String>,
    user: Option<String>,
    top: Vec<String>,
    environment: Vec<String>,
    mounts: Vec<String>,
    /// Binds, and whether owners are translated there.
    binds: Vec<(String, bool)>,
    /// Ids inside aren't the host's there: root inside is a stranger to the host's files.
    foreign: bool,
    network: Vec<String>,
    /// `Private=` and `VirtualEthernet=`: what is written last holds.
    alone: bool,
    ethernet: bool,
    hostname: Option<String>,
    /// A range that is written: owners are translated only where the file says so.
    fixed: Option<String>,
    /// A free range is taken, and the tree shifted to it.
    picks: bool,
    /// Owners are translated, where the file says so or not.
    owned: Option<bool>,
    limits: Limits,
    added: Vec<String>,
    dropped: Vec<String>,
    allowed: Vec<&'static str>,
    refused: Vec<&'static str>,
    notes: Vec<String>,
}

/// Calls of the default list that hang on a capability.
const BY_CAPABILITY: &[(&str, &str)] = &[
    ("sys_boot", "reboot"),
    ("sys_ptrace", "process_vm_readv"),
    ("sys_ptrace", "process_vm_writev"),
    ("sys_ptrace", "ptrace"),
    ("sys_tty_config", "vhangup"),
];

/// Imports a file as a machine over the folder `root`.
pub fn import(name: &str, root: &str, text: &str) -> Result<Imported, String> {
    let mut m = Machine::default();
    // Only these take an empty value as none (nspawn-settings.c, config_parse_strv and config_parse_string).
    let resets = |l: &Line| ["Environment", "Parameters", "User", "WorkingDirectory"].contains(&l.key.as_str());
    ini::each(text, resets, |line| m.key(line))?;
    // Only `pick` shifts owners by itself (nspawn-settings.c, settings_load).
    if m.foreign && !m.owned.unwrap_or(m.picks) {
        return Err(
            "PrivateUsersOwnership=off, which every PrivateUsers= but `pick` means as well: files are root's here \
                    that were nobody's there; write `map`, over a tree whose owners aren't shifted"
                .into(),
        );
    }
    // What a capability decides goes with it (nspawn-seccomp.c, add_syscall_filters).
    let kept = |call: &&str| !BY_CAPABILITY.iter().any(|(cap, c)| c == call && m.dropped.iter().any(|d| d == cap));
    m.allowed.extend(nspawn().filter(kept).collect::<Vec<_>>());
    let nameless: Vec<&str> = m.allowed.iter().copied().filter(|n| !libseccomp::knows(n)).collect();
    m.allowed.retain(|n| !nameless.contains(n));
    m.notes.extend(nameless_note(&nameless));
    let mut source = names(m.allowed.iter().copied().filter(|c| !m.refused.contains(c)));
    if let Some(call) = calls::find("socket").filter(|_| !m.refused.contains(&"socket")) {
        // All but AF_NETLINK with NETLINK_AUDIT.
        for (index, value) in [(0, 16), (2, 9)] {
            let compares = vec![Compare { index, op: Op::Ne, value, two: 0 }];
            source.entries.push(Entry { call, action: Action::Allow, compares });
        }
    }
    let base = m.text(name, root)?;
    let before = resolved(&base)?;
    let mut kept: Vec<String> = KEPT.iter().map(|c| (*c).to_owned()).chain(m.added.iter().cloned()).collect();
    if m.private() {
        kept.push("net_admin".into());
    }
    kept.retain(|c| !m.dropped.contains(c));
    let mut excess: Vec<String> = before.capabilities.iter().map(|g| capabilities::name(g.capability)).collect();
    excess.retain(|c| !kept.contains(c));
    excess.dedup();
    if !excess.is_empty() {
        // A machine says so when it has none.
        let all = before.capabilities.iter().all(|g| excess.contains(&capabilities::name(g.capability)));
        let none = if all { "; none" } else { "" };
        m.top.push(format!("capabilities {{ remove [{}]{none} }}", excess.join(", ")));
    }
    let text = settle(&m.text(name, root)?, &[&source], &mut m.notes)?;
    let mut differences = m.differences(&source);
    differences.push("every ABI runs there, i386 and x32 as well; here a foreign one kills the process".into());
    Ok(Imported { text, differences, notes: m.notes })
}

/// The lines of a file that systemd-nspawn leaves out when the file lies beside its image, which may have brought it along
/// (systemd.nspawn(5), ".nspawn File Discovery"; nspawn.c, merge_settings).
pub fn untrusted(text: &str) -> Result<(), String> {
    const KEYS: [(&str, &[&str]); 3] = [
        ("Exec", &["Capability", "AmbientCapability", "PrivateUsers", "OOMScoreAdjust", "CPUAffinity"]),
        (
            "Files",
            &["Bind", "BindReadOnly", "BindUser", "TemporaryFileSystem", "Inaccessible", "Overlay", "OverlayReadOnly"],
        ),
        (
            "Network",
            &[
                "Private",
                "VirtualEthernet",
                "VirtualEthernetExtra",
                "Interface",
                "MACVLAN",
                "IPVLAN",
                "Bridge",
                "Zone",
                "Port",
            ],
        ),
    ];
    ini::each(
        text,
        |_| true,
        |line| match KEYS.iter().any(|(section, keys)| *section == line.section && keys.contains(&line.key.as_str())) {
            true => Err("has no effect in a file beside the image: move it to /etc/systemd/nspawn".into()),
            false => Ok(()),
        },
    )
}

impl Machine {
    fn key(&mut self, line: &Line) -> Result<(), String> {
        if !["Exec", "Files", "Network"].contains(&line.section.as_str()) {
            return Err(format!("unknown section [{}]", line.section));
        }
        if line.key.starts_with("Limit") && line.section != "Exec" {
            return Err(format!("unknown key of [{}]", line.section));
        }
        if self.limits.take(line, &mut self.notes)? {
            return Ok(());
        }
        match line.section.as_str() {
            "Exec" => self.exec(line),
            "Files" => self.files(line),
            _ => self.network(line),
        }
    }

    fn note(&mut self, line: &Line, text: &str) {
        self.notes.push(format!("line {}: {}={}: {text}", line.number, line.key, line.value));
    }

    fn exec(&mut self, line: &Line) -> Result<(), String> {
        let value = line.value.as_str();
        match line.key.as_str() {
            "Boot" => self.boot = boolean(value)?,
            "Ephemeral" => self.ephemeral = boolean(value)?,
            "ProcessTwo" if boolean(value)? => self.note(line, "an init of our own is PID 1 in any case"),
            "ProcessTwo" => {}
            "Parameters" => self.arguments.extend(ini::unquoted(value)?),
            "Environment" => self.environment.extend(ini::variables(&ini::unquoted(value)?)?),
            "User" => self.user = Some(ini::word(value)?.to_owned()),
            "WorkingDirectory" => self.top.push(format!("chdir {}", path(value)?)),
            "Capability" => self.added.extend(ini::capabilities(value)?),
            "DropCapability" if value == "all" => self.dropped = capabilities::names(capabilities::known()),
            "DropCapability" => self.dropped.extend(ini::capabilities(value)?),
            "AmbientCapability" => return Err("a booted system hands out its own; write `capabilities` by hand".into()),
            "NoNewPrivileges" if boolean(value)? => {}
            "NoNewPrivileges" => self.note(line, "it stays on: set-user-ID programs gain nothing"),
            "Personality" if value == "x86-64" || value == "native" => {}
            "Personality" => return Err(format!("`{value}`: calls of a foreign ABI kill the process")),
            "PrivateUsers" => self.users(line)?,
            "Hostname" => self.hostname = Some(format!("hostname {}", ini::word(value)?)),
            "SystemCallFilter" => self.filter(value)?,
            "KillSignal" | "NotifyReady" | "SuppressSync" | "OOMScoreAdjust" => {
                self.note(line, "not a matter of confinement here; left out");
            }
            "ResolvConf" | "Timezone" | "LinkJournal" | "MachineID" => {
                self.note(line, "nothing of the host's is shown unless `mounts` says so; left out");
            }
            "PivotRoot" | "CPUAffinity" => return Err("it has no counterpart".into()),
            _ => return Err("unknown key of [Exec]".into()),
        }
        Ok(())
    }

    fn users(&mut self, line: &Line) -> Result<(), String> {
        (self.foreign, self.fixed, self.picks) = (true, None, false);
        match line.value.as_str() {
            "pick" => self.picks = true,
            "yes" | "on" | "true" | "1" => {
                self.note(line, "a free range of ids of its own, files translated: never the host's ids");
            }
            "identity" | "no" | "off" | "false" | "0" => {
                self.foreign = false;
                self.note(line, "a free range of ids of its own, files translated: never the host's ids");
            }
            value => {
                let (base, count) = value.split_once(':').unwrap_or((value, "65536"));
                let number = |t: &str| {
                    ini::whole(t)
                        .ok()
                        .and_then(|n| u32::try_from(n).ok())
                        .ok_or(format!("`{value}` is no range of ids"))
                };
                self.fixed = Some(format!("userns map 0 -> {} count {}", number(base)?, number(count)?));
            }
        }
        Ok(())
    }

    fn filter(&mut self, value: &str) -> Result<(), String> {
        let (deny, list) = match value.strip_prefix('~') {
            Some(rest) => (true, rest),
            None => (false, value),
        };
        for item in ini::items(list)? {
            let calls = match item.starts_with('@') {
                true => expand(&item).ok_or(format!("unknown group `{item}`"))?,
                false => match calls::find(&item) {
                    Some(c) => vec![c.name],
                    None => {
                        ini::word(&item)?;
                        self.notes.push(format!("neither x86-64 nor aarch64 has the call `{item}`"));
                        continue;
                    }
                },
            };
            let list = if deny { &mut self.refused } else { &mut self.allowed };
            list.extend(calls);
        }
        Ok(())
    }

    fn files(&mut self, line: &Line) -> Result<(), String> {
        let value = line.value.as_str();
        match line.key.as_str() {
            "ReadOnly" => self.read_only = boolean(value)?,
            "Volatile" => match value {
                "state" | "overlay" => self.volatile = Some(value.to_owned()),
                _ => self.volatile = boolean(value)?.then(|| "yes".to_owned()),
            },
            "Bind" | "BindReadOnly" => {
                let parts: Vec<&str> = value.split(':').collect();
                let (from, to, options) = match parts.as_slice() {
                    [one] => (*one, *one, ""),
                    [from, to] => (*from, *to, ""),
                    [from, to, options] => (*from, *to, *options),
                    _ => return Err(format!("`{value}` has too many colons")),
                };
                let mut idmap = false;
                for o in options.split(',').filter(|o| !o.is_empty()) {
                    match o {
                        "rbind" => {}
                        "idmap" => idmap = true,
                        "noidmap" | "rootidmap" => idmap = false,
                        "norbind" => return Err("what is mounted below comes along".into()),
                        _ => return Err(format!("unknown option `{o}`")),
                    }
                }
                if from.starts_with(['-', '+']) || from.is_empty() {
                    return Err(format!("`{from}`: write a path of the host that exists"));
                }
                let access = if line.key == "Bind" { "rw" } else { "ro" };
                self.binds.push((format!("bind {} -> {} {access}", path(from)?, path(to)?), idmap));
            }
            "TemporaryFileSystem" => self.mounts.push(ini::tmpfs(value)?),
            "Inaccessible" => self.mounts.push(format!("hide {}", path(value.trim_start_matches('-'))?)),
            "PrivateUsersOwnership" | "PrivateUsersChown" => {
                self.owned = Some(match (line.key.as_str(), value) {
                    ("PrivateUsersChown", _) => boolean(value)?,
                    (_, "off") => false,
                    (_, "chown" | "map" | "auto") => true,
                    _ => return Err(format!("`{value}` is none of off, chown, map and auto: it is left out there")),
                });
                self.note(line, "owners are translated, no file is changed");
            }
            "Overlay" | "OverlayReadOnly" | "BindUser" => return Err("it has no counterpart".into()),
            _ => return Err("unknown key of [Files]".into()),
        }
        Ok(())
    }

    fn network(&mut self, line: &Line) -> Result<(), String> {
        let value = line.value.as_str();
        let mut say = |text: String| self.network.push(text);
        match line.key.as_str() {
            "Private" => self.alone = boolean(value)?,
            "VirtualEthernet" => self.ethernet = boolean(value)?,
            "Bridge" => say(format!("bridge {}", ini::word(value)?)),
            "Zone" => say(format!("zone {}", ini::word(value)?)),
            "MACVLAN" => say(format!("macvlan {}", ini::word(value)?)),
            "IPVLAN" => say(format!("ipvlan {}", ini::word(value)?)),
            "Port" => {
                let parts: Vec<&str> = value.split(':').collect();
                let (protocol, out, inside) = match parts.as_slice() {
                    [p] => ("tcp", *p, *p),
                    [protocol @ ("tcp" | "udp"), p] => (*protocol, *p, *p),
                    [out, inside] => ("tcp", *out, *inside),
                    [protocol @ ("tcp" | "udp"), out, inside] => (*protocol, *out, *inside),
                    _ => return Err(format!("`{value}` is no port")),
                };
                let number =
                    |t: &str| ini::whole(t).ok().and_then(|n| u16::try_from(n).ok()).ok_or(format!("`{t}` is no port"));
                self.network.push(format!("publish {protocol} {} -> {}", number(out)?, number(inside)?));
            }
            "VirtualEthernetExtra" | "Interface" => return Err("it has no counterpart".into()),
            _ => return Err("unknown key of [Network]".into()),
        }
        Ok(())
    }

    /// Is it on a network that is named?
    fn is_linked(&self) -> bool {
        let kinds = ["bridge ", "zone ", "macvlan ", "ipvlan "];
        self.network.iter().any(|l| kinds.iter().any(|k| l.starts_with(k)))
    }

    /// Has it a network of its own there? Each link gives it one (systemd.nspawn(5), Private=).
    fn private(&self) -> bool {
        self.alone || self.ethernet || self.is_linked()
    }

    fn text(&self, name: &str, root: &str) -> Result<String, String> {
        let mut out = String::from("policy 1\nkernel 6.12\nimport \"std/os\"\n");
        if !self.boot {
            out.push_str("import \"std/daemon\"\n");
        }
        out.push_str(&format!("\n# Made of a .nspawn file.\nmachine {name} {{\n"));
        let access = match (self.volatile.as_deref(), self.ephemeral, self.read_only) {
            (Some("yes"), ..) => "volatile",
            (Some("overlay"), ..) | (None, true, false) => "ephemeral",
            (Some(_), ..) | (None, _, true) => "ro",
            (None, false, false) => "rw",
        };
        let mut lines = Vec::new();
        if self.boot {
            if !self.arguments.is_empty() || self.user.is_some() {
                return Err("Parameters= and User= don't go with Boot=yes here: a booted init gets neither".into());
            }
            lines.push("extends std/os".to_owned());
        } else {
            let argv: Vec<String> = self.arguments.iter().map(|a| quote(a)).collect();
            if argv.is_empty() {
                return Err("neither Boot=yes nor Parameters=: there is nothing to run".into());
            }
            lines.push("extends std/net-server".into());
            lines.push(format!("exec {}", argv.join(" ")));
            lines.push(format!("user {}", self.user.as_deref().unwrap_or("root")));
            if self.added.is_empty() {
                lines.push("capabilities { none }".into());
            }
        }
        lines.push(format!("root dir {} {access}", quote(root)));
        // A profile of a booted system says `userns auto`.
        lines.extend(self.fixed.iter().map(|u| {
            if self.boot { format!("override {u} why \"PrivateUsers= of the .nspawn file\"") } else { u.clone() }
        }));
        lines.extend(self.hostname.iter().chain(&self.top).cloned());
        for c in self.added.iter().filter(|c| !self.dropped.contains(c)) {
            lines.push(format!("capabilities {{ bounding {c} why \"Capability= of the .nspawn file\" }}"));
        }
        let mut mounts: Vec<String> = Vec::new();
        if self.volatile.as_deref() == Some("state") {
            mounts.push("tmpfs \"/var\" mode=0755".into());
        }
        mounts.extend(self.binds.iter().map(|(line, idmap)| match self.foreign && !idmap {
            // The owners stay the host's, as they do there.
            true => format!("{line} noidmap"),
            false => line.clone(),
        }));
        mounts.extend(self.mounts.iter().cloned());
        let mut network = self.network.clone();
        if self.ethernet && !self.is_linked() {
            network.insert(0, "private".into());
        }
        if network.is_empty() || !self.private() {
            network.insert(0, if self.private() || network.is_empty() { "none".into() } else { "private".to_owned() });
        }
        // Inside its own network it does what it likes there; here that is said.
        let linked = network
            .iter()
            .any(|l| ["private", "bridge ", "zone ", "macvlan ", "ipvlan "].iter().any(|kind| l.starts_with(kind)));
        network.extend(match linked {
            true => ["egress any", "listen tcp any", "listen udp any"].map(str::to_owned).to_vec(),
            false => ["listen tcp any", "connect tcp any"].map(str::to_owned).to_vec(),
        });
        let blocks = [
            ("environment", self.environment.clone()),
            ("mounts", mounts),
            ("network", network),
            ("limits", self.limits.lines()),
        ];
        // Each line is one statement, whatever stood in the file.
        let plain = lines.iter().filter(|l| !l.starts_with("capabilities {"));
        plain.chain(blocks.iter().flat_map(|(_, l)| l)).try_for_each(|l| one_statement(l))?;
        for (name, list) in &blocks {
            lines.extend(block(name, list));
        }
        out.push_str(&format!("  {}\n}}\n", lines.join("\n  ")));
        Ok(out)
    }

    fn differences(&self, source: &Profile) -> Vec<String> {
        let mut out = Vec::new();
        if !self.private() {
            out.push("the host's network is shared there; here the machine has one of its own".into());
        }
        out.push(format!(
            "{} calls run there whatever their arguments; here those of std/os, with its conditions",
            source.entries.iter().map(|e| e.call.name).collect::<std::collections::BTreeSet<_>>().len()
        ));
        let gone: Vec<&str> = ["sys_ptrace", "dac_read_search", "audit_control", "linux_immutable", "sys_resource"]
            .into_iter()
            .filter(|c| !self.added.iter().any(|a| a == c) && !self.dropped.iter().any(|d| d == c))
            .collect();
        if self.boot && !gone.is_empty() {
            out.push(format!("capabilities that it has there and not here: {}", gone.join(", ")));
        }
        out
    }
}
