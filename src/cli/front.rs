//! What every verb begins with: read, resolve, say what is wrong.

use crate::compile;
use crate::diagnostic::{Diagnostics, Severity};
use crate::host::{Host, Wanted};
use crate::kernel::numbers::Arch;
use crate::policy::mounts::{Origin, Source};
use crate::policy::resolve::{self, Resolved};
use crate::policy::resources;
use crate::policy::{Policy, loader};
use crate::source::{Sources, display_name};
use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

/// A command that can't go on.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) code: u8,
    pub(super) text: String,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Stop {
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Stop { code: 2, text: text.into() }
    }

    pub(super) fn host(text: impl Into<String>) -> Self {
        Stop { code: 3, text: text.into() }
    }
}

pub(super) type Outcome = Result<u8, Stop>;

/// True when messages may be coloured: a terminal, and NO_COLOR not set (no-color.org).
pub(super) fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// A message on standard error; a closed one is nobody's fault. What arguments and names hold moves no cursor.
pub(super) fn say(text: &str) {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() && !['\n', '\t'].contains(&c) { c.escape_unicode().to_string() } else { c.into() })
        .collect();
    let line = if text.starts_with("error") || text.is_empty() { text } else { format!("stockade: {text}") };
    writeln!(std::io::stderr(), "{}", line.trim_end()).unwrap_or(());
}

/// A result on standard output; ends quietly when the reader went away.
pub(super) fn print(text: &str) -> Result<(), Stop> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Stop::host(format!("can't write the result: {e}"))),
        Ok(()) => Ok(()),
    }
}

/// A file with everything it imports, resolved.
pub(super) struct Loaded {
    pub(super) sources: Sources,
    pub(super) diagnostics: Diagnostics,
    pub(super) resolved: Resolved,
}

pub(super) fn load(path: &Path) -> Result<Loaded, Stop> {
    load_on(path, &today())
}

/// The same on another day.
pub(super) fn load_on(path: &Path, day: &str) -> Result<Loaded, Stop> {
    let mut sources = Sources::default();
    let mut diagnostics = Diagnostics::default();
    let id = loader::read(path, &mut sources, &mut diagnostics).map_err(|e| Stop::usage(e.to_string()))?;
    let resolved = resolve::resolve(id, &mut sources, &mut diagnostics, day);
    tracing::info!(file = %display_name(path), machines = resolved.machines.len(), "resolved");
    Ok(Loaded { sources, diagnostics, resolved })
}

impl Loaded {
    /// Prints the findings; true when the policy can't be used.
    pub(super) fn report(&self) -> bool {
        let text = self.diagnostics.render(&self.sources, colour());
        if !text.is_empty() {
            write!(std::io::stderr(), "{text}").unwrap_or(());
        }
        self.diagnostics.has_errors()
    }

    /// Says of machines about which a question is answered, or which are compared, that `check` refuses them: the
    /// answer is of what is written, and nothing runs under it.
    pub(super) fn say_refused<'a>(&self, machines: impl IntoIterator<Item = &'a Policy>) {
        for m in machines {
            let mut d = Diagnostics::default();
            let _ = compile::portable(m, Arch::NATIVE, &mut d);
            let mut codes: Vec<_> = d.iter().filter(|x| x.severity == Severity::Error).map(|x| x.code).collect();
            codes.sort_unstable();
            codes.dedup();
            if !codes.is_empty() {
                say(&format!(
                    "note: `stockade check` refuses {} ({}): it can't be run as it is written",
                    m.name,
                    codes.join(", ")
                ));
            }
        }
    }

    /// The machine that is meant: the one named, or the only one.
    pub(super) fn machine(&self, name: Option<&str>) -> Result<&Policy, Stop> {
        let all = &self.resolved.machines;
        let names = || all.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ");
        match (name, all.as_slice()) {
            (Some(n), _) => all
                .iter()
                .find(|m| m.name == n)
                .ok_or_else(|| Stop::usage(format!("no machine `{n}` in this file; it has: {}", names()))),
            (None, [one]) => Ok(one),
            (None, []) => Err(Stop::usage("the file has no machine")),
            (None, _) => Err(Stop::usage(format!("the file has several machines, name one: {}", names()))),
        }
    }
}

/// The facts of this host that the policy is about.
pub(super) fn probe(policy: &Policy) -> Result<Host, Stop> {
    let cpus = crate::host::cpus().map_err(|e| Stop::host(format!("can't list the host's CPUs: {e}")))?;
    let mut paths = compile::mounts::implied_paths(&cpus);
    let root = match &policy.root.value.origin {
        Origin::Host => "/".to_owned(),
        Origin::Directory(d) => d.clone(),
    };
    let below = |p: &str| if root == "/" { p.to_owned() } else { format!("{root}{p}") };
    paths.push(root.clone());
    paths.extend(["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"].map(below));
    let names = compile::asserts::is_of_files(policy);
    if names {
        paths.extend(["/proc", "/sys", "/sys/fs/cgroup"].map(str::to_owned));
    }
    for m in &policy.mounts {
        if let Source::Bind(p) | Source::Overlay(p, _) = &m.source {
            paths.push(p.clone());
        }
    }
    paths.extend(policy.devices.iter().map(|d| d.path.clone()));
    paths.extend(policy.limits.keys().filter_map(|k| k.split_once(' ')).map(|(_, device)| device.to_owned()));
    let network = policy.network.value.is_filtered();
    let grouped = |limit: &String| resources::resource(limit).is_none();
    let cgroups = policy.boots() || policy.limits.keys().any(grouped);
    Host::probe(&Wanted { paths, names, root: &root, network, cgroups }).map_err(|e| Stop::host(e.to_string()))
}

/// Today as `YYYY-MM-DD` in UTC (days to civil date, after the proleptic Gregorian calendar).
pub(super) fn today() -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    civil(seconds / 86_400)
}

fn civil(days: u64) -> String {
    let (mut year, mut left) = (1970u64, days);
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let months = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in months {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", left + 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn days_become_dates() {
        assert_eq!(super::civil(0), "1970-01-01");
        assert_eq!(super::civil(19_782), "2024-02-29");
        assert_eq!(super::civil(20_088), "2024-12-31");
        assert_eq!(super::civil(20_779), "2026-11-22");
    }
}
