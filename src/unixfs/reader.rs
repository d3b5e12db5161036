//! Reads files and directories by CID.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::dag_pb::PbNode;
use super::data::Mtime;
use super::error::{Malformed, ReadError};
use super::node::{Body, DirEntry, Node};
use super::nodes::Nodes;
use super::{dir, file, noted};
use crate::block::{Block, CBOR, Cid, DAG_CBOR, DAG_JSON, DAG_PB, JSON, RAW};
use crate::cache::Blocks;
use crate::config::{FETCH_DEADLINE, NODES_BYTES_MAX};

/// Reads UnixFS by CID. Cheap to share; every call may run beside others.
///
/// A call whose blocks are near never waits for anything but the disk.
pub struct Reader {
    nodes: Nodes,
}

/// What a CID is, without its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: MetaKind,
    /// Bytes of a file or of a link's target; 0 for a directory.
    pub size: u64,
    /// Permission bits, where stored.
    pub mode: Option<u32>,
    /// Modification time, where stored.
    pub mtime: Option<Mtime>,
}

/// The kinds of things that a mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetaKind {
    /// Bytes.
    File,
    /// Entries.
    Directory,
    /// A symbolic link.
    Symlink,
}

impl Reader {
    /// Makes a reader over `blocks` with the default limits.
    pub fn new(blocks: Arc<Blocks>) -> Arc<Self> {
        Self::with_deadline(blocks, FETCH_DEADLINE)
    }

    /// Makes a reader that gives a block up after `deadline`.
    pub fn with_deadline(blocks: Arc<Blocks>, deadline: Duration) -> Arc<Self> {
        Arc::new(Self {
            nodes: Nodes::new(blocks, NODES_BYTES_MAX, deadline),
        })
    }

    /// The blocks below.
    pub fn blocks(&self) -> &Arc<Blocks> {
        self.nodes.blocks()
    }

    /// Decoded nodes.
    pub(super) fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Gives a block from wherever it is, within the deadline.
    pub async fn block(&self, cid: &Cid) -> Result<Block, ReadError> {
        match self.nodes.local_block(cid)? {
            Some(block) => Ok(block),
            None => self.nodes.fetch(cid).await,
        }
    }

    /// The blocks of a directory itself: one, or the shards of a HAMT.
    pub async fn directory_blocks(&self, cid: &Cid) -> Result<Vec<Cid>, ReadError> {
        match &self.nodes.get(cid).await?.body {
            Body::Directory(_) => return Ok(vec![*cid]),
            Body::Shard(_) => {}
            Body::File(_) | Body::Symlink(_) => return Err(ReadError::NotADirectory),
        }
        let mut cids = Vec::new();
        super::hamt_walk::walk(&self.nodes, cid, None, |_| true, |cid, _| cids.push(*cid)).await?;
        Ok(cids)
    }

    /// Bytes of all blocks of a DAG, as its root and the links in it say.
    pub async fn tsize(&self, cid: &Cid) -> Result<u64, ReadError> {
        let block = self.block(cid).await?;
        let own = block.data().len() as u64;
        if cid.codec() != DAG_PB {
            return Ok(own);
        }
        let node = PbNode::decode(block.data()).map_err(|e| ReadError::malformed(cid, e))?;
        let below = node.links.iter().map(|link| link.tsize.unwrap_or(0));
        Ok(below.fold(own, u64::saturating_add))
    }

    /// Tells what a CID is. A block that is far is fetched only if nothing is
    /// noted about it.
    pub async fn meta(&self, cid: &Cid) -> Result<Meta, ReadError> {
        if let Some(meta) = self.meta_local(cid)? {
            return Ok(meta);
        }
        if let Some(meta) = self.meta_noted(cid).await {
            return Ok(meta);
        }
        let block = self.nodes.fetch(cid).await?;
        let meta = match cid.codec() {
            DAG_PB => meta_of(&*self.nodes.keep(&block)?),
            _ => bytes_meta(block.data().len() as u64),
        };
        self.blocks().notes().put(cid, noted::encode(&meta));
        Ok(meta)
    }

