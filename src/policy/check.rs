//! The last step of resolving: what must be there is there, and what can't go together doesn't.

use super::reader::Context;
use super::resolve::{Ceiling, Grants, Scalar, Value};
use super::syscalls::Action;
use super::{Meta, Policy, mounts, network, process};
use crate::diagnostic::Diagnostic;
use crate::source::{Span, Spanned};

/// Turns grants into a policy, or says what is missing.
pub(super) fn finish(
    cx: &mut Context<'_>,
    (name, block): (&Spanned<String>, Span),
    baseline: &Spanned<(u16, u16)>,
    mut g: Grants,
    within: Vec<Ceiling>,
) -> Option<Policy> {
    let kernel = baseline.value;
    bound_ports(cx, &mut g);
    reasons(cx, &g);
    newer_than_baseline(cx, &g, kernel);
    // What a group names beyond the baseline nobody reviewed: it stays absent.
    g.syscalls.retain(|r| r.group.is_empty() || r.action > Action::Log || r.call.since <= kernel);
    let calls = std::mem::take(&mut g.syscalls);
    let grants = g.clone();
    g.syscalls = calls;
    let egress = g.scalars.get("egress").filter(|s| s.value == Value::Number(1)).map(|s| s.span);
    if let Some(span) = egress {
        let meta = g.scalars.get("egress").map(|s| s.meta.clone()).unwrap_or_default();
        for protocol in [network::Protocol::Tcp, network::Protocol::Udp] {
            let (how, meta) = (network::Use::Connect, meta.clone());
            g.ports.push(network::Port { how, protocol, port: None, peers: Vec::new(), meta, span });
        }
    }
    let missing = |cx: &mut Context<'_>, what: &str, help: &str| {
        cx.error("E0221", name.span, format!("machine `{}` says no {what}", name.value), help);
    };
    let root = spanned(&g, "root", |v| match v {
        Value::Root(r) => Some(r.clone()),
        _ => None,
    });
    let program = spanned(&g, "program", |v| match v {
        Value::Program(p) => Some(p.clone()),
        _ => None,
    });
    let user = spanned(&g, "user", |v| match v {
        Value::User(u) => Some(u.clone()),
        _ => None,
    });
    if root.is_none() {
        missing(cx, "`root`", "root host, or root dir \"/path\" ro");
    }
    if program.is_none() {
        missing(cx, "program", "exec \"/usr/sbin/...\", or boot");
    }
    let boots = program.as_ref().is_some_and(|p| p.value == process::Program::Boot);
    if user.is_none() && !boots && program.is_some() {
        missing(cx, "`user`", "user www-data; root must be written as well: user root");
    }
    if let Some(u) = user.as_ref().filter(|_| boots) {
        cx.error("E0510", u.span, "a booted system starts as root of its user namespace", "remove the line");
    }
    if g.capabilities_none.is_none() && g.capabilities.is_empty() && program.is_some() {
        missing(cx, "`capabilities`", "capabilities { none }, or capabilities { keep ... }");
    }
    if let Some(none) = g.capabilities_none
        && let Some(grant) = g.capabilities.first()
    {
        cx.diagnostics.push(
            Diagnostic::error("E0301", none, "`none` and a capability at once")
                .also(grant.span, "this is granted")
                .help("`remove` the capability, or delete `none`"),
        );
    }
    let userns = spanned(&g, "userns", |v| match v {
        Value::Userns(u) => Some(u.clone()),
        _ => None,
    })
    .unwrap_or(Spanned { value: process::Userns::Auto, span: name.span });
    let text = |key: &str| {
        spanned(&g, key, |v| match v {
            Value::Text(t) => Some(t.clone()),
            _ => None,
        })
    };
    let network = spanned(&g, "network", |v| match v {
        Value::Network(n) => Some(n.clone()),
        _ => None,
    })
    .unwrap_or(Spanned { value: network::Network::None, span: name.span });
    let (value, span) = g.resolver().unwrap_or((network::Resolver::None, name.span));
    let resolver = Spanned { value, span };
    let addresses = ["address", "address6"]
        .iter()
        .filter_map(|key| {
            spanned(&g, key, |v| match v {
                Value::Address(a) => Some(*a),
                _ => None,
            })
        })
        .collect();
    super::wiring::check(cx, &g, &network, &resolver, boots);
    super::wiring::limits(cx, &g);
    if boots {
        boot_rules(cx, &g, &userns, &network);
    }
    mount_rules(cx, &g);
    if let Some(span) = g.files_block.filter(|_| g.files.is_empty()) {
        cx.error(
            "E0521",
            span,
            "`files` grants nothing, so nothing could start",
            "write what is granted, or remove the block",
        );
    }
    let number = |s: &Scalar| match s.value {
        Value::Number(n) => Some(Spanned { value: n, span: s.span }),
        _ => None,
    };
    let limits =
        g.scalars.iter().filter_map(|(k, s)| Some((k.strip_prefix("limits.")?.to_owned(), number(s)?))).collect();
    let (root, program) = (root?, program?);
    let user = match (user, boots) {
        (Some(u), _) => u,
        (None, true) => {
            let value = process::User {
                user: process::Id::Number(0),
                group: Some(process::Id::Number(0)),
                groups: vec![],
                caller_groups: false,
            };
            Spanned { value, span: program.span }
        }
        (None, false) => return None,
    };
    Some(Policy {
        name: name.value.clone(),
        span: name.span,
        block,
        instance: None,
        about: text("about").map(|t| t.value),
        kernel,
        baseline: baseline.span,
        root,
        program,
        user,
        userns,
        hostname: text("hostname").unwrap_or(name.clone()),
        chdir: text("chdir").unwrap_or(Spanned { value: "/".into(), span: name.span }),
        umask: g.scalars.get("umask").and_then(number).and_then(|n| u16::try_from(n.value).ok()).unwrap_or(0o022),
        no_new_privs: !g.scalars.contains_key("no-new-privs"),
        no_new_privs_span: g.scalars.get("no-new-privs").map(|s| s.span),
        landlock: g.scalars.get("landlock").and_then(number),
        syscalls: g.syscalls,
        capabilities: g.capabilities,
        mounts: g.mounts,
        files: g.files,
        network,
        ports: g.ports,
        publishes: g.publishes,
        egress,
        resolver,
        addresses,
        limits,
        environment: g.environment,
        devices: g.devices,
        assertions: g.assertions,
        grants,
        within,
        tests: Vec::new(),
    })
}

