//! The supervisor's wait: passes terminal bytes and signals, ends with the machine.

use crate::launch::{Event, Machine};
use crate::sys::mount;
use crate::sys::process::{self, Status};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::MsgFlags;
use nix::sys::termios::{self, SetArg, Termios};
use std::ffi::CStr;
use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The program ended.
    Program(Status),
    /// Killed from outside, by the escape sequence or by its init's death.
    Killed,
    /// Killed because its time was over.
    Timeout,
}

/// Ctrl-] three times within a second ends the machine.
const ESCAPE: u8 = 0x1d;

/// Keys that are kept for a machine that reads none, in bytes; what is typed beyond is lost, as on any terminal.
const TYPED_AHEAD: usize = 4096;

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

/// Bytes on their way from one descriptor to another. Reads only when all that was read is written, so a
/// reader that stalls stalls the writer and nobody else.
struct Pipe {
    from: i32,
    to: i32,
    waiting: Vec<u8>,
}

impl Pipe {
    fn new(from: i32, to: i32) -> Self {
        Pipe { from, to, waiting: Vec::new() }
    }

    /// Reads what is there, behind what waits; `false` at the end, or while nobody holds the other side.
    fn fill(&mut self) -> bool {
        let mut bytes = [0u8; 4096];
        match process::read(self.from, &mut bytes) {
            Ok(n) if n > 0 => {
                self.waiting.extend(bytes.iter().take(n));
                true
            }
            Err(Errno::EINTR | Errno::EAGAIN) => true,
            _ => false,
        }
    }

    /// Writes what is possible now; what can't be written ever is dropped.
    fn flush(&mut self) {
        match process::write(self.to, &self.waiting) {
            Ok(n) => drop(self.waiting.drain(..n.min(self.waiting.len()))),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.waiting.clear(),
        }
    }

    fn reads(&self, may: bool) -> libc::pollfd {
        let fd = if may && self.waiting.is_empty() { self.from } else { -1 };
        libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
    }

    fn writes(&self) -> libc::pollfd {
        let fd = if self.waiting.is_empty() { -1 } else { self.to };
        libc::pollfd { fd, events: libc::POLLOUT, revents: 0 }
    }
}

/// Standard output or error through an open file of our own that never blocks. Where that can't be had, and for
/// files (which don't block, and whose position is shared), the descriptor as it is.
fn outlet(fd: impl AsFd + IsTerminal, path: &CStr) -> Option<OwnedFd> {
    let kind = nix::sys::stat::fstat(&fd).ok()?.st_mode & libc::S_IFMT;
    if kind != libc::S_IFIFO && !fd.is_terminal() {
        return None;
    }
    process::open(mount::CWD, path, libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY).ok()
}

