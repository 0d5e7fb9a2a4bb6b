//! Assertions and tests, decided on what was compiled.

use super::bypass::{NET_ADMIN, NET_RAW};
use super::exposure;
use super::places::Model;
use super::seccomp::Filter;
use crate::address::{Block, LOOPBACK, NOT_IMPLIED};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::host::Names;
use crate::kernel::calls::{Call, Type};
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::asserts::{Assertion, Claim};
use crate::policy::capabilities;
use crate::policy::files::Right;
use crate::policy::files::is_below;
use crate::policy::meaning::{Meaning, Vector};
use crate::policy::network::{Network, Protocol, Resolver, Use};
use crate::policy::process::Userns;
use crate::policy::syscalls::{Action, Condition, Rule, Test};
use crate::policy::words;
use crate::proof::diagram::{FALSE, Store};
use crate::proof::{bpf, intent, witness};
use crate::source::Span;

/// Checks each assertion; the answer for calls, capabilities and ports is exact, for paths it is
/// modelled from roots, mounts and file rules.
pub(super) fn check(policy: &Policy, arch: Arch, d: &mut Diagnostics) {
    let mut tree = None;
    // All of the machine is looked at for it: once, however many profiles claim it.
    let mut wx = None;
    for a in &policy.assertions {
        if let Claim::Syscall(_, conditions) = &a.claim
            && intent::holds(&mut Store::default(), conditions) == FALSE
        {
            let message = "these conditions exclude each other, so that the assertion says nothing";
            d.push(
                Diagnostic::error("E0405", a.span, message).help("of several values: `family in [AF_INET, AF_INET6]`"),
            );
            continue;
        }
        let mut undecided = Diagnostics::default();
        let mut find = || evidence_in(&mut tree, policy, arch, &a.claim, &mut undecided);
        let found = match &a.claim {
            Claim::WriteAndExec => wx.get_or_insert_with(find).clone(),
            _ => find(),
        };
        if found.is_none() && undecided.has_errors() {
            for u in undecided.iter().filter(|u| !d.iter().any(|o| o.message == u.message)).cloned().collect::<Vec<_>>()
            {
                d.push(u);
            }
            continue;
        }
        match (a.never, found) {
            (true, Some(found)) => d.push(broken(policy, a, found)),
            (false, None) => d.push(
                Diagnostic::error(
                    "E0703",
                    a.span,
                    format!("the assertion fails for `{}`: nothing grants this", policy.name),
                )
                .help("add the grant or remove the assertion"),
            ),
            _ => {}
        }
    }
}

fn broken(policy: &Policy, a: &Assertion, (span, how): (Span, String)) -> Diagnostic {
    Diagnostic::error("E0703", a.span, format!("the assertion fails for `{}`: {how}", policy.name))
        .also(span, "granted here")
        .help("remove the grant or the assertion")
}

/// Is there an assertion that the names of the host's files decide?
pub fn is_of_files(policy: &Policy) -> bool {
    policy.assertions.iter().any(|a| a.never && matches!(a.claim, Claim::File(..) | Claim::WriteAndExec))
}

/// Holds what is said of paths again, now that it is known which names of this host are of the same files.
pub(super) fn check_names(policy: &Policy, arch: Arch, names: &Names, d: &mut Diagnostics) {
    let maps = maps_files(policy, arch, d);
    let (unnamed, named) = (Model::of(policy, None, maps), Model::of(policy, Some(names), maps));
    for a in policy.assertions.iter().filter(|a| a.never) {
        let found = |tree: &Model<'_>| match &a.claim {
            Claim::File(right, path) => tree.evidence(*right, path),
            Claim::WriteAndExec => tree.write_and_exec("/"),
            _ => None,
        };
        // What is found without them was said.
        if let (None, Some(found)) = (found(&unnamed), found(&named)) {
            d.push(broken(policy, a, found));
        }
    }
}

