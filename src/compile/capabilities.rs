//! The five capability sets as the kernel will hold them after exec (capabilities(7)).

use super::Cx;
use super::users::Credentials;
use crate::policy::capabilities::{Set, names};
use crate::source::Origin;
use serde::{Deserialize, Serialize};

/// Bits by the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sets {
    /// Bounding.
    pub bounding: u64,
    /// Permitted.
    pub permitted: u64,
    /// Effective.
    pub effective: u64,
    /// Inheritable.
    pub inheritable: u64,
    /// Ambient.
    pub ambient: u64,
}

/// Securebits of a machine that is one program: all locked, ambient set closed (capabilities(7)).
pub const LOCKED: u32 = 0x02 | 0x08 | 0x20 | 0x40 | 0x80;

pub(super) fn compile(cx: &mut Cx<'_>, who: &Credentials, has_userns: bool) -> Option<(Sets, Origin)> {
    let bits =
        |set: Set| cx.policy.capabilities.iter().filter(|g| g.set == set).fold(0u64, |b, g| b | 1 << g.capability);
    let written = |set: Set| cx.policy.capabilities.iter().any(|g| g.set == set);
    let keep = bits(Set::Keep);
    let bounding = keep | bits(Set::Bounding);
    let inheritable = bits(Set::Inheritable);
    // What execve(2) computes: root gets the bounding and inheritable sets, others their ambient set.
    let sets = if who.uid == 0 {
        let all = bounding | inheritable;
        Sets { bounding, permitted: all, effective: all, inheritable, ambient: 0 }
    } else {
        let ambient = keep | bits(Set::Ambient);
        Sets { bounding, permitted: ambient, effective: ambient, inheritable: inheritable | ambient, ambient }
    };
    let origin = cx.policy.capabilities.first().map_or(Origin::implied("capabilities { none }"), |g| cx.origin(g.span));
    let mut fine = true;
    let explicit = [
        (Set::Permitted, sets.permitted, "permitted"),
        (Set::Effective, sets.effective, "effective"),
        (Set::Ambient, sets.ambient, "ambient"),
    ];
    for (set, real, word) in explicit {
        let wanted = bits(set) | keep;
        if written(set) && wanted != real && !(set == Set::Ambient && who.uid != 0) {
            let span = cx.policy.capabilities.iter().find(|g| g.set == set).map_or(cx.policy.span, |g| g.span);
            let got = names(real).join(" ");
            cx.error(
                "E0502",
                span,
                format!("after exec the kernel makes the {word} set: {}", if got.is_empty() { "empty" } else { &got }),
                "as uid 0 the sets follow `bounding`; as another user they follow `ambient`; `keep` writes all that is needed",
            );
            fine = false;
        }
    }
    for g in cx.policy.capabilities.clone() {
        let name = crate::policy::capabilities::name(g.capability);
        if g.capability > cx.host.last_capability {
            cx.error(
                "E0603",
                g.span,
                format!("this kernel doesn't know the capability `{name}`"),
                "it can't be granted here: remove the line or use a newer kernel",
            );
            fine = false;
        } else if !has_userns && cx.host.capabilities >> g.capability & 1 == 0 {
            cx.error(
                "E0603",
                g.span,
                format!("the launcher itself doesn't hold `{name}`, so it can't pass it on"),
                "use a user namespace: `userns auto`",
            );
            fine = false;
        }
        let missing = 1u64 << g.capability & !bounding != 0;
        if missing {
            cx.error(
                "E0502",
                g.span,
                format!("`{name}` is outside the bounding set, so exec drops it"),
                "use `keep`, or add it to `bounding` as well",
            );
            fine = false;
        }
    }
    fine.then_some((sets, origin))
}
