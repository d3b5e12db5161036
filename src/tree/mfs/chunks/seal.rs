//! Unsealed content becomes blocks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::block::{Block, BlockSink, Cid};
use crate::cache::CacheError;
use crate::config::{CHECKPOINT_RETRY, RELIEF_FILES};
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::calls::content::store_failed;
use crate::tree::mfs::nodes::extents;
use crate::tree::mfs::nodes::extents::{Data, Extents};
use crate::tree::mfs::nodes::node::{Body, Content, Inode, Sealed, Whole};
use crate::tree::mfs::types::{NodeId, Time};
use crate::unixfs::UpdateError;
use crate::unixfs::file_update::{NewExtent, seal_file};
use crate::unixfs::layout::{Metadata, symlink_node};

/// Takes blocks that belong to the tree. What they seal was acknowledged before,
/// so a full disk has the reserve for them.
pub(in crate::tree::mfs) struct OwnBlocks<'a>(pub(in crate::tree::mfs) &'a crate::cache::Blocks);

impl BlockSink for OwnBlocks<'_> {
    fn put(&self, block: Block) -> std::io::Result<()> {
        self.0.put_reserved(block).map_err(|error| match &error {
            // The number says that the disk is full, and not that it failed.
            CacheError::Io(io) => match io.raw_os_error() {
                Some(number) => std::io::Error::from_raw_os_error(number),
                None => error.into(),
            },
            CacheError::NotFound { .. }
            | CacheError::Unavailable { .. }
            | CacheError::Timeout { .. }
            | CacheError::Refused(_) => error.into(),
        })
    }
}

/// Blocks that were sealed behind the journal's back, and may not survive a
/// power loss yet. Those of whole writes are looked for by recovery; these are
/// not, so they must be safe before an entry refers to them.
#[derive(Debug)]
pub(in crate::tree::mfs) struct Unsynced {
    /// Counts sealings.
    sealed: AtomicU64,
    /// How many of them are safe. Whoever asks waits for a sync that is under
    /// way: what it makes safe is not safe before it has ended.
    synced: Mutex<u64>,
}

impl Default for Unsynced {
    /// What was before is not known to be safe.
    fn default() -> Self {
        Self {
            sealed: AtomicU64::new(1),
            synced: Mutex::new(0),
        }
    }
}

impl Unsynced {
    /// Notes that blocks were put; a node or an entry may name them only then.
    pub(in crate::tree::mfs) fn note(&self) {
        self.sealed.fetch_add(1, Ordering::AcqRel);
    }

    /// Makes all that was noted survive a power loss.
    pub(in crate::tree::mfs) fn sync(
        &self,
        blocks: &crate::cache::Blocks,
    ) -> Result<(), TreeError> {
        let mut synced = self.synced.lock();
        let sealed = self.sealed.load(Ordering::Acquire);
        if *synced < sealed {
            sync_blocks(blocks)?;
            *synced = sealed;
        }
        Ok(())
    }
}

/// Bytes of a file that are in no block yet.
fn unsealed(inode: &Inode) -> u64 {
    match &inode.body {
        Body::File(content) => content.unsealed_bytes(),
        Body::Directory(_) | Body::Symlink { .. } | Body::Special => 0,
    }
}

impl Mfs {
    /// Makes blocks of a file's content.
    pub(in crate::tree::mfs) async fn seal_content(
        &self,
        content: &Content,
        meta: &Metadata,
    ) -> Result<Sealed, TreeError> {
        if let Some(sealed) = content.sealed()
            && meta.is_empty()
        {
            return Ok(sealed);
        }
        let extents = content.ranges();
        if meta.is_empty()
            && let Some(whole) = self.still_whole(&extents).await?
        {
            return Ok(whole);
        }
        let form = self.options.file_form();
        let sink = OwnBlocks(&self.blocks);
        let parts = parts(&extents);
        let piece = seal_file(&self.reader, parts, &form, meta, &sink).await?;
        Ok(Sealed {
            cid: (&piece.cid).into(),
            tsize: piece.tsize,
        })
    }

    /// The content that a file shares as a whole, in whatever layout it has.
    async fn still_whole(&self, extents: &Extents) -> Result<Option<Sealed>, TreeError> {
        let mut ranges = extents.iter();
        let (Some((_, only)), None) = (ranges.next(), ranges.next()) else {
            return Ok(None);
        };
        let Data::Shared { cid, offset: 0 } = &only.data else {
            return Ok(None);
        };
        let root = cid.get();
        if self.reader.meta(&root).await?.size != only.len {
            return Ok(None);
        }
        let tsize = self.reader.tsize(&root).await?;
        Ok(Some(Sealed {
            cid: cid.clone(),
            tsize,
        }))
    }

