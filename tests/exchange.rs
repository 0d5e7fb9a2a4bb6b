//! What other programs write and read: our model of them is held against the programs themselves.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test ends at the first surprise"
)]

mod harness;

use harness::{Dir, Ran, debian, name, probe, root, skip, stockade};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use stockade::exchange::docker::{self, Setting};
use stockade::exchange::profile::{self, Profile};
use stockade::exchange::systemd_groups;
use stockade::kernel::calls::CALLS;
use stockade::kernel::numbers::Arch;
use stockade::policy::syscalls::Action;
use stockade::policy::{Policy, TABLE, loader, resolve};
use stockade::proof::diagram::{FALSE, Node, Store, Word};
use stockade::proof::{bpf, intent, program, witness};
use stockade::sys::confine::Instruction;

const ARCH: Arch = Arch::NATIVE;

fn call(arguments: &[&str]) -> Ran {
    stockade().args(arguments).output().unwrap().into()
}

fn shipped(name: &str) -> PathBuf {
    // An export is of a machine of this host: what it shows has to be there.
    harness::site();
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(format!("{name}.stockade"))
}

/// Imports a text, checks what came out, and gives it with what was said about it.
fn imported(kind: &str, file: &str, text: &str, more: &[&str]) -> (String, Ran) {
    let dir = Dir::new("import");
    let source = dir.write(file, text);
    let ran = call(&[&["import", kind, source.to_str().unwrap()], more].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("system calls: proved to let through none that the source keeps out"), "{}", ran.err);
    let file = dir.write("imported.stockade", &ran.out);
    let formatted = call(&["fmt", "--check", file.to_str().unwrap()]);
    assert_eq!(formatted.code, 0, "{}", ran.out);
    (ran.out.clone(), ran)
}

fn checked(text: &str) -> Ran {
    harness::verb("check", text)
}

fn refused(kind: &str, file: &str, text: &str, why: &str) {
    let dir = Dir::new("import");
    let ran = call(&["import", kind, dir.write(file, text).to_str().unwrap()]);
    assert!(ran.code == 2 && ran.out.is_empty() && ran.err.contains(why), "{why}: {} {}", ran.code, ran.err);
}

/// The machine of a text.
fn resolved(text: &str) -> Policy {
    use stockade::diagnostic::Diagnostics;
    use stockade::source::Sources;
    let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
    let id = loader::from_text("test", text.as_bytes(), &mut sources, &mut d).unwrap();
    let mut all = resolve::resolve(id, &mut sources, &mut d, "2026-01-01").machines;
    all.pop().unwrap_or_else(|| panic!("{}", d.render(&sources, false)))
}

/// The seccomp programs of a process as the kernel holds them.
fn filters(pid: u32) -> Vec<Vec<Instruction>> {
    let out = Command::new(probe("filters")).arg(pid.to_string()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let instruction = |line: &str| {
        let n: Vec<u32> = line.split(' ').map(|w| w.parse().unwrap()).collect();
        Instruction { code: n[0] as u16, jt: n[1] as u8, jf: n[2] as u8, k: n[3] }
    };
    let parts = text.split("\n\n").filter(|p| !p.trim().is_empty());
    parts.map(|p| p.lines().map(instruction).collect()).collect()
}

/// What programs do with one call of this architecture, the most restrictive of their answers.
fn made(s: &mut Store, programs: &[Node], number: u32) -> Node {
    let arch = s.word(Word::Arch);
    let mut here = s.equals(&arch, u64::MAX, u64::from(ARCH.audit()));
    let word = s.word(Word::Number);
    let this = s.equals(&word, u64::MAX, u64::from(number));
    here = s.and(here, this);
    let mut out = s.leaf(bpf::encode(Action::Allow));
    for p in programs {
        out = s.combine(out, *p, &|a, b| {
            let (x, y) = (bpf::decode(a), bpf::decode(b));
            bpf::encode(x.max(y))
        });
    }
    // Outside of the call the answer is of no interest.
    let nothing = s.leaf(u32::MAX);
    s.choose(here, out, nothing)
}

/// The same region around an answer that speaks of arguments alone.
fn placed(s: &mut Store, answer: Node, number: u32) -> Node {
    let arch = s.word(Word::Arch);
    let a = s.equals(&arch, u64::MAX, u64::from(ARCH.audit()));
    let word = s.word(Word::Number);
    let n = s.equals(&word, u64::MAX, u64::from(number));
    let here = s.and(a, n);
    let nothing = s.leaf(u32::MAX);
    s.choose(here, answer, nothing)
}

/// A process that sleeps somewhere below `child`, found by the marker on its command line.
fn sleeper(marker: &str) -> u32 {
    for _ in 0..200 {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
            if words.first().is_some_and(|w| w.ends_with(b"sleep")) && words.get(1) == Some(&marker.as_bytes()) {
                return pid;
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("nobody sleeps for {marker}");
}

/// A bundle of runc that sleeps, with a seccomp profile.
struct Bundle {
    _dir: Dir,
    name: String,
    child: Child,
    pid: u32,
}

impl Bundle {
    fn run(config: &Value) -> Bundle {
        let dir = Dir::new("bundle");
        dir.write("config.json", &config.to_string());
        let name = name("stockade-test");
        let marker = config["process"]["args"][1].as_str().unwrap().to_owned();
        let child = Command::new("runc")
            .args(["run", "--bundle", dir.0.to_str().unwrap(), &name])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let pid = sleeper(&marker);
        Bundle { _dir: dir, name, child, pid }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _gone = Command::new("runc").args(["delete", "--force", &self.name]).output();
        let _ended = self.child.wait();
    }
}

/// A time to sleep that no other test uses, to be found by.
fn marker() -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("3{:07}.{n}", std::process::id())
}

fn config(rootfs: &Path, seccomp: Value) -> Value {
    let dir = Dir::new("spec");
    assert!(Command::new("runc").arg("spec").current_dir(&dir.0).status().unwrap().success());
    let mut c: Value = serde_json::from_str(&std::fs::read_to_string(dir.0.join("config.json")).unwrap()).unwrap();
    c["root"] = json!({ "path": rootfs, "readonly": true });
    c["process"]["terminal"] = json!(false);
    c["process"]["args"] = json!(["/bin/sleep", marker()]);
    c["linux"]["resources"] = json!({});
    c["linux"]["seccomp"] = seccomp;
    c
}

fn profile_of(text: &str) -> Profile {
    let caps: Vec<String> = docker::CAPABILITIES.iter().map(|c| (*c).to_owned()).collect();
    docker::read(text, &Setting { arch: "amd64", capabilities: &caps, kernel: TABLE }).unwrap().profile
}

/// One entry of each kind, each about a call of its own that sleeping doesn't need.
fn every_kind() -> Value {
    let arg = |index: u8, op: &str, value: u64, two: u64| json!({ "index": index, "op": op, "value": value, "valueTwo": two });
    let needed = [
        "execve",
        "brk",
        "arch_prctl",
        "access",
        "openat",
        "newfstatat",
        "fstat",
        "mmap",
        "close",
        "read",
        "pread64",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "mprotect",
        "munmap",
        "prlimit64",
        "getrandom",
        "clock_nanosleep",
        "nanosleep",
        "exit_group",
        "write",
        "futex",
        "rt_sigreturn",
        "restart_syscall",
        "fcntl",
        "faccessat2",
        "chdir",
        "setresuid",
        "prctl",
        "capget",
        "capset",
        "setgroups",
        "setgid",
        "setuid",
        "fstatfs",
        "getdents64",
        "lseek",
        "getppid",
        "epoll_pwait",
        "epoll_ctl",
        "sigaltstack",
        "rt_sigprocmask",
        "rt_sigaction",
        "gettid",
        "tgkill",
        "sched_yield",
        "madvise",
        "clone",
        "mknodat",
        "statfs",
        "getpid",
        "close_range",
        "stat",
        "readlinkat",
        "sendmsg",
        "dup3",
        "ioctl",
        "getuid",
        "setsid",
        "umask",
        "fchown",
        "unlinkat",
        "symlinkat",
        "waitid",
        "exit",
    ];
    json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            { "names": needed.to_vec(), "action": "SCMP_ACT_ALLOW" },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, "SCMP_CMP_EQ", 8, 0)] },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, "SCMP_CMP_NE", 40, 0)] },
            { "names": ["listen"], "action": "SCMP_ACT_ALLOW", "args": [arg(1, "SCMP_CMP_LT", 100, 0)] },
            { "names": ["shutdown"], "action": "SCMP_ACT_ALLOW", "args": [arg(1, "SCMP_CMP_LE", 1, 0)] },
            { "names": ["dup2"], "action": "SCMP_ACT_ALLOW", "args": [arg(1, "SCMP_CMP_GE", 3, 0)] },
            { "names": ["ftruncate"], "action": "SCMP_ACT_ALLOW", "args": [arg(1, "SCMP_CMP_GT", 4096, 0)] },
            { "names": ["unshare"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, "SCMP_CMP_MASKED_EQ", 0x7e02_0000, 0)] },
            { "names": ["kill"], "action": "SCMP_ACT_ALLOW",
              "args": [arg(0, "SCMP_CMP_EQ", 1, 0), arg(1, "SCMP_CMP_EQ", 15, 0)] },
            // runc makes two rules of this.
            { "names": ["alarm"], "action": "SCMP_ACT_ALLOW",
              "args": [arg(0, "SCMP_CMP_GE", 10, 0), arg(0, "SCMP_CMP_LE", 20, 0)] },
            { "names": ["vhangup"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
            { "names": ["acct"], "action": "SCMP_ACT_KILL_PROCESS" },
            { "names": ["syslog"], "action": "SCMP_ACT_LOG" },
            // What covers more is kept, whatever stands first.
            { "names": ["sync"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["sync"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22 },
            { "names": ["umount2"], "action": "SCMP_ACT_ALLOW", "args": [arg(1, "SCMP_CMP_EQ", 0, 0)] },
            { "names": ["umount2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22 },
            { "names": ["swapoff"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22 },
            { "names": ["swapoff"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, "SCMP_CMP_EQ", 0, 0)] },
        ],
    })
}

#[test]
fn our_model_of_runc_is_what_runc_loads() {
    let Some(rootfs) = debian().filter(|_| root()) else { return };
    if !Path::new("/usr/sbin/runc").exists() {
        return skip("runc is not installed");
    }
    let profile = every_kind();
    let model = profile_of(&profile.to_string());
    let running = Bundle::run(&config(&rootfs, profile));
    let programs = filters(running.pid);
    assert_eq!(programs.len(), 1);
    let mut s = Store::default();
    let made_by_runc = [program::of_program(&mut s, &programs[0]).unwrap()];
    let mut named = 0;
    for c in CALLS {
        let Some(number) = ARCH.number(c.name) else { continue };
        let ours = model.answers(&mut s, c).unwrap();
        let (ours, theirs) = (placed(&mut s, ours, number), made(&mut s, &made_by_runc, number));
        if model.entries.iter().all(|e| e.call.name != c.name) {
            // Not named: the default, or ENOSYS beyond the last call that is.
            continue;
        }
        named += 1;
        if let Some(v) = s.difference(ours, theirs) {
            let (a, b) = (s.evaluate(ours, &v), s.evaluate(theirs, &v));
            panic!("{}: we say {a:#x}, runc loads {b:#x}", witness(c.name, &v));
        }
    }
    assert!(named > 80, "{named}");
}

#[test]
fn docker_profiles_become_policies() {
    let (text, ran) = imported("docker", "web.json", &every_kind().to_string(), &[]);
    assert_eq!(checked(&text).code, 0, "{}", checked(&text).err);
    assert!(text.contains("profile imported/web {"), "{text}");
    for line in [
        "allow personality(personality == 8)",
        "allow socket(family not in [AF_VSOCK])",
        "allow unshare(unshare_flags has none [",
        "allow kill(pid == 1, sig == 15)",
        "deny vhangup errno ENOSYS",
        "kill acct",
        "log syslog",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    // The hole of comparing 64 bits where the kernel reads 32, with a call that goes through it.
    let hole = ran.err.lines().find(|l| l.contains("differs: socket(")).unwrap();
    assert!(hole.contains("0x100000028") && hole.contains("doesn't read those bits"), "{hole}");
    // Two comparisons of one argument: meant together, taken apart by runc.
    let apart = ran.err.lines().find(|l| l.contains("differs: alarm(")).unwrap();
    assert!(apart.contains("takes the comparisons of an entry apart"), "{apart}");
    assert!(text.contains("allow alarm(seconds in 10..=4294967295, seconds in 0..=20)"), "{text}");
    let (text, ran) = imported("docker", "web.json", &every_kind().to_string(), &["--as", "runc"]);
    assert!(text.contains("allow alarm(seconds in 0..=20)\n"), "{text}");
    assert!(!ran.err.contains("differs: alarm("), "{}", ran.err);
}

#[test]
fn real_profiles_are_imported() {
    for (path, calls) in [
        ("/usr/share/containers/seccomp.json", 300),
        ("/usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json", 300),
    ] {
        let Ok(source) = std::fs::read_to_string(path) else {
            skip(&format!("{path} is not installed"));
            continue;
        };
        let (text, _) = imported("docker", "default.json", &source, &[]);
        let ran = checked(&text);
        assert_eq!(ran.code, 0, "{path}: {}", ran.err);
        let machine =
            "machine m { extends imported/default; root host; exec \"/bin/true\"; user 1; capabilities { none } }";
        let policy = resolved(&format!("{text}{machine}\n"));
        let runs: BTreeSet<&str> =
            policy.syscalls.iter().filter(|r| r.action <= Action::Log).map(|r| r.call.name).collect();
        assert!(runs.len() > calls, "{path}: {}", runs.len());
        // With a capability the profile opens calls, and closes them without.
        let (more, _) = imported("docker", "default.json", &source, &["--caps", "sys_admin,sys_ptrace"]);
        let opened = |t: &str| t.contains(" bpf,");
        assert!(opened(&more) && !opened(text.split("deny [").next().unwrap()));
    }
}

#[test]
fn bad_profiles_are_refused() {
    let with = |rest: &str| format!("{{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{rest}]}}");
    for (text, why) in [
        ("nonsense".to_owned(), "not a seccomp profile"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "surprise": 1}"#.to_owned(), "unknown field `surprise`"),
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#.to_owned(), "asking a process"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/x"}"#.to_owned(), "asking a process"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "flags": ["X"]}"#.to_owned(), "unknown flag `X`"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 0}"#.to_owned(), "0 is no errno"),
        (with(r#"{"names": ["read"], "action": "SCMP_ACT_HOPE"}"#), "entry 1 of `syscalls`: unknown action"),
        (
            with(
                r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}"#,
            ),
            "there is no argument 6",
        ),
        (
            with(
                r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_X"}]}"#,
            ),
            "unknown operator",
        ),
        (
            with(r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_X"]}}"#),
            "unknown capability `CAP_X`",
        ),
        (
            with(
                r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 5, "op": "SCMP_CMP_LT"}]},
                   {"names": ["read"], "action": "SCMP_ACT_KILL", "args": [{"index": 0, "value": 3, "op": "SCMP_CMP_GT"}]}"#,
            ),
            "both allowed and refused",
        ),
        (
            with(
                r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}"#,
            ),
            "bits outside its mask",
        ),
    ] {
        refused("docker", "bad.json", &text, why);
    }
}

#[test]
fn a_profile_that_allows_by_default_keeps_its_refusals() {
    let text = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            { "names": ["ptrace", "bpf"], "action": "SCMP_ACT_ERRNO" },
            { "names": ["personality"], "action": "SCMP_ACT_KILL", "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
        ],
    });
    let (text, _) = imported("docker", "open.json", &text.to_string(), &["--kernel", "6.1"]);
    assert!(text.contains("deny [bpf, ptrace]") && text.contains("kill personality(personality == 8)"), "{text}");
    let (text, _) = imported("docker", "shut.json", r#"{"defaultAction": "SCMP_ACT_KILL"}"#, &[]);
    let policy = resolved(&format!(
        "{text}machine m {{ extends imported/shut; root host; exec \"/bin/true\"; user 1; capabilities {{ none }} }}\n"
    ));
    assert!(policy.syscalls.iter().all(|r| r.action == Action::Kill) && policy.syscalls.len() > 300);
}

