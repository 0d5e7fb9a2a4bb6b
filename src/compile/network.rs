//! How a machine is linked to a network: its link, its addresses, what others reach of it, what it reaches.

use super::Cx;
use super::firewall::{self as nft, Chain, Table};
use crate::address::{BROADCAST, Block, LOOPBACK, NOT_IMPLIED};
use crate::policy::network::{Network, Publish, Resolver, SOURCE_PORTS, Use};
use crate::source::Origin;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The machine's own end of its link.
pub const INSIDE: &str = "host0";

/// How a link is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A pair; the host's end has this name (veth(4)).
    Veth {
        /// The host's end.
        outside: String,
        /// The bridge that it is a port of.
        bridge: Option<String>,
    },
    /// macvlan, mode `bridge`.
    Macvlan {
        /// The host's link.
        lower: String,
    },
    /// ipvlan, mode `l2`.
    Ipvlan {
        /// The host's link.
        lower: String,
    },
}

/// An address of the machine's link, with the way to all others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Address and prefix.
    pub address: IpAddr,
    /// Length of the network's prefix.
    pub prefix: u8,
    /// Default route.
    pub gateway: Option<IpAddr>,
}

/// Ports of the host that are bound as long as the machine lives, so that nobody else takes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Addresses to bind.
    pub addresses: Vec<IpAddr>,
    /// First and last.
    pub ports: (u16, u16),
    /// The line.
    pub origin: Origin,
}

/// Membership of a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// Its number, which decides its addresses.
    pub number: u16,
}

/// Everything about a machine's network.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// The line that says which network.
    pub origin: Origin,
    /// Number of the subnet, to be kept from other machines.
    pub subnet: Option<u16>,
    /// The zone.
    pub zone: Option<Zone>,
    /// The link.
    pub kind: Kind,
    /// MAC address of the machine's end.
    pub mac: [u8; 6],
    /// Addresses of the machine.
    pub inside: Vec<Interface>,
    /// Addresses of the host's end.
    pub outside: Vec<Interface>,
    /// Published ports.
    pub holds: Vec<Hold>,
    /// Tables of the host.
    pub tables: Vec<Table>,
    /// The table in the machine's own namespace, on networks that others run.
    pub inner: Option<Table>,
    /// Forwarding that has to be switched on: IPv4, IPv6.
    pub forwarding: [bool; 2],
    /// Name servers, for /etc/resolv.conf.
    pub resolvers: Vec<IpAddr>,
    /// systemd-networkd of the host has to be told to leave the link alone.
    pub networkd: bool,
    /// The machine's end gets a link-local address of the kernel's.
    pub link_local: bool,
    /// Neither networkd's nor the kernel's own configuration changes it.
    pub accepts_configuration: bool,
}

/// The first 16 bits of the addresses of machines of their own, in parts of four, and of zones (RFC 1918). A host
/// whose own network holds the first pair uses the next.
const POOLS: [[[u8; 2]; 2]; 3] = [[[10, 83], [10, 84]], [[172, 28], [172, 29]], [[192, 168], [172, 30]]];
/// Unique local prefixes of IPv6 (RFC 4193).
const ALONE6: u128 = 0xfd53_746f_636b_u128 << 80;
const ZONES6: u128 = 0xfd53_746f_636c_u128 << 80;

/// Subnets that there are for machines of their own, and for members of one zone.
pub const SUBNETS: u16 = 1 << 14;
/// Zones that there are.
pub const ZONE_COUNT: u16 = 1 << 7;
/// Members of one zone.
pub const MEMBERS: u16 = 1 << 7;

/// Which addresses this host gives: the first whose networks no route of its own holds whole.
pub fn pool(used: &[Block]) -> usize {
    let free = |base: &[u8; 2]| {
        let block = Block { address: IpAddr::V4(Ipv4Addr::new(base[0], base[1], 0, 0)), prefix: 16 };
        !used.iter().any(|u| u.contains(block))
    };
    POOLS.iter().position(|p| p.iter().all(free)).unwrap_or(0)
}

