//! The second generator: libseccomp, to hold our own against.
//!
//! Our preamble decides architecture, foreign ABIs and numbers that nobody reviewed; libseccomp makes the
//! rest from disjoint sets of MASKED_EQ comparisons. It is given numbers from our table, runs in a child
//! with a time limit, and what it makes is proved like everything else.

use super::seccomp::Regions;
use crate::kernel::calls;
use crate::kernel::numbers::Arch;
use crate::policy::Policy;
use crate::policy::syscalls::{Action, ENOSYS, EPERM};
use crate::proof::bpf::{self, JEQ, JGE, JGT, JSET, jump, load, ret};
use crate::sys::confine::Instruction;
use crate::sys::process::{self, Side};
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

/// Does the libseccomp of this host know the name of a call? Who makes a filter of names leaves the others out.
pub fn knows(name: &str) -> bool {
    ScmpSyscall::from_name(name).is_ok()
}

/// How long libseccomp may take.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The whole program, or why there is none.
pub(super) fn program(policy: &Policy, arch: Arch, regions: &[Regions]) -> Result<Vec<Instruction>, String> {
    let mut out = preamble(policy, arch, regions);
    out.extend(generate(|| export(regions))?);
    bpf::check(&out).map_err(|e| e.to_string())?;
    Ok(out)
}

/// Architecture, foreign ABIs, and numbers that are newer than what was reviewed or don't exist.
fn preamble(policy: &Policy, arch: Arch, regions: &[Regions]) -> Vec<Instruction> {
    let kill = bpf::encode(Action::Kill);
    let absent = bpf::encode(Action::Errno(ENOSYS));
    let mut out = vec![load(4), jump(JEQ, arch.audit(), 1, 0), ret(kill), load(0)];
    if arch == Arch::X86_64 {
        // The x32 bit; -1 is what a tracer writes to skip a call, and belongs to no ABI.
        out.extend([jump(JSET, 0x4000_0000, 0, 3), jump(JEQ, u32::MAX, 0, 1), ret(absent), ret(kill)]);
    }
    let last = arch.last();
    let unreviewed = |n: u32| {
        let since = arch.name(n).and_then(calls::find).map(|c| c.since);
        !regions.iter().any(|r| r.number() == n) && since.is_none_or(|s| s > policy.kernel)
    };
    let mut n = 0;
    while n <= last {
        if !unreviewed(n) {
            n += 1;
            continue;
        }
        let start = n;
        while n <= last && unreviewed(n) {
            n += 1;
        }
        if n > last {
            out.extend([jump(JGE, start, 0, 1), ret(absent)]);
            return out;
        }
        out.extend([jump(JGE, start, 0, 2), jump(JGT, n - 1, 1, 0), ret(absent)]);
    }
    out.extend([jump(JGT, last, 0, 1), ret(absent)]);
    out
}

/// A rule as seccomp_rule_add_exact(3) takes it.
pub struct Given {
    /// The call's number.
    pub number: u32,
    /// What happens.
    pub action: Action,
    /// All of these hold.
    pub compares: Vec<ScmpArgCompare>,
}

/// What libseccomp makes of rules in this order, at an optimisation level: the whole filter of this architecture.
pub fn of_rules(default: Action, rules: &[Given], level: u32) -> Result<Vec<Instruction>, String> {
    let program = generate(|| {
        let text = |e: libseccomp::error::SeccompError| e.to_string();
        let mut f = ScmpFilterContext::new(answer(default)).map_err(text)?;
        f.set_ctl_optimize(level).map_err(text)?;
        for r in rules {
            let number = ScmpSyscall::from(i32::try_from(r.number).map_err(|e| e.to_string())?);
            f.add_rule_conditional_exact(answer(r.action), number, &r.compares).map_err(text)?;
        }
        Ok(f)
    })?;
    bpf::check(&program).map_err(|e| e.to_string())?;
    Ok(program)
}

fn answer(action: Action) -> ScmpAction {
    match action {
        Action::Allow => ScmpAction::Allow,
        Action::Log => ScmpAction::Log,
        Action::Errno(e) => ScmpAction::Errno(i32::from(e)),
        Action::Kill => ScmpAction::KillProcess,
    }
}

/// Runs libseccomp in a child and takes the program from a pipe.
fn generate(build: impl FnOnce() -> Result<ScmpFilterContext, String>) -> Result<Vec<Instruction>, String> {
    let (mut reader, writer) = std::io::pipe().map_err(|e| e.to_string())?;
    let pid = match process::fork().map_err(|e| e.to_string())? {
        Side::Child => {
            drop(reader);
            let done = build().and_then(|f| f.export_bpf(writer.as_fd()).map_err(|e| e.to_string()));
            process::exit(i32::from(done.is_err()));
        }
        Side::Parent(pid) => pid,
    };
    drop(writer);
    let deadline = Instant::now() + TIME_LIMIT;
    let mut bytes = Vec::new();
    let read = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        let ready = process::poll(&mut fds, Some(i64::try_from(left.as_millis()).unwrap_or(0)));
        match ready {
            Ok(0) => break Err(format!("libseccomp took longer than {} s", TIME_LIMIT.as_secs())),
            Ok(_) => {
                let mut chunk = [0u8; 65536];
                match reader.read(&mut chunk) {
                    Ok(0) => break Ok(()),
                    Ok(n) => bytes.extend(chunk.iter().take(n)),
                    Err(e) => break Err(e.to_string()),
                }
                if bytes.len() > 16 * bpf::MOST {
                    break Err("libseccomp made a program beyond the kernel's limit".into());
                }
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => break Err(e.to_string()),
        }
    };
    if read.is_err() {
        process::kill(pid, libc::SIGKILL).map_err(|e| e.to_string())?;
    }
    let status = process::wait(pid, false).map_err(|e| e.to_string())?;
    read?;
    if status.and_then(|(_, s)| s.code()) != Some(0) {
        return Err("libseccomp refused the rules".into());
    }
    if bytes.len() % 8 != 0 {
        return Err("libseccomp's output is cut off".into());
    }
    let mut program = Vec::new();
    for chunk in bytes.chunks_exact(8) {
        if let [c0, c1, jt, jf, k0, k1, k2, k3] = *chunk {
            program.push(Instruction {
                code: u16::from_le_bytes([c0, c1]),
                jt,
                jf,
                k: u32::from_le_bytes([k0, k1, k2, k3]),
            });
        }
    }
    Ok(program)
}

/// The rules as libseccomp takes them. Runs in the child.
fn export(regions: &[Regions]) -> Result<ScmpFilterContext, String> {
    let text = |e: libseccomp::error::SeccompError| e.to_string();
    let mut f = ScmpFilterContext::new(ScmpAction::Errno(i32::from(EPERM))).map_err(text)?;
    f.set_act_badarch(ScmpAction::KillProcess).map_err(text)?;
    for r in regions {
        let number = ScmpSyscall::from(i32::try_from(r.number()).map_err(|e| e.to_string())?);
        for (action, cubes) in r.sets() {
            // The filter's default.
            if *action == Action::Errno(EPERM) {
                continue;
            }
            for c in cubes {
                let compare: Vec<ScmpArgCompare> = (0u32..)
                    .zip(c.mask.iter().zip(&c.value))
                    .filter(|(_, (mask, _))| **mask != 0)
                    .map(|(i, (mask, value))| ScmpArgCompare::new(i, ScmpCompareOp::MaskedEqual(*mask), *value))
                    .collect();
                f.add_rule_conditional(answer(*action), number, &compare).map_err(text)?;
            }
        }
    }
    Ok(f)
}