fn spanned<T>(g: &Grants, key: &str, get: impl Fn(&Value) -> Option<T>) -> Option<Spanned<T>> {
    let s = g.scalars.get(key)?;
    Some(Spanned { value: get(&s.value)?, span: s.span })
}

/// What the facts of this kernel make impossible for a booted system.
fn boot_rules(
    cx: &mut Context<'_>,
    g: &Grants,
    userns: &Spanned<process::Userns>,
    network: &Spanned<network::Network>,
) {
    if userns.value == process::Userns::Identity {
        cx.error(
            "E0511",
            userns.span,
            "a booted system needs CAP_SYS_ADMIN, and may have it only in a user namespace of its own",
            "userns auto",
        );
    }
    if let Some(f) = g.files.first() {
        cx.error(
            "E0512",
            f.span,
            "file rules can't be used with `boot`: under Landlock file rules every mount(2) fails, and an init system mounts",
            "use `mounts` (ro, mask, hide) for what the whole system may see",
        );
    }
    if network.value == network::Network::Host {
        cx.error(
            "E0513",
            network.span,
            "a booted system on the host's network could reconfigure it",
            "network { none }",
        );
    }
    for key in ["chdir", "umask"] {
        if let Some(s) = g.scalars.get(key) {
            cx.error("E0514", s.span, format!("`{key}` has no effect on an init system"), "remove the line");
        }
    }
}

/// Most ports of one item, each as often as it has peers: each pair is held against others.
const MOST_PORTS: usize = 4096;

/// Refuses more ports than can be compared, and goes on with as many.
pub(super) fn bound_ports(cx: &mut Context<'_>, g: &mut Grants) {
    let mut pairs = 0;
    let over = g.ports.iter().position(|p| {
        pairs += p.peers.len().max(1);
        pairs > MOST_PORTS
    });
    if let Some(i) = over {
        let span = g.ports.get(i).map(|p| p.span);
        if let Some(span) = span {
            let text = format!("more than {MOST_PORTS} ports, each counted with each of its peers");
            cx.error("E0214", span, text, "write `any` if all ports are meant, or blocks of addresses");
        }
        g.ports.truncate(i);
    }
}

/// Mounts and file rules of one machine. Each is held against each.
const MOST: [usize; 2] = [512, 1024];

