//! The file tree as a list of steps, from the root to the last mask.

use super::Cx;
use super::network::Wiring;
use super::users::{self, IdMaps};
use crate::host::Kind;
use crate::policy::mounts::{Access, Mount as Written, Origin as RootOrigin, Source};
use crate::policy::network::Network;
use crate::source::{Origin, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A path of the host, pinned: the launcher refuses if another file lies there by then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPath {
    /// Absolute, without symbolic links.
    pub path: String,
    /// `st_dev`
    pub device: u64,
    /// `st_ino`
    pub inode: u64,
}

/// The restrictions of a mount (mount_setattr(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// MOUNT_ATTR_RDONLY
    pub read_only: bool,
    /// MOUNT_ATTR_NOSUID
    pub nosuid: bool,
    /// MOUNT_ATTR_NODEV
    pub nodev: bool,
    /// MOUNT_ATTR_NOEXEC
    pub noexec: bool,
}

/// Read-only, nothing on it counts.
pub(super) const STRICT: Attributes = Attributes { read_only: true, nosuid: true, nodev: true, noexec: true };
/// Writable, nothing on it counts.
const DATA: Attributes = Attributes { read_only: false, ..STRICT };

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// A file or folder of the host and what is mounted below it.
    Bind {
        /// The host's path.
        from: HostPath,
        /// Ids are translated by the machine's user namespace.
        idmap: bool,
        /// With what is mounted below it.
        recursive: bool,
    },
    /// A host folder under a writable layer in memory.
    Overlay {
        /// The host's path.
        lower: HostPath,
        /// Ids are translated.
        idmap: bool,
        /// Bytes that the layer may hold.
        size: u64,
    },
    /// Memory.
    Tmpfs {
        /// Upper bound in bytes.
        size: u64,
        /// Mode of its root.
        mode: u32,
        /// Owner of its root, as the host numbers it.
        owner: u32,
    },
    /// procfs of the machine's PID namespace.
    Proc,
    /// sysfs of the machine's network namespace.
    Sysfs,
    /// A devpts of its own; with the group that terminals belong to, as the host numbers it.
    Devpts {
        /// The group, when it is mapped.
        group: Option<u32>,
    },
    /// Message queues of the machine's IPC namespace.
    Mqueue,
    /// cgroup v2 from the machine's cgroup down.
    Cgroup2,
    /// The same place once more, to give it other attributes.
    Again,
    /// Something empty (or, when `hidden`, closed to everybody) of our own.
    Mask {
        /// Nobody can open it.
        hidden: bool,
    },
    /// A small file of ours with this content.
    Text {
        /// What is in it.
        content: String,
        /// Its owner, as the host numbers it.
        owner: u32,
    },
    /// The list of its zone's members, which changes while it runs.
    ZoneNames {
        /// The zone.
        zone: String,
    },
    /// The slave of the machine's terminal.
    Console {
        /// Its owner, as the host numbers it.
        owner: u32,
    },
}

/// One step of building the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TreeStep {
    /// Mounts something; `/` is the root itself and comes first.
    Mount {
        /// Where, inside.
        target: String,
        /// What.
        shown: Shown,
        /// How.
        attributes: Attributes,
    },
    /// Makes a folder unless it is there.
    Directory {
        /// Where.
        path: String,
        /// Its mode.
        mode: u32,
        /// Its owner, as the host numbers it.
        owner: u32,
    },
    /// Makes a symbolic link.
    Link {
        /// Where.
        path: String,
        /// Its text.
        text: String,
    },
    /// Makes a file unless it is there.
    File {
        /// Where.
        path: String,
        /// What is in it.
        content: String,
        /// Its owner, as the host numbers it.
        owner: u32,
    },
    /// Makes a mount that was written to read-only.
    Seal {
        /// Its place.
        target: String,
    },
}

/// Parts of /proc that say too much of the host, or change it.
pub(super) const PROC_MASKS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/vmallocinfo",
    "/proc/pressure",
];
pub(super) const SYS_MASKS: &[&str] =
    &["/sys/firmware", "/sys/devices/virtual/powercap", "/sys/kernel/debug", "/sys/kernel/tracing"];
