//! What the user may choose.

use serde::{Deserialize, Serialize};

use crate::config::{
    CACHE_BYTES_MAX, CACHE_PACK_BYTES_MAX, CACHE_PACK_BYTES_MIN, DISK_FREE_MIN, MEMORY_BYTES_MAX,
    OWN_PACK_BYTES_MAX, OWN_RESERVE_BYTES,
};

/// Limits and policy of a block store. The defaults stand in [`crate::config`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Memory for blocks; the least recently used are dropped.
    pub memory_bytes_max: u64,
    /// Disk for fetched blocks; 0 caches in memory only.
    pub cache_bytes_max: u64,
    /// Free disk that caching leaves alone.
    pub disk_free_min: u64,
    /// When blocks that come from disk are hashed.
    pub verify: VerifyPolicy,
    /// Length at which an own pack is full.
    pub own_pack_bytes_max: u64,
    /// Length at which a cache pack is full; at most an eighth of the cache.
    pub cache_pack_bytes_max: u64,
    /// Space set aside for what makes room on a full disk; 0 sets none aside.
    pub own_reserve_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            memory_bytes_max: MEMORY_BYTES_MAX,
            cache_bytes_max: CACHE_BYTES_MAX,
            disk_free_min: DISK_FREE_MIN,
            verify: VerifyPolicy::default(),
            own_pack_bytes_max: OWN_PACK_BYTES_MAX,
            cache_pack_bytes_max: CACHE_PACK_BYTES_MAX,
            own_reserve_bytes: OWN_RESERVE_BYTES,
        }
    }
}

impl StoreOptions {
    /// Length at which a pack of `tier` is full.
    pub(super) fn pack_bytes_max(&self, tier: Tier) -> u64 {
        match tier {
            Tier::Own => self.own_pack_bytes_max,
            // Whole packs are dropped, so there must be several.
            Tier::Cache => self
                .cache_pack_bytes_max
                .min((self.cache_bytes_max / 8).max(CACHE_PACK_BYTES_MIN)),
        }
    }
}

/// When blocks that come from disk are hashed. On the way in they always are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyPolicy {
    /// On the first read of each block in each run.
    #[default]
    FirstRead,
    /// On every read.
    Always,
    /// Never: the disk is trusted.
    Never,
}

/// Whether an own block may go into the space that is set aside for a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spend {
    /// No: on a full disk it is refused.
    Nothing,
    /// Yes, but for its last quarter: it seals what was acknowledged, and what was
    /// removed cannot be collected before.
    Reserve,
    /// All of it: a collection, and what lets checkpoints go.
    Last,
}

/// Which packs hold a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// What was written or pinned here; never evicted.
    Own,
    /// What was fetched; evicted when space is short.
    Cache,
}

impl Tier {
    /// Name of the directory below `packs/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Cache => "cache",
        }
    }
}
