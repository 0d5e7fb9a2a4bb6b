//! Control groups of a machine: making, bounding, reading back, counting, removing.

use crate::files::{self, there};
use crate::plan::step::{Counter, Group, Limit};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Makes a group. A booted system gets `program` and `init` below it: processes live in the leaves only, so
/// that the machine's own init can hand controllers on (cgroups(7), no internal processes).
pub(super) fn create(g: &Group) -> io::Result<()> {
    let path = Path::new(&g.path);
    if let Some(parent) = path.parent() {
        match fs::create_dir(parent) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        if let Some(top) = parent.parent() {
            hand_down(top, &g.controllers)?;
        }
        hand_down(parent, &g.controllers)?;
    }
    nix::unistd::mkdir(path, Mode::from_bits_truncate(0o755))?;
    let Some(owner) = g.owner else { return Ok(()) };
    for dir in [path.join("program"), path.join("init")] {
        nix::unistd::mkdir(&dir, Mode::from_bits_truncate(0o755))?;
    }
    hand_down(path, &g.controllers)?;
    // cgroups(7), delegation: the folder itself and these three files. Files of limits stay ours.
    let program = path.join("program");
    std::os::unix::fs::chown(&program, Some(owner), Some(owner))?;
    for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        std::os::unix::fs::chown(program.join(file), Some(owner), Some(owner))?;
    }
    Ok(())
}

/// Makes controllers available below a folder; what is there already isn't touched.
fn hand_down(folder: &Path, controllers: &[String]) -> io::Result<()> {
    if controllers.is_empty() {
        return Ok(());
    }
    let file = folder.join("cgroup.subtree_control");
    let now = fs::read_to_string(&file)?;
    for c in controllers.iter().filter(|c| !now.split_whitespace().any(|n| n == *c)) {
        fs::write(&file, format!("+{c}"))?;
    }
    Ok(())
}

/// Writes a limit.
pub(super) fn set(l: &Limit) -> io::Result<()> {
    fs::write(&l.path, &l.value).map_err(|e| match e.kind() {
        // Some files depend on how the kernel was built, and are seen only in a group.
        io::ErrorKind::NotFound => io::Error::new(e.kind(), format!("this kernel has no {}", l.path)),
        _ => e,
    })
}

/// What the kernel holds instead of what was written, if it does.
pub(super) fn differs(l: &Limit) -> io::Result<Option<String>> {
    let now = fs::read_to_string(&l.path)?;
    let now = now.trim();
    Ok(if holds(&l.value, now) { None } else { Some(now.to_owned()) })
}

fn holds(wrote: &str, now: &str) -> bool {
    if wrote == now {
        return true;
    }
    // -1 of v1 is the largest number of pages.
    if let (Ok(wrote), Ok(now)) = (wrote.parse::<i64>(), now.parse::<i64>()) {
        return wrote < 0 && now > 1 << 60;
    }
    // `8:0 rbps=1048576` beside others, or `8:0 1048576`.
    if let Some((device, value)) = wrote.split_once(' ') {
        let line = now.lines().find(|l| l.split(' ').next() == Some(device));
        return match line {
            Some(l) => l.split(' ').skip(1).any(|f| f == value) || value.ends_with("=max"),
            // No line is no bound.
            None => value == "0" || value.ends_with("=max"),
        };
    }
    false
}

/// Is the process in the group?
pub(super) fn has(path: &str, pid: i32) -> io::Result<bool> {
    let text = fs::read_to_string(format!("{path}/cgroup.procs"))?;
    Ok(text.lines().any(|l| l.parse() == Ok(pid)))
}

/// What a machine uses now, where its groups count it.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Usage {
    /// Bytes of memory, caches included.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
}

/// What the groups of a machine count, on either hierarchy.
pub fn usage(groups: &[String]) -> Usage {
    let number = |file: &str| {
        groups.iter().find_map(|g| fs::read_to_string(format!("{g}/{file}")).ok()?.trim().parse::<u64>().ok())
    };
    Usage {
        memory: number("memory.current").or_else(|| number("memory.usage_in_bytes")),
        // Our own init is none of the machine's, as `tasks` counts.
        tasks: number("pids.current").map(|n| n.saturating_sub(1)),
    }
}

/// How often a limit was met; `None` where the kernel's count can't be read.
pub(super) fn count(c: &Counter) -> Option<u64> {
    let text = fs::read_to_string(&c.path).ok()?;
    let value = match c.key.as_str() {
        "" => text.as_str(),
        key => text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '))?,
    };
    value.trim().parse().ok()
}

/// Microseconds in which some, or all, of the group's tasks waited for a resource (Documentation/accounting/psi.rst);
/// `None` where the kernel doesn't count.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Pressure {
    /// At least one task waited.
    pub some: u64,
    /// No task could go on.
    pub full: u64,
}

/// Reads `memory.pressure` and the like of a v2 group.
pub(super) fn pressure(group: &str, resource: &str) -> Option<Pressure> {
    let text = fs::read_to_string(format!("{group}/{resource}.pressure")).ok()?;
    let total = |kind: &str| {
        let line = text.lines().find(|l| l.starts_with(kind))?;
        line.rsplit_once("total=")?.1.trim().parse().ok()
    };
    Some(Pressure { some: total("some ")?, full: total("full ").unwrap_or(0) })
}

