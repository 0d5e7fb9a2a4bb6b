//! The machine's control groups, and which file of theirs holds which limit.
//!
//! Where a controller is on the v2 hierarchy its files are used (cgroup-v2.rst), else those of v1
//! (cgroup-v1/). What neither can do is refused.

use super::Cx;
use crate::policy::Policy;
use crate::policy::resources::{self, UNLIMITED};
use crate::source::{Origin, Span};
use serde::{Deserialize, Serialize};

/// A folder of a hierarchy that is made for the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its path.
    pub path: String,
    /// Controllers of v2 that are handed down to it.
    pub controllers: Vec<String>,
    /// For a booted system: uid of its root outside, who owns the part below `program`.
    pub owner: Option<u32>,
}

/// One value in one file of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// As the language names it.
    pub name: String,
    /// The file.
    pub path: String,
    /// What is written.
    pub value: String,
    /// The line.
    pub origin: Origin,
}

/// A count that grows each time a limit is met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The limit, as the language writes it.
    pub limit: String,
    /// The file.
    pub path: String,
    /// The key in it; empty when the file is the number.
    pub key: String,
    /// What one of it is, in words.
    pub meaning: String,
    /// The line.
    pub origin: Origin,
}

/// Everything about control groups.
#[derive(Clone, Debug, Default)]
pub struct Cgroups {
    /// In the order of their making.
    pub groups: Vec<Group>,
    /// Where the machine's first process goes before it starts the program.
    pub enter: Vec<String>,
    /// Where it goes afterwards: beside the program's subtree.
    pub leave: Option<String>,
    /// Values.
    pub limits: Vec<Limit>,
    /// What is told at the end.
    pub counters: Vec<Counter>,
}

/// (limit, controller)
const CONTROLLERS: &[(&str, &str)] = &[
    ("memory", "memory"),
    ("memory-high", "memory"),
    ("swap", "memory"),
    ("cpu", "cpu"),
    ("cpu-weight", "cpu"),
    ("tasks", "pids"),
    ("io-weight", "io"),
    ("io-read", "io"),
    ("io-write", "io"),
    ("io-read-ops", "io"),
    ("io-write-ops", "io"),
];

/// A CPU quota is counted over so many microseconds.
const PERIOD: u64 = 100_000;

