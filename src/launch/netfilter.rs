//! Messages of nfnetlink that have no library here: what was deleted of the packet filter, and connections that
//! the kernel remembers (linux/netfilter/nfnetlink.h, nf_tables.h, nfnetlink_conntrack.h).

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::io;
use std::net::IpAddr;

/// NFNLGRP_NFTABLES
pub(super) const TABLES_CHANGED: u32 = 7;
const TABLES: u8 = 10;
const CONNECTIONS: u8 = 1;
/// NFT_MSG_DELTABLE, NFT_MSG_DELCHAIN, NFT_MSG_DELRULE
const DELETIONS: [u8; 3] = [2, 5, 8];
/// NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE
const TABLE_NAME: u16 = 1;
/// IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE
const GET: u8 = 1;
const DELETE: u8 = 2;
/// CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_ZONE; CTA_TUPLE_IP in the first two, CTA_IP_V4_SRC and
/// CTA_IP_V6_SRC in that.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const SOURCE: [u16; 2] = [1, 3];
/// IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h)
const TRANSLATED: u32 = 1 << 5;
/// NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const NLA_F_NESTED: u16 = 0x8000;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// A message: its type, and what follows the headers.
struct Message<'b> {
    kind: u16,
    body: &'b [u8],
}

/// The messages of a buffer; what isn't whole is left out.
fn messages(mut bytes: &[u8]) -> Vec<Message<'_>> {
    let mut out = Vec::new();
    while let Some((length, kind)) = start(bytes) {
        out.push(Message { kind, body: bytes.get(16..length).unwrap_or(&[]) });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    out
}

fn start(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    usize::try_from(length).ok().filter(|l| *l >= 16 && *l <= bytes.len()).map(|l| (l, kind))
}

