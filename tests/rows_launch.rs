//! The launch boundary: what a program finds at its start, whoever started the launcher and however.
//!
//! Each test is a row of the catalogue of properties; the payload that looks from inside is
//! tests/probe/launch.c. Rows A6 and A7 are about entering a running machine, which this version
//! can't do: there is nothing to test yet.
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

use harness::{Dir, Ran, probe, root, stockade};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An ordinary user without any right.
const NOBODY: &str = "user 65534 group 65534\n  capabilities { none }";

/// A machine that runs `program` (written as in a policy) with the probe at /probe.
fn policy(name: &str, program: &str, mounts: &str, body: &str) -> String {
    let probe = probe("launch");
    format!(
        "policy 1\nkernel 6.18\nimport \"std/daemon\"\nmachine {name} {{\n  extends std/daemon\n  root host\n  \
         exec {program}\n  mounts {{\n    bind \"{}\" -> \"/probe\" ro exec\n{mounts}\n  }}\n  {body}\n}}\n",
        probe.display()
    )
}

/// `stockade run` of a policy, started by `caller` (a command that becomes the one that follows it).
fn run_from(caller: Option<&str>, policy: &str) -> Ran {
    let dir = Dir::new("policy");
    let file = dir.write("test.stockade", policy);
    match caller {
        None => stockade().arg("run").arg(file).output().unwrap().into(),
        Some(word) => {
            let mut c = Command::new(probe("launch"));
            c.arg(word).arg(stockade().get_program()).arg("run").arg(file).stdin(Stdio::null());
            c.output().unwrap().into()
        }
    }
}

/// One check of the probe as nobody; every line must be OK, and there must be some.
fn check_inside(caller: Option<&str>, check: &str, body: &str) -> Ran {
    fine(run_from(caller, &policy(&harness::name("t"), &format!("\"/probe\" {check}"), "", body)))
}

fn fine(ran: Ran) -> Ran {
    let text = format!("{}\n{}", ran.out, ran.err);
    assert!(!text.contains("BAD "), "{text}");
    assert!(text.contains("OK "), "{text}");
    assert_eq!(ran.code, 0, "{text}");
    ran
}

fn record(name: &str) -> Option<serde_json::Value> {
    serde_json::from_slice(&fs::read(format!("/run/stockade/machines/{name}/state.json")).ok()?).ok()
}

/// A machine that waits; it ends with the value.
struct Held {
    child: Child,
    _dir: Dir,
}

impl Held {
    /// Starts it and returns when its program said so.
    fn start(policy: &str) -> Held {
        let dir = Dir::new("policy");
        let file = dir.write("test.stockade", policy);
        let child = stockade().arg("run").arg(file).stdout(Stdio::piped()).spawn().unwrap();
        let mut held = Held { child, _dir: dir };
        held.wait_until_ready();
        held
    }