/// Runs the policy's tests on the very program that the kernel gets.
pub(super) fn tests(policy: &Policy, filter: &Filter, d: &mut Diagnostics) {
    for (check, title) in policy.tests.iter().flat_map(|t| t.checks.iter().map(move |c| (c, &t.title))) {
        let Some(nr) = filter.arch.number(check.call.name) else { continue };
        let v = Vector { arch: filter.arch.audit(), nr, args: check.registers, ip: 0 };
        let got = bpf::decode(bpf::run(&filter.program, &v, None));
        if !check.expect.met_by(got) {
            let message = format!("test \"{title}\" fails: the outcome is {got:?}, expected {:?}", check.expect);
            d.push(Diagnostic::error("E0704", check.span, message).help("correct the policy, or the test"));
        }
    }
}

/// Why the claim is possible, if it is: the line that grants it, and how.
pub fn evidence(policy: &Policy, arch: Arch, claim: &Claim, d: &mut Diagnostics) -> Option<(Span, String)> {
    evidence_in(&mut None, policy, arch, claim, d)
}

/// The same, with the model of what the machine sees once it was made.
fn evidence_in<'p>(
    tree: &mut Option<Model<'p>>,
    policy: &'p Policy,
    arch: Arch,
    claim: &Claim,
    d: &mut Diagnostics,
) -> Option<(Span, String)> {
    if tree.is_none() && matches!(claim, Claim::File(..) | Claim::WriteAndExec) {
        *tree = Some(Model::of(policy, None, maps_files(policy, arch, d)));
    }
    match claim {
        Claim::Syscall(call, conditions) => call_evidence(policy, arch, call, conditions, d),
        Claim::Capability(n) => {
            let g = policy.capabilities.iter().find(|g| g.capability == *n)?;
            Some((g.span, format!("`{}` is granted", capabilities::name(*n))))
        }
        Claim::Port(how, protocol, port, peer) => port_evidence(policy, *how, *protocol, *port, *peer).or_else(|| {
            if policy.network.value != Network::Host {
                return None;
            }
            sockets_past_rules(policy, arch, *protocol, d)
                .or_else(|| tcp_past_rules(policy, arch, (*how, *protocol, *port), d))
        }),
        Claim::WriteAndExec => write_and_exec(policy, arch, tree.as_ref()?, d),
        Claim::SetuidExec => policy.no_new_privs_span.map(|s| (s, "no_new_privs is given up".into())),
        Claim::File(right, path) => tree
            .as_ref()?
            .evidence(*right, path)
            .or_else(|| mounting(policy, arch, d).filter(|m| m.reaches(*right, path)).map(|m| (m.span, m.how))),
    }
}

