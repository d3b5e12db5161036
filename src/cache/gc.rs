//! Garbage collection: keeps what is pinned and drops the other own blocks.
//!
//! Marks from the pins and the roots that it is told, then goes through the own packs.
//! The blocks worth keeping of a pack that has others are copied to a new pack;
//! that is synced and named, the index is moved, and only then is the old file
//! removed, so that a crash at any point leaves every live block in a pack. Where
//! the disk has no room for the copy, that is done part by part ([`slices`]).
//! What is put since the collection began is live; one that is put again while
//! its pack is swept is copied after all.
//!
//! Where something is damaged it would rather keep: a damaged block whose links
//! cannot be known ends the collection before anything is dropped, and a pack
//! in which a live block is damaged stays as it is.

mod slices;

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::blocks::Blocks;
use super::error::CacheError;
use super::index::{Change, Lookup};
use super::key::Key;
use super::options::{Spend, Tier};
use super::packs::{Cursor, Pack, Rewrite, is_full, name_of, read_section, scan};
use super::pins::PinMode;
use super::store::{Near, Store, location};
use crate::block::{Block, Cid, RAW};
use crate::car::SectionHead;
use crate::config::{APPEND_BATCH_BYTES, GC_WAIT, INDEX_WAIT, SWEEP_SLICE};
use crate::disk::DiskFile;

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
    /// Blocks that are gone, second copies among them.
    pub freed_blocks: u64,
    /// Bytes that their packs are smaller by.
    pub freed_bytes: u64,
    /// Live blocks that are not here; what is below them is unknown.
    pub missing_blocks: u64,
    /// Packs that stay as they are because a live block in them is damaged.
    pub damaged_packs: u64,
    /// Packs in which dead blocks stay because the disk has no room to copy even
    /// a part of what is live.
    pub full_packs: u64,
    /// Bytes that have to be free so that each of these can be begun with.
    pub full_needs_bytes: u64,
    /// Bytes that have to be free beside what was freed until the reserve for a
    /// full disk is whole and anything but removals can be written.
    pub reserve_lacks_bytes: u64,
}

/// Tells what stays beside the pins; asked when nothing is being added.
pub type Roots<'a> = &'a dyn Fn() -> io::Result<Vec<(Cid, PinMode)>>;
/// Gives the links of a block.
pub type Links<'a> = &'a dyn Fn(&Block) -> Result<Vec<Cid>, String>;

/// A collection under way.
struct Collecting<'a> {
    store: &'a Store,
    links: Links<'a>,
    progress: &'a dyn Fn(GcProgress),
    live: HashSet<u128>,
    followed: HashSet<u128>,
    report: GcReport,
}

/// Ends the notes of what is put, whatever way the collection ends.
struct Noting<'a>(&'a Store);

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        *self.0.fresh.lock() = None;
        *self.0.referred.lock() = None;
    }
}