/// Exported profiles, read back, are the policy on every call; runc loads just that.
#[test]
fn an_exported_profile_is_the_policy() {
    for machine in ["nginx", "redis", "unbound", "untrusted-build", "debian"] {
        let ran = call(&["export", "docker", shipped(machine).to_str().unwrap()]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        // Newer than this distribution's libseccomp: no line of its own on a newer one.
        let lost: Vec<&str> =
            ran.err.lines().filter(|l| l.contains("lost: ") && !l.contains("has no name for these")).collect();
        assert_eq!(lost.len(), 2, "only what no profile can say:\n{}", ran.err);
        let model = profile_of(&ran.out);
        let policy = machine_of(machine);
        for c in CALLS.iter().filter(|c| ARCH.number(c.name).is_some()) {
            let mut s = Store::default();
            let own: Vec<_> = policy.syscalls.iter().filter(|r| r.call.name == c.name).collect();
            let meant = intent::of_call(&mut s, &own, c.since <= policy.kernel);
            assert_eq!(meant, model.answers(&mut s, c).unwrap(), "{machine}: {}", c.name);
        }
    }
}

fn machine_of(name: &str) -> Policy {
    use stockade::diagnostic::Diagnostics;
    use stockade::source::Sources;
    let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
    let id = loader::read(&shipped(name), &mut sources, &mut d).unwrap();
    resolve::resolve(id, &mut sources, &mut d, "2026-01-01").machines.remove(0)
}

#[test]
fn an_exported_bundle_runs_under_runc_as_it_says() {
    let Some(rootfs) = debian().filter(|_| root()) else { return };
    if !Path::new("/usr/sbin/runc").exists() {
        return skip("runc is not installed");
    }
    let dir = Dir::new("oci");
    let time = marker();
    let text = format!(
        "policy 1\nkernel 5.10\nimport \"std/daemon\"\nmachine sleeps {{\n  extends std/daemon\n  root dir \"{0}\" ro\n  \
         exec \"/bin/sleep\" \"{2}\"\n  user www-data\n  capabilities {{ keep net_bind_service why \"to see it\" }}\n  \
         mounts {{ tmpfs \"/run\" size=16MiB mode=0755; bind \"{1}\" -> \"/srv\" ro }}\n  limits {{ nofile 123 }}\n  files {{ read \"/\"; exec \"/\" }}\n}}\n",
        rootfs.display(),
        dir.0.display(),
        time
    );
    let file = dir.write("sleeps.stockade", &text);
    let ran = call(&["export", "oci", file.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("lost: files: read \"/\" bounds nothing ("), "{}", ran.err);
    let config: Value = serde_json::from_str(&ran.out).unwrap();
    let running = Bundle::run(&config);
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid)).unwrap();
    let field = |n: &str| status.lines().find(|l| l.starts_with(n)).unwrap().split_once('\t').unwrap().1.to_owned();
    assert_eq!(field("NoNewPrivs:"), "1");
    for set in ["CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000400", "{set}");
    }
    let map = std::fs::read_to_string(format!("/proc/{}/uid_map", running.pid)).unwrap();
    let outside: u32 = map.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(outside >= 65_536 && map.trim().ends_with("65536"), "{map}");
    assert!(field("Uid:").starts_with(&(outside + 33).to_string()), "{} {map}", field("Uid:"));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.pid)).unwrap();
    assert!(limits.lines().any(|l| l.starts_with("Max open files") && l.matches("123").count() == 2), "{limits}");
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", running.pid)).unwrap();
    assert!(mounts.lines().any(|l| l.contains(" / ro,nosuid") || l.contains(" / ro,")), "{mounts}");
    for place in [" /dev ro,", " /srv ro,nosuid,nodev,noexec"] {
        assert!(mounts.contains(place), "{place}: {mounts}");
    }
    // And the filter that runc loaded is the policy's, on every call that this kernel's libseccomp knows.
    let programs = filters(running.pid);
    let policy = resolved(&text);
    let mut s = Store::default();
    let loaded: Vec<Node> = programs.iter().map(|p| program::of_program(&mut s, p).unwrap()).collect();
    let mut same = 0;
    for c in CALLS.iter().filter(|c| c.since <= (5, 10)) {
        let Some(number) = ARCH.number(c.name) else { continue };
        let own: Vec<_> = policy.syscalls.iter().filter(|r| r.call.name == c.name).collect();
        let meant = intent::of_call(&mut s, &own, c.since <= policy.kernel);
        let (meant, loaded) = (placed(&mut s, meant, number), made(&mut s, &loaded, number));
        assert!(s.difference(meant, loaded).is_none(), "{}", c.name);
        same += 1;
    }
    assert!(same > 300, "{same}");
}

