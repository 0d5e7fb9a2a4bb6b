//! The supervisor: gives each process its turn, performs the host's steps, compares, releases.

use super::baton::{self, Baton, Detail, Kind};
use super::children::{self, Ends};
use super::netfilter::Keep;
use super::prepare::{self, Op};
use super::readback;
use super::running::{self, Machine};
use super::state::{Home, Lock, Record, boot_id};
use super::watch::Rules;
use super::{forwarding, groups, netfilter, netlink, network_lane, nft, zone};
use crate::plan::step::{Objects, Range};
use crate::plan::{Action, Lane, Plan};
use crate::sys::confine::Instruction;
use crate::sys::message::{self, Received};
use crate::sys::process::{self, Side};
use nix::errno::Errno;
use nix::fcntl::Flock;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// A launch that didn't succeed. Nothing of the machine is alive when this is returned.
#[derive(Debug)]
pub struct Failure {
    /// The step, from 1; 0 before the first.
    pub step: usize,
    /// What went wrong, in words.
    pub text: String,
    /// What to do.
    pub help: Option<String>,
    /// 125, or 126 and 127 when it was exec (execve(2)).
    pub code: u8,
    /// The same plan with other free ids may succeed.
    pub ids_taken: bool,
}

pub(super) fn gone(e: Errno) -> Result<(), Errno> {
    if e == Errno::ESRCH { Ok(()) } else { Err(e) }
}

/// Proves that a program is the filter of the policy that the plan was made of, or says why not.
pub type Prove<'p> = &'p dyn Fn(&[Instruction]) -> Result<(), String>;

/// What the supervisor holds while it launches.
struct Host<'p> {
    plan: &'p Plan,
    /// `None` once the plan's filter is proved.
    prove: Option<Prove<'p>>,
    home: Home,
    lock: Option<Lock>,
    ids: Vec<Lock>,
    builder: (i32, OwnedFd),
    /// The builder found its first turn waiting for it.
    started: bool,
    init: (i32, OwnedFd),
    program: (i32, OwnedFd),
    program_pidfd: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    digest: String,
    ends: Option<[OwnedFd; 3]>,
    program_out: bool,
    /// Published ports of the host.
    held: Vec<OwnedFd>,
    /// Forwarding is on as long as somebody holds this.
    forwarding: Option<Flock<File>>,
    /// The host's rules of the machine.
    rules: Option<Rules>,
}

/// Carries the plan out. The filter that is loaded is proved first, exactly those bytes. On failure everything
/// that was made is gone again.
pub fn launch<'p>(plan: &'p Plan, home: Home, prove: Prove<'p>) -> Result<Machine, Failure> {
    let early = |text: String| Failure { step: 0, text, help: None, code: 125, ids_taken: false };
    let ops = prepare::prepare(plan).map_err(|e| early(e.to_string()))?;
    let socket = || message::pair().map_err(|e| early(format!("can't make a socket: {}", e.desc())));
    let ((hb, b), (hi, i), (hp, p)) = (socket()?, socket()?, socket()?);
    message::want_credentials(hp.as_fd()).map_err(|e| early(format!("can't use a socket: {}", e.desc())))?;
    let rules = Rules::listen(plan, &home).map_err(|e| early(format!("can't listen to the packet filter: {e}")))?;
    let mut host = Host {
        plan,
        prove: Some(prove),
        home,
        lock: None,
        ids: Vec::new(),
        builder: (0, hb),
        started: false,
        init: (0, hi),
        program: (0, hp),
        program_pidfd: None,
        terminal: None,
        digest: String::new(),
        ends: Some([b, i, p]),
        program_out: false,
        held: Vec::new(),
        forwarding: None,
        rules,
    };
    match host.run(&ops) {
        Ok(()) => host.into_machine().ok_or_else(|| early("the launch ended without a machine".into())),
        Err(failure) => Err(host.undo(failure)),
    }
}

