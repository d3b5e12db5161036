//! Sinks that take blocks from importers and from sources.

use std::io;
use std::sync::Arc;

use parking_lot::{ArcRwLockReadGuard, RawRwLock};

use super::blocks::Blocks;
use super::error::CacheError;
use super::options::Tier;
use crate::block::{Block, BlockSink};

/// Takes blocks into own packs, from several threads.
///
/// While it lives no collection begins, so pin what was added before it goes.
pub struct OwnSink {
    blocks: Arc<Blocks>,
    _adding: ArcRwLockReadGuard<RawRwLock, ()>,
}

impl Blocks {
    /// A sink whose blocks become own ones.
    pub fn own_sink(self: &Arc<Self>) -> Arc<OwnSink> {
        Arc::new(OwnSink {
            blocks: Arc::clone(self),
            _adding: self.adding.read_arc_recursive(),
        })
    }

    /// A sink whose blocks are cached.
    pub fn cache_sink(self: &Arc<Self>) -> Arc<dyn BlockSink> {
        Arc::new(CacheSink(Arc::clone(self)))
    }
}

impl OwnSink {
    /// Appends what waits, so that it survives the end of this process; it
    /// survives a power loss after [`Blocks::sync`].
    pub fn flush(&self) -> Result<(), CacheError> {
        self.blocks.flush()
    }
}

impl BlockSink for OwnSink {
    fn put(&self, block: Block) -> io::Result<()> {
        Ok(self.blocks.put(block, Tier::Own)?)
    }
}

/// Takes fetched blocks into memory and the cache packs.
struct CacheSink(Arc<Blocks>);

impl BlockSink for CacheSink {
    fn put(&self, block: Block) -> io::Result<()> {
        Ok(self.0.put(block, Tier::Cache)?)
    }
}
