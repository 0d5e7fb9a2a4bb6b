//! Where other launchers warn, log or say nothing and start anyway: here nothing is started, and the
//! message names the policy's line.
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

use harness::{Dir, Ran, host_machine, probe, root, run, skip, stockade, verb};
use std::process::Command;

/// A whole machine of one program, with one more line in each of two places.
fn machine(inside: &str, calls: &str) -> String {
    let body = format!("  user 1000 group 1000\n  capabilities {{ none }}\n{inside}\n  syscalls {{\n    {calls}\n  }}");
    host_machine("\"/usr/bin/true\"", &body)
}

/// The number of the line that holds `text`.
fn line_of(policy: &str, text: &str) -> usize {
    policy.lines().position(|l| l.contains(text)).unwrap() + 1
}

/// `check`, `plan` and `run` all refuse with this code at the line that holds `text`.
#[track_caller]
fn refused(policy: &str, code: &str, text: &str) -> Ran {
    let place = format!("test.stockade:{}:", line_of(policy, text));
    for v in ["check", "plan", "run"] {
        // What only this host lacks is not a fault of the policy: `check` may pass it.
        let r = verb(v, policy);
        if v == "check" && code.starts_with("E06") {
            continue;
        }
        let want = match v {
            "run" => 125,
            _ if code.starts_with("E06") => 3,
            _ => 2,
        };
        let said = r.err.contains(&format!("error[{code}]")) && r.err.contains(&place);
        assert!(
            r.code == want && said && (v == "check" || r.out.is_empty()),
            "{v}: exit {}, wanted {code} at {place}\n{}{}\n{policy}",
            r.code,
            r.out,
            r.err
        );
    }
    run(policy)
}

/// A machine that runs the probe of the file tree.
fn probing(check: &[&str], who: &str, rest: &str) -> String {
    let args = check.iter().map(|a| format!("\"{a}\"")).collect::<Vec<_>>().join(" ");
    let body = format!("  {who}\n  mounts {{ bind \"{}\" -> \"/probe\" ro exec }}\n{rest}", probe("tree").display());
    host_machine(&format!("\"/probe\" {args}"), &body)
}

const NOBODY: &str = "user 1000 group 1000\n  capabilities { none }";

#[track_caller]
fn holds(policy: &str) -> Ran {
    let r = run(policy);
    assert!(
        r.code == 0 && r.out.contains("OK") && !r.out.contains("BAD"),
        "exit {}\n{}{}\n{policy}",
        r.code,
        r.out,
        r.err
    );
    r
}

#[test]
fn an_unknown_call_is_an_error_in_every_list() {
    for line in [
        "allow opennat",
        "deny opennat",
        "kill opennat",
        "log opennat",
        "allow [read, opennat]",
        "deny [mount, opennat] errno ENOSYS",
        "deny opennat(flags == 1)",
        "remove opennat",
        "override deny opennat why \"x\"",
    ] {
        refused(&machine("", line), "E0401", line);
    }
    for line in ["allow @system-servise", "deny @system-servise"] {
        let policy = machine("", line);
        let r = verb("check", &policy);
        assert!(
            r.code == 2 && r.err.contains(&format!("test.stockade:{}:", line_of(&policy, line))),
            "{line}: exit {}\n{}",
            r.code,
            r.err
        );
    }
}

#[test]
fn an_argument_or_constant_that_isnt_there_is_an_error() {
    for (line, code) in [
        ("deny socket(famly == AF_INET)", "E0402"),
        ("deny socket(family == AF_INETT)", "E0404"),
        ("deny read errno EPREM", "E0404"),
    ] {
        let policy = machine("", line);
        let r = verb("check", &policy);
        let at = r.err.contains(&format!("test.stockade:{}:", line_of(&policy, line)));
        assert!(r.code == 2 && at && r.err.contains("error[E04"), "{line} ({code}): exit {}\n{}", r.code, r.err);
    }
}

