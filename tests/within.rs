//! `within`, proved: what exceeds a ceiling is named with its line and a call that shows it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test ends at the first surprise")]

mod harness;

use harness::verb;

/// A machine below `ceiling`, with its own statements.
fn machine(ceiling: &str, body: &str) -> String {
    format!(
        "policy 1\nkernel 6.12\nimport \"std/daemon\"\nprofile cap {{\n{ceiling}\n}}\nmachine m {{\n  within cap\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n{body}\n}}\n"
    )
}

fn refused(ceiling: &str, body: &str, words: &[&str]) {
    let ran = verb("check", &machine(ceiling, body));
    let fine = ran.code == 2 && ran.err.contains("E0705") && words.iter().all(|w| ran.err.contains(w));
    assert!(fine, "{words:?}\n{}{}", ran.out, ran.err);
}

fn accepted(ceiling: &str, body: &str) {
    let ran = verb("check", &machine(ceiling, body));
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

const CALLS: &str = "syscalls { allow @system-service; allow socket(family in [AF_UNIX, AF_INET]); deny clone3 errno ENOSYS; deny openat2 errno ENOSYS; kill @tripwire }";
const NONE: &str = "  capabilities { none }";

fn calls(line: &str) -> String {
    format!(
        "{NONE}\n  syscalls {{\n    allow @system-service\n    deny clone3 errno EPERM\n    deny openat2 errno ENOSYS\n    kill @tripwire\n    {line}\n  }}"
    )
}

#[test]
fn calls_are_proved_and_the_counterexample_is_named() {
    accepted(CALLS, &calls("allow socket(family == AF_INET, type & 0xf == SOCK_STREAM)"));
    // Less by other words is still less.
    accepted(CALLS, &calls("allow socket(family in 1..=2)"));
    refused(CALLS, &calls("allow socket(family in 1..=3)"), &["socket(family=0x3)", "t.stockade:18", "errno EPERM"]);
    refused(CALLS, &calls("allow ptrace"), &["ptrace()", "is allow", "says errno EPERM"]);
    // Killing is stricter than refusing, and refusing is less strict than killing.
    accepted(CALLS, &calls("kill setpriority"));
    refused(CALLS, calls("").replace("    kill @tripwire\n", "").as_str(), &["is errno EPERM", "says kill"]);
}

#[test]
fn the_other_domains_are_bounded() {
    let with = |ceiling: &str| format!("{CALLS}\n{ceiling}");
    let body = |line: &str| calls("").replace(NONE, &format!("{NONE}\n  {line}"));
    let caps = |line: &str| calls("").replace(NONE, &format!("  capabilities {{ {line} }}"));
    refused(CALLS, &caps("keep net_bind_service"), &["capabilities `keep net_bind_service`"]);
    accepted(&with("capabilities { keep net_bind_service }"), &caps("keep net_bind_service"));
    accepted(&with("capabilities { keep net_bind_service }"), &caps("bounding net_bind_service"));
    refused(&with("capabilities { bounding net_bind_service }"), &caps("keep net_bind_service"), &["capabilities"]);
    refused(CALLS, &body("network { listen tcp 80 }"), &["network `listen tcp 80`"]);
    accepted(&with("network { listen tcp any }"), &body("network { listen tcp 80 }"));
    refused(&with("network { listen tcp 80 }"), &body("network { listen tcp any }"), &["listen tcp any"]);
    refused(&with("limits { nofile 100 }"), &body("limits { nofile 200 }"), &["limits `nofile 200`"]);
    refused(&with("limits { nofile 100 }"), &body(""), &["limits `nofile unlimited`"]);
    accepted(&with("limits { nofile 100 }"), &body("limits { nofile 100 }"));
    let files = "files { read \"/usr\"; exec \"/usr\" }";
    accepted(&with(files), &body("files { exec \"/usr/bin\" }"));
    refused(&with(files), &body("files { exec \"/usr\"; read \"/etc\" }"), &["files `read \"/etc\"`"]);
    refused(&with(files), &body(""), &["no file rules"]);
    refused(&with(files), &body("files { exec \"/usrlocal\" }"), &["/usrlocal"]);
    let bind = "mounts { bind \"/srv\" -> \"/srv\" ro }";
    accepted(&with(bind), &body(bind));
    refused(&with(bind), &body(&bind.replace(" ro ", " rw why \"x\" ")), &["mounts"]);
    refused(CALLS, &body("userns identity why \"x\""), &["userns identity"]);
}

#[test]
fn a_ceiling_cannot_be_walked_around() {
    let lift = calls("override deny clone3 why \"no\"").replace("    deny clone3 errno EPERM\n", "");
    let text = machine(CALLS, &lift).replace("machine m {", "machine m {\n  extends std/daemon");
    let ran = verb("check", &text);
    assert!(ran.code == 2 && ran.err.contains("E0312"), "{}", ran.err);
    let ran = verb("check", &machine(CALLS, &calls("")).replace("within cap", "within cpa"));
    assert!(ran.code == 2 && ran.err.contains("E0303") && ran.err.contains("cap"), "{}", ran.err);
    // A ceiling of a parent holds for those that extend it.
    let text = machine(CALLS, &calls("allow ptrace"))
        .replace("machine m {\n  within cap", "profile base {\n  within cap\n}\nmachine m {\n  extends base");
    assert!(verb("check", &text).err.contains("E0705"));
}

/// Found by a hostile review.
#[test]
fn what_a_ceiling_says_is_all_held() {
    let with = |ceiling: &str| format!("{CALLS}\n{ceiling}");
    let body = |line: &str| calls("").replace(NONE, &format!("{NONE}\n  {line}"));
    refused(CALLS, &body("userns map 0 -> 1 count 60000"), &["userns"]);
    refused(CALLS, &body("mounts { bind \"/srv\" -> \"/mnt\" rw dev why \"x\" }"), &["mounts"]);
    refused(&with("mounts { hide \"/home\" }"), &body(""), &["hide \"/home\""]);
    accepted(&with("mounts { hide \"/home\" }"), &body("mounts { hide \"/home\" }"));
    accepted(&with("mounts { tmpfs \"/t\" size=100MiB }"), &body("mounts { tmpfs \"/t\" size=1MiB }"));
    refused(&with("mounts { tmpfs \"/t\" size=1MiB }"), &body("mounts { tmpfs \"/t\" size=100MiB }"), &["\"/t\" of"]);
    accepted(&with("limits { core 0 }"), &body(""));
    accepted(CALLS, &body("require landlock 7"));
    refused(CALLS, &body("require landlock 3"), &["landlock 3"]);
    // Its assertions are held, and its own ceilings.
    let ran = verb("check", &machine(&with("assert { never syscall read }"), &calls("")));
    assert!(ran.code == 2 && ran.err.contains("E0703"), "{}", ran.err);
    let text = machine(&format!("  within tighter\n{CALLS}"), &calls(""))
        .replace("profile cap {", "profile tighter { syscalls { allow exit_group } }\nprofile cap {");
    assert!(verb("check", &text).err.contains("more than `tighter`"));
}

/// An instance sets its machine's parameters, not its ceiling's; and an imported file boots nothing.
#[test]
fn an_instance_does_not_raise_its_ceiling() {
    let text = machine(
        &format!("{CALLS}\nnetwork {{ connect tcp ${{highest}} }}"),
        &calls("").replace(NONE, &format!("{NONE}\n  network {{ connect tcp ${{highest}} }}")),
    )
    .replace("profile cap", "param highest port 80\nprofile cap")
        + "instance other of m [highest=443]\n";
    let ran = verb("check", &text);
    assert!(ran.code == 2 && ran.err.contains("`other` grants more than `cap`"), "{}", ran.err);
}

/// The work is bounded, whatever a ceiling says.
#[test]
fn a_small_ceiling_stays_cheap() {
    let lines = |range: std::ops::Range<u32>| -> String {
        range.map(|i| format!("allow kcmp(pid1 has all [{0}], pid2 has all [{0}]); ", 1u32 << i)).collect()
    };
    let started = std::time::Instant::now();
    let ceiling = format!(
        "syscalls {{ allow @system-service; {} deny clone3 errno ENOSYS; deny openat2 errno ENOSYS; kill @tripwire }}",
        lines(0..15)
    );
    let ran = verb("check", &machine(&ceiling, &calls(&lines(15..30))));
    assert!(ran.code == 2, "{}{}", ran.out, ran.err);
    assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
    let errnos: String = ["EACCES", "EAGAIN", "EBUSY", "EEXIST", "EINVAL", "EIO", "EISDIR", "ELOOP"]
        .iter()
        .enumerate()
        .map(|(i, e)| {
            format!("    deny lseek(offset in 1..=0x7ffffffffffffffe, fd in 1..=254, whence == {i}) errno {e}\n")
        })
        .collect();
    let started = std::time::Instant::now();
    let ran = verb("check", &machine(CALLS, &calls(&errnos)));
    assert!(ran.code == 2 && ran.err.contains("E0414"), "{}", ran.err);
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}
