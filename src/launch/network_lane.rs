//! The supervisor's steps on the network: ports of the host, rules, the machine's link.

use super::netlink::Routes;
use super::{forwarding, nft};
use crate::files;
use crate::plan::step::{Hold, INSIDE, Interface, LinkKind, Table};
use crate::sys::process;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

/// CLONE_NEWNET
const NETWORK: u64 = 0x4000_0000;

/// Binds the ports without listening: they are taken, and nobody is answered who isn't led to the machine.
pub(super) fn hold(h: &Hold, held: &mut Vec<OwnedFd>) -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = u64::try_from(h.addresses.len()).unwrap_or(2) * (u64::from(h.ports.1 - h.ports.0) + 1);
    let taken = u64::try_from(held.len()).unwrap_or(0);
    if taken + needed + 256 < soft {
        return hold_above(h, 0, held);
    }
    // They lie above the limit that the machine is to have, which is this process's own.
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let result = hold_above(h, soft.min(hard.saturating_sub(needed)), held);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    result
}

fn hold_above(h: &Hold, least: u64, held: &mut Vec<OwnedFd>) -> io::Result<()> {
    let (first, last) = h.ports;
    let least = i32::try_from(least).unwrap_or(0);
    for port in first..=last {
        for address in &h.addresses {
            let kept = bind(&h.protocol, SocketAddr::new(*address, port)).and_then(|low| {
                let high = fcntl(&low, FcntlArg::F_DUPFD_CLOEXEC(least))?;
                process::adopt(high).map_err(io::Error::from)
            });
            held.push(kept.map_err(|e| {
                let cause = match e.raw_os_error() {
                    Some(libc::EADDRINUSE) => "another program of this host has it".to_owned(),
                    Some(libc::EADDRNOTAVAIL) => "no link of this host has this address".to_owned(),
                    Some(libc::EMFILE | libc::EINVAL) => {
                        "each port needs an open file, and the hard limit (ulimit -Hn) is too low".to_owned()
                    }
                    _ => e.to_string(),
                };
                io::Error::new(e.kind(), format!("{} port {port} of {address} can't be published: {cause}", h.protocol))
            })?);
        }
    }
    Ok(())
}

/// What to do where a port can't be held, by the kind of what [`hold`] says.
pub(super) fn remedy(why: io::ErrorKind) -> &'static str {
    match why {
        io::ErrorKind::AddrInUse => "end the other program, or publish another port: `ss -ltnup` shows who has which",
        io::ErrorKind::AddrNotAvailable => "publish on an address of this host: `ip address` shows them",
        _ => "raise the limit, or publish fewer ports",
    }
}

fn bind(protocol: &str, address: SocketAddr) -> io::Result<OwnedFd> {
    let stream = protocol == "tcp";
    match socket(stream, address, false) {
        // Connections of a program that ended linger for a minute (TIME_WAIT): they alone are no hindrance, and
        // whoever can listen beside them is alone.
        Err(e) if stream && e.raw_os_error() == Some(libc::EADDRINUSE) => {
            let fd = socket(stream, address, true)?;
            nix::sys::socket::listen(&fd, nix::sys::socket::Backlog::new(0)?)?;
            Ok(fd)
        }
        other => other,
    }
}

/// A bound socket.
fn socket(stream: bool, address: SocketAddr, reuse: bool) -> io::Result<OwnedFd> {
    use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, setsockopt, sockopt};
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = if stream { SockType::Stream } else { SockType::Datagram };
    let fd = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        // Each family by itself.
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    setsockopt(&fd, sockopt::ReuseAddr, &reuse)?;
    match address {
        SocketAddr::V4(a) => socket::bind(fd.as_raw_fd(), &SockaddrIn::from(a))?,
        SocketAddr::V6(a) => socket::bind(fd.as_raw_fd(), &SockaddrIn6::from(a))?,
    }
    Ok(fd)
}

/// Does something in the machine's network namespace. A thread of its own enters it and ends there: no other
/// part of the supervisor ever does.
pub(super) fn inside<T: Send>(pid: i32, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    std::thread::scope(|s| {
        let thread = s.spawn(|| {
            process::setns(namespace.as_fd(), NETWORK)?;
            act()
        });
        thread.join().map_err(|_| io::Error::other("the thread in the machine's network ended early"))?
    })
}

