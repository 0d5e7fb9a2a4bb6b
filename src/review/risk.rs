//! How grave a grant is: an ordinal, one sentence of what follows from it, and where that is described.
//! Computed from what was compiled, never from the text. Here of calls; of the other domains in [`super::facts`].

use crate::compile::asserts::past_rules;
use crate::kernel::calls::Call;
use crate::kernel::constants;
use crate::policy::Policy;
use crate::policy::syscalls::{Condition, Rule, Test};
use crate::proof::diagram::{FALSE, Node, Store};
use crate::proof::intent;
use serde::Serialize;

/// An ordinal, not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Ordinary.
    Low,
    /// Worth a look.
    Medium,
    /// Wants a reason.
    High,
    /// Gives the host away, or nearly.
    Critical,
}

impl Risk {
    /// As it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Risk::Low => "low",
            Risk::Medium => "medium",
            Risk::High => "high",
            Risk::Critical => "critical",
        }
    }

    /// The ordinal of a word.
    pub fn parse(word: &str) -> Option<Risk> {
        [Risk::Low, Risk::Medium, Risk::High, Risk::Critical].into_iter().find(|r| r.word() == word)
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grade {
    /// How grave.
    pub risk: Risk,
    /// What follows, in one sentence.
    pub consequence: &'static str,
    /// A man page, kernel document or CVE.
    pub reference: &'static str,
}

pub(super) const fn grade(risk: Risk, consequence: &'static str, reference: &'static str) -> Grade {
    Grade { risk, consequence, reference }
}

use Risk::{Critical, High, Low, Medium};

/// (calls, grade)
const CALLS: &[(&[&str], Grade)] = &[
    (
        &["init_module", "finit_module", "delete_module"],
        grade(Critical, "code in the kernel, if the capability is there", "init_module(2)"),
    ),
    (&["kexec_load", "kexec_file_load"], grade(Critical, "another kernel in place of this one", "kexec_load(2)")),
    (&["bpf"], grade(High, "programs in the kernel; a long record of verifier faults", "bpf(2), CVE-2021-3490")),
    (
        &["ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"],
        grade(High, "reads and changes other processes of the same user", "ptrace(2), pidfd_getfd(2)"),
    ),
    (&["setns", "clone3"], NAMESPACES),
    (
        &[
            "mount",
            "umount2",
            "pivot_root",
            "fsopen",
            "fsmount",
            "fsconfig",
            "fspick",
            "move_mount",
            "open_tree",
            "mount_setattr",
            "open_tree_attr",
        ],
        grade(High, "changes the file tree that confines it", "mount(2), CVE-2024-21626"),
    ),
    (
        &["io_uring_setup", "io_uring_enter", "io_uring_register"],
        grade(High, "a ring makes calls that no filter sees", "io_uring(7), CVE-2023-2598"),
    ),
    (
        &["open_by_handle_at"],
        grade(High, "opens any file of a file system, past mounts and folders", "open_by_handle_at(2)"),
    ),
    (
        &["perf_event_open"],
        grade(High, "large kernel interface with a record of faults; measures others", "perf_event_open(2)"),
    ),
    (&["userfaultfd"], grade(High, "stops the kernel at a chosen place, which makes races certain", "userfaultfd(2)")),
    (
        &["add_key", "request_key", "keyctl"],
        grade(High, "keyrings aren't divided by namespaces", "keyrings(7), CVE-2016-0728"),
    ),
    (&["iopl", "ioperm"], grade(Critical, "raw access to the machine's ports", "ioperm(2)")),
    (&["reboot"], grade(Medium, "ends its PID namespace; the host's where it has no own one", "reboot(2)")),
    (&["swapon", "swapoff", "quotactl", "quotactl_fd", "acct"], grade(High, "settings of the whole host", "swapon(2)")),
    (
        &["settimeofday", "clock_settime", "clock_adjtime", "adjtimex"],
        grade(High, "the clock of the whole host", "clock_settime(2)"),
    ),
    (
        &["personality"],
        grade(Medium, "switches off address randomisation, makes readable memory executable", "personality(2)"),
    ),
    (
        &["modify_ldt"],
        grade(Medium, "segment descriptors: old and rarely used kernel code", "modify_ldt(2), CVE-2015-5157"),
    ),
    (&["chroot"], grade(Medium, "another root folder for its processes", "chroot(2)")),
    (&["mknod", "mknodat"], grade(Medium, "makes device nodes, where a mount lets them work", "mknod(2)")),
    (&["syslog"], grade(Medium, "the kernel's log, with addresses in it", "syslog(2)")),
    (
        &["fanotify_init", "fanotify_mark"],
        grade(Medium, "watches and holds up other processes' file access", "fanotify(7)"),
    ),
    (&["vmsplice", "tee"], grade(Medium, "shares pages between pipes and memory", "vmsplice(2), CVE-2022-0847")),
    (&["seccomp"], grade(Low, "can only narrow its own filter", "seccomp(2)")),
    (
        &["setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid"],
        grade(Medium, "changes who it is, as far as its capabilities go", "credentials(7)"),
    ),
    (&["fchmodat2", "chmod", "fchmod", "fchmodat"], grade(Low, "modes of files that it may write", "chmod(2)")),
    (&["execveat"], grade(Medium, "executes what has no name", "execveat(2)")),
    (&["memfd_create"], grade(Medium, "files in memory, which it writes and executes", "memfd_create(2)")),
    (&["memfd_secret"], grade(Low, "files that lie in memory only", "memfd_secret(2)")),
    (&["kill", "tkill", "tgkill", "pidfd_send_signal"], grade(Low, "signals to processes that it sees", "kill(2)")),
];

/// How the constants of a shape are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// The argument is one of them.
    Values,
    /// It has a bit of one of them.
    AnyBit,
    /// It has the bits of all of them.
    AllBits,
}

