//! The domains besides system calls as a set of facts with an order: what grants more than what.
//!
//! Capabilities, limits and words with a rank are compared exactly. Paths are compared as prefixes, mounts
//! by their target, what runs by its text: those answers are modelled, and said to be so.

use crate::address::{Block, EVERYBODY, is_special, special};
use crate::policy::capabilities::{self, Set};
use crate::policy::files::{RIGHTS, Right};
use crate::policy::mounts::{Access, Mount, Origin, Root, Source};
use crate::policy::network::{Network, Port, Protocol, Publish, Resolver, Use};
use crate::policy::process::{Id, Program, User, Userns};
use crate::policy::resolve::{Grants, Value};
use crate::policy::resources;
use crate::source::Span;
use serde::Serialize;

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
    /// Values without an order.
    Other(String),
    /// A right below a path.
    Path(Right, String),
    /// A port and a peer; `None` is any.
    Port(Use, Protocol, Option<u16>, Option<Block>),
    /// Ports of the host: protocol, address (`None` is all), first and last, and the first inside.
    Publish(Protocol, Option<std::net::IpAddr>, (u16, u16), u16),
    /// What is shown at a target, and how: write, exec, suid, dev, owners translated.
    Mount(String, [bool; 5]),
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
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Something is granted that wasn't.
    Widened,
    /// Neither more nor less, but not the same.
    Changed,
    /// Something isn't granted any more.
    Narrowed,
}

/// A difference between two sets of facts.
#[derive(Clone, Debug)]
pub struct Difference<'a> {
    /// Its effect.
    pub effect: Effect,
    /// The fact before, for what is changed or gone.
    pub old: Option<&'a Fact>,
    /// The fact after, for what is changed or new.
    pub new: Option<&'a Fact>,
}

/// All facts of what a machine or a ceiling grants; `span` stands for what is implied.
pub fn facts(g: &Grants, span: Span) -> Vec<Fact> {
    let mut out = Vec::new();
    let mut push = |domain, key: String, what, text: String, span, why: &Option<String>| {
        out.push(Fact { domain, key, what, text, span, why: why.clone() });
    };
    for c in &g.capabilities {
        let sets: &[Set] = match c.set {
            Set::Keep => &[Set::Bounding, Set::Permitted, Set::Effective],
            ref one => std::slice::from_ref(one),
        };
        let name = capabilities::name(c.capability);
        for set in sets {
            let key = format!("{name} {set:?}").to_lowercase();
            let text = if c.set == Set::Keep { format!("keep {name}") } else { key.clone() };
            push(Domain::Capabilities, key, What::Present, text, c.span, &c.meta.why);
        }
    }
    for m in &g.mounts {
        let (what, text) = mount(m);
        push(Domain::Mounts, m.target.clone(), what, text, m.span, &m.meta.why);
        if let Source::Tmpfs(size, ..) | Source::Overlay(_, size) = &m.source {
            let text = format!("\"{}\" of {size} bytes", m.target.escape_debug());
            push(Domain::Mounts, format!("{} size", m.target), What::Rank(*size), text, m.span, &m.meta.why);
        }
    }
    for f in &g.files {
        let word = RIGHTS.iter().find(|(_, r)| *r == f.right).map_or("?", |(n, _)| n);
        let text = format!("{word} \"{}\"", f.path.escape_debug());
        push(Domain::Files, text.clone(), What::Path(f.right, f.path.clone()), text, f.span, &f.meta.why);
    }
    if g.files.is_empty() {
        // Without file rules mounts alone govern: nothing of the tree is closed.
        for (word, right) in RIGHTS {
            let text = format!("{word} \"/\" (no file rules)");
            push(Domain::Files, text.clone(), What::Path(*right, "/".into()), text, span, &None);
        }
    }
    for p in &g.ports {
        for peer in p.each_peer() {
            let text = Port::text(p.how, p.protocol, p.port, peer);
            let what = What::Port(p.how, p.protocol, p.port, peer);
            push(Domain::Network, text.clone(), what, text, p.span, &p.meta.why);
        }
    }
    for p in &g.publishes {
        let (text, what) = (p.to_string(), publish(p));
        // Where else the same port leads is compared with where it led.
        let key = text.split(" -> ").next().unwrap_or(&text).to_owned();
        push(Domain::Network, key, what, text, p.span, &p.meta.why);
    }
    for d in &g.devices {
        push(
            Domain::Devices,
            d.path.clone(),
            What::Present,
            format!("allow \"{}\"", d.path.escape_debug()),
            d.span,
            &d.meta.why,
        );
    }
    for v in &g.environment {
        let text = match &v.value {
            Some(value) => format!("set {} \"{}\"", v.name, value.escape_debug()),
            None => format!("pass {}", v.name),
        };
        push(Domain::Environment, v.name.clone(), What::Other(text.clone()), text, v.span, &None);
    }
    scalars(g, span, &mut push);
    out
}

