//! Zones: machines that reach each other by name. A zone is there with its first member and gone with its last.
//!
//! `zones/NAME/members/MACHINE` holds a member's addresses; `hosts`, which all members see as their
//! /etc/hosts, is made of them (hosts(5)). It is changed in place: who has it mounted sees the change.

use super::state::{Home, hold};
use crate::files::{self, list, there};
use nix::fcntl::FlockArg;
use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The list of a zone's members. Zones are root's: the place is known.
pub(super) fn names_path(zone: &str) -> String {
    format!("/run/stockade/zones/{zone}/hosts")
}

/// The number of a zone that is there; else one that no zone has, near the one that its name decides.
/// `None` when all of them are taken.
pub fn number(home: &Home, zone: &str, count: u16) -> io::Result<Option<u16>> {
    let zones = home.place("zones");
    if let Some(n) = read_number(&zones.join(zone))? {
        return Ok(Some(n));
    }
    let taken = numbers(&zones)?;
    let hash = zone.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    Ok((0..u32::from(count))
        .filter_map(|i| u16::try_from(hash.wrapping_add(i) % u32::from(count)).ok())
        .find(|n| !taken.contains(n)))
}

/// `None` where there is no zone, or one whose making was cut off before it had a number.
fn read_number(zone: &Path) -> io::Result<Option<u16>> {
    Ok(there(fs::read_to_string(zone.join("number")))?.and_then(|t| t.trim().parse().ok()))
}

fn numbers(zones: &Path) -> io::Result<Vec<u16>> {
    let mut out = Vec::new();
    for zone in list(zones)? {
        out.extend(read_number(&zone)?);
    }
    Ok(out)
}

/// Makes the machine a member; false when another zone took the number meanwhile.
pub(super) fn join(home: &Home, zone: &str, number: u16, machine: &str, addresses: &[IpAddr]) -> io::Result<bool> {
    let zones = home.place("zones");
    let _gate = hold(&zones.join(".gate"), FlockArg::LockExclusive)?;
    let folder = zones.join(zone);
    match read_number(&folder)? {
        Some(n) if n != number => return Ok(false),
        None if numbers(&zones)?.contains(&number) => return Ok(false),
        _ => {}
    }
    for path in [folder.clone(), folder.join("members")] {
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    super::state::write_whole(&folder.join("number"), number.to_string().as_bytes())?;
    let lines: Vec<String> = addresses.iter().map(|a| format!("{a} {machine}\n")).collect();
    super::state::write_whole(&folder.join("members").join(machine), lines.concat().as_bytes())?;
    tell(&folder)?;
    Ok(true)
}

/// Takes the machine out; the zone goes with its last member.
pub(super) fn leave(home: &Home, zone: &str, machine: &str) -> io::Result<()> {
    // A damaged record must not name anything else.
    if zone.contains('/') || zone.starts_with('.') || zone.is_empty() {
        return Ok(());
    }
    let zones = home.place("zones");
    let _gate = hold(&zones.join(".gate"), FlockArg::LockExclusive)?;
    let folder = zones.join(zone);
    if !files::exists(&folder)? {
        return Ok(());
    }
    for name in [machine.to_owned(), format!("{machine}.tmp")] {
        there(fs::remove_file(folder.join("members").join(name)))?;
    }
    // A list that can't be read is not an empty one, nor one with members.
    if list(&folder.join("members"))?.is_empty() { fs::remove_dir_all(&folder) } else { tell(&folder) }
}

/// Writes the list anew, into the very file that members have mounted. Read meanwhile it is never a part of
/// an old line: what is shorter than before is filled up first, and cut afterwards.
fn tell(folder: &Path) -> io::Result<()> {
    let mut members = list(&folder.join("members"))?;
    members.sort();
    let mut text = String::from("# The members of this zone, by Stockade.\n127.0.0.1 localhost\n::1 localhost\n");
    for m in members.iter().filter(|m| m.extension().is_none()) {
        text.push_str(&fs::read_to_string(m)?);
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW)
        .open(folder.join("hosts"))?;
    crate::sys::mount::set_mode(std::os::fd::AsFd::as_fd(&file), 0o644)?;
    let length = text.len();
    let before = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    text.extend(std::iter::repeat_n('\n', before.saturating_sub(length)));
    file.write_all(text.as_bytes())?;
    file.set_len(length as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_there_with_its_first_member_and_gone_with_its_last() {
        let home = Home::for_test("zone");
        let n = number(&home, "a", 128).unwrap().unwrap();
        let at: IpAddr = "10.84.0.2".parse().unwrap();
        assert!(join(&home, "a", n, "one", &[at]).unwrap());
        assert!(join(&home, "a", n, "two-with-a-long-name", &["10.84.0.6".parse().unwrap()]).unwrap());
        assert_eq!(number(&home, "a", 128).unwrap(), Some(n));
        assert!(!join(&home, "b", n, "x", &[at]).unwrap(), "two zones never share addresses");
        let hosts = home.place("zones").join("a/hosts");
        let inode = |p: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(p).unwrap());
        let before = inode(&hosts);
        assert!(fs::read_to_string(&hosts).unwrap().contains("\n10.84.0.6 two-with-a-long-name\n"));
        leave(&home, "a", "two-with-a-long-name").unwrap();
        assert_eq!(fs::read_to_string(&hosts).unwrap().lines().last(), Some("10.84.0.2 one"));
        assert_eq!(inode(&hosts), before, "members see it change");
        leave(&home, "../machines", "one").unwrap();
        leave(&home, "a", "one").unwrap();
        leave(&home, "a", "one").unwrap();
        assert!(!home.place("zones").join("a").exists());
        fs::remove_dir_all(home.place("")).unwrap();
    }
}
