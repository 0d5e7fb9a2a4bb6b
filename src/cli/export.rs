//! `export`: a machine's parts for other programs.

use super::front::{self, Outcome, Stop};
use crate::compile;
use crate::diagnostic::Diagnostics;
use crate::kernel::numbers::Arch;
use crate::plan::step::Program;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

/// The proved filter as the bytes that seccomp(2) takes: what bubblewrap reads from `--seccomp` and
/// `--add-seccomp-fd`. It is the very program that `run` would load, so there is nothing to lose; what is
/// outside of system calls is for the other program to say.
pub(super) fn bpf(file: &Path, machine: Option<&str>) -> Outcome {
    let mut l = front::load(file)?;
    let mut d = Diagnostics::default();
    let filter =
        if l.diagnostics.has_errors() { None } else { compile::portable(l.machine(machine)?, Arch::NATIVE, &mut d) };
    for x in d.iter() {
        l.diagnostics.push(x.clone());
    }
    let (false, Some(filter)) = (l.report(), filter) else { return Ok(2) };
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        return Err(Stop::usage("a filter is bytes: redirect it, as in `11> >(...)` or `> nginx.bpf`"));
    }
    out.write_all(&Program(filter.program).bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Stop::host(format!("can't write the filter: {e}")))?;
    Ok(0)
}