    /// Makes a symbolic link's block.
    pub(in crate::tree::mfs) fn seal_symlink(
        &self,
        target: &[u8],
        meta: &Metadata,
    ) -> Result<Sealed, TreeError> {
        let node = symlink_node(target, meta.mtime);
        let tsize = node.len() as u64;
        let form = self.options.file_form();
        let cid = form.store(crate::block::DAG_PB, node, &OwnBlocks(&self.blocks))?;
        Ok(Sealed {
            cid: (&cid).into(),
            tsize,
        })
    }

    /// Seals a file in place, unless it changes meanwhile.
    pub(in crate::tree::mfs) async fn seal_node(&self, node: NodeId) -> Result<(), TreeError> {
        let (content, changed, meta) = {
            let state = self.state.lock();
            let Ok(inode) = state.node(node) else {
                return Ok(());
            };
            let Body::File(content) = &inode.body else {
                return Ok(());
            };
            (
                content.clone(),
                inode.content_changed(),
                self.metadata(inode),
            )
        };
        if content.sealed().is_some() {
            return Ok(());
        }
        let _adding = self.blocks.own_sink();
        let sealed = self.seal_content(&content, &meta).await?;
        self.put_in_place(node, &sealed, |inode| inode.content_changed() == changed);
        Ok(())
    }

    /// Puts sealed content in its file's place if that is still as it was.
    fn put_in_place(
        &self,
        node: NodeId,
        sealed: &Sealed,
        is_as_it_was: impl FnOnce(&Inode) -> bool,
    ) -> bool {
        self.sealed.note();
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(inode) = state.nodes.get_mut(&node) else {
            return false;
        };
        let fits = is_as_it_was(inode);
        if fits {
            state.unsealed_bytes -= put_sealed(inode, sealed);
        }
        fits
    }

    /// Bytes that may wait for their chunks to fill: on a disk that is nearly
    /// full, as many as the reserve takes.
    pub(in crate::tree::mfs) fn unsealed_max(&self) -> u64 {
        match self.background.is_tight() {
            true => self
                .options
                .unsealed_bytes_max
                .min(self.blocks.reserve_bytes() / 2),
            false => self.options.unsealed_bytes_max,
        }
    }

    /// Seals a file with the attributes that it has now; gives its CID unless it
    /// changes meanwhile.
    pub(in crate::tree::mfs) async fn seal_as_it_is(
        &self,
        node: NodeId,
    ) -> Result<Option<Cid>, TreeError> {
        let changed = |inode: &Inode| (inode.content_changed(), inode.meta_changed());
        let (content, before, meta) = {
            let state = self.state.lock();
            let inode = state.node(node)?;
            let Body::File(content) = &inode.body else {
                return Ok(None);
            };
            (content.clone(), changed(inode), self.metadata(inode))
        };
        let _adding = self.blocks.own_sink();
        let sealed = self.seal_content(&content, &meta).await?;
        let fits = self.put_in_place(node, &sealed, |inode| changed(inode) == before);
        Ok(fits.then(|| sealed.cid.get()))
    }

    /// Seals the files with the most unsealed bytes until there is room again.
    /// One that cannot be sealed is passed over, and tried again after a while:
    /// it must not hold up the others.
    pub(in crate::tree::mfs) async fn relieve(&self) -> Result<(), TreeError> {
        // Who comes meanwhile waits for the same.
        let _one = self.relieving.lock().await;
        loop {
            let fullest = self.fullest();
            if fullest.is_empty() {
                return Ok(());
            }
            for node in fullest {
                if !self.holds_too_much() {
                    return Ok(());
                }
                self.seal_or_pass_over(node).await?;
            }
        }
    }

    async fn seal_or_pass_over(&self, node: NodeId) -> Result<(), TreeError> {
        let Err(error) = self.seal_node(node).await else {
            return Ok(());
        };
        if matches!(error, TreeError::NoSpace(_)) {
            return Err(error);
        }
        let path = self.state.lock().path(node, None);
        let path = path.escape_ascii();
        tracing::error!(%error, %path, "the file cannot be sealed: what is damaged must be written anew");
        let until = Instant::now() + CHECKPOINT_RETRY;
        self.unsealable.lock().insert(node, (until, error));
        Ok(())
    }

