//! The loaded nodes by number.
//!
//! Nodes stand in chunks, one behind the other, and what finds them by number
//! holds four bytes for each: a hash map of boxes would take a quarter more
//! for a tree of a million. A chunk that is empty is given back.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::node::Inode;
use crate::tree::mfs::types::NodeId;

/// Nodes in a chunk.
const CHUNK: usize = 1024;
/// Parts of the index: each grows by itself, so that none takes long to.
const PARTS: usize = 64;
/// No place.
const NONE: u32 = u32::MAX;

/// The loaded nodes.
#[derive(Debug)]
pub(in crate::tree::mfs) struct Nodes {
    chunks: Vec<Chunk>,
    /// Chunks with a free place.
    roomy: Vec<u32>,
    /// Places: chunk times `CHUNK` plus slot.
    index: [HashTable<u32>; PARTS],
    len: usize,
}

#[derive(Debug)]
struct Chunk {
    slots: Vec<Slot>,
    used: usize,
    /// The first free slot.
    free: u32,
}

#[derive(Debug)]
enum Slot {
    Used(NodeId, Inode),
    /// The next free one.
    Free(u32),
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            roomy: Vec::new(),
            index: std::array::from_fn(|_| HashTable::new()),
            len: 0,
        }
    }
}

impl Nodes {
    /// How many there are.
    pub(in crate::tree::mfs) fn len(&self) -> usize {
        self.len
    }

    /// A node, to look at.
    pub(in crate::tree::mfs) fn get(&self, node: &NodeId) -> Option<&Inode> {
        match slot(&self.chunks, self.place(*node)?) {
            Some(Slot::Used(_, inode)) => Some(inode),
            Some(Slot::Free(_)) | None => None,
        }
    }

    /// A node, to change.
    pub(in crate::tree::mfs) fn get_mut(&mut self, node: &NodeId) -> Option<&mut Inode> {
        let place = self.place(*node)? as usize;
        let chunk = self.chunks.get_mut(place / CHUNK)?;
        match chunk.slots.get_mut(place % CHUNK) {
            Some(Slot::Used(_, inode)) => Some(inode),
            Some(Slot::Free(_)) | None => None,
        }
    }

    /// Whether a node is there.
    pub(in crate::tree::mfs) fn contains_key(&self, node: &NodeId) -> bool {
        self.place(*node).is_some()
    }

    /// Puts a node there, instead of one of its number.
    pub(in crate::tree::mfs) fn insert(&mut self, node: NodeId, inode: Inode) {
        if let Some(there) = self.get_mut(&node) {
            *there = inode;
            return;
        }
        let place = self.put(Slot::Used(node, inode));
        self.len += 1;
        let chunks = &self.chunks;
        let hash_of = |place: &u32| hash(number(chunks, *place));
        let hash = hash(node);
        if let Some(part) = self.index.get_mut(part(hash)) {
            part.insert_unique(hash, place, hash_of);
        }
    }

    /// Takes a node out.
    pub(in crate::tree::mfs) fn remove(&mut self, node: &NodeId) -> Option<Inode> {
        let (hash, chunks) = (hash(*node), &self.chunks);
        let hash_of = |place: &u32| self::hash(number(chunks, *place));
        let is = |place: &u32| number(chunks, *place) == *node;
        let Entry::Occupied(found) = self.index.get_mut(part(hash))?.entry(hash, is, hash_of)
        else {
            return None;
        };
        let (place, _) = found.remove();
        self.len -= 1;
        self.take(place)
    }

    /// All of them, in no order.
    pub(in crate::tree::mfs) fn iter(&self) -> impl Iterator<Item = (NodeId, &Inode)> {
        let slots = self.chunks.iter().flat_map(|chunk| &chunk.slots);
        slots.filter_map(|slot| match slot {
            Slot::Used(node, inode) => Some((*node, inode)),
            Slot::Free(_) => None,
        })
    }

    /// All of them, in no order.
    pub(in crate::tree::mfs) fn values(&self) -> impl Iterator<Item = &Inode> {
        self.iter().map(|(_, inode)| inode)
    }

