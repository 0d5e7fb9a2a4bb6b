//! What was meant: one machine with everything it inherits, in the types of each facility.
//! Knows nothing of the host.

pub mod asserts;
pub mod capabilities;
mod check;
mod declare;
pub mod files;
mod groups;
pub mod loader;
pub mod meaning;
mod merge;
pub mod mounts;
pub mod network;
pub mod process;
mod reader;
pub mod removes;
pub mod resolve;
pub mod resources;
mod sections;
pub mod syscalls;
mod wiring;
pub mod words;

pub use merge::in_vain;
pub use reader::Meta;

use crate::source::{Span, Spanned};
use std::collections::BTreeMap;

/// The Linux release of the shipped system-call table.
pub const TABLE: (u16, u16) = (6, 18);

/// The oldest release that a policy may name as its baseline.
pub const OLDEST: (u16, u16) = (4, 19);

/// One bootable machine.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Where the name stands.
    pub span: Span,
    /// The braces and what is written in them; an instance's are those of the machine that it is made of.
    pub block: Span,
    /// The statement that makes it of another machine.
    pub instance: Option<Span>,
    /// `about`
    pub about: Option<String>,
    /// The release whose calls the author reviewed.
    pub kernel: (u16, u16),
    /// Where that is written.
    pub baseline: Span,
    /// The root file system.
    pub root: Spanned<mounts::Root>,
    /// What runs.
    pub program: Spanned<process::Program>,
    /// As whom.
    pub user: Spanned<process::User>,
    /// The user namespace.
    pub userns: Spanned<process::Userns>,
    /// The host name inside.
    pub hostname: Spanned<String>,
    /// The working directory at start.
    pub chdir: Spanned<String>,
    /// The umask at start.
    pub umask: u16,
    /// False only where `no-new-privs off` is written.
    pub no_new_privs: bool,
    /// Where that is written.
    pub no_new_privs_span: Option<Span>,
    /// Rules for system calls.
    pub syscalls: Vec<syscalls::Rule>,
    /// Capabilities.
    pub capabilities: Vec<capabilities::Grant>,
    /// Mounts in order.
    pub mounts: Vec<mounts::Mount>,
    /// File rules; empty means that mounts alone govern files.
    pub files: Vec<files::Rule>,
    /// The network namespace.
    pub network: Spanned<network::Network>,
    /// Ports that it uses.
    pub ports: Vec<network::Port>,
    /// Ports of the host that lead to it.
    pub publishes: Vec<network::Publish>,
    /// `egress any`: whatever leaves, any protocol.
    pub egress: Option<Span>,
    /// Who answers names.
    pub resolver: Spanned<network::Resolver>,
    /// Addresses on a network that others run.
    pub addresses: Vec<Spanned<network::Address>>,
    /// Limits by their word.
    pub limits: BTreeMap<String, Spanned<u64>>,
    /// The environment.
    pub environment: Vec<process::Variable>,
    /// Devices besides the standard ones.
    pub devices: Vec<process::Device>,
    /// Smallest Landlock ABI that the author accepts.
    pub landlock: Option<Spanned<u64>>,
    /// Assertions.
    pub assertions: Vec<asserts::Assertion>,
    /// All of it but the rules for calls, as merged: what reviews compare.
    pub grants: resolve::Grants,
    /// Profiles that it must not exceed.
    pub within: Vec<resolve::Ceiling>,
    /// Tests on this machine.
    pub tests: Vec<asserts::Case>,
}

impl Policy {
    /// True for a machine that boots an init system.
    pub fn boots(&self) -> bool {
        self.program.value == process::Program::Boot
    }
}

pub(crate) const NAME_HELP: &str = "1 to 63 characters: small letters, digits and inner hyphens";

/// A machine's name becomes a host name, a folder and a unit: one rule for all of them (RFC 1123 label).
pub fn valid_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len()) && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_labels() {
        for good in ["a", "web-1", "0x"] {
            assert!(super::valid_name(good), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", ".", "..", "a/b", "-rf", "a-", ".host", "A", "a_b", "ä", "a\n", "a\0", long.as_str()] {
            assert!(!super::valid_name(bad), "{bad:?}");
        }
    }
}
