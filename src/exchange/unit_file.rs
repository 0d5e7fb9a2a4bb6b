//! A machine as a service of systemd (systemd.exec(5), systemd.resource-control(5), as of 252).

use super::export::{Exported, leaves, nameless, wider};
use super::import::names;
use super::ini::Line;
use super::profile::granted;
use super::systemd_groups::expand;
use super::unit::HOMES;
use super::unit_calls::Calls;
use crate::compile::Confinement;
use crate::compile::mounts::{Shown, TreeStep};
use crate::kernel::numbers::Arch;
use crate::kernel::{calls, constants};
use crate::policy::Policy;
use crate::policy::capabilities;
use crate::policy::mounts::{Access, Origin, Source};
use crate::policy::network::{Network, Resolver};
use crate::policy::resources;
use crate::policy::syscalls::Action;
use crate::proof::diagram::{FALSE, Store, Word};
use crate::source::Sources;

/// The unit; the error says why there can be none.
pub fn export(policy: &Policy, c: &Confinement, sources: &Sources, arch: Arch) -> Result<Exported, String> {
    if c.boots {
        return Err("a machine that boots an init is no service: systemd starts those with systemd-nspawn".into());
    }
    let mut lost = Vec::new();
    let mut out = vec!["[Unit]".to_owned()];
    if let Some(about) = &policy.about {
        out.push(format!("Description={}", literal(about)?));
    }
    out.extend(["".into(), "[Service]".into()]);
    let argv: Vec<String> = c.argv.0.iter().map(|a| quoted(a)).collect::<Result<_, String>>()?;
    // `:` keeps systemd from putting variables into the arguments.
    out.push(format!("ExecStart=:{}", argv.join(" ")));
    let who = &c.credentials.0;
    out.push(format!("User={}", who.uid));
    out.push(format!("Group={}", who.gid));
    let groups: Vec<String> = who.groups.iter().map(u32::to_string).collect();
    out.push(format!("SupplementaryGroups={}", groups.join(" ")));
    out.push(format!("WorkingDirectory={}", literal(&c.chdir.0)?));
    out.push(format!("UMask={:04o}", c.umask));
    out.push("PassEnvironment=".into());
    for line in &c.environment {
        out.push(format!("Environment={}", quoted(line)?));
    }
    lost.push("environment: the manager adds variables of its own (LANG, INVOCATION_ID and the like)".into());
    if policy.environment.iter().any(|v| v.value.is_none()) {
        lost.push("environment: `pass` is written with the value of this moment".into());
    }
    lost.push("groups: those that the host's /etc/group gives the user are added".into());
    capability_lines(c, &mut out, &mut lost);
    isolation(policy, c, &mut out, &mut lost);
    files(policy, c, sources, &mut out, &mut lost)?;
    super::oci::landlock(policy, c, sources, &mut lost);
    for l in &c.rlimits {
        let name = match l.name.as_str() {
            "address-space" => "AS".to_owned(),
            "cpu-time" => "CPU".to_owned(),
            other => other.to_uppercase(),
        };
        let value = if l.value == u64::MAX { "infinity".to_owned() } else { l.value.to_string() };
        out.push(format!("Limit{name}={value}"));
    }
    limits(policy, sources, &mut out, &mut lost);
    calls(policy, c, arch, &mut out, &mut lost);
    Ok(Exported { text: out.join("\n") + "\n", lost })
}

