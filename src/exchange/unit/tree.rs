//! What a unit's directives show, close and keep read-only, held against each other (systemd 252,
//! src/core/namespace.c): where two of them speak of one place, systemd has an order, and here it is an error.

use super::super::ini::{Line, path, tmpfs, unquoted};
use super::{Mount, Service, plain};
use crate::compile::mounts::NODES;
use crate::syntax::print::quote;

/// Most places that a unit may mount.
const MOST_MOUNTS: usize = 1000;

impl Service {
    pub(super) fn files(&mut self, line: &Line) -> Result<(), String> {
        let number = line.number;
        for item in unquoted(&plain(&line.value)?)? {
            // `-`: it may be missing. `+`: below the root folder, which is refused with these directives. Each once, and
            // elsewhere they are part of a name.
            let marks: &[char] = match line.key.as_str() {
                "BindPaths" | "BindReadOnlyPaths" | "EnvironmentFile" => &['-'],
                key if ["ReadWrite", "ReadOnly", "Inaccessible"].iter().any(|k| key.starts_with(k)) => &['-', '+'],
                _ => &[],
            };
            let item =
                marks.iter().fold(item.as_str(), |rest, mark| rest.strip_prefix(*mark).unwrap_or(rest)).to_owned();
            if item.contains(':') && line.value.contains(['"', '\'', '\\']) {
                return Err(format!("`{item}`: in quotes a colon is part of the path; write it without them"));
            }
            let absolute = ["Paths", "Directories", "FileSystem"].iter().any(|end| line.key.ends_with(end));
            let item = if absolute { self.simple(&item)? } else { item };
            let item = item.as_str();
            let named = |base: &str| {
                let (name, link) = item.split_once(':').unwrap_or((item, ""));
                if !link.is_empty() {
                    return Err(format!("`{item}`: no link to it is made here: name the folder alone"));
                }
                // Where services with DynamicUser= have theirs.
                if name.split('/').find(|part| !part.is_empty()) == Some("private") {
                    return Err(format!("`{name}`: systemd keeps that folder for itself"));
                }
                if name.starts_with('/') || name.split('/').any(|part| part == "..") {
                    return Err(format!("`{name}`: a path below {base}, without `..` (systemd.exec(5))"));
                }
                Ok(format!("{base}/{name}"))
            };
            let same = |p: String, writable: bool| Mount {
                from: Some(p.clone()),
                to: p,
                writable,
                seen: true,
                line: None,
                number,
            };
            let jailed = || match self.root {
                Some(_) => Err("with RootDirectory= it speaks of two trees: write the mounts by hand".to_owned()),
                None => Ok(()),
            };
            let mount = match line.key.as_str() {
                "StateDirectory" => same(named("/var/lib")?, true),
                "CacheDirectory" => same(named("/var/cache")?, true),
                "LogsDirectory" => same(named("/var/log")?, true),
                "RuntimeDirectory" => {
                    let to = named("/run")?;
                    Mount { from: None, to, writable: true, seen: false, line: Some("owner=".into()), number }
                }
                // /etc is shown as it is.
                "ConfigurationDirectory" if self.root.is_none() => continue,
                "ConfigurationDirectory" => same(named("/etc")?, false),
                "ReadWritePaths" | "ReadWriteDirectories" => {
                    jailed()?;
                    same(item.to_owned(), true)
                }
                "ReadOnlyPaths" | "ReadOnlyDirectories" => {
                    jailed()?;
                    same(item.to_owned(), false)
                }
                "BindPaths" | "BindReadOnlyPaths" => {
                    let parts: Vec<&str> = item.split(':').collect();
                    let (from, to) = match parts.as_slice() {
                        [one] => (*one, *one),
                        [from, to] | [from, to, "rbind"] => (*from, *to),
                        _ => return Err(format!("`{item}`: what is mounted below comes along")),
                    };
                    let writable = line.key == "BindPaths";
                    Mount { from: Some(from.into()), to: to.into(), writable, seen: false, line: None, number }
                }
                "TemporaryFileSystem" => {
                    jailed()?;
                    let to = item.split(':').next().unwrap_or_default().to_owned();
                    Mount { from: None, to, writable: true, seen: false, line: Some(tmpfs(item)?), number }
                }
                "InaccessiblePaths" | "InaccessibleDirectories" => {
                    jailed()?;
                    self.closed.push((item.to_owned(), number));
                    continue;
                }
                key if key.ends_with("DirectoryMode") => {
                    let mode = u16::from_str_radix(item, 8).ok().filter(|m| *m <= 0o7777 && !item.starts_with('+'));
                    let mode = mode.ok_or(format!("`{item}` is no mode, as in 0750"))?;
                    match key {
                        // Set-ID bits of a folder only hand its group down.
                        "RuntimeDirectoryMode" => self.runtime_mode = Some(format!("{:04o}", mode & 0o1777)),
                        // systemd sets it before each start.
                        _ => {
                            self.notes.push(format!("line {number}: `chmod {mode:04o}` the folder: it isn't set here"))
                        }
                    }
                    continue;
                }
                "EnvironmentFile" => {
                    self.notes.push(format!("line {number}: {item} isn't read: write what it sets"));
                    continue;
                }
                _ => return Err("unknown directive of [Service]".into()),
            };
            self.mounts.push(mount);
        }
        Ok(())
    }