impl Host<'_> {
    fn run(&mut self, ops: &[Op]) -> Result<(), Failure> {
        let mut step = 0;
        while let Some(s) = self.plan.steps().get(step) {
            match s.lane {
                Lane::Host => {
                    self.perform(step, &s.action, ops)?;
                    step += 1;
                }
                lane => step = self.hand_over(step, lane)?,
            }
        }
        Ok(())
    }

    /// Gives a process its turn and waits until it passes the baton on.
    fn hand_over(&mut self, step: usize, lane: Lane) -> Result<usize, Failure> {
        if lane == Lane::Program && self.program.0 == 0 {
            self.meet_program(step)?;
        }
        let joins = matches!(self.plan.steps().get(step).map(|s| &s.action), Some(Action::JoinProgram { .. }));
        if joins && self.program.0 == 0 {
            self.meet_program(step)?;
        }
        if self.is_release(step) {
            self.prove()?;
        }
        let socket = self.socket(lane);
        let (value, fd) =
            if joins { (self.program.0, self.program_pidfd.as_ref().map(|f| f.as_fd())) } else { (0, None) };
        if !std::mem::take(&mut self.started) {
            // A process that died already is noticed by the answer that doesn't come.
            let sent = Baton::new(Kind::Pass, step, value).send(socket, fd);
            if sent.is_err() && sent != Err(Errno::EPIPE) {
                return Err(self.died(step, lane));
            }
        }
        // It has its turn, and there is nothing else to do meanwhile.
        self.prove()?;
        let last = self.plan.steps().len();
        loop {
            match baton::receive(socket) {
                Ok(Some((b, received))) => match b.kind {
                    Kind::Pass => {
                        self.took(lane, b, received);
                        return Ok(usize::from(b.step));
                    }
                    Kind::Failed => return Err(self.failed(&b)),
                    _ => {}
                },
                // After the last step, exec closes the socket: that is success.
                Ok(None) if lane == Lane::Program && self.is_release(step) => return Ok(self.released(last)),
                // It was let go, under all that was read back: what can't be heard of its start, its end tells.
                Err(_) if lane == Lane::Program && self.is_release(step) => {
                    self.program_out = true;
                    return Ok(last);
                }
                _ => return Err(self.died(step, lane)),
            }
        }
    }

    /// Proves what the plan will load, once.
    fn prove(&mut self) -> Result<(), Failure> {
        let Some(prove) = self.prove.take() else { return Ok(()) };
        for (step, s) in self.plan.steps().iter().enumerate() {
            if let Action::LoadSeccomp(p) = &s.action {
                prove(&p.0).map_err(|why| {
                    let text = format!("its filter isn't proved equal to the policy (E0413): {why}");
                    let help = "nothing was run. Unless the policy is very large, please report this privately";
                    Failure { help: Some(help.into()), ..self.text(step, text) }
                })?;
            }
        }
        Ok(())
    }

    /// After its last step the builder ends, and is waited for: it has the launcher's own rights and a place
    /// in the machine's PID namespace, and must be gone before the program is there to see it.
    fn dismiss_builder(&mut self, step: usize) -> Result<(), Failure> {
        let ended = process::wait(self.builder.0, false).map_err(|e| self.fault(step, Detail::Call, e))?;
        self.builder.0 = 0;
        match ended.and_then(|(_, status)| status.code()) {
            Some(0) => Ok(()),
            _ => Err(self.text(step, "the builder didn't end as it should".into())),
        }
    }

    fn is_release(&self, step: usize) -> bool {
        matches!(self.plan.steps().get(step).map(|s| &s.action), Some(Action::LoadSeccomp(_)))
    }

    /// The program's socket is closed. Exec did that, unless the process ended first. A filter that refuses even
    /// the report of a failed exec looks like that, and so does a short program; only the first leaves with the
    /// codes that the child uses, and init says which. So nothing that fails here makes it undone.
    fn released(&mut self, last: usize) -> usize {
        let pidfd = self.program_pidfd.as_ref().map_or(-1, |f| f.as_raw_fd());
        let mut ended = [libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 }];
        let looked = process::poll(&mut ended, Some(0));
        if looked.is_ok() && ended.iter().any(|f| f.revents != 0) {
            let mut fds = [libc::pollfd { fd: self.init.1.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
            process::poll(&mut fds, Some(2000)).unwrap_or_default();
        }
        self.program_out = true;
        last
    }

    fn socket(&self, lane: Lane) -> i32 {
        match lane {
            Lane::Builder => self.builder.1.as_raw_fd(),
            Lane::Init => self.init.1.as_raw_fd(),
            _ => self.program.1.as_raw_fd(),
        }
    }

    fn took(&mut self, lane: Lane, b: Baton, received: Received) {
        if lane == Lane::Builder {
            if b.value != 0 {
                self.init.0 = b.value;
            }
            if received.passed.is_some() {
                self.terminal = received.passed;
            }
        }
    }

    /// The program's first message carries its pid as this namespace sees it.
    fn meet_program(&mut self, step: usize) -> Result<(), Failure> {
        match baton::receive(self.program.1.as_raw_fd()) {
            Ok(Some((b, Received { pid: Some(pid), .. }))) if b.kind == Kind::Hello => {
                let pidfd = process::pidfd_open(pid).map_err(|e| self.fault(step, Detail::Call, e))?;
                self.program.0 = pid;
                self.program_pidfd = Some(pidfd);
                Ok(())
            }
            _ => Err(self.died(step, Lane::Program)),
        }
    }

    fn perform(&mut self, step: usize, action: &Action, ops: &[Op]) -> Result<(), Failure> {
        match action {
            Action::LockMachine(objects) => self.lock(step, objects),
            Action::ReserveIds(ranges) => self.reserve(step, ranges),
            Action::CreateCgroup(g) => groups::create(g).map_err(|e| self.io(step, &e)),
            Action::SetLimit(l) => groups::set(l).map_err(|e| self.io(step, &e)),
            Action::CloneBuilder { outer } => self.clone_builder(step, *outer, ops),
            Action::EnterCgroup { paths } => self.enter(paths).map_err(|e| self.io(step, &e)),
            Action::LeaveCgroup { path } => self.enter(std::slice::from_ref(path)).map_err(|e| self.io(step, &e)),
            Action::ReadBack => self.read_back(step),
            Action::CommitState(_) => {
                let record = self.record().map_err(|e| self.io(step, &e))?;
                self.home.write(&record).map_err(|e| self.io(step, &e))
            }
            // Read from the plan by who attends the machine.
            Action::Watch(_) | Action::Deadline { .. } => Ok(()),
            Action::ReserveSubnet { .. } | Action::JoinZone { .. } => self.reserve_network(step, action),
            Action::HoldPorts(h) => network_lane::hold(h, &mut self.held).map_err(|e| {
                let mut f = self.io(step, &e);
                f.help = Some(network_lane::remedy(e.kind()).into());
                f
            }),
            Action::Forward { v4, v6 } => {
                self.forwarding = Some(forwarding::switch_on(&self.home, *v4, *v6).map_err(|e| self.io(step, &e))?);
                Ok(())
            }
            Action::ForgetConnections { addresses } => {
                netfilter::forget_connections(addresses, Keep::Nothing).map_err(|e| self.io(step, &e))
            }
            Action::TellNetworkd { path, content } => {
                network_lane::tell_networkd(path, content).map_err(|e| self.io(step, &e))
            }
            Action::LoadTable(t) => nft::apply(&t.transaction()).map_err(|e| self.io(step, &e)),
            Action::LoadInnerTable(t) => network_lane::load_inside(self.init.0, t).map_err(|e| self.io(step, &e)),
            Action::CreateLink { kind, mac } => {
                network_lane::create_link(&self.plan.machine, self.init.0, kind, *mac).map_err(|e| {
                    // The kernel's word for a kind of link that it doesn't know.
                    let unknown = e.raw_os_error() == Some(libc::EOPNOTSUPP);
                    let help = "the kernel has no such links: load the module of their name, or boot a kernel with it";
                    Failure { help: Some(help.into()).filter(|_| unknown), ..self.io(step, &e) }
                })
            }
            Action::ConfigureOutside { link, addresses } => {
                network_lane::configure_outside(link, addresses).map_err(|e| self.io(step, &e))
            }
            Action::ConfigureInside { addresses, accepts_configuration, link_local } => {
                network_lane::configure_inside(self.init.0, addresses, *accepts_configuration, *link_local)
                    .map_err(|e| self.io(step, &e))
            }
            _ => Err(self.fault(step, Detail::Call, Errno::ENOSYS)),
        }
    }

    fn enter(&self, paths: &[String]) -> io::Result<()> {
        paths.iter().try_for_each(|p| fs::write(format!("{p}/cgroup.procs"), self.init.0.to_string()))
    }

    fn record(&self) -> io::Result<Record> {
        let objects = self.plan.steps().iter().find_map(|s| match &s.action {
            Action::LockMachine(o) => Some(o.clone()),
            _ => None,
        });
        let Objects { cgroups, tables, link, zone, addresses } = objects.unwrap_or_default();
        let exposure = self.plan.steps().iter().find_map(|s| match &s.action {
            Action::CommitState(exposure) => Some(exposure.clone()),
            _ => None,
        });
        Ok(Record {
            machine: self.plan.machine.clone(),
            boot: boot_id()?,
            cgroups,
            tables,
            link,
            zone,
            addresses,
            supervisor: std::process::id(),
            program: self.program.0,
            digest: self.digest.clone(),
            exposure: exposure.unwrap_or_default(),
            watch: running::counters(self.plan),
        })
    }

    fn lock(&mut self, step: usize, objects: &Objects) -> Result<(), Failure> {
        let name = self.plan.machine.clone();
        let lock = self.home.lock(&name).map_err(|e| {
            if e.kind() == io::ErrorKind::WouldBlock {
                let mut f = self.text(step, format!("machine `{name}` is running already"));
                f.help = Some("stop it first, or give this one another name with `instance`".into());
                return f;
            }
            self.io(step, &e)
        })?;
        self.lock = Some(lock);
        // Before any rule: those of the machine would judge the packets of a link that somebody else named so.
        if let Some(link) = &objects.link
            && netlink::is_anothers(link).map_err(|e| self.io(step, &e))?
        {
            return Err(self.text(step, network_lane::taken(link)));
        }
        tracing::debug!(?objects, "to come");
        let record = self.record().map_err(|e| self.io(step, &e))?;
        self.home.write(&record).map_err(|e| self.io(step, &e))
    }

    /// A subnet, and a place in a zone; another machine may have been faster.
    fn reserve_network(&mut self, step: usize, action: &Action) -> Result<(), Failure> {
        let taken = |this: &Self| {
            let text = "another machine took the addresses meanwhile".to_owned();
            Failure { ids_taken: true, ..this.text(step, text) }
        };
        match action {
            Action::ReserveSubnet { zone, number } => {
                let lock = match self.home.lock_subnet(zone.as_ref().map(|z| z.number), *number) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(taken(self)),
                    other => other.map_err(|e| self.io(step, &e))?,
                };
                self.ids.push(lock);
            }
            Action::JoinZone { zone, addresses } => {
                let name = &self.plan.machine;
                if !zone::join(&self.home, &zone.name, zone.number, name, addresses).map_err(|e| self.io(step, &e))? {
                    return Err(taken(self));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn reserve(&mut self, step: usize, ranges: &[Range]) -> Result<(), Failure> {
        for r in ranges {
            let locks = self.home.lock_ids(r.outside, r.count).map_err(|e| {
                if e.kind() == io::ErrorKind::WouldBlock {
                    let mut f = self.text(
                        step,
                        format!("ids {} to {} belong to another running machine", r.outside, r.outside + (r.count - 1)),
                    );
                    f.help = Some("two machines never share ids: map another range, or `userns auto`".into());
                    f.ids_taken = true;
                    return f;
                }
                self.io(step, &e)
            })?;
            self.ids.extend(locks);
        }
        Ok(())
    }

    fn clone_builder(&mut self, step: usize, outer: Option<(u32, u32)>, ops: &[Op]) -> Result<(), Failure> {
        let Some([b, i, p]) = self.ends.take() else { return Err(self.fault(step, Detail::Call, Errno::EBADF)) };
        let ends = Ends { builder: b.as_raw_fd(), init: i.as_raw_fd(), program: p.as_raw_fd() };
        // With its turn there already it starts on another CPU: one that is woken by a message is put on that
        // of the sender (the kernel takes it that the sender waits next), which is busy with the proof.
        if outer.is_none() && self.plan.steps().get(step + 1).is_some_and(|s| s.lane == Lane::Builder) {
            Baton::new(Kind::Pass, step + 1, 0)
                .send(self.builder.1.as_raw_fd(), None)
                .map_err(|e| self.fault(step, Detail::Call, e))?;
            self.started = true;
        }
        // CLONE_NEWNS, and CLONE_NEWUSER for an ordinary user.
        let namespaces = 0x2_0000 | if outer.is_some() { 0x1000_0000 } else { 0 };
        match process::clone(namespaces, false) {
            Ok(Side::Child) => children::builder(ops, ends),
            Ok(Side::Parent(pid)) => self.builder.0 = pid,
            Err(e) => return Err(self.fault(step, Detail::Call, e)),
        }
        drop((b, i, p));
        let Some((uid, gid)) = outer else { return Ok(()) };
        let write = |name: &str, text: String| fs::write(format!("/proc/{}/{name}", self.builder.0), text);
        write("setgroups", "deny".into())
            .and_then(|()| write("uid_map", format!("0 {uid} 1\n")))
            .and_then(|()| write("gid_map", format!("0 {gid} 1\n")))
            .map_err(|e| self.io(step, &e))
    }

    /// The kernel's own account of the waiting process against the plan.
    fn read_back(&mut self, step: usize) -> Result<(), Failure> {
        self.dismiss_builder(step)?;
        let process = format!("/proc/{}", self.program.0);
        let maps = self.plan.steps().iter().find_map(|s| match &s.action {
            Action::WriteIdMaps { users, groups, .. } => Some((users.clone(), groups.clone())),
            _ => None,
        });
        // An ordinary user's map is relative to the builder's namespace, whose id 0 is the caller.
        let outer = self.plan.steps().iter().find_map(|s| match &s.action {
            Action::CloneBuilder { outer } => *outer,
            _ => None,
        });
        let maps = maps.map(|(users, groups)| match outer {
            Some((uid, gid)) => (shift(users, uid), shift(groups, gid)),
            None => (users, groups),
        });
        let ids = maps.as_ref().map(|(u, g)| (u.as_slice(), g.as_slice()));
        let seen = readback::observe(Path::new(&process), ids).map_err(|e| self.text(step, e.to_string()))?;
        let mut differences = readback::compare(self.plan, &seen);
        differences.extend(readback::namespaces(self.plan, self.program.0).map_err(|e| self.io(step, &e))?);
        differences.extend(self.beside(step)?);
        if let Some(first) = differences.first() {
            let places: Vec<String> = differences.iter().map(|d| format!("step {}: {}", d.step, d.text)).collect();
            let mut f = self
                .text(first.step - 1, format!("the kernel holds something else than the plan: {}", places.join("; ")));
            f.help = Some("nothing was run; this is a fault of Stockade or of the host, please report it".into());
            return Err(f);
        }
        self.digest = seen.digest();
        Ok(())
    }

    /// What the kernel holds of the machine beside its process: limits, groups, network.
    fn beside(&self, step: usize) -> Result<Vec<readback::Difference>, Failure> {
        let mut out = Vec::new();
        if let Some(rules) = &self.rules {
            // What changed until now the list shows; what changes from now on is seen while the machine runs.
            rules.changed();
            let missing = rules.missing().map_err(|e| self.io(step, &e))?;
            out.extend(missing.into_iter().map(|text| readback::Difference { step: step + 1, text }));
        }
        for (i, s) in self.plan.steps().iter().enumerate() {
            let found: Vec<String> = match &s.action {
                Action::SetLimit(l) => groups::differs(l)
                    .map_err(|e| self.io(step, &e))?
                    .map(|now| format!("{} is {now}, the plan says {}", l.path, l.value))
                    .into_iter()
                    .collect(),
                Action::EnterCgroup { paths } => {
                    let mut missing = Vec::new();
                    for p in paths {
                        if !groups::has(p, self.program.0).map_err(|e| self.io(step, &e))? {
                            missing.push(format!("the program is not in {p}"));
                        }
                    }
                    missing
                }
                Action::ConfigureOutside { link, addresses } => {
                    network_lane::differs_outside(link, addresses).map_err(|e| self.io(step, &e))?
                }
                Action::Forward { v4, v6 } => {
                    let link = self.plan.steps().iter().find_map(|s| match &s.action {
                        Action::ConfigureOutside { link, .. } => Some(link.as_str()),
                        _ => None,
                    });
                    link.map_or(Ok(Vec::new()), |l| forwarding::differs(l, *v4, *v6)).map_err(|e| self.io(step, &e))?
                }
                Action::ConfigureInside { addresses, accepts_configuration, link_local } => {
                    network_lane::differs(self.init.0, addresses, *accepts_configuration, *link_local)
                        .map_err(|e| self.io(step, &e))?
                }
                _ => Vec::new(),
            };
            out.extend(found.into_iter().map(|text| readback::Difference { step: i + 1, text }));
        }
        Ok(out)
    }

    fn text(&self, step: usize, text: String) -> Failure {
        Failure { step: step + 1, text, help: None, code: 125, ids_taken: false }
    }

    fn io(&self, step: usize, e: &io::Error) -> Failure {
        self.text(step, e.to_string())
    }

    fn fault(&self, step: usize, detail: Detail, errno: Errno) -> Failure {
        let (text, help) = baton::explain(detail, errno);
        Failure { help, ..self.text(step, text) }
    }

    fn failed(&self, b: &Baton) -> Failure {
        let step = usize::from(b.step);
        let errno = Errno::from_raw(b.errno);
        let mut f = self.fault(step, b.detail, errno);
        if matches!(self.plan.steps().get(step).map(|s| &s.action), Some(Action::Exec { .. })) {
            f.code = if errno == Errno::ENOENT { 127 } else { 126 };
            f.help = Some(match errno {
                Errno::ENOENT => {
                    "the program, or the interpreter that it names, doesn't exist inside the machine".into()
                }
                Errno::EACCES => {
                    "it isn't executable, lies on a noexec mount, or `files` grants no `exec` on it".into()
                }
                Errno::EPERM => "the policy's own filter refuses execve: `allow execve`".into(),
                Errno::ENOEXEC => "its format is unknown: a script needs a `#!` line".into(),
                _ => "exec(2) names the causes of this errno".into(),
            });
        }
        f
    }

    /// A process ended without a word.
    fn died(&self, step: usize, lane: Lane) -> Failure {
        self.text(step, format!("the {lane} process ended before it was done"))
    }

    /// Ends and removes everything that exists so far; keeps the failure that led here.
    fn undo(mut self, failure: Failure) -> Failure {
        let mut notes = Vec::new();
        let mut note = |what: &str, e: &dyn std::fmt::Display| notes.push(format!("{what}: {e}"));
        // Closing the sockets ends every process that waits; killing ends those that don't.
        for pid in [self.init.0, self.builder.0].into_iter().filter(|p| *p > 0) {
            if let Err(e) = process::kill(pid, libc::SIGKILL).or_else(gone) {
                note("kill", &e);
            }
            if let Err(e) = process::wait(pid, false) {
                note("wait", &e);
            }
        }
        // A machine's init that the builder made but could not report any more ends with the builder's
        // socket; it is our child all the same.
        drop((self.builder.1, self.init.1, self.program.1, self.ends));
        while let Ok(Some(_)) = process::wait(-1, false) {}
        if let Some(lock) = self.lock.take()
            && let Err(e) = self.home.forget(&self.plan.machine, lock)
        {
            note("state", &e);
        }
        // Free for others when nothing leads there any more.
        for l in self.ids.drain(..) {
            if let Err(e) = l.remove() {
                note("ids", &e);
            }
        }
        drop((self.held, self.forwarding));
        if let Err(e) = forwarding::restore(&self.home) {
            note("forwarding", &e);
        }
        if notes.is_empty() {
            return failure;
        }
        Failure { text: format!("{}; and while cleaning up: {}", failure.text, notes.join(", ")), ..failure }
    }

    fn into_machine(self) -> Option<Machine> {
        Some(Machine {
            name: self.plan.machine.clone(),
            home: self.home,
            lock: self.lock?,
            ids: self.ids,
            init_pid: self.init.0,
            init: self.init.1,
            terminal: self.terminal,
            program: self.program.0,
            digest: self.digest,
            deadline: running::deadline(self.plan),
            counters: running::counters(self.plan),
            groups: running::groups(self.plan),
            group: running::group(self.plan),
            held: self.held,
            forwarding: self.forwarding,
            rules: self.rules,
        })
    }
}

fn shift(ranges: Vec<Range>, id: u32) -> Vec<Range> {
    ranges.into_iter().map(|r| Range { outside: r.outside + id, ..r }).collect()
}
