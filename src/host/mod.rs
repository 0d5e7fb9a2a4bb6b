//! Facts of the host, gathered in one place as plain data. Everything later is a function of them.

pub mod cgroups;
pub mod network;

use crate::files;
use crate::kernel::numbers::Arch;
use crate::sys::{confine, mount};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

/// What kind of file a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A folder.
    Directory,
    /// A regular file.
    File,
    /// A character or block device.
    Device,
    /// A socket, a fifo.
    Other,
}

/// What files of the host are called apart from the way to them: the file system, and the path in it. The same folder
/// mounted or linked to at two places has one such name.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// By path.
    pub of: BTreeMap<String, String>,
    /// What is mounted below a path: from there on, and its name.
    pub below: BTreeMap<String, Vec<(String, String)>>,
}

impl Names {
    fn of(paths: &BTreeMap<String, PathFacts>) -> io::Result<Names> {
        let mut names = Names::default();
        let mounts = mounts(&fs::read_to_string("/proc/self/mountinfo")?);
        let join = |m: &Mounted, rest: &str| {
            format!("{} {}{}", m.device, m.top.trim_end_matches('/'), rest.trim_end_matches('/'))
        };
        let seen: Vec<&Mounted> =
            mounts.iter().filter(|m| holder(&mounts, &m.point).is_some_and(|h| h.id == m.id)).collect();
        for (path, facts) in paths {
            let Some(m) = holder(&mounts, &facts.canonical) else {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("no mount holds {path}")));
            };
            names.of.insert(path.clone(), join(m, below(&facts.canonical, &m.point).unwrap_or_default()));
            let above = facts.canonical.trim_end_matches('/');
            let below = seen.iter().filter_map(|m| {
                let rest = m.point.strip_prefix(above).filter(|rest| rest.len() > 1 && rest.starts_with('/'))?;
                Some((rest.to_owned(), join(m, "")))
            });
            names.below.insert(path.clone(), below.collect());
        }
        Ok(names)
    }
}

/// A line of mountinfo.
struct Mounted {
    id: u64,
    parent: u64,
    device: String,
    /// What of the file system is its top.
    top: String,
    point: String,
}

/// proc_pid_mountinfo(5): id, parent, device, root, mount point.
fn mounts(text: &str) -> Vec<Mounted> {
    let line = |l: &str| {
        let mut f = l.split(' ');
        let (id, parent) = (f.next()?.parse().ok()?, f.next()?.parse().ok()?);
        Some(Mounted {
            id,
            parent,
            device: f.next()?.to_owned(),
            top: unescaped(f.next()?),
            point: unescaped(f.next()?),
        })
    };
    text.lines().filter_map(line).collect()
}

/// The way from a mount point on to a path in it.
fn below<'p>(path: &'p str, point: &str) -> Option<&'p str> {
    match point {
        "/" => Some(path),
        _ => path.strip_prefix(point).filter(|rest| rest.is_empty() || rest.starts_with('/')),
    }
}

/// The mount in which a path is seen: as the kernel walks it, from each mount into the first that is on the way. One
/// that was there before something was mounted above it isn't met.
fn holder<'m>(mounts: &'m [Mounted], path: &str) -> Option<&'m Mounted> {
    let mut at = mounts.iter().find(|m| m.point == "/" && !mounts.iter().any(|o| o.id == m.parent && o.id != m.id))?;
    // Each step goes down, so there are no more of them than mounts.
    for _ in mounts {
        let inner = mounts.iter().filter(|m| m.parent == at.id && m.id != at.id && below(path, &m.point).is_some());
        match inner.min_by_key(|m| m.point.len()) {
            Some(next) => at = next,
            None => break,
        }
    }
    Some(at)
}

/// Spaces and the like are octal in mountinfo.
fn unescaped(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |t, (code, plain)| t.replace(code, plain))
}

/// A path of the host as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathFacts {
    /// Without symbolic links.
    pub canonical: String,
    /// `st_dev`
    pub device: u64,
    /// `st_ino`
    pub inode: u64,
    /// Its kind.
    pub kind: Kind,
    /// When the path itself is a symbolic link: its text.
    pub link: Option<String>,
    /// Major and minor number of a block device.
    pub block: Option<(u64, u64)>,
}

