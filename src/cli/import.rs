//! `import`: policies made of other programs' files.

use super::front::{self, Outcome, Stop};
use crate::exchange::import::{self, Imported};
use crate::exchange::profile::Reading;
use crate::exchange::{nspawn, unit};
use crate::kernel::numbers::Arch;
use crate::source::display_name;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Longest file that is read, in bytes; Docker's own profile has 16 KiB.
const MOST: u64 = 4 << 20;

/// How a seccomp profile is read.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum As {
    /// As it says: all comparisons of an entry hold
    Intent,
    /// As runc reads it: one comparison is enough where two are about the same argument
    Runc,
}

pub(super) fn docker(file: &Path, reading: As, caps: Option<&[String]>, kernel: Option<(u16, u16)>) -> Outcome {
    let text = text(file)?;
    let capabilities: Vec<String> = match caps {
        Some(list) => list.iter().filter(|c| *c != "none").cloned().collect(),
        None => crate::exchange::docker::CAPABILITIES.iter().map(|c| (*c).to_owned()).collect(),
    };
    if let Some(bad) = capabilities.iter().find(|c| crate::policy::capabilities::number(c).is_none()) {
        return Err(Stop::usage(format!("`{bad}` is no capability: write it as in `net_bind_service`, or `none`")));
    }
    let reading = match reading {
        As::Intent => Reading::Intent,
        As::Runc => Reading::Runc,
    };
    let name = format!("imported/{}", label(file));
    said(file, import::docker(&name, &text, reading, &capabilities, kernel, Arch::NATIVE))
}

pub(super) fn nspawn(file: &Path, root: Option<&Path>) -> Outcome {
    let name = label(file);
    let root = match root {
        Some(r) => r.to_str().ok_or_else(|| Stop::usage("the root's path is not UTF-8"))?.to_owned(),
        // Where machinectl(1) keeps the folder of that name.
        None => format!("/var/lib/machines/{name}"),
    };
    let text = text(file)?;
    let folder = |p: &Path| {
        p.parent().and_then(|d| std::fs::canonicalize(if d == Path::new("") { Path::new(".") } else { d }).ok())
    };
    let beside = folder(file).is_some_and(|f| Some(f) == folder(Path::new(&root)));
    let trusted = if beside { nspawn::untrusted(&text) } else { Ok(()) };
    said(file, trusted.and_then(|()| nspawn::import(&name, &root, &text)))
}

pub(super) fn systemd(file: &Path) -> Outcome {
    let mut imported = unit::import(&label(file), &text(file)?);
    let folder = file.with_file_name(format!("{}.d", file.file_name().unwrap_or_default().to_string_lossy()));
    if let (Ok(done), true) = (&mut imported, folder.is_dir()) {
        done.notes.push(format!("{} isn't read: write what its files change", display_name(&folder)));
    }
    said(file, imported)
}

/// The policy goes to standard output, what is to be known about it to standard error.
fn said(file: &Path, imported: Result<Imported, String>) -> Outcome {
    let done = imported.map_err(|e| Stop::usage(format!("can't import {}: {e}", display_name(file))))?;
    front::print(&done.text)?;
    for n in &done.notes {
        front::say(&format!("note: {n}"));
    }
    for d in &done.differences {
        front::say(&format!("differs: {d}"));
    }
    front::say("system calls: proved to let through none that the source keeps out; the rest is read, line by line");
    Ok(0)
}

fn text(file: &Path) -> Result<String, Stop> {
    let fail = |e: String| Stop::usage(format!("can't read {}: {e}", display_name(file)));
    // Without waiting for the other end of a fifo.
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(file)
        .map_err(|e| fail(e.to_string()))?;
    if !opened.metadata().map_err(|e| fail(e.to_string()))?.is_file() {
        return Err(fail("it is no regular file".into()));
    }
    let mut bytes = Vec::new();
    opened.take(MOST + 1).read_to_end(&mut bytes).map_err(|e| fail(e.to_string()))?;
    if bytes.len() as u64 > MOST {
        return Err(fail("longer than 4 MiB".into()));
    }
    String::from_utf8(bytes).map_err(|_| fail("it is not UTF-8".into()))
}

/// A name for the machine or profile, out of the file's.
fn label(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let clean: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let clean = clean.trim_matches('-');
    if crate::policy::valid_name(clean) { clean.to_owned() } else { "machine".to_owned() }
}
