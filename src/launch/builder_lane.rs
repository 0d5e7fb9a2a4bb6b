//! The builder: builds the file tree with the launcher's own rights, then ends. System calls only.

use super::baton::Detail;
use super::children::Fault;
use super::prepare::{Made, Slot, Source, Work};
use crate::sys::{mount, process};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What the builder holds between its steps.
#[derive(Default)]
pub(super) struct Registers {
    /// Pid of the machine's first process.
    pub(super) init: i32,
    /// The program's process, from the supervisor.
    pub(super) program: Option<OwnedFd>,
    /// Pid of the program.
    pub(super) program_pid: i32,
    userns: Option<OwnedFd>,
    staging: Option<OwnedFd>,
    root: Option<OwnedFd>,
    /// Master of the machine's terminal, to be handed to the supervisor.
    pub(super) master: Option<OwnedFd>,
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Fault { detail: Detail::Call, errno }
    }
}

fn fault(detail: Detail) -> impl Fn(Errno) -> Fault {
    move |errno| Fault { detail, errno }
}

fn held(fd: &Option<OwnedFd>) -> Result<BorrowedFd<'_>, Fault> {
    fd.as_ref().map(|f| f.as_fd()).ok_or(Fault { detail: Detail::Call, errno: Errno::EBADF })
}

/// linux/mount.h
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
const MS_PRIVATE: u64 = 1 << 18;