/// Sockets of the host's network that no rule holds: their conditions on socket(2), and how they pass. What isn't TCP
/// asks no rule of it; raw and packet sockets need CAP_NET_RAW in the host's user namespace; with CAP_NET_ADMIN there a
/// translation of the machine's own leads from a port that is granted to any other. See socket(2), ip(7), raw(7),
/// packet(7), sctp(7).
pub fn past_rules(policy: &Policy, protocol: Option<Protocol>) -> Vec<(Vec<Condition>, &'static str)> {
    let identity = policy.userns.value == Userns::Identity;
    let has = |capability| identity && policy.capabilities.iter().any(|g| g.capability == capability);
    let (raw, admin) = (has(NET_RAW), has(NET_ADMIN));
    let others = protocol != Some(Protocol::Tcp);
    let Some(call) = crate::kernel::calls::find("socket") else { return Vec::new() };
    let of = |tests: Vec<(&str, Test)>| -> Vec<Condition> {
        tests.into_iter().filter_map(|(name, test)| Condition::on(call, name, test)).collect()
    };
    let internet = || ("family", Test::In(vec![2, 10]));
    let kind = |n| ("type", Test::Masked(0xf, vec![n]));
    // Of the types all but SOCK_STREAM, SOCK_RAW and SOCK_PACKET: datagrams, SCTP, DCCP and what may come.
    let packets = (0..16).filter(|n| ![1, 3, 10].contains(n)).collect();
    // AF_SMC (43) falls back to TCP, AF_RDS (21) is above it; AF_RXRPC (33) has the kernel send UDP
    // (Documentation/networking/rxrpc.rst), AF_PPPOX (24) and AF_TIPC (30) have links.
    let ways = [
        (
            others,
            vec![internet(), ("type", Test::Masked(0xf, packets))],
            "on the host's network nothing holds what isn't TCP",
        ),
        (
            true,
            vec![internet(), kind(1), ("protocol", Test::NotIn(vec![0, 6]))],
            "Multipath TCP and SCTP go past the rules",
        ),
        (raw, vec![internet(), kind(3)], "a raw socket sends any packet"),
        (raw, vec![("family", Test::In(vec![17]))], "a packet socket sends any frame"),
        // By netlink, and by ioctl(2) and setsockopt(2) of any internet socket (netdevice(7), iptables(8)).
        (admin, vec![("family", Test::In(vec![2, 10, 16]))], "with net_admin it writes the host's routes and rules"),
        (true, vec![("family", Test::In(vec![21, 43]))], "this family goes by TCP past the rules"),
        (others, vec![("family", Test::In(vec![24, 30, 33]))], "this family goes past the rules"),
    ];
    ways.into_iter().filter(|(applies, ..)| *applies).map(|(_, tests, how)| (of(tests), how)).collect()
}

/// Sockets that reach ports of the host's network past Landlock, which knows bind(2) and connect(2) of TCP.
fn sockets_past_rules(
    policy: &Policy,
    arch: Arch,
    protocol: Option<Protocol>,
    d: &mut Diagnostics,
) -> Option<(Span, String)> {
    let call = crate::kernel::calls::find("socket")?;
    let found = past_rules(policy, protocol).into_iter().find_map(|(tests, how)| {
        let (span, _) = call_evidence(policy, arch, call, &tests, d)?;
        Some((span, how.to_owned()))
    });
    found.or_else(|| {
        // io_uring_enter(2): IORING_OP_SOCKET, past the filter.
        let ring = crate::kernel::calls::find("io_uring_setup")?;
        let (span, _) = call_evidence(policy, arch, ring, &[], d)?;
        Some((span, "a ring makes sockets of any kind".to_owned()))
    })
}

/// What leaves the host's network, or comes in, by sockets that no rule holds: each way with the line that lets it. What
/// can't be decided is a way.
pub(super) fn open_sockets(policy: &Policy, arch: Arch) -> Vec<(Span, &'static str)> {
    let Some(call) = crate::kernel::calls::find("socket").filter(|_| policy.grants.is_on_host()) else {
        return Vec::new();
    };
    let ways = past_rules(policy, None).into_iter();
    ways.filter_map(|(tests, how)| {
        let mut d = Diagnostics::default();
        match call_evidence(policy, arch, call, &tests, &mut d) {
            Some((span, _)) => Some((span, how)),
            None if d.errors() > 0 => Some((policy.network.span, how)),
            None => None,
        }
    })
    .collect()
}

