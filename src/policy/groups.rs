//! Groups of system calls: from what a line names to calls and their conditions.

use super::reader::Context;
use super::syscalls::{Condition, Groups, Target};
use crate::diagnostic::did_you_mean;
use crate::kernel::calls::Call;
use crate::source::Span;

/// Expands groups; unknown names and cycles are errors.
pub(super) fn expand(
    cx: &mut Context<'_>,
    groups: &Groups,
    targets: &[Target],
) -> Vec<(&'static Call, Vec<Condition>, Option<Span>)> {
    let mut out = Vec::new();
    let mut done = Vec::new();
    for t in targets {
        walk(cx, groups, t, None, (&mut Vec::new(), &mut done), &mut out);
    }
    out
}

fn walk(
    cx: &mut Context<'_>,
    groups: &Groups,
    target: &Target,
    inside: Option<Span>,
    (path, done): (&mut Vec<String>, &mut Vec<String>),
    out: &mut Vec<(&'static Call, Vec<Condition>, Option<Span>)>,
) {
    match target {
        Target::Call(call, conditions, span) => out.push((call, conditions.clone(), inside.map(|_| *span))),
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
            for t in &group.entries {
                walk(cx, groups, t, Some(name.span), (path, done), out);
            }
            path.pop();
            done.push(name.value.clone());
        }
    }
}
