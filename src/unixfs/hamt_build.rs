//! HAMT directories as blocks.
//!
//! The form depends on the set of entries alone: an entry lies as near to the
//! root as the hashes of its neighbours allow. Built in one pass over the
//! entries sorted by hash, a subtree after the other, so that memory holds
//! one path of nodes beside the entries.

use bytes::Bytes;

use super::dag_pb::{bytes_field_len, link_field_len, write_data, write_link};
use super::data::{Kind, UnixFs};
use super::dir_build::{BuiltDir, NewEntry};
use super::hamt::{MURMUR3_X64_64, hash, prefix_width, slot_of};
use super::layout::Metadata;
use crate::block::Cid;

/// Two names have the same hash, so no depth tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("directory cannot be sharded: two names have the same hash")]
pub struct HamtTooDeep;

/// An entry with the hash of its name.
pub(super) type Hashed<'a> = (u64, &'a NewEntry);

/// Builds a HAMT of entries with different names.
///
/// `fanout` is a power of two from 8 to 1024. Only the root carries `meta`.
pub fn build<E: From<HamtTooDeep>>(
    entries: &[NewEntry],
    fanout: u32,
    meta: &Metadata,
    seal: &mut impl FnMut(Bytes) -> Result<Cid, E>,
) -> Result<BuiltDir, E> {
    let shape = Shape::new(fanout);
    let (cid, tsize) = shape.shard(&hashed(entries), 0, meta, seal)?;
    Ok(BuiltDir {
        cid,
        tsize,
        sharded: true,
    })
}

/// Hashes names and orders the entries by that.
pub(super) fn hashed(entries: &[NewEntry]) -> Vec<Hashed<'_>> {
    let mut hashed: Vec<_> = entries.iter().map(|e| (hash(e.name()), e)).collect();
    hashed.sort_unstable_by_key(|(hash, _)| *hash);
    hashed
}

/// How shards of a fanout are made.
pub(super) struct Shape {
    fanout: u32,
    /// Hex digits of a slot's number.
    width: usize,
}

/// A slot that is taken.
pub(super) enum Child<'a> {
    /// An entry.
    Entry(&'a NewEntry),
    /// A shard of its own; the CID is encoded.
    Shard { cid: Vec<u8>, tsize: u64 },
}

impl Shape {
    /// `fanout` is a power of two from 8 to 1024.
    pub(super) fn new(fanout: u32) -> Self {
        Self {
            fanout,
            width: prefix_width(fanout.into()),
        }
    }