/// Attributes of boot, whatever the caller had.
pub(super) fn reset_inherited() -> Result<(), Fault> {
    process::reset_signals()?;
    process::set_personality(0)?;
    process::ordinary_scheduling()?;
    // Only a raised priority widens; a lowered one an ordinary user can't and needn't take back.
    match (process::nice()?, process::set_nice(0)) {
        (before, Err(e)) if before < 0 => return Err(e.into()),
        _ => {}
    }
    process::reset_affinity()?;
    // 50 microseconds, as at boot; 0 would give the caller's own value back (prctl(2)).
    process::prctl(libc::PR_SET_TIMERSLACK, [50_000, 0, 0, 0])?;
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::unistd::chdir(c"/")?;
    let score = process::open(mount::CWD, c"/proc/self/oom_score_adj", libc::O_RDWR)?;
    let mut now = [0u8; 8];
    let n = process::read(score.as_raw_fd(), &mut now)?;
    if now.get(..n) != Some(b"0\n") {
        // A negative score would protect the machine from the OOM killer; a positive one only hurts it.
        let negative = now.first() == Some(&b'-');
        match process::write(score.as_raw_fd(), b"0") {
            Err(e) if negative => return Err(e.into()),
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn perform(work: &Work, r: &mut Registers) -> Result<(), Fault> {
    match work {
        Work::MakePropagationPrivate => {
            let top = process::open(mount::CWD, c"/", libc::O_PATH)?;
            mount::set_attributes(top.as_fd(), 0, 0, MS_PRIVATE, None, true)?;
        }
        Work::WriteIdMaps { setgroups, users, groups } => {
            if !setgroups {
                write_proc(r.init, b"setgroups", b"deny")?;
            }
            write_proc(r.init, b"uid_map", users.to_bytes())?;
            write_proc(r.init, b"gid_map", groups.to_bytes())?;
        }
        Work::OpenStaging { options } => r.staging = Some(staging(options)?),
        Work::Mount { target, is_root, made, set, recursive, is_tree } => {
            let tree = make(made, target, *set, r)?;
            if *is_tree {
                mount::set_attributes(tree.as_fd(), *set, 0, MS_PRIVATE, None, *recursive)
                    .map_err(fault(Detail::Attributes))?;
            }
            if *is_root {
                let top = process::open(mount::CWD, c"/", libc::O_PATH)?;
                mount::attach(tree.as_fd(), top.as_fd())?;
                r.root = Some(tree);
            } else {
                let place = mount::open_beneath(held(&r.root)?, target, libc::O_PATH).map_err(fault(Detail::Target))?;
                let directory = |f: BorrowedFd<'_>| mount::identity(f).map(|i| i.kind == libc::S_IFDIR);
                if directory(place.as_fd())? != directory(tree.as_fd())? {
                    return Err(Fault { detail: Detail::TargetKind, errno: Errno::ENOTDIR });
                }
                mount::attach(tree.as_fd(), place.as_fd())?;
            }
        }
        Work::Directory { path, parent, name, mode, owner } => {
            let root = held(&r.root)?;
            let above = mount::open_beneath(root, parent, libc::O_PATH).map_err(fault(Detail::Target))?;
            match mount::make_directory(above.as_fd(), name, *mode) {
                Ok(()) => {
                    let made = mount::open_beneath(root, path, libc::O_PATH).map_err(fault(Detail::Target))?;
                    mount::set_owner(made.as_fd(), *owner, *owner)?;
                }
                Err(Errno::EEXIST) => {
                    let there = mount::open_beneath(root, path, libc::O_PATH).map_err(fault(Detail::Target))?;
                    if mount::identity(there.as_fd())?.kind != libc::S_IFDIR {
                        return Err(Fault { detail: Detail::TargetKind, errno: Errno::ENOTDIR });
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        Work::Link { parent, name, text } => {
            let above = mount::open_beneath(held(&r.root)?, parent, libc::O_PATH).map_err(fault(Detail::Target))?;
            mount::make_link(text, above.as_fd(), name)?;
        }
        Work::File { path, parent, name, content, owner } => {
            let root = held(&r.root)?;
            let above = mount::open_beneath(root, parent, libc::O_PATH).map_err(fault(Detail::Target))?;
            match mount::create_file(above.as_fd(), name, 0o644) {
                Ok(file) => {
                    write_all(&file, content)?;
                    mount::set_owner(file.as_fd(), *owner, *owner)?;
                }
                // A place to mount on may be there already; content never goes into somebody else's file.
                Err(Errno::EEXIST) if content.is_empty() => {
                    let there = mount::open_beneath(root, path, libc::O_PATH).map_err(fault(Detail::Target))?;
                    if mount::identity(there.as_fd())?.kind == libc::S_IFDIR {
                        return Err(Fault { detail: Detail::TargetKind, errno: Errno::EISDIR });
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        Work::Seal { target, is_root } => {
            let root = held(&r.root)?;
            if *is_root {
                mount::set_attributes(root, 1, 0, 0, None, false)?;
            } else {
                let place = mount::open_beneath(root, target, libc::O_PATH).map_err(fault(Detail::Target))?;
                mount::set_attributes(place.as_fd(), 1, 0, 0, None, false)?;
            }
        }
        Work::PivotRoot => {
            nix::unistd::fchdir(held(&r.root)?)?;
            mount::pivot_here()?;
        }
        Work::DetachOldRoot => {
            // umount2 takes what lies on top: first our staging place, then the host's root below it.
            mount::detach_here()?;
            mount::detach_here()?;
            nix::unistd::chdir(c"/")?;
        }
        _ => return Err(Fault { detail: Detail::Call, errno: Errno::ENOSYS }),
    }
    Ok(())
}

/// Enters the machine's namespaces; the caller forks afterwards to be in the PID namespace.
pub(super) fn join(namespaces: u64, needs_userns: bool, r: &mut Registers) -> Result<(), Fault> {
    if needs_userns {
        let mut path = [0u8; 64];
        let name = proc_path(&mut path, r.program_pid, b"ns/user")?;
        r.userns = Some(process::open(mount::CWD, name, libc::O_RDONLY)?);
    }
    process::setns(held(&r.program)?, namespaces)?;
    Ok(())
}

/// A tmpfs at the builder's own `/`, holding what masks show and what overlays write.
fn staging(options: &[(std::ffi::CString, Option<std::ffi::CString>)]) -> Result<OwnedFd, Fault> {
    // NOSUID | NODEV | NOEXEC
    let tree = new(c"tmpfs", options, 0x2 | 0x4 | 0x8)?;
    let top = process::open(mount::CWD, c"/", libc::O_PATH)?;
    mount::attach(tree.as_fd(), top.as_fd())?;
    for (name, mode) in [(c"empty", 0o444), (c"hidden", 0)] {
        let f = mount::create_file(tree.as_fd(), name, mode)?;
        mount::set_mode(f.as_fd(), mode)?;
    }
    mount::make_directory(tree.as_fd(), c"empty.d", 0o555)?;
    mount::make_directory(tree.as_fd(), c"hidden.d", 0)?;
    Ok(tree)
}

fn new(
    kind: &CStr,
    options: &[(std::ffi::CString, Option<std::ffi::CString>)],
    attributes: u64,
) -> Result<OwnedFd, Fault> {
    let context = mount::fsopen(kind)?;
    for (key, value) in options {
        mount::fsconfig_set(context.as_fd(), key, value.as_deref())?;
    }
    mount::fsconfig_create(context.as_fd())?;
    Ok(mount::fsmount(context.as_fd(), attributes)?)
}

/// A detached mount of what is to be shown.
fn make(made: &Made, target: &CStr, set: u64, r: &mut Registers) -> Result<OwnedFd, Fault> {
    match made {
        Made::Bind { from, idmap, recursive } => bind(from, *idmap, *recursive, r),
        Made::Overlay { lower, idmap, slot } => overlay(lower, *idmap, slot, set, r),
        Made::New { kind, options } => new(kind, options, set),
        Made::Again => {
            let place = mount::open_beneath(held(&r.root)?, target, libc::O_PATH).map_err(fault(Detail::Target))?;
            Ok(mount::clone_tree(place.as_raw_fd(), c"", false)?)
        }
        Made::Mask { hidden } => {
            let place = mount::open_beneath(held(&r.root)?, target, libc::O_PATH).map_err(fault(Detail::Target))?;
            let directory = mount::identity(place.as_fd())?.kind == libc::S_IFDIR;
            let name = match (directory, hidden) {
                (false, false) => c"empty",
                (false, true) => c"hidden",
                (true, false) => c"empty.d",
                (true, true) => c"hidden.d",
            };
            Ok(mount::clone_tree(held(&r.staging)?.as_raw_fd(), name, false)?)
        }
        Made::Text { name, content, owner } => {
            let staging = held(&r.staging)?;
            let file = mount::create_file(staging, name, 0o644)?;
            write_all(&file, content)?;
            mount::set_mode(file.as_fd(), 0o644)?;
            mount::set_owner(file.as_fd(), *owner, *owner)?;
            Ok(mount::clone_tree(staging.as_raw_fd(), name, false)?)
        }
        Made::Own { path } => {
            let file = mount::open_plain(path, libc::O_PATH).map_err(fault(Detail::Source))?;
            Ok(mount::clone_tree(file.as_raw_fd(), c"", false)?)
        }
        Made::Console { owner } => {
            let root = held(&r.root)?;
            let master = mount::open_beneath(root, c"dev/pts/ptmx", libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK)?;
            mount::pty_unlock(master.as_fd())?;
            // By the master, never by a name that the image could have put there (CVE-2025-52565).
            let slave = mount::pty_peer(master.as_fd())?;
            mount::set_owner(slave.as_fd(), *owner, u32::MAX)?;
            r.master = Some(master);
            Ok(mount::clone_tree(slave.as_raw_fd(), c"", false)?)
        }
    }
}

/// A copy of the host's mount, if the path still leads to the file that was reviewed.
fn bind(from: &Source, idmap: bool, recursive: bool, r: &Registers) -> Result<OwnedFd, Fault> {
    let file = mount::open_plain(&from.path, libc::O_PATH).map_err(fault(Detail::Source))?;
    let id = mount::identity(file.as_fd())?;
    if (id.device, id.inode) != (from.device, from.inode) {
        return Err(Fault { detail: Detail::SourceChanged, errno: Errno::ESTALE });
    }
    let tree = mount::clone_tree(file.as_raw_fd(), c"", recursive)?;
    if idmap {
        let userns = held(&r.userns)?;
        mount::set_attributes(tree.as_fd(), MOUNT_ATTR_IDMAP, 0, 0, Some(userns), recursive)
            .map_err(fault(Detail::Idmap))?;
    }
    Ok(tree)
}

fn overlay(lower: &Source, idmap: bool, slot: &Slot, set: u64, r: &Registers) -> Result<OwnedFd, Fault> {
    let staging = held(&r.staging)?;
    let below = bind(lower, idmap, false, r)?;
    mount::make_directory(staging, &slot.lower, 0o700)?;
    mount::make_directory(staging, &slot.upper, 0o755)?;
    mount::make_directory(staging, &slot.work, 0o700)?;
    let place = mount::open_beneath(staging, &slot.lower, libc::O_PATH)?;
    mount::attach(below.as_fd(), place.as_fd())?;
    // The layer's root stands for the folder's: who may not enter the one may not enter the other.
    let folder = mount::identity(below.as_fd())?;
    let upper = mount::open_beneath(staging, &slot.upper, libc::O_RDONLY | libc::O_DIRECTORY)?;
    mount::set_mode(upper.as_fd(), folder.mode)?;
    mount::set_owner(upper.as_fd(), folder.uid, folder.gid)?;
    // overlayfs takes paths: relative ones, from here.
    nix::unistd::fchdir(staging)?;
    let context = mount::fsopen(c"overlay")?;
    for (key, value) in &slot.options {
        mount::fsconfig_set(context.as_fd(), key, Some(value))?;
    }
    mount::fsconfig_create(context.as_fd())?;
    let tree = mount::fsmount(context.as_fd(), set)?;
    nix::unistd::chdir(c"/")?;
    Ok(tree)
}

fn write_all(file: &OwnedFd, mut content: &[u8]) -> Result<(), Fault> {
    while !content.is_empty() {
        let n = process::write(file.as_raw_fd(), content)?;
        content = content.get(n..).unwrap_or(&[]);
    }
    Ok(())
}

fn write_proc(pid: i32, name: &[u8], content: &[u8]) -> Result<(), Fault> {
    let mut path = [0u8; 64];
    let name = proc_path(&mut path, pid, name)?;
    let file = process::open(mount::CWD, name, libc::O_WRONLY)?;
    // The kernel takes a map in one write only.
    if process::write(file.as_raw_fd(), content)? != content.len() {
        return Err(Errno::EIO.into());
    }
    Ok(())
}

/// `/proc/PID/NAME` without an allocator.
fn proc_path<'b>(buffer: &'b mut [u8; 64], pid: i32, name: &[u8]) -> Result<&'b CStr, Fault> {
    let mut digits = [0u8; 10];
    let mut count = 0;
    let mut rest = pid.unsigned_abs();
    while let Some(slot) = digits.get_mut(count) {
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        count += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let number = digits.iter().take(count).rev();
    let text = b"/proc/".iter().chain(number).chain(b"/").chain(name).chain(b"\0");
    let mut length = 0;
    for (slot, byte) in buffer.iter_mut().zip(text) {
        *slot = *byte;
        length += 1;
    }
    let used = buffer.get(..length).unwrap_or(&[]);
    CStr::from_bytes_with_nul(used).map_err(|_| Errno::ENAMETOOLONG.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_proc_are_written_without_an_allocator() {
        let mut b = [0u8; 64];
        for pid in [0, 7, 10, 32768, i32::MAX] {
            let want = std::ffi::CString::new(format!("/proc/{pid}/ns/user")).unwrap();
            assert_eq!(proc_path(&mut b, pid, b"ns/user").ok().unwrap(), want.as_c_str());
        }
    }
}