#[test]
fn an_exported_unit_is_one_and_says_what_it_loses() {
    let ran = call(&["export", "systemd", shipped("nginx").to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    for line in ["NoNewPrivileges=yes", "SystemCallArchitectures=native", "CapabilityBoundingSet=", "User=33"] {
        assert!(ran.out.lines().any(|l| l == line), "{line}:\n{}", ran.out);
    }
    assert!(ran.err.contains("lost: calls: ioctl(cmd=0x5412) runs there, not here"), "{}", ran.err);
    // Limits of the whole machine are written, another network is a loss.
    for line in ["MemoryMax=", "TasksMax="] {
        assert!(ran.out.lines().any(|l| l.starts_with(line)), "{line}:\n{}", ran.out);
    }
    assert!(ran.err.contains("lost: network: no `private`"), "{}", ran.err);
    let bundle = call(&["export", "oci", shipped("nginx").to_str().unwrap()]);
    let config: Value = serde_json::from_str(&bundle.out).unwrap();
    let resources = &config["linux"]["resources"];
    assert!(resources["memory"]["limit"].is_u64() && resources["pids"]["limit"].is_u64(), "{resources}");
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        return skip("systemd-analyze is not installed");
    }
    let dir = Dir::new("unit");
    let unit = dir.write("stockade-test.service", &ran.out);
    let out = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    // It doesn't know this year's calls, and the program is below the root folder.
    let odd: Vec<&str> = said
        .lines()
        .filter(|l| l.contains("stockade-test") && !l.contains("parse system call") && !l.contains("is not executable"))
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
}

#[test]
fn an_exported_pod_is_restricted() {
    let ran = call(&["export", "kubernetes", "--image", "nginx:1", shipped("nginx").to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let pod: Value = serde_json::from_str(&ran.out).unwrap();
    let (spec, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
    // What the "restricted" Pod security standard asks for.
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], json!(false));
    assert_eq!(container["securityContext"]["capabilities"], json!({ "drop": ["ALL"], "add": [] }));
    assert_eq!(spec["securityContext"]["runAsNonRoot"], json!(true));
    assert_eq!(spec["securityContext"]["seccompProfile"]["localhostProfile"], json!("stockade/nginx.json"));
    assert_eq!((&spec["hostUsers"], &spec["hostNetwork"]), (&json!(false), &json!(false)));
    assert_eq!(container["image"], json!("nginx:1"));
    let limits = &container["resources"]["limits"];
    assert_eq!((limits["memory"].as_str(), limits["cpu"].as_str()), (Some("268435456"), Some("2000m")), "{limits}");
    let boots = call(&["export", "kubernetes", "--image", "x", shipped("debian").to_str().unwrap()]);
    assert!(boots.code == 2 && boots.err.contains("boots an init"), "{}", boots.err);
}

/// The keys of systemd.nspawn(5), each with a value that it takes.
const KEYS: &[(&str, &[&str])] = &[
    (
        "Exec",
        &[
            "Boot=yes",
            "Ephemeral=no",
            "ProcessTwo=yes",
            "Parameters=",
            "Environment=A=b",
            "User=root",
            "WorkingDirectory=/srv",
            "PivotRoot=/a:/b",
            "Capability=CAP_NET_BIND_SERVICE",
            "DropCapability=CAP_SYS_ADMIN",
            "AmbientCapability=CAP_KILL",
            "NoNewPrivileges=yes",
            "KillSignal=SIGTERM",
            "Personality=x86-64",
            "MachineID=0123456789abcdef0123456789abcdef",
            "PrivateUsers=pick",
            "NotifyReady=yes",
            "SystemCallFilter=~@mount",
            "LimitCPU=10",
            "LimitFSIZE=1G",
            "LimitDATA=1G",
            "LimitSTACK=8M",
            "LimitCORE=0",
            "LimitRSS=1G",
            "LimitNOFILE=1024",
            "LimitAS=4G",
            "LimitNPROC=64",
            "LimitMEMLOCK=64K",
            "LimitLOCKS=10",
            "LimitSIGPENDING=10",
            "LimitMSGQUEUE=64K",
            "LimitNICE=0",
            "LimitRTPRIO=0",
            "LimitRTTIME=1",
            "OOMScoreAdjust=0",
            "CPUAffinity=0",
            "Hostname=x",
            "ResolvConf=off",
            "Timezone=off",
            "LinkJournal=no",
            "SuppressSync=no",
        ],
    ),
    (
        "Files",
        &[
            "ReadOnly=yes",
            "Volatile=overlay",
            "Bind=/srv",
            "BindReadOnly=/srv:/x",
            "BindUser=me",
            "TemporaryFileSystem=/tmp:size=10M",
            "Inaccessible=/root",
            "Overlay=/a:/b:/c",
            "OverlayReadOnly=/a:/b",
            "PrivateUsersOwnership=auto",
            "PrivateUsersChown=yes",
        ],
    ),
    (
        "Network",
        &[
            "Private=yes",
            "VirtualEthernet=yes",
            "VirtualEthernetExtra=a:b",
            "Interface=eth1",
            "MACVLAN=eth0",
            "IPVLAN=eth0",
            "Bridge=br0",
            "Zone=z",
            "Port=tcp:80:8080",
        ],
    ),
];

#[test]
fn every_key_of_nspawn_is_kept_or_refused_by_name() {
    let mut kept = 0;
    for (section, keys) in KEYS {
        for key in *keys {
            let boot = if key.starts_with("Boot=") || key.starts_with("User=") { "" } else { "Boot=yes" };
            let text = format!("[Exec]\n{boot}\n[{section}]\n{key}\n");
            let dir = Dir::new("nspawn");
            let file = dir.write("m.nspawn", &text);
            let ran = call(&["import", "nspawn", file.to_str().unwrap(), "--root", "/srv"]);
            assert!(!ran.err.contains("unknown"), "{key}: {}", ran.err);
            match ran.code {
                0 => kept += 1,
                2 => assert!(ran.out.is_empty() && !ran.err.is_empty(), "{key}"),
                other => panic!("{key}: {other} {}", ran.err),
            }
        }
    }
    assert!(kept > 45, "{kept}");
    for (text, why) in [
        ("[Exec]\nBoot=yes\nSuprise=1\n", "line 3: `Suprise`: unknown key of [Exec]"),
        ("[Exec]\nBoot=yes\n[Odd]\nA=1\n", "unknown section [Odd]"),
        ("[Exec]\nBoot=perhaps\n", "neither yes nor no"),
        ("[Exec]\nBoot=yes\n[Files]\nBind=/a/../b\n", "no plain absolute path"),
        ("[Exec]\nBoot=yes\nCapability=all\n", "grants what nobody looked at"),
        ("[Exec]\nBoot=yes\nMemoryMax=lots\n", "is no size"),
        ("[Exec]\nHostname=x\n", "nothing to run"),
        ("[Exec]\nBoot=yes\nHostname=x; mounts { bind \"/etc\" -> \"/e\" rw }\n", "no plain name"),
        ("[Exec]\nParameters=/bin/true\nUser=root; mounts { bind \"/\" -> \"/e\" rw }\n", "no plain name"),
        (
            "[Exec]\nBoot=yes\n[Files]\nTemporaryFileSystem=/srv:mode=0755; bind \"/etc\" -> \"/e\" rw\n",
            "no octal number",
        ),
        ("[Exec]\nBoot=yes\nEnvironment=\"A x=1\"\n", "no name of a variable"),
        ("[Exec]\nBoot=yes\nEnvironment=A=\\x41\n", "a backslash is no escape there"),
        ("[Exec]\nBoot=yes\nSystemCallFilter=\"@memlock\"\n", "quotes and backslashes belong to the text there"),
        ("[Exec]\nBoot=yes\n[Files]\nBind=/a\\:/b\n", "no plain absolute path"),
        ("[Exec]\nBoot=yes\n[Files]\nBind=/srv:/srv:norbind\n", "comes along"),
        ("[Exec]\nBoot=yes\n[Files]\nLimitNOFILE=3\n", "unknown key of [Files]"),
        ("[Exec]\nBoot=yes\n# c\rHostname=x\n", "control character"),
    ] {
        refused("nspawn", "m.nspawn", text, why);
    }
}

/// Of a key that is written twice the last holds, and what isn't translated there isn't translated here.
#[test]
fn the_last_word_of_nspawn_holds() {
    let text = "[Exec]\nBoot=yes\nHostname=a\nHostname=b\nPrivateUsers=100000:65536\n[Files]\nPrivateUsersOwnership=map\n\
                [Network]\nPrivate=yes\nVirtualEthernet=yes\nVirtualEthernet=no\n";
    let (made, _) = imported("nspawn", "m.nspawn", text, &[]);
    for line in ["hostname b", "    none", "override userns map 0 -> 100000 count 65536"] {
        assert!(made.contains(line), "{line}:\n{made}");
    }
    assert!(!made.contains("private") && !made.contains("hostname a") && !made.contains("egress"), "{made}");
    assert_eq!(checked(&made).code, 0);
    let (made, _) = imported("nspawn", "m.nspawn", "[Exec]\nBoot=yes\n[Network]\nPrivate=yes\nPrivate=no\n", &[]);
    let (none, _) = imported("nspawn", "m.nspawn", "[Exec]\nBoot=yes\n", &[]);
    assert_eq!(made, none);
    let off = "root's here that were nobody's there";
    for (users, ownership, why) in [
        ("100000", "", off),
        ("100000", "PrivateUsersOwnership=off", off),
        ("100000", "PrivateUsersChown=no", off),
        ("yes", "", off),
        ("pick", "PrivateUsersChown=n", off),
        ("pick", "PrivateUsersChown=No", off),
        ("pick", "PrivateUsersOwnership=bogus", "none of off, chown, map and auto"),
        ("pick", "PrivateUsersOwnership=Auto", "none of off, chown, map and auto"),
        ("100000:0200", "PrivateUsersOwnership=map", "no range of ids"),
    ] {
        let text = format!("[Exec]\nBoot=yes\nPrivateUsers={users}\n[Files]\n{ownership}\n");
        refused("nspawn", "m.nspawn", &text, why);
    }
}

#[test]
fn the_resource_keys_that_nspawn_ignores_are_kept() {
    let text = "[Exec]\nBoot=yes\nCPUQuota=200%\nCPUWeight=50\nMemoryMax=4G\nMemoryHigh=3G\nPrivateUsers=pick\n\
                [Files]\nBind=/srv/data\nBindReadOnly=/srv/site:/var/www\n[Network]\nVirtualEthernet=yes\nPort=tcp:80:80\n";
    let (made, _) = imported("nspawn", "web.nspawn", text, &[]);
    for line in [
        "machine web {",
        "root dir \"/var/lib/machines/web\" rw",
        "memory 4GiB high=3GiB",
        "cpu 200% weight=50",
        "bind \"/srv/data\" -> \"/srv/data\" rw",
        "bind \"/srv/site\" -> \"/var/www\" ro",
        "private",
        "publish tcp 80 -> 80",
        "egress any",
        "listen udp any",
    ] {
        assert!(made.contains(line), "{line}:\n{made}");
    }
    let ran = checked(&made);
    assert_eq!(ran.code, 0, "what is kept is enforced: {}", ran.err);
}

#[test]
fn an_imported_nspawn_machine_boots() {
    let Some(rootfs) = debian().filter(|_| root()) else { return };
    let text = "[Exec]\nBoot=yes\nEphemeral=yes\nHostname=imported\nDropCapability=CAP_SYS_CHROOT\nSystemCallFilter=~swapon\n\
                LimitNOFILE=2048\nMemoryMax=1G\nCPUQuota=150%\n[Files]\nTemporaryFileSystem=/srv:size=1M\n[Network]\n\
                VirtualEthernet=yes\nPort=tcp:18099:80\n";
    let (made, _) = imported("nspawn", &format!("{}.nspawn", name("imp")), text, &["--root", rootfs.to_str().unwrap()]);
    let ran = checked(&made);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(made.contains("remove [") && made.contains("sys_chroot"), "{made}");
    // A unit of its own ends it as soon as it runs.
    let dir = Dir::new("boots");
    let file = dir.write("m.stockade", &made);
    let mut child = stockade()
        .arg("run")
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let (mut seen, mut buffer) = (String::new(), [0; 4096]);
    while !seen.contains("login:") {
        let n = std::io::Read::read(&mut out, &mut buffer).unwrap();
        assert!(n > 0, "it ended early:\n{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    // The limits that systemd-nspawn prints "Unknown key" for hold, on either hierarchy.
    let machine = made.lines().find_map(|l| l.strip_prefix("machine ")).unwrap().trim_end_matches(" {");
    let held = ["memory/stockade/{}/memory.limit_in_bytes", "stockade/{}/memory.max"]
        .iter()
        .find_map(|f| std::fs::read_to_string(format!("/sys/fs/cgroup/{}", f.replace("{}", machine))).ok());
    assert_eq!(held.as_deref().map(str::trim), Some("1073741824"));
    assert!(std::net::TcpListener::bind("127.0.0.1:18099").is_err(), "its port is held");
    assert!(seen.contains("imported login:"), "{seen}");
    let supervisor = i32::try_from(child.id()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGTERM).unwrap();
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut out, &mut rest).unwrap();
    child.wait().unwrap();
}

/// Our list of what systemd-nspawn lets through is what it lets through.
#[test]
fn the_list_of_nspawn_is_measured() {
    let Some(rootfs) = debian().filter(|_| root()) else { return };
    let version = Command::new("systemd-nspawn").arg("--version").output();
    let Some(version) = version.ok().filter(|o| o.status.success()) else {
        return skip("systemd-nspawn is not installed");
    };
    if !String::from_utf8_lossy(&version.stdout).starts_with("systemd 252 ") {
        return skip("systemd-nspawn is not version 252, whose list this is");
    }
    let time = marker();
    let mut child = Command::new("systemd-nspawn")
        .args(["--quiet", "--register=no", "--keep-unit", "--read-only", "--private-network"])
        .args(["--private-users=1000000:65536", "--directory"])
        .arg(&rootfs)
        .args(["/bin/sleep", &time])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = sleeper(&time);
    let programs = filters(pid);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    let mut s = Store::default();
    let loaded: Vec<Node> = programs.iter().map(|p| program::of_program(&mut s, p).unwrap()).collect();
    let mut measured = BTreeSet::new();
    for c in CALLS {
        let Some(number) = ARCH.number(c.name) else { continue };
        let answer = made(&mut s, &loaded, number);
        let all = s.leaf(bpf::encode(Action::Allow));
        let allowed = placed(&mut s, all, number);
        if s.difference(answer, allowed).is_none() {
            measured.insert(c.name);
        }
    }
    assert_eq!(measured, systemd_groups::nspawn().collect::<BTreeSet<_>>());
}

#[test]
fn a_unit_becomes_a_machine_that_holds_what_it_says() {
    if !root() {
        return;
    }
    let dir = Dir::new("unit");
    let data = dir.0.join("data");
    std::fs::create_dir(&data).unwrap();
    let text = format!(
        "[Unit]\nDescription=x\n[Service]\nType=oneshot\nExecStart=/usr/bin/python3 -c \"{}\"\n\
         DynamicUser=yes\nUMask=0077\nEnvironment=A=b \"C=d e\"\nBindReadOnlyPaths={}:/srv\nPrivateNetwork=yes\n\
         RestrictAddressFamilies=AF_UNIX\nMemoryDenyWriteExecute=yes\nRestrictNamespaces=yes\nRestrictSUIDSGID=yes\n\
         RestrictRealtime=yes\nSystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n\
         SystemCallErrorNumber=EPERM\nSystemCallArchitectures=native\nProtectSystem=strict\nLimitNOFILE=64\n\
         CapabilityBoundingSet=\nRuntimeDirectory=x\n",
        "import os,socket,mmap,resource,sys\\n\
         def refused(f):\\n\
         \\ttry: f()\\n\
         \\texcept OSError as e: return e.errno\\n\
         \\treturn 0\\n\
         print(refused(lambda: socket.socket(socket.AF_INET)), refused(lambda: socket.socket(socket.AF_UNIX)),\
         refused(lambda: mmap.mmap(-1,4096,prot=7)), refused(lambda: os.chmod('/run/x',0o4755)),\
         refused(lambda: open('/srv/f','w')), os.getuid(), oct(os.umask(0)), os.environ['C'],\
         resource.getrlimit(resource.RLIMIT_NOFILE)[1], refused(lambda: os.unshare(0x10000000) if hasattr(os,'unshare') else (_ for _ in ()).throw(OSError(1,'')))  )",
        data.display()
    );
    let (made, ran) = imported("systemd", &format!("{}.service", name("unit")), &text, &[]);
    assert!(ran.err.contains("left to the service manager: [Unit], Type"), "{}", ran.err);
    let checked = checked(&made);
    assert_eq!(checked.code, 0, "{made}\n{}", checked.err);
    if !Path::new("/usr/bin/python3").exists() {
        return skip("python3 is not installed");
    }
    let ran = harness::run(&made);
    assert_eq!(ran.out.trim(), "1 0 1 1 30 65533 0o77 d e 64 1", "{made}\n{}", ran.err);
}

#[test]
fn real_units_are_imported_or_refused_by_name() {
    let Some(rootfs) = debian() else { return };
    let folder = rootfs.join("usr/lib/systemd/system");
    let (mut kept, mut named) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "service") || path.is_symlink() {
            continue;
        }
        let ran = call(&["import", "systemd", path.to_str().unwrap()]);
        match ran.code {
            0 => {
                let checked = checked(&ran.out);
                // A program may be given calls that bypass a condition: then `check` says so.
                assert!(checked.code == 0 || checked.err.contains("error[E"), "{}: {}", path.display(), checked.err);
                kept += 1;
            }
            2 => {
                assert!(ran.err.contains("line ") || ran.err.contains("ExecStart"), "{}: {}", path.display(), ran.err);
                named += 1;
            }
            other => panic!("{}: {other}", path.display()),
        }
    }
    println!("{kept} units imported, {named} refused by name");
    assert!(kept > 20, "{kept} of {}", kept + named);
    let redis = std::fs::read_to_string(folder_of(&rootfs, "redis-server")).unwrap();
    refused("systemd", "redis.service", &redis, "`NoExecPaths`");
    let without: String = redis.lines().filter(|l| !l.contains("ExecPaths=")).map(|l| format!("{l}\n")).collect();
    let (made, ran) = imported("systemd", "redis.service", &without, &[]);
    assert!(ran.err.contains("io_uring is refused"), "{}", ran.err);
    assert_eq!(checked(&made).code, 0, "{made}");
    for (text, why) in [
        ("[Service]\nExecStart=/bin/true\nProtectEverything=yes\n", "line 3: `ProtectEverything`: unknown directive"),
        ("[Service]\nExecStart=+/bin/true\n", "full privileges"),
        ("[Service]\nType=oneshot\n", "no ExecStart="),
        ("[Service]\nExecStart=/bin/true\nIPAddressDeny=10.0.0.0/8\n", "line 3: `IPAddressDeny`: of some"),
        (
            "[Service]\nExecStart=/bin/true\nIPAddressDeny=any\nIPAddressAllow=::1 10.0.0.1\n",
            "line 4: `IPAddressAllow`",
        ),
        (
            "[Service]\nExecStart=/bin/true\nIPAddressAllow=127.0.0.1/7\nIPAddressDeny=any\n",
            "`IPAddressAllow`: 127.0.0.1/7",
        ),
        ("[Service]\nExecStart=/bin/true %i\n", "specifier"),
        ("[Service]\nExecStart=/bin/true\nSystemCallFilter=@nonsense\n", "unknown group"),
        ("[Service]\nExecStart=/bin/true\nRestrictAddressFamilies=AF_NONSENSE\n", "unknown family"),
        ("[Service]\nExecStart=/bin/true\nUMask=022; mounts { bind \"/\" -> \"/e\" rw }\n", "no octal number"),
        ("[Service]\nExecStart=/bin/true\nPassEnvironment=\"X; }; mounts\"\n", "no name of a variable"),
        ("[Service]\nExecStart=/bin/true\nProcSubset=pid\n", "no counterpart"),
        ("[Service]\nExecStart=/bin/true\nDevicePolicy=strict\n", "/dev/null"),
        ("[Service]\nExecStart=/bin/true\nPrivateUsers=banana\n", "neither yes nor no"),
        ("[Service]\nExecStart=/bin/true\nSocketBindDeny=any\n", "no counterpart"),
        ("[Service]\nExecStart=/bin/true\nDeviceAllow=/dev/sda r\n", "read and written"),
        ("[Service]\nExecStart=/bin/true\nProtectHome=yes\nBindPaths=/home/data\n", "the unit closes /home"),
        ("[Service]\nExecStart=/bin/true\nInaccessiblePaths=/srv\nReadOnlyPaths=/srv/x\n", "the unit closes /srv"),
        ("[Service]\nExecStart=/bin/true\nTemporaryFileSystem=/srv\nReadOnlyPaths=/srv\n", "other rights"),
        ("[Service]\nExecStart=/bin/true\nRootDirectory=/srv/jail\nReadWritePaths=/var\n", "two trees"),
        ("[Service]\nExecStart=/bin/true\nBindPaths=/srv:/srv:norbind\n", "comes along"),
        ("[Service]\nExecStart=/bin/true\nSyslogIdentifier=x\\\\\nNonsense=1\n", "line 4: `Nonsense`"),
    ] {
        refused("systemd", "u.service", text, why);
    }
}

#[test]
fn a_unit_that_reaches_nobody_is_given_nobody() {
    for (lines, alone) in [
        ("IPAddressDeny=any", true),
        ("IPAddressDeny=0.0.0.0/0 ::/0\nIPAddressAllow=localhost 127.0.0.0/8 ::1/128", true),
        ("IPAddressDeny=any\nIPAddressDeny=", false),
        ("IPAddressAllow=10.0.0.1", false),
    ] {
        let text = format!("[Service]\nExecStart=/bin/true\n{lines}\n");
        let (made, ran) = imported("systemd", "u.service", &text, &[]);
        assert_eq!(made.contains("\n    none\n    listen"), alone, "{lines}: {made}");
        assert_eq!(ran.err.contains("nobody is, the host neither"), alone, "{}", ran.err);
        assert_eq!(checked(&made).code, 0, "{made}");
    }
}

/// What systemd 252 makes of it, never more: paths as it simplifies them, lists that a key of the same list empties,
/// places that a file system in memory hides.
#[test]
fn a_unit_is_read_as_systemd_reads_it() {
    let unit = |lines: &str| format!("[Service]\nExecStart=/bin/true\nUser=nobody\n{lines}\n");
    for (lines, why) in [
        ("InaccessiblePaths=/srv/data/\nBindPaths=/srv/data/x", "the unit closes /srv/data"),
        ("InaccessiblePaths=/srv//./data\nBindPaths=/srv/data/x", "the unit closes /srv/data"),
        ("InaccessiblePaths=/", "nothing would be left"),
        ("ReadOnlyPaths=/srv/../etc", "without `..`"),
        ("ReadWritePaths=/srv/data\nTemporaryFileSystem=/srv/data", "in memory hides it"),
        ("TemporaryFileSystem=/srv\nReadWritePaths=-/srv/data", "in memory hides it"),
        ("TemporaryFileSystem=/var\nStateDirectory=foo", "in memory hides it"),
        ("BindPaths=/srv/a:/x\nBindPaths=/srv/b:/x", "something else there"),
        ("ReadWritePaths=/var/x\nRootDirectory=/srv/jail", "two trees"),
        ("RuntimeMaxSec=1h 5min", "is no time"),
        ("StateDirectory=../x", "line 4: `StateDirectory`: `../x`: a path below /var/lib"),
        ("RuntimeDirectory=/run/x", "line 4: `RuntimeDirectory`: `/run/x`: a path below /run"),
    ] {
        refused("systemd", "u.service", &unit(lines), why);
    }
    for (lines, there, not) in [
        ("InaccessiblePaths=/lib/modules /bin/su", "hide \"/usr/lib/modules\"", "nothing"),
        ("InaccessiblePaths=/lib/modules /bin/su", "hide \"/usr/bin/su\"", "nothing"),
        ("RestrictAddressFamilies=AF_INET\nRestrictAddressFamilies=none", "deny socket\n", "family"),
        ("RestrictAddressFamilies=~AF_PACKET\nRestrictAddressFamilies=none", "deny socket\n", "family"),
        ("BindPaths=/srv/x\nBindReadOnlyPaths=", "user nobody", "/srv/x"),
        ("ReadWriteDirectories=/srv\nReadWritePaths=", "user nobody", "/srv"),
        ("MemoryMax=100M\nMemoryLimit=10G", "memory 100MiB", "10GiB"),
        ("RuntimeMaxSec=90", "time 90s", "nothing"),
        ("TemporaryFileSystem=/srv\nBindPaths=/srv/data", "bind \"/srv/data\" -> \"/srv/data\" rw", "nothing"),
    ] {
        let (made, _) = imported("systemd", "u.service", &unit(lines), &[]);
        assert!(made.contains(there) && !made.contains(not), "{lines}: {made}");
    }
    // Long files are read, or refused: what took the square of their length took many minutes for these.
    let (made, _) = imported("systemd", "u.service", &unit(&"Type=a\n".repeat(400_000)), &[]);
    assert!(made.contains("user nobody"));
    let many: String = (0..200_000).map(|i| format!("BindPaths=/a{i}\n")).collect();
    refused("systemd", "u.service", &unit(&many), "more than 1000 places");
}

fn folder_of(rootfs: &Path, unit: &str) -> String {
    rootfs.join(format!("usr/lib/systemd/system/{unit}.service")).to_str().unwrap().to_owned()
}

#[test]
fn the_bits_that_the_kernel_does_not_read() {
    let unread = |name: &str| profile::unread(stockade::kernel::calls::find(name).unwrap());
    let upper = !0xffff_ffff;
    assert_eq!(unread("socket"), [upper, upper, upper, u64::MAX, u64::MAX, u64::MAX]);
    assert_eq!(unread("chmod")[..2], [0, !0xffff]);
}

/// What three defaults let through; the rows of the table in docs/exchange.md.
const QUESTIONS: &[&str] = &[
    "bpf",
    "chmod(mode has any [S_ISUID])",
    "clone(clone_flags has any [CLONE_NEWUSER])",
    "clone3",
    "io_uring_setup",
    "ioctl(cmd == TIOCSTI)",
    "keyctl",
    "mmap(prot has all [PROT_WRITE, PROT_EXEC])",
    "mount",
    "open_by_handle_at",
    "personality(personality == ADDR_NO_RANDOMIZE)",
    "process_vm_readv",
    "ptrace",
    "setns",
    "socket(family == AF_ALG)",
    "socket(family == AF_PACKET)",
    "socket(family == AF_VSOCK)",
    "unshare",
    "userfaultfd",
];

#[test]
fn the_page_on_defaults_says_what_they_are() {
    let read = |p: &str| std::fs::read_to_string(p).unwrap_or_default();
    let docker = read("/usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json");
    let podman = read("/usr/share/containers/seccomp.json");
    if docker.is_empty() || podman.is_empty() {
        return skip("the profiles of Docker and Podman are not installed");
    }
    let names: Vec<&str> = systemd_groups::nspawn().collect();
    let either = [(0, 16), (2, 9)].map(|(index, value)| {
        let arg = json!([{ "index": index, "value": value, "op": "SCMP_CMP_NE" }]);
        json!({ "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": arg })
    });
    let nspawn = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }, either[0], either[1]],
    });
    let dir = Dir::new("page");
    let machines: Vec<(PathBuf, usize)> = [docker, podman, nspawn.to_string()]
        .iter()
        .enumerate()
        .map(|(i, source)| {
            let (text, _) = imported("docker", "d.json", source, &[]);
            let machine =
                "machine m { extends imported/d; root host; exec \"/bin/true\"; user 1; capabilities { none } }";
            let text = format!("{text}{machine}\n");
            let policy = resolved(&text);
            let mut s = Store::default();
            let runs = CALLS.iter().filter(|c| ARCH.number(c.name).is_some()).filter(|c| {
                let own: Vec<_> = policy.syscalls.iter().filter(|r| r.call.name == c.name).collect();
                let answer = intent::of_call(&mut s, &own, c.since <= policy.kernel);
                profile::runs(&mut s, answer) != FALSE
            });
            let count = runs.count();
            (dir.write(&format!("m{i}.stockade"), &text), count)
        })
        .collect();
    let page = read(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/exchange.md"));
    let mut missing = Vec::new();
    let mut row = |what: &str, cells: Vec<String>| {
        let line = format!("| {what} | {} |", cells.join(" | "));
        if !page.lines().any(|l| l == line) {
            missing.push(line);
        }
    };
    row("calls of x86-64 that run for some arguments", machines.iter().map(|(_, n)| n.to_string()).collect());
    for q in QUESTIONS {
        let cells = machines.iter().map(|(file, _)| {
            match call(&["query", &format!("m can {q}"), file.to_str().unwrap()]).code {
                0 => "yes".to_owned(),
                1 => "no".to_owned(),
                other => panic!("{q}: {other}"),
            }
        });
        row(&format!("`{q}`"), cells.collect());
    }
    assert!(missing.is_empty(), "the page has other rows:\n{}", missing.join("\n"));
}

