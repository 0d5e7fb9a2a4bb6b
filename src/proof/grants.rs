//! The domains besides system calls as a set of facts with an order: what grants more than what.
//!
//! Capabilities, limits and words with a rank are compared exactly. Paths are compared as prefixes, mounts
//! by their target, what runs by its text: those answers are modelled, and said to be so.

use crate::address::Block;
use crate::policy::capabilities::{self, Set};
use crate::policy::files::{RIGHTS, Right, is_below};
use crate::policy::mounts::{Access, Mount, Origin, Root, Source};
use crate::policy::network::{Network, Port, Protocol, Publish, Resolver, Use};
use crate::policy::process::{ENVIRONMENT, Id, Program, Userns};
use crate::policy::resolve::{Grants, Value};
use crate::policy::resources;
use crate::policy::{Meta, Policy};
use crate::source::Span;
use serde::Serialize;
use std::net::IpAddr;

/// A domain of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Domain {
    /// System calls: proved.
    Syscalls,
    /// Capabilities: exact.
    Capabilities,
    /// Root, program, user, user namespace, no_new_privs.
    Process,
    /// Mounts: modelled.
    Mounts,
    /// File rules: modelled.
    Files,
    /// Network namespace, ports and peers: exact.
    Network,
    /// Devices.
    Devices,
    /// Limits: exact.
    Limits,
    /// Environment.
    Environment,
}

impl Domain {
    /// The word of the language.
    pub fn word(self) -> &'static str {
        match self {
            Domain::Syscalls => "syscalls",
            Domain::Capabilities => "capabilities",
            Domain::Process => "process",
            Domain::Mounts => "mounts",
            Domain::Files => "files",
            Domain::Network => "network",
            Domain::Devices => "devices",
            Domain::Limits => "limits",
            Domain::Environment => "environment",
        }
    }

    /// Is an answer about this domain proved, or does it rest on a model of paths?
    pub fn is_modelled(self) -> bool {
        matches!(self, Domain::Mounts | Domain::Files | Domain::Process)
    }
}

/// How two facts of one kind compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// There or not there.
    Present,
    /// A larger number grants more.
    Rank(u64),
    /// Each bit grants something.
    Bits(u64),
    /// Values without an order.
    Other(String),
    /// A right below a path; where it is one that shows the same files as the rule's, the rule's own.
    Path(Right, String, Option<String>),
    /// More of it than is compared: it is covered by nothing.
    Countless,
    /// A port and a peer; `None` is any.
    Port(Use, Protocol, Option<u16>, Option<Block>),
    /// A port of UDP at the broadcast address of the machine's own network, which only who names it reaches.
    Broadcast(Option<u16>, Block),
    /// Ports of the host: protocol, address (`None` is all), first and last, and the first inside.
    Publish(Protocol, Option<IpAddr>, (u16, u16), u16),
    /// What is shown at a target, and how: write, exec, suid, dev, owners translated.
    Mount(String, [bool; 5]),
    /// Whatever the caller has, which the policy doesn't know.
    Inherited,
    /// Takes something away: a mask, or `true` where nobody can even open what stands there.
    Hidden(bool),
}

/// One thing that a policy grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Its domain.
    pub domain: Domain,
    /// What it is about: facts with the same domain and key are compared.
    pub key: String,
    /// Its value.
    pub what: What,
    /// As a person reads it.
    pub text: String,
    /// The line.
    pub span: Span,
    /// The author's reason.
    pub why: Option<String>,
    /// The last day of it.
    pub until: Option<String>,
}

/// All facts of what a machine grants.
pub fn of_machine(policy: &Policy) -> Vec<Fact> {
    let mut all = facts(&policy.grants, policy.span);
    if !policy.grants.scalars.contains_key("hostname") {
        let text = format!("hostname {}", policy.hostname.value.escape_debug());
        let (key, what) = ("hostname".to_owned(), What::Other(text.clone()));
        all.push(Fact { domain: Domain::Process, key, what, text, span: policy.span, why: None, until: None });
    }
    all
}

