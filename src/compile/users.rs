//! Ids: the user namespace's maps, and the program's user and groups as numbers.

use super::Cx;
use crate::policy::process::{Id, Userns};
use crate::source::{Origin, Span};
use serde::{Deserialize, Serialize};

/// One line of a uid_map or gid_map (user_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The user namespace; without one the ids are the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMaps {
    /// For users.
    pub users: Vec<Range>,
    /// For groups.
    pub groups: Vec<Range>,
    /// setgroups(2) works inside.
    pub setgroups: bool,
    /// The line.
    pub origin: Origin,
}

/// The program's credentials, as numbers inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Size of the range that `userns auto` takes.
pub const AUTO: u32 = 65_536;

pub(super) fn credentials(cx: &mut Cx<'_>) -> Option<Credentials> {
    let user = cx.policy.user.clone();
    let (uid, primary) = match &user.value.user {
        Id::Number(n) => (*n, cx.host.accounts.users.iter().find(|(_, u, _)| u == n).map(|(.., g)| *g)),
        Id::Name(name) => {
            let found = cx.host.accounts.users.iter().find(|(n, ..)| n == name).map(|(_, u, g)| (*u, Some(*g)));
            match found {
                Some((0, _)) if name != "root" => {
                    cx.error(
                        "E0523",
                        user.span,
                        format!("`{name}` is another name of root here"),
                        "write `user root`, or another account",
                    );
                    return None;
                }
                Some(f) => f,
                None => return cx.no_account(user.span, "user", name),
            }
        }
    };
    let gid = match &user.value.group {
        Some(g) => group(cx, g, user.span)?,
        None => match primary {
            Some(g) => g,
            None => {
                cx.error(
                    "E0516",
                    user.span,
                    format!("uid {uid} has no account in the root, so its group isn't known"),
                    "write `user N group M`",
                );
                return None;
            }
        },
    };
    let mut groups = Vec::new();
    for g in &user.value.groups {
        groups.push(group(cx, g, user.span)?);
    }
    groups.sort_unstable();
    groups.dedup();
    Some(Credentials { uid, gid, groups })
}

/// A user's number, for `tmpfs ... owner=`.
pub(super) fn user_number(cx: &mut Cx<'_>, id: &Id, span: Span) -> Option<u32> {
    match id {
        Id::Number(n) => Some(*n),
        Id::Name(name) => match cx.host.accounts.users.iter().find(|(n, ..)| n == name) {
            Some((_, uid, _)) => Some(*uid),
            None => cx.no_account(span, "user", name),
        },
    }
}

fn group(cx: &mut Cx<'_>, id: &Id, span: Span) -> Option<u32> {
    match id {
        Id::Number(n) => Some(*n),
        Id::Name(name) => match cx.host.accounts.groups.iter().find(|(n, _)| n == name) {
            Some((_, gid)) => Some(*gid),
            None => cx.no_account(span, "group", name),
        },
    }
}

impl Cx<'_> {
    fn no_account<T>(&mut self, span: Span, what: &str, name: &str) -> Option<T> {
        self.error(
            "E0516",
            span,
            format!("the root has no {what} `{name}`"),
            "names are looked up in the root's own /etc/passwd and /etc/group; a number always works",
        );
        None
    }
}

/// The id maps; `None` inside means no user namespace. `Err` when an error was reported.
pub(super) fn maps(cx: &mut Cx<'_>, who: &Credentials) -> Result<Option<IdMaps>, ()> {
    let userns = cx.policy.userns.clone();
    let origin = cx.origin(userns.span);
    if !cx.host.privileged {
        return match userns.value {
            // Inside the builder's own namespace the caller is id 0; the policy's user is that id.
            Userns::Auto => Ok(Some(IdMaps {
                users: vec![Range { inside: who.uid, outside: 0, count: 1 }],
                groups: vec![Range { inside: who.gid, outside: 0, count: 1 }],
                setgroups: false,
                origin,
            })),
            Userns::Map(_) | Userns::Identity => {
                cx.error(
                    "E0601",
                    userns.span,
                    "only root can set up this user namespace",
                    "run it as root, or write `userns auto`",
                );
                Err(())
            }
        };
    }
    match userns.value {
        Userns::Identity => Ok(None),
        Userns::Auto => {
            let Some(base) = cx.host.free_ids else {
                cx.error(
                    "E0602",
                    userns.span,
                    "no range of 65536 ids is free on this host",
                    "stop a machine, or write `userns map ...`",
                );
                return Err(());
            };
            let all = Range { inside: 0, outside: base, count: AUTO };
            Ok(Some(IdMaps { users: vec![all], groups: vec![all], setgroups: true, origin }))
        }
        Userns::Map(ranges) => {
            let ranges: Vec<Range> =
                ranges.into_iter().map(|(inside, outside, count)| Range { inside, outside, count }).collect();
            if outside(&ranges, 0).is_none() {
                cx.error("E0507", userns.span, "the map has no id 0: nothing can be set up inside", "map 0 as well");
                return Err(());
            }
            Ok(Some(IdMaps { users: ranges.clone(), groups: ranges, setgroups: true, origin }))
        }
    }
}

/// The id outside of an id inside.
pub fn outside(ranges: &[Range], inside: u32) -> Option<u32> {
    let r = ranges.iter().find(|r| inside >= r.inside && inside - r.inside < r.count)?;
    Some(r.outside + (inside - r.inside))
}