const VARIABLES: &[(&str, &str)] = &[
    ("SYSTEMD_SECCOMP", "0"),
    ("SYSTEMD_NSPAWN_LOCK", "0"),
    ("SYSTEMD_NSPAWN_USE_CGNS", "0"),
    ("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "1"),
    ("SYSTEMD_NSPAWN_SHARE_NS_IPC", "1"),
    ("STOCKADE_SECCOMP", "0"),
    ("STOCKADE_DISABLE", "1"),
    ("STOCKADE_UNSAFE", "1"),
    ("STOCKADE_DEBUG", "1"),
    ("STOCKADE_REQUIRE", "none"),
    ("STOCKADE_POLICY", "/dev/null"),
    ("STOCKADE_LANDLOCK", "0"),
    ("SECCOMP", "0"),
    ("LIBSECCOMP_TSKIP", "1"),
    ("LANDLOCK", "0"),
    ("container", "oci"),
    ("LD_PRELOAD", "/nowhere.so"),
    ("LD_LIBRARY_PATH", "/tmp"),
    ("NOTIFY_SOCKET", "/tmp/x"),
];

#[test]
fn no_variable_of_the_caller_changes_the_plan() {
    let dir = Dir::new("environment");
    let file = dir.write("test.stockade", &machine("", "allow @inet"));
    let plan = |set: bool| -> Ran {
        let mut c = stockade();
        c.args(["plan", "--json"]).arg(&file);
        if set {
            c.envs(VARIABLES.iter().copied());
        }
        c.output().unwrap().into()
    };
    let (without, with) = (plan(false), plan(true));
    assert_eq!(without.code, 0, "{}", without.err);
    assert!(without.out.contains("load-seccomp"));
    assert_eq!(without.out, with.out);
    if !root() {
        return;
    }
    let policy =
        dir.write("run.stockade", &probing(&["status", "Seccomp=2", "Seccomp_filters=1", "NoNewPrivs=1"], NOBODY, ""));
    let r = Ran::from(stockade().arg("run").arg(policy).envs(VARIABLES.iter().copied()).output().unwrap());
    assert!(r.code == 0 && r.out.contains("OK"), "exit {}\n{}{}", r.code, r.out, r.err);
}

#[test]
fn an_unknown_key_is_an_error_wherever_it_stands() {
    for line in [
        "CPUQuota 200",
        "private-users yes",
        "mounts { bnd \"/etc\" -> \"/etc2\" ro }",
        "mounts { bind \"/etc\" -> \"/etc2\" ro noatime }",
        "network { nothing }",
        "limits { memory-max 4 }",
        "files { raed \"/etc\" }",
        "devices { alow \"/dev/kmsg\" why \"x\" }",
        "environment { sett A \"b\" }",
        "userns pick",
        "require everything",
        "root-hash 00",
        "files { read \"/etc\" } x",
    ] {
        let policy = machine(&format!("  {line}"), "allow read");
        for (v, want) in [("check", 2), ("run", 125)] {
            let r = verb(v, &policy);
            let at = r.err.contains(&format!("test.stockade:{}:", line_of(&policy, line)));
            assert!(r.code == want && at && r.err.contains("error[E"), "{line}: {v} exit {}\n{}", r.code, r.err);
        }
    }
}

/// nspawn reads limits in a .nspawn file as unknown keys, and the machine runs without any.
#[test]
fn limits_that_mean_nothing_are_refused() {
    for (line, code) in [
        ("limits { memory 4 }", "E0212"),
        ("limits { memory 4GB }", "E0212"),
        ("limits { cpu 2 }", "E0212"),
        ("limits { cpu 0% }", "E0212"),
        ("limits { cpu 50% weight=0 }", "E0212"),
        ("limits { cpu 50% wait=5 }", "E0203"),
        ("limits { tasks many }", "E0212"),
        ("limits { tasks 0 }", "E0315"),
        ("limits { memory 1KiB }", "E0315"),
        ("limits { memory 512MiB high=1GiB }", "E0315"),
        ("limits { io 10 }", "E0205"),
        ("limits { io \"/dev/sda\" }", "E0204"),
        ("limits { io weight=50000 }", "E0212"),
        ("limits { time 10 }", "E0212"),
        ("limits { time 0s }", "E0315"),
        ("limits { cpu-time 0s }", "E0315"),
        ("limits { stack 0 }", "E0315"),
        ("limits { address-space 0 }", "E0315"),
        ("limits { data 0 }", "E0315"),
        ("limits { data 4095B }", "E0315"),
        ("limits { stack 1KiB }", "E0315"),
        ("limits { address-space 1B }", "E0315"),
        ("limits { nofile 3 }", "E0315"),
        ("limits { io \"/dev/vda\" read-ops=5000000000 }", "E0315"),
        // The kernel's word for no bound at all.
        ("limits { io \"/dev/vda\" read-ops=4294967295 }", "E0315"),
        ("limits { locks 2 }", "E0315"),
        ("limits { time 366d }", "E0212"),
        ("files { }", "E0521"),
        ("limits { io \"/dev/vda\" read=0 }", "E0315"),
        ("limits { io \"/dev/vda\" write-ops=0 }", "E0315"),
        ("limits { tasks 4194304 }", "E0212"),
    ] {
        let policy = machine(&format!("  {line}"), "allow read");
        refused(&policy, code, line);
    }
}

/// Ports that can't be realised are silence in nspawn.
#[test]
fn networks_that_cant_be_made_are_refused() {
    for (lines, line, code) in [
        ("publish tcp 8080 -> 80", "publish", "E0519"),
        ("private\n    publish tcp 8080 -> 80", "publish", "E0519"),
        ("private\n    listen tcp any\n    publish tcp 8080", "publish", "E0205"),
        ("private\n    listen tcp any\n    publish tcp 0 -> 80", "publish", "E0214"),
        ("private\n    listen tcp any\n    publish tcp 80-90 -> 80-91", "publish", "E0214"),
        ("private\n    listen tcp any\n    publish tcp 10.0.0.0/8:80 -> 80", "publish", "E0222"),
        (
            "private\n    listen tcp any\n    publish tcp 8080 -> 80\n    publish tcp 127.0.0.1:8080 -> 81",
            "publish tcp 127",
            "E0314",
        ),
        ("private\n    listen tcp 80\n    publish udp 8080 -> 80", "publish", "E0519"),
        ("host why \"x\"\n    publish tcp 8080 -> 80", "publish", "E0519"),
        ("host why \"x\"\n    listen udp 53", "listen", "E0519"),
        ("host why \"x\"\n    connect tcp 443 to 10.0.0.0/8", "connect", "E0519"),
        ("private\n    connect tcp 443 to 10.0.0.1/8", "connect", "E0222"),
        ("private\n    connect tcp 443 to 127.0.0.1", "connect", "E0519"),
        ("private\n    egress none\n    connect tcp 443", "egress", "E0301"),
        ("private\n    egress some", "egress", "E0202"),
        ("none\n    egress any", "egress", "E0519"),
        ("none\n    resolver host", "resolver", "E0519"),
        ("private\n    resolver 127.0.0.53", "resolver", "E0222"),
        ("private\n    address 10.0.0.5/24", "address", "E0519"),
        ("zone ..", "zone", "E0211"),
        ("zone a/b", "zone", "E0211"),
        ("bridge -rf", "bridge", "E0104"),
        ("bridge sixteen-letters-x", "bridge", "E0211"),
        ("bridge br0", "bridge", "E0519"),
        ("macvlan eth0\n    address 192.0.2.7", "address", "E0222"),
        ("macvlan eth0\n    address 192.0.2.7/24 gateway 198.51.100.1", "address", "E0222"),
        ("ipvlan eth0", "ipvlan", "E0519"),
        ("private\n    listen tcp any\n    publish tcp 224.0.0.1:80 -> 80", "publish", "E0222"),
        ("private\n    listen tcp any\n    publish tcp 255.255.255.255:80 -> 80", "publish", "E0222"),
        ("private\n    listen tcp any\n    publish tcp \"[fe80::1]:80\" -> 80", "publish", "E0222"),
        ("private\n    listen tcp any\n    publish tcp \"[::ffff:127.0.0.1]:80\" -> 80", "publish", "E0222"),
        ("private\n    connect tcp 443 to ::ffff:10.0.0.1", "connect", "E0222"),
        ("private\n    resolver 224.0.0.1", "resolver", "E0222"),
        ("macvlan eth0\n    address 192.0.2.255/24", "address", "E0222"),
        ("macvlan eth0\n    address 192.0.2.0/24", "address", "E0222"),
        ("macvlan eth0\n    address 192.0.2.7/24 gateway 192.0.2.255", "address", "E0222"),
        ("macvlan eth0\n    address 192.0.2.7/0", "address", "E0222"),
    ] {
        let policy = machine(&format!("  network {{\n    {lines}\n  }}"), "allow read");
        refused(&policy, code, line);
    }
    // Nobody inside could set up the link.
    let system = "policy 1\nkernel 6.12\nimport \"std/os\"\nmachine m {\n  extends std/os\n  root dir \"/r\" ephemeral\n  \
                  capabilities {\n    remove net_admin\n    remove net_raw\n  }\n  network { bridge br0 }\n}\n";
    refused(system, "E0519", "network { bridge");
    // What nobody may take away from itself.
    let body =
        "  network {\n    macvlan eth0\n    address 192.0.2.7/24\n  }\n  capabilities { keep net_admin why \"x\" }";
    let policy = machine(body, "allow read").replace("capabilities { none }\n", "");
    refused(&policy, "E0520", "keep net_admin");
}

#[test]
fn without_user_namespaces_nothing_starts() {
    if !root() {
        return;
    }
    let dir = Dir::new("userns");
    let policy = probing(&["status", "Seccomp=2"], NOBODY, "");
    let file = dir.write("test.stockade", &policy);
    // The limit belongs to a user namespace of the test's own and ends with it.
    let at = |limit: &str| -> Ran {
        let script = format!(
            "
import os, ctypes, sys
(r, w), (back, go) = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    ctypes.CDLL(None).unshare(0x10000000 | 0x20000)
    os.write(w, b'x'); os.read(back, 1)
    open('/proc/sys/user/max_user_namespaces', 'w').write('{limit}')
    os.execv('{0}', ['{0}', 'run', '{1}'])
os.read(r, 1)
for ids in ('uid_map', 'gid_map'): open(f'/proc/{{pid}}/{{ids}}', 'w').write('0 0 4294967295')
os.write(go, b'x')
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))",
            env!("CARGO_BIN_EXE_stockade"),
            file.display()
        );
        Command::new("python3").args(["-c", &script]).output().unwrap().into()
    };
    let none = at("0");
    assert!(none.code == 125 && !none.out.contains("OK"), "exit {}\n{}{}", none.code, none.out, none.err);
    assert!(
        none.err.contains("clone init") && none.err.contains("user") && none.err.contains("because of"),
        "{}",
        none.err
    );
    // With namespaces to be had it fails later, if at all: the refusal above was the limit's.
    let some = at("100");
    assert!(!some.err.contains("clone init"), "{}", some.err);
}