    /// A path, and each part of `FROM:TO`, as systemd simplifies it (path_simplify); of the host, where it is since
    /// /usr was merged (file-hierarchy(7)).
    fn simple(&self, item: &str) -> Result<String, String> {
        let mut out = Vec::new();
        for (i, part) in item.split(':').enumerate() {
            if !part.starts_with('/') {
                // Options.
                if i == 0 {
                    return Err(format!("`{part}` is no absolute path"));
                }
                out.push(part.to_owned());
                continue;
            }
            let names: Vec<&str> = part.split('/').filter(|n| !n.is_empty() && *n != ".").collect();
            if names.contains(&"..") {
                return Err(format!("`{part}`: write the path without `..`"));
            }
            let merged = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
            let usr = self.root.is_none() && names.first().is_some_and(|n| merged.contains(n));
            // Older names of the same folders; systemd reads the first of them so in any tree.
            let run = match names.as_slice() {
                ["var", "run", ..] => Some("/run"),
                ["var", "lock", ..] if self.root.is_none() => Some("/run/lock"),
                _ => None,
            };
            out.push(match run {
                Some(run) => {
                    let rest = names.iter().skip(2).map(|n| format!("/{n}")).collect::<String>();
                    format!("{run}{rest}")
                }
                None => format!("{}/{}", if usr { "/usr" } else { "" }, names.join("/")),
            });
        }
        Ok(out.join(":"))
    }

    /// A link of this host leads elsewhere than its name says: what is closed or kept read-only by one name would be
    /// open by the other. systemd resolves them (systemd.exec(5)); a policy names places.
    fn second_names(&self) -> Result<(), String> {
        if self.root.is_some() {
            return Ok(());
        }
        let named = |m: &Mount| [m.from.clone(), Some(m.to.clone())].map(|p| p.map(|p| (p, m.number)));
        let places: Vec<(String, usize)> = self.mounts.iter().flat_map(named).flatten().collect();
        let places = places.iter().map(|(p, number)| (p, *number));
        let closed = self.closed.iter().map(|(p, number)| (p, *number));
        for (place, number) in places.chain(closed) {
            // As far as it is there.
            let there = std::path::Path::new(place).ancestors().find_map(|a| Some((a, std::fs::canonicalize(a).ok()?)));
            if let Some((_, real)) = there.filter(|(a, real)| a != real) {
                return Err(format!("line {number}: {place}: a link leads to {}: write that path", real.display()));
            }
        }
        Ok(())
    }

