//! The rules of order that every plan keeps, whatever built it.

use super::step::{Action, Lane, LinkKind, Plan};
use crate::compile::mounts::{Shown, TreeStep};

/// A plan that would not be safe to carry out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step {step}: {rule}")]
pub struct Violation {
    /// The step, from 1.
    pub step: usize,
    /// The rule it breaks.
    pub rule: &'static str,
}

type Is = fn(&Action) -> bool;

/// (what, must come before, rule). Where a plan has no such step the rule doesn't speak.
const BEFORE: &[(Is, Is, &str)] = &[
    (
        |a| matches!(a, Action::NewKeyring),
        |a| matches!(a, Action::ForkProgram { .. }),
        "the program starts without the host's keys",
    ),
    (|a| matches!(a, Action::LockMachine(_)), |a| !matches!(a, Action::LockMachine(_)), "the lock comes first"),
    (
        |a| matches!(a, Action::MakePropagationPrivate),
        |a| matches!(a, Action::Tree(_) | Action::OpenStaging { .. }),
        "propagation is private before any mount",
    ),
    (
        |a| matches!(a, Action::ResetInherited),
        |a| matches!(a, Action::CloneInit { .. }),
        "inherited attributes are reset before the machine exists",
    ),
    (
        |a| matches!(a, Action::WriteIdMaps { .. }),
        |a| {
            matches!(
                a,
                Action::BecomeRoot | Action::ForkProgram { .. } | Action::UnshareMounts | Action::SetCredentials { .. }
            )
        },
        "ids are mapped before the machine acts",
    ),
    (
        |a| matches!(a, Action::BecomeRoot),
        |a| matches!(a, Action::DieWithSupervisor),
        "a change of credentials clears the parent-death signal",
    ),
    (
        |a| matches!(a, Action::DieWithSupervisor),
        |a| matches!(a, Action::ForkProgram { .. }),
        "nothing runs that could outlive the supervisor",
    ),
    (
        |a| matches!(a, Action::Tree(_)),
        |a| matches!(a, Action::PivotRoot),
        "host paths are opened before the host's tree is gone",
    ),
    (|a| matches!(a, Action::PivotRoot), |a| matches!(a, Action::DetachOldRoot), "pivot, then detach"),
    (
        |a| matches!(a, Action::DetachOldRoot),
        |a| matches!(a, Action::UnshareMounts),
        "the machine's mount namespace holds nothing of the host",
    ),
    (
        |a| matches!(a, Action::UnshareMounts),
        |a| matches!(a, Action::DropBounding { .. } | Action::SetCredentials { .. } | Action::RestrictLandlock(_)),
        "mounts are locked before rights are dropped",
    ),
    (
        |a| matches!(a, Action::DropBounding { .. }),
        |a| matches!(a, Action::SetCredentials { .. }),
        "the bounding set is dropped while CAP_SETPCAP is there",
    ),
    (
        |a| matches!(a, Action::SetCredentials { .. }),
        |a| matches!(a, Action::SetCapabilities { .. }),
        "ids change before capabilities are final",
    ),
    (
        |a| matches!(a, Action::SetCapabilities { .. }),
        |a| matches!(a, Action::ReadBack),
        "the last change of credentials comes before the read-back",
    ),
    (
        |a| matches!(a, Action::SetNoNewPrivs),
        |a| matches!(a, Action::RestrictLandlock(_) | Action::LoadSeccomp(_)),
        "no_new_privs comes before Landlock and seccomp",
    ),
    (
        |a| matches!(a, Action::Tree(_) | Action::UnshareMounts),
        |a| matches!(a, Action::RestrictLandlock(_)),
        "Landlock comes after the last mount",
    ),
    (
        |a| matches!(a, Action::RestrictLandlock(_) | Action::CloseDescriptors),
        |a| matches!(a, Action::ReadBack),
        "everything is in place at the read-back",
    ),
    (
        |a| matches!(a, Action::HoldPorts(_)),
        |a| matches!(a, Action::LoadTable(_)),
        "a port is ours before anything is led from it",
    ),
    (
        |a| matches!(a, Action::LoadTable(_)),
        |a| matches!(a, Action::Forward { .. } | Action::CreateLink { .. }),
        "rules are there before the link",
    ),
    (
        |a| matches!(a, Action::ForgetConnections { .. }),
        |a| matches!(a, Action::CreateLink { .. }),
        "nobody is taken for who had the addresses before",
    ),
    (
        |a| matches!(a, Action::LoadInnerTable(_)),
        |a| matches!(a, Action::CreateLink { .. }),
        "rules are there before the link",
    ),
    (
        |a| matches!(a, Action::CreateLink { .. }),
        |a| matches!(a, Action::ConfigureOutside { .. } | Action::ConfigureInside { .. }),
        "a link is made, then set up",
    ),
    (
        |a| matches!(a, Action::ConfigureInside { .. } | Action::ConfigureOutside { .. } | Action::SetLimit(_)),
        |a| matches!(a, Action::ReadBack),
        "everything is in place at the read-back",
    ),
    (|a| matches!(a, Action::CreateCgroup(_)), |a| matches!(a, Action::SetLimit(_)), "a group is made, then bounded"),
    (
        |a| matches!(a, Action::SetLimit(_)),
        |a| matches!(a, Action::EnterCgroup { .. }),
        "limits hold before anybody is under them",
    ),
    (
        |a| matches!(a, Action::EnterCgroup { .. }),
        |a| matches!(a, Action::ForkProgram { .. }),
        "the program starts under its limits",
    ),
    (
        |a| matches!(a, Action::ReadBack),
        |a| matches!(a, Action::CommitState(_) | Action::LoadSeccomp(_)),
        "nothing goes on before the read-back",
    ),
];

