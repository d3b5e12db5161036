//! Blocks in memory, the least recently used dropped first, bounded by bytes.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use super::figures::MemoryFigures;
use super::key::Key;
use crate::config::MEMORY_ENTRY_BYTES;

/// The memory tier. What is in it was proved.
pub(super) struct Memory {
    kept: Mutex<Kept>,
    bytes_max: u64,
    hits: AtomicU64,
    misses: AtomicU64,
}

struct Kept {
    blocks: LruCache<Key, Bytes>,
    weight: u64,
}

fn weight(data: &Bytes) -> u64 {
    (data.len() + MEMORY_ENTRY_BYTES) as u64
}

impl Memory {
    /// Holds at most `bytes_max`, the cost of each entry included.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            kept: Mutex::new(Kept {
                blocks: LruCache::unbounded(),
                weight: 0,
            }),
            bytes_max,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Gives a block's bytes, which become the most recently used.
    pub(super) fn get(&self, key: &Key) -> Option<Bytes> {
        let found = self.kept.lock().blocks.get(key).cloned();
        let counter = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Gives a block's length and changes nothing.
    pub(super) fn len_of(&self, key: &Key) -> Option<u64> {
        let kept = self.kept.lock();
        kept.blocks.peek(key).map(|data| data.len() as u64)
    }

    /// Keeps a block; one that is over the limit by itself is not kept.
    pub(super) fn insert(&self, key: Key, data: Bytes) {
        let added = weight(&data);
        if added > self.bytes_max {
            return;
        }
        let mut dropped = Vec::new();
        {
            let mut kept = self.kept.lock();
            kept.weight += added;
            if let Some((_, old)) = kept.blocks.push(key, data) {
                kept.weight -= weight(&old);
                dropped.push(old);
            }
            while kept.weight > self.bytes_max {
                let Some((_, old)) = kept.blocks.pop_lru() else {
                    break;
                };
                kept.weight -= weight(&old);
                dropped.push(old);
            }
        }
        // Buffers are freed here, after the lock.
        drop(dropped);
    }

    /// Figures since start.
    pub(super) fn figures(&self) -> MemoryFigures {
        let kept = self.kept.lock();
        MemoryFigures {
            blocks: kept.blocks.len() as u64,
            bytes: kept.weight,
            bytes_max: self.bytes_max,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, RAW, SHA2_256};

    fn block(content: u32, len: usize) -> (Key, Bytes) {
        let mut data = content.to_le_bytes().to_vec();
        data.resize(len, 0);
        let block = Block::seal(RAW, SHA2_256, data.into()).unwrap();
        (Key::of(block.cid()).unwrap(), block.into_data())
    }

    #[test]
    fn memory_stays_within_its_limit_and_keeps_what_was_used_last() {
        let memory = Memory::new(10 * (1000 + MEMORY_ENTRY_BYTES as u64));
        let (first, data) = block(0, 1000);
        memory.insert(first, data.clone());
        for content in 1..100 {
            let (key, data) = block(content, 1000);
            memory.insert(key, data);
            assert!(memory.figures().bytes <= memory.bytes_max);
            assert!(memory.get(&first).is_some());
        }
        assert_eq!(memory.figures().blocks, 10);
        assert_eq!(memory.get(&block(1, 1000).0), None);
        assert_eq!(memory.get(&block(99, 1000).0), Some(block(99, 1000).1));
        assert_eq!(memory.get(&first), Some(data));
    }

    #[test]
    fn the_same_block_twice_weighs_once_and_a_huge_one_is_not_kept() {
        let memory = Memory::new(5000);
        let (key, data) = block(1, 1000);
        memory.insert(key, data.clone());
        memory.insert(key, data);
        assert_eq!(memory.figures().bytes, 1000 + MEMORY_ENTRY_BYTES as u64);
        let (huge, data) = block(2, 6000);
        memory.insert(huge, data);
        assert_eq!(memory.len_of(&huge), None);
        assert_eq!(memory.len_of(&key), Some(1000));
    }
}
