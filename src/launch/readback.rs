//! Reading a process's confinement from the kernel, and comparing it with the plan.
//!
//! The same text is made from outside by the supervisor, before the program runs, and from inside by
//! `stockade-probe`, after exec; its SHA-256 is the confinement's digest.

use crate::plan::step::{Range, Shown, TreeStep, hex};
use crate::plan::{Action, Plan};
use crate::sys::process::namespace_owner;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

/// One mount as mountinfo shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MountLine {
    /// Where.
    pub target: String,
    /// `ro,nosuid,nodev,noexec`, as far as they are set.
    pub restrictions: String,
    /// Control groups: their files set limits.
    pub groups: bool,
}

/// What the kernel holds of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Real, effective, saved and file-system user, inside.
    pub uids: Vec<u32>,
    /// Likewise groups.
    pub gids: Vec<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// CapInh, CapPrm, CapEff, CapBnd, CapAmb.
    pub capabilities: [u64; 5],
    /// NoNewPrivs
    pub no_new_privs: bool,
    /// The umask, octal.
    pub umask: String,
    /// SigBlk and SigIgn.
    pub signals: [u64; 2],
    /// Soft and hard limits by resource.
    pub limits: BTreeMap<String, (String, String)>,
    /// Sizes of the id maps' ranges: inside, count.
    pub maps: Vec<(u32, u32)>,
    /// Mounts in order.
    pub mounts: Vec<MountLine>,
    /// Host name; only seen from inside, empty otherwise.
    pub cwd: String,
}

/// A process can't be read.
#[derive(Debug, thiserror::Error)]
#[error("can't read {path}: {cause}")]
pub struct ReadError {
    path: String,
    cause: String,
}

/// Reads /proc/PID of a process; `ids` translates from the reader's ids to those inside.
pub fn observe(process: &Path, ids: Option<(&[Range], &[Range])>) -> Result<Observed, ReadError> {
    let read = |name: &str| {
        let path = process.join(name);
        fs::read_to_string(&path)
            .map_err(|e: io::Error| ReadError { path: path.display().to_string(), cause: e.to_string() })
    };
    let status = read("status")?;
    let field = |key: &str| {
        status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':')).map(str::trim).unwrap_or("").to_owned()
    };
    let inside = |ranges: Option<&[Range]>, text: &str| -> Vec<u32> {
        let numbers = text.split_whitespace().filter_map(|n| n.parse::<u32>().ok());
        numbers
            .map(|n| match ranges {
                None => n,
                Some(list) => list
                    .iter()
                    .find(|r| n >= r.outside && n - r.outside < r.count)
                    .map_or(u32::MAX, |r| r.inside + (n - r.outside)),
            })
            .collect()
    };
    let bits = |key: &str| u64::from_str_radix(&field(key), 16).unwrap_or(u64::MAX);
    let (users, groups) = (ids.map(|i| i.0), ids.map(|i| i.1));
    Ok(Observed {
        uids: inside(users, &field("Uid")),
        gids: inside(groups, &field("Gid")),
        groups: inside(groups, &field("Groups")),
        capabilities: ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(bits),
        no_new_privs: field("NoNewPrivs") == "1",
        umask: field("Umask"),
        signals: ["SigBlk", "SigIgn"].map(bits),
        limits: limits(&read("limits")?),
        maps: read("uid_map")?
            .lines()
            .filter_map(|l| {
                let mut f = l.split_whitespace().filter_map(|n| n.parse().ok());
                let (first, _, count) = (f.next()?, f.next()?, f.next()?);
                Some((first, count))
            })
            .collect(),
        mounts: mounts(&read("mountinfo")?),
        cwd: fs::read_link(process.join("cwd")).map(|p| p.display().to_string()).unwrap_or_default(),
    })
}

/// proc_pid_limits: `Max open files            1024                 524288               files`
fn limits(text: &str) -> BTreeMap<String, (String, String)> {
    let mut out = BTreeMap::new();
    for line in text.lines().skip(1) {
        let (Some(name), Some(rest)) = (line.get(..26), line.get(26..)) else { continue };
        let mut f = rest.split_whitespace();
        if let (Some(soft), Some(hard)) = (f.next(), f.next()) {
            out.insert(name.trim().to_owned(), (soft.to_owned(), hard.to_owned()));
        }
    }
    out
}

/// proc_pid_mountinfo(5): field 5 is the mount point, field 6 the mount's own options.
fn mounts(text: &str) -> Vec<MountLine> {
    let mut out = Vec::new();
    for line in text.lines() {
        let f: Vec<&str> = line.split(' ').collect();
        let (Some(target), Some(options)) = (f.get(4), f.get(5)) else { continue };
        let set: Vec<&str> = options.split(',').collect();
        let mut restrictions: Vec<&str> =
            ["ro", "nosuid", "nodev", "noexec"].into_iter().filter(|w| set.contains(w)).collect();
        if restrictions.is_empty() {
            restrictions.push("rw");
        }
        // After the separator comes the type of the file system.
        let groups = f.iter().skip_while(|w| **w != "-").nth(1).is_some_and(|kind| kind.starts_with("cgroup"));
        out.push(MountLine { target: (*target).to_owned(), restrictions: restrictions.join(","), groups });
    }
    out
}

