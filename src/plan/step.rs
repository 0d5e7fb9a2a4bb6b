//! The plan as data.

// What a step is made of is defined by the compiler; the launcher knows it only through the plan.
pub use crate::compile::Rlimit;
pub use crate::compile::capabilities::Sets;
pub use crate::compile::cgroups::{Counter, Group, Limit};
pub use crate::compile::exposure::Exposure;
pub use crate::compile::firewall::{GROUP, Table};
pub use crate::compile::landlock::{Landlock, PathRule, PortRule, file_only};
pub use crate::compile::mounts::{Attributes, HostPath, Shown, TreeStep};
pub use crate::compile::network::{Hold, INSIDE, Interface, Kind as LinkKind, Zone, is_given, outside_name, subnet};
pub use crate::compile::users::{Credentials, Range, outside};
pub use crate::source::Origin;
use crate::sys::confine::Instruction;
use serde::{Serialize, Serializer};
use std::net::IpAddr;

/// A machine's launch, from the first lock to exec. Only [`super::build`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The machine's name.
    pub machine: String,
    pub(super) steps: Vec<Step>,
}

impl Plan {
    /// The steps in order; step numbers count from 1.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Who performs it.
    pub lane: Lane,
    /// What is done.
    pub action: Action,
    /// Why.
    pub origin: Origin,
}

/// The processes of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// The supervisor: the process that was started and that stays.
    Host,
    /// A short-lived process that builds the file tree with the launcher's own rights.
    Builder,
    /// The machine's first process: it reaps, and its end is the machine's end.
    Init,
    /// The process that becomes the program.
    Program,
}

/// Objects of the host that outlive a supervisor which is killed, written down before they exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Objects {
    /// Folders of control groups.
    pub cgroups: Vec<String>,
    /// Tables of the packet filter: family and name.
    pub tables: Vec<(String, String)>,
    /// The host's end of the link.
    pub link: Option<String>,
    /// Membership of a zone.
    pub zone: Option<String>,
    /// Addresses whose connections the kernel has to forget.
    pub addresses: Vec<IpAddr>,
}

