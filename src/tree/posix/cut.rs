//! Where a row of entries is cut into nodes: a pure function of the entries.
//!
//! A node ends after an entry when the entries from its beginning weigh
//! [`SOFT_BYTES`], or are at least [`ENTRIES_MIN`] and the entry's key is one of
//! those that end a node: one in [`CHANCE`], by its hash with the level as seed.
//! So a cut depends on nothing behind it and on nothing before the cut before
//! it: the nodes follow from the set of entries alone, and after a change the
//! cuts soon fall where they fell before. Because a node of links has eight
//! entries or 64 KiB of them, unless it is the last, the rows above end quickly
//! even if all keys are chosen to end nodes.

use super::cbor::head_len;

/// Weight at which a node ends after any entry. The largest entry beyond it
/// still leaves the node below `POSIX_NODE_BYTES_MAX`.
const SOFT_BYTES: usize = 64 << 10;
/// Fewest entries after which a key may end the node.
const ENTRIES_MIN: usize = 8;
/// One key in so many ends a node. A power of two.
const CHANCE: u128 = 64;
/// Bytes of a link: tag, head, the leading zero, version, codec, hash and its length.
const LINK_BYTES: usize = 2 + 2 + 1 + 4 + 32;

/// Encoded bytes of a leaf's entry.
pub(super) fn value_entry_bytes(key: usize, value: usize) -> usize {
    1 + head_len(key) + key + head_len(value) + value
}

/// Encoded bytes of an entry that links to a node.
pub(super) fn link_entry_bytes(key: usize) -> usize {
    1 + head_len(key) + key + LINK_BYTES
}

/// Tells after which entries a row is cut.
#[derive(Debug)]
pub(super) struct Cutter {
    level: u8,
    entries: usize,
    bytes: usize,
}

impl Cutter {
    /// Begins a row of `level`, or a node after a cut.
    pub(super) fn new(level: u8) -> Self {
        Self {
            level,
            entries: 0,
            bytes: 0,
        }
    }

    /// Takes the next entry; tells whether the node ends after it.
    pub(super) fn push(&mut self, key: &[u8], entry_bytes: usize) -> bool {
        self.entries += 1;
        self.bytes += entry_bytes;
        let ends = self.bytes >= SOFT_BYTES
            || (self.entries >= ENTRIES_MIN && ends_a_node(self.level, key));
        if ends {
            *self = Self::new(self.level);
        }
        ends
    }
}

fn ends_a_node(level: u8, key: &[u8]) -> bool {
    let hash = fastmurmur3::murmur3_x64_128(key, u32::from(level).into());
    hash & (CHANCE - 1) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{POSIX_KEY_BYTES_MAX, POSIX_NODE_BYTES_MAX, POSIX_VALUE_BYTES_MAX};

    fn cuts(level: u8, keys: impl IntoIterator<Item = u32>, bytes: usize) -> Vec<u32> {
        let mut cutter = Cutter::new(level);
        let keys = keys.into_iter();
        keys.filter(|key| cutter.push(&key.to_be_bytes(), bytes))
            .collect()
    }

    #[test]
    fn nodes_have_about_seventy_entries_at_each_level() {
        for level in 0..4 {
            let nodes = cuts(level, 0..100_000, 60).len();
            assert!((100_000 / 80..100_000 / 62).contains(&nodes), "{nodes}");
        }
        assert_ne!(cuts(0, 0..1000, 60), cuts(1, 0..1000, 60));
    }

    #[test]
    fn cuts_fall_where_they_fell_before_soon_after_a_change() {
        let before = cuts(0, 0..10_000, 60);
        for gone in [0, 1234, 5000] {
            let after = cuts(0, (0..10_000).filter(|key| *key != gone), 60);
            let moved = before.iter().filter(|cut| !after.contains(cut)).count();
            assert!(moved <= 4, "{moved}");
        }
    }

    #[test]
    fn heavy_entries_end_a_node_before_it_is_too_large() {
        assert_eq!(cuts(0, 0..10, SOFT_BYTES), (0..10).collect::<Vec<_>>());
        assert_eq!(cuts(0, 0..4, SOFT_BYTES / 2 + 1), [1, 3]);
        let largest = value_entry_bytes(POSIX_KEY_BYTES_MAX, POSIX_VALUE_BYTES_MAX);
        assert!(SOFT_BYTES - 1 + largest + 64 < POSIX_NODE_BYTES_MAX);
        // The rows above end: a link's entry never fills a node alone.
        assert!(link_entry_bytes(POSIX_KEY_BYTES_MAX) * ENTRIES_MIN < SOFT_BYTES);
    }

    #[test]
    fn keys_chosen_to_end_nodes_leave_eight_entries_in_each() {
        let keys = (0..100_000).filter(|k: &u32| ends_a_node(1, &k.to_be_bytes()));
        let keys: Vec<_> = keys.collect();
        assert_eq!(cuts(1, keys.clone(), 60).len(), keys.len() / ENTRIES_MIN);
    }
}
