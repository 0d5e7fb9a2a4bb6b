//! Machines made of service units (systemd.exec(5), systemd.service(5), systemd 252). A directive that confines
//! is kept or is an error; one that says how the service is managed is named and left to the manager.

use super::import::{Imported, settle};
use super::ini::{self, Limits, Line, block, boolean, path, tmpfs, words};
use super::profile::Profile;
use super::unit_calls::Calls;
use crate::policy::capabilities;
use crate::syntax::print::quote;

/// Directives that hold for every machine, whatever their value.
const ALWAYS: &[&str] = &[
    "KeyringMode",
    "LockPersonality",
    "MountAPIVFS",
    "MountFlags",
    "NoNewPrivileges",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "RemoveIPC",
    "SecureBits",
    "DevicePolicy",
    "SystemCallLog",
];

/// Directives about starting, stopping, logging and priorities: the manager's own.
const MANAGED: &[&str] = &[
    "Type",
    "ExecStartPre",
    "ExecStartPost",
    "ExecReload",
    "ExecStop",
    "ExecStopPost",
    "ExecCondition",
    "Restart",
    "RestartSec",
    "TimeoutSec",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "RuntimeMaxSec",
    "WatchdogSec",
    "PIDFile",
    "GuessMainPID",
    "NotifyAccess",
    "BusName",
    "RemainAfterExit",
    "SuccessExitStatus",
    "KillMode",
    "KillSignal",
    "SendSIGKILL",
    "SendSIGHUP",
    "FinalKillSignal",
    "RestartKillSignal",
    "StandardInput",
    "StandardOutput",
    "StandardError",
    "SyslogIdentifier",
    "SyslogFacility",
    "SyslogLevel",
    "LogLevelMax",
    "LogRateLimitIntervalSec",
    "TTYPath",
    "Nice",
    "OOMScoreAdjust",
    "OOMPolicy",
    "Slice",
    "Delegate",
    "IOSchedulingClass",
    "IgnoreSIGPIPE",
    "RuntimeDirectoryPreserve",
    "FileDescriptorStoreMax",
    "Sockets",
    "NonBlocking",
    "UtmpIdentifier",
    "UtmpMode",
    "PermissionsStartOnly",
    "RestartPreventExitStatus",
    "RestartForceExitStatus",
    "TimeoutAbortSec",
    "TimeoutStartFailureMode",
    "TimeoutStopFailureMode",
    "ExitType",
    "Accounting",
    "CPUAccounting",
    "MemoryAccounting",
    "TasksAccounting",
    "IOAccounting",
    "IPAccounting",
    "TimerSlackNSec",
    "LogNamespace",
    "LogRateLimitBurst",
    "LogExtraFields",
];

#[derive(Default)]
struct Service {
    exec: Vec<String>,
    user: Option<String>,
    group: Option<String>,
    groups: Vec<String>,
    root: Option<String>,
    top: Vec<String>,
    bounding: Option<Vec<String>>,
    ambient: Vec<String>,
    environment: Vec<String>,
    mounts: Vec<String>,
    devices: Vec<String>,
    no_exec: bool,
    exec_paths: Vec<String>,
    private_network: bool,
    listen: Option<Vec<String>>,
    limits: Limits,
    calls: Calls,
    managed: Vec<String>,
    notes: Vec<String>,
}

/// Imports the service of a unit as a machine.
pub fn import(name: &str, text: &str) -> Result<Imported, String> {
    let mut s = Service::default();
    ini::each(text, |line| match line.section.as_str() {
        "Service" => s.key(line),
        "Unit" | "Install" => Ok(()),
        other => Err(format!("unknown section [{other}]")),
    })?;
    if !s.managed.is_empty() {
        s.notes.push(format!("left to the service manager: {}", s.managed.join(", ")));
    }
    s.calls.close_rings();
    let stack = s.calls.stack();
    let source: Vec<&Profile> = stack.iter().collect();
    let text = settle(&s.text(name)?, &source)?;
    let mut differences = vec![
        "the whole host is seen there; here /usr, /etc and what the unit names".to_owned(),
        "ids are the host's there; here a free range of their own".to_owned(),
    ];
    if !s.private_network {
        differences.push("abstract Unix sockets and signals reach the host there, not here".into());
    }
    s.notes.append(&mut s.calls.notes);
    Ok(Imported { text, differences, notes: s.notes })
}

