//! Shards of HAMT directories, as they are read.
//!
//! Format: <https://specs.ipfs.tech/unixfs/#dag-pb-hamtdirectory>. The hash is
//! murmur3-x64-64 of the name, consumed from its most significant bits, a
//! fanout's worth at each level.

use bytes::Bytes;

use super::dag_pb::Link;
use super::data::UnixFs;
use super::error::Malformed;
use super::node::{DirEntry, showable};
use crate::block::Cid;
use crate::config::HAMT_FANOUT_MAX;

/// Multihash code of murmur3-x64-64, the one hash that HAMT directories use.
pub const MURMUR3_X64_64: u64 = 0x22;

/// A shard of a HAMT directory.
#[derive(Debug)]
pub struct Shard {
    fanout: u64,
    /// Ordered by slot.
    slots: Vec<(u32, Slot)>,
}

/// What a slot of a shard holds.
#[derive(Debug)]
pub enum Slot {
    /// An entry.
    Entry(DirEntry),
    /// A shard of its own.
    Shard {
        /// Its root.
        cid: Cid,
        /// Size of the DAG below as its maker says. Untrusted.
        tsize: Option<u64>,
    },
    /// An entry that cannot be shown.
    Hidden(DirEntry),
}

impl Shard {
    /// Reads a shard from its links and its UnixFS message.
    pub fn decode(links: Vec<Link>, unixfs: &UnixFs) -> Result<Self, Malformed> {
        let fanout = unixfs.fanout.unwrap_or(0);
        if !fanout.is_power_of_two() || !fanout.is_multiple_of(8) || fanout > HAMT_FANOUT_MAX {
            return Err(Malformed::Hamt(
                "fanout is not a power of two from 8 to 1024",
            ));
        }
        if unixfs.hash_type != Some(MURMUR3_X64_64) {
            return Err(Malformed::Hamt("hash is not murmur3-x64-64"));
        }
        let width = prefix_width(fanout);
        let mut slots = Vec::with_capacity(links.len().min(fanout as usize));
        let mut last = None;
        for link in links {
            let (slot, content) = slot(link, width)?;
            if u64::from(slot) >= fanout {
                return Err(Malformed::Hamt("prefix is beyond the fanout"));
            }
            if last.is_some_and(|l| l >= slot) {
                return Err(Malformed::Hamt("prefixes are not in order"));
            }
            last = Some(slot);
            slots.push((slot, content));
        }
        if !bitfield_matches(unixfs.data.as_deref().unwrap_or_default(), &slots) {
            return Err(Malformed::Hamt("bitfield differs from the links"));
        }
        Ok(Self { fanout, slots })
    }

    /// What the slots hold, in their order.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(|(_, content)| content)
    }

    /// The slots that are taken, with their numbers, in order.
    pub fn numbered(&self) -> &[(u32, Slot)] {
        &self.slots
    }

    /// Children per node.
    pub fn fanout(&self) -> u64 {
        self.fanout
    }

    /// The slot for a hash at `depth` (0 at the root); `None` if it is empty
    /// or the hash has no bits left.
    pub fn find(&self, hash: u64, depth: usize) -> Option<&Slot> {
        let wanted = slot_of(hash, self.fanout, depth)?;
        let at = self
            .slots
            .binary_search_by_key(&wanted, |(slot, _)| *slot)
            .ok()?;
        self.slots.get(at).map(|(_, content)| content)
    }
}

/// Hex digits of a link's prefix.
pub fn prefix_width(fanout: u64) -> usize {
    format!("{:X}", fanout.saturating_sub(1)).len()
}

/// The hash of a name.
pub fn hash(name: &[u8]) -> u64 {
    // The 64-bit form is the first half of the 128-bit one.
    fastmurmur3::murmur3_x64_128(name, 0) as u64
}

/// The slot that a hash takes at `depth`; `None` when its bits are used up.
pub fn slot_of(hash: u64, fanout: u64, depth: usize) -> Option<u32> {
    let bits = fanout.trailing_zeros();
    let used = u32::try_from(depth).ok()?.checked_mul(bits)?;
    let shift = 64u32.checked_sub(used.checked_add(bits)?)?;
    u32::try_from((hash >> shift) & (fanout - 1)).ok()
}