/// Steps that every plan has exactly once.
const ONCE: &[(Is, &str)] = &[
    (|a| matches!(a, Action::LockMachine(_)), "one lock"),
    (|a| matches!(a, Action::CloneInit { .. }), "one machine"),
    (|a| matches!(a, Action::DieWithSupervisor), "the machine dies with its supervisor"),
    (|a| matches!(a, Action::PivotRoot), "one root"),
    (|a| matches!(a, Action::DetachOldRoot), "the old root is detached"),
    (|a| matches!(a, Action::NewKeyring), "the host's keys stay outside"),
    (|a| matches!(a, Action::DropBounding { .. }), "the bounding set is dropped"),
    (|a| matches!(a, Action::SetCredentials { .. }), "credentials are set"),
    (|a| matches!(a, Action::SetCapabilities { .. }), "capabilities are set"),
    (|a| matches!(a, Action::CloseDescriptors), "descriptors are closed"),
    (|a| matches!(a, Action::ReadBack), "there is a read-back"),
    (|a| matches!(a, Action::LoadSeccomp(_)), "there is a filter"),
    (|a| matches!(a, Action::Exec { .. }), "there is a program"),
];

fn is_undone(steps: &[super::step::Step], action: &Action) -> bool {
    steps.iter().any(|s| match (&s.action, action) {
        (Action::LockMachine(o), Action::CreateCgroup(g)) => o.cgroups.contains(&g.path),
        (Action::LockMachine(o), Action::LoadTable(t)) => o.tables.iter().any(|(f, n)| (f, n) == (&t.family, &t.name)),
        (Action::LockMachine(o), Action::ForgetConnections { addresses }) => o.addresses == *addresses,
        (Action::LockMachine(o), Action::JoinZone { zone, .. }) => o.zone.as_ref() == Some(&zone.name),
        (Action::LockMachine(o), Action::CreateLink { kind: LinkKind::Veth { outside, .. }, .. }) => {
            o.link.as_ref() == Some(outside)
        }
        // They are gone with the machine's namespace.
        (_, Action::CreateLink { .. }) => true,
        _ => false,
    })
}

