//! Calls that do what a condition on another call withholds.

use super::cube::{self, ALL, Cube};
use super::seccomp::Regions;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::kernel::calls;
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::network::{Network, Port, Protocol, Use};
use crate::policy::syscalls::{Action, Condition, Rule, Test};

/// Reports each call whose condition another call goes around. Judged on what all rules together allow, denials
/// counted: a call whose conditions make up everything isn't limited.
pub(super) fn check(policy: &Policy, arch: Arch, regions: &[Regions], d: &mut Diagnostics) {
    let allowed = |name: &str| -> Vec<Cube> {
        let number = arch.number(name);
        regions.iter().find(|r| Some(r.number()) == number).map(Regions::allowed).unwrap_or_default()
    };
    let lines = |name: &str| policy.syscalls.iter().filter(move |r| r.call.name == name).collect::<Vec<_>>();
    let mut report = |limited: &str, argument: Option<usize>, open: &str, fix: &str| {
        // The line that limits: the first with a condition on what is gone around.
        let about =
            |r: &&&Rule| r.conditions.iter().any(|c| argument.is_none_or(|index| usize::from(c.argument) == index));
        let (own, others) = (lines(limited), lines(open));
        let span = own.iter().find(about).or(own.first()).map_or(policy.span, |r| r.span);
        let other = others.iter().find(|r| r.action <= Action::Log).map_or(policy.span, |r| r.span);
        d.push(
            Diagnostic::error("E0410", span, format!("the condition on `{limited}` can be bypassed with `{open}`"))
                .also(other, format!("`{open}` is allowed here"))
                .help(fix),
        );
    };
    for f in FAMILIES {
        let member = |(name, argument): &(&'static str, &str)| {
            let call = calls::find(name)?;
            let index = call.args.iter().position(|a| a.name == *argument)?;
            let values = values(&allowed(name), index, f.bits);
            (!values.is_empty()).then_some((*name, index, values))
        };
        let members: Vec<(&str, usize, Vec<Cube>)> = f.members.iter().filter_map(member).collect();
        for (name, index, own) in members.iter().filter(|(_, _, own)| !is_everything(own)) {
            for (open, fix) in f.hidden.iter().filter(|(open, _)| !allowed(open).is_empty()) {
                report(name, Some(*index), open, fix);
            }
            for (open, _, theirs) in members.iter().filter(|(open, ..)| open != name) {
                let more = cube::minus(theirs, own).is_ok_and(|rest| !rest.is_empty());
                if if f.whole { is_everything(theirs) } else { more } {
                    report(name, Some(*index), open, &format!("condition `{open}` likewise, or remove it"));
                }
            }
        }
    }
    for (limited, open, whole, fix) in PAIRS {
        let (own, theirs) = (allowed(limited), allowed(open));
        let reached = if *whole { is_everything(&theirs) } else { !theirs.is_empty() };
        if reached && !own.is_empty() && !is_everything(&own) {
            report(limited, None, open, fix);
        }
    }
}

/// Which values of one argument occur, as far as these bits go.
fn values(cubes: &[Cube], index: usize, bits: u64) -> Vec<Cube> {
    let one = |c: &Cube| {
        let mut out = Cube { mask: [0; 6], value: [0; 6] };
        for (to, from) in [(&mut out.mask, c.mask), (&mut out.value, c.value)] {
            if let Some(first) = to.first_mut() {
                *first = from.get(index).copied().unwrap_or(0) & bits;
            }
        }
        out
    };
    cube::simplify(cubes.iter().map(one).collect())
}

/// Too many cubes to tell isn't everything.
fn is_everything(cubes: &[Cube]) -> bool {
    cube::minus(&[ALL], cubes).is_ok_and(|rest| rest.is_empty())
}

/// Landlock's rules for TCP ports look at bind(2) and connect(2) of TCP sockets. On the host's network, calls
/// that reach a port another way would make them worthless.
pub(super) fn ports(policy: &Policy, arch: Arch, regions: &[Regions], d: &mut Diagnostics) {
    let tcp = |p: &&Port| p.protocol == Protocol::Tcp;
    let any = |how: Use| policy.ports.iter().filter(tcp).any(|p| p.how == how && p.port.is_none());
    if policy.network.value != Network::Host || any(Use::Listen) && any(Use::Connect) {
        return;
    }
    let stream = [
        ("family", Test::In(vec![2, 10])),
        ("type", Test::Masked(0xf, vec![1])),
        ("protocol", Test::NotIn(vec![0, 6])),
    ];
    let fast_open = [("flags", Test::HasAll(0x2000_0000))];
    let listens = policy.ports.iter().filter(tcp).any(|p| p.how == Use::Listen);
    // (call, the arguments that reach past the rules, does it matter here, what to do)
    type Way<'a> = (&'a str, &'a [(&'a str, Test)], bool, &'a str);
    let ways: [Way<'_>; 5] = [
        ("socket", &stream, true, "name the protocol: `protocol in [0, IPPROTO_TCP]`; Multipath TCP isn't covered"),
        (
            "sendto",
            &fast_open,
            !any(Use::Connect),
            "`flags has none [MSG_FASTOPEN]`: Fast Open connects without connect",
        ),
        (
            "sendmsg",
            &fast_open,
            !any(Use::Connect),
            "`flags has none [MSG_FASTOPEN]`: Fast Open connects without connect",
        ),
        (
            "sendmmsg",
            &fast_open,
            !any(Use::Connect),
            "`flags has none [MSG_FASTOPEN]`: Fast Open connects without connect",
        ),
        (
            "listen",
            &[],
            !listens,
            "`remove listen`: without bind it takes a free port; or grant a port with `listen tcp`",
        ),
    ];
    for (name, tests, applies, fix) in ways {
        let Some(call) = calls::find(name).filter(|_| applies) else { continue };
        let conditions: Vec<Condition> = tests
            .iter()
            .filter_map(|(argument, test)| {
                let index = call.args.iter().position(|a| a.name == *argument)?;
                let kind = call.args.get(index)?.ty;
                Some(Condition { argument: u8::try_from(index).ok()?, kind, test: test.clone() })
            })
            .collect();
        let Ok(way) = cube::of(&conditions) else { continue };
        let number = arch.number(name);
        let Some(region) = regions.iter().find(|r| Some(r.number()) == number) else { continue };
        if cube::and(&region.allowed(), &way).is_empty() {
            continue;
        }
        let span = policy
            .syscalls
            .iter()
            .find(|r| r.call.name == name && r.action <= Action::Log)
            .map_or(policy.span, |r| r.span);
        d.push(
            Diagnostic::error(
                "E0416",
                span,
                format!("`{name}` reaches TCP ports of the host that the policy doesn't grant"),
            )
            .also(policy.network.span, "the host's network")
            .help(fix),
        );
    }
}

