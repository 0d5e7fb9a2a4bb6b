//! What is written down of machines, and cleaning up after those that are gone.
//!
//! Crash-only: the lock is the truth. A folder whose lock nobody holds belongs to a dead machine,
//! whatever its state says, and is removed with everything that it names.

use super::netfilter::{self, Keep};
use super::{forwarding, groups, netlink, nft, zone};
use crate::files::{self, list, there};
use crate::plan::step::{Counter, Exposure, is_given, outside_name};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{fstat, lstat};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The folder of all state of this caller.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

/// What `state.json` says of a machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The machine's name.
    pub machine: String,
    /// The boot in which this was written (/proc/sys/kernel/random/boot_id).
    pub boot: String,
    /// Cgroup folders to remove.
    pub cgroups: Vec<String>,
    /// Tables of the packet filter to remove: family and name.
    #[serde(default)]
    pub tables: Vec<(String, String)>,
    /// The host's end of its link.
    #[serde(default)]
    pub link: Option<String>,
    /// The zone that it is a member of.
    #[serde(default)]
    pub zone: Option<String>,
    /// Addresses whose connections the kernel has to forget.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// The supervisor's pid.
    pub supervisor: u32,
    /// Pid of the program; 0 until it was released.
    pub program: i32,
    /// SHA-256 of the confinement that was read back.
    pub digest: String,
    /// Who reaches it, whom it reaches.
    #[serde(default)]
    pub exposure: Vec<Exposure>,
    /// Where the kernel counts how often a limit was met.
    #[serde(default)]
    pub watch: Vec<Counter>,
}

const FOLDERS: [&str; 5] = ["machines", "ids", "subnets", "zones", "forwarding"];

/// A machine as it is found, for [`Home::machines`].
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Somebody holds its lock. What nobody holds is gone, and goes with the next `run` or `status`.
    pub held: bool,
    /// There is a record.
    pub written: bool,
    /// The record, where it can be read.
    pub record: Option<Record>,
}

/// What cleaning up came to.
#[derive(Debug, Default)]
pub struct Collected {
    /// Machines of which nothing is left.
    pub removed: usize,
    /// What couldn't be removed, and why.
    pub faults: Vec<String>,
}

impl Home {
    /// Root's is /run/stockade; others have theirs in their own runtime folder.
    pub fn open(uid: u32) -> io::Result<Home> {
        let base = if uid == 0 {
            PathBuf::from("/run/stockade")
        } else {
            let runtime = PathBuf::from(format!("/run/user/{uid}"));
            let own =
                fs::symlink_metadata(&runtime).is_ok_and(|m| m.is_dir() && m.uid() == uid && m.mode() & 0o077 == 0);
            if own { runtime.join("stockade") } else { PathBuf::from(format!("/tmp/stockade-{uid}")) }
        };
        let home = Home(base);
        home.folder(&home.0, uid)?;
        for name in FOLDERS {
            home.folder(&home.0.join(name), uid)?;
        }
        Ok(home)
    }

