//! Everything that allocates or can fail for a reason of data: done before `clone`.

use crate::plan::step::{Attributes, HostPath, Landlock, Range, Shown, TreeStep};
use crate::plan::{Action, Lane, Plan};
use crate::sys::confine::Instruction;
use crate::sys::process::CStrArray;
use std::ffi::CString;

/// A step ready to be performed by system calls alone.
pub(super) struct Op {
    pub(super) lane: Lane,
    pub(super) work: Work,
}

/// A host path as the child opens it.
pub(super) struct Source {
    pub(super) path: CString,
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// What a mount needs.
pub(super) enum Made {
    Bind {
        from: Source,
        idmap: bool,
        recursive: bool,
    },
    Overlay {
        lower: Source,
        idmap: bool,
        slot: Slot,
    },
    /// fsopen(2) with these options.
    New {
        kind: CString,
        options: Vec<(CString, Option<CString>)>,
    },
    Again,
    Mask {
        hidden: bool,
    },
    Console {
        owner: u32,
    },
    /// A file made in the staging place.
    Text {
        name: CString,
        content: Vec<u8>,
        owner: u32,
    },
    /// A file of our own state folder.
    Own {
        path: CString,
    },
}

/// Names of one overlay's folders in the staging place.
pub(super) struct Slot {
    pub(super) lower: CString,
    pub(super) upper: CString,
    pub(super) work: CString,
    pub(super) options: Vec<(CString, CString)>,
}

pub(super) enum Work {
    /// Performed by the supervisor from the plan itself.
    Host,
    ResetInherited,
    MakePropagationPrivate,
    CloneInit {
        namespaces: u64,
        owner: Option<u32>,
    },
    WriteIdMaps {
        setgroups: bool,
        users: CString,
        groups: CString,
    },
    BecomeRoot,
    NewKeyring,
    DieWithSupervisor,
    UnshareCgroup,
    ForkProgram {
        namespaces: u64,
    },
    ConfineInit,
    JoinProgram(u64),
    OpenStaging {
        options: Vec<(CString, Option<CString>)>,
    },
    Mount {
        target: CString,
        is_root: bool,
        made: Made,
        set: u64,
        recursive: bool,
        is_tree: bool,
    },
    Directory {
        path: CString,
        parent: CString,
        name: CString,
        mode: u32,
        owner: u32,
    },
    Link {
        parent: CString,
        name: CString,
        text: CString,
    },
    File {
        path: CString,
        parent: CString,
        name: CString,
        content: Vec<u8>,
        owner: u32,
    },
    Seal {
        target: CString,
        is_root: bool,
    },
    PivotRoot,
    DetachOldRoot,
    UnshareMounts,
    SetHostname(Vec<u8>),
    Terminal {
        streams: [bool; 3],
    },
    SetUmask(u32),
    SetRlimit {
        resource: u32,
        value: u64,
    },
    ChangeDirectory(CString),
    DropBounding {
        keep: u64,
        last: u8,
    },
    SetCredentials {
        uid: u32,
        gid: u32,
        groups: Option<Vec<u32>>,
    },
    SetCapabilities {
        permitted: u64,
        inheritable: u64,
        ambient: u64,
        securebits: u32,
    },
    SetNoNewPrivs,
    RestrictLandlock {
        ruleset: Landlock,
        paths: Vec<CString>,
    },
    CloseDescriptors,
    LoadSeccomp(Vec<Instruction>),
    Exec {
        path: CString,
        argv: CStrArray,
        environment: CStrArray,
    },
}

/// A text of the plan holds a NUL byte: the kernel would read less than what was reviewed.
#[derive(Debug, thiserror::Error)]
#[error("step {step}: a text holds a NUL byte")]
pub(super) struct NulByte {
    /// The step, from 1.
    pub(super) step: usize,
}

// linux/mount.h
const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;

/// MOUNT_ATTR_* of a mount's attributes.
pub(super) fn bits(a: Attributes) -> u64 {
    let on = |yes: bool, bit: u64| if yes { bit } else { 0 };
    on(a.read_only, RDONLY) | on(a.nosuid, NOSUID) | on(a.nodev, NODEV) | on(a.noexec, NOEXEC)
}

pub(super) fn prepare(plan: &Plan) -> Result<Vec<Op>, NulByte> {
    let mut ops = Vec::new();
    for (i, s) in plan.steps().iter().enumerate() {
        let work = work(&s.action, i).map_err(|_| NulByte { step: i + 1 })?;
        ops.push(Op { lane: s.lane, work });
    }
    Ok(ops)
}

type Fallible<T> = Result<T, std::ffi::NulError>;

fn work(action: &Action, index: usize) -> Fallible<Work> {
    Ok(match action {
        Action::LockMachine(_)
        | Action::ReserveIds(_)
        | Action::ReserveSubnet { .. }
        | Action::JoinZone { .. }
        | Action::HoldPorts(_)
        | Action::CreateCgroup(_)
        | Action::SetLimit(_)
        | Action::Forward { .. }
        | Action::LoadTable(_)
        | Action::LoadInnerTable(_)
        | Action::TellNetworkd { .. }
        | Action::ForgetConnections { .. }
        | Action::CreateLink { .. }
        | Action::ConfigureOutside { .. }
        | Action::ConfigureInside { .. }
        | Action::Watch(_)
        | Action::Deadline { .. }
        | Action::CloneBuilder { .. }
        | Action::EnterCgroup { .. }
        | Action::LeaveCgroup { .. }
        | Action::ReadBack
        | Action::CommitState(_) => Work::Host,
        Action::ResetInherited => Work::ResetInherited,
        Action::MakePropagationPrivate => Work::MakePropagationPrivate,
        Action::CloneInit { namespaces, owner } => Work::CloneInit { namespaces: *namespaces, owner: *owner },
        Action::WriteIdMaps { users, groups, setgroups } => {
            Work::WriteIdMaps { setgroups: *setgroups, users: map_text(users)?, groups: map_text(groups)? }
        }
        Action::BecomeRoot => Work::BecomeRoot,
        Action::NewKeyring => Work::NewKeyring,
        Action::DieWithSupervisor => Work::DieWithSupervisor,
        Action::UnshareCgroup => Work::UnshareCgroup,
        Action::ForkProgram { own_pids } => Work::ForkProgram { namespaces: if *own_pids { 0x2000_0000 } else { 0 } },
        Action::ConfineInit => Work::ConfineInit,
        Action::JoinProgram { namespaces } => Work::JoinProgram(*namespaces),
        Action::OpenStaging { size } => Work::OpenStaging { options: tmpfs(*size, 0o700, 0)? },
        Action::Tree(t) => tree(t, index)?,
        Action::PivotRoot => Work::PivotRoot,
        Action::DetachOldRoot => Work::DetachOldRoot,
        Action::UnshareMounts => Work::UnshareMounts,
        Action::SetHostname(n) => Work::SetHostname(n.clone().into_bytes()),
        Action::Terminal { streams, .. } => Work::Terminal { streams: *streams },
        Action::SetUmask(m) => Work::SetUmask(u32::from(*m)),
        Action::SetRlimit(l) => Work::SetRlimit { resource: l.resource, value: l.value },
        Action::ChangeDirectory(d) => Work::ChangeDirectory(c(d)?),
        Action::DropBounding { keep, last } => Work::DropBounding { keep: *keep, last: *last },
        Action::SetCredentials { who, groups } => {
            Work::SetCredentials { uid: who.uid, gid: who.gid, groups: groups.then(|| who.groups.clone()) }
        }
        Action::SetCapabilities { sets, securebits, .. } => Work::SetCapabilities {
            permitted: sets.permitted,
            inheritable: sets.inheritable,
            ambient: sets.ambient,
            securebits: *securebits,
        },
        Action::SetNoNewPrivs => Work::SetNoNewPrivs,
        Action::RestrictLandlock(l) => {
            let paths = l.paths.iter().map(|p| c(&p.path)).collect::<Fallible<_>>()?;
            Work::RestrictLandlock { ruleset: l.clone(), paths }
        }
        Action::CloseDescriptors => Work::CloseDescriptors,
        Action::LoadSeccomp(p) => Work::LoadSeccomp(p.0.clone()),
        Action::Exec { argv, environment } => Work::Exec {
            path: c(argv.first().map_or("", String::as_str))?,
            argv: strings(argv)?,
            environment: strings(environment)?,
        },
    })
}

fn tree(t: &TreeStep, index: usize) -> Fallible<Work> {
    Ok(match t {
        TreeStep::Mount { target, shown, attributes } => {
            let recursive = matches!(shown, Shown::Bind { recursive: true, .. });
            let is_tree = matches!(
                shown,
                Shown::Bind { .. }
                    | Shown::Again
                    | Shown::Mask { .. }
                    | Shown::Console { .. }
                    | Shown::Text { .. }
                    | Shown::ZoneNames { .. }
            );
            Work::Mount {
                target: inside(target)?,
                is_root: target == "/",
                made: made(shown, index)?,
                set: bits(*attributes),
                recursive,
                is_tree,
            }
        }
        TreeStep::Directory { path, mode, owner } => {
            let (parent, name) = split(path)?;
            Work::Directory { path: inside(path)?, parent, name, mode: *mode, owner: *owner }
        }
        TreeStep::Link { path, text } => {
            let (parent, name) = split(path)?;
            Work::Link { parent, name, text: c(text)? }
        }
        TreeStep::File { path, content, owner } => {
            let (parent, name) = split(path)?;
            Work::File { path: inside(path)?, parent, name, content: content.clone().into_bytes(), owner: *owner }
        }
        TreeStep::Seal { target } => Work::Seal { target: inside(target)?, is_root: target == "/" },
    })
}

fn made(shown: &Shown, index: usize) -> Fallible<Made> {
    let new = |kind: &str, options| Ok(Made::New { kind: c(kind)?, options });
    match shown {
        Shown::Bind { from, idmap, recursive } => {
            Ok(Made::Bind { from: source(from)?, idmap: *idmap, recursive: *recursive })
        }
        Shown::Overlay { lower, idmap, .. } => {
            let name = |what: &str| c(&format!("{what}{index}"));
            let option = |k: &str, v: &str| Ok((c(k)?, c(v)?));
            let options = vec![
                option("lowerdir", &format!("lower{index}"))?,
                option("upperdir", &format!("upper{index}"))?,
                option("workdir", &format!("work{index}"))?,
                // What an image's attributes claim of other layers is not believed (CVE-2023-0386 class).
                option("redirect_dir", "nofollow")?,
                option("metacopy", "off")?,
                option("index", "off")?,
                option("xino", "off")?,
            ];
            let slot = Slot { lower: name("lower")?, upper: name("upper")?, work: name("work")?, options };
            Ok(Made::Overlay { lower: source(lower)?, idmap: *idmap, slot })
        }
        Shown::Tmpfs { size, mode, owner } => new("tmpfs", tmpfs(*size, *mode, *owner)?),
        Shown::Proc => new("proc", Vec::new()),
        Shown::Sysfs => new("sysfs", Vec::new()),
        Shown::Devpts { group } => {
            let mut options = vec![flag("newinstance")?, value("ptmxmode", "0666")?, value("mode", "0620")?];
            if let Some(g) = group {
                options.push(value("gid", &g.to_string())?);
            }
            new("devpts", options)
        }
        Shown::Mqueue => new("mqueue", Vec::new()),
        Shown::Cgroup2 => new("cgroup2", Vec::new()),
        Shown::Again => Ok(Made::Again),
        Shown::Mask { hidden } => Ok(Made::Mask { hidden: *hidden }),
        Shown::Text { content, owner } => {
            let name = c(&format!("text{index}"))?;
            Ok(Made::Text { name, content: content.clone().into_bytes(), owner: *owner })
        }
        Shown::ZoneNames { zone } => Ok(Made::Own { path: c(&super::zone::names_path(zone))? }),
        Shown::Console { owner } => Ok(Made::Console { owner: *owner }),
    }
}

fn tmpfs(size: u64, mode: u32, owner: u32) -> Fallible<Vec<(CString, Option<CString>)>> {
    // One inode for each 4 KiB, so that empty files can't use more memory than full ones.
    let inodes = (size / 4096).clamp(64, 1 << 20);
    Ok(vec![
        value("size", &size.max(4096).to_string())?,
        value("nr_inodes", &inodes.to_string())?,
        value("mode", &format!("{mode:o}"))?,
        value("uid", &owner.to_string())?,
        value("gid", &owner.to_string())?,
    ])
}

fn flag(key: &str) -> Fallible<(CString, Option<CString>)> {
    Ok((c(key)?, None))
}

fn value(key: &str, v: &str) -> Fallible<(CString, Option<CString>)> {
    Ok((c(key)?, Some(c(v)?)))
}

fn source(p: &HostPath) -> Fallible<Source> {
    Ok(Source { path: c(&p.path)?, device: p.device, inode: p.inode })
}

/// A path inside, relative to the new root.
fn inside(path: &str) -> Fallible<CString> {
    let relative = path.trim_start_matches('/');
    c(if relative.is_empty() { "." } else { relative })
}

fn split(path: &str) -> Fallible<(CString, CString)> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    Ok((inside(parent)?, c(name)?))
}

fn strings(list: &[String]) -> Fallible<CStrArray> {
    Ok(CStrArray::new(list.iter().map(|s| c(s)).collect::<Fallible<_>>()?))
}

fn map_text(list: &[Range]) -> Fallible<CString> {
    let lines: Vec<String> = list.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect();
    c(&lines.concat())
}

fn c(text: &str) -> Fallible<CString> {
    CString::new(text)
}