/// One powercap-like leak for each CPU: how often it was throttled.
const THROTTLE: &str = "/thermal_throttle";
pub(super) const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"];
pub(crate) const NODES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
/// Entries of `/` beside /usr that a host without merged /usr has as folders.
pub(super) const TOP: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Host paths that the implied rules look at; which of them exist is a fact of the host, as its CPUs are.
pub fn implied_paths(cpus: &[String]) -> Vec<String> {
    let mut out: Vec<String> = [PROC_MASKS, SYS_MASKS, READ_ONLY].concat().iter().map(|p| (*p).to_owned()).collect();
    out.extend(NODES.iter().map(|n| format!("/dev/{n}")));
    out.extend(TOP.iter().map(|n| format!("/{n}")));
    out.extend(["/usr", "/etc/resolv.conf", "/etc/os-release"].map(str::to_owned));
    out.extend(cpus.iter().map(|c| format!("{c}{THROTTLE}")));
    out
}

pub(super) struct Tree<'a, 'b> {
    pub(super) cx: &'a mut Cx<'b>,
    maps: Option<&'a IdMaps>,
    pub(super) idmap: bool,
    pub(super) owner: u32,
    steps: Vec<(TreeStep, Origin)>,
    /// Places below which folders may be made, because they are the machine's own.
    private: Vec<String>,
    made: BTreeSet<String>,
    console: bool,
}

/// The whole tree; `None` when an error was reported.
pub(super) fn compile(
    cx: &mut Cx<'_>,
    maps: Option<&IdMaps>,
    console: bool,
    wiring: Option<&Wiring>,
) -> Option<Vec<(TreeStep, Origin)>> {
    let before = cx.diagnostics.errors();
    let privileged = cx.host.privileged;
    let owner = match maps {
        Some(m) if privileged => users::outside(&m.users, 0)?,
        _ => 0,
    };
    let idmap = privileged && maps.is_some();
    let mut tree =
        Tree { cx, maps, idmap, owner, steps: Vec::new(), private: Vec::new(), made: BTreeSet::new(), console };
    tree.root()?;
    tree.kernel_file_systems();
    tree.devices();
    if let Some(w) = wiring {
        tree.names(w);
    }
    let written = tree.cx.policy.mounts.clone();
    for m in written.iter().filter(|m| !matches!(m.source, Source::Mask | Source::Hide)) {
        tree.written(m);
    }
    tree.masks();
    for m in written.iter().filter(|m| matches!(m.source, Source::Mask | Source::Hide)) {
        tree.written(m);
    }
    tree.seal();
    let (steps, cx) = (tree.steps, tree.cx);
    (cx.diagnostics.errors() == before).then_some(steps)
}

impl Tree<'_, '_> {
    pub(super) fn push(&mut self, step: TreeStep, origin: Origin) {
        self.steps.push((step, origin));
    }

    pub(super) fn implied(&mut self, step: TreeStep, rule: &'static str) {
        self.push(step, Origin::implied(rule));
    }

    pub(super) fn mount(&mut self, target: &str, shown: Shown, attributes: Attributes, origin: Origin) {
        self.push(TreeStep::Mount { target: target.to_owned(), shown, attributes }, origin);
    }

    fn pinned(&mut self, path: &str, span: Span, what: &str) -> Option<(HostPath, Kind)> {
        match self.cx.host.paths.get(path) {
            Some(f) => Some((HostPath { path: f.canonical.clone(), device: f.device, inode: f.inode }, f.kind)),
            None => {
                self.cx.error(
                    "E0605",
                    span,
                    format!("{what} `{path}` doesn't exist on this host"),
                    "make it, or correct the path",
                );
                None
            }
        }
    }

    fn root(&mut self) -> Option<()> {
        let root = self.cx.policy.root.clone();
        let origin = self.cx.origin(root.span);
        let setuid = !self.cx.policy.no_new_privs;
        let attributes = Attributes {
            read_only: root.value.access == Access::ReadOnly,
            nosuid: !setuid,
            nodev: true,
            noexec: false,
        };
        let folder = match &root.value.origin {
            RootOrigin::Host => "/".to_owned(),
            RootOrigin::Directory(d) => d.clone(),
        };
        if root.value.origin == RootOrigin::Host || root.value.access == Access::Volatile {
            return self.assembled(&folder, root.value.size, origin, root.span);
        }
        let (from, kind) = self.pinned(&folder, root.span, "the root")?;
        if kind != Kind::Directory {
            self.cx.error("E0605", root.span, format!("the root `{folder}` is not a folder"), "unpack an image first");
            return None;
        }
        let idmap = self.idmap;
        let shown = match root.value.access {
            Access::Ephemeral => Shown::Overlay { lower: from, idmap, size: root.value.size },
            _ => Shown::Bind { from, idmap, recursive: false },
        };
        if matches!(shown, Shown::Overlay { .. }) {
            self.private.push(String::new());
        }
        self.mount("/", shown, attributes, origin);
        Some(())
    }

