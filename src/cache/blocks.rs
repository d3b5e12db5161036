//! The block store as the layers above see it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;

use super::error::CacheError;
use super::figures::CacheFigures;
use super::inflight::Inflight;
use super::key::Key;
use super::memory::Memory;
use super::notes::Notes;
use super::options::{Spend, StoreOptions, Tier};
use super::pins::Pins;
use super::store::{Near, Store};
use crate::block::{Block, BlockError, Cid};
use crate::config::{BLOCK_BYTES_MAX, FETCH_DEADLINE, INDEX_WAIT};
use crate::disk::Disk;
use crate::source::{BlockSource, Selector, SourceError};
use crate::sync::BufferPool;

/// Blocks by CID: from memory, from packs on disk, from sources.
///
/// Blocks are stored by multihash, so a CIDv0 and a CIDv1 of one node are one
/// block. Identity CIDs carry their block and never touch memory or disk.
pub struct Blocks {
    inner: Arc<Inner>,
    pins: Pins,
    notes: Notes,
    /// Held shared by who adds, alone at the beginning of a collection.
    pub(super) adding: Arc<RwLock<()>>,
    /// Held shared by who is about to refer to content, alone while a pack is swept.
    pub(super) referring: Arc<RwLock<()>>,
}

/// What fetches under way share with the store that began them.
struct Inner {
    memory: Memory,
    store: Option<Arc<Store>>,
    sources: Arc<dyn BlockSource>,
    inflight: Inflight,
    fetched: AtomicU64,
    fetched_bytes: AtomicU64,
    failed: AtomicU64,
    joined: AtomicU64,
}

impl Blocks {
    /// Opens the block store of a repository, which nobody else may have open.
    ///
    /// Returns at once; the index opens, or is rebuilt, in a thread behind it.
    pub fn open(
        repo_dir: &Path,
        disk: Arc<dyn Disk>,
        options: StoreOptions,
        sources: Arc<dyn BlockSource>,
    ) -> Result<Arc<Self>, CacheError> {
        let pins = Pins::open(Arc::clone(&disk), repo_dir);
        let notes = Notes::new(Arc::clone(&disk), repo_dir.join("index"));
        let memory = Memory::new(options.memory_bytes_max);
        let store = Store::open(repo_dir, disk, options, BufferPool::new())?;
        Ok(Self::new(memory, Some(store), sources, (pins, notes)))
    }

    /// Makes a store of memory and sources only.
    pub fn without_disk(options: StoreOptions, sources: Arc<dyn BlockSource>) -> Arc<Self> {
        let memory = Memory::new(options.memory_bytes_max);
        Self::new(
            memory,
            None,
            sources,
            (Pins::in_memory(), Notes::in_memory()),
        )
    }

    fn new(
        memory: Memory,
        store: Option<Arc<Store>>,
        sources: Arc<dyn BlockSource>,
        (pins, notes): (Pins, Notes),
    ) -> Arc<Self> {
        let inner = Arc::new(Inner {
            memory,
            store,
            sources,
            inflight: Inflight::default(),
            fetched: AtomicU64::new(0),
            fetched_bytes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            joined: AtomicU64::new(0),
        });
        let (adding, referring) = (Arc::default(), Arc::default());
        Arc::new(Self {
            inner,
            pins,
            notes,
            adding,
            referring,
        })
    }

    /// Gives a block from wherever it is. However many ask, it is fetched once;
    /// when the last of them leaves, the fetch is given up.
    ///
    /// Has no deadline of its own: the sources have theirs, the caller his.
    pub async fn get(&self, cid: &Cid) -> Result<Block, CacheError> {
        if let Some(inline) = Block::inline(cid) {
            return Ok(inline?);
        }
        let key = Key::of(cid)?;
        if let Some(data) = self.inner.in_memory(&key) {
            return Ok(Block::proved(*cid, data));
        }
        let inner = Arc::clone(&self.inner);
        let wanted = *cid;
        let (flight, joined) =
            self.inner.inflight.join(
                key,
                wanted,
                || async move { inner.fetch(wanted, key).await },
            );
        if joined {
            self.inner.joined.fetch_add(1, Ordering::Relaxed);
        }
        let block = flight.await?;
        Ok(Block::proved(*cid, block.into_data()))
    }

