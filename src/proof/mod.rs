//! Exact reasoning about filters: what a policy means and what a program does, as diagrams that are
//! equal only when they agree on every call.

pub mod bpf;
pub mod diagram;
pub mod intent;
pub mod program;
