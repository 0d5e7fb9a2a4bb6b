//! Calls that do what a condition on another call withholds.

use super::cube::{self, ALL, Cube};
use super::seccomp::Regions;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::kernel::calls::{self, Type};
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::network::{Network, Port, Protocol, Use};
use crate::policy::syscalls::{Action, Condition, Rule, Test};
use crate::proof::diagram::{FALSE, Store};
use crate::proof::intent::{self, AF_INET, AF_PACKET, SOCK_PACKET, SOCK_TYPE_MASK};

/// Reports each call whose condition another call goes around. Judged on what all rules together allow, denials
/// counted: a call whose conditions make up everything isn't limited.
pub(super) fn check(policy: &Policy, arch: Arch, regions: &[Regions], d: &mut Diagnostics) {
    let granted = Granted { policy, arch, regions };
    for f in FAMILIES {
        granted.family(f, d);
    }
    let ring = RING_CALLS.iter().map(|limited| (*limited, RING.0, false, RING.1));
    for (limited, open, whole, fix) in PAIRS.iter().copied().chain(ring) {
        let (own, theirs) = (granted.all(limited), granted.all(open));
        let everything = |cubes: &[Cube]| !more(&[ALL], cubes);
        let reached = if whole { everything(&theirs) } else { !theirs.is_empty() };
        if reached && !own.is_empty() && !everything(&own) {
            granted.report(limited, None, open, fix, d);
        }
    }
    granted.executable(d);
    granted.packets(d);
}

/// What the rules of a policy let run.
struct Granted<'a> {
    policy: &'a Policy,
    arch: Arch,
    regions: &'a [Regions],
}

impl Granted<'_> {
    fn all(&self, name: &str) -> Vec<Cube> {
        let number = self.arch.number(name);
        self.regions.iter().find(|r| Some(r.number()) == number).map(Regions::allowed).unwrap_or_default()
    }

    fn some(&self, name: &str, tests: &[(&str, Test)]) -> Vec<Cube> {
        let conditions: Option<Vec<_>> = tests.iter().map(|(a, t)| condition(name, a, t.clone())).collect();
        conditions.and_then(|c| cube::of(&c).ok()).map(|c| cube::and(&self.all(name), &c)).unwrap_or_default()
    }

    fn lines(&self, name: &str) -> Vec<&Rule> {
        self.policy.syscalls.iter().filter(|r| r.call.name == name).collect()
    }

    fn report(&self, limited: &str, argument: Option<usize>, open: &str, fix: &str, d: &mut Diagnostics) {
        // The line that limits: the first with a condition on what is gone around.
        let about =
            |r: &&&Rule| r.conditions.iter().any(|c| argument.is_none_or(|index| usize::from(c.argument) == index));
        let (own, others) = (self.lines(limited), self.lines(open));
        let span = own.iter().find(about).or(own.first()).map_or(self.policy.span, |r| r.span);
        let other = others.iter().find(|r| r.action <= Action::Log).map_or(self.policy.span, |r| r.span);
        d.push(
            Diagnostic::error("E0410", span, format!("the condition on `{limited}` can be bypassed with `{open}`"))
                .also(other, format!("`{open}` is allowed here"))
                .help(fix),
        );
    }

    fn family(&self, f: &Family, d: &mut Diagnostics) {
        let member = |(name, argument): &(&'static str, &str)| {
            let index = calls::find(name)?.args.iter().position(|a| a.name == *argument)?;
            let mut cubes = self.all(name);
            if let Some((_, argument, sets)) = f.given.iter().find(|(call, ..)| call == name) {
                let each = sets.iter().map(|bits| cube::of(&[condition(name, argument, Test::HasAll(*bits))?]).ok());
                cubes = cube::and(&cubes, &each.collect::<Option<Vec<_>>>()?.concat());
            }
            let values = cube::and(&values(&cubes, index, f.bits), &[f.universe()]);
            (!values.is_empty()).then_some((*name, index, values))
        };
        let members: Vec<(&str, usize, Vec<Cube>)> = f.members.iter().filter_map(member).collect();
        let everything = |own: &[Cube]| !more(&[f.universe()], own);
        for (name, index, own) in members.iter().filter(|(_, _, own)| !everything(own)) {
            for (open, fix) in f.hidden.iter().filter(|(open, _)| !self.all(open).is_empty()) {
                self.report(name, Some(*index), open, fix, d);
            }
            for (open, _, theirs) in members.iter().filter(|(open, ..)| open != name) {
                if if f.whole { everything(theirs) } else { more(theirs, own) } {
                    let fix = format!("condition `{open}` likewise, or remove it");
                    self.report(name, Some(*index), open, &fix, d);
                }
            }
        }
    }

    /// READ_IMPLIES_EXEC makes everything executable that is readable; 0xffffffff only asks (personality(2)).
    fn executable(&self, d: &mut Diagnostics) {
        let implies = [("personality", Test::HasAll(0x40_0000)), ("personality", Test::NotIn(vec![0xffff_ffff]))];
        if self.some("personality", &implies).is_empty() {
            return;
        }
        for name in ["mmap", "mprotect", "pkey_mprotect"] {
            if !self.all(name).is_empty() && self.some(name, &[("prot", Test::HasAll(0x4))]).is_empty() {
                self.report(name, None, "personality", "`personality has none [READ_IMPLIES_EXEC]`", d);
            }
        }
    }

    /// The kernel takes an internet socket of type SOCK_PACKET for one of AF_PACKET, which wants CAP_NET_RAW.
    fn packets(&self, d: &mut Diagnostics) {
        let old = [("family", Test::In(vec![AF_INET])), ("type", Test::Masked(SOCK_TYPE_MASK, vec![SOCK_PACKET]))];
        let old = self.some("socket", &old);
        let raw = self.policy.capabilities.iter().any(|g| g.capability == NET_RAW);
        if !raw || old.is_empty() || !self.some("socket", &[("family", Test::In(vec![AF_PACKET]))]).is_empty() {
            return;
        }
        let rule = self.lines("socket").into_iter().find(|r| {
            let own = cube::of(&r.conditions).unwrap_or_else(|_| vec![ALL]);
            r.action <= Action::Log && cube::overlap(&own, &old)
        });
        let message = "with CAP_NET_RAW a socket of AF_INET and SOCK_PACKET is one of AF_PACKET, which isn't allowed";
        d.push(
            Diagnostic::error("E0410", rule.map_or(self.policy.span, |r| r.span), message)
                .help("name the types, as in `type & 0xf in [SOCK_STREAM, SOCK_DGRAM]`, or allow AF_PACKET; packet(7)"),
        );
    }
}

