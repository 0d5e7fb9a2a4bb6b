//! Rules of the packet filter, as nft(8) takes them in JSON (libnftables-json(5)).
//!
//! All of a machine's rules are one table, loaded in one transaction and deleted as a whole. Nothing is ever
//! put together as text: names, addresses and ports are values of JSON.

use crate::address::Block;
use crate::policy::network::{Port, Protocol, Use};
use crate::source::Origin;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::IpAddr;

/// A table with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// `inet` or `bridge`.
    pub family: String,
    /// Its name: never that of somebody else's.
    pub name: String,
    /// In the order of their making.
    pub chains: Vec<Chain>,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// For a base chain: type, hook and priority.
    pub hook: Option<(String, String, i32)>,
    /// In order; the first that gives a verdict counts.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its statements.
    pub statements: Vec<Value>,
    /// The line, or the rule that implies it.
    pub origin: Origin,
}

/// The kernel keeps 256 bytes beside a rule (NFT_USERDATA_MAXLEN in nf_tables.h); of a longer text the end, where the
/// line is.
fn comment(text: &str) -> String {
    const MOST: usize = 120;
    if text.len() <= MOST {
        return text.to_owned();
    }
    let start = (text.len() - MOST..).find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    text.get(start..).unwrap_or_default().to_owned()
}

impl Table {
    /// The whole transaction: afterwards the table is exactly this.
    pub fn transaction(&self) -> Value {
        let table = json!({ "family": self.family, "name": self.name });
        // Adding before deleting: a table that isn't there can't be deleted.
        let mut list = vec![
            json!({ "add": { "table": table } }),
            json!({ "delete": { "table": table } }),
            json!({ "add": { "table": table } }),
        ];
        for c in &self.chains {
            let mut chain = json!({ "family": self.family, "table": self.name, "name": c.name });
            if let (Some((kind, hook, priority)), Value::Object(map)) = (&c.hook, &mut chain) {
                map.insert("type".into(), json!(kind));
                map.insert("hook".into(), json!(hook));
                map.insert("prio".into(), json!(priority));
                map.insert("policy".into(), json!("accept"));
            }
            list.push(json!({ "add": { "chain": chain } }));
        }
        for c in &self.chains {
            for r in &c.rules {
                let comment = comment(&r.origin.to_string());
                let rule = json!({
                    "family": self.family, "table": self.name, "chain": c.name, "expr": r.statements, "comment": comment
                });
                list.push(json!({ "add": { "rule": rule } }));
            }
        }
        json!({ "nftables": list })
    }

    /// How many rules it has.
    pub fn len(&self) -> usize {
        self.chains.iter().map(|c| c.rules.len()).sum()
    }

    /// True without any rule.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Chain {
    /// A chain that others jump to.
    pub(super) fn plain(name: &str) -> Chain {
        Chain { name: name.to_owned(), hook: None, rules: Vec::new() }
    }

    /// A chain that the kernel calls.
    pub(super) fn base(name: &str, kind: &str, hook: &str, priority: i32) -> Chain {
        Chain { hook: Some((kind.to_owned(), hook.to_owned(), priority)), ..Chain::plain(name) }
    }

    pub(super) fn rule(&mut self, statements: Vec<Value>, origin: &Origin) {
        self.rules.push(Rule { statements, origin: origin.clone() });
    }

    pub(super) fn implied(&mut self, statements: Vec<Value>, rule: &'static str) {
        self.rule(statements, &Origin::implied(rule));
    }
}

/// A comparison.
pub(super) fn compare(operator: &str, left: Value, right: Value) -> Value {
    json!({ "match": { "op": operator, "left": left, "right": right } })
}

fn meta(key: &str) -> Value {
    json!({ "meta": { "key": key } })
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({ "payload": { "protocol": protocol, "field": field } })
}

fn family(v4: bool) -> &'static str {
    if v4 { "ip" } else { "ip6" }
}

/// The link that a packet came from.
pub(super) fn from_link(name: &str) -> Value {
    compare("==", meta("iifname"), json!(name))
}

/// The link that a packet goes to.
pub(super) fn to_link(name: &str) -> Value {
    compare("==", meta("oifname"), json!(name))
}

/// IPv4 or IPv6, on a bridge.
pub(super) fn is_family(v4: bool) -> Value {
    compare("==", meta("protocol"), json!(family(v4)))
}

/// Questions for addresses, on a bridge.
pub(super) fn is_arp() -> Value {
    compare("==", meta("protocol"), json!("arp"))
}

/// Neither IPv4 nor IPv6 nor a question for addresses, on a bridge. By the frame's own words: those of a frame that
/// is tagged for another network are the tag's.
pub(super) fn speaks_otherwise() -> Value {
    compare("!=", payload("ether", "type"), json!({ "set": ["ip", "ip6", "arp"] }))
}

/// From any other link than this.
pub(super) fn not_from_link(name: &str) -> Value {
    compare("!=", meta("iifname"), json!(name))
}

