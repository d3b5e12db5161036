//! A file's bytes: read, written, cut, punched, shared.

use std::sync::Arc;

use bytes::Bytes;

use super::elsewhere::{is_elsewhere, note_elsewhere};
use crate::block::{Block, Cid, DAG_PB, RAW};
use crate::cache::Tier;
use crate::config::{
    COPY_RANGES_MAX, INLINE_BYTES_MAX, JOURNAL_APPEND_BYTES_MAX, PLAN_ROUNDS_MAX, SHARED_BYTES_MAX,
    SHARED_RANGES_MAX,
};
use crate::disk::is_full;
use crate::journal::Class;
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::changes::class;
use crate::tree::mfs::changes::op::{Logged, Op, Stamp, range_bytes};
use crate::tree::mfs::nodes::extents;
use crate::tree::mfs::nodes::extents::{Data, Extent};
use crate::tree::mfs::nodes::node::{Body, Content, Inode};
use crate::tree::mfs::nodes::small_cid::SmallCid;
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::perform::Plan;
use crate::tree::mfs::types::{Allocate, Caller, CopySource, NodeId, NodeKind, Seek, Time};
use crate::unixfs::data::Kind;
use crate::unixfs::file_update::{FileForm, prove_leaf, way_to_leaf};
use crate::unixfs::layout::{Metadata, leaf_node};
use crate::unixfs::{MetaKind, UpdateError};

/// A part of a read that comes from immutable content.
struct Wanted {
    cid: SmallCid,
    offset: u64,
    at: usize,
    len: usize,
}

/// What else is said of a write than where its bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// It was acknowledged at a time before.
    Time(Time),
    /// It is an append: only the end of the file will do.
    End,
}

impl Mfs {
    /// Reads bytes; fewer than `out` only at the end of the file.
    pub async fn read(
        &self,
        node: NodeId,
        offset: u64,
        out: &mut [u8],
    ) -> Result<usize, TreeError> {
        let mut wanted = Vec::new();
        let len = {
            let state = self.state.lock();
            let content = content(state.node(node)?)?;
            let size = content.size();
            let len = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
            let len = len.min(out.len());
            fill_near(
                content,
                offset,
                out.get_mut(..len).unwrap_or_default(),
                &mut wanted,
            );
            len
        };
        for want in wanted {
            let place = out.get_mut(want.at..want.at + want.len).unwrap_or_default();
            let cid = want.cid.get();
            let got = self.reader.read(&cid, want.offset, place).await?;
            if got < want.len {
                let why = format!("{cid} ends before byte {}", want.offset + want.len as u64);
                return Err(TreeError::Unavailable(why));
            }
        }
        Ok(len)
    }

    /// Writes all of `data`; acknowledged means that it survives a kill of this process.
    pub async fn write(
        &self,
        caller: Caller,
        node: NodeId,
        offset: u64,
        data: &[u8],
        kill_privileges: bool,
    ) -> Result<usize, TreeError> {
        let place = (node, offset);
        if data.is_empty() || self.write_ahead(caller, place, data, kill_privileges) {
            return Ok(data.len());
        }
        self.write_through(caller, place, data, kill_privileges, None)
            .await
    }

    /// Writes all of `data` at the end of the file, wherever that is by now; gives
    /// where. `believed` is where the caller takes it to be.
    pub async fn append(
        &self,
        caller: Caller,
        node: NodeId,
        believed: u64,
        data: &[u8],
        kill_privileges: bool,
    ) -> Result<u64, TreeError> {
        let mut place = (node, believed);
        // A stream goes on at the end and nowhere else.
        if data.is_empty() || self.write_ahead(caller, place, data, kill_privileges) {
            return Ok(believed);
        }
        for _ in 0..PLAN_ROUNDS_MAX {
            let here = Some(At::End);
            match self
                .write_pieces(caller, place, data, kill_privileges, here)
                .await?
            {
                None => return Ok(place.1),
                Some(end) => place.1 = end,
            }
        }
        Err(TreeError::Busy("the file grows faster than it is written"))
    }