/// Ports of TCP on the host's network that Landlock doesn't hold: all of them before its version 4; and what a socket
/// gets that listens without bind(2), which is a free port (inet_autobind in net/ipv4/af_inet.c) that setsockopt's
/// IP_LOCAL_PORT_RANGE can choose. Which ports are handed out is the host's matter, but not the privileged ones.
fn tcp_past_rules(
    policy: &Policy,
    arch: Arch,
    (how, protocol, port): (Use, Option<Protocol>, Option<u16>),
    d: &mut Diagnostics,
) -> Option<(Span, String)> {
    let call = crate::kernel::calls::find("socket")?;
    let internet = Condition::on(call, "family", Test::In(vec![2, 10]))?;
    let stream = [internet, Condition::on(call, "type", Test::Masked(0xf, vec![1]))?];
    if protocol == Some(Protocol::Udp) || call_evidence(policy, arch, call, &stream, d).is_none() {
        return None;
    }
    if let Some(floor) = policy.landlock.as_ref().filter(|floor| floor.value < 4) {
        return Some((floor.span, format!("version {} of Landlock holds no ports", floor.value)));
    }
    if how == Use::Listen && port.is_none_or(|n| n >= 1024) {
        let (span, how) = call_evidence(policy, arch, crate::kernel::calls::find("listen")?, &[], d)?;
        return Some((span, format!("{how}, and without bind() it takes a free port of the host")));
    }
    None
}

/// How a machine can change what it sees.
pub(super) struct Mounting {
    pub(super) span: Span,
    pub(super) how: String,
    /// It can undo what the launcher mounted, and not only cover it.
    undoes: bool,
}

impl Mounting {
    fn reaches(&self, right: Option<Right>, path: &str) -> bool {
        let covers = matches!(right, Some(Right::Write | Right::Create | Right::Exec));
        // What is mounted over the kernel's own files leaves them as they are.
        let own = ["/proc", "/sys"].iter().any(|p| is_below(path, p));
        self.undoes || covers && !own
    }
}

/// The call by which a machine mounts, if it has CAP_SYS_ADMIN for it in its own or a new user namespace. Who has
/// rules for files mounts and moves nothing (landlock(7)), but the attributes of a mount can be changed. Mounts that
/// come from another user namespace are locked: they are covered, not undone (mount_namespaces(7)).
pub(super) fn mounting(policy: &Policy, arch: Arch, d: &mut Diagnostics) -> Option<Mounting> {
    const SYS_ADMIN: u8 = 21;
    const DAC_READ_SEARCH: u8 = 2;
    let mut runs =
        |name: &str, tests: &[Condition]| call_evidence(policy, arch, crate::kernel::calls::find(name)?, tests, d);
    let has = |n| policy.capabilities.iter().any(|g| g.capability == n);
    let hosts = policy.userns.value == Userns::Identity;
    // Any file of a file system of which one is seen (open_by_handle_at(2)).
    if let (true, Some((span, how))) = (hosts && has(DAC_READ_SEARCH), runs("open_by_handle_at", &[])) {
        return Some(Mounting { span, how: format!("{how}, so it can go past its mounts"), undoes: true });
    }
    let granted = has(SYS_ADMIN);
    let undoes = granted && hosts;
    let ruled = !policy.files.is_empty();
    if ruled && !undoes {
        return None;
    }
    if !granted && !makes_namespaces(policy, arch) {
        return None;
    }
    let calls =
        ["mount_setattr", "open_tree_attr", "mount", "move_mount", "fsmount", "open_tree", "umount2", "pivot_root"];
    // Landlock has no hook in the first two (security/landlock/fs.c, "Filesystem layout hooks").
    let calls = if ruled { calls.get(..2).unwrap_or_default() } else { &calls };
    let (span, how) = calls.iter().find_map(|n| runs(n, &[]))?;
    let what = if undoes { "change its mounts" } else { "mount over it" };
    Some(Mounting { span, how: format!("{how}, so it can {what}"), undoes })
}

/// Can it make user namespaces, in which it has every capability (user_namespaces(7))? What can't be decided, it can.
pub fn makes_namespaces(policy: &Policy, arch: Arch) -> bool {
    /// CLONE_NEWUSER
    const NEW: u64 = 0x1000_0000;
    // The flags come first in both; those of clone3 are behind a pointer.
    let new = [Condition { argument: 0, kind: Type::Ulong, test: Test::HasAll(NEW) }];
    [("unshare", &new[..]), ("clone", &new[..]), ("clone3", &[])].iter().any(|(name, tests)| {
        let mut d = Diagnostics::default();
        let found = crate::kernel::calls::find(name).and_then(|c| call_evidence(policy, arch, c, tests, &mut d));
        found.is_some() || d.has_errors()
    })
}

