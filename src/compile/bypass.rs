//! Calls that do what a condition on another call withholds.

use super::cube::{self, ALL, Cube};
use super::seccomp::Regions;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::kernel::calls;
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::network::{Network, Port, Protocol, Use};
use crate::policy::syscalls::{Action, Condition, Rule, Test};
use std::collections::HashSet;

/// Reports each conditioned call whose open twin is allowed. Judged on what all rules together allow: a
/// call whose conditions make up everything isn't limited.
pub(super) fn check(policy: &Policy, arch: Arch, regions: &[Regions], d: &mut Diagnostics) {
    let allowed = |name: &str| -> Vec<Cube> {
        let number = arch.number(name);
        regions.iter().find(|r| Some(r.number()) == number).map(Regions::allowed).unwrap_or_default()
    };
    let names: HashSet<&str> = BYPASSES.iter().flat_map(|(a, b, ..)| [*a, *b]).collect();
    let rules: Vec<&Rule> = policy.syscalls.iter().filter(|r| names.contains(r.call.name)).collect();
    let rule = |name: &str, conditions: bool| -> Option<&Rule> {
        rules
            .iter()
            .copied()
            .find(|r| r.call.name == name && r.action <= Action::Log && r.conditions.is_empty() != conditions)
    };
    for (conditioned, open, arguments, fix) in BYPASSES {
        let about = |r: &Rule| {
            r.conditions.iter().any(|c| {
                arguments.is_empty()
                    || r.call.args.get(usize::from(c.argument)).is_some_and(|a| arguments.contains(&a.name))
            })
        };
        let Some(other) = rule(open, false).filter(|_| !allowed(open).is_empty()) else { continue };
        // Limited by what is granted, unless the grants together make up everything (too many cubes to tell
        // isn't everything) ...
        let grants = rules.iter().filter(|r| r.call.name == *conditioned && r.action <= Action::Log);
        let granted: Vec<Cube> = grants.flat_map(|r| cube::of(&r.conditions).unwrap_or_default()).collect();
        let by_grant = rule(conditioned, true)
            .filter(|r| about(r))
            .filter(|_| !cube::minus(&[ALL], &granted).is_ok_and(|rest| rest.is_empty()));
        // ... or by a denial, when the twin has none.
        let denial = |name: &str| {
            rules.iter().find(|r| r.call.name == name && r.action > Action::Log && !r.conditions.is_empty()).copied()
        };
        let by_denial = denial(conditioned).filter(|r| about(r) && denial(open).is_none() && !granted.is_empty());
        let Some(limited) = by_grant.or(by_denial) else { continue };
        d.push(
            Diagnostic::error(
                "E0410",
                limited.span,
                format!("the condition on `{conditioned}` can be bypassed with `{open}`"),
            )
            .also(other.span, format!("`{open}` is allowed here without a condition"))
            .help(*fix),
        );
    }
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

/// (conditioned call, its open twin, arguments whose condition is bypassed, what to do)
const BYPASSES: &[(&str, &str, &[&str], &str)] = &[
    (
        "clone",
        "clone3",
        &["clone_flags"],
        "`deny clone3 errno ENOSYS`: its flags are behind a pointer, and libc falls back to clone",
    ),
    ("clone", "unshare", &["clone_flags"], "condition `unshare` likewise, or remove it"),
    ("socket", "io_uring_setup", &[], "remove `io_uring_setup`: a ring opens sockets without the socket call"),
    ("openat", "io_uring_setup", &[], "remove `io_uring_setup`: a ring opens files without the open calls"),
    ("open", "io_uring_setup", &[], "remove `io_uring_setup`: a ring opens files without the open calls"),
    ("openat", "openat2", &[], "`deny openat2 errno ENOSYS`: its flags are behind a pointer"),
    ("open", "openat2", &[], "`deny openat2 errno ENOSYS`: its flags are behind a pointer"),
    ("openat", "open", &[], "condition `open` likewise"),
    ("open", "openat", &[], "condition `openat` likewise"),
    ("openat", "creat", &[], "remove `creat`: it is open with O_CREAT|O_TRUNC|O_WRONLY"),
    ("mmap", "mprotect", &["prot"], "condition `mprotect` likewise: it changes what `mmap` was refused"),
    ("mprotect", "mmap", &["prot"], "condition `mmap` likewise"),
    ("mmap", "pkey_mprotect", &["prot"], "condition `pkey_mprotect` likewise, or remove it"),
    ("kill", "pidfd_send_signal", &["sig"], "condition `pidfd_send_signal` likewise, or remove it"),
    ("kill", "tkill", &["sig"], "condition `tkill` likewise, or remove it"),
    ("kill", "rt_sigqueueinfo", &["sig"], "condition `rt_sigqueueinfo` likewise, or remove it"),
    ("setns", "unshare", &[], "condition `unshare` likewise, or remove it"),
    ("fchmodat", "fchmodat2", &["mode"], "condition `fchmodat2` likewise, or remove it"),
    ("chmod", "fchmodat", &["mode"], "condition `fchmodat` likewise"),
    ("socket", "socketcall", &[], "remove `socketcall`: the family is behind a pointer"),
    ("unshare", "clone", &[], "condition `clone` likewise"),
    ("unshare", "clone3", &[], "`deny clone3 errno ENOSYS`: its flags are behind a pointer"),
    ("open", "creat", &[], "remove `creat`: it is open with O_CREAT|O_TRUNC|O_WRONLY"),
    ("open", "open_by_handle_at", &[], "remove `open_by_handle_at`: it opens any file of the file system"),
    ("openat", "open_by_handle_at", &[], "remove `open_by_handle_at`: it opens any file of the file system"),
    ("mprotect", "pkey_mprotect", &["prot"], "condition `pkey_mprotect` likewise, or remove it"),
    ("mknod", "mknodat", &["mode"], "condition `mknodat` likewise"),
    ("mknodat", "mknod", &["mode"], "condition `mknod` likewise"),
    ("kill", "tgkill", &["sig"], "condition `tgkill` likewise, or remove it"),
    ("kill", "rt_tgsigqueueinfo", &["sig"], "condition `rt_tgsigqueueinfo` likewise, or remove it"),
    ("tgkill", "kill", &["sig"], "condition `kill` likewise, or remove it"),
    ("tgkill", "tkill", &["sig"], "condition `tkill` likewise, or remove it"),
    ("tkill", "tgkill", &["sig"], "condition `tgkill` likewise, or remove it"),
    ("pidfd_send_signal", "kill", &["sig"], "condition `kill` likewise, or remove it"),
    ("chmod", "fchmod", &["mode"], "condition `fchmod` likewise"),
    ("chmod", "fchmodat2", &["mode"], "condition `fchmodat2` likewise, or remove it"),
    ("fchmodat", "chmod", &["mode"], "condition `chmod` likewise"),
    ("mount", "mount_setattr", &[], "remove `mount_setattr`: its attributes are behind a pointer"),
    ("mount", "move_mount", &[], "condition `move_mount` likewise, or remove it"),
    ("fchmodat", "fchmod", &["mode"], "condition `fchmod` likewise"),
    ("fchmod", "chmod", &["mode"], "condition `chmod` likewise"),
    ("fchmod", "fchmodat", &["mode"], "condition `fchmodat` likewise"),
    ("fchmod", "fchmodat2", &["mode"], "condition `fchmodat2` likewise, or remove it"),
    ("fchmodat2", "fchmodat", &["mode"], "condition `fchmodat` likewise"),
    ("mmap", "shmat", &["prot"], "condition `shmat` likewise: SHM_EXEC maps executable memory"),
    ("mprotect", "shmat", &["prot"], "condition `shmat` likewise: SHM_EXEC maps executable memory"),
    ("sendto", "sendmsg", &["flags"], "condition `sendmsg` likewise"),
    ("sendto", "sendmmsg", &["flags"], "condition `sendmmsg` likewise"),
    ("sendmsg", "sendto", &["flags"], "condition `sendto` likewise"),
    ("sendmsg", "sendmmsg", &["flags"], "condition `sendmmsg` likewise"),
    ("execve", "execveat", &[], "remove `execveat`"),
];
