//! Processes: clone3, exec, wait, and what is set on a process before exec.

use super::{Result, call, fd, request};
use nix::errno::Errno;
use std::ffi::{CStr, c_char, c_int};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Which side of [`clone`] this is.
pub enum Side {
    /// The caller; with the child's pid as the caller sees it.
    Parent(i32),
    /// The new process.
    Child,
}

/// clone3(2) without a new stack, like fork: the child runs on a copy of the caller's memory.
///
/// JUSTIFICATION: nix and rustix have no clone3, and the pid must come back from the same call that
/// makes the namespaces. No `CLONE_VM`, so nothing of the parent can be changed by the child.
///
/// # Safety contract kept by callers
/// A child of a process that may have threads performs system calls only: no allocation, no locks.
pub fn clone(namespaces: u64, as_sibling: bool) -> Result<Side> {
    let mut args = libc::clone_args {
        flags: namespaces,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD.unsigned_abs().into(),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if as_sibling {
        // The kernel takes the exit signal of a sibling from the parent (clone(2), CLONE_PARENT).
        args.flags |= libc::CLONE_PARENT as u64;
        args.exit_signal = 0;
    }
    let pointer = (&raw mut args) as usize;
    // SAFETY: `args` outlives the call and has the size given; no stack, tls or tid pointers are set,
    // so the child continues here on its own copy of this memory.
    let r = unsafe { call(libc::SYS_clone3, [pointer, size_of::<libc::clone_args>(), 0, 0, 0, 0]) }?;
    match i32::try_from(r) {
        Ok(0) => Ok(Side::Child),
        Ok(pid) => Ok(Side::Parent(pid)),
        Err(_) => Err(Errno::EOVERFLOW),
    }
}

/// fork(2) by the C library, for a child that goes on with ordinary code (the filter generator).
pub fn fork() -> Result<Side> {
    // SAFETY: the caller runs ordinary code in the child only where the C library's own atfork
    // handlers make that sound: its allocator is usable after fork.
    let pid = unsafe { libc::fork() };
    Ok(if Errno::result(pid)? == 0 { Side::Child } else { Side::Parent(pid) })
}

/// Ends the process at once: no destructors, no handlers.
pub fn exit(code: i32) -> ! {
    // SAFETY: `_exit` takes no pointer and never returns.
    unsafe { libc::_exit(code) }
}

/// NULL-ended array of C strings, made before `clone` and only read by the child.
pub struct CStrArray {
    strings: Vec<std::ffi::CString>,
    pointers: Vec<*const c_char>,
}

impl CStrArray {
    /// Takes the strings.
    pub fn new(strings: Vec<std::ffi::CString>) -> Self {
        let mut pointers: Vec<*const c_char> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self { strings, pointers }
    }

    /// How many strings.
    pub fn len(&self) -> usize {
        self.strings.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.strings.is_empty()
    }
}

/// execve(2); returns only on failure.
pub fn exec(path: &CStr, argv: &CStrArray, envp: &CStrArray) -> Errno {
    // SAFETY: all three are NUL-ended and outlive the call; the arrays end in NULL.
    let r = unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    Errno::result(r).err().unwrap_or(Errno::EINVAL)
}

/// A raw wait status (wait(2)), as the kernel gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub i32);

impl Status {
    /// The exit code, when it exited.
    pub fn code(self) -> Option<i32> {
        libc::WIFEXITED(self.0).then(|| libc::WEXITSTATUS(self.0))
    }

    /// The signal, when one ended it.
    pub fn signal(self) -> Option<i32> {
        libc::WIFSIGNALED(self.0).then(|| libc::WTERMSIG(self.0))
    }
}

/// wait4(2) for one pid, or any child with -1; `None` when `nohang` and nothing has ended.
pub fn wait(pid: i32, nohang: bool) -> Result<Option<(i32, Status)>> {
    let mut status: c_int = 0;
    loop {
        // SAFETY: `status` is a valid place for the kernel to write; no rusage is asked for.
        let r = unsafe { libc::waitpid(pid, &raw mut status, if nohang { libc::WNOHANG } else { 0 } | libc::__WALL) };
        match Errno::result(r) {
            Ok(0) => return Ok(None),
            Ok(pid) => return Ok(Some((pid, Status(status)))),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// pidfd_open(2).
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: two plain integers.
    let r = unsafe { call(libc::SYS_pidfd_open, [fd(pid), 0, 0, 0, 0, 0]) }?;
    owned(r)
}

/// pidfd_send_signal(2).
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: an open descriptor, an integer, and no siginfo.
    unsafe { call(libc::SYS_pidfd_send_signal, [fd(pidfd.as_raw_fd()), fd(signal), 0, 0, 0, 0]) }.map(drop)
}

/// kill(2).
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: two integers.
    unsafe { call(libc::SYS_kill, [fd(pid), fd(signal), 0, 0, 0, 0]) }.map(drop)
}

/// Takes a descriptor that the kernel just returned.
pub(super) fn owned(raw: usize) -> Result<OwnedFd> {
    let raw = i32::try_from(raw).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel returned this descriptor to us just now; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Takes a descriptor that was made for us just now, as fcntl(F_DUPFD_CLOEXEC) does.
pub fn adopt(fd: i32) -> Result<OwnedFd> {
    owned(usize::try_from(fd).map_err(|_| Errno::EBADF)?)
}

/// setns(2) into several namespaces of the process behind a pidfd.
pub fn setns(pidfd: BorrowedFd<'_>, namespaces: u64) -> Result<()> {
    let flags = usize::try_from(namespaces).map_err(|_| Errno::EINVAL)?;
    // SAFETY: an open descriptor and a flag word.
    unsafe { call(libc::SYS_setns, [fd(pidfd.as_raw_fd()), flags, 0, 0, 0, 0]) }.map(drop)
}

/// unshare(2).
pub fn unshare(namespaces: u64) -> Result<()> {
    let flags = usize::try_from(namespaces).map_err(|_| Errno::EINVAL)?;
    // SAFETY: a flag word.
    unsafe { call(libc::SYS_unshare, [flags, 0, 0, 0, 0, 0]) }.map(drop)
}

/// prctl(2) with integer arguments only.
pub fn prctl(option: c_int, arguments: [usize; 4]) -> Result<usize> {
    let [a, b, c, d] = arguments;
    // SAFETY: callers pass only options whose arguments are integers.
    unsafe { call(libc::SYS_prctl, [fd(option), a, b, c, d, 0]) }
}

/// close_range(2) with `CLOSE_RANGE_CLOEXEC` when `on_exec`, else at once.
pub fn close_from(first: u32, on_exec: bool) -> Result<()> {
    close_range(first, u32::MAX, on_exec)
}

/// close_range(2) from the first to the last, both included.
pub fn close_range(first: u32, last: u32, on_exec: bool) -> Result<()> {
    let flags = if on_exec { libc::CLOSE_RANGE_CLOEXEC as usize } else { 0 };
    // SAFETY: integers. Descriptors that are closed here are owned by no Rust value: the callers close
    // before any is opened, or mark them for exec.
    unsafe { call(libc::SYS_close_range, [first as usize, last as usize, flags, 0, 0, 0]) }.map(drop)
}

/// dup3(2) onto a standard descriptor, without close-on-exec.
pub fn dup_onto(from: i32, to: i32) -> Result<()> {
    if from == to {
        // SAFETY: integers; clears close-on-exec of a descriptor that stays where it is.
        return unsafe { call(libc::SYS_fcntl, [fd(from), libc::F_SETFD as usize, 0, 0, 0, 0]) }.map(drop);
    }
    // SAFETY: integers; the target is one of 0, 1, 2, which no Rust value owns.
    unsafe { call(libc::SYS_dup3, [fd(from), fd(to), 0, 0, 0, 0]) }.map(drop)
}

/// setsid(2), then the terminal on `tty` becomes the session's (TIOCSCTTY).
pub fn controlling_terminal(tty: i32) -> Result<()> {
    // SAFETY: no arguments.
    unsafe { call(libc::SYS_setsid, [0; 6]) }?;
    // SAFETY: an integer argument, for a descriptor that the caller holds.
    unsafe { call(libc::SYS_ioctl, [fd(tty), request(libc::TIOCSCTTY), 0, 0, 0, 0]) }.map(drop)
}

/// setsid(2).
pub fn new_session() -> Result<()> {
    // SAFETY: no arguments.
    unsafe { call(libc::SYS_setsid, [0; 6]) }.map(drop)
}

/// Signals as after boot: all default, none blocked. The Rust runtime ignores SIGPIPE and callers may
/// have blocked or ignored others; both would be inherited across exec.
pub fn reset_signals() -> Result<()> {
    #[repr(C)]
    struct KernelSigaction {
        handler: usize,
        flags: usize,
        restorer: usize,
        mask: u64,
    }
    let default = KernelSigaction { handler: 0, flags: 0, restorer: 0, mask: 0 };
    for signal in 1..=64usize {
        if signal == libc::SIGKILL as usize || signal == libc::SIGSTOP as usize {
            continue;
        }
        // SAFETY: `default` has the layout of the kernel's struct sigaction and outlives the call; no old
        // action is asked for.
        unsafe { call(libc::SYS_rt_sigaction, [signal, (&raw const default) as usize, 0, 8, 0, 0]) }?;
    }
    set_blocked(0)
}

/// Blocks exactly the signals whose bits are set (bit n-1 for signal n).
pub fn set_blocked(mask: u64) -> Result<()> {
    // SAFETY: `mask` is 8 bytes, as the last argument says, and outlives the call.
    unsafe { call(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as usize, (&raw const mask) as usize, 0, 8, 0, 0]) }
        .map(drop)
}

/// prlimit64(2) on the caller: soft and hard limit at once.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let new = [soft, hard];
    // SAFETY: two 64-bit words are the kernel's struct rlimit64; no old value is asked for.
    unsafe { call(libc::SYS_prlimit64, [0, resource as usize, (&raw const new) as usize, 0, 0, 0]) }.map(drop)
}

