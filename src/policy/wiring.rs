//! What of `network` and `limits` goes together, and what nothing could enforce.

use super::capabilities::Grant;
use super::network::{Network, Port, Protocol, Publish, Resolver, SOURCE_PORTS, Use};
use super::reader::Context;
use super::resolve::{Grants, Value};
use crate::address::{Block, LOOPBACK};
use crate::diagnostic::Diagnostic;
use crate::source::Spanned;

pub(super) fn check(
    cx: &mut Context<'_>,
    g: &Grants,
    network: &Spanned<Network>,
    resolver: &Spanned<Resolver>,
    boots: bool,
) {
    let filtered = network.value.is_filtered();
    for p in &g.ports {
        // One line may name many ports: it is reported once.
        let first = g.ports.iter().find(|o| o.span == p.span).is_some_and(|o| std::ptr::eq(o, p));
        if !first {
            continue;
        }
        if filtered {
            let own = |b: &Block| LOOPBACK.iter().any(|l| l.contains(*b));
            if let Some(b) = p.peers.iter().find(|b| p.how == Use::Connect && own(b)) {
                let text = format!("{b} is the host's loopback, which no other network reaches");
                cx.error("E0519", p.span, text, "let the service listen on another address of the host");
            }
            continue;
        }
        if !p.peers.is_empty() {
            unheld(cx, p, network, "addresses are held by the packet filter");
        } else if p.protocol == Protocol::Udp && g.scalars.get("egress").is_none_or(|e| e.span != p.span) {
            unheld(cx, p, network, "datagrams are held by the packet filter");
        }
    }
    for p in &g.publishes {
        published(cx, g, p, network);
    }
    for (i, p) in g.publishes.iter().enumerate() {
        let clash = |o: &&Publish| {
            o.protocol == p.protocol
                && (o.address.is_none() || p.address.is_none() || o.address == p.address)
                && o.outside.0 <= p.outside.1
                && p.outside.0 <= o.outside.1
        };
        if let Some(old) = g.publishes.iter().take(i).find(clash) {
            cx.diagnostics.push(
                Diagnostic::error("E0314", p.span, "a port of the host can lead to one place only")
                    .also(old.span, "published here already")
                    .help("choose another port, or name the address on each line"),
            );
        }
    }
    let egress = g.scalars.get("egress");
    if let Some(e) = egress.filter(|e| e.value == Value::Number(0))
        && let Some(p) = g.ports.iter().find(|p| p.how == Use::Connect)
    {
        cx.diagnostics.push(
            Diagnostic::error("E0301", e.span, "`egress none` and a grant to connect")
                .also(p.span, "this is granted")
                .help("`remove` the grant, or delete `egress none`: nothing is reachable unless granted"),
        );
    }
    if let Some(e) = egress.filter(|e| e.value == Value::Number(1) && !filtered) {
        let text = format!("`egress any` has no meaning with `network {}`", network.value);
        cx.error("E0519", e.span, text, "connect tcp any");
    }
    if resolver.value != Resolver::None && !filtered {
        let help = match network.value {
            Network::Host => "the host's own /etc/resolv.conf is seen there",
            _ => "network { private }",
        };
        let text = format!("no name server can be reached with `network {}`", network.value);
        cx.error("E0519", resolver.span, text, help);
    }
    for key in ["address", "address6"] {
        let Some(a) = g.scalars.get(key) else { continue };
        if network.value.lower().is_none() {
            let text = format!("an address can't be chosen with `network {}`", network.value);
            cx.error("E0519", a.span, text, "Stockade gives one; with `bridge`, `macvlan` and `ipvlan` it is yours");
        }
    }
    if let Some(lower) = network.value.lower() {
        let addressed = ["address", "address6"].iter().any(|key| g.scalars.contains_key(*key));
        let asks = boots && capability(g, "net_admin").is_some();
        if !addressed && !asks {
            let text = match boots {
                true => format!("without `net_admin` the system can't give itself an address of `{lower}`"),
                false => format!("a program on `{lower}` needs an address of that network"),
            };
            cx.error("E0519", network.span, text, "address 192.0.2.7/24 gateway 192.0.2.1");
        }
        if resolver.value == Resolver::Host && boots {
            let text = "a booted system on a network that others run asks for its own name servers";
            cx.error("E0519", resolver.span, text, "remove the line, or list them");
        }
        own_filter(cx, g, lower);
    }
}

fn unheld(cx: &mut Context<'_>, p: &Port, network: &Spanned<Network>, why: &str) {
    let text = format!("nothing enforces this with `network {}`: {why}", network.value);
    cx.error("E0519", p.span, text, "give the machine a network of its own: network { private }");
}

