//! Credentials, capabilities, Landlock and seccomp.

use super::process::owned;
use super::{Result, call, fd};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// setgroups(2) by the raw call: the C library's would signal threads that a cloned child doesn't have.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: the slice is readable for its length.
    unsafe { call(libc::SYS_setgroups, [groups.len(), groups.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// setresgid(2), all three ids.
pub fn set_gid(gid: u32) -> Result<()> {
    // SAFETY: integers.
    unsafe { call(libc::SYS_setresgid, [gid as usize, gid as usize, gid as usize, 0, 0, 0]) }.map(drop)
}

/// setresuid(2), all three ids.
pub fn set_uid(uid: u32) -> Result<()> {
    // SAFETY: integers.
    unsafe { call(libc::SYS_setresuid, [uid as usize, uid as usize, uid as usize, 0, 0, 0]) }.map(drop)
}

/// setresuid(2) of the effective uid alone.
pub fn set_effective_uid(uid: u32) -> Result<()> {
    let keep = u32::MAX as usize;
    // SAFETY: integers.
    unsafe { call(libc::SYS_setresuid, [keep, uid as usize, keep, 0, 0, 0]) }.map(drop)
}

/// geteuid(2).
pub fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// capset(2) with the 64-bit version of the header.
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    // struct __user_cap_header_struct { version, pid }; _LINUX_CAPABILITY_VERSION_3
    let header: [u32; 2] = [0x2008_0522, 0];
    let low = |v: u64| u32::try_from(v & 0xffff_ffff).unwrap_or(0);
    let high = |v: u64| u32::try_from(v >> 32).unwrap_or(0);
    let data: [u32; 6] =
        [low(effective), low(permitted), low(inheritable), high(effective), high(permitted), high(inheritable)];
    // SAFETY: header and two data structs in the kernel's layout, readable for the call.
    unsafe { call(libc::SYS_capset, [header.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// capget(2): the caller's permitted set.
pub fn permitted() -> Result<u64> {
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut data = [0u32; 6];
    let args = [header.as_ptr() as usize, data.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: header and two data structs in the kernel's layout; the kernel writes the latter.
    unsafe { call(libc::SYS_capget, args) }?;
    let [_, low, _, _, high, _] = data;
    Ok(u64::from(high) << 32 | u64::from(low))
}

/// landlock_create_ruleset(2): access to files, access to the network, scopes. `size` is that of the
/// struct in the kernel's ABI: 8, 16 or 24.
pub fn landlock_create(files: u64, network: u64, scoped: u64, size: usize) -> Result<OwnedFd> {
    let attributes = [files, network, scoped];
    let size = size.min(size_of_val(&attributes));
    // SAFETY: the struct is readable for at least the size given.
    let r = unsafe { call(SYS_LANDLOCK_CREATE_RULESET, [attributes.as_ptr() as usize, size, 0, 0, 0, 0]) }?;
    owned(r)
}

const SYS_LANDLOCK_CREATE_RULESET: i64 = 444;
const SYS_LANDLOCK_ADD_RULE: i64 = 445;
const SYS_LANDLOCK_RESTRICT_SELF: i64 = 446;

/// The newest Landlock ABI of the running kernel; 0 when there is none.
pub fn landlock_abi() -> u32 {
    // SAFETY: no pointer; flag 1 asks for the version (landlock_create_ruleset(2)).
    let r = unsafe { call(SYS_LANDLOCK_CREATE_RULESET, [0, 0, 1, 0, 0, 0]) };
    r.ok().and_then(|v| u32::try_from(v).ok()).unwrap_or(0)
}

/// landlock_add_rule(2) for a file hierarchy.
pub fn landlock_path(ruleset: BorrowedFd<'_>, access: u64, path: BorrowedFd<'_>) -> Result<()> {
    #[repr(C, packed)]
    struct PathBeneath {
        access: u64,
        parent: i32,
    }
    let rule = PathBeneath { access, parent: path.as_raw_fd() };
    let args = [fd(ruleset.as_raw_fd()), 1, (&raw const rule) as usize, 0, 0, 0];
    // SAFETY: the struct has the kernel's packed layout and outlives the call.
    unsafe { call(SYS_LANDLOCK_ADD_RULE, args) }.map(drop)
}

/// landlock_add_rule(2) for a TCP port.
pub fn landlock_port(ruleset: BorrowedFd<'_>, access: u64, port: u16) -> Result<()> {
    let rule: [u64; 2] = [access, u64::from(port)];
    let args = [fd(ruleset.as_raw_fd()), 2, rule.as_ptr() as usize, 0, 0, 0];
    // SAFETY: struct landlock_net_port_attr is two 64-bit words.
    unsafe { call(SYS_LANDLOCK_ADD_RULE, args) }.map(drop)
}

/// landlock_restrict_self(2).
pub fn landlock_restrict(ruleset: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: a descriptor and no flags.
    unsafe { call(SYS_LANDLOCK_RESTRICT_SELF, [fd(ruleset.as_raw_fd()), 0, 0, 0, 0, 0]) }.map(drop)
}

/// One instruction of a classic BPF program, in the kernel's layout (struct sock_filter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when a jump's test holds.
    pub jt: u8,
    /// ... and when it doesn't.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// seccomp(2) SECCOMP_SET_MODE_FILTER: exactly these instructions.
pub fn load_filter(program: &[Instruction]) -> Result<()> {
    #[repr(C)]
    struct Program {
        length: u16,
        filter: *const Instruction,
    }
    let length = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let argument = Program { length, filter: program.as_ptr() };
    // 1: SECCOMP_SET_MODE_FILTER; no flags: no speculation is allowed, no thread is left out.
    let args = [1, 0, (&raw const argument) as usize, 0, 0, 0];
    // SAFETY: struct sock_fprog in the kernel's layout; the instructions outlive the call.
    unsafe { call(libc::SYS_seccomp, args) }.map(drop)
}