impl Service {
    fn key(&mut self, line: &Line) -> Result<(), String> {
        if self.limits.take(line, &mut self.notes)? {
            return Ok(());
        }
        let value = line.value.as_str();
        match line.key.as_str() {
            key if MANAGED.contains(&key) => self.managed.push(key.to_owned()),
            key if ALWAYS.contains(&key) => {}
            key if Calls::KEYS.contains(&key) => self.calls.take(line)?,
            "ExecStart" => self.start(value)?,
            "User" => self.user = Some(account(value)?),
            "Group" => self.group = Some(account(value)?),
            "SupplementaryGroups" => {
                for g in words(value)? {
                    self.groups.push(account(&g)?);
                }
            }
            "DynamicUser" if boolean(value)? => {
                // Nobody else is in the machine's own range of ids.
                self.user.get_or_insert_with(|| "61184".into());
                self.group.get_or_insert_with(|| "61184".into());
            }
            "DynamicUser" => {}
            "WorkingDirectory" => match value.trim_start_matches('-') {
                "~" => return Err("a home isn't known here: write the path".into()),
                p => self.top.push(format!("chdir {}", path(p)?)),
            },
            "RootDirectory" => self.root = Some(path(value)?),
            "UMask" => self.top.push(format!("umask {value}")),
            "Environment" => {
                for item in words(value)? {
                    let (name, value) = item.split_once('=').ok_or(format!("`{item}` has no `=`"))?;
                    self.environment.push(format!("set {name} {}", quote(&plain(value)?)));
                }
            }
            "PassEnvironment" => self.environment.extend(words(value)?.iter().map(|n| format!("pass {n}"))),
            "CapabilityBoundingSet" => self.bounding(value)?,
            "AmbientCapabilities" if value.starts_with('~') => return Err("name those that are wanted".into()),
            "AmbientCapabilities" if value.is_empty() => self.ambient.clear(),
            "AmbientCapabilities" => self.ambient.extend(ini::capabilities(value)?),
            "PrivateNetwork" => self.private_network = boolean(value)?,
            "SocketBindDeny" if value == "any" => drop(self.listen.get_or_insert_default()),
            "SocketBindAllow" => {
                let port = value.rsplit(':').next().unwrap_or_default();
                let fine = !value.contains("udp") && port.parse::<u16>().is_ok();
                let list = self.listen.get_or_insert_default();
                match (value, fine) {
                    ("any", _) => list.push("any".into()),
                    (_, true) => list.push(port.to_owned()),
                    _ => return Err(format!("`{value}`: only single TCP ports have a counterpart")),
                }
            }
            "DeviceAllow" => {
                let device = words(value)?.first().cloned().unwrap_or_default();
                self.devices.push(format!("allow {} why \"DeviceAllow= of the unit\"", path(&device)?));
            }
            _ => self.files(line)?,
        }
        Ok(())
    }

    fn start(&mut self, value: &str) -> Result<(), String> {
        if !self.exec.is_empty() {
            return Err("a machine runs one program".into());
        }
        let command = value.trim_start_matches(['-', ':', '@']);
        if command.starts_with(['+', '!']) {
            return Err("it runs with full privileges there: such a service can't be confined by its unit".into());
        }
        let mut argv = words(command)?;
        if value.starts_with('@') && argv.len() > 1 {
            argv.remove(1);
        }
        if argv.iter().any(|a| a == ";" || a.starts_with('$')) {
            return Err("variables and several commands have no counterpart".into());
        }
        if !argv.first().is_some_and(|p| p.starts_with('/')) {
            return Err("write the absolute path of the program".into());
        }
        self.exec = argv.iter().map(|a| plain(a)).collect::<Result<_, String>>()?;
        Ok(())
    }

