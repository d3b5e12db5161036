//! Takes blocks: they wait in memory until about a mebibyte has gathered, and
//! whoever fills the batch appends it.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Store;
use crate::block::Block;
use crate::cache::index::{Change, Lookup};
use crate::cache::key::Key;
use crate::cache::options::{Spend, Tier};
use crate::config::{APPEND_BATCH_BYTES, APPEND_WAITING_BYTES_MAX, CACHE_REST, INDEX_WAIT};

impl Store {
    /// Takes an own block. Returns once it can be read; durable after [`sync`](Self::sync).
    ///
    /// `replace` appends it although the index says that it is there, because
    /// that copy is damaged.
    pub(in crate::cache) fn put_own(
        &self,
        block: &Block,
        key: &Key,
        replace: bool,
        spend: Spend,
    ) -> io::Result<()> {
        if spend == Spend::Nothing {
            // So that what nobody may append does not gather.
            self.packs.reserve.check()?;
        }
        if !self.index.is_ready() {
            // Without the index every block would be taken for a new one.
            self.index.wait(INDEX_WAIT);
        }
        if self.own.queue.lock().bytes > APPEND_WAITING_BYTES_MAX {
            self.flush(Tier::Own, spend)?;
        }
        let replace = replace || self.is_torn(block, key);
        let waiting = {
            let _decided = self.sweeping.read();
            self.note_fresh(key);
            // Held all along: whoever finds a block waiting may sync it next.
            let mut queue = self.own.queue.lock();
            if !self.pending.begin(key, block, Tier::Own) {
                return Ok(());
            }
            // In this order: what another thread has just appended is found,
            // either waiting or in the index.
            let own = |l: Lookup| matches!(l, Lookup::Found(at) if at.pack.tier == Tier::Own);
            if !replace && own(self.lookup(key)) {
                self.pending.cancel(key, Tier::Own);
                return Ok(());
            }
            queue.push(*key, block.clone())
        };
        if waiting < APPEND_BATCH_BYTES {
            return Ok(());
        }
        match self.own.appender.try_lock() {
            // Who appends now takes what waits with it.
            None => Ok(()),
            Some(appender) => {
                drop(appender);
                self.flush(Tier::Own, spend)
            }
        }
    }

    /// Whether an own copy is there whose bytes are not those of the block, as
    /// a power loss leaves them. One that was proved in this run is not.
    fn is_torn(&self, block: &Block, key: &Key) -> bool {
        match self.lookup(key) {
            Lookup::Found(at) if at.pack.tier == Tier::Own => !self.holds(at, block),
            Lookup::Found(_) | Lookup::Absent | Lookup::Unknown => false,
        }
    }

    /// Takes a fetched block, if there is room. `true` if
    /// [`flush_cache`](Self::flush_cache) is due.
    pub(in crate::cache) fn put_cache(&self, block: &Block, key: &Key) -> bool {
        if self.options.cache_bytes_max == 0 || self.is_resting() {
            return false;
        }
        if self.cache.queue.lock().bytes > APPEND_WAITING_BYTES_MAX {
            // The disk is slower than the source: the block stays in memory only.
            self.skipped(1);
            return true;
        }
        if !self.pending.begin(key, block, Tier::Cache) {
            return false;
        }
        if matches!(self.lookup(key), Lookup::Found(_)) {
            self.pending.cancel(key, Tier::Cache);
            return false;
        }
        self.cache.queue.lock().push(*key, block.clone()) >= APPEND_BATCH_BYTES
    }

    /// Appends what waits. What cannot be appended keeps waiting.
    pub(in crate::cache) fn flush(&self, tier: Tier, spend: Spend) -> io::Result<()> {
        let lane = self.lane(tier);
        let mut appender = lane.appender.lock();
        loop {
            let batch = lane.queue.lock().take(4 * APPEND_BATCH_BYTES);
            if batch.is_empty() {
                return Ok(());
            }
            let blocks = batch.iter().map(|(_, block)| block);
            match appender.append(&self.packs, blocks, spend) {
                Ok(locations) => {
                    let keys = batch.iter().map(|(key, _)| *key);
                    let puts: Vec<_> = keys
                        .zip(locations)
                        .map(|(key, at)| Change::Put(key, at))
                        .collect();
                    self.change_index(&puts);
                    self.pending.finish(&batch, tier);
                }
                Err(error) => {
                    lane.queue.lock().put_back(batch);
                    return Err(error);
                }
            }
        }
    }

    /// Appends what waits for the cache packs, with room made for it. Where
    /// that fails the blocks are given up: memory still has them.
    pub(in crate::cache) fn flush_cache(&self) {
        let flush = |()| self.flush(Tier::Cache, Spend::Nothing);
        let flushed = self.make_room().and_then(flush);
        if let Err(error) = flushed {
            let given_up = self.cache.queue.lock().take(usize::MAX);
            self.pending.finish(&given_up, Tier::Cache);
            self.skipped(given_up.len() as u64);
            let mut resting = self.resting_until.lock();
            if resting.is_none() {
                tracing::warn!("fetched blocks are kept in memory only: {error}");
            }
            *resting = Some(Instant::now() + CACHE_REST);
        } else {
            let mut resting = self.resting_until.lock();
            if resting.take().is_some() {
                tracing::info!("fetched blocks are cached on disk again");
            }
        }
    }

    fn is_resting(&self) -> bool {
        self.resting_until
            .lock()
            .is_some_and(|until| Instant::now() < until)
    }

    /// Makes the own blocks that were put survive a power loss.
    pub(in crate::cache) fn sync(&self, spend: Spend) -> io::Result<()> {
        self.flush(Tier::Own, spend)?;
        self.sync_flushed()
    }

    /// Makes the own blocks that were appended survive a power loss.
    fn sync_flushed(&self) -> io::Result<()> {
        let mut appender = self.own.appender.lock();
        let synced = appender.sync(&self.packs);
        // Nothing was appended meanwhile. One that failed is told of to all who ask.
        self.own.owed.store(synced.is_err(), Ordering::Release);
        synced
    }

    /// Notes that somebody rests on the own blocks that were appended so far.
    pub(in crate::cache) fn owe(&self) {
        self.own.owed.store(true, Ordering::Release);
    }

    /// Makes the own blocks survive a power loss on which somebody rests. Waits for
    /// no sync, and begins none, that is for others only.
    pub(in crate::cache) fn sync_owed(&self) -> io::Result<()> {
        match self.own.owed.load(Ordering::Acquire) {
            true => self.sync_flushed(),
            false => Ok(()),
        }
    }

    /// Changes the index; one that fails is rebuilt, and takes the changes then.
    pub(in crate::cache) fn change_index(&self, changes: &[Change]) {
        while let Err(error) = self.index.change(changes) {
            if !self.rebuild_index(&error.to_string()) {
                return;
            }
        }
    }
}