/// personality(2).
pub fn set_personality(persona: usize) -> Result<()> {
    // SAFETY: an integer.
    unsafe { call(libc::SYS_personality, [persona, 0, 0, 0, 0, 0]) }.map(drop)
}

/// The caller's nice value, from -20 to 19.
pub fn nice() -> Result<i32> {
    // SAFETY: integers. The raw call returns 20 - nice, from 1 to 40.
    let r = unsafe { call(libc::SYS_getpriority, [libc::PRIO_PROCESS as usize, 0, 0, 0, 0, 0]) }?;
    i32::try_from(r).map(|v| 20 - v).map_err(|_| Errno::EINVAL)
}

/// setpriority(2) on the caller.
pub fn set_nice(value: i32) -> Result<()> {
    // SAFETY: integers.
    unsafe { call(libc::SYS_setpriority, [libc::PRIO_PROCESS as usize, 0, fd(value), 0, 0, 0]) }.map(drop)
}

/// Waits until one of the descriptors is readable or hung up, or a signal that is not in `blocked`
/// arrives (EINTR). `timeout` in milliseconds; `None` waits for ever.
pub fn poll(fds: &mut [libc::pollfd], timeout: Option<i64>) -> Result<usize> {
    let time =
        libc::timespec { tv_sec: timeout.unwrap_or(0) / 1000, tv_nsec: (timeout.unwrap_or(0) % 1000) * 1_000_000 };
    let time_pointer = if timeout.is_some() { (&raw const time) as usize } else { 0 };
    // SAFETY: the slice is valid for its length, the timespec outlives the call, no mask is given.
    unsafe { call(libc::SYS_ppoll, [fds.as_mut_ptr() as usize, fds.len(), time_pointer, 0, 8, 0]) }
}