impl Observed {
    /// The canonical text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let list = |l: &[u32]| l.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        // Writing to a string can't fail.
        let mut line = |key: &str, value: &str| writeln!(out, "{key} {value}").unwrap_or(());
        line("uid", &list(&self.uids));
        line("gid", &list(&self.gids));
        line("groups", &list(&self.groups));
        for (key, v) in ["inheritable", "permitted", "effective", "bounding", "ambient"].iter().zip(self.capabilities) {
            line(key, &format!("{v:016x}"));
        }
        line("no-new-privs", if self.no_new_privs { "1" } else { "0" });
        line("umask", &self.umask);
        line("signals", &format!("blocked {:016x} ignored {:016x}", self.signals[0], self.signals[1]));
        for (first, count) in &self.maps {
            line("map", &format!("{first} count {count}"));
        }
        for (name, (soft, hard)) in &self.limits {
            line("limit", &format!("{name}: {soft} {hard}"));
        }
        for m in &self.mounts {
            line("mount", &format!("{} {}", m.target, m.restrictions));
        }
        line("cwd", &self.cwd);
        out
    }

    /// SHA-256 of [`Self::text`], in hex.
    pub fn digest(&self) -> String {
        use sha2::Digest as _;
        hex(&sha2::Sha256::digest(self.text().as_bytes()))
    }
}

/// What the plan says and the kernel doesn't hold, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The step of the plan, from 1.
    pub step: usize,
    /// In words.
    pub text: String,
}

/// Kinds of namespaces, by their names below /proc/PID/ns and the flags that make them (namespaces(7)).
const KINDS: &[(&str, u64)] = &[
    ("user", 0x1000_0000),
    ("pid", 0x2000_0000),
    ("ipc", 0x800_0000),
    ("uts", 0x400_0000),
    ("net", 0x4000_0000),
    ("cgroup", 0x200_0000),
];

/// Every namespace that the plan makes must be another one than the supervisor's, and belong to whom it says.
pub(super) fn namespaces(plan: &Plan, program: i32) -> io::Result<Vec<Difference>> {
    let mut out = Vec::new();
    for (i, s) in plan.steps().iter().enumerate() {
        let Action::CloneInit { namespaces, owner } = &s.action else { continue };
        let mut differs = |text: String| out.push(Difference { step: i + 1, text });
        let made = KINDS.iter().filter(|(_, bit)| namespaces & bit != 0).map(|(name, _)| *name);
        for name in made.chain(["mnt"]) {
            let theirs = fs::read_link(format!("/proc/{program}/ns/{name}"))?;
            if theirs == fs::read_link(format!("/proc/self/ns/{name}"))? {
                differs(format!("the {name} namespace is the host's"));
            }
        }
        if let Some(owner) = owner {
            let found = namespace_owner(fs::File::open(format!("/proc/{program}/ns/user"))?.as_fd())?;
            if found != *owner {
                differs(format!("the user namespace belongs to uid {found}"));
            }
        }
    }
    Ok(out)
}

