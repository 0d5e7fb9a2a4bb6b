//! How grave a grant is: an ordinal, one sentence of what follows from it, and where that is described.
//! Computed from what was compiled, never from the text.

use super::folders::{mounts, root};
use crate::address::{Block, NOT_IMPLIED};
use crate::kernel::calls::Call;
use crate::kernel::constants;
use crate::policy::Policy;
use crate::policy::files::Right;
use crate::policy::files::is_below;
use crate::policy::network::{Protocol, Use};
use crate::policy::syscalls::{Condition, Rule, Test};
use crate::proof::diagram::{FALSE, Node, Store};
use crate::proof::grants::{Domain, Fact, What};
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
    (
        &["unshare", "setns", "clone3"],
        grade(
            High,
            "new namespaces open kernel code that is root's alone otherwise",
            "user_namespaces(7), CVE-2022-0185",
        ),
    ),
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
    (&["swapon", "swapoff", "quotactl", "acct"], grade(High, "settings of the whole host", "swapon(2)")),
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
    (
        "clone",
        "clone_flags",
        &[
            "CLONE_NEWUSER",
            "CLONE_NEWNS",
            "CLONE_NEWNET",
            "CLONE_NEWPID",
            "CLONE_NEWIPC",
            "CLONE_NEWUTS",
            "CLONE_NEWCGROUP",
        ],
        Named::AnyBit,
        grade(
            High,
            "new namespaces open kernel code that is root's alone otherwise",
            "user_namespaces(7), CVE-2022-0185",
        ),
    ),
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

const SET_ID: Grade = grade(Medium, "makes set-user-ID programs, for whoever executes them elsewhere", "chmod(2)");

const WRITTEN_CODE: Grade =
    grade(Medium, "executes memory that it wrote: injected code needs no file", "mprotect(2), SELinux execmem");

const CAPABILITIES: &[(&str, Grade)] = &[
    ("sys_module", grade(Critical, "code in the kernel", "capabilities(7)")),
    ("sys_rawio", grade(Critical, "raw memory, ports and disks", "capabilities(7)")),
    ("sys_admin", grade(Critical, "mounts, namespaces and a hundred other things", "capabilities(7), LWN 486306")),
    ("sys_ptrace", grade(High, "reads and changes any process that it sees", "capabilities(7)")),
    ("dac_read_search", grade(High, "reads any file, and opens by handle past the root", "open_by_handle_at(2)")),
    ("dac_override", grade(High, "reads and writes any file that is mounted", "capabilities(7)")),
    ("sys_boot", grade(Medium, "reboot and kexec", "reboot(2)")),
    ("sys_time", grade(High, "the host's clock", "capabilities(7)")),
    ("bpf", grade(High, "programs in the kernel", "bpf(2)")),
    ("perfmon", grade(High, "measures other processes and the kernel", "perf_event_open(2)")),
    ("net_admin", grade(High, "addresses, routes, rules of its network namespace", "capabilities(7)")),
    ("net_raw", grade(Medium, "forged packets in its network", "raw(7)")),
    ("setuid", grade(High, "becomes any user that is mapped", "capabilities(7)")),
    ("setgid", grade(High, "becomes any group that is mapped", "capabilities(7)")),
    ("setpcap", grade(High, "moves capabilities between its sets", "capabilities(7)")),
    ("setfcap", grade(High, "gives files capabilities", "capabilities(7)")),
    ("mknod", grade(Medium, "makes device nodes", "mknod(2)")),
    ("chown", grade(Medium, "takes any file that is mounted and mapped", "chown(2)")),
    ("fowner", grade(Medium, "changes modes of anybody's files", "capabilities(7)")),
    ("syslog", grade(Medium, "the kernel's log and addresses", "syslog(2)")),
    ("mac_admin", grade(High, "changes the security module's policy", "capabilities(7)")),
    ("mac_override", grade(High, "goes past the security module", "capabilities(7)")),
    ("checkpoint_restore", grade(Medium, "chooses PIDs, reads map_files", "capabilities(7)")),
    ("sys_chroot", grade(Medium, "chroot and entering mount namespaces", "chroot(2)")),
    ("net_bind_service", grade(Low, "ports below 1024", "ip(7)")),
];

const ORDINARY: Grade = grade(Low, "one more call into the kernel", "syscalls(2)");

