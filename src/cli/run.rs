//! `plan` and `run`.

use super::front::{self, Loaded, Outcome, Stop};
use crate::compile::{self, Confinement};
use crate::host::{self, Host};
use crate::launch::{self, Failure, state::Home};
use crate::machine::console::{self, End};
use crate::machine::ids;
use crate::plan::{self, Action, Plan};
use crate::policy::process::Userns;
use std::path::Path;

/// Exit code when nothing was run.
const NOTHING: u8 = 125;

pub(super) fn plan(file: &Path, machine: Option<&str>, json: bool) -> Outcome {
    let mut loaded = front::load(file)?;
    if loaded.report() {
        return Ok(2);
    }
    let home = home()?;
    let (plan, _) = match make(&mut loaded, machine, &home, &[])? {
        Some(p) => p,
        // E06xx: the policy is fine, this host can't.
        None => return Ok(if loaded.diagnostics.only("E06") { 3 } else { 2 }),
    };
    if json {
        let text = serde_json::to_string_pretty(&plan).map_err(|e| Stop::host(e.to_string()))?;
        front::print(&format!("{text}\n"))?;
    } else {
        front::print(&plan.to_string())?;
    }
    Ok(0)
}

pub(super) fn run(file: &Path, machine: Option<&str>) -> Outcome {
    run_checked(file, machine).map_err(|s| Stop { code: NOTHING, ..s })
}

fn run_checked(file: &Path, machine: Option<&str>) -> Outcome {
    let mut loaded = front::load(file)?;
    if loaded.report() {
        return Ok(NOTHING);
    }
    standard_descriptors()?;
    let home = home()?;
    home.collect().map_err(|e| Stop::host(format!("can't clean up after machines that are gone: {e}")))?;
    let mut taken = Vec::new();
    loop {
        let (plan, host) = match make(&mut loaded, machine, &home, &taken)? {
            Some(p) => p,
            None => return Ok(NOTHING),
        };
        launch::binary::seal_if_needed(&plan)
            .map_err(|e| Stop::host(format!("can't run from a sealed copy of this program: {e}")))?;
        let signals = console::block_signals().map_err(|e| Stop::host(format!("can't block signals: {}", e.desc())))?;
        tracing::info!(machine = %plan.machine, steps = plan.steps().len(), "launching");
        let running = match launch::launch(&plan, home.clone()) {
            Ok(m) => m,
            // Another machine took the range between the look and the lock.
            Err(f) if f.ids_taken && taken.len() < 16 && is_auto(&loaded, machine) => {
                taken.extend(host.free_ids);
                continue;
            }
            Err(f) => return Ok(failed(&plan, &f)),
        };
        tracing::info!(program = running.program, digest = %running.digest, "running");
        let boots = plan.steps().iter().any(|s| matches!(s.action, Action::ForkProgram { own_pids: true }));
        let end = console::attend(&running, &signals, boots)
            .map_err(|e| Stop::host(format!("lost the machine: {}", e.desc())));
        if let Err(e) = running.finish() {
            // The program ran: its exit code stands, and the next command cleans up.
            front::say(&format!("can't clean up after the machine: {e}"));
        }
        match end? {
            End::Killed => return Ok(137),
            // reboot(2) in a PID namespace: SIGHUP asks for a restart, SIGINT for power-off.
            End::Program(s) if boots && s.signal() == Some(libc::SIGHUP) => {
                tracing::info!("the machine restarts");
            }
            End::Program(s) if boots && s.signal() == Some(libc::SIGINT) => return Ok(0),
            End::Program(s) => return Ok(code(s)),
        }
    }
}

/// The program's exit code, or 128+n for signal n.
fn code(s: crate::sys::process::Status) -> u8 {
    let code = s.code().or_else(|| s.signal().map(|n| 128 + n)).unwrap_or(255);
    u8::try_from(code).unwrap_or(255)
}

fn failed(plan: &Plan, f: &Failure) -> u8 {
    let mut text = format!("error: machine `{}` was not started: {}", plan.machine, f.text);
    if let Some(step) = f.step.checked_sub(1).and_then(|i| plan.steps().get(i)) {
        text.push_str(&format!("\n  at step {}: {}\n  because of {}", f.step, step.action, step.origin));
    }
    if let Some(help) = &f.help {
        text.push_str(&format!("\n  help: {help}"));
    }
    front::say(&text);
    f.code
}

fn is_auto(loaded: &Loaded, machine: Option<&str>) -> bool {
    loaded.machine(machine).is_ok_and(|m| m.userns.value == Userns::Auto)
}

pub(super) fn home() -> Result<Home, Stop> {
    Home::open(nix::unistd::geteuid().as_raw()).map_err(|e| Stop::host(format!("can't open the state folder: {e}")))
}

/// Compiles for this host and builds the plan; `None` when errors were reported.
fn make(loaded: &mut Loaded, machine: Option<&str>, home: &Home, taken: &[u32]) -> Result<Option<(Plan, Host)>, Stop> {
    let Some((confinement, host)) = confine(loaded, machine, home, taken)? else { return Ok(None) };
    let plan = plan::build(&confinement)
        .map_err(|v| Stop::host(format!("the plan breaks a rule of its own ({v}): please report this")))?;
    Ok(Some((plan, host)))
}

/// What the kernel of this host would be told; `None` when errors were reported.
pub(super) fn confine(
    loaded: &mut Loaded,
    machine: Option<&str>,
    home: &Home,
    taken: &[u32],
) -> Result<Option<(Confinement, Host)>, Stop> {
    let policy = loaded.machine(machine)?.clone();
    let mut host = front::probe(&policy)?;
    if host.privileged {
        host.free_ids = ids::pick(home, &policy.name, &host::used_ids(), taken);
    }
    let mut fresh = crate::diagnostic::Diagnostics::default();
    let compiled = compile::compile(&policy, &host, &loaded.sources, &mut fresh);
    loaded.diagnostics = fresh;
    if loaded.report() {
        return Ok(None);
    }
    match compiled {
        Some(c) => Ok(Some((c, host))),
        None => {
            Err(Stop::host("the policy can't be compiled for this host, and no reason was given: please report this"))
        }
    }
}

/// A closed standard descriptor would give its number to something of ours. One that is a folder, a disk or
/// only a path would be a way out: openat(2) goes on from it into the host's tree.
fn standard_descriptors() -> Result<(), Stop> {
    loop {
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(|e| Stop::host(format!("can't open /dev/null: {e}")))?;
        let number = std::os::fd::IntoRawFd::into_raw_fd(null);
        if number > 2 {
            nix::unistd::close(number).map_err(|e| Stop::host(e.desc()))?;
            break;
        }
    }
    for number in 0..=2 {
        let kind = crate::sys::process::descriptor_kind(number).map_err(|e| Stop::host(e.desc()))?;
        if let Some(what) = kind {
            return Err(Stop::usage(format!(
                "standard descriptor {number} is {what}, and the machine would get it: redirect it to a file, a pipe or /dev/null"
            )));
        }
    }
    Ok(())
}
