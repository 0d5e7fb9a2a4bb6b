//! Stockade boots Linux machines under a policy that was reviewed before it was enforced.
//!
//! One pipeline; a line of code belongs to exactly one arrow of it:
//!
//! ```text
//! source text -> ast::File -> Policy -> Confinement -> Plan -> Machine
//!         syntax      policy     compile      plan      launch
//! ```

pub mod address;
pub mod cli;
pub mod codes;
pub mod compile;
pub mod diagnostic;
pub mod exchange;
pub mod files;
pub mod host;
pub mod kernel;
pub mod launch;
pub mod machine;
pub mod plan;
pub mod policy;
pub mod proof;
pub mod review;
pub mod source;
pub mod syntax;
pub mod sys;
