//! On another host than this one: a Debian with systemd as PID 1 and pure cgroup v2, in an emulator; and on an
//! older kernel, to see what is refused there. The scripts are tests/vm/machines and tests/vm/older.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends at the first surprise")]

mod harness;

use std::path::Path;
use std::process::Command;

/// Boots and runs a script; every line that it promises is there, and none that says otherwise.
fn boot(kernel: &str, script: &str, seconds: u32, at_least: usize) {
    if !harness::root() || harness::debian().is_none() {
        return;
    }
    if ["/usr/bin/qemu-system-x86_64", "/usr/bin/busybox", "/usr/bin/cpio"].iter().any(|p| !Path::new(p).exists()) {
        return harness::skip("qemu-system-x86, busybox-static or cpio isn't installed");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm");
    let out = Command::new(folder.join("boot"))
        .arg(kernel)
        .arg(folder.join(script))
        .arg(seconds.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| l.starts_with("vm: ")).collect();
    println!("{}", lines.join("\n"));
    assert!(lines.contains(&"vm: done"), "it didn't come to its end:\n{said}");
    assert!(!said.contains("vm: FAILED"), "{said}");
    let fine = lines.iter().filter(|l| l.starts_with("vm: ok")).count();
    assert!(fine >= at_least, "{fine} of {at_least}:\n{said}");
    let host = if kernel == "6.1" { "cgroup2fs" } else { "cgroup2fs, networkd active" };
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with(&format!("vm: {kernel}.")) && l.contains("PID 1 systemd") && l.contains(host)),
        "{said}"
    );
}

#[test]
fn machines_on_pure_cgroup_v2_under_systemd() {
    boot("6.12", "machines", 900, 13);
}

#[test]
fn an_older_kernel_refuses_what_it_cannot_hold() {
    boot("6.1", "older", 240, 4);
}
