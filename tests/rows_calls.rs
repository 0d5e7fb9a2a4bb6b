//! System calls: what the filter answers to a real program on the real kernel.
//!
//! Each test is a row of the catalogue of properties; the payload is tests/probe/calls.c. The filters
//! themselves are compared with the policies' meaning, call by call, in tests/meaning.rs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test ends at the first surprise"
)]

mod harness;

use harness::{Dir, Ran, probe, root, skip, stockade};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// An ordinary user without any right.
const NOBODY: &str = "user 65534 group 65534\n  capabilities { none }";

/// The probe's check under std/daemon with `body`; reviewed up to `kernel`.
fn policy_for(kernel: &str, check: &str, body: &str) -> String {
    format!(
        "policy 1\nkernel {kernel}\nimport \"std/daemon\"\nmachine {} {{\n  extends std/daemon\n  root host\n  \
         exec \"/probe\" {check}\n  mounts {{ bind \"{}\" -> \"/probe\" ro exec }}\n  {NOBODY}\n  {body}\n}}\n",
        harness::name("t"),
        probe("calls").display()
    )
}

fn policy(check: &str, body: &str) -> String {
    policy_for("6.18", check, body)
}

fn fine(ran: Ran) -> Ran {
    let text = format!("{}\n{}", ran.out, ran.err);
    assert!(!text.contains("BAD "), "{text}");
    assert!(text.contains("OK "), "{text}");
    assert_eq!(ran.code, 0, "{text}");
    ran
}

/// The filter in `plan --json`: 16 hex digits for each instruction.
fn filter_of(policy: &str) -> String {
    let dir = Dir::new("plan");
    let file = dir.write("test.stockade", policy);
    // Of a file with several machines the first.
    let machine = policy.lines().find_map(|l| l.strip_prefix("machine ")?.split_whitespace().next()).unwrap();
    let ran: Ran = stockade().args(["plan", "--json"]).arg(file).arg(machine).output().unwrap().into();
    assert_eq!(ran.code, 0, "{policy}\n{}", ran.err);
    let plan: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let steps = plan["steps"].as_array().unwrap();
    steps.iter().find_map(|s| s["action"]["load-seccomp"].as_str()).unwrap().to_owned()
}

/// (operation, constant) of each instruction.
fn instructions(filter: &str) -> Vec<(u16, u32)> {
    let number = |text: &str| u32::from_str_radix(text, 16).unwrap().swap_bytes();
    let one = |at: usize| {
        let code = u16::try_from(number(&filter[at..at + 8]) & 0xffff).unwrap();
        (code, number(&filter[at + 8..at + 16]))
    };
    (0..filter.len()).step_by(16).map(one).collect()
}

/// A root with nothing but a file where an init would be: enough for a plan.
fn hollow_root() -> Dir {
    let dir = Dir::new("hollow");
    for d in ["usr/lib/systemd", "etc", "proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir_all(dir.0.join(d)).unwrap();
    }
    dir.write("usr/lib/systemd/systemd", "");
    dir
}

/// Accounts for every name that a policy uses.
fn add_accounts(hollow: &Dir, policy: &str) {
    let words: Vec<&str> = policy.split_whitespace().collect();
    let users = words.windows(2).filter(|w| ["user", "group"].contains(&w[0])).map(|w| w[1]);
    let owners = words.iter().filter_map(|w| w.strip_prefix("owner="));
    for name in users.chain(owners) {
        for (file, line) in [("passwd", format!("{name}:x:33:33:::\n")), ("group", format!("{name}:x:33:\n"))] {
            let path = hollow.0.join("etc").join(file);
            let before = fs::read_to_string(&path).unwrap_or_default();
            fs::write(path, before + &line).unwrap();
        }
    }
}