    /// Whether more waits to be sealed, and can be, than half of what may.
    fn holds_too_much(&self) -> bool {
        let mut stuck = self.unsealable.lock();
        stuck.retain(|_, (until, _)| Instant::now() < *until);
        let state = self.state.lock();
        let inodes = stuck.keys().filter_map(|node| state.nodes.get(node));
        let held_up: u64 = inodes.map(unsealed).sum();
        state.unsealed_bytes.saturating_sub(held_up) > self.unsealed_max() / 2
    }

    /// The files with the most unsealed bytes; none where there is room, or none
    /// that can be sealed.
    fn fullest(&self) -> Vec<NodeId> {
        if !self.holds_too_much() {
            return Vec::new();
        }
        let stuck = self.unsealable.lock();
        let state = self.state.lock();
        let others = state.dirty.iter().filter(|node| !stuck.contains_key(node));
        let weighed = |node: &NodeId| Some((unsealed(state.nodes.get(node)?), *node));
        let mut fullest: Vec<_> = others.filter_map(weighed).collect();
        fullest.retain(|(bytes, _)| *bytes > 0);
        fullest.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        fullest.truncate(RELIEF_FILES);
        fullest.into_iter().map(|(_, node)| node).collect()
    }

    /// Refuses to hold more of a file that cannot be sealed while there is no
    /// room. Whole chunks go to packs, and mend it.
    pub(in crate::tree::mfs) fn may_hold_more(
        &self,
        node: NodeId,
        bytes: u64,
    ) -> Result<(), TreeError> {
        let full = self.state.lock().unsealed_bytes > self.unsealed_max();
        match self.unsealable.lock().get(&node) {
            Some((_, error)) if full && bytes < self.options.chunk_bytes() => Err(error.clone()),
            Some(_) | None => Ok(()),
        }
    }

    /// What UnixFS nodes carry of a node's attributes.
    pub(in crate::tree::mfs) fn metadata(&self, inode: &Inode) -> Metadata {
        if !self.options.store_metadata {
            return Metadata::default();
        }
        let mtime = Time::from(inode.mtime);
        Metadata {
            mode: Some(inode.mode),
            mtime: Some(crate::unixfs::data::Mtime {
                seconds: mtime.sec,
                nanoseconds: mtime.nsec,
            }),
        }
    }
}

/// Notes that a file's content is sealed; gives how many bytes were not before.
pub(in crate::tree::mfs) fn put_sealed(inode: &mut Inode, sealed: &Sealed) -> u64 {
    let Body::File(content) = &mut inode.body else {
        return 0;
    };
    let before = content.unsealed_bytes();
    match content {
        Content::Whole(whole) => *whole = Whole::new(sealed.clone(), whole.size()),
        Content::Ranges(ranges) => {
            let extents = &mut ranges.extents;
            if extents.data_bytes() == extents.size() {
                let size = extents.size();
                *content = Content::Whole(Whole::new(sealed.clone(), size));
            } else {
                *extents = extents.all_sealed(&sealed.cid);
                ranges.sealed = Some(sealed.clone());
                ranges.before = None;
            }
        }
    }
    before
}

fn parts(extents: &Extents) -> Vec<NewExtent> {
    let part = |(_, extent): (u64, &extents::Extent)| match &extent.data {
        Data::Hole => NewExtent::Hole(extent.len),
        Data::Shared { cid, offset } => NewExtent::Shared {
            cid: cid.get(),
            offset: *offset,
            len: extent.len,
        },
        Data::Bytes(bytes) => NewExtent::Bytes(Bytes::copy_from_slice(bytes)),
    };
    extents.iter().map(part).collect()
}

impl From<UpdateError> for TreeError {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Read(error) => error.into(),
            UpdateError::Store(error) if crate::disk::is_full(&error) => {
                Self::NoSpace(error.to_string())
            }
            other @ (UpdateError::Block(_)
            | UpdateError::Store(_)
            | UpdateError::TooDeep(_)
            | UpdateError::Range { .. }
            | UpdateError::TooLarge) => Self::Failed(other.to_string()),
        }
    }
}

/// Makes own blocks survive a power loss.
pub(in crate::tree::mfs) fn sync_blocks(blocks: &crate::cache::Blocks) -> Result<(), TreeError> {
    blocks.sync_reserved().map_err(store_failed)
}
