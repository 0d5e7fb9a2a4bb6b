//! The root file system and what is mounted in it.

use super::process::{self, Id};
use super::reader::{Args, Context, Meta, size};
use super::removes::Removed;
use super::resolve::{Grants, Value};
use crate::source::{Span, Spanned};
use crate::syntax::ast::Statement;

/// Where the root comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A folder of the host.
    Directory(String),
    /// The host's own /usr, everything else private.
    Host,
}

/// What may be changed in the root, and what stays of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing can be written.
    ReadOnly,
    /// Writes go to the folder.
    ReadWrite,
    /// Writes go to an overlay in memory that is gone at the end.
    Ephemeral,
    /// Only the folder's /usr is used, read-only; everything else is empty and in memory.
    Volatile,
}

/// The `root` statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Where it comes from.
    pub origin: Origin,
    /// How it may be changed.
    pub access: Access,
    /// Upper bound in bytes of what an overlay or a private root may hold.
    pub size: u64,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file or folder of the host.
    Bind(String),
    /// A host folder with a private writable layer in memory of this many bytes.
    Overlay(String, u64),
    /// Memory, with an upper bound in bytes, a mode, and an owner other than root.
    Tmpfs(u64, u32, Option<Id>),
    /// procfs(5).
    Proc,
    /// sysfs(5).
    Sysfs,
    /// A pseudo-terminal file system of its own.
    Devpts,
    /// POSIX message queues of the machine's IPC namespace.
    Mqueue,
    /// The machine's part of the cgroup v2 tree.
    Cgroup2,
    /// An empty file or folder over what is there.
    Mask,
    /// A file or folder that nobody can open over what is there.
    Hide,
}

/// One line of `mounts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is shown.
    pub source: Source,
    /// Where, inside.
    pub target: String,
    /// Can it be written?
    pub writable: bool,
    /// Programs on it can be executed.
    pub exec: bool,
    /// Set-user-ID bits and file capabilities on it count.
    pub suid: bool,
    /// Device nodes on it work.
    pub dev: bool,
    /// Owners are translated by the machine's user namespace, so that its root is root of these files.
    pub translated: bool,
    /// The author's metadata.
    pub meta: Meta,
    /// The line.
    pub span: Span,
}

/// Memory that a private root, an overlay, or a tmpfs without `size=` may use, in bytes.
pub const DEFAULT_SIZE: u64 = 1 << 30;

pub(super) fn read_root(cx: &mut Context<'_>, args: &mut Args<'_>, out: &mut Grants, overriding: bool) {
    let Some(kind) = args.word(cx, "`dir`, `image` or `host`") else { return };
    let origin = match kind.value.as_str() {
        "host" => Origin::Host,
        "dir" => match args.path(cx, "the folder's path") {
            Some(p) => Origin::Directory(p.value),
            None => return,
        },
        "image" => match args.text(cx, "the image's name") {
            Some(n) if super::valid_name(&n.value) => Origin::Directory(format!("/var/lib/machines/{}", n.value)),
            Some(n) => {
                return cx.error("E0211", n.span, format!("`{}` can't be an image's name", n.value), super::NAME_HELP);
            }
            None => return,
        },
        "oci" => return cx.not_yet(args.span, "`root oci`"),
        _ => return cx.unknown("E0202", "kind of root", &kind, &["dir", "image", "host", "oci"]),
    };
    let access = match args.one_of(&["ro", "rw", "ephemeral", "volatile"]).map(|w| w.value) {
        Some("rw") => Access::ReadWrite,
        Some("ephemeral") => Access::Ephemeral,
        Some("volatile") => Access::Volatile,
        _ => Access::ReadOnly,
    };
    let mut limit = DEFAULT_SIZE;
    if let Some(v) = args.option(cx, "size") {
        match size(&v.value).filter(|n| *n > 0) {
            Some(b) => limit = b,
            None => return bad_size(cx, &v),
        }
    }
    if origin == Origin::Host && access != Access::ReadOnly {
        return cx.error(
            "E0503",
            args.span,
            "`root host` is always read-only",
            "use `mounts` for what must be written, as in `tmpfs \"/run\"`",
        );
    }
    args.finish(cx);
    out.scalar(cx, "root", Value::Root(Root { origin, access, size: limit }), args, overriding);
}

fn said_twice(cx: &mut Context<'_>, span: Span) {
    cx.error("E0203", span, "this is said twice, or contradicts what was said before", "keep one");
}

fn bad_size(cx: &mut Context<'_>, v: &Spanned<String>) {
    cx.error(
        "E0212",
        v.span,
        format!("`{}` is not a size", v.value),
        "a whole number with its unit: B, KiB, MiB, GiB, TiB",
    );
}

const VERBS: &[&str] =
    &["bind", "tmpfs", "overlay", "proc", "sysfs", "cgroup2", "devpts", "mqueue", "mask", "hide", "remove"];

