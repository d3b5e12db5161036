//! Sinks that take blocks from importers and from sources.

use std::io;
use std::sync::Arc;

use parking_lot::{ArcRwLockReadGuard, Mutex, RawRwLock};

use super::blocks::Blocks;
use super::error::CacheError;
use super::packs::Tier;
use crate::block::{Block, BlockSink};
use crate::config::SINK_BATCH_BYTES;

/// Takes blocks into own packs, many at a time.
///
/// While it lives no garbage is collected, so pin what was added first.
pub struct OwnSink {
    blocks: Arc<Blocks>,
    pending: Mutex<Pending>,
    _writing: ArcRwLockReadGuard<RawRwLock, ()>,
}

#[derive(Default)]
struct Pending {
    blocks: Vec<Block>,
    bytes: usize,
}

impl Blocks {
    /// A sink for own blocks.
    pub fn own_sink(self: &Arc<Self>) -> Arc<OwnSink> {
        let writing = self.writing.read_arc_recursive();
        Arc::new(OwnSink {
            blocks: self.clone(),
            pending: Mutex::default(),
            _writing: writing,
        })
    }
}

impl OwnSink {
    /// Writes what is pending; readable when it returns, durable after a sync.
    pub fn flush(&self) -> Result<(), CacheError> {
        let batch = std::mem::take(&mut *self.pending.lock());
        self.write(batch)
    }

    fn write(&self, batch: Pending) -> Result<(), CacheError> {
        if batch.blocks.is_empty() {
            return Ok(());
        }
        self.blocks.put_many(batch.blocks, Tier::Own)
    }
}

impl BlockSink for OwnSink {
    fn put(&self, block: Block) -> io::Result<()> {
        let batch = {
            let mut pending = self.pending.lock();
            pending.bytes += block.data().len() + 64;
            pending.blocks.push(block);
            if pending.bytes < SINK_BATCH_BYTES {
                return Ok(());
            }
            std::mem::take(&mut *pending)
        };
        self.write(batch).map_err(|error| match error {
            CacheError::Io(error) => io::Error::new(error.kind(), error.to_string()),
            other @ (CacheError::NotFound { .. }
            | CacheError::Timeout { .. }
            | CacheError::Unavailable { .. }
            | CacheError::Refused(_)) => io::Error::other(other),
        })
    }
}

impl Drop for OwnSink {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::error!(%error, "added blocks were not written");
        }
    }
}

/// Takes fetched blocks into memory and the cache packs.
pub(super) struct CacheSink(pub(super) Arc<Blocks>);

impl BlockSink for CacheSink {
    fn put(&self, block: Block) -> io::Result<()> {
        self.0.memory.put(*block.cid().hash(), block.data().clone());
        self.0.keep(&block);
        Ok(())
    }
}