    fn bounding(&mut self, value: &str) -> Result<(), String> {
        if let Some(without) = value.strip_prefix('~') {
            let gone = ini::capabilities(without)?;
            let all = capabilities::names(capabilities::known());
            let list = self.bounding.get_or_insert(all);
            list.retain(|c| !gone.contains(c));
        } else if value.is_empty() {
            self.bounding = Some(Vec::new());
        } else {
            self.bounding.get_or_insert_default().extend(ini::capabilities(value)?);
        }
        Ok(())
    }

    fn files(&mut self, line: &Line) -> Result<(), String> {
        let value = plain(&line.value)?;
        let named = |base: &str, v: &str| path(&format!("{base}/{}", v.split(':').next().unwrap_or_default()));
        let each = words(&value)?;
        for item in &each {
            // An older name of the same folder.
            let item = item.trim_start_matches(['-', '+']).replace("/var/run/", "/run/");
            let item = item.as_str();
            let mount = match line.key.as_str() {
                "StateDirectory" => {
                    let p = named("/var/lib", item)?;
                    format!("bind {p} -> {p} rw")
                }
                "CacheDirectory" => {
                    let p = named("/var/cache", item)?;
                    format!("bind {p} -> {p} rw")
                }
                "LogsDirectory" => {
                    let p = named("/var/log", item)?;
                    format!("bind {p} -> {p} rw")
                }
                // /etc is shown as it is.
                "ConfigurationDirectory" => continue,
                "RuntimeDirectory" => {
                    let owner = self.user.as_deref().unwrap_or("root");
                    format!("tmpfs {} mode=0755 owner={owner}", named("/run", item)?)
                }
                "ReadWritePaths" | "ReadWriteDirectories" => format!("bind {0} -> {0} rw", path(item)?),
                "ReadOnlyPaths" | "ReadOnlyDirectories" => format!("bind {0} -> {0} ro", path(item)?),
                "BindPaths" | "BindReadOnlyPaths" => {
                    let (from, to) =
                        item.split_once(':').map_or((item, item), |(a, b)| (a, b.split(':').next().unwrap_or(b)));
                    let access = if line.key == "BindPaths" { "rw" } else { "ro" };
                    format!("bind {} -> {} {access}", path(from)?, path(to)?)
                }
                "TemporaryFileSystem" => tmpfs(item)?,
                "InaccessiblePaths" | "InaccessibleDirectories" if ["/home", "/root", "/boot"].contains(&item) => {
                    continue;
                }
                "InaccessiblePaths" | "InaccessibleDirectories" => format!("hide {}", path(item)?),
                "NoExecPaths" if item == "/" => {
                    self.no_exec = true;
                    continue;
                }
                "NoExecPaths" => return Err("only `/` has a counterpart".into()),
                "ExecPaths" => {
                    self.exec_paths.push(format!("exec optional {}", path(item)?));
                    continue;
                }
                "StateDirectoryMode"
                | "CacheDirectoryMode"
                | "LogsDirectoryMode"
                | "RuntimeDirectoryMode"
                | "ConfigurationDirectoryMode" => continue,
                "EnvironmentFile" => {
                    self.notes.push(format!("line {}: {item} isn't read: write what it sets", line.number));
                    continue;
                }
                "LoadCredential" | "SetCredential" | "RootImage" | "IPAddressDeny" | "IPAddressAllow"
                | "CPUAffinity" | "AllowedCPUs" => return Err("it has no counterpart yet".into()),
                _ => return Err("unknown directive of [Service]".into()),
            };
            self.mounts.push(mount);
        }
        match each.is_empty() {
            true => Err("an empty value has no counterpart".into()),
            false => Ok(()),
        }
    }

