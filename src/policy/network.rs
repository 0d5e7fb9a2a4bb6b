//! Which network a machine sees, and which TCP ports it may use.

use super::reader::{Args, Context, Meta, number};
use super::resolve::{Grants, Remove, Removed, Value};
use crate::source::Span;
use crate::syntax::ast::Statement;

/// The network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// One of its own with nothing in it but a loopback that is down.
    None,
    /// The host's.
    Host,
}

/// What a program does with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// bind(2), so that others can connect.
    Listen,
    /// connect(2).
    Connect,
}

/// One TCP port, or all.
#[derive(Clone, Debug)]
pub struct Port {
    /// Listen or connect.
    pub how: Use,
    /// `None`: any port.
    pub port: Option<u16>,
    /// The author's metadata.
    pub meta: Meta,
    /// The line.
    pub span: Span,
}

const VERBS: &[&str] = &[
    "none", "host", "listen", "connect", "private", "bridge", "zone", "macvlan", "ipvlan", "publish", "egress",
    "remove", "override",
];

pub(super) fn read(cx: &mut Context<'_>, s: &Statement, out: &mut Grants) {
    let overriding = s.keyword() == Some("override");
    let mut args = Args::new(cx, s, usize::from(overriding));
    let Some(mut verb) = args.word(cx, "a kind of network, `listen` or `connect`") else { return };
    let removing = verb.value == "remove";
    if removing {
        let Some(next) = args.word(cx, "`listen` or `connect`") else { return };
        verb = next;
    }
    match verb.value.as_str() {
        "none" | "host" if !removing => {
            let network = if verb.value == "host" { Network::Host } else { Network::None };
            if network == Network::Host && args.meta.why.is_none() {
                cx.error("E0308", args.span, "the host's network needs a reason", "network { host why \"...\" }");
            }
            args.finish(cx);
            out.scalar(cx, "network", Value::Network(network), &args, overriding);
        }
        "listen" | "connect" => ports(cx, &mut args, &verb.value, removing, out),
        "private" | "bridge" | "zone" | "macvlan" | "ipvlan" | "publish" | "egress" => {
            cx.not_yet(args.span, &format!("`{}`", verb.value));
        }
        _ => cx.unknown("E0201", "statement", &verb, VERBS),
    }
}

fn ports(cx: &mut Context<'_>, args: &mut Args<'_>, verb: &str, removing: bool, out: &mut Grants) {
    let how = if verb == "listen" { Use::Listen } else { Use::Connect };
    let Some(protocol) = args.word(cx, "`tcp`") else { return };
    match protocol.value.as_str() {
        "tcp" => {}
        "udp" | "any" => return cx.not_yet(args.span, &format!("`{verb} {}`", protocol.value)),
        _ => return cx.unknown("E0202", "protocol", &protocol, &["tcp", "udp"]),
    }
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
            cx.error(
                "E0214",
                word.span,
                format!("`{}` is not a port", word.value),
                "1 to 65535, a range `8000-8010`, or `any`",
            );
        }
    }
    if args.one_of(&["to"]).is_some() {
        return cx.not_yet(args.span, "`connect ... to ADDRESS`");
    }
    args.finish(cx);
    for port in list {
        if removing {
            out.removes.push(Remove { what: Removed::Port(how, port), span: args.span });
        } else {
            out.ports.push(Port { how, port, meta: args.meta.clone(), span: args.span });
        }
    }
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
