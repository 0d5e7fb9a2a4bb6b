//! Limits that the machine could lift, or that the kernel doesn't hold for it: those of the host's root.

use super::asserts::mounting;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::kernel::numbers::Arch;
use crate::policy::files::is_below;
use crate::policy::mounts::Source;
use crate::policy::process::Userns;
use crate::policy::resources::{self, UNLIMITED};
use crate::policy::{Policy, capabilities};
use crate::source::Span;

/// Where a host has its control groups (cgroups(7)).
const GROUPS: &str = "/sys/fs/cgroup";

/// Which capabilities in the host's user namespace lift which resource besides CAP_SYS_RESOURCE, which lifts all
/// (capabilities(7), getrlimit(2); for processes copy_process() in kernel/fork.c).
const LIFTED_BY: &[(&str, &[&str])] =
    &[("nproc", &["sys_admin"]), ("memlock", &["ipc_lock"]), ("nice", &["sys_nice"]), ("rtprio", &["sys_nice"])];

/// Reports each limit that wouldn't hold. In a user namespace of its own no machine has what it takes.
pub(super) fn check(policy: &Policy, arch: Arch, d: &mut Diagnostics) {
    if policy.userns.value != Userns::Identity {
        return;
    }
    let mut group = None;
    for (name, limit) in policy.limits.iter().filter(|(_, l)| l.value != UNLIMITED) {
        if resources::resource(name).is_none() {
            group = group.or((name != "time").then_some(limit.span));
        } else if let Some((who, help)) = lifter(policy, name) {
            let text = format!("the kernel doesn't hold `{name}` for {who}");
            d.push(Diagnostic::error("E0522", limit.span, text).help(help));
        }
    }
    if let Some(span) = group
        && let Some((by, how)) = reaches_groups(policy, arch, d)
    {
        let text = "the machine could lift this: as the host's root it reaches the files of control groups";
        d.push(
            Diagnostic::error("E0522", span, text)
                .also(by, how)
                .help("`userns auto`; or neither calls that mount nor a place where theirs are shown"),
        );
    }
}

fn lifter(policy: &Policy, name: &str) -> Option<(String, &'static str)> {
    let others = LIFTED_BY.iter().find(|(n, _)| *n == name).map_or(&[][..], |(_, by)| by);
    let mut held = policy.capabilities.iter().map(|g| capabilities::name(g.capability));
    if let Some(cap) = held.find(|cap| cap == "sys_resource" || others.contains(&cap.as_str())) {
        return Some((format!("who has `{cap}` on the host"), "`userns auto`; or without the capability"));
    }
    (name == "nproc" && policy.user.value.is_root())
        .then(|| ("the host's root".to_owned(), "`userns auto`; or `tasks`"))
}

/// How the machine can write to the files of its own groups, which are the host's root's: it has them in sight, or mounts
/// the hierarchies, in user and control-group namespaces that it makes if need be.
fn reaches_groups(policy: &Policy, arch: Arch, d: &mut Diagnostics) -> Option<(Span, String)> {
    let powerless = policy.capabilities.is_empty() && policy.no_new_privs;
    if powerless && !policy.user.value.is_root() {
        return None;
    }
    let mut shown = policy.mounts.iter().filter(|m| match &m.source {
        Source::Bind(path) => is_below(path, GROUPS) || is_below(GROUPS, path),
        _ => false,
    });
    let seen = shown.clone().next();
    if let Some(m) = shown.find(|m| m.writable) {
        return Some((m.span, "they are shown here".to_owned()));
    }
    // Under rules for files nothing is mounted, but what is seen can be made writable (mount_setattr(2)).
    let m = mounting(policy, arch, d).filter(|_| policy.files.is_empty() || seen.is_some())?;
    Some((m.span, m.how))
}
