//! What a unit's directives make of system calls: the lines of the language, and the filters that systemd
//! loads for them, one on top of the other (systemd.exec(5), "System Call Filtering"; src/shared/seccomp-util.c).

use super::import::names;
use super::ini::{Line, boolean, words};
use super::profile::{Compare, Entry, Op, Profile};
use super::systemd_groups::expand;
use crate::kernel::{calls, constants};
use crate::policy::syscalls::{Action, EPERM};

/// Directives read so far.
#[derive(Default)]
pub struct Calls {
    /// The allow list of SystemCallFilter=, when its first line is one.
    pub allowed: Option<Vec<&'static str>>,
    /// What is refused, as the language says it.
    denied: Vec<String>,
    /// The filters of the refusals.
    refusals: Vec<Profile>,
    /// Remarks.
    pub notes: Vec<String>,
}

impl Calls {
    /// The directives that this is about.
    pub const KEYS: &[&str] = &[
        "SystemCallArchitectures",
        "SystemCallErrorNumber",
        "SystemCallFilter",
        "SystemCallLog",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "MemoryDenyWriteExecute",
    ];

    /// All filters. A list of what is allowed holds @default as well.
    pub fn stack(&self) -> Vec<Profile> {
        let default = expand("@default").unwrap_or_default();
        let list = self.allowed.iter().map(|l| names(l.iter().copied().chain(default.iter().copied())));
        list.chain(self.refusals.iter().cloned()).collect()
    }

    /// Lines for a `syscalls` block under a baseline.
    pub fn lines(&self, kernel: (u16, u16)) -> Vec<(Action, String)> {
        let known = |l: &str| calls::find(l.split('(').next().unwrap_or_default()).is_none_or(|c| c.since <= kernel);
        let default = self.allowed.iter().flat_map(|_| expand("@default").unwrap_or_default());
        let allowed = self.allowed.iter().flatten().copied().chain(default).map(|n| (Action::Allow, n.to_owned()));
        let denied = self.denied.iter().map(|l| (Action::Errno(EPERM), l.clone()));
        allowed.chain(denied).filter(|(_, l)| known(l)).collect()
    }