#[test]
fn userns_auto_is_never_the_identity() {
    if !root() {
        return;
    }
    let dir = Dir::new("identity");
    std::fs::create_dir_all(dir.0.join("root/proc")).unwrap();
    for d in ["sys", "dev"] {
        std::fs::create_dir(dir.0.join("root").join(d)).unwrap();
    }
    std::fs::copy(probe("tree"), dir.0.join("root/probe")).unwrap();
    let own = format!("root dir \"{}\" ro", dir.0.join("root").display());
    for who in [NOBODY, "user root group 0\n  capabilities { none }"] {
        for line in ["", "  userns auto"] {
            for file in ["uid_map", "gid_map"] {
                let text = probing(&["cat", &format!("/proc/self/{file}")], who, line);
                let folder = text.replace("root host", &own).replace("user root", "user 0");
                let folder: String =
                    folder.lines().filter(|l| !l.contains("mounts {")).map(|l| format!("{l}\n")).collect();
                for policy in [text, folder] {
                    let r = holds(&policy);
                    let numbers: Vec<u64> =
                        r.out.trim_start_matches("OK").split_whitespace().map(|n| n.parse().unwrap()).collect();
                    let [inside, outside, count] = numbers[..] else { panic!("{}", r.out) };
                    assert!(inside == 0 && outside >= 0x8_0000 && count == 65_536, "{}", r.out);
                }
            }
        }
    }
    // The host's root is given away by one word only, and that one needs a reason.
    let r = verb("check", &machine("  userns identity", "allow read"));
    assert!(r.code == 2 && r.err.contains("E0308"), "{}", r.err);
    let r = verb("check", &machine("  userns map 0 -> 0 count 65536", "allow read"));
    assert!(r.code == 2 && r.err.contains("E0507"), "{}", r.err);
}

