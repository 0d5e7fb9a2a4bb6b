//! In which order, by whom: the one value that is printed, compared and carried out.

mod build;
pub mod check;
mod explain;
pub mod step;

pub use build::build;
pub use step::{Action, Lane, Plan, Step};