    /// A root in memory with /usr of a folder, for `root host` and `volatile`.
    fn assembled(&mut self, folder: &str, size: u64, origin: Origin, span: Span) -> Option<()> {
        let host = folder == "/";
        let below = |p: &str| if host { p.to_owned() } else { format!("{folder}{p}") };
        let owner = self.owner;
        let attributes = Attributes { read_only: false, nosuid: true, nodev: true, noexec: false };
        self.mount("/", Shown::Tmpfs { size, mode: 0o755, owner }, attributes, origin.clone());
        self.private.push(String::new());
        for dir in ["/proc", "/sys", "/dev", "/usr", "/etc"] {
            self.ensure_directory(dir);
        }
        let usr = Attributes { read_only: true, nosuid: true, nodev: true, noexec: false };
        let (from, _) = self.pinned(&below("/usr"), span, "the folder")?;
        // A link that an image ships at /usr must not decide which folder of the host is shown.
        let inside = self.cx.host.paths.get(folder).map(|f| format!("{}/usr", f.canonical));
        if !host && inside.as_ref() != Some(&from.path) {
            self.cx.error(
                "E0605",
                span,
                format!("`{folder}/usr` is a symbolic link"),
                "use a root whose /usr is a folder",
            );
            return None;
        }
        let idmap = self.idmap;
        self.mount("/usr", Shown::Bind { from, idmap, recursive: true }, usr, origin.clone());
        for name in TOP {
            let Some(f) = self.cx.host.paths.get(&below(&format!("/{name}"))).cloned() else { continue };
            let path = format!("/{name}");
            match f.link {
                Some(text) => self.push(TreeStep::Link { path, text }, origin.clone()),
                None if f.kind == Kind::Directory => {
                    self.ensure_directory(&path);
                    let from = HostPath { path: f.canonical, device: f.device, inode: f.inode };
                    self.mount(&path, Shown::Bind { from, idmap, recursive: true }, usr, origin.clone());
                }
                None => {}
            }
        }
        self.accounts();
        Some(())
    }

    fn kernel_file_systems(&mut self) {
        let rule = "every machine has its own /proc, /sys and /dev";
        let boots = self.cx.policy.boots();
        self.mount("/proc", Shown::Proc, DATA, Origin::implied(rule));
        // sysfs belongs to the network namespace; on the host's own an ordinary user can't mount one.
        if self.cx.host.privileged || self.cx.policy.network.value != Network::Host {
            self.mount("/sys", Shown::Sysfs, STRICT, Origin::implied(rule));
            if boots {
                self.mount(
                    "/sys/fs/cgroup",
                    Shown::Cgroup2,
                    DATA,
                    Origin::implied("a booted system has a cgroup subtree"),
                );
            }
        } else {
            let shown = Shown::Tmpfs { size: 4096, mode: 0o755, owner: self.owner };
            self.mount(
                "/sys",
                shown,
                STRICT,
                Origin::implied("no sysfs: it can't be mounted on the host's network by an ordinary user"),
            );
        }
    }