    /// Makes a folder of our own, or makes sure that the one that is there is.
    fn folder(&self, path: &Path, uid: u32) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let m = fs::symlink_metadata(path)?;
        if !m.is_dir() || m.uid() != uid || m.mode() & 0o022 != 0 {
            let text = format!("{} is not a folder that only uid {uid} can write", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(())
    }

    fn machine(&self, name: &str) -> PathBuf {
        self.0.join("machines").join(name)
    }

    /// Takes the lock of a name, or says that another holds it.
    pub fn lock(&self, name: &str) -> io::Result<Lock> {
        self.lock_until(name, Instant::now() + Duration::from_millis(100))
    }

    fn lock_until(&self, name: &str, deadline: Instant) -> io::Result<Lock> {
        let dir = self.machine(name);
        loop {
            match DirBuilder::new().mode(0o700).create(&dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            match Lock::take(&dir.join("lock")) {
                Ok(Some(flock)) => return Ok(flock),
                // Somebody removed the folder between our two calls.
                Ok(None) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                // A command that cleans up holds every lock for a moment.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Takes the locks of all blocks of 65,536 ids that a range touches.
    pub fn lock_ids(&self, first: u32, count: u32) -> io::Result<Vec<Lock>> {
        let last = first.saturating_add(count.saturating_sub(1));
        let mut out = Vec::new();
        for block in first >> 16..=last >> 16 {
            loop {
                if let Some(l) = Lock::take(&self.0.join("ids").join(block.to_string()))? {
                    out.push(l);
                    break;
                }
            }
        }
        Ok(out)
    }

    /// True when no machine holds a block of the range now.
    pub fn ids_free(&self, first: u32, count: u32) -> bool {
        let last = first.saturating_add(count.saturating_sub(1));
        (first >> 16..=last >> 16).all(|block| is_free(&self.0.join("ids").join(block.to_string())))
    }

    /// Writes a machine's record so that it is there whole or not at all.
    ///
    /// Without fsync: the record speaks of processes and cgroups of this boot only. After a crash of the
    /// program the page cache is intact; after a crash of the host nothing that it names exists any more.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        write_whole(&self.machine(&record.machine).join("state.json"), &serde_json::to_vec(record)?)
    }

    /// Removes what a machine leaves; its lock must be held. All that can be removed is, whatever else can't; what
    /// is left stays written down for the next command.
    pub fn forget(&self, name: &str, lock: Lock) -> io::Result<()> {
        let dir = self.machine(name);
        // It is written before anything is made: without the file there is nothing, with one that can't be read
        // there may be whatever the name alone implies.
        let record = match there(fs::read(dir.join("state.json")))? {
            Some(text) => match serde_json::from_slice(&text) {
                Ok(record) => record,
                Err(_) => self.implied(name)?,
            },
            None => empty(name),
        };
        let mut faults = Vec::new();
        let mut note = |what: String, result: io::Result<()>| {
            if let Err(e) = result {
                faults.push(format!("{what}: {e}"));
            }
        };
        for cgroup in &record.cgroups {
            note(cgroup.clone(), groups::remove(Path::new(cgroup), name));
        }
        // Its network namespace takes the link along, but not at once: the name is needed again. Of a damaged
        // record only what carries the machine's own name counts.
        if let Some(link) = record.link.iter().find(|l| **l == outside_name(name)) {
            note(format!("link {link}"), netlink::delete(link));
        }
        for (family, table) in record.tables.iter().filter(|(_, t)| *t == format!("stockade-{name}")) {
            if matches!(family.as_str(), "inet" | "bridge") {
                note(format!("table {family} {table}"), nft::delete(family, table));
            }
        }
        // Without link and rules nothing makes new ones.
        let own: Vec<IpAddr> = record.addresses.iter().copied().filter(|a| is_given(*a)).collect();
        if !own.is_empty() {
            note("its connections".to_owned(), netfilter::forget_connections(&own, Keep::Nothing));
        }
        if let Some(zone) = &record.zone {
            note(format!("zone {zone}"), zone::leave(self, zone, name));
        }
        if !faults.is_empty() {
            return Err(io::Error::other(faults.join("; ")));
        }
        for file in ["state.json", "state.tmp", "lock"] {
            there(fs::remove_file(dir.join(file)))?;
        }
        there(fs::remove_dir(&dir))?;
        drop(lock);
        Ok(())
    }

    /// What a machine with a damaged record may have left, by its name alone.
    fn implied(&self, name: &str) -> io::Result<Record> {
        let mut record = empty(name);
        // An ordinary user's machine has none of these, and root's of the same name isn't theirs.
        if self.0 != Path::new("/run/stockade") {
            return Ok(record);
        }
        let top = PathBuf::from("/sys/fs/cgroup");
        for place in list(&top)?.into_iter().chain([top]).map(|p| p.join("stockade").join(name)) {
            if files::exists(&place)? {
                record.cgroups.extend(place.to_str().map(str::to_owned));
            }
        }
        if files::first_of(crate::sys::NFT)?.is_some() {
            record.tables = ["inet", "bridge"].map(|f| (f.to_owned(), format!("stockade-{name}"))).into();
        }
        record.link = Some(outside_name(name));
        for zone in list(&self.0.join("zones"))? {
            if files::exists(zone.join("members").join(name))? {
                record.zone = zone.file_name().and_then(|z| z.to_str()).map(str::to_owned);
            }
        }
        Ok(record)
    }

    /// Cleans up after machines that are gone. Runs at the start of every command that can change
    /// something; does nothing when nothing is left. What can't be removed is told, and is in nobody's way.
    pub fn collect(&self) -> io::Result<Collected> {
        let mut done = Collected::default();
        for entry in fs::read_dir(self.0.join("machines"))? {
            let entry = entry?;
            // What isn't a folder isn't ours, and is nobody's machine.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !entry.file_type()?.is_dir() {
                continue;
            }
            match self.lock_until(&name, Instant::now()) {
                Ok(lock) => match self.forget(&name, lock) {
                    Ok(()) => done.removed += 1,
                    Err(e) => done.faults.push(format!("machine `{name}`: {e}")),
                },
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => done.faults.push(format!("machine `{name}`: {e}")),
            }
        }
        let entries = fs::read_dir(self.0.join("ids"))?.chain(fs::read_dir(self.0.join("subnets"))?);
        for entry in entries {
            let path = entry?.path();
            match Lock::take(&path) {
                Ok(Some(lock)) => lock.remove()?,
                Ok(None) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        if let Err(e) = forwarding::restore(self) {
            done.faults.push(format!("forwarding: {e}"));
        }
        Ok(done)
    }

    /// The machines in the order of their names. Changes nothing itself.
    pub fn machines(&self) -> io::Result<Vec<Found>> {
        let mut out = Vec::new();
        for entry in fs::read_dir(self.0.join("machines"))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let dir = entry.path();
            let held = !is_free(&dir.join("lock"));
            let text = there(fs::read(dir.join("state.json")))?;
            let record = text.as_ref().and_then(|t| serde_json::from_slice(t).ok());
            out.push(Found { name, held, written: text.is_some(), record });
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    /// A folder of the state.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn subnet_lock(&self, zone: Option<u16>, number: u16) -> PathBuf {
        self.0.join("subnets").join(zone.map_or(format!("{number}"), |z| format!("{z}-{number}")))
    }

    /// Takes the lock of a subnet.
    pub(super) fn lock_subnet(&self, zone: Option<u16>, number: u16) -> io::Result<Lock> {
        loop {
            if let Some(l) = Lock::take(&self.subnet_lock(zone, number))? {
                return Ok(l);
            }
        }
    }

    /// True when no machine holds the subnet now.
    pub fn subnet_free(&self, zone: Option<u16>, number: u16) -> bool {
        is_free(&self.subnet_lock(zone, number))
    }
}

/// A record of nothing.
fn empty(name: &str) -> Record {
    Record {
        machine: name.to_owned(),
        boot: String::new(),
        cgroups: Vec::new(),
        tables: Vec::new(),
        link: None,
        zone: None,
        addresses: Vec::new(),
        supervisor: 0,
        program: 0,
        digest: String::new(),
        exposure: Vec::new(),
        watch: Vec::new(),
    }
}

fn is_free(path: &Path) -> bool {
    match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(f) => Flock::lock(f, FlockArg::LockExclusiveNonblock).is_ok(),
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

/// A lock that many may hold, or one alone; the file stays.
pub(super) fn hold(path: &Path, how: FlockArg) -> io::Result<Flock<File>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    Flock::lock(file, how).map_err(|(_, e)| io::Error::from_raw_os_error(e as i32))
}

/// Writes a file of the state so that it is there whole or not at all.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut f = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&temporary)?;
    f.write_all(content)?;
    fs::rename(&temporary, path)
}

/// A lock on a file, held as long as the value (or a process that was cloned while it was open) lives.
pub struct Lock {
    path: PathBuf,
    file: Flock<File>,
}

impl Lock {
    /// `None` when the file was removed while we waited for it: try again.
    fn take(path: &Path) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, e)| io::Error::from_raw_os_error(e as i32))?;
        let held = fstat(file.as_fd())?;
        match lstat(path) {
            Ok(now) if (now.st_dev, now.st_ino) == (held.st_dev, held.st_ino) => {
                Ok(Some(Lock { path: path.to_owned(), file }))
            }
            Ok(_) | Err(nix::errno::Errno::ENOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Removes the file while the lock is held.
    pub fn remove(self) -> io::Result<()> {
        let r = fs::remove_file(&self.path);
        drop(self.file);
        r
    }
}

/// This boot's id.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Home {
        /// An empty one that only this test has.
        pub(crate) fn for_test(name: &str) -> Home {
            home(name)
        }
    }

    fn home(name: &str) -> Home {
        let dir = std::env::temp_dir().join(format!("stockade-unit-{}-{name}", std::process::id()));
        for d in [""].into_iter().chain(FOLDERS) {
            DirBuilder::new().mode(0o700).recursive(true).create(dir.join(d)).unwrap();
        }
        Home(dir)
    }

    #[test]
    fn one_holder_for_each_name_and_range() {
        let h = home("locks");
        let held = h.lock("web").unwrap();
        assert_eq!(h.lock("web").err().unwrap().kind(), io::ErrorKind::WouldBlock);
        let ids = h.lock_ids(100_000, 65_536).unwrap();
        assert_eq!(ids.len(), 2);
        assert!(!h.ids_free(131_072, 1));
        assert!(h.ids_free(0x5000_0000, 65_536));
        assert!(h.lock_ids(131_072, 10).is_err());
        assert_eq!(h.collect().unwrap().removed, 0, "what is in use stays");
        drop((held, ids));
        assert_eq!(h.collect().unwrap().removed, 1);
        assert_eq!(h.collect().unwrap().removed, 0, "a second time there is nothing to do");
        assert!(h.lock("web").is_ok());
        fs::remove_dir_all(&h.0).unwrap();
    }

    #[test]
    fn a_damaged_record_names_nothing_else() {
        let h = home("record");
        let lock = h.lock("web").unwrap();
        let victim = h.0.join("precious");
        fs::create_dir(&victim).unwrap();
        let record = Record {
            machine: "web".into(),
            boot: String::new(),
            cgroups: vec![victim.to_str().unwrap().into()],
            tables: vec![("inet".into(), "filter".into())],
            link: Some("eth0".into()),
            zone: Some("../../precious".into()),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            supervisor: 1,
            program: 0,
            digest: String::new(),
            exposure: Vec::new(),
            watch: Vec::new(),
        };
        h.write(&record).unwrap();
        h.forget("web", lock).unwrap();
        assert!(victim.exists());
        let lock = h.lock("web").unwrap();
        fs::write(h.machine("web").join("state.json"), b"{half").unwrap();
        h.forget("web", lock).unwrap();
        assert!(!h.machine("web").exists());
        fs::remove_dir_all(&h.0).unwrap();
    }
}
