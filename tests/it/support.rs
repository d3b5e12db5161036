//! Content in memory, and readers over it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use cidfs::block::{Block, Cid, Multihash};
use cidfs::cache::{Blocks, StoreOptions};
use cidfs::source::{BlockSource, Fetched, SourceError, SourceFigures};
use cidfs::testing::dag::Dag;
use cidfs::unixfs::Reader;

/// Blocks in memory that counts what is asked of it.
pub(crate) struct Shelf {
    blocks: HashMap<Multihash, Block>,
    pub(crate) asked: AtomicUsize,
}

impl Shelf {
    pub(crate) fn of(dag: Dag) -> Arc<Self> {
        let blocks = dag
            .blocks
            .into_iter()
            .map(|b| (*b.cid().hash(), b))
            .collect();
        Arc::new(Self {
            blocks,
            asked: AtomicUsize::new(0),
        })
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl BlockSource for Shelf {
    fn name(&self) -> String {
        "shelf".into()
    }

    async fn get(&self, cid: &Cid) -> Result<Fetched, SourceError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (what, source_name) = (cid.to_string(), self.name());
        let block = self.blocks.get(cid.hash()).cloned();
        let block = block.ok_or(SourceError::NotFound { what, source_name })?;
        Ok(Fetched { block, keep: false })
    }

    fn figures(&self) -> Vec<SourceFigures> {
        Vec::new()
    }
}

pub(crate) fn reader(shelf: &Arc<Shelf>) -> Arc<Reader> {
    Reader::new(Blocks::without_disk(StoreOptions::default(), shelf.clone()))
}