/// systemd-networkd reads its files when it is told to.
pub(super) fn tell_networkd(path: &str, content: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|t| t == content) {
        return Ok(());
    }
    if let Some(folder) = Path::new(path).parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, content)?;
    // It runs as a user of its own.
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    let out = std::process::Command::new("/usr/bin/networkctl").arg("reload").env_clear().output()?;
    if out.status.success() {
        return Ok(());
    }
    // So that the next launch tells it again.
    fs::remove_file(path)?;
    Err(io::Error::other(format!("networkctl reload fails: {}", String::from_utf8_lossy(&out.stderr).trim())))
}

/// Loads the table that stands in the machine's own namespace.
pub(super) fn load_inside(pid: i32, t: &Table) -> io::Result<()> {
    inside(pid, || nft::apply(&t.transaction()))
}

/// Of a link that has the name of a machine's.
pub(super) fn taken(link: &str) -> String {
    format!("this host has a link `{link}` already, and it isn't a machine's of Stockade")
}

/// The host's end of a veth pair is made under a name of the pattern that systemd-networkd is told to leave alone,
/// and gets its own last: the kernel tells nobody of a second name while a link is down, and `ve-*` without it is what
/// networkd takes for its own, addresses it and takes it from its bridge (netdev_state_change(), net/core/dev.c).
pub(super) fn create_link(machine: &str, pid: i32, kind: &LinkKind, mac: [u8; 6]) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    let routes = Routes::open()?;
    let first = first_name(pid);
    routes.create_link(&first, kind, mac, namespace.as_fd())?;
    let LinkKind::Veth { outside, .. } = kind else { return Ok(()) };
    let index = routes.index(&first)?;
    routes.also_called(index, &format!("stockade-{machine}"))?;
    routes.rename(index, outside).map_err(|e| match e.raw_os_error() {
        Some(libc::EEXIST) => io::Error::new(io::ErrorKind::AlreadyExists, taken(outside)),
        _ => e,
    })
}

/// One for each machine that is being made, within IFNAMSIZ (pid_max is 2^22): capitals, which no machine's name has.
fn first_name(pid: i32) -> String {
    let letter = |b: u8| char::from(if b.is_ascii_digit() { b + (b'G' - b'0') } else { b.to_ascii_uppercase() });
    format!("stockade-{}", format!("{pid:06x}").bytes().map(letter).collect::<String>())
}

/// The host's end: nothing it hears changes the host, and published ports answer on loopback too.
pub(super) fn configure_outside(link: &str, addresses: &[Interface]) -> io::Result<()> {
    settings(link, false)?;
    if !addresses.is_empty() {
        // Only questions from the link's own network for its own address are answered, and remembered: the machine
        // neither fills the host's table of neighbours nor asks which other addresses it has (ip-sysctl.rst).
        fs::write(format!("/proc/sys/net/ipv4/conf/{link}/arp_ignore"), "2")?;
        forwarding::link(link)?;
    }
    up_again(link, addresses)
}

/// Addresses and ways that go when a link goes down, and the link up.
pub(super) fn up_again(link: &str, addresses: &[Interface]) -> io::Result<()> {
    let routes = Routes::open()?;
    let index = routes.index(link)?;
    for i in addresses {
        match routes.add_address(index, i) {
            // Those of IPv4 stay.
            Err(e) if e.raw_os_error() != Some(libc::EEXIST) => return Err(e),
            _ => {}
        }
    }
    routes.up(index)?;
    for i in addresses {
        if i.address.is_ipv4() {
            // What comes from the machine for 127.0.0.0/8 is dropped by the table that is loaded already; this
            // lets answers to a connection from there go out to the machine (ip-sysctl.rst, route_localnet).
            fs::write(format!("/proc/sys/net/ipv4/conf/{link}/route_localnet"), "1")?;
        } else {
            routes.add_loopback_way(index)?;
        }
    }
    Ok(())
}

/// Router advertisements and redirects are not listened to.
fn settings(link: &str, listens: bool) -> io::Result<()> {
    let folder = format!("/proc/sys/net/ipv6/conf/{link}");
    if files::exists(&folder)? && !listens {
        // Nobody else is on the link: its link-local address is used at once.
        for (name, value) in [
            ("accept_ra", "0"),
            ("autoconf", "0"),
            ("accept_redirects", "0"),
            ("accept_dad", "0"),
            ("dad_transmits", "0"),
        ] {
            fs::write(format!("{folder}/{name}"), value)?;
        }
    }
    for (name, value) in [("accept_redirects", "0"), ("send_redirects", "0")] {
        fs::write(format!("/proc/sys/net/ipv4/conf/{link}/{name}"), value)?;
    }
    Ok(())
}