/// read(2).
pub fn read(from: i32, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is writable for its length.
    unsafe { call(libc::SYS_read, [fd(from), buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0]) }
}

/// write(2).
pub fn write(to: i32, buffer: &[u8]) -> Result<usize> {
    // SAFETY: the buffer is readable for its length.
    unsafe { call(libc::SYS_write, [fd(to), buffer.as_ptr() as usize, buffer.len(), 0, 0, 0]) }
}

/// openat(2) without O_CREAT's mode; `at` may be AT_FDCWD.
pub fn open(at: i32, path: &CStr, flags: i32) -> Result<OwnedFd> {
    // SAFETY: a NUL-ended path that outlives the call.
    let r =
        unsafe { call(libc::SYS_openat, [fd(at), path.as_ptr() as usize, fd(flags | libc::O_CLOEXEC), 0o600, 0, 0]) }?;
    owned(r)
}

/// sched_setaffinity(2) on the caller, to every CPU; the kernel keeps those that the caller's cpuset has.
pub fn reset_affinity() -> Result<()> {
    let all = [u64::MAX; 16];
    // SAFETY: the mask is readable for the size given.
    unsafe { call(libc::SYS_sched_setaffinity, [0, size_of_val(&all), all.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

/// signalfd4(2) for SIGCHLD alone.
pub fn child_signals() -> Result<i32> {
    let mask: u64 = 1 << (libc::SIGCHLD - 1);
    let args = [usize::MAX, (&raw const mask) as usize, 8, libc::SFD_CLOEXEC as usize, 0, 0];
    // SAFETY: the mask is 8 bytes and outlives the call.
    let r = unsafe { call(libc::SYS_signalfd4, args) }?;
    i32::try_from(r).map_err(|_| Errno::EBADF)
}

/// Whom a user namespace belongs to (NS_GET_OWNER_UID, ioctl_ns(2)).
pub fn namespace_owner(namespace: BorrowedFd<'_>) -> Result<u32> {
    const NS_GET_OWNER_UID: u64 = 0xb704;
    let mut uid = 0u32;
    let args = [fd(namespace.as_raw_fd()), request(NS_GET_OWNER_UID), (&raw mut uid) as usize, 0, 0, 0];
    // SAFETY: the kernel writes one uid_t, and the variable outlives the call.
    unsafe { call(libc::SYS_ioctl, args) }?;
    Ok(uid)
}

/// TIOCGWINSZ on one terminal, TIOCSWINSZ with the result on another (ioctl_tty(2)).
pub fn copy_window_size(from: i32, to: i32) -> Result<()> {
    let mut size = [0u16; 4];
    // SAFETY: the kernel writes a struct winsize: four 16-bit words.
    unsafe { call(libc::SYS_ioctl, [fd(from), request(libc::TIOCGWINSZ), size.as_mut_ptr() as usize, 0, 0, 0]) }?;
    // SAFETY: the kernel reads the same struct.
    unsafe { call(libc::SYS_ioctl, [fd(to), request(libc::TIOCSWINSZ), size.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

/// SCHED_OTHER and no I/O class of its own (sched(7), ioprio_set(2)). What an ordinary user can't take
/// back only holds the process back (SCHED_IDLE), and stays.
pub fn ordinary_scheduling() -> Result<()> {
    const SCHED_IDLE: usize = 5;
    // SAFETY: an integer.
    let policy = unsafe { call(libc::SYS_sched_getscheduler, [0; 6]) }?;
    if policy != 0 {
        let priority: i32 = 0;
        let args = [0, 0, (&raw const priority) as usize, 0, 0, 0];
        // SAFETY: the kernel reads one int, struct sched_param, which outlives the call.
        match unsafe { call(libc::SYS_sched_setscheduler, args) } {
            Err(Errno::EPERM) if policy == SCHED_IDLE => {}
            other => drop(other?),
        }
    }
    // 1: IOPRIO_WHO_PROCESS; 0: the caller; 0: no class, as the nice value says.
    // SAFETY: integers.
    unsafe { call(libc::SYS_ioprio_set, [1, 0, 0, 0, 0, 0]) }.map(drop)
}

/// keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL): an empty session keyring in place of the caller's. A kernel
/// without keyrings has nothing to leave behind.
pub fn new_keyring() -> Result<()> {
    // SAFETY: the command and no name.
    match unsafe { call(libc::SYS_keyctl, [1, 0, 0, 0, 0, 0]) } {
        Err(Errno::ENOSYS) => Ok(()),
        other => other.map(drop),
    }
}

/// What makes a descriptor unfit to be handed to a machine, in words; `None` when it is fit.
pub fn descriptor_kind(number: i32) -> Result<Option<&'static str>> {
    // SAFETY: integers.
    let flags = unsafe { call(libc::SYS_fcntl, [fd(number), libc::F_GETFL as usize, 0, 0, 0, 0]) }?;
    let mut st = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel fills the struct, which is large enough, through the C library.
    let r = unsafe { libc::fstat(number, st.as_mut_ptr()) };
    Errno::result(r)?;
    // SAFETY: fstat succeeded, so every field is set.
    let st = unsafe { st.assume_init() };
    Ok(match st.st_mode & libc::S_IFMT {
        _ if flags & libc::O_PATH as usize != 0 => Some("only a path (O_PATH)"),
        libc::S_IFDIR => Some("a folder"),
        libc::S_IFBLK => Some("a block device"),
        _ => None,
    })
}

/// memfd_create(2), sealable.
pub fn memory_file(name: &CStr) -> Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC as usize | libc::MFD_ALLOW_SEALING as usize;
    // SAFETY: a NUL-ended name and flags.
    let r = unsafe { call(libc::SYS_memfd_create, [name.as_ptr() as usize, flags, 0, 0, 0, 0]) }?;
    owned(r)
}

/// F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE (fcntl(2)).
const SEALS: usize = 0x1 | 0x2 | 0x4 | 0x8;

/// No byte of a memory file changes from now on.
pub fn seal(file: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: integers.
    unsafe { call(libc::SYS_fcntl, [fd(file.as_raw_fd()), libc::F_ADD_SEALS as usize, SEALS, 0, 0, 0]) }.map(drop)
}

/// True for a sealed memory file; a file of a disk has no seals.
pub fn is_sealed(file: BorrowedFd<'_>) -> bool {
    // SAFETY: integers.
    let r = unsafe { call(libc::SYS_fcntl, [fd(file.as_raw_fd()), libc::F_GET_SEALS as usize, 0, 0, 0, 0]) };
    r.is_ok_and(|s| s & SEALS == SEALS)
}
