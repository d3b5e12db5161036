//! The memory tier: blocks by multihash, least recently used out first.

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use crate::block::Multihash;

/// Blocks in memory within a byte limit.
pub(super) struct Memory {
    kept: Mutex<Kept>,
}

struct Kept {
    blocks: LruCache<Multihash, Bytes>,
    bytes: u64,
    bytes_max: u64,
}

/// What an entry costs beside its bytes.
const ENTRY_BYTES: u64 = 256;

impl Memory {
    pub(super) fn new(bytes_max: u64) -> Self {
        let blocks = LruCache::unbounded();
        Self {
            kept: Mutex::new(Kept {
                blocks,
                bytes: 0,
                bytes_max,
            }),
        }
    }

    pub(super) fn get(&self, key: &Multihash) -> Option<Bytes> {
        self.kept.lock().blocks.get(key).cloned()
    }

    pub(super) fn put(&self, key: Multihash, data: Bytes) {
        let mut kept = self.kept.lock();
        kept.bytes += cost(&data);
        if let Some((_, old)) = kept.blocks.push(key, data) {
            kept.bytes -= cost(&old);
        }
        while kept.bytes > kept.bytes_max {
            let Some((_, old)) = kept.blocks.pop_lru() else {
                break;
            };
            kept.bytes -= cost(&old);
        }
    }

    pub(super) fn remove(&self, key: &Multihash) {
        let mut kept = self.kept.lock();
        if let Some(old) = kept.blocks.pop(key) {
            kept.bytes -= cost(&old);
        }
    }

    /// Blocks and bytes held.
    pub(super) fn held(&self) -> (u64, u64) {
        let kept = self.kept.lock();
        (kept.blocks.len() as u64, kept.bytes)
    }
}

fn cost(data: &Bytes) -> u64 {
    data.len() as u64 + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{SHA2_256, hash};

    #[test]
    fn the_byte_limit_holds_and_the_least_recently_used_leaves_first() {
        let memory = Memory::new(3 * (1000 + ENTRY_BYTES));
        let keys: Vec<_> = (0..4u8).map(|n| hash(SHA2_256, &[n]).unwrap()).collect();
        for key in &keys[..3] {
            memory.put(*key, vec![0; 1000].into());
        }
        assert!(memory.get(&keys[0]).is_some(), "used: now the youngest");
        memory.put(keys[3], vec![0; 1000].into());
        assert!(memory.get(&keys[1]).is_none());
        assert!(memory.get(&keys[0]).is_some());
        memory.put(keys[0], vec![0; 10].into());
        assert_eq!(
            memory.held(),
            (3, 2010 + 3 * ENTRY_BYTES),
            "a replaced entry counts once"
        );
    }
}
