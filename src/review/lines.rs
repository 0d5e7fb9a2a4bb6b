//! Which lines of two texts explain a difference in meaning, and which stand on one side for nothing.

use super::diff::Side;
use crate::policy::Policy;
use crate::source::{Sources, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// The lines behind the differences that were found, on the old side and on the new one: `file:line`.
#[derive(Default)]
pub(super) struct Explained {
    old: BTreeSet<String>,
    new: BTreeSet<String>,
    /// The kernel of the baseline is behind one.
    pub(super) baseline: bool,
}

impl Explained {
    pub(super) fn by(&mut self, gone: bool, place: &str) {
        if gone { &mut self.old } else { &mut self.new }.insert(place.to_owned());
    }

    /// Every line of a statement, and those that its parameters got their values from.
    pub(super) fn at(&mut self, gone: bool, (policy, sources): (&Policy, &Sources), span: Span) {
        for value in policy.grants.values_of(sources.text(span)) {
            self.by(gone, &sources.cite(value));
        }
        for line in sources.lines(span) {
            self.by(gone, &line);
        }
    }

    /// How many lines stand on one side only and explain nothing. Comments, blank lines and what is written for
    /// another machine don't count.
    pub(super) fn rest(&self, sides: [(&Lines, &Policy); 2]) -> usize {
        // A parameter is one thing, whatever value it has on either side.
        let parameter = |l: &Line| l.text.strip_prefix("param ").and_then(|t| t.split(' ').next()).map(str::to_owned);
        let mut parameters = BTreeSet::new();
        for ((lines, policy), known) in sides.into_iter().zip([&self.old, &self.new]) {
            parameters.extend(lines.of(policy).filter(|l| known.contains(&l.place)).filter_map(parameter));
        }
        let counts = |l: &&Line| {
            !(self.baseline && l.text.starts_with("kernel ")) && parameter(l).is_none_or(|p| !parameters.contains(&p))
        };
        let [old, new] = sides.map(|(lines, policy)| lines.of(policy).filter(counts).collect::<Vec<&Line>>());
        lone(&old, &new, &self.old) + lone(&new, &old, &self.new)
    }
}

/// How many lines have none on the other side that reads alike, nor one among those that are known.
fn lone(from: &[&Line], other: &[&Line], known: &BTreeSet<String>) -> usize {
    let said: BTreeSet<&str> = from.iter().filter(|l| known.contains(&l.place)).map(|l| l.text.as_str()).collect();
    let mut rest = other.iter().peekable();
    let alone = |l: &&&Line| {
        while rest.next_if(|o| o.text < l.text).is_some() {}
        rest.next_if(|o| o.text == l.text).is_none()
    };
    from.iter().filter(alone).filter(|l| !said.contains(l.text.as_str())).count()
}

/// A line without its reason.
pub(super) fn bare(line: &str) -> &str {
    line.split(" why \"").next().unwrap_or(line).trim_end()
}

/// What a line came through: profiles, and where its parameters got their values.
pub(super) fn through((policy, sources): (&Policy, &Sources), line: Span) -> Vec<String> {
    let values = policy.grants.values_of(sources.text(line)).map(|v| sources.cite(v));
    policy.grants.chain(line).iter().cloned().chain(values).collect()
}

/// A line that says something.
struct Line {
    text: String,
    place: String,
    /// The block of a machine, or the statement of an instance, in which it stands.
    owner: Option<Span>,
}

/// The lines of one side from which the meaning of its machines may come, in the order of their texts.
pub(super) struct Lines(Vec<Line>);

impl Lines {
    pub(super) fn read(side: &Side<'_>) -> Lines {
        // Instances of one machine have one block.
        let owners: BTreeSet<Span> =
            side.machines.iter().flat_map(|m| [m.block].into_iter().chain(m.instance)).collect();
        let mut by_file: BTreeMap<&str, Vec<(RangeInclusive<usize>, Span)>> = BTreeMap::new();
        for owner in owners {
            let Some(file) = side.sources.get(owner.file) else { continue };
            let line = |at| side.sources.position(Span { start: at, ..owner }).line as usize;
            by_file.entry(&file.name).or_default().push((line(owner.start)..=line(owner.end.max(1) - 1), owner));
        }
        let mut out = Vec::new();
        for f in side.sources.written() {
            // They are in the order in which they are written, and none in another.
            let owners = by_file.get(f.name.as_str()).map_or(&[][..], Vec::as_slice);
            let owner = |line: usize| {
                let before = owners.partition_point(|(lines, _)| *lines.start() <= line);
                let nearest = before.checked_sub(1).and_then(|i| owners.get(i));
                nearest.filter(|(lines, _)| lines.contains(&line)).map(|(_, owner)| *owner)
            };
            for (line, text) in (1..).zip(f.text.lines()) {
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                // Where a block begins and ends says nothing: `limits {`.
                let frame = text == "}" || text.strip_suffix(" {").is_some_and(|word| !word.contains(' '));
                if !text.is_empty() && !text.starts_with('#') && !frame {
                    out.push(Line { text, place: format!("{}:{line}", f.name), owner: owner(line) });
                }
            }
        }
        out.sort_by(|a, b| a.text.cmp(&b.text));
        Lines(out)
    }

    /// The places of lines that the other side has less often, whatever reason they give.
    pub(super) fn touched(&self, policy: &Policy, other: (&Lines, &Policy)) -> BTreeSet<String> {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        self.of(policy).for_each(|l| *counts.entry(bare(&l.text)).or_default() += 1);
        other.0.of(other.1).for_each(|l| *counts.entry(bare(&l.text)).or_default() -= 1);
        let more = |l: &&Line| counts.get(bare(&l.text)).is_some_and(|n| *n > 0);
        self.of(policy).filter(more).map(|l| l.place.clone()).collect()
    }

    /// Those of a machine and of all.
    fn of<'a>(&'a self, policy: &Policy) -> impl Iterator<Item = &'a Line> {
        let own = [Some(policy.block), policy.instance];
        self.0.iter().filter(move |l| l.owner.is_none() || own.contains(&l.owner))
    }
}
