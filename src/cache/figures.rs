//! What the store counts.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::blocks::Blocks;
use super::index::State;
use super::packs::Tier;

/// Counters since start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) memory_hits: AtomicU64,
    pub(super) disk_hits: AtomicU64,
    pub(super) fetches: AtomicU64,
    pub(super) damaged: AtomicU64,
    pub(super) cache_errors: AtomicU64,
    pub(super) evicted_packs: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Figures of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheFigures {
    /// How far the index is; `None` without a disk.
    pub index: Option<State>,
    /// Blocks in the packs; `None` while the index is not ready.
    pub blocks: Option<u64>,
    /// Bytes in own packs.
    pub own_bytes: u64,
    /// Bytes in cache packs.
    pub cache_bytes: u64,
    /// Blocks in memory.
    pub memory_blocks: u64,
    /// Bytes of these.
    pub memory_bytes: u64,
    /// Reads that memory answered, since start.
    pub memory_hits: u64,
    /// Reads that a pack answered.
    pub disk_hits: u64,
    /// Reads that a source was asked for.
    pub fetches: u64,
    /// Blocks on disk that were found damaged.
    pub damaged: u64,
    /// Fetched blocks that could not be kept.
    pub cache_errors: u64,
    /// Cache packs dropped to stay within the limits.
    pub evicted_packs: u64,
}

impl Blocks {
    /// The figures now.
    pub fn figures(&self) -> CacheFigures {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (memory_blocks, memory_bytes) = self.memory.held();
        let store = self.store.as_ref();
        let bytes = |tier| store.map_or(0, |s| s.packs.bytes(tier));
        CacheFigures {
            index: store.map(|s| s.index.state().borrow().clone()),
            // Counting walks the whole index: `verify` and `gc` report it.
            blocks: store.and_then(|s| s.index.len()),
            own_bytes: bytes(Tier::Own),
            cache_bytes: bytes(Tier::Cache),
            memory_blocks,
            memory_bytes,
            memory_hits: load(&self.counters.memory_hits),
            disk_hits: load(&self.counters.disk_hits),
            fetches: load(&self.counters.fetches),
            damaged: load(&self.counters.damaged),
            cache_errors: load(&self.counters.cache_errors),
            evicted_packs: load(&self.counters.evicted_packs),
        }
    }
}