/// Values that make a call graver than its name: (call, argument, names of constants, how they are meant, grade).
const SHAPES: &[(&str, &str, &[&str], Named, Grade)] = &[
    (
        "ioctl",
        "cmd",
        &["TIOCSTI"],
        Named::Values,
        grade(High, "pushes keystrokes into a shared terminal", "ioctl_tty(2), CVE-2017-5226"),
    ),
    (
        "ioctl",
        "cmd",
        &["TIOCLINUX"],
        Named::Values,
        grade(High, "pastes into a console", "ioctl_console(2), CVE-2023-1523"),
    ),
    (
        "socket",
        "family",
        &["AF_ALG"],
        Named::Values,
        grade(High, "the kernel's crypto from user space: a record of faults", "AF_ALG, CVE-2019-8912"),
    ),
    (
        "socket",
        "family",
        &["AF_VSOCK"],
        Named::Values,
        grade(High, "reaches the hypervisor; no network namespace divides it", "vsock(7)"),
    ),
    (
        "socket",
        "family",
        &["AF_PACKET"],
        Named::Values,
        grade(High, "raw frames of its network", "packet(7), CVE-2020-14386"),
    ),
    (
        "socket",
        "family",
        &["AF_BLUETOOTH"],
        Named::Values,
        grade(High, "a large protocol stack without network namespaces", "CVE-2020-12351"),
    ),
    ("socket", "family", &["AF_NETLINK"], Named::Values, grade(Medium, "kernel settings by messages", "netlink(7)")),
    ("clone", "clone_flags", NEW, Named::AnyBit, NAMESPACES),
    ("unshare", "unshare_flags", NEW, Named::AnyBit, NAMESPACES),
    // A signal's bit to clone(2).
    ("unshare", "unshare_flags", &["CLONE_NEWTIME"], Named::AnyBit, NAMESPACES),
    ("mmap", "prot", &["PROT_WRITE", "PROT_EXEC"], Named::AllBits, WRITTEN_CODE),
    ("mprotect", "prot", &["PROT_EXEC"], Named::AnyBit, WRITTEN_CODE),
    ("pkey_mprotect", "prot", &["PROT_EXEC"], Named::AnyBit, WRITTEN_CODE),
    ("shmat", "shmflg", &["SHM_EXEC"], Named::AnyBit, WRITTEN_CODE),
    ("chmod", "mode", &["S_ISUID", "S_ISGID"], Named::AnyBit, SET_ID),
    ("fchmod", "mode", &["S_ISUID", "S_ISGID"], Named::AnyBit, SET_ID),
    ("fchmodat", "mode", &["S_ISUID", "S_ISGID"], Named::AnyBit, SET_ID),
    ("fchmodat2", "mode", &["S_ISUID", "S_ISGID"], Named::AnyBit, SET_ID),
    (
        "prctl",
        "option",
        &["PR_SET_MM"],
        Named::Values,
        grade(Medium, "changes what /proc says of it", "PR_SET_MM(2const)"),
    ),
];

const NEW: &[&str] = &[
    "CLONE_NEWUSER",
    "CLONE_NEWNS",
    "CLONE_NEWNET",
    "CLONE_NEWPID",
    "CLONE_NEWIPC",
    "CLONE_NEWUTS",
    "CLONE_NEWCGROUP",
];

const NAMESPACES: Grade =
    grade(High, "new namespaces open kernel code that is root's alone otherwise", "user_namespaces(7), CVE-2022-0185");

const SET_ID: Grade = grade(Medium, "makes set-user-ID programs, for whoever executes them elsewhere", "chmod(2)");

const WRITTEN_CODE: Grade =
    grade(Medium, "executes memory that it wrote: injected code needs no file", "mprotect(2), SELinux execmem");

pub(super) const ORDINARY: Grade = grade(Low, "one more call into the kernel", "syscalls(2)");

/// The grade of letting a policy's machine call for the arguments in `region`.
pub fn call(s: &mut Store, policy: &Policy, call: &Call, region: Node) -> Grade {
    let by_arguments = by_arguments(s, call, region);
    // What the kernel asks of no rule for ports.
    if call.name == "socket" && policy.grants.is_on_host() && by_arguments.risk < UNHELD.risk {
        let passes = past_rules(policy, None).into_iter().any(|(tests, _)| {
            let shape = intent::holds(s, &tests);
            s.and(region, shape) != FALSE
        });
        if passes {
            return UNHELD;
        }
    }
    by_arguments
}