/// CAP_NET_RAW
pub(super) const NET_RAW: u8 = 13;
/// CAP_NET_ADMIN
pub(super) const NET_ADMIN: u8 = 12;

/// A test of a call's argument.
fn condition(call: &str, argument: &str, test: Test) -> Option<Condition> {
    Condition::on(calls::find(call)?, argument, test)
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

/// Is something of `a` outside `b`? Where cubes are too many, diagrams tell; where they can't, it is.
fn more(a: &[Cube], b: &[Cube]) -> bool {
    if let Ok(rest) = cube::minus(a, b) {
        return !rest.is_empty();
    }
    let mut s = Store::default();
    let [a, b] = [a, b].map(|cubes| {
        cubes.iter().fold(FALSE, |sum, c| {
            let one = (0..6).zip(c.mask.iter().zip(&c.value)).map(|(argument, (mask, value))| Condition {
                argument,
                kind: Type::Ulong,
                test: Test::Masked(*mask, vec![*value]),
            });
            let one = intent::holds(&mut s, &one.collect::<Vec<_>>());
            s.or(sum, one)
        })
    });
    s.choose(b, FALSE, a) != FALSE || s.exceeded()
}

/// Landlock's rules for TCP ports look at bind(2) and connect(2) of TCP sockets. On the host's network, calls
/// that reach a port another way would make them worthless.
pub(super) fn ports(policy: &Policy, arch: Arch, regions: &[Regions], d: &mut Diagnostics) {
    let tcp = |p: &&Port| p.protocol == Protocol::Tcp;
    let any = |how: Use| policy.ports.iter().filter(tcp).any(|p| p.how == how && p.port.is_none());
    if policy.network.value != Network::Host || any(Use::Listen) && any(Use::Connect) {
        return;
    }
    let past = [("family", Test::In(vec![21, 43]))];
    let stream = [
        ("family", Test::In(vec![2, 10])),
        ("type", Test::Masked(0xf, vec![1])),
        ("protocol", Test::NotIn(vec![0, 6])),
    ];
    let fast_open = [("flags", Test::HasAll(0x2000_0000))];
    let listens = policy.ports.iter().filter(tcp).any(|p| p.how == Use::Listen);
    // (call, the arguments that reach past the rules, does it matter here, what to do)
    type Way<'a> = (&'a str, &'a [(&'a str, Test)], bool, &'a str);
    let ways: [Way<'_>; 7] = [
        ("socket", &past, true, "leave AF_SMC and AF_RDS out: they go by TCP past the rules"),
        ("io_uring_setup", &[], true, "remove `io_uring_setup`: a ring makes sockets of any kind"),
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
        let conditions: Vec<Condition> =
            tests.iter().filter_map(|(argument, test)| condition(call.name, argument, test.clone())).collect();
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
    /// Only values with these bits so are compared: (mask, value).
    like: (u64, u64),
    /// Of a member only what has all bits of one of these sets in another argument.
    given: &'static [(&'static str, &'static str, &'static [u64])],
    /// Only a member that is open altogether goes around another's condition: the calls differ in what else they need.
    whole: bool,
    /// Calls that do it with the argument behind a pointer, or without one; and what to do.
    hidden: &'static [(&'static str, &'static str)],
}