    fn devices(&mut self) {
        let rule = "standard devices";
        let owner = self.owner;
        let dev = Attributes { read_only: false, nosuid: true, nodev: true, noexec: true };
        self.mount("/dev", Shown::Tmpfs { size: 1 << 20, mode: 0o755, owner }, dev, Origin::implied(rule));
        self.private.push("/dev".to_owned());
        let node = Attributes { read_only: true, nosuid: true, nodev: false, noexec: true };
        let mut nodes: Vec<(String, Origin, Span)> =
            NODES.iter().map(|n| (format!("/dev/{n}"), Origin::implied(rule), self.cx.policy.span)).collect();
        for d in &self.cx.policy.devices {
            nodes.push((d.path.clone(), self.cx.origin(d.span), d.span));
        }
        for (path, origin, span) in nodes {
            let Some((from, kind)) = self.pinned(&path, span, "the device") else { continue };
            if kind != Kind::Device {
                self.cx.error("E0605", span, format!("`{path}` is not a device"), "bind other files in `mounts`");
                continue;
            }
            self.ensure_file(&path);
            self.mount(&path, Shown::Bind { from, idmap: false, recursive: false }, node, origin);
        }
        for (path, text) in [
            ("/dev/fd", "/proc/self/fd"),
            ("/dev/stdin", "/proc/self/fd/0"),
            ("/dev/stdout", "/proc/self/fd/1"),
            ("/dev/stderr", "/proc/self/fd/2"),
            ("/dev/ptmx", "pts/ptmx"),
        ] {
            self.implied(TreeStep::Link { path: path.to_owned(), text: text.to_owned() }, rule);
        }
        let pty = Attributes { read_only: false, nosuid: true, nodev: false, noexec: true };
        self.ensure_directory("/dev/pts");
        // Group 5 is tty in every Debian; a user without it in its map leaves the group out.
        let group = self
            .maps
            .filter(|_| self.cx.host.privileged)
            .map_or(if self.cx.host.privileged { Some(5) } else { None }, |m| users::outside(&m.groups, 5));
        self.mount("/dev/pts", Shown::Devpts { group }, pty, Origin::implied(rule));
        self.ensure_directory("/dev/shm");
        let shm = Shown::Tmpfs { size: 64 << 20, mode: 0o1777, owner };
        self.mount("/dev/shm", shm, DATA, Origin::implied(rule));
        self.ensure_directory("/dev/mqueue");
        self.mount("/dev/mqueue", Shown::Mqueue, DATA, Origin::implied(rule));
        if self.console {
            self.ensure_file("/dev/console");
            let inside = users::credentials(self.cx).map_or(0, |w| w.uid);
            let owner = match self.maps {
                None => inside,
                Some(m) => users::outside(&m.users, inside).unwrap_or(owner),
            };
            self.mount(
                "/dev/console",
                Shown::Console { owner },
                pty,
                Origin::implied("the machine's terminal is its own"),
            );
        }
        if self.cx.policy.boots() {
            self.run();
        } else {
            self.implied(TreeStep::Seal { target: "/dev".to_owned() }, "nothing is added to /dev");
        }
    }

    /// /run of a booted system, with what its init expects of a container manager.
    fn run(&mut self) {
        let rule = "systemd's container interface";
        let run = Attributes { read_only: false, nosuid: true, nodev: true, noexec: false };
        let shown = Shown::Tmpfs { size: 256 << 20, mode: 0o755, owner: self.owner };
        self.ensure_directory("/run");
        self.mount("/run", shown, run, Origin::implied(rule));
        self.private.push("/run".to_owned());
        self.implied(TreeStep::Directory { path: "/run/host".to_owned(), mode: 0o755, owner: 0 }, rule);
        self.made.insert("/run/host".to_owned());
        let manager = TreeStep::File {
            path: "/run/host/container-manager".to_owned(),
            content: "stockade\n".to_owned(),
            owner: 0,
        };
        self.implied(manager, rule);
        if let Some(f) = self.cx.host.paths.get("/etc/os-release").cloned() {
            let path = "/run/host/os-release";
            self.implied(TreeStep::File { path: path.to_owned(), content: String::new(), owner: 0 }, rule);
            let from = HostPath { path: f.canonical, device: f.device, inode: f.inode };
            self.mount(path, Shown::Bind { from, idmap: false, recursive: false }, STRICT, Origin::implied(rule));
        }
    }

    fn written(&mut self, m: &Written) {
        let origin = self.cx.origin(m.span);
        let attributes = Attributes { read_only: !m.writable, nosuid: !m.suid, nodev: !m.dev, noexec: !m.exec };
        let idmap = self.idmap && m.translated;
        let (shown, is_file) = match &m.source {
            Source::Bind(path) => {
                let Some((from, kind)) = self.pinned(path, m.span, "the bind's source") else { return };
                (Shown::Bind { from, idmap, recursive: true }, kind != Kind::Directory)
            }
            Source::Overlay(path, size) => {
                let Some((lower, kind)) = self.pinned(path, m.span, "the overlay's source") else { return };
                if kind != Kind::Directory {
                    return self.cx.error(
                        "E0605",
                        m.span,
                        format!("`{path}` is not a folder"),
                        "an overlay is made over a folder",
                    );
                }
                (Shown::Overlay { lower, idmap, size: *size }, false)
            }
            Source::Tmpfs(size, mode, who) => {
                let Some(owner) = self.tmpfs_owner(who.as_ref(), m.span) else { return };
                (Shown::Tmpfs { size: *size, mode: *mode, owner }, false)
            }
            Source::Mask => return self.mount(&m.target, Shown::Mask { hidden: false }, STRICT, origin),
            Source::Hide => return self.mount(&m.target, Shown::Mask { hidden: true }, STRICT, origin),
            // Refused when the policy was read.
            Source::Proc | Source::Sysfs | Source::Devpts | Source::Mqueue | Source::Cgroup2 => return,
        };
        if is_file {
            self.ensure_file(&m.target)
        } else {
            self.ensure_directory(&m.target)
        }
        let own = matches!(shown, Shown::Tmpfs { .. } | Shown::Overlay { .. });
        self.mount(&m.target, shown, attributes, origin);
        if own && m.writable {
            self.private.push(m.target.clone());
        }
    }

