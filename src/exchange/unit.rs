//! Machines made of service units (systemd.exec(5), systemd.service(5), systemd 252). A directive that confines
//! is kept or is an error; one that says how the service is managed is named and left to the manager.

mod tree;

use super::import::{Imported, one_statement, settle};
use super::ini::{self, Limits, Line, block, boolean, path, words};
use super::profile::Profile;
use super::unit_calls::Calls;
use super::unit_keys::{ALWAYS, MANAGED};
use crate::policy::capabilities;
use crate::policy::process::ENVIRONMENT;
use crate::syntax::print::quote;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A mount, before it is a line of `mounts`.
struct Mount {
    /// The host's path, for a bind.
    from: Option<String>,
    /// The place inside.
    to: String,
    writable: bool,
    /// The host's own place, as `ReadWritePaths=` names it: a tmpfs above it hides it.
    seen: bool,
    /// The whole line, for a tmpfs.
    line: Option<String>,
    number: usize,
}

/// What ProtectSystem=full is about; `yes` but for the first. /bin and its like are lines of their own there, and these
/// places since /usr was merged (systemd 252, src/core/namespace.c, `protect_system_full_table`).
const PROTECTED: &[&str] =
    &["/etc", "/usr", "/boot", "/efi", "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/sbin"];

/// What ProtectHome= is about.
pub(super) const HOMES: &[&str] = &["/home", "/root", "/run/user"];

#[derive(Default)]
struct Service {
    exec: Vec<String>,
    user: Option<String>,
    group: Option<String>,
    groups: Vec<String>,
    root: Option<String>,
    top: Vec<String>,
    bounding: Option<BTreeSet<String>>,
    ambient: Vec<String>,
    environment: Vec<String>,
    unset: Vec<String>,
    mounts: Vec<Mount>,
    /// What the unit keeps read-only itself: nothing at that very place is written to.
    held: Vec<String>,
    /// What the unit closes: nothing may be shown there, or below.
    closed: Vec<(String, usize)>,
    private_tmp: bool,
    /// RuntimeDirectoryMode=, as the language writes it.
    runtime_mode: Option<String>,
    /// DynamicUser= is on.
    dynamic: bool,
    /// Each as it is, and in quotes.
    devices: Vec<(String, String)>,
    private_devices: bool,
    private_network: bool,
    private_users: bool,
    /// IPAddressAllow= and IPAddressDeny=.
    addresses: [Vec<String>; 2],
    /// The line of the last of them.
    addresses_line: usize,
    limits: Limits,
    calls: Calls,
    managed: Vec<String>,
    notes: Vec<String>,
}

/// Imports the service of a unit as a machine.
pub fn import(name: &str, text: &str) -> Result<Imported, String> {
    let mut s = Service::default();
    // First of all: paths mean something else below a root folder, wherever it is written.
    ini::each(text, resets, |line| {
        if (line.section.as_str(), line.key.as_str()) == ("Service", "RootDirectory") {
            s.root = plain(&line.value).and_then(|p| path(&p)).ok();
        }
        Ok(())
    })?;
    let read = ini::each(text, resets, |line| match line.section.as_str() {
        "Service" => s.key(line),
        "Unit" | "Install" => {
            s.manage(&format!("[{}]", line.section));
            Ok(())
        }
        other => Err(format!("unknown section [{other}]")),
    });
    let addresses = s.addresses().map_err(|(key, why)| format!("line {}: `{key}`: {why}", s.addresses_line));
    s.calls.finish();
    if s.dynamic {
        // Whatever else the unit says of them (systemd 252, unit_patch_contexts).
        s.held.push("/".into());
        s.held.extend(HOMES.iter().map(|p| (*p).to_owned()));
        s.closed.push(("/run/user".into(), 0));
    }
    for place in s.calls.closes.clone() {
        s.closed.push((place.to_owned(), 0));
        if place == "/usr/lib/modules" {
            s.notes.push(format!("ProtectKernelModules=: delete `hide \"{place}\"` where the host has no such folder"));
            if s.root.is_some() {
                s.notes.push(
                    "ProtectKernelModules=: a tree whose /lib is no link has modules in /lib/modules: hide it".into(),
                );
            }
        }
    }
    if !s.managed.is_empty() {
        s.notes.push(format!("left to the service manager: {}", s.managed.join(", ")));
    }
    // All that is wrong with it is said at once.
    let text = s.text(name);
    let all = [read.err(), addresses.err(), s.mounts().err(), text.as_ref().err().cloned()];
    let mut faults: Vec<String> = all.into_iter().flatten().collect();
    faults.dedup();
    if !faults.is_empty() {
        return Err(faults.join("\n  "));
    }
    let stack = s.calls.stack();
    let source: Vec<&Profile> = stack.iter().collect();
    let text = settle(&text?, &source, &mut s.notes)?;
    let mut differences = vec![
        match s.root {
            Some(_) => "owners below the root folder are the host's there; here they are translated".to_owned(),
            None => "the whole host is seen there; here /usr, /etc and what the unit names".to_owned(),
        },
        "ids are the host's there; here a free range of their own".to_owned(),
    ];
    if !s.private_network {
        differences.push("abstract Unix sockets and signals reach the host there, not here".into());
    }
    s.notes.append(&mut s.calls.notes);
    Ok(Imported { text, differences, notes: s.notes })
}