/// All facts of what a machine or a ceiling grants, but for a machine's name; `span` stands for what is implied.
pub fn facts(g: &Grants, span: Span) -> Vec<Fact> {
    let mut out = Vec::new();
    let none = Meta::default();
    let mut push = |domain, key: String, what, text: String, span, meta: &Meta| {
        let until = meta.until.as_ref().map(|u| u.value.clone());
        out.push(Fact { domain, key, what, text, span, why: meta.why.clone(), until });
    };
    let root = is_root(g);
    for c in &g.capabilities {
        let sets: &[Set] = match c.set {
            Set::Keep if root => &[Set::Bounding, Set::Permitted, Set::Effective],
            Set::Keep => &[Set::Bounding, Set::Permitted, Set::Effective, Set::Inheritable, Set::Ambient],
            // Root that execs has all of its bounding set (capabilities(7)); no inheritable one is outside it (E0502).
            Set::Bounding if root => &[Set::Bounding, Set::Permitted, Set::Effective],
            // Others have what is ambient, and only what is inheritable is.
            Set::Ambient if !root => &[Set::Ambient, Set::Permitted, Set::Effective, Set::Inheritable],
            ref one => std::slice::from_ref(one),
        };
        let name = capabilities::name(c.capability);
        for set in sets {
            let key = format!("{name} {set:?}").to_lowercase();
            let text = match c.set {
                Set::Keep => format!("keep {name}"),
                Set::Bounding | Set::Inheritable | Set::Ambient => format!("{name} {:?}", c.set).to_lowercase(),
                _ => key.clone(),
            };
            push(Domain::Capabilities, key, What::Present, text, c.span, &c.meta);
        }
    }
    // Under a written map neither owners that are translated nor those that aren't are more than the other.
    let mapped = matches!(g.scalars.get("userns").map(|s| &s.value), Some(Value::Userns(Userns::Map(_))));
    for m in &g.mounts {
        let (mut what, text) = mount(m);
        if let (true, Source::Bind(_) | Source::Overlay(..), What::Mount(_, flags)) = (mapped, &m.source, &mut what) {
            flags[4] = true;
            let key = format!("{} owners", m.target);
            push(Domain::Mounts, key, What::Other(m.translated.to_string()), text.clone(), m.span, &m.meta);
        }
        push(Domain::Mounts, m.target.clone(), what, text, m.span, &m.meta);
        if let Source::Tmpfs(size, ..) | Source::Overlay(_, size) = &m.source {
            let text = format!("\"{}\" of {size} bytes", m.target.escape_debug());
            push(Domain::Mounts, format!("{} size", m.target), What::Rank(*size), text, m.span, &m.meta);
        }
    }
    let mut names = 0;
    for f in &g.files {
        let word = RIGHTS.iter().find(|(_, r)| *r == f.right).map_or("?", |(n, _)| n);
        let text = format!("{word} \"{}\"", f.path.escape_debug());
        push(Domain::Files, text.clone(), What::Path(f.right, f.path.clone(), None), text, f.span, &f.meta);
        for name in other_names(g, &f.path).take(MOST_NAMES + 1 - names) {
            names += 1;
            let (what, text) = if names > MOST_NAMES {
                (What::Countless, "files under more names than are compared".to_owned())
            } else {
                let text = format!("{word} \"{}\", the files of \"{}\"", name.escape_debug(), f.path.escape_debug());
                (What::Path(f.right, name, Some(f.path.clone())), text)
            };
            push(Domain::Files, text.clone(), what, text, f.span, &f.meta);
        }
    }
    if g.files.is_empty() {
        // Without file rules mounts alone govern: nothing of the tree is closed.
        for (word, right) in RIGHTS {
            let text = format!("{word} \"/\" (no file rules)");
            push(Domain::Files, text.clone(), What::Path(*right, "/".into(), None), text, span, &none);
        }
        // Under rules no mount changes and no device node is made, whatever they open (landlock(7)).
        let text = "no file rules".to_owned();
        push(Domain::Files, text.clone(), What::Present, text, span, &none);
    }
    let broadcast = broadcast(g);
    for p in &g.ports {
        for peer in p.each_peer() {
            let text = Port::text(p.how, p.protocol, p.port, peer);
            let what = What::Port(p.how, p.protocol, p.port, peer);
            push(Domain::Network, text.clone(), what, text, p.span, &p.meta);
            let datagrams = (p.how, p.protocol) == (Use::Connect, Protocol::Udp);
            if let Some(b) = broadcast.filter(|b| datagrams && peer.is_some_and(|named| named.contains(*b))) {
                let text = format!("{}, every host of its network", Port::text(p.how, p.protocol, p.port, Some(b)));
                push(Domain::Network, text.clone(), What::Broadcast(p.port, b), text, p.span, &p.meta);
            }
        }
    }
    for p in &g.publishes {
        let (text, what) = (p.to_string(), publish(p));
        // Where else the same port leads is compared with where it led.
        let key = text.split(" -> ").next().unwrap_or(&text).to_owned();
        push(Domain::Network, key, what, text, p.span, &p.meta);
    }
    for d in &g.devices {
        push(
            Domain::Devices,
            d.path.clone(),
            What::Present,
            format!("allow \"{}\"", d.path.escape_debug()),
            d.span,
            &d.meta,
        );
    }
    let set = |name: &str, value: &str| format!("set {name} \"{}\"", value.escape_debug());
    for (name, value) in ENVIRONMENT.iter().filter(|(n, _)| g.environment.iter().all(|v| v.name != *n)) {
        let text = set(name, value);
        push(Domain::Environment, (*name).to_owned(), What::Other(text.clone()), text, span, &none);
    }
    for v in &g.environment {
        let text = match &v.value {
            Some(value) => set(&v.name, value),
            None => format!("pass {}", v.name),
        };
        push(Domain::Environment, v.name.clone(), What::Other(text.clone()), text, v.span, &none);
    }
    scalars(g, span, &mut push);
    out
}

