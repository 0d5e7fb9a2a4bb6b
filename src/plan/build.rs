//! The order of a launch. Read from top to bottom: this is how a machine comes up.

use super::check;
use super::step::{Action, Lane, LinkKind, Objects, Plan, Program, Step};
use crate::compile::Confinement;
use crate::compile::mounts::{Shown, TreeStep};
use crate::compile::network::{NETWORKD, Wiring};
use crate::source::Origin;
use nix::sched::CloneFlags;

/// Turns a confinement into the straight line of steps that enforces it.
pub fn build(c: &Confinement) -> Result<Plan, check::Violation> {
    let mut p = Builder { steps: Vec::new() };
    let grouped = match c.boots {
        true => "a booted system has a cgroup subtree",
        false => "limits of the whole machine need a control group",
    };
    let objects = Objects {
        cgroups: c.cgroups.groups.iter().map(|g| g.path.clone()).collect(),
        tables: c.wiring.iter().flat_map(|w| &w.tables).map(|t| (t.family.clone(), t.name.clone())).collect(),
        link: c.wiring.as_ref().and_then(|w| match &w.kind {
            LinkKind::Veth { outside, .. } => Some(outside.clone()),
            _ => None,
        }),
        zone: c.wiring.as_ref().and_then(|w| w.zone.as_ref()).map(|z| z.name.clone()),
        addresses: c.wiring.iter().filter(|w| w.subnet.is_some()).flat_map(|w| &w.inside).map(|i| i.address).collect(),
    };

    // Names first: what could collide or be left behind is locked and written down before it exists.
    p.implied(Lane::Host, Action::LockMachine(objects), "one machine for each name");
    if let Some(ids) = c.ids.as_ref().filter(|_| c.outer_userns.is_none()) {
        let ranges = ids.users.clone();
        p.step(Lane::Host, Action::ReserveIds(ranges), ids.origin.clone());
    }
    if let Some(w) = &c.wiring {
        names_and_rules(&mut p, w);
    }
    for g in &c.cgroups.groups {
        p.implied(Lane::Host, Action::CreateCgroup(g.clone()), grouped);
    }
    for l in &c.cgroups.limits {
        p.step(Lane::Host, Action::SetLimit(l.clone()), l.origin.clone());
    }

    // The builder: the launcher's own rights, a mount namespace of its own.
    let tree_rule = "mounts made with the launcher's rights can't be undone inside";
    p.implied(Lane::Host, Action::CloneBuilder { outer: c.outer_userns }, tree_rule);
    p.implied(Lane::Builder, Action::ResetInherited, "a machine doesn't depend on who starts it");
    p.implied(Lane::Builder, Action::MakePropagationPrivate, "no mount passes in or out");
    p.implied(
        Lane::Builder,
        Action::CloneInit { namespaces: c.namespaces, owner: c.owner() },
        "every namespace but the written ones is its own",
    );
    if let Some(m) = &c.ids {
        let action = Action::WriteIdMaps { users: m.users.clone(), groups: m.groups.clone(), setgroups: m.setgroups };
        p.step(Lane::Builder, action, m.origin.clone());
        if c.outer_userns.is_none() {
            p.implied(Lane::Init, Action::BecomeRoot, "the host's root has no business inside");
        }
    }
    p.implied(Lane::Init, Action::NewKeyring, "no key of the host inside");
    // After the last change of credentials: the kernel forgets it otherwise (prctl(2)).
    p.implied(Lane::Init, Action::DieWithSupervisor, "the supervisor's end is the machine's end");
    if !c.cgroups.enter.is_empty() {
        p.implied(Lane::Host, Action::EnterCgroup { paths: c.cgroups.enter.clone() }, grouped);
        p.implied(Lane::Init, Action::UnshareCgroup, "its own groups are the top of what it sees");
    }
    let pids = if c.boots { "a booted system is PID 1" } else { "the program runs under an init that reaps" };
    p.implied(Lane::Init, Action::ForkProgram { own_pids: c.boots }, pids);
    p.implied(Lane::Init, Action::ConfineInit, "the init of a machine only passes signals on");
    if let Some(path) = &c.cgroups.leave {
        p.implied(Lane::Host, Action::LeaveCgroup { path: path.clone() }, grouped);
    }
    if let Some(w) = &c.wiring {
        link(&mut p, w);
    }

    // The file tree, then the host's is gone.
    let joined = c.namespaces & u64::from(CloneFlags::CLONE_NEWNET.bits().unsigned_abs());
    let always = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWCGROUP;
    let namespaces = joined | u64::from(always.bits().unsigned_abs());
    p.implied(
        Lane::Builder,
        Action::JoinProgram { namespaces },
        "/proc, /sys and queues belong to the machine's namespaces",
    );
    let layers: u64 = c.tree.iter().map(|(s, _)| layer(s)).sum();
    let size = layers + (1 << 20);
    p.implied(Lane::Builder, Action::OpenStaging { size }, "masks and layers are our own files");
    for (step, origin) in &c.tree {
        p.step(Lane::Builder, Action::Tree(step.clone()), origin.clone());
    }
    p.implied(Lane::Builder, Action::PivotRoot, "the tree becomes the root");
    p.implied(Lane::Builder, Action::DetachOldRoot, "nothing of the host's tree is reachable");

    // The program confines itself, from the outside in.
    p.implied(Lane::Program, Action::UnshareMounts, "every mount is locked for the machine");
    p.step(Lane::Program, Action::SetHostname(c.hostname.0.clone()), c.hostname.1.clone());
    p.implied(Lane::Program, Action::Terminal { streams: c.terminal }, "no terminal of the host inside");
    p.implied(Lane::Program, Action::SetUmask(c.umask), "a machine doesn't depend on who starts it");
    for limit in &c.rlimits {
        p.step(Lane::Program, Action::SetRlimit(limit.clone()), limit.origin.clone());
    }
    let (sets, caps_origin) = &c.capabilities;
    // Needs CAP_SETPCAP, so before the ids change.
    let last = c.last_capability;
    p.step(Lane::Program, Action::DropBounding { keep: sets.bounding, last }, caps_origin.clone());
    let (who, who_origin) = &c.credentials;
    let groups = c.ids.as_ref().is_none_or(|m| m.setgroups);
    p.step(Lane::Program, Action::SetCredentials { who: who.clone(), groups }, who_origin.clone());
    let (directory, directory_origin) = &c.chdir;
    // As the program's own user: what it can't enter it doesn't start in.
    p.step(Lane::Program, Action::ChangeDirectory(directory.clone()), directory_origin.clone());
    let action = Action::SetCapabilities { sets: *sets, securebits: c.securebits, root: who.uid == 0 };
    p.step(Lane::Program, action, caps_origin.clone());
    if c.no_new_privs.0 {
        p.step(Lane::Program, Action::SetNoNewPrivs, c.no_new_privs.1.clone());
    }
    if let Some((l, origin)) = &c.landlock {
        // After the last mount: file rules make mount(2) fail.
        p.step(Lane::Program, Action::RestrictLandlock(l.clone()), origin.clone());
    }
    p.implied(Lane::Program, Action::CloseDescriptors, "no descriptor of the host inside");
    p.implied(Lane::Host, Action::ReadBack, "what the kernel holds must be what is written here");
    p.implied(Lane::Host, Action::CommitState(c.exposure.clone()), "others can see the machine");
    if !c.cgroups.counters.is_empty() {
        p.implied(Lane::Host, Action::Watch(c.cgroups.counters.clone()), "a limit that was met is told");
    }
    if let Some((seconds, origin)) = &c.time {
        p.step(Lane::Host, Action::Deadline { seconds: *seconds }, origin.clone());
    }
    // Last, and nothing between: no call of the launcher's own needs to be granted.
    let program = Program(c.filter.program.clone());
    p.step(Lane::Program, Action::LoadSeccomp(program), c.filter_origin.clone());
    let action = Action::Exec { argv: c.argv.0.clone(), environment: c.environment.clone() };
    p.step(Lane::Program, action, c.argv.1.clone());

    let plan = Plan { machine: c.machine.clone(), steps: p.steps };
    check::check(&plan)?;
    Ok(plan)
}