pub(super) fn read(cx: &mut Context<'_>, s: &Statement, out: &mut Grants) {
    let mut args = Args::new(cx, s, 0);
    let Some(verb) = args.word(cx, "a kind of mount") else { return };
    let mut limit = None;
    let mut mode = 0o755;
    let mut owner = None;
    let host_path = match verb.value.as_str() {
        "bind" | "overlay" => {
            let Some(host) = args.path(cx, "the host's path") else { return };
            if !args.op("->") {
                let at = args.peek().map_or(host.span, |i| i.span);
                return cx.error(
                    "E0205",
                    at,
                    "expected `->` and the path inside",
                    "bind \"/host/path\" -> \"/inside\" ro",
                );
            }
            Some(host.value)
        }
        v if VERBS.contains(&v) => None,
        _ => return cx.unknown("E0201", "statement", &verb, VERBS),
    };
    let Some(target) = args.path(cx, "the path inside") else { return };
    let mut written: Vec<&'static str> = Vec::new();
    let (mut writable, mut exec, mut suid, mut dev, mut said) = (false, false, false, false, false);
    let mut translated = true;
    loop {
        let word = args.peek().map_or(args.span, |i| i.span);
        let mut twice = |what: &'static str| {
            let again = written.contains(&what);
            written.push(what);
            again
        };
        if let Some(v) = args.option(cx, "size") {
            if twice("size") {
                return said_twice(cx, word);
            }
            match size(&v.value).filter(|n| *n > 0) {
                Some(b) => limit = Some(b),
                None => return bad_size(cx, &v),
            }
        } else if let Some(v) = args.option(cx, "owner") {
            if twice("owner") {
                return said_twice(cx, word);
            }
            owner = process::id(cx, &v.value, v.span);
        } else if let Some(v) = args.option(cx, "mode") {
            if twice("mode") {
                return said_twice(cx, word);
            }
            let octal = u32::from_str_radix(&v.value, 8).ok().filter(|m| *m <= 0o1777);
            match octal {
                Some(m) => mode = m,
                None => return cx.error("E0213", v.span, "a mode is an octal number up to 1777", "mode=0755"),
            }
        } else {
            match args.one_of(&["ro", "rw", "exec", "suid", "dev", "noidmap"]).map(|w| w.value) {
                Some("ro" | "rw") if said => return said_twice(cx, word),
                Some("ro") => said = true,
                Some("rw") => (writable, said) = (true, true),
                Some("exec") => exec = true,
                Some("suid") => suid = true,
                Some("dev") => dev = true,
                Some("noidmap") if host_path.is_some() => translated = false,
                Some("noidmap") => {
                    return cx.error(
                        "E0203",
                        word,
                        "only what comes from the host can be `noidmap`",
                        "delete the word",
                    );
                }
                _ => break,
            }
        }
    }
    args.finish(cx);
    if verb.value == "remove" {
        out.remove(cx, Removed::Mount(target.value), args.span, &args);
        return;
    }
    let source = match (verb.value.as_str(), host_path) {
        ("bind", Some(p)) => Source::Bind(p),
        ("overlay", Some(p)) => Source::Overlay(p, limit.take().unwrap_or(DEFAULT_SIZE)),
        ("tmpfs", _) => Source::Tmpfs(limit.take().unwrap_or(DEFAULT_SIZE), mode, owner.take()),
        ("proc", _) => Source::Proc,
        ("sysfs", _) => Source::Sysfs,
        ("devpts", _) => Source::Devpts,
        ("mqueue", _) => Source::Mqueue,
        ("cgroup2", _) => Source::Cgroup2,
        ("mask", _) => Source::Mask,
        _ => Source::Hide,
    };
    let memory = matches!(source, Source::Tmpfs(..));
    if limit.is_some() || owner.is_some() || written.contains(&"mode") && !memory {
        let what = if limit.is_some() {
            "size"
        } else if owner.is_some() {
            "owner"
        } else {
            "mode"
        };
        return cx.error("E0203", args.span, format!("`{}` takes no {what}", verb.value), "only memory has one");
    }
    if matches!(source, Source::Mask | Source::Hide) && (said || exec || suid || dev) {
        return cx.error(
            "E0203",
            args.span,
            format!("`{}` takes no more words", verb.value),
            "what it covers can't be used at all",
        );
    }
    // Memory of one's own is there to be written; everything else is read-only unless it says rw.
    let own = matches!(source, Source::Tmpfs(..) | Source::Overlay(..));
    let writable = if own { writable || !said } else { writable };
    if let Source::Bind(_) = source
        && !said
    {
        return cx.error(
            "E0504",
            args.span,
            "a bind says `ro` or `rw`",
            "add the word: what may be written must be visible in review",
        );
    }
    if (suid || dev) && args.meta.why.is_none() {
        cx.error("E0308", args.span, "giving away `suid` or `dev` needs a reason", "add why \"...\"");
    }
    if target.value == "/" {
        return cx.error("E0505", target.span, "`/` is the root's business", "use the `root` statement");
    }
    let meta = args.meta.clone();
    out.mounts.push(Mount {
        source,
        target: target.value,
        writable,
        exec,
        suid,
        dev,
        translated,
        meta,
        span: args.span,
    });
}