fn slot(link: Link, width: usize) -> Result<(u32, Slot), Malformed> {
    let bad = Malformed::Hamt("link name does not begin with upper-case hex digits");
    let name = link.name.unwrap_or_default();
    let prefix = name.get(..width).ok_or(bad.clone())?;
    if !prefix
        .iter()
        .all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b))
    {
        return Err(bad);
    }
    let digits = std::str::from_utf8(prefix).map_err(|_| bad.clone())?;
    let number = u32::from_str_radix(digits, 16).map_err(|_| bad)?;
    let rest: Bytes = name.slice(width..);
    let (cid, tsize) = (link.cid, link.tsize);
    if rest.is_empty() {
        return Ok((number, Slot::Shard { cid, tsize }));
    }
    let shown = showable(&rest);
    let entry = DirEntry {
        name: rest,
        cid,
        tsize,
    };
    let content = if shown {
        Slot::Entry(entry)
    } else {
        Slot::Hidden(entry)
    };
    Ok((number, content))
}

/// The bitfield is a big-endian number whose bit N is set when slot N is taken.
/// Leading zero bytes may be left out.
fn bitfield_matches(field: &[u8], slots: &[(u32, Slot)]) -> bool {
    let ones: u32 = field.iter().map(|b| b.count_ones()).sum();
    let set = |slot: u32| {
        let from_end = (slot / 8) as usize;
        let byte = field
            .len()
            .checked_sub(from_end + 1)
            .and_then(|i| field.get(i));
        byte.is_some_and(|b| b >> (slot % 8) & 1 == 1)
    };
    ones as usize == slots.len() && slots.iter().all(|(slot, _)| set(*slot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, RAW, SHA2_256};
    use crate::unixfs::data::Kind;

    fn link(name: &'static str) -> Link {
        let cid = *Block::seal(RAW, SHA2_256, Bytes::new()).unwrap().cid();
        Link {
            cid,
            name: Some(name.into()),
            tsize: Some(0),
        }
    }

    fn shard(fanout: u64, field: &'static [u8], links: Vec<Link>) -> Result<Shard, Malformed> {
        let unixfs = UnixFs {
            fanout: Some(fanout),
            hash_type: Some(MURMUR3_X64_64),
            data: Some(Bytes::from_static(field)),
            ..UnixFs::new(Kind::HamtShard)
        };
        Shard::decode(links, &unixfs)
    }

    #[test]
    fn slots_are_taken_from_the_most_significant_bits() {
        assert_eq!(slot_of(0xABCD_0000_0000_0000, 256, 0), Some(0xAB));
        assert_eq!(slot_of(0xABCD_0000_0000_0000, 256, 1), Some(0xCD));
        assert_eq!(slot_of(u64::MAX, 256, 7), Some(0xFF));
        assert_eq!(slot_of(u64::MAX, 256, 8), None, "no bits are left");
    }

    #[test]
    fn hostile_fanouts_are_refused() {
        for fanout in [0, 1, 4, 7, 12, 2048, 1 << 40, u64::MAX] {
            assert!(shard(fanout, &[], vec![]).is_err(), "{fanout}");
        }
        assert!(shard(1024, &[], vec![]).is_ok());
    }

    #[test]
    fn prefixes_must_be_upper_case_in_order_and_in_the_bitfield() {
        assert!(shard(16, &[0x04, 0x02], vec![link("1a"), link("Ab")]).is_ok());
        assert!(
            shard(16, &[0x04, 0x02], vec![link("1a"), link("ab")]).is_err(),
            "lower case"
        );
        assert!(
            shard(16, &[0x04, 0x02], vec![link("Ab"), link("1a")]).is_err(),
            "order"
        );
        assert!(
            shard(16, &[0x04, 0x04], vec![link("1a"), link("Ab")]).is_err(),
            "bitfield"
        );
        assert!(shard(16, &[0x02], vec![link("")]).is_err(), "no prefix");
    }
}
