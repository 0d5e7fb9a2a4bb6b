//! `status`: the machines of this caller, as they are now.

use super::front::{self, Outcome, Stop};
use super::language::print_json;
use crate::launch::state::Found;
use crate::launch::{self, Met, Usage};
use crate::plan::step::Exposure;
use serde::Serialize;
use std::fmt;

/// One machine.
#[derive(Default, Serialize)]
struct Status {
    machine: String,
    /// `starting`, `running`, `unreadable` when its record is damaged, or `gone`: its supervisor was killed, and
    /// what it left is removed after this was said.
    state: &'static str,
    /// Pid of the program, once it was released.
    program: Option<i32>,
    supervisor: Option<u32>,
    /// SHA-256 of the confinement that the kernel held when it was released.
    digest: Option<String>,
    #[serde(flatten)]
    usage: Usage,
    exposure: Vec<Way>,
    limits: Vec<Met>,
}

#[derive(Serialize)]
struct Way {
    text: String,
    line: String,
}

impl Status {
    fn of(found: Found) -> Status {
        let released = found.record.as_ref().is_some_and(|r| r.program != 0);
        let state = match (found.held, &found.record) {
            (false, _) => "gone",
            (true, None) if found.written => "unreadable",
            (true, _) if released => "running",
            (true, _) => "starting",
        };
        let mut out = Status { machine: found.name, state, ..Status::default() };
        let Some(r) = found.record else { return out };
        out.supervisor = Some(r.supervisor);
        out.digest = Some(r.digest).filter(|d| !d.is_empty());
        out.usage = launch::usage(&r.cgroups);
        // Of one that is gone the number may be another's already, and nobody is let in any more.
        if found.held {
            out.program = released.then_some(r.program);
            let ways = r.exposure.into_iter();
            out.exposure = ways.map(|Exposure { text, origin }| Way { text, line: origin.to_string() }).collect();
            out.limits = r.watch.iter().map(launch::met).collect();
        }
        out
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", self.machine, self.state)?;
        if let Some(pid) = self.program {
            write!(f, ", program {pid}")?;
        }
        if let Some(pid) = self.supervisor {
            write!(f, ", supervisor {pid}")?;
        }
        if let Some(bytes) = self.usage.memory {
            write!(f, ", memory {:.1} MiB", bytes as f64 / f64::from(1 << 20))?;
        }
        if let Some(n) = self.usage.tasks {
            write!(f, ", {n} tasks")?;
        }
        writeln!(f)?;
        let mut lines: Vec<(String, &str)> = self.exposure.iter().map(|w| (w.text.clone(), w.line.as_str())).collect();
        for m in &self.limits {
            let count = m.count.map_or("nobody knows how many".to_owned(), |c| c.to_string());
            lines.push((format!("{} met {count} times: {}", m.limit, m.meaning), &m.line));
        }
        let width = lines.iter().map(|(t, _)| t.chars().count()).filter(|w| *w <= 90).max().unwrap_or(0);
        for (text, line) in lines {
            writeln!(f, "  {text:<width$}  {line}")?;
        }
        Ok(())
    }
}

pub(super) fn status(machine: Option<&str>, json: bool) -> Outcome {
    let fail = |e: std::io::Error| Stop::host(format!("can't read the state folder: {e}"));
    let home = super::run::home()?;
    let mut list: Vec<Status> = home.machines().map_err(fail)?.into_iter().map(Status::of).collect();
    super::run::clean(&home)?;
    if let Some(name) = machine {
        list.retain(|s| s.machine == name);
    }
    if json {
        print_json(&serde_json::json!({ "version": 1, "machines": list }))?;
    } else {
        front::print(&list.iter().map(ToString::to_string).collect::<String>())?;
    }
    match machine {
        Some(name) if list.iter().all(|s| s.state == "gone") => {
            front::say(&format!("no machine `{name}` is running"));
            Ok(1)
        }
        _ => Ok(0),
    }
}
