//! Garbage collection: keeps what is pinned and drops the other own blocks.
//!
//! Marks from the pins and the roots given, then rewrites each own pack that
//! has dead blocks: its live ones go to a new pack, that is synced, the index
//! is moved, and only then is the old file removed. A crash at any point
//! leaves every live block in at least one pack. Who adds (an
//! [`OwnSink`](super::OwnSink)) is waited for; what is put meanwhile is live.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;

use super::blocks::{Blocks, Store, short};
use super::error::CacheError;
use super::packs::{Pack, Tier, sections};
use super::pins::PinMode;
use crate::block::{Block, Cid};
use crate::config::{GC_WAIT, SINK_BATCH_BYTES};

/// How far a collection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GcProgress {
    /// Blocks found live so far.
    Marked(u64),
    /// Packs gone through, of how many.
    Swept(u64, u64),
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Own blocks that stay.
    pub kept_blocks: u64,
    /// Blocks that are gone.
    pub freed_blocks: u64,
    /// Bytes that their packs are smaller by.
    pub freed_bytes: u64,
    /// Live blocks that are not here, at most a hundred named in the log.
    pub missing_blocks: u64,
}

/// Gives the links of a block.
pub type Links<'a> = &'a dyn Fn(&Block) -> Result<Vec<Cid>, String>;

impl Blocks {
    /// Drops own blocks that neither a pin nor `extra_roots` lead to.
    ///
    /// A live block whose links cannot be read ends it with an error before
    /// anything is dropped. Blocks that are not here are passed over.
    pub fn gc(
        &self,
        links: Links<'_>,
        extra_roots: &[Cid],
        progress: &dyn Fn(GcProgress),
    ) -> Result<GcReport, CacheError> {
        let Some(store) = &self.store else {
            return Ok(GcReport::default());
        };
        self.wait_for_index(store)?;
        {
            // Alone for a moment: every writer after this is seen by `fresh`.
            let busy = || std::io::Error::other("something is being added; try again after it");
            let _alone = self.writing.try_write_for(GC_WAIT).ok_or_else(busy)?;
            *self.fresh.lock() = Some(HashSet::new());
            store.packs.roll_over();
        }
        let outcome = self.mark_and_sweep(store, links, extra_roots, progress);
        *self.fresh.lock() = None;
        outcome
    }

    fn mark_and_sweep(
        &self,
        store: &Store,
        links: Links<'_>,
        extra_roots: &[Cid],
        progress: &dyn Fn(GcProgress),
    ) -> Result<GcReport, CacheError> {
        let old: Vec<_> = store
            .packs
            .all()
            .into_iter()
            .filter(|p| p.id.tier() == Tier::Own)
            .collect();
        let mut report = GcReport::default();
        let live = self.mark(links, extra_roots, progress, &mut report)?;
        for (done, pack) in old.iter().enumerate() {
            self.sweep(store, pack, &live, &mut report)?;
            progress(GcProgress::Swept(done as u64 + 1, old.len() as u64));
        }
        Ok(report)
    }

    fn mark(
        &self,
        links: Links<'_>,
        extra_roots: &[Cid],
        progress: &dyn Fn(GcProgress),
        report: &mut GcReport,
    ) -> Result<HashSet<u128>, CacheError> {
        let mut live = HashSet::new();
        let mut open: Vec<Cid> = extra_roots.to_vec();
        for pin in self.pins.list() {
            match pin.mode {
                PinMode::Recursive => open.push(pin.cid),
                PinMode::Direct => {
                    live.insert(short(pin.cid.hash()));
                }
            }
        }
        let mut walked = HashSet::new();
        while let Some(cid) = open.pop() {
            if !walked.insert(short(cid.hash())) {
                continue;
            }
            live.insert(short(cid.hash()));
            if live.len() % 1000 == 0 {
                progress(GcProgress::Marked(live.len() as u64));
            }
            // A leaf has no links: its bytes are not read.
            if cid.codec() == crate::block::RAW {
                continue;
            }
            match self.get_local(&cid)? {
                Some(block) => open.extend(links(&block).map_err(|why| {
                    std::io::Error::other(format!("{cid} is pinned and cannot be read: {why}"))
                })?),
                None => {
                    report.missing_blocks += 1;
                    if report.missing_blocks <= 100 {
                        tracing::warn!(%cid, "pinned, and not here");
                    }
                }
            }
        }
        Ok(live)
    }

    fn sweep(
        &self,
        store: &Store,
        pack: &Arc<Pack>,
        live: &HashSet<u128>,
        report: &mut GcReport,
    ) -> Result<(), CacheError> {
        let is_live = |key: u128| {
            live.contains(&key) || self.fresh.lock().as_ref().is_none_or(|f| f.contains(&key))
        };
        let (mut kept, mut dead) = (Vec::new(), Vec::new());
        let (_, torn) = sections(pack, &mut |head| {
            // A copy that the index does not know is not needed.
            let known = store.index.get(head.cid.hash());
            let here = known
                .is_some_and(|l| l.pack == pack.id && u64::from(l.offset) == head.data_offset());
            if here && is_live(short(head.cid.hash())) {
                kept.push(head.cid);
            } else {
                dead.push((head.cid, here));
            }
            Ok(())
        })?;
        report.kept_blocks += kept.len() as u64;
        if dead.is_empty() || torn.is_some() {
            // A damaged pack is evidence: it stays for `verify` to explain.
            return Ok(());
        }
        let before = pack.len();
        let moved = self.move_blocks(store, &kept)?;
        for (cid, here) in &dead {
            // Put again a moment ago: it is live, and its entry leads elsewhere.
            if *here && !is_live(short(cid.hash())) {
                store.index.remove(cid.hash());
                self.memory.remove(cid.hash());
                report.freed_blocks += 1;
            }
        }
        store.packs.remove(pack.id)?;
        report.freed_bytes += before.saturating_sub(moved);
        Ok(())
    }

    /// Copies live blocks to new packs and points the index at them.
    fn move_blocks(&self, store: &Store, kept: &[Cid]) -> Result<u64, CacheError> {
        let (mut moved, mut batch, mut bytes) = (0, Vec::new(), 0);
        let write = |batch: &mut Vec<Block>| -> Result<(), CacheError> {
            let locations = store.packs.append(Tier::Own, batch)?;
            // Durable before the index leads there and the old copy goes.
            store.packs.sync()?;
            let keys = batch.drain(..).map(|b| *b.cid().hash());
            Ok(store.index.put(&keys.zip(locations).collect::<Vec<_>>())?)
        };
        for cid in kept {
            // Damage found here is isolated as on any read.
            let Some(block) = self.get_local(cid)? else {
                continue;
            };
            moved += block.data().len() as u64;
            bytes += block.data().len();
            batch.push(block);
            if bytes >= SINK_BATCH_BYTES {
                write(&mut batch)?;
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            write(&mut batch)?;
        }
        Ok(moved)
    }
}
