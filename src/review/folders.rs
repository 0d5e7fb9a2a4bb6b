//! How grave it is to see or to change a folder of the host.

use super::risk::Risk::{Critical, High, Low, Medium};
use super::risk::{Grade, grade};
use crate::compile::places::{self, ALIASES, resolved};
use crate::policy::Policy;
use crate::policy::files::is_below;
use crate::policy::mounts::{Access, Origin};
use crate::proof::order::Effect;

/// Places of the host that give more than files.
const SENSITIVE: &[(&str, &str)] = &[
    ("/", "the whole host"),
    ("/etc", "the host's settings and accounts"),
    ("/usr", "the host's programs"),
    ("/gnu", "the host's programs"),
    ("/nix", "the host's programs"),
    ("/ostree", "the host's programs"),
    ("/snap", "the host's programs"),
    ("/sysroot", "the host's programs"),
    ("/boot", "the host's kernel"),
    ("/efi", "the host's boot loader"),
    ("/root", "the administrator's files and keys"),
    ("/home", "people's files and keys"),
    ("/var/lib/cloud", "what the host runs when it starts"),
    ("/var/lib/containerd", "containers of others"),
    ("/var/lib/confexts", "what is laid over the host's settings (systemd-sysext(8))"),
    ("/var/lib/docker", "an engine's data"),
    ("/var/lib/dpkg", "what the host's package manager runs"),
    ("/var/lib/etcd", "a cluster's state and keys"),
    ("/var/lib/extensions", "what is laid over the host's programs (systemd-sysext(8))"),
    ("/var/lib/flatpak", "programs of the host"),
    ("/var/lib/incus", "an engine's data"),
    ("/var/lib/containers", "an engine's data"),
    ("/var/lib/kubelet", "an engine's data"),
    ("/var/lib/libvirt", "an engine's data"),
    ("/var/lib/lxc", "an engine's data"),
    ("/var/lib/lxd", "an engine's data"),
    ("/var/lib/machines", "other machines"),
    ("/var/lib/pacman", "what the host's package manager runs"),
    ("/var/lib/portables", "services of the host"),
    ("/var/lib/rancher", "an engine's data"),
    ("/var/lib/rpm", "what the host's package manager runs"),
    ("/var/lib/snapd", "programs of the host"),
    ("/var/lib/sss", "the host's accounts"),
    ("/var/lib/sudo", "who is root without a password"),
    ("/var/lib/systemd", "state and keys of the host's service manager"),
    ("/var/backups", "copies of the host's accounts"),
    ("/var/log", "what the host and its users did"),
    ("/var/snap", "data of the host's programs"),
    ("/var/spool/anacron", "what the host runs by itself"),
    ("/var/spool/at", "what the host runs by itself"),
    ("/var/spool/cron", "what the host runs by itself"),
    ("/dev", "the host's devices"),
    ("/proc", "the host's processes"),
    ("/sys", "the host's kernel settings"),
    ("/run", "other services' sockets"),
    ("/run/docker.sock", "an engine that runs anything as root"),
    ("/run/systemd", "the host's service manager"),
    ("/run/dbus", "the host's message bus"),
];

/// A root of the host's own files.
pub(super) fn root(policy: &Policy) -> Grade {
    let access = policy.root.value.access;
    match &policy.root.value.origin {
        Origin::Directory(d) if is_image(d) => grade(Medium, "another root than was reviewed", "machinectl(1)"),
        Origin::Directory(d) if is_sensitive(d) && access == Access::ReadWrite => {
            grade(Critical, "writes where the host keeps its own", "mount_namespaces(7)")
        }
        Origin::Directory(d) if is_sensitive(d) => {
            grade(High, "sees where the host keeps its own", "mount_namespaces(7)")
        }
        _ => grade(Medium, "another program or another root than was reviewed", "execve(2)"),
    }
}

pub(super) fn mounts(source: &str, [writable, exec, suid, dev, translated]: [bool; 5]) -> Grade {
    let base = folder(source, writable, exec, translated);
    match (suid || dev) && base.risk < High {
        true => grade(High, "set-user-ID files or devices work on it", "mount(2)"),
        false => base,
    }
}