    fn wait_until_ready(&mut self) {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "OK ready\n");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The machine's init dies with its supervisor: that is A3's business.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn links(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut out: Vec<String> =
        entries.filter_map(|e| Some(fs::read_link(e.ok()?.path()).ok()?.to_str()?.to_owned())).collect();
    out.sort();
    out
}

#[test]
fn a01_fd_table() {
    if !root() {
        return;
    }
    let ran = check_inside(Some("caller-fds"), "\"fds\"", NOBODY);
    assert_eq!(ran.out.matches("OK fd ").count(), 3, "{}", ran.out);
}

#[test]
fn a01_fd_table_of_init() {
    if !root() {
        return;
    }
    let name = harness::name("t");
    let _machine = Held::start(&policy(&name, "\"/probe\" \"hold\"", "", NOBODY));
    let program = record(&name).unwrap()["program"].as_i64().unwrap();
    let status = fs::read_to_string(format!("/proc/{program}/status")).unwrap();
    let init = status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap().trim();
    let open = links(&format!("/proc/{init}/fd"));
    assert_eq!(open.len(), 2, "{open:?}");
    assert!(open[0].starts_with("anon_inode:[signalfd]"), "{open:?}");
    assert!(open[1].starts_with("socket:["), "{open:?}");
    // Nor does it keep the host by other means.
    let theirs = |what: &str| fs::read_link(format!("/proc/{init}/{what}"));
    let ours = |what: &str| fs::read_link(format!("/proc/self/{what}")).unwrap();
    for kind in ["pid", "ipc", "uts", "net", "user", "cgroup"] {
        assert_ne!(theirs(&format!("ns/{kind}")).unwrap(), ours(&format!("ns/{kind}")), "{kind}");
    }
}

/// The fault harness sweeps every call; this is the one case that needs no tracer: the reviewed file
/// is exchanged for another after the plan was made.
#[test]
fn a02_no_half_confined_process() {
    if !root() {
        return;
    }
    let dir = Dir::new("a02");
    let out = dir.0.join("out");
    fs::create_dir(&out).unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).unwrap();
    let inside = dir.0.join("root");
    for d in ["proc", "sys", "dev", "out"] {
        fs::create_dir_all(inside.join(d)).unwrap();
    }
    fs::copy(probe("launch"), inside.join("probe")).unwrap();
    // Deep in the tree's steps: by then the root, /proc, /sys and /dev are there.
    symlink("/out", inside.join("place")).unwrap();
    let text = |target: &str| {
        format!(
            "policy 1\nkernel 6.18\nimport \"std/daemon\"\nmachine {} {{\n  extends std/daemon\n  root dir \"{}\" ro\n  \
             exec \"/probe\" \"mark\" \"{target}/mark\"\n  {NOBODY}\n  mounts {{ bind \"{}\" -> \"{target}\" rw }}\n}}\n",
            harness::name("t"),
            inside.display(),
            out.display()
        )
    };
    let ran = harness::run(&text("/place"));
    assert_eq!(ran.code, 125, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("leads through a symbolic link"), "{}", ran.err);
    assert!(ran.err.contains("at step "), "{}", ran.err);
    assert!(!out.join("mark").exists(), "a program ran although a step failed");
    // The same without the link does run, so the mark would have been seen.
    fine(harness::run(&text("/out")));
    assert!(out.join("mark").exists());
}

/// `strace` holds the builder for two seconds at setns(2), which comes before the first bind.
#[test]
fn a02_source_changed_after_review() {
    if !root() {
        return;
    }
    if !Path::new("/usr/bin/strace").exists() {
        return harness::skip("no strace");
    }
    let dir = Dir::new("a02");
    let source = dir.write("reviewed", "reviewed");
    let other = dir.write("other", "other");
    let name = harness::name("t");
    let mounts = format!("bind \"{}\" -> \"/etc/file\" ro", source.display());
    let file = dir.write("test.stockade", &policy(&name, "\"/usr/bin/cat\" \"/etc/file\"", &mounts, NOBODY));
    let mut c = Command::new("/usr/bin/strace");
    c.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=setns", "-e", "inject=setns:delay_enter=2000000"]);
    let child = c.arg(stockade().get_program()).arg("run").arg(&file).stdin(Stdio::null());
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Once this is there the plan is made and its host paths are pinned.
    let start = Instant::now();
    while record(&name).is_none() {
        assert!(start.elapsed() < Duration::from_secs(20), "the machine was never locked");
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::rename(&other, &source).unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 125, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("another file lies at the host's path"), "{}", ran.err);
    assert!(ran.err.contains("test.stockade:"), "{}", ran.err);
    assert_eq!(ran.out, "", "nothing was run");
}

/// Pids of the processes that have the word in their arguments.
fn with_cookie(cookie: &str) -> Vec<u32> {
    let mut out = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(cookie) {
            out.push(pid);
        }
    }
    out
}