/// Limits of the whole service (systemd.resource-control(5)).
fn limits(policy: &Policy, sources: &Sources, out: &mut Vec<String>, lost: &mut Vec<String>) {
    for (name, limit) in policy.limits.iter().filter(|(n, _)| resources::resource(n).is_none()) {
        let bound = limit.value != resources::UNLIMITED;
        let number = if bound { limit.value.to_string() } else { "infinity".to_owned() };
        let (word, device) = name.split_once(' ').unwrap_or((name, ""));
        let line = match word {
            "memory" => format!("MemoryMax={number}"),
            "memory-high" => format!("MemoryHigh={number}"),
            "swap" => format!("MemorySwapMax={number}"),
            "tasks" => format!("TasksMax={number}"),
            "time" => format!("RuntimeMaxSec={number}"),
            "cpu" if bound => format!("CPUQuota={number}%"),
            "cpu-weight" => format!("CPUWeight={number}"),
            "io-weight" => format!("IOWeight={number}"),
            "io-read" => format!("IOReadBandwidthMax={device} {number}"),
            "io-write" => format!("IOWriteBandwidthMax={device} {number}"),
            "io-read-ops" => format!("IOReadIOPSMax={device} {number}"),
            "io-write-ops" => format!("IOWriteIOPSMax={device} {number}"),
            _ if !bound => continue,
            _ => {
                let text = resources::text(name, limit.value);
                lost.push(format!("limits: {text}: a service has no such limit ({})", sources.cite(limit.span)));
                continue;
            }
        };
        out.push(line);
    }
}

fn capability_lines(c: &Confinement, out: &mut Vec<String>, lost: &mut Vec<String>) {
    let words = |bits: u64| -> String {
        capabilities::names(bits).iter().map(|n| format!("CAP_{}", n.to_uppercase())).collect::<Vec<_>>().join(" ")
    };
    let sets = &c.capabilities.0;
    out.push(format!("CapabilityBoundingSet={}", words(sets.bounding)));
    out.push(format!("AmbientCapabilities={}", words(sets.ambient)));
    out.push(format!("NoNewPrivileges={}", if c.no_new_privs.0 { "yes" } else { "no" }));
    if c.securebits & 0xc0 != 0 {
        lost.push("securebits: ambient capabilities can be raised, as far as the bounding set goes".into());
    }
    if sets.inheritable & !sets.ambient != 0 {
        lost.push(format!("inheritable: {} aren't", words(sets.inheritable & !sets.ambient)));
    }
    if c.securebits != 0 {
        out.push("SecureBits=noroot-locked no-setuid-fixup-locked keep-caps-locked".into());
    }
}

fn isolation(policy: &Policy, c: &Confinement, out: &mut Vec<String>, lost: &mut Vec<String>) {
    if c.ids.is_some() {
        out.push("PrivateUsers=yes".into());
        lost.push(
            "userns: only the service's own user, root and nobody are kept apart; ids outside stay the same".into(),
        );
    }
    match &policy.network.value {
        Network::None => out.push("PrivateNetwork=yes".into()),
        Network::Host => {}
        other => lost.push(format!("network: no `{other}`: the service has the host's network")),
    }
    if policy.network.value.is_filtered() && policy.resolver.value != Resolver::Host {
        lost.push("resolver: the host's /etc/resolv.conf is seen".into());
    }
    out.extend(
        [
            "PrivateIPC=yes",
            "ProtectProc=invisible",
            "ProtectControlGroups=yes",
            "ProtectKernelTunables=yes",
            "KeyringMode=private",
            // What the host mounts later isn't seen.
            "MountFlags=private",
            "RemoveIPC=yes",
        ]
        .map(str::to_owned),
    );
    lost.push("the PID namespace is the host's: ProtectProc=invisible hides other users' processes only".into());
    lost.push(format!("hostname: `{}` isn't set, and the host's name is seen", c.hostname.0));
    lost.push("/dev/shm is the host's own, without a bound of the machine's; /dev/log and huge pages are there".into());
    lost.push("the cgroup namespace is the host's".into());
    if policy.network.value == Network::None {
        lost.push("network: the loopback is up".into());
    }
}