/// Every machine that the project ships, and one for each profile of the library.
fn shipped(hollow: &Dir) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut out = Vec::new();
    let there = |f: &Path| fs::read_dir(f).unwrap().map(|e| e.unwrap().path());
    let files = there(&folder.join("starters")).chain(there(&folder));
    let files = files.filter(|p| p.extension().is_some_and(|e| e == "stockade"));
    for file in files {
        // Their folders are made by the reader; a hollow one serves here.
        let text = fs::read_to_string(&file).unwrap();
        add_accounts(hollow, &text);
        let lines = text.lines().map(|l| match l.split_once(" path \"") {
            Some(("param root", _)) => format!("param root path \"{}\"\n", hollow.0.display()),
            // Each a folder of its own: the same one twice has two names.
            Some((start, _)) if start.starts_with("param ") => {
                let own = hollow.0.join("srv").join(start.trim_start_matches("param "));
                fs::create_dir_all(&own).unwrap();
                format!("{start} path \"{}\"\n", own.display())
            }
            _ => format!("{l}\n"),
        });
        out.push((file.display().to_string(), lines.collect()));
    }
    for file in fs::read_dir(folder.join("lib")).unwrap().map(|e| e.unwrap().path()) {
        let library = file.file_stem().unwrap().to_str().unwrap().to_owned();
        for profile in fs::read_to_string(&file).unwrap().lines().filter_map(|l| l.strip_prefix("profile ")) {
            let profile = profile.trim_end_matches([' ', '{']);
            let body = match library.as_str() {
                "os" => format!("root dir \"{}\" ephemeral", hollow.0.display()),
                "daemon" => format!("root host\n  exec \"/usr/bin/true\"\n  {NOBODY}"),
                _ => "root host\n  exec \"/usr/bin/true\"\n  user 65534 group 65534".to_owned(),
            };
            let name = harness::name("t");
            let text = format!(
                "policy 1\nkernel 6.18\nimport \"std/{library}\"\nmachine {name} {{\n  extends {profile}\n  {body}\n}}\n"
            );
            out.push((profile.to_owned(), text));
        }
    }
    assert!(out.len() >= 10, "{out:?}");
    out
}

/// `check` on rules; what it says.
fn check_rules(rules: &str) -> Ran {
    harness::verb(
        "check",
        &format!(
            "policy 1\nkernel 6.18\nimport \"std/groups\"\nmachine t {{\n  root host\n  exec \"/usr/bin/true\"\n  {NOBODY}\n  \
             syscalls {{\n{rules}\n  }}\n}}\n"
        ),
    )
}

#[test]
fn c39_foreign_abis_are_killed() {
    if root() {
        let ran = fine(harness::run(&policy("\"foreign\"", "")));
        assert!(ran.out.contains("OK 600 x32 numbers are killed"), "{}", ran.out);
    }
}

#[test]
fn c39_the_architecture_is_looked_at_first() {
    if !root() {
        return;
    }
    let hollow = hollow_root();
    for (name, text) in shipped(&hollow) {
        let filter = filter_of(&text);
        let all = instructions(&filter);
        // ld [4]; jeq AUDIT_ARCH_X86_64, else to ret KILL_PROCESS (linux/seccomp.h, linux/audit.h).
        assert_eq!(all[..2], [(0x20, 4), (0x15, 0xc000_003e)], "{name}");
        let other = usize::from_str_radix(&filter[16 + 6..16 + 8], 16).unwrap();
        assert_eq!(all[2 + other], (0x06, 0x8000_0000), "{name}");
    }
}

#[test]
fn c40_c41_halves_of_arguments() {
    if !root() {
        return;
    }
    let rules = "syscalls {\n    deny lseek(offset == 0x1234) errno EXDEV\n    deny clone(clone_flags == 0x10011) errno EXDEV\n    \
                 deny ioctl(cmd == 0x7777) errno EXDEV\n  }";
    fine(harness::run(&policy("\"halves\"", rules)));
    // A condition on bits that the kernel doesn't read can't be written.
    for rule in
        ["allow socket(family == 0x100000001)", "allow ioctl(cmd == 0x100005412)", "allow mknod(mode == 0x10000)"]
    {
        let ran = check_rules(rule);
        assert_eq!(ran.code, 2, "{rule}: {}", ran.err);
        assert!(ran.err.contains("E0405"), "{rule}: {}", ran.err);
    }
}