/// Addresses of a subnet: the host's and the machine's, IPv4 and IPv6.
pub fn subnet(pool: usize, zone: Option<u16>, number: u16) -> [Interface; 4] {
    let [alone, zones] = POOLS.get(pool).copied().unwrap_or_default();
    let (base, base6, index) = match zone {
        None => (alone, ALONE6, number),
        Some(z) => (zones, ZONES6, z * MEMBERS + number),
    };
    let [high, low] = (index * 4).to_be_bytes();
    let v4 = |n: u8| IpAddr::V4(Ipv4Addr::new(base[0], base[1], high, low + n));
    let v6 = |n: u128| IpAddr::V6(Ipv6Addr::from_bits(base6 | u128::from(index) << 64 | n));
    let end = |address, prefix, gateway| Interface { address, prefix, gateway };
    // Of both families the two ends alone: the kernel's tables of neighbours are one for all namespaces, and who is
    // asked for in vain has a place in them (neighbour.c, gc_thresh3).
    [end(v4(1), 30, None), end(v4(2), 30, Some(v4(1))), end(v6(1), 126, None), end(v6(2), 126, Some(v6(1)))]
}

/// An address that a machine may have been given, by whatever pool.
pub fn is_given(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => POOLS.iter().flatten().any(|p| a.octets().starts_with(p)),
        IpAddr::V6(a) => [ALONE6, ZONES6].iter().any(|p| a.to_bits() >> 80 == p >> 80),
    }
}

/// All addresses of a zone.
fn zone_blocks(pool: usize, number: u16) -> [Block; 2] {
    let [first, ..] = subnet(pool, Some(number), 0);
    let v6 = Ipv6Addr::from_bits(ZONES6 | u128::from(number * MEMBERS) << 64);
    [Block { address: first.address, prefix: 23 }.first(), Block { address: IpAddr::V6(v6), prefix: 57 }]
}

/// `ve-NAME` within IFNAMSIZ; of a long name its start and a hash, so that names alike at first stay apart.
pub fn outside_name(machine: &str) -> String {
    if machine.len() <= 12 {
        return format!("ve-{machine}");
    }
    let hash = sha2::Sha256::digest(machine.as_bytes());
    let digits: Vec<char> = "abcdefghijklmnopqrstuvwxyz234567".chars().collect();
    let tail: String = hash.iter().take(6).filter_map(|b| digits.get(usize::from(b & 31))).collect();
    let start = machine.get(..5).unwrap_or(machine).trim_end_matches('-');
    format!("ve-{start}-{tail}")
}

/// Where systemd-networkd reads that machines' links are none of its business, and what it reads there. Its own
/// rules for `ve-*` would give them addresses (systemd.network(5)); ours are told from others by their second name.
pub const NETWORKD: (&str, &str) = (
    "/run/systemd/network/10-stockade.network",
    "# By Stockade, which sets these links up itself.\n[Match]\nName=stockade-*\n\n[Link]\nUnmanaged=yes\n",
);

/// What can't be had on this host is an error that names the line.
pub(super) fn compile(cx: &mut Cx<'_>) -> Option<Wiring> {
    let policy = cx.policy;
    let network = &policy.network;
    if !network.value.is_filtered() {
        return None;
    }
    let before = cx.diagnostics.errors();
    needs(cx);
    if !cx.host.privileged {
        // No addresses were looked for.
        return None;
    }
    let origin = cx.origin(network.span);
    let identity = format!("{}{}", cx.host.network.identity, policy.name);
    let mut mac = [0x02u8; 6];
    for (to, from) in mac.iter_mut().skip(1).zip(sha2::Sha256::digest(identity.as_bytes())) {
        *to = from;
    }
    let resolvers = match &policy.resolver.value {
        Resolver::None => Vec::new(),
        Resolver::Host => cx.host.network.resolvers.clone(),
        Resolver::List(l) => l.clone(),
    };
    let mut wiring = Wiring {
        origin,
        subnet: None,
        zone: None,
        kind: Kind::Veth { outside: outside_name(&policy.name), bridge: None },
        mac,
        inside: Vec::new(),
        outside: Vec::new(),
        holds: Vec::new(),
        tables: Vec::new(),
        inner: None,
        forwarding: [false; 2],
        resolvers,
        networkd: cx.host.network.networkd,
        link_local: !network.value.is_routed(),
        accepts_configuration: false,
    };
    match &network.value {
        Network::Bridge(lower) => {
            wiring.kind = Kind::Veth { outside: outside_name(&policy.name), bridge: Some(lower.clone()) }
        }
        Network::Macvlan(lower) => wiring.kind = Kind::Macvlan { lower: lower.clone() },
        Network::Ipvlan(lower) => wiring.kind = Kind::Ipvlan { lower: lower.clone() },
        Network::Zone(name) => {
            wiring.zone = cx.host.network.zone.map(|number| Zone { name: name.clone(), number });
        }
        _ => {}
    }
    if network.value.is_routed() {
        routed(cx, &mut wiring);
    } else {
        super::others::wire(cx, &mut wiring);
    }
    (cx.diagnostics.errors() == before).then_some(wiring)
}

