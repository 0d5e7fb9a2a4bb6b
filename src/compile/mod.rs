//! What the kernel will be told: a policy and the facts of a host become a [`Confinement`].

pub mod asserts;
mod bypass;
pub mod capabilities;
pub mod cgroups;
pub mod cube;
mod emit;
mod etc;
pub mod exposure;
pub mod firewall;
pub mod landlock;
pub mod libseccomp;
mod lifts;
pub mod mounts;
pub mod network;
mod others;
pub mod places;
pub mod seccomp;
pub mod users;
pub mod vectors;
mod within;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::host::{Host, resource_number};
use crate::policy::Policy;
use crate::policy::network::Network;
use crate::policy::process::{ENVIRONMENT, Program};
use crate::policy::resources;
use crate::source::{Origin, Sources, Span};
use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

/// A resource limit, soft and hard the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// The word of the language.
    pub name: String,
    /// The kernel's number.
    pub resource: u32,
    /// The limit in the kernel's unit.
    pub value: u64,
    /// The line.
    pub origin: Origin,
}

impl Confinement {
    /// Whom the machine's user namespace belongs to: its own root, where it has one of its own.
    pub fn owner(&self) -> Option<u32> {
        let root = self.ids.iter().flat_map(|m| &m.users).find(|r| r.inside == 0);
        root.map(|r| r.outside).filter(|_| self.outer_userns.is_none())
    }
}

/// Everything that the kernel is told about one machine.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// The machine's name.
    pub machine: String,
    /// Namespaces of the machine, as flags of clone(2); mount comes apart.
    pub namespaces: u64,
    /// Boots an init system as PID 1 of a PID namespace of its own.
    pub boots: bool,
    /// The launcher is an ordinary user: the tree is built in an outer user namespace.
    pub outer_userns: Option<(u32, u32)>,
    /// The user namespace; `None` is the host's.
    pub ids: Option<users::IdMaps>,
    /// The program's user.
    pub credentials: (users::Credentials, Origin),
    /// Capabilities.
    pub capabilities: (capabilities::Sets, Origin),
    /// Securebits.
    pub securebits: u32,
    /// no_new_privs
    pub no_new_privs: (bool, Origin),
    /// The seccomp program.
    pub filter: seccomp::Filter,
    /// Where the calls stand.
    pub filter_origin: Origin,
    /// Landlock.
    pub landlock: Option<(landlock::Landlock, Origin)>,
    /// The file tree.
    pub tree: Vec<(mounts::TreeStep, Origin)>,
    /// Limits.
    pub rlimits: Vec<Rlimit>,
    /// `NAME=value`
    pub environment: Vec<String>,
    /// The program and its arguments.
    pub argv: (Vec<String>, Origin),
    /// Working directory.
    pub chdir: (String, Origin),
    /// The umask.
    pub umask: u16,
    /// The host name.
    pub hostname: (String, Origin),
    /// Which of the standard descriptors become the machine's own terminal.
    pub terminal: [bool; 3],
    /// Control groups.
    pub cgroups: cgroups::Cgroups,
    /// The network; `None` where there is nothing to link.
    pub wiring: Option<network::Wiring>,
    /// Who reaches it, whom it reaches.
    pub exposure: Vec<exposure::Exposure>,
    /// Seconds that the machine may run.
    pub time: Option<(u64, Origin)>,
    /// Number of the kernel's last capability.
    pub last_capability: u8,
}

/// What every pass of the compiler has at hand.
pub(crate) struct Cx<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) host: &'a Host,
    pub(crate) sources: &'a Sources,
    pub(crate) diagnostics: &'a mut Diagnostics,
}

impl Cx<'_> {
    pub(crate) fn error(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.diagnostics.push(Diagnostic::error(code, span, message).help(help));
    }

    pub(crate) fn origin(&self, span: Span) -> Origin {
        self.sources.origin(span)
    }
}

/// The architecture of this program, whose calls it can filter.
pub fn native() -> crate::kernel::numbers::Arch {
    crate::kernel::numbers::Arch::NATIVE
}

/// Compiles only what needs no host: calls and their proof, assertions and tests. What `check` runs on any machine.
pub fn portable(policy: &Policy, arch: crate::kernel::numbers::Arch, d: &mut Diagnostics) -> Option<seccomp::Filter> {
    filter(policy, arch, d).filter(|f| seccomp::proved(policy, f, d))
}

/// The same without the proof. All that is wrong is reported together.
fn filter(policy: &Policy, arch: crate::kernel::numbers::Arch, d: &mut Diagnostics) -> Option<seccomp::Filter> {
    let before = d.errors();
    let filter = seccomp::compile(policy, arch, d)?;
    let refused = d.errors() > before;
    asserts::check(policy, arch, d);
    lifts::check(policy, arch, d);
    within::check(policy, &filter, d);
    asserts::tests(policy, &filter, d);
    Some(filter).filter(|_| !refused)
}

