//! The tiers together: memory, packs, sources.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::error::CacheError;
use super::figures::Counters;
use super::flights::Flights;
use super::index::{Index, State};
use super::memory::Memory;
use super::packs::{Location, Pack, Packs, Tier};
use super::pins::Pins;
use super::{StoreOptions, VerifyPolicy};
use crate::block::{Block, Cid, IDENTITY, Multihash, verify_bytes};
use crate::config::INDEX_DEADLINE;
use crate::disk::Disk;
use crate::source::{BlockSource, Selector, SourceError};

/// The block store. Used as an `Arc`; every call may run beside others.
pub struct Blocks {
    pub(super) memory: Memory,
    pub(super) store: Option<Store>,
    pub(super) sources: Arc<dyn BlockSource>,
    pub(super) options: StoreOptions,
    pub(super) pins: Pins,
    pub(super) counters: Counters,
    flights: Flights,
    /// Held shared by who writes, alone by garbage collection.
    pub(super) writing: Arc<RwLock<()>>,
    /// Own blocks whose bytes on disk are wrong.
    pub(super) damaged: Mutex<HashSet<Multihash>>,
    /// While garbage is collected: what was put, which is live.
    pub(super) fresh: Mutex<Option<HashSet<u128>>>,
    cache_failed: AtomicBool,
}

/// What is on disk.
pub(super) struct Store {
    pub(super) packs: Arc<Packs>,
    pub(super) index: Arc<Index>,
}

impl Blocks {
    /// Opens the store of a repository and returns at once: the index opens behind it.
    pub fn open(
        repo: &Path,
        disk: Arc<dyn Disk>,
        options: StoreOptions,
        sources: Arc<dyn BlockSource>,
    ) -> Result<Arc<Self>, CacheError> {
        let packs = Arc::new(Packs::open(&repo.join("packs"), disk.clone())?);
        let index = Index::open(&repo.join("index"), packs.clone())?;
        let pins = Pins::open(&repo.join("pins"), disk)?;
        Ok(Self::new(
            Some(Store { packs, index }),
            pins,
            options,
            sources,
        ))
    }

    /// A store that keeps nothing but in memory.
    pub fn without_disk(options: StoreOptions, sources: Arc<dyn BlockSource>) -> Arc<Self> {
        Self::new(None, Pins::in_memory(), options, sources)
    }

    fn new(
        store: Option<Store>,
        pins: Pins,
        options: StoreOptions,
        sources: Arc<dyn BlockSource>,
    ) -> Arc<Self> {
        Arc::new(Self {
            memory: Memory::new(options.memory_bytes_max),
            store,
            sources,
            options,
            pins,
            counters: Counters::default(),
            flights: Flights::default(),
            writing: Arc::default(),
            damaged: Mutex::default(),
            fresh: Mutex::default(),
            cache_failed: AtomicBool::new(false),
        })
    }

    /// The pins.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Gives a block from memory, a pack, or a source, proved in any case.
    pub async fn get(self: &Arc<Self>, cid: &Cid) -> Result<Block, CacheError> {
        if let Some(block) = self.get_local(cid)? {
            return Ok(block);
        }
        if self.index_pending() {
            self.index_ready().await;
            if let Some(block) = self.get_local(cid)? {
                return Ok(block);
            }
        }
        let key = *cid.hash();
        let flight = self.flights.join(key, || {
            let (blocks, cid) = (self.clone(), *cid);
            async move { blocks.fetch(&cid).await }
        });
        let outcome = flight.await;
        self.flights.land(&key);
        // The flight may have been another CID's of the same block.
        outcome.and_then(|block| rename(block, cid))
    }

    async fn fetch(&self, cid: &Cid) -> Result<Block, CacheError> {
        Counters::add(&self.counters.fetches);
        let fetched = match self.sources.get(cid).await {
            Ok(fetched) => fetched,
            Err(error) => return Err(self.source_failed(cid, error)),
        };
        let block = fetched.block;
        self.memory.put(*cid.hash(), block.data().clone());
        if fetched.keep {
            self.keep(&block);
        }
        Ok(block)
    }