/// Users and groups of a root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Name, uid, gid.
    pub users: Vec<(String, u32, u32)>,
    /// Name, gid.
    pub groups: Vec<(String, u32)>,
}

/// The facts.
#[derive(Clone, Debug)]
pub struct Host {
    /// Native architecture.
    pub arch: Arch,
    /// Kernel release, major and minor.
    pub kernel: (u16, u16),
    /// The caller is root with CAP_SYS_ADMIN.
    pub privileged: bool,
    /// The caller's user.
    pub uid: u32,
    /// The caller's group.
    pub gid: u32,
    /// The caller's supplementary groups besides its own.
    pub groups: Vec<u32>,
    /// The caller's permitted capabilities.
    pub capabilities: u64,
    /// Number of the kernel's last capability.
    pub last_capability: u8,
    /// Landlock's ABI; 0 when there is none.
    pub landlock: u32,
    /// Control groups.
    pub cgroups: cgroups::Cgroups,
    /// The network, for a machine that is linked to it.
    pub network: network::Network,
    /// Hard limits by the kernel's number of the resource.
    pub hard_limits: BTreeMap<u32, u64>,
    /// First id of a range of 65,536 that is free, for root.
    pub free_ids: Option<u32>,
    /// Paths that the policy or an implied rule names.
    pub paths: BTreeMap<String, PathFacts>,
    /// Which of them are names of the same files, when that was asked.
    pub names: Option<Names>,
    /// Accounts of the root that the machine will see.
    pub accounts: Accounts,
    /// Init program of that root.
    pub init: Option<String>,
    /// The caller's own environment, for `environment { pass NAME }`.
    pub environment: BTreeMap<String, String>,
    /// A terminal is on standard input, output, error.
    pub terminals: [bool; 3],
}

/// What to look at besides the host itself.
pub struct Wanted<'a> {
    /// Host paths.
    pub paths: Vec<String>,
    /// Which of the paths are names of the same files.
    pub names: bool,
    /// The root folder whose accounts and init count.
    pub root: &'a str,
    /// The machine is linked to a network.
    pub network: bool,
    /// The machine has control groups.
    pub cgroups: bool,
}

/// The host can't be looked at.
#[derive(Debug, thiserror::Error)]
#[error("can't read {what} of this host: {cause}")]
pub struct ProbeError {
    what: String,
    cause: String,
}

impl Host {
    /// Reads the facts. Nothing is changed.
    pub fn probe(wanted: &Wanted<'_>) -> Result<Host, ProbeError> {
        let fail = |what: &'static str| {
            move |e: &dyn std::fmt::Display| ProbeError { what: what.to_owned(), cause: e.to_string() }
        };
        let release = nix::sys::utsname::uname().map_err(|e| fail("the kernel release")(&e))?;
        let capabilities = caps::read(None, caps::CapSet::Permitted).map_err(|e| fail("the capabilities")(&e))?;
        let bits = capabilities.iter().fold(0u64, |b, c| b | 1 << c.index());
        let uid = nix::unistd::geteuid().as_raw();
        let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap")
            .map_err(|e| fail("/proc/sys/kernel/cap_last_cap")(&e))?;
        let mut hard_limits = BTreeMap::new();
        for word in crate::sys::RESOURCES {
            let (_, hard) = getrlimit(*word).map_err(|e| fail("the resource limits")(&e))?;
            hard_limits.insert(resource_number(*word), hard);
        }
        let paths = facts_of(&wanted.paths)?;
        let names = wanted.names.then(|| Names::of(&paths)).transpose().map_err(|e| fail("the host's mounts")(&e))?;
        let root = root_facts(wanted.root).map_err(|e| fail("the root's accounts")(&e))?;
        Ok(Host {
            arch: Arch::NATIVE,
            kernel: parse_release(&release.release().to_string_lossy()),
            privileged: uid == 0 && capabilities.contains(&caps::Capability::CAP_SYS_ADMIN),
            uid,
            gid: nix::unistd::getegid().as_raw(),
            groups: other_groups().map_err(|e| fail("the caller's groups")(&e))?,
            capabilities: bits,
            last_capability: last.trim().parse().map_err(|e: std::num::ParseIntError| fail("cap_last_cap")(&e))?,
            landlock: confine::landlock_abi(),
            cgroups: match wanted.cgroups {
                true => cgroups::Cgroups::probe().map_err(|e| fail("the control groups")(&e))?,
                false => cgroups::Cgroups::default(),
            },
            network: match wanted.network {
                true => network::Network::probe(wanted.root).map_err(|e| fail("the network")(&e))?,
                false => network::Network::default(),
            },
            hard_limits,
            free_ids: None,
            paths,
            names,
            accounts: root.0,
            init: root.1,
            environment: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            terminals: [0, 1, 2].map(is_terminal),
        })
    }
}

