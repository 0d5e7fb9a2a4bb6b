//! What grants more than what: facts against facts, a machine against a ceiling, a ceiling against what it was.

use super::grants::{Domain, Fact, USUAL, What, facts};
use crate::address::{Block, EVERYBODY, is_special, special};
use crate::policy::files::Right;
use crate::policy::network::Use;
use crate::policy::resolve::Grants;
use crate::policy::resources;
use crate::source::Span;
use serde::Serialize;

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
        What::Inherited => {
            list.iter().filter(same).any(|o| matches!(o.what, What::Inherited | What::Rank(resources::UNLIMITED)))
        }
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
            // Who may be listened to without a word of whom is everybody.
            peers_cover(*how == Use::Listen, &peers.collect::<Vec<_>>(), *peer)
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
fn peers_cover(everybody: bool, outer: &[Option<Block>], inner: Option<Block>) -> bool {
    let anybody = outer.contains(&None);
    if anybody && everybody {
        return true;
    }
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
            (What::Rank(n), Some(What::Inherited)) => match USUAL.iter().find(|(name, _)| *name == f.key) {
                Some((_, usual)) if n <= usual => Effect::Narrowed,
                // Nobody has these unless he was given them.
                Some((_, 0)) => Effect::Widened,
                _ if *n == resources::UNLIMITED => Effect::Widened,
                _ => Effect::Changed,
            },
            (What::Inherited, Some(What::Rank(0))) => Effect::Changed,
            _ => Effect::Widened,
        };
        out.push(Difference { effect, old: before, new: Some(f) });
    }
    for f in old.iter().filter(|f| !covered(f, new)) {
        let after = partner(f, new);
        let effect = match &f.what {
            What::Hidden(_) => Effect::Widened,
            // Said once already, from the other side.
            What::Other(_) | What::Mount(..) | What::Inherited if after.is_some_and(|a| !covered(a, old)) => continue,
            What::Rank(_) if after.is_some_and(|a| a.what == What::Inherited && !covered(a, old)) => continue,
            // What lay below a mount is seen again.
            What::Other(_) | What::Mount(..) => Effect::Changed,
            _ => Effect::Narrowed,
        };
        // Only a value takes another's place; what is granted beside it is a row of its own.
        let after = after.filter(|a| {
            matches!((&f.what, &a.what), (What::Rank(_), _) | (_, What::Rank(_)) | (What::Hidden(_), What::Hidden(_)))
        });
        out.push(Difference { effect, old: Some(f), new: after });
    }
    for f in new {
        let Some(o) = partner(f, old).filter(|o| o.what == f.what && o.until != f.until) else { continue };
        let effect = match (&o.until, &f.until) {
            (Some(before), Some(now)) if now < before => Effect::Narrowed,
            (None, Some(_)) => Effect::Narrowed,
            _ => Effect::Widened,
        };
        out.push(Difference { effect, old: Some(o), new: Some(f) });
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
            key if key.starts_with("group") => bounds.scalars.contains_key("user"),
            key => bounds.scalars.contains_key(key),
        },
    };
    let unbounded = ceiling.iter().filter(|f| is_lone_limit(f, machine));
    machine.iter().filter(|f| speaks(f) && !covered(f, ceiling)).chain(unbounded).collect()
}

/// Lets a ceiling pass what it didn't: what it grants, or what it speaks of no longer. A domain that it begins to
/// speak of is bounded from then on.
pub fn is_raised(old: (&Grants, Span), new: (&Grants, Span)) -> bool {
    let (a, b) = (facts(old.0, old.1), facts(new.0, new.1));
    let lists: [fn(&Grants) -> bool; 4] =
        [|g| !g.mounts.is_empty(), |g| !g.files.is_empty(), |g| !g.environment.is_empty(), |g| !g.publishes.is_empty()];
    let words = ["root", "program", "user", "hostname", "chdir", "umask", "address", "address6"];
    let bounds = |k: &&String| k.starts_with("limits.") || words.contains(&k.as_str());
    !beyond(&b, &a, old.0).is_empty()
        || !uncovered(&b, &a).is_empty()
        || lists.iter().any(|speaks| speaks(old.0) && !speaks(new.0))
        || old.0.scalars.keys().filter(bounds).any(|k| !new.0.scalars.contains_key(k))
}
