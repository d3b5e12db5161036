//! Sinks that take blocks from importers and from sources.

use std::io;
use std::sync::Arc;

use parking_lot::{ArcRwLockReadGuard, RawRwLock};

use super::blocks::Blocks;
use super::error::CacheError;
use super::options::Tier;
use crate::block::{Block, BlockSink, Cid};

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

/// Content that is about to be referred to. While it lives no collection
/// begins, and one that is under way keeps what is here of it.
pub struct Referring {
    _adding: ArcRwLockReadGuard<RawRwLock, ()>,
    _referring: ArcRwLockReadGuard<RawRwLock, ()>,
}

impl Blocks {
    /// Holds content until what refers to it is known: pin it, or name it among
    /// the roots of a collection, before the guard goes. May wait for a pack
    /// that is being swept.
    pub async fn refer(self: &Arc<Self>, cids: Vec<Cid>) -> Result<Referring, CacheError> {
        if let Some(adding) = self.adding.try_read_recursive_arc()
            && let Some(referring) = self.referring.try_read_recursive_arc()
        {
            return Ok(self.referred(cids, adding, referring));
        }
        let me = Arc::clone(self);
        let waiting = move || {
            let adding = me.adding.read_arc_recursive();
            let referring = me.referring.read_arc_recursive();
            me.referred(cids, adding, referring)
        };
        let held = tokio::task::spawn_blocking(waiting).await;
        Ok(held.map_err(io::Error::other)?)
    }

    fn referred(
        &self,
        cids: Vec<Cid>,
        adding: ArcRwLockReadGuard<RawRwLock, ()>,
        referring: ArcRwLockReadGuard<RawRwLock, ()>,
    ) -> Referring {
        if let Some(store) = self.store()
            && let Some(referred) = &mut *store.referred.lock()
        {
            referred.extend(cids);
        }
        Referring {
            _adding: adding,
            _referring: referring,
        }
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
