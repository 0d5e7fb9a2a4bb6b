//! A running machine, seen from outside: its terminal, its ids, its end.

pub mod console;
pub mod ids;
