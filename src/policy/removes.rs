//! What lines take away of what is inherited.

use super::{files, network, syscalls};
use crate::address::Block;
use crate::kernel::calls::Call;
use crate::source::Span;

/// A `remove` statement.
#[derive(Clone, Debug)]
pub(super) struct Remove {
    pub(super) what: Removed,
    pub(super) span: Span,
    /// Its reason.
    pub(super) why: Option<String>,
}

/// What is taken out of the inherited grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A capability, in all sets.
    Capability(u8),
    /// What is mounted at a place.
    Mount(String),
    /// A right below a path.
    File(files::Right, String),
    /// A port, or all, and its peers, or all.
    Port(network::Use, network::Protocol, Option<u16>, Vec<Block>),
    /// A port of the host.
    Publish(network::Protocol, Option<std::net::IpAddr>, u16),
    /// A variable.
    Variable(String),
    /// A device.
    Device(String),
}

/// One thing that a line took away of what was inherited.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The `remove` or `override`.
    pub span: Span,
    /// Where the line names it.
    pub item: Span,
    /// The lines of groups by which a call is named.
    pub group: Vec<syscalls::Place>,
    /// The reason.
    pub why: Option<String>,
    /// What is gone.
    pub what: Gone,
    /// The lines that said it.
    pub lines: Vec<Span>,
}

/// What is gone by a line.
#[derive(Clone, Debug)]
pub enum Gone {
    /// What a section lists.
    Listed(Removed),
    /// The rules of a call with these conditions; with none, each of its rules.
    Call(&'static Call, Vec<syscalls::Condition>),
}

/// Calls that a line removed, and an inherited line of the same call that stayed.
#[derive(Clone, Debug)]
pub struct Removal {
    /// The call.
    pub call: &'static Call,
    /// What both speak of: the conditions of the two together.
    pub conditions: Vec<syscalls::Condition>,
    /// The line that removes.
    pub span: Span,
    /// The line that stayed.
    pub wider: Span,
}
