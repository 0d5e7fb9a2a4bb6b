//! Links, addresses and routes, by rtnetlink(7). A socket belongs to the network namespace of the thread that
//! opens it.

use crate::plan::step::{GROUP, INSIDE, Interface, LinkKind};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoVeth, IpVlanMode, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    MacVlanMode, Prop,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// A connection to the kernel.
pub(super) struct Routes(Socket);

/// What a namespace has.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Index, name, is up.
    pub(super) links: Vec<(u32, String, bool)>,
    /// Index, address, prefix.
    pub(super) addresses: Vec<(u32, IpAddr, u8)>,
    /// Gateways of default routes.
    pub(super) gateways: Vec<IpAddr>,
}

impl Routes {
    pub(super) fn open() -> io::Result<Routes> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Routes(socket))
    }

    /// Sends a request and reads to its end.
    fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let mut out = Vec::new();
        loop {
            let (bytes, _) = self.0.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                // Messages are aligned to four bytes (netlink(7), NLMSG_ALIGN).
                let length = usize::try_from(answer.header.length).unwrap_or(0).next_multiple_of(4).max(16);
                rest = rest.get(length..).unwrap_or(&[]);
                match answer.payload {
                    NetlinkPayload::Error(e) => {
                        return match e.code {
                            None => Ok(out),
                            Some(code) => Err(io::Error::from_raw_os_error(-code.get())),
                        };
                    }
                    NetlinkPayload::Done(_) => return Ok(out),
                    NetlinkPayload::InnerMessage(m) => out.push(m),
                    _ => {}
                }
            }
        }
    }

    fn make(&self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.ask(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Makes the machine's link; its end is born in the machine's namespace. The host's end of a pair is called `first`.
    pub(super) fn create_link(
        &self,
        first: &str,
        kind: &LinkKind,
        mac: [u8; 6],
        namespace: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let lower = |name: &str| self.index(name).map(LinkAttribute::Link);
        let mut link = LinkMessage::default();
        let inside = |extra: Vec<LinkAttribute>| {
            let mut list = vec![LinkAttribute::IfName(INSIDE.into()), LinkAttribute::NetNsFd(namespace.as_raw_fd())];
            list.extend(extra);
            list
        };
        link.attributes = match kind {
            LinkKind::Veth { bridge, .. } => {
                let mut peer = LinkMessage::default();
                peer.attributes = inside(vec![LinkAttribute::Address(mac.to_vec())]);
                let mut list = vec![LinkAttribute::IfName(first.to_owned()), LinkAttribute::Group(GROUP)];
                if let Some(b) = bridge {
                    list.push(LinkAttribute::Controller(self.index(b)?));
                }
                list.push(info(InfoKind::Veth, InfoData::Veth(InfoVeth::Peer(peer))));
                list
            }
            LinkKind::Macvlan { lower: name } => inside(vec![
                LinkAttribute::Address(mac.to_vec()),
                lower(name)?,
                info(InfoKind::MacVlan, InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)])),
            ]),
            LinkKind::Ipvlan { lower: name } => inside(vec![
                lower(name)?,
                info(InfoKind::IpVlan, InfoData::IpVlan(vec![InfoIpVlan::Mode(IpVlanMode::L2)])),
            ]),
        };
        self.make(RouteNetlinkMessage::NewLink(link))
    }

    /// The number of a link.
    pub(super) fn index(&self, name: &str) -> io::Result<u32> {
        let gone = || io::Error::from_raw_os_error(libc::ENODEV);
        self.find(name)?.map(|(index, _)| index).ok_or_else(gone)
    }

    /// Number and group of a link, if there is one.
    fn find(&self, name: &str) -> io::Result<Option<(u32, u32)>> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answers = match self.ask(RouteNetlinkMessage::GetLink(link), NLM_F_ACK) {
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
            other => other?,
        };
        for m in answers {
            if let RouteNetlinkMessage::NewLink(l) = m {
                let group = l.attributes.iter().find_map(|a| match a {
                    LinkAttribute::Group(g) => Some(*g),
                    _ => None,
                });
                return Ok(Some((l.header.index, group.unwrap_or(0))));
            }
        }
        Ok(None)
    }

    /// Another name by which the link is known: who manages links can tell machines' from others (ip-link(8), altname).
    pub(super) fn also_called(&self, index: u32, name: &str) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(LinkAttribute::PropList(vec![Prop::AltIfName(name.to_owned())]));
        self.ask(RouteNetlinkMessage::NewLinkProp(link), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Gives a link another name; it has to be down for it.
    pub(super) fn rename(&self, index: u32, name: &str) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.ask(RouteNetlinkMessage::SetLink(link), NLM_F_ACK).map(drop)
    }

    /// Sets a link up.
    pub(super) fn up(&self, index: u32) -> io::Result<()> {
        self.set(index, true)
    }

    /// Sets a link down: nothing passes it any more.
    pub(super) fn down(&self, index: u32) -> io::Result<()> {
        self.set(index, false)
    }

    fn set(&self, index: u32, up: bool) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        link.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(link), NLM_F_ACK).map(drop)
    }

    /// Adds an address. Nobody else can have it: it isn't asked for first.
    pub(super) fn add_address(&self, index: u32, i: &Interface) -> io::Result<()> {
        let mut m = AddressMessage::default();
        m.header.family = family(i.address);
        m.header.prefix_len = i.prefix;
        m.header.index = index;
        m.attributes = vec![AddressAttribute::Local(i.address), AddressAttribute::Address(i.address)];
        if i.address.is_ipv6() {
            m.header.flags = AddressHeaderFlags::Nodad;
            m.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        self.make(RouteNetlinkMessage::NewAddress(m))
    }

    /// The way to everything else.
    pub(super) fn add_default(&self, index: u32, gateway: IpAddr) -> io::Result<()> {
        let mut m = RouteMessage::default();
        m.header.address_family = family(gateway);
        m.header.table = 254; // RT_TABLE_MAIN
        m.header.protocol = RouteProtocol::Static;
        m.header.scope = RouteScope::Universe;
        m.header.kind = RouteType::Unicast;
        m.attributes = vec![RouteAttribute::Gateway(RouteAddress::from(gateway)), RouteAttribute::Oif(index)];
        self.make(RouteNetlinkMessage::NewRoute(m))
    }

    /// Answers to the host's ::1 are taken from this link as well: without the route the kernel drops what
    /// comes back to it from a published port. It is worse than the loopback's own and goes with the link.
    pub(super) fn add_loopback_way(&self, index: u32) -> io::Result<()> {
        let mut m = RouteMessage::default();
        m.header.address_family = AddressFamily::Inet6;
        m.header.destination_prefix_length = 128;
        m.header.table = 255; // RT_TABLE_LOCAL
        m.header.protocol = RouteProtocol::Static;
        m.header.scope = RouteScope::Universe;
        m.header.kind = RouteType::Local;
        m.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet6(Ipv6Addr::LOCALHOST)),
            RouteAttribute::Oif(index),
            // Each link has one of its own, all of them behind the loopback's.
            RouteAttribute::Priority(index.saturating_add(2048)),
        ];
        self.make(RouteNetlinkMessage::NewRoute(m))
    }

    /// Everything of a namespace.
    pub(super) fn look(&self) -> io::Result<Seen> {
        let mut seen = Seen::default();
        for m in self.ask(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)? {
            let RouteNetlinkMessage::NewLink(l) = m else { continue };
            let name = l.attributes.iter().find_map(|a| match a {
                LinkAttribute::IfName(n) => Some(n.clone()),
                _ => None,
            });
            seen.links.push((l.header.index, name.unwrap_or_default(), l.header.flags.contains(LinkFlags::Up)));
        }
        for m in self.ask(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)? {
            let RouteNetlinkMessage::NewAddress(a) = m else { continue };
            let address = a.attributes.iter().find_map(|x| match x {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            seen.addresses.extend(address.map(|ip| (a.header.index, ip, a.header.prefix_len)));
        }
        for m in self.ask(RouteNetlinkMessage::GetRoute(RouteMessage::default()), NLM_F_DUMP)? {
            let RouteNetlinkMessage::NewRoute(r) = m else { continue };
            if r.header.destination_prefix_length != 0 || r.header.table != 254 {
                continue;
            }
            seen.gateways.extend(r.attributes.iter().find_map(|x| match x {
                RouteAttribute::Gateway(RouteAddress::Inet(a)) => Some(IpAddr::V4(*a)),
                RouteAttribute::Gateway(RouteAddress::Inet6(a)) => Some(IpAddr::V6(*a)),
                _ => None,
            }));
        }
        Ok(seen)
    }
}

/// Removes a machine's link of the host. One that isn't there is no fault; one of that name that isn't a machine's
/// is somebody else's.
pub(super) fn delete(name: &str) -> io::Result<()> {
    let routes = Routes::open()?;
    let Some((index, GROUP)) = routes.find(name)? else { return Ok(()) };
    let mut link = LinkMessage::default();
    link.header.index = index;
    match routes.ask(RouteNetlinkMessage::DelLink(link), NLM_F_ACK) {
        Err(e) if e.raw_os_error() != Some(libc::ENODEV) => Err(e),
        _ => Ok(()),
    }
}

/// Is there a link of this name that isn't a machine's?
pub(super) fn is_anothers(name: &str) -> io::Result<bool> {
    Ok(Routes::open()?.find(name)?.is_some_and(|(_, group)| group != GROUP))
}

fn info(kind: InfoKind, data: InfoData) -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)])
}

fn family(a: IpAddr) -> AddressFamily {
    if a.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
