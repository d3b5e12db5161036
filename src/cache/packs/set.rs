//! All packs of a repository, and the two that are being written.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::Location;
use super::pack::{Pack, PackId, Tier};
use crate::block::{Block, Cid, IDENTITY, Multihash, RAW};
use crate::car::{encode_header, encode_section_head};
use crate::config::{CACHE_PACK_BYTES_MAX, OWN_PACK_BYTES_MAX};
use crate::disk::Disk;

/// The packs.
pub(in crate::cache) struct Packs {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    open: RwLock<BTreeMap<PackId, Arc<Pack>>>,
    own: Mutex<Writer>,
    cache: Mutex<Writer>,
    tick: AtomicU64,
}

/// The end of a tier's packs, where blocks are appended.
#[derive(Default)]
struct Writer {
    /// The pack of this run; none before the first block and after a failure.
    pack: Option<Arc<Pack>>,
    /// Packs with bytes or names that are not durable yet.
    unsynced: Vec<Arc<Pack>>,
    /// Used again for each batch.
    bytes: Vec<u8>,
}

impl Packs {
    /// Opens what is in `dir`; reads nothing of it.
    pub(in crate::cache) fn open(dir: &Path, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let mut open = BTreeMap::new();
        for tier in [Tier::Own, Tier::Cache] {
            let below = dir.join(tier.dir());
            disk.create_dir(&below)?;
            for path in disk.list(&below)? {
                let Some(id) = PackId::of_file(tier, &path) else {
                    continue;
                };
                let file = disk.open(&path)?;
                let len = file.len()?;
                open.insert(id, Arc::new(Pack::new(id, path, file, len)));
            }
        }
        let (own, cache, tick) = (Mutex::default(), Mutex::default(), AtomicU64::new(1));
        Ok(Self {
            dir: dir.into(),
            disk,
            open: RwLock::new(open),
            own,
            cache,
            tick,
        })
    }

    pub(in crate::cache) fn all(&self) -> Vec<Arc<Pack>> {
        self.open.read().values().cloned().collect()
    }

    pub(in crate::cache) fn get(&self, id: PackId) -> Option<Arc<Pack>> {
        let pack = self.open.read().get(&id).cloned()?;
        pack.used
            .store(self.tick.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(pack)
    }

    /// Bytes in the packs of a tier.
    pub(in crate::cache) fn bytes(&self, tier: Tier) -> u64 {
        self.open
            .read()
            .values()
            .filter(|p| p.id.tier() == tier)
            .map(|p| p.len())
            .sum()
    }

    /// Bytes that are free on the disk.
    pub(in crate::cache) fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes(&self.dir)
    }

    /// Appends blocks in one write and tells where they are.
    ///
    /// A failed write leaves a torn tail, so what follows goes to a new pack.
    pub(in crate::cache) fn append(
        &self,
        tier: Tier,
        blocks: &[Block],
    ) -> io::Result<Vec<Location>> {
        let mut writer = self.writer(tier).lock();
        let mut bytes = std::mem::take(&mut writer.bytes);
        bytes.clear();
        let mut places = Vec::with_capacity(blocks.len());
        for block in blocks {
            bytes.extend_from_slice(&encode_section_head(block.cid(), block.data().len()));
            places.push((bytes.len(), block.data().len()));
            bytes.extend_from_slice(block.data());
        }
        let pack = self.pack_for(&mut writer, tier, bytes.len() as u64)?;
        let end = pack.len();
        if let Err(error) = pack.file.write_at(&bytes, end) {
            writer.pack = None;
            return Err(error);
        }
        pack.set_len(end + bytes.len() as u64);
        let mut locations = Vec::with_capacity(places.len());
        for (at, len) in places {
            let offset = u32::try_from(end + at as u64).map_err(io::Error::other)?;
            let len = u32::try_from(len).map_err(io::Error::other)?;
            // What was hashed a moment ago needs no proof.
            pack.prove(offset);
            locations.push(Location {
                pack: pack.id,
                offset,
                len,
            });
        }
        writer.bytes = bytes;
        writer.bytes.shrink_to(BATCH_KEPT_MAX);
        Ok(locations)
    }

    fn writer(&self, tier: Tier) -> &Mutex<Writer> {
        match tier {
            Tier::Own => &self.own,
            Tier::Cache => &self.cache,
        }
    }

    fn pack_for(&self, writer: &mut Writer, tier: Tier, more: u64) -> io::Result<Arc<Pack>> {
        let max = match tier {
            Tier::Own => OWN_PACK_BYTES_MAX,
            Tier::Cache => CACHE_PACK_BYTES_MAX,
        };
        if let Some(pack) = writer.pack.as_ref().filter(|p| p.len() + more <= max) {
            return Ok(pack.clone());
        }
        let pack = Arc::new(self.create(tier)?);
        self.open.write().insert(pack.id, pack.clone());
        writer.unsynced.push(pack.clone());
        writer.pack = Some(pack.clone());
        Ok(pack)
    }

    fn create(&self, tier: Tier) -> io::Result<Pack> {
        let numbers = self.open.read();
        let of_tier = numbers
            .keys()
            .filter(|id| id.tier() == tier)
            .map(|id| id.number());
        let number = of_tier.max().map_or(0, |n| n + 1);
        drop(numbers);
        let id = PackId::new(tier, number);
        let path = self.dir.join(id.file());
        let file = self.disk.create(&path)?;
        let header = encode_header(&[placeholder()?]);
        if let Err(error) = file.write_at(&header, 0) {
            // Nothing of value is in it, and its name would be taken for ever.
            self.disk.remove(&path)?;
            return Err(error);
        }
        Ok(Pack::new(id, path, file, header.len() as u64))
    }

    /// Ends the packs that are being written: what comes next goes to new ones.
    pub(in crate::cache) fn roll_over(&self) {
        self.own.lock().pack = None;
        self.cache.lock().pack = None;
    }

    /// Ends a pack, if it is being written.
    pub(in crate::cache) fn roll_over_if(&self, id: PackId) {
        let mut writer = self.writer(id.tier()).lock();
        if writer.pack.as_ref().is_some_and(|p| p.id == id) {
            writer.pack = None;
        }
    }

    /// Makes durable what was appended to own packs.
    pub(in crate::cache) fn sync(&self) -> io::Result<()> {
        let mut writer = self.own.lock();
        let unsynced = std::mem::take(&mut writer.unsynced);
        let current = writer.pack.clone();
        // Held: what is put meanwhile must not believe that it was synced.
        for pack in unsynced.iter().chain(&current) {
            pack.file.sync()?;
        }
        if !unsynced.is_empty() {
            self.disk.sync_dir(&self.dir.join(Tier::Own.dir()))?;
        }
        Ok(())
    }

    /// Removes a pack; who reads from it goes on.
    pub(in crate::cache) fn remove(&self, id: PackId) -> io::Result<()> {
        let removed = self.open.write().remove(&id);
        removed.map_or(Ok(()), |pack| self.disk.remove(&pack.path))
    }
}

/// The empty identity CID, `bafkqaaa`: ordinary tools refuse a CAR without roots.
fn placeholder() -> io::Result<Cid> {
    let hash = Multihash::wrap(IDENTITY, &[]).map_err(io::Error::other)?;
    Ok(Cid::new_v1(RAW, hash))
}

/// Memory of a large batch is given back.
const BATCH_KEPT_MAX: usize = 4 << 20;
