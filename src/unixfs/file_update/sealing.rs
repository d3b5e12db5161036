//! A file under construction from bytes, holes and trees that are there.
//!
//! Reads nothing. What comes as bytes is gathered and cut where the grid has
//! its lines, and before a tree that is taken as it is.

use bytes::{Bytes, BytesMut};

use super::form::FileForm;
use super::grid::Grid;
use crate::block::{BlockSink, Cid, DAG_PB, RAW};
use crate::config::REGRID_NODES_MAX;
use crate::unixfs::UpdateError;
use crate::unixfs::data::Kind;
use crate::unixfs::layout::{Balanced, Metadata, Piece, leaf_node, seal_node};

pub(super) struct Sealing<'a> {
    form: &'a FileForm,
    sink: &'a dyn BlockSink,
    grid: Grid,
    /// What the root carries.
    meta: Metadata,
    /// Bytes of the whole file.
    total: u64,
    /// Bytes so far.
    at: u64,
    /// The last of them, which are not in a leaf yet: less than a chunk.
    gathered: Vec<Bytes>,
    tree: Balanced,
    /// Full trees of zeros, by their levels.
    zeros: Vec<Piece>,
    /// The same as far as they were only looked for, not stored.
    zeros_known: Vec<Piece>,
    /// Nodes that may still be taken apart for the sake of the grid.
    regrid_nodes: usize,
}

impl<'a> Sealing<'a> {
    pub(super) fn new(
        form: &'a FileForm,
        sink: &'a dyn BlockSink,
        meta: &Metadata,
        total: u64,
    ) -> Self {
        Self {
            form,
            sink,
            grid: Grid::new(form.chunk_bytes, form.links_max),
            // As the builder does it: no bits at all are not stored.
            meta: Metadata {
                mode: meta.mode.filter(|mode| *mode != 0),
                ..*meta
            },
            total,
            at: 0,
            gathered: Vec::new(),
            tree: Balanced::new(form.links_max),
            zeros: Vec::new(),
            zeros_known: Vec::new(),
            regrid_nodes: REGRID_NODES_MAX,
        }
    }

    pub(super) fn grid(&self) -> Grid {
        self.grid
    }