fn other_groups() -> nix::Result<Vec<u32>> {
    let own = nix::unistd::getegid();
    Ok(nix::unistd::getgroups()?.into_iter().filter(|g| *g != own).map(nix::unistd::Gid::as_raw).collect())
}

fn is_terminal(n: i32) -> bool {
    use std::io::IsTerminal as _;
    match n {
        0 => std::io::stdin().is_terminal(),
        1 => std::io::stdout().is_terminal(),
        _ => std::io::stderr().is_terminal(),
    }
}

/// The kernel's number of a resource (asm-generic/resource.h).
pub fn resource_number(r: Resource) -> u32 {
    r as u32
}

fn parse_release(release: &str) -> (u16, u16) {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Facts of the paths that exist. Only a path that surely isn't there is left out: any other error must not
/// make a mask or a mount disappear from the plan.
fn facts_of(paths: &[String]) -> Result<BTreeMap<String, PathFacts>, ProbeError> {
    let mut out = BTreeMap::new();
    for path in paths {
        match path_facts(path) {
            Ok(facts) => drop(out.insert(path.clone(), facts)),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
            Err(e) => return Err(ProbeError { what: path.clone(), cause: e.to_string() }),
        }
    }
    Ok(out)
}

fn path_facts(path: &str) -> io::Result<PathFacts> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "the path is not UTF-8");
    let name = CString::new(path)?;
    let (opened, canonical) = match mount::open_plain(&name, libc::O_PATH) {
        // No link on the way: it is called what it is called.
        Ok(opened) if is_plain(path) => (opened, path.to_owned()),
        // Following links; the kernel then says what the place is called without them.
        _ => {
            let opened = crate::sys::process::open(mount::CWD, &name, libc::O_PATH)?;
            let place = fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()))?;
            (opened, place.to_str().ok_or_else(odd)?.to_owned())
        }
    };
    let id = mount::identity(opened.as_fd())?;
    let kind = match id.kind {
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFREG => Kind::File,
        libc::S_IFCHR | libc::S_IFBLK => Kind::Device,
        _ => Kind::Other,
    };
    // What is called the same without links is none itself.
    let link = match (canonical != path).then(|| fs::read_link(path)) {
        None => None,
        Some(Ok(text)) => Some(text.to_str().ok_or_else(odd)?.to_owned()),
        // EINVAL: not a link.
        Some(Err(e)) if e.raw_os_error() == Some(libc::EINVAL) => None,
        Some(Err(e)) => return Err(e),
    };
    // makedev(3)
    let block =
        (id.kind == libc::S_IFBLK).then_some(((id.rdev >> 8) & 0xfff, (id.rdev & 0xff) | ((id.rdev >> 12) & 0xf_ff00)));
    Ok(PathFacts { canonical, device: id.device, inode: id.inode, kind, link, block })
}