    /// Gives a block from memory or packs. May wait for the disk, and never
    /// for a source or for the index: while that opens, packs have nothing.
    ///
    /// A damaged block is not there: [`get`](Self::get) asks the sources for it.
    pub fn get_local(&self, cid: &Cid) -> Result<Option<Block>, CacheError> {
        if let Some(inline) = Block::inline(cid) {
            return Ok(Some(inline?));
        }
        let key = Key::of(cid)?;
        Ok(match self.near(cid, &key) {
            Near::Found(data) => Some(Block::proved(*cid, data)),
            Near::Absent | Near::Damaged(..) | Near::Failed(..) => None,
        })
    }

    /// Tells whether a block is here with all its bytes, which are read and
    /// proved. Where the disk does not give them, nobody knows: that is an error.
    pub fn is_whole(&self, cid: &Cid) -> Result<bool, CacheError> {
        if let Some(inline) = Block::inline(cid) {
            return Ok(inline.is_ok());
        }
        match self.near(cid, &Key::of(cid)?) {
            Near::Found(_) => Ok(true),
            Near::Absent | Near::Damaged(..) => Ok(false),
            Near::Failed(_, error) => Err(CacheError::Io(error)),
        }
    }

    /// Fills `out` with the bytes of a block from `offset`; `false` where the
    /// block is not local, and `out` is then undefined.
    ///
    /// Of a block that was proved before, only the range is read. One that was
    /// not is read whole, proved, and kept in memory for the next read. A range
    /// that goes beyond the block is an error.
    pub fn read_local(&self, cid: &Cid, offset: u64, out: &mut [u8]) -> Result<bool, CacheError> {
        if let Some(inline) = Block::inline(cid) {
            return copy_range(cid, inline?.data(), offset, out);
        }
        let key = Key::of(cid)?;
        if let Some(data) = self.inner.in_memory(&key) {
            return copy_range(cid, &data, offset, out);
        }
        let Some(store) = &self.inner.store else {
            return Ok(false);
        };
        match store.read_range(cid, &key, offset, out) {
            Near::Found(Ok(whole)) => {
                if let Some(data) = whole {
                    self.inner.memory.insert(key, data);
                }
                Ok(true)
            }
            Near::Found(Err(len)) => Err(beyond(cid, len)),
            Near::Absent | Near::Damaged(..) | Near::Failed(..) => Ok(false),
        }
    }

    /// Gives the length of a block that is local, without reading it.
    pub fn len_local(&self, cid: &Cid) -> Result<Option<u64>, CacheError> {
        if let Some(inline) = Block::inline(cid) {
            return Ok(Some(inline?.data().len() as u64));
        }
        let key = Key::of(cid)?;
        if let Some(len) = self.inner.memory.len_of(&key) {
            return Ok(Some(len));
        }
        let store = self.inner.store.as_ref();
        Ok(store.and_then(|store| match store.waiting(&key) {
            Some(data) => Some(data.len() as u64),
            None => store.len_of(&key),
        }))
    }

    /// Takes a block. An own one is durable after [`sync`](Self::sync); a cache
    /// one is kept as long as there is room, and that it is not is no error.
    pub fn put(&self, block: Block, tier: Tier) -> Result<(), CacheError> {
        self.put_spending(block, tier, Spend::Nothing)
    }

    /// Takes an own block that on a full disk goes into the reserve.
    pub fn put_reserved(&self, block: Block) -> Result<(), CacheError> {
        self.put_spending(block, Tier::Own, Spend::Reserve)
    }