/// What is seen where a mount was taken away, and what that does; of the mount whether it was written to and executed.
pub(super) fn uncovered(policy: &Policy, place: &str, was: [bool; 2], as_gone: (Grade, Effect)) -> (Grade, Effect) {
    let (writes, executes) = places::allows(policy, place).unwrap_or((false, false));
    let [writes, executes] = [writes && !was[0], executes && !was[1]];
    let host = places::shown(policy, place);
    // An image lies among the others, and is this machine's own.
    let own = match &policy.root.value.origin {
        Origin::Directory(d) if is_image(d) => Some(d),
        _ => None,
    };
    let sensitive = |path: &str| own.is_none_or(|image| !is_below(path, image)) && is_sensitive(path);
    let seen = match host.as_ref().map(|(path, writable)| (sensitive(path), *writable)) {
        Some((true, true)) => {
            grade(Critical, "what it covered can be written to: where the host keeps its own", "mount(2)")
        }
        Some((true, false)) => grade(High, "what it covered is seen: where the host keeps its own", "mount(2)"),
        Some((false, true)) => grade(Medium, "what it covered can be written to", "mount(2)"),
        _ if writes && executes => grade(Medium, "what it covered can be written to and executed", "mount(2)"),
        _ if writes => grade(Medium, "what it covered can be written to", "mount(2)"),
        _ if executes => grade(Medium, "what it covered can be executed", "mount(2)"),
        Some((false, false)) => grade(Low, "what it covered is seen", "mount(2)"),
        None => return as_gone,
    };
    let wider = seen.risk >= High || writes || executes;
    (seen, if wider { Effect::Widened } else { as_gone.1 })
}

fn is_image(folder: &str) -> bool {
    folder.strip_prefix("/var/lib/machines/").is_some_and(|name| !name.is_empty())
}

fn host_path(source: &str) -> Option<&str> {
    source.strip_prefix("bind ").or_else(|| source.strip_prefix("overlay ")).map(|p| p.trim_matches('"'))
}

fn folder(source: &str, writable: bool, exec: bool, translated: bool) -> Grade {
    let host = host_path(source);
    // An overlay takes the writes itself; what lies below is shown.
    let writable = writable && !source.starts_with("overlay ");
    match (host, writable) {
        (Some(p), true) if is_sensitive(p) => {
            grade(Critical, "writes where the host keeps its own", "mount_namespaces(7)")
        }
        (Some(p), false) if is_sensitive(p) => grade(High, "sees where the host keeps its own", "mount_namespaces(7)"),
        (Some(_), true) if !translated => {
            grade(High, "changes a folder of the host, under the host's own ids", "mount_setattr(2), MOUNT_ATTR_IDMAP")
        }
        (Some(_), true) if exec => grade(High, "writes and executes in a folder of the host", "mount(2)"),
        (Some(_), true) => grade(Medium, "changes a folder of the host", "mount_namespaces(7)"),
        (Some(_), false) if exec => grade(Medium, "executes programs of a folder of the host", "mount(2)"),
        (Some(_), false) => grade(Low, "reads a folder of the host", "mount_namespaces(7)"),
        (None, true) if exec => grade(Medium, "memory that it writes and executes", "mount(2)"),
        (None, _) => grade(Low, "memory or a view of the kernel of its own", "mount_namespaces(7)"),
    }
}

/// Is it such a place, or in one, or has it one below? Under whichever of its names.
pub(super) fn is_sensitive(path: &str) -> bool {
    let below = |inner: &str, outer: &str| {
        inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/') && outer != "/")
    };
    let real = resolved(path, ALIASES).unwrap_or_else(|| path.to_owned());
    real == "/" || SENSITIVE.iter().any(|(s, _)| below(&real, s) || below(s, &real))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensitive_place_has_many_names() {
        for p in
            ["/", "/var", "/var/lib", "/var/run", "/var/run/docker.sock", "/lib/modules", "/lib", "/home/me", "/run"]
        {
            assert!(is_sensitive(p), "{p}");
        }
        for p in ["/srv", "/var/lib/nginx", "/var/www", "/libexec", "/opt/app", "/var/runner", "/data/etc"] {
            assert!(!is_sensitive(p), "{p}");
        }
        for (_, name) in ALIASES {
            assert!(is_sensitive(name), "{name}");
        }
    }
}