    /// Writes all of `data`, at a time that was or now, to packs and the journal.
    pub(in crate::tree::mfs) async fn write_through(
        &self,
        caller: Caller,
        place: (NodeId, u64),
        data: &[u8],
        kill_privileges: bool,
        at: Option<Time>,
    ) -> Result<usize, TreeError> {
        self.write_pieces(caller, place, data, kill_privileges, at.map(At::Time))
            .await?;
        Ok(data.len())
    }

    /// Writes all of `data` and gives `None`, or where the end of the file is, if
    /// it was to go there and `offset` is elsewhere.
    async fn write_pieces(
        &self,
        caller: Caller,
        (node, offset): (NodeId, u64),
        data: &[u8],
        kill_privileges: bool,
        at: Option<At>,
    ) -> Result<Option<u64>, TreeError> {
        let end = self.end_of(offset, data.len() as u64)?;
        self.check_room(Class::Normal)?;
        self.wait_for_checkpoint().await;
        if self.state.lock().unsealed_bytes > self.unsealed_max() {
            self.relieve().await?;
            self.may_hold_more(node, data.len() as u64)?;
        }
        self.keep_cut_leaves(node, &[offset, end]).await?;
        // No collection begins between a chunk's way into a pack and the change
        // that names it.
        let whole = data.len() as u64 >= self.options.chunk_bytes();
        let _adding = whole.then(|| self.blocks.own_sink());
        let needed = || data.len() as u64 + self.blocks.room().lacking();
        let pieces = self.in_place_of_history(needed, || self.pieces(offset, data))?;
        let mut moved = None;
        let plan = |state: &mut State, time: Time| {
            let inode = state.node(node)?;
            let size = content(inode)?.size();
            if at == Some(At::End) && size != offset {
                moved = Some(size);
                return Ok(Plan::nothing(()));
            }
            let time = if let Some(At::Time(at)) = at {
                at
            } else {
                time
            };
            let stamp = stamp(inode, time, kill_privileges);
            let path = state.way(node, None);
            let logged = |piece: &Piece| piece.logged(node, stamp, path.clone());
            Ok(Plan {
                logged: pieces.iter().map(logged).collect(),
                told: (),
            })
        };
        let chunk = self.options.chunk_bytes();
        let done = |state: &mut State, ()| {
            let changed = state.node(node).map_or(0, |inode| inode.content_changed());
            let full = [offset, end - 1].map(|at| whole_chunk(state, node, at, chunk));
            (full, changed)
        };
        let (full, changed) = self.change(caller.origin, plan, done).await?;
        if moved.is_some() {
            return Ok(moved);
        }
        if data.len() as u64 == chunk && offset.is_multiple_of(chunk) {
            self.state.lane.ran(node, offset, chunk, changed);
        }
        for (start, bytes) in full.into_iter().flatten() {
            if let Err(error) = self.seal_chunk(node, start, bytes) {
                // The journal has its bytes: it is sealed with the next checkpoint.
                tracing::warn!(%error, "a whole chunk stays in memory");
            }
        }
        Ok(None)
    }

    pub(in crate::tree::mfs) fn end_of(&self, offset: u64, len: u64) -> Result<u64, TreeError> {
        let end = offset.checked_add(len);
        end.filter(|end| *end <= self.options.file_bytes_max)
            .ok_or(TreeError::TooLarge)
    }

    /// Cuts what is written into whole chunks, which go to packs now, and the
    /// rest, which goes into the journal.
    fn pieces(&self, offset: u64, data: &[u8]) -> Result<Vec<Piece>, TreeError> {
        let chunk = self.options.chunk_bytes();
        let mut pieces = Vec::new();
        let (mut at, mut rest) = (offset, data);
        let mut packed = false;
        while !rest.is_empty() {
            let room = (chunk - at % chunk).min(rest.len() as u64) as usize;
            if room as u64 == chunk {
                let (whole, more) = rest.split_at(room);
                let mut copy = self.state.lane.pool.take(room);
                copy.copy_from_slice(whole);
                let cid = self.put_chunk(copy.freeze())?;
                packed = true;
                match pieces.last_mut() {
                    Some(Piece::Blocks(_, blocks)) => blocks.push((cid, room as u32)),
                    _ => pieces.push(Piece::Blocks(at, vec![(cid, room as u32)])),
                }
                (at, rest) = (at + chunk, more);
            } else {
                let (part, more) = rest.split_at(room.min(INLINE_BYTES_MAX));
                pieces.push(Piece::Inline(at, Bytes::copy_from_slice(part)));
                (at, rest) = (at + part.len() as u64, more);
            }
        }
        if packed {
            // Data before the record that refers to it, also if this process is killed.
            self.blocks.flush().map_err(store_failed)?;
        }
        Ok(pieces)
    }