/// The grade by the call alone, whoever makes it.
fn by_arguments(s: &mut Store, call: &Call, region: Node) -> Grade {
    let named = CALLS.iter().find(|(names, _)| names.contains(&call.name)).map(|(_, g)| *g);
    let mut found: Vec<Grade> = named.into_iter().collect();
    for (_, argument, names, how, g) in SHAPES.iter().filter(|(n, ..)| *n == call.name) {
        let values: Vec<u64> = names.iter().filter_map(|n| constants::find(n)).map(|c| c.value).collect();
        let bits = values.iter().fold(0, |all, v| all | v);
        let test = match how {
            Named::Values => Test::In(values.iter().map(|v| i128::from(*v)).collect()),
            Named::AnyBit => Test::HasAny(bits),
            Named::AllBits => Test::HasAll(bits),
        };
        let Some(shape) = Condition::on(call, argument, test) else { continue };
        let shape = intent::holds(s, &[shape]);
        if s.and(region, shape) != FALSE {
            found.push(*g);
        }
    }
    // The old name of AF_PACKET.
    if let ("socket", Some(packet)) = (call.name, Condition::on(call, "family", Test::In(vec![intent::AF_PACKET]))) {
        let shape = intent::asked(s, call, &[packet]);
        if s.and(region, shape) != FALSE {
            found.push(OLD_PACKET);
        }
    }
    // The first of the gravest: a name before a shape, a shape before those below it.
    found.into_iter().rev().max_by_key(|g| g.risk).unwrap_or(ORDINARY)
}

/// The grade of a rule: of what is left of it where stricter ones take some away.
pub fn rule(policy: &Policy, r: &Rule) -> Grade {
    let mut s = Store::default();
    let mut region = intent::holds(&mut s, &r.conditions);
    for stricter in policy.syscalls.iter().filter(|o| std::ptr::eq(o.call, r.call) && o.action > r.action) {
        let taken = intent::holds(&mut s, &stricter.conditions);
        region = s.choose(taken, FALSE, region);
    }
    match region {
        FALSE => ORDINARY,
        _ => call(&mut s, policy, r.call, region),
    }
}

/// The grade of a call that runs neither before nor after.
pub const REFUSED: Grade = grade(Low, "it is refused as before, in another way", "seccomp(2)");

/// The grade of an internet socket whose type isn't named.
const OLD_PACKET: Grade =
    grade(Medium, "with SOCK_PACKET and CAP_NET_RAW it is a packet socket: name the types", "packet(7)");

/// The grade of sockets that Landlock doesn't know, where no packet rules are.
const UNHELD: Grade =
    grade(Medium, "on the host's network nothing holds what isn't TCP: it goes to any port", "landlock(7), socket(2)");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::calls;

    #[test]
    fn the_table_names_what_exists_and_each_once() {
        let mut seen = std::collections::BTreeSet::new();
        for (names, g) in CALLS {
            assert!(!g.consequence.is_empty() && !g.reference.is_empty());
            for n in *names {
                assert!(calls::find(n).is_some(), "{n}");
                assert!(seen.insert(*n), "{n} twice");
            }
        }
        for (name, argument, values, _, _) in SHAPES {
            assert!(calls::find(name).unwrap().args.iter().any(|a| a.name == *argument), "{name}");
            assert!(values.iter().all(|v| constants::find(v).is_some()), "{values:?}");
        }
    }

    #[test]
    fn what_a_rule_lets_through_decides() {
        let graded = |name: &str, argument: &str, test: Test| {
            let call = calls::find(name).unwrap();
            let index = call.args.iter().position(|a| a.name == argument).unwrap();
            let c = Condition { argument: u8::try_from(index).unwrap(), kind: call.args[index].ty, test };
            let mut s = Store::default();
            let region = intent::holds(&mut s, &[c]);
            super::by_arguments(&mut s, call, region).risk
        };
        assert_eq!(graded("ioctl", "cmd", Test::In(vec![0x5412])), High);
        assert_eq!(graded("ioctl", "cmd", Test::NotIn(vec![0x5412, 0x541c])), Low);
        assert_eq!(graded("ioctl", "cmd", Test::NotIn(vec![0x541c])), High);
        assert_eq!(graded("socket", "family", Test::In(vec![2])), Medium);
        assert_eq!(graded("socket", "family", Test::In(vec![10])), Low);
        assert_eq!(graded("socket", "family", Test::Between(1, 100)), High);
        assert_eq!(graded("clone", "clone_flags", Test::HasNone(0x7e02_0000)), Low);
        assert_eq!(graded("clone", "clone_flags", Test::HasNone(0x1000_0000)), High);
        assert_eq!(graded("mmap", "prot", Test::HasNone(2)), Low);
        assert_eq!(graded("mmap", "prot", Test::HasNone(1)), Medium);
        assert_eq!(graded("mprotect", "prot", Test::HasNone(4)), Low);
        assert_eq!(graded("mprotect", "prot", Test::HasNone(2)), Medium);
    }
}
