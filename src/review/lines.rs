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
        let last = Span { start: span.end.saturating_sub(1).max(span.start), ..span };
        for line in sources.position(span).line..=sources.position(last).line {
            let name = sources.get(span.file).map_or("?", |f| f.name.as_str());
            self.by(gone, &format!("{name}:{line}"));
        }
    }

    /// How many lines stand on one side only and explain nothing. Comments, blank lines and what is written for
    /// another machine don't count.
    pub(super) fn rest(&self, sides: [(&Side<'_>, &Policy); 2]) -> usize {
        let [old, new] = sides.map(|(side, policy)| {
            let mut lines = lines_of(side, policy);
            lines.retain(|(_, text)| !(self.baseline && text.starts_with("kernel ")));
            lines.sort_by(|a, b| a.1.cmp(&b.1));
            lines
        });
        let lone = |from: &[(String, String)], other: &[(String, String)], known: &BTreeSet<String>| {
            let mut rest: Vec<&str> = other.iter().map(|(_, t)| t.as_str()).collect();
            from.iter()
                .filter(|(place, text)| match rest.binary_search(&text.as_str()) {
                    Ok(i) => {
                        rest.remove(i);
                        false
                    }
                    Err(_) => !known.contains(place),
                })
                .count()
        };
        lone(&old, &new, &self.old) + lone(&new, &old, &self.new)
    }
}

/// What a line came through: profiles, and where its parameters got their values.
pub(super) fn through((policy, sources): (&Policy, &Sources), line: Span) -> Vec<String> {
    let values = policy.grants.values_of(sources.text(line)).map(|v| sources.cite(v));
    policy.grants.chain(line).iter().cloned().chain(values).collect()
}

/// The lines that a machine's meaning may come from, with their places.
fn lines_of(side: &Side<'_>, policy: &Policy) -> Vec<(String, String)> {
    // The lines of the other machines, by the file. Instances of one machine have one block.
    let mut blocks: BTreeSet<Span> = side.machines.iter().map(|m| m.block).collect();
    blocks.remove(&policy.block);
    let mut others: BTreeMap<&str, Vec<RangeInclusive<usize>>> = BTreeMap::new();
    for block in blocks {
        let Some(file) = side.sources.get(block.file) else { continue };
        let line = |at| side.sources.position(Span { start: at, ..block }).line;
        others.entry(&file.name).or_default().push(line(block.start) as usize..=line(block.end) as usize);
    }
    let mut out = Vec::new();
    for f in side.sources.written() {
        let others = others.get(f.name.as_str()).map_or(&[][..], Vec::as_slice);
        // They are in the order in which they are written, and none in another.
        let of_another = |line: usize| {
            let before = others.partition_point(|r| *r.start() <= line);
            before.checked_sub(1).and_then(|i| others.get(i)).is_some_and(|r| r.contains(&line))
        };
        for (i, line) in f.text.lines().enumerate() {
            let text = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let instance = text.strip_prefix("instance ").and_then(|rest| rest.split(' ').next());
            if of_another(i + 1) || instance.is_some_and(|name| name != policy.name) {
                continue;
            }
            let place = format!("{}:{}", f.name, i + 1);
            // Where a block begins and ends says nothing: `limits {`.
            let frame = text == "}" || text.strip_suffix(" {").is_some_and(|word| !word.contains(' '));
            if !text.is_empty() && !text.starts_with('#') && !frame {
                out.push((place, text));
            }
        }
    }
    out
}
