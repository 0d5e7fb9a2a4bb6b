//! Landlock: what is requested of the kernel, and what this kernel can enforce of it.

use super::Cx;
use super::network::Wiring;
use crate::policy::files::Right;
use crate::policy::network::{Protocol, Use};
use crate::source::Origin;
use landlock::{ABI, Access as _, AccessFs, AccessNet, BitFlags, Scope};
use serde::{Deserialize, Serialize};

/// A ruleset in the kernel's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landlock {
    /// The ABI that it is for.
    pub abi: u32,
    /// What the policy asks to be denied, by the newest ABI that this version knows: files, TCP, scopes.
    pub requested: [u64; 3],
    /// The rights among them that this kernel can't deny, by name.
    pub beyond: Vec<String>,
    /// Bytes of struct landlock_ruleset_attr that this ABI knows.
    pub size: usize,
    /// File rights that are denied unless granted; 0 when the machine has no file rules.
    pub handled_files: u64,
    /// TCP rights that are denied unless granted.
    pub handled_network: u64,
    /// Scopes that are closed.
    pub scoped: u64,
    /// Grants below a path inside.
    pub paths: Vec<PathRule>,
    /// Grants on a port.
    pub ports: Vec<PortRule>,
}

/// Rights below a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRule {
    /// The path inside.
    pub path: String,
    /// LANDLOCK_ACCESS_FS_*
    pub access: u64,
    /// Left out when the path doesn't exist.
    pub optional: bool,
    /// The line.
    pub origin: Origin,
}

/// Rights on a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRule {
    /// The port.
    pub port: u16,
    /// LANDLOCK_ACCESS_NET_*
    pub access: u64,
    /// The line.
    pub origin: Origin,
}

/// Rights that a rule on a regular file may carry; the others are for folders.
pub fn file_only() -> u64 {
    AccessFs::from_file(ABI::V9).bits()
}

/// Devices that every machine has: reading and writing them is implied.
pub(super) const DEVICES: &[&str] =
    &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/pts"];

/// From which ABI on a right can be denied.
const FILES: u32 = 5;
const NETWORK: u32 = 4;
const SCOPES: u32 = 6;

/// The newest ABI whose rights this version asks for.
const NEWEST: ABI = ABI::V9;

