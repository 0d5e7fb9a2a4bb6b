//! What a unit's directives make of system calls: the lines of the language, and the filters that systemd
//! loads for them, one on top of the other (systemd.exec(5); systemd 252, src/shared/seccomp-util.c and
//! config_parse_syscall_filter). A test reads those filters from the kernel.

use super::import::names;
use super::ini::{Line, boolean, items};
use super::profile::{Compare, Entry, Op, Profile};
use super::systemd_groups::expand;
use crate::compile::libseccomp;
use crate::kernel::{calls, constants};
use crate::policy::syscalls::{Action, ENOSYS, EPERM};
use std::collections::BTreeSet;

/// Directives read so far.
#[derive(Default)]
pub struct Calls {
    /// SystemCallFilter=: whether the list says what is allowed, and the list.
    filter: Option<(bool, BTreeSet<&'static str>)>,
    /// RestrictAddressFamilies=, likewise.
    families: Option<(bool, BTreeSet<String>)>,
    /// What is refused, as the language says it.
    denied: Vec<String>,
    /// The filters of the refusals.
    refusals: Vec<Profile>,
    /// Capabilities that the directives take away (systemd 252, unit_patch_contexts).
    pub taken: Vec<&'static str>,
    /// Places that they close (systemd 252, src/core/namespace.c).
    pub closes: Vec<&'static str>,
    /// A refused call fails and doesn't kill.
    errno: bool,
    /// Remarks.
    pub notes: Vec<String>,
}

impl Calls {
    /// The directives that this is about.
    pub const KEYS: &[&str] = &[
        "LockPersonality",
        "MemoryDenyWriteExecute",
        "ProtectClock",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "SystemCallArchitectures",
        "SystemCallErrorNumber",
        "SystemCallFilter",
    ];

    /// True when the unit has a list of what is allowed.
    pub fn is_list(&self) -> bool {
        self.filter.as_ref().is_some_and(|(allow, _)| *allow)
    }

    /// All filters.
    pub fn stack(&self) -> Vec<Profile> {
        let list = self.filter.iter().map(|(allow, list)| match allow {
            true => names(list.iter().copied()),
            false => denying(list.iter().filter_map(|n| calls::find(n)).map(|c| (c, Vec::new()))),
        });
        list.chain(self.refusals.iter().cloned()).collect()
    }

    /// Lines for a `syscalls` block under a baseline.
    pub fn lines(&self, kernel: (u16, u16)) -> Vec<(Action, String)> {
        let known = |l: &str| calls::find(l.split('(').next().unwrap_or_default()).is_none_or(|c| c.since <= kernel);
        let list = self.filter.iter().flat_map(|(allow, list)| {
            let action = if *allow { Action::Allow } else { Action::Errno(EPERM) };
            list.iter().map(move |n| (action, (*n).to_owned()))
        });
        // As systemd answers these two, and the library's profiles: libc falls back.
        let errno = |l: &str| if ["clone3", "openat2"].contains(&l) { ENOSYS } else { EPERM };
        let denied = self.denied.iter().map(|l| (Action::Errno(errno(l)), l.clone()));
        list.chain(denied).filter(|(_, l)| known(l)).collect()
    }

    /// What is known when all directives are read.
    pub fn finish(&mut self) {
        if let Some((allow, list)) = self.families.take() {
            self.restrict_families(allow, &list);
        }
        if let Some((true, list)) = &mut self.filter {
            let nameless: Vec<&str> = list.iter().copied().filter(|n| !libseccomp::knows(n)).collect();
            list.retain(|n| !nameless.contains(n));
            self.notes.extend(nameless_note(&nameless));
        }
        if self.filter.is_some() && !self.errno {
            self.notes.push("a refused call kills the service there, and answers EPERM here".into());
        }
        // A ring opens files and sockets past what is refused by argument: where something is, it is refused too.
        let open = self.filter.as_ref().is_none_or(|(allow, list)| list.contains("io_uring_setup") == *allow);
        if open && self.denied.iter().any(|l| l.contains('(') || l.starts_with('@')) {
            self.denied.push("@io-uring".into());
            self.notes.push(
                "io_uring is refused: a ring opens files and sockets past what the unit restricts by argument".into(),
            );
        }
    }

