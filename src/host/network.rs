//! Facts of the host's network: what is there to link to, and what would be in the way.

use crate::address::Block;
use crate::files;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

/// The facts.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Where nft(8) is.
    pub nft: Option<String>,
    /// The kernel has the packet filter (nf_tables answers).
    pub filter: bool,
    /// IPv6 is there and not switched off.
    pub ipv6: bool,
    /// Packets are forwarded: IPv4, IPv6.
    pub forwarding: [bool; 2],
    /// Blocks that a link or route of this host uses.
    pub used: Vec<Block>,
    /// Name servers that the host asks; those on loopback left out.
    pub resolvers: Vec<IpAddr>,
    /// Links by name; true for a bridge.
    pub links: BTreeMap<String, bool>,
    /// Chains of others that drop what is forwarded, as `ip filter FORWARD`.
    pub dropping: Vec<String>,
    /// The older iptables has a filter table, which nft(8) doesn't show (ip_tables_names of proc_net(5)).
    pub older_filter: bool,
    /// systemd-networkd manages links here.
    pub networkd: bool,
    /// What makes this host's names differ from another's.
    pub identity: String,
    /// Number of a free subnet, for a machine that needs one.
    pub subnet: Option<u16>,
    /// Number of the machine's zone.
    pub zone: Option<u16>,
    /// What the root has at /etc/resolv.conf and /etc/hosts.
    pub root: [Place; 2],
}

/// What stands at a path of a root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    #[default]
    Missing,
    /// A file, or something else that isn't a link.
    There,
    /// A symbolic link.
    Link,
}

impl Network {
    /// Reads the facts for a machine whose root is this folder. Nothing is changed.
    pub fn probe(root: &str) -> io::Result<Network> {
        let nft = files::first_of(crate::sys::NFT)?.map(str::to_owned);
        // What isn't there is neither.
        let on = |path: &str| Ok::<_, io::Error>(files::text(path)?.is_some_and(|t| t.trim() != "0"));
        let off = |path: &str| Ok::<_, io::Error>(files::text(path)?.is_some_and(|t| t.trim() == "0"));
        let chains = nft.as_deref().map(|n| list(n, &["-j", "list", "chains"]));
        let filter = chains.as_ref().is_some_and(Result::is_ok);
        let dropping = chains.and_then(Result::ok).map_or(Ok(Vec::new()), |t| dropping(&t))?;
        let older = |file: &str| match files::text(file) {
            // Root's to read; nobody else makes such a network.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            text => Ok::<_, io::Error>(text?.is_some_and(|t| t.lines().any(|l| l == "filter"))),
        };
        let used = used()?;
        Ok(Network {
            nft,
            filter,
            ipv6: off("/proc/sys/net/ipv6/conf/all/disable_ipv6")?
                && off("/proc/sys/net/ipv6/conf/default/disable_ipv6")?,
            forwarding: [on("/proc/sys/net/ipv4/ip_forward")?, on("/proc/sys/net/ipv6/conf/all/forwarding")?],
            used,
            resolvers: resolvers()?,
            links: links()?,
            dropping,
            older_filter: older("/proc/net/ip_tables_names")? || older("/proc/net/ip6_tables_names")?,
            networkd: files::exists("/run/systemd/netif/state")?,
            identity: ["/etc/machine-id", "/proc/sys/kernel/random/boot_id"]
                .iter()
                .find_map(|p| fs::read_to_string(p).ok().filter(|t| t.trim().len() >= 32))
                .unwrap_or_default(),
            subnet: None,
            zone: None,
            root: [place(root, "etc/resolv.conf")?, place(root, "etc/hosts")?],
        })
    }
}

fn place(root: &str, path: &str) -> io::Result<Place> {
    Ok(match files::there(fs::symlink_metadata(format!("{root}/{path}")))? {
        Some(m) if m.is_symlink() => Place::Link,
        Some(_) => Place::There,
        None => Place::Missing,
    })
}

/// Asks nft(8), which asks the kernel.
fn list(nft: &str, arguments: &[&str]) -> io::Result<String> {
    let out = Command::new(nft).args(arguments).env_clear().stdin(Stdio::null()).output()?;
    if !out.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&out.stderr).trim().to_owned()));
    }
    String::from_utf8(out.stdout).map_err(io::Error::other)
}