fn mount_rules(cx: &mut Context<'_>, g: &Grants) {
    let over =
        [(g.mounts.get(MOST[0]).map(|m| m.span), "mounts"), (g.files.get(MOST[1]).map(|r| r.span), "file rules")];
    for ((span, what), most) in over.into_iter().zip(MOST) {
        if let Some(span) = span {
            let text = format!("a machine has at most {most} {what}");
            cx.error("E0316", span, text, "show or open a folder above them instead");
        }
    }
    if over.iter().any(|(span, _)| span.is_some()) {
        return;
    }
    let mut seen: Vec<&mounts::Mount> = Vec::new();
    for m in &g.mounts {
        if let Some(old) = seen.iter().find(|o| o.target == m.target) {
            cx.diagnostics.push(
                Diagnostic::error("E0309", m.span, format!("`{}` is mounted twice", m.target))
                    .also(old.span, "this mount would be hidden")
                    .help("`remove \"...\"` the inherited one, or choose another place"),
            );
        }
        let below = |o: &&&mounts::Mount| o.target.starts_with(&format!("{}/", m.target));
        let masks = matches!(m.source, mounts::Source::Mask | mounts::Source::Hide);
        if let Some(old) = seen.iter().find(below).filter(|_| !masks) {
            cx.diagnostics.push(
                Diagnostic::error(
                    "E0310",
                    m.span,
                    format!("this mount hides `{}`, which was mounted before", old.target),
                )
                .also(old.span, "hidden")
                .help("write the outer mount first: order is the order of stacking"),
            );
        }
        let covered = seen.iter().find(|o| {
            matches!(o.source, mounts::Source::Mask | mounts::Source::Hide)
                && m.target.starts_with(&format!("{}/", o.target))
        });
        if let Some(old) = covered {
            cx.diagnostics.push(
                Diagnostic::error("E0310", m.span, format!("`{}` is covered by a mask", m.target))
                    .also(old.span, "covered here")
                    .help("masks come last: nothing below one can be seen"),
            );
        }
        // The network's own files are mounted first.
        let written = g
            .network_files()
            .into_iter()
            .find(|(file, _)| !masks && (*file == m.target || file.starts_with(&format!("{}/", m.target))));
        if let Some((file, span)) = written {
            cx.diagnostics.push(
                Diagnostic::error("E0310", m.span, format!("this mount hides `{file}`, which the network writes"))
                    .also(span, "it is for this")
                    .help("mount what is needed below `/etc` by name, or write `resolver none`"),
            );
        }
        let reserved = ["/proc", "/sys", "/dev", "/.stockade"];
        let inside = reserved.iter().find(|r| m.target == **r || m.target.starts_with(&format!("{r}/")));
        let plain = matches!(m.source, mounts::Source::Mask | mounts::Source::Hide);
        if let Some(place) = inside.filter(|_| !plain) {
            cx.error(
                "E0515",
                m.span,
                format!("`{place}` is made by Stockade, the same for every machine"),
                "only `mask` and `hide` may stand there; devices are named in `devices`",
            );
        }
        if matches!(
            m.source,
            mounts::Source::Proc
                | mounts::Source::Sysfs
                | mounts::Source::Cgroup2
                | mounts::Source::Devpts
                | mounts::Source::Mqueue
        ) && inside.is_none()
        {
            cx.not_yet(m.span, "a second mount of a kernel file system");
        }
        seen.push(m);
    }
}

fn newer_than_baseline(cx: &mut Context<'_>, g: &Grants, kernel: (u16, u16)) {
    for r in g.syscalls.iter().filter(|r| r.action <= Action::Log && r.group.is_empty() && r.call.since > kernel) {
        let (a, b) = r.call.since;
        cx.error(
            "E0411",
            r.span,
            format!("`{}` came with Linux {a}.{b}, after the reviewed baseline {}.{}", r.call.name, kernel.0, kernel.1),
            format!("review what {a}.{b} adds and write `kernel {a}.{b}`"),
        );
    }
}

/// Capabilities that are as good as root on the host, or nearly so, without a user namespace.
const GRAVE: &[&str] = &[
    "sys_admin",
    "sys_module",
    "sys_rawio",
    "sys_ptrace",
    "sys_boot",
    "sys_time",
    "dac_read_search",
    "dac_override",
    "mknod",
    "net_admin",
    "net_raw",
    "bpf",
    "perfmon",
    "mac_admin",
    "mac_override",
    "syslog",
    "setfcap",
    "audit_control",
];

fn reasons(cx: &mut Context<'_>, g: &Grants) {
    let need = |cx: &mut Context<'_>, meta: &Meta, span: Span, what: String| {
        if meta.why.is_none() {
            let d = Diagnostic::warning("W0701", span, format!("{what} without a reason")).help("add why \"...\"");
            cx.diagnostics.push(d);
        }
    };
    for c in &g.capabilities {
        let name = super::capabilities::name(c.capability);
        if GRAVE.contains(&name.as_str()) {
            need(cx, &c.meta, c.span, format!("capability `{name}`"));
        }
    }
    for m in g.mounts.iter().filter(|m| m.exec && m.writable) {
        need(cx, &m.meta, m.span, format!("`{}` can be written and executed, granted", m.target));
    }
    for m in g.mounts.iter().filter(|m| !(m.exec && m.writable) && m.meta.until.is_some()) {
        need(cx, &m.meta, m.span, "a dated grant".into());
    }
    let dated = |meta: &Meta| meta.until.is_some();
    let metas = g.syscalls.iter().map(|r| (&r.meta, r.span));
    let metas = metas.chain(g.files.iter().map(|r| (&r.meta, r.span))).chain(g.ports.iter().map(|r| (&r.meta, r.span)));
    let metas: Vec<_> = metas.chain(g.devices.iter().map(|r| (&r.meta, r.span))).filter(|(m, _)| dated(m)).collect();
    for (meta, span) in metas {
        need(cx, meta, span, "a dated grant".into());
    }
}