/// What is there before the machine's link: nobody reaches it, and it reaches nobody, for an instant without rules.
fn names_and_rules(p: &mut Builder, w: &Wiring) {
    if let Some(number) = w.subnet {
        p.step(Lane::Host, Action::ReserveSubnet { zone: w.zone.clone(), number }, w.origin.clone());
    }
    if let Some(zone) = &w.zone {
        let addresses = w.inside.iter().map(|i| i.address).collect();
        p.step(Lane::Host, Action::JoinZone { zone: zone.clone(), addresses }, w.origin.clone());
    }
    for hold in &w.holds {
        p.step(Lane::Host, Action::HoldPorts(hold.clone()), hold.origin.clone());
    }
    if w.networkd {
        let (path, content) = NETWORKD;
        let action = Action::TellNetworkd { path: path.into(), content: content.into() };
        p.implied(Lane::Host, action, "its rules for ve-* aren't for machines");
    }
    for t in &w.tables {
        p.step(Lane::Host, Action::LoadTable(t.clone()), w.origin.clone());
    }
    let [v4, v6] = w.forwarding;
    if v4 || v6 {
        p.step(Lane::Host, Action::Forward { v4, v6 }, w.origin.clone());
    }
}

fn link(p: &mut Builder, w: &Wiring) {
    if let Some(t) = &w.inner {
        p.step(Lane::Host, Action::LoadInnerTable(t.clone()), w.origin.clone());
    }
    if w.subnet.is_some() {
        let addresses = w.inside.iter().map(|i| i.address).collect();
        p.implied(Lane::Host, Action::ForgetConnections { addresses }, "addresses are given again");
    }
    p.step(Lane::Host, Action::CreateLink { kind: w.kind.clone(), mac: w.mac }, w.origin.clone());
    if let LinkKind::Veth { outside, .. } = &w.kind {
        let action = Action::ConfigureOutside { link: outside.clone(), addresses: w.outside.clone() };
        p.step(Lane::Host, action, w.origin.clone());
    }
    let action = Action::ConfigureInside {
        addresses: w.inside.clone(),
        accepts_configuration: w.accepts_configuration,
        link_local: w.link_local,
    };
    p.step(Lane::Host, action, w.origin.clone());
}

/// Bytes that a step needs in the staging place.
fn layer(step: &TreeStep) -> u64 {
    match step {
        TreeStep::Mount { shown: Shown::Overlay { size, .. }, .. } => *size,
        _ => 0,
    }
}

struct Builder {
    steps: Vec<Step>,
}

impl Builder {
    fn step(&mut self, lane: Lane, action: Action, origin: Origin) {
        self.steps.push(Step { lane, action, origin });
    }

    fn implied(&mut self, lane: Lane, action: Action, rule: &'static str) {
        self.step(lane, action, Origin::implied(rule));
    }
}