impl Blocks {
    /// Drops own blocks that neither a pin nor `roots` lead to.
    ///
    /// Waits for those who add ([`OwnSink`](super::OwnSink)) and is an error if
    /// they take too long.
    pub fn gc(
        &self,
        links: Links<'_>,
        roots: Roots<'_>,
        progress: &dyn Fn(GcProgress),
    ) -> Result<GcReport, CacheError> {
        let Some(store) = self.store() else {
            return Ok(GcReport::default());
        };
        let _one = store.collecting.lock();
        if let Some(why) = self.pins().damage() {
            let why = format!("the pins are damaged, so nothing is collected: {why}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why).into());
        }
        if !store.index.wait(INDEX_WAIT) {
            return Err(opening().into());
        }
        let busy = || io::Error::new(io::ErrorKind::ResourceBusy, "blocks are being added");
        let alone = self.adding.try_write_for(GC_WAIT).ok_or_else(busy)?;
        *store.fresh.lock() = Some(HashSet::new());
        *store.referred.lock() = Some(Vec::new());
        let _noting = Noting(store);
        // A second copy is dropped: the one that stays must survive a power loss.
        store.sync(Spend::Last)?;
        let old = store.seal_own();
        // What is put from here on is noted, and what was put before is named.
        let roots = roots()?;
        drop(alone);
        let pins = self.pins().list().into_iter();
        let pins = pins.map(|pin| (pin.cid, pin.mode));
        let mut work = Collecting {
            store,
            links,
            progress,
            live: HashSet::new(),
            followed: HashSet::new(),
            report: GcReport::default(),
        };
        self.mark(&mut work, pins.chain(roots).collect())?;
        progress(GcProgress::Marked(work.live.len() as u64));
        let waiting = self.sweep_all(&mut work, &old, false)?;
        // What the others have left may be room enough.
        let waiting = match waiting.len() < old.len() {
            true => self.sweep_all(&mut work, &waiting, false)?,
            false => waiting,
        };
        self.sweep_all(&mut work, &waiting, true)?;
        work.report.reserve_lacks_bytes = store.packs.reserve.lacks()?;
        Ok(work.report)
    }

    /// Sweeps packs, each at once or `in_parts`; gives those that found no room for
    /// what they keep.
    fn sweep_all(
        &self,
        work: &mut Collecting<'_>,
        packs: &[Arc<Pack>],
        in_parts: bool,
    ) -> Result<Vec<Arc<Pack>>, CacheError> {
        let mut full = Vec::new();
        let busy = || io::Error::new(io::ErrorKind::ResourceBusy, "content is being referred to");
        for (pack, done) in packs.iter().zip(1..) {
            {
                // Who refers to content now waits for this pack, or was heard before it.
                let _alone = self.referring.try_write_for(GC_WAIT).ok_or_else(busy)?;
                let referred = work.store.referred.lock().as_mut().map(std::mem::take);
                let referred = referred.unwrap_or_default().into_iter();
                let referred = referred.map(|cid| (cid, PinMode::Recursive));
                self.mark(work, referred.collect())?;
                let (store, live) = (work.store, &work.live);
                let from = None;
                let sweep = Sweep {
                    store,
                    pack,
                    live,
                    from,
                };
                let swept = match in_parts {
                    true => sweep.run_in_parts(&mut work.report),
                    false => sweep.run(&mut work.report),
                };
                match swept {
                    Err(error) if is_full(&error) => full.push(Arc::clone(pack)),
                    other => other?,
                }
            }
            (work.progress)(GcProgress::Swept(done, packs.len() as u64));
        }
        Ok(full)
    }

    /// Finds the live blocks below some.
    fn mark(
        &self,
        work: &mut Collecting<'_>,
        mut open: Vec<(Cid, PinMode)>,
    ) -> Result<(), CacheError> {
        while let Some((cid, mode)) = open.pop() {
            let leads_on = mode != PinMode::Direct && cid.codec() != RAW;
            let block = match (Block::inline(&cid), Key::of(&cid)) {
                // Who names it has it, and it may be longer than any hash.
                (Some(inline), _) => inline.ok().filter(|_| leads_on),
                (None, Ok(key)) => self.for_links(work, &cid, &key, leads_on)?,
                // Longer than a digest can be: no block has such a CID.
                (None, Err(_)) => {
                    work.report.missing_blocks += 1;
                    None
                }
            };
            let Some(block) = block else { continue };
            let below = (work.links)(&block).map_err(|why| {
                let why = format!("{cid} is malformed, so nothing is collected: {why}");
                io::Error::new(io::ErrorKind::InvalidData, why)
            })?;
            open.extend(below.into_iter().map(|cid| (cid, PinMode::Recursive)));
        }
        Ok(())
    }

    /// Marks a block; gives it where its links are to be followed and it is here.
    fn for_links(
        &self,
        work: &mut Collecting<'_>,
        cid: &Cid,
        key: &Key,
        leads_on: bool,
    ) -> Result<Option<Block>, CacheError> {
        if work.live.insert(key.tail()) && work.live.len().is_multiple_of(1024) {
            (work.progress)(GcProgress::Marked(work.live.len() as u64));
        }
        // Under another codec the same bytes have other links.
        let codec = u128::from(cid.codec()) << 64;
        if !leads_on || !work.followed.insert(key.tail() ^ codec) {
            return Ok(None);
        }
        let lost = match self.near(cid, key) {
            Near::Found(data) => return Ok(Some(Block::proved(*cid, data))),
            Near::Damaged(Tier::Own, _) | Near::Failed(Tier::Own, _) => true,
            // Where own packs are damaged, it may be what was lost.
            Near::Damaged(Tier::Cache, _) | Near::Failed(Tier::Cache, _) | Near::Absent => work
                .store
                .packs
                .of(Tier::Own)
                .iter()
                .any(|pack| !pack.damage.lock().is_empty()),
        };
        if lost {
            let why = format!(
                "{cid} is damaged or lost, and what is below it cannot be known, so nothing is \
                 collected; fetch it from a source or remove its pin"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, why).into());
        }
        work.report.missing_blocks += 1;
        Ok(None)
    }
}

fn opening() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "the block index is not open")
}

/// The sweep of one pack.
struct Sweep<'a> {
    store: &'a Store,
    pack: &'a Arc<Pack>,
    live: &'a HashSet<u128>,
    /// Where it begins in the pack, unless it is all of it.
    from: Option<Cursor>,
}

