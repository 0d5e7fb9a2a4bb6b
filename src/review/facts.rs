//! How grave a fact of another domain than system calls is.

use super::folders::{mounts, root};
use super::risk::Risk::{Critical, High, Low, Medium};
use super::risk::{Grade, ORDINARY, grade};
use crate::address::{Block, NOT_IMPLIED};
use crate::compile::places;
use crate::policy::Policy;
use crate::policy::files::{Right, is_below};
use crate::policy::network::{Protocol, Use};
use crate::policy::process::Userns;
use crate::proof::grants::{Domain, Fact, What};

const CAPABILITIES: &[(&str, Grade)] = &[
    ("sys_module", grade(Critical, "code in the kernel", "capabilities(7)")),
    ("sys_rawio", grade(Critical, "raw memory, ports and disks", "capabilities(7)")),
    ("sys_admin", grade(Critical, "mounts, namespaces and a hundred other things", "capabilities(7), LWN 486306")),
    ("sys_ptrace", grade(High, "reads and changes any process that it sees", "capabilities(7)")),
    ("dac_read_search", grade(High, "reads any file, and opens by handle past the root", "open_by_handle_at(2)")),
    ("dac_override", grade(High, "reads and writes any file that is mounted", "capabilities(7)")),
    ("sys_boot", grade(High, "reboot, and another kernel in place of this one", "reboot(2), kexec_load(2)")),
    ("sys_nice", grade(High, "goes before others' processes, for good", "sched(7)")),
    ("sys_resource", grade(High, "raises its limits and takes what the host reserves", "capabilities(7)")),
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
    ("chown", grade(High, "takes any file that is mounted and mapped", "chown(2)")),
    ("fowner", grade(High, "changes modes of anybody's files", "capabilities(7)")),
    ("syslog", grade(Medium, "the kernel's log and addresses", "syslog(2)")),
    ("mac_admin", grade(High, "changes the security module's policy", "capabilities(7)")),
    ("mac_override", grade(High, "goes past the security module", "capabilities(7)")),
    ("checkpoint_restore", grade(Medium, "chooses PIDs, reads map_files", "capabilities(7)")),
    ("sys_chroot", grade(Medium, "chroot and entering mount namespaces", "chroot(2)")),
    ("net_bind_service", grade(Low, "ports below 1024", "ip(7)")),
];

/// The grade of a bound that is gone.
pub(super) const UNBOUNDED: Grade =
    grade(Medium, "no bound: it can use up what the host has", "getrlimit(2), cgroup v2 (kernel documentation)");

/// The grade of a limit that may be above what the caller has.
pub(super) const BEYOND: Grade =
    grade(Medium, "perhaps more than the caller has, and root may give it", "setrlimit(2)");

/// Variables from which loaders and interpreters take code (ld.so(8), execvp(3), iconv(1), openssl(1) and the
/// interpreters' own); those of the dynamic loader begin with `LD_`.
const CODE: &[&str] = &[
    "BASH_ENV",
    "CLASSPATH",
    "DOTNET_STARTUP_HOOKS",
    "ENV",
    "ERL_FLAGS",
    "ERL_LIBS",
    "GCONV_PATH",
    "GEM_PATH",
    "GIO_EXTRA_MODULES",
    "GLIBC_TUNABLES",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LUA_CPATH",
    "LUA_INIT",
    "LUA_PATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "OPENSSL_CONF",
    "OPENSSL_ENGINES",
    "OPENSSL_MODULES",
    "PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
    "TCLLIBPATH",
    "_JAVA_OPTIONS",
];

/// Memory, ports and disks as they are (mem(4); admin-guide/devices.rst).
fn is_raw(path: &str) -> bool {
    let disks = ["/dev/sd", "/dev/vd", "/dev/xvd", "/dev/hd", "/dev/nvme", "/dev/mmcblk", "/dev/dm-", "/dev/md"];
    ["/dev/mem", "/dev/kmem", "/dev/port"].contains(&path)
        || disks.iter().any(|d| path.starts_with(d))
        || ["/dev/disk", "/dev/mapper"].iter().any(|d| is_below(path, d))
}

/// The grade of a fact of another domain.
pub(super) fn fact(f: &Fact, policy: &Policy) -> Grade {
    let isolated = policy.userns.value != Userns::Identity;
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
        (Domain::Files, What::Path(right, path, _)) => files(*right, path, policy),
        (Domain::Mounts, What::Mount(source, [writable, exec, suid, dev, _])) => {
            let own = mounts(source, [*writable, *exec, *suid, *dev, isolated]);
            // Together with the other mounts of the same files; memory of its own is what it is alone.
            let asks = own.risk < High && source.starts_with("bind ") && (*writable || *exec);
            match asks && places::writes_and_executes(policy, &f.key) {
                true => grade(High, "writes and executes in a folder of the host", "mount(2)"),
                false => own,
            }
        }
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
            grade(High, "services of the link and the cloud, which keep the machine's secrets", "RFC 3927")
        }
        (What::Broadcast(..), _) => grade(Low, "every host of its network at once", "ip(7)"),
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
    let identity = policy.userns.value == Userns::Identity;
    // Ids of a range that nobody has are nobody's; those of a written map may be somebody's.
    let own_ids = policy.userns.value == Userns::Auto;
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
        "root access" if matches!(f.what, What::Rank(3)) && places::writes_and_executes(policy, "/") => {
            grade(High, "what it writes to its root it can execute, and it stays", "mount_namespaces(7)")
        }
        "root access" => grade(Medium, "writes to its root", "mount_namespaces(7)"),
        "root user" if identity => grade(High, "starts as the host's root", "user_namespaces(7)"),
        "user" if identity => grade(Medium, "another account of the host", "credentials(7)"),
        "user" if !own_ids => grade(Medium, "an id that may be somebody's on the host", "user_namespaces(7)"),
        "root user" => grade(Medium, "starts as root of its user namespace", "user_namespaces(7)"),
        "landlock" if matches!(f.what, What::Rank(n) if n < 6) => {
            grade(Medium, "accepts an older kernel, which may leave rights open", "landlock(7)")
        }
        "landlock" => grade(High, "accepts a kernel that leaves rights open", "landlock(7)"),
        "root" => root(policy),
        key if key.starts_with("group") => match key.strip_prefix("group ") {
            _ if own_ids => grade(Low, "a group of the machine's own", "credentials(7)"),
            _ if !identity => {
                grade(High, "a group that may be one of the host's, with all that it opens", "user_namespaces(7)")
            }
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
    let together = match right {
        Right::Write | Right::Create if meets(Right::Exec) => true,
        Right::Exec if meets(Right::Write) || meets(Right::Create) => true,
        // Execution is mapping what is read, too.
        Right::Write | Right::Create | Right::Exec | Right::Read => places::writes_and_executes(policy, path),
        _ => false,
    };
    match right {
        _ if together => grade(High, "what it writes there it can execute", "landlock(7)"),
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

    #[test]
    fn the_table_names_capabilities() {
        for (name, _) in CAPABILITIES {
            assert!(crate::policy::capabilities::number(name).is_some(), "{name}");
        }
    }
}
