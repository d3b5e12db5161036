//! What blocks decode to, kept within a byte limit.
//!
//! Also remembers for a moment which blocks failed: the kernel retries a
//! failed readahead page by page, and each would wait for its deadline anew.

use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;

use super::blocks::Blocks;
use super::error::CacheError;
use crate::block::{Block, Cid};
use crate::patience::{Failures, Patience};

/// Fetches blocks and keeps what they decode to; what that is, the cache does
/// not know.
pub struct Decoded<N> {
    blocks: Arc<Blocks>,
    kept: Mutex<Kept<N>>,
    failures: Failures<Cid, CacheError>,
    deadline: Duration,
}

struct Kept<N> {
    /// Each with its weight.
    nodes: LruCache<Cid, (Arc<N>, usize)>,
    weight_bytes: usize,
    weight_bytes_max: usize,
}

impl<N> Decoded<N> {
    /// Keeps at most `weight_bytes_max` of nodes; a fetch takes at most `deadline`
    /// where who waits for it does not say how long.
    pub fn new(blocks: Arc<Blocks>, weight_bytes_max: usize, deadline: Duration) -> Self {
        Self {
            blocks,
            kept: Mutex::new(Kept {
                nodes: LruCache::unbounded(),
                weight_bytes: 0,
                weight_bytes_max,
            }),
            failures: Failures::default(),
            deadline,
        }
    }

    /// The blocks below.
    pub fn blocks(&self) -> &Arc<Blocks> {
        &self.blocks
    }

    /// Gives what a block decoded to, if that is kept.
    pub fn kept(&self, cid: &Cid) -> Option<Arc<N>> {
        let mut kept = self.kept.lock();
        kept.nodes.get(cid).map(|(node, _)| Arc::clone(node))
    }

    /// Keeps what a block decoded to.
    pub fn keep(&self, cid: &Cid, node: N, weight_bytes: usize) -> Arc<N> {
        let node = Arc::new(node);
        self.kept
            .lock()
            .insert(*cid, Arc::clone(&node), weight_bytes);
        node
    }

    /// Gives a block from wherever it is, within the deadline.
    pub async fn fetch(&self, cid: &Cid) -> Result<Block, CacheError> {
        let patience = Patience::current(self.deadline);
        if let Some(error) = self.failures.recall(cid, &patience) {
            return Err(error);
        }
        let left = patience.left();
        let error = match tokio::time::timeout(left, self.blocks.get(cid)).await {
            Ok(Ok(block)) => return Ok(block),
            Ok(Err(error)) => {
                self.failures.note(*cid, error.clone());
                error
            }
            Err(_) => {
                let error = CacheError::Timeout { cid: *cid };
                self.failures
                    .note_late(*cid, error.clone(), left, &patience);
                error
            }
        };
        Err(error)
    }
}

impl<N> Kept<N> {
    fn insert(&mut self, cid: Cid, node: Arc<N>, weight_bytes: usize) {
        self.weight_bytes += weight_bytes;
        if let Some((_, (_, old_bytes))) = self.nodes.push(cid, (node, weight_bytes)) {
            self.weight_bytes -= old_bytes;
        }
        while self.weight_bytes > self.weight_bytes_max {
            let Some((_, (_, old_bytes))) = self.nodes.pop_lru() else {
                break;
            };
            self.weight_bytes -= old_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::StoreOptions;
    use crate::source::{Sources, Strategy};

    #[test]
    fn the_longest_unused_goes_when_the_weight_is_reached() {
        let sources = Arc::new(Sources::new(Strategy::default()));
        let blocks = Blocks::without_disk(StoreOptions::default(), sources);
        let decoded = Decoded::new(blocks, 10, Duration::from_secs(1));
        let cids: Vec<Cid> = crate::car::tests::blocks(3)
            .iter()
            .map(|block| *block.cid())
            .collect();
        let [a, b, c] = cids.as_slice() else { panic!() };
        decoded.keep(a, 'a', 4);
        decoded.keep(b, 'b', 4);
        assert_eq!(decoded.kept(a).as_deref(), Some(&'a'));
        decoded.keep(c, 'c', 4);
        assert_eq!(decoded.kept(b), None);
        // Kept anew with another weight, it counts once.
        decoded.keep(a, 'A', 6);
        let all = [a, b, c].map(|cid| decoded.kept(cid).as_deref().copied());
        assert_eq!(all, [Some('A'), None, Some('c')]);
    }
}
