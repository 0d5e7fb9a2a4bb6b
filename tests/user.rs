//! An ordinary user runs `exec` machines, under the same confinement but for the single id.
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

use harness::{Dir, Ran, root};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

const UID: u32 = 54321;

/// Runs the command as a user who has nothing.
fn as_user(policy: &str, verb: &str) -> Ran {
    as_user_in(policy, verb, "--clear-groups")
}

fn as_user_in(policy: &str, verb: &str, groups: &str) -> Ran {
    let dir = Dir::new("user");
    let program = dir.0.join("stockade");
    std::fs::copy(env!("CARGO_BIN_EXE_stockade"), &program).unwrap();
    let file = dir.write("test.stockade", policy);
    for path in [&dir.0, &program, &file] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    Command::new("setpriv")
        .args(["--reuid", &UID.to_string(), "--regid", &UID.to_string(), groups])
        .arg(&program)
        .arg(verb)
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .unwrap()
        .into()
}

fn machine(exec: &str, body: &str) -> String {
    harness::host_machine(exec, &format!("  user nobody\n  capabilities {{ none }}\n{body}"))
}

#[test]
fn an_ordinary_user_runs_a_machine() {
    if !root() {
        return;
    }
    let script = "id -u; cat /proc/self/uid_map; grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; ls /home /root 2>&1; wc -c < /proc/kallsyms";
    let ran = as_user(&machine(&format!("\"/bin/sh\" \"-c\" \"{script}\""), ""), "run");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let lines: Vec<&str> = ran.out.lines().map(str::trim).collect();
    assert_eq!(lines[0], "65534", "{lines:?}");
    let map: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!((map[0], map[2]), ("65534", "1"), "{lines:?}");
    for want in ["CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(ran.out.contains(want), "{}", ran.out);
    }
    assert!(ran.out.contains("cannot access '/home'") && ran.out.contains("cannot access '/root'"), "{}", ran.out);
    assert_eq!(lines.last(), Some(&"0"), "masks hold: {}", ran.out);
}

#[test]
fn what_only_root_can_do_is_refused_with_its_line() {
    if !root() {
        return;
    }
    for (body, line) in [("  userns map 0 -> 100000 count 65536", 10), ("  userns identity why \"test\"", 10)] {
        let ran = as_user(&machine("\"/bin/true\"", body), "run");
        assert_eq!(ran.code, 125, "{}", ran.err);
        assert!(ran.err.contains("E0601") && ran.err.contains(&format!("test.stockade:{line}:")), "{}", ran.err);
    }
    let boot =
        "policy 1\nkernel 6.18\nimport \"std/os\"\nmachine b {\n  extends std/os\n  root dir \"/\" ephemeral\n}\n";
    let ran = as_user(boot, "run");
    assert!(ran.code == 125 && ran.err.contains("E0601"), "{}", ran.err);
}

/// An ordinary user can't give groups up: the policy says that they stay, or nothing runs.
#[test]
fn groups_of_the_caller_stay_only_where_it_is_written() {
    if !root() {
        return;
    }
    let ran = as_user_in(&machine("\"/usr/bin/id\" \"-G\"", ""), "run", "--groups=4242");
    assert!(ran.code == 125 && ran.err.contains("E0609") && ran.err.contains("4242"), "{}", ran.err);
    let line = "\"/bin/grep\" \"^Groups:\" \"/proc/self/status\"";
    let text = machine(line, "").replace("user nobody", "user nobody groups caller");
    // A group that isn't mapped shows as the overflow group.
    for (groups, shown) in [("--groups=4242", "65534"), ("--clear-groups", "")] {
        let ran = as_user_in(&text, "run", groups);
        assert_eq!((ran.code, ran.out.trim_start_matches("Groups:").trim()), (0, shown), "{}", ran.err);
    }
}

#[test]
fn exit_codes_and_signals_are_exact() {
    if !root() {
        return;
    }
    for (script, code) in [("exit 7", 7), ("kill -TERM $$", 128 + 15), ("kill -KILL $$", 128 + 9), ("exit 0", 0)] {
        let text = machine(&format!("\"/bin/sh\" \"-c\" \"{script}\""), "");
        assert_eq!(as_user(&text, "run").code, code, "{script}");
        assert_eq!(harness::run(&text).code, code, "{script} as root");
    }
}

/// Facts that only root may read lack to nobody else: what a user asks is answered.
#[test]
fn a_user_is_told_what_a_network_takes() {
    if !root() {
        return;
    }
    // It is there with the older iptables alone, which some kernels have built in.
    let _loaded = Command::new("modprobe").args(["-qa", "ip_tables", "ip6_tables"]).status();
    if !std::path::Path::new("/proc/net/ip_tables_names").exists() {
        return harness::skip("this kernel has no older iptables");
    }
    let text = machine("\"/bin/true\"", "network { private; listen tcp 80 }")
        .replace("extends std/daemon", "extends std/net-server");
    let ran = as_user(&text, "plan");
    assert!(
        ran.code == 3 && ran.err.matches("error[E").count() == 1 && ran.err.contains("error[E0601]"),
        "{}",
        ran.err
    );
    let dir = Dir::new("doctor");
    let program = dir.0.join("stockade");
    std::fs::copy(env!("CARGO_BIN_EXE_stockade"), &program).unwrap();
    for path in [&dir.0, &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let user = UID.to_string();
    let ran: Ran = Command::new("setpriv")
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .arg(&program)
        .arg("doctor")
        .output()
        .unwrap()
        .into();
    assert!(ran.out.contains("forwarding") && !ran.err.contains("ermission"), "{}{}", ran.out, ran.err);
}