    /// Says that the disk is full (ENOSPC) where the reserve is in use, and all
    /// but what makes room again is refused.
    pub fn check_room(&self) -> Result<(), CacheError> {
        match &self.inner.store {
            Some(store) => Ok(store.packs.reserve.check()?),
            None => Ok(()),
        }
    }

    /// Bytes that are set aside for a full disk.
    pub fn reserve_bytes(&self) -> u64 {
        let store = self.inner.store.as_ref();
        store.map_or(u64::MAX, |store| store.packs.reserve.bytes())
    }

    fn put_spending(&self, block: Block, tier: Tier, spend: Spend) -> Result<(), CacheError> {
        let cid = *block.cid();
        if let Some(inline) = Block::inline(&cid) {
            return inline.map(drop).map_err(CacheError::from);
        }
        let bytes = block.data().len();
        if bytes > BLOCK_BYTES_MAX {
            return Err(BlockError::TooLarge { bytes }.into());
        }
        let key = Key::of(&cid)?;
        match (tier, &self.inner.store) {
            (Tier::Own, Some(store)) => store.put_own(&block, &key, false, spend)?,
            (Tier::Own | Tier::Cache, None) => self.inner.memory.insert(key, block.into_data()),
            (Tier::Cache, Some(store)) => {
                if store.put_cache(&block, &key) {
                    store.flush_cache();
                }
                self.inner.memory.insert(key, block.into_data());
            }
        }
        Ok(())
    }

    /// Makes the own blocks that were put survive a power loss.
    ///
    /// Once this failed it keeps failing until the store is opened anew.
    pub fn sync(&self) -> Result<(), CacheError> {
        match &self.inner.store {
            Some(store) => Ok(store.sync(Spend::Nothing)?),
            None => Ok(()),
        }
    }

    /// The same; on a full disk what waits goes into the reserve.
    pub fn sync_reserved(&self) -> Result<(), CacheError> {
        match &self.inner.store {
            Some(store) => Ok(store.sync(Spend::Reserve)?),
            None => Ok(()),
        }
    }

    /// Makes the own blocks survive a power loss that were flushed, or that
    /// somebody [rests on](Self::rest_on_appended). What a checkpoint or an import has appended
    /// beside that is its own to sync: a sync of a few bytes would wait for all of it.
    pub fn sync_flushed(&self) -> Result<(), CacheError> {
        match &self.inner.store {
            Some(store) => Ok(store.sync_owed()?),
            None => Ok(()),
        }
    }

    /// Has the next [`sync_flushed`](Self::sync_flushed) make safe what was
    /// appended so far, by whomever.
    pub fn rest_on_appended(&self) {
        if let Some(store) = &self.inner.store {
            store.owe();
        }
    }

    /// Appends the own blocks that wait, so that they survive the end of this
    /// process, but not a power loss.
    pub fn flush(&self) -> Result<(), CacheError> {
        self.flush_spending(Spend::Nothing)
    }

    /// The same; on a full disk they go into the reserve.
    pub fn flush_reserved(&self) -> Result<(), CacheError> {
        self.flush_spending(Spend::Reserve)
    }

    fn flush_spending(&self, spend: Spend) -> Result<(), CacheError> {
        if let Some(store) = &self.inner.store {
            store.flush(Tier::Own, spend)?;
            // Only now: a sync that ended before has not covered it.
            store.owe();
        }
        Ok(())
    }

    /// The pins.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// What is noted about CIDs.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// The packs and their index, if there is a disk.
    pub(super) fn store(&self) -> Option<&Arc<Store>> {
        self.inner.store.as_ref()
    }

    /// A block's bytes from memory or packs.
    pub(super) fn near(&self, cid: &Cid, key: &Key) -> Near<Bytes> {
        match self.inner.in_memory(key) {
            Some(data) => Near::Found(data),
            None => self.inner.on_disk(cid, key),
        }
    }