/// Root, nft(8), the links that are named, and servers of names.
fn needs(cx: &mut Cx<'_>) {
    let network = cx.policy.network.clone();
    let facts = cx.host.network.clone();
    if !cx.host.privileged {
        let text = format!("only root can link a machine to a network: `{}`", network.value);
        return cx.error("E0601", network.span, text, "run it as root, or network { none }");
    }
    if facts.nft.is_none() {
        let text = "nft(8) isn't installed, and without the packet filter nothing would hold the machine's rules";
        cx.error("E0611", network.span, text, "apt-get install nftables");
    } else if !facts.filter {
        let text = "this kernel's packet filter doesn't answer: nf_tables is missing";
        cx.error("E0611", network.span, text, "modprobe nf_tables, or a kernel with CONFIG_NF_TABLES");
    }
    if let Some(lower) = network.value.lower() {
        match (facts.links.get(lower), &network.value) {
            (None, _) => {
                let text = format!("this host has no link `{lower}`");
                cx.error("E0611", network.span, text, format!("it has: {}", names(&facts.links)));
            }
            (Some(false), Network::Bridge(_)) => {
                let text = format!("`{lower}` is no bridge");
                cx.error("E0611", network.span, text, format!("ip link add {lower} type bridge, or use macvlan"));
            }
            _ => {}
        }
    }
    let resolver = &cx.policy.resolver;
    if resolver.value == Resolver::Host && facts.resolvers.is_empty() {
        let text = "the host names no server that a machine could reach: those on loopback are the host's alone";
        cx.error("E0611", resolver.span, text, "list them: resolver 192.0.2.53");
    }
    if let Some(first) = facts.dropping.first().filter(|_| network.value.is_routed()) {
        let text =
            format!("the host's own chain `{first}` drops what is forwarded, unless a rule of its own accepts it");
        let help = format!(
            "let it through there: nft add rule {first} iifname \"ve-*\" accept, and the same with oifname; or look at what manages that table"
        );
        cx.diagnostics.push(crate::diagnostic::Diagnostic::warning("W0602", network.span, text).help(help));
    }
    if facts.older_filter && network.value.is_routed() {
        let text = "the host has a filter table of the older iptables, which nft(8) doesn't show: it may drop what is forwarded";
        let help = "look with `iptables-legacy -S FORWARD`; let machines through: `iptables-legacy -I FORWARD -i ve-+ -j ACCEPT`, and the same with -o and with ip6tables-legacy";
        cx.diagnostics.push(crate::diagnostic::Diagnostic::warning("W0602", network.span, text).help(help));
    }
}

fn names(links: &std::collections::BTreeMap<String, bool>) -> String {
    links.keys().filter(|n| *n != "lo").cloned().collect::<Vec<_>>().join(" ")
}

/// The host is the machine's router.
fn routed(cx: &mut Cx<'_>, w: &mut Wiring) {
    let policy = cx.policy;
    let Some(number) = cx.host.network.subnet else {
        let text = "no subnet is free for the machine";
        return cx.error("E0611", policy.network.span, text, "end other machines, or free some of 10.83.0.0/16");
    };
    if matches!(policy.network.value, Network::Zone(_)) && w.zone.is_none() {
        let text = "no addresses are free for one more zone";
        return cx.error("E0611", policy.network.span, text, "end other zones, or free some of 10.84.0.0/16");
    }
    let v6 = cx.host.network.ipv6;
    w.subnet = Some(number);
    let [host4, own4, host6, own6] = subnet(pool(&cx.host.network.used), w.zone.as_ref().map(|z| z.number), number);
    w.outside.push(host4);
    w.inside.push(own4);
    if v6 {
        w.outside.push(host6);
        w.inside.push(own6);
    }
    // Whatever it is now: another machine may have switched it on, and may be gone in a moment.
    w.forwarding = [true, v6];
    for p in &policy.publishes {
        if p.address.is_some_and(|a| a.is_ipv6()) && !v6 {
            cx.error("E0611", p.span, "IPv6 is switched off on this host", "publish on an address of IPv4");
        }
        let every = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let addresses = match p.address {
            Some(a) => vec![a],
            None => every.into_iter().filter(|a| v6 || a.is_ipv4()).collect(),
        };
        let (protocol, origin) = (p.protocol.word().to_owned(), cx.origin(p.span));
        w.holds.push(Hold { protocol, addresses, ports: p.outside, origin });
    }
    let Kind::Veth { outside, .. } = &w.kind else { return };
    let table = host_table(cx, &outside.clone(), w);
    w.tables.push(table);
}

