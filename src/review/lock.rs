//! The lock: what a policy comes to, one grant a line, to be committed beside it. A change in a profile of the
//! library, or in this program, is then a line in a diff.

use crate::compile;
use crate::diagnostic::Diagnostics;
use crate::kernel::numbers::Arch;
use crate::plan::step::Program;
use crate::policy::Policy;
use crate::proof::grants;
use crate::source::{SourceFile, Sources, Span, display_name};
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// How every lock begins.
pub const BEGINNING: &str = "stockade lock ";

/// The lock of a file's machines; `Err` is what can't be compiled.
pub fn text(machines: &[Policy], sources: &Sources) -> Result<String, Diagnostics> {
    let mut out = format!("{BEGINNING}1\n");
    let mut files: Vec<(String, String)> = sources.all().map(|f| (name(f), digest(f.text.as_bytes()))).collect();
    files.sort();
    for (name, sum) in files {
        out.push_str(&format!("file {name} sha256:{sum}\n"));
    }
    for m in machines {
        out.push_str(&format!("\nmachine {} kernel {}.{}\n", m.name, m.kernel.0, m.kernel.1));
        let mut lines = Vec::new();
        let place = |span: Span| {
            format!("{}:{}", sources.get(span.file).map_or_else(|| "?".into(), name), sources.position(span).line)
        };
        let why =
            |w: &Option<String>| w.as_ref().map(|w| format!("  why \"{}\"", w.escape_debug())).unwrap_or_default();
        for r in &m.syscalls {
            let by = r.group.last().map(|g| format!(" by {}", place(g.item))).unwrap_or_default();
            lines.push(format!("syscalls {} {r}  <- {}{by}{}", r.action.word(), place(r.span), why(&r.meta.why)));
        }
        for f in grants::of_machine(m) {
            lines.push(format!("{} {}  <- {}{}", f.domain.word(), f.text, place(f.span), why(&f.why)));
        }
        for c in &m.within {
            lines.push(format!("within {}  <- {}", c.name.value, place(c.name.span)));
        }
        lines.sort();
        lines.dedup();
        for l in lines {
            out.push_str(&format!("  {l}\n"));
        }
        // Of this architecture: constants and the order of arguments are other ones elsewhere.
        let (mut d, arch) = (Diagnostics::default(), Arch::NATIVE);
        let Some(f) = compile::portable(m, arch, &mut d).filter(|_| !d.has_errors()) else {
            return Err(d);
        };
        let (size, version) = (f.program.len(), env!("CARGO_PKG_VERSION"));
        let sum = Program(f.program).sha256();
        let arch = arch.word();
        out.push_str(&format!("  filter {arch} sha256:{sum} {size} instructions, generator stockade {version}\n"));
    }
    Ok(out)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A file's name as seen from the policy's own folder, below which its imports are: a lock is the same wherever the
/// repository lies, and files of one name in two folders are told apart. Names of the library stay whole.
fn name(file: &SourceFile) -> String {
    let Some(root) = &file.root else { return file.name.clone() };
    let plain = |name: &str| name.strip_prefix("./").unwrap_or(name).to_owned();
    let (folder, name) = (plain(&display_name(root)), plain(&file.name));
    // By components: `a//b` and `a/./b` are one place.
    Path::new(&name).strip_prefix(folder).map_or_else(|_| name.clone(), |below| below.to_string_lossy().into_owned())
}

/// The lines on one side only, `-` for the committed lock and `+` for what the policy comes to now.
pub fn difference(committed: &str, now: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (committed.lines().collect(), now.lines().collect());
    let mut out: Vec<String> = old.iter().filter(|l| !new.contains(l)).map(|l| format!("- {}", l.trim())).collect();
    out.extend(new.iter().filter(|l| !old.contains(l)).map(|l| format!("+ {}", l.trim())));
    if out.is_empty() && committed != now {
        out.push("~ the same lines in another order, or with other ends (CR LF)".to_owned());
    }
    out
}