/// Lists and texts, of which an empty value leaves nothing (systemd.exec(5), "If the empty string is assigned").
const RESET: &[&str] = &[
    "AmbientCapabilities",
    "BindPaths",
    "BindReadOnlyPaths",
    "CapabilityBoundingSet",
    "DeviceAllow",
    "Environment",
    "EnvironmentFile",
    "ExecStart",
    "Group",
    "IPAddressAllow",
    "IPAddressDeny",
    "InaccessibleDirectories",
    "InaccessiblePaths",
    "PassEnvironment",
    "ReadOnlyDirectories",
    "ReadOnlyPaths",
    "ReadWriteDirectories",
    "ReadWritePaths",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RootDirectory",
    "SupplementaryGroups",
    "SystemCallArchitectures",
    "SystemCallFilter",
    "TemporaryFileSystem",
    "UnsetEnvironment",
    "User",
    "WorkingDirectory",
];

fn resets(line: &Line) -> bool {
    line.section != "Service" || RESET.contains(&line.key.as_str()) || MANAGED.contains(&line.key.as_str())
}

impl Service {
    fn manage(&mut self, what: &str) {
        if !self.managed.iter().any(|m| m == what) {
            self.managed.push(what.to_owned());
        }
    }

    fn key(&mut self, line: &Line) -> Result<(), String> {
        if self.limits.take(line, &mut self.notes)? {
            return Ok(());
        }
        let value = line.value.as_str();
        match line.key.as_str() {
            key if MANAGED.contains(&key) => self.manage(key),
            "MountAPIVFS" if !boolean(value)? && self.root.is_some() => {
                return Err("every machine has its own /proc and /sys".into());
            }
            key if ALWAYS.contains(&key) => drop(boolean(value)?),
            key if Calls::KEYS.contains(&key) => self.calls.take(line)?,
            "ExecStart" => self.start(value)?,
            "User" => self.user = Some(ini::word(value)?.to_owned()),
            "Group" => self.group = Some(ini::word(value)?.to_owned()),
            "SupplementaryGroups" => {
                for g in ini::unquoted(value)? {
                    self.groups.push(ini::word(&g)?.to_owned());
                }
            }
            "PrivateUsers" => self.private_users = boolean(value)?,
            "DynamicUser" if boolean(value)? => {
                // An id that nobody has, neither systemd's dynamic users (61184 to 65519; systemd, "Users, Groups, UIDs
                // and GIDs"): what is shown of the host belongs to somebody else.
                self.user.get_or_insert_with(|| "65533".into());
                self.group.get_or_insert_with(|| "65533".into());
                self.calls.restrict("RestrictSUIDSGID");
                self.private_tmp = true;
                self.dynamic = true;
            }
            "DynamicUser" => {}
            "WorkingDirectory" => match value.trim_start_matches('-') {
                "~" => return Err("a home isn't known here: write the path".into()),
                p => self.top.push(format!("chdir {}", path(&plain(p)?)?)),
            },
            "UMask" => self.top.push(format!("umask {}", ini::octal(value)?)),
            "Environment" => {
                let items: Vec<String> = words(value)?.iter().map(|i| plain(i)).collect::<Result<_, String>>()?;
                self.environment.extend(ini::variables(&items)?);
            }
            "UnsetEnvironment" => {
                for item in words(value)? {
                    // Without a value it is the variable, whatever it is set to.
                    let name = ini::variable(item.split('=').next().unwrap_or_default())?;
                    if ENVIRONMENT.iter().any(|(n, _)| *n == name) {
                        return Err(format!("every machine has {name}: set it to what is wanted"));
                    }
                    self.unset.push(name.to_owned());
                }
            }
            "PassEnvironment" => {
                for name in ini::unquoted(value)? {
                    self.environment.push(format!("pass {}", ini::variable(&name)?));
                }
            }
            "CapabilityBoundingSet" => self.bounding(value)?,
            "AmbientCapabilities" if value.starts_with('~') => return Err("name those that are wanted".into()),
            "AmbientCapabilities" => self.ambient.extend(ini::capabilities(value)?),
            "IPAddressAllow" | "IPAddressDeny" => {
                self.addresses_line = line.number;
                let [allow, deny] = &mut self.addresses;
                let list = if line.key == "IPAddressAllow" { allow } else { deny };
                match ini::items(value)? {
                    none if none.is_empty() => list.clear(),
                    more => list.extend(more),
                }
            }
            "PrivateNetwork" => self.private_network = boolean(value)?,
            "PrivateDevices" => {
                self.private_devices = boolean(value)?;
                if self.private_devices {
                    self.calls.restrict("PrivateDevices");
                }
            }
            "DeviceAllow" => match ini::unquoted(value)?.as_slice() {
                [device, rights]
                    if rights.contains('r') && rights.contains('w') && rights.chars().all(|c| "rwm".contains(c)) =>
                {
                    self.devices.push((device.clone(), path(device)?));
                }
                [device] => self.devices.push((device.clone(), path(device)?)),
                _ => return Err("a device is read and written here, or not shown".into()),
            },
            _ => return self.isolation(line),
        }
        Ok(())
    }