/// The host's table of a machine that it routes for.
fn host_table(cx: &Cx<'_>, link: &str, w: &Wiring) -> Table {
    let (policy, pool) = (cx.policy, pool(&cx.host.network.used));
    let spoof = "a machine speaks in its own name only";
    // Packets of others are done with after one comparison, those of known connections after two.
    let others = "packets of others are none of its business";
    let mut guard = Chain::base("guard", "filter", "prerouting", -300);
    guard.implied(vec![nft::not_from_link(link), nft::accept()], others);
    // Most of what comes is IPv4 in order; what isn't meets the rules below.
    for i in w.inside.iter().filter(|i| i.address.is_ipv4()) {
        let own = nft::address("==", "saddr", Block::host(i.address));
        let elsewhere = LOOPBACK.iter().filter(|b| b.address.is_ipv4()).map(|b| nft::address("!=", "daddr", *b));
        let rule = [nft::is_v4(true), own].into_iter().chain(elsewhere).chain([nft::accept()]);
        guard.implied(rule.collect(), spoof);
    }
    for i in &w.inside {
        let other = nft::address("!=", "saddr", Block::host(i.address));
        guard.implied(vec![nft::is_v4(i.address.is_ipv4()), other, nft::drop()], spoof);
    }
    if w.inside.iter().all(|i| i.address.is_ipv4()) {
        guard.implied(vec![nft::is_v4(false), nft::drop()], spoof);
    }
    let router = vec![nft::icmp6(&["nd-router-advert", "nd-redirect"]), nft::drop()];
    guard.implied(router, "a machine is no router (RFC 6104)");
    for b in LOOPBACK {
        let rule = vec![nft::address("==", "daddr", b), nft::drop()];
        guard.implied(rule, "the host's loopback is the host's alone");
    }

    let mut out = Chain::plain("out");
    out_rules(cx, w, &mut out);
    let mut inward = Chain::plain("in");
    inward.implied(nft::known(), "answers to what was let through");
    inward.implied(vec![nft::invalid(), nft::drop()], "a packet that belongs to nothing");
    // The kernel takes up a connection in its middle (nf_conntrack_tcp_loose), whoever began it.
    let start = "a connection begins at its beginning";
    inward.implied(vec![nft::no_start(), nft::drop()], start);
    let mut from_host = Chain::base("output", "filter", "output", 0);
    // What goes to a published port is translated by now, and still named after the link by which it would have left.
    for v4 in [true, false] {
        let own = w.inside.iter().filter(|i| i.address.is_ipv4() == v4);
        let elsewhere = own.map(|i| nft::address("!=", "daddr", Block::host(i.address)));
        let start = [nft::not_to_link(link), nft::is_v4(v4)];
        from_host.implied(start.into_iter().chain(elsewhere).chain([nft::accept()]).collect(), others);
    }
    from_host.implied(nft::known(), "answers to what was let through");
    from_host.implied(vec![nft::icmp6(NEIGHBOURS), nft::accept()], "neighbours are found (RFC 4861)");
    // A refusal is told by the host itself.
    for told in [nft::icmp4(&["destination-unreachable"]), nft::icmp6(&["destination-unreachable"])] {
        from_host.implied(vec![told, nft::accept()], "a machine is told what is refused");
    }
    from_host.implied(vec![nft::no_start(), nft::drop()], start);
    for (port, list) in nft::by_line(&policy.ports, Use::Listen) {
        let origin = cx.origin(port.span);
        for rule in nft::listens(port, list.as_deref()) {
            from_host.rule([rule.clone(), vec![nft::accept()]].concat(), &origin);
            inward.rule([vec![nft::was_published()], rule.clone(), vec![nft::accept()]].concat(), &origin);
            for b in w.zone.iter().flat_map(|z| zone_blocks(pool, z.number)) {
                let member = vec![nft::from_machine(), nft::address("==", "saddr", b)];
                inward.rule([member, rule.clone(), vec![nft::accept()]].concat(), &origin);
            }
        }
    }
    inward.implied(vec![nft::drop()], "nobody reaches a machine unless it is written");
    from_host.implied(vec![nft::jump("in")], "the host itself is no exception");
    let mut forward = Chain::base("forward", "filter", "forward", 0);
    forward.implied(vec![nft::from_link(link), nft::jump("out")], "what the machine sends");
    forward.implied(vec![nft::to_link(link), nft::jump("in")], "what the machine gets");
    let mut input = Chain::base("input", "filter", "input", 0);
    input.implied(vec![nft::not_from_link(link), nft::accept()], others);
    input.implied(nft::known(), "answers to what was let through");
    input.implied(vec![nft::icmp6(NEIGHBOURS), nft::accept()], "neighbours are found (RFC 4861)");
    input.implied(vec![nft::jump("out")], "the host's own services are no exception");

    let mut arriving = Chain::base("publish", "nat", "prerouting", -100);
    let mut leaving = Chain::base("publish-local", "nat", "output", -100);
    for p in &policy.publishes {
        let origin = cx.origin(p.span);
        for i in &w.inside {
            for rule in translations(p, i.address) {
                // From another host nobody speaks to this host's loopback, whatever it writes into a packet.
                if p.address.is_none_or(|a| !a.is_loopback()) {
                    let own = LOOPBACK.iter().find(|b| b.address.is_ipv4() == i.address.is_ipv4());
                    let apart = own.map(|b| nft::address("!=", "daddr", *b));
                    arriving.rule(apart.into_iter().chain(rule.clone()).collect(), &origin);
                }
                leaving.rule(rule, &origin);
            }
        }
    }
    let mut source = Chain::base("source", "nat", "postrouting", 100);

    for b in w.zone.iter().flat_map(|z| zone_blocks(pool, z.number)) {
        let rule = vec![nft::from_link(link), nft::to_machine(), nft::address("==", "daddr", b), nft::accept()];
        source.implied(rule, "members of a zone know each other");
    }
    for i in &w.inside {
        let leaves = vec![nft::address("==", "saddr", Block::host(i.address)), nft::not_to_link(link)];
        let with_ports = [leaves.clone(), vec![nft::has_ports(), nft::masquerade(Some(SOURCE_PORTS))]].concat();
        source.implied(with_ports, "to others it is the host, by ports that no service of it has");
        source.implied([leaves, vec![nft::masquerade(None)]].concat(), "to others it is the host");
    }
    for b in LOOPBACK {
        let rule = vec![nft::to_link(link), nft::address("==", "saddr", b), nft::masquerade(None)];
        source.implied(rule, "answers to the host's loopback find their way back");
    }
    let chains = vec![guard, out, inward, forward, input, from_host, arriving, leaving, source];
    Table { family: "inet".into(), name: format!("stockade-{}", policy.name), chains }
}

