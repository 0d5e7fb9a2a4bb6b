//! Init and the program: each confines itself, from the outside in. System calls only.

use super::baton::Detail;
use super::children::Fault;
use super::prepare::Work;
use crate::plan::step::file_only;
use crate::sys::{confine, mount, process};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd};

const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_NEWCGROUP: u64 = 0x200_0000;
const PR_CAP_AMBIENT: i32 = 47;
const PR_CAP_AMBIENT_RAISE: usize = 2;

pub(super) fn perform(work: &Work) -> Result<(), Fault> {
    match work {
        Work::BecomeRoot => {
            confine::set_groups(&[])?;
            confine::set_gid(0)?;
            confine::set_uid(0)?;
        }
        Work::NewKeyring => process::new_keyring()?,
        Work::DieWithSupervisor => {
            process::prctl(libc::PR_SET_PDEATHSIG, [libc::SIGKILL as usize, 0, 0, 0])?;
        }
        Work::UnshareCgroup => process::unshare(CLONE_NEWCGROUP)?,
        Work::UnshareMounts => process::unshare(CLONE_NEWNS)?,
        Work::SetHostname(name) => {
            nix::unistd::sethostname(std::os::unix::ffi::OsStrExt::from_bytes(name.as_slice()) as &std::ffi::OsStr)?;
        }
        Work::Terminal { streams } => terminal(*streams)?,
        Work::SetUmask(mask) => {
            process::reset_signals()?;
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(*mask));
        }
        Work::SetRlimit { resource, value } => process::set_rlimit(*resource, *value, *value)?,
        Work::ChangeDirectory(path) => nix::unistd::chdir(path.as_c_str())?,
        Work::DropBounding { keep, last } => {
            for capability in (0..=*last).filter(|c| keep >> c & 1 == 0) {
                process::prctl(libc::PR_CAPBSET_DROP, [usize::from(capability), 0, 0, 0])?;
            }
        }
        Work::SetCredentials { uid, gid, groups } => {
            // Capabilities survive the change of user until they are set for good.
            process::prctl(libc::PR_SET_KEEPCAPS, [1, 0, 0, 0])?;
            if let Some(groups) = groups {
                confine::set_groups(groups)?;
            }
            confine::set_gid(*gid)?;
            confine::set_uid(*uid)?;
        }
        Work::SetCapabilities { permitted, inheritable, ambient, securebits } => {
            let now = confine::permitted()?;
            confine::set_capabilities(now, now, *inheritable)?;
            for capability in (0..64usize).filter(|c| ambient >> c & 1 == 1) {
                process::prctl(PR_CAP_AMBIENT, [PR_CAP_AMBIENT_RAISE, capability, 0, 0])?;
            }
            if *securebits != 0 {
                process::prctl(libc::PR_SET_SECUREBITS, [*securebits as usize, 0, 0, 0])?;
            } else {
                process::prctl(libc::PR_SET_KEEPCAPS, [0, 0, 0, 0])?;
            }
            confine::set_capabilities(*permitted, *permitted, *inheritable)?;
        }
        Work::SetNoNewPrivs => {
            process::prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0])?;
        }
        Work::RestrictLandlock { ruleset, paths } => {
            let set =
                confine::landlock_create(ruleset.handled_files, ruleset.handled_network, ruleset.scoped, ruleset.size)?;
            for (rule, path) in ruleset.paths.iter().zip(paths) {
                let place = match mount::open_plain(path, libc::O_PATH) {
                    Ok(place) => place,
                    Err(Errno::ENOENT) if rule.optional => continue,
                    Err(errno) => return Err(Fault { detail: Detail::Target, errno }),
                };
                let directory = mount::identity(place.as_fd())?.kind == libc::S_IFDIR;
                let access = if directory { rule.access } else { rule.access & file_only() };
                if access != 0 {
                    confine::landlock_path(set.as_fd(), access, place.as_fd())?;
                }
            }
            // A right that isn't handled is free: a rule for it would be refused as invalid.
            for rule in ruleset.ports.iter().filter(|p| p.access & ruleset.handled_network != 0) {
                confine::landlock_port(set.as_fd(), rule.access & ruleset.handled_network, rule.port)?;
            }
            confine::landlock_restrict(set.as_fd())?;
        }
        Work::CloseDescriptors => process::close_from(3, true)?,
        Work::LoadSeccomp(program) => confine::load_filter(program)?,
        Work::Exec { path, argv, environment } => return Err(process::exec(path, argv, environment).into()),
        _ => return Err(Errno::ENOSYS.into()),
    }
    Ok(())
}

/// A session of its own; the machine's terminal on the descriptors that were terminals outside.
fn terminal(streams: [bool; 3]) -> Result<(), Fault> {
    if !streams.contains(&true) {
        process::new_session()?;
        return Ok(());
    }
    let console = process::open(mount::CWD, c"/dev/console", libc::O_RDWR | libc::O_NOCTTY)?;
    // Majors 136 to 143 are Unix98 slaves (Documentation/admin-guide/devices.txt).
    let id = mount::identity(console.as_fd())?;
    let major = (id.rdev >> 8) & 0xfff;
    if id.kind != libc::S_IFCHR || !(136..=143).contains(&major) {
        return Err(Fault { detail: Detail::TargetKind, errno: Errno::ENOTTY });
    }
    process::controlling_terminal(console.as_raw_fd())?;
    for (number, _) in (0..).zip(streams).filter(|(_, on)| *on) {
        process::dup_onto(console.as_raw_fd(), number)?;
    }
    Ok(())
}

/// What the machine's init gives up before it waits.
pub(super) fn confine_init() -> Result<(), Fault> {
    // What it still does: pass signals on, to a program that may be another user's.
    const CAP_KILL: u64 = 1 << 5;
    confine::set_capabilities(CAP_KILL, CAP_KILL, 0)?;
    process::prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0])?;
    // Nobody inside can look into or trace a process that isn't dumpable: not its memory, and not
    // /proc/1/exe, which is the launcher's own binary (CVE-2019-5736 class).
    process::prctl(libc::PR_SET_DUMPABLE, [0, 0, 0, 0])?;
    Ok(())
}