/// To any other link than this.
pub(super) fn not_to_link(name: &str) -> Value {
    compare("!=", meta("oifname"), json!(name))
}

/// A fragment that goes on with another header, so that the protocol may stand in a later one: hop-by-hop options,
/// routing, a fragment again, authentication, destination options, mobility (RFC 8200, 4.1 and 4.5).
pub(super) fn hides_protocol() -> Value {
    let next = json!({ "exthdr": { "name": "frag", "field": "nexthdr" } });
    compare("==", next, json!({ "set": [0, 43, 44, 51, 60, 135] }))
}

/// IPv4, or IPv6.
pub(super) fn is_v4(yes: bool) -> Value {
    compare("==", meta("nfproto"), json!(if yes { "ipv4" } else { "ipv6" }))
}

fn block(b: Block) -> Value {
    if b.is_host() {
        json!(b.address.to_string())
    } else {
        json!({ "prefix": { "addr": b.address.to_string(), "len": b.prefix } })
    }
}

/// An address of the packet: `saddr` or `daddr`.
pub(super) fn address(operator: &str, field: &str, b: Block) -> Value {
    compare(operator, payload(family(b.address.is_ipv4()), field), block(b))
}

/// What the sender asked for, whatever was translated since.
pub(super) fn asked_for(b: Block) -> Value {
    let key = format!("{} daddr", family(b.address.is_ipv4()));
    compare("==", json!({ "ct": { "key": key, "dir": "original" } }), block(b))
}

fn asked_port(ports: &[u16]) -> Value {
    compare("==", json!({ "ct": { "key": "proto-dst", "dir": "original" } }), set(ports))
}

/// TCP or UDP.
pub(super) fn protocol(p: Protocol) -> Value {
    compare("==", meta("l4proto"), json!(p.word()))
}

/// The port that a packet is for.
pub(super) fn to_port(p: Protocol, ports: &[u16]) -> Value {
    compare("==", payload(p.word(), "dport"), set(ports))
}

/// The port that a packet comes from.
pub(super) fn from_port(p: Protocol, port: u16) -> Value {
    compare("==", payload(p.word(), "sport"), json!(port))
}

/// Ports as an anonymous set of ranges.
fn set(ports: &[u16]) -> Value {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for p in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*p) => *last = *p,
            _ => ranges.push((*p, *p)),
        }
    }
    let list: Vec<Value> =
        ranges.iter().map(|(a, b)| if a == b { json!(a) } else { json!({ "range": [a, b] }) }).collect();
    match list.as_slice() {
        [one] => one.clone(),
        _ => json!({ "set": list }),
    }
}

/// Lets packets of a connection through that was let through.
pub(super) fn known() -> Vec<Value> {
    vec![compare("in", json!({ "ct": { "key": "state" } }), json!(["established", "related"])), accept()]
}

/// The group of links that are machines' (net/core/dev.c, IFLA_GROUP): a name can be anybody's.
pub const GROUP: u32 = 0x5354;

/// From a machine's link.
pub(super) fn from_machine() -> Value {
    compare("==", meta("iifgroup"), json!(GROUP))
}

/// To a machine's link.
pub(super) fn to_machine() -> Value {
    compare("==", meta("oifgroup"), json!(GROUP))
}

/// A packet that belongs to nothing.
pub(super) fn invalid() -> Value {
    compare("in", json!({ "ct": { "key": "state" } }), json!("invalid"))
}

/// The same, or one that the kernel doesn't follow.
pub(super) fn unknown() -> Value {
    compare("in", json!({ "ct": { "key": "state" } }), json!(["invalid", "untracked"]))
}

/// A packet of TCP that begins no connection: of FIN, SYN, RST and ACK it has others than SYN (RFC 9293, 3.5).
pub(super) fn no_start() -> Value {
    compare("!=", json!({ "&": [payload("tcp", "flags"), 0x17] }), json!(2))
}

/// A packet whose destination was translated: it came by a published port.
pub(super) fn was_published() -> Value {
    compare("in", json!({ "ct": { "key": "status" } }), json!("dnat"))
}

/// The packet is for an address of this host.
pub(super) fn is_local() -> Value {
    compare("==", json!({ "fib": { "result": "type", "flags": ["daddr"] } }), json!("local"))
}

/// The packet is for every host of a network of this namespace.
pub(super) fn is_broadcast() -> Value {
    compare("==", json!({ "fib": { "result": "type", "flags": ["daddr"] } }), json!("broadcast"))
}

/// Messages of ICMPv6.
pub(super) fn icmp6(types: &[&str]) -> Value {
    compare("==", payload("icmpv6", "type"), json!({ "set": types }))
}

/// Messages of ICMP.
pub(super) fn icmp4(types: &[&str]) -> Value {
    compare("==", payload("icmp", "type"), json!({ "set": types }))
}