/// Messages by which neighbours are found.
pub(super) const NEIGHBOURS: &[&str] = &["nd-neighbor-solicit", "nd-neighbor-advert"];
const SPECIAL: &str = "link-local, multicast, broadcast and metadata addresses are reached only by name";

/// What the machine may send; everything else is refused, and it is told so.
pub(super) fn out_rules(cx: &Cx<'_>, w: &Wiring, out: &mut Chain) {
    let policy = cx.policy;
    out.implied(nft::known(), "answers to what was let through");
    // What isn't followed isn't translated either (nf_conntrack_icmpv6_init_net()), and would name the machine.
    out.implied(vec![nft::unknown(), nft::drop()], "a packet that belongs to nothing");
    for b in LOOPBACK {
        // A translation of the host's own may lead there.
        out.implied(vec![nft::address("==", "daddr", b), nft::reject()], "the host's loopback is the host's alone");
    }
    // Which addresses those of networks are is the host's matter: a grant that names one is no more than another.
    let routed = policy.network.value.is_routed();
    if routed {
        let networks = vec![nft::address("!=", "daddr", BROADCAST), nft::is_broadcast(), nft::reject()];
        out.implied(networks, "what is for every host of a network isn't forwarded (RFC 2644)");
    }
    for server in &w.resolvers {
        let origin = cx.origin(policy.resolver.span);
        for rule in nft::asks(*server) {
            out.rule([rule, vec![nft::accept()]].concat(), &origin);
        }
    }
    let lines = nft::by_line(&policy.ports, Use::Connect);
    let put = |out: &mut Chain, named: bool| {
        for (port, list) in lines.iter().filter(|(p, _)| p.peers.is_empty() != named) {
            for rule in nft::connects(port, list.as_deref()) {
                out.rule([rule, vec![nft::accept()]].concat(), &cx.origin(port.span));
            }
        }
    };
    put(out, true);
    for b in NOT_IMPLIED {
        // Neither asked for, whatever the host makes of it, nor where a translation leads.
        for to in [nft::asked_for(b), nft::address("==", "daddr", b)] {
            out.implied(vec![to, nft::reject()], SPECIAL);
        }
    }
    if !routed {
        out.implied(vec![nft::is_broadcast(), nft::reject()], SPECIAL);
    }
    put(out, false);
    if let Some(span) = policy.egress {
        out.rule(vec![nft::accept()], &cx.origin(span));
    }
    out.implied(vec![nft::reject()], "nothing is reached unless it is written");
}

