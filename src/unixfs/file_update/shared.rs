//! Takes ranges of files that exist into a new one, unread where it can.
//!
//! A leaf that is taken whole stays as it is, whatever its length. A tree that
//! is full and falls on the place of such a tree in the new file stays as it
//! is too, and so does a foreign one in the middle of a range. Only the nodes
//! at the edges of a range are read, and leaves that it cuts.
//!
//! The last leaf of a file is short because the file ended there. Where
//! the new one goes on it is read and filled up, and so is a very short leaf
//! at the edge of a range, so that a file that is changed at one place again
//! and again does not become a string of crumbs.

use std::sync::Arc;

use bytes::Bytes;

use super::grid::Grid;
use super::sealing::Sealing;
use crate::block::{Cid, DAG_PB, RAW};
use crate::config::{CRUMB_DIVISOR, DAG_DEPTH_MAX, REGRID_DEPTH};
use crate::unixfs::error::{Malformed, ReadError, UpdateError};
use crate::unixfs::layout::{Metadata, Piece};
use crate::unixfs::node::{Body, File, Node, Part};
use crate::unixfs::reader::Reader;
use crate::unixfs::{Meta, MetaKind, file};

/// A range of a file that exists.
struct Range<'a> {
    reader: &'a Reader,
    from: u64,
    to: u64,
    /// Bytes of the file.
    size: u64,
}

/// A tree or leaf of that file.
struct Item {
    cid: Cid,
    start: u64,
    end: u64,
    tsize: u64,
    depth: usize,
}

/// What is done with an item.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Its nodes and leaves stay as they are, under a node of this level.
    Reuse(usize),
    /// Its bytes are read.
    Read,
    /// Its node is read.
    Open,
    /// It is nothing but zeros.
    Hole,
}

/// Adds `len` bytes of the file `cid` from `offset`.
pub(super) async fn take(
    reader: &Reader,
    sealing: &mut Sealing<'_>,
    cid: &Cid,
    offset: u64,
    len: u64,
) -> Result<(), UpdateError> {
    if len == 0 {
        return Ok(());
    }
    let Meta { kind, size, .. } = reader.meta(cid).await?;
    if kind != MetaKind::File {
        return Err(ReadError::NotAFile.into());
    }
    let to = offset.checked_add(len).filter(|to| *to <= size);
    let to = to.ok_or_else(|| UpdateError::Range {
        cid: Box::new(*cid),
        offset,
        len,
        size,
    })?;
    let range = Range {
        reader,
        from: offset,
        to,
        size,
    };
    let mut open = vec![Item {
        cid: *cid,
        start: 0,
        end: size,
        tsize: size,
        depth: 0,
    }];
    while let Some(item) = open.pop() {
        match range.step(&item, sealing)? {
            Step::Reuse(level) => sealing.reuse(item.piece(), level)?,
            Step::Read => range.read_or_reuse(&item, sealing).await?,
            Step::Open => range.open(item, sealing, &mut open).await?,
            Step::Hole => sealing.hole(item.len())?,
        }
    }
    Ok(())
}

