//! Nodes by CID: fetched, checked, and the recent ones kept.

use std::sync::Arc;
use std::time::Duration;

use super::error::{Malformed, MapError};
use super::node::{Link, Node};
use crate::block::{Block, Cid};
use crate::cache::{Blocks, Decoded};

/// Fetches and keeps decoded nodes.
pub(super) struct Nodes(Decoded<Node>);

impl Nodes {
    /// Keeps at most `weight_bytes_max` of nodes; a fetch takes at most `deadline`.
    pub(super) fn new(blocks: Arc<Blocks>, weight_bytes_max: usize, deadline: Duration) -> Self {
        Self(Decoded::new(blocks, weight_bytes_max, deadline))
    }

    /// Gives the node of a CID.
    pub(super) async fn get(&self, cid: &Cid) -> Result<Arc<Node>, MapError> {
        if Link::of(cid).is_none() {
            return Err(MapError::malformed(cid, Malformed::Cid));
        }
        if let Some(node) = self.0.kept(cid) {
            return Ok(node);
        }
        let block = match self.0.blocks().get_local(cid)? {
            Some(block) => block,
            None => self.0.fetch(cid).await?,
        };
        self.keep(&block)
    }

    /// Decodes a block and keeps what it means.
    pub(super) fn keep(&self, block: &Block) -> Result<Arc<Node>, MapError> {
        let cid = block.cid();
        let node = Node::decode(block.data()).map_err(|why| MapError::malformed(cid, why))?;
        let weight_bytes = node.weight_bytes;
        Ok(self.0.keep(cid, node, weight_bytes))
    }
}
