//! Addresses and blocks of them, IPv4 and IPv6, in the notation of RFC 4632 and RFC 4291.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses: those whose first `prefix` bits are those of `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// The first address of the block; with [`Block::interface`] the interface's own.
    pub address: IpAddr,
    /// Number of leading bits that count.
    pub prefix: u8,
}

impl Block {
    /// `10.20.0.0/16`, `fd00::/8`, or one address; bits beyond the prefix must be zero.
    pub fn parse(text: &str) -> Result<Block, String> {
        let block = Block::interface(text)?;
        if block.first() != block {
            return Err(format!("`{text}` has bits beyond its prefix; the block is {}", block.first()));
        }
        Ok(block)
    }

    /// An address with the length of its network's prefix, as an interface has it.
    pub fn interface(text: &str) -> Result<Block, String> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| format!("`{text}` is not an address"))?;
        let most = width(address);
        let prefix = match prefix {
            None => most,
            Some(p) if p.len() <= 3 && !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) => {
                p.parse().ok().filter(|p| *p <= most).ok_or(format!("the prefix of `{text}` is longer than {most}"))?
            }
            Some(_) => return Err(format!("`{text}` has no prefix that is a number")),
        };
        Ok(Block { address, prefix })
    }

    /// One address.
    pub fn host(address: IpAddr) -> Block {
        Block { address, prefix: width(address) }
    }

    /// The whole block, named by its first address.
    pub fn first(self) -> Block {
        let masked = match self.address {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & mask))
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & mask))
            }
        };
        Block { address: masked, prefix: self.prefix }
    }

    /// Is every address of `inner` one of this block?
    pub fn contains(self, inner: Block) -> bool {
        self.address.is_ipv4() == inner.address.is_ipv4()
            && inner.prefix >= self.prefix
            && Block { address: inner.address, prefix: self.prefix }.first() == self.first()
    }

    /// Have the two an address in common?
    pub fn overlaps(self, other: Block) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// Its first and last address, as numbers.
    pub fn ends(self) -> (u128, u128) {
        match self.first().address {
            IpAddr::V4(a) => {
                let first = a.to_bits();
                (first.into(), (first | u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0)).into())
            }
            IpAddr::V6(a) => {
                let first = a.to_bits();
                (first, first | u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0))
            }
        }
    }

    /// True for a single address.
    pub fn is_host(self) -> bool {
        self.prefix == width(self.address)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() { write!(f, "{}", self.address) } else { write!(f, "{}/{}", self.address, self.prefix) }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Block {
    Block { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
}

const fn v6([first, second]: [u16; 2], [seventh, last]: [u16; 2], prefix: u8) -> Block {
    Block { address: IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, seventh, last)), prefix }
}

/// Loopback, which no other network reaches.
pub const LOOPBACK: [Block; 2] = [v4(127, 0, 0, 0, 8), v6([0, 0], [0, 1], 128)];
/// Link-local addresses of IPv6 (RFC 4291).
pub const LINK_LOCAL_V6: Block = v6([0xfe80, 0], [0, 0], 10);
/// Groups of IPv6 (RFC 4291).
pub const MULTICAST_V6: Block = v6([0xff00, 0], [0, 0], 8);
/// Every host of the link (RFC 919).
pub const BROADCAST: Block = v4(255, 255, 255, 255, 32);
/// What is reached only where it is named: link-local, multicast and broadcast addresses, and those where clouds tell
/// their machines what nobody else should know, beyond 169.254.169.254. Of the last the documentation of Azure
/// (168.63.129.16), Alibaba Cloud (100.100.100.200), Amazon (fd00:ec2::254 and ::23, of a block that it has for such
/// services), Google (fd20:ce::254), Oracle (fd00:c1::a9fe:a9fe), Scaleway (fd00:42::42) and Akamai
/// (fd00:a9fe:a9fe::1).
pub const NOT_IMPLIED: [Block; 12] = [
    v4(169, 254, 0, 0, 16),
    LINK_LOCAL_V6,
    v4(224, 0, 0, 0, 4),
    MULTICAST_V6,
    BROADCAST,
    v4(168, 63, 129, 16, 32),
    v4(100, 100, 100, 200, 32),
    v6([0xfd00, 0xec2], [0, 0], 32),
    v6([0xfd20, 0xce], [0, 0x254], 128),
    v6([0xfd00, 0xc1], [0xa9fe, 0xa9fe], 128),
    v6([0xfd00, 0x42], [0, 0x42], 128),
    Block { address: IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1)), prefix: 128 },
];

/// All addresses of both families.
pub const EVERYBODY: [Block; 2] = [v4(0, 0, 0, 0, 0), v6([0, 0], [0, 0], 0)];

/// What `anybody` leaves out.
pub fn special() -> impl Iterator<Item = Block> {
    LOOPBACK.into_iter().chain(NOT_IMPLIED)
}

/// Does `anybody` leave some of these addresses out?
pub fn is_special(b: Block) -> bool {
    special().any(|s| s.overlaps(b))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where clouds answer, by their documentation.
    #[test]
    fn what_clouds_tell_is_asked_by_name_only() {
        for a in
            ["169.254.169.254", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23", "fd00:a9fe:a9fe::1", "fd20:ce::254"]
        {
            assert!(is_special(Block::parse(a).unwrap()), "{a}");
        }
        assert!(!is_special(Block::parse("fd00:ec3::254").unwrap()));
    }

    #[test]
    fn blocks_are_exact() {
        for good in ["10.20.0.0/16", "0.0.0.0/0", "::/0", "fd00::/8", "192.0.2.1", "::1"] {
            assert_eq!(Block::parse(good).unwrap().to_string(), good, "{good}");
        }
        for bad in [
            "10.20.0.1/16",
            "10.0.0.0/33",
            "fd00::1/8",
            "10.0.0.0/",
            "10.0.0/8",
            "010.0.0.1",
            "a",
            "1.2.3.4/+8",
            "::/129",
        ] {
            assert!(Block::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Block::interface("192.0.2.7/24").unwrap().first().to_string(), "192.0.2.0/24");
    }

    #[test]
    fn containment_keeps_families_apart() {
        let b = |t| Block::parse(t).unwrap();
        assert!(b("10.0.0.0/8").contains(b("10.20.0.0/16")) && !b("10.20.0.0/16").contains(b("10.0.0.0/8")));
        assert!(b("0.0.0.0/0").contains(b("1.2.3.4")) && !b("0.0.0.0/0").contains(b("::1")));
        assert!(b("::/0").contains(b("::1")) && b("10.20.0.0/16").overlaps(b("10.0.0.0/8")));
        assert!(!b("10.20.0.0/16").overlaps(b("10.21.0.0/16")));
        let ends = |t| b(t).ends();
        assert_eq!(ends("10.0.0.0/8"), (0x0a00_0000, 0x0aff_ffff));
        assert_eq!((ends("0.0.0.0/0"), ends("192.0.2.6")), ((0, 0xffff_ffff), (0xc000_0206, 0xc000_0206)));
        assert_eq!((ends("::/0"), ends("::1"), ends("::/127")), ((0, u128::MAX), (1, 1), (0, 1)));
    }
}