    /// Directives of words, each of whose values has to hold.
    fn isolation(&mut self, line: &Line) -> Result<(), String> {
        let value = line.value.as_str();
        let one_of = |list: &[&str]| match list.contains(&value) || boolean(value).is_ok() {
            true => Ok(()),
            false => Err(format!("unknown value `{value}`")),
        };
        match line.key.as_str() {
            // No mount passes out of a machine, or in.
            "MountFlags" if ["private", "slave"].contains(&value) => {}
            "MountFlags" => return Err("mounts of a machine aren't shared".into()),
            "ProtectSystem" => {
                one_of(&["full", "strict"])?;
                let held: &[&str] = match value {
                    "strict" => &["/"],
                    "full" => PROTECTED,
                    v if boolean(v)? => PROTECTED.get(1..).unwrap_or_default(),
                    _ => &[],
                };
                self.held.retain(|p| HOMES.contains(&p.as_str()));
                self.held.extend(held.iter().map(|p| (*p).to_owned()));
            }
            "ProtectProc" => one_of(&["noaccess", "invisible", "ptraceable", "default"])?,
            "KeyringMode" => one_of(&["inherit", "private", "shared"])?,
            "DevicePolicy" => match value {
                "auto" | "closed" => {}
                _ => return Err("every machine has /dev/null, zero, full, random, urandom and tty".into()),
            },
            "ProcSubset" if value == "all" => {}
            "ProtectHome" => {
                one_of(&["tmpfs", "read-only"])?;
                if value == "tmpfs" || boolean(value).unwrap_or(false) {
                    for home in HOMES {
                        self.closed.push(((*home).to_owned(), line.number));
                    }
                } else if value == "read-only" {
                    self.closed.push(("/run/user".into(), line.number));
                    self.held.extend(HOMES.iter().map(|p| (*p).to_owned()));
                }
            }
            "PrivateTmp" => {
                if boolean(value)? {
                    self.private_tmp = true;
                }
            }
            "RootDirectory" => self.root = Some(path(&plain(value)?)?),
            "ProcSubset"
            | "SecureBits"
            | "NoExecPaths"
            | "ExecPaths"
            | "SocketBindDeny"
            | "SocketBindAllow"
            | "RestrictNetworkInterfaces"
            | "RestrictFileSystems"
            | "CPUAffinity"
            | "AllowedCPUs"
            | "AllowedMemoryNodes"
            | "NUMAPolicy"
            | "LoadCredential"
            | "SetCredential"
            | "LoadCredentialEncrypted"
            | "SetCredentialEncrypted"
            | "RootImage"
            | "MountImages"
            | "ExtensionImages"
            | "AppArmorProfile"
            | "SELinuxContext"
            | "SmackProcessLabel"
            | "NetworkNamespacePath"
            | "IPCNamespacePath"
            | "IOReadBandwidthMax"
            | "IOWriteBandwidthMax"
            | "IOReadIOPSMax"
            | "IOWriteIOPSMax"
            | "IODeviceWeight"
            | "IODeviceLatencyTargetSec"
            | "PAMName" => {
                return Err("it has no counterpart here: take it out, and write what it is for by hand".into());
            }
            _ => return self.files(line),
        }
        Ok(())
    }

