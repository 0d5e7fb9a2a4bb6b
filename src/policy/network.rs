//! Which network a machine sees, what it may reach there, and what may reach it.

use super::reader::{Args, Context, Meta, number};
use super::removes::Removed;
use super::resolve::{Grants, Value};
use crate::address::{Block, LINK_LOCAL_V6};
use crate::source::{Span, Spanned};
use crate::syntax::ast::Statement;
use std::fmt;
use std::net::IpAddr;

/// The network namespace, and what links it to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// One of its own with nothing in it but a loopback that is down.
    None,
    /// One of its own, routed to the host's and from there on by address translation.
    Private,
    /// The same, and members of the zone reach each other by name.
    Zone(String),
    /// One of its own, a port of this bridge of the host.
    Bridge(String),
    /// One of its own with a macvlan of this link of the host.
    Macvlan(String),
    /// One of its own with an ipvlan of this link of the host.
    Ipvlan(String),
    /// The host's.
    Host,
}

impl Network {
    /// The host routes for it: its addresses are Stockade's, and ports can be published.
    pub fn is_routed(&self) -> bool {
        matches!(self, Network::Private | Network::Zone(_))
    }

    /// It is on a network that others run: a link or bridge of the host.
    pub fn lower(&self) -> Option<&str> {
        match self {
            Network::Bridge(l) | Network::Macvlan(l) | Network::Ipvlan(l) => Some(l),
            _ => None,
        }
    }

    /// It has a link of its own, and rules of the packet filter hold.
    pub fn is_filtered(&self) -> bool {
        self.is_routed() || self.lower().is_some()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::None => f.write_str("none"),
            Network::Private => f.write_str("private"),
            Network::Zone(n) => write!(f, "zone {n}"),
            Network::Bridge(n) => write!(f, "bridge {n}"),
            Network::Macvlan(n) => write!(f, "macvlan {n}"),
            Network::Ipvlan(n) => write!(f, "ipvlan {n}"),
            Network::Host => f.write_str("host"),
        }
    }
}

/// What a program does with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// bind(2), so that others can connect.
    Listen,
    /// connect(2), or the first datagram.
    Connect,
}

impl Use {
    /// The word of the language.
    pub fn word(self) -> &'static str {
        match self {
            Use::Listen => "listen",
            Use::Connect => "connect",
        }
    }
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// The word of the language, and of nft(8).
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// One port, or all, of one protocol.
#[derive(Clone, Debug)]
pub struct Port {
    /// Listen or connect.
    pub how: Use,
    /// Its protocol.
    pub protocol: Protocol,
    /// `None`: any port.
    pub port: Option<u16>,
    /// Whom it may reach (`to`), or who may reach it (`from`); empty means anybody.
    pub peers: Vec<Block>,
    /// The author's metadata.
    pub meta: Meta,
    /// The line.
    pub span: Span,
}

impl Port {
    /// As the language writes it, for one of its peers.
    pub fn text(how: Use, protocol: Protocol, port: Option<u16>, peer: Option<Block>) -> String {
        let port = port.map_or("any".to_owned(), |n| n.to_string());
        let word = if how == Use::Listen { "from" } else { "to" };
        let peer = peer.map_or(String::new(), |p| format!(" {word} {p}"));
        format!("{} {} {port}{peer}", how.word(), protocol.word())
    }

    /// Its peers one by one; `None` stands for anybody.
    pub fn each_peer(&self) -> Vec<Option<Block>> {
        if self.peers.is_empty() { vec![None] } else { self.peers.iter().copied().map(Some).collect() }
    }
}

/// Ports of the host that lead to ports of the machine.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Their protocol.
    pub protocol: Protocol,
    /// The host's address; `None` is all of them, loopback included.
    pub address: Option<IpAddr>,
    /// First and last port of the host.
    pub outside: (u16, u16),
    /// First port inside; the others follow.
    pub inside: u16,
    /// The author's metadata.
    pub meta: Meta,
    /// The line.
    pub span: Span,
}

impl Publish {
    /// The ports inside.
    pub fn inner(&self) -> impl Iterator<Item = u16> + use<> {
        self.inside..=self.inside.saturating_add(self.outside.1 - self.outside.0)
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "publish {} ", self.protocol.word())?;
        match self.address {
            Some(IpAddr::V4(a)) => write!(f, "{a}:")?,
            Some(IpAddr::V6(a)) => write!(f, "[{a}]:")?,
            None => {}
        }
        let (first, last) = self.outside;
        if first == last {
            write!(f, "{first} -> {}", self.inside)
        } else {
            write!(f, "{first}-{last} -> {}-{}", self.inside, self.inside + (last - first))
        }
    }
}

