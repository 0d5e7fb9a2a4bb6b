//! A machine that runs, as its supervisor holds it.

use super::baton::{self, Baton, Kind};
use super::groups::Pressure;
use super::host_lane::gone;
use super::state::{Home, Lock};
use super::watch::Rules;
use super::{forwarding, groups};
use crate::plan::step::Counter;
use crate::plan::{Action, Plan};
use crate::sys::process::{self, Status};
use nix::errno::Errno;
use nix::fcntl::Flock;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// A running machine.
pub struct Machine {
    pub(super) name: String,
    pub(super) home: Home,
    pub(super) lock: Lock,
    /// Ranges of ids, and the subnet.
    pub(super) ids: Vec<Lock>,
    pub(super) init_pid: i32,
    pub(super) init: OwnedFd,
    /// Master of the machine's terminal.
    pub terminal: Option<OwnedFd>,
    /// Pid of the program on the host.
    pub program: i32,
    /// Digest of the confinement that was read back.
    pub digest: String,
    /// When it is ended, whatever it does.
    pub deadline: Option<Instant>,
    pub(super) counters: Vec<Counter>,
    /// Its control groups, and that of them which is one of cgroup v2 with controllers.
    pub(super) groups: Vec<String>,
    pub(super) group: Option<String>,
    pub(super) held: Vec<OwnedFd>,
    pub(super) forwarding: Option<Flock<File>>,
    pub(super) rules: Option<Rules>,
}

/// How a machine fared with its resources.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Used {
    /// Limits that were met.
    pub limits: Vec<Met>,
    /// How long it waited for memory, CPU and disks, on cgroup v2.
    pub pressure: BTreeMap<&'static str, Pressure>,
}

/// A limit that was met.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Met {
    /// As the language writes it.
    pub limit: String,
    /// How often; `None` where the kernel's count can't be read.
    pub count: Option<u64>,
    /// What each of it is.
    pub meaning: String,
    /// The line.
    pub line: String,
}

/// What happened to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The program ended with this wait status.
    Ended(Status),
    /// The machine's init was killed.
    Killed,
}

impl Machine {
    /// Readable when something happened.
    pub fn events(&self) -> i32 {
        self.init.as_raw_fd()
    }

    /// What happened; call when [`Self::events`] is readable.
    pub fn event(&self) -> Option<Event> {
        match baton::receive(self.init.as_raw_fd()) {
            Ok(Some((b, _))) if b.kind == Kind::Ended => Some(Event::Ended(Status(b.value))),
            Ok(Some(_)) => None,
            _ => Some(Event::Killed),
        }
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: i32) -> Result<(), Errno> {
        Baton::new(Kind::Signal, 0, signal).send(self.init.as_raw_fd(), None)
    }

    /// Kills everything in the machine: the end of its init is the end of its PID namespace.
    pub fn kill(&self) -> Result<(), Errno> {
        process::kill(self.init_pid, libc::SIGKILL)
    }

    /// Waits for the last process and removes what is left; the machine's name is free afterwards. How it fared is said
    /// also where something couldn't be removed.
    pub fn finish(self) -> (Used, io::Result<()>) {
        // A process that waits for a disk is not killed before it has what it waits for.
        self.groups.iter().for_each(|g| groups::unthrottle(Path::new(g)));
        let killed = process::kill(self.init_pid, libc::SIGKILL).or_else(gone);
        let ended = killed.and_then(|()| process::wait(self.init_pid, false));
        let used = Used { limits: self.met(), pressure: self.pressure() };
        if let Err(e) = ended {
            return (used, Err(e.into()));
        }
        let forgotten = self.home.forget(&self.name, self.lock);
        // Not before: ids and addresses are others' when nothing leads there any more. What couldn't be forgotten
        // is told, and holds nothing else up.
        let freed = self.ids.into_iter().map(Lock::remove).fold(Ok(()), Result::and);
        drop((self.held, self.forwarding));
        (used, forgotten.and(freed).and(forwarding::restore(&self.home)))
    }

    /// Readable when the host's packet filter changed; -1 without rules there.
    pub fn filter_events(&self) -> i32 {
        self.rules.as_ref().map_or(-1, Rules::events)
    }

    /// Brings the machine's rules back if somebody took them away; says what became of its
    /// connections when somebody did. After an error the machine must not go on.
    pub fn mend(&self) -> io::Result<Option<&'static str>> {
        match &self.rules {
            Some(rules) if rules.changed() => rules.mend().map(Some),
            _ => Ok(None),
        }
    }

    fn pressure(&self) -> BTreeMap<&'static str, Pressure> {
        let Some(group) = &self.group else { return BTreeMap::new() };
        ["memory", "cpu", "io"].into_iter().filter_map(|r| Some((r, groups::pressure(group, r)?))).collect()
    }

    /// Which limits were met so far, or may have been.
    pub fn met(&self) -> Vec<Met> {
        self.counters.iter().map(met).filter(|m| m.count != Some(0)).collect()
    }
}

/// How often a limit was met so far.
pub fn met(c: &Counter) -> Met {
    Met { limit: c.limit.clone(), count: groups::count(c), meaning: c.meaning.clone(), line: c.origin.to_string() }
}

/// What is counted, by the plan.
pub(super) fn counters(plan: &Plan) -> Vec<Counter> {
    let lists = plan.steps().iter().filter_map(|s| match &s.action {
        Action::Watch(list) => Some(list.clone()),
        _ => None,
    });
    lists.flatten().collect()
}

/// When the machine ends at the latest, by the plan.
pub(super) fn deadline(plan: &Plan) -> Option<Instant> {
    plan.steps().iter().find_map(|s| match &s.action {
        Action::Deadline { seconds } => Instant::now().checked_add(Duration::from_secs(*seconds)),
        _ => None,
    })
}

/// The machine's control groups, by the plan.
pub(super) fn groups(plan: &Plan) -> Vec<String> {
    let made = plan.steps().iter().filter_map(|s| match &s.action {
        Action::CreateCgroup(g) => Some(g.path.clone()),
        _ => None,
    });
    made.collect()
}

/// The machine's group of cgroup v2, by the plan.
pub(super) fn group(plan: &Plan) -> Option<String> {
    plan.steps().iter().find_map(|s| match &s.action {
        Action::CreateCgroup(g) if !g.controllers.is_empty() => Some(g.path.clone()),
        _ => None,
    })
}