#[test]
fn an_empty_machine_is_an_error() {
    let r = verb("check", "policy 1\nkernel 6.18\nmachine empty {\n}\n");
    assert!(r.code == 2 && r.err.contains("E0221") && r.err.contains("test.stockade:3:"), "{}", r.err);
    for text in ["", "\n", "# nothing\n", "policy 1\n", "policy 1\nkernel 6.18\n"] {
        for (v, want) in [("plan", 2), ("run", 125)] {
            let r = verb(v, text);
            assert!(
                r.code == want && r.out.is_empty() && !r.err.is_empty(),
                "{text:?}: {v} exit {}\n{}",
                r.code,
                r.err
            );
        }
    }
    // What is left out isn't filled with something generous.
    let whole = machine("", "allow read");
    for gone in ["root host", "exec ", "user 1000", "capabilities { none }"] {
        let text: String = whole.lines().filter(|l| !l.contains(gone)).map(|l| format!("{l}\n")).collect();
        refused(&text, "E0221", "machine t-");
    }
}

#[test]
fn a_capability_that_exec_would_drop_is_an_error() {
    for (line, who) in [
        ("permitted net_raw why \"x\"", "1000"),
        ("effective net_raw why \"x\"", "1000"),
        ("ambient net_raw why \"x\"", "1000"),
        ("inheritable net_raw why \"x\"", "1000"),
        ("permitted net_raw why \"x\"", "0"),
    ] {
        let policy = machine("", "allow read")
            .replace("{ none }", &format!("{{ {line} }}"))
            .replace("user 1000 group 1000", &format!("user {who} group {who}"));
        let r = run(&policy);
        let at = r.err.contains(&format!("test.stockade:{}:", line_of(&policy, line)));
        assert!(r.code == 125 && at && r.err.contains("error[E0502]"), "{line}: exit {}\n{}", r.code, r.err);
    }
    refused(&machine("", "allow read").replace("{ none }", "{ keep net_rwa }"), "E0501", "net_rwa");
}