/// Who answers names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// Nobody.
    None,
    /// Those that the host asks.
    Host,
    /// These.
    List(Vec<IpAddr>),
}

/// An address on a network that others run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address, with the length of its network's prefix.
    pub interface: Block,
    /// The way to all others.
    pub gateway: Option<IpAddr>,
}

const KINDS: &[&str] = &["none", "private", "bridge", "zone", "macvlan", "ipvlan", "host"];
impl Grants {
    /// Who answers names, and the line that says so: with `egress any` those whom the host asks, who are among
    /// what the machine may reach anyway. `None` where nobody does.
    pub fn resolver(&self) -> Option<(Resolver, Span)> {
        if let Some(s) = self.scalars.get("resolver") {
            return if let Value::Resolver(r) = &s.value { Some((r.clone(), s.span)) } else { None };
        }
        let routed = matches!(self.scalars.get("network").map(|s| &s.value), Some(Value::Network(n)) if n.is_routed());
        let egress = self.scalars.get("egress").filter(|s| routed && s.value == Value::Number(1))?;
        Some((Resolver::Host, egress.span))
    }

    /// The files that a routed network writes into a machine, each with the line that it is for.
    pub(super) fn network_files(&self) -> Vec<(&'static str, Span)> {
        let Some(s) = self.scalars.get("network") else { return Vec::new() };
        let Value::Network(network) = &s.value else { return Vec::new() };
        let mut out = Vec::new();
        if let Some((_, span)) = self.resolver().filter(|(r, _)| network.is_routed() && *r != Resolver::None) {
            out.push(("/etc/resolv.conf", span));
        }
        if matches!(network, Network::Zone(_)) {
            out.push(("/etc/hosts", s.span));
        }
        out
    }
}

/// The ports by which machines speak to others: of those that IANA gives to no service (RFC 6335, 6) the ones above
/// WireGuard's 51820. A connection's answer is led to the machine before anybody on the host is asked, so a machine that
/// could speak by the port of a service would get what is meant for that.
pub const SOURCE_PORTS: (u16, u16) = (52000, 65535);

const OTHERS: &[&str] = &["publish", "listen", "connect", "egress", "resolver", "address", "remove", "override"];

pub(super) fn read(cx: &mut Context<'_>, s: &Statement, out: &mut Grants) {
    let overriding = s.keyword() == Some("override");
    let mut args = Args::new(cx, s, usize::from(overriding));
    let Some(mut verb) = args.word(cx, "a kind of network, `publish`, `listen` or `connect`") else { return };
    let removing = verb.value == "remove";
    if removing {
        let Some(next) = args.word(cx, "`publish`, `listen` or `connect`") else { return };
        verb = next;
    }
    match verb.value.as_str() {
        v if KINDS.contains(&v) && !removing => kind(cx, &mut args, v, out, overriding),
        "listen" | "connect" => ports(cx, &mut args, &verb.value, removing, out),
        "publish" => publish(cx, &mut args, removing, out),
        "egress" if !removing => egress(cx, &mut args, out, overriding),
        "resolver" if !removing => resolver(cx, &mut args, out, overriding),
        "address" if !removing => address(cx, &mut args, out, overriding),
        _ => cx.unknown("E0201", "statement", &verb, &[KINDS, OTHERS].concat()),
    }
}

fn kind(cx: &mut Context<'_>, args: &mut Args<'_>, verb: &str, out: &mut Grants, overriding: bool) {
    let network = match verb {
        "none" => Network::None,
        "private" => Network::Private,
        "host" => Network::Host,
        _ => {
            let Some(name) = args.word(cx, if verb == "zone" { "the zone's name" } else { "a link of the host" })
            else {
                return;
            };
            if verb == "zone" {
                if !super::valid_name(&name.value) {
                    return cx.error("E0211", name.span, format!("`{}` can't be a zone", name.value), super::NAME_HELP);
                }
                Network::Zone(name.value)
            } else {
                if !valid_link(&name.value) {
                    let text = format!("`{}` can't be the name of a link", name.value);
                    return cx.error("E0211", name.span, text, "1 to 15 letters, digits, `-`, `_` and `.`");
                }
                match verb {
                    "bridge" => Network::Bridge(name.value),
                    "macvlan" => Network::Macvlan(name.value),
                    _ => Network::Ipvlan(name.value),
                }
            }
        }
    };
    if network == Network::Host && args.meta.why.is_none() {
        cx.error("E0308", args.span, "the host's network needs a reason", "network { host why \"...\" }");
    }
    args.finish(cx);
    out.scalar(cx, "network", Value::Network(network), args, overriding);
}