    /// Takes a directive.
    pub fn take(&mut self, line: &Line) -> Result<(), String> {
        match line.key.as_str() {
            "SystemCallArchitectures" if line.value == "native" => {}
            "SystemCallArchitectures" => {
                self.notes.push(format!("line {}: a foreign ABI kills the process in any case", line.number));
            }
            "SystemCallErrorNumber" => {
                self.errno = line.value != "kill";
                if self.errno && line.value != "EPERM" {
                    self.notes.push(format!("line {}: a refused call answers EPERM, not {}", line.number, line.value));
                }
            }
            "SystemCallFilter" => return self.filter(&line.value),
            "RestrictAddressFamilies" => return self.families(&line.value),
            "RestrictNamespaces" => return self.namespaces(&line.value),
            key => {
                if boolean(&line.value)? {
                    self.restrict(key);
                }
            }
        }
        Ok(())
    }

    /// The first line says whether the list is of what is allowed; further ones add to it, or with `~` take away.
    fn filter(&mut self, value: &str) -> Result<(), String> {
        let (inverse, list_of) = value.strip_prefix('~').map_or((false, value), |rest| (true, rest));
        let (allow, list) = self.filter.get_or_insert_with(|| {
            let default = if inverse { Vec::new() } else { expand("@default").unwrap_or_default() };
            (!inverse, default.into_iter().collect())
        });
        for item in items(list_of)? {
            let (name, errno) = item.split_once(':').map_or((item.as_str(), None), |(n, e)| (n, Some(e)));
            if errno.is_some() && !inverse {
                // As systemd does: such an item is no item.
                self.notes.push(format!("`{item}`: what is allowed has no error, and is left out"));
                continue;
            }
            if errno.is_some_and(|e| e != "EPERM") {
                self.notes.push(format!("`{item}`: a refused call answers EPERM here"));
            }
            let found = match name.starts_with('@') {
                true => expand(name).ok_or(format!("unknown group `{name}`"))?,
                false => match calls::find(name) {
                    Some(c) => vec![c.name],
                    None if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                        self.notes.push(format!("neither x86-64 nor aarch64 has the call `{name}`"));
                        continue;
                    }
                    None => return Err(format!("`{name}` is no name of a call")),
                },
            };
            for n in found {
                match inverse == *allow {
                    true => list.remove(n),
                    false => list.insert(n),
                };
            }
        }
        Ok(())
    }

    fn families(&mut self, value: &str) -> Result<(), String> {
        // Whatever was said before (systemd.exec(5): "none" forbids all).
        if value == "none" {
            self.families = Some((true, BTreeSet::new()));
            return Ok(());
        }
        let (inverse, list_of) = value.strip_prefix('~').map_or((false, value), |rest| (true, rest));
        let (allow, list) = self.families.get_or_insert_with(|| (!inverse, BTreeSet::new()));
        for f in items(list_of)? {
            if constants::find(&f).is_none_or(|c| c.family != "af") {
                return Err(format!("unknown family `{f}`"));
            }
            match inverse == *allow {
                true => list.remove(&f),
                false => list.insert(f),
            };
        }
        Ok(())
    }

    fn restrict_families(&mut self, allow: bool, list: &BTreeSet<String>) {
        let Some(call) = calls::find("socket") else { return };
        let shown = list.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let numbers: Vec<(String, u64)> = list.iter().map(|f| named(f)).collect();
        if !allow {
            self.refuse_by("socket", 0, "in", Op::Eq, &numbers);
        } else if list.is_empty() {
            self.refuse("socket");
        } else {
            self.denied.push(format!("socket(family not in [{shown}])"));
            let entries = numbers.iter().map(|(_, value)| Entry {
                call,
                action: Action::Allow,
                compares: vec![Compare { index: 0, op: Op::Eq, value: *value, two: 0 }],
            });
            let others = calls::CALLS.iter().filter(|c| c.name != "socket");
            let others = others.map(|call| Entry { call, action: Action::Allow, compares: Vec::new() });
            self.refusals.push(Profile { default: Action::Errno(EPERM), entries: entries.chain(others).collect() });
        }
    }