fn has_all(call: &Call, argument: &str, bits: u64) -> Option<Condition> {
    Condition::on(call, argument, Test::HasAll(bits))
}

/// The line that grants a port.
fn port_evidence(
    policy: &Policy,
    how: Use,
    protocol: Option<Protocol>,
    port: Option<u16>,
    peer: Option<Block>,
) -> Option<(Span, String)> {
    let found = policy.ports.iter().find(|p| {
        // Anybody isn't everybody: link-local, multicast and metadata addresses are reached by name only.
        // On the host's network no rule knows addresses.
        // Who holds one of these passes rules that stand in its own network namespace.
        let passes = policy.network.value.lower().is_some() && exposure::pen(policy).is_some();
        let named = how == Use::Connect && policy.network.value.is_filtered() && !passes;
        let anybody = p.peers.is_empty() && !(named && peer.is_some_and(special_alone));
        p.how == how
            && protocol.is_none_or(|q| q == p.protocol)
            && (p.port.is_none() || port.is_none() || p.port == port)
            && (anybody || peer.is_none_or(|b| p.peers.iter().any(|o| o.overlaps(b))))
    });
    if let Some(p) = found {
        return Some((p.span, "the port is granted".into()));
    }
    // Who has no address of his own asks for one, of anybody who answers.
    if policy.network.value.lower().is_some() && policy.addresses.is_empty() && protocol != Some(Protocol::Tcp) {
        let ports: [u16; 2] = if how == Use::Connect { [67, 547] } else { [68, 546] };
        if port.is_none_or(|n| ports.contains(&n)) {
            return Some((policy.network.span, "it asks the network for its address".into()));
        }
    }
    // Name servers are reached whatever the ports say; where the host's are, the policy doesn't know.
    let asks = how == Use::Connect && port.is_none_or(|n| n == 53);
    let servers = match &policy.resolver.value {
        Resolver::None => false,
        Resolver::Host => true,
        Resolver::List(l) => peer.is_none_or(|b| l.iter().any(|a| b.contains(Block::host(*a)))),
    };
    (asks && servers).then(|| (policy.resolver.span, "its name servers are reached".into()))
}

/// Every address of the block is one that isn't implied.
fn special_alone(b: Block) -> bool {
    LOOPBACK.iter().chain(&NOT_IMPLIED).any(|s| s.contains(b))
}

/// The line that lets such a call run, and how it looks; what can't be decided is an error.
fn call_evidence(
    policy: &Policy,
    arch: Arch,
    call: &Call,
    conditions: &[Condition],
    d: &mut Diagnostics,
) -> Option<(Span, String)> {
    let nr = arch.number(call.name)?;
    let rules: Vec<&Rule> = policy.syscalls.iter().filter(|r| r.call.name == call.name).collect();
    let mut s = Store::default();
    let (runs, asked) =
        (intent::runs(&mut s, &rules, call.since <= policy.kernel), intent::asked(&mut s, call, conditions));
    let both = s.and(runs, asked);
    if s.exceeded() {
        let text = words::call(call.name, call.args, conditions);
        let message =
            format!("whether `{text}` runs in `{}` can't be decided: its conditions need too much", policy.name);
        let span = rules.first().map_or(policy.span, |r| r.span);
        d.push(Diagnostic::error("E0706", span, message).help("simplify the conditions on arguments"));
        return None;
    }
    let v = Vector { arch: arch.audit(), nr, ..s.difference(both, FALSE)? };
    // The line that lets it through, and not another one of the same call.
    let rule = Meaning::new(policy, arch).rules(&v).into_iter().find(|r| r.action <= Action::Log);
    let span = rule.map_or(policy.span, |r| r.span);
    let literal = intent::holds(&mut s, conditions);
    let named = if s.evaluate(literal, &v) == 1 {
        ""
    } else {
        ", which is AF_PACKET to the kernel: name the types (packet(7))"
    };
    Some((span, format!("`{}` runs{named}", witness(call.name, &v))))
}

