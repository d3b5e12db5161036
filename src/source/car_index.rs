//! Where blocks stand in CAR files: an index in memory, built behind.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;

/// A block that several files hold is remembered at so many places, so that a
/// damaged copy has a substitute.
const COPIES_MAX: usize = 4;

/// A place where a block may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the file.
    pub(super) file: u32,
    /// Length of the whole section, or 0 where only an index told the offset.
    pub(super) len: u32,
    /// Where the section begins.
    pub(super) offset: u64,
}

/// Digests, as 64 bits of a keyed hash, with their places.
///
/// Two digests may fall together, so a place is a candidate: who reads it
/// looks at the CID there. The key is random, so nobody can make them collide.
#[derive(Debug, Default)]
pub(super) struct CarIndex {
    hasher: RandomState,
    first: HashMap<u64, Place>,
    more: HashMap<u64, Vec<Place>>,
}

impl CarIndex {
    /// The key of a digest.
    pub(super) fn key(&self, digest: &[u8]) -> u64 {
        self.hasher.hash_one(digest)
    }

    /// Adds a place; further ones than [`COPIES_MAX`] are left out.
    pub(super) fn insert(&mut self, key: u64, place: Place) {
        match self.first.entry(key) {
            Entry::Vacant(slot) => {
                slot.insert(place);
            }
            // The same section, from a scan after an index: the length is new.
            Entry::Occupied(mut slot) if same_section(slot.get(), &place) => {
                slot.insert(place);
            }
            Entry::Occupied(_) => {
                let more = self.more.entry(key).or_default();
                if more.len() + 1 < COPIES_MAX && !more.iter().any(|p| same_section(p, &place)) {
                    more.push(place);
                }
            }
        }
    }

    /// The places of a digest, in the order in which they were added.
    pub(super) fn places(&self, digest: &[u8]) -> Vec<Place> {
        let key = self.key(digest);
        let first = self.first.get(&key).copied();
        first
            .into_iter()
            .chain(self.more.get(&key).into_iter().flatten().copied())
            .collect()
    }

    /// How many digests there are.
    pub(super) fn len(&self) -> usize {
        self.first.len()
    }
}

fn same_section(a: &Place, b: &Place) -> bool {
    (a.file, a.offset) == (b.file, b.offset)
}