/// One machine of a unit with these directives, as text.
fn unit(directives: &str) -> String {
    let text = format!("[Service]\nExecStart=/usr/bin/true\nUser=daemon\n{directives}\n");
    imported("systemd", "u.service", &text, &[]).0
}

#[test]
fn directives_are_read_as_systemd_reads_them() {
    let can = |text: &str, what: &str| {
        let dir = Dir::new("asks");
        let file = dir.write("u.stockade", text);
        match call(&["query", &format!("u can {what}"), file.to_str().unwrap()]).code {
            0 => true,
            1 => false,
            other => panic!("{what}: {other}"),
        }
    };
    // A first line without `~` makes a list of what is allowed, whatever it names.
    for list in ["mount:EPERM", "swapcontext"] {
        let text = unit(&format!("SystemCallFilter={list}"));
        assert!(
            !text.contains("extends") && !can(&text, "mount") && !can(&text, "socket(family == AF_INET)"),
            "{list}"
        );
    }
    // An empty value takes back what was said, for calls as for names and groups.
    let text = unit(
        "SystemCallFilter=@mount\nSystemCallFilter=\nSystemCallFilter=@basic-io\nSupplementaryGroups=disk\nSupplementaryGroups=",
    );
    assert!(!can(&text, "mount") && can(&text, "read") && !text.contains("disk"), "{text}");
    // What is taken away stays away, @default included.
    let text = unit("SystemCallFilter=@system-service\nSystemCallFilter=~prlimit64 getrandom");
    assert!(!can(&text, "prlimit64") && !can(&text, "getrandom") && can(&text, "openat"), "{text}");
    let list = "SystemCallFilter=@system-service personality sethostname syslog\n";
    for (directive, what) in [
        ("LockPersonality=yes", "personality(personality == 8)"),
        ("ProtectHostname=yes", "sethostname"),
        ("ProtectKernelLogs=yes", "syslog"),
        ("DynamicUser=yes", "chmod(mode == 0o4755)"),
        ("RestrictRealtime=yes", "sched_setscheduler(policy == 0x40000001)"),
        ("RestrictNamespaces=~user", "setns(flags == 0)"),
    ] {
        assert!(can(&unit(list), what), "{directive}");
        assert!(!can(&unit(&format!("{list}{directive}")), what), "{directive}");
    }
    let text = unit("RestrictAddressFamilies=AF_UNIX\nRestrictAddressFamilies=AF_INET");
    assert!(can(&text, "socket(family == AF_UNIX)") && can(&text, "socket(family == AF_INET)"));
    assert!(unit("LimitNICE=+19").contains("nice 1\n"));
    assert!(!unit("PrivateTmp=yes\nReadWritePaths=/tmp").contains("bind \"/tmp\""));
    assert!(
        unit("RuntimeDirectory=x\nBindReadOnlyPaths=/usr/share:/srv").contains("bind \"/usr/share\" -> \"/srv\" ro")
    );
}

