//! A machine's rules while it runs. Whoever empties the host's packet filter (`nft flush ruleset`, as a reload of
//! nftables.service does) takes them away; the kernel tells, the link goes down at once, and it comes up again
//! when the rules are back. Connections are cut off, but those that came by a published port: they may have been
//! made in the moment between. Where the rules can't come back the machine is ended.

use super::netfilter::{self, Keep, TABLES_CHANGED, deleted_tables};
use super::state::Home;
use super::{forwarding, netlink::Routes, network_lane, nft};
use crate::plan::step::{Interface, Table};
use crate::plan::{Action, Plan};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

/// What is watched.
pub(super) struct Rules {
    socket: Socket,
    home: Home,
    tables: Vec<Table>,
    link: Option<(String, Vec<Interface>)>,
    /// The machine's own addresses.
    addresses: Vec<IpAddr>,
    /// Its packets are forwarded: the guard must be there.
    forwards: bool,
}

/// So often the rules are brought back before somebody who takes them away each time has won.
const TRIES: usize = 20;

impl Rules {
    /// Listens, if the plan loads rules of the host. Opened before they are loaded, so that nothing is missed.
    pub(super) fn listen(plan: &Plan, home: &Home) -> io::Result<Option<Rules>> {
        let steps = plan.steps();
        let tables: Vec<Table> = steps
            .iter()
            .filter_map(|s| match &s.action {
                Action::LoadTable(t) => Some(t.clone()),
                _ => None,
            })
            .collect();
        if tables.is_empty() {
            return Ok(None);
        }
        let link = steps.iter().find_map(|s| match &s.action {
            Action::ConfigureOutside { link, addresses } => Some((link.clone(), addresses.clone())),
            _ => None,
        });
        let addresses = steps.iter().find_map(|s| match &s.action {
            Action::ForgetConnections { addresses } => Some(addresses.clone()),
            _ => None,
        });
        let forwards = steps.iter().any(|s| matches!(s.action, Action::Forward { .. }));
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        // Other machines' coming and going is told as well.
        socket.set_rx_buf_sz(1u32 << 20)?;
        socket.add_membership(TABLES_CHANGED)?;
        Ok(Some(Rules { socket, home: home.clone(), tables, link, addresses: addresses.unwrap_or_default(), forwards }))
    }

    /// Readable when the packet filter changed.
    pub(super) fn events(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    /// Reads what happened so far; true when something of the machine's was taken away, if only for a moment.
    pub(super) fn changed(&self) -> bool {
        let (own, shared) = self.news();
        // The guard is replaced as a whole whenever a machine comes: only the kernel's list says whether it is
        // there.
        own || shared && self.missing().map_or(true, |m| !m.is_empty())
    }

    /// What was told so far: something of the machine's tables was deleted; something that may concern it.
    fn news(&self) -> (bool, bool) {
        let (mut own, mut shared) = (false, false);
        let mut bytes = vec![0u8; 1 << 16];
        loop {
            match nix::sys::socket::recv(self.socket.as_raw_fd(), &mut bytes, nix::sys::socket::MsgFlags::MSG_DONTWAIT)
            {
                Ok(n) => {
                    let names = deleted_tables(bytes.get(..n).unwrap_or(&[]));
                    own |= names.iter().any(|n| self.tables.iter().any(|t| t.name == *n));
                    shared |= names.iter().any(|n| forwarding::is_guard(n));
                }
                Err(nix::errno::Errno::EAGAIN) => break,
                Err(nix::errno::Errno::EINTR) => {}
                // ENOBUFS: more happened than the kernel kept for us.
                Err(_) => shared = true,
            }
        }
        (own, shared)
    }

    /// What isn't there of the rules, by the kernel's own list.
    pub(super) fn missing(&self) -> io::Result<Vec<String>> {
        let mut out = Vec::new();
        for t in &self.tables {
            let found = nft::count(&t.family, &t.name)?;
            if found != t.len() {
                out.push(format!("table {} {} has {found} rules, the plan says {}", t.family, t.name, t.len()));
            }
        }
        if self.forwards {
            out.extend(forwarding::guard_missing(&self.home)?);
        }
        Ok(out)
    }

    /// Brings the rules back. From now on nothing passes the link before they are there, and what was connected
    /// while they weren't is forgotten: packets of known connections pass. Says what became of connections.
    pub(super) fn mend(&self) -> io::Result<&'static str> {
        let routes = Routes::open()?;
        if let Some((link, _)) = &self.link {
            routes.down(routes.index(link)?)?;
        }
        let mut left = self.tables.len();
        for _ in 0..TRIES {
            for t in &self.tables {
                nft::apply(&t.transaction())?;
            }
            if self.forwards {
                forwarding::guard_again(&self.home)?;
            }
            // What we did ourselves is no news; what others did meanwhile may have come between, as the second
            // flush of a restart does. Told after this, it is found by the next look.
            self.news();
            left = self.missing()?.len();
            if left == 0 {
                break;
            }
        }
        if left > 0 {
            return Err(io::Error::other("somebody takes them away each time"));
        }
        if self.addresses.is_empty() {
            return Ok("meanwhile nobody looked at its port of the bridge");
        }
        netfilter::forget_connections(&self.addresses, Keep::Published)?;
        if let Some((link, addresses)) = &self.link {
            network_lane::up_again(link, addresses)?;
        }
        Ok("connections but those of published ports are cut off")
    }
}
