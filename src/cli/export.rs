//! `export`: a machine's parts for other programs.

use super::front::{self, Loaded, Outcome, Stop};
use super::run;
use crate::compile::{self, Confinement};
use crate::diagnostic::Diagnostics;
use crate::exchange::export::{self, Exported};
use crate::exchange::{kubernetes, oci, unit_file};
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
    let (false, Some(filter)) = (l.report(), filter) else { return Ok(l.diagnostics.exit_code()) };
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        return Err(Stop::usage("a filter is bytes: redirect it, as in `11> >(...)` or `> nginx.bpf`"));
    }
    match out.write_all(&Program(filter.program).bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Stop::host(format!("can't write the filter: {e}"))),
        _ => Ok(0),
    }
}

/// Loads a policy and compiles it for this host; the exit code when errors were reported.
fn confined(file: &Path, machine: Option<&str>) -> Result<Result<(Loaded, Confinement), u8>, Stop> {
    let mut l = front::load(file)?;
    if l.report() {
        return Ok(Err(l.diagnostics.exit_code()));
    }
    Ok(match run::confine(&mut l, machine, &run::home()?)? {
        Some(c) => Ok((l, c)),
        None => Err(l.diagnostics.exit_code()),
    })
}

/// The file goes to standard output, each loss to standard error; 1 when something was lost.
fn said(made: Result<Exported, String>) -> Outcome {
    let made = made.map_err(|e| Stop::usage(format!("can't be exported: {e}")))?;
    front::print(&made.text)?;
    for line in &made.lost {
        front::say(&format!("lost: {line}"));
    }
    Ok(u8::from(!made.lost.is_empty()))
}

/// A seccomp profile of Docker's format.
pub(super) fn docker(file: &Path, machine: Option<&str>) -> Outcome {
    let mut l = front::load(file)?;
    if l.report() {
        return Ok(l.diagnostics.exit_code());
    }
    let mut d = Diagnostics::default();
    let policy = l.machine(machine)?.clone();
    if compile::portable(&policy, Arch::NATIVE, &mut d).is_none() || d.has_errors() {
        l.diagnostics = d;
        l.report();
        return Ok(l.diagnostics.exit_code());
    }
    said(export::docker(&policy, Arch::NATIVE).and_then(|(profile, lost)| {
        let text = serde_json::to_string_pretty(&profile).map_err(|e| e.to_string())?;
        Ok(Exported { text: format!("{text}\n"), lost })
    }))
}

/// The config.json of a bundle.
pub(super) fn oci(file: &Path, machine: Option<&str>) -> Outcome {
    let (l, c) = match confined(file, machine)? {
        Ok(made) => made,
        Err(code) => return Ok(code),
    };
    let policy = l.machine(machine)?;
    said(
        export::docker(policy, Arch::NATIVE)
            .and_then(|(profile, lost)| oci::export(policy, &c, &l.sources, &profile, lost)),
    )
}

/// A Pod.
pub(super) fn kubernetes(file: &Path, machine: Option<&str>, image: &str) -> Outcome {
    let (l, c) = match confined(file, machine)? {
        Ok(made) => made,
        Err(code) => return Ok(code),
    };
    let policy = l.machine(machine)?;
    said(
        export::docker(policy, Arch::NATIVE)
            .and_then(|(_, lost)| kubernetes::export(policy, &c, &l.sources, image, lost)),
    )
}

/// A service.
pub(super) fn systemd(file: &Path, machine: Option<&str>) -> Outcome {
    let (l, c) = match confined(file, machine)? {
        Ok(made) => made,
        Err(code) => return Ok(code),
    };
    said(unit_file::export(l.machine(machine)?, &c, &l.sources, Arch::NATIVE))
}