    /// Seals a shard of entries that are ordered by hash, and all below it.
    pub(super) fn shard<E: From<HamtTooDeep>>(
        &self,
        entries: &[Hashed<'_>],
        depth: usize,
        meta: &Metadata,
        seal: &mut impl FnMut(Bytes) -> Result<Cid, E>,
    ) -> Result<(Cid, u64), E> {
        let slot = |hash: u64| slot_of(hash, self.fanout.into(), depth);
        let mut children = Vec::new();
        for group in entries.chunk_by(|a, b| slot(a.0) == slot(b.0)) {
            let Some((first, _)) = group.first() else {
                continue;
            };
            let number = slot(*first).ok_or(HamtTooDeep)?;
            let child = match group {
                [(_, only)] => Child::Entry(only),
                several => {
                    let (cid, tsize) =
                        self.shard(several, depth + 1, &Metadata::default(), seal)?;
                    let cid = cid.to_bytes();
                    Child::Shard { cid, tsize }
                }
            };
            children.push((number, child));
        }
        self.seal(&children, meta, seal)
    }

    /// Seals one shard; gives its CID and the bytes of all blocks in and below it.
    pub(super) fn seal<E>(
        &self,
        children: &[(u32, Child<'_>)],
        meta: &Metadata,
        seal: &mut impl FnMut(Bytes) -> Result<Cid, E>,
    ) -> Result<(Cid, u64), E> {
        let node = self.node(children, meta);
        let below = children
            .iter()
            .fold(0, |sum: u64, (_, c)| sum.saturating_add(c.parts().2));
        let tsize = below.saturating_add(node.len() as u64);
        Ok((seal(node)?, tsize))
    }

    /// The UnixFS message of a shard whose slots of these numbers are taken.
    pub(super) fn message(&self, numbers: impl Iterator<Item = u32>, meta: &Metadata) -> Bytes {
        let message = UnixFs {
            data: Some(self.bitfield(numbers)),
            hash_type: Some(MURMUR3_X64_64),
            fanout: Some(self.fanout.into()),
            mode: meta.mode,
            mtime: meta.mtime,
            ..UnixFs::new(Kind::HamtShard)
        };
        message.encode()
    }

    /// Bytes that a link takes in a shard.
    pub(super) fn link_bytes(&self, cid_len: usize, name_len: usize, tsize: u64) -> usize {
        link_field_len(cid_len, self.width + name_len, tsize)
    }

    fn node(&self, children: &[(u32, Child<'_>)], meta: &Metadata) -> Bytes {
        let data = self.message(children.iter().map(|(number, _)| *number), meta);
        let links: usize = children
            .iter()
            .map(|(_, child)| {
                let (cid, name, tsize) = child.parts();
                self.link_bytes(cid.len(), name.len(), tsize)
            })
            .sum();
        let mut out = Vec::with_capacity(links + bytes_field_len(data.len()));
        for (number, child) in children {
            let (cid, name, tsize) = child.parts();
            let prefix = format!("{number:0width$X}", width = self.width);
            write_link(&mut out, cid, &[prefix.as_bytes(), name], tsize);
        }
        write_data(&mut out, &data);
        out.into()
    }

    /// A big-endian number with a bit for each slot taken, without leading zeros.
    fn bitfield(&self, numbers: impl Iterator<Item = u32>) -> Bytes {
        let mut bits = vec![0u8; (self.fanout / 8) as usize];
        for number in numbers {
            let from_end = (number / 8) as usize;
            if let Some(byte) = bits.iter_mut().rev().nth(from_end) {
                *byte |= 1 << (number % 8);
            }
        }
        let zeros = bits.iter().take_while(|b| **b == 0).count();
        Bytes::from(bits).slice(zeros..)
    }
}

impl Child<'_> {
    /// CID, name and tsize.
    fn parts(&self) -> (&[u8], &[u8], u64) {
        match self {
            Self::Entry(entry) => (entry.cid_bytes(), entry.name(), entry.tsize()),
            Self::Shard { cid, tsize } => (cid, &[], *tsize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hamt::{Shard, Slot};
    use super::super::layout::tests::Store;
    use super::*;
    use crate::block::{Block, RAW, SHA2_256};
    use crate::unixfs::dag_pb::PbNode;
    use std::collections::BTreeSet;

    #[derive(Debug, PartialEq)]
    struct TooDeep;
    impl From<HamtTooDeep> for TooDeep {
        fn from(_: HamtTooDeep) -> Self {
            Self
        }
    }

    fn entries(count: usize) -> Vec<NewEntry> {
        let cid = *Block::seal(RAW, SHA2_256, "x".into()).unwrap().cid();
        let name = |number| format!("entry {number}");
        (0..count)
            .map(|n| NewEntry::new(name(n).as_bytes(), &cid, 1))
            .collect()
    }

    fn names(store: &Store, cid: &Cid, depth: usize, found: &mut BTreeSet<Vec<u8>>) {
        let node = PbNode::decode(&store.0[cid]).unwrap();
        let message = UnixFs::decode(node.data.as_ref().unwrap()).unwrap();
        assert_eq!(
            message.mode.is_some(),
            depth == 0,
            "only the root has a mode"
        );
        for slot in Shard::decode(node.links, &message).unwrap().slots() {
            match slot {
                Slot::Entry(entry) => assert!(found.insert(entry.name.to_vec())),
                Slot::Shard { cid, .. } => names(store, cid, depth + 1, found),
                Slot::Hidden(_) => panic!("hidden"),
            }
        }
    }

    #[test]
    fn the_reader_finds_every_entry_at_every_fanout() {
        let meta = Metadata {
            mode: Some(0o755),
            mtime: None,
        };
        for fanout in [8, 16, 32, 64, 128, 256, 512, 1024] {
            let mut store = Store::default();
            let all = entries(3000);
            let mut seal = |node| store.seal(node).map_err(|_| TooDeep);
            let built = build(&all, fanout, &meta, &mut seal).unwrap();
            let mut found = BTreeSet::new();
            names(&store, &built.cid, 0, &mut found);
            assert_eq!(found.len(), all.len(), "fanout {fanout}");
        }
    }

    #[test]
    fn entries_with_one_hash_are_an_error_not_a_hang() {
        let entry = entries(1).remove(0);
        let mut store = Store::default();
        let mut seal = |node| store.seal(node).map_err(|_| TooDeep);
        let twice = [entry.clone(), entry];
        let built = build(&twice, 256, &Metadata::default(), &mut seal);
        assert_eq!(built, Err(TooDeep));
    }
}
