//! Small messages over a sequenced-packet socket, with at most one descriptor (unix(7)).

use super::process::owned;
use super::{Result, call, fd};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Room for one descriptor and one set of credentials, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 128]);

/// A connected pair of `SOCK_SEQPACKET|SOCK_CLOEXEC` sockets.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0i32; 2];
    // SAFETY: the kernel writes two descriptors into the array.
    let r = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) };
    Errno::result(r)?;
    let [a, b] = fds;
    // SAFETY: socketpair succeeded; nobody else owns the first descriptor.
    let a = unsafe { OwnedFd::from_raw_fd(a) };
    // SAFETY: nobody else owns the second one either.
    let b = unsafe { OwnedFd::from_raw_fd(b) };
    Ok((a, b))
}

/// SO_PASSCRED: each message that is received says which process sent it, as the receiver sees pids.
pub fn want_credentials(socket: BorrowedFd<'_>) -> Result<()> {
    let on: i32 = 1;
    let args = [
        fd(socket.as_raw_fd()),
        libc::SOL_SOCKET as usize,
        libc::SO_PASSCRED as usize,
        (&raw const on) as usize,
        size_of::<i32>(),
        0,
    ];
    // SAFETY: the kernel reads one int.
    unsafe { call(libc::SYS_setsockopt, args) }.map(drop)
}

/// Sends bytes, and a descriptor if there is one. EPIPE instead of a signal.
pub fn send(socket: i32, bytes: &[u8], pass: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut control = Control([0; 128]);
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut header = empty_header();
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    if let Some(pass) = pass {
        // struct cmsghdr { len: size_t, level: int, type: int }, then one int.
        put(&mut control, 0, &20usize.to_ne_bytes());
        put(&mut control, 8, &libc::SOL_SOCKET.to_ne_bytes());
        put(&mut control, 12, &libc::SCM_RIGHTS.to_ne_bytes());
        put(&mut control, 16, &pass.as_raw_fd().to_ne_bytes());
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = 24;
    }
    // SAFETY: header, vector, bytes and control outlive the call.
    unsafe { call(libc::SYS_sendmsg, [fd(socket), (&raw const header) as usize, libc::MSG_NOSIGNAL as usize, 0, 0, 0]) }
        .map(drop)
}

/// What came with a message.
pub struct Received {
    /// Bytes; 0 is the other side's end.
    pub length: usize,
    /// A descriptor.
    pub passed: Option<OwnedFd>,
    /// The sender's pid, if credentials were asked for.
    pub pid: Option<i32>,
}

/// Receives one message.
pub fn receive(socket: i32, bytes: &mut [u8]) -> Result<Received> {
    let mut control = Control([0; 128]);
    let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut header = empty_header();
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = 128;
    let flags = libc::MSG_CMSG_CLOEXEC as usize;
    let length = loop {
        // SAFETY: header, vector, bytes and control are writable and outlive the call.
        match unsafe { call(libc::SYS_recvmsg, [fd(socket), (&raw mut header) as usize, flags, 0, 0, 0]) } {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut out = Received { length, passed: None, pid: None };
    let mut at = 0;
    while at + 16 <= header.msg_controllen {
        let size = usize::from_ne_bytes(take(&control, at));
        let level = i32::from_ne_bytes(take(&control, at + 8));
        let kind = i32::from_ne_bytes(take(&control, at + 12));
        let value = i32::from_ne_bytes(take(&control, at + 16));
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            out.passed = owned(usize::try_from(value).unwrap_or(usize::MAX)).ok();
        } else if level == libc::SOL_SOCKET && kind == libc::SCM_CREDENTIALS {
            out.pid = Some(value);
        }
        if size < 16 {
            break;
        }
        at += size.next_multiple_of(8);
    }
    Ok(out)
}

fn empty_header() -> libc::msghdr {
    libc::msghdr {
        msg_name: std::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: std::ptr::null_mut(),
        msg_iovlen: 0,
        msg_control: std::ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    }
}

fn put(control: &mut Control, at: usize, bytes: &[u8]) {
    if let Some(slot) = control.0.get_mut(at..at + bytes.len()) {
        slot.copy_from_slice(bytes);
    }
}

fn take<const N: usize>(control: &Control, at: usize) -> [u8; N] {
    control.0.get(at..at + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
}
