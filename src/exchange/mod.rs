//! What other programs write and read: policies made of their files, and their files made of policies.
//!
//! Nothing here is taken on trust. An import is written as text, read back by our own language, and proved to
//! let through no call that the source keeps out. An export is read back as its target would read it, and
//! proved to be the policy, or what it lost is named.

pub mod docker;
pub mod export;
pub mod import;
pub mod ini;
pub mod kubernetes;
pub mod nspawn;
pub mod oci;
pub mod profile;
pub mod systemd_groups;
pub mod unit;
pub mod unit_calls;
pub mod unit_file;
mod unit_keys;
