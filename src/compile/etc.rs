//! The small files of ours that a machine sees in /etc and /run: accounts, names, who answers names.

use super::mounts::{HostPath, STRICT, Shown, Tree, TreeStep};
use super::network::{INSIDE, Wiring};
use crate::host::network::Place;
use crate::policy::mounts::{Access, Origin as RootOrigin, Source};
use crate::policy::network::Network;
use crate::source::Origin;

impl Tree<'_, '_> {
    /// The few files of /etc that every program expects, made from what the machine is.
    pub(super) fn accounts(&mut self) {
        let rule = "a private root has the accounts of its program only";
        let policy = self.cx.policy;
        let hostname = policy.hostname.value.clone();
        let accounts = &self.cx.host.accounts;
        let uid = match &policy.user.value.user {
            crate::policy::process::Id::Number(n) => Some(*n),
            crate::policy::process::Id::Name(n) => accounts.users.iter().find(|(u, ..)| u == n).map(|(_, u, _)| *u),
        };
        let mut passwd = String::from("root:x:0:0:root:/:/usr/sbin/nologin\n");
        let mut group = String::from("root:x:0:\n");
        let mut owners: Vec<u32> = uid.into_iter().collect();
        for m in &policy.mounts {
            if let Source::Tmpfs(_, _, Some(crate::policy::process::Id::Name(n))) = &m.source {
                owners.extend(accounts.users.iter().find(|(u, ..)| u == n).map(|(_, u, _)| *u));
            }
        }
        for (name, id, gid) in
            accounts.users.iter().filter(|(_, id, _)| *id != 0 && (owners.contains(id) || *id == 65_534))
        {
            passwd.push_str(&format!("{name}:x:{id}:{gid}::/:/usr/sbin/nologin\n"));
        }
        for (name, gid) in accounts.groups.iter().filter(|(_, gid)| *gid != 0) {
            group.push_str(&format!("{name}:x:{gid}:\n"));
        }
        let owner = self.owner;
        let files = [
            ("/etc/passwd", passwd),
            ("/etc/group", group),
            ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
            ("/etc/hostname", format!("{hostname}\n")),
            ("/etc/hosts", format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {hostname}\n")),
        ];
        let zone = matches!(policy.network.value, Network::Zone(_));
        for (path, content) in files.into_iter().filter(|(p, _)| !(zone && *p == "/etc/hosts")) {
            self.implied(TreeStep::File { path: path.to_owned(), content, owner }, rule);
        }
        if policy.network.value == Network::Host
            && let Some(f) = self.cx.host.paths.get("/etc/resolv.conf").cloned()
        {
            self.ensure_file("/etc/resolv.conf");
            let from = HostPath { path: f.canonical, device: f.device, inode: f.inode };
            let origin = self.cx.origin(policy.network.span);
            let idmap = self.idmap;
            self.mount("/etc/resolv.conf", Shown::Bind { from, idmap, recursive: false }, STRICT, origin);
        }
    }

    /// Who answers names, and for a booted system what its own network manager has to know.
    pub(super) fn names(&mut self, w: &Wiring) {
        let (policy, owner) = (self.cx.policy, self.owner);
        let private = policy.root.value.origin == RootOrigin::Host || policy.root.value.access == Access::Volatile;
        if !w.resolvers.is_empty() {
            let origin = self.cx.origin(policy.resolver.span);
            let mut content: String = w.resolvers.iter().map(|a| format!("nameserver {a}\n")).collect();
            content.insert_str(0, "# By Stockade, as the policy says.\n");
            let own = policy.boots() && self.cx.host.network.root[0] == Place::Link;
            if own {
                // The image has a stub of systemd-resolved there, which learns its servers from networkd.
                for name in ["resolv.conf", "stub-resolv.conf"] {
                    let path = format!("/run/systemd/resolve/{name}");
                    self.ensure_directory("/run/systemd/resolve");
                    self.push(TreeStep::File { path, content: content.clone(), owner }, origin.clone());
                }
            } else {
                self.cover("/etc/resolv.conf", Shown::Text { content, owner }, private, 0, origin);
            }
        }
        if let Some(zone) = &w.zone {
            let shown = Shown::ZoneNames { zone: zone.name.clone() };
            self.cover("/etc/hosts", shown, private, 1, w.origin.clone());
        }
        if policy.boots() && !w.accepts_configuration {
            // systemd-networkd, if the image runs it, would else take our addresses away and ask for others.
            let link_local = if w.link_local { "ipv6" } else { "no" };
            let mut text = format!(
                "# By Stockade.\n[Match]\nName={INSIDE}\n\n[Network]\nDHCP=no\nIPv6AcceptRA=no\nLinkLocalAddressing={link_local}\nLLMNR=no\n"
            );
            for i in &w.inside {
                text.push_str(&format!("Address={}/{}\n", i.address, i.prefix));
                text.extend(i.gateway.map(|g| format!("Gateway={g}\n")));
            }
            text.extend(w.resolvers.iter().map(|a| format!("DNS={a}\n")));
            self.ensure_directory("/run/systemd/network");
            let path = format!("/run/systemd/network/10-{INSIDE}.network");
            self.push(TreeStep::File { path, content: text, owner }, w.origin.clone());
        }
    }

    /// Mounts a file of ours over one of the root's, which must be there unless the root is the machine's own.
    fn cover(&mut self, path: &str, shown: Shown, private: bool, place: usize, origin: Origin) {
        let there = self.cx.host.network.root.get(place).copied().unwrap_or_default();
        let span = self.cx.policy.root.span;
        if !private && there == Place::Link {
            let text = format!("`{path}` of the root is a symbolic link, and this machine needs a file there");
            return self.cx.error("E0605", span, text, "replace it by an empty file");
        }
        if !private && there == Place::Missing && !self.is_private(path) {
            let text = format!("the root has no `{path}`, over which this machine's own is shown");
            return self.cx.error("E0605", span, text, "make an empty file there, or let the root be `ephemeral`");
        }
        if private || there == Place::Missing {
            self.ensure_file(path);
        }
        self.mount(path, shown, STRICT, origin);
    }
}