    /// A ring opens files and sockets past what is refused by argument: where something is, it is refused too.
    pub fn close_rings(&mut self) {
        let open = self.allowed.as_ref().is_none_or(|l| l.contains(&"io_uring_setup"));
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
            "SystemCallErrorNumber" if line.value != "EPERM" => {
                self.notes.push(format!("line {}: a refused call answers EPERM, not {}", line.number, line.value));
            }
            "SystemCallErrorNumber" => {}
            "SystemCallLog" => {}
            "SystemCallFilter" => return self.filter(&line.value),
            _ => return self.restrict(line),
        }
        Ok(())
    }

    fn filter(&mut self, value: &str) -> Result<(), String> {
        let (deny, list) = value.strip_prefix('~').map_or((false, value), |rest| (true, rest));
        for item in words(list)? {
            let name = item.split(':').next().unwrap_or_default();
            let found = match name.starts_with('@') {
                true => expand(name).ok_or(format!("unknown group `{name}`"))?,
                false => match calls::find(name) {
                    Some(c) => vec![c.name],
                    None => {
                        self.notes.push(format!("neither x86-64 nor aarch64 has the call `{name}`"));
                        continue;
                    }
                },
            };
            // `NAME:ERRNO` in a list of those allowed is a refusal.
            let refused = deny || item.contains(':');
            match &mut self.allowed {
                Some(list) if refused => list.retain(|n| !found.contains(n)),
                Some(list) => list.extend(found),
                None if refused => {
                    self.refusals.push(denying(found.iter().filter_map(|n| calls::find(n)).map(|c| (c, Vec::new()))));
                    self.denied.extend(found.iter().map(|n| (*n).to_owned()));
                }
                None => self.allowed = Some(found),
            }
        }
        Ok(())
    }

    /// A refusal, whatever the arguments.
    fn refuse(&mut self, name: &str) {
        let Some(call) = calls::find(name) else { return };
        self.denied.push(name.to_owned());
        self.refusals.push(denying([(call, Vec::new())]));
    }

    /// A refusal by one argument: the line of the language, and the filter that systemd loads for it.
    fn refuse_by(&mut self, name: &str, index: u8, test: &str, op: Op, values: &[(String, u64)]) {
        let Some(call) = calls::find(name) else { return };
        let argument = call.args.get(usize::from(index)).map_or("?", |a| a.name);
        let list: Vec<&str> = values.iter().map(|(n, _)| n.as_str()).collect();
        self.denied.push(format!("{name}({argument} {test} [{}])", list.join(", ")));
        let compare = |(_, v): &(String, u64)| vec![Compare { index, op, value: *v, two: *v }];
        let mut bits = values.to_vec();
        if test == "has all" {
            bits = vec![(String::new(), values.iter().fold(0, |m, (_, v)| m | v))];
        }
        self.refusals.push(denying(bits.iter().map(|v| (call, compare(v)))));
    }

    fn restrict(&mut self, line: &Line) -> Result<(), String> {
        let named = |n: &str| (n.to_owned(), constants::find(n).map_or(0, |c| c.value));
        match line.key.as_str() {
            "RestrictAddressFamilies" => return self.families(&line.value),
            "RestrictNamespaces" => {
                let gone: Vec<(String, u64)> = kinds(&line.value)?.iter().map(|f| named(f)).collect();
                if gone.is_empty() {
                    return Ok(());
                }
                self.refuse_by("unshare", 0, "has any", Op::Masked, &gone);
                self.refuse_by("clone", 0, "has any", Op::Masked, &gone);
                // Its flags are behind a pointer.
                self.refuse("clone3");
                match gone.len() {
                    7 => self.refuse("setns"),
                    _ => self.refuse_by("setns", 1, "has any", Op::Masked, &gone),
                }
            }
            _ if !boolean(&line.value)? => {}
            "RestrictRealtime" => {
                let policies = [1u64, 2, 6].map(|p| (p.to_string(), p));
                self.refuse_by("sched_setscheduler", 1, "in", Op::Eq, &policies);
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
                for call in ["fchmodat2", "openat2"] {
                    self.refuse(call);
                }
                // And the calls that create files.
                self.denied.push("@set-id-bits".into());
            }
            "MemoryDenyWriteExecute" => {
                let exec = [named("PROT_EXEC")];
                self.refuse_by("mmap", 2, "has all", Op::Masked, &[named("PROT_WRITE"), named("PROT_EXEC")]);
                self.refuse_by("mprotect", 2, "has any", Op::Masked, &exec);
                self.refuse_by("pkey_mprotect", 2, "has any", Op::Masked, &exec);
                self.refuse_by("shmat", 2, "has any", Op::Masked, &[named("SHM_EXEC")]);
            }
            _ => return Err("unknown directive of [Service]".into()),
        }
        Ok(())
    }

    fn families(&mut self, value: &str) -> Result<(), String> {
        let (deny, list) = value.strip_prefix('~').map_or((false, value), |rest| (true, rest));
        let listed: Vec<String> = if list == "none" { Vec::new() } else { words(list)? };
        let mut numbers = Vec::new();
        for f in &listed {
            let c = constants::find(f).filter(|c| c.family == "af").ok_or(format!("unknown family `{f}`"))?;
            numbers.push(c.value);
        }
        let Some(call) = calls::find("socket") else { return Ok(()) };
        let eq = |v: &u64| (call, vec![Compare { index: 0, op: Op::Eq, value: *v, two: 0 }]);
        if deny {
            self.denied.push(format!("socket(family in [{}])", listed.join(", ")));
            self.refusals.push(denying(numbers.iter().map(eq)));
        } else if listed.is_empty() {
            self.refuse("socket");
        } else {
            self.denied.push(format!("socket(family not in [{}])", listed.join(", ")));
            let entries =
                numbers.iter().map(eq).map(|(call, compares)| Entry { call, action: Action::Allow, compares });
            let mut entries: Vec<Entry> = entries.collect();
            let others = calls::CALLS.iter().filter(|c| c.name != "socket");
            entries.extend(others.map(|call| Entry { call, action: Action::Allow, compares: Vec::new() }));
            self.refusals.push(Profile { default: Action::Errno(EPERM), entries });
        }
        Ok(())
    }
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
    let listed = words(value.trim_start_matches('~'))?;
    match listed.iter().find(|l| !ALL.iter().any(|(n, _)| n == l)) {
        Some(odd) => Err(format!("`{odd}` is no kind of namespace")),
        None => Ok(ALL.iter().filter(|(n, _)| listed.iter().any(|l| l == n) == inverse).map(|(_, f)| *f).collect()),
    }
}

fn denying(list: impl IntoIterator<Item = (&'static calls::Call, Vec<Compare>)>) -> Profile {
    let entry = |(call, compares)| Entry { call, action: Action::Errno(EPERM), compares };
    Profile { default: Action::Allow, entries: list.into_iter().map(entry).collect() }
}
