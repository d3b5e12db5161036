//! Turns bytes into blocks by a recipe; shared by all threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::recipe::{Recipe, without_zero_mode};
use super::refused::AddError;
use crate::block::{BlockSink, Cid, DAG_PB, IDENTITY, RAW};
use crate::config::SMALL_FILE_BYTES_MAX;
use crate::unixfs::data::{Kind, Mtime};
use crate::unixfs::dir_build::{self, BuiltDir, NewEntry};
use crate::unixfs::layout::{Metadata, Piece, leaf_node, symlink_node};

pub(super) struct Engine {
    pub(super) recipe: Recipe,
    sink: Arc<dyn BlockSink>,
    cancelled: AtomicBool,
}

impl Engine {
    pub(super) fn new(recipe: Recipe, sink: Arc<dyn BlockSink>) -> Self {
        Self {
            recipe,
            sink,
            cancelled: AtomicBool::new(false),
        }
    }

    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(super) fn check(&self) -> Result<(), AddError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(AddError::Cancelled);
        }
        Ok(())
    }

    /// Files up to this size are built by one thread. At least a whole chunk,
    /// so that a larger file has several.
    pub(super) fn small_bytes_max(&self) -> usize {
        SMALL_FILE_BYTES_MAX.max(self.recipe.chunker.window_bytes())
    }

    /// Hashes and stores a block. One that is inside its CID is not stored.
    pub(super) fn store(&self, codec: u64, data: Bytes) -> Result<Cid, AddError> {
        let block = self.recipe.cids.block(codec, data)?;
        let cid = *block.cid();
        if cid.hash().code() != IDENTITY {
            self.sink.put(block).map_err(AddError::Sink)?;
        }
        Ok(cid)
    }

    /// Builds a chunk. `meta` is for a chunk that is the whole file.
    pub(super) fn leaf(&self, data: Bytes, meta: &Metadata) -> Result<Piece, AddError> {
        let size = data.len() as u64;
        let (codec, block) = if self.recipe.raw_leaves {
            (RAW, data)
        } else {
            let kind = if self.recipe.trickle {
                Kind::Raw
            } else {
                Kind::File
            };
            (DAG_PB, leaf_node(kind, &data, &without_zero_mode(*meta)))
        };
        let tsize = block.len() as u64;
        let cid = self.store(codec, block)?;
        Ok(Piece { cid, size, tsize })
    }

    /// Builds a file whose bytes are all here.
    pub(super) fn file(&self, data: &Bytes, meta: &Metadata) -> Result<Piece, AddError> {
        let first = self.cut(data);
        if first == data.len() && !self.recipe.trickle {
            return self.leaf(data.clone(), meta);
        }
        let mut seal = |node| self.store(DAG_PB, node);
        let mut tree = self.recipe.tree();
        let mut rest = data.clone();
        while !rest.is_empty() {
            self.check()?;
            let chunk = rest.split_to(self.cut(&rest));
            tree.push(self.leaf(chunk, &Metadata::default())?, &mut seal)?;
        }
        let root = tree.finish(&without_zero_mode(*meta), &mut seal)?;
        root.ok_or(AddError::Worker)
    }

    /// Length of the next chunk of `data`.
    pub(super) fn cut(&self, data: &[u8]) -> usize {
        self.recipe.chunker.cut(data)
    }

    pub(super) fn symlink(&self, target: &[u8], mtime: Option<Mtime>) -> Result<Piece, AddError> {
        let node = symlink_node(target, mtime);
        let tsize = node.len() as u64;
        Ok(Piece {
            cid: self.store(DAG_PB, node)?,
            size: target.len() as u64,
            tsize,
        })
    }

    pub(super) fn directory(
        &self,
        entries: Vec<NewEntry>,
        meta: &Metadata,
    ) -> Result<BuiltDir, AddError> {
        let mut seal = |node| self.store(DAG_PB, node);
        dir_build::build(entries, &self.recipe.dirs, meta, &mut seal)
    }
}