fn files(
    policy: &Policy,
    c: &Confinement,
    sources: &Sources,
    out: &mut Vec<String>,
    lost: &mut Vec<String>,
) -> Result<(), String> {
    let cite = |span| sources.cite(span);
    match &policy.root.value.origin {
        Origin::Directory(d) => {
            out.push(format!("RootDirectory={}", literal(d)?));
            out.push("MountAPIVFS=yes".into());
            lost.push(format!("root: owners below {d} aren't translated ({})", cite(policy.root.span)));
            lost.push(format!("root: what the host mounts below {d} is shown as well ({})", cite(policy.root.span)));
            lost.push(format!(
                "root: /run is memory of its own, root may write and execute there, and {d}/run isn't seen ({})",
                cite(policy.root.span)
            ));
        }
        Origin::Host => lost.push(format!("root: the whole host is seen, not only /usr ({})", cite(policy.root.span))),
    }
    // These lists speak of the host's tree, unless `+` says that they are meant below the service's own root
    // (systemd.exec(5), ReadWritePaths=); what lies outside of it is dropped without a word.
    let own = if matches!(policy.root.value.origin, Origin::Directory(_)) { "+" } else { "" };
    if policy.root.value.access != Access::ReadWrite {
        out.push("ProtectSystem=strict".into());
        // Of two lines for one place systemd keeps one, and a file system in memory isn't the one (namespace.c).
        let in_memory =
            |home: &&str| policy.mounts.iter().any(|m| m.target == **home && matches!(m.source, Source::Tmpfs(..)));
        if HOMES.iter().any(&in_memory) {
            let others = HOMES.iter().filter(|h| !in_memory(h));
            out.extend(others.map(|h| format!("ReadOnlyPaths=-{own}{h}")));
        } else {
            out.push("ProtectHome=read-only".into());
        }
    }
    if matches!(policy.root.value.access, Access::Ephemeral | Access::Volatile) {
        lost.push(format!("root: there is no layer for writes, so it is read-only ({})", cite(policy.root.span)));
    }
    for m in &policy.mounts {
        let target = path(&m.target)?;
        match &m.source {
            Source::Bind(from) => {
                let key = if m.writable { "BindPaths" } else { "BindReadOnlyPaths" };
                out.push(format!("{key}={}:{target}", path(from)?));
                if m.writable {
                    out.push(format!("ReadWritePaths={own}{target}"));
                }
            }
            Source::Tmpfs(size, mode, owner) => {
                let access = if m.writable { "rw" } else { "ro" };
                // Not by NoExecPaths=: of two lines for one place systemd keeps one, and that isn't this.
                let exec = if m.exec { "" } else { ",noexec" };
                let suid = if m.suid { "" } else { ",nosuid" };
                out.push(format!("TemporaryFileSystem={target}:{access}{exec}{suid},size={size},mode={mode:o}"));
                if owner.is_some() {
                    lost.push(format!("mounts: {}: it belongs to root ({})", m.target, cite(m.span)));
                }
            }
            Source::Mask | Source::Hide => out.push(format!("InaccessiblePaths={own}{target}")),
            Source::Overlay(..) => return Err(format!("{}: a service has no overlay ({})", m.target, cite(m.span))),
            Source::Proc | Source::Sysfs | Source::Devpts | Source::Mqueue | Source::Cgroup2 => {}
        }
        if matches!(m.source, Source::Bind(_)) {
            let flags = if c.no_new_privs.0 { "nodev isn't" } else { "nosuid and nodev aren't" };
            lost.push(format!("mounts: {}: {flags} set, owners aren't translated ({})", m.target, cite(m.span)));
        }
        if !m.exec && matches!(m.source, Source::Bind(_)) {
            out.push(format!("NoExecPaths={own}{target}"));
        }
    }
    for (step, _) in &c.tree {
        if let TreeStep::Mount { target, shown: Shown::Mask { .. }, .. } = step
            && !policy.mounts.iter().any(|m| m.target == *target)
        {
            out.push(format!("InaccessiblePaths=-{own}{}", path(target)?));
        }
    }
    for d in &policy.devices {
        out.push(format!("DeviceAllow={} rw", path(&d.path)?));
        lost.push(format!("devices: with PrivateDevices= {} isn't shown ({})", d.path, cite(d.span)));
    }
    Ok(())
}

