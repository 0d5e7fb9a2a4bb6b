//! Facts of the host's control groups: which hierarchy has which controller.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io;

/// The facts (cgroups(7)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cgroups {
    /// Where the v2 hierarchy is mounted.
    pub v2: Option<String>,
    /// Its controllers.
    pub controllers: Vec<String>,
    /// v1 hierarchies by controller.
    pub v1: BTreeMap<String, String>,
    /// Files of those that not every kernel has.
    pub v1_files: Vec<String>,
}

/// Files that depend on the kernel's configuration.
const OPTIONAL: &[(&str, &str)] = &[
    ("memory", "memory.memsw.limit_in_bytes"),
    ("cpu", "cpu.cfs_quota_us"),
    ("blkio", "blkio.bfq.weight"),
    ("blkio", "blkio.weight"),
    ("blkio", "blkio.throttle.read_bps_device"),
];

impl Cgroups {
    /// Reads the facts. Nothing is changed.
    pub fn probe() -> io::Result<Cgroups> {
        let mut out = Cgroups::default();
        for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
            // proc_pid_mountinfo(5): root and mount point before ` - `, type and options after it.
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let mut fields = before.split(' ').skip(3);
            let (Some(root), Some(place)) = (fields.next(), fields.next()) else { continue };
            let mut after = after.split(' ');
            let (kind, options) = (after.next(), after.nth(1));
            if root != "/" || !place.starts_with("/sys/fs/cgroup") {
                continue;
            }
            match kind {
                Some("cgroup2") if out.v2.is_none() => out.v2 = Some(place.to_owned()),
                Some("cgroup") => {
                    for controller in options.unwrap_or("").split(',') {
                        out.v1.entry(controller.to_owned()).or_insert(place.to_owned());
                    }
                }
                _ => {}
            }
        }
        if let Some(mount) = &out.v2 {
            let text = fs::read_to_string(format!("{mount}/cgroup.controllers"))?;
            out.controllers = text.split_whitespace().map(str::to_owned).collect();
        }
        for (controller, file) in OPTIONAL {
            if let Some(place) = out.v1.get(*controller)
                && crate::files::exists(format!("{place}/{file}"))?
            {
                out.v1_files.push((*file).to_owned());
            }
        }
        Ok(out)
    }

    /// Where the v2 hierarchy is, if it has this controller.
    pub fn v2_with(&self, controller: &str) -> Option<&str> {
        self.v2.as_deref().filter(|_| self.controllers.iter().any(|c| c == controller))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_controller_is_in_one_hierarchy_only() {
        let c = super::Cgroups::probe().unwrap();
        assert!(c.controllers.iter().all(|name| !c.v1.contains_key(name)), "{c:?}");
    }
}