/// Most other names of what file rules open that are compared.
const MOST_NAMES: usize = 1000;

/// Where else the files are seen that a rule opens: it stands on the file or folder, whichever mount shows it
/// (landlock(7)), as long as the mount shows the folder itself and not only a part of it.
fn other_names<'g>(g: &'g Grants, path: &'g str) -> impl Iterator<Item = String> + 'g {
    // What is mounted where, and from where on the host; layers and what the kernel fills show files of their own.
    let root = match g.scalars.get("root").map(|s| &s.value) {
        Some(Value::Root(r)) => match (&r.origin, r.access) {
            (Origin::Host, _) => Some(("/usr", Some("/usr"))),
            (Origin::Directory(d), Access::ReadOnly | Access::ReadWrite) => Some(("/", Some(d.as_str()))),
            (Origin::Directory(_), _) => None,
        },
        _ => None,
    };
    let mounts = g.mounts.iter().map(|m| match &m.source {
        Source::Bind(from) => (m.target.as_str(), Some(from.as_str())),
        _ => (m.target.as_str(), None),
    });
    let places: Vec<(&str, Option<&str>)> = root.into_iter().chain(mounts).collect();
    let below = |path: &str, top: &str| path.strip_prefix(top.trim_end_matches('/')).map(str::to_owned);
    let seen = move |places: &[(&str, Option<&str>)], path: &str| places.iter().rposition(|(t, _)| is_below(path, t));
    let own = seen(&places, path).and_then(|i| {
        let (target, from) = places.get(i)?;
        Some((i, format!("{}{}", from.as_ref()?.trim_end_matches('/'), below(path, target)?)))
    });
    let all = 0..if own.is_some() { places.len() } else { 0 };
    all.filter_map(move |i| {
        let ((at, own), (target, from)) = (own.as_ref()?, places.get(i)?);
        let rest = below(own, from.as_ref().filter(|f| i != *at && is_below(own, f))?)?;
        let name = format!("{}{rest}", target.trim_end_matches('/'));
        (seen(&places, &name) == Some(i) && name != path).then_some(name)
    })
}