/// Checks the order.
pub fn check(plan: &Plan) -> Result<(), Violation> {
    let steps = plan.steps();
    for (is, rule) in ONCE {
        let mut found = steps.iter().enumerate().filter(|(_, s)| is(&s.action)).map(|(i, _)| i);
        let (first, second) = (found.next(), found.next());
        if first.is_none() || second.is_some() {
            return Err(Violation { step: second.unwrap_or(steps.len()) + 1, rule });
        }
    }
    for (earlier, later, rule) in BEFORE {
        let first_later = steps.iter().position(|s| later(&s.action));
        let last_earlier = steps.iter().rposition(|s| earlier(&s.action));
        if let (Some(l), Some(e)) = (first_later, last_earlier)
            && l < e
        {
            return Err(Violation { step: l + 1, rule });
        }
    }
    let fail = |step: usize, rule| Err(Violation { step: step + 1, rule });
    // seccomp, then exec, and the plan ends.
    match steps {
        [.., a, b]
            if matches!((&a.action, &b.action), (Action::LoadSeccomp(_), Action::Exec { .. }))
                && a.lane == Lane::Program
                && b.lane == Lane::Program => {}
        _ => return fail(steps.len().saturating_sub(1), "the filter is loaded last, then exec, nothing between"),
    }
    let mut root = false;
    for (i, s) in steps.iter().enumerate() {
        match (&s.action, s.lane) {
            (Action::Tree(TreeStep::Mount { target, .. }), Lane::Builder) => {
                if target == "/" && root || target != "/" && !root {
                    return fail(i, "the root is mounted once, before everything in it");
                }
                root = true;
            }
            (Action::Tree(_) | Action::PivotRoot | Action::DetachOldRoot | Action::OpenStaging { .. }, lane)
                if lane != Lane::Builder =>
            {
                return fail(i, "the tree is built by the builder");
            }
            (Action::Tree(_), _) if !root => return fail(i, "the root comes first"),
            (Action::ReadBack | Action::LockMachine(_) | Action::ReserveIds(_), lane) if lane != Lane::Host => {
                return fail(i, "the supervisor locks and compares");
            }
            (
                Action::CreateCgroup(_)
                | Action::LoadTable(_)
                | Action::JoinZone { .. }
                | Action::ForgetConnections { .. }
                | Action::CreateLink { .. },
                _,
            ) if !is_undone(steps, &s.action) => {
                return fail(i, "what is left behind is written down with the lock, for its undo");
            }
            (Action::WriteIdMaps { .. }, _) if !user_namespace(plan) => {
                return fail(i, "id maps need a user namespace");
            }
            _ => {}
        }
    }
    for (i, s) in steps.iter().enumerate() {
        let Action::WriteIdMaps { users, .. } = &s.action else { continue };
        let outer = steps.iter().any(|s| matches!(s.action, Action::CloneBuilder { outer: Some(_) }));
        let root = users.iter().find(|r| r.inside == 0).map(|r| r.outside).filter(|_| !outer);
        if !steps.iter().any(|s| matches!(s.action, Action::CloneInit { owner, .. } if owner == root)) {
            return fail(i, "what a machine uses is counted for its own root");
        }
    }
    let idmapped = |s: &TreeStep| {
        matches!(s, TreeStep::Mount { shown: Shown::Bind { idmap: true, .. } | Shown::Overlay { idmap: true, .. }, .. })
    };
    if let Some(i) = steps.iter().position(|s| matches!(&s.action, Action::Tree(t) if idmapped(t)))
        && !steps.iter().take(i).any(|s| matches!(s.action, Action::WriteIdMaps { .. }))
    {
        return fail(i, "an id-mapped mount needs the maps");
    }
    Ok(())
}

