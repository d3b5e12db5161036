//! Decoded nodes, fetched once and kept within a byte limit.
//!
//! Also remembers for a moment which blocks failed: the kernel retries a
//! failed readahead page by page, and each would wait for its deadline anew.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;

use super::error::{Malformed, ReadError};
use super::node::Node;
use crate::block::{Block, Cid, DAG_PB};
use crate::cache::{Blocks, CacheError};
use crate::config::{FAILURE_KEPT_FOR, FAILURES_KEPT_MAX};

/// Fetches and keeps decoded nodes.
pub(super) struct Nodes {
    blocks: Arc<Blocks>,
    kept: Mutex<Kept>,
    failures: Mutex<LruCache<Cid, (Instant, CacheError)>>,
    deadline: Duration,
}

struct Kept {
    nodes: LruCache<Cid, Arc<Node>>,
    weight_bytes: usize,
    weight_bytes_max: usize,
}

impl Nodes {
    /// Keeps at most `weight_bytes_max` of nodes; a fetch takes at most `deadline`.
    pub(super) fn new(blocks: Arc<Blocks>, weight_bytes_max: usize, deadline: Duration) -> Self {
        let nodes = LruCache::unbounded();
        Self {
            blocks,
            kept: Mutex::new(Kept {
                nodes,
                weight_bytes: 0,
                weight_bytes_max,
            }),
            failures: Mutex::new(LruCache::new(
                NonZeroUsize::new(FAILURES_KEPT_MAX).unwrap_or(NonZeroUsize::MIN),
            )),
            deadline,
        }
    }

    /// The blocks below.
    pub(super) fn blocks(&self) -> &Arc<Blocks> {
        &self.blocks
    }

    /// Gives the node of a dag-pb CID.
    pub(super) async fn get(&self, cid: &Cid) -> Result<Arc<Node>, ReadError> {
        if let Some(node) = self.get_local(cid)? {
            return Ok(node);
        }
        let block = self.fetch(cid).await?;
        self.keep(&block)
    }

    /// Gives the node if its block is near; may wait for the disk only.
    pub(super) fn get_local(&self, cid: &Cid) -> Result<Option<Arc<Node>>, ReadError> {
        if cid.codec() != DAG_PB {
            return Err(ReadError::malformed(
                cid,
                Malformed::Kind("not a dag-pb node"),
            ));
        }
        if let Some(node) = self.kept.lock().nodes.get(cid) {
            return Ok(Some(node.clone()));
        }
        match self.local_block(cid)? {
            Some(block) => self.keep(&block).map(Some),
            None => Ok(None),
        }
    }

    /// Gives a block that is near or carried in its CID.
    pub(super) fn local_block(&self, cid: &Cid) -> Result<Option<Block>, ReadError> {
        if let Some(inline) = Block::inline(cid) {
            return Ok(Some(inline.map_err(CacheError::from)?));
        }
        Ok(self.blocks.get_local(cid)?)
    }

    /// Gives a block from wherever it is, within the deadline.
    pub(super) async fn fetch(&self, cid: &Cid) -> Result<Block, ReadError> {
        if let Some((until, error)) = self.failures.lock().get(cid)
            && Instant::now() < *until
        {
            return Err(error.clone().into());
        }
        let got = tokio::time::timeout(self.deadline, self.blocks.get(cid)).await;
        let error = match got {
            Ok(Ok(block)) => return Ok(block),
            Ok(Err(error)) => error,
            Err(_) => CacheError::Timeout { cid: *cid },
        };
        self.failures
            .lock()
            .put(*cid, (Instant::now() + FAILURE_KEPT_FOR, error.clone()));
        Err(error.into())
    }

    /// Decodes a block and keeps what it means.
    pub(super) fn keep(&self, block: &Block) -> Result<Arc<Node>, ReadError> {
        let node = Node::decode(block.data()).map_err(|e| ReadError::malformed(block.cid(), e))?;
        let node = Arc::new(node);
        self.kept.lock().insert(*block.cid(), node.clone());
        Ok(node)
    }
}

impl Kept {
    fn insert(&mut self, cid: Cid, node: Arc<Node>) {
        self.weight_bytes += node.weight_bytes;
        if let Some((_, old)) = self.nodes.push(cid, node) {
            self.weight_bytes -= old.weight_bytes;
        }
        while self.weight_bytes > self.weight_bytes_max {
            let Some((_, old)) = self.nodes.pop_lru() else {
                break;
            };
            self.weight_bytes -= old.weight_bytes;
        }
    }
}