/// Does it start with user id 0 inside? An init does.
fn is_root(g: &Grants) -> bool {
    match (g.scalars.get("program").map(|s| &s.value), g.scalars.get("user").map(|s| &s.value)) {
        (Some(Value::Program(Program::Boot)), _) => true,
        (_, Some(Value::User(u))) => u.is_root(),
        _ => false,
    }
}

fn publish(p: &Publish) -> What {
    What::Publish(p.protocol, p.address, p.outside, p.inside)
}

/// Resources that the kernel bounds for everybody, so that what isn't written is what the caller has; and up to where
/// a written limit is surely no more (include/asm-generic/resource.h; processes and signals hang on the memory).
pub(super) const USUAL: &[(&str, u64)] = &[
    ("nofile", 4096),
    ("memlock", 8 << 20),
    ("msgqueue", 819_200),
    ("nproc", 1000),
    ("sigpending", 1000),
    ("nice", 0),
    ("rtprio", 0),
];

/// How much of the world a network is linked to.
fn reach(n: &Network) -> u64 {
    match n {
        Network::None => 0,
        Network::Private => 1,
        Network::Zone(_) => 2,
        Network::Bridge(_) | Network::Macvlan(_) | Network::Ipvlan(_) => 3,
        Network::Host => 4,
    }
}

/// The broadcast address of the network that the machine is a host of, where the policy says which (RFC 919). A machine
/// behind the host's network reaches none.
fn broadcast(g: &Grants) -> Option<Block> {
    let Some(Value::Network(n)) = g.scalars.get("network").map(|s| &s.value) else { return None };
    let Some(Value::Address(a)) = g.scalars.get("address").map(|s| &s.value) else { return None };
    let IpAddr::V4(address) = a.interface.address else { return None };
    let hosts = u32::MAX.checked_shr(u32::from(a.interface.prefix)).filter(|hosts| *hosts > 1)?;
    n.lower().map(|_| Block::host(IpAddr::V4((u32::from(address) | hosts).into())))
}

