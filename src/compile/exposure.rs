//! Who reaches a machine, and whom it reaches, in the end: what its network, its ports and its published ports
//! come to, for people.

use super::asserts::open_sockets;
use super::network::Wiring;
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::capabilities;
use crate::policy::network::{Network, Port, Protocol, Use};
use crate::policy::syscalls::{Action, Rule};
use crate::source::{Origin, Sources};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A way in or out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// In words: direction, port, address, and who.
    pub text: String,
    /// The line.
    pub origin: Origin,
}

/// In the end: by which addresses of this host, and of the machine, and from where.
pub fn of(p: &Policy, wiring: Option<&Wiring>, sources: &Sources) -> Vec<Exposure> {
    let line = |text, span| Exposure { text, origin: sources.origin(span) };
    let mut out = Vec::new();
    let own: Vec<String> = wiring.iter().flat_map(|w| &w.inside).map(|i| i.address.to_string()).collect();
    let reachable = |port: &Port| match port.peers.as_slice() {
        [] => "anybody".to_owned(),
        l => l.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    for f in &p.publishes {
        let (who, from) = match f.address {
            Some(a) if a.is_loopback() => (a.to_string(), "this host's own programs".to_owned()),
            Some(a) => (a.to_string(), "whoever reaches that address".to_owned()),
            None => {
                ("every address of this host, loopback included".to_owned(), "whoever reaches this host".to_owned())
            }
        };
        let mut listens: BTreeMap<Option<u16>, Vec<&Port>> = BTreeMap::new();
        for l in p.ports.iter().filter(|l| l.how == Use::Listen && l.protocol == f.protocol) {
            listens.entry(l.port).or_default().push(l);
        }
        // Ports that lead to lines for the same peers are told together.
        let mut parts: Vec<(u16, u16, String)> = Vec::new();
        for (port, inside) in (f.outside.0..=f.outside.1).zip(f.inner()) {
            let lines: Vec<&Port> =
                [Some(inside), None].iter().filter_map(|n| listens.get(n)).flatten().copied().collect();
            // One line for anybody is for anybody, whatever the others say.
            let only = if lines.iter().any(|l| l.peers.is_empty()) {
                String::new()
            } else {
                format!(", of them {}", lines.iter().map(|l| reachable(l)).collect::<Vec<_>>().join(", "))
            };
            match parts.last_mut() {
                Some((_, last, same)) if *same == only => *last = port,
                _ => parts.push((port, port, only)),
            }
        }
        for (first, last, only) in parts {
            let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
            out.push(line(format!("in   {} {ports} of {who}: {from}{only}", f.protocol.word()), f.span));
        }
    }
    for f in p.ports.iter().filter(|f| f.how == Use::Listen) {
        let port = f.port.map_or("any port".to_owned(), |n| n.to_string());
        let text = match &p.network.value {
            Network::Host => {
                format!("in   {} {port} of every address of this host: whoever reaches it", f.protocol.word())
            }
            Network::None => continue,
            Network::Private | Network::Zone(_) => {
                let members = match &p.network.value {
                    Network::Zone(z) => format!(", members of zone {z}"),
                    _ => String::new(),
                };
                let among = match f.peers.is_empty() {
                    true => String::new(),
                    false => format!("; of them {}", reachable(f)),
                };
                let (protocol, own) = (f.protocol.word(), own.join(" and "));
                format!("in   {protocol} {port} of {own}: this host itself{members}{among}")
            }
            other => format!(
                "in   {} {port} of {}: {} on the network of `{other}`",
                f.protocol.word(),
                if own.is_empty() { "its address".to_owned() } else { own.join(" and ") },
                reachable(f)
            ),
        };
        out.push(line(text, f.span));
    }
    let any = |f: &Port| f.how == Use::Listen && f.protocol == Protocol::Tcp && f.port.is_none();
    let listens = |r: &&Rule| r.call.name == "listen" && r.action <= Action::Log;
    if let (Network::Host, false, Some(r)) =
        (&p.network.value, p.ports.iter().any(any), p.syscalls.iter().find(listens))
    {
        let text = "in   tcp a free port of this host, where it listens without bind(): whoever reaches it";
        out.push(line(text.to_owned(), r.span));
    }
    let link_local = match pen(p) {
        // The rules stand in the machine's own network namespace there.
        Some(pen) => format!("link-local addresses as well: with `{pen}` it can pass its own rules"),
        None => "but no link-local or metadata address".to_owned(),
    };
    let everybody = match &p.network.value {
        Network::Host => "whatever this host reaches, its own loopback included".to_owned(),
        Network::Private | Network::Zone(_) => {
            "whatever this host reaches, but no link-local or metadata address and not its loopback".to_owned()
        }
        other => format!("whatever the network of `{other}` reaches, {link_local}"),
    };
    if let Some(span) = p.egress {
        out.push(line(format!("out  any protocol: {everybody}"), span));
    }
    for f in p.ports.iter().filter(|f| f.how == Use::Connect && p.network.value != Network::None) {
        if p.egress == Some(f.span) {
            continue;
        }
        let port = f.port.map_or("any port".to_owned(), |n| n.to_string());
        let whom = if f.peers.is_empty() { everybody.clone() } else { reachable(f) };
        out.push(line(format!("out  {} {port} of {whom}", f.protocol.word()), f.span));
    }
    for (span, how) in open_sockets(p, Arch::NATIVE) {
        out.push(line(format!("in and out  any port and address: {how}"), span));
    }
    if p.network.value.lower().is_some() && p.addresses.is_empty() {
        for way in ["out  udp 67 and 547", "in   udp 68 and 546"] {
            out.push(line(format!("{way} of whoever answers: it asks for its addresses"), p.network.span));
        }
    }
    for server in wiring.iter().flat_map(|w| &w.resolvers) {
        out.push(line(format!("out  udp and tcp 53 of {server}, its name server"), p.resolver.span));
    }
    out
}

/// The capability by which a machine can change the rules of its network namespace, or go around them.
pub(super) fn pen(p: &Policy) -> Option<String> {
    p.capabilities.iter().map(|c| capabilities::name(c.capability)).find(|n| PENS.contains(&n.as_str()))
}

const PENS: [&str; 2] = ["net_admin", "net_raw"];