/// From a port of the host to one of the machine.
fn translations(p: &Publish, to: IpAddr) -> Vec<Vec<serde_json::Value>> {
    let v4 = to.is_ipv4();
    let place = match p.address {
        Some(a) if a.is_ipv4() != v4 => return Vec::new(),
        Some(a) => vec![nft::address("==", "daddr", Block::host(a))],
        None => vec![nft::is_v4(v4), nft::is_local()],
    };
    let (first, last) = p.outside;
    let all: Vec<u16> = (first..=last).collect();
    let one = |ports: &[u16], inside| {
        [place.clone(), vec![nft::protocol(p.protocol), nft::to_port(p.protocol, ports), nft::dnat(to, inside)]]
            .concat()
    };
    if first == p.inside {
        // The port stays what it is.
        return vec![one(&all, None)];
    }
    all.iter().zip(p.inner()).map(|(out, inside)| one(&[*out], Some(inside))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links_fit_and_stay_apart() {
        assert_eq!(outside_name("web"), "ve-web");
        assert_eq!(outside_name("abcdefghijkl"), "ve-abcdefghijkl");
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..2000 {
            let name = outside_name(&format!("twenty-letters-alike{n}"));
            assert!(name.len() <= 15, "{name}");
            assert!(seen.insert(name));
        }
    }

    #[test]
    fn subnets_are_apart_and_within_their_zone() {
        let mut seen = std::collections::BTreeSet::new();
        for n in [0, 1, 63, 64, SUBNETS - 1] {
            for i in subnet(0, None, n) {
                assert!(seen.insert(i.address), "{i:?}");
            }
        }
        for z in [0, 1, ZONE_COUNT - 1] {
            for m in [0, 1, MEMBERS - 1] {
                for i in subnet(0, Some(z), m) {
                    assert!(seen.insert(i.address), "{i:?}");
                    assert!(zone_blocks(0, z).iter().any(|b| b.contains(Block::host(i.address))), "{i:?}");
                    let other = (z + 1) % ZONE_COUNT;
                    assert!(!zone_blocks(0, other).iter().any(|b| b.contains(Block::host(i.address))), "{i:?}");
                }
            }
        }
        let [.., last] = subnet(0, None, SUBNETS - 1);
        assert!(subnet(2, Some(0), 0).iter().chain([&last]).all(|i| is_given(i.address)));
        assert!(!["10.85.0.1", "192.0.2.1", "fd53:746f:636d::1"].iter().any(|a| is_given(a.parse().unwrap())));
        assert_eq!(last.address.to_string(), "fd53:746f:636b:3fff::2");
        let b = |t| Block::parse(t).unwrap();
        assert_eq!(pool(&[b("192.0.2.0/24"), b("10.83.4.0/30")]), 0);
        assert_eq!(pool(&[b("10.0.0.0/8")]), 1);
        assert_eq!(pool(&[b("10.0.0.0/8"), b("172.16.0.0/12")]), 0, "none is free: the search for a subnet says so");
    }
}
