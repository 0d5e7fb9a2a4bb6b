//! The mount calls of Linux 5.2 and later (fsopen(2), open_tree(2), move_mount(2), mount_setattr(2)).

use super::process::owned;
use super::{Result, call, fd, request};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// The caller's working directory as a descriptor argument.
pub const CWD: i32 = libc::AT_FDCWD;

/// fsopen(2).
pub fn fsopen(kind: &CStr) -> Result<OwnedFd> {
    // SAFETY: a NUL-ended name; flags.
    let r = unsafe { call(libc::SYS_fsopen, [kind.as_ptr() as usize, FSOPEN_CLOEXEC, 0, 0, 0, 0]) }?;
    owned(r)
}

// linux/mount.h; the libc crate has no names for these.
const FSOPEN_CLOEXEC: usize = 1;
const FSCONFIG_SET_FLAG: usize = 0;
const FSCONFIG_SET_STRING: usize = 1;
const FSCONFIG_CMD_CREATE: usize = 6;
const FSMOUNT_CLOEXEC: usize = 1;

/// fsconfig(2): sets `key`, to a value or as a flag.
pub fn fsconfig_set(context: BorrowedFd<'_>, key: &CStr, value: Option<&CStr>) -> Result<()> {
    let (command, value) = match value {
        Some(v) => (FSCONFIG_SET_STRING, v.as_ptr() as usize),
        None => (FSCONFIG_SET_FLAG, 0),
    };
    // SAFETY: NUL-ended strings that outlive the call.
    unsafe { call(libc::SYS_fsconfig, [fd(context.as_raw_fd()), command, key.as_ptr() as usize, value, 0, 0]) }
        .map(drop)
}

/// fsconfig(2): makes the file system.
pub fn fsconfig_create(context: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: a descriptor and a command without arguments.
    unsafe { call(libc::SYS_fsconfig, [fd(context.as_raw_fd()), FSCONFIG_CMD_CREATE, 0, 0, 0, 0]) }.map(drop)
}

/// fsmount(2): a detached mount of what was made, with `MOUNT_ATTR_*` attributes.
pub fn fsmount(context: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd> {
    let attributes = usize::try_from(attributes).map_err(|_| Errno::EINVAL)?;
    // SAFETY: a descriptor and flag words.
    let r = unsafe { call(libc::SYS_fsmount, [fd(context.as_raw_fd()), FSMOUNT_CLOEXEC, attributes, 0, 0, 0]) }?;
    owned(r)
}

/// open_tree(2) with OPEN_TREE_CLONE: a detached copy of the mount below `at`/`path`.
pub fn clone_tree(at: i32, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE as usize | libc::OPEN_TREE_CLOEXEC as usize | libc::AT_EMPTY_PATH as usize;
    flags |= libc::AT_SYMLINK_NOFOLLOW as usize;
    if recursive {
        flags |= libc::AT_RECURSIVE as usize;
    }
    // SAFETY: a NUL-ended path and flags.
    let r = unsafe { call(libc::SYS_open_tree, [fd(at), path.as_ptr() as usize, flags, 0, 0, 0]) }?;
    owned(r)
}

/// move_mount(2): attaches a detached mount on the place behind `target`.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    // linux/mount.h: MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    const EMPTY: usize = 0x4 | 0x40;
    let empty = c"".as_ptr() as usize;
    // SAFETY: two descriptors, empty NUL-ended paths, flags.
    unsafe { call(libc::SYS_move_mount, [fd(tree.as_raw_fd()), empty, fd(target.as_raw_fd()), empty, EMPTY, 0]) }
        .map(drop)
}

