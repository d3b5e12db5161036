//! Goes through HAMT directories, and finds out whether they are as we would
//! make them.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::dag_pb::bytes_field_len;
use super::dir_build::{DirTally, NewEntry};
use super::error::{Malformed, ReadError};
use super::hamt::{self, Shard, Slot};
use super::hamt_build::Shape;
use super::layout::Metadata;
use super::node::{Body, DirEntry, Node};
use super::nodes::Nodes;
use crate::block::Cid;
use crate::config::{DAG_DEPTH_MAX, FETCHES_PER_REQUEST_MAX, LISTING_ENTRIES_MAX};

/// All entries of a HAMT, of whatever form.
pub(super) async fn entries(nodes: &Nodes, root: &Cid) -> Result<Vec<NewEntry>, ReadError> {
    let mut found = Vec::new();
    let add = |_: &Cid, node: &Arc<Node>| found.extend(own_entries(node).map(NewEntry::from));
    walk(nodes, root, None, |_| true, add).await?;
    Ok(found)
}

/// Adds up the entries of a HAMT; `None` where it is not as we would make it.
pub(super) async fn tally(
    nodes: &Nodes,
    root: &Cid,
    fanout: u32,
) -> Result<Option<DirTally>, ReadError> {
    let mut tally = DirTally::default();
    let add = |_: &Cid, node: &Arc<Node>| {
        own_entries(node).for_each(|entry| tally.add(&entry.into()));
    };
    let check = Check::new(root, fanout);
    let sound = walk(nodes, root, Some(&check), |_| true, add).await?;
    Ok(sound.then_some(tally))
}

fn own_entries(node: &Node) -> impl Iterator<Item = &DirEntry> {
    let slots = match &node.body {
        Body::Shard(shard) => shard.numbered(),
        Body::File(_) | Body::Directory(_) | Body::Symlink(_) => &[],
    };
    slots.iter().filter_map(|(_, slot)| match slot {
        Slot::Entry(entry) | Slot::Hidden(entry) => Some(entry),
        Slot::Shard { .. } => None,
    })
}

/// Where a shard or slot lies: the first bits that all hashes in it have.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) prefix: u64,
    bits: u32,
}

impl Place {
    const ROOT: Self = Self { prefix: 0, bits: 0 };

    pub(super) fn holds(self, hash: u64) -> bool {
        // A shift by all 64 bits leaves nothing to compare.
        let shift = 64 - self.bits;
        (hash ^ self.prefix).checked_shr(shift).unwrap_or(0) == 0
    }

    /// The place of a slot; `None` where there are no more bits.
    fn slot(self, number: u32, fanout: u32) -> Option<Self> {
        let bits = self.bits + fanout.trailing_zeros();
        let shift = 64u32.checked_sub(bits)?;
        let prefix = self.prefix | u64::from(number) << shift;
        Some(Self { prefix, bits })
    }
}

/// A shard that is to be visited.
struct Visit {
    cid: Cid,
    place: Place,
    /// What its parent says of it; `None` for the root.
    tsize: Option<u64>,
}