impl Range<'_> {
    fn covers(&self, item: &Item) -> bool {
        self.from <= item.start && item.end <= self.to
    }

    /// What to do with an item of which only the CID is known.
    fn step(&self, item: &Item, sealing: &mut Sealing<'_>) -> Result<Step, UpdateError> {
        if item.cid.codec() != DAG_PB {
            // Codecs that are no part of UnixFS are only ever read.
            let whole = item.cid.codec() == RAW && self.covers(item);
            let plain = sealing.meta().is_empty() || item.len() != sealing.total();
            return Ok(match whole && plain {
                true => self.leaf(item, sealing),
                false => Step::Read,
            });
        }
        let (grid, at) = (sealing.grid(), sealing.at());
        let last = item.end == self.size;
        if last || !self.covers(item) {
            return Ok(Step::Open);
        }
        Ok(match grid.level_of(item.len()) {
            Some(0) => Step::Reuse(0),
            Some(level) if at.is_multiple_of(item.len()) => Step::Reuse(level),
            // Ours, on other lines than before: leaf by leaf it still is.
            Some(level) if at.is_multiple_of(grid.chunk()) => {
                if sealing.is_zero_tree(&item.cid, level)? {
                    Step::Hole
                } else if sealing.may_regrid() {
                    Step::Open
                } else {
                    Step::Reuse(level)
                }
            }
            // Foreign. Nodes beside a seam are dissolved, lest a seam that is
            // used again and again grows a tower.
            _ if self.at_seam(item, sealing) => Step::Open,
            _ if item.depth >= REGRID_DEPTH && sealing.may_regrid() => Step::Open,
            _ => Step::Reuse(grid.level_for(item.len())),
        })
    }

    /// Whether something else comes just before or after an item.
    fn at_seam(&self, item: &Item, sealing: &Sealing<'_>) -> bool {
        let more = sealing.at() + item.len() < sealing.total();
        (item.start == self.from && sealing.at() > 0) || (item.end == self.to && more)
    }

    /// What to do with a leaf that is covered.
    fn leaf(&self, item: &Item, sealing: &Sealing<'_>) -> Step {
        let (grid, at) = (sealing.grid(), sealing.at());
        if item.len() < grid.chunk() / CRUMB_DIVISOR && self.at_seam(item, sealing) {
            return Step::Read;
        }
        if item.end < self.size || item.len() >= grid.chunk() {
            return Step::Reuse(0);
        }
        let ends = at.checked_add(item.len()) == Some(sealing.total());
        if ends && !sealing.is_gathering() && item.len() <= grid.room(at) {
            Step::Reuse(0)
        } else {
            Step::Read
        }
    }

    /// Reads a leaf; one that is wanted whole and cannot be had stays as it is,
    /// so that what nobody has any more fails its own range only.
    async fn read_or_reuse(
        &self,
        item: &Item,
        sealing: &mut Sealing<'_>,
    ) -> Result<(), UpdateError> {
        let at = sealing.at();
        match self.read(item, sealing).await {
            Err(UpdateError::Read(error))
                if sealing.at() == at
                    && item.depth > 0
                    && item.cid.codec() == RAW
                    && self.covers(item) =>
            {
                tracing::warn!(%error, "a short leaf stays as it is");
                sealing.reuse(item.piece(), 0)
            }
            read => read,
        }
    }

    /// Reads the part of a leaf that is in the range.
    async fn read(&self, item: &Item, sealing: &mut Sealing<'_>) -> Result<(), UpdateError> {
        let (from, to) = (self.from.max(item.start), self.to.min(item.end));
        let mut at = from;
        while at < to {
            let len = sealing.grid().room(sealing.at()).min(to - at);
            let mut data = vec![0; usize::try_from(len).unwrap_or(0)];
            let nodes = self.reader.nodes();
            if item.depth == 0 {
                // Nothing declares the length of a root; it was found just now.
                let read = self.reader.read(&item.cid, at, &mut data).await?;
                data.truncate(read);
            } else {
                file::read_part(nodes, &item.cid, item.len(), at - item.start, &mut data).await?;
            }
            if data.len() as u64 != len {
                return Err(ReadError::NotAFile.into());
            }
            sealing.bytes(data.into())?;
            at += len;
        }
        Ok(())
    }

    /// Reads a node, and puts its parts in its place.
    async fn open(
        &self,
        mut item: Item,
        sealing: &mut Sealing<'_>,
        open: &mut Vec<Item>,
    ) -> Result<(), UpdateError> {
        let node = self.reader.nodes().get(&item.cid).await?;
        let file = file_of(&item, &node)?;
        if item.depth == 0 {
            let parts = file.parts.iter().map(|part| part.tsize);
            let own = node.block_bytes as u64;
            item.tsize = parts.fold(own, u64::saturating_add);
        }
        if self.covers(&item)
            && let Some(level) = self.as_it_is(&item, &node, file, sealing)
        {
            return sealing.reuse(item.piece(), level);
        }
        let inline_end = item.start + file.inline.len() as u64;
        let (from, to) = (self.from.max(item.start), self.to.min(inline_end));
        if from < to {
            let slice = (from - item.start) as usize..(to - item.start) as usize;
            sealing.bytes(Bytes::copy_from_slice(
                file.inline.get(slice).unwrap_or_default(),
            ))?;
        }
        if item.depth >= DAG_DEPTH_MAX {
            return Err(ReadError::malformed(&item.cid, Malformed::TooDeep).into());
        }
        let parts = self.parts(&item, file, inline_end);
        open.extend(parts.into_iter().rev());
        Ok(())
    }

    /// The parts of a node that are in the range.
    fn parts(&self, item: &Item, file: &File, inline_end: u64) -> Vec<Item> {
        let before = |part: &Part| item.start + part.end <= self.from;
        let first = file.parts.partition_point(before);
        let previous = first.checked_sub(1).and_then(|i| file.parts.get(i));
        let mut start = previous.map_or(inline_end, |part| item.start + part.end);
        let mut parts = Vec::new();
        for part in file.parts.iter().skip(first) {
            if start >= self.to {
                break;
            }
            let end = item.start + part.end;
            if start < end {
                parts.push(Item {
                    cid: part.cid,
                    start,
                    end,
                    tsize: part.tsize,
                    depth: item.depth + 1,
                });
            }
            start = end;
        }
        parts
    }

    /// The level at which a node that was read stays as it is, if it does.
    fn as_it_is(
        &self,
        item: &Item,
        node: &Node,
        file: &File,
        sealing: &Sealing<'_>,
    ) -> Option<usize> {
        let (grid, at) = (sealing.grid(), sealing.at());
        let carried = Metadata {
            mode: node.mode,
            mtime: node.mtime,
        };
        let wanted = if item.len() == sealing.total() {
            *sealing.meta()
        } else {
            Metadata::default()
        };
        if carried != wanted {
            return None;
        }
        if file.parts.is_empty() {
            let stays = self.leaf(item, sealing) == Step::Reuse(0);
            return stays.then_some(0);
        }
        if item.len() == sealing.total() && item.depth == 0 {
            return Some(grid.level_for(item.len()));
        }
        let level = full_level(grid, file)?;
        at.is_multiple_of(item.len()).then_some(level)
    }
}

/// The level of a node whose parts are full trees, and as many as may be.
fn full_level(grid: Grid, file: &File) -> Option<usize> {
    let first = file.parts.first()?.end;
    let even = |(i, end): (u64, u64)| first.checked_mul(i + 1) == Some(end);
    let ends = file.parts.iter().map(|part| part.end);
    let full = file.inline.is_empty()
        && file.parts.len() as u64 == grid.links()
        && (0..).zip(ends).all(even);
    full.then(|| grid.level_of(first)).flatten().map(|l| l + 1)
}

fn file_of<'a>(item: &Item, node: &'a Arc<Node>) -> Result<&'a File, ReadError> {
    let Body::File(file) = &node.body else {
        let why = Malformed::Kind("a file's part is no file");
        return Err(ReadError::malformed(&item.cid, why));
    };
    if file.size != item.len() {
        let why = Malformed::ChildSize {
            declared: item.len(),
            found: file.size,
        };
        return Err(ReadError::malformed(&item.cid, why));
    }
    Ok(file)
}

impl Item {
    fn len(&self) -> u64 {
        self.end - self.start
    }

    fn piece(&self) -> Piece {
        Piece {
            cid: self.cid,
            size: self.len(),
            tsize: self.tsize,
        }
    }
}