/// mount_setattr(2) on the mount behind `tree` (and those below it).
pub fn set_attributes(
    tree: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    propagation: u64,
    userns: Option<BorrowedFd<'_>>,
    recursive: bool,
) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation,
        userns_fd: userns.map_or(0, |u| u64::from(u.as_raw_fd().unsigned_abs())),
    };
    let flags = libc::AT_EMPTY_PATH as usize | if recursive { libc::AT_RECURSIVE as usize } else { 0 };
    let size = size_of::<libc::mount_attr>();
    let pointer = (&raw const attributes) as usize;
    // SAFETY: the struct outlives the call and has the size given; the path is empty and NUL-ended.
    unsafe { call(libc::SYS_mount_setattr, [fd(tree.as_raw_fd()), c"".as_ptr() as usize, flags, pointer, size, 0]) }
        .map(drop)
}

/// pivot_root(".", "."): the working directory becomes the root, the old root lies on top of it.
pub fn pivot_here() -> Result<()> {
    let here = c".".as_ptr() as usize;
    // SAFETY: two NUL-ended paths.
    unsafe { call(libc::SYS_pivot_root, [here, here, 0, 0, 0, 0]) }.map(drop)
}

/// umount2(".", MNT_DETACH).
pub fn detach_here() -> Result<()> {
    // SAFETY: a NUL-ended path and flags.
    unsafe { call(libc::SYS_umount2, [c".".as_ptr() as usize, libc::MNT_DETACH as usize, 0, 0, 0, 0]) }.map(drop)
}