    /// systemd.resource-control(5): what is allowed is, whatever is denied. A unit that reaches nobody but its own
    /// host has a network of its own here.
    fn addresses(&mut self) -> Result<(), (&'static str, String)> {
        let [allow, deny] = &self.addresses;
        if deny.is_empty() {
            return Ok(());
        }
        let everybody = |d: &String| d == "any";
        let both = ["0.0.0.0/0", "::/0"].iter().all(|b| deny.iter().any(|d| d == b));
        if !both && !deny.iter().any(everybody) {
            let help = "of some addresses only: write those that it may reach by hand, `connect ... to BLOCK`";
            return Err(("IPAddressDeny", help.into()));
        }
        // localhost is 127.0.0.0/8 and ::1/128 there.
        let own = |a: &str| {
            let (address, prefix) = a.split_once('/').map_or((a, None), |(a, p)| (a, Some(p)));
            let least = match address.parse() {
                Ok(IpAddr::V4(v4)) if v4.is_loopback() => 8,
                Ok(IpAddr::V6(v6)) if v6.is_loopback() => 128,
                _ => return a == "localhost",
            };
            prefix.is_none_or(|p| p.parse::<u8>().is_ok_and(|p| p >= least))
        };
        if let Some(a) = allow.iter().find(|a| !own(a)) {
            let help = format!("{a}: write `network {{ private; connect ... to {a} }}` by hand");
            return Err(("IPAddressAllow", help));
        }
        if !self.private_network {
            self.private_network = true;
            self.notes.push("IPAddressDeny=any: a network of its own, in which nobody is, the host neither".into());
        }
        Ok(())
    }

    fn start(&mut self, value: &str) -> Result<(), String> {
        if !self.exec.is_empty() {
            return Err("a machine runs one program".into());
        }
        let command = value.trim_start_matches(['-', ':', '@']);
        let prefixes = value.get(..value.len() - command.len()).unwrap_or_default();
        if command.starts_with(['+', '!']) {
            return Err("it runs with full privileges there: such a service can't be confined by its unit".into());
        }
        let mut argv = words(command)?;
        if prefixes.contains('@') && argv.len() > 1 {
            // A machine's program is called by its file's name.
            let called = argv.remove(1);
            let file = |p: &str| p.rsplit('/').next().unwrap_or_default().to_owned();
            if argv.first().is_some_and(|p| file(p) != file(&called)) {
                let here = "here by its file's name: a program that goes by it is another one";
                self.notes.push(format!("ExecStart=@: it is called `{called}` there, {here}"));
            }
        }
        if !argv.first().is_some_and(|p| p.starts_with('/')) {
            return Err("write the absolute path of the program".into());
        }
        for a in &mut argv {
            // After `:` a dollar is one (systemd.service(5), "Special executable prefixes").
            let literal = prefixes.contains(':');
            let text = plain(a)?;
            let text = if literal { text } else { text.replace("$$", "\0") };
            if text == ";" || !literal && text.contains('$') {
                return Err("variables and several commands have no counterpart".into());
            }
            *a = text.replace('\0', "$");
        }
        self.exec = argv;
        Ok(())
    }

    fn bounding(&mut self, value: &str) -> Result<(), String> {
        let (inverse, list) = value.strip_prefix('~').map_or((false, value), |rest| (true, rest));
        let named: BTreeSet<String> = ini::capabilities(list)?.into_iter().collect();
        let all = || capabilities::names(capabilities::known()).into_iter().collect::<BTreeSet<_>>();
        // As systemd 252 does (config_parse_capability_set): no name, or nothing taken from the full set so far,
        // and the line replaces what was; else it adds, or takes away.
        let so_far = self.bounding.take().filter(|_| !named.is_empty());
        let set = match (so_far, inverse) {
            (None, false) => named,
            (None, true) => &all() - &named,
            (Some(set), false) => &set | &named,
            (Some(set), true) => &set - &named,
        };
        // The full set is what a unit has that says nothing.
        self.bounding = Some(set).filter(|s| *s != all());
        Ok(())
    }