/// Calls that do one thing by an argument of the same meaning. What one of them is refused another must not do.
struct Family {
    /// A call, and the argument.
    members: &'static [(&'static str, &'static str)],
    /// The bits of it that mean the same in all of them.
    bits: u64,
    /// Only a member that is open altogether goes around another's condition: the calls differ in what else they need.
    whole: bool,
    /// Calls that do it with the argument behind a pointer, or without one; and what to do.
    hidden: &'static [(&'static str, &'static str)],
}

const CLONE3: (&str, &str) =
    ("clone3", "`deny clone3 errno ENOSYS`: its flags are behind a pointer, and libc falls back to clone");
const RING: (&str, &str) = ("io_uring_setup", "remove `io_uring_setup`: a ring does it without the call");

const FAMILIES: &[Family] = &[
    // The flags of new namespaces; CLONE_NEWTIME is clone's exit signal.
    Family {
        members: &[("clone", "clone_flags"), ("unshare", "unshare_flags")],
        bits: 0x7e02_0000,
        whole: false,
        hidden: &[CLONE3],
    },
    Family {
        members: &[
            ("kill", "sig"),
            ("pidfd_send_signal", "sig"),
            ("rt_sigqueueinfo", "sig"),
            ("rt_tgsigqueueinfo", "sig"),
            ("tgkill", "sig"),
            ("tkill", "sig"),
        ],
        bits: 0xffff_ffff,
        whole: false,
        hidden: &[],
    },
    Family {
        members: &[("chmod", "mode"), ("fchmod", "mode"), ("fchmodat", "mode"), ("fchmodat2", "mode")],
        bits: 0o7777,
        whole: false,
        hidden: &[],
    },
    Family { members: &[("mknod", "mode"), ("mknodat", "mode")], bits: 0o17_7777, whole: false, hidden: &[] },
    Family {
        members: &[("open", "flags"), ("openat", "flags")],
        bits: 0xffff_ffff,
        whole: false,
        hidden: &[
            ("openat2", "`deny openat2 errno ENOSYS`: its flags are behind a pointer"),
            ("creat", "remove `creat`: it is open with O_CREAT|O_TRUNC|O_WRONLY"),
            ("open_by_handle_at", "remove `open_by_handle_at`: it opens any file of the file system"),
            RING,
        ],
    },
    // What mmap grants of files mprotect may well refuse of other memory.
    Family {
        members: &[("mmap", "prot"), ("mprotect", "prot"), ("pkey_mprotect", "prot")],
        bits: 0x7,
        whole: true,
        hidden: &[],
    },
    Family {
        members: &[("sendmmsg", "flags"), ("sendmsg", "flags"), ("sendto", "flags")],
        bits: 0xffff_ffff,
        whole: false,
        hidden: &[RING],
    },
    Family { members: &[("unlinkat", "flag")], bits: 0xffff_ffff, whole: false, hidden: &[RING] },
];

/// (a call, what goes around any condition on it, only where that is open altogether, what to do)
const PAIRS: &[(&str, &str, bool, &str)] = &[
    ("socket", "io_uring_setup", false, "remove `io_uring_setup`: a ring opens sockets without the socket call"),
    ("setsockopt", "io_uring_setup", false, "remove `io_uring_setup`: a ring sets options without the call"),
    ("creat", "open", true, "condition `open` likewise, or remove it"),
    ("creat", "openat", true, "condition `openat` likewise, or remove it"),
    ("setns", "unshare", true, "condition `unshare` likewise, or remove it"),
    ("mount", "mount_setattr", false, "remove `mount_setattr`: its attributes are behind a pointer"),
    ("mount", "move_mount", false, "remove `move_mount`: what it mounts was made by other calls"),
    ("mount", "fsmount", false, "remove `fsmount`: what it makes can be used without being moved anywhere"),
    ("mount", "open_tree_attr", false, "remove `open_tree_attr`: its attributes are behind a pointer"),
    ("move_mount", "mount", true, "condition `mount` likewise, or remove it"),
    ("mmap", "shmat", true, "condition `shmat` likewise: SHM_EXEC maps executable memory"),
    ("mprotect", "shmat", true, "condition `shmat` likewise: SHM_EXEC maps executable memory"),
    ("execve", "execveat", false, "remove `execveat`"),
    ("ptrace", "process_vm_writev", true, "remove `process_vm_writev`: it writes where ptrace may not"),
];
