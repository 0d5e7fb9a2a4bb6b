//! The processes between `clone` and `exec`: each waits for its turn, performs its steps, passes on.
//!
//! Nothing here allocates, locks, logs or panics; every exit is `_exit`.

use super::baton::{self, Baton, Detail, Kind};
use super::prepare::{Made, Op, Work};
use super::{builder_lane, program_lane};
use crate::plan::Lane;
use crate::sys::confine;
use crate::sys::process::{self, Side};
use nix::errno::Errno;
use std::os::fd::AsFd;

/// Why a step failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) detail: Detail,
    pub(super) errno: Errno,
}

/// The children's ends of the three sockets, as plain numbers: the children own nothing.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) builder: i32,
    pub(super) init: i32,
    pub(super) program: i32,
}

/// Exit code of a child that lost its supervisor or failed; the reason went over the socket.
const GONE: i32 = 125;

fn close(fd: i32) {
    // A number that isn't open any more is no fault: each process closes what it doesn't use.
    nix::unistd::close(fd).unwrap_or(());
}

/// Closes every descriptor from 3 on but these.
fn close_all_but(mut keep: [i32; 3]) -> Result<(), Errno> {
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep {
        if fd > from {
            process::close_range(from.unsigned_abs(), (fd - 1).unsigned_abs(), false)?;
        }
        from = fd + 1;
    }
    process::close_range(from.unsigned_abs(), u32::MAX, false)
}

/// Waits for the baton; without a supervisor there is nothing left to do.
fn turn(socket: i32) -> (usize, i32, Option<std::os::fd::OwnedFd>) {
    match baton::receive(socket) {
        Ok(Some((b, received))) if b.kind == Kind::Pass => (usize::from(b.step), b.value, received.passed),
        _ => process::exit(GONE),
    }
}

fn give_up(socket: i32, step: usize, fault: Fault) -> ! {
    // If even this can't be sent the supervisor sees the end of the socket instead.
    Baton::failed(step, fault.detail, fault.errno).send(socket, None).unwrap_or(());
    process::exit(GONE)
}

fn pass(socket: i32, step: usize, value: i32, fd: Option<std::os::fd::BorrowedFd<'_>>) {
    if Baton::new(Kind::Pass, step, value).send(socket, fd).is_err() {
        process::exit(GONE);
    }
}

/// The builder, from clone to its end.
pub(super) fn builder(ops: &[Op], ends: Ends) -> ! {
    // The supervisor's ends, so that its death is their end; and its locks, so that none of us holds one
    // for a moment longer than it.
    if close_all_but([ends.builder, ends.init, ends.program]).is_err() {
        process::exit(GONE);
    }
    let me = ends.builder;
    let mut r = builder_lane::Registers::default();
    let needs_userns = ops.iter().any(|o| {
        matches!(&o.work, Work::Mount { made: Made::Bind { idmap: true, .. } | Made::Overlay { idmap: true, .. }, .. })
    });
    loop {
        let (mut step, value, passed) = turn(me);
        if let Some(fd) = passed {
            r.program = Some(fd);
            r.program_pid = value;
        }
        let mut report = 0;
        while let Some(op) = ops.get(step).filter(|o| o.lane == Lane::Builder) {
            let done = match &op.work {
                Work::ResetInherited => builder_lane::reset_inherited(),
                Work::CloneInit { namespaces, owner } => match clone_for(*owner, *namespaces) {
                    Ok(Side::Child) => init(ops, ends),
                    Ok(Side::Parent(pid)) => {
                        (r.init, report) = (pid, pid);
                        close(ends.init);
                        close(ends.program);
                        Ok(())
                    }
                    Err(e) => Err(e.into()),
                },
                Work::JoinProgram(namespaces) => match builder_lane::join(*namespaces, needs_userns, &mut r) {
                    // The PID namespace is entered by the next child only.
                    Ok(()) => match process::clone(0, false) {
                        Ok(Side::Child) => Ok(()),
                        Ok(Side::Parent(pid)) => stand_by(me, pid),
                        Err(e) => Err(e.into()),
                    },
                    Err(f) => Err(f),
                },
                work => builder_lane::perform(work, &mut r),
            };
            if let Err(fault) = done {
                give_up(me, step, fault);
            }
            step += 1;
        }
        let master = r.master.take();
        pass(me, step, report, master.as_ref().map(|m| m.as_fd()));
        if !ops.iter().skip(step).any(|o| o.lane == Lane::Builder) {
            process::exit(0);
        }
    }
}

