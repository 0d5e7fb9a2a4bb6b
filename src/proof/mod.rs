//! Exact reasoning about filters: what a policy means and what a program does, as diagrams that are
//! equal only when they agree on every call.

pub mod bpf;
pub mod diagram;
pub mod grants;
pub mod intent;
pub mod order;
pub mod program;

use crate::kernel::calls;
use crate::policy::meaning::Vector;

/// A concrete call as a person reads it: registers that are zero and not looked at are left out.
pub fn witness(name: &str, v: &Vector) -> String {
    let names = calls::find(name).map_or(&[][..], |c| c.args);
    let arguments: Vec<String> = (0..6)
        .zip(v.args)
        .filter(|(_, value)| *value != 0)
        .map(|(i, value)| match names.get(i) {
            Some(a) => format!("{}={value:#x}", a.name),
            None => format!("arg{i}={value:#x}"),
        })
        .collect();
    format!("{name}({})", arguments.join(", "))
}