    fn text(&self, name: &str) -> Result<String, String> {
        if self.exec.is_empty() {
            return Err("the unit has no ExecStart=".into());
        }
        let argv: Vec<String> = self.exec.iter().map(|a| quote(a)).collect();
        let mut lines = vec![
            match &self.root {
                Some(d) => format!("root dir {d} ro"),
                None => "root host".to_owned(),
            },
            format!("exec {}", argv.join(" ")),
        ];
        let user = self.user.as_deref().unwrap_or("root");
        // A service's are looked up on the host, a machine's in its own tree (nss-systemd(8), systemd.exec(5)).
        let named = |id: &&str| *id != "root" && !id.chars().all(|c| c.is_ascii_digit());
        let mut ids = [user].into_iter().chain(self.group.as_deref()).chain(self.groups.iter().map(String::as_str));
        if let (Some(name), true) = (ids.find(named), self.root.is_some()) {
            return Err(format!(
                "User=, Group=: `{name}` is the host's there, and the tree's own here: write the number"
            ));
        }
        let group = self.group.as_ref().map_or(String::new(), |g| format!(" group {g}"));
        let groups =
            if self.groups.is_empty() { String::new() } else { format!(" groups [{}]", self.groups.join(", ")) };
        lines.push(format!("user {user}{group}{groups}"));
        lines.extend(self.top.iter().cloned());
        let root = user == "root" || user == "0";
        // A unit that says nothing leaves root everything: here it has to be written.
        let held: Vec<&String> = match (&self.bounding, root) {
            (Some(set), true) => set.iter().collect(),
            (Some(set), false) => self.ambient.iter().filter(|c| set.contains(c.as_str())).collect(),
            (None, true) => Vec::new(),
            (None, false) => self.ambient.iter().collect(),
        };
        let held = held.into_iter().filter(|c| !self.calls.taken.contains(&c.as_str()));
        let mut kept: Vec<String> = held.map(|c| format!("keep {c} why \"the unit grants it\"")).collect();
        kept.sort();
        kept.dedup();
        if self.private_users && !kept.is_empty() {
            return Err(
                "with PrivateUsers= its capabilities reach root's and its own files, and here those of all ids \
                        of the machine: write the capabilities by hand"
                    .into(),
            );
        }
        if kept.is_empty() {
            kept.push("none".into());
        }
        let devices: Vec<String> = match self.private_devices {
            true => Vec::new(),
            false => self
                .devices
                .iter()
                .map(|(_, quoted)| format!("allow {quoted} why \"DeviceAllow= of the unit\""))
                .collect(),
        };
        let set = |line: &String| {
            let name = line.split(' ').nth(1).unwrap_or_default();
            !self.unset.iter().any(|u| u == name)
        };
        let environment: Vec<String> = self.environment.iter().filter(|l| set(l)).cloned().collect();
        let network = vec![
            match self.private_network {
                true => "none".to_owned(),
                false => "host why \"the unit doesn't give the service a network of its own\"".into(),
            },
            "listen tcp any".into(),
            "connect tcp any".into(),
        ];
        let blocks = [
            ("capabilities", kept),
            ("environment", environment),
            ("mounts", self.mounts()?),
            ("devices", devices),
            ("network", network),
            ("limits", self.limits.lines()),
        ];
        // Each line is one statement, whatever stood in the unit.
        lines.iter().chain(blocks.iter().flat_map(|(_, l)| l)).try_for_each(|l| one_statement(l))?;
        for (name, list) in &blocks {
            lines.extend(block(name, list));
        }
        if !self.calls.is_list() {
            lines.insert(0, "extends std/net-server".into());
        }
        let written = self.calls.lines((6, 12));
        let calls = if written.is_empty() { String::new() } else { super::import::block(&written) };
        Ok(format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\n\n# Made of a service unit.\nmachine {name} {{\n  {}\n{calls}}}\n",
            lines.join("\n  ")
        ))
    }
}

/// A text without specifiers: what they stand for is the manager's to know (systemd.unit(5)).
fn plain(text: &str) -> Result<String, String> {
    let clean = text.replace("%%", "\0");
    match clean.contains('%') {
        true => Err(format!("`{text}`: the specifier has to be written out")),
        false => Ok(clean.replace('\0', "%")),
    }
}
