//! `plan` and `run`.

use super::front::{self, Loaded, Outcome, Stop};
use super::language::print_json;
use crate::address::Block;
use crate::compile::{self, Confinement, Unproved, network, seccomp};
use crate::host::{self, Host};
use crate::launch::{self, Failure, state::Home};
use crate::machine::console::{self, End};
use crate::machine::ids;
use crate::plan::{self, Action, Plan};
use crate::policy::Policy;
use crate::policy::network::Network;
use crate::policy::process::Userns;
use crate::sys::confine::Instruction;
use std::path::Path;

/// Exit code when nothing was run.
const NOTHING: u8 = 125;

pub(super) fn plan(file: &Path, machine: Option<&str>, json: bool) -> Outcome {
    let mut loaded = front::load(file)?;
    if loaded.report() {
        return Ok(2);
    }
    let Some(confinement) = confine(&mut loaded, machine, &home()?)? else {
        return Ok(loaded.diagnostics.exit_code());
    };
    let plan = build(&confinement)?;
    if json {
        print_json(&serde_json::json!({ "version": 1, "machine": plan.machine, "steps": plan.steps() }))?;
    } else {
        front::print(&plan.to_string())?;
    }
    Ok(0)
}

pub(super) fn run(file: &Path, machine: Option<&str>, report: Option<&Path>) -> Outcome {
    run_checked(file, machine, report).map_err(|s| Stop { code: NOTHING, ..s })
}

/// What another machine took between the look and the lock.
#[derive(Default)]
pub(super) struct Taken {
    ids: Vec<u32>,
    subnets: Vec<u16>,
}

/// Removes what machines left whose supervisors were killed.
pub(super) fn clean(home: &Home) -> Result<(), Stop> {
    let cleaned =
        home.collect().map_err(|e| Stop::host(format!("can't clean up after machines that are gone: {e}")))?;
    for fault in cleaned.faults {
        front::say(&format!("warning: can't clean up after what is gone: {fault}"));
    }
    Ok(())
}

fn run_checked(file: &Path, machine: Option<&str>, report: Option<&Path>) -> Outcome {
    let mut loaded = front::load(file)?;
    if loaded.report() {
        return Ok(NOTHING);
    }
    standard_descriptors()?;
    let home = home()?;
    clean(&home)?;
    let (mut taken, mut tries) = (Taken::default(), 0);
    let mut deadline = None;
    // Said at once when it can't be written, not after the machine's end.
    let mut report = report.map(Report::open).transpose()?;
    loop {
        let Some(Made { policy, unproved, host }) = make(&mut loaded, machine, &home, &taken)? else {
            return Ok(NOTHING);
        };
        let plan = build(&unproved.proved_at_launch())?;
        let prove = |program: &[Instruction]| seccomp::prove(&policy, host.arch, program);
        launch::binary::seal_if_needed(&plan)
            .map_err(|e| Stop::host(format!("can't run from a sealed copy of this program: {e}")))?;
        let signals = console::block_signals().map_err(|e| Stop::host(format!("can't block signals: {}", e.desc())))?;
        tracing::info!(machine = %plan.machine, steps = plan.steps().len(), "launching");
        let mut running = match launch::launch(&plan, home.clone(), &prove) {
            Ok(m) => m,
            // Another machine took the range between the look and the lock.
            Err(f) if f.ids_taken && tries < 16 && may_choose(&loaded, machine, &host) => {
                tries += 1;
                taken.ids.extend(host.free_ids.filter(|id| !home.ids_free(*id, 1)));
                let zone = host.network.zone;
                taken.subnets.extend(host.network.subnet.filter(|n| !home.subnet_free(zone, *n)));
                continue;
            }
            Err(f) => return Ok(failed(&plan, &f)),
        };
        tracing::info!(program = running.program, digest = %running.digest, "running");
        // One for all its starts: a system that restarts itself has no more time than one that doesn't.
        deadline = deadline.or(running.deadline);
        running.deadline = deadline;
        let boots = plan.steps().iter().any(|s| matches!(s.action, Action::ForkProgram { own_pids: true }));
        let end = console::attend(&running, &signals, boots).unwrap_or_else(|e| {
            // It is ended below, and had run.
            front::say(&format!("lost the machine: {}", e.desc()));
            End::Killed
        });
        let (used, cleaned) = running.finish();
        if let Err(e) = cleaned {
            // The program ran: its exit code stands, and the next command cleans up.
            front::say(&format!("can't clean up after the machine: {e}"));
        }
        let code = match end {
            End::Killed | End::Timeout => Some(137),
            // reboot(2) in a PID namespace: SIGHUP asks for a restart, SIGINT for power-off.
            End::Program(s) if boots && s.signal() == Some(libc::SIGHUP) => None,
            End::Program(s) if boots && s.signal() == Some(libc::SIGINT) => Some(0),
            End::Program(s) => Some(code(s)),
        };
        told(&plan, &end, &used.limits);
        if let Some(r) = &mut report {
            // The program ran: its exit code stands.
            r.write(&plan, &end, code, &used).unwrap_or_else(|e| front::say(&e.to_string()));
        }
        match code {
            Some(code) => return Ok(code),
            None => tracing::info!("the machine restarts"),
        }
    }
}

