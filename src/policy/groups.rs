//! Groups of system calls: from what a line names to calls and their conditions.

use super::reader::Context;
use super::syscalls::{Condition, Groups, Place, Target};
use crate::diagnostic::did_you_mean;
use crate::kernel::calls::Call;
use crate::source::Span;

/// A call that a line names, itself or by a group.
pub(super) struct Named {
    pub(super) call: &'static Call,
    pub(super) conditions: Vec<Condition>,
    /// Where the line names it.
    pub(super) item: Span,
    /// The lines of groups on the way to it, the one that names it the last.
    pub(super) group: Vec<Place>,
    /// The reason that the group gives.
    pub(super) why: Option<String>,
}

/// Expands groups; unknown names and cycles are errors.
pub(super) fn expand(cx: &mut Context<'_>, groups: &Groups, targets: &[Target]) -> Vec<Named> {
    let mut out = Vec::new();
    let mut done = Vec::new();
    for t in targets {
        walk(cx, groups, t, Way { item: t.span(), lines: &[], why: None }, (&mut Vec::new(), &mut done), &mut out);
    }
    out
}

/// The lines of groups on the way, and the nearest of their reasons.
#[derive(Clone, Copy)]
struct Way<'a> {
    item: Span,
    lines: &'a [Place],
    why: Option<&'a str>,
}

fn walk(
    cx: &mut Context<'_>,
    groups: &Groups,
    target: &Target,
    way: Way<'_>,
    (path, done): (&mut Vec<String>, &mut Vec<String>),
    out: &mut Vec<Named>,
) {
    match target {
        Target::Call(call, conditions, _) => out.push(Named {
            call,
            conditions: conditions.clone(),
            item: way.item,
            group: way.lines.to_vec(),
            why: way.why.map(str::to_owned),
        }),
        Target::Group(name) => {
            let Some(group) = groups.get(&name.value) else {
                let help = did_you_mean(&name.value, groups.keys().map(String::as_str)).unwrap_or_else(|| {
                    "`stockade groups` lists the built-in ones; import \"std/groups\" to use them".into()
                });
                cx.error("E0408", name.span, format!("unknown group `{}`", name.value), help);
                return;
            };
            if path.contains(&name.value) {
                cx.error("E0409", name.span, format!("group `{}` contains itself", name.value), path.join(" -> "));
                return;
            }
            // A group that is reached a second time adds nothing; without this, groups that name others
            // twice would double at each level.
            if done.contains(&name.value) {
                return;
            }
            if path.len() >= super::resolve::MAX_CHAIN {
                let message = format!("more than {} groups contain each other in a row", super::resolve::MAX_CHAIN);
                return cx.error("E0409", name.span, message, "a reviewer must be able to follow the chain");
            }
            path.push(name.value.clone());
            for line in &group.lines {
                let why = line.meta.why.as_deref().or(way.why);
                for t in &line.targets {
                    let lines = [way.lines, &[Place { item: t.span(), line: line.span }]].concat();
                    walk(cx, groups, t, Way { lines: &lines, why, ..way }, (path, done), out);
                }
            }
            path.pop();
            done.push(name.value.clone());
        }
    }
}
