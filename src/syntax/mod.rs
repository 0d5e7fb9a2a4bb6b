//! What was written: shapes, spans and comments. Knows no keyword and no meaning.

pub mod ast;
mod build;
mod grammar;
pub mod packed;
pub mod print;

pub use build::parse;