/// Each of these let through, or showed, what the source keeps out.
#[test]
fn what_the_source_keeps_out_in_other_words_stays_out() {
    let unit = |lines: &str| format!("[Service]\nExecStart=/usr/bin/true\n{lines}\n");
    // /bin and its like have lines of their own in ProtectSystem=, which win.
    for lines in ["ProtectSystem=full\nReadWritePaths=/usr/lib", "ProtectSystem=yes\nTemporaryFileSystem=/bin"] {
        refused("systemd", "x.service", &unit(lines), "keeps it read-only");
    }
    for (lines, why) in [
        ("LimitNICE=-3:+5", "above the hard one"),
        ("LimitNICE=-08", "read as octal"),
        ("LimitNICE=-21", "no nice level"),
        ("RuntimeDirectory=x\nRuntimeDirectoryMode=x", "no mode"),
    ] {
        refused("systemd", "x.service", &unit(lines), why);
    }
    let made = |lines: &str| imported("systemd", "x.service", &unit(lines), &[]);
    assert!(made("RuntimeDirectory=x\nRuntimeDirectoryMode=0700").0.contains("tmpfs \"/run/x\" mode=0700 owner=root"));
    assert!(made("StateDirectory=x\nStateDirectoryMode=0700").1.err.contains("`chmod 0700`"));
    // The tree's own /run isn't seen below a root folder.
    assert!(made("RootDirectory=/srv/tree").0.contains("tmpfs \"/run\" mode=0755"));
    // Skipped by who makes a filter of names.
    let (text, ran) = made("SystemCallFilter=@system-service mseal");
    assert!(!text.contains("mseal") && ran.err.contains("no name for these"), "{}", ran.err);
    let (_, ran) = imported(
        "nspawn",
        "x.nspawn",
        "[Exec]\nBoot=yes\nSystemCallFilter=mseal\nPrivateUsers=pick\n",
        &["--root", "/srv/x"],
    );
    assert!(ran.err.contains("no name for these"), "{}", ran.err);

    // A refusal of another kind than the default's is kept by a runtime, and stands before what allows.
    let profile = |default: Value, kind: &str| {
        let mut v = json!({ "syscalls": [
            { "names": ["mount"], "action": kind },
            { "names": ["mount", "read", "execve", "exit_group"], "action": "SCMP_ACT_ALLOW" },
        ] });
        v.as_object_mut().unwrap().extend(default.as_object().unwrap().clone());
        v.to_string()
    };
    let kill = |word: &str| json!({ "defaultAction": word });
    let enosys = json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38 });
    for (default, kind) in [
        (kill("SCMP_ACT_KILL_PROCESS"), "SCMP_ACT_KILL_THREAD"),
        (kill("SCMP_ACT_KILL_PROCESS"), "SCMP_ACT_TRAP"),
        (enosys, "SCMP_ACT_TRACE"),
    ] {
        refused("docker", "p.json", &profile(default, kind), "in another way than by `defaultAction`");
    }
    // The default's own is left out.
    let (text, _) = imported("docker", "p.json", &profile(kill("SCMP_ACT_KILL"), "SCMP_ACT_KILL_THREAD"), &[]);
    assert!(text.contains("mount"), "{text}");
    let two = json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "EPERM" });
    refused("docker", "p.json", &profile(two, "SCMP_ACT_ERRNO"), "two errnos");
}

/// Directives took away what the policy grants, and devices were shown that nobody could open, without a word.
#[test]
fn what_an_export_takes_away_is_told() {
    if !root() {
        return;
    }
    let Some(rootfs) = debian() else { return };
    let dir = Dir::new("taken");
    let of = |capabilities: &str, calls: &str| {
        let text = format!(
            "policy 1\nkernel 6.18\nmachine m {{\n  root dir \"{}\" ro\n  exec \"/bin/true\"\n  user root\n  userns identity why \"t\"\n  \
             capabilities {{ {capabilities} }}\n  devices {{ allow \"/dev/fuse\" why \"t\" }}\n  \
             syscalls {{ allow [execve, exit_group, {calls}] why \"t\" }}\n}}\n",
            rootfs.display()
        );
        dir.write("m.stockade", &text)
    };
    let unit =
        |capabilities: &str, calls: &str| call(&["export", "systemd", of(capabilities, calls).to_str().unwrap()]);
    let directives = |ran: &Ran| -> Vec<String> { ran.out.lines().map(str::to_owned).collect() };
    let quiet = unit("none", "read");
    for (key, capabilities, calls) in [
        ("ProtectClock", "none", "clock_settime"),
        ("ProtectClock", "keep sys_time why \"t\"", "read"),
        ("ProtectKernelLogs", "none", "syslog"),
        ("ProtectKernelModules", "none", "delete_module"),
        ("ProtectHostname", "none", "sethostname"),
        ("LockPersonality", "none", "personality"),
        ("RestrictSUIDSGID", "none", "open"),
        ("RestrictSUIDSGID", "none", "creat"),
    ] {
        let line = format!("{key}=yes");
        assert!(directives(&quiet).contains(&line), "{key}: {}", quiet.out);
        let ran = unit(capabilities, calls);
        assert!(ran.code == 1 && !directives(&ran).contains(&line), "{key}: {}{}", ran.out, ran.err);
    }
    let ran = unit("keep mknod why \"t\"", "iopl, mseal");
    for told in ["PrivateDevices= refuses @raw-io", "/run is memory of its own", "no name for these"] {
        assert!(ran.err.contains(told), "{told}: {}", ran.err);
    }
    assert!(directives(&ran).contains(&"PrivateDevices=yes".to_owned()));
    assert!(!quiet.err.contains("PrivateDevices= refuses"), "{}", quiet.err);
    let ran = call(&["export", "oci", of("none", "read").to_str().unwrap()]);
    let config: Value = serde_json::from_str(&ran.out).unwrap();
    let devices = &config["linux"]["resources"]["devices"];
    assert_eq!(devices[0], json!({ "allow": false, "access": "rwm" }));
    assert_eq!(devices[1], json!({ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" }));
    let dev = config["mounts"].as_array().unwrap().iter().find(|m| m["destination"] == "/dev").unwrap();
    assert!(!dev["options"].as_array().unwrap().contains(&json!("nodev")), "runc opens the nodes that it makes");
}

/// What `check` would say of an import is said by it.
#[test]
fn an_imported_profile_says_what_check_refuses() {
    let args: Vec<Value> = [0, 8].map(|v| json!({ "index": 0, "op": "SCMP_CMP_EQ", "value": v })).to_vec();
    let text = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": args },
        { "names": ["execve", "exit_group"], "action": "SCMP_ACT_ALLOW" },
    ] });
    let (_, ran) = imported("docker", "p.json", &text.to_string(), &["--as", "intent"]);
    assert!(ran.err.contains("`check` refuses it: E0405"), "{}", ran.err);
}

#[test]
fn an_import_is_bounded_in_time() {
    let args: Vec<Value> = (0..26).map(|i| json!({ "index": 0, "op": "SCMP_CMP_GE", "value": i })).collect();
    let one = json!({ "names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": args });
    let text = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [one] }).to_string();
    refused("docker", "many.json", &text, "more than 12 comparisons");
    // Two ranges each, and every pair of them would be a rule.
    let args: Vec<Value> = (0..12).map(|i| json!({ "index": 0, "op": "SCMP_CMP_GE", "value": 5 + i })).collect();
    let one = json!({ "names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": args });
    let text = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [one] }).to_string();
    let (text, ran) = imported("docker", "many.json", &text, &["--as", "intent"]);
    assert!(ran.err.contains("too many alternatives") && !text.contains("allow kill"), "{} {text}", ran.err);
    let each = |i: u64| json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "op": "SCMP_CMP_EQ", "value": i }] });
    let text = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": (0..8000).map(each).collect::<Vec<_>>() });
    refused("docker", "many.json", &text.to_string(), "more than 64 entries for `read`");
    let text =
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["a\u001b[31m"], "action": "SCMP_ACT_ALLOW"}]}"#;
    refused("docker", "odd.json", text, "is no name of a call");
}

