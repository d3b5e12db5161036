//! Nodes by CID: fetched, checked, and the recent ones kept.
//!
//! As with the nodes of UnixFS, a block's failure is remembered for a moment:
//! whoever asks again at once must not wait for the deadline anew.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;

use super::error::{Malformed, MapError};
use super::node::{Link, Node};
use crate::block::{Block, Cid};
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
        Self {
            blocks,
            kept: Mutex::new(Kept {
                nodes: LruCache::unbounded(),
                weight_bytes: 0,
                weight_bytes_max,
            }),
            failures: Mutex::new(LruCache::new(
                NonZeroUsize::new(FAILURES_KEPT_MAX).unwrap_or(NonZeroUsize::MIN),
            )),
            deadline,
        }
    }

    /// Gives the node of a CID.
    pub(super) async fn get(&self, cid: &Cid) -> Result<Arc<Node>, MapError> {
        if Link::of(cid).is_none() {
            return Err(MapError::malformed(cid, Malformed::Cid));
        }
        if let Some(node) = self.kept.lock().nodes.get(cid) {
            return Ok(Arc::clone(node));
        }
        let block = match self.blocks.get_local(cid)? {
            Some(block) => block,
            None => self.fetch(cid).await?,
        };
        self.keep(&block)
    }

    /// Decodes a block and keeps what it means.
    pub(super) fn keep(&self, block: &Block) -> Result<Arc<Node>, MapError> {
        let cid = block.cid();
        let node = Node::decode(block.data()).map_err(|why| MapError::malformed(cid, why))?;
        let node = Arc::new(node);
        self.kept.lock().insert(*cid, Arc::clone(&node));
        Ok(node)
    }

    async fn fetch(&self, cid: &Cid) -> Result<Block, MapError> {
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
        let until = Instant::now() + FAILURE_KEPT_FOR;
        self.failures.lock().put(*cid, (until, error.clone()));
        Err(error.into())
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
