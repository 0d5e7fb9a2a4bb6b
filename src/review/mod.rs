//! Review by meaning: what a change widens, what a machine can do, what is written in vain.

mod behind;
mod checks;
pub mod diff;
mod facts;
mod folders;
mod lines;
pub mod lint;
pub mod lock;
pub mod output;
pub mod query;
pub mod report;
pub mod risk;
