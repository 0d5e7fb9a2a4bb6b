//! The only unsafe code: one function for one system call, or for the few lines that one needs.
//!
//! Nothing here allocates, logs or decides; all of it may run between `clone` and `exec`. What the
//! `nix` crate wraps as thinly is used from there instead.
#![allow(unsafe_code, reason = "the one house where system calls are made by hand")]

pub mod confine;
pub mod message;
pub mod mount;
pub mod process;

use nix::errno::Errno;
use std::ffi::c_long;

/// The result of one system call.
pub type Result<T> = std::result::Result<T, Errno>;

/// Makes a system call with up to six word-sized arguments.
///
/// # Safety
/// The arguments must be what the kernel documents for `number`; pointers must be valid for the
/// duration of the call, and writable where the kernel writes.
unsafe fn call(number: c_long, args: [usize; 6]) -> Result<usize> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the caller vouches for the arguments.
    let r = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    Errno::result(r).map(i64::cast_unsigned).map(|v| usize::try_from(v).unwrap_or(usize::MAX))
}

fn fd(n: i32) -> usize {
    // Sign-extended, as the kernel reads AT_FDCWD.
    (n as isize).cast_unsigned()
}

/// The number of an ioctl(2) as a register.
fn request(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Where nft(8) may be: it is never looked for by the caller's PATH.
pub const NFT: &[&str] = &["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];

/// Every resource of getrlimit(2).
pub const RESOURCES: &[nix::sys::resource::Resource] = {
    use nix::sys::resource::Resource as R;
    &[
        R::RLIMIT_AS,
        R::RLIMIT_CORE,
        R::RLIMIT_CPU,
        R::RLIMIT_DATA,
        R::RLIMIT_FSIZE,
        R::RLIMIT_LOCKS,
        R::RLIMIT_MEMLOCK,
        R::RLIMIT_MSGQUEUE,
        R::RLIMIT_NICE,
        R::RLIMIT_NOFILE,
        R::RLIMIT_NPROC,
        R::RLIMIT_RTPRIO,
        R::RLIMIT_SIGPENDING,
        R::RLIMIT_STACK,
    ]
};