pub(super) fn compile(cx: &mut Cx<'_>, owner: Option<u32>) -> Option<Cgroups> {
    let policy = cx.policy;
    let before = cx.diagnostics.errors();
    let mut out = Cgroups::default();
    let facts = cx.host.cgroups.clone();
    let mut wanted: Vec<(String, u64, Span, &str)> = Vec::new();
    for (name, limit) in &policy.limits {
        let word = name.split(' ').next().unwrap_or(name);
        if let Some((_, controller)) = CONTROLLERS.iter().find(|(w, _)| *w == word) {
            wanted.push((name.clone(), limit.value, limit.span, controller));
        }
    }
    if let Some((name, _, span, _)) = wanted.first().filter(|_| !cx.host.privileged) {
        let text = format!("only root can bound `{name}` of a whole machine: it needs a control group");
        cx.error("E0601", *span, text, "run it as root, or bound each process with an rlimit");
        return None;
    }
    // Of v2 there is one group, with all controllers that are needed.
    let mut handed: Vec<String> = Vec::new();
    let mut older: Vec<&str> = Vec::new();
    for (name, _, span, controller) in &wanted {
        if facts.v2_with(controller).is_some() {
            handed.push((*controller).to_owned());
        } else if facts.v1.contains_key(v1_name(controller)) {
            older.push(v1_name(controller));
        } else {
            let text = format!("no hierarchy of this host has the controller `{controller}`, which holds `{name}`");
            cx.error("E0610", *span, text, "boot the host with it, or remove the line");
        }
    }
    // The kernel charges what is written back to the io group of the memory group that the page belongs to
    // (cgroup-v2.rst, "Writeback"): without one of the machine's own, that is everybody's.
    if let Some((name, _, span, _)) =
        wanted.iter().find(|w| w.0.starts_with("io-write") && w.1 != UNLIMITED && facts.v2_with(w.3).is_some())
    {
        match facts.v2_with("memory") {
            Some(_) => handed.push("memory".to_owned()),
            None => {
                let text = format!("`{name}` bounds what is written back only where `memory` is on cgroup v2 as well");
                cx.error("E0610", *span, text, "boot the host with it, or remove the line");
            }
        }
    }
    if policy.boots() {
        // Its init divides what it has among its services.
        let offered = ["memory", "pids", "cpu", "io"].into_iter().filter(|c| facts.v2_with(c).is_some());
        handed.extend(offered.map(str::to_owned));
    }
    handed.sort_unstable();
    handed.dedup();
    older.sort_unstable();
    older.dedup();
    let name = &policy.name;
    if let Some(mount) = facts.v2.as_ref().filter(|_| policy.boots() || !handed.is_empty()) {
        let path = format!("{mount}/stockade/{name}");
        if let Some(owner) = owner.filter(|_| policy.boots()) {
            out.enter.push(format!("{path}/program"));
            out.leave = Some(format!("{path}/init"));
            out.groups.push(Group { path, controllers: handed.clone(), owner: Some(owner) });
        } else {
            out.enter.push(path.clone());
            out.groups.push(Group { path, controllers: handed.clone(), owner: None });
        }
    }
    for controller in &older {
        let Some(mount) = facts.v1.get(*controller) else { continue };
        let path = format!("{mount}/stockade/{name}");
        if !out.groups.iter().any(|g| g.path == path) {
            out.enter.push(path.clone());
            out.groups.push(Group { path, controllers: Vec::new(), owner: None });
        }
    }
    // v1 wants the smaller bound of memory before the larger one of memory and swap.
    wanted.sort_by_key(|(name, ..)| (name == "swap", name.clone()));
    for (name, value, span, controller) in &wanted {
        let (v2, place) = match (facts.v2_with(controller), facts.v1.get(v1_name(controller))) {
            (Some(mount), _) => (true, format!("{mount}/stockade/{}", policy.name)),
            (None, Some(mount)) => (false, format!("{mount}/stockade/{}", policy.name)),
            _ => continue,
        };
        let files = if v2 { in_v2(cx, name, *value, *span) } else { in_v1(cx, name, *value, *span) };
        for (file, value) in files.unwrap_or_default() {
            let path = format!("{place}/{file}");
            // `8:0 rbps=5` beside others in one file, or `8:0 5`.
            let device =
                |v: &str| v.split_once('=').map_or(v.split(' ').next(), |(key, _)| Some(key)).map(str::to_owned);
            let same = |l: &&Limit| l.path == path && device(&l.value) == device(&value);
            if let Some(old) = out.limits.iter().find(same).filter(|_| name.contains(' ')) {
                let text = format!("this is the device of `{}` once more, by another name", old.name);
                cx.error("E0315", *span, text, "keep one of them");
            }
            let (name, origin) = (name.clone(), cx.origin(*span));
            out.limits.push(Limit { name, path: format!("{place}/{file}"), value, origin });
        }
        out.counters.extend(counters(policy, name, v2).into_iter().map(|(file, key, meaning)| Counter {
            limit: resources::text(name, *value),
            path: format!("{place}/{file}"),
            key: key.to_owned(),
            meaning: meaning.to_owned(),
            origin: cx.origin(*span),
        }));
        if v2 && name == "memory" && !policy.boots() {
            let origin = Origin::implied("one program has one fate: no half of it goes on without the other");
            let path = format!("{place}/memory.oom.group");
            out.limits.push(Limit { name: "memory".into(), path, value: "1".into(), origin });
        }
    }
    (cx.diagnostics.errors() == before).then_some(out)
}

fn v1_name(controller: &str) -> &str {
    if controller == "io" { "blkio" } else { controller }
}

type Files = Vec<(String, String)>;

fn max(value: u64) -> String {
    if value == UNLIMITED { "max".to_owned() } else { value.to_string() }
}

/// Our own init is in the group as well, and isn't the program's.
fn tasks(value: u64) -> u64 {
    if value == UNLIMITED { value } else { value.saturating_add(1) }
}

/// The kernel counts memory in pages: what is written is what it holds.
fn pages(value: u64) -> u64 {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|p| u64::try_from(p).ok()).filter(|p| *p > 0).unwrap_or(4096);
    if value == UNLIMITED { value } else { value / page * page }
}

fn in_v2(cx: &mut Cx<'_>, name: &str, value: u64, span: Span) -> Option<Files> {
    let one = |file: &str, text: String| Some(vec![(file.to_owned(), text)]);
    if let Some((word, device)) = name.split_once(' ') {
        let key = match word {
            "io-read" => "rbps",
            "io-write" => "wbps",
            "io-read-ops" => "riops",
            _ => "wiops",
        };
        let number = device_number(cx, device, span)?;
        return one("io.max", format!("{number} {key}={}", max(value)));
    }
    match name {
        "memory" => one("memory.max", max(pages(value))),
        "memory-high" => one("memory.high", max(pages(value))),
        "swap" => one("memory.swap.max", max(pages(value))),
        "cpu" if value == UNLIMITED => one("cpu.max", format!("max {PERIOD}")),
        "cpu" => one("cpu.max", format!("{} {PERIOD}", value * PERIOD / 100)),
        "cpu-weight" => one("cpu.weight", value.to_string()),
        "io-weight" => one("io.weight", format!("default {value}")),
        _ => one("pids.max", max(tasks(value))),
    }
}

