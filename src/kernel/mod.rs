//! Tables of the kernel's interface: system calls, their arguments, named constants. Facts, no logic.

pub mod calls;
pub mod constants;
pub mod frequency;
pub mod numbers;
