//! The supervisor's wait: passes terminal bytes and signals, ends with the machine.

use crate::launch::{Event, Machine};
use crate::sys::process::{self, Status};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, SetArg, Termios};
use std::io::IsTerminal as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The program ended.
    Program(Status),
    /// Killed from outside, by the escape sequence or by its init's death.
    Killed,
}

/// Ctrl-] three times within a second ends the machine.
const ESCAPE: u8 = 0x1d;

/// How long a terminal that nobody inside has open is left alone.
const PAUSE: Duration = Duration::from_millis(50);

/// Signals that are passed on.
const PASSED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Puts the caller's terminal back as it was.
struct Raw<'f> {
    terminal: BorrowedFd<'f>,
    before: Termios,
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        termios::tcsetattr(self.terminal, SetArg::TCSADRAIN, &self.before).unwrap_or(());
    }
}

/// Blocks the signals that [`attend`] reads. Call before the machine exists, so that none is lost.
pub fn block_signals() -> nix::Result<SignalFd> {
    let mut mask: SigSet = PASSED.into_iter().collect();
    mask.add(Signal::SIGWINCH);
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Waits for the machine's end. `boots`: a termination signal asks the init system to power off.
pub fn attend(machine: &Machine, signals: &SignalFd, boots: bool) -> nix::Result<End> {
    let input = std::io::stdin();
    let raw = match (&machine.terminal, input.is_terminal()) {
        (Some(_), true) => Some(raw_mode(input.as_fd())?),
        _ => None,
    };
    if raw.is_some() {
        resize(machine);
    }
    let mut reading = machine.terminal.is_some() && (raw.is_some() || boots);
    let mut escapes: Vec<Instant> = Vec::new();
    let mut asked = false;
    let mut hung_up = None;
    loop {
        let master = machine.terminal.as_ref().map_or(-1, |m| m.as_raw_fd());
        // While no process has the terminal open it only says so; another may open it later.
        let watched = if hung_up.is_some_and(|t: Instant| t.elapsed() < PAUSE) { -1 } else { master };
        let stdin = if reading { input.as_raw_fd() } else { -1 };
        let mut fds = [machine.events(), signals.as_raw_fd(), watched, stdin].map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        let timeout = hung_up.map(|_| i64::try_from(PAUSE.as_millis()).unwrap_or(0));
        match process::poll(&mut fds, timeout) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let [events, signal, output, typed] = fds.map(|f| f.revents != 0);
        if output {
            hung_up = if copy(master, 1) { None } else { Some(Instant::now()) };
        }
        if typed {
            let mut bytes = [0u8; 4096];
            match process::read(stdin, &mut bytes) {
                Ok(0) | Err(_) => reading = false,
                Ok(n) => {
                    let typed = bytes.get(..n).unwrap_or(&[]);
                    if raw.is_some() && escaped(typed, &mut escapes) {
                        machine.kill()?;
                    }
                    write_all(master, typed);
                }
            }
        }
        if signal {
            while let Ok(Some(info)) = signals.read_signal() {
                let number = i32::try_from(info.ssi_signo).unwrap_or(0);
                if number == libc::SIGWINCH {
                    resize(machine);
                } else if boots {
                    // systemd(1): SIGRTMIN+4 starts poweroff.target. Asked twice, it is ended.
                    if asked {
                        machine.kill()?
                    } else {
                        machine.signal(libc::SIGRTMIN() + 4).unwrap_or(())
                    }
                    asked = true;
                } else {
                    // A machine whose init is gone is noticed by its events.
                    machine.signal(number).unwrap_or(());
                }
            }
        }
        if events && let Some(event) = machine.event() {
            if machine.terminal.is_some() {
                drain(master);
            }
            return Ok(match event {
                Event::Ended(status) => End::Program(status),
                Event::Killed => End::Killed,
            });
        }
    }
}

fn raw_mode(terminal: BorrowedFd<'_>) -> nix::Result<Raw<'_>> {
    let before = termios::tcgetattr(terminal)?;
    let mut now = before.clone();
    termios::cfmakeraw(&mut now);
    termios::tcsetattr(terminal, SetArg::TCSADRAIN, &now)?;
    Ok(Raw { terminal, before })
}

/// True when the third escape came within a second of the first.
fn escaped(typed: &[u8], seen: &mut Vec<Instant>) -> bool {
    for b in typed {
        if *b != ESCAPE {
            seen.clear();
            continue;
        }
        seen.push(Instant::now());
        seen.retain(|t| t.elapsed() < Duration::from_secs(1));
        if seen.len() >= 3 {
            return true;
        }
    }
    false
}

fn resize(machine: &Machine) {
    if let Some(master) = &machine.terminal {
        // A size that can't be read or set is cosmetic.
        process::copy_window_size(std::io::stdin().as_raw_fd(), master.as_raw_fd()).unwrap_or(());
    }
}

/// What the terminal has now, to a descriptor.
fn copy(from: i32, to: i32) -> bool {
    let mut bytes = [0u8; 16384];
    match process::read(from, &mut bytes) {
        Ok(n) if n > 0 => write_all(to, bytes.get(..n).unwrap_or(&[])),
        _ => false,
    }
}

/// What is still in the terminal after the last process closed it.
fn drain(master: i32) {
    loop {
        let mut fds = [libc::pollfd { fd: master, events: libc::POLLIN, revents: 0 }];
        let ready = process::poll(&mut fds, Some(0)).unwrap_or(0);
        if ready == 0 || !copy(master, 1) {
            return;
        }
    }
}

fn write_all(to: i32, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match process::write(to, bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or(&[]),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [libc::pollfd { fd: to, events: libc::POLLOUT, revents: 0 }];
                if process::poll(&mut fds, None).is_err() {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_escapes_in_a_row_and_nothing_else() {
        let mut seen = Vec::new();
        assert!(!escaped(&[ESCAPE, ESCAPE], &mut seen));
        assert!(!escaped(b"a", &mut seen));
        assert!(!escaped(&[ESCAPE, ESCAPE], &mut seen));
        assert!(escaped(&[ESCAPE], &mut seen));
    }
}
