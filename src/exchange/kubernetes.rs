//! A machine as a Pod: its security context, and the name of the seccomp profile on the node
//! (Kubernetes 1.30, "Configure a Security Context", "Restrict a Container's Syscalls with seccomp").

use super::export::Exported;
use crate::compile::Confinement;
use crate::policy::Policy;
use crate::policy::capabilities::names;
use crate::policy::mounts::{Access, Origin, Source};
use crate::policy::network::{Network, Resolver, Use};
use crate::policy::resources::UNLIMITED;
use crate::source::Sources;
use serde_json::{Value, json};

/// The Pod as JSON, which is YAML as well; the error says why there can be none.
pub fn export(
    policy: &Policy,
    c: &Confinement,
    sources: &Sources,
    image: &str,
    mut lost: Vec<String>,
) -> Result<Exported, String> {
    if c.boots {
        return Err("a Pod's container is one program: a machine that boots an init can't be one".into());
    }
    let cite = |span| sources.cite(span);
    super::oci::landlock(policy, c, sources, &mut lost);
    let (mut volumes, mut places): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for m in &policy.mounts {
        let name = format!("m{}", volumes.len());
        let volume = match &m.source {
            Source::Bind(path) => {
                lost.push(format!(
                    "mounts: {}: owners aren't translated; nosuid, nodev and noexec aren't set ({})",
                    m.target,
                    cite(m.span)
                ));
                json!({ "name": name, "hostPath": { "path": path } })
            }
            Source::Tmpfs(size, mode, _) => {
                lost.push(format!(
                    "mounts: {}: mode {mode:o}, its owner and `noexec` aren't set ({})",
                    m.target,
                    cite(m.span)
                ));
                json!({ "name": name, "emptyDir": { "medium": "Memory", "sizeLimit": size.to_string() } })
            }
            Source::Overlay(path, _) => {
                lost.push(format!("mounts: {}: no layer for writes, so it is read-only ({})", m.target, cite(m.span)));
                json!({ "name": name, "hostPath": { "path": path } })
            }
            Source::Mask | Source::Hide => {
                lost.push(format!("mounts: {} isn't masked ({})", m.target, cite(m.span)));
                continue;
            }
            _ => continue,
        };
        let writable = m.writable && !matches!(m.source, Source::Overlay(..));
        let mut place = json!({ "name": name, "mountPath": m.target, "readOnly": !writable });
        if let (false, Some(object), Some(_)) = (writable, place.as_object_mut(), volume.get("hostPath")) {
            object.insert("recursiveReadOnly".into(), json!("Enabled"));
            lost.push(format!(
                "mounts: {}: what the node mounts below it stays writable in a cluster without `recursiveReadOnly` (1.31) ({})",
                m.target,
                cite(m.span)
            ));
        }
        volumes.push(volume);
        places.push(place);
    }
    let mut resources = serde_json::Map::new();
    for (word, limit) in &policy.limits {
        // Of what a container may use a Pod bounds these two ("Resource Management for Pods and Containers").
        match word.as_str() {
            "memory" if limit.value != UNLIMITED => {
                resources.insert("memory".into(), json!(limit.value.to_string()));
                continue;
            }
            // Per cent of one CPU, as thousandths.
            "cpu" if limit.value != UNLIMITED => {
                resources.insert("cpu".into(), json!(format!("{}m", limit.value.saturating_mul(10))));
                continue;
            }
            _ => {}
        }
        lost.push(format!("limits: {word}: a Pod has no such limit ({})", cite(limit.span)));
    }
    for l in c.rlimits.iter().filter(|l| !policy.limits.contains_key(&l.name)) {
        lost.push(format!("limits: {} {}: a Pod has no such limit", l.name, l.value));
    }
    for d in &policy.devices {
        lost.push(format!("devices: {} needs a device plugin ({})", d.path, cite(d.span)));
    }
    match &policy.root.value.origin {
        Origin::Directory(d) => {
            lost.push(format!("root: the image `{image}` stands for {d} ({})", cite(policy.root.span)))
        }
        Origin::Host => {
            lost.push(format!("root: the image `{image}` stands for the host's /usr ({})", cite(policy.root.span)))
        }
    }
    let who = &c.credentials.0;
    let sets = &c.capabilities.0;
    let held = sets.bounding | sets.permitted | sets.ambient;
    if sets.ambient != 0 {
        lost.push("capabilities: a program that isn't root doesn't get them: a Pod has no ambient set".into());
    }
    if c.securebits != 0 {
        lost.push("securebits: not locked; ambient capabilities can be raised, as far as the bounding set goes".into());
    }
    let added: Vec<String> = names(held).iter().map(|n| n.to_uppercase()).collect();
    if !c.no_new_privs.0 {
        lost.push("no-new-privs off: the Pod keeps it on".into());
    }
    let mut env = Vec::new();
    for line in &c.environment {
        if let Some((name, value)) = line.split_once('=') {
            env.push(json!({ "name": name, "value": literal(value) }));
        }
    }
    let ports: Vec<Value> = policy
        .ports
        .iter()
        .filter(|p| p.how == Use::Listen)
        .filter_map(|p| Some(json!({ "containerPort": p.port?, "protocol": p.protocol.word().to_uppercase() })))
        .collect();
    if policy.network.value != Network::Host {
        lost.push(
            "network: a Pod has the cluster's network: close it with a NetworkPolicy that selects this Pod".into(),
        );
    }
    let read_only = policy.root.value.access != Access::ReadWrite;
    if matches!(policy.root.value.access, Access::Ephemeral | Access::Volatile) {
        lost.push(format!("root: there is no layer for writes, so it is read-only ({})", cite(policy.root.span)));
    }
    lost.push(format!("umask {:03o}: a Pod has none, the image's or the runtime's holds", c.umask));
    if policy.network.value == Network::Host {
        lost.push(format!("hostname: `{}` isn't set: with the host's network it is the node's", c.hostname.0));
    }
    lost.push("groups: those that the image's /etc/group gives the user are added".into());
    if c.ids.is_some() {
        lost.push(
            "userns: a cluster before 1.33, or without the gate UserNamespacesSupport, drops `hostUsers: false` without a word: ids are then the node's".into(),
        );
    }
    lost.push("/dev is a file system in memory that root can write to".into());
    lost.push("environment: the image's own variables and the cluster's (KUBERNETES_*) are added".into());
    lost.push("/proc and /sys are masked as the runtime does it, which is less than here".into());
    if policy.environment.iter().any(|v| v.value.is_none()) {
        lost.push("environment: `pass` is written with the value of this moment".into());
    }
    // A Pod on the host's network may have no user namespace (pkg/apis/core/validation, validateHostUsers).
    let on_host = policy.network.value == Network::Host;
    if on_host && c.ids.is_some() {
        lost.push(format!(
            "userns: with `network host` ({}) a Pod has the host's ids",
            sources.cite(policy.network.span)
        ));
    }
    // dnsPolicy `Default` is the node's own resolv.conf; of `None` a Pod takes three servers, as here.
    let (names, servers) = match &policy.resolver.value {
        Resolver::List(l) if !on_host => ("None", l.as_slice()),
        _ => ("Default", &[][..]),
    };
    if policy.resolver.value == Resolver::None && !on_host {
        let line = cite(policy.resolver.span);
        lost.push(format!("resolver: a Pod has the node's name servers in its /etc/resolv.conf ({line})"));
    }
    let (command, arguments) = c.argv.0.split_first().ok_or("the machine has no program")?;
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": policy.name, "labels": { "app.kubernetes.io/name": policy.name } },
        "spec": {
            "hostUsers": c.ids.is_none() || on_host,
            "hostNetwork": on_host,
            "hostname": c.hostname.0,
            "dnsPolicy": names,
            "dnsConfig": { "nameservers": servers },
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "restartPolicy": "Never",
            "securityContext": {
                "runAsUser": who.uid, "runAsGroup": who.gid, "runAsNonRoot": who.uid != 0,
                "supplementalGroups": who.groups,
                "seccompProfile": { "type": "Localhost", "localhostProfile": format!("stockade/{}.json", policy.name) },
            },
            "containers": [{
                "name": policy.name, "image": image, "command": [literal(command)],
                "args": arguments.iter().map(|a| literal(a)).collect::<Vec<_>>(),
                "resources": { "limits": resources },
                "workingDir": c.chdir.0, "env": env, "ports": ports, "volumeMounts": places,
                "securityContext": {
                    "allowPrivilegeEscalation": false, "privileged": false, "readOnlyRootFilesystem": read_only,
                    "procMount": "Default", "capabilities": { "drop": ["ALL"], "add": added },
                },
            }],
            "volumes": volumes,
        },
    });
    let text = serde_json::to_string_pretty(&pod).map_err(|e| e.to_string())?;
    Ok(Exported { text: format!("{text}\n"), lost })
}

/// A text without references: `$(NAME)` would be replaced by a variable's value, and `$$` by one `$`
/// (third_party/forked/golang/expansion).
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}