    /// Tells whether a block is in memory or a pack, without reading it.
    pub fn has_local(&self, cid: &Cid) -> bool {
        matches!(self.len_local(cid), Ok(Some(_)))
    }

    /// Tells whether an own pack has a block, which stays there; one that waits
    /// for its pack is not told of.
    pub fn has_own(&self, cid: &Cid) -> bool {
        let Some(store) = &self.inner.store else {
            return self.has_local(cid);
        };
        let own = |key: Key| store.tier_of(&key) == Some(Tier::Own);
        Block::inline(cid).is_some() || Key::of(cid).is_ok_and(own)
    }

    /// Waits until the index is open; who calls has a deadline.
    pub async fn index_ready(&self) {
        if let Some(store) = &self.inner.store {
            while !store.index.ready(INDEX_WAIT).await && !store.is_closing() {}
        }
    }

    /// Asks the sources for the part of a DAG that `selector` names; what comes
    /// is cached.
    pub async fn select(self: &Arc<Self>, selector: &Selector) -> Result<(), CacheError> {
        let sink = self.cache_sink();
        let outcome = self.inner.sources.select(selector, &*sink).await;
        outcome.map_err(|error| explain(&selector.root, &error))
    }

    /// Figures since start.
    pub fn figures(&self) -> CacheFigures {
        let mut figures = CacheFigures {
            memory: self.inner.memory.figures(),
            index: "none".to_owned(),
            ..CacheFigures::default()
        };
        if let Some(store) = &self.inner.store {
            store.figures(&mut figures);
        }
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        figures.fetch.blocks = load(&self.inner.fetched);
        figures.fetch.bytes = load(&self.inner.fetched_bytes);
        figures.fetch.failed = load(&self.inner.failed);
        figures.fetch.joined = load(&self.inner.joined);
        figures.fetch.under_way = self.inner.inflight.len() as u64;
        figures
    }