fn calls(policy: &Policy, c: &Confinement, arch: Arch, out: &mut Vec<String>, lost: &mut Vec<String>) {
    let mut list: Vec<&str> = policy
        .syscalls
        .iter()
        .filter(|r| r.action <= Action::Log && r.call.since <= policy.kernel && arch.number(r.call.name).is_some())
        .map(|r| r.call.name)
        .filter(|n| {
            !policy.syscalls.iter().any(|r| r.call.name == *n && r.action > Action::Log && r.conditions.is_empty())
        })
        .collect();
    list.sort_unstable();
    list.dedup();
    // A first line that names calls is a list of those allowed; systemd adds its @default by itself.
    for row in list.chunks(8) {
        out.push(format!("SystemCallFilter={}", row.join(" ")));
    }
    out.push("SystemCallErrorNumber=EPERM".into());
    out.push("SystemCallArchitectures=native".into());
    // Directives that take nothing away which the policy grants, read back as the importer reads them.
    let mut stack = vec![names(list.iter().copied().chain(expand("@default").unwrap_or_default()))];
    let families = families(policy);
    for (key, value) in [
        ("RestrictAddressFamilies", families.as_str()),
        ("RestrictNamespaces", "yes"),
        ("RestrictRealtime", "yes"),
        ("RestrictSUIDSGID", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("LockPersonality", "yes"),
        ("ProtectClock", "yes"),
        ("ProtectHostname", "yes"),
        ("ProtectKernelLogs", "yes"),
        ("ProtectKernelModules", "yes"),
        ("PrivateDevices", "yes"),
    ] {
        let mut read = Calls::default();
        let line = Line { section: "Service".into(), key: key.into(), value: value.into(), number: 0 };
        let filters = read.take(&line).map(|()| read.finish()).map(|()| read.stack()).unwrap_or_default();
        let bounding = capabilities::names(c.capabilities.0.bounding);
        let held: Vec<&str> = read.taken.iter().copied().filter(|t| bounding.iter().any(|b| b == t)).collect();
        let fits = !filters.is_empty() && filters.iter().all(|f| leaves(policy, arch, f)) && held.is_empty();
        // Without it the host's devices are there: rather less than that.
        if key == "PrivateDevices" && !fits {
            lost.push(format!("calls: {key}= refuses @raw-io and takes mknod and sys_rawio, which the machine has"));
        }
        if fits || key == "PrivateDevices" {
            out.push(format!("{key}={value}"));
            stack.extend(filters);
        }
    }
    lost.extend(nameless(list));
    lost.extend(wider(policy, arch, &stack));
    lost.push("calls: every refusal is EPERM; ENOSYS, `kill` and `log` are lost".into());
}

/// The families for which socket(2) runs at all, by their names.
fn families(policy: &Policy) -> String {
    let Some(call) = calls::find("socket") else { return "none".into() };
    let mut s = Store::default();
    let here = granted(&mut s, &policy.syscalls, policy.kernel, call);
    let word = s.word(Word::Low(0));
    let mut out = Vec::new();
    for number in 0..64u64 {
        let this = s.equals(&word, u64::MAX, number);
        if s.and(here, this) != FALSE
            && let Some(name) = constants::name_of("af", number)
        {
            out.push(name);
        }
    }
    if out.is_empty() { "none".into() } else { out.join(" ") }
}

/// A text that stands for itself: `%` begins a specifier (systemd.unit(5)). systemd ends lines at some control
/// characters, and a backslash at the end would join the next line.
fn literal(text: &str) -> Result<String, String> {
    if text.contains(char::is_control) || text.ends_with('\\') || text.starts_with(' ') || text.ends_with(' ') {
        return Err(format!("the text {text:?} can't be written in a unit"));
    }
    Ok(text.replace('%', "%%"))
}

/// An item of a command line or of Environment=, in quotes (systemd.syntax(7)).
fn quoted(text: &str) -> Result<String, String> {
    if text.contains(char::is_control) {
        return Err(format!("the text {text:?} can't be written in a unit"));
    }
    Ok(format!("\"{}\"", text.replace('%', "%%").replace('\\', "\\\\").replace('"', "\\\"")))
}

/// A path in a list of paths, which spaces and colons would end.
fn path(text: &str) -> Result<String, String> {
    if text.contains([' ', '\t', ':', '"', '\'', '\\']) {
        return Err(format!("the path {text:?} can't be written in a unit's list of paths"));
    }
    literal(text)
}