    /// All of them, to change, in no order.
    pub(in crate::tree::mfs) fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Inode)> {
        let slots = self.chunks.iter_mut().flat_map(|chunk| &mut chunk.slots);
        slots.filter_map(|slot| match slot {
            Slot::Used(node, inode) => Some((*node, inode)),
            Slot::Free(_) => None,
        })
    }

    /// Takes over all nodes of another.
    pub(in crate::tree::mfs) fn extend(&mut self, other: Self) {
        for slot in other.chunks.into_iter().flat_map(|chunk| chunk.slots) {
            if let Slot::Used(node, inode) = slot {
                self.insert(node, inode);
            }
        }
    }

    /// Gives back what the index has too much once many nodes have gone.
    pub(in crate::tree::mfs) fn shrink(&mut self) {
        let chunks = &self.chunks;
        for part in &mut self.index {
            if part.len() < part.capacity() / 4 {
                part.shrink_to(part.len() * 2, |place| hash(number(chunks, *place)));
            }
        }
    }

    fn place(&self, node: NodeId) -> Option<u32> {
        let hash = hash(node);
        let is = |place: &u32| number(&self.chunks, *place) == node;
        self.index.get(part(hash))?.find(hash, is).copied()
    }

    /// Puts a node into a free place.
    fn put(&mut self, new: Slot) -> u32 {
        let at = match self.roomy.last() {
            Some(at) => *at,
            None => {
                self.chunks.push(Chunk {
                    slots: Vec::new(),
                    used: 0,
                    free: NONE,
                });
                let at = self.chunks.len() as u32 - 1;
                self.roomy.push(at);
                at
            }
        };
        let Some(chunk) = self.chunks.get_mut(at as usize) else {
            return NONE;
        };
        chunk.used += 1;
        if chunk.used == CHUNK {
            self.roomy.pop();
        }
        let free = chunk.free;
        let slot = match chunk.slots.get_mut(free as usize) {
            Some(slot) => {
                if let Slot::Free(next) = slot {
                    chunk.free = *next;
                }
                *slot = new;
                free
            }
            None => {
                chunk.slots.reserve_exact(CHUNK - chunk.slots.len());
                chunk.slots.push(new);
                chunk.slots.len() as u32 - 1
            }
        };
        at * CHUNK as u32 + slot
    }

    /// Takes a node out of its place.
    fn take(&mut self, place: u32) -> Option<Inode> {
        let at = place as usize / CHUNK;
        let chunk = self.chunks.get_mut(at)?;
        let slot = chunk.slots.get_mut(place as usize % CHUNK)?;
        let taken = std::mem::replace(slot, Slot::Free(chunk.free));
        chunk.free = place % CHUNK as u32;
        if chunk.used == CHUNK {
            self.roomy.push(at as u32);
        }
        chunk.used -= 1;
        if chunk.used == 0 {
            chunk.slots = Vec::new();
            chunk.free = NONE;
        }
        match taken {
            Slot::Used(_, inode) => Some(inode),
            Slot::Free(_) => None,
        }
    }
}

fn slot(chunks: &[Chunk], place: u32) -> Option<&Slot> {
    let place = place as usize;
    chunks.get(place / CHUNK)?.slots.get(place % CHUNK)
}

/// The number of the node in a place; places in the index have one.
fn number(chunks: &[Chunk], place: u32) -> NodeId {
    match slot(chunks, place) {
        Some(Slot::Used(node, _)) => *node,
        Some(Slot::Free(_)) | None => NodeId::ROOT,
    }
}

/// Numbers are counted or hashes already: the product spreads the counted ones.
fn hash(node: NodeId) -> u64 {
    let product = node.number().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

/// Bits that the parts themselves look at last.
fn part(hash: u64) -> usize {
    (hash >> 48) as usize % PARTS
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::node::Body;
    use super::*;
    use crate::tree::mfs::types::NodeKind;
    use proptest::prelude::*;

    fn inode(mark: u32) -> Inode {
        Inode {
            uid: mark,
            ..Inode::plain(NodeKind::Fifo, Body::Special)
        }
    }

    #[test]
    fn a_place_costs_no_more_than_the_node_and_its_number() {
        assert_eq!(size_of::<Slot>(), size_of::<Inode>() + size_of::<NodeId>());
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0..3000u64, 0..4u8), 1..6000)) {
            let (mut nodes, mut model) = (Nodes::default(), HashMap::new());
            for (mark, (count, what)) in steps.into_iter().enumerate() {
                let node = NodeId::counted(count);
                if what > 0 {
                    nodes.insert(node, inode(mark as u32));
                    model.insert(node, mark as u32);
                } else {
                    let gone = nodes.remove(&node).map(|inode| inode.uid);
                    prop_assert_eq!(gone, model.remove(&node));
                }
            }
            nodes.shrink();
            prop_assert_eq!(nodes.len(), model.len());
            for (node, mark) in &model {
                prop_assert_eq!(nodes.get(node).map(|inode| inode.uid), Some(*mark));
            }
            let all: HashMap<_, _> = nodes.iter().map(|(node, inode)| (node, inode.uid)).collect();
            prop_assert_eq!(all, model);
        }
    }

    #[test]
    fn what_is_empty_is_given_back_and_used_again() {
        let mut nodes = Nodes::default();
        let ids: Vec<_> = (0..3 * CHUNK as u64).map(NodeId::counted).collect();
        for round in 0..3 {
            for node in &ids {
                nodes.insert(*node, inode(round));
            }
            assert!(nodes.roomy.is_empty());
            assert_eq!(nodes.chunks.len(), 3);
            for node in &ids {
                assert_eq!(nodes.remove(node).map(|inode| inode.uid), Some(round));
            }
            assert!(nodes.chunks.iter().all(|c| c.slots.capacity() == 0));
            nodes.shrink();
            assert!(nodes.index.iter().all(|part| part.capacity() == 0));
        }
    }
}