    fn text(&self, name: &str) -> Result<String, String> {
        let Some(_) = self.exec.first() else { return Err("the unit has no ExecStart=".into()) };
        let argv: Vec<String> = self.exec.iter().map(|a| quote(a)).collect();
        let mut lines = vec![
            match &self.root {
                Some(d) => format!("root dir {d} ro"),
                None => "root host".to_owned(),
            },
            format!("exec {}", argv.join(" ")),
        ];
        let user = self.user.as_deref().unwrap_or("root");
        let group = self.group.as_ref().map_or(String::new(), |g| format!(" group {g}"));
        let groups =
            if self.groups.is_empty() { String::new() } else { format!(" groups [{}]", self.groups.join(", ")) };
        lines.push(format!("user {user}{group}{groups}"));
        lines.extend(self.top.iter().cloned());
        let root = user == "root" || user == "0";
        // A unit that says nothing leaves root everything: here it has to be written.
        let held: Vec<&String> = match (&self.bounding, root) {
            (Some(set), true) => set.iter().collect(),
            (Some(set), false) => self.ambient.iter().filter(|c| set.contains(c)).collect(),
            (None, true) => Vec::new(),
            (None, false) => self.ambient.iter().collect(),
        };
        let mut kept: Vec<String> = held.iter().map(|c| format!("keep {c} why \"the unit grants it\"")).collect();
        kept.sort();
        kept.dedup();
        if kept.is_empty() {
            kept.push("none".into());
        }
        lines.extend(block("capabilities", &kept));
        lines.extend(block("environment", &self.environment));
        let mut mounts = self.mounts.clone();
        if self.root.is_none() {
            mounts.insert(0, "bind \"/etc\" -> \"/etc\" ro".into());
        }
        mounts.sort_by_key(|m| m.starts_with("hide"));
        mounts.dedup();
        // A folder of the machine's own stands where the unit lets a service write to the same one.
        let own: Vec<String> = mounts.iter().filter_map(|m| m.strip_prefix("tmpfs ")).map(first).collect();
        mounts.retain(|m| m.strip_prefix("bind ").is_none_or(|rest| !own.contains(&first(rest))));
        lines.extend(block("mounts", &mounts));
        if self.no_exec {
            // All that there is, but for execution.
            let rest = "read \"/\"; write \"/\"; create \"/\"; refer \"/\"; ioctl \"/\"".to_owned();
            lines.extend(block("files", &[self.exec_paths.clone(), vec![rest]].concat()));
        }
        lines.extend(block("devices", &self.devices));
        let mut network = vec![match self.private_network {
            true => "none".to_owned(),
            false => "host why \"the unit doesn't give the service a network of its own\"".into(),
        }];
        let ports = self.listen.clone().unwrap_or_else(|| vec!["any".into()]);
        network.extend(ports.iter().map(|p| format!("listen tcp {p}")));
        network.push("connect tcp any".into());
        lines.extend(block("network", &network));
        lines.extend(block("limits", &self.limits.lines()));
        if self.calls.allowed.is_none() {
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

/// The first item of a line.
fn first(line: &str) -> String {
    line.split(' ').next().unwrap_or_default().to_owned()
}

/// A text without specifiers: what they stand for is the manager's to know (systemd.unit(5)).
fn plain(text: &str) -> Result<String, String> {
    let clean = text.replace("%%", "\0");
    match clean.contains('%') {
        true => Err(format!("`{text}`: the specifier has to be written out")),
        false => Ok(clean.replace('\0', "%")),
    }
}

/// The name or number of an account.
fn account(value: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    match !value.is_empty() && !value.starts_with('-') && value.chars().all(fine) {
        true => Ok(value.to_owned()),
        false => Err(format!("`{value}` is no plain name of an account")),
    }
}