/// The grade of letting a call through for the arguments in `region`.
pub fn call(s: &mut Store, call: &Call, region: Node) -> Grade {
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

/// The grade of a rule by itself.
pub fn rule(r: &Rule) -> Grade {
    let mut s = Store::default();
    let region = intent::holds(&mut s, &r.conditions);
    call(&mut s, r.call, region)
}

/// The grade of an internet socket whose type isn't named.
const OLD_PACKET: Grade =
    grade(Medium, "with SOCK_PACKET and CAP_NET_RAW it is a packet socket: name the types", "packet(7)");

/// The grade of a bound that is gone.
pub const UNBOUNDED: Grade =
    grade(Medium, "no bound: it can use up what the host has", "getrlimit(2), cgroup v2 (kernel documentation)");

/// The grade of a limit that may be above what the caller has.
pub const BEYOND: Grade = grade(Medium, "perhaps more than the caller has, and root may give it", "setrlimit(2)");

/// Variables from which loaders and interpreters take code (ld.so(8), execvp(3), iconv(1) and the interpreters' own).
const CODE: &[&str] = &[
    "BASH_ENV",
    "GCONV_PATH",
    "JAVA_TOOL_OPTIONS",
    "NODE_OPTIONS",
    "PATH",
    "PERL5LIB",
    "PERL5OPT",
    "PYTHONPATH",
    "RUBYLIB",
    "RUBYOPT",
];

/// Memory, ports and disks as they are (mem(4); admin-guide/devices.rst).
fn is_raw(path: &str) -> bool {
    let disks = ["/dev/sd", "/dev/vd", "/dev/xvd", "/dev/hd", "/dev/nvme", "/dev/mmcblk", "/dev/dm-", "/dev/md"];
    ["/dev/mem", "/dev/kmem", "/dev/port"].contains(&path)
        || disks.iter().any(|d| path.starts_with(d))
        || ["/dev/disk", "/dev/mapper"].iter().any(|d| is_below(path, d))
}

/// The grade of a fact of another domain.
pub fn fact(f: &Fact, policy: &Policy) -> Grade {
    let isolated = policy.userns.value != crate::policy::process::Userns::Identity;
    match (&f.domain, &f.what) {
        (Domain::Capabilities, _) => {
            let name = f.key.split(' ').next().unwrap_or("");
            let g = CAPABILITIES
                .iter()
                .find(|(n, _)| *n == name)
                .map_or(grade(Medium, "a privilege of root", "capabilities(7)"), |(_, g)| *g);
            // Inside a user namespace it reaches what that namespace owns.
            match g.risk {
                Critical if isolated => Grade { risk: High, ..g },
                High if isolated => Grade { risk: Medium, ..g },
                _ => g,
            }
        }
        (Domain::Network, _) => network(f),
        (Domain::Devices, _) if is_raw(&f.key) => {
            grade(Critical, "raw memory or a whole disk of the host", "mem(4), sd(4)")
        }
        (Domain::Devices, _) => grade(High, "a device of the host, with its driver", "mknod(2)"),
        (Domain::Limits, What::Rank(1..)) if f.key == "rtprio" => {
            grade(High, "real-time priority: it can keep a CPU from everybody", "sched(7)")
        }
        (Domain::Limits, What::Rank(1..)) if f.key == "nice" => {
            grade(Medium, "goes before others' processes", "getrlimit(2), RLIMIT_NICE")
        }
        (Domain::Limits, What::Inherited) => {
            grade(Medium, "no bound of the policy's own: the caller's holds, whatever it is", "getrlimit(2)")
        }
        (Domain::Limits, What::Rank(u64::MAX)) => UNBOUNDED,
        (Domain::Limits, _) => grade(Low, "a higher bound", "getrlimit(2)"),
        // What the loader and interpreters take their code from (ld.so(8)).
        (Domain::Environment, _) if f.key.starts_with("LD_") || CODE.contains(&f.key.as_str()) => {
            grade(Medium, "other code is loaded into the program", "ld.so(8)")
        }
        (Domain::Environment, _) => grade(Low, "a variable of the program", "environ(7)"),
        (Domain::Files, What::Path(right, path)) => files(*right, path, policy),
        (Domain::Mounts, What::Mount(source, flags)) => mounts(source, *flags),
        (Domain::Mounts, What::Other(_)) => {
            grade(High, "the files are other ids' inside", "mount_setattr(2), MOUNT_ATTR_IDMAP")
        }
        (Domain::Files, What::Present) => {
            grade(Medium, "who may mount changes what is seen, and device nodes are made", "landlock(7)")
        }
        (Domain::Mounts, What::Rank(_)) => grade(Low, "more memory", "tmpfs(5)"),
        (Domain::Mounts, _) => grade(Medium, "a place that was hidden is seen", "mount_namespaces(7)"),
        (Domain::Process, _) => process(f, policy),
        _ => ORDINARY,
    }
}

fn network(f: &Fact) -> Grade {
    let link_local = |b: &Block| NOT_IMPLIED.iter().any(|s| s.overlaps(*b));
    match (&f.what, f.key.as_str()) {
        (What::Rank(4), "network") => {
            grade(High, "the host's network: its ports, UDP, and what listens on loopback", "network_namespaces(7)")
        }
        (What::Rank(_), "own addresses") => {
            grade(Medium, "it takes the address that it likes, and asks anybody for one", "ip-address(8)")
        }
        (What::Rank(3), "network") => grade(Medium, "a place on a network that others run", "network_namespaces(7)"),
        (What::Rank(_), "network") => grade(Low, "a network of its own behind the host's", "network_namespaces(7)"),
        (What::Rank(1), "egress") => grade(Medium, "sends whatever it likes wherever the host can", "nft(8)"),
        (What::Port(Use::Connect, _, _, Some(b)), _) if link_local(b) => {
            grade(High, "link-local services, where clouds keep their machines' secrets", "RFC 3927")
        }
        (_, "network name") => {
            grade(Medium, "another network than was reviewed, with others on it", "network_namespaces(7)")
        }
        (_, "address" | "address6") => grade(Low, "another address of its own", "ip-address(8)"),
        (_, "resolver" | "name server" | "name servers") => grade(Low, "names can carry data out", "resolv.conf(5)"),
        (What::Port(Use::Connect, protocol, None, peer), _) => match (protocol, peer) {
            (_, Some(_)) => grade(Medium, "any port of these addresses", "nft(8)"),
            (Protocol::Tcp, None) => grade(Medium, "connects to any TCP port that its network reaches", "landlock(7)"),
            (Protocol::Udp, None) => grade(Medium, "sends datagrams to any port that its network reaches", "nft(8)"),
        },
        (What::Port(Use::Listen, _, None, _), _) => grade(Medium, "serves on any port", "nft(8)"),
        (What::Publish(_, Some(a), ..), _) if a.is_loopback() => {
            grade(Low, "this host's own programs reach it", "nft(8)")
        }
        (What::Publish(..), _) => grade(Medium, "others reach it by the host's addresses", "nft(8)"),
        _ => grade(Low, "one port", "nft(8)"),
    }
}

/// Groups that are root's by another name, on a host whose ids they are.
const POWERFUL: &[&str] = &["root", "0", "disk", "docker", "shadow", "sudo", "kmem", "lxd", "libvirt", "adm", "wheel"];

fn process(f: &Fact, policy: &Policy) -> Grade {
    let isolated = policy.userns.value != crate::policy::process::Userns::Identity;
    match f.key.as_str() {
        "userns" if matches!(f.what, What::Rank(1)) => {
            grade(High, "ids that may belong to somebody on the host", "user_namespaces(7)")
        }
        "userns map" => grade(High, "ids that may belong to somebody on the host", "user_namespaces(7)"),
        "root size" => grade(Low, "more memory", "tmpfs(5)"),
        "root shown" if root(policy).risk > Medium => root(policy),
        "root shown" => grade(Medium, "sees all of its root, not only /usr", "file-hierarchy(7)"),
        "userns ids" => grade(Medium, "more ids own files inside", "user_namespaces(7)"),
        "userns" => grade(Critical, "its root is the host's root", "user_namespaces(7)"),
        "no-new-privs" => grade(High, "set-user-ID programs raise its privileges", "PR_SET_NO_NEW_PRIVS(2const)"),
        "root access" if root(policy).risk > Medium => root(policy),
        "root access" => grade(Medium, "writes to its root", "mount_namespaces(7)"),
        "root user" if !isolated => grade(High, "starts as the host's root", "user_namespaces(7)"),
        "user" if !isolated => grade(Medium, "another account of the host", "credentials(7)"),
        "root user" => grade(Medium, "starts as root of its user namespace", "user_namespaces(7)"),
        "landlock" if matches!(f.what, What::Rank(n) if n < 6) => {
            grade(Medium, "accepts an older kernel, which may leave rights open", "landlock(7)")
        }
        "landlock" => grade(High, "accepts a kernel that leaves rights open", "landlock(7)"),
        "root" => root(policy),
        key if key.starts_with("group") => match key.strip_prefix("group ") {
            _ if isolated => grade(Low, "a group of the machine's own", "credentials(7)"),
            Some(name) if POWERFUL.contains(&name) => grade(Critical, "a group that opens the host", "credentials(7)"),
            _ => grade(High, "a group of the host, with all that it opens", "credentials(7)"),
        },
        "program" => grade(Medium, "another program or another root than was reviewed", "execve(2)"),
        _ => grade(Low, "another value than was reviewed", "execve(2)"),
    }
}

fn files(right: Right, path: &str, policy: &Policy) -> Grade {
    // A right holds for all below, so one above the other meets it as well.
    let meets = |other: Right| {
        policy.files.iter().any(|r| r.right == other && (is_below(&r.path, path) || is_below(path, &r.path)))
    };
    match right {
        Right::Write | Right::Create if meets(Right::Exec) => {
            grade(High, "what it writes there it can execute", "landlock(7)")
        }
        Right::Exec if meets(Right::Write) || meets(Right::Create) => {
            grade(High, "what it writes there it can execute", "landlock(7)")
        }
        _ if path == "/" && policy.files.is_empty() => {
            grade(Medium, "no file rule holds: mounts alone govern", "landlock(7)")
        }
        Right::Exec => grade(Medium, "more programs", "landlock(7)"),
        Right::Write | Right::Create => {
            grade(Medium, "more that it can change, where the mount lets it", "landlock(7)")
        }
        Right::Ioctl => grade(Medium, "device settings", "landlock(7)"),
        _ => grade(Low, "more that it can read", "landlock(7)"),
    }
}

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
        for (name, _) in CAPABILITIES {
            assert!(crate::policy::capabilities::number(name).is_some(), "{name}");
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
            super::call(&mut s, call, region).risk
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
