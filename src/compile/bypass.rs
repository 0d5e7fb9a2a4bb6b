//! Calls that do what a condition on another call withholds.

use super::cube::{self, ALL, Cube};
use super::seccomp::Regions;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::syscalls::{Action, Rule};

/// Reports each conditioned call whose open twin is allowed. Judged on what all rules together allow: a
/// call whose conditions make up everything isn't limited.
pub(super) fn check(policy: &Policy, arch: Arch, regions: &[Regions], d: &mut Diagnostics) {
    let allowed = |name: &str| -> Vec<Cube> {
        let number = arch.number(name);
        regions.iter().find(|r| Some(r.number()) == number).map(Regions::allowed).unwrap_or_default()
    };
    let rule = |name: &str, conditions: bool| -> Option<&Rule> {
        policy
            .syscalls
            .iter()
            .find(|r| r.call.name == name && r.action <= Action::Log && r.conditions.is_empty() != conditions)
    };
    for (conditioned, open, arguments, fix) in BYPASSES {
        let (Some(limited), Some(other)) = (rule(conditioned, true), rule(open, false)) else { continue };
        let about = |r: &Rule| {
            r.conditions.iter().any(|c| {
                arguments.is_empty()
                    || r.call.args.get(usize::from(c.argument)).is_some_and(|a| arguments.contains(&a.name))
            })
        };
        if !about(limited) || allowed(open).is_empty() {
            continue;
        }
        // Too many cubes to tell is not "everything".
        if cube::minus(&[ALL], &allowed(conditioned)).is_ok_and(|rest| rest.is_empty()) {
            continue;
        }
        d.push(
            Diagnostic::error(
                "E0410",
                limited.span,
                format!("the condition on `{conditioned}` can be bypassed with `{open}`"),
            )
            .also(other.span, format!("`{open}` is allowed here without a condition"))
            .help(*fix),
        );
    }
}

/// (conditioned call, its open twin, arguments whose condition is bypassed, what to do)
const BYPASSES: &[(&str, &str, &[&str], &str)] = &[
    (
        "clone",
        "clone3",
        &["clone_flags"],
        "`deny clone3 errno ENOSYS`: its flags are behind a pointer, and libc falls back to clone",
    ),
    ("clone", "unshare", &["clone_flags"], "condition `unshare` likewise, or remove it"),
    ("socket", "io_uring_setup", &[], "remove `io_uring_setup`: a ring opens sockets without the socket call"),
    ("openat", "io_uring_setup", &[], "remove `io_uring_setup`: a ring opens files without the open calls"),
    ("open", "io_uring_setup", &[], "remove `io_uring_setup`: a ring opens files without the open calls"),
    ("openat", "openat2", &[], "`deny openat2 errno ENOSYS`: its flags are behind a pointer"),
    ("open", "openat2", &[], "`deny openat2 errno ENOSYS`: its flags are behind a pointer"),
    ("openat", "open", &[], "condition `open` likewise"),
    ("open", "openat", &[], "condition `openat` likewise"),
    ("openat", "creat", &[], "remove `creat`: it is open with O_CREAT|O_TRUNC|O_WRONLY"),
    ("mmap", "mprotect", &["prot"], "condition `mprotect` likewise: it changes what `mmap` was refused"),
    ("mprotect", "mmap", &["prot"], "condition `mmap` likewise"),
    ("mmap", "pkey_mprotect", &["prot"], "condition `pkey_mprotect` likewise, or remove it"),
    ("kill", "pidfd_send_signal", &["sig"], "condition `pidfd_send_signal` likewise, or remove it"),
    ("kill", "tkill", &["sig"], "condition `tkill` likewise, or remove it"),
    ("kill", "rt_sigqueueinfo", &["sig"], "condition `rt_sigqueueinfo` likewise, or remove it"),
    ("setns", "unshare", &[], "condition `unshare` likewise, or remove it"),
    ("fchmodat", "fchmodat2", &["mode"], "condition `fchmodat2` likewise, or remove it"),
    ("chmod", "fchmodat", &["mode"], "condition `fchmodat` likewise"),
    ("socket", "socketcall", &[], "remove `socketcall`: the family is behind a pointer"),
    ("unshare", "clone", &[], "condition `clone` likewise"),
    ("unshare", "clone3", &[], "`deny clone3 errno ENOSYS`: its flags are behind a pointer"),
    ("open", "creat", &[], "remove `creat`: it is open with O_CREAT|O_TRUNC|O_WRONLY"),
    ("open", "open_by_handle_at", &[], "remove `open_by_handle_at`: it opens any file of the file system"),
    ("openat", "open_by_handle_at", &[], "remove `open_by_handle_at`: it opens any file of the file system"),
    ("mprotect", "pkey_mprotect", &["prot"], "condition `pkey_mprotect` likewise, or remove it"),
    ("mknod", "mknodat", &["mode"], "condition `mknodat` likewise"),
    ("mknodat", "mknod", &["mode"], "condition `mknod` likewise"),
    ("kill", "tgkill", &["sig"], "condition `tgkill` likewise, or remove it"),
    ("kill", "rt_tgsigqueueinfo", &["sig"], "condition `rt_tgsigqueueinfo` likewise, or remove it"),
    ("tgkill", "kill", &["sig"], "condition `kill` likewise, or remove it"),
    ("tgkill", "tkill", &["sig"], "condition `tkill` likewise, or remove it"),
    ("tkill", "tgkill", &["sig"], "condition `tgkill` likewise, or remove it"),
    ("pidfd_send_signal", "kill", &["sig"], "condition `kill` likewise, or remove it"),
    ("chmod", "fchmod", &["mode"], "condition `fchmod` likewise"),
    ("chmod", "fchmodat2", &["mode"], "condition `fchmodat2` likewise, or remove it"),
    ("fchmodat", "chmod", &["mode"], "condition `chmod` likewise"),
    ("mount", "mount_setattr", &[], "remove `mount_setattr`: its attributes are behind a pointer"),
    ("mount", "move_mount", &[], "condition `move_mount` likewise, or remove it"),
];