    /// Tells what a CID was found to be before, in this run or an earlier one,
    /// though its block may be far: good for showing it, not for its content.
    pub async fn meta_noted(&self, cid: &Cid) -> Option<Meta> {
        let note = self.blocks().notes().get(cid).await?;
        noted::decode(&note)
    }

    /// Tells what a CID is if its block is near.
    pub fn meta_local(&self, cid: &Cid) -> Result<Option<Meta>, ReadError> {
        match cid.codec() {
            DAG_PB => Ok(self.nodes.get_local(cid)?.map(|node| meta_of(&node))),
            RAW | DAG_CBOR | DAG_JSON | CBOR | JSON => {
                if let Some(len) = self.blocks().len_local(cid)? {
                    return Ok(Some(bytes_meta(len)));
                }
                let block = self.nodes.local_block(cid)?;
                Ok(block.map(|b| bytes_meta(b.data().len() as u64)))
            }
            _ => Err(ReadError::malformed(
                cid,
                Malformed::Kind("codec is not readable as a file"),
            )),
        }
    }

    /// Fills `out` with the bytes of a file from `offset`; gives how many
    /// there were, fewer only at the end of the file.
    pub async fn read(&self, cid: &Cid, offset: u64, out: &mut [u8]) -> Result<usize, ReadError> {
        file::read(&self.nodes, cid, offset, out).await
    }

    /// Finds an entry of a directory; `None` is proof that it is not there.
    pub async fn find(&self, cid: &Cid, name: &[u8]) -> Result<Option<DirEntry>, ReadError> {
        dir::find(&self.nodes, cid, name).await
    }

    /// Finds another name of a directory that a HAMT could not tell from `name`,
    /// which is not there: one with its hash, as far as names are placed by it.
    pub async fn twin(&self, cid: &Cid, name: &[u8]) -> Result<Option<Bytes>, ReadError> {
        dir::twin(&self.nodes, cid, name).await
    }

    /// Bytes of a basic directory that no HAMT can take the place of, because
    /// names in it have one place there; `None` of any other directory.
    pub async fn stays_basic(&self, cid: &Cid) -> Result<Option<u64>, ReadError> {
        dir::stays_basic(&self.nodes, cid).await
    }

    /// Lists a directory's entries in the order of its blocks.
    pub async fn entries(&self, cid: &Cid) -> Result<Vec<DirEntry>, ReadError> {
        dir::entries(&self.nodes, cid).await
    }

    /// Tells `each` a directory's entries in the order of its blocks, of which
    /// few are in memory at a time.
    pub async fn each_entry(
        &self,
        cid: &Cid,
        each: impl FnMut(&DirEntry),
    ) -> Result<(), ReadError> {
        dir::each(&self.nodes, cid, each).await
    }

    /// Gives the target of a symbolic link.
    pub async fn readlink(&self, cid: &Cid) -> Result<Bytes, ReadError> {
        if cid.codec() != DAG_PB {
            return Err(ReadError::NotALink);
        }
        match &self.nodes.get(cid).await?.body {
            Body::Symlink(target) => Ok(target.clone()),
            Body::File(_) | Body::Directory(_) | Body::Shard(_) => Err(ReadError::NotALink),
        }
    }
}

fn bytes_meta(size: u64) -> Meta {
    Meta {
        kind: MetaKind::File,
        size,
        mode: None,
        mtime: None,
    }
}

fn meta_of(node: &Node) -> Meta {
    let (kind, size) = match &node.body {
        Body::File(file) => (MetaKind::File, file.size),
        Body::Directory(_) | Body::Shard(_) => (MetaKind::Directory, 0),
        Body::Symlink(target) => (MetaKind::Symlink, target.len() as u64),
    };
    Meta {
        kind,
        size,
        mode: node.mode.map(|m| m & 0o7777),
        mtime: node.mtime,
    }
}