/// Base chains of others in the forward hook whose policy is drop (libnftables-json(5)).
fn dropping(text: &str) -> io::Result<Vec<String>> {
    let all: serde_json::Value = serde_json::from_str(text)?;
    let items = all.get("nftables").and_then(|l| l.as_array());
    let items = items.ok_or_else(|| io::Error::other("nft(8) lists chains in a form that isn't known"))?;
    let mut out = Vec::new();
    for chain in items.iter().filter_map(|i| i.get("chain")) {
        let field = |key: &str| chain.get(key).and_then(|v| v.as_str()).unwrap_or("");
        let ours = field("table").starts_with("stockade");
        if field("hook") == "forward" && field("policy") == "drop" && !ours {
            out.push(format!("{} {} {}", field("family"), field("table"), field("name")));
        }
    }
    Ok(out)
}

/// Destinations of all routes but the default ones, and with them the networks of all links.
fn used() -> io::Result<Vec<Block>> {
    let mut out = Vec::new();
    // proc_net: `Iface Destination Gateway Flags ... Mask ...`, little-endian hex.
    for line in files::text("/proc/net/route")?.unwrap_or_default().lines().skip(1) {
        let f: Vec<&str> = line.split_whitespace().collect();
        let hex = |i: usize| f.get(i).and_then(|t| u32::from_str_radix(t, 16).ok());
        let (Some(to), Some(mask)) = (hex(1), hex(7)) else { continue };
        let prefix = u8::try_from(mask.count_ones()).unwrap_or(32);
        if prefix > 0 {
            out.push(Block { address: IpAddr::V4(Ipv4Addr::from(to.to_le_bytes())), prefix });
        }
    }
    // `destination prefix source prefix gateway metric ...`, hex.
    for line in files::text("/proc/net/ipv6_route")?.unwrap_or_default().lines() {
        let f: Vec<&str> = line.split_whitespace().collect();
        let address = f.first().and_then(|t| u128::from_str_radix(t, 16).ok());
        let prefix = f.get(1).and_then(|t| u8::from_str_radix(t, 16).ok());
        if let (Some(a), Some(p @ 1..)) = (address, prefix) {
            out.push(Block { address: IpAddr::V6(Ipv6Addr::from_bits(a)), prefix: p });
        }
    }
    Ok(out)
}

/// resolv.conf(5). A stub on loopback can't be reached from another network: then what it asks itself.
fn resolvers() -> io::Result<Vec<IpAddr>> {
    let read = |path: &str| -> io::Result<Vec<IpAddr>> {
        let text = files::text(path)?.unwrap_or_default();
        let servers = text.lines().filter_map(|l| l.trim().strip_prefix("nameserver"));
        Ok(servers.filter_map(|s| s.trim().parse::<IpAddr>().ok()).filter(|a| !a.is_loopback()).take(3).collect())
    };
    let plain = read("/etc/resolv.conf")?;
    if plain.is_empty() { read("/run/systemd/resolve/resolv.conf") } else { Ok(plain) }
}

fn links() -> io::Result<BTreeMap<String, bool>> {
    let mut out = BTreeMap::new();
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let bridge = files::exists(entry.path().join("bridge"))?;
        out.insert(name, bridge);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_that_drop_are_named() {
        let text = r#"{"nftables":[{"metainfo":{}},
            {"chain":{"family":"ip","table":"filter","name":"FORWARD","hook":"forward","policy":"drop"}},
            {"chain":{"family":"inet","table":"stockade-web","name":"forward","hook":"forward","policy":"drop"}},
            {"chain":{"family":"ip","table":"filter","name":"INPUT","hook":"input","policy":"drop"}}]}"#;
        assert_eq!(dropping(text).unwrap(), ["ip filter FORWARD"]);
        assert!(dropping("nonsense").is_err() && dropping("{}").is_err());
    }

    #[test]
    fn the_loopback_is_a_link_and_no_bridge() {
        assert_eq!(links().unwrap().get("lo"), Some(&false));
    }
}
