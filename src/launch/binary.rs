//! Keeping the launcher's own binary out of a machine's reach (CVE-2019-5736 class).
//!
//! Until exec a process of the machine runs this binary, and an image can make exec itself lead back to it
//! (`#!/proc/self/exe`). Where the binary belongs to an id that exists inside, the machine could change the
//! host's file: there the launcher runs from a sealed copy in memory.

use crate::plan::{Action, Plan};
use crate::sys::process::{self, CStrArray};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt as _;

/// Starts the same command again from a sealed copy, if this machine needs it. Returns when it doesn't.
pub fn seal_if_needed(plan: &Plan) -> io::Result<()> {
    let own = File::open("/proc/self/exe")?;
    if process::is_sealed(own.as_fd()) || !reaches(plan, own.metadata()?.uid()) {
        return Ok(());
    }
    let copy = File::from(process::memory_file(c"stockade")?);
    io::copy(&mut &own, &mut &copy)?;
    process::seal(copy.as_fd())?;
    let path = CString::new(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy)))?;
    let words = |list: Vec<Vec<u8>>| list.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let argv = words(std::env::args_os().map(OsStringExt::into_vec).collect())?;
    let environment = words(
        std::env::vars_os()
            .map(|(k, v)| {
                let mut pair = k.into_vec();
                pair.push(b'=');
                pair.extend(v.into_vec());
                pair
            })
            .collect(),
    )?;
    Err(process::exec(&path, &CStrArray::new(argv), &CStrArray::new(environment)).into())
}

/// Does this user of the host exist inside?
fn reaches(plan: &Plan, owner: u32) -> bool {
    let outer = plan.steps().iter().find_map(|s| match &s.action {
        Action::CloneBuilder { outer } => *outer,
        _ => None,
    });
    if let Some((uid, _)) = outer {
        return owner == uid;
    }
    let maps = plan.steps().iter().find_map(|s| match &s.action {
        Action::WriteIdMaps { users, .. } => Some(users),
        _ => None,
    });
    maps.is_none_or(|list| list.iter().any(|r| owner >= r.outside && owner - r.outside < r.count))
}