#[test]
fn a03_supervisor_death_leaves_no_process() {
    if !root() {
        return;
    }
    // How long a launch takes here, so that the instants cover all of it.
    let name = harness::name("t");
    let begin = Instant::now();
    drop(Held::start(&policy(&name, "\"/probe\" \"hold\"", "", NOBODY)));
    let range = u64::try_from(begin.elapsed().as_micros()).unwrap();
    // A small generator (xorshift); the seed is in every message.
    let seed = u64::from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos()) << 16 | 1;
    let mut state = seed;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut running, mut launching) = (0, 0);
    for trial in 0..30u64 {
        let cookie = harness::name("cookie");
        let text = policy(&name, &format!("\"/probe\" \"hold\" \"{cookie}\""), "", NOBODY);
        let dir = Dir::new("a03");
        let file = dir.write(&format!("{cookie}.stockade"), &text);
        let child = stockade().arg("run").arg(file).stdout(Stdio::piped()).spawn().unwrap();
        let mut held = Held { child, _dir: dir };
        if trial < 5 {
            // While the program runs.
            held.wait_until_ready();
        } else {
            std::thread::sleep(Duration::from_micros(random() % (range * 5 / 4)));
        }
        let before = with_cookie(&cookie);
        // SIGKILL.
        drop(held);
        match before.len() {
            // Supervisor, init, program.
            3.. => running += 1,
            _ => launching += 1,
        }
        let dead = Instant::now();
        let mut left = with_cookie(&cookie);
        while !left.is_empty() && dead.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(10));
            left = with_cookie(&cookie);
        }
        for pid in &left {
            let _ended = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        assert!(left.is_empty(), "trial {trial} of seed {seed}: {left:?} of {before:?} are alive after 1 s");
    }
    assert!(running >= 5, "{running} running, {launching} launching");
    // The name is free again.
    drop(Held::start(&policy(&name, "\"/probe\" \"hold\"", "", NOBODY)));
}

#[test]
fn a04_working_directory() {
    if !root() {
        return;
    }
    check_inside(Some("caller-fds"), "\"cwd\" \"/\"", NOBODY);
    check_inside(None, "\"cwd\" \"/usr/lib\"", &format!("chdir \"/usr/lib\"\n  {NOBODY}"));
    // Neither a place of the host nor one that leads back to it.
    for place in ["/proc/self/fd/7", "/proc/1/cwd", "/proc/1/root", "/root", "/dev/fd/7/.."] {
        let text =
            policy(&harness::name("t"), "\"/probe\" \"cwd\" \"/\"", "", &format!("chdir \"{place}\"\n  {NOBODY}"));
        let ran = run_from(Some("caller-fds"), &text);
        assert_eq!(ran.code, 125, "{place}: {}{}", ran.out, ran.err);
        assert_eq!(ran.out, "", "{place}: nothing was run");
    }
}

fn hash(path: &Path) -> String {
    let out = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(out.status.success());
    String::from_utf8_lossy(&out.stdout).split(' ').next().unwrap().to_owned()
}

#[test]
fn a05_launcher_out_of_reach() {
    if !root() {
        return;
    }
    let binary = PathBuf::from(stockade().get_program());
    let before = hash(&binary);
    check_inside(None, "\"exe\"", NOBODY);
    // As the machine's root, with what a daemon may keep.
    check_inside(
        None,
        "\"exe\"",
        "user 0 group 0\n  capabilities { keep [dac_override, fowner, chown] why \"a test\" }",
    );
    assert_eq!(hash(&binary), before);
}