/// Compares what was observed with every step of the plan that leaves a trace on the process.
pub fn compare(plan: &Plan, seen: &Observed) -> Vec<Difference> {
    let mut out = Vec::new();
    let mut expected: Vec<(String, String, bool, usize)> = Vec::new();
    for (i, s) in plan.steps().iter().enumerate() {
        let step = i + 1;
        let mut differ = |what: &str, want: String, got: String| {
            if want != got {
                out.push(Difference { step, text: format!("{what} is {got}, the plan says {want}") });
            }
        };
        match &s.action {
            Action::SetCredentials { who, groups } => {
                differ("uid", format!("{:?}", vec![who.uid; 4]), format!("{:?}", seen.uids));
                differ("gid", format!("{:?}", vec![who.gid; 4]), format!("{:?}", seen.gids));
                if *groups {
                    differ("the list of groups", format!("{:?}", who.groups), format!("{:?}", seen.groups));
                }
            }
            Action::SetCapabilities { sets, .. } => {
                let want = [sets.inheritable, sets.permitted, sets.effective, sets.bounding, sets.ambient];
                differ("the capability sets", format!("{want:x?}"), format!("{:x?}", seen.capabilities));
            }
            Action::SetNoNewPrivs => differ("no_new_privs", "true".into(), seen.no_new_privs.to_string()),
            Action::SetUmask(m) => {
                differ("umask", format!("{m:04o}"), seen.umask.clone());
                differ("blocked and ignored signals", "[0, 0]".into(), format!("{:?}", seen.signals));
            }
            Action::SetRlimit(l) => {
                let (name, unit) = limit_name(&l.name);
                let value = if l.value == u64::MAX { "unlimited".to_owned() } else { (l.value / unit).to_string() };
                let got = seen.limits.get(name).map_or(String::new(), |(s, h)| format!("{s} {h}"));
                differ(&format!("limit {}", l.name), format!("{value} {value}"), got);
            }
            Action::WriteIdMaps { users, .. } => {
                let want: Vec<(u32, u32)> = users.iter().map(|r| (r.inside, r.count)).collect();
                differ("uid_map", format!("{want:?}"), format!("{:?}", seen.maps));
            }
            Action::ChangeDirectory(d) => differ("the working directory", d.clone(), seen.cwd.clone()),
            Action::Tree(TreeStep::Mount { target, shown, attributes }) => {
                let loose = matches!(shown, Shown::Bind { recursive: true, .. });
                let text = attributes.to_string();
                let restrictions = text.strip_prefix("rw,").map_or(text.clone(), str::to_owned);
                expected.push((target.clone(), restrictions, loose, step));
            }
            Action::Tree(TreeStep::Seal { target }) => {
                for e in expected.iter_mut().filter(|e| e.0 == *target) {
                    let rest = e.1.strip_prefix("rw").unwrap_or(&e.1).trim_start_matches(',').to_owned();
                    e.1 = if rest.is_empty() {
                        "ro".into()
                    } else if e.1.starts_with("ro") {
                        e.1.clone()
                    } else {
                        format!("ro,{rest}")
                    };
                }
            }
            _ => {}
        }
    }
    compare_mounts(&expected, &seen.mounts, &mut out);
    let is = |wanted: fn(&Action) -> bool| plan.steps().iter().position(|s| wanted(&s.action));
    // Ids of its own aren't those that own the files of limits.
    if let (Some(step), None) =
        (is(|a| matches!(a, Action::SetLimit(_))), is(|a| matches!(a, Action::WriteIdMaps { .. })))
    {
        for m in seen.mounts.iter().filter(|m| m.groups && !m.restrictions.split(',').any(|r| r == "ro")) {
            let text = format!("`{}` shows control groups, and the machine could write there", m.target);
            out.push(Difference { step: step + 1, text });
        }
    }
    out
}

fn compare_mounts(expected: &[(String, String, bool, usize)], seen: &[MountLine], out: &mut Vec<Difference>) {
    let mut left: Vec<&MountLine> = seen.iter().collect();
    for (target, restrictions, loose, step) in expected {
        match left.iter().position(|m| m.target == *target) {
            Some(i) => {
                let m = left.remove(i);
                // What lies on a host mount that is stricter already stays stricter.
                let has = |w: &str| m.restrictions.split(',').any(|r| r == w);
                let met = if *loose {
                    restrictions.split(',').all(|w| w == "rw" || has(w))
                } else {
                    m.restrictions == *restrictions
                };
                if !met {
                    out.push(Difference {
                        step: *step,
                        text: format!("`{target}` is mounted {}, the plan says {restrictions}", m.restrictions),
                    });
                }
            }
            None => out.push(Difference { step: *step, text: format!("`{target}` is not mounted") }),
        }
    }
    for m in left {
        // What the host had mounted below a recursive bind came along, with the bind's restrictions.
        let parent = expected
            .iter()
            .filter(|(t, _, loose, _)| *loose && m.target.starts_with(&format!("{t}/")))
            .max_by_key(|e| e.0.len());
        let has = |w: &str| m.restrictions.split(',').any(|r| r == w);
        let fine = parent.is_some_and(|(_, restrictions, ..)| restrictions.split(',').all(|w| w == "rw" || has(w)));
        if !fine {
            let step = parent.map_or(expected.last().map_or(1, |e| e.3), |p| p.3);
            out.push(Difference {
                step,
                text: format!("`{}` is mounted {}, and no step says so", m.target, m.restrictions),
            });
        }
    }
}

/// The name that /proc/PID/limits uses, and its unit.
fn limit_name(word: &str) -> (&'static str, u64) {
    match word {
        "address-space" => ("Max address space", 1),
        "core" => ("Max core file size", 1),
        "cpu-time" => ("Max cpu time", 1),
        "data" => ("Max data size", 1),
        "fsize" => ("Max file size", 1),
        "locks" => ("Max file locks", 1),
        "memlock" => ("Max locked memory", 1),
        "msgqueue" => ("Max msgqueue size", 1),
        "nice" => ("Max nice priority", 1),
        "nofile" => ("Max open files", 1),
        "nproc" => ("Max processes", 1),
        "rtprio" => ("Max realtime priority", 1),
        "sigpending" => ("Max pending signals", 1),
        _ => ("Max stack size", 1),
    }
}