/// Goes on to its end, as far as this table is concerned.
pub(super) fn accept() -> Value {
    json!({ "accept": null })
}

/// Is gone.
pub(super) fn drop() -> Value {
    json!({ "drop": null })
}

/// Is gone, and the sender is told.
pub(super) fn reject() -> Value {
    json!({ "reject": { "type": "icmpx", "expr": "admin-prohibited" } })
}

/// Goes on in another chain, and comes back.
pub(super) fn jump(chain: &str) -> Value {
    json!({ "jump": { "target": chain } })
}

/// Gets this destination.
pub(super) fn dnat(to: IpAddr, port: Option<u16>) -> Value {
    let family = family(to.is_ipv4());
    match port {
        Some(p) => json!({ "dnat": { "family": family, "addr": to.to_string(), "port": p } }),
        None => json!({ "dnat": { "family": family, "addr": to.to_string() } }),
    }
}

/// A protocol with ports.
pub(super) fn has_ports() -> Value {
    compare("==", meta("l4proto"), json!({ "set": ["tcp", "udp", "udplite", "dccp", "sctp"] }))
}

/// Gets the host's own address as its source, and one of these ports.
pub(super) fn masquerade(ports: Option<(u16, u16)>) -> Value {
    match ports {
        Some((first, last)) => json!({ "masquerade": { "port": { "range": [first, last] } } }),
        None => json!({ "masquerade": null }),
    }
}

/// The ports of one line, by what else the rule needs.
pub(super) fn by_line(ports: &[Port], how: Use) -> Vec<(&Port, Option<Vec<u16>>)> {
    let mut out: Vec<(&Port, Option<Vec<u16>>)> = Vec::new();
    for p in ports.iter().filter(|p| p.how == how) {
        let same = |o: &&mut (&Port, Option<Vec<u16>>)| {
            o.0.span == p.span && o.0.protocol == p.protocol && o.1.is_some() == p.port.is_some()
        };
        match (out.iter_mut().find(same), p.port) {
            (Some((_, Some(list))), Some(port)) => list.push(port),
            (Some(_), _) => {}
            (None, port) => out.push((p, port.map(|n| vec![n]))),
        }
    }
    for (_, list) in &mut out {
        if let Some(l) = list {
            l.sort_unstable();
            l.dedup();
        }
    }
    out
}

/// A rule for each peer of a line that lets the machine connect; `None` in the result is the line without peers.
pub(super) fn connects(port: &Port, list: Option<&[u16]>) -> Vec<Vec<Value>> {
    let mut start = vec![protocol(port.protocol)];
    if let Some(ports) = list {
        start.push(asked_port(ports));
    }
    match port.peers.as_slice() {
        [] => vec![start],
        peers => peers.iter().map(|b| [vec![asked_for(*b)], start.clone()].concat()).collect(),
    }
}

/// The same for a line that lets others connect to it.
pub(super) fn listens(port: &Port, list: Option<&[u16]>) -> Vec<Vec<Value>> {
    let mut start = vec![protocol(port.protocol)];
    if let Some(ports) = list {
        start.push(to_port(port.protocol, ports));
    }
    match port.peers.as_slice() {
        [] => vec![start],
        peers => peers.iter().map(|b| [vec![address("==", "saddr", *b)], start.clone()].concat()).collect(),
    }
}

/// Name servers, by both protocols.
pub(super) fn asks(server: IpAddr) -> Vec<Vec<Value>> {
    [Protocol::Udp, Protocol::Tcp]
        .into_iter()
        .map(|p| vec![asked_for(Block::host(server)), protocol(p), asked_port(&[53])])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_become_ranges() {
        assert_eq!(set(&[80]), json!(80));
        assert_eq!(set(&[80, 81, 82, 443]), json!({ "set": [{ "range": [80, 82] }, 443] }));
        assert_eq!(set(&[65534, 65535]), json!({ "range": [65534, 65535] }));
    }

    #[test]
    fn a_table_is_replaced_as_a_whole() {
        let mut chain = Chain::base("forward", "filter", "forward", 0);
        chain.implied(vec![from_link("ve-web"), drop()], "a reason \"in\" quotes\n");
        let t = Table { family: "inet".into(), name: "stockade-web".into(), chains: vec![chain] };
        let text = t.transaction();
        let list = text.get("nftables").and_then(Value::as_array).unwrap();
        let verbs: Vec<&str> = list.iter().filter_map(|v| v.as_object()?.keys().next().map(String::as_str)).collect();
        assert_eq!(verbs, ["add", "delete", "add", "add", "add"]);
        assert_eq!(t.len(), 1);
    }

    #[test]
    fn a_long_path_keeps_its_end() {
        assert_eq!(comment("web.stockade:7"), "web.stockade:7");
        let long = comment(&format!("{}/web.stockade:7", "網".repeat(90)));
        assert!(long.len() <= 120 && long.ends_with("網/web.stockade:7"), "{long}");
    }
}