impl Family {
    /// All values that are compared.
    fn universe(&self) -> Cube {
        let (mask, value) = self.like;
        Cube { mask: [mask & self.bits, 0, 0, 0, 0, 0], value: [value, 0, 0, 0, 0, 0] }
    }
}

/// A family whose calls are compared in all values.
const PLAIN: Family = Family { members: &[], bits: 0xffff_ffff, like: (0, 0), given: &[], whole: false, hidden: &[] };

const CLONE3: (&str, &str) =
    ("clone3", "`deny clone3 errno ENOSYS`: its flags are behind a pointer, and libc falls back to clone");
const RING: (&str, &str) = ("io_uring_setup", "remove `io_uring_setup`: a ring does it without the call");

/// A mode is looked at with O_CREAT and with O_TMPFILE (open(2)).
const CREATES: &[u64] = &[0x40, 0x41_0000];

const FAMILIES: &[Family] = &[
    // The flags of new namespaces; CLONE_NEWTIME is clone's exit signal.
    Family {
        members: &[("clone", "clone_flags"), ("unshare", "unshare_flags")],
        bits: 0x7e02_0000,
        hidden: &[CLONE3],
        ..PLAIN
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
        ..PLAIN
    },
    // Single processes: only kill(2) knows groups of them, by numbers below zero.
    Family { members: &[("kill", "pid"), ("tgkill", "tgid"), ("tkill", "pid")], like: (1 << 31, 0), ..PLAIN },
    Family {
        members: &[("chmod", "mode"), ("fchmod", "mode"), ("fchmodat", "mode"), ("fchmodat2", "mode")],
        bits: 0o7777,
        ..PLAIN
    },
    Family { members: &[("mknod", "mode"), ("mknodat", "mode")], bits: 0o17_7777, ..PLAIN },
    // A set-user-ID file comes about by each of them.
    Family {
        members: &[
            ("chmod", "mode"),
            ("creat", "mode"),
            ("fchmod", "mode"),
            ("fchmodat", "mode"),
            ("fchmodat2", "mode"),
            ("mknod", "mode"),
            ("mknodat", "mode"),
            ("open", "mode"),
            ("openat", "mode"),
        ],
        bits: 0o6000,
        given: &[("open", "flags", CREATES), ("openat", "flags", CREATES)],
        hidden: &[OPENAT2, RING],
        ..PLAIN
    },
    Family {
        members: &[("open", "flags"), ("openat", "flags")],
        hidden: &[
            OPENAT2,
            ("creat", "remove `creat`: it is open with O_CREAT|O_TRUNC|O_WRONLY"),
            ("open_by_handle_at", "remove `open_by_handle_at`: it opens any file of the file system"),
            RING,
        ],
        ..PLAIN
    },
    // What mmap grants of files mprotect may well refuse of other memory.
    Family {
        members: &[("mmap", "prot"), ("mprotect", "prot"), ("pkey_mprotect", "prot")],
        bits: 0x7,
        whole: true,
        ..PLAIN
    },
    Family { members: &[("sendmmsg", "flags"), ("sendmsg", "flags"), ("sendto", "flags")], hidden: &[RING], ..PLAIN },
    Family { members: &[("recvfrom", "flags"), ("recvmmsg", "flags"), ("recvmsg", "flags")], hidden: &[RING], ..PLAIN },
    Family { members: &[("unlinkat", "flag")], hidden: &[RING], ..PLAIN },
    Family { members: &[("chown", "user"), ("fchown", "user"), ("fchownat", "user"), ("lchown", "user")], ..PLAIN },
    Family { members: &[("chown", "group"), ("fchown", "group"), ("fchownat", "group"), ("lchown", "group")], ..PLAIN },
    // Each knows "leave it as it is" for some of its ids, so that only what is open altogether is compared.
    Family { members: &[("setuid", "uid"), ("setreuid", "ruid"), ("setresuid", "ruid")], whole: true, ..PLAIN },
    Family { members: &[("setgid", "gid"), ("setregid", "rgid"), ("setresgid", "rgid")], whole: true, ..PLAIN },
    Family { members: &[("prlimit64", "resource"), ("setrlimit", "resource")], ..PLAIN },
    Family { members: &[("madvise", "behavior"), ("process_madvise", "behavior")], hidden: &[RING], ..PLAIN },
    Family { members: &[("quotactl", "cmd"), ("quotactl_fd", "cmd")], ..PLAIN },
    Family {
        members: &[("sched_setscheduler", "policy")],
        hidden: &[("sched_setattr", "remove `sched_setattr`: its policy is behind a pointer")],
        ..PLAIN
    },
];