fn publish(p: &Publish) -> What {
    What::Publish(p.protocol, p.address, p.outside, p.inside)
}

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

/// Which network it is, where there are several of a kind, and what is set up in it.
fn networks(g: &Grants, list: &mut Vec<(&str, Domain, &'static str, What, String)>) {
    let value = |key: &str| g.scalars.get(key).map(|s| &s.value);
    let network = match value("network") {
        Some(Value::Network(n)) => n.clone(),
        _ => Network::None,
    };
    let text = network.to_string();
    list.push(("network", Domain::Network, "network", What::Rank(reach(&network)), text.clone()));
    if text.contains(' ') {
        list.push(("network", Domain::Network, "network name", What::Other(text.clone()), text));
    }
    // Its ports are facts of their own; what is left are protocols without any.
    let all = matches!(value("egress"), Some(Value::Number(1)));
    let text = format!("egress {}", if all { "any" } else { "none" });
    list.push(("egress", Domain::Network, "egress", What::Rank(u64::from(all)), text));
    let written = g.scalars.contains_key("resolver");
    let (resolver, source) = match g.resolver() {
        Some((r, _)) => (r, if written { "resolver" } else { "egress" }),
        None => (Resolver::None, "resolver"),
    };
    let text = match &resolver {
        Resolver::None => "resolver none".to_owned(),
        Resolver::Host => "resolver host".to_owned(),
        Resolver::List(l) => format!("resolver {}", l.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    };
    // Whom the host asks may be anybody; a list names them. Who may go anywhere may ask anybody, on whatever
    // network: a ceiling that grants all grants that.
    let rank = match &resolver {
        Resolver::None if all && !written => 2,
        Resolver::None => 0,
        Resolver::List(_) => 1,
        Resolver::Host => 2,
    };
    list.push((source, Domain::Network, "resolver", What::Rank(rank), text.clone()));
    let servers = match &resolver {
        Resolver::List(l) => l.as_slice(),
        _ => &[],
    };
    for a in servers {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let what = What::Port(Use::Connect, protocol, Some(53), Some(Block::host(*a)));
            list.push(("resolver", Domain::Network, "name server", what, text.clone()));
        }
    }
    for key in ["address", "address6"] {
        if let Some(Value::Address(a)) = value(key) {
            let gateway = a.gateway.map_or(String::new(), |g| format!(" gateway {g}"));
            let text = format!("address {}/{}{gateway}", a.interface.address, a.interface.prefix);
            list.push((key, Domain::Network, key, What::Other(text.clone()), text));
        }
    }
}

fn scalars(g: &Grants, span: Span, push: &mut impl FnMut(Domain, String, What, String, Span, &Option<String>)) {
    let value = |key: &str| g.scalars.get(key).map(|s| &s.value);
    // (the scalar whose line it is, domain, key, how it compares, text)
    let mut list: Vec<(&str, Domain, &'static str, What, String)> = Vec::new();
    networks(g, &mut list);
    // Ids that are named may belong to somebody on the host; those of a range that nobody has can't.
    let (rank, text) = match value("userns") {
        Some(Value::Userns(u @ Userns::Identity)) => (2, format!("userns {u}")),
        Some(Value::Userns(u @ Userns::Map(_))) => (1, format!("userns {u}")),
        _ => (0, format!("userns {}", Userns::Auto)),
    };
    if rank == 1 {
        list.push(("userns", Domain::Process, "userns map", What::Other(text.clone()), text.clone()));
    }
    list.push(("userns", Domain::Process, "userns", What::Rank(rank), text));
    let off = value("no-new-privs").is_some();
    let text = format!("no_new_privs {}", if off { "off" } else { "on" });
    list.push(("no-new-privs", Domain::Process, "no-new-privs", What::Rank(u64::from(off)), text));
    if let Some(Value::Root(r)) = value("root") {
        let (origin, access, text) = root(r);
        list.push(("root", Domain::Process, "root", What::Other(origin), text.clone()));
        list.push(("root", Domain::Process, "root access", What::Rank(access), text.clone()));
        let size = if access == 0 || r.access == Access::ReadWrite { 0 } else { r.size };
        let sized = if size == 0 { text } else { format!("{text} size={size}B") };
        list.push(("root", Domain::Process, "root size", What::Rank(size), sized));
    }
    if let Some(Value::Program(p)) = value("program") {
        let text = match p {
            Program::Boot => "boot".to_owned(),
            Program::Exec(argv) => {
                let words: Vec<String> = argv.iter().map(|a| format!("\"{}\"", a.escape_debug())).collect();
                format!("exec {}", words.join(" "))
            }
        };
        list.push(("program", Domain::Process, "program", What::Other(text.clone()), text));
    }
    if let Some(Value::User(u)) = value("user") {
        let text = user(u);
        let powerful = matches!(&u.user, Id::Number(0)) || matches!(&u.user, Id::Name(n) if n == "root");
        list.push(("user", Domain::Process, "user", What::Other(text.clone()), text.clone()));
        list.push(("user", Domain::Process, "root user", What::Rank(u64::from(powerful)), text));
    }
    for key in ["hostname", "chdir"] {
        if let Some(Value::Text(t)) = value(key) {
            let text = format!("{key} {}", t.escape_debug());
            list.push((key, Domain::Process, key, What::Other(text.clone()), text));
        }
    }
    // A floor below the scopes' ABI accepts what older kernels leave open: the lower, the more.
    let (rank, text) = match value("landlock") {
        Some(Value::Number(n)) => (6u64.saturating_sub(*n), format!("require landlock {n}")),
        _ => (0, "every right that Landlock knows".to_owned()),
    };
    list.push(("landlock", Domain::Process, "landlock", What::Rank(rank), text));
    let umask = match value("umask") {
        Some(Value::Number(n)) => *n,
        _ => 0o022,
    };
    let text = format!("umask {umask:03o}");
    list.push(("umask", Domain::Process, "umask", What::Other(text.clone()), text));
    for (source, domain, key, what, text) in list {
        let s = g.scalars.get(source);
        let why = s.and_then(|s| s.meta.why.clone());
        push(domain, key.to_owned(), what, text, s.map_or(span, |s| s.span), &why);
    }
    // A core dump would leave the machine: none unless it is written.
    let implied = |name| if name == "core" { 0 } else { resources::UNLIMITED };
    let mut names: Vec<(&str, u64)> = resources::rlimits().map(|n| (n, implied(n))).collect();
    names.extend(resources::MACHINE);
    for device in g.scalars.keys().filter_map(|k| k.strip_prefix("limits.")).filter(|k| k.contains(' ')) {
        names.push((device, resources::UNLIMITED));
    }
    for (name, implied) in names {
        let s = g.scalars.get(&format!("limits.{name}"));
        let n = match s.map(|s| &s.value) {
            Some(Value::Number(n)) => *n,
            _ => implied,
        };
        let why = s.and_then(|s| s.meta.why.clone());
        let text = resources::text(name, n);
        push(Domain::Limits, name.to_owned(), What::Rank(n), text, s.map_or(span, |s| s.span), &why);
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

fn user(u: &User) -> String {
    let id = |i: &Id| match i {
        Id::Number(n) => n.to_string(),
        Id::Name(n) => n.clone(),
    };
    let mut out = format!("user {}", id(&u.user));
    if let Some(g) = &u.group {
        out.push_str(&format!(" group {}", id(g)));
    }
    if !u.groups.is_empty() {
        out.push_str(&format!(" groups {}", u.groups.iter().map(id).collect::<Vec<_>>().join(" ")));
    }
    if u.caller_groups {
        out.push_str(" groups caller");
    }
    out
}

fn mount(m: &Mount) -> (What, String) {
    let target = m.target.escape_debug();
    let source = match &m.source {
        Source::Mask => return (What::Hidden(false), format!("mask \"{target}\"")),
        Source::Hide => return (What::Hidden(true), format!("hide \"{target}\"")),
        Source::Bind(p) => format!("bind \"{}\"", p.escape_debug()),
        Source::Overlay(p, _) => format!("overlay \"{}\"", p.escape_debug()),
        Source::Tmpfs(_, mode, owner) => {
            let owner = owner.as_ref().map_or(String::new(), |o| match o {
                Id::Number(n) => format!(" owner {n}"),
                Id::Name(n) => format!(" owner {n}"),
            });
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

/// True when everything below `inner` is below `outer`.
pub(crate) fn is_below(inner: &str, outer: &str) -> bool {
    outer == "/" || inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

/// What a ceiling hides and the machine doesn't.
pub fn uncovered<'a>(machine: &[Fact], ceiling: &'a [Fact]) -> Vec<&'a Fact> {
    ceiling.iter().filter(|f| matches!(f.what, What::Hidden(_)) && !covered(f, machine)).collect()
}

/// Does another of the list say what the one at `index` says? Of two that say the same the later one is in vain.
pub fn is_in_vain(list: &[Fact], index: usize) -> bool {
    let Some(f) = list.get(index) else { return false };
    list.iter().enumerate().any(|(j, o)| {
        j != index && (o.what != f.what || j < index) && o.domain == f.domain && covered(f, std::slice::from_ref(o))
    })
}

fn covered(f: &Fact, list: &[Fact]) -> bool {
    let same = |o: &&Fact| o.domain == f.domain && o.key == f.key;
    match &f.what {
        What::Present => list.iter().any(|o| same(&o)),
        What::Hidden(deep) => list.iter().filter(same).any(|o| matches!(o.what, What::Hidden(d) if d || !deep)),
        // A limit that isn't written is none.
        What::Rank(_) if f.domain == Domain::Limits && !list.iter().any(|o| same(&o)) => true,
        What::Rank(n) => list.iter().filter(same).any(|o| matches!(o.what, What::Rank(m) if m >= *n)),
        What::Other(_) => list.iter().filter(same).any(|o| o.what == f.what),
        What::Path(right, path) => list.iter().any(|o| match &o.what {
            // Execution reads.
            What::Path(r, p) => (r == right || *r == Right::Exec && *right == Right::Read) && is_below(path, p),
            _ => false,
        }),
        What::Port(how, protocol, port, peer) => {
            let peers = list.iter().filter_map(|o| match &o.what {
                What::Port(h, q, p, from) if (h, q) == (how, protocol) && (p.is_none() || p == port) => Some(*from),
                _ => None,
            });
            peers_cover(&peers.collect::<Vec<_>>(), *peer)
        }
        What::Publish(protocol, address, (first, last), inside) => {
            // The last port that one line of the list leads from `port` on to where this one does.
            let until = |port: u16| {
                list.iter().find_map(|o| match &o.what {
                    What::Publish(q, a, (from, to), to_inside) => {
                        let alike = q == protocol && (a.is_none() || a == address) && (*from..=*to).contains(&port);
                        let offset = i32::from(*inside) - i32::from(*first);
                        (alike && i32::from(*to_inside) - i32::from(*from) == offset).then_some(*to)
                    }
                    _ => None,
                })
            };
            let mut next = Some(*first);
            while let Some(port) = next.filter(|p| p <= last) {
                let Some(to) = until(port) else { return false };
                next = to.checked_add(1);
            }
            true
        }
        What::Mount(source, flags) => list.iter().filter(same).any(|o| match &o.what {
            What::Mount(s, has) => s == source && flags.iter().zip(has).all(|(f, h)| *h || !*f),
            _ => false,
        }),
    }
}

/// Are all of `inner` among `outer`, however they were written? Anybody is everybody but link-local, multicast and
/// loopback addresses: those are granted by name only.
fn peers_cover(outer: &[Option<Block>], inner: Option<Block>) -> bool {
    let anybody = outer.contains(&None);
    let named: Vec<Block> = outer.iter().filter_map(|b| *b).collect();
    match inner {
        Some(b) => blocks_cover(anybody, &named, b),
        None => anybody || EVERYBODY.iter().all(|b| blocks_cover(false, &named, *b)),
    }
}

fn blocks_cover(anybody: bool, named: &[Block], inner: Block) -> bool {
    if named.iter().any(|b| b.contains(inner)) || anybody && !is_special(inner) {
        return true;
    }
    // What lies inside may cover it in parts: by halves, as long as there is something inside.
    let inside = |b: &Block| inner.contains(*b);
    let parts = named.iter().any(inside) || anybody && special().any(|b| inside(&b));
    let Some(halves) = inner.halves().filter(|_| parts) else { return false };
    halves.iter().all(|h| blocks_cover(anybody, named, *h))
}

/// What `new` grants that `old` doesn't, and the reverse.
pub fn compare<'a>(old: &'a [Fact], new: &'a [Fact]) -> Vec<Difference<'a>> {
    let mut out = Vec::new();
    let partner = |f: &Fact, list: &'a [Fact]| list.iter().find(|o| o.domain == f.domain && o.key == f.key);
    for f in new.iter().filter(|f| !covered(f, old)) {
        let before = partner(f, old);
        let effect = match (&f.what, before.map(|b| &b.what)) {
            (What::Hidden(_), _) => Effect::Narrowed,
            (What::Other(_), Some(_)) => Effect::Changed,
            // Another thing at the same place: only without a flag more it is neither more nor less.
            (What::Mount(a, now), Some(What::Mount(b, had)))
                if a != b && !now.iter().zip(had).any(|(n, h)| *n && !h) =>
            {
                Effect::Changed
            }
            // A variable of one's own, or what wasn't said before.
            (What::Other(_), None) => Effect::Changed,
            _ => Effect::Widened,
        };
        out.push(Difference { effect, old: before, new: Some(f) });
    }
    for f in old.iter().filter(|f| !covered(f, new)) {
        let after = partner(f, new);
        let effect = match &f.what {
            What::Hidden(_) => Effect::Widened,
            // Said once already, from the other side.
            What::Other(_) | What::Mount(..) if after.is_some_and(|a| !covered(a, old)) => continue,
            // What lay below a mount is seen again.
            What::Other(_) | What::Mount(..) => Effect::Changed,
            _ => Effect::Narrowed,
        };
        out.push(Difference { effect, old: Some(f), new: after });
    }
    // Limits of one device: where they aren't written there are none.
    for f in old.iter().filter(|f| is_lone_limit(f, new)) {
        out.push(Difference { effect: Effect::Widened, old: Some(f), new: None });
    }
    for f in new.iter().filter(|f| is_lone_limit(f, old)) {
        out.push(Difference { effect: Effect::Narrowed, old: None, new: Some(f) });
    }
    // `keep` is three sets, and one line.
    out.dedup_by(|b, a| {
        a.effect == b.effect
            && a.new.map(|f| (f.span, &f.text)) == b.new.map(|f| (f.span, &f.text))
            && a.old.map(|f| (f.span, &f.text)) == b.old.map(|f| (f.span, &f.text))
    });
    out
}

/// A limit that the other list says nothing of.
fn is_lone_limit(f: &Fact, other: &[Fact]) -> bool {
    f.domain == Domain::Limits
        && !matches!(f.what, What::Rank(resources::UNLIMITED))
        && !other.iter().any(|o| o.domain == f.domain && o.key == f.key)
}

/// What a machine grants beyond a ceiling, in the domains that the ceiling bounds: capabilities, network,
/// devices, user namespace and no_new_privs always (what isn't granted there is denied); mounts, files,
/// environment, limits and the rest of the process where the ceiling says something about them.
pub fn beyond<'a>(machine: &'a [Fact], ceiling: &'a [Fact], bounds: &Grants) -> Vec<&'a Fact> {
    let speaks = |f: &Fact| match f.domain {
        Domain::Syscalls => false,
        // Where a machine is, and which ports of the host lead to what it may listen on, is for who runs it.
        Domain::Network => match &f.what {
            What::Other(_) => ceiling.iter().any(|c| c.domain == f.domain && c.key == f.key),
            What::Publish(..) => !bounds.publishes.is_empty(),
            _ => true,
        },
        Domain::Capabilities | Domain::Devices => true,
        Domain::Mounts => match f.what {
            What::Hidden(_) => false,
            // Devices and set-user-ID files that work are devices and privileges, whoever speaks of mounts.
            What::Mount(_, [_, _, suid, dev, _]) if suid || dev => true,
            _ => !bounds.mounts.is_empty(),
        },
        Domain::Files => !bounds.files.is_empty(),
        Domain::Environment => !bounds.environment.is_empty(),
        Domain::Limits => bounds.scalars.contains_key(&format!("limits.{}", f.key)),
        Domain::Process => match f.key.as_str() {
            "userns" | "no-new-privs" | "landlock" => true,
            "userns map" => bounds.scalars.contains_key("userns"),
            "root access" | "root size" => bounds.scalars.contains_key("root"),
            "root user" => bounds.scalars.contains_key("user"),
            key => bounds.scalars.contains_key(key),
        },
    };
    let unbounded = ceiling.iter().filter(|f| is_lone_limit(f, machine));
    machine.iter().filter(|f| speaks(f) && !covered(f, ceiling)).chain(unbounded).collect()
}