    pub(super) fn meta(&self) -> &Metadata {
        &self.meta
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Whether bytes wait for more.
    pub(super) fn is_gathering(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// Bytes of the whole file.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Adds bytes.
    pub(super) fn bytes(&mut self, mut bytes: Bytes) -> Result<(), UpdateError> {
        while !bytes.is_empty() {
            let room = usize::try_from(self.grid.room(self.at)).unwrap_or(usize::MAX);
            let part = bytes.split_to(room.min(bytes.len()));
            let full = part.len() == room;
            self.at += part.len() as u64;
            self.gathered.push(part);
            if full {
                self.cut()?;
            }
        }
        Ok(())
    }

    /// Adds zeros: full trees of them, of which there is one a level.
    pub(super) fn hole(&mut self, mut len: u64) -> Result<(), UpdateError> {
        let never = (!self.meta.is_empty()).then_some(self.total);
        while len > 0 {
            let len_now = match self.grid.largest(self.at, len, never) {
                Some((level, size)) => {
                    let piece = self.zero_tree(level)?;
                    self.reuse(piece, level)?;
                    size
                }
                None => {
                    let size = self.grid.room(self.at).min(len);
                    self.bytes(zeros(size))?;
                    size
                }
            };
            len -= len_now;
        }
        Ok(())
    }

    /// Adds a tree, or leaf, that is there already.
    pub(super) fn reuse(&mut self, piece: Piece, level: usize) -> Result<(), UpdateError> {
        self.cut()?;
        self.at += piece.size;
        let (form, sink) = (self.form, self.sink);
        let mut seal = |node| form.store(DAG_PB, node, sink);
        self.tree.push_tree(level, piece, &mut seal)
    }

    /// Ends the file and gives its root.
    pub(super) fn finish(mut self) -> Result<Piece, UpdateError> {
        if self.total == 0 {
            return self.leaf(Bytes::new());
        }
        self.cut()?;
        let (form, sink) = (self.form, self.sink);
        let mut seal = |node| form.store(DAG_PB, node, sink);
        let root = self.tree.finish(&self.meta, &mut seal)?;
        root.ok_or(UpdateError::TooLarge)
    }

    /// Makes a leaf of the bytes that were gathered.
    fn cut(&mut self) -> Result<(), UpdateError> {
        let data = match self.gathered.as_slice() {
            [] => return Ok(()),
            [only] => only.clone(),
            several => {
                let len = several.iter().map(Bytes::len).sum();
                let mut all = BytesMut::with_capacity(len);
                several.iter().for_each(|part| all.extend_from_slice(part));
                all.freeze()
            }
        };
        self.gathered.clear();
        let leaf = self.leaf(data)?;
        let (form, sink) = (self.form, self.sink);
        let mut seal = |node| form.store(DAG_PB, node, sink);
        self.tree.push(leaf, &mut seal)
    }

    /// A leaf that is the whole file is its root, and carries the metadata.
    fn leaf(&self, data: Bytes) -> Result<Piece, UpdateError> {
        let size = data.len() as u64;
        let meta = if size == self.total {
            self.meta
        } else {
            Metadata::default()
        };
        let (codec, block) = leaf_block(self.form, data, &meta);
        let tsize = block.len() as u64;
        let cid = self.form.store(codec, block, self.sink)?;
        Ok(Piece { cid, size, tsize })
    }

    /// Whether a tree is the full one of zeros of its level.
    pub(super) fn is_zero_tree(&mut self, cid: &Cid, level: usize) -> Result<bool, UpdateError> {
        while self.zeros_known.len() <= level {
            let form = self.form;
            let name = |codec, block| form.block(codec, block).map(|block| *block.cid());
            let below = self.zeros_known.last();
            self.zeros_known
                .push(next_zero_tree(form, self.grid, below, name)?);
        }
        let tree = self.zeros_known.get(level);
        Ok(tree.is_some_and(|tree| tree.cid == *cid))
    }

    /// Whether one more node may be taken apart for the sake of the grid.
    pub(super) fn may_regrid(&mut self) -> bool {
        let left = self.regrid_nodes.checked_sub(1);
        self.regrid_nodes = left.unwrap_or(0);
        left.is_some()
    }

    fn zero_tree(&mut self, level: usize) -> Result<Piece, UpdateError> {
        while self.zeros.len() <= level {
            let (form, sink) = (self.form, self.sink);
            let store = |codec, block| form.store(codec, block, sink);
            self.zeros
                .push(next_zero_tree(form, self.grid, self.zeros.last(), store)?);
        }
        self.zeros.get(level).copied().ok_or(UpdateError::TooLarge)
    }
}

/// The full tree of zeros of the level above `below`, or the chunk of zeros.
pub(super) fn next_zero_tree(
    form: &FileForm,
    grid: Grid,
    below: Option<&Piece>,
    store: impl Fn(u64, Bytes) -> Result<Cid, UpdateError>,
) -> Result<Piece, UpdateError> {
    let Some(below) = below else {
        let (codec, block) = leaf_block(form, zeros(grid.chunk()), &Metadata::default());
        let tsize = block.len() as u64;
        return Ok(Piece {
            cid: store(codec, block)?,
            size: grid.chunk(),
            tsize,
        });
    };
    let children = vec![*below; usize::try_from(grid.links()).unwrap_or(2)];
    let mut seal = |node| store(DAG_PB, node);
    seal_node(&children, &Metadata::default(), &mut seal)
}

/// Codec and bytes of a leaf. Plain bytes cannot carry metadata: a leaf that
/// has to is a dag-pb node, as when the mode of such a file is set in Kubo.
fn leaf_block(form: &FileForm, data: Bytes, meta: &Metadata) -> (u64, Bytes) {
    if form.raw_leaves && meta.is_empty() {
        (RAW, data)
    } else {
        (DAG_PB, leaf_node(Kind::File, &data, meta))
    }
}

pub(super) fn zeros(len: u64) -> Bytes {
    vec![0; usize::try_from(len).unwrap_or(0)].into()
}