/// Waits for the machine's end. `boots`: a termination signal asks the init system to power off.
///
/// Never waits for a reader of the machine's output alone: signals, keys and the machine's end are seen
/// while the output stands still.
pub fn attend(machine: &Machine, signals: &SignalFd, boots: bool) -> nix::Result<End> {
    let input = std::io::stdin();
    let raw = match (&machine.terminal, input.is_terminal()) {
        (Some(_), true) => Some(raw_mode(input.as_fd())?),
        _ => None,
    };
    if raw.is_some() {
        resize(machine);
    }
    let outlet = outlet(std::io::stdout(), c"/proc/self/fd/1");
    let master = machine.terminal.as_ref().map_or(-1, |m| m.as_raw_fd());
    let mut keys = Pipe::new(input.as_raw_fd(), master);
    let mut screen = Pipe::new(master, outlet.as_ref().map_or(1, |f| f.as_raw_fd()));
    let mut reading = machine.terminal.is_some() && (raw.is_some() || boots);
    let mut escapes: Vec<Instant> = Vec::new();
    let mut asked = false;
    let mut hung_up = None;
    let (mut end, mut late) = (None, false);
    loop {
        // While no process has the terminal open it only says so; another may open it later.
        let paused = hung_up.is_some_and(|t: Instant| t.elapsed() < PAUSE);
        let event_fd = if end.is_some() { -1 } else { machine.events() };
        let always = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [
            always(event_fd),
            always(signals.as_raw_fd()),
            always(if end.is_some() { -1 } else { machine.filter_events() }),
            screen.reads(!paused),
            screen.writes(),
            keys.reads(reading),
            keys.writes(),
        ];
        if raw.is_some() && reading {
            // Keys are read even while the machine takes none: the escape sequence may be among them.
            if let Some(typed) = fds.get_mut(5) {
                typed.fd = keys.from;
            }
        }
        let timeout = match end {
            // All that is left is what the terminal still has.
            Some(_) if screen.waiting.is_empty() => Some(0),
            _ => hung_up.map(|_| i64::try_from(PAUSE.as_millis()).unwrap_or(0)),
        };
        let left = machine.deadline.filter(|_| end.is_none()).map(|d| {
            let left = d.saturating_duration_since(Instant::now()).as_millis();
            i64::try_from(left).unwrap_or(i64::MAX).saturating_add(1)
        });
        let timeout = match (timeout, left) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match process::poll(&mut fds, timeout) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        if machine.deadline.is_some_and(|d| Instant::now() >= d) && end.is_none() && !late {
            late = true;
            machine.kill()?;
        }
        let [event, signal, filter, output, room, typed, taken] = fds.map(|f| f.revents != 0);
        if filter {
            match machine.mend() {
                Ok(None) => {}
                Ok(Some(then)) => {
                    tell(&format!("the rules were taken out of the host's packet filter, and are back; {then}"));
                }
                Err(e) => {
                    tell(&format!(
                        "the rules were taken out of the host's packet filter, so the machine is ended: {e}"
                    ));
                    machine.kill()?;
                }
            }
        }
        if output {
            hung_up = if screen.fill() { None } else { Some(Instant::now()) };
        }
        if room {
            screen.flush();
        }
        if typed {
            let before = keys.waiting.len();
            reading = keys.fill();
            if raw.is_some() && escaped(keys.waiting.get(before..).unwrap_or(&[]), &mut escapes) {
                machine.kill()?;
            }
            if before > TYPED_AHEAD {
                keys.waiting.truncate(before);
            }
        }
        if taken {
            keys.flush();
        }
        if signal {
            while let Ok(Some(info)) = signals.read_signal() {
                let number = i32::try_from(info.ssi_signo).unwrap_or(0);
                if number == libc::SIGWINCH {
                    resize(machine);
                } else if let Some(end) = end {
                    // The machine is gone and somebody doesn't want to wait for a reader of the rest.
                    return Ok(end);
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
        if event && let Some(event) = machine.event() {
            end = Some(match event {
                Event::Ended(status) => End::Program(status),
                Event::Killed if late => End::Timeout,
                Event::Killed => End::Killed,
            });
            (reading, hung_up) = (false, None);
            keys.waiting.clear();
        } else if let Some(end) = end
            && screen.waiting.is_empty()
            && (!output || hung_up.is_some())
        {
            return Ok(end);
        }
    }
}

/// A line on standard error, whatever mode the terminal is in. Who closed it doesn't want to know, and who doesn't
/// read it misses the line: the machine has to be looked after.
fn tell(text: &str) {
    let line = format!("stockade: {text}\r\n");
    let stderr = std::io::stderr();
    if nix::sys::stat::fstat(&stderr).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFSOCK) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        nix::sys::socket::send(stderr.as_raw_fd(), line.as_bytes(), flags).unwrap_or(0);
        return;
    }
    let own = outlet(stderr, c"/proc/self/fd/2");
    process::write(own.as_ref().map_or(2, |f| f.as_raw_fd()), line.as_bytes()).unwrap_or(0);
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