#[test]
fn c42_the_order_of_rules_and_conditions_is_irrelevant() {
    if !root() {
        return;
    }
    let rules = [
        "allow @start",
        "allow @inet",
        "deny socket(family == AF_INET6) errno EACCES",
        "deny clone3 errno ENOSYS",
        "allow mmap(flags has none [MAP_SHARED], prot == PROT_READ)",
        "kill [reboot, acct]",
        "log fsync",
        "allow fcntl(cmd in [F_GETFL, F_SETFL, F_DUPFD])",
    ];
    let text = |rules: &[&str]| {
        format!(
            "policy 1\nkernel 6.18\nimport \"std/groups\"\nmachine t {{\n  root host\n  exec \"/usr/bin/true\"\n  {NOBODY}\n  \
             syscalls {{\n    {}\n  }}\n}}\n",
            rules.join("\n    ")
        )
    };
    let first = filter_of(&text(&rules));
    let mut order = rules.to_vec();
    for turn in 0..rules.len() {
        order.rotate_left(1);
        if turn % 2 == 1 {
            order.swap(0, 3);
        }
        assert_eq!(filter_of(&text(&order)), first, "{order:?}");
    }
    order.reverse();
    assert_eq!(filter_of(&text(&order)), first, "{order:?}");
    let swap = |r| match r {
        "allow mmap(flags has none [MAP_SHARED], prot == PROT_READ)" => {
            "allow mmap(prot == PROT_READ, flags has none [MAP_SHARED])"
        }
        "allow fcntl(cmd in [F_GETFL, F_SETFL, F_DUPFD])" => "allow fcntl(cmd in [F_DUPFD, F_GETFL, F_SETFL])",
        "kill [reboot, acct]" => "kill [acct, reboot]",
        other => other,
    };
    let swapped: Vec<&str> = order.iter().copied().map(swap).collect();
    assert_eq!(filter_of(&text(&swapped)), first);
    // Said twice is said once.
    let twice: Vec<&str> = rules.iter().chain(&rules).copied().collect();
    assert_eq!(filter_of(&text(&twice)), first);
    // And another rule is another filter.
    assert_ne!(filter_of(&text(&[&rules[..1], &rules[2..]].concat())), first);
}

#[test]
fn c43_unknown_numbers_do_not_exist() {
    if root() {
        fine(harness::run(&policy_for("6.18", "\"unknown\" \"6.18\"", "")));
        fine(harness::run(&policy_for("6.12", "\"unknown\" \"6.12\"", "")));
    }
}

/// What the page of E0219 promises, for calls that come through a group of the library as well.
#[test]
fn c43_newer_calls_do_not_exist() {
    if root() {
        fine(harness::run(&policy_for("6.12", "\"newer\"", "")));
    }
}

#[test]
fn c44_no_second_abi() {
    for rule in ["abi x86", "abi x32", "abi i386"] {
        let ran = check_rules(&format!("allow read\n{rule}"));
        assert_eq!(ran.code, 2, "{rule}: {}", ran.err);
        assert!(ran.err.contains("E0901"), "{rule}: {}", ran.err);
    }
    // The multiplexers of such an ABI are no calls here.
    for rule in ["allow socketcall", "allow ipc"] {
        let ran = check_rules(rule);
        assert_eq!(ran.code, 2, "{rule}: {}", ran.err);
        assert!(ran.err.contains("E0401"), "{rule}: {}", ran.err);
    }
}

#[test]
fn c45_no_io_uring() {
    if root() {
        fine(harness::run(&policy("\"io_uring\"", "")));
    }
}

/// Rules that go around each other, as (conditioned, open).
fn bypasses(pairs: &[(&str, &str)]) -> Vec<String> {
    let mut accepted = Vec::new();
    for (conditioned, open) in pairs {
        let ran = check_rules(&format!("allow {conditioned}\nallow {open}"));
        if ran.code != 2 || !ran.err.contains("E0410") {
            accepted.push(format!("{conditioned} and {open}: {} {}", ran.code, ran.err));
        }
        // Neither alone is refused, so it is the pair.
        let ran = check_rules(&format!("allow {conditioned}"));
        assert!(!ran.err.contains("E0410"), "{conditioned}: {}", ran.err);
    }
    accepted
}