/// A confinement whose filter isn't proved yet.
#[derive(Clone, Debug)]
#[must_use]
pub struct Unproved(Confinement);

impl Unproved {
    /// Proves the filter; `None` when it isn't the policy, which is reported.
    pub fn proved(self, policy: &Policy, d: &mut Diagnostics) -> Option<Confinement> {
        seccomp::proved(policy, &self.0.filter, d).then_some(self.0)
    }

    /// Leaves the proof to the launcher, which loads nothing before it has it: the host is idle while the
    /// machine's tree is built.
    pub fn proved_at_launch(self) -> Confinement {
        self.0
    }
}

/// Compiles the whole policy for this host; `None` when an error was reported.
pub fn compile(policy: &Policy, host: &Host, sources: &Sources, d: &mut Diagnostics) -> Option<Unproved> {
    let before = d.errors();
    let filter = filter(policy, host.arch, d);
    if let Some(names) = &host.names {
        asserts::check_names(policy, host.arch, names, d);
    }
    if let Some(f) = &filter {
        can_start(policy, f, d);
    }
    let mut cx = Cx { policy, host, sources, diagnostics: d };
    let who = users::credentials(&mut cx)?;
    let ids = users::maps(&mut cx, &who).ok()?;
    if policy.boots() {
        boot_needs(&mut cx);
    }
    if let Some(m) = &ids {
        mapped(&mut cx, m, &who);
    }
    let capabilities = capabilities::compile(&mut cx, &who, ids.is_some());
    let rlimits = rlimits(&mut cx);
    let terminal = if policy.boots() { [true; 3] } else { host.terminals };
    let wiring = network::compile(&mut cx);
    let landlock = landlock::compile(&mut cx, wiring.as_ref());
    let tree = mounts::compile(&mut cx, ids.as_ref(), terminal.contains(&true), wiring.as_ref());
    let cgroups = cgroups::compile(&mut cx, ids.as_ref().and_then(|m| users::outside(&m.users, 0)));
    if let Some(span) = policy.no_new_privs_span
        && capabilities.as_ref().is_some_and(|(s, _)| s.effective >> 21 & 1 == 0)
    {
        cx.error(
            "E0518",
            span,
            "without no_new_privs the kernel takes a filter only from a process with CAP_SYS_ADMIN",
            "keep sys_admin (in a user namespace), or delete this line",
        );
    }
    let exposure = exposure::of(policy, wiring.as_ref(), sources);
    let argv = argv(&mut cx);
    let environment = environment(&mut cx, terminal.contains(&true));
    let origin = |span| sources.origin(span);
    if d.errors() > before {
        return None;
    }
    let mut namespaces = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if ids.is_some() {
        namespaces |= CloneFlags::CLONE_NEWUSER;
    }
    if policy.network.value != Network::Host {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    let cgroups = cgroups?;
    if cgroups.enter.is_empty() {
        // Otherwise it makes its own after it was put into its groups.
        namespaces |= CloneFlags::CLONE_NEWCGROUP;
    }
    let no_new_privs = match policy.no_new_privs_span {
        Some(span) => (false, origin(span)),
        None => (true, Origin::implied("always, unless the policy gives it up")),
    };
    Some(Unproved(Confinement {
        machine: policy.name.clone(),
        namespaces: u64::from(namespaces.bits().unsigned_abs()),
        boots: policy.boots(),
        outer_userns: (!host.privileged).then_some((host.uid, host.gid)),
        ids,
        credentials: (who, origin(policy.user.span)),
        capabilities: capabilities?,
        securebits: if policy.boots() { 0 } else { capabilities::LOCKED },
        no_new_privs,
        filter: filter?,
        filter_origin: policy.syscalls.first().map_or(Origin::implied("no call is granted"), |r| origin(r.span)),
        landlock,
        tree: tree?,
        rlimits: rlimits?,
        environment,
        argv: argv?,
        chdir: (policy.chdir.value.clone(), origin(policy.chdir.span)),
        umask: policy.umask,
        hostname: (policy.hostname.value.clone(), origin(policy.hostname.span)),
        terminal,
        cgroups,
        wiring,
        exposure,
        time: policy.limits.get("time").filter(|t| t.value != resources::UNLIMITED).map(|t| (t.value, origin(t.span))),
        last_capability: host.last_capability,
    }))
}

/// The filter is there before the program: without these two calls it could neither start nor end.
fn can_start(policy: &Policy, f: &seccomp::Filter, d: &mut Diagnostics) {
    for name in ["execve", "exit_group"] {
        let Some(nr) = f.arch.number(name) else { continue };
        // Addresses for execve, a code for exit_group: any value at all.
        let refused = [[0x1000u64; 6], [0x7fff_ffff_f000; 6], [127; 6]].iter().any(|args| {
            let v = crate::policy::meaning::Vector { arch: f.arch.audit(), nr, args: *args, ip: 0 };
            crate::proof::bpf::decode(crate::proof::bpf::run(&f.program, &v, None))
                > crate::policy::syscalls::Action::Log
        });
        if refused {
            let message = format!("the policy's own filter refuses `{name}`, so the program can't run");
            d.push(Diagnostic::error("E0415", policy.program.span, message).help(format!("allow {name}")));
        }
    }
}

fn boot_needs(cx: &mut Cx<'_>) {
    let span = cx.policy.program.span;
    if !cx.host.privileged {
        cx.error("E0601", span, "only root can boot a whole system: it needs a range of ids", "run it as root");
    }
    if cx.host.cgroups.v2.is_none() {
        cx.error(
            "E0606",
            span,
            "no cgroup v2 hierarchy is mounted below /sys/fs/cgroup, and a booted system needs a part of one",
            "mount it: mount -t cgroup2 none /sys/fs/cgroup/unified",
        );
    }
    let root_exists = match &cx.policy.root.value.origin {
        crate::policy::mounts::Origin::Directory(d) => cx.host.paths.contains_key(d),
        crate::policy::mounts::Origin::Host => true,
    };
    if cx.host.init.is_none() && root_exists {
        let span = cx.policy.root.span;
        cx.error("E0607", span, "the root has no init program", "install systemd in it, or use `exec`");
    }
}

/// Every id that the program uses must exist inside.
fn mapped(cx: &mut Cx<'_>, m: &users::IdMaps, who: &users::Credentials) {
    let span = cx.policy.user.span;
    let missing = |list: &[users::Range], id: u32| users::outside(list, id).is_none();
    if missing(&m.users, who.uid) {
        cx.error(
            "E0517",
            span,
            format!("uid {} is not in the machine's id map", who.uid),
            "map it, or use another user",
        );
    }
    for gid in who.groups.iter().chain([&who.gid]) {
        if missing(&m.groups, *gid) {
            cx.error(
                "E0517",
                span,
                format!("gid {gid} is not in the machine's id map"),
                "map it, or use another group",
            );
        }
    }
    if !m.setgroups && !cx.host.groups.is_empty() && !cx.policy.user.value.caller_groups {
        cx.error(
            "E0609",
            span,
            format!("you are in the groups {:?}, and an ordinary user can't give them up", cx.host.groups),
            "write `groups caller` after the user to let the machine keep them, or start it as root",
        );
    }
    if !m.setgroups && !who.groups.is_empty() {
        cx.error(
            "E0601",
            span,
            "an ordinary user can't set supplementary groups",
            "run it as root, or remove `groups`",
        );
    }
}

fn rlimits(cx: &mut Cx<'_>) -> Option<Vec<Rlimit>> {
    let may_raise = cx.host.capabilities >> 24 & 1 == 1;
    let mut out = Vec::new();
    let mut fine = true;
    for (name, limit) in &cx.policy.limits {
        let Some(resource) = resources::resource(name).map(resource_number) else { continue };
        let hard = cx.host.hard_limits.get(&resource).copied().unwrap_or(0);
        if limit.value > hard && !may_raise {
            let d = Diagnostic::error(
                "E0608",
                limit.span,
                format!("the launcher's own limit for `{name}` is {hard}, and it may not raise it"),
            )
            .help("lower the limit, or raise the launcher's");
            cx.diagnostics.push(d);
            fine = false;
        }
        out.push(Rlimit { name: name.clone(), resource, value: limit.value, origin: cx.sources.origin(limit.span) });
    }
    if !cx.policy.limits.contains_key("core") {
        let resource = resource_number(nix::sys::resource::Resource::RLIMIT_CORE);
        let origin = Origin::implied("a core dump would leave the machine");
        out.push(Rlimit { name: "core".into(), resource, value: 0, origin });
    }
    fine.then_some(out)
}

fn argv(cx: &mut Cx<'_>) -> Option<(Vec<String>, Origin)> {
    let program = &cx.policy.program;
    let argv = match &program.value {
        Program::Exec(argv) => argv.clone(),
        Program::Boot => vec![cx.host.init.clone()?],
    };
    Some((argv, cx.origin(program.span)))
}

fn environment(cx: &mut Cx<'_>, terminal: bool) -> Vec<String> {
    let mut out: Vec<(String, String)> = ENVIRONMENT.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    if terminal {
        out.push(("TERM".to_owned(), "vt220".to_owned()));
    }
    for v in &cx.policy.environment {
        let value = match &v.value {
            Some(value) => Some(value.clone()),
            None => cx.host.environment.get(&v.name).cloned(),
        };
        out.retain(|(n, _)| *n != v.name);
        if let Some(value) = value {
            out.push((v.name.clone(), value));
        }
    }
    out.into_iter().map(|(n, v)| format!("{n}={v}")).collect()
}