#[test]
fn a_capability_that_the_launcher_lacks_is_an_error() {
    if !root() {
        return;
    }
    if Command::new("setpriv").arg("--version").output().is_err() {
        return skip("no setpriv(1)");
    }
    let dir = Dir::new("bounding");
    let line = "keep lease why \"a check\"";
    let text = machine("  userns identity why \"a check\"", "allow read").replace("{ none }", &format!("{{ {line} }}"));
    let file = dir.write("test.stockade", &text);
    let go = |set: &str| -> Ran {
        Command::new("setpriv")
            .arg(format!("--bounding-set={set}"))
            .arg(env!("CARGO_BIN_EXE_stockade"))
            .arg("run")
            .arg(&file)
            .output()
            .unwrap()
            .into()
    };
    let with = go("+all");
    assert!(!with.err.contains("E0603"), "the host's root has it: {}", with.err);
    let r = go("-lease");
    let at = r.err.contains(&format!("test.stockade:{}:", line_of(&text, line)));
    assert!(r.code == 125 && at && r.err.contains("E0603"), "exit {}\n{}", r.code, r.err);
}

#[test]
fn a_device_that_doesnt_exist_is_an_error() {
    refused(&machine("  devices { allow \"/dev/nothing\" why \"x\" }", "allow read"), "E0605", "/dev/nothing");
    refused(&machine("  mounts { bind \"/nothing/here\" -> \"/data\" ro }", "allow read"), "E0605", "/nothing/here");
    // A file that only looks like a device isn't one.
    let r = run(&machine("  devices { allow \"/dev/shm\" why \"x\" }", "allow read"));
    assert!(r.code == 125 && r.err.contains("error[E"), "exit {}\n{}", r.code, r.err);
}