/// Attributes by number (netlink(7)).
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut out = Vec::new();
    while let (Some(l), Some(k)) = (bytes.get(..2), bytes.get(2..4)) {
        let number = |b: &[u8]| b.try_into().map_or(0, u16::from_ne_bytes);
        let (length, kind) = (usize::from(number(l)), number(k) & 0x3fff);
        let Some(value) = bytes.get(4..length) else { break };
        out.push((kind, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    out
}

fn find(list: &[(u16, &[u8])], kind: u16) -> Option<Vec<u8>> {
    list.iter().find(|(k, _)| *k == kind).map(|(_, v)| v.to_vec())
}

/// Names of tables of which something was deleted.
pub(super) fn deleted_tables(bytes: &[u8]) -> Vec<String> {
    let ours = |m: &Message<'_>| {
        let [message, subsystem] = m.kind.to_le_bytes();
        subsystem == TABLES && DELETIONS.contains(&message)
    };
    let name = |m: Message<'_>| find(&attributes(m.body.get(4..).unwrap_or(&[])), TABLE_NAME);
    let text = |n: Vec<u8>| String::from_utf8_lossy(&n).trim_end_matches('\0').to_owned();
    messages(bytes).into_iter().filter(ours).filter_map(name).map(text).collect()
}

fn push_attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend(u16::try_from(value.len() + 4).unwrap_or(u16::MAX).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn request(message: u8, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(20 + attributes.len()).unwrap_or(20).to_ne_bytes().to_vec();
    out.extend(u16::from_le_bytes([message, CONNECTIONS]).to_ne_bytes());
    out.extend((REQUEST | flags).to_ne_bytes());
    // Sequence number and port: one request at a time on a socket of its own.
    out.extend([0; 8]);
    // struct nfgenmsg: family, version 0, resource 0.
    out.extend([family, 0, 0, 0]);
    out.extend(attributes);
    out
}

/// Which connections stay.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// None: the addresses belonged to a machine that is gone, and who gets them next must not be taken for it.
    Nothing,
    /// Those that came by a published port. Only the rules translate to the machine's address: such a connection
    /// is older than their loss.
    Published,
}

/// Makes the kernel forget connections from or to these addresses.
pub(super) fn forget_connections(addresses: &[IpAddr], keep: Keep) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let raw: Vec<Vec<u8>> = addresses
        .iter()
        .map(|a| match a {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        })
        .collect();
    for family in [libc::AF_INET, libc::AF_INET6].map(|f| u8::try_from(f).unwrap_or(0)) {
        let mut theirs = Vec::new();
        ask(&socket, &request(GET, DUMP, family, &[]), &mut |m| theirs.extend(of_these(m, &raw, keep)))?;
        for tuple in theirs {
            match ask(&socket, &request(DELETE, ACK, family, &tuple), &mut |_| {}) {
                // It ended by itself meanwhile.
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// What names a connection, if one of the addresses is in it.
fn of_these(body: &[u8], raw: &[Vec<u8>], keep: Keep) -> Option<Vec<u8>> {
    let all = attributes(body.get(4..)?);
    let has = |kind, among: &[u16]| {
        let tuple = find(&all, kind).unwrap_or_default();
        let ip = find(&attributes(&tuple), TUPLE_IP).unwrap_or_default();
        attributes(&ip).iter().any(|(k, v)| (among.is_empty() || among.contains(k)) && raw.iter().any(|r| r == v))
    };
    if !has(ORIGINAL, &[]) && !has(REPLY, &[]) {
        return None;
    }
    let status = find(&all, STATUS).and_then(|s| s.try_into().ok()).map_or(0, u32::from_be_bytes);
    if keep == Keep::Published && status & TRANSLATED != 0 && has(REPLY, &SOURCE) {
        return None;
    }
    let mut out = Vec::new();
    push_attribute(&mut out, ORIGINAL | NLA_F_NESTED, &find(&all, ORIGINAL)?);
    if let Some(zone) = find(&all, ZONE) {
        push_attribute(&mut out, ZONE, &zone);
    }
    Some(out)
}

/// Sends a request and reads its answers to the last.
fn ask(socket: &Socket, request: &[u8], each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    socket.send(request, 0)?;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        for m in messages(&bytes) {
            match m.kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = m.body.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
                    return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                _ => each(m.body),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, name: &[u8]) -> Vec<u8> {
        let mut m = vec![0u8; 20];
        push_attribute(&mut m, TABLE_NAME, name);
        let length = u32::try_from(m.len()).unwrap();
        m[..4].copy_from_slice(&length.to_ne_bytes());
        m[4..6].copy_from_slice(&kind.to_ne_bytes());
        m
    }

    #[test]
    fn deletions_are_read_and_nonsense_is_not() {
        let all =
            [message(0x0a02, b"stockade-web\0"), message(0x0a00, b"made\0"), message(0x0102, b"other\0")].concat();
        assert_eq!(deleted_tables(&all), ["stockade-web"]);
        for length in 0..all.len() {
            deleted_tables(&all[..length]);
        }
        assert!(deleted_tables(&[0; 64]).is_empty() && deleted_tables(&[0xff; 64]).is_empty());
    }

    fn tuple(source: [u8; 4], to: [u8; 4]) -> Vec<u8> {
        let (mut ip, mut out) = (Vec::new(), Vec::new());
        push_attribute(&mut ip, 1, &source);
        push_attribute(&mut ip, 2, &to);
        push_attribute(&mut out, TUPLE_IP | NLA_F_NESTED, &ip);
        out
    }

    #[test]
    fn a_connection_is_known_by_any_of_its_addresses() {
        let mut body = vec![2, 0, 0, 0];
        push_attribute(&mut body, ORIGINAL | NLA_F_NESTED, &tuple([10, 83, 0, 2], [192, 0, 2, 1]));
        push_attribute(&mut body, REPLY | NLA_F_NESTED, &tuple([192, 0, 2, 1], [198, 51, 100, 1]));
        for (address, known) in [([10, 83, 0, 2], true), ([198, 51, 100, 1], true), ([10, 83, 0, 6], false)] {
            assert_eq!(of_these(&body, &[address.to_vec()], Keep::Nothing).is_some(), known, "{address:?}");
        }
        let named = of_these(&body, &[vec![10, 83, 0, 2]], Keep::Nothing).unwrap();
        assert_eq!(find(&attributes(&named), ORIGINAL).unwrap(), tuple([10, 83, 0, 2], [192, 0, 2, 1]));
    }

    #[test]
    fn what_came_by_a_published_port_may_stay() {
        let (machine, host, other) = ([10, 83, 0, 2], [192, 0, 2, 1], [198, 51, 100, 1]);
        let body = |original: Vec<u8>, reply: Vec<u8>, status: u32| {
            let mut body = vec![2, 0, 0, 0];
            push_attribute(&mut body, ORIGINAL | NLA_F_NESTED, &original);
            push_attribute(&mut body, REPLY | NLA_F_NESTED, &reply);
            push_attribute(&mut body, STATUS, &status.to_be_bytes());
            body
        };
        let goes = |b: &[u8]| of_these(b, &[machine.to_vec()], Keep::Published).is_some();
        // SEEN_REPLY, ASSURED, CONFIRMED
        assert!(!goes(&body(tuple(other, host), tuple(machine, other), 0xe | TRANSLATED)));
        assert!(goes(&body(tuple(other, machine), tuple(machine, other), 0xe)), "not translated");
        assert!(goes(&body(tuple(machine, host), tuple(other, machine), 0xe | TRANSLATED)), "the machine's own");
    }
}