/// What is done. Each action is complete: what it needs at run time besides is a process or a descriptor
/// that an earlier step made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Takes the lock on the machine's name and writes down which objects are about to exist.
    LockMachine(Objects),
    /// Takes the lock on the ids outside, so that no two machines share one.
    ReserveIds(Vec<Range>),
    /// Takes the lock on a subnet, so that no two machines share one.
    ReserveSubnet {
        /// The zone whose subnet it is.
        zone: Option<Zone>,
        /// Its number.
        number: u16,
    },
    /// Becomes a member of the zone: its name and addresses are in the list that all members see.
    JoinZone {
        /// The zone.
        zone: Zone,
        /// The machine's addresses.
        addresses: Vec<std::net::IpAddr>,
    },
    /// Binds ports of the host for as long as the machine lives.
    HoldPorts(Hold),
    /// Makes a control group; for a booted system `program` and `init` below it, the first of them its own.
    CreateCgroup(Group),
    /// Writes a limit into a group's file.
    SetLimit(Limit),
    /// Forwarding is on as long as the machine needs it. Where it was off it is switched off again after the last
    /// machine, and meanwhile nothing else is forwarded.
    Forward {
        /// IPv4
        v4: bool,
        /// IPv6
        v6: bool,
    },
    /// Loads a table of the host's packet filter, in one transaction.
    LoadTable(Table),
    /// Loads a table into the machine's own network namespace, likewise.
    LoadInnerTable(Table),
    /// Tells systemd-networkd of the host to leave machines' links alone, unless it was told before.
    TellNetworkd {
        /// The file that it reads.
        path: String,
        /// What is in it.
        content: String,
    },
    /// Makes the kernel forget connections of whoever had these addresses before: who gets them next isn't taken
    /// for it.
    ForgetConnections {
        /// The addresses.
        addresses: Vec<std::net::IpAddr>,
    },
    /// Makes the machine's link.
    CreateLink {
        /// How.
        kind: LinkKind,
        /// MAC address of the machine's end.
        mac: [u8; 6],
    },
    /// Addresses of the host's end; then it is up.
    ConfigureOutside {
        /// The link.
        link: String,
        /// Its addresses.
        addresses: Vec<Interface>,
    },
    /// Addresses and routes of the machine's end and its loopback; then they are up.
    ConfigureInside {
        /// Its addresses.
        addresses: Vec<Interface>,
        /// The network it is on may tell it more.
        accepts_configuration: bool,
        /// The kernel gives it a link-local address (RFC 4862, 5.3).
        link_local: bool,
    },
    /// clone3(2) of the builder into a mount namespace of its own; for an ordinary user into a user
    /// namespace as well, in which uid and gid are its id 0.
    CloneBuilder {
        /// The ordinary user's uid and gid.
        outer: Option<(u32, u32)>,
    },
    /// Attributes that the caller could have changed get their values of boot: signals, nice value,
    /// CPU affinity, personality, umask, timer slack, OOM score, working directory.
    ResetInherited,
    /// No mount event passes between the host and the builder.
    MakePropagationPrivate,
    /// clone3(2) of the machine's first process into these namespaces.
    CloneInit {
        /// CLONE_NEW*
        namespaces: u64,
        /// The uid that owns the user namespace. What the kernel counts for each user it counts for the owners
        /// of the namespaces above as well (user_namespaces(7), kernel/ucount.c): inotify instances and watches,
        /// namespaces. Were it the host's root, one machine could take what root's own daemons need.
        owner: Option<u32>,
    },
    /// The user namespace's maps.
    WriteIdMaps {
        /// uid_map
        users: Vec<Range>,
        /// gid_map
        groups: Vec<Range>,
        /// What is written to /proc/PID/setgroups.
        setgroups: bool,
    },
    /// Becomes id 0 of the user namespace.
    BecomeRoot,
    /// An empty session keyring (keyrings(7)).
    NewKeyring,
    /// The supervisor's end is this process's end, and with it the machine's (PR_SET_PDEATHSIG).
    DieWithSupervisor,
    /// Puts the machine's first process into the machine's groups.
    EnterCgroup {
        /// Their folders.
        paths: Vec<String>,
    },
    /// Its cgroup becomes the root of the machine's cgroup namespace.
    UnshareCgroup,
    /// Starts the process that becomes the program; `own_pids`: as PID 1 of a PID namespace of its own.
    ForkProgram {
        /// A booted system is PID 1.
        own_pids: bool,
    },
    /// Gives up every capability but CAP_KILL, closes what isn't needed, and waits for the machine's end.
    ConfineInit,
    /// Moves the machine's first process beside the program's cgroup.
    LeaveCgroup {
        /// The folder.
        path: String,
    },
    /// Enters the machine's PID, IPC, network and cgroup namespaces, to mount what belongs to them.
    JoinProgram {
        /// CLONE_NEW*
        namespaces: u64,
    },
    /// Makes the places that later steps need: our own files for masks, layers for overlays.
    OpenStaging {
        /// Bytes that it may hold.
        size: u64,
    },
    /// One step of the file tree.
    Tree(TreeStep),
    /// The tree becomes the root.
    PivotRoot,
    /// The host's tree is gone.
    DetachOldRoot,
    /// A mount namespace owned by the machine's user namespace: every mount so far is locked
    /// (mount_namespaces(7)).
    UnshareMounts,
    /// sethostname(2)
    SetHostname(String),
    /// A session of its own, standard descriptors on the machine's own terminal where `streams` says so.
    Terminal {
        /// Standard input, output, error.
        streams: [bool; 3],
    },
    /// setrlimit(2), soft and hard.
    SetRlimit(Rlimit),
    /// Default signals, umask.
    SetUmask(u16),
    /// Working directory.
    ChangeDirectory(String),
    /// Drops every capability that is not named from the bounding set.
    DropBounding {
        /// What stays.
        keep: u64,
        /// Number of the kernel's last capability.
        last: u8,
    },
    /// setgroups, setresgid, setresuid.
    SetCredentials {
        /// The ids.
        who: Credentials,
        /// setgroups(2) is called.
        groups: bool,
    },
    /// The other four sets and the securebits.
    SetCapabilities {
        /// The sets after exec.
        sets: Sets,
        /// PR_SET_SECUREBITS
        securebits: u32,
        /// Uid 0: exec gives the bounding set.
        root: bool,
    },
    /// prctl(PR_SET_NO_NEW_PRIVS)
    SetNoNewPrivs,
    /// landlock_restrict_self(2)
    RestrictLandlock(Landlock),
    /// Everything but the standard descriptors closes at exec.
    CloseDescriptors,
    /// The supervisor reads the process's confinement from the kernel and compares it with this plan.
    ReadBack,
    /// The machine is written down as running.
    CommitState(Vec<Exposure>),
    /// After so many seconds the machine is ended.
    Deadline {
        /// Seconds.
        seconds: u64,
    },
    /// At the end it is told how often each limit was met.
    Watch(Vec<Counter>),
    /// seccomp(2) with exactly these instructions.
    LoadSeccomp(Program),
    /// execve(2)
    Exec {
        /// Program and arguments.
        argv: Vec<String>,
        /// `NAME=value`
        environment: Vec<String>,
    },
}

/// A seccomp program; serialised as 16 hex digits for each instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(pub Vec<Instruction>);

impl Program {
    /// The bytes as the kernel gets them, little endian.
    pub fn bytes(&self) -> Vec<u8> {
        self.0
            .iter()
            .flat_map(|i| {
                let [c0, c1] = i.code.to_le_bytes();
                let [k0, k1, k2, k3] = i.k.to_le_bytes();
                [c0, c1, i.jt, i.jf, k0, k1, k2, k3]
            })
            .collect()
    }

    /// SHA-256 of the bytes, in hex.
    pub fn sha256(&self) -> String {
        use sha2::Digest as _;
        hex(&sha2::Sha256::digest(self.bytes()))
    }
}

/// Bytes in hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Serialize for Program {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        hex(&self.bytes()).serialize(s)
    }
}