    fn tmpfs_owner(&mut self, who: Option<&crate::policy::process::Id>, span: Span) -> Option<u32> {
        let Some(who) = who else { return Some(self.owner) };
        let inside = users::user_number(self.cx, who, span)?;
        let outside = match self.maps {
            None => Some(inside),
            Some(m) => users::outside(&m.users, inside),
        };
        if outside.is_none() {
            self.cx.error(
                "E0517",
                span,
                format!("uid {inside} is not in the machine's id map"),
                "only mapped ids can own files inside",
            );
        }
        outside
    }

    fn masks(&mut self) {
        let present = |t: &Self, p: &str| t.cx.host.paths.contains_key(p);
        for path in READ_ONLY.iter().filter(|p| present(self, p)).collect::<Vec<_>>() {
            self.mount(path, Shown::Again, STRICT, Origin::implied("kernel settings are read-only"));
        }
        let sysfs = self.steps.iter().any(|(s, _)| matches!(s, TreeStep::Mount { shown: Shown::Sysfs, .. }));
        let mut list: Vec<String> = PROC_MASKS.iter().map(|p| (*p).to_owned()).collect();
        if sysfs {
            list.extend(SYS_MASKS.iter().map(|p| (*p).to_owned()));
            let of_a_cpu = |p: &&String| p.starts_with(crate::host::CPUS) && p.ends_with(THROTTLE);
            list.extend(self.cx.host.paths.keys().filter(of_a_cpu).cloned());
        }
        for path in list.iter().filter(|p| present(self, p)).collect::<Vec<_>>() {
            self.mount(path, Shown::Mask { hidden: false }, STRICT, Origin::implied("hides facts of the host"));
        }
    }

    fn seal(&mut self) {
        let root = self.cx.policy.root.value.clone();
        if root.origin == RootOrigin::Host || root.access == Access::Volatile && !self.cx.policy.boots() {
            let origin = self.cx.origin(self.cx.policy.root.span);
            self.push(TreeStep::Seal { target: "/".to_owned() }, origin);
        }
    }

    pub(super) fn is_private(&self, path: &str) -> bool {
        // The innermost mount so far decides: a bind below a tmpfs isn't the machine's own.
        let inner = self.steps.iter().filter_map(|(s, _)| match s {
            TreeStep::Mount { target, .. }
                if path == target || path.starts_with(&format!("{}/", target.trim_end_matches('/'))) =>
            {
                Some(target.trim_end_matches('/'))
            }
            _ => None,
        });
        let Some(place) = inner.max_by_key(|t| t.len()) else { return false };
        self.private.iter().any(|p| p == place)
    }

    /// Makes the folders on the way where they are the machine's own; elsewhere they must be there.
    pub(super) fn ensure_directory(&mut self, path: &str) {
        let mut at = String::new();
        for part in path.split('/').filter(|p| !p.is_empty()) {
            at = format!("{at}/{part}");
            if self.is_private(&at) && self.made.insert(at.clone()) {
                let owner = self.owner;
                self.implied(TreeStep::Directory { path: at.clone(), mode: 0o755, owner }, "a place to mount on");
            }
        }
    }

    pub(super) fn ensure_file(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.ensure_directory(parent);
        }
        if self.is_private(path) && self.made.insert(path.to_owned()) {
            let owner = self.owner;
            self.implied(
                TreeStep::File { path: path.to_owned(), content: String::new(), owner },
                "a place to mount on",
            );
        }
    }
}