/// openat2(2) below `at`, O_PATH, passing through no symbolic link and never leaving `at`.
pub fn open_beneath(at: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<OwnedFd> {
    resolve(
        at.as_raw_fd(),
        path,
        flags,
        libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS,
    )
}

/// openat2(2) of an absolute path that passes through no symbolic link.
pub fn open_plain(path: &CStr, flags: i32) -> Result<OwnedFd> {
    resolve(CWD, path, flags, libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS)
}

/// openat2(2) as if `at` were the root: links are followed and stay inside.
pub fn open_in_root(at: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<OwnedFd> {
    resolve(at.as_raw_fd(), path, flags, libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS)
}

fn resolve(at: i32, path: &CStr, flags: i32, resolve: u64) -> Result<OwnedFd> {
    let mode = if flags & libc::O_CREAT != 0 { 0o600 } else { 0 };
    // struct open_how: flags, mode, resolve (linux/openat2.h).
    let how: [u64; 3] = [u64::from((flags | libc::O_CLOEXEC).cast_unsigned()), mode, resolve];
    let args = [fd(at), path.as_ptr() as usize, (&raw const how) as usize, size_of_val(&how), 0, 0];
    // A rename or mount anywhere on the host while `..` is followed: the caller tries again (openat2(2), EAGAIN).
    let mut tries = 1000;
    loop {
        // SAFETY: a NUL-ended path and a struct of the size given, both outlive the call.
        match unsafe { call(libc::SYS_openat2, args) } {
            Err(Errno::EAGAIN) if tries > 0 => tries -= 1,
            done => return owned(done?),
        }
    }
}

/// mkdirat(2).
pub fn make_directory(at: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    // SAFETY: a descriptor, a NUL-ended name, an integer.
    unsafe { call(libc::SYS_mkdirat, [fd(at.as_raw_fd()), name.as_ptr() as usize, mode as usize, 0, 0, 0]) }.map(drop)
}

/// symlinkat(2).
pub fn make_link(text: &CStr, at: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: NUL-ended strings and a descriptor.
    unsafe { call(libc::SYS_symlinkat, [text.as_ptr() as usize, fd(at.as_raw_fd()), name.as_ptr() as usize, 0, 0, 0]) }
        .map(drop)
}

/// openat(2) with O_CREAT|O_EXCL|O_NOFOLLOW, for writing.
pub fn create_file(at: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<OwnedFd> {
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY | libc::O_CLOEXEC;
    let args = [fd(at.as_raw_fd()), name.as_ptr() as usize, fd(flags), mode as usize, 0, 0];
    // SAFETY: a descriptor, a NUL-ended name, integers.
    let r = unsafe { call(libc::SYS_openat, args) }?;
    owned(r)
}

/// fchownat(2) with AT_EMPTY_PATH: the thing behind the descriptor itself.
pub fn set_owner(of: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
    let args = [fd(of.as_raw_fd()), c"".as_ptr() as usize, uid as usize, gid as usize, libc::AT_EMPTY_PATH as usize, 0];
    // SAFETY: a descriptor, an empty NUL-ended path, integers.
    unsafe { call(libc::SYS_fchownat, args) }.map(drop)
}

/// fchmod(2); not on a descriptor that is only a path.
pub fn set_mode(of: BorrowedFd<'_>, mode: u32) -> Result<()> {
    // SAFETY: a descriptor and an integer.
    unsafe { call(libc::SYS_fchmod, [fd(of.as_raw_fd()), mode as usize, 0, 0, 0, 0]) }.map(drop)
}

/// What identifies a file: device, inode, and the type bits of its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `st_dev`
    pub device: u64,
    /// `st_ino`
    pub inode: u64,
    /// `st_mode & S_IFMT`
    pub kind: u32,
    /// `st_rdev`
    pub rdev: u64,
    /// Permission bits of `st_mode`.
    pub mode: u32,
    /// `st_uid`
    pub uid: u32,
    /// `st_gid`
    pub gid: u32,
}

/// fstat(2).
pub fn identity(of: BorrowedFd<'_>) -> Result<Identity> {
    let mut st = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel fills the struct, which is large enough, through the C library.
    let r = unsafe { libc::fstat(of.as_raw_fd(), st.as_mut_ptr()) };
    Errno::result(r)?;
    // SAFETY: fstat succeeded, so every field is set.
    let st = unsafe { st.assume_init() };
    Ok(Identity {
        device: st.st_dev,
        inode: st.st_ino,
        kind: st.st_mode & libc::S_IFMT,
        rdev: st.st_rdev,
        mode: st.st_mode & 0o1777,
        uid: st.st_uid,
        gid: st.st_gid,
    })
}

/// The slave of a pseudo-terminal by its master, never by a path (TIOCGPTPEER, ioctl_tty(2)).
pub fn pty_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = fd(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
    // SAFETY: a descriptor and an integer argument.
    let r = unsafe { call(libc::SYS_ioctl, [fd(master.as_raw_fd()), request(libc::TIOCGPTPEER), flags, 0, 0, 0]) }?;
    owned(r)
}

/// Unlocks a new pseudo-terminal (TIOCSPTLCK, ioctl_tty(2)).
pub fn pty_unlock(master: BorrowedFd<'_>) -> Result<()> {
    let zero: i32 = 0;
    let args = [fd(master.as_raw_fd()), request(libc::TIOCSPTLCK), (&raw const zero) as usize, 0, 0, 0];
    // SAFETY: the kernel reads one int, which outlives the call.
    unsafe { call(libc::SYS_ioctl, args) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A path with `..` in it is found while names change elsewhere.
    #[test]
    fn a_race_elsewhere_fails_no_open() {
        let dir = std::env::temp_dir().join(format!("stockade-race-{}", std::process::id()));
        fs::create_dir_all(dir.join("a/b/c")).unwrap();
        fs::create_dir_all(dir.join("x")).unwrap();
        fs::write(dir.join("a/file"), "").unwrap();
        symlink("b/c/../c/../c/../../file", dir.join("a/link")).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    fs::rename(dir.join("x"), dir.join("y")).unwrap();
                    fs::rename(dir.join("y"), dir.join("x")).unwrap();
                }
            });
            let root = File::open(&dir).unwrap();
            let open = || open_in_root(root.as_fd(), c"a/link", libc::O_RDONLY).map(drop);
            let failed = (0..20_000).find_map(|_| open().err());
            done.store(true, Ordering::Relaxed);
            fs::remove_dir_all(dir.join("a")).unwrap();
            assert_eq!(failed, None);
        });
        fs::remove_dir_all(&dir).unwrap();
    }
}