    /// Makes a chunk an own block.
    fn put_chunk(&self, bytes: Bytes) -> Result<Cid, TreeError> {
        let block = leaf_block(&self.options.file_form(), bytes);
        let block = block.map_err(|error| TreeError::Failed(error.to_string()))?;
        let cid = *block.cid();
        self.blocks.put(block, Tier::Own).map_err(store_failed)?;
        Ok(cid)
    }

    /// Seals a chunk that small writes have filled; the journal has its bytes.
    fn seal_chunk(&self, node: NodeId, start: u64, bytes: Arc<Vec<u8>>) -> Result<(), TreeError> {
        let _adding = self.blocks.own_sink();
        let cid = self.put_chunk(Bytes::from_owner(Shared(Arc::clone(&bytes))))?;
        self.sealed.note();
        let mut state = self.state.lock();
        let Some(inode) = state.nodes.get_mut(&node) else {
            return Ok(());
        };
        if let Body::File(Content::Ranges(ranges)) = &mut inode.body {
            let extents = &mut ranges.extents;
            let before = extents.unsealed_bytes();
            extents.sealed(start, &bytes, (&cid).into());
            let after = extents.unsealed_bytes();
            state.unsealed_bytes = state.unsealed_bytes + after - before;
        }
        Ok(())
    }

    /// Sees that leaves that are cut at these offsets are here and whole: what
    /// stays of them must be had when the file is sealed. Who cuts one that
    /// cannot be had is refused before anything is journaled.
    pub(in crate::tree::mfs) async fn keep_cut_leaves(
        &self,
        node: NodeId,
        cuts: &[u64],
    ) -> Result<(), TreeError> {
        for cut in cuts {
            let shared = {
                let state = self.state.lock();
                shared_at(content(state.node(node)?)?, *cut)
            };
            if let Some((cid, offset)) = shared {
                self.keep_cut_leaf(&cid, offset).await?;
            }
        }
        Ok(())
    }

    /// Sees that the leaf that ends beyond `offset`, and begins before it, is
    /// here, and the nodes on the way to it.
    pub(in crate::tree::mfs) async fn keep_cut_leaf(
        &self,
        cid: &Cid,
        offset: u64,
    ) -> Result<(), TreeError> {
        let (mut way, leaf) = way_to_leaf(&self.reader, cid, offset).await?;
        if leaf.start != offset {
            prove_leaf(&self.reader, &leaf).await?;
            way.push(leaf.cid);
        }
        way.retain(|cid| !self.blocks.has_own(cid));
        // What is here somebody else may have appended, and not synced.
        self.blocks.rest_on_appended();
        for cid in &way {
            let block = self.reader.block(cid).await?;
            // A file can be cut though the disk is full.
            self.blocks.put_reserved(block).map_err(store_failed)?;
        }
        if !way.is_empty() {
            // Before the entry that rests on it, also if this process is killed; and
            // the sync of that entry covers only what was appended.
            self.blocks.flush_reserved().map_err(store_failed)?;
        }
        Ok(())
    }

    /// Makes sure that a file can get a length.
    pub(in crate::tree::mfs) async fn prepare_resize(
        &self,
        node: NodeId,
        size: u64,
    ) -> Result<(), TreeError> {
        self.end_of(0, size)?;
        self.keep_cut_leaves(node, &[size]).await
    }