pub(super) fn compile(cx: &mut Cx<'_>, wiring: Option<&Wiring>) -> Option<(Landlock, Origin)> {
    let abi = cx.host.landlock;
    let policy = cx.policy;
    let floor = policy.landlock.clone();
    if let Some(f) = &floor
        && u64::from(abi) < f.value
    {
        cx.error(
            "E0604",
            f.span,
            format!("this kernel has Landlock ABI {abi}, the policy requires {}", f.value),
            "use a newer kernel",
        );
        return None;
    }
    let lowered = floor.as_ref().and_then(|f| u32::try_from(f.value).ok());
    if let Some(rule) = policy.files.first()
        && abi < lowered.map_or(FILES, |l| l.min(FILES)).max(1)
    {
        cx.error(
            "E0604",
            rule.span,
            format!("file rules need Landlock ABI {FILES}, this kernel has {abi}: below it files can be truncated without `write`, or devices used without `ioctl`"),
            "use a newer kernel, or accept that with `require landlock 1`",
        );
        return None;
    }
    // On a network of its own the packet filter holds the ports, whatever Landlock knows.
    if let Some(port) = policy.ports.iter().find(|p| p.protocol == Protocol::Tcp)
        && abi < NETWORK
        && !policy.network.value.is_filtered()
    {
        cx.error(
            "E0604",
            port.span,
            format!("TCP rules need Landlock ABI {NETWORK}, this kernel has {abi}"),
            "use a newer kernel, or remove the line",
        );
        return None;
    }
    // On the host's network nothing else closes its ports and its abstract sockets.
    if policy.network.value == crate::policy::network::Network::Host && abi < lowered.map_or(SCOPES, |l| l.min(SCOPES))
    {
        cx.error(
            "E0604",
            policy.network.span,
            format!("on the host's network TCP ports need Landlock ABI {NETWORK} and abstract sockets {SCOPES}, this kernel has {abi}"),
            "use a newer kernel, or accept what stays open with `require landlock N`",
        );
        return None;
    }
    if abi == 0 {
        return None;
    }
    let version = ABI::from(i32::try_from(abi.min(9)).unwrap_or(9));
    let all_files: BitFlags<AccessFs> = AccessFs::from_all(version);
    let handled_files = if policy.files.is_empty() { 0 } else { all_files.bits() };
    let handled_network = if abi >= NETWORK {
        (AccessNet::from_all(version) & (AccessNet::BindTcp | AccessNet::ConnectTcp)).bits()
    } else {
        0
    };
    let mut paths = Vec::new();
    for r in &policy.files {
        let access = rights(r.right).bits() & handled_files;
        paths.push(PathRule { path: r.path.clone(), access, optional: r.optional, origin: cx.origin(r.span) });
    }
    if handled_files != 0 {
        let access =
            (AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev | AccessFs::Truncate).bits() & handled_files;
        let access = access | (AccessFs::ReadDir.into_bits() & handled_files);
        for d in DEVICES {
            let origin = Origin::implied("standard devices can be used");
            paths.push(PathRule { path: (*d).to_owned(), access, optional: false, origin });
        }
        for d in &policy.devices {
            paths.push(PathRule { path: d.path.clone(), access, optional: false, origin: cx.origin(d.span) });
        }
    }
    let mut ports: Vec<PortRule> = Vec::new();
    let mut open = BitFlags::<AccessNet>::empty();
    for p in policy.ports.iter().filter(|p| p.protocol == Protocol::Tcp) {
        let access = match p.how {
            Use::Listen => AccessNet::BindTcp,
            Use::Connect => AccessNet::ConnectTcp,
        };
        match p.port {
            // Port 0 in bind(2) means any free port; the ruleset's port 0 grants that.
            Some(port) => {
                let access = BitFlags::from(access).bits();
                if !ports.iter().any(|r| (r.port, r.access) == (port, access)) {
                    ports.push(PortRule { port, access, origin: cx.origin(p.span) });
                }
            }
            None => open |= access,
        }
    }
    // Names are asked by TCP when the answer is long.
    if wiring.is_some_and(|w| !w.resolvers.is_empty()) {
        let (access, origin) = (BitFlags::from(AccessNet::ConnectTcp).bits(), cx.origin(policy.resolver.span));
        ports.push(PortRule { port: 53, access, origin });
    }
    let scoped = if abi >= SCOPES { Scope::from_all(version).bits() } else { 0 };
    let size = match abi {
        0..NETWORK => 8,
        NETWORK..SCOPES => 16,
        _ => 24,
    };
    let handled_network = handled_network & !open.bits();
    let newest = AccessFs::from_all(NEWEST);
    let tcp = (AccessNet::BindTcp | AccessNet::ConnectTcp).bits() & !open.bits();
    let wanted_files = if policy.files.is_empty() { 0 } else { newest.bits() };
    let requested = [wanted_files, tcp, Scope::from_all(NEWEST).bits()];
    let mut beyond = Vec::new();
    if wanted_files != 0 {
        beyond.extend((newest & !all_files).iter().map(|r| format!("{r:?}")));
    }
    if abi < NETWORK {
        beyond.extend(["BindTcp", "ConnectTcp"].map(str::to_owned));
    }
    let known = if abi >= SCOPES { Scope::from_all(version) } else { BitFlags::empty() };
    beyond.extend((Scope::from_all(NEWEST) & !known).iter().map(|s| format!("scope {s:?}")));
    let origin = policy
        .files
        .first()
        .map(|f| cx.origin(f.span))
        .unwrap_or(Origin::implied("everything that Landlock knows is denied unless granted"));
    if handled_files == 0 && handled_network == 0 && scoped == 0 {
        return None;
    }
    let landlock = Landlock { abi, requested, beyond, size, handled_files, handled_network, scoped, paths, ports };
    Some((landlock, origin))
}

trait IntoBits {
    fn into_bits(self) -> u64;
}

impl IntoBits for AccessFs {
    fn into_bits(self) -> u64 {
        BitFlags::from(self).bits()
    }
}

fn rights(right: Right) -> BitFlags<AccessFs> {
    match right {
        Right::Read => AccessFs::ReadFile | AccessFs::ReadDir,
        Right::Write => AccessFs::WriteFile | AccessFs::Truncate,
        Right::Exec => AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir,
        Right::Create => {
            AccessFs::MakeReg
                | AccessFs::MakeDir
                | AccessFs::MakeSym
                | AccessFs::MakeSock
                | AccessFs::MakeFifo
                | AccessFs::RemoveFile
                | AccessFs::RemoveDir
        }
        Right::Refer => AccessFs::Refer.into(),
        Right::Ioctl => AccessFs::IoctlDev.into(),
    }
}