/// Limits that were met, each with its line. Silent when none was.
fn told(plan: &Plan, end: &End, met: &[launch::Met]) {
    for m in met {
        let met = match m.count {
            Some(count) => format!("was met: {count} {}", m.meaning),
            None => format!("may have been met, its count can't be read: {}", m.meaning),
        };
        front::say(&format!("machine `{}`: `{}` {met} ({})", plan.machine, m.limit, m.line));
    }
    let deadline = plan.steps().iter().find(|s| matches!(s.action, Action::Deadline { .. }));
    if let (End::Timeout, Some(s)) = (end, deadline) {
        front::say(&format!("machine `{}`: its time was over ({})", plan.machine, s.origin));
    }
}

/// What `run --report` writes: one line of JSON for each end of the machine.
struct Report {
    file: std::fs::File,
    /// What an earlier run reported is still there: it goes when there is something to say, not before.
    stale: bool,
}

impl Report {
    fn open(path: &Path) -> Result<Report, Stop> {
        use std::os::unix::fs::OpenOptionsExt as _;
        // Never through a link that somebody planted.
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(|e| Stop::usage(format!("can't write the report to {}: {e}", path.display())))?;
        Ok(Report { file, stale: true })
    }

    fn write(&mut self, plan: &Plan, end: &End, code: Option<u8>, used: &launch::Used) -> Result<(), Stop> {
        use std::io::Write as _;
        let ended = match end {
            End::Killed => "killed",
            End::Timeout => "timeout",
            End::Program(_) if code.is_none() => "restart",
            End::Program(_) => "program",
        };
        let line = serde_json::json!({
            "version": 1, "machine": plan.machine, "ended": ended, "code": code, "limits": used.limits, "pressure": used.pressure
        });
        // A line that isn't whole is none.
        let failed = |e| Stop::host(format!("can't write the report: {e}"));
        // What isn't a file of its own, as /dev/stdout, has no end to set.
        if std::mem::take(&mut self.stale) && self.file.metadata().is_ok_and(|m| m.is_file()) {
            self.file.set_len(0).map_err(failed)?;
        }
        let before = self.file.metadata().map_or(0, |m| m.len());
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(|e| {
            self.file.set_len(before).unwrap_or(());
            failed(e)
        })
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

/// Could another plan take other ids or another subnet?
fn may_choose(loaded: &Loaded, machine: Option<&str>, host: &Host) -> bool {
    host.network.subnet.is_some() || loaded.machine(machine).is_ok_and(|m| m.userns.value == Userns::Auto)
}

pub(super) fn home() -> Result<Home, Stop> {
    Home::open(nix::unistd::geteuid().as_raw()).map_err(|e| Stop::host(format!("can't open the state folder: {e}")))
}

fn build(confinement: &Confinement) -> Result<Plan, Stop> {
    plan::build(confinement)
        .map_err(|v| Stop::host(format!("the plan breaks a rule of its own ({v}): please report this")))
}

/// What the kernel of this host would be told; `None` when errors were reported.
pub(super) fn confine(loaded: &mut Loaded, machine: Option<&str>, home: &Home) -> Result<Option<Confinement>, Stop> {
    let Some(Made { policy, unproved, .. }) = make(loaded, machine, home, &Taken::default())? else { return Ok(None) };
    let confinement = unproved.proved(&policy, &mut loaded.diagnostics);
    if confinement.is_none() {
        loaded.report();
    }
    Ok(confinement)
}

/// A policy compiled for this host.
struct Made {
    policy: Policy,
    unproved: Unproved,
    host: Host,
}

/// Compiles for this host; `None` when errors were reported.
fn make(loaded: &mut Loaded, machine: Option<&str>, home: &Home, taken: &Taken) -> Result<Option<Made>, Stop> {
    let policy = loaded.machine(machine)?.clone();
    let mut host = front::probe(&policy)?;
    if host.privileged {
        let used = host::used_ids().map_err(|e| Stop::host(format!("can't tell which ids are in use: {e}")))?;
        host.free_ids = ids::pick(home, &policy.name, &used, &taken.ids);
        place(&policy, &mut host, home, &taken.subnets)?;
    }
    let mut fresh = crate::diagnostic::Diagnostics::default();
    let compiled = compile::compile(&policy, &host, &loaded.sources, &mut fresh);
    loaded.diagnostics = fresh;
    if loaded.report() {
        return Ok(None);
    }
    match compiled {
        Some(unproved) => Ok(Some(Made { policy, unproved, host })),
        None => {
            Err(Stop::host("the policy can't be compiled for this host, and no reason was given: please report this"))
        }
    }
}

/// The part of the host's facts that running machines decide: forwarding as it was before them, a free subnet.
pub(super) fn place(policy: &Policy, host: &mut Host, home: &Home, taken: &[u16]) -> Result<(), Stop> {
    if !policy.network.value.is_routed() {
        return Ok(());
    }
    let count = match &policy.network.value {
        Network::Zone(name) => {
            host.network.zone = launch::zone::number(home, name, network::ZONE_COUNT)
                .map_err(|e| Stop::host(format!("can't read which zones there are: {e}")))?;
            network::MEMBERS
        }
        _ => network::SUBNETS,
    };
    let zone = host.network.zone;
    let used = host.network.used.clone();
    let pool = network::pool(&used);
    let overlaps = |n| {
        network::subnet(pool, zone, n).iter().any(|i| {
            let own = Block { address: i.address, prefix: i.prefix }.first();
            used.iter().any(|b| b.overlaps(own))
        })
    };
    host.network.subnet =
        ids::pick_subnet(home, &policy.name, &ids::Subnets { zone, count, overlaps: &overlaps }, taken);
    Ok(())
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