    /// Reserves, punches or zeroes a range.
    pub async fn allocate(
        &self,
        caller: Caller,
        node: NodeId,
        what: Allocate,
        offset: u64,
        len: u64,
    ) -> Result<(), TreeError> {
        if len == 0 {
            return Err(TreeError::Invalid("empty range"));
        }
        let end = self.end_of(offset, len)?;
        let frees = {
            let state = self.state.lock();
            let content = content(state.node(node)?)?;
            class::frees(content, what, (offset, end), self.options.chunk_bytes())
        };
        if !frees {
            self.check_room(Class::Normal)?;
            self.check_allocatable(node, offset, end)?;
        }
        if !matches!(what, Allocate::Reserve { .. }) {
            self.keep_cut_leaves(node, &[offset, end]).await?;
        }
        let plan = |state: &mut State, time: Time| {
            let inode = state.node(node)?;
            content(inode)?;
            // The kernel does not say whether the caller may keep privileges: root may.
            let stamp = stamp(inode, time, caller.uid != 0);
            let op = Op::Allocate {
                node,
                what,
                offset,
                len,
                stamp,
            };
            Ok(Plan::of(state.way(node, None), op, ()))
        };
        self.change(caller.origin, plan, |_, ()| ()).await
    }

    /// Finds data or a hole; `NoSuchPosition` behind the last data or the end.
    pub async fn seek(&self, node: NodeId, offset: u64, what: Seek) -> Result<u64, TreeError> {
        let state = self.state.lock();
        content(state.node(node)?)?.seek(offset, what)
    }

    /// Shares blocks instead of copying; gives how many bytes, fewer at the end
    /// of the source.
    pub async fn copy_range(
        &self,
        caller: Caller,
        from: CopySource,
        from_offset: u64,
        to: NodeId,
        to_offset: u64,
        len: u64,
    ) -> Result<u64, TreeError> {
        let mut ranges = self.ranges_of(from, from_offset, len).await?;
        cut_to_an_append(&mut ranges);
        let len: u64 = ranges.iter().map(|range| range.len).sum();
        if len == 0 {
            return Ok(0);
        }
        let end = self.end_of(to_offset, len)?;
        self.check_room(Class::Normal)?;
        self.keep_cut_leaves(to, &[to_offset, end]).await?;
        let shared = |range: &Extent| match &range.data {
            Data::Shared { cid, .. } => Some(cid.get()),
            Data::Hole | Data::Bytes(_) => None,
        };
        let _held = self
            .hold_content(ranges.iter().filter_map(shared).collect())
            .await?;
        self.keep_cut_ends(&ranges).await?;
        self.sealed.sync(&self.blocks)?;
        let plan = |state: &mut State, time: Time| {
            let inode = state.node(to)?;
            content(inode)?;
            // As in `allocate`: root may keep privileges.
            let stamp = stamp(inode, time, caller.uid != 0);
            let path = state.way(to, None);
            let mut logged = Vec::new();
            if Self::is_from_elsewhere(state, from)
                && let Some(op) = note_elsewhere(to, Some(inode), time)
            {
                let (path, to) = (path.clone(), Vec::new());
                logged.push(Logged { path, to, op });
            }
            let mut at = to_offset;
            for ranges in framed(&ranges) {
                let covered: u64 = ranges.iter().map(|range| range.len).sum();
                let op = Op::Share {
                    node: to,
                    offset: at,
                    stamp,
                    ranges,
                };
                logged.push(Logged {
                    path: path.clone(),
                    to: Vec::new(),
                    op,
                });
                at += covered;
            }
            Ok(Plan { logged, told: () })
        };
        self.change(caller.origin, plan, |_, ()| ()).await?;
        Ok(len)
    }

    /// Sees that leaves of the source that its range cuts are here.
    async fn keep_cut_ends(&self, ranges: &[Extent]) -> Result<(), TreeError> {
        let ends = ranges.first().map(|first| (first, 0)).into_iter();
        for (range, at) in ends.chain(ranges.last().map(|last| (last, last.len))) {
            if let Data::Shared { cid, offset } = &range.data
                && offset + at > 0
            {
                self.keep_cut_leaf(&cid.get(), offset + at).await?;
            }
        }
        Ok(())
    }