/// Visits the root and the shards at the places that are wanted, level by
/// level; stops and gives false at one that fails the check.
///
/// Without a check there are no places: every shard is at that of the root.
pub(super) async fn walk(
    nodes: &Nodes,
    root: &Cid,
    check: Option<&Check>,
    want: impl Fn(Place) -> bool,
    mut each: impl FnMut(&Cid, &Arc<Node>),
) -> Result<bool, ReadError> {
    let mut level = vec![Visit {
        cid: *root,
        place: Place::ROOT,
        tsize: None,
    }];
    let mut seen = 0;
    for _ in 0..DAG_DEPTH_MAX {
        let mut next = Vec::new();
        let mut shards = stream::iter(level)
            .map(|visit| async move { nodes.get(&visit.cid).await.map(|node| (visit, node)) })
            .buffered(FETCHES_PER_REQUEST_MAX);
        while let Some((visit, node)) = shards.try_next().await? {
            let Body::Shard(shard) = &node.body else {
                return Err(not_a_shard(&visit.cid));
            };
            if check.is_some_and(|check| !check.is_sound(&visit, shard, node.block_bytes)) {
                return Ok(false);
            }
            each(&visit.cid, &node);
            seen += shard.numbered().len();
            for (number, slot) in shard.numbered() {
                let Slot::Shard { cid, tsize } = slot else {
                    continue;
                };
                let place = check.and_then(|c| visit.place.slot(*number, c.fanout));
                let place = place.unwrap_or(Place::ROOT);
                if want(place) {
                    next.push(Visit {
                        cid: *cid,
                        place,
                        tsize: Some(tsize.unwrap_or(0)),
                    });
                }
            }
            // A shard that links to itself many times over must not fill the memory.
            if seen > LISTING_ENTRIES_MAX {
                return Err(ReadError::malformed(
                    &visit.cid,
                    Malformed::Hamt("too many entries"),
                ));
            }
        }
        if next.is_empty() {
            return Ok(true);
        }
        level = next;
    }
    Err(ReadError::malformed(root, Malformed::TooDeep))
}

/// Compares shards with those that we make.
pub(super) struct Check {
    fanout: u32,
    shape: Shape,
    root: Cid,
}

impl Check {
    pub(super) fn new(root: &Cid, fanout: u32) -> Self {
        Self {
            fanout,
            shape: Shape::new(fanout),
            root: *root,
        }
    }

    fn is_sound(&self, visit: &Visit, shard: &Shard, block_bytes: usize) -> bool {
        if shard.fanout() != u64::from(self.fanout) {
            return false;
        }
        let placed = |(number, slot): &(u32, Slot)| match slot {
            Slot::Entry(entry) | Slot::Hidden(entry) => {
                let place = visit.place.slot(*number, self.fanout);
                place.is_some_and(|place| place.holds(hamt::hash(&entry.name)))
            }
            Slot::Shard { cid, .. } => {
                let place = visit.place.slot(*number, self.fanout);
                place.is_some() && form(cid) == form(&self.root)
            }
        };
        let slots = shard.numbered();
        if !slots.iter().all(placed) {
            return false;
        }
        // The root may hold anything, and is made anew in any case.
        let Some(declared) = visit.tsize else {
            return true;
        };
        let lone = matches!(slots, [] | [(_, Slot::Entry(_) | Slot::Hidden(_))]);
        !lone && self.sizes(slots) == Some((block_bytes, declared))
    }

    /// Length of the block that we would make, and the size of all below it
    /// and in it; `None` where a link does not say its own.
    fn sizes(&self, slots: &[(u32, Slot)]) -> Option<(usize, u64)> {
        let numbers = slots.iter().map(|(number, _)| *number);
        let message = self.shape.message(numbers, &Metadata::default());
        let mut bytes = bytes_field_len(message.len());
        let mut below = 0u64;
        for (_, slot) in slots {
            let (cid, name, tsize) = match slot {
                Slot::Entry(e) | Slot::Hidden(e) => (&e.cid, &e.name[..], e.tsize?),
                Slot::Shard { cid, tsize } => (cid, &[][..], (*tsize)?),
            };
            bytes += self.shape.link_bytes(cid.encoded_len(), name.len(), tsize);
            below = below.saturating_add(tsize);
        }
        Some((bytes, below.saturating_add(bytes as u64)))
    }
}

/// How a CID names its block: version, hash function, length of the digest.
pub(super) fn form(cid: &Cid) -> (cid::Version, u64, u8) {
    (cid.version(), cid.hash().code(), cid.hash().size())
}

pub(super) fn not_a_shard(cid: &Cid) -> ReadError {
    ReadError::malformed(cid, Malformed::Hamt("child is not a shard"))
}