/// Kills what runs in a group of ours and removes it with what is below.
pub(super) fn remove(path: &Path, machine: &str) -> io::Result<()> {
    // Only what is made here: .../stockade/NAME. A damaged record must not name anything else.
    let ours = path.file_name().is_some_and(|n| n == machine)
        && path.parent().and_then(Path::file_name).is_some_and(|n| n == "stockade")
        && path.starts_with("/sys/fs/cgroup")
        && path.components().all(|c| !matches!(c, std::path::Component::ParentDir));
    if !ours || !files::exists(path)? {
        return Ok(());
    }
    unthrottle(path);
    let kill = path.join("cgroup.kill");
    if files::exists(&kill)? {
        fs::write(kill, "1")?;
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match remove_tree(path) {
            // A killed process leaves its group a moment later.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                end_members(path)?;
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

/// v1 has no file that kills: what is still there is killed one by one.
fn end_members(path: &Path) -> io::Result<()> {
    let text = there(fs::read_to_string(path.join("cgroup.procs")))?.unwrap_or_default();
    for pid in text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|p| *p > 1) {
        match crate::sys::process::kill(pid, libc::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Lifts what holds back the reads and writes of a group: a process that waits for them can't be killed until they are
/// done, however long that takes (Documentation/admin-guide/cgroup-v1/blkio-controller.rst, cgroup-v2.rst). Best effort:
/// what can't be lifted is waited for.
pub(super) fn unthrottle(path: &Path) {
    const V1: [&str; 4] = ["read_bps", "write_bps", "read_iops", "write_iops"];
    let old = V1.map(|what| (format!("blkio.throttle.{what}_device"), "0"));
    let new = ("io.max".to_owned(), "rbps=max wbps=max riops=max wiops=max");
    for (file, none) in old.into_iter().chain([new]) {
        let file = path.join(file);
        let text = fs::read_to_string(&file).unwrap_or_default();
        for device in text.lines().filter_map(|l| l.split(' ').next()) {
            fs::write(&file, format!("{device} {none}")).unwrap_or_default();
        }
    }
}

/// Removes a group and all below it, from the innermost on. A machine makes groups as deep as it likes: so the way down
/// and up again goes by one folder at a time, with one descriptor, and without a path that could become too long.
fn remove_tree(path: &Path) -> io::Result<()> {
    use nix::dir::{Dir, Type};
    use nix::unistd::{UnlinkatFlags, unlinkat};
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let none = Mode::empty();
    let Some(mut folder) = there(Dir::open(path, flags, none).map_err(io::Error::from))? else { return Ok(()) };
    let mut way: Vec<CString> = Vec::new();
    loop {
        let mut child = None;
        for entry in folder.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type() == Some(Type::Directory) && !matches!(name.to_bytes(), b"." | b"..") {
                child = Some(name.to_owned());
                break;
            }
        }
        if let Some(name) = child {
            folder = Dir::openat(&folder, name.as_c_str(), flags, none)?;
            way.push(name);
            continue;
        }
        let Some(name) = way.pop() else { break };
        folder = Dir::openat(&folder, "..", flags, none)?;
        there(unlinkat(&folder, name.as_c_str(), UnlinkatFlags::RemoveDir).map_err(io::Error::from))?;
    }
    there(fs::remove_dir(path)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::{count, holds, remove_tree};
    use crate::plan::step::{Counter, Origin};

    #[test]
    fn a_count_that_cannot_be_read_is_not_nought() {
        let of = |path: &str, key: &str| Counter {
            limit: "memory 64MiB".into(),
            path: path.into(),
            key: key.into(),
            meaning: "times".into(),
            origin: Origin::implied("a test"),
        };
        let path = std::env::temp_dir().join(format!("stockade-unit-{}-count", std::process::id()));
        let path = path.to_str().unwrap();
        std::fs::write(path, "low 0\noom_kill 3\n").unwrap();
        assert_eq!((count(&of(path, "oom_kill")), count(&of(path, "low"))), (Some(3), Some(0)));
        assert_eq!((count(&of(path, "oom")), count(&of(path, ""))), (None, None));
        std::fs::write(path, "7\n").unwrap();
        assert_eq!(count(&of(path, "")), Some(7));
        std::fs::remove_file(path).unwrap();
        assert_eq!(count(&of(path, "")), None);
    }

    /// Deeper than a path can say, and than descriptors go.
    #[test]
    fn a_deep_tree_goes() {
        use nix::dir::Dir;
        use nix::fcntl::OFlag;
        use nix::sys::stat::{Mode, mkdirat};
        let top = std::env::temp_dir().join(format!("stockade-unit-{}-deep", std::process::id()));
        std::fs::create_dir(&top).unwrap();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut folder = Dir::open(&top, flags, Mode::empty()).unwrap();
        let name = "d".repeat(200);
        for _ in 0..1500 {
            for n in [name.as_str(), "beside"] {
                mkdirat(&folder, n, Mode::S_IRWXU).unwrap();
            }
            folder = Dir::openat(&folder, name.as_str(), flags, Mode::empty()).unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists());
        // What isn't there is gone already.
        remove_tree(&top).unwrap();
    }

    #[test]
    fn what_the_kernel_holds_is_what_was_written() {
        for (wrote, now) in [
            ("65", "65"),
            ("max", "max"),
            ("-1", "9223372036854771712"),
            ("8:0 rbps=1048576", "8:0 rbps=1048576 wbps=max riops=max wiops=max"),
            ("8:0 1048576", "8:0 1048576\n8:16 5"),
            ("200000 100000", "200000 100000"),
            ("8:0 0", ""),
        ] {
            assert!(holds(wrote, now), "{wrote} {now}");
        }
        for (wrote, now) in [
            ("65", "64"),
            ("1000000", "max"),
            ("1000000", "999424"),
            ("8:0 rbps=1048576", "8:0 rbps=max"),
            ("8:0 5", ""),
            ("200000 100000", "max 100000"),
            ("-1", "4096"),
        ] {
            assert!(!holds(wrote, now), "{wrote} {now}");
        }
    }
}