    /// Whether what is shared may not be here.
    fn is_from_elsewhere(state: &State, from: CopySource) -> bool {
        match from {
            CopySource::Node(node) => {
                let inode = state.nodes.get(&node);
                inode.is_none_or(|inode| is_elsewhere(node, inode))
            }
            // That its root is an own block says nothing of what is below.
            CopySource::Content(_) => true,
        }
    }

    async fn ranges_of(
        &self,
        from: CopySource,
        offset: u64,
        len: u64,
    ) -> Result<Vec<Extent>, TreeError> {
        match from {
            CopySource::Node(node) => {
                let state = self.state.lock();
                let ranges = content(state.node(node)?)?.ranges();
                let end = offset.saturating_add(len);
                // Who copies goes on where this ends.
                Ok(ranges.slice(offset, end, COPY_RANGES_MAX))
            }
            CopySource::Content(cid) => {
                let meta = self.reader.meta(&cid).await?;
                if meta.kind != MetaKind::File {
                    return Err(TreeError::IsADirectory);
                }
                let size = meta.size;
                let len = size.saturating_sub(offset).min(len);
                let data = Data::Shared {
                    cid: (&cid).into(),
                    offset,
                };
                Ok(if len > 0 {
                    vec![Extent { len, data }]
                } else {
                    Vec::new()
                })
            }
        }
    }
}

/// Makes a chunk a block of its own.
pub(in crate::tree::mfs) fn leaf_block(
    form: &FileForm,
    bytes: Bytes,
) -> Result<Block, UpdateError> {
    if form.raw_leaves {
        return Ok(Block::seal(RAW, form.hash, bytes)?);
    }
    form.block(DAG_PB, leaf_node(Kind::File, &bytes, &Metadata::default()))
}

/// A part of a write.
enum Piece {
    Inline(u64, Bytes),
    Blocks(u64, Vec<(Cid, u32)>),
}

impl Piece {
    /// The change that it is.
    fn logged(&self, node: NodeId, stamp: Stamp, path: Vec<u8>) -> Logged {
        let op = match self {
            Self::Inline(at, bytes) => Op::Write {
                node,
                offset: *at,
                stamp,
                bytes: bytes.clone(),
            },
            Self::Blocks(at, blocks) => Op::WriteBlocks {
                node,
                offset: *at,
                stamp,
                blocks: blocks.clone(),
            },
        };
        Logged {
            path,
            to: Vec::new(),
            op,
        }
    }
}

/// Lets a block share the memory of a chunk.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Shortens ranges to what one append of the journal takes: who copies is told
/// how much it was, and goes on.
fn cut_to_an_append(ranges: &mut Vec<Extent>) {
    let mut bytes = 0;
    let fits = |range: &Extent| {
        bytes += range_bytes(range);
        bytes <= JOURNAL_APPEND_BYTES_MAX / 2
    };
    let count = ranges.iter().map(fits).take_while(|fits| *fits).count();
    ranges.truncate(count.max(1));
}

/// Cuts ranges into groups that fit into an entry each, with all that it says of them.
pub(in crate::tree::mfs) fn framed(ranges: &[Extent]) -> Vec<Vec<Extent>> {
    let mut groups: Vec<Vec<Extent>> = Vec::new();
    let mut bytes = 0;
    for range in ranges.iter().flat_map(in_parts) {
        let more = range_bytes(&range);
        match groups.last_mut() {
            Some(group) if group.len() < SHARED_RANGES_MAX && bytes + more <= SHARED_BYTES_MAX => {
                group.push(range);
                bytes += more;
            }
            Some(_) | None => {
                groups.push(vec![range]);
                bytes = more;
            }
        }
    }
    groups
}

/// A range; of bytes over what an entry holds the parts.
fn in_parts(range: &Extent) -> Vec<Extent> {
    if !matches!(range.data, Data::Bytes(_)) {
        return vec![range.clone()];
    }
    let most = INLINE_BYTES_MAX as u64;
    let starts = (0..range.len).step_by(INLINE_BYTES_MAX);
    let part = |at: u64| {
        let len = most.min(range.len - at);
        let data = extents::part(&range.data, at, len);
        Extent { len, data }
    };
    starts.map(part).collect()
}