/// From the root, each part a name, and no slash too many.
fn is_plain(path: &str) -> bool {
    path == "/" || path.strip_prefix('/').is_some_and(|p| p.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

/// Accounts and init of a root. Its files are hostile: they are opened inside it, must be regular and
/// small, and no other program looks at them.
fn root_facts(root: &str) -> io::Result<(Accounts, Option<String>)> {
    let c = CString::new(root)?;
    let dir = match crate::sys::process::open(mount::CWD, &c, libc::O_PATH | libc::O_DIRECTORY) {
        Ok(dir) => dir,
        // The compiler says, with its line, that the root isn't there.
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok((Accounts::default(), None)),
        Err(e) => return Err(e.into()),
    };
    let passwd = small_file(dir.as_fd(), c"etc/passwd")?.unwrap_or_default();
    let group = small_file(dir.as_fd(), c"etc/group")?.unwrap_or_default();
    let field = |line: &str, n: usize| line.split(':').nth(n).map(str::to_owned);
    let number = |line: &str, n: usize| field(line, n).and_then(|f| f.parse::<u32>().ok());
    let users = passwd.lines().filter_map(|l| Some((field(l, 0)?, number(l, 2)?, number(l, 3)?))).collect();
    let groups = group.lines().filter_map(|l| Some((field(l, 0)?, number(l, 2)?))).collect();
    let inits = ["usr/lib/systemd/systemd", "lib/systemd/systemd", "sbin/init", "usr/sbin/init"];
    let mut init = None;
    for path in inits {
        match mount::open_in_root(dir.as_fd(), &CString::new(path)?, libc::O_PATH) {
            Ok(file) if mount::identity(file.as_fd())?.kind == libc::S_IFREG => {
                init = Some(format!("/{path}"));
                break;
            }
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok((Accounts { users, groups }, init))
}

/// A regular file of at most 1 MiB below a root, following links only inside it; `None` when there is none.
fn small_file(root: BorrowedFd<'_>, path: &CStr) -> io::Result<Option<String>> {
    // Only looked at: what an image calls a file may be a device, and opening one can do things.
    let found = match mount::open_in_root(root, path, libc::O_PATH) {
        Ok(f) => f,
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let shown = path.to_string_lossy();
    let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the root's /{shown} is {what}"));
    if mount::identity(found.as_fd())?.kind != libc::S_IFREG {
        return Err(odd("not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?.take((1 << 20) + 1).read_to_end(&mut bytes)?;
    if bytes.len() > 1 << 20 {
        return Err(odd("longer than 1 MiB"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| odd("not UTF-8"))
}

/// Ids that an account, a subordinate range or another machine uses, as (first, count).
///
/// Accounts that come from elsewhere (nsswitch.conf(5)) aren't seen.
pub fn used_ids() -> io::Result<Vec<(u32, u32)>> {
    let mut out = Vec::new();
    for path in ["/etc/subuid", "/etc/subgid"] {
        out.extend(read(path)?.lines().filter_map(subordinate));
    }
    for path in ["/etc/passwd", "/etc/group"] {
        out.extend(read(path)?.lines().filter_map(|l| Some((l.split(':').nth(2)?.parse().ok()?, 1))));
    }
    Ok(out)
}

/// A line of subuid(5). A count that can't be read may be any.
fn subordinate(line: &str) -> Option<(u32, u32)> {
    let mut fields = line.split(':').skip(1).map(|n| n.trim().parse::<u32>());
    let first = fields.next()?.ok()?;
    Some((first, fields.next()?.unwrap_or(u32::MAX)))
}

#[cfg(test)]
#[test]
fn a_count_that_cannot_be_read_may_be_any() {
    assert_eq!(subordinate("web:100000:65536"), Some((100_000, 65_536)));
    assert_eq!(subordinate("web:100000:99999999999"), Some((100_000, u32::MAX)));
    assert_eq!(subordinate("web:many:65536"), None);
    assert!(cpus().unwrap().contains(&format!("{CPUS}0")) && used_ids().unwrap().contains(&(65534, 1)));
}

fn read(path: &str) -> io::Result<String> {
    Ok(files::text(path)?.unwrap_or_default())
}

/// Where the host's CPUs are.
pub const CPUS: &str = "/sys/devices/system/cpu/cpu";

/// The folder of each CPU.
pub fn cpus() -> io::Result<Vec<String>> {
    let all = files::list(Path::new("/sys/devices/system/cpu"))?;
    let number = |p: &str| p.strip_prefix(CPUS).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    Ok(all.into_iter().filter_map(|p| p.into_os_string().into_string().ok()).filter(|p| number(p)).collect())
}

#[cfg(test)]
#[test]
fn a_mount_that_is_hidden_holds_nothing() {
    let text = "1 0 8:1 / / rw - ext4 d rw\n2 1 0:5 / /x/y rw - tmpfs t rw\n3 1 8:1 /real /x rw - ext4 d rw\n\
                4 3 0:6 / /x/z\\040w rw - tmpfs t rw\n5 4 0:7 / /x/z\\040w rw - tmpfs t rw\n";
    let mounts = mounts(text);
    for (path, id) in [("/", 1), ("/xx", 1), ("/x", 3), ("/x/y", 3), ("/x/y/k", 3), ("/x/z w/a", 5)] {
        assert_eq!(holder(&mounts, path).map(|m| m.id), Some(id), "{path}");
    }
}