/// Which network it is, where there are several of a kind, and what is set up in it.
fn networks(g: &Grants, list: &mut Vec<(&str, Domain, String, What, String)>) {
    let value = |key: &str| g.scalars.get(key).map(|s| &s.value);
    let network = match value("network") {
        Some(Value::Network(n)) => n.clone(),
        _ => Network::None,
    };
    // Who has no address written takes one.
    if network.lower().is_some() && ["address", "address6"].iter().all(|k| value(k).is_none()) {
        let text = "addresses that it asks for".to_owned();
        list.push(("network", Domain::Network, "own addresses".to_owned(), What::Rank(1), text));
    }
    let text = network.to_string();
    list.push(("network", Domain::Network, "network".to_owned(), What::Rank(reach(&network)), text.clone()));
    if text.contains(' ') {
        list.push(("network", Domain::Network, "network name".to_owned(), What::Other(text.clone()), text));
    }
    // Its ports are facts of their own; what is left are protocols without any.
    let all = matches!(value("egress"), Some(Value::Number(1)));
    let text = format!("egress {}", if all { "any" } else { "none" });
    list.push(("egress", Domain::Network, "egress".to_owned(), What::Rank(u64::from(all)), text));
    let written = g.scalars.contains_key("resolver");
    let (resolver, source) = match g.resolver() {
        Some((r, _)) => (r, if written { "resolver" } else { "egress" }),
        None if g.scalars.contains_key("egress") => (Resolver::None, "egress"),
        None => (Resolver::None, "resolver"),
    };
    let text = match &resolver {
        Resolver::None => "resolver none".to_owned(),
        Resolver::Host => "resolver host".to_owned(),
        Resolver::List(l) => match l.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice() {
            [one] => format!("resolver {one}"),
            many => format!("resolver [{}]", many.join(", ")),
        },
    };
    // Whom the host asks may be anybody; a list names them. Who may go anywhere may ask anybody, on whatever
    // network: a ceiling that grants all grants that.
    let rank = match &resolver {
        Resolver::None if all && !written => 2,
        Resolver::None => 0,
        Resolver::List(_) => 1,
        Resolver::Host => 2,
    };
    list.push((source, Domain::Network, "resolver".to_owned(), What::Rank(rank), text.clone()));
    let servers = match &resolver {
        Resolver::List(l) => l.as_slice(),
        _ => &[],
    };
    // Who may go anywhere reaches most of them in any case; which they are is said.
    if !servers.is_empty() && all {
        list.push((source, Domain::Network, "name servers".to_owned(), What::Other(text.clone()), text.clone()));
    }
    for a in servers {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let what = What::Port(Use::Connect, protocol, Some(53), Some(Block::host(*a)));
            list.push(("resolver", Domain::Network, "name server".to_owned(), what, text.clone()));
        }
        if let Some(b) = broadcast(g).filter(|b| b.address == *a) {
            let (what, text) = (What::Broadcast(Some(53), b), format!("{text}, every host of its network"));
            list.push(("resolver", Domain::Network, "name server".to_owned(), what, text));
        }
    }
    for key in ["address", "address6"] {
        if let Some(Value::Address(a)) = value(key) {
            let gateway = a.gateway.map_or(String::new(), |g| format!(" gateway {g}"));
            let text = format!("address {}/{}{gateway}", a.interface.address, a.interface.prefix);
            list.push((key, Domain::Network, key.to_owned(), What::Other(text.clone()), text));
        }
    }
}

