//! A machine on a network that others run: a bridge, a macvlan, an ipvlan.

use super::Cx;
use super::firewall::{self as nft, Chain, Table};
use super::network::{Interface, Kind, NEIGHBOURS, Wiring, out_rules};
use crate::address::{Block, LINK_LOCAL_V6};
use crate::policy::network::{Protocol, Use};

/// The rules of such a machine stand in its own namespace.
pub(super) fn wire(cx: &mut Cx<'_>, w: &mut Wiring) {
    let policy = cx.policy;
    for a in &policy.addresses {
        let (address, prefix) = (a.value.interface.address, a.value.interface.prefix);
        if address.is_ipv6() && !cx.host.network.ipv6 {
            cx.error("E0611", a.span, "IPv6 is switched off on this host", "remove the line");
        }
        w.inside.push(Interface { address, prefix, gateway: a.value.gateway });
    }
    // Without an address of ours it asks the network for one.
    w.accepts_configuration = w.inside.is_empty();
    let mut out = Chain::plain("out");
    out_rules(cx, w, &mut out);
    let mut output = Chain::base("output", "filter", "output", 0);
    let mut input = Chain::base("input", "filter", "input", 0);
    let own = "a machine talks to itself";
    output.implied(vec![nft::to_link("lo"), nft::accept()], own);
    input.implied(vec![nft::from_link("lo"), nft::accept()], own);
    output.implied(vec![nft::icmp6(NEIGHBOURS), nft::accept()], "neighbours are found (RFC 4861)");
    let report = vec![nft::icmp6(&["mld2-listener-report"]), nft::accept()];
    output.implied(report, "switches learn where neighbours are (RFC 3810)");
    input.implied(vec![nft::icmp6(NEIGHBOURS), nft::accept()], "neighbours are found (RFC 4861)");
    if w.accepts_configuration {
        let asks = "it asks the network for its address";
        for (server, client) in [(67, 68), (547, 546)] {
            let udp = Protocol::Udp;
            output.implied(vec![nft::from_port(udp, client), nft::to_port(udp, &[server]), nft::accept()], asks);
            input.implied(vec![nft::from_port(udp, server), nft::to_port(udp, &[client]), nft::accept()], asks);
        }
        output.implied(vec![nft::icmp6(&["nd-router-solicit"]), nft::accept()], asks);
        input.implied(vec![nft::icmp6(&["nd-router-advert"]), nft::accept()], asks);
    }
    output.implied(vec![nft::jump("out")], "what the machine sends");
    input.implied(nft::known(), "answers to what was let through");
    input.implied(vec![nft::invalid(), nft::drop()], "a packet that belongs to nothing");
    for (port, list) in nft::by_line(&policy.ports, Use::Listen) {
        for rule in nft::listens(port, list.as_deref()) {
            input.rule([rule, vec![nft::accept()]].concat(), &cx.origin(port.span));
        }
    }
    input.implied(vec![nft::drop()], "nobody reaches a machine unless it is written");
    let chains = vec![out, output, input];
    w.inner = Some(Table { family: "inet".into(), name: "stockade".into(), chains });
    if let Kind::Veth { outside, bridge: Some(_) } = w.kind.clone() {
        w.tables.push(port_table(&policy.name, &outside, w));
    }
}

/// The host's table for a port of a bridge: nobody speaks in another's name there.
fn port_table(machine: &str, link: &str, w: &Wiring) -> Table {
    let mut guard = Chain::base("guard", "filter", "prerouting", -300);
    let spoof = "a machine speaks in its own name only";
    let mac: Vec<String> = w.mac.iter().map(|b| format!("{b:02x}")).collect();
    let of = |protocol: &str, field: &str| serde_json::json!({ "payload": { "protocol": protocol, "field": field } });
    let other = nft::compare("!=", of("ether", "saddr"), serde_json::json!(mac.join(":")));
    guard.implied(vec![nft::from_link(link), other, nft::drop()], spoof);
    guard.implied(vec![nft::from_link(link), nft::speaks_otherwise(), nft::drop()], "IPv4 and IPv6 are what is judged");
    for v4 in [true, false] {
        if !w.inside.is_empty() && w.inside.iter().all(|i| i.address.is_ipv4() != v4) {
            guard.implied(vec![nft::from_link(link), nft::is_family(v4), nft::drop()], spoof);
            if v4 {
                guard.implied(vec![nft::from_link(link), nft::is_arp(), nft::drop()], spoof);
            }
        }
    }
    for i in &w.inside {
        let host = Block::host(i.address);
        let mut rule = vec![nft::from_link(link), nft::address("!=", "saddr", host)];
        if i.address.is_ipv4() {
            let other = nft::compare("!=", of("arp", "saddr ip"), serde_json::json!(i.address.to_string()));
            guard.implied(vec![nft::from_link(link), other, nft::drop()], spoof);
        } else {
            rule.push(nft::address("!=", "saddr", LINK_LOCAL_V6));
        }
        rule.push(nft::drop());
        guard.implied(rule, spoof);
    }
    // A first fragment without it, which a receiver needn't take either (RFC 7112).
    let hidden = vec![nft::from_link(link), nft::is_family(false), nft::hides_protocol(), nft::drop()];
    guard.implied(hidden, "what a packet is stands in its first part");
    let router = vec![nft::from_link(link), nft::icmp6(&["nd-router-advert", "nd-redirect"]), nft::drop()];
    guard.implied(router, "a machine is no router (RFC 6104)");
    for server in [67, 547] {
        let udp = Protocol::Udp;
        guard.implied(
            vec![nft::from_link(link), nft::from_port(udp, server), nft::drop()],
            "a machine gives no addresses",
        );
    }
    Table { family: "bridge".into(), name: format!("stockade-{machine}"), chains: vec![guard] }
}