/// The machine's end.
pub(super) fn configure_inside(pid: i32, addresses: &[Interface], listens: bool, link_local: bool) -> io::Result<()> {
    inside(pid, || {
        let routes = Routes::open()?;
        routes.up(routes.index("lo")?)?;
        let index = routes.index(INSIDE)?;
        settings(INSIDE, listens)?;
        if listens {
            return Ok(());
        }
        let modes = format!("/proc/sys/net/ipv6/conf/{INSIDE}/addr_gen_mode");
        if !link_local && files::exists(Path::new(&modes))? {
            // IN6_ADDR_GEN_MODE_NONE (if_link.h)
            fs::write(modes, "1")?;
        }
        for i in addresses {
            routes.add_address(index, i)?;
        }
        routes.up(index)?;
        for gateway in addresses.iter().filter_map(|i| i.gateway) {
            routes.add_default(index, gateway)?;
        }
        Ok(())
    })
}

/// What is in the machine's namespace and not in the plan, or the other way round.
pub(super) fn differs(pid: i32, addresses: &[Interface], listens: bool, link_local: bool) -> io::Result<Vec<String>> {
    let seen = inside(pid, || Routes::open()?.look())?;
    let mut out = Vec::new();
    let link = seen.links.iter().find(|(_, n, _)| n == INSIDE);
    match link {
        None => out.push(format!("there is no link {INSIDE}")),
        Some((_, _, false)) if !listens => out.push(format!("{INSIDE} is not up")),
        _ => {}
    }
    let index = link.map_or(0, |l| l.0);
    for (_, name, up) in &seen.links {
        if name != "lo" && name != INSIDE && *up {
            out.push(format!("there is a link `{name}`, and no step says so"));
        }
    }
    let given = |a: &IpAddr| link_local && matches!(a, IpAddr::V6(a) if a.is_unicast_link_local());
    let own: Vec<&(u32, IpAddr, u8)> = seen.addresses.iter().filter(|(i, a, _)| *i == index && !given(a)).collect();
    for i in addresses {
        if !own.iter().any(|(_, a, p)| (*a, *p) == (i.address, i.prefix)) {
            out.push(format!("{INSIDE} hasn't the address {}", i.address));
        }
        if let Some(g) = i.gateway.filter(|g| !seen.gateways.contains(g)) {
            out.push(format!("there is no way by {g}"));
        }
    }
    if !listens && own.len() != addresses.len() {
        out.push(format!("{INSIDE} has {} addresses, the plan says {}", own.len(), addresses.len()));
    }
    Ok(out)
}

/// The same of the host's end.
pub(super) fn differs_outside(link: &str, addresses: &[Interface]) -> io::Result<Vec<String>> {
    let routes = Routes::open()?;
    let index = routes.index(link)?;
    let seen = routes.look()?;
    let has = |i: &&Interface| !seen.addresses.iter().any(|(n, a, p)| (*n, *a, *p) == (index, i.address, i.prefix));
    Ok(addresses.iter().filter(has).map(|i| format!("{link} hasn't the address {}", i.address)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn a_port_that_somebody_has_is_refused_and_a_free_one_held() {
        let theirs = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = theirs.local_addr().unwrap().port();
        let origin = crate::plan::step::Origin::implied("a test");
        let hold_of = |protocol: &str, port| Hold {
            protocol: protocol.into(),
            addresses: vec!["127.0.0.1".parse().unwrap()],
            ports: (port, port),
            origin: origin.clone(),
        };
        let mut held = Vec::new();
        let said = hold(&hold_of("tcp", port), &mut held).unwrap_err().to_string();
        assert!(said.contains("another program of this host has it"), "{said}");
        drop(theirs);
        hold(&hold_of("tcp", port), &mut held).unwrap();
        assert!(TcpListener::bind(("127.0.0.1", port)).is_err(), "nobody else takes it");
        assert!(hold(&hold_of("tcp", port), &mut Vec::new()).is_err(), "no other machine either");
        hold(&hold_of("udp", port), &mut held).unwrap();
        assert!(UdpSocket::bind(("127.0.0.1", port)).is_err());
        held.clear();
        let far = Hold { addresses: vec!["198.51.100.7".parse().unwrap()], ..hold_of("tcp", 9) };
        assert!(hold(&far, &mut held).unwrap_err().to_string().contains("no link of this host"));
    }
}