    /// Syncs what was put and leaves the index clean, so that the next start
    /// is quick. Afterwards packs have nothing. Dropping does the same. What
    /// must be durable was synced before: an error is only logged.
    pub fn close(&self) {
        self.notes.close();
        if let Some(store) = &self.inner.store
            && let Err(error) = store.close()
        {
            tracing::error!("blocks may not have reached the disk: {error}");
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    /// A block's bytes from memory, or on their way to a pack.
    fn in_memory(&self, key: &Key) -> Option<Bytes> {
        let waiting = || self.store.as_ref().and_then(|store| store.waiting(key));
        self.memory.get(key).or_else(waiting)
    }

    /// A block's bytes from the packs. They are not kept in memory: the kernel
    /// keeps the packs' pages, and whoever reads nodes keeps those decoded.
    fn on_disk(&self, cid: &Cid, key: &Key) -> Near<Bytes> {
        match &self.store {
            Some(store) => store.read(cid, key),
            None => Near::Absent,
        }
    }

    /// The one fetch of a block: packs, then sources. While a long rebuild of
    /// the index goes on, sources are asked first and packs after all.
    async fn fetch(self: Arc<Self>, cid: Cid, key: Key) -> Result<Block, CacheError> {
        let age = self.store.as_ref().map(|store| store.index.age());
        let known = self
            .index_ready(INDEX_WAIT.saturating_sub(age.unwrap_or_default()))
            .await;
        let damage = match Arc::clone(&self).from_disk(cid, key).await {
            Near::Found(data) => return Ok(Block::proved(cid, data)),
            Near::Absent => None,
            Near::Damaged(tier, why) => Some((tier, format!("is damaged ({why})"))),
            Near::Failed(tier, why) => Some((tier, format!("cannot be read ({why})"))),
        };
        let error = match self.ask_sources(&cid).await {
            Ok((block, keep)) => {
                self.memory.insert(key, block.data().clone());
                let own = matches!(damage, Some((Tier::Own, _)));
                self.keep(&block, key, keep, own).await;
                return Ok(block);
            }
            Err(error) => error,
        };
        if !known
            && self.index_ready(FETCH_DEADLINE).await
            && let Near::Found(data) = Arc::clone(&self).from_disk(cid, key).await
        {
            return Ok(Block::proved(cid, data));
        }
        self.failed.fetch_add(1, Ordering::Relaxed);
        match damage {
            Some((_, damage)) => {
                let why = format!("the local copy {damage}; {error}");
                Err(CacheError::Unavailable { cid, why })
            }
            None => Err(error),
        }
    }

    /// Asks the sources; whether to keep the block comes with it.
    async fn ask_sources(&self, cid: &Cid) -> Result<(Block, bool), CacheError> {
        let fetched = self.sources.get(cid).await;
        let fetched = fetched.map_err(|error| explain(cid, &error))?;
        let (block, cid) = (fetched.block, *cid);
        if block.cid().hash() != cid.hash() {
            // A source that gives another block than it was asked for is broken.
            let why = "a source gave another block".to_owned();
            return Err(CacheError::Unavailable { cid, why });
        }
        self.fetched.fetch_add(1, Ordering::Relaxed);
        let bytes = block.data().len() as u64;
        self.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok((Block::proved(cid, block.into_data()), fetched.keep))
    }

    /// Waits for the index; true where there is none to wait for.
    async fn index_ready(&self, timeout: Duration) -> bool {
        match &self.store {
            Some(store) => store.index.ready(timeout).await,
            None => true,
        }
    }

    async fn from_disk(self: Arc<Self>, cid: Cid, key: Key) -> Near<Bytes> {
        let Some(store) = &self.store else {
            return Near::Absent;
        };
        if store.len_of(&key).is_none() {
            return Near::Absent;
        }
        let work = move || self.on_disk(&cid, &key);
        blocking(work).await.unwrap_or(Near::Absent)
    }

    /// Keeps what was fetched. That it cannot be kept fails nobody's read.
    async fn keep(self: &Arc<Self>, block: &Block, key: Key, keep: bool, own: bool) {
        let Some(store) = self.store.clone() else {
            return;
        };
        if own {
            let block = block.clone();
            let cid = *block.cid();
            match blocking(move || store.put_own(&block, &key, true, Spend::Nothing)).await {
                Some(Ok(())) => tracing::info!("{cid} was damaged and is whole again"),
                Some(Err(error)) => tracing::error!("{cid} cannot be replaced: {error}"),
                None => {}
            }
        } else if keep && store.put_cache(block, &key) {
            blocking(move || store.flush_cache())
                .await
                .unwrap_or_default();
        }
    }
}

/// Runs what waits for the disk off the threads of the runtime. `None` where
/// the runtime shuts down.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Some(work());
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::error!("work on the disk broke off: {error}");
            None
        }
    }
}

fn explain(cid: &Cid, error: &SourceError) -> CacheError {
    let cid = *cid;
    if matches!(error, SourceError::NotFound { .. }) {
        return CacheError::NotFound { cid };
    }
    if matches!(error, SourceError::Timeout { .. }) {
        return CacheError::Timeout { cid };
    }
    let why = error.to_string();
    CacheError::Unavailable { cid, why }
}

fn copy_range(cid: &Cid, data: &[u8], offset: u64, out: &mut [u8]) -> Result<bool, CacheError> {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let part = from
        .checked_add(out.len())
        .and_then(|to| data.get(from..to));
    out.copy_from_slice(part.ok_or_else(|| beyond(cid, data.len() as u64))?);
    Ok(true)
}

fn beyond(cid: &Cid, len: u64) -> CacheError {
    let why = format!("bytes beyond the {len} of {cid} were asked for");
    std::io::Error::new(std::io::ErrorKind::InvalidInput, why).into()
}