impl Sweep<'_> {
    fn run(&self, report: &mut GcReport) -> io::Result<()> {
        let file = self.store.packs.file(self.pack.id)?;
        let (mut kept, mut dead, mut bytes) = (0_u64, 0_u64, 0_u64);
        let damaged = self.each(&*file, &mut |head, _| {
            if self.is_kept(head)? {
                kept += 1;
                bytes += head.head_len + head.data_len;
            } else {
                dead += 1;
            }
            Ok(())
        })?;
        if dead == 0 {
            report.kept_blocks += kept;
            return Ok(());
        }
        if damaged {
            // Between its sections may be what can still be saved.
            report.kept_blocks += kept + dead;
            report.damaged_packs += 1;
            return Ok(());
        }
        let copied = match self.copy(&*file, kept, bytes)? {
            Some(bytes) => bytes,
            None => {
                report.kept_blocks += kept + dead;
                report.damaged_packs += 1;
                return Ok(());
            }
        };
        let rescued = self.forget(&*file)?;
        if !self.store.index.is_ready() {
            return Err(opening());
        }
        self.give_back(&*file, None)?;
        report.kept_blocks += kept + rescued;
        report.freed_blocks += dead.saturating_sub(rescued);
        let len = self.pack.len.load(Ordering::Acquire);
        report.freed_bytes += len.saturating_sub(copied);
        Ok(())
    }

    /// Cuts the pack off there, or takes it away.
    fn give_back(&self, file: &dyn DiskFile, from: Option<Cursor>) -> io::Result<()> {
        match from {
            Some(from) => self.pack.cut(file, from)?,
            None => {
                self.store.packs.remove(self.pack.id)?;
                self.store.packs.sync_names(Tier::Own)?;
            }
        }
        // So that the next pack can use it again.
        match self.store.packs.reserve.check() {
            Err(error) if !is_full(&error) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Calls `each` for every section; tells whether there is damage between them.
    fn each(
        &self,
        file: &dyn DiskFile,
        each: &mut dyn FnMut(&SectionHead, u32) -> io::Result<()>,
    ) -> io::Result<bool> {
        let len = self.pack.len.load(Ordering::Acquire);
        let mut failed = None;
        let scanned = scan(
            file,
            len,
            self.from,
            &mut |head, ordinal| match each(head, ordinal) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            },
        )?;
        match failed {
            Some(error) => Err(error),
            None => Ok(!scanned.damage.is_empty()),
        }
    }

    /// Tells whether a section is worth keeping.
    fn is_kept(&self, head: &SectionHead) -> io::Result<bool> {
        let Ok(key) = Key::of(&head.cid) else {
            return Ok(true);
        };
        if !self.live.contains(&key.tail()) && !self.is_fresh(&key) {
            return Ok(false);
        }
        match self.store.lookup(&key) {
            Lookup::Unknown => Err(opening()),
            // A second copy; the other one is looked up.
            Lookup::Found(at) if at.pack.tier == Tier::Own => {
                Ok(at == location(self.pack, head, 0))
            }
            Lookup::Found(_) | Lookup::Absent => Ok(true),
        }
    }

    fn is_fresh(&self, key: &Key) -> bool {
        let fresh = self.store.fresh.lock();
        fresh
            .as_ref()
            .is_some_and(|fresh| fresh.contains(&key.tail()))
    }

    /// Copies what is worth keeping to a new pack and moves the index there:
    /// the length of the new pack, or `None` where a block is damaged.
    fn copy(&self, file: &dyn DiskFile, kept: u64, bytes: u64) -> io::Result<Option<u64>> {
        if kept == 0 {
            return Ok(Some(0));
        }
        let mut rewrite = Rewrite::begin(&self.store.packs, Tier::Own, bytes)?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut damage = None;
        self.each(file, &mut |head, _| {
            if damage.is_some() || !self.is_kept(head)? {
                return Ok(());
            }
            let mut data = Vec::new();
            match read_section(file, head, &mut data) {
                Ok(cid) => batch.push(Block::proved(cid, data.into())),
                Err(why) => damage = Some((head.cid, why)),
            }
            bytes += head.data_len;
            if bytes >= APPEND_BATCH_BYTES as u64 {
                rewrite.append(&batch)?;
                batch.clear();
                bytes = 0;
            }
            Ok(())
        })?;
        if let Some((cid, why)) = damage {
            let pack = name_of(self.pack.id);
            tracing::error!("{pack} is not collected: the live block {cid} is damaged: {why}");
            return Ok(None);
        }
        rewrite.append(&batch)?;
        let new = rewrite.finish()?;
        self.move_index(&new)?;
        Ok(Some(new.len.load(Ordering::Acquire)))
    }

    fn move_index(&self, new: &Arc<Pack>) -> io::Result<()> {
        let file = self.store.packs.file(new.id)?;
        let moved = Sweep {
            store: self.store,
            pack: new,
            live: self.live,
            from: None,
        };
        let mut changes = Vec::with_capacity(SWEEP_SLICE);
        moved.each(&*file, &mut |head, ordinal| {
            if let Ok(key) = Key::of(&head.cid) {
                changes.push(Change::Move(
                    key,
                    self.pack.id,
                    location(new, head, ordinal),
                ));
            }
            if changes.len() == SWEEP_SLICE {
                self.store.change_index(&changes);
                changes.clear();
            }
            Ok(())
        })?;
        self.store.change_index(&changes);
        Ok(())
    }

    /// Takes what is left in the old pack out of the index, except what was put
    /// again meanwhile: that is appended anew. Tells how many these were.
    fn forget(&self, file: &dyn DiskFile) -> io::Result<u64> {
        let mut slice = Vec::with_capacity(SWEEP_SLICE);
        let mut rescued = 0;
        self.each(file, &mut |head, _| {
            slice.push(*head);
            if slice.len() == SWEEP_SLICE {
                rescued += self.forget_slice(file, &slice)?;
                slice.clear();
            }
            Ok(())
        })?;
        rescued += self.forget_slice(file, &slice)?;
        if rescued > 0 {
            // These were durable in the pack that goes.
            self.store.sync(Spend::Last)?;
        }
        Ok(rescued)
    }

    fn forget_slice(&self, file: &dyn DiskFile, slice: &[SectionHead]) -> io::Result<u64> {
        let mut again = Vec::new();
        {
            // No put decides meanwhile that a block is here already.
            let _alone = self.store.sweeping.write();
            let mut changes = Vec::new();
            for head in slice {
                let Ok(key) = Key::of(&head.cid) else {
                    continue;
                };
                let here = location(self.pack, head, 0);
                match self.store.lookup(&key) {
                    Lookup::Unknown => return Err(opening()),
                    Lookup::Found(at) if at == here && self.is_fresh(&key) => {
                        again.push((key, *head));
                    }
                    Lookup::Found(at) if at == here => changes.push(Change::Remove(key, here)),
                    Lookup::Found(_) | Lookup::Absent => {}
                }
            }
            self.store.change_index(&changes);
        }
        for (key, head) in &again {
            let mut data = Vec::new();
            let cid = read_section(file, head, &mut data).map_err(io::Error::other)?;
            self.store
                .put_own(&Block::proved(cid, data.into()), key, true, Spend::Last)?;
        }
        Ok(again.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::options::StoreOptions;
    use crate::disk::RealDisk;
    use crate::sync::BufferPool;

    #[test]
    fn a_block_that_is_put_again_while_its_pack_is_swept_is_kept_after_all() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions::default();
        let pool = BufferPool::new();
        let store = Store::open(dir.path(), Arc::new(RealDisk), options, pool).unwrap();
        assert!(store.index.wait(Duration::from_secs(10)));
        let blocks = crate::car::tests::blocks(5);
        let put = |block: &Block| {
            let key = Key::of(block.cid()).unwrap();
            store.put_own(block, &key, false, Spend::Nothing).unwrap();
        };
        blocks.iter().for_each(put);
        store.flush(Tier::Own, Spend::Nothing).unwrap();
        *store.fresh.lock() = Some(HashSet::new());
        let old = store.seal_own();
        let live = HashSet::from([Key::of(blocks[0].cid()).unwrap().tail()]);
        let sweep = Sweep {
            store: &store,
            pack: &old[0],
            live: &live,
            from: None,
        };
        let file = store.packs.file(old[0].id).unwrap();
        assert!(sweep.copy(&*file, 1, 100).unwrap().is_some());
        put(&blocks[3]);
        assert_eq!(sweep.forget(&*file).unwrap(), 1);
        store.packs.remove(old[0].id).unwrap();
        for (block, kept) in blocks.iter().zip([true, false, false, true, false]) {
            let key = Key::of(block.cid()).unwrap();
            let found = store.read(block.cid(), &key);
            match found {
                Near::Found(data) => assert!(kept && data == *block.data()),
                other @ (Near::Absent | Near::Damaged(..) | Near::Failed(..)) => {
                    assert!(!kept && matches!(other, Near::Absent), "{other:?}")
                }
            }
        }
    }
}