fn scalars(g: &Grants, span: Span, push: &mut impl FnMut(Domain, String, What, String, Span, &Meta)) {
    let value = |key: &str| g.scalars.get(key).map(|s| &s.value);
    // (the scalar whose line it is, domain, key, how it compares, text)
    let mut list: Vec<(&str, Domain, String, What, String)> = Vec::new();
    networks(g, &mut list);
    // Ids that are named may belong to somebody on the host; those of a range that nobody has can't.
    let (rank, text) = match value("userns") {
        Some(Value::Userns(u @ Userns::Identity)) => (2, format!("userns {u}")),
        Some(Value::Userns(u @ Userns::Map(_))) => (1, format!("userns {u}")),
        _ => (0, format!("userns {}", Userns::Auto)),
    };
    if rank == 1 {
        list.push(("userns", Domain::Process, "userns map".to_owned(), What::Other(text.clone()), text.clone()));
    }
    // How many ids can own files inside: of what is mounted with translated owners as many are within reach.
    let ids = match value("userns") {
        Some(Value::Userns(Userns::Identity)) => 1 << 32,
        Some(Value::Userns(Userns::Map(ranges))) => ranges.iter().map(|(.., count)| u64::from(*count)).sum(),
        _ => 65_536,
    };
    list.push(("userns", Domain::Process, "userns ids".to_owned(), What::Rank(ids), format!("{ids} ids inside")));
    list.push(("userns", Domain::Process, "userns".to_owned(), What::Rank(rank), text));
    let off = value("no-new-privs").is_some();
    let text = format!("no_new_privs {}", if off { "off" } else { "on" });
    list.push(("no-new-privs", Domain::Process, "no-new-privs".to_owned(), What::Rank(u64::from(off)), text));
    if let Some(Value::Root(r)) = value("root") {
        let (origin, access, text) = root(r);
        list.push(("root", Domain::Process, "root".to_owned(), What::Other(origin), text.clone()));
        list.push(("root", Domain::Process, "root access".to_owned(), What::Rank(access), text.clone()));
        // Of a volatile root only /usr is seen.
        let shown = u64::from(r.access != Access::Volatile);
        list.push(("root", Domain::Process, "root shown".to_owned(), What::Rank(shown), text.clone()));
        let size = if access == 0 || r.access == Access::ReadWrite { 0 } else { r.size };
        let sized = if size == 0 { text } else { format!("{text} size={size}B") };
        list.push(("root", Domain::Process, "root size".to_owned(), What::Rank(size), sized));
    }
    if let Some(Value::Program(p)) = value("program") {
        let text = match p {
            Program::Boot => "boot".to_owned(),
            Program::Exec(argv) => {
                let words: Vec<String> = argv.iter().map(|a| format!("\"{}\"", a.escape_debug())).collect();
                format!("exec {}", words.join(" "))
            }
        };
        list.push(("program", Domain::Process, "program".to_owned(), What::Other(text.clone()), text));
    }
    if let Some(Value::Program(Program::Boot)) = value("program") {
        let text = "boot, as root".to_owned();
        list.push(("program", Domain::Process, "user".to_owned(), What::Other("user root".into()), text.clone()));
        list.push(("program", Domain::Process, "root user".to_owned(), What::Rank(1), text));
    } else if let Some(Value::User(u)) = value("user") {
        let text = format!("user {}", word(&u.user));
        let powerful = u.is_root();
        // Root by its name and by its number is one.
        let who = if powerful { "user root".to_owned() } else { text.clone() };
        list.push(("user", Domain::Process, "user".to_owned(), What::Other(who), text.clone()));
        list.push(("user", Domain::Process, "root user".to_owned(), What::Rank(u64::from(powerful)), text));
        // A group is what its name or number opens, on the host where ids are the host's.
        for id in u.groups.iter().chain(&u.group) {
            let text = format!("group {}", word(id));
            list.push(("user", Domain::Process, text.clone(), What::Present, text));
        }
        // Which of them it is first with is what its files belong to.
        if let (Some(id), false) = (&u.group, u.groups.is_empty()) {
            list.push((
                "user",
                Domain::Process,
                "first group".into(),
                What::Other(word(id)),
                format!("first group {}", word(id)),
            ));
        }
        // Which it is the root's own /etc/passwd says.
        if u.group.is_none() {
            let text = format!("group of the account {}", word(&u.user));
            list.push(("user", Domain::Process, text.clone(), What::Present, text));
        }
        if u.caller_groups {
            let text = "groups of the caller".to_owned();
            list.push(("user", Domain::Process, text.clone(), What::Present, text));
        }
    }
    // An init changes its folder and its mask itself (E0514).
    let boots = matches!(value("program"), Some(Value::Program(Program::Boot)));
    for (key, implied) in [("hostname", None), ("chdir", Some("/").filter(|_| !boots))] {
        let written = match value(key) {
            Some(Value::Text(t)) => Some(t.as_str()),
            _ => implied,
        };
        if let Some(t) = written {
            let text = format!("{key} {}", t.escape_debug());
            list.push((key, Domain::Process, key.to_owned(), What::Other(text.clone()), text));
        }
    }
    // A floor below the scopes' ABI accepts what older kernels leave open: the lower, the more.
    let (rank, text) = match value("landlock") {
        Some(Value::Number(n)) if *n < 6 => (11u64.saturating_sub(*n), format!("require landlock {n}")),
        Some(Value::Number(n)) => (10u64.saturating_sub(*n), format!("require landlock {n}")),
        // Where it isn't written a kernel without what the policy doesn't need is taken.
        _ => (5, "every right that Landlock knows, as far as the policy needs it".to_owned()),
    };
    list.push(("landlock", Domain::Process, "landlock".to_owned(), What::Rank(rank), text));
    let umask = match value("umask") {
        Some(Value::Number(n)) => Some(*n),
        _ => Some(0o022).filter(|_| !boots),
    };
    if let Some(umask) = umask {
        let leaves = What::Bits(!umask & 0o777);
        list.push(("umask", Domain::Process, "umask".to_owned(), leaves, format!("umask {umask:03o}")));
    }
    for (source, domain, key, what, text) in list {
        let s = g.scalars.get(source);
        let meta = s.map(|s| s.meta.clone()).unwrap_or_default();
        push(domain, key, what, text, s.map_or(span, |s| s.span), &meta);
    }
    // A core dump would leave the machine: none unless it is written.
    let implied = |name| match name {
        "core" => Some(0),
        name if USUAL.iter().any(|(n, _)| *n == name) => None,
        _ => Some(resources::UNLIMITED),
    };
    let mut names: Vec<(&str, Option<u64>)> = resources::rlimits().map(|n| (n, implied(n))).collect();
    names.extend(resources::MACHINE.iter().map(|(n, implied)| (*n, Some(*implied))));
    for device in g.scalars.keys().filter_map(|k| k.strip_prefix("limits.")).filter(|k| k.contains(' ')) {
        names.push((device, Some(resources::UNLIMITED)));
    }
    for (name, implied) in names {
        let s = g.scalars.get(&format!("limits.{name}"));
        let n = match s.map(|s| &s.value) {
            Some(Value::Number(n)) => Some(*n),
            _ => implied,
        };
        // A bound is no grant, and none that ends: after its day the policy is refused (E0702).
        let why = s.and_then(|s| s.meta.why.clone());
        let meta = Meta { why, ..Meta::default() };
        let (what, text) = match n {
            Some(n) => (What::Rank(n), resources::text(name, n)),
            None => (What::Inherited, format!("{name} as the caller has it")),
        };
        push(Domain::Limits, name.to_owned(), what, text, s.map_or(span, |s| s.span), &meta);
    }
}