    /// The lines of `mounts`, after the unit's directives were held against each other.
    pub(super) fn mounts<'s>(&'s self) -> Result<Vec<String>, String> {
        let below = |inner: &str, outer: &str| {
            inner == outer || outer == "/" || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
        };
        if self.mounts.len() > MOST_MOUNTS {
            return Err(format!("more than {MOST_MOUNTS} places are mounted"));
        }
        if let Some((_, number)) = self.closed.iter().find(|(p, _)| p == "/") {
            return Err(format!("line {number}: nothing would be left to run"));
        }
        let mut out = Vec::new();
        let mut kept: Vec<&Mount> = Vec::new();
        let mut targets: Vec<(&str, bool)> = Vec::new();
        let closes = |place: &str| self.closed.iter().find(|(p, _)| below(place, p));
        if self.private_tmp {
            for place in ["/tmp", "/var/tmp"] {
                if let Some((p, number)) = closes(place) {
                    return Err(format!(
                        "line {number}: the unit closes {p}, in which PrivateTmp= puts a folder of its own"
                    ));
                }
                out.push(format!("tmpfs {} mode=1777", quote(place)));
            }
        }
        // A device that the unit closes itself isn't given.
        if let Some((p, number)) = self.closed.iter().find(|(p, _)| {
            below("/dev", p) && p != "/" || self.devices.iter().any(|(d, _)| !self.private_devices && below(d, p))
        }) {
            return Err(format!(
                "line {number}: {p}: a device that the machine has is in it: write by hand which is meant"
            ));
        }
        // By whatever name it is kept read-only: systemd resolves the links that lead there.
        let real = |p: &String| std::fs::canonicalize(p).ok().and_then(|r| r.to_str().map(str::to_owned));
        let links = self.held.iter().filter(|_| self.root.is_none()).filter_map(real);
        let held: Vec<String> = self.held.iter().cloned().chain(links).collect();
        let mut faults = Vec::new();
        let mut place = |m: &'s Mount| -> Result<(), String> {
            let fail = |why: &str| Err(format!("line {}: {}: {why}", m.number, m.to));
            if self.private_tmp && ["/tmp", "/var/tmp"].iter().any(|t| below(&m.to, t)) {
                if m.from.as_ref().is_some_and(|f| *f == m.to) && m.writable {
                    // Its own /tmp can be written in any case.
                    return Ok(());
                }
                return fail("PrivateTmp= puts a folder of the service's own there");
            }
            if m.writable && held.contains(&m.to) {
                return fail("ProtectSystem= or ProtectHome= keeps it read-only: write by hand which is meant");
            }
            if let Some((p, _)) = closes(&m.to) {
                return fail(&format!("the unit closes {p} itself: write what is meant by hand"));
            }
            if targets
                .iter()
                .any(|(t, w)| below(t, &m.to) && t != &m.to.as_str() || *w != m.writable && below(&m.to, t))
            {
                return fail("it lies over, or in, another place of the unit with other rights: write it by hand");
            }
            // RuntimeDirectory= is a folder of the host there, and hides nothing.
            let runtime = |t: &Mount| t.line.as_ref().is_some_and(|l| l.ends_with("owner="));
            let hides = |t: &Mount| t.from.is_none() && !runtime(t) && below(&m.to, &t.to);
            if m.seen && self.mounts.iter().any(hides) {
                return fail("a file system in memory hides it there: write by hand which is meant");
            }
            // What the unit sees there is a folder of what is bound, and not the host's of that name.
            let moved = |t: &Mount| t.from.as_ref().is_some_and(|from| *from != t.to) && below(&m.to, &t.to);
            if m.seen && self.mounts.iter().any(moved) {
                return fail("another folder is bound over it there: write by hand which is meant");
            }
            if let Some(same) = kept.iter().find(|k| k.to == m.to) {
                let one_folder = runtime(same) && m.seen || same.seen && runtime(m);
                if !one_folder && (&same.from, &same.line) != (&m.from, &m.line) {
                    return fail("two lines put something else there: write by hand which is meant");
                }
                return Ok(());
            }
            kept.push(m);
            targets.push((&m.to, m.writable));
            out.push(match (&m.from, &m.line) {
                (Some(from), _) => {
                    let access = if m.writable { "rw" } else { "ro" };
                    format!("bind {} -> {} {access}", path(from)?, path(&m.to)?)
                }
                (None, Some(line)) if line.ends_with("owner=") => {
                    let mode = self.runtime_mode.as_deref().unwrap_or("0755");
                    format!("tmpfs {} mode={mode} {line}{}", path(&m.to)?, self.user.as_deref().unwrap_or("root"))
                }
                (None, line) => line.clone().unwrap_or_default(),
            });
            Ok(())
        };
        for m in &self.mounts {
            faults.extend(place(m).err());
        }
        faults.extend(self.second_names().err());
        if !faults.is_empty() {
            return Err(faults.join("\n  "));
        }
        if self.root.is_none() && !targets.iter().any(|(t, _)| *t == "/etc") {
            out.insert(0, "bind \"/etc\" -> \"/etc\" ro".into());
        }
        // MountAPIVFS=, which a root folder means: the tree's own /run isn't seen (systemd 252, `apivfs_table`).
        if self.root.is_some() && !targets.iter().any(|(t, _)| *t == "/run") {
            out.insert(0, "tmpfs \"/run\" mode=0755".into());
        }
        // Below a root folder there is a home to close; of the host nothing is shown there but these.
        for (p, _) in &self.closed {
            let kernel = ["/proc", "/sys", "/dev/shm", "/dev/mqueue", "/dev/pts"];
            let node = p.strip_prefix("/dev/").is_some_and(|n| NODES.contains(&n));
            let of_host = below(p, "/usr") || below(p, "/etc") || node || kernel.iter().any(|k| below(p, k));
            let shown = of_host || self.root.is_some() && !["/dev", "/run"].iter().any(|k| below(p, k));
            if shown || targets.iter().any(|(t, _)| below(p, t)) {
                out.push(format!("hide {}", path(p)?));
            }
        }
        Ok(out)
    }
}