#[test]
fn no_new_privs_is_on_and_nothing_is_inherited() {
    if !root() {
        return;
    }
    let zero = "0000000000000000";
    for who in [NOBODY, "user root\n  capabilities { none }", "user root\n  capabilities { keep chown }"] {
        let inherited = format!("CapInh={zero}");
        holds(&probing(
            &["status", "NoNewPrivs=1", &inherited, &format!("CapAmb={zero}"), "Seccomp=2", "Seccomp_filters=1"],
            who,
            "",
        ));
    }
    // Whatever the caller had inheritable and ambient.
    if Command::new("setpriv").arg("--version").output().is_err() {
        return skip("no setpriv(1)");
    }
    let dir = Dir::new("inherit");
    let file = dir.write(
        "test.stockade",
        &probing(
            &[
                "status",
                "NoNewPrivs=1",
                "CapInh=0000000000000000",
                "CapPrm=0000000000000000",
                "CapEff=0000000000000000",
                "CapBnd=0000000000000000",
                "CapAmb=0000000000000000",
            ],
            NOBODY,
            "",
        ),
    );
    let r = Ran::from(
        Command::new("setpriv")
            .args(["--inh-caps=+chown,+net_raw", "--ambient-caps=+chown,+net_raw"])
            .arg(env!("CARGO_BIN_EXE_stockade"))
            .arg("run")
            .arg(&file)
            .output()
            .unwrap(),
    );
    assert!(r.code == 0 && r.out.contains("OK"), "exit {}\n{}{}", r.code, r.out, r.err);
    // To give it up takes a line with a reason.
    let r = verb("check", &machine("  no-new-privs off", "allow read"));
    assert!(r.code == 2 && r.err.contains("error[E"), "{}", r.err);
}

#[test]
fn another_process_isnt_read_without_ptrace() {
    if !root() {
        return;
    }
    let own = Command::new(probe("tree")).args(["try", "vmread:self,0:ok"]).output().unwrap();
    assert!(own.status.success(), "outside it works: {}", String::from_utf8_lossy(&own.stdout));
    for profile in ["std/daemon", "std/net-server", "std/build"] {
        let policy = probing(&["try", "vmread:self,0:EPERM", "vmread:1,0:EPERM"], NOBODY, "");
        let policy = policy
            .replace("extends std/daemon", &format!("extends {profile}"))
            .replace("import \"std/daemon\"", "import \"std/daemon\"\nimport \"std/build\"");
        let policy = if profile == "std/build" { policy.replace("  capabilities { none }\n", "") } else { policy };
        holds(&policy);
    }
}

