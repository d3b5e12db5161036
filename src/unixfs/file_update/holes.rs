//! Finds holes again in files that were made with them.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;

use super::form::FileForm;
use super::grid::Grid;
use super::sealing::{next_zero_tree, zeros};
use crate::block::{Cid, DAG_PB, Multihash, RAW, hash};
use crate::config::{BLOCK_BYTES_MAX, DAG_DEPTH_MAX, SEEK_NODES_MAX, ZERO_LEAVES_KEPT_MAX};
use crate::unixfs::data::Kind;
use crate::unixfs::error::{Malformed, ReadError, UpdateError};
use crate::unixfs::layout::{Metadata, leaf_node};
use crate::unixfs::node::Body;
use crate::unixfs::reader::Reader;

/// Knows leaves and full trees of zeros by their CIDs. Made once and shared.
pub struct Holes {
    grid: Grid,
    /// Full trees of zeros, by their levels.
    trees: Vec<Multihash>,
    /// Leaves of zeros of other lengths, by codec, hash function and length.
    leaves: Mutex<LruCache<(u64, u64, u64), Option<Multihash>>>,
}

/// A tree or leaf, and where it lies in its file.
struct Item {
    cid: Cid,
    start: u64,
    end: u64,
    depth: usize,
}

impl Holes {
    /// Hashes the trees of zeros of a form; stores nothing.
    pub fn new(form: &FileForm) -> Result<Self, UpdateError> {
        let grid = Grid::new(form.chunk_bytes, form.links_max);
        let store = |codec, data| form.block(codec, data).map(|block| *block.cid());
        let (mut trees, mut last) = (Vec::new(), None);
        for _ in 0..grid.levels() {
            let piece = next_zero_tree(form, grid, last.as_ref(), store)?;
            trees.push(*piece.cid.hash());
            last = Some(piece);
        }
        let kept = NonZeroUsize::new(ZERO_LEAVES_KEPT_MAX).unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            grid,
            trees,
            leaves: Mutex::new(LruCache::new(kept)),
        })
    }

    /// Whether `cid` is a leaf or a full tree of `len` bytes that are all zero.
    ///
    /// False says little of a tree: it may be zeros in another layout.
    pub fn is_zero(&self, cid: &Cid, len: u64) -> bool {
        let tree = self.grid.level_of(len).and_then(|l| self.trees.get(l));
        if tree == Some(cid.hash()) {
            return true;
        }
        let (codec, code) = (cid.codec(), cid.hash().code());
        if len == 0 || len > BLOCK_BYTES_MAX as u64 || !matches!(codec, RAW | DAG_PB) {
            return false;
        }
        let mut leaves = self.leaves.lock();
        let leaf = leaves.get_or_insert((codec, code, len), || {
            let data = match codec {
                RAW => zeros(len),
                _ => leaf_node(Kind::File, &zeros(len), &Metadata::default()),
            };
            hash(code, &data).ok()
        });
        leaf.as_ref() == Some(cid.hash())
    }

    /// The first byte at or after `offset` that is in no leaf of zeros; `None`
    /// where there is none up to the end of the file.
    pub async fn next_data(
        &self,
        reader: &Reader,
        cid: &Cid,
        offset: u64,
    ) -> Result<Option<u64>, ReadError> {
        self.seek(reader, cid, offset, false).await
    }

    /// The first byte at or after `offset` that is in a leaf of zeros; `None`
    /// where there is none up to the end of the file.
    ///
    /// Reads the nodes on the way, and no leaves.
    pub async fn next_hole(
        &self,
        reader: &Reader,
        cid: &Cid,
        offset: u64,
    ) -> Result<Option<u64>, ReadError> {
        self.seek(reader, cid, offset, true).await
    }

    async fn seek(
        &self,
        reader: &Reader,
        cid: &Cid,
        offset: u64,
        hole: bool,
    ) -> Result<Option<u64>, ReadError> {
        let size = reader.meta(cid).await?.size;
        let mut open = vec![Item {
            cid: *cid,
            start: 0,
            end: size,
            depth: 0,
        }];
        let mut nodes = 0;
        while let Some(item) = open.pop() {
            let len = item.end - item.start;
            if item.end <= offset || len == 0 {
                continue;
            }
            let zero = self.is_zero(&item.cid, len);
            // What is as short as a leaf is taken for one. Only at the end of a
            // file of ours there are nodes above a short leaf.
            let node = len > self.grid.chunk() || item.end == size;
            if zero || !node || item.cid.codec() != DAG_PB {
                if zero == hole {
                    return Ok(Some(item.start.max(offset)));
                }
                continue;
            }
            nodes += 1;
            if nodes > SEEK_NODES_MAX {
                return Ok((!hole).then_some(item.start.max(offset)));
            }
            if let Some(found) = parts(reader, &item, offset, hole, &mut open).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Puts the parts of a node in its place; bytes in the node itself are data.
async fn parts(
    reader: &Reader,
    item: &Item,
    offset: u64,
    hole: bool,
    open: &mut Vec<Item>,
) -> Result<Option<u64>, ReadError> {
    let node = reader.nodes().get(&item.cid).await?;
    let Body::File(file) = &node.body else {
        return Err(ReadError::NotAFile);
    };
    let mut start = item.start + file.inline.len() as u64;
    if !hole && start > item.start.max(offset) {
        return Ok(Some(item.start.max(offset)));
    }
    if item.depth >= DAG_DEPTH_MAX {
        return Err(ReadError::malformed(&item.cid, Malformed::TooDeep));
    }
    if file.size != item.end - item.start {
        let (declared, found) = (item.end - item.start, file.size);
        let why = Malformed::ChildSize { declared, found };
        return Err(ReadError::malformed(&item.cid, why));
    }
    let mut parts = Vec::new();
    for part in &file.parts {
        let end = item.start + part.end;
        parts.push(Item {
            cid: part.cid,
            start,
            end,
            depth: item.depth + 1,
        });
        start = end;
    }
    open.extend(parts.into_iter().rev().filter(|part| part.end > offset));
    Ok(None)
}