fn user_namespace(plan: &Plan) -> bool {
    plan.steps()
        .iter()
        .any(|s| matches!(s.action, Action::CloneInit { namespaces, .. } if namespaces & 0x1000_0000 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::capabilities::Sets;
    use crate::compile::cgroups::{Cgroups, Group, Limit};
    use crate::compile::firewall::Table;
    use crate::compile::mounts::{Attributes, HostPath};
    use crate::compile::network::{Hold, Wiring};
    use crate::compile::seccomp::Filter;
    use crate::compile::users::{Credentials, IdMaps, Range};
    use crate::compile::{Confinement, landlock::Landlock};
    use crate::plan::Step;
    use crate::plan::step::Objects;
    use crate::source::Origin;
    use crate::sys::confine::Instruction;

    fn origin() -> Origin {
        Origin::implied("a test")
    }

    fn groups() -> Cgroups {
        let path = "/sys/fs/cgroup/stockade/m".to_owned();
        Cgroups {
            enter: vec![format!("{path}/program")],
            leave: Some(format!("{path}/init")),
            limits: vec![Limit {
                name: "tasks".into(),
                path: format!("{path}/pids.max"),
                value: "65".into(),
                origin: origin(),
            }],
            groups: vec![Group { path, controllers: vec!["pids".into()], owner: Some(100_000) }],
            counters: Vec::new(),
        }
    }

    fn wiring() -> Wiring {
        let table = Table { family: "inet".into(), name: "stockade-m".into(), chains: Vec::new() };
        let addresses = vec!["0.0.0.0".parse().unwrap()];
        Wiring {
            origin: origin(),
            subnet: Some(0),
            zone: None,
            kind: LinkKind::Veth { outside: "ve-m".into(), bridge: None },
            mac: [2; 6],
            inside: Vec::new(),
            outside: Vec::new(),
            holds: vec![Hold { protocol: "tcp".into(), addresses, ports: (80, 80), origin: origin() }],
            tables: vec![table.clone()],
            inner: Some(table),
            forwarding: [true; 2],
            networkd: true,
            resolvers: Vec::new(),
            link_local: false,
            accepts_configuration: false,
        }
    }

    /// A booted machine with everything that a plan can have.
    fn good() -> Plan {
        let attributes = Attributes { read_only: true, nosuid: true, nodev: true, noexec: false };
        let from = HostPath { path: "/r".into(), device: 1, inode: 2 };
        let root = Shown::Bind { from, idmap: true, recursive: false };
        let mount = |target: &str, shown| (TreeStep::Mount { target: target.into(), shown, attributes }, origin());
        let range = vec![Range { inside: 0, outside: 100_000, count: 65_536 }];
        let sets = Sets { bounding: 1, permitted: 1, effective: 1, inheritable: 0, ambient: 0 };
        let landlock = Landlock {
            abi: 7,
            requested: [0, 3, 3],
            beyond: Vec::new(),
            size: 24,
            handled_files: 0,
            handled_network: 3,
            scoped: 3,
            paths: Vec::new(),
            ports: Vec::new(),
        };
        let program = vec![Instruction { code: 6, jt: 0, jf: 0, k: 0 }];
        crate::plan::build(&Confinement {
            machine: "m".into(),
            namespaces: 0x1000_0000 | 0x2000_0000,
            boots: true,
            outer_userns: None,
            ids: Some(IdMaps { users: range.clone(), groups: range, setgroups: true, origin: origin() }),
            credentials: (Credentials { uid: 0, gid: 0, groups: Vec::new() }, origin()),
            capabilities: (sets, origin()),
            securebits: 0,
            no_new_privs: (true, origin()),
            filter: Filter { arch: crate::compile::native(), program },
            filter_origin: origin(),
            landlock: Some((landlock, origin())),
            tree: vec![mount("/", root), mount("/proc", Shown::Proc)],
            rlimits: Vec::new(),
            environment: Vec::new(),
            argv: (vec!["/sbin/init".into()], origin()),
            chdir: ("/".into(), origin()),
            umask: 0o022,
            hostname: ("m".into(), origin()),
            terminal: [true; 3],
            cgroups: groups(),
            wiring: Some(wiring()),
            exposure: Vec::new(),
            time: Some((60, origin())),
            last_capability: 40,
        })
        .unwrap()
    }

    #[test]
    fn each_rule_of_order_refuses_a_plan_that_breaks_it() {
        let good = good();
        let mut tried = 0;
        for (earlier, later, rule) in BEFORE {
            let find = |is: &Is, p: &Plan| p.steps.iter().rposition(|s| is(&s.action));
            let first = |is: &Is, p: &Plan| p.steps.iter().position(|s| is(&s.action));
            let (Some(e), Some(l)) = (find(earlier, &good), first(later, &good)) else {
                panic!("the good plan doesn't speak of: {rule}");
            };
            assert!(e < l, "{rule}");
            let mut bad = good.clone();
            let step = bad.steps.remove(e);
            bad.steps.insert(l, step);
            assert!(check(&bad).is_err(), "accepted although: {rule}");
            tried += 1;
        }
        assert_eq!(tried, BEFORE.len());
    }

    #[test]
    fn each_needed_step_is_there_exactly_once() {
        let good = good();
        for (is, rule) in ONCE {
            let at = good.steps.iter().position(|s| is(&s.action)).unwrap();
            let mut without = good.clone();
            without.steps.remove(at);
            assert!(check(&without).is_err(), "accepted without: {rule}");
            let mut twice = good.clone();
            let copy: Step = twice.steps[at].clone();
            twice.steps.insert(at, copy);
            assert!(check(&twice).is_err(), "accepted twice: {rule}");
        }
    }

    #[test]
    fn the_other_rules_refuse_too() {
        let change = |f: &dyn Fn(&mut Vec<Step>)| {
            let mut p = good();
            f(&mut p.steps);
            check(&p).unwrap_err().rule
        };
        let at = |steps: &[Step], is: Is| steps.iter().position(|s| is(&s.action)).unwrap();
        // Something between the filter and exec.
        assert!(
            change(&|s| {
                let exec = s.pop().unwrap();
                s.push(Step { lane: Lane::Program, action: Action::SetUmask(0), origin: origin() });
                s.push(exec);
            })
            .contains("nothing between")
        );
        // A second root; the root after something in it.
        assert!(
            change(&|s| {
                let root = at(s, |a| matches!(a, Action::Tree(_)));
                let copy = s[root].clone();
                s.insert(root + 1, copy);
            })
            .contains("the root is mounted once")
        );
        assert!(
            change(&|s| {
                let root = at(s, |a| matches!(a, Action::Tree(_)));
                s.swap(root, root + 1);
            })
            .contains("root")
        );
        // The tree by another than the builder; the comparison by another than the supervisor.
        assert!(
            change(&|s| {
                let i = at(s, |a| matches!(a, Action::PivotRoot));
                s[i].lane = Lane::Program;
            })
            .contains("builder")
        );
        assert!(
            change(&|s| {
                let i = at(s, |a| matches!(a, Action::ReadBack));
                s[i].lane = Lane::Program;
            })
            .contains("supervisor")
        );
        // A cgroup that no record names; an id map without a user namespace; an id-mapped mount without maps.
        assert!(change(&|s| s[0].action = Action::LockMachine(Objects::default())).contains("left behind"));
        assert!(
            change(&|s| {
                let i = at(s, |a| matches!(a, Action::CloneInit { .. }));
                s[i].action = Action::CloneInit { namespaces: 0x2000_0000, owner: None };
            })
            .contains("user namespace")
        );
        // A user namespace for the host's root.
        assert!(
            change(&|s| {
                let i = at(s, |a| matches!(a, Action::CloneInit { .. }));
                if let Action::CloneInit { owner, .. } = &mut s[i].action {
                    *owner = None;
                }
            })
            .contains("counted")
        );
        assert!(change(&|s| s.retain(|x| !matches!(x.action, Action::WriteIdMaps { .. }))).contains("needs the maps"));
    }
}