/// What only some kernels grant is granted on none that may be another.
#[test]
fn conditions_on_the_kernel_are_read_narrowly() {
    let entry = |action: &str, key: &str, release: &str| {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {{"names": ["ptrace"], "action": "{action}", "{key}": {{"minKernel": "{release}"}}}}]}}"#
        );
        let default =
            if action == "SCMP_ACT_ALLOW" { text.replacen("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", 1) } else { text };
        imported("docker", "k.json", &default, &["--kernel", "5.10"]).0
    };
    assert!(entry("SCMP_ACT_ALLOW", "includes", "4.8").contains("allow ptrace"));
    assert!(!entry("SCMP_ACT_ALLOW", "includes", "6.1").contains("allow ptrace"));
    assert!(!entry("SCMP_ACT_ALLOW", "excludes", "6.1").contains("allow ptrace"));
    assert!(entry("SCMP_ACT_ERRNO", "includes", "6.1").contains("deny ptrace"));
    assert!(entry("SCMP_ACT_ERRNO", "excludes", "5.0").contains("deny ptrace"));
}

/// Root inside is a stranger to files of the host that are bound without `idmap`, there as here.
#[test]
fn binds_of_nspawn_keep_their_owners() {
    let Some(rootfs) = debian().filter(|_| root()) else { return };
    let dir = Dir::new("bind");
    std::fs::create_dir(dir.0.join("d")).unwrap();
    let secret = dir.write("d/secret", "of the host's root");
    std::os::unix::fs::chown(&secret, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = |users: &str, option: &str| {
        format!(
            "[Exec]\nParameters=/bin/cat /srv/secret\nUser=root\nPrivateUsers={users}\nEphemeral=yes\n[Files]\nReadOnly=yes\n\
             BindReadOnly={}:/srv{option}\n",
            dir.0.join("d").display()
        )
    };
    let ran = |users: &str, option: &str| {
        let file = format!("{}.nspawn", name("own"));
        let (made, _) = imported("nspawn", &file, &text(users, option), &["--root", rootfs.to_str().unwrap()]);
        assert!(made.contains("\" ro\n"), "a read-only root stays one:\n{made}");
        (harness::run(&made), made.contains("noidmap"))
    };
    let (cat, strange) = ran("pick", "");
    assert!(strange && cat.code == 1 && cat.err.contains("Permission denied"), "{} {}", cat.code, cat.err);
    for (users, option) in [("pick", ":idmap"), ("no", "")] {
        let (cat, strange) = ran(users, option);
        assert!(!strange && cat.out == "of the host's root", "{users}: {}", cat.err);
    }
}

/// What the library's profiles are stricter in stays so, and a profile's own errno is kept.
#[test]
fn limits_and_errnos_of_the_source() {
    for value in ["infinity", "1G"] {
        let (text, ran) =
            imported("systemd", "u.service", &format!("[Service]\nExecStart=/usr/bin/true\nLimitCORE={value}\n"), &[]);
        assert!(ran.code == 0 && !text.contains("core ") && ran.err.contains("none here"), "{text}{}", ran.err);
        assert!(resolved(&text).limits.iter().any(|(n, l)| n == "core" && l.value == 0), "{text}");
    }
    let profile = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [
        {"names": ["execve", "read"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let (text, ran) = imported("docker", "p.json", profile, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let unknown = profile.replace("\"syscalls\"", "\"architectures\": [\"bogus\"], \"syscalls\"");
    refused("docker", "p.json", &unknown, "unknown architecture `bogus`");
    let rule = text.split("deny [").nth(1).unwrap();
    assert!(rule.contains("clone,") && rule.contains("] errno ENOSYS"), "{text}");
}

#[test]
fn what_a_unit_or_pod_cannot_say_is_an_error_or_a_loss() {
    let machine = |body: &str| {
        let dir = Dir::new("odd");
        let text = format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine m {{\n  extends std/daemon\n  root host\n  \
             exec \"/usr/bin/true\" \"$(x)\"\n  user nobody\n  capabilities {{ none }}\n{body}\n}}\n"
        );
        let file = dir.write("m.stockade", &text);
        let to = |kind: &[&str]| call(&[&["export"], kind, &[file.to_str().unwrap()]].concat());
        (to(&["systemd"]), to(&["kubernetes", "--image", "i"]))
    };
    for body in ["  about \"x\\n[Service]\\nExecStartPre=+/bin/sh\"", "  chdir \"/usr\\\\\""] {
        let (unit, _) = machine(body);
        let fine = unit.code == 2 && unit.out.is_empty() && unit.err.contains("can't be written in a unit");
        assert!(fine, "{} {} {}", unit.code, unit.out, unit.err);
    }
    let (unit, pod) =
        machine("  mounts { tmpfs \"/srv\" ro }\n  umask 077\n  network { host why \"test\"; listen tcp any }");
    assert!(unit.out.contains("TemporaryFileSystem=/srv:ro,"), "{} {}", unit.out, unit.err);
    for line in ["groups: those that", "abstract Unix sockets", "variables of its own"] {
        assert!(unit.err.contains(line), "{line}: {}", unit.err);
    }
    assert!(pod.err.contains("umask 077") && pod.err.contains("abstract Unix sockets"), "{}", pod.err);
    assert!(pod.out.contains("$$(x)"), "{}", pod.out);
}

/// A machine that is ended with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// The filters that systemd really loads for a directive keep out whatever our reading of it keeps out... and
/// what an import of the unit lets through they let through: read from the kernel under a booted systemd.
#[test]
fn our_model_of_systemd_is_what_systemd_loads() {
    let Some(rootfs) = debian().filter(|_| root()) else { return };
    let units = [
        // Nothing of its own: what it has is the machine's.
        "",
        "RestrictAddressFamilies=AF_UNIX AF_INET",
        "RestrictAddressFamilies=~AF_PACKET AF_NETLINK",
        "RestrictAddressFamilies=none",
        "RestrictNamespaces=yes",
        "RestrictNamespaces=~user net",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "MemoryDenyWriteExecute=yes",
        "LockPersonality=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectClock=yes",
        "SystemCallFilter=@system-service\nSystemCallErrorNumber=EPERM",
        "SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources getrandom\nSystemCallErrorNumber=EPERM",
        "SystemCallFilter=~@clock @mount\nSystemCallFilter=clock_settime\nSystemCallErrorNumber=EPERM",
        "SystemCallFilter=@system-service mount:EPERM\nSystemCallErrorNumber=EPERM",
    ];
    let dir = Dir::new("units");
    let wants = dir.0.join("multi-user.target.wants");
    std::fs::create_dir(&wants).unwrap();
    let markers: Vec<String> = units.iter().map(|_| marker()).collect();
    for (i, (directives, time)) in units.iter().zip(&markers).enumerate() {
        let text = format!("[Service]\nExecStart=/bin/sleep {time}\nNoNewPrivileges=yes\n{directives}\n");
        dir.write(&format!("measured-{i}.service"), &text);
        std::os::unix::fs::symlink(format!("../measured-{i}.service"), wants.join(format!("measured-{i}.service")))
            .unwrap();
    }
    let policy = format!(
        "policy 1\nkernel 6.12\nimport \"std/os\"\nmachine {} {{\n  extends std/os\n  root dir \"{}\" ephemeral\n  \
         mounts {{ bind \"{}\" -> \"/usr/local/lib/systemd/system\" ro }}\n}}\n",
        name("measured"),
        rootfs.display(),
        dir.0.display()
    );
    let file = dir.write("measured.stockade", &policy);
    let running = Running(
        stockade()
            .arg("run")
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let read: Vec<Vec<Vec<Instruction>>> = markers.iter().map(|m| filters(sleeper(m))).collect();
    drop(running);
    // The machine's own were loaded first, and come first.
    let inherited = read[0].len();
    for (directives, mut programs) in units.iter().zip(read).skip(1) {
        programs.drain(..inherited);
        assert!(!programs.is_empty(), "{directives}: systemd loaded nothing");
        // With all that the directives are about granted, so that each has something to keep out.
        let granted = "SystemCallFilter=@system-service @clock @module @raw-io @resources @mount sethostname \
                       setdomainname syslog personality setns unshare\n";
        let made_here = match directives.starts_with("SystemCallFilter") {
            true => unit(directives),
            false => unit(&format!("{granted}{directives}")),
        };
        let policy = resolved(&made_here);
        let mut s = Store::default();
        let loaded: Vec<Node> = programs.iter().map(|p| program::of_program(&mut s, p).unwrap()).collect();
        // A name that Debian's libseccomp doesn't know yet is in its lists, and not in its filters.
        for c in CALLS.iter().filter(|c| ARCH.number(c.name).is_some() && c.since <= (5, 16)) {
            let number = ARCH.number(c.name).unwrap();
            let theirs = made(&mut s, &loaded, number);
            let theirs = s.combine(theirs, FALSE, &|a, _| u32::from(a != u32::MAX && bpf::decode(a) <= Action::Log));
            let reached = s.some(theirs, &profile::unread(c));
            let own: Vec<_> = policy.syscalls.iter().filter(|r| r.call.name == c.name).collect();
            let answer = intent::of_call(&mut s, &own, c.since <= policy.kernel);
            let ours = profile::runs(&mut s, answer);
            let ours = placed(&mut s, ours, number);
            let ours = s.combine(ours, FALSE, &|a, _| u32::from(a == 1));
            let not = s.not(reached);
            let beyond = s.and(ours, not);
            if let Some(v) = s.difference(beyond, FALSE) {
                panic!("{directives}: the import lets through {}, systemd's filter doesn't", witness(c.name, &v));
            }
        }
    }
}

/// Found by a hostile review: each widened what the file says, or said too little.
#[test]
fn what_a_file_keeps_out_stays_out() {
    // An empty value takes a list back, and nothing else.
    for key in [
        "PrivateNetwork=yes",
        "MemoryDenyWriteExecute=yes",
        "RestrictSUIDSGID=yes",
        "ProtectClock=yes",
        "LimitNOFILE=64",
        "RuntimeMaxSec=5",
        "UMask=0077",
        "ProtectSystem=strict",
        "MemoryMax=1G",
    ] {
        let name = key.split('=').next().unwrap();
        let text = format!("[Service]\nExecStart=/bin/true\n{key}\n{name}=\n");
        refused("systemd", "u.service", &text, "an empty value takes nothing back");
    }
    for (section, key) in [
        ("Exec", "DropCapability=CAP_SYS_ADMIN"),
        ("Exec", "Capability=CAP_NET_ADMIN"),
        ("Exec", "SystemCallFilter=~@mount"),
        ("Exec", "LimitNOFILE=64"),
        ("Files", "Inaccessible=/etc/secret"),
        ("Files", "ReadOnly=yes"),
        ("Network", "Private=yes"),
    ] {
        let name = key.split('=').next().unwrap();
        let text = format!("[Exec]\nBoot=yes\n[{section}]\n{key}\n{name}=\n");
        refused("nspawn", "m.nspawn", &text, "an empty value takes nothing back");
    }
    refused("nspawn", "m.nspawn", "[Exec]\nBoot=yes\n[Foo]\nMemoryMax=1G\n", "unknown section [Foo]");
    // Only these blanks end a value.
    refused("systemd", "u.service", "[Service]\nExecStart=/bin/true\nPrivateNetwork=\u{a0}no\n", "neither yes nor no");
    // What is closed below the kernel's own folders.
    let text = unit("InaccessiblePaths=/dev/shm /sys/class /proc/cpuinfo /dev/kvm");
    for place in ["/dev/shm", "/sys/class", "/proc/cpuinfo"] {
        assert!(text.contains(&format!("hide \"{place}\"")), "{text}");
    }
    assert!(!text.contains("/dev/kvm"), "{text}");
    // The switches take capabilities as well.
    let all = "CAP_SYS_MODULE CAP_SYSLOG CAP_SYS_TIME CAP_WAKE_ALARM CAP_MKNOD CAP_SYS_RAWIO CAP_CHOWN";
    let switches =
        "ProtectKernelModules=yes\nProtectKernelLogs=yes\nProtectClock=yes\nPrivateDevices=yes\nInaccessiblePaths=/srv";
    let text = format!("[Service]\nExecStart=/usr/bin/true\nCapabilityBoundingSet={all}\n{switches}\n");
    let text = imported("systemd", "u.service", &text, &[]).0;
    assert!(text.contains("keep chown") && text.matches("keep ").count() == 1, "{text}");
    assert!(text.contains("hide \"/usr/lib/modules\""), "{text}");
    // A list after the full set replaces it, one after another list adds to it.
    for (lines, kept) in [
        ("CapabilityBoundingSet=~\nCapabilityBoundingSet=CAP_KILL", &["kill"][..]),
        ("CapabilityBoundingSet=CAP_CHOWN\nCapabilityBoundingSet=~\nCapabilityBoundingSet=CAP_KILL", &["kill"]),
        ("CapabilityBoundingSet=CAP_CHOWN\nCapabilityBoundingSet=CAP_KILL", &["chown", "kill"]),
        ("CapabilityBoundingSet=CAP_CHOWN CAP_KILL\nCapabilityBoundingSet=~CAP_KILL", &["chown"]),
        ("CapabilityBoundingSet=CAP_CHOWN\nCapabilityBoundingSet=\nCapabilityBoundingSet=CAP_KILL", &["kill"]),
        ("CapabilityBoundingSet=CAP_CHOWN\nCapabilityBoundingSet=~CAP_CHOWN", &[]),
    ] {
        let text = format!("[Service]\nExecStart=/usr/bin/true\n{lines}\n");
        let text = imported("systemd", "u.service", &text, &[]).0;
        assert_eq!(text.matches("keep ").count(), kept.len(), "{lines}: {text}");
        assert!(kept.iter().all(|c| text.contains(&format!("keep {c} "))), "{lines}: {text}");
    }
    assert!(unit("MemoryLimit=1G\nMemoryMax=infinity").contains("memory 1GiB"));
    let text = unit("AmbientCapabilities=CAP_SYS_TIME\nProtectClock=yes");
    assert!(!text.contains("sys_time"), "{text}");
    let text = unit("Environment=LD_PRELOAD=/x.so A=1 B=2\nPassEnvironment=C\nUnsetEnvironment=LD_PRELOAD B=2 C");
    assert!(text.contains("set A \"1\"") && !text.contains("LD_PRELOAD") && !text.contains("set B"), "{text}");
    assert!(!text.contains("pass C"), "{text}");
    for (name, told) in [("myname", true), ("true", false)] {
        let unit = format!("[Service]\nUser=daemon\nExecStart=-@/usr/bin/true {name} a\n");
        let (text, notes) = imported("systemd", "u.service", &unit, &[]);
        assert!(text.contains("exec \"/usr/bin/true\" \"a\""), "{text}");
        assert_eq!(notes.err.contains("it is called `myname` there"), told, "{}", notes.err);
    }
    for (directives, why) in [
        ("ProtectSystem=full\nReadWritePaths=/etc", "keeps it read-only"),
        ("ProtectSystem=yes\nBindPaths=/usr", "keeps it read-only"),
        ("ProtectSystem=strict\nReadWritePaths=/", "keeps it read-only"),
        ("ProtectHome=read-only\nReadWritePaths=/home", "keeps it read-only"),
        ("InaccessiblePaths=/dev/kvm\nDeviceAllow=/dev/kvm rw", "/dev/kvm: a device that the machine has"),
        ("ProtectKernelLogs=yes\nDeviceAllow=/dev/kmsg rw", "/dev/kmsg: a device that the machine has"),
        ("InaccessiblePaths=/dev", "/dev: a device that the machine has"),
        ("InaccessiblePaths=/var/run\nReadWritePaths=/run/foo", "the unit closes /run"),
        ("InaccessiblePaths=/var//run/foo\nReadWritePaths=/run/foo", "the unit closes /run/foo"),
        ("InaccessiblePaths=/run/lock\nReadWritePaths=/var/lock", "the unit closes /run/lock"),
        ("PrivateTmp=yes\nInaccessiblePaths=/tmp", "PrivateTmp= puts a folder"),
        ("PrivateTmp=yes\nInaccessiblePaths=/var", "PrivateTmp= puts a folder"),
        ("DynamicUser=yes\nReadWritePaths=/home", "keeps it read-only"),
        ("DynamicUser=yes\nProtectHome=no\nReadWritePaths=/root", "keeps it read-only"),
        ("DynamicUser=yes\nProtectSystem=no\nReadWritePaths=/", "keeps it read-only"),
        ("DynamicUser=yes\nReadWritePaths=/run/user/1", "closes /run/user"),
        ("SystemCallFilter=\"@mount\"", "quotes and backslashes belong to the text there"),
        ("RestrictAddressFamilies='AF_INET'", "quotes and backslashes belong to the text there"),
        ("ReadWritePaths=/srv/a\\sb", "a backslash is no escape there"),
        ("InaccessiblePaths=/etc/a\\sb", "a backslash is no escape there"),
        ("RuntimeMaxSec=0", "0 is no time at all there"),
    ] {
        refused("systemd", "u.service", &format!("[Service]\nExecStart=/bin/true\n{directives}\n"), why);
    }
    // What lies in what is kept may be written to, and what is given up again as well.
    for fine in
        ["ProtectSystem=full\nReadWritePaths=/etc/app", "ProtectSystem=full\nProtectSystem=no\nReadWritePaths=/etc"]
    {
        assert!(unit(fine).contains(" rw"), "{fine}");
    }
    // Docker compares names as they are written.
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"],"action":"SCMP_ACT_ERRNO","excludes":{"caps":["CAP_chown"]}}]}"#;
    refused("docker", "p.json", profile, "unknown capability");
    // A fifo isn't waited for.
    let dir = Dir::new("fifo");
    let fifo = dir.0.join("p.json");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let ran = call(&["import", "docker", fifo.to_str().unwrap()]);
    assert!(ran.code == 2 && ran.err.contains("no regular file"), "{}", ran.err);
}

/// Likewise of what is written for others.
#[test]
fn losses_that_were_not_named() {
    let machine = |body: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/groups\"\nmachine m {{\n  root host\n  exec \"/usr/bin/true\" \"a$$b $(PATH) $\"\n{body}\n  syscalls {{ allow @system-service }}\n}}\n"
        )
    };
    let export = |arguments: &[&str], body: &str| {
        let dir = Dir::new("export");
        let file = dir.write("m.stockade", &machine(body));
        call(&[&["export"], arguments, &[file.to_str().unwrap()]].concat())
    };
    // systemd keeps one of several lines for a place, and it isn't the tmpfs.
    let tmpfs =
        "  user nobody\n  capabilities { none }\n  mounts { tmpfs \"/w\" size=1MiB; tmpfs \"/x\" size=1MiB exec }";
    let ran = export(&["systemd"], tmpfs);
    assert!(ran.out.contains("TemporaryFileSystem=/w:rw,noexec,nosuid,size="), "{}", ran.out);
    assert!(ran.out.contains("TemporaryFileSystem=/x:rw,nosuid,size="), "{}", ran.out);
    assert!(!ran.out.contains("NoExecPaths=/w") && ran.out.contains("ProtectHome=read-only"), "{}", ran.out);
    for loss in ["/dev/shm is the host's", "cgroup namespace", "loopback is up"] {
        assert!(ran.err.contains(loss), "{loss}: {}", ran.err);
    }
    // Nor is it one over a home that ProtectHome= would keep read-only: the other homes are closed one by one.
    let ran = export(&["systemd"], "  user nobody\n  capabilities { none }\n  mounts { tmpfs \"/root\" }");
    assert!(!ran.out.contains("ProtectHome=") && !ran.out.contains("ReadOnlyPaths=-/root"), "{}", ran.out);
    assert!(ran.out.contains("ReadOnlyPaths=-/home\nReadOnlyPaths=-/run/user\n"), "{}", ran.out);
    let host = "  user nobody\n  capabilities { none }\n  hostname quiet\n  network { host why \"x\"; listen tcp any; connect tcp any }";
    let ran = export(&["kubernetes", "--image", "i"], host);
    assert!(ran.err.contains("lost: hostname: `quiet` isn't set"), "{}", ran.err);
    let dir = Dir::new("bundle");
    let linked = |network: &str| {
        let body = format!("  user 1000 group 1000\n  capabilities {{ none }}\n  network {{ {network} }}");
        let root = format!("root dir \"{}\"", harness::debian().unwrap().display());
        let file = dir.write("b.stockade", &machine(&body).replace("root host", &root));
        call(&["export", "oci", file.to_str().unwrap()]).err
    };
    for network in ["private", "zone web"] {
        assert!(linked(network).contains(&format!("lost: network: no `{network}`")), "{}", linked(network));
    }
    assert!(linked("none").contains("lost: environment: the runtime sets HOME"), "{}", linked("none"));
    let ran = export(&["kubernetes", "--image", "i"], "  user root\n  capabilities { none }");
    assert!(ran.err.contains("lost: securebits"), "{}", ran.err);
    for loss in ["limits: core 0", "gate UserNamespacesSupport", "/dev is a file system", "KUBERNETES_*"] {
        assert!(ran.err.contains(loss), "{loss}: {}", ran.err);
    }
    // Each `$` is doubled: the kubelet makes one of two.
    let pod: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["args"], json!(["a$$$$b $$(PATH) $$"]), "{}", ran.out);
}

/// Found by a hostile review, each against systemd or systemd-nspawn 252: what was imported was more than the file
/// grants, or something else.
#[test]
fn what_a_file_does_not_grant_is_not_imported() {
    let dir = Dir::new("links");
    let at = |name: &str| dir.0.join(name).display().to_string();
    for folder in ["data/secret", "empty", "tree/etc"] {
        std::fs::create_dir_all(dir.0.join(folder)).unwrap();
    }
    std::os::unix::fs::symlink("data/secret", dir.0.join("link")).unwrap();
    let service = |lines: &str| format!("[Service]\nExecStart=/usr/bin/true\n{lines}\n");
    // What is mounted over a link covers what the link leads to.
    for over in
        [format!("TemporaryFileSystem={}", at("link")), format!("BindReadOnlyPaths={}:{}", at("empty"), at("link"))]
    {
        refused("systemd", "u.service", &service(&format!("ReadOnlyPaths={}\n{over}", at("data"))), "a link leads to");
    }
    // Below a root folder a name of a user is another's.
    let rooted = |user: &str| service(&format!("RootDirectory={}\nUser={user}", at("tree")));
    refused("systemd", "u.service", &rooted("www-data"), "write the number");
    imported("systemd", "u.service", &rooted("1000\nGroup=1000"), &[]);
    refused("systemd", "u.service", &service("UnsetEnvironment=PATH"), "every machine has PATH");
    refused("systemd", "u.service", &service("StateDirectory=foo:bar"), "no link to it is made");
    // After `:` a dollar is a dollar.
    let text = "[Service]\nExecStart=:/bin/sh -c \"echo $$ $HOME\"\n";
    assert!(imported("systemd", "u.service", text, &[]).0.contains("\"echo $$ $HOME\""));
    // All faults at once.
    let many = service(
        "IPAddressDeny=10.0.0.0/8\nReadWritePaths=/srv\nReadOnlyPaths=/srv/x\nFoo=1\nReadOnlyPaths=/var\nReadWritePaths=/var/x",
    );
    for fault in ["`Foo`", "`IPAddressDeny`", "/srv/x: it lies over", "/var/x: it lies over"] {
        refused("systemd", "u.service", &many, fault);
    }
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["read"], "action": "X"}, {"names": ["write"], "action": "Y"}]});
    for fault in ["entry 1", "entry 2"] {
        refused("docker", "p.json", &profile.to_string(), fault);
    }
    // A drop-in isn't read, which is said.
    let file = dir.write("d.service", &service(""));
    std::fs::create_dir(dir.0.join("d.service.d")).unwrap();
    assert!(call(&["import", "systemd", file.to_str().unwrap()]).err.contains("d.service.d isn't read"));
    // A file beside its image may have come with it.
    let binds = "[Exec]\nBoot=yes\n[Files]\nBindReadOnly=/srv\n[Network]\nZone=web\n";
    let file = dir.write("tree.nspawn", binds);
    let beside = call(&["import", "nspawn", file.to_str().unwrap(), "--root", &at("tree")]);
    let said = beside.err.contains("line 4: `BindReadOnly`: has no effect") && beside.err.contains("line 6: `Zone`");
    assert!(beside.code == 2 && said, "{}", beside.err);
    assert_eq!(call(&["import", "nspawn", file.to_str().unwrap(), "--root", "/srv/tree"]).code, 0);
    let (text, _) = imported("nspawn", "n.nspawn", "[Exec]\nBoot=yes\nDropCapability=all\n", &["--root", "/srv/tree"]);
    assert!(resolved(&text).capabilities.is_empty(), "{text}");
}