fn in_v1(cx: &mut Cx<'_>, name: &str, value: u64, span: Span) -> Option<Files> {
    let one = |file: &str, text: String| Some(vec![(file.to_owned(), text)]);
    // -1 is no bound.
    let bytes = |v: u64| if v == UNLIMITED { "-1".to_owned() } else { v.to_string() };
    fn refuse(cx: &mut Cx<'_>, span: Span, what: &str) -> Option<Files> {
        let text = format!("{what}, and the controller is on the older hierarchy here");
        cx.error("E0610", span, text, "use a host whose controllers are on cgroup v2, or remove the line");
        None
    }
    let has = |cx: &Cx<'_>, file: &str| cx.host.cgroups.v1_files.iter().any(|f| f == file);
    if let Some((word, device)) = name.split_once(' ') {
        let file = match word {
            "io-read" => "blkio.throttle.read_bps_device",
            "io-read-ops" => "blkio.throttle.read_iops_device",
            // cgroup-v2.rst, "Writeback".
            _ if value != UNLIMITED => {
                return refuse(
                    cx,
                    span,
                    "v1 doesn't see what is written through the cache, which is nearly everything",
                );
            }
            "io-write" => "blkio.throttle.write_bps_device",
            _ => "blkio.throttle.write_iops_device",
        };
        if !has(cx, "blkio.throttle.read_bps_device") {
            return refuse_missing(cx, name, span);
        }
        let number = device_number(cx, device, span)?;
        // 0 is no bound there.
        return one(file, format!("{number} {}", if value == UNLIMITED { 0 } else { value }));
    }
    match name {
        "memory" => one("memory.limit_in_bytes", bytes(pages(value))),
        "memory-high" => refuse(cx, span, "v1 has no `high`: its soft limit bounds nothing while the host has memory"),
        "io-weight" => refuse(cx, span, "weights of v1 hold with one scheduler only"),
        "swap" if !has(cx, "memory.memsw.limit_in_bytes") => refuse_missing(cx, name, span),
        "swap" => {
            // One bound for both together.
            let memory = cx.policy.limits.get("memory").map(|l| l.value).filter(|v| *v != UNLIMITED);
            match memory {
                _ if value == UNLIMITED => one("memory.memsw.limit_in_bytes", "-1".into()),
                Some(m) => one("memory.memsw.limit_in_bytes", pages(m.saturating_add(value)).to_string()),
                None => refuse(cx, span, "v1 bounds swap together with memory only: write `memory` as well"),
            }
        }
        "cpu" if !has(cx, "cpu.cfs_quota_us") => refuse_missing(cx, name, span),
        "cpu" => {
            let quota = if value == UNLIMITED { "-1".to_owned() } else { (value * PERIOD / 100).to_string() };
            Some(vec![("cpu.cfs_period_us".into(), PERIOD.to_string()), ("cpu.cfs_quota_us".into(), quota)])
        }
        // 100 is 1024 there (cgroup_cpu_shares of systemd.resource-control(5) says the same).
        "cpu-weight" => one("cpu.shares", (value * 1024 / 100).max(2).to_string()),
        _ => one("pids.max", max(tasks(value))),
    }
}

fn refuse_missing(cx: &mut Cx<'_>, name: &str, span: Span) -> Option<Files> {
    let text = format!("this kernel was built without what holds `{name}` on the older hierarchy");
    cx.error("E0610", span, text, "use a host whose controllers are on cgroup v2, or remove the line");
    None
}

/// `major:minor` of a block device of the host.
fn device_number(cx: &mut Cx<'_>, device: &str, span: Span) -> Option<String> {
    match cx.host.paths.get(device).and_then(|f| f.block) {
        Some((major, minor)) => Some(format!("{major}:{minor}")),
        None => {
            let text = format!("`{device}` is no block device of this host");
            cx.error("E0605", span, text, "name a disk, as in \"/dev/sda\"; maxima don't hold for partitions");
            None
        }
    }
}

/// (file, key, what one of it is)
///
/// Where v1 bounds memory and swap together, its count of refusals is told by neither file: newer kernels don't count
/// for both (track_failcnt in mm/page_counter.c), and what hits the common bound first isn't counted for memory.
fn counters(policy: &Policy, name: &str, v2: bool) -> Vec<(&'static str, &'static str, &'static str)> {
    let bounded = |name: &str| policy.limits.get(name).is_some_and(|l| l.value != UNLIMITED);
    if !bounded(name) {
        return Vec::new();
    }
    match (name, v2) {
        ("memory", true) => vec![
            ("memory.events", "oom_kill", "processes were killed for memory"),
            ("memory.events", "max", "times more memory was asked for"),
        ],
        ("memory", false) => {
            let mut out = vec![("memory.oom_control", "oom_kill", "processes were killed for memory")];
            out.extend((!bounded("swap")).then_some(("memory.failcnt", "", "times more memory was asked for")));
            out
        }
        ("memory-high", true) => vec![("memory.events", "high", "times it was slowed down for memory")],
        ("swap", true) => vec![("memory.swap.events", "max", "times more swap was asked for")],
        ("cpu", _) => vec![("cpu.stat", "nr_throttled", "periods of 100 ms in which it had to wait")],
        ("tasks", _) => vec![("pids.events", "max", "times another task was refused")],
        _ => Vec::new(),
    }
}