const OPENAT2: (&str, &str) = ("openat2", "`deny openat2 errno ENOSYS`: its flags and mode are behind a pointer");

/// Calls that a ring makes as well (io_uring_enter(2), include/uapi/linux/io_uring.h), beside those of the families.
const RING_CALLS: &[&str] = &[
    "accept",
    "accept4",
    "bind",
    "close",
    "connect",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "fadvise64",
    "fallocate",
    "fdatasync",
    "fgetxattr",
    "fsetxattr",
    "fsync",
    "ftruncate",
    "futex",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "getsockopt",
    "getxattr",
    "linkat",
    "listen",
    "mkdirat",
    "pipe2",
    "poll",
    "ppoll",
    "pread64",
    "preadv",
    "preadv2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readv",
    "renameat",
    "renameat2",
    "setsockopt",
    "setxattr",
    "shutdown",
    "socket",
    "splice",
    "statx",
    "symlinkat",
    "sync_file_range",
    "tee",
    "waitid",
    "write",
    "writev",
];

/// (a call, what goes around any condition on it, only where that is open altogether, what to do)
const PAIRS: &[(&str, &str, bool, &str)] = &[
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
    ("ptrace", "process_vm_readv", true, "remove `process_vm_readv`: it reads what ptrace may not"),
    ("ptrace", "process_vm_writev", true, "remove `process_vm_writev`: it writes where ptrace may not"),
    ("ptrace", "pidfd_getfd", true, "remove `pidfd_getfd`: it takes another process's descriptors as ptrace would"),
    ("setpriority", "sched_setattr", true, "remove `sched_setattr`: the nice value is behind a pointer"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that isn't known would compare nothing.
    #[test]
    fn every_name_is_one_of_the_kernel() {
        for f in FAMILIES {
            let given = f.given.iter().map(|(call, argument, _)| (call, argument));
            for (call, argument) in f.members.iter().map(|(c, a)| (c, a)).chain(given) {
                assert!(condition(call, argument, Test::HasAny(1)).is_some(), "{call}({argument})");
            }
            f.hidden.iter().for_each(|(call, _)| assert!(calls::find(call).is_some(), "{call}"));
        }
        let pairs = PAIRS.iter().flat_map(|(a, b, ..)| [a, b]);
        pairs.chain(RING_CALLS).for_each(|call| assert!(calls::find(call).is_some(), "{call}"));
    }
}