fn published(cx: &mut Context<'_>, g: &Grants, p: &Publish, network: &Spanned<Network>) {
    if !network.value.is_routed() {
        let help = match network.value {
            Network::Host => "on the host's network `listen` is enough",
            Network::None => "network { private }",
            _ => "there the machine has an address of its own",
        };
        let text = format!("a port can't be published with `network {}`", network.value);
        return cx.error("E0519", p.span, text, help);
    }
    let (first, _) = SOURCE_PORTS;
    if p.outside.1 >= first && p.address.is_none_or(|a| !a.is_loopback()) {
        let text =
            format!("by ports from {first} on the host speaks for its machines: an answer to one would be taken");
        return cx.error("E0519", p.span, text, format!("publish a port below {first}, or on a loopback address"));
    }
    let heard = |port: u16| {
        g.ports.iter().any(|l| l.how == Use::Listen && l.protocol == p.protocol && l.port.is_none_or(|n| n == port))
    };
    if let Some(port) = p.inner().find(|port| !heard(*port)) {
        let text = format!("the machine may not listen on {} {port}, where this leads", p.protocol.word());
        cx.error("E0519", p.span, text, format!("add `listen {} {port}`", p.protocol.word()));
    }
}

/// On a bridge or macvlan the packet filter stands in the machine's own network namespace: who may
/// administer that namespace could take it away.
fn own_filter(cx: &mut Context<'_>, g: &Grants, lower: &str) {
    let every = |how: Use, protocol: Protocol| {
        g.ports.iter().any(|p| p.how == how && p.protocol == protocol && p.port.is_none() && p.peers.is_empty())
    };
    let open = [Use::Listen, Use::Connect].iter().all(|h| [Protocol::Tcp, Protocol::Udp].iter().all(|p| every(*h, *p)));
    for name in ["net_admin", "net_raw"] {
        if let Some(grant) = capability(g, name).filter(|_| !open) {
            let text = format!("with `{name}` the machine could pass the rules for its ports on `{lower}`");
            let help =
                "remove the capability, use `private`, or grant `egress any`, `listen tcp any` and `listen udp any`";
            cx.error("E0520", grant.span, text, help);
        }
    }
}

/// The line that grants a capability.
fn capability<'a>(g: &'a Grants, name: &str) -> Option<&'a Grant> {
    g.capabilities.iter().find(|c| super::capabilities::name(c.capability) == name)
}

/// Limits that contradict each other.
pub(super) fn limits(cx: &mut Context<'_>, g: &Grants) {
    let value = |key: &str| match g.scalars.get(&format!("limits.{key}")) {
        Some(s) => match s.value {
            Value::Number(n) => Some((n, s.span)),
            _ => None,
        },
        None => None,
    };
    if let (Some((most, at)), Some((high, span))) = (value("memory"), value("memory-high"))
        && high > most
    {
        cx.diagnostics.push(
            Diagnostic::error("E0315", span, "`high` lies above the limit itself and would never be reached")
                .also(at, "the limit")
                .help("memory MOST high=LESS"),
        );
    }
    // The open files are those that a launch needs beside the program's own three.
    let least = [("memory", 1 << 20), ("tasks", 1), ("time", 1), ("cpu-time", 1), ("nofile", 5)];
    // Of memory the kernel gives whole pages (`may_expand_vm`): less than one is none.
    let pages = ["stack", "address-space", "data"].map(|key| (key, 4096));
    for (key, least) in least.into_iter().chain(pages) {
        if let Some((n, span)) = value(key)
            && n < least
        {
            let text = format!("under `{}` nothing could start", super::resources::text(key, n));
            cx.error("E0315", span, text, "a larger number");
        }
    }
    if let Some((n, span)) = value("locks")
        && n != super::resources::UNLIMITED
    {
        let text = "no kernel since Linux 2.4.25 holds `locks` (getrlimit(2))";
        cx.error("E0315", span, text, "delete the line: it would bound nothing");
    }
    // Of one hierarchy 0 is refused, of the older one it is no bound.
    for (key, s) in &g.scalars {
        if let (Some(name), Value::Number(0)) = (key.strip_prefix("limits.io-"), &s.value) {
            let text = format!("`io-{name}` of 0: a kernel refuses that, or takes it for no maximum at all");
            cx.error("E0315", s.span, text, "a larger number; what isn't mounted writable isn't written");
        }
        // blk-throttle counts requests in 32 bits (struct throtl_grp).
        if let (Some(name), Value::Number(n)) = (key.strip_prefix("limits.io-"), &s.value)
            && name.contains("-ops ")
            && *n >= u64::from(u32::MAX)
            && *n != super::resources::UNLIMITED
        {
            let text = format!("the kernel counts at most {} requests a second", u32::MAX - 1);
            cx.error("E0315", s.span, text, "a smaller number, or `unlimited`");
        }
    }
}