fn root(r: &Root) -> (String, u64, String) {
    let origin = match &r.origin {
        Origin::Host => "host".to_owned(),
        Origin::Directory(d) => format!("dir \"{}\"", d.escape_debug()),
    };
    let (access, rank) = match r.access {
        Access::ReadOnly => ("ro", 0),
        Access::Volatile => ("volatile", 1),
        Access::Ephemeral => ("ephemeral", 2),
        Access::ReadWrite => ("rw", 3),
    };
    let text = format!("root {origin} {access}");
    (origin, rank, text)
}

fn word(id: &Id) -> String {
    match id {
        Id::Number(n) => n.to_string(),
        Id::Name(n) => n.clone(),
    }
}

fn mount(m: &Mount) -> (What, String) {
    let target = m.target.escape_debug();
    let source = match &m.source {
        Source::Mask => return (What::Hidden(false), format!("mask \"{target}\"")),
        Source::Hide => return (What::Hidden(true), format!("hide \"{target}\"")),
        Source::Bind(p) => format!("bind \"{}\"", p.escape_debug()),
        Source::Overlay(p, _) => format!("overlay \"{}\"", p.escape_debug()),
        Source::Tmpfs(_, mode, owner) => {
            // Root's unless it is written.
            let owner =
                owner.as_ref().filter(|o| !o.is_root()).map_or(String::new(), |o| format!(" owner {}", word(o)));
            format!("tmpfs mode {mode:o}{owner}")
        }
        Source::Proc => "proc".into(),
        Source::Sysfs => "sysfs".into(),
        Source::Devpts => "devpts".into(),
        Source::Mqueue => "mqueue".into(),
        Source::Cgroup2 => "cgroup2".into(),
    };
    let flags = [m.writable, m.exec, m.suid, m.dev, m.translated];
    let words: Vec<&str> = [if m.writable { "rw" } else { "ro" }, "exec", "suid", "dev", "noidmap"]
        .into_iter()
        .zip([true, m.exec, m.suid, m.dev, !m.translated])
        .filter(|(_, on)| *on)
        .map(|(w, _)| w)
        .collect();
    let text = format!("{source} -> \"{target}\" {}", words.join(" "));
    (What::Mount(source, flags), text)
}
