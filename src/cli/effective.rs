//! What a machine may do in the end, domain by domain, with the line behind each grant: one value that is
//! printed as text or as JSON.

use crate::compile::{Confinement, exposure};
use crate::policy::Policy;
use crate::policy::syscalls::Action;
use crate::proof::grants::{self, Domain};
use crate::source::{Sources, Span};
use crate::syntax::print::quote;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// A grant, or what comes of several.
#[derive(Serialize)]
struct Line {
    text: String,
    /// Where it is written.
    line: String,
    why: Option<String>,
}

#[derive(Serialize)]
struct Section {
    domain: &'static str,
    /// What of the kernel holds it.
    held_by: String,
    lines: Vec<Line>,
}

/// One call with its conditions; the text form counts those of a line instead.
#[derive(Serialize)]
struct Call {
    call: String,
    action: String,
    line: String,
    /// The line of the group that names it.
    group: Option<String>,
    why: Option<String>,
}

#[derive(Serialize)]
struct Reachable {
    #[serde(rename = "use")]
    how: &'static str,
    protocol: &'static str,
    /// `null` is any.
    port: Option<u16>,
    /// Empty is anybody.
    peers: Vec<String>,
    line: String,
}

/// What `explain` says of a machine.
#[derive(Serialize)]
pub(super) struct Effective {
    version: u8,
    machine: String,
    about: Option<String>,
    kernel: String,
    /// Instructions of the filter; `null` when this host can't run the machine.
    filter: Option<usize>,
    sections: Vec<Section>,
    ports: Vec<Reachable>,
    syscalls: Vec<Call>,
}

impl Effective {
    pub(super) fn of(p: &Policy, sources: &Sources, c: Option<&Confinement>) -> Effective {
        let place = |s| sources.cite(s);
        let facts = grants::of_machine(p);
        let section = |domain: Domain, held_by: &str| {
            // What nobody wrote and nobody limits goes without saying.
            let said = |f: &&grants::Fact| f.span != p.span || !matches!(domain, Domain::Limits | Domain::Files);
            let mut lines: Vec<Line> = Vec::new();
            for f in facts.iter().filter(|f| f.domain == domain).filter(said) {
                // Two facts of one line may read alike.
                let at = place(f.span);
                if !lines.iter().any(|l| l.text == f.text && l.line == at) {
                    lines.push(Line { text: f.text.clone(), line: at, why: f.why.clone() });
                }
            }
            Section { domain: domain.word(), held_by: held_by.to_owned(), lines }
        };
        let files = if p.files.is_empty() { "mounts alone: no file rules written" } else { "Landlock" };
        let mut limits = section(Domain::Limits, "setrlimit for each process, control groups for the whole machine");
        for l in c.iter().flat_map(|c| c.cgroups.limits.iter().rev()) {
            let named = |line: &&mut Line| line.text.strip_prefix(l.name.as_str()).is_some_and(|r| r.starts_with(' '));
            // A limit may take several files: the last is the one that bounds.
            if let Some(line) = limits.lines.iter_mut().find(named).filter(|line| !line.text.ends_with(']')) {
                line.text = format!("{}  [{}]", line.text, l.path);
            }
        }
        let size = c.map(|c| c.filter.program.len());
        let size_said = size.map_or("not compiled for this host".to_owned(), |n| format!("{n} instructions"));
        let calls = format!("seccomp, {size_said}; the rest: EPERM, unreviewed numbers ENOSYS, foreign ABIs killed");
        let exposure = exposure::of(p, c.and_then(|c| c.wiring.as_ref()), sources);
        let exposure = Section {
            domain: "exposure",
            held_by: "who reaches it, whom it reaches".to_owned(),
            lines: exposure.into_iter().map(|e| Line { text: e.text, line: e.origin.to_string(), why: None }).collect(),
        };
        Effective {
            version: 1,
            machine: p.name.clone(),
            about: p.about.clone(),
            kernel: format!("{}.{}", p.kernel.0, p.kernel.1),
            filter: size,
            sections: vec![
                section(Domain::Process, "execve, own PID, IPC, UTS and mount namespaces"),
                section(Domain::Capabilities, "the five sets"),
                section(Domain::Mounts, "own mount namespace, locked"),
                section(Domain::Files, files),
                section(Domain::Devices, "bind mounts of single nodes"),
                section(Domain::Network, network(p)),
                exposure,
                Section { domain: "syscalls", held_by: calls, lines: by_line(p, &place) },
                limits,
                section(Domain::Environment, "execve"),
            ],
            ports: p
                .ports
                .iter()
                .map(|f| Reachable {
                    how: f.how.word(),
                    protocol: f.protocol.word(),
                    port: f.port,
                    peers: f.peers.iter().map(ToString::to_string).collect(),
                    line: place(f.span),
                })
                .collect(),
            syscalls: p
                .syscalls
                .iter()
                .map(|r| Call {
                    call: r.to_string(),
                    action: r.action.word(),
                    line: place(r.span),
                    group: r.group.last().map(|g| place(g.item)),
                    why: r.meta.why.clone(),
                })
                .collect(),
        }
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "machine `{}`", self.machine)?;
        if let Some(about) = &self.about {
            write!(f, ": {}", about.escape_debug())?;
        }
        writeln!(f, "\nreviewed against the calls of Linux {}", self.kernel)?;
        for s in &self.sections {
            writeln!(f, "\n{}  [{}]", s.domain, s.held_by)?;
            if s.lines.is_empty() {
                writeln!(f, "  nothing")?;
            }
            let width = s.lines.iter().map(|l| l.text.chars().count()).filter(|w| *w <= 70).max().unwrap_or(0);
            for l in &s.lines {
                let why = l.why.as_ref().map(|w| format!("  why {}", quote(w))).unwrap_or_default();
                writeln!(f, "  {:<width$}  {}{why}", l.text, l.line)?;
            }
        }
        f.write_str(
            "\nx86-64 calls 335 (uretprobe) and 336 (uprobe) pass every seccomp filter by the kernel's design; outside a\n\
             trampoline of the kernel's own they do nothing.\n",
        )
    }
}

fn network(p: &Policy) -> &'static str {
    match (p.network.value.is_filtered(), p.network.value.is_routed()) {
        (true, true) => {
            "own network namespace; ports and addresses by the host's packet filter, TCP ports by Landlock too"
        }
        (true, false) => {
            "own network namespace; ports and addresses by the packet filter in it, TCP ports by Landlock too"
        }
        _ => "network namespace; TCP ports by Landlock",
    }
}

/// The rules for calls, counted by the line that writes them.
fn by_line(p: &Policy, place: &dyn Fn(Span) -> String) -> Vec<Line> {
    let mut lines: BTreeMap<(Span, Action), Vec<String>> = BTreeMap::new();
    for r in &p.syscalls {
        lines.entry((r.span, r.action)).or_default().push(r.to_string());
    }
    let text = |(action, list): (Action, Vec<String>)| {
        let some = list.iter().take(if list.len() > 4 { 3 } else { 4 }).cloned().collect::<Vec<_>>().join(" ");
        match list.len() {
            0..=4 => format!("{} {some}", action.word()),
            n => format!("{} {n} calls: {some} ...", action.word()),
        }
    };
    lines
        .into_iter()
        .map(|((span, action), list)| Line {
            text: text((action, list)),
            line: place(span),
            why: p.syscalls.iter().find(|r| r.span == span).and_then(|r| r.meta.why.clone()),
        })
        .collect()
}