/// Memory that is written and executed, or a place that can be.
fn write_and_exec(policy: &Policy, arch: Arch, tree: &Model<'_>, d: &mut Diagnostics) -> Option<(Span, String)> {
    // PROT_WRITE and PROT_EXEC in one mapping; PROT_EXEC where another mapping is written to: of shared memory without
    // a file (MAP_SHARED, MAP_ANONYMOUS), which mremap(2) and fork(2) double; or on what was written before, and what
    // is shared with shmat(2).
    let ways: [(&str, &[(&str, u64)]); 4] = [
        ("mmap", &[("prot", 0x2 | 0x4)]),
        ("mmap", &[("prot", 0x4), ("flags", 0x1 | 0x20)]),
        ("mprotect", &[("prot", 0x4)]),
        ("pkey_mprotect", &[("prot", 0x4)]),
    ];
    for (name, bits) in ways {
        let Some(call) = crate::kernel::calls::find(name) else { continue };
        let tests: Option<Vec<Condition>> =
            bits.iter().map(|(argument, bits)| has_all(call, argument, *bits)).collect();
        if let Some(found) = tests.and_then(|tests| call_evidence(policy, arch, call, &tests, d)) {
            return Some(found);
        }
    }
    // A file that lies in memory only is mapped twice: to be written here, to be executed there.
    let call = crate::kernel::calls::find("memfd_create");
    if let Some((span, how)) = call.and_then(|c| call_evidence(policy, arch, c, &[], d)) {
        return Some((span, format!("{how}, and what is written to it can be executed")));
    }
    // What is executable is filled from beside (ioctl_userfaultfd(2), UFFDIO_COPY).
    let call = crate::kernel::calls::find("userfaultfd");
    let filled = call.and_then(|c| call_evidence(policy, arch, c, &[], d)).or_else(|| {
        let node = policy.devices.iter().find(|n| n.path == "/dev/userfaultfd")?;
        Some((node.span, "`/dev/userfaultfd` can be used".to_owned()))
    });
    if let Some((span, how)) = filled.filter(|_| tree.maps) {
        return Some((span, format!("{how}, and it writes to memory that is executable")));
    }
    // SHM_EXEC makes shared memory executable, READ_IMPLIES_EXEC everything that is readable.
    for (name, argument, bits) in [("shmat", "shmflg", 0o100_000), ("personality", "personality", 0x40_0000)] {
        let Some(call) = crate::kernel::calls::find(name) else { continue };
        let mut tests: Vec<Condition> = has_all(call, argument, bits).into_iter().collect();
        if name == "personality" {
            // That value only asks.
            tests.extend(Condition::on(call, argument, Test::NotIn(vec![0xffff_ffff])));
        }
        if let Some(found) = call_evidence(policy, arch, call, &tests, d) {
            return Some(found);
        }
    }
    let own = mounting(policy, arch, d)
        .map(|m| (m.span, format!("{}, and what it mounts can be written and executed", m.how)));
    own.or_else(|| tree.write_and_exec("/"))
}

/// Can a file be executed that is only read? Landlock holds execve(2), and not mmap(2): a loader maps what it reads
/// (security/landlock/fs.c has no hook for it), unless the mount is noexec.
pub(super) fn maps_files(policy: &Policy, arch: Arch, d: &mut Diagnostics) -> bool {
    ["mmap", "mprotect", "pkey_mprotect"].iter().any(|name| {
        crate::kernel::calls::find(name)
            .and_then(|call| call_evidence(policy, arch, call, &[has_all(call, "prot", 0x4)?], d))
            .is_some()
    })
}