/// A script whose interpreter is /proc/self/exe: the kernel opens the launcher on its behalf, and the
/// machine's own libraries run inside it (CVE-2019-5736). What they can't do is write it.
#[test]
fn a05_launcher_as_an_interpreter() {
    if !root() {
        return;
    }
    let binary = PathBuf::from(stockade().get_program());
    let before = hash(&binary);
    let dir = Dir::new("a05");
    for d in ["proc", "sys", "dev", "usr", "etc"] {
        fs::create_dir(dir.0.join(d)).unwrap();
    }
    for link in ["lib", "lib64", "bin"] {
        symlink(format!("usr/{link}"), dir.0.join(link)).unwrap();
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe/launch.c");
    let mut c = Command::new("cc");
    c.args(["-shared", "-fPIC", "-O1", "-DPRELOADED", "-o"]).arg(dir.0.join("preloaded.so")).arg(source);
    assert!(c.status().unwrap().success());
    dir.write("etc/ld.so.preload", "/preloaded.so\n");
    let script = dir.write("script", "#!/proc/self/exe\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    for userns in ["auto", "identity why \"a test\""] {
        let ran = harness::run(&format!(
            "policy 1\nkernel 6.18\nimport \"std/daemon\"\nmachine {} {{\n  extends std/daemon\n  root dir \"{}\" ro\n  \
             exec \"/script\"\n  user 0 group 0\n  capabilities {{ none }}\n  userns {userns}\n  \
             mounts {{ bind \"/usr\" -> \"/usr\" ro exec }}\n}}\n",
            harness::name("t"),
            dir.0.display()
        ));
        assert!(!ran.out.contains("BAD "), "{}{}", ran.out, ran.err);
        // The library ran; or the launcher is a static binary and complained; or it wasn't executed at all.
        assert!(ran.out.contains("OK /proc/self/exe") || ran.code != 0, "{}{}", ran.out, ran.err);
        assert_eq!(hash(&binary), before);
    }
}

/// `check` or `plan` of a machine with this `user` line.
fn user_line(verb: &str, line: &str) -> Ran {
    harness::verb(verb, &harness::host_machine("\"/usr/bin/true\"", &format!("{line}\ncapabilities {{ none }}")))
}

#[test]
fn a08_ids_are_exact() {
    let bad = "1: 0x1 -1 4294967295 4294967296 65535 18446744073709551616 1:1 1000:1000:1 01 00 1e3 1_000 1.0 0b1 1KiB -0 0:0";
    for bad in bad.split(' ') {
        for line in
            [format!("user {bad} group 1"), format!("user 1 group {bad}"), format!("user 1 group 1 groups [{bad}]")]
        {
            let ran = user_line("check", &line);
            assert_eq!(ran.code, 2, "{line}: {}{}", ran.out, ran.err);
            assert!(ran.err.contains("E0506"), "{line}: {}", ran.err);
        }
    }
    // What isn't a word at all; which error it is doesn't matter.
    for bad in ["+1", "\"1\"", "1 1", "1 ,", "٣", "$(id)", "#0", "root root", "\"1 \""] {
        let ran = user_line("check", &format!("user {bad} group 1"));
        assert_eq!(ran.code, 2, "{bad}: {}{}", ran.out, ran.err);
    }
    for good in ["0", "1", "65534", "65536", "4294967294", "www-data"] {
        let ran = user_line("check", &format!("user {good} group {good}"));
        assert_eq!(ran.code, 0, "{good}: {}{}", ran.out, ran.err);
    }
}

#[test]
fn a08_numeric_names() {
    if !root() {
        return;
    }
    let dir = Dir::new("a08");
    for d in ["proc", "sys", "dev", "etc"] {
        fs::create_dir(dir.0.join(d)).unwrap();
    }
    fs::copy(probe("launch"), dir.0.join("probe")).unwrap();
    dir.write("etc/passwd", "1000:x:0:0:::\n0x5:x:0:0:::\nweb:x:33:34:::\nminus:x:-1:-1:::\nlast:x:4294967295:0:::\n");
    dir.write("etc/group", "1000:x:0:\nwww:x:35:\nweb:x:36:\n");
    let machine = |user: &str, check: &str| {
        format!(
            "policy 1\nkernel 6.18\nimport \"std/daemon\"\nmachine {} {{\n  extends std/daemon\n  root dir \"{}\" ro\n  \
             exec \"/probe\" {check}\n  user {user}\n  capabilities {{ none }}\n}}\n",
            harness::name("t"),
            dir.0.display()
        )
    };
    fine(harness::run(&machine("1000 group 1000", "\"ids\" \"1000\" \"1000\"")));
    fine(harness::run(&machine("web", "\"ids\" \"33\" \"34\"")));
    fine(harness::run(&machine("web group web", "\"ids\" \"33\" \"36\"")));
    fine(harness::run(&machine("33 group www", "\"ids\" \"33\" \"35\"")));
    // A number without an account has no group, and no entry is bent into one.
    for user in [
        "1000",
        "1",
        "root",
        "minus",
        "last",
        "nobody",
        "www",
        "web group 1000x",
        "4294967294 group 0",
        "65536 group 0",
    ] {
        let ran = harness::run(&machine(user, "\"fds\""));
        assert_eq!(ran.code, 125, "{user}: {}{}", ran.out, ran.err);
        assert_eq!(ran.out, "", "{user}: nothing was run");
    }
}

#[test]
fn a09_groups() {
    if !root() {
        return;
    }
    let user = |u: &str| format!("user {u}\n  capabilities {{ none }}");
    check_inside(None, "\"groups\" \"\" \"allow\"", NOBODY);
    check_inside(None, "\"groups\" \"27 44\" \"allow\"", &user("65534 group 65534 groups [44, 27, 44]"));
    check_inside(None, "\"groups\" \"5\" \"allow\"", &user("0 group 0 groups [5]"));
    // The kernel's own answer, where the filter lets the call pass.
    let open = "syscalls { allow setgroups }";
    check_inside(None, "\"groups\" \"27\" \"allow\"", &format!("{}\n  {open}", user("1000 group 1000 groups [27]")));
    check_inside(None, "\"groups\" \"\" \"allow\"", &format!("{}\n  {open}", user("0 group 0")));
}

/// An ordinary user's machine: setgroups is denied for good.
#[test]
fn a09_groups_of_an_ordinary_user() {
    if !root() {
        return;
    }
    // Where the build folder is closed to others the binary is out of that user's reach.
    let dir = Dir::new("a09");
    let binary = dir.0.join("stockade");
    fs::copy(stockade().get_program(), &binary).unwrap();
    let payload = dir.0.join("probe");
    fs::copy(probe("launch"), &payload).unwrap();
    let text = policy(
        &harness::name("t"),
        "\"/probe\" \"groups\" \"\" \"deny\"",
        "",
        "user 1000 group 1000\n  capabilities { none }\n  syscalls { allow setgroups }",
    );
    let text = text.replace(probe("launch").to_str().unwrap(), payload.to_str().unwrap());
    let file = dir.write("test.stockade", &text);
    let mut c = Command::new("setpriv");
    c.args(["--reuid=54321", "--regid=54321", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
    fine(c.arg(binary).arg("run").arg(file).stdin(Stdio::null()).output().unwrap().into());
    fs::remove_dir_all("/tmp/stockade-54321").unwrap();
}

#[test]
fn a10_capabilities() {
    if !root() {
        return;
    }
    let none = "0000000000000000";
    let set = |inh: &str, prm: &str, bnd: &str, amb: &str| {
        format!("\"caps\" \"{inh}\" \"{prm}\" \"{prm}\" \"{bnd}\" \"{amb}\"")
    };
    let user = |u: &str, caps: &str| format!("user {u} group {u}\n  capabilities {{ {caps} }}");
    check_inside(None, &set(none, none, none, none), &user("65534", "none"));
    check_inside(None, &set(none, none, none, none), &user("0", "none"));
    // net_bind_service is 10, chown is 0 (linux/capability.h).
    let bind = "0000000000000400";
    let two = "0000000000000401";
    check_inside(None, &set(none, bind, bind, none), &user("0", "keep net_bind_service"));
    check_inside(None, &set(none, two, two, none), &user("0", "keep [net_bind_service, chown]"));
    // Another user holds it through the ambient set, which the kernel bounds by the inheritable one.
    check_inside(None, &set(bind, bind, bind, bind), &user("1000", "keep net_bind_service"));
    // Bounded only: such a user doesn't hold it.
    check_inside(None, &set(none, none, bind, none), &user("1000", "bounding net_bind_service"));
}

#[test]
fn a11_environment() {
    if !root() {
        return;
    }
    let dir = Dir::new("a11");
    let body = format!("{NOBODY}\n  environment {{\n    pass NEWLINE\n    pass ABSENT\n    set MODE \"x=y\"\n  }}");
    let file = dir.write("test.stockade", &policy(&harness::name("t"), "\"/probe\" \"environment\"", "", &body));
    let mut c = stockade();
    c.arg("run").arg(file);
    for (k, v) in [
        ("LD_PRELOAD", "/nonexistent.so"),
        ("LD_LIBRARY_PATH", "/nonexistent"),
        ("NOTIFY_SOCKET", "/run/notify"),
        ("SSH_AUTH_SOCK", "/tmp/agent"),
        ("DEPLOY_TOKEN", "secret"),
        ("NEWLINE", "a\nLD_PRELOAD=b"),
        ("OTHER", "a\nb"),
        ("PATH", "/home/evil/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
        ("TERM", "xterm"),
        ("container", "other"),
    ] {
        c.env(k, v);
    }
    let ran = fine(c.output().unwrap().into());
    let lines: Vec<&str> = ran.out.lines().collect();
    let want = [
        "OK container=stockade",
        "OK PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        // One variable, not two.
        "OK NEWLINE=a\\nLD_PRELOAD=b",
        "OK MODE=x=y",
    ];
    assert_eq!(lines, want);
}

#[test]
fn a12_inherited_attributes() {
    if !root() {
        return;
    }
    let cpus = fs::read_to_string("/proc/self/status").unwrap();
    let mask = cpus.lines().find_map(|l| l.strip_prefix("Cpus_allowed:")).unwrap().trim().replace(',', "");
    let count: u32 = mask.chars().map(|c| c.to_digit(16).unwrap().count_ones()).sum();
    for caller in [None, Some("caller-attributes")] {
        check_inside(caller, &format!("\"attributes\" \"{count}\" \"0022\""), NOBODY);
    }
    let own = format!("umask 077\n  {NOBODY}");
    check_inside(Some("caller-attributes"), &format!("\"attributes\" \"{count}\" \"0077\""), &own);
}

#[test]
fn a12_inherited_timerslack() {
    if root() {
        check_inside(Some("caller-timerslack"), "\"timerslack\"", NOBODY);
    }
}

#[test]
fn a12_inherited_scheduler() {
    if root() {
        check_inside(Some("caller-scheduler"), "\"scheduler\"", NOBODY);
    }
}

#[test]
fn a12_inherited_ioprio() {
    if root() {
        check_inside(Some("caller-ioprio"), "\"ioprio\"", NOBODY);
    }
}

/// `stockade run` on a terminal of the host that `script` makes; the machine's output is on standard output.
fn run_on_terminal(policy: &str) -> Ran {
    let dir = Dir::new("policy");
    let file = dir.write("test.stockade", policy);
    let command = format!("exec {} run {}", stockade().get_program().to_str().unwrap(), file.display());
    let out = Command::new("script").args(["-qec", &command, "/dev/null"]).stdin(Stdio::piped()).output().unwrap();
    out.into()
}

fn host_devpts() -> u64 {
    fs::metadata("/dev/pts").unwrap().dev()
}

#[test]
fn a13_no_terminal_injection() {
    if !root() {
        return;
    }
    check_inside(None, "\"injection\"", NOBODY);
    check_inside(None, "\"no-terminal\"", NOBODY);
    fine(run_on_terminal(&policy(&harness::name("t"), "\"/probe\" \"injection\"", "", NOBODY)));
}

#[test]
fn a14_console_is_the_machines_own() {
    if !root() {
        return;
    }
    let check = format!("\"/probe\" \"terminal\" \"{}\"", host_devpts());
    fine(run_on_terminal(&policy(&harness::name("t"), &check, "", NOBODY)));
    // An image that ships names for our files to be redirected by.
    let dir = Dir::new("a14");
    for d in ["proc", "sys", "dev/pts", "etc"] {
        fs::create_dir_all(dir.0.join(d)).unwrap();
    }
    let trap = dir.write("trap", "untouched");
    for name in ["dev/console", "dev/ptmx", "dev/pts/0", "dev/pts/ptmx", "dev/null", "dev/tty", "dev/shm"] {
        symlink("/trap", dir.0.join(name)).unwrap();
    }
    fs::copy(probe("launch"), dir.0.join("probe")).unwrap();
    let text = format!(
        "policy 1\nkernel 6.18\nimport \"std/daemon\"\nmachine {} {{\n  extends std/daemon\n  root dir \"{}\" ro\n  \
         exec {check}\n  {NOBODY}\n}}\n",
        harness::name("t"),
        dir.0.display()
    );
    fine(run_on_terminal(&text));
    assert_eq!(fs::read_to_string(&trap).unwrap(), "untouched");
    assert_eq!(fs::metadata(&trap).unwrap().uid(), 0, "nobody was given it");
}

#[test]
fn a15_failures_before_exec() {
    if !root() {
        return;
    }
    let dir = Dir::new("a15");
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.write(name, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        format!("bind \"{}\" -> \"/file\" ro", path.display())
    };
    let mark = format!("bind \"{}\" -> \"/out\" rw", dir.0.display());
    let cases = [
        (127, "\"/nonexistent\"", String::new()),
        (127, "\"/usr/bin/nonexistent\"", String::new()),
        (127, "\"/file\"", file("bad-interpreter", "#!/nonexistent\n", 0o755) + " exec"),
        (126, "\"/file\"", file("not-executable", "#!/probe\n", 0o644) + " exec"),
        (126, "\"/file\"", file("no-format", "neither script nor binary", 0o755) + " exec"),
        (126, "\"/file\"", file("others-only", "#!/probe\n", 0o700) + " exec"),
        // Executable, on a mount that isn't.
        (126, "\"/file\"", file("noexec", "#!/probe\n", 0o755)),
        (126, "\"/usr\"", String::new()),
    ];
    for (code, program, mounts) in cases {
        let text = policy(&harness::name("t"), program, &format!("{mounts}\n{mark}"), NOBODY);
        let ran = harness::run(&text);
        assert_eq!(ran.code, code, "{program} {mounts}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains("was not started"), "{}", ran.err);
        assert!(ran.err.contains("at step ") && ran.err.contains(&format!("exec {program}")), "{}", ran.err);
        // The line of `exec` in `policy`.
        assert!(ran.err.contains("test.stockade:7"), "{}", ran.err);
        assert_eq!(ran.out, "");
    }
    // 125: nothing was run, and no program of a name like that either.
    let user = "user no-such-user\n  capabilities { none }";
    let ran = harness::run(&policy(&harness::name("t"), "\"/probe\" \"mark\" \"/out/mark\"", &mark, user));
    assert_eq!(ran.code, 125, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("E0516") && ran.err.contains("no-such-user"), "{}", ran.err);
    assert!(!dir.0.join("mark").exists());
    // The program's own codes pass unchanged.
    for code in [0, 1, 125, 126, 127, 255] {
        let program = format!("\"/usr/bin/sh\" \"-c\" \"exit {code}\"");
        let ran = harness::run(&policy(&harness::name("t"), &program, "", NOBODY));
        assert_eq!((ran.code, ran.err.as_str()), (code, ""));
    }
    let ran = harness::run(&policy(&harness::name("t"), "\"/usr/bin/sh\" \"-c\" \"kill -9 $$\"", "", NOBODY));
    assert_eq!(ran.code, 137, "{}", ran.err);
}

/// A filter that refuses even the report of a failed exec: the code still says it.
#[test]
fn a15_failures_under_a_tight_filter() {
    if !root() {
        return;
    }
    for (code, program) in [(127, "/nonexistent"), (126, "/usr")] {
        let text = format!(
            "policy 1\nkernel 6.18\nimport \"std/groups\"\nmachine {} {{\n  root host\n  exec \"{program}\"\n  {NOBODY}\n  \
             syscalls {{ allow @start }}\n}}\n",
            harness::name("t")
        );
        let ran = harness::run(&text);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{}", ran.err);
    }
}

/// A filter that refuses execve itself, or the end of the process: nothing was run, and that is said.
#[test]
fn a15_failures_without_execve() {
    if !root() {
        return;
    }
    for (calls, program) in
        [("read", "/usr/bin/true"), ("[read, exit_group]", "/usr/bin/true"), ("execve", "/nonexistent")]
    {
        let ran = harness::run(&format!(
            "policy 1\nkernel 6.18\nmachine {} {{\n  root host\n  exec \"{program}\"\n  {NOBODY}\n  \
             syscalls {{ allow {calls} }}\n}}\n",
            harness::name("t")
        ));
        assert!((125..=127).contains(&ran.code), "{calls}: {} {}{}", ran.code, ran.out, ran.err);
        assert!(ran.err.contains("error"), "{calls}: {} and no word about it", ran.code);
    }
}

#[test]
fn a16_every_thread_is_filtered() {
    if root() {
        check_inside(None, "\"threads\"", NOBODY);
        check_inside(None, "\"threads\"", "user 0 group 0\n  capabilities { none }");
    }
}
