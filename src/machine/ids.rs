//! Picking a free range of ids for `userns auto`, and a free subnet for a network of one's own.

use crate::launch::state::Home;

/// First and last range that container managers use, and the size of one (systemd, UIDS-GIDS.md).
const FIRST: u32 = 0x0008_0000;
const LAST: u32 = 0x6FFF_0000;
const SIZE: u32 = 0x1_0000;

/// The first id of a range that no account, no subordinate range and no running machine uses. The search
/// starts at a place that the name decides, so that a machine gets the same range whenever it can.
pub fn pick(home: &Home, name: &str, used: &[(u32, u32)], skip: &[u32]) -> Option<u32> {
    let slots = (LAST - FIRST) / SIZE + 1;
    // FNV-1a: any spread will do, as long as it never changes.
    let hash = name.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    (0..slots).map(|i| FIRST + (hash.wrapping_add(i) % slots) * SIZE).find(|base| {
        let overlaps = |(first, count): &(u32, u32)| *first < base + SIZE && first.saturating_add(*count) > *base;
        !skip.contains(base) && !used.iter().any(overlaps) && home.ids_free(*base, SIZE)
    })
}

/// Subnets that there are.
pub struct Subnets<'a> {
    /// Of this zone.
    pub zone: Option<u16>,
    /// How many.
    pub count: u16,
    /// Does anything of the host's use these addresses?
    pub overlaps: &'a dyn Fn(u16) -> bool,
}

/// The number of a subnet that no link or route of the host and no running machine uses; for the same name the
/// same whenever it can be.
pub fn pick_subnet(home: &Home, name: &str, subnets: &Subnets<'_>, skip: &[u16]) -> Option<u16> {
    let count = u32::from(subnets.count);
    let hash = name.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    (0..count)
        .filter_map(|i| u16::try_from(hash.wrapping_add(i) % count).ok())
        .find(|n| !skip.contains(n) && !(subnets.overlaps)(*n) && home.subnet_free(subnets.zone, *n))
}
