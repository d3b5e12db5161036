//! Decoded nodes, fetched once and kept within a byte limit.

use std::sync::Arc;
use std::time::Duration;

use super::error::{Malformed, ReadError};
use super::node::Node;
use crate::block::{Block, Cid, DAG_PB};
use crate::cache::{Blocks, CacheError, Decoded};

/// Fetches and keeps decoded nodes.
pub(super) struct Nodes(Decoded<Node>);

impl Nodes {
    /// Keeps at most `weight_bytes_max` of nodes; a fetch takes at most `deadline`.
    pub(super) fn new(blocks: Arc<Blocks>, weight_bytes_max: usize, deadline: Duration) -> Self {
        Self(Decoded::new(blocks, weight_bytes_max, deadline))
    }

    /// The blocks below.
    pub(super) fn blocks(&self) -> &Arc<Blocks> {
        self.0.blocks()
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
        if let Some(node) = self.0.kept(cid) {
            return Ok(Some(node));
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
        Ok(self.blocks().get_local(cid)?)
    }

    /// Gives a block from wherever it is, within the deadline.
    pub(super) async fn fetch(&self, cid: &Cid) -> Result<Block, ReadError> {
        Ok(self.0.fetch(cid).await?)
    }

    /// Decodes a block and keeps what it means.
    pub(super) fn keep(&self, block: &Block) -> Result<Arc<Node>, ReadError> {
        let node = Node::decode(block.data()).map_err(|e| ReadError::malformed(block.cid(), e))?;
        let weight_bytes = node.weight_bytes;
        Ok(self.0.keep(block.cid(), node, weight_bytes))
    }
}
