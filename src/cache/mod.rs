//! Blocks kept near: memory first, then packs on disk, then the sources.
//!
//! One fetch per block however many wait. Every block from outside is proved
//! before anyone sees it; a block from disk is proved on its first read of
//! each run (a policy). A failure of the cache never fails a read that a
//! source can serve. Does not know of files or inodes.
//!
//! After a crash: packs are append-only CARv1 files, whole blocks in them
//! survive, and what was synced survives a loss of power; pins are durable
//! when they are answered; `index/` is a cache of the packs and is rebuilt
//! from them.

mod blocks;
mod error;
mod eviction;
mod figures;
mod flights;
mod gc;
mod index;
mod memory;
mod packs;
mod pins;
mod scrub;
mod sink;

pub use blocks::Blocks;
pub use error::CacheError;
pub use figures::CacheFigures;
pub use gc::{GcProgress, GcReport, Links};
pub use index::State as IndexState;
pub use packs::{PackId, Tier};
pub use pins::{Pin, PinMode, Pins};
pub use scrub::{DamagedBlock, TornPack, VerifyProgress, VerifyReport};
pub use sink::OwnSink;

use serde::{Deserialize, Serialize};

use crate::config::{CACHE_BYTES_MAX, DISK_FREE_MIN, MEMORY_BYTES_MAX};

/// Limits and policy of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Most bytes of blocks in memory; the least recently used are dropped.
    pub memory_bytes_max: u64,
    /// Most bytes of cache packs; the least recently used pack is dropped.
    pub cache_bytes_max: u64,
    /// Disk space that the cache leaves free; below it nothing is cached.
    pub disk_free_min: u64,
    /// When a block read from disk is hashed.
    pub verify: VerifyPolicy,
}

/// When a block read from disk is hashed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyPolicy {
    /// On its first read of each run.
    #[default]
    FirstRead,
    /// On every read.
    Always,
    /// Never: the disk is trusted.
    Never,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            memory_bytes_max: MEMORY_BYTES_MAX,
            cache_bytes_max: CACHE_BYTES_MAX,
            disk_free_min: DISK_FREE_MIN,
            verify: VerifyPolicy::FirstRead,
        }
    }
}