/// Who answers names is said, or its loss.
#[test]
fn an_export_keeps_the_resolver_or_says_so() {
    let dir = Dir::new("resolver");
    let export = |resolver: &str, kind: &[&str]| {
        let text = format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine m {{\n  extends std/daemon\n  root host\n  \
             exec \"/usr/bin/true\"\n  user 1000 group 1000\n  capabilities {{ none }}\n  network {{ private{resolver} }}\n}}\n"
        );
        let file = dir.write("m.stockade", &text);
        call(&[&["export"], kind, &[file.to_str().unwrap()]].concat())
    };
    let pod = ["kubernetes", "--image", "i"];
    for (resolver, policy, servers, lost) in [
        ("; resolver 192.0.2.53", "None", json!(["192.0.2.53"]), false),
        ("; resolver [192.0.2.1, 192.0.2.2]", "None", json!(["192.0.2.1", "192.0.2.2"]), false),
        ("; resolver host", "Default", json!([]), false),
        ("; resolver none", "Default", json!([]), true),
    ] {
        let ran = export(resolver, &pod);
        let spec: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{resolver}: {}", ran.err));
        let spec = &spec["spec"];
        assert_eq!((&spec["dnsPolicy"], &spec["dnsConfig"]["nameservers"]), (&json!(policy), &servers), "{resolver}");
        assert_eq!(ran.err.contains("lost: resolver:"), lost, "{resolver}: {}", ran.err);
        let unit = export(resolver, &["systemd"]);
        assert_eq!(unit.err.contains("lost: resolver:"), resolver != "; resolver host", "{resolver}: {}", unit.err);
    }
}

/// What is read-only here with all that is mounted below, and what is closed below a root folder, is so there.
#[test]
fn an_export_closes_the_same_places() {
    let dir = Dir::new("places");
    let root = dir.0.join("tree");
    std::fs::create_dir_all(root.join("usr/bin")).unwrap();
    let text = format!(
        "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine m {{\n  extends std/daemon\n  root dir \"{0}\" ro\n  \
         exec \"/usr/bin/true\"\n  user 0 group 0\n  capabilities {{ none }}\n  \
         mounts {{ bind \"{1}\" -> \"/data\" ro; bind \"{1}\" -> \"/more\" rw; hide \"/secret\" }}\n}}\n",
        root.display(),
        dir.0.display()
    );
    let file = dir.write("m.stockade", &text);
    let export = |kind: &[&str]| call(&[&["export"], kind, &[file.to_str().unwrap()]].concat());
    let unit = export(&["systemd"]);
    let lines: Vec<&str> = unit.out.lines().collect();
    for line in [
        "InaccessiblePaths=+/secret",
        "InaccessiblePaths=-+/proc/kallsyms",
        "ReadWritePaths=+/more",
        "NoExecPaths=+/data",
    ] {
        assert!(lines.contains(&line), "{line}: {} {}", unit.out, unit.err);
    }
    let config: Value = serde_json::from_str(&export(&["oci"]).out).unwrap();
    let options = |place: &str| {
        let mounts = config["mounts"].as_array().unwrap();
        mounts.iter().find(|m| m["destination"] == place).unwrap()["options"].to_string()
    };
    for option in ["rro", "rnosuid", "rnodev", "rnoexec"] {
        assert!(options("/data").contains(&format!("\"{option}\"")), "{option} {}", options("/data"));
    }
    assert!(options("/dev").contains("\"ro\"") && !options("/more").contains("ro\""), "{}", options("/dev"));
    let pod = export(&["kubernetes", "--image", "i"]);
    assert_eq!(pod.out.matches("\"recursiveReadOnly\": \"Enabled\"").count(), 1, "{}", pod.out);
    assert!(pod.err.contains("without `recursiveReadOnly`"), "{}", pod.err);
}

/// What hangs on a capability in systemd-nspawn's filter goes with it, unless the file names the call.
#[test]
fn dropped_capabilities_take_calls_along() {
    let ask = |lines: &str, call: &str| {
        let (made, _) = imported("nspawn", "m.nspawn", &format!("[Exec]\nBoot=yes\n{lines}"), &[]);
        let dir = Dir::new("dropped");
        let file = dir.write("m.stockade", &made);
        self::call(&["query", &format!("m can {call}"), file.to_str().unwrap()]).code == 0
    };
    for (capability, call) in [("CAP_SYS_BOOT", "reboot"), ("CAP_SYS_TTY_CONFIG", "vhangup")] {
        assert!(ask("", call), "{call}");
        assert!(!ask(&format!("DropCapability={capability}\n"), call), "{call}");
        assert!(ask(&format!("DropCapability={capability}\nSystemCallFilter={call}\n"), call), "{call}");
    }
}

/// Numbers and quotes as systemd reads them; long lines end somewhere.
#[test]
fn units_are_read_as_systemd_reads_them() {
    let unit = |lines: &str| format!("[Service]\nExecStart=/bin/true\n{lines}\n");
    for line in ["TasksMax=0777", "LimitNPROC=0777", "CPUQuota=0777%", "CPUWeight=010", "TasksMax=+5"] {
        refused("systemd", "m.service", &unit(line), "read as octal");
    }
    let quoted = unit("RootDirectory=/srv/x\nBindPaths=\"/etc:/mnt\"");
    refused("systemd", "m.service", &quoted, "a colon is part of the path");
    let long = format!("Environment=A={}", "x \\\n".repeat(700_000));
    let start = std::time::Instant::now();
    refused("systemd", "m.service", &unit(&long), "longer than");
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
    let (_, ran) = imported("systemd", "m.service", &unit("RestrictAddressFamilies=none"), &[]);
    assert!(ran.err.contains("as it stands, `check` refuses it: E0703"), "{}", ran.err);
}

/// What systemd ignores, or takes for part of a name, grants nothing here.
#[test]
fn what_systemd_ignores_grants_nothing() {
    let unit = |line: &str| format!("[Service]\nExecStart=/usr/bin/true\nUser=man\n{line}\n");
    for (line, why) in [
        ("CapabilityBoundingSet=CAP_CHOWN sys_admin", "begin with CAP_"),
        ("AmbientCapabilities=net_admin", "begin with CAP_"),
        ("StateDirectory=private/other", "for itself"),
        ("CacheDirectory=private", "for itself"),
        ("ReadWritePaths=--/srv", "absolute"),
        ("BindPaths=+/srv:/mnt", "absolute"),
        ("BindReadOnlyPaths=+/root:/mnt", "absolute"),
        ("LimitNOFILE=10:5", "above the hard one"),
        ("LimitNOFILE=infinity:10", "above the hard one"),
        ("LimitNICE=50", "nice limit"),
        ("DeviceAllow=/dev/kvm rwz", "read and written"),
        ("TemporaryFileSystem=/x:size=0100m", "octal"),
        ("BindPaths=/srv/new:/data\nReadWritePaths=/data/rw", "bound over it"),
        ("ReadWritePaths=/data/rw\nBindPaths=/srv/new:/data", "bound over it"),
        ("MountFlags=shared", "shared"),
        ("PrivateUsers=yes\nUser=root\nCapabilityBoundingSet=CAP_CHOWN CAP_SETUID", "PrivateUsers="),
    ] {
        refused("systemd", "x.service", &unit(line), why);
    }
    for (line, made) in [
        ("StateDirectory=-foo", "\"/var/lib/-foo\""),
        ("ReadWritePaths=-/srv", "\"/srv\" rw"),
        ("RestrictNamespaces=yes", "deny clone3 errno ENOSYS"),
        ("DynamicUser=yes\nUser=", "user 65533"),
        ("MountFlags=private", "user man"),
        ("MemoryDenyWriteExecute=yes", "READ_IMPLIES_EXEC"),
        ("PrivateUsers=yes", "user man"),
        ("LimitNOFILE=5:10", "nofile 5"),
    ] {
        let (text, _) = imported("systemd", "x.service", &unit(line), &[]);
        assert!(text.contains(made), "{line}: {text}");
        // And what is made is accepted.
        assert_eq!(checked(&text).code, 0, "{line}: {}", checked(&text).err);
    }
    // A link on the way: what is closed by one name is open by the other.
    let dir = Dir::new("links");
    std::fs::create_dir_all(dir.0.join("real/secret")).unwrap();
    std::os::unix::fs::symlink("real", dir.0.join("link")).unwrap();
    let at = dir.0.display();
    for lines in [
        format!("ReadWritePaths={at}/real\nInaccessiblePaths={at}/link/secret"),
        format!("ReadWritePaths={at}/link\nInaccessiblePaths={at}/real/secret"),
        format!("ReadWritePaths={at}/real\nReadOnlyPaths={at}/link/secret"),
    ] {
        refused("systemd", "x.service", &unit(&lines), "a link leads to");
    }
    refused("nspawn", "x.nspawn", "[Exec]\nCapability=sys_time\n", "begin with CAP_");
}

/// A call that this host's libseccomp has no name for is left out by runc.
#[test]
fn what_libseccomp_cannot_name_is_told() {
    let profile = |default: &str, action: &str| {
        format!(
            "{{\"defaultAction\": \"{default}\", \"syscalls\": [{{\"names\": [\"read\", \"execve\", \"exit_group\", \"mseal\", \"statmount\"], \"action\": \"{action}\"}}]}}"
        )
    };
    let named = |text: &str| ["mseal", "statmount"].into_iter().filter(|n| text.contains(n)).count();
    let (text, ran) = imported("docker", "p.json", &profile("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"), &["--as", "runc"]);
    let unknown = ran.err.lines().find(|l| l.contains("has no name for these")).map_or(0, named);
    assert_eq!(named(&text) + unknown, 2, "each runs, or it is told why not: {text}{}", ran.err);
    let (text, _) = imported("docker", "p.json", &profile("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"), &["--as", "intent"]);
    assert_eq!(named(&text), 2);
    let (_, ran) = imported("docker", "p.json", &profile("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"), &["--as", "runc"]);
    assert_eq!(ran.err.lines().filter(|l| l.contains("differs") && l.contains("has no name for it")).count(), unknown);
}

/// What an export can't keep from happening later, or at the root, is a line of its own or an option.
#[test]
fn exports_seal_or_tell() {
    let dir = Dir::new("seal");
    let root = dir.0.join("r");
    std::fs::create_dir_all(root.join("d")).unwrap();
    let text = "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine m {\n  extends std/daemon\n  root dir \"ROOT\" ro\n  exec \"/x\"\n  \
                user 6 group 12 groups [1]\n  capabilities { none }\n  network { NETWORK }\n  syscalls { remove listen }\n  mounts { bind \"ROOT/d\" -> \"/d\" ro }\n}\n";
    let export = |kind: &str, network: &str| {
        let file = dir.write("m.stockade", &text.replace("NETWORK", network).replace("ROOT", root.to_str().unwrap()));
        call(&["export", kind, file.to_str().unwrap()])
    };
    let ran = export("oci", "host why \"x\"");
    assert_eq!(ran.code, 1, "{}", ran.err);
    let config: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(config["linux"]["rootfsPropagation"], "rprivate");
    let mounts = config["mounts"].as_array().unwrap();
    let at = |target: &str| mounts.iter().find(|m| m["destination"] == target).unwrap();
    assert!(at("/d")["options"].as_array().unwrap().iter().any(|o| o == "rprivate"));
    assert!(at("/sys")["type"] == "bind" && at("/sys")["options"].as_array().unwrap().iter().any(|o| o == "rro"));
    for lost in ["/: nosuid isn't set", "/: nodev isn't set", "/sys: it is the host's own"] {
        assert!(ran.err.contains(lost), "{lost}: {}", ran.err);
    }
    assert!(export("oci", "none").err.contains("the loopback is up"));
    let ran = export("systemd", "none");
    assert!(ran.out.contains("MountFlags=private"), "{}", ran.out);
    assert!(ran.err.contains("lost: groups: those that the host's /etc/group gives the user are added"), "{}", ran.err);
}