#[test]
fn c46_calls_that_bypass_a_condition() {
    let accepted = bypasses(&[
        ("clone(clone_flags has none [CLONE_NEWUSER])", "clone3"),
        ("clone(clone_flags has none [CLONE_NEWUSER])", "unshare"),
        ("socket(family == AF_UNIX)", "io_uring_setup"),
        ("openat(flags == O_RDONLY)", "io_uring_setup"),
        ("openat(flags == O_RDONLY)", "openat2"),
        ("openat(flags == O_RDONLY)", "open"),
        ("openat(flags == O_RDONLY)", "creat"),
        ("open(flags == O_RDONLY)", "openat"),
        ("open(flags == O_RDONLY)", "openat2"),
        ("mmap(prot has none [PROT_EXEC])", "mprotect"),
        ("mmap(prot has none [PROT_EXEC])", "pkey_mprotect"),
        ("mprotect(prot has none [PROT_EXEC])", "mmap"),
        ("kill(sig == 0)", "tkill"),
        ("kill(sig == 0)", "pidfd_send_signal"),
        ("kill(sig == 0)", "rt_sigqueueinfo"),
        ("fchmodat(mode == 0)", "fchmodat2"),
        ("chmod(mode == 0)", "fchmodat"),
    ]);
    assert!(accepted.is_empty(), "{accepted:#?}");
    let ran = check_rules("allow @start\nallow @process\nallow clone3");
    assert!(ran.err.contains("E0410"), "through a group: {}", ran.err);
    // Refusing the twin is the way out.
    let ran = check_rules("allow @start\nallow @process\ndeny clone3 errno ENOSYS");
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn c46_calls_that_bypass_a_condition_further() {
    let accepted = bypasses(&[
        ("unshare(unshare_flags has none [CLONE_NEWUSER])", "clone"),
        ("unshare(unshare_flags has none [CLONE_NEWUSER])", "clone3"),
        ("open(flags == O_RDONLY)", "creat"),
        ("open(flags == O_RDONLY)", "open_by_handle_at"),
        ("mprotect(prot has none [PROT_EXEC])", "pkey_mprotect"),
        ("mknod(mode & S_IFMT == S_IFREG)", "mknodat"),
        ("mknodat(mode & S_IFMT == S_IFREG)", "mknod"),
        ("kill(sig == 0)", "tgkill"),
        ("kill(sig == 0)", "rt_tgsigqueueinfo"),
        ("tgkill(sig == 0)", "kill"),
        ("tkill(sig == 0)", "tgkill"),
        ("pidfd_send_signal(sig == 0)", "kill"),
        ("chmod(mode == 0)", "fchmod"),
        ("chmod(mode == 0)", "fchmodat2"),
        ("fchmodat(mode == 0)", "chmod"),
        ("mount(flags has all [MS_RDONLY])", "mount_setattr"),
        ("mount(flags has all [MS_RDONLY])", "move_mount"),
        ("mount(flags has all [MS_RDONLY])", "fsmount"),
        ("move_mount(flags == 0)", "mount"),
        ("tkill(sig == 0)", "kill"),
        ("tgkill(sig == 0)", "rt_sigqueueinfo"),
        ("rt_sigqueueinfo(sig == 0)", "kill"),
        ("pkey_mprotect(prot has none [PROT_EXEC])", "mprotect"),
        ("pkey_mprotect(prot has none [PROT_EXEC])", "mmap"),
        ("fchmodat2(mode == 0)", "chmod"),
        ("creat(mode == 0)", "open"),
        ("sendto(flags == 0)", "io_uring_setup"),
        ("unlinkat(flag == 0)", "io_uring_setup"),
        ("setsockopt(level == 1)", "io_uring_setup"),
        ("ptrace(request == PTRACE_TRACEME)", "process_vm_writev"),
        // A condition on the twin that says nothing of the matter closes nothing.
        ("openat(flags & O_ACCMODE == O_RDONLY)", "openat2(how != NULL)"),
        ("clone(clone_flags has none [CLONE_NEWUSER])", "clone3(size >= 64)"),
        ("clone(clone_flags has none [CLONE_NEWUSER])", "unshare(unshare_flags has none [CLONE_NEWNS])"),
        ("socket(family == AF_UNIX)", "io_uring_setup(entries >= 1)"),
        ("kill(sig == 0)", "tgkill(sig in 1..=64)"),
        ("kill(sig == 0)", "tgkill(tgid == 1)"),
        ("chmod(mode & S_ISUID == 0)", "openat2"),
        ("chmod(mode & 0o6000 == 0)", "open(flags has all [O_CREAT])"),
        ("creat(mode & 0o6000 == 0)", "mknod(mode & 0o6000 == 0o4000)"),
        ("kill(pid == 0)", "tgkill"),
        ("setrlimit(resource == 0)", "prlimit64(resource == 1)"),
        ("setuid(uid == 1)", "setresuid"),
        ("chown(user == 1)", "fchownat"),
        ("madvise(behavior == 0)", "process_madvise"),
        ("sched_setscheduler(policy == 0)", "sched_setattr"),
        ("ptrace(request == PTRACE_TRACEME)", "process_vm_readv"),
        ("ptrace(request == PTRACE_TRACEME)", "pidfd_getfd"),
        ("recvmsg(flags == 0)", "recvmmsg"),
        ("quotactl(cmd == 0)", "quotactl_fd"),
        ("mmap(prot has none [PROT_EXEC])", "personality"),
        ("connect(fd == 3)", "io_uring_setup"),
        ("accept4(flags == 0)", "io_uring_setup"),
    ]);
    assert!(accepted.is_empty(), "{accepted:#?}");
    let denied = check_rules(
        "allow @start\nallow clone\ndeny clone(clone_flags has any [CLONE_NEWUSER])\nallow clone3\ndeny clone3(size == 1)",
    );
    assert!(denied.err.contains("E0410"), "{}", denied.err);
    // However many values there are.
    let many = (0..150).map(|i: u64| (i * 1_103_515_245 % 2_147_483_629).to_string()).collect::<Vec<_>>().join(", ");
    for twin in ["tkill", "tkill(sig in [1, 2])"] {
        let ran = check_rules(&format!("allow kill(sig in [{many}])\nallow {twin}"));
        assert!(ran.err.contains("`kill` can be bypassed with `tkill`"), "{}", ran.err);
    }
    let ran = check_rules(&format!("allow kill(sig in [{many}])\nallow tkill(sig in [{many}])"));
    assert!(!ran.err.contains("E0410"), "{}", ran.err);
    // What is limited alike, or in another matter, is fine.
    for fine in [
        "allow kill(sig == 0)\nallow tgkill(sig == 0)",
        "allow kill(sig in [0, SIGTERM])\nallow tgkill(sig == SIGTERM)\nallow tgkill(sig == 0)",
        "allow kill(pid == 1)\nallow tgkill(tgid == 1)",
        "allow chmod(mode & 0o6000 == 0)\nallow open(flags & O_ACCMODE == O_RDONLY, flags has none [O_CREAT, O_TMPFILE])",
        "allow @files\ndeny @set-id-bits\ndeny openat2 errno ENOSYS",
        "allow mmap(prot has none [PROT_EXEC])\nallow personality(personality == 0)",
        "allow kill\ndeny kill(pid == -1)\nallow tgkill",
        "allow @process\nallow unshare(unshare_flags == CLONE_FILES)\ndeny clone3 errno ENOSYS",
        "allow mmap(prot has none [PROT_WRITE, PROT_EXEC])\nallow mprotect(prot has none [PROT_EXEC])",
    ] {
        let ran = check_rules(fine);
        assert!(!ran.err.contains("E0410"), "{fine}: {}", ran.err);
    }
}

#[test]
fn c47_no_new_namespaces() {
    if root() {
        fine(harness::run(&policy("\"namespaces\"", "")));
    }
}

/// The lines of std/daemon, in a machine whose root has capabilities: so no errno is a missing capability's.
fn dangerous(more: &str) -> Ran {
    let text = format!(
        "policy 1\nkernel 6.18\nimport \"std/groups\"\nmachine {} {{\n  root host\n  exec \"/probe\" \"dangerous\"\n  \
         mounts {{ bind \"{}\" -> \"/probe\" ro exec }}\n  user 0 group 0\n  capabilities {{\n    \
         keep [sys_admin, sys_chroot, setuid, setgid, chown, mknod, dac_read_search] why \"its own user namespace\"\n  }}\n  \
         syscalls {{\n    allow @system-service\n    deny openat2 errno ENOSYS\n    {more}\n  }}\n}}\n",
        harness::name("t"),
        probe("calls").display()
    );
    harness::run(&text)
}

#[test]
fn c48_dangerous_calls() {
    if !root() {
        return;
    }
    fine(harness::run(&policy("\"dangerous\"", "")));
    fine(dangerous("kill @tripwire\n    deny clone3 errno ENOSYS"));
    // Granted, each of them answers something else: the check above would notice.
    let open = dangerous(
        "allow @debug\n    allow @mount\n    allow @keyring\n    allow @sandbox\n    allow @clock\n    allow @setuid\n    \
         allow @chown\n    allow @jit\n    allow personality\n    allow mknod\n    allow mknodat\n    \
         allow [bpf, capset, fanotify_init, fanotify_mark, name_to_handle_at, sethostname, setdomainname]\n    \
         deny clone3 errno ENOSYS",
    );
    assert_eq!(open.code, 1, "{}{}", open.out, open.err);
    let same: Vec<&str> = open.out.lines().filter(|l| l.starts_with("OK ") && l.contains("EPERM")).collect();
    // open_by_handle_at stays refused in that machine.
    assert_eq!(same, ["OK open_by_handle_at: EPERM, wanted EPERM"]);
}

/// A key in the caller's session keyring is out of reach, whether the calls are granted or not.
fn keyring(mode: &str, body: &str) {
    let dir = Dir::new("policy");
    let description = harness::name("key");
    let file = dir.write("test.stockade", &policy(&format!("\"keyring\" \"{description}\" \"{mode}\""), body));
    let mut c = Command::new(probe("calls"));
    c.args(["caller-key", &description]).arg(stockade().get_program()).arg("run").arg(file).stdin(Stdio::null());
    fine(c.output().unwrap().into());
}

#[test]
fn c49_keyrings_behind_the_filter() {
    if root() {
        keyring("closed", "");
    }
}

#[test]
fn c49_keyrings_are_the_machines_own() {
    if root() {
        keyring("open", "syscalls { allow @keyring }");
    }
}

#[test]
fn c50_a_second_filter_only_narrows() {
    if root() {
        fine(harness::run(&policy("\"second-filter\"", "")));
    }
}

/// No filter waits for a listener: `notify` is refused, and no program returns TRACE or USER_NOTIF.
#[test]
fn c51_no_listener_is_needed() {
    let ran = check_rules("notify read");
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("E0901"), "{}", ran.err);
    if !root() {
        return;
    }
    let hollow = hollow_root();
    for (name, text) in shipped(&hollow) {
        for (code, k) in instructions(&filter_of(&text)) {
            // ALLOW, LOG, ERRNO, KILL_PROCESS
            let action = k & 0xffff_0000;
            let known = [0x7fff_0000, 0x7ffc_0000, 0x0005_0000, 0x8000_0000].contains(&action);
            assert!(code != 0x06 || known, "{name} returns {k:#x}");
            assert_ne!(code, 0x16, "{name} returns what it computed");
        }
    }
}