/// Clones the machine's first process. A user namespace belongs to the effective uid that makes it; the builder wears
/// that uid for this one call, and keeps its capabilities: some hosts let nobody else make one.
fn clone_for(owner: Option<u32>, namespaces: u64) -> Result<Side, Errno> {
    let Some(owner) = owner else { return process::clone(namespaces, true) };
    let own = confine::effective_uid();
    confine::set_effective_uid(owner)?;
    let all = confine::permitted()?;
    confine::set_capabilities(all, all, 0)?;
    let side = process::clone(namespaces, true)?;
    if let Side::Parent(_) = side {
        // Back to root, and the effective capabilities come back with it (capabilities(7)).
        confine::set_effective_uid(own)?;
    }
    Ok(side)
}

/// The builder that waits for its child in the machine's PID namespace.
fn stand_by(socket: i32, pid: i32) -> ! {
    close(socket);
    let status = process::wait(pid, false).ok().flatten().and_then(|(_, s)| s.code());
    process::exit(status.unwrap_or(GONE))
}

/// The machine's first process.
fn init(ops: &[Op], ends: Ends) -> ! {
    close(ends.builder);
    let me = ends.init;
    let mut program = 0;
    loop {
        let (mut step, ..) = turn(me);
        while let Some(op) = ops.get(step).filter(|o| o.lane == Lane::Init) {
            let done = match &op.work {
                Work::ForkProgram { namespaces } => match process::clone(*namespaces, false) {
                    Ok(Side::Child) => program_process(ops, ends),
                    Ok(Side::Parent(pid)) => {
                        program = pid;
                        close(ends.program);
                        Ok(())
                    }
                    Err(e) => Err(e.into()),
                },
                Work::ConfineInit => program_lane::confine_init(),
                work => program_lane::perform(work),
            };
            if let Err(fault) = done {
                give_up(me, step, fault);
            }
            step += 1;
        }
        pass(me, step, 0, None);
        if program != 0 {
            reap(me, program);
        }
    }
}

/// Waits for the machine's end: reaps orphans, passes signals on, reports how the program ended.
fn reap(me: i32, program: i32) -> ! {
    // Blocked, so that one that arrives between the wait and the poll is not lost.
    if process::set_blocked(u64::MAX).is_err() {
        process::exit(GONE);
    }
    let Ok(children) = process::child_signals() else { process::exit(GONE) };
    // Everything but the socket and the signals goes: nothing of the host stays open in here.
    if keep_only(me, children).is_err() {
        process::exit(GONE);
    }
    let (me, children) = (0, 1);
    loop {
        let mut fds = [me, children].map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        if process::poll(&mut fds, None).is_err() {
            continue;
        }
        let [socket, signals] = fds;
        if signals.revents != 0 {
            let mut info = [0u8; 128];
            process::read(children, &mut info).unwrap_or(0);
            loop {
                match process::wait(-1, true) {
                    Ok(Some((pid, status))) if pid == program => {
                        Baton::new(Kind::Ended, 0, status.0).send(me, None).unwrap_or(());
                        process::exit(0);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    // The signal is consumed: who can't wait now would wait for ever.
                    Err(_) => process::exit(GONE),
                }
            }
        }
        if socket.revents != 0 {
            match baton::receive(me) {
                Ok(Some((b, _))) if b.kind == Kind::Signal => process::kill(program, b.value).unwrap_or(()),
                Ok(Some(_)) => {}
                _ => process::exit(GONE),
            }
        }
    }
}

/// The socket becomes descriptor 0 and the signals 1; all others are closed.
fn keep_only(socket: i32, signals: i32) -> Result<(), Errno> {
    // Neither is below 3: the standard descriptors are always open.
    process::dup_onto(socket, 0)?;
    process::dup_onto(signals, 1)?;
    process::close_from(2, false)
}

/// The process that becomes the program.
fn program_process(ops: &[Op], ends: Ends) -> ! {
    close(ends.init);
    let me = ends.program;
    if Baton::new(Kind::Hello, 0, 0).send(me, None).is_err() {
        process::exit(GONE);
    }
    loop {
        let (mut step, ..) = turn(me);
        while let Some(op) = ops.get(step).filter(|o| o.lane == Lane::Program) {
            if let Err(fault) = program_lane::perform(&op.work) {
                if matches!(op.work, Work::Exec { .. }) {
                    exec_failed(me, step, fault);
                }
                give_up(me, step, fault);
            }
            step += 1;
        }
        pass(me, step, 0, None);
    }
}

/// After the filter is loaded even a report may be refused; the exit code says the same.
fn exec_failed(me: i32, step: usize, fault: Fault) -> ! {
    let code = if fault.errno == Errno::ENOENT { 127 } else { 126 };
    let report = Baton::failed(step, fault.detail, fault.errno);
    if report.send(me, None).is_err() {
        // A filter without sendmsg may well have write.
        report.write(me).unwrap_or(());
    }
    process::exit(code)
}
