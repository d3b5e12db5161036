//! Figures since start.

use serde::Serialize;

/// Figures of a block store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CacheFigures {
    /// The memory tier.
    pub memory: MemoryFigures,
    /// Own packs.
    pub own: TierFigures,
    /// Cache packs.
    pub cache: TierFigures,
    /// Space set aside for a full disk.
    pub reserve: ReserveFigures,
    /// What came from sources.
    pub fetch: FetchFigures,
    /// State of the index: `none` (no disk), `opening`, `ready` or `closed`.
    pub index: String,
    /// Damaged blocks that reads met.
    pub damaged_blocks: u64,
    /// Packs that end in a torn section or have damage between sections.
    pub torn_packs: u64,
    /// Blocks that were not cached because the disk was full or failed.
    pub cache_skipped: u64,
    /// Packs that were evicted.
    pub evicted_packs: u64,
    /// Bytes of these.
    pub evicted_bytes: u64,
    /// Times that the index was rebuilt from the packs.
    pub index_rebuilds: u64,
}

/// Figures of the memory tier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryFigures {
    /// Blocks in it.
    pub blocks: u64,
    /// Bytes of these, with what each costs beside.
    pub bytes: u64,
    /// The limit.
    pub bytes_max: u64,
    /// Reads that it served.
    pub hits: u64,
    /// Reads that it could not serve.
    pub misses: u64,
}

/// Figures of the packs of one tier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TierFigures {
    /// Pack files.
    pub packs: u64,
    /// Blocks in them, copies counted again.
    pub blocks: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Reads that it served.
    pub hits: u64,
}

/// Figures of the space that is set aside for a full disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReserveFigures {
    /// Bytes set aside now; 0 before the first write.
    pub bytes: u64,
    /// Bytes that may be set aside.
    pub bytes_max: u64,
    /// Whether that is all of it. If not, only what makes room is taken.
    pub whole: bool,
    /// Times that it was used.
    pub spent: u64,
}

/// Figures of what came from sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FetchFigures {
    /// Blocks fetched.
    pub blocks: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Fetches that failed.
    pub failed: u64,
    /// Reads that joined a fetch which was under way.
    pub joined: u64,
    /// Fetches under way now.
    pub under_way: u64,
}