#[test]
fn c52_trampolines_do_nothing() {
    if !root() {
        return;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    if (numbers.next().unwrap(), numbers.next().unwrap()) < (6, 18) {
        return skip("uprobe(2) came with Linux 6.18");
    }
    fine(harness::run(&policy("\"trampolines\"", "")));
    // Whatever the policy says of them.
    fine(harness::run(&policy("\"trampolines\"", "syscalls { deny [uretprobe, uprobe] }")));
}

#[test]
fn c53_shipped_filters_fit() {
    if !root() {
        return;
    }
    let hollow = hollow_root();
    for (name, text) in shipped(&hollow) {
        let filter = filter_of(&text);
        assert_eq!(filter.len() % 16, 0, "{name}");
        let count = filter.len() / 16;
        assert!((100..=4096).contains(&count), "{name}: {count} instructions");
    }
}

#[test]
fn c54_speculation_stays_as_it_was() {
    if !root() {
        return;
    }
    let lines = |text: &str| -> Vec<String> {
        let all = text.lines().map(|l| l.trim_start_matches("OK ").to_owned());
        all.filter(|l| l.starts_with("Speculation")).collect()
    };
    let ran = fine(harness::run(&policy("\"speculation\"", "")));
    let inside = lines(&ran.out);
    let outside = lines(&fs::read_to_string("/proc/self/status").unwrap());
    assert_eq!(inside.len(), outside.len());
    for (i, o) in inside.iter().zip(&outside) {
        // Stricter is fine: a kernel may mitigate whatever has a filter.
        assert!(i == o || i.contains("mitigated") || i.contains("disabled"), "{i} inside, {o} outside");
    }
    if !Path::new("/usr/bin/strace").exists() {
        return skip("no strace");
    }
    let dir = Dir::new("c54");
    let file = dir.write("test.stockade", &policy("\"hello\"", ""));
    let log = dir.0.join("log");
    let mut c = Command::new("/usr/bin/strace");
    c.args(["-f", "-qq", "-e", "trace=seccomp", "-o"]).arg(&log).arg(stockade().get_program()).arg("run").arg(file);
    let ran: Ran = c.stdin(Stdio::null()).output().unwrap().into();
    assert_eq!((ran.code, ran.out.as_str()), (0, "hello\n"), "{}", ran.err);
    // libseccomp tries every flag on a filter that isn't there; what counts is the one that is.
    let text = fs::read_to_string(&log).unwrap();
    let loaded: Vec<&str> = text.lines().filter(|l| l.contains("{len=")).collect();
    assert_eq!(loaded.len(), 1, "{text}");
    assert!(loaded[0].contains("SECCOMP_SET_MODE_FILTER, 0, "), "{text}");
    assert!(!loaded[0].contains("SPEC_ALLOW"), "{text}");
}

#[test]
fn c55_the_least_that_programs_need() {
    if !root() {
        return;
    }
    let dir = Dir::new("c55");
    let dynamic = dir.0.join("dynamic");
    let built = Command::new("cc").args(["-O1", "-o"]).arg(&dynamic).arg(probe_source("calls")).status().unwrap();
    assert!(built.success());
    let bind = |p: &Path| format!("bind \"{}\" -> \"/hello\" ro exec", p.display());
    let nothing = String::new;
    let static_one = probe("calls");
    let programs = [
        ("\"/hello\" \"hello\"", bind(&static_one), ""),
        ("\"/hello\" \"hello\"", bind(&dynamic), ""),
        ("\"/usr/bin/sh\" \"-c\" \"echo hello\"", nothing(), ""),
        ("\"/usr/bin/sh\" \"-c\" \"/usr/bin/echo hello; true\"", nothing(), "allow @process"),
        ("\"/usr/bin/bash\" \"-c\" \"echo hello\"", nothing(), ""),
        ("\"/usr/bin/perl\" \"-e\" \"print \\\"hello\\\\n\\\"\"", nothing(), ""),
        ("\"/usr/bin/python3\" \"-I\" \"-c\" \"print(\\\"hello\\\")\"", nothing(), ""),
    ];
    let mut ran_some = 0;
    for (program, mounts, more) in programs {
        let path = program.split('"').nth(1).unwrap();
        if path != "/hello" && !Path::new(path).exists() {
            eprintln!("SKIP: no {path}");
            continue;
        }
        let text = format!(
            "policy 1\nkernel 6.18\nimport \"std/groups\"\nmachine {} {{\n  root host\n  exec {program}\n  {NOBODY}\n  \
             mounts {{\n    {mounts}\n  }}\n  syscalls {{\n    allow @start\n    {more}\n    kill @tripwire\n  }}\n}}\n",
            harness::name("t")
        );
        let ran = harness::run(&text);
        assert_eq!((ran.code, ran.out.as_str()), (0, "hello\n"), "{program}: {}", ran.err);
        ran_some += 1;
    }
    assert!(ran_some >= 4);
    // Without the group nothing starts: it is the group that does it.
    let text = format!(
        "policy 1\nkernel 6.18\nmachine {} {{\n  root host\n  exec \"/usr/bin/sh\" \"-c\" \"echo hello\"\n  {NOBODY}\n  \
         syscalls {{ allow [execve, exit_group, write] }}\n}}\n",
        harness::name("t")
    );
    let ran = harness::run(&text);
    assert!(ran.code != 0 && ran.out.is_empty(), "{}{}", ran.out, ran.err);
}

fn probe_source(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe").join(format!("{name}.c"))
}

#[test]
fn c56_machines_do_not_share_ids() {
    if !root() {
        return;
    }
    // No other test uses this range, and `auto` takes none so low.
    let machine = |range: &str| policy("\"hold\"", &format!("userns map {range}"));
    let dir = Dir::new("c56");
    let file = dir.write("test.stockade", &machine("0 -> 400000 count 65536"));
    let mut first = stockade().arg("run").arg(file).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(first.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let same = ["0 -> 400000 count 65536", "0 -> 465535 count 70000", "0 -> 334465 count 65536"];
    let refused: Vec<Ran> = same.iter().map(|r| harness::run(&machine(r))).collect();
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(line, "OK ready\n");
    for (range, ran) in same.iter().zip(refused) {
        assert_eq!(ran.code, 125, "{range}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains("belong to another running machine"), "{range}: {}", ran.err);
        assert_eq!(ran.out, "", "{range}: nothing was run");
    }
    // Afterwards the range is free.
    let text = machine("0 -> 400000 count 65536").replace("\"hold\"", "\"io_uring\"");
    fine(harness::run(&text));
}
