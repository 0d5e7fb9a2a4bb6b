//! Which lines of two texts explain a difference in meaning, and which stand on one side for nothing.

use super::diff::Side;
use crate::policy::Policy;
use crate::source::{Sources, Span};
use std::collections::BTreeSet;

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

    /// Every line of a statement.
    pub(super) fn at(&mut self, gone: bool, sources: &Sources, span: Span) {
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

/// The lines that a machine's meaning may come from, with their places.
fn lines_of(side: &Side<'_>, policy: &Policy) -> Vec<(String, String)> {
    let of_another = |place: &str| {
        side.machines.iter().filter(|m| m.block != policy.block).any(|m| {
            let end = Span { start: m.block.end, ..m.block };
            let (name, line) = place.rsplit_once(':').unwrap_or((place, "0"));
            let within = side.sources.position(m.block).line..=side.sources.position(end).line;
            side.sources.get(m.block.file).is_some_and(|f| f.name == name)
                && line.parse().is_ok_and(|l| within.contains(&l))
        })
    };
    let mut out = Vec::new();
    for f in side.sources.written() {
        for (i, line) in f.text.lines().enumerate() {
            let text = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let place = format!("{}:{}", f.name, i + 1);
            // Where a block begins and ends says nothing: `limits {`.
            let frame = text == "}" || text.strip_suffix(" {").is_some_and(|word| !word.contains(' '));
            if !text.is_empty() && !text.starts_with('#') && !frame && !of_another(&place) {
                out.push((place, text));
            }
        }
    }
    out
}
