//! Carrying out a plan. Knows the plan and nothing else of the policy.

mod baton;
pub mod binary;
mod builder_lane;
mod children;
pub mod forwarding;
mod groups;
mod host_lane;
mod netfilter;
mod netlink;
mod network_lane;
mod nft;
mod prepare;
mod program_lane;
pub mod readback;
mod running;
pub mod state;
mod watch;
pub mod zone;

pub use groups::{Usage, usage};
pub use host_lane::{Failure, Prove, launch};
pub use running::{Event, Machine, Met, Used, met};
