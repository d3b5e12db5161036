//! The blocks on disk: packs, their index, and the blocks on the way there.
//!
//! A block that was put is found at once: first among those that wait to be
//! appended, then by the index. Own blocks survive a power loss once
//! [`Store::sync`] returned; a kill loses at most what waits, which is bounded
//! by [`APPEND_WAITING_BYTES_MAX`](crate::config::APPEND_WAITING_BYTES_MAX).
//! Cache blocks are never synced: losing them costs a fetch.

mod evict;
mod lifecycle;
mod pending;
mod read;
mod write;

pub(super) use evict::location;
pub(super) use read::Near;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use super::figures::{CacheFigures, TierFigures};
use super::index::IndexHost;
use super::key::Key;
use super::options::{StoreOptions, Tier};
use super::packs::{Appender, Pack, PackId, Packs};
use crate::block::Cid;
use crate::disk::Disk;
use crate::sync::BufferPool;
use pending::{Pending, Queue};

/// The blocks on disk.
pub(super) struct Store {
    me: Weak<Self>,
    disk: Arc<dyn Disk>,
    index_dir: PathBuf,
    options: StoreOptions,
    pub(super) packs: Packs,
    pub(super) index: IndexHost,
    pending: Pending,
    own: Lane,
    cache: Lane,
    pool: Arc<BufferPool>,
    /// Held for reading while a put decides that a block is here already, and
    /// for writing while a sweep decides that a block is dead.
    pub(super) sweeping: RwLock<()>,
    /// What was put since a collection began.
    pub(super) fresh: Mutex<Option<HashSet<u128>>>,
    /// Content that is referred to since a collection began.
    pub(super) referred: Mutex<Option<Vec<Cid>>>,
    /// One collection at a time.
    pub(super) collecting: Mutex<()>,
    counters: Counters,
    /// Places that the log tells of as bad: pack, offset, whether the bytes are.
    told: Mutex<HashSet<(PackId, u64, bool)>>,
    opener: Mutex<Option<JoinHandle<()>>>,
    closing: AtomicBool,
    /// Whether the index failed in this run, so that no marker is left.
    spoilt: AtomicBool,
    /// Until when nothing is cached on disk.
    resting_until: Mutex<Option<Instant>>,
}

/// The way of blocks into the packs of one tier.
struct Lane {
    tier: Tier,
    queue: Mutex<Queue>,
    appender: Mutex<Appender>,
    /// Whether somebody rests on what was appended, or a sync failed, since the
    /// last sync that did not. Cleared only under the appender's lock.
    owed: AtomicBool,
    hits: AtomicU64,
}

impl Lane {
    fn new(tier: Tier, options: &StoreOptions) -> Self {
        Self {
            tier,
            queue: Mutex::default(),
            appender: Mutex::new(Appender::new(tier, options.pack_bytes_max(tier))),
            // What an earlier run has left is not known.
            owed: AtomicBool::new(true),
            hits: AtomicU64::new(0),
        }
    }
}

#[derive(Default)]
struct Counters {
    damaged: AtomicU64,
    skipped: AtomicU64,
    evicted_packs: AtomicU64,
    evicted_bytes: AtomicU64,
    rebuilds: AtomicU64,
}

impl Store {
    fn lane(&self, tier: Tier) -> &Lane {
        match tier {
            Tier::Own => &self.own,
            Tier::Cache => &self.cache,
        }
    }

    /// Begins a new own pack with the next block, and gives those before it:
    /// nothing is appended to them any more.
    pub(super) fn seal_own(&self) -> Vec<Arc<Pack>> {
        let mut appender = self.own.appender.lock();
        appender.roll();
        self.packs.of(Tier::Own)
    }

    /// Notes that a block was put, where a collection is under way.
    fn note_fresh(&self, key: &Key) {
        if let Some(fresh) = &mut *self.fresh.lock() {
            fresh.insert(key.tail());
        }
    }

    /// Adds its figures.
    pub(super) fn figures(&self, figures: &mut CacheFigures) {
        figures.own = self.tier_figures(&self.own);
        figures.cache = self.tier_figures(&self.cache);
        figures.reserve = self.packs.reserve.figures();
        self.index.state().clone_into(&mut figures.index);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        figures.damaged_blocks = load(&self.counters.damaged);
        figures.cache_skipped = load(&self.counters.skipped);
        figures.evicted_packs = load(&self.counters.evicted_packs);
        figures.evicted_bytes = load(&self.counters.evicted_bytes);
        figures.index_rebuilds = load(&self.counters.rebuilds);
        figures.torn_packs = [Tier::Own, Tier::Cache]
            .into_iter()
            .flat_map(|tier| self.packs.of(tier))
            .filter(|pack| !pack.damage.lock().is_empty())
            .count() as u64;
    }

    fn tier_figures(&self, lane: &Lane) -> TierFigures {
        let packs = self.packs.of(lane.tier);
        let count = |pack: u32| if pack == u32::MAX { 0 } else { u64::from(pack) };
        TierFigures {
            packs: packs.len() as u64,
            blocks: packs
                .iter()
                .map(|p| count(p.count.load(Ordering::Acquire)))
                .sum(),
            bytes: packs.iter().map(|p| p.len.load(Ordering::Acquire)).sum(),
            hits: lane.hits.load(Ordering::Relaxed),
        }
    }
}
