//! Carrying out a plan. Knows the plan and nothing else of the policy.

mod baton;
pub mod binary;
mod builder_lane;
mod children;
mod host_lane;
mod prepare;
mod program_lane;
pub mod readback;
pub mod state;

pub use host_lane::{Event, Failure, Machine, launch};