/// dev_valid_name() of the kernel, and nothing that would look odd in a list (net/core/dev.c).
fn valid_link(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !name.starts_with(['-', '.'])
}

fn protocol(cx: &mut Context<'_>, args: &mut Args<'_>) -> Option<Protocol> {
    let word = args.word(cx, "`tcp` or `udp`")?;
    match word.value.as_str() {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => {
            cx.unknown("E0202", "protocol", &word, &["tcp", "udp"]);
            None
        }
    }
}

const PORT_HELP: &str = "1 to 65535, a range of at most 1000 `8000-8010`, or `any`";

fn ports(cx: &mut Context<'_>, args: &mut Args<'_>, verb: &str, removing: bool, out: &mut Grants) {
    let how = if verb == "listen" { Use::Listen } else { Use::Connect };
    let Some(protocol) = protocol(cx, args) else { return };
    let mut list = Vec::new();
    for word in args.words(cx, "a port or `any`") {
        if word.value == "any" {
            list.push(None);
        } else if let Some((first, last)) = range(&word.value) {
            list.extend((first..=last).map(Some));
            list.sort_unstable();
            list.dedup();
            if list.len() + out.ports.len() > 4096 {
                return cx.error("E0214", word.span, "more than 4096 ports", "write `any` if all of them are meant");
            }
        } else {
            cx.error("E0214", word.span, format!("`{}` is not a port", word.value), PORT_HELP);
        }
    }
    let word = if how == Use::Listen { "from" } else { "to" };
    let mut peers = Vec::new();
    if args.one_of(&[word]).is_some() {
        for w in args.words(cx, "an address or a block of them") {
            peers.extend(block(cx, &w, Block::parse));
        }
        peers.sort_unstable();
        peers.dedup();
        if peers.is_empty() {
            return;
        }
    }
    args.finish(cx);
    for port in list {
        if removing {
            let what = Removed::Port(how, protocol, port, peers.clone());
            out.remove(cx, what, args.span, args);
        } else {
            let meta = args.meta.clone();
            out.ports.push(Port { how, protocol, port, peers: peers.clone(), meta, span: args.span });
        }
    }
}

pub(super) fn block(
    cx: &mut Context<'_>,
    word: &Spanned<String>,
    parse: fn(&str) -> Result<Block, String>,
) -> Option<Block> {
    match parse(&word.value) {
        Ok(Block { address: IpAddr::V6(a), prefix }) if prefix >= 96 && a.to_ipv4_mapped().is_some() => {
            let text = format!("`{}` is an address of IPv4 in the clothes of IPv6: no packet has it", word.value);
            cx.error("E0222", word.span, text, "write it as IPv4");
            None
        }
        Ok(b) => Some(b),
        Err(text) => {
            cx.error("E0222", word.span, text, "an address, or a block as in 10.20.0.0/16 and fd00:1::/32");
            None
        }
    }
}

/// A multicast or the broadcast address.
fn of_many(a: IpAddr) -> bool {
    a.is_multicast() || matches!(a, IpAddr::V4(a) if a.is_broadcast())
}

/// `8080`, `192.0.2.7:8080-8090`, `"[::1]:8080"`.
fn publish(cx: &mut Context<'_>, args: &mut Args<'_>, removing: bool, out: &mut Grants) {
    let Some(protocol) = protocol(cx, args) else { return };
    let Some(outside) = args.word_or_text(cx, "a port of the host") else { return };
    let (address, ports) = match outside.value.rsplit_once(':') {
        Some((address, ports)) => {
            let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
            let Some(b) = block(cx, &Spanned { value: bare.to_owned(), span: outside.span }, Block::parse) else {
                return;
            };
            if !b.is_host() || b.address.is_unspecified() {
                let help = "one address of the host, or none: then all of them are meant";
                return cx.error("E0222", outside.span, format!("`{bare}` is not one address"), help);
            }
            if of_many(b.address) || LINK_LOCAL_V6.contains(b) {
                let text = format!("nothing can be published on `{bare}`: no socket is bound to it alone");
                return cx.error("E0222", outside.span, text, "an address of the host that others reach");
            }
            (Some(b.address), ports)
        }
        None => (None, outside.value.as_str()),
    };
    let Some(span) = range(ports) else {
        return cx.error("E0214", outside.span, format!("`{ports}` is not a port"), PORT_HELP);
    };
    if removing {
        args.finish(cx);
        let what = Removed::Publish(protocol, address, span.0);
        return out.remove(cx, what, args.span, args);
    }
    if !args.op("->") {
        let at = args.peek().map_or(outside.span, |i| i.span);
        return cx.error("E0205", at, "expected `->` and a port inside", "as in `publish tcp 8080 -> 80`");
    }
    let Some(inside) = args.word(cx, "a port of the machine") else { return };
    let Some((first, last)) = range(&inside.value) else {
        return cx.error("E0214", inside.span, format!("`{}` is not a port", inside.value), PORT_HELP);
    };
    if last - first != span.1 - span.0 {
        let text = format!("{} ports outside, {} inside", span.1 - span.0 + 1, last - first + 1);
        return cx.error("E0214", inside.span, text, "both ranges have the same length");
    }
    args.finish(cx);
    let meta = args.meta.clone();
    out.publishes.push(Publish { protocol, address, outside: span, inside: first, meta, span: args.span });
}