    fn namespaces(&mut self, value: &str) -> Result<(), String> {
        let mut gone: Vec<(String, u64)> = kinds(value)?.iter().map(|f| named(f)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        // systemd 252 has no word for it, and lets it through only where it lets all through.
        gone.push(named("CLONE_NEWTIME"));
        self.refuse_by("unshare", 0, "has any", Op::Masked, &gone);
        self.refuse_by("clone", 0, "has any", Op::Masked, &gone);
        // Its flags are behind a pointer.
        self.refuse("clone3");
        match gone.len() {
            8 => self.refuse("setns"),
            _ => {
                self.refuse_by("setns", 1, "has any", Op::Masked, &gone);
                // 0 joins a namespace of any kind.
                self.refuse_by("setns", 1, "in", Op::Eq, &[("0".into(), 0)]);
            }
        }
        Ok(())
    }

    /// A directive that is on.
    pub fn restrict(&mut self, key: &str) {
        let (taken, closes): (&[_], &[_]) = match key {
            "PrivateDevices" => (&["mknod", "sys_rawio"], &[]),
            "ProtectClock" => (&["sys_time", "wake_alarm"], &[]),
            "ProtectKernelLogs" => (&["syslog"], &["/dev/kmsg"]),
            "ProtectKernelModules" => (&["sys_module"], &["/usr/lib/modules"]),
            _ => (&[], &[]),
        };
        self.taken.extend(taken);
        self.closes.extend(closes);
        match key {
            "RestrictRealtime" => {
                let Some(call) = calls::find("sched_setscheduler") else { return };
                // SCHED_OTHER, SCHED_BATCH, SCHED_IDLE stay; compared as one number, flags included.
                self.denied.push("sched_setscheduler(policy not in [0, 3, 5])".into());
                let compare = |op, value| (call, vec![Compare { index: 1, op, value, two: 0 }]);
                let refused = [1, 2, 4].map(|p| compare(Op::Eq, p));
                self.refusals.push(denying(refused.into_iter().chain([compare(Op::Gt, 5)])));
            }
            "RestrictSUIDSGID" => {
                let bits = [named("S_ISUID"), named("S_ISGID")];
                for (call, index) in [
                    ("chmod", 1),
                    ("fchmod", 1),
                    ("fchmodat", 2),
                    ("mkdir", 1),
                    ("mkdirat", 2),
                    ("mknod", 1),
                    ("mknodat", 2),
                ] {
                    self.refuse_by(call, index, "has any", Op::Masked, &bits);
                }
                // And the calls that create files: the lines are the group's, the filters these.
                for (call, flags, mode) in [("creat", None, 1), ("open", Some(1), 2), ("openat", Some(2), 3)] {
                    let Some(call) = calls::find(call) else { continue };
                    let (_, create) = named("O_CREAT");
                    let masked = |index, value| Compare { index, op: Op::Masked, value, two: value };
                    for (_, bit) in &bits {
                        let compares = flags.map(|i| masked(i, create)).into_iter().chain([masked(mode, *bit)]);
                        self.refusals.push(denying([(call, compares.collect())]));
                    }
                }
                for call in ["fchmodat2", "openat2"] {
                    self.refuse(call);
                }
                self.denied.push("@set-id-bits".into());
            }
            "MemoryDenyWriteExecute" => {
                let exec = [named("PROT_EXEC")];
                self.refuse_by("mmap", 2, "has all", Op::Masked, &[named("PROT_WRITE"), named("PROT_EXEC")]);
                self.refuse_by("mprotect", 2, "has any", Op::Masked, &exec);
                self.refuse_by("pkey_mprotect", 2, "has any", Op::Masked, &exec);
                self.refuse_by("shmat", 2, "has any", Op::Masked, &[named("SHM_EXEC")]);
                // The same by another name, which systemd leaves open; 0xffffffff only asks.
                let implies = "personality(personality has any [READ_IMPLIES_EXEC], personality != 0xffffffff)";
                self.denied.push(implies.into());
            }
            "LockPersonality" => self.refuse("personality"),
            "ProtectHostname" => ["sethostname", "setdomainname"].iter().for_each(|c| self.refuse(c)),
            "ProtectKernelLogs" => self.refuse("syslog"),
            "ProtectClock" => self.refuse_group("@clock"),
            "ProtectKernelModules" => self.refuse_group("@module"),
            "PrivateDevices" => self.refuse_group("@raw-io"),
            _ => {}
        }
    }

    /// A refusal, whatever the arguments.
    fn refuse(&mut self, name: &str) {
        let Some(call) = calls::find(name) else { return };
        self.denied.push(name.to_owned());
        self.refusals.push(denying([(call, Vec::new())]));
    }

    fn refuse_group(&mut self, group: &str) {
        for name in expand(group).unwrap_or_default() {
            self.refuse(name);
        }
    }

    /// A refusal by one argument: the line of the language, and the filter that systemd loads for it.
    fn refuse_by(&mut self, name: &str, index: u8, test: &str, op: Op, values: &[(String, u64)]) {
        let Some(call) = calls::find(name) else { return };
        let argument = call.args.get(usize::from(index)).map_or("?", |a| a.name);
        let list: Vec<&str> = values.iter().map(|(n, _)| n.as_str()).collect();
        self.denied.push(format!("{name}({argument} {test} [{}])", list.join(", ")));
        let compare = |v: u64| (call, vec![Compare { index, op, value: v, two: v }]);
        let filter = match test {
            "has all" => denying([compare(values.iter().fold(0, |m, (_, v)| m | v))]),
            _ => denying(values.iter().map(|(_, v)| compare(*v))),
        };
        self.refusals.push(filter);
    }
}

/// What is said of calls that are allowed by a name which systemd skips.
pub(super) fn nameless_note(names: &[&str]) -> Option<String> {
    let left = "this host's libseccomp has no name for these, and systemd leaves them out of what it allows";
    (!names.is_empty()).then(|| format!("{left}: {}", names.join(", ")))
}

/// A constant with its value.
fn named(name: &str) -> (String, u64) {
    (name.to_owned(), constants::find(name).map_or(0, |c| c.value))
}

/// The flags of the kinds of namespaces that `RestrictNamespaces=` refuses.
fn kinds(value: &str) -> Result<Vec<&'static str>, String> {
    const ALL: &[(&str, &str)] = &[
        ("cgroup", "CLONE_NEWCGROUP"),
        ("ipc", "CLONE_NEWIPC"),
        ("net", "CLONE_NEWNET"),
        ("mnt", "CLONE_NEWNS"),
        ("pid", "CLONE_NEWPID"),
        ("user", "CLONE_NEWUSER"),
        ("uts", "CLONE_NEWUTS"),
    ];
    match boolean(value) {
        Ok(true) => return Ok(ALL.iter().map(|(_, f)| *f).collect()),
        Ok(false) => return Ok(Vec::new()),
        Err(_) => {}
    }
    let inverse = value.starts_with('~');
    let listed = items(value.trim_start_matches('~'))?;
    match listed.iter().find(|l| !ALL.iter().any(|(n, _)| n == l)) {
        Some(odd) => Err(format!("`{odd}` is no kind of namespace")),
        None => Ok(ALL.iter().filter(|(n, _)| listed.iter().any(|l| l == n) == inverse).map(|(_, f)| *f).collect()),
    }
}

fn denying(list: impl IntoIterator<Item = (&'static calls::Call, Vec<Compare>)>) -> Profile {
    let entry = |(call, compares)| Entry { call, action: Action::Errno(EPERM), compares };
    Profile { default: Action::Allow, entries: list.into_iter().map(entry).collect() }
}