#[test]
fn the_filter_is_the_last_thing_before_the_program() {
    let dir = Dir::new("order");
    let file = dir.write("test.stockade", &machine("", "allow @inet"));
    let r = Ran::from(stockade().args(["plan", "--json"]).arg(&file).output().unwrap());
    assert_eq!(r.code, 0, "{}", r.err);
    let plan: serde_json::Value = serde_json::from_str(&r.out).unwrap();
    let steps = plan["steps"].as_array().unwrap();
    let kind = |i: usize| match &steps[i]["action"] {
        serde_json::Value::String(s) => s.clone(),
        other => other.as_object().unwrap().keys().next().unwrap().clone(),
    };
    let last: Vec<String> = (steps.len() - 2..steps.len()).map(kind).collect();
    assert_eq!(last, ["load-seccomp", "exec"]);
    assert_eq!((0..steps.len()).filter(|i| kind(*i) == "load-seccomp").count(), 1);
    if !root() {
        return;
    }
    // So none of the launcher's own calls has to be granted.
    let check = [
        "try",
        "setuid:1000:EPERM",
        "capset:0:EPERM",
        "newtmpfs:/tmp:EPERM",
        "unshare:0x20000:EPERM",
        "escape:/tmp:EPERM",
    ];
    holds(&probing(&check, NOBODY, "  mounts { tmpfs \"/tmp\" }\n"));
}

#[test]
fn the_hostname_is_set_or_nothing_starts() {
    if !root() {
        return;
    }
    let before = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    holds(&probing(&["try", "is:/proc/sys/kernel/hostname,inside:ok"], NOBODY, "  hostname inside\n"));
    assert_eq!(before, std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap());
}

/// A host that refuses a call of the set-up: nothing may run with less confinement instead.
#[test]
fn a_refused_call_of_the_set_up_starts_nothing() {
    if !root() {
        return;
    }
    if Command::new("strace").arg("-V").output().is_err() {
        return skip("no strace(1)");
    }
    let dir = Dir::new("inject");
    let files = "  files {\n    exec \"/probe\"\n    read \"/proc\"\n  }\n  hostname inside\n";
    let file = dir.write("test.stockade", &probing(&["status", "Seccomp=2"], NOBODY, files));
    let go = |inject: &str| -> Ran {
        let mut c = Command::new("strace");
        c.args(["-f", "-o", "/dev/null"]);
        if !inject.is_empty() {
            c.args(["-e", &format!("inject={inject}")]);
        }
        c.arg(env!("CARGO_BIN_EXE_stockade"))
            .arg("run")
            .arg(&file)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
            .into()
    };
    let plain = go("");
    if plain.code != 0 {
        return skip(&format!("strace can't follow a machine here: {}", plain.err));
    }
    for (call, errno) in [
        ("seccomp", "EINVAL"),
        ("seccomp", "ENOSYS"),
        ("landlock_restrict_self", "EOPNOTSUPP"),
        ("landlock_add_rule", "EINVAL"),
        ("sethostname", "EPERM"),
        ("capset", "EPERM"),
        ("setgroups", "EPERM"),
        ("setresuid", "EAGAIN"),
        ("setresgid", "EPERM"),
        ("mount_setattr", "EINVAL"),
        ("move_mount", "EACCES"),
        ("open_tree", "EPERM"),
        ("fsmount", "EPERM"),
        ("pivot_root", "EINVAL"),
        ("umount2", "EBUSY"),
        ("unshare", "EPERM"),
        ("setsid", "EPERM"),
        ("close_range", "ENOSYS"),
        ("setns", "EPERM"),
        ("chdir", "EACCES"),
    ] {
        let r = go(&format!("{call}:error={errno}"));
        assert!(r.code == 125 && !r.out.contains("OK"), "{call} {errno}: exit {}\n{}{}", r.code, r.out, r.err);
        // libseccomp asks the kernel before anything is launched, and then makes no filter at all.
        // close_range is the launcher's own first call.
        let early = call == "seccomp" && r.err.contains("test.stockade:") || call == "close_range";
        assert!(early || r.err.contains("at step ") && r.err.contains("because of "), "{call} {errno}\n{}", r.err);
    }
}