fn egress(cx: &mut Context<'_>, args: &mut Args<'_>, out: &mut Grants, overriding: bool) {
    let Some(word) = args.word(cx, "`any` or `none`") else { return };
    args.finish(cx);
    match word.value.as_str() {
        "any" | "none" => {
            out.scalar(cx, "egress", Value::Number(u64::from(word.value == "any")), args, overriding);
        }
        _ => cx.unknown("E0202", "egress", &word, &["any", "none"]),
    }
}

fn resolver(cx: &mut Context<'_>, args: &mut Args<'_>, out: &mut Grants, overriding: bool) {
    let value = if args.one_of(&["host"]).is_some() {
        Resolver::Host
    } else if args.one_of(&["none"]).is_some() {
        Resolver::None
    } else {
        let mut list = Vec::new();
        for w in args.words(cx, "`host`, `none`, or addresses of name servers") {
            match block(cx, &w, Block::parse) {
                Some(b)
                    if b.is_host()
                        && !b.address.is_loopback()
                        && !b.address.is_unspecified()
                        && !of_many(b.address) =>
                {
                    list.push(b.address);
                }
                Some(_) => cx.error("E0222", w.span, "a name server is one address outside", "as in 192.0.2.53"),
                None => {}
            }
        }
        if list.is_empty() {
            return;
        }
        if list.len() > 3 {
            // MAXNS of resolv.conf(5).
            return cx.error("E0222", args.span, "more than 3 name servers", "resolv.conf(5) reads three");
        }
        Resolver::List(list)
    };
    args.finish(cx);
    out.scalar(cx, "resolver", Value::Resolver(value), args, overriding);
}

fn address(cx: &mut Context<'_>, args: &mut Args<'_>, out: &mut Grants, overriding: bool) {
    let Some(word) = args.word(cx, "an address with its prefix") else { return };
    let Some(interface) = block(cx, &word, Block::interface) else { return };
    let mut gateway = None;
    if args.one_of(&["gateway"]).is_some() {
        let Some(word) = args.word(cx, "the gateway's address") else { return };
        let Some(b) = block(cx, &word, Block::parse) else { return };
        if !b.is_host() || !interface.first().contains(b) || b.address == interface.address {
            let text = format!("`{}` is not another address of {}", word.value, interface.first());
            return cx.error("E0222", word.span, text, "the gateway is on the same network");
        }
        gateway = Some(b.address);
    }
    args.finish(cx);
    // The first and the last of a network of IPv4 stand for all of it; but for RFC 3021 and its 31 bits.
    let ends = |a: IpAddr| match a {
        IpAddr::V4(v4) if interface.prefix < 31 => {
            let rest = v4.to_bits() & u32::MAX.checked_shr(interface.prefix.into()).unwrap_or(0);
            rest == 0 || rest == u32::MAX >> interface.prefix
        }
        _ => false,
    };
    if let Some(g) = gateway.filter(|g| ends(*g)) {
        let text = format!("`{g}` stands for all of {}", interface.first());
        return cx.error("E0222", word.span, text, "the gateway is one address of that network");
    }
    let a = interface.address;
    let odd = a.is_loopback() || a.is_unspecified() || of_many(a);
    if interface.is_host() || interface.prefix == 0 || odd || ends(a) {
        let help = "an address with its network's prefix, as in 192.0.2.7/24";
        return cx.error("E0222", word.span, format!("`{}` can't be an interface's", word.value), help);
    }
    let key = if interface.address.is_ipv4() { "address" } else { "address6" };
    out.scalar(cx, key, Value::Address(Address { interface, gateway }), args, overriding);
}

/// `80` or `8000-8010`, at most 1,000 ports.
fn range(text: &str) -> Option<(u16, u16)> {
    let one = |t: &str| number(t).and_then(|n| u16::try_from(n).ok()).filter(|p| *p > 0);
    let (first, last) = match text.split_once('-') {
        Some((a, b)) => (one(a)?, one(b)?),
        None => (one(text)?, one(text)?),
    };
    (first <= last && last - first < 1000).then_some((first, last))
}