/// A file's content; directories and the rest are refused.
pub(in crate::tree::mfs) fn content(inode: &Inode) -> Result<&Content, TreeError> {
    match &inode.body {
        Body::File(content) => Ok(content),
        Body::Directory(_) => Err(TreeError::IsADirectory),
        Body::Symlink(_) | Body::Special => Err(TreeError::Invalid("not a regular file")),
    }
}

/// The time of a change, and the mode where privileges are cleared.
pub(in crate::tree::mfs) fn stamp(inode: &Inode, time: Time, kill_privileges: bool) -> Stamp {
    let killed = without_privileges(inode.mode);
    let mode =
        (kill_privileges && inode.kind == NodeKind::File && killed != inode.mode).then_some(killed);
    Stamp { time, mode }
}

/// A mode without setuid, and without setgid where the group may execute.
pub(in crate::tree::mfs) fn without_privileges(mode: u32) -> u32 {
    let setgid = if mode & 0o010 != 0 { 0o2000 } else { 0 };
    mode & !(0o4000 | setgid)
}

/// Fills in what is in memory, and lists what is in blocks.
fn fill_near(content: &Content, offset: u64, out: &mut [u8], wanted: &mut Vec<Wanted>) {
    if let Content::Whole(whole) = content {
        if !out.is_empty() {
            wanted.push(Wanted {
                cid: whole.cid(),
                offset,
                at: 0,
                len: out.len(),
            });
        }
        return;
    }
    let ranges = content.ranges();
    ranges.each(
        offset,
        offset + out.len() as u64,
        |start, len, data, from| {
            let (at, len) = ((start - offset) as usize, len as usize);
            let place = out.get_mut(at..at + len).unwrap_or_default();
            match data {
                Data::Hole => place.fill(0),
                Data::Bytes(bytes) => {
                    let from = from as usize;
                    place.copy_from_slice(bytes.get(from..from + len).unwrap_or_default());
                }
                Data::Shared { cid, offset } => {
                    wanted.push(Wanted {
                        cid: cid.clone(),
                        offset: offset + from,
                        at,
                        len,
                    });
                }
            }
        },
    );
}

/// Which content a cut at `at` goes through, and where in it. What is put
/// behind the end cuts there too: a short last leaf is filled up.
pub(in crate::tree::mfs) fn shared_at(content: &Content, at: u64) -> Option<(Cid, u64)> {
    let size = content.size();
    if at == 0 || size == 0 {
        return None;
    }
    if at >= size {
        return match content {
            Content::Whole(whole) => Some((whole.cid().get(), size)),
            Content::Ranges(ranges) => {
                let (start, extent) = ranges.extents.at(size - 1)?;
                match &extent.data {
                    Data::Shared { cid, offset } => Some((cid.get(), offset + (size - start))),
                    Data::Hole | Data::Bytes(_) => None,
                }
            }
        };
    }
    match content {
        Content::Whole(whole) => Some((whole.cid().get(), at)),
        Content::Ranges(ranges) => {
            let (start, extent) = ranges.extents.at(at)?;
            match &extent.data {
                Data::Shared { cid, offset } if start < at => {
                    Some((cid.get(), offset + (at - start)))
                }
                Data::Shared { .. } | Data::Hole | Data::Bytes(_) => None,
            }
        }
    }
}

fn whole_chunk(state: &State, node: NodeId, at: u64, chunk: u64) -> Option<(u64, Arc<Vec<u8>>)> {
    match &state.nodes.get(&node)?.body {
        Body::File(Content::Ranges(ranges)) => ranges.extents.whole_chunk(at, chunk),
        Body::File(Content::Whole(_)) | Body::Directory(_) | Body::Symlink(_) | Body::Special => {
            None
        }
    }
}

/// A failure of the block store as those who write see it.
pub(in crate::tree::mfs) fn store_failed(error: crate::cache::CacheError) -> TreeError {
    let no_room = matches!(
        &error,
        crate::cache::CacheError::Io(io) if is_full(io)
    );
    if no_room {
        return TreeError::NoSpace(error.to_string());
    }
    TreeError::Failed(error.to_string())
}