    /// Keeps a fetched block; that it can't is no reason to fail its reader.
    pub(super) fn keep(&self, block: &Block) {
        let mended = self.damaged.lock().contains(block.cid().hash());
        let tier = if mended { Tier::Own } else { Tier::Cache };
        if tier == Tier::Cache && !self.make_room(block.data().len() as u64) {
            return;
        }
        match self.put(block.clone(), tier) {
            Ok(()) if mended => {
                self.damaged.lock().remove(block.cid().hash());
            }
            Ok(()) => self.cache_failed.store(false, Ordering::Relaxed),
            Err(error) => {
                Counters::add(&self.counters.cache_errors);
                if !self.cache_failed.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "fetched blocks are kept in memory only");
                }
            }
        }
    }

    fn source_failed(&self, cid: &Cid, error: SourceError) -> CacheError {
        let damaged = self.damaged.lock().contains(cid.hash());
        match error {
            SourceError::NotFound { .. } if damaged => CacheError::Unavailable {
                cid: *cid,
                why: "the local copy is damaged and no source has another".into(),
            },
            SourceError::NotFound { .. } | SourceError::Unsupported { .. } => {
                match self
                    .store
                    .as_ref()
                    .map(|s| s.index.state().borrow().clone())
                {
                    Some(State::Failed(why)) => CacheError::Unavailable {
                        cid: *cid,
                        why: format!("index: {why}"),
                    },
                    Some(State::Opening | State::Rebuilding(_) | State::Ready) | None => {
                        CacheError::NotFound { cid: *cid }
                    }
                }
            }
            SourceError::Timeout { .. } => CacheError::Timeout { cid: *cid },
            other @ (SourceError::Unreachable { .. }
            | SourceError::Limited { .. }
            | SourceError::Corrupt { .. }
            | SourceError::Io { .. }) => CacheError::Unavailable {
                cid: *cid,
                why: other.to_string(),
            },
        }
    }

    /// Gives a block that is in memory or a pack; may wait for the disk only.
    ///
    /// `None` also while the index is being opened: [`get`](Self::get) waits for it.
    pub fn get_local(&self, cid: &Cid) -> Result<Option<Block>, CacheError> {
        if let Some(inline) = Block::inline(cid) {
            return Ok(Some(inline?));
        }
        if let Some(data) = self.memory.get(cid.hash()) {
            Counters::add(&self.counters.memory_hits);
            return Ok(Some(Block::proved(*cid, data)));
        }
        let Some((pack, location)) = self.locate(cid) else {
            return Ok(None);
        };
        let mut data = vec![0; location.len as usize];
        if !self.read_whole(&pack, location, cid, &mut data) {
            return Ok(None);
        }
        Counters::add(&self.counters.disk_hits);
        Ok(Some(Block::proved(*cid, data.into())))
    }

    /// Fills `out` with a block's bytes from `offset` on, if it is in memory
    /// or a pack and long enough; false if not.
    pub fn read_local(&self, cid: &Cid, offset: u64, out: &mut [u8]) -> Result<bool, CacheError> {
        if let Some(data) = self.memory.get(cid.hash()) {
            Counters::add(&self.counters.memory_hits);
            return Ok(copy(&data, offset, out));
        }
        let Some((pack, location)) = self.locate(cid) else {
            return Ok(false);
        };
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > u64::from(location.len)) {
            return Ok(false);
        }
        if self.is_proved(&pack, location) {
            Counters::add(&self.counters.disk_hits);
            let read = pack.file.read_at(out, u64::from(location.offset) + offset);
            return Ok(read
                .map_err(|error| self.damage(&pack, cid, &error.to_string()))
                .is_ok());
        }
        if out.len() == location.len as usize {
            Counters::add(&self.counters.disk_hits);
            return Ok(self.read_whole(&pack, location, cid, out));
        }
        let Some(block) = self.get_local(cid)? else {
            return Ok(false);
        };
        // The next read of this block is likely near.
        self.memory.put(*cid.hash(), block.data().clone());
        Ok(copy(block.data(), offset, out))
    }

    /// The length of a block that is in memory or a pack, without reading it.
    pub fn len_local(&self, cid: &Cid) -> Result<Option<u64>, CacheError> {
        if let Some(data) = self.memory.get(cid.hash()) {
            return Ok(Some(data.len() as u64));
        }
        Ok(self
            .locate(cid)
            .map(|(_, location)| u64::from(location.len)))
    }

    /// Whether a block is in memory or a pack.
    pub fn has_local(&self, cid: &Cid) -> bool {
        cid.hash().code() == IDENTITY
            || self.memory.get(cid.hash()).is_some()
            || self.locate(cid).is_some()
    }

    fn locate(&self, cid: &Cid) -> Option<(Arc<Pack>, Location)> {
        let store = self.store.as_ref()?;
        let location = store.index.get(cid.hash())?;
        let Some(pack) = store.packs.get(location.pack) else {
            store.index.remove(cid.hash());
            return None;
        };
        Some((pack, location))
    }

    fn is_proved(&self, pack: &Pack, location: Location) -> bool {
        match self.options.verify {
            VerifyPolicy::FirstRead => pack.is_proved(location.offset),
            VerifyPolicy::Always => false,
            VerifyPolicy::Never => true,
        }
    }

    /// Reads a whole block and proves it if need be; false if it is damaged.
    fn read_whole(&self, pack: &Pack, location: Location, cid: &Cid, out: &mut [u8]) -> bool {
        if let Err(error) = pack.file.read_at(out, u64::from(location.offset)) {
            self.damage(pack, cid, &error.to_string());
            return false;
        }
        if self.is_proved(pack, location) {
            return true;
        }
        match verify_bytes(cid, out) {
            Ok(()) => {
                pack.prove(location.offset);
                true
            }
            Err(error) => {
                self.damage(pack, cid, &error.to_string());
                false
            }
        }
    }

    /// Isolates a block whose bytes on disk are wrong; its pack stays as it is.
    pub(super) fn damage(&self, pack: &Pack, cid: &Cid, why: &str) {
        Counters::add(&self.counters.damaged);
        if let Some(store) = &self.store {
            if let Some(location) = store.index.get(cid.hash()) {
                pack.unprove(location.offset);
            }
            store.index.remove(cid.hash());
        }
        if pack.id.tier() == Tier::Own {
            self.damaged.lock().insert(*cid.hash());
        }
        let file = pack.path.display();
        tracing::error!(%cid, %file, why, "a block on disk is damaged; a source is asked for it");
    }

    /// Keeps a block. Readable at once; durable after [`sync`](Self::sync).
    pub fn put(&self, block: Block, tier: Tier) -> Result<(), CacheError> {
        self.put_many(vec![block], tier)
    }

    /// Keeps blocks with one write.
    pub fn put_many(&self, blocks: Vec<Block>, tier: Tier) -> Result<(), CacheError> {
        let _writing = self.writing.read_recursive();
        let blocks: Vec<_> = blocks
            .into_iter()
            .filter(|b| b.cid().hash().code() != IDENTITY)
            .collect();
        if let Some(fresh) = self.fresh.lock().as_mut() {
            fresh.extend(blocks.iter().map(|b| short(b.cid().hash())));
        }
        let Some(store) = &self.store else {
            for block in blocks {
                self.memory.put(*block.cid().hash(), block.into_data());
            }
            return Ok(());
        };
        self.wait_for_index(store)?;
        let known = |block: &Block| {
            let at = store.index.get(block.cid().hash());
            at.is_some_and(|l| l.pack.tier() == Tier::Own || tier == Tier::Cache)
                && !self.damaged.lock().contains(block.cid().hash())
        };
        let mut seen = HashSet::new();
        let new: Vec<Block> = blocks
            .into_iter()
            .filter(|b| !known(b) && seen.insert(*b.cid().hash()))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let locations = store.packs.append(tier, &new)?;
        let entries: Vec<_> = new.iter().map(|b| *b.cid().hash()).zip(locations).collect();
        Ok(store.index.put(&entries)?)
    }

    /// Makes durable what was put into own packs.
    pub fn sync(&self) -> Result<(), CacheError> {
        let store = self.store.as_ref();
        Ok(store.map_or(Ok(()), |store| store.packs.sync())?)
    }

    /// Asks the sources for the part of a DAG that `selector` names.
    pub async fn select(self: &Arc<Self>, selector: &Selector) -> Result<(), CacheError> {
        let sink = super::sink::CacheSink(self.clone());
        let outcome = self.sources.select(selector, &sink).await;
        outcome.map_err(|error| self.source_failed(&selector.root, error))
    }

    /// Ends the store so that the next start is quick. Nothing depends on it.
    pub fn close(&self) {
        if let Err(error) = self.sync() {
            tracing::error!(%error, "own packs were not synced");
        }
        if let Some(store) = &self.store {
            store.index.close(&store.packs);
        }
    }

    fn index_pending(&self) -> bool {
        self.store
            .as_ref()
            .is_some_and(|s| pending(&s.index.state().borrow()))
    }

    /// Waits until the index answers or is given up; who calls has a deadline.
    pub async fn index_ready(&self) {
        if let Some(store) = &self.store {
            // An error means that the opener is gone: nothing to wait for.
            drop(store.index.state().wait_for(|state| !pending(state)).await);
        }
    }

    pub(super) fn wait_for_index(&self, store: &Store) -> Result<(), CacheError> {
        let until = std::time::Instant::now() + INDEX_DEADLINE;
        loop {
            let state = store.index.state().borrow().clone();
            match state {
                State::Ready => return Ok(()),
                State::Failed(why) => return Err(io::Error::other(why).into()),
                State::Opening | State::Rebuilding(_) if std::time::Instant::now() > until => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                }
                State::Opening | State::Rebuilding(_) => {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            }
        }
    }
}

fn pending(state: &State) -> bool {
    matches!(state, State::Opening | State::Rebuilding(_))
}

fn rename(block: Block, cid: &Cid) -> Result<Block, CacheError> {
    if block.cid() == cid {
        Ok(block)
    } else {
        Ok(Block::proved(*cid, block.into_data()))
    }
}

fn copy(data: &Bytes, offset: u64, out: &mut [u8]) -> bool {
    let Ok(offset) = usize::try_from(offset) else {
        return false;
    };
    let Some(end) = offset.checked_add(out.len()) else {
        return false;
    };
    data.get(offset..end).is_some_and(|part| {
        out.copy_from_slice(part);
        true
    })
}

/// Sixteen bytes that stand for a multihash where a collision only keeps a
/// block that could have gone.
pub(super) fn short(key: &Multihash) -> u128 {
    fastmurmur3::hash(&key.to_bytes())
}
