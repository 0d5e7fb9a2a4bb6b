//! What grants more than what: facts against facts, a machine against a ceiling, a ceiling against what it was.

use super::grants::{Domain, Fact, USUAL, What, facts};
use crate::address::{Block, EVERYBODY, is_special, special};
use crate::policy::files::{Right, is_below};
use crate::policy::mounts::{Mount, Source};
use crate::policy::network::{Protocol, Use};
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

/// What a ceiling hides and the machine doesn't.
pub fn uncovered<'a>(machine: &[Fact], ceiling: &'a [Fact]) -> Vec<&'a Fact> {
    ceiling.iter().filter(|f| matches!(f.what, What::Hidden(_)) && !covered(f, machine)).collect()
}

/// What is mounted last at a path or above it.
pub fn shown_at<'a>(list: &'a [Fact], path: &str) -> Option<&'a Fact> {
    let mounts = list.iter().filter(|o| o.domain == Domain::Mounts);
    mounts.rev().find(|o| matches!(o.what, What::Mount(..) | What::Hidden(_)) && is_below(path, &o.key))
}

/// Is it a mount of its own, by which the place isn't as the list alone has it, though the list shows the same files?
fn is_laid_over(f: &Fact, list: &[Fact]) -> bool {
    let What::Mount(source, flags) = &f.what else { return false };
    let alike = |o: &Fact| matches!(&o.what, What::Mount(s, has) if has == flags && further(s, &o.key, &f.key).as_ref() == Some(source));
    !list.iter().any(|o| o.domain == f.domain && o.key == f.key) && !shown_at(list, &f.key).is_some_and(alike)
}

/// Does what is mounted around a place show the very files that a mount there would, and let no more?
pub fn shows_no_more(list: &[Fact], f: &Fact) -> bool {
    let What::Mount(source, flags) = &f.what else { return false };
    let less = |has: &[bool; 5]| has.iter().zip(flags).all(|(h, f)| *f || !*h);
    shown_at(list, &f.key).is_some_and(
        |o| matches!(&o.what, What::Mount(s, has) if less(has) && further(s, &o.key, &f.key).as_ref() == Some(source)),
    )
}

/// What a folder of the host, mounted at `target`, shows at a path below that.
fn further(source: &str, target: &str, path: &str) -> Option<String> {
    let folder = source.strip_prefix("bind \"")?.strip_suffix('"')?.trim_end_matches('/');
    let rest = path.strip_prefix(target.trim_end_matches('/'))?;
    Some(format!("bind \"{folder}{}\"", rest.escape_debug()))
}

/// Does a list of facts grant what one says?
pub fn covered(f: &Fact, list: &[Fact]) -> bool {
    let all = list;
    // What ends sooner doesn't cover what goes on.
    let lasts = |o: &Fact| o.until.is_none() || f.until.as_ref().is_some_and(|day| o.until.as_ref() >= Some(day));
    let list = || list.iter().filter(|o| o.domain == f.domain && lasts(o));
    let same = |o: &&Fact| o.key == f.key;
    match &f.what {
        What::Present => list().any(|o| same(&o)),
        // Who hides a folder hides what is in it.
        What::Hidden(deep) => {
            list().filter(|o| is_below(&f.key, &o.key)).any(|o| matches!(o.what, What::Hidden(d) if d || !deep))
        }
        // A limit that isn't written is none.
        What::Rank(_) if f.domain == Domain::Limits && !list().any(|o| same(&o)) => true,
        What::Rank(n) => list().filter(same).any(|o| matches!(o.what, What::Rank(m) if m >= *n)),
        What::Bits(n) => list().filter(same).any(|o| matches!(o.what, What::Bits(m) if n & !m == 0)),
        What::Inherited => {
            list().filter(same).any(|o| matches!(o.what, What::Inherited | What::Rank(resources::UNLIMITED)))
        }
        What::Other(_) => list().filter(same).any(|o| o.what == f.what),
        What::Countless => false,
        What::Path(right, path, _) => list().any(|o| match &o.what {
            // Execution reads.
            What::Path(r, p, _) => (r == right || *r == Right::Exec && *right == Right::Read) && is_below(path, p),
            _ => false,
        }),
        What::Port(how, protocol, port, peer) => {
            let peers = list().filter_map(|o| match &o.what {
                What::Port(h, q, p, from) if (h, q) == (how, protocol) && (p.is_none() || p == port) => Some(*from),
                // Who may go anywhere may go there.
                What::Rank(1) if o.key == "egress" && *how == Use::Connect => Some(None),
                _ => None,
            });
            // Who may be listened to without a word of whom is everybody.
            peers_cover(*how == Use::Listen, &peers.collect::<Vec<_>>(), *peer)
        }
        What::Broadcast(port, address) => list().any(|o| match &o.what {
            What::Port(Use::Connect, Protocol::Udp, p, Some(named)) => {
                (p.is_none() || p == port) && named.contains(*address)
            }
            _ => false,
        }),
        What::Publish(protocol, address, (first, last), inside) => {
            // The last port that one line of the list leads from `port` on to where this one does.
            let until = |port: u16| {
                list().find_map(|o| match &o.what {
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
        What::Mount(source, flags) => {
            let shows = |o: &Fact| match &o.what {
                What::Mount(s, has) => {
                    let files = if o.key == f.key { Some(s.clone()) } else { further(s, &o.key, &f.key) };
                    files.as_ref() == Some(source) && flags.iter().zip(has).all(|(f, h)| *h || !*f)
                }
                _ => false,
            };
            list().filter(same).any(shows) || shown_at(all, &f.key).is_some_and(|o| lasts(o) && shows(o))
        }
    }
}

/// Are all of `inner` among `outer`, however they were written? Anybody is everybody but link-local, multicast,
/// metadata and loopback addresses: those are granted by name only.
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
    let (first, last) = inner.ends();
    let mut parts: Vec<(u128, u128)> = named.iter().filter(|b| inner.contains(**b)).map(|b| b.ends()).collect();
    // Of what lies in a block that is left out anybody is nobody.
    if anybody && !special().any(|b| b.contains(inner)) {
        // Everybody between those who are named or not at all.
        let mut next = Some(first);
        let mut left_out: Vec<(u128, u128)> = special().filter(|b| inner.contains(*b)).map(Block::ends).collect();
        left_out.sort_unstable();
        for (from, to) in left_out {
            parts.extend(next.filter(|n| *n < from).map(|n| (n, from - 1)));
            next = to.checked_add(1);
        }
        parts.extend(next.filter(|n| *n <= last).map(|n| (n, last)));
    }
    parts.sort_unstable();
    // From the first address on, as far as the parts reach without a gap.
    let mut next = Some(first);
    for (from, to) in parts {
        match next {
            Some(n) if from <= n => next = next.max(to.checked_add(1)).filter(|_| to != u128::MAX),
            Some(n) if n > last => return true,
            _ => break,
        }
    }
    next.is_none_or(|n| n > last)
}

/// What `new` grants that `old` doesn't, and the reverse.
pub fn compare<'a>(old: &'a [Fact], new: &'a [Fact]) -> Vec<Difference<'a>> {
    let mut out = Vec::new();
    let partner = |f: &Fact, list: &'a [Fact]| list.iter().find(|o| o.domain == f.domain && o.key == f.key);
    for f in new.iter().filter(|f| !covered(f, old) || is_laid_over(f, old)) {
        let before = partner(f, old);
        let effect = match (&f.what, before.map(|b| &b.what)) {
            (What::Hidden(_), _) => Effect::Narrowed,
            (What::Mount(..), None) if covered(f, old) => Effect::Narrowed,
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
    for f in old.iter().filter(|f| !covered(f, new) || is_laid_over(f, new)) {
        let after = partner(f, new);
        let effect = match &f.what {
            What::Hidden(_) => Effect::Widened,
            // Said once already, from the other side.
            What::Other(_) | What::Mount(..) | What::Inherited if after.is_some_and(|a| !covered(a, old)) => continue,
            // The same, less of it.
            What::Mount(source, _) if after.is_some_and(|a| matches!(&a.what, What::Mount(s, _) if s == source)) => {
                Effect::Narrowed
            }
            What::Rank(_) if after.is_some_and(|a| a.what == What::Inherited && !covered(a, old)) => continue,
            What::Bits(_) if after.is_some_and(|a| !covered(a, old)) => continue,
            // What lay below a mount is seen again.
            What::Other(_) | What::Mount(..) => Effect::Changed,
            _ => Effect::Narrowed,
        };
        // Only a value takes another's place; what is granted beside it is a row of its own.
        let after = after.filter(|a| {
            let values = |w: &What| matches!(w, What::Rank(_) | What::Bits(_) | What::Hidden(_) | What::Mount(..));
            a.what == f.what || values(&a.what) || values(&f.what)
        });
        out.push(Difference { effect, old: Some(f), new: after });
    }
    // Limits of one device: where they aren't written there are none.
    for f in old.iter().filter(|f| is_lone_limit(f, new)) {
        out.push(Difference { effect: Effect::Widened, old: Some(f), new: None });
    }
    for f in new.iter().filter(|f| is_lone_limit(f, old)) {
        out.push(Difference { effect: Effect::Narrowed, old: None, new: Some(f) });
    }
    // `keep` is several sets, and one line. Other facts of one line are graded each: see the rows of a diff.
    let kept = |d: &Difference<'_>| d.new.or(d.old).is_some_and(|f| f.domain == Domain::Capabilities);
    out.dedup_by(|b, a| {
        (a.effect == b.effect && kept(a) && kept(b))
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
    let has = |list: &[Fact], key: &str| list.iter().any(|c| c.domain == Domain::Network && c.key == key);
    let speaks = |f: &Fact| match f.domain {
        Domain::Syscalls => false,
        // Where a machine is, and which ports of the host lead to what it may listen on, is for who runs it.
        Domain::Network => match &f.what {
            // Who bounds one address bounds both.
            What::Other(_) if f.key.starts_with("address") => has(ceiling, "address") || has(ceiling, "address6"),
            What::Other(_) => has(ceiling, &f.key),
            What::Publish(..) => !bounds.publishes.is_empty(),
            // On the host's network all addresses are the host's.
            _ if f.key == "own addresses" => !bounds.is_on_host(),
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
            "userns map" | "userns ids" => bounds.scalars.contains_key("userns"),
            "root access" | "root size" | "root shown" => bounds.scalars.contains_key("root"),
            "root user" => bounds.scalars.contains_key("user"),
            key if key.starts_with("group") || key == "first group" => bounds.scalars.contains_key("user"),
            key => bounds.scalars.contains_key(key),
        },
    };
    // On none it is less; on another kind it may reach more.
    let elsewhere = has(ceiling, "network name") && !has(machine, "network name");
    let other = |f: &&Fact| elsewhere && f.domain == Domain::Network && f.key == "network" && f.what != What::Rank(0);
    let unbounded = ceiling.iter().filter(|f| is_lone_limit(f, machine));
    machine.iter().filter(|f| other(f) || speaks(f) && !covered(f, ceiling)).chain(unbounded).collect()
}

/// What a ceiling mounts over something else that it shows: a machine without it shows what lies below.
pub fn covers(ceiling: &Grants) -> impl Iterator<Item = &Mount> {
    let rooted = ceiling.scalars.contains_key("root");
    let shows = |m: &Mount| matches!(m.source, Source::Bind(_) | Source::Overlay(..));
    ceiling
        .mounts
        .iter()
        .enumerate()
        .filter(move |(i, m)| {
            let before = ceiling.mounts.get(..*i).unwrap_or_default();
            let hides = matches!(m.source, Source::Mask | Source::Hide);
            !hides && (rooted || before.iter().any(|b| shows(b) && is_below(&m.target, &b.target)))
        })
        .map(|(_, m)| m)
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
        || covers(old.0).any(|m| !new.0.mounts.iter().any(|o| o.target == m.target))
        || lists.iter().any(|speaks| speaks(old.0) && !speaks(new.0))
        || old.0.scalars.keys().filter(bounds).any(|k| !new.0.scalars.contains_key(k))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses by hand against the sweep over blocks.
    #[test]
    fn blocks_are_covered_address_by_address() {
        let b = |t: &str| Block::parse(t).unwrap();
        let list = |t: &str| -> Vec<Option<Block>> {
            t.split_whitespace().map(|w| if w == "any" { None } else { Some(b(w)) }).collect()
        };
        for (outer, inner, expected) in [
            ("10.0.0.0/9 10.128.0.0/9", "10.0.0.0/8", true),
            ("10.0.0.0/9 10.128.0.0/10", "10.0.0.0/8", false),
            ("10.128.0.0/9 10.0.0.0/10 10.64.0.0/10", "10.0.0.0/8", true),
            ("10.64.0.0/10 10.128.0.0/9", "10.0.0.0/8", false),
            ("any", "10.0.0.0/8", true),
            ("any", "169.254.169.254", false),
            ("any", "169.254.0.0/16", false),
            ("any", "128.0.0.0/1", false),
            ("any 169.254.0.0/16", "169.0.0.0/8", true),
            ("any 169.254.0.0/17", "169.0.0.0/8", false),
            ("any", "168.63.0.0/16", false),
            ("any 168.63.129.16", "168.63.0.0/16", true),
            ("any 127.0.0.0/8 168.0.0.0/6 100.64.0.0/10 224.0.0.0/4 255.255.255.255", "0.0.0.0/0", true),
            ("any 127.0.0.0/8 168.0.0.0/6 100.64.0.0/10 255.255.255.255", "0.0.0.0/0", false),
            ("any ::1 fc00::/7 fe80::/10 ff00::/8", "::/0", true),
            ("any ::1 fe80::/10 ff00::/8", "::/0", false),
            ("any ::1 fe80::/10", "::/0", false),
            ("0.0.0.0/1 128.0.0.0/1", "::/0", false),
            ("::/1 8000::/1", "::/0", true),
            ("::1 fe80::/10", "::/0", false),
            ("192.0.2.0 192.0.2.1 192.0.2.2/31", "192.0.2.0/30", true),
            ("192.0.2.0 192.0.2.2/31", "192.0.2.0/30", false),
            ("255.255.255.255 255.255.255.254", "255.255.255.254/31", true),
        ] {
            assert_eq!(peers_cover(false, &list(outer), Some(b(inner))), expected, "{outer} | {inner}");
        }
        assert!(peers_cover(false, &list("0.0.0.0/0 ::/1 8000::/1"), None));
        assert!(!peers_cover(false, &list("0.0.0.0/0 ::/1"), None));
        assert!(peers_cover(true, &list("any"), Some(b("169.254.0.0/16"))), "whom it listens to");
    }
}
