//! Packs: append-only CARv1 files of blocks.
//!
//! Any IPFS tool reads them; their root is the empty identity CID, since many
//! tools refuse a CAR file that has none. A pack is begun, appended to until
//! it is full, and later dropped as a whole or cut off; its bytes are never overwritten.
//! Reads are `pread`, never mappings: a bad sector is an error for one block.
//!
//! After a crash the whole sections survive. What is torn or damaged is
//! reported by [`scan`] and left alone: the next block begins a new pack.

mod append;
mod reserve;
mod rewrite;
mod scan;
mod unsure;

pub(super) use append::Appender;
use reserve::Reserve;
pub(super) use rewrite::Rewrite;
pub use scan::Damage;
pub(super) use scan::{Cursor, read_section, scan};

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use lru::LruCache;
use parking_lot::{Mutex, RwLock};

use super::options::{Spend, Tier};
use crate::block::{Cid, IDENTITY, RAW};
use crate::car::encode_header;
use crate::config::PACKS_OPEN_MAX;
pub(super) use crate::disk::is_full;
use crate::disk::{Disk, DiskFile, append_all};

/// Which pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PackId {
    pub(super) tier: Tier,
    pub(super) number: u32,
}

/// Where a block's data is. Two are equal if they are the same bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Location {
    pub(super) pack: PackId,
    /// Where the data begins in the pack.
    pub(super) offset: u64,
    /// Length of the data.
    pub(super) len: u32,
    /// Which section of the pack it was, counted from 0, when the index was
    /// made. Damage that came later does not change it.
    pub(super) ordinal: u32,
}

impl PartialEq for Location {
    fn eq(&self, other: &Self) -> bool {
        (self.pack, self.offset, self.len) == (other.pack, other.offset, other.len)
    }
}

impl Eq for Location {}

/// What is known of a pack.
pub(super) struct Pack {
    pub(super) id: PackId,
    /// Length of the file as far as it was appended whole.
    pub(super) len: Arc<AtomicU64>,
    /// Sections in it.
    pub(super) count: AtomicU32,
    /// When it was last read from, as a tick.
    pub(super) used: AtomicU64,
    /// What a scan found wrong with it.
    pub(super) damage: Mutex<Vec<Damage>>,
    /// A bit for each section that was proved in this run.
    proved: RwLock<Vec<u64>>,
}

impl Pack {
    fn new(id: PackId, len: u64, count: u32, used: u64) -> Self {
        Self {
            id,
            len: Arc::new(AtomicU64::new(len)),
            count: AtomicU32::new(count),
            used: AtomicU64::new(used),
            damage: Mutex::default(),
            proved: RwLock::default(),
        }
    }

    /// Cuts it off before a section. Who read what was behind finds the pack too
    /// short, and looks where it was moved to ([`reaches`](Self::reaches)).
    pub(super) fn cut(&self, file: &dyn DiskFile, at: Cursor) -> io::Result<()> {
        // In this order: what is read while it goes may be zeros.
        self.len.store(at.offset, Ordering::SeqCst);
        self.count.fetch_min(at.ordinal, Ordering::AcqRel);
        file.cut(at.offset)?;
        file.sync()
    }

    /// Tells whether it is long enough for bytes that end there.
    pub(super) fn reaches(&self, end: u64) -> bool {
        end <= self.len.load(Ordering::SeqCst)
    }

    /// Tells whether the section was proved in this run.
    pub(super) fn is_proved(&self, ordinal: u32) -> bool {
        let word = self.proved.read().get(ordinal as usize / 64).copied();
        word.is_some_and(|word| word & (1 << (ordinal % 64)) != 0)
    }

    /// Remembers that the section was proved: one bit.
    pub(super) fn prove(&self, ordinal: u32) {
        // An index that lies must not make this grow.
        if ordinal >= self.count.load(Ordering::Acquire) {
            return;
        }
        let place = ordinal as usize / 64;
        let mut proved = self.proved.write();
        if proved.len() <= place {
            proved.resize(place + 1, 0);
        }
        if let Some(word) = proved.get_mut(place) {
            *word |= 1 << (ordinal % 64);
        }
    }

    /// Forgets that the section was proved.
    pub(super) fn disprove(&self, ordinal: u32) {
        if let Some(word) = self.proved.write().get_mut(ordinal as usize / 64) {
            *word &= !(1 << (ordinal % 64));
        }
    }
}

/// A pack that was begun, to be appended to.
type Begun = (Arc<Pack>, Arc<dyn DiskFile>);

/// The packs of a repository.
pub(super) struct Packs {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    all: RwLock<HashMap<PackId, Arc<Pack>>>,
    files: Mutex<LruCache<PackId, Arc<dyn DiskFile>>>,
    next: [AtomicU32; 2],
    tick: AtomicU64,
    pub(super) reserve: Reserve,
}

/// The bytes that a pack begins with: version 1, and one root that carries nothing.
pub(super) fn pack_header() -> Vec<u8> {
    let nothing = crate::block::hash(IDENTITY, &[]);
    let roots: Vec<Cid> = nothing
        .map(|hash| Cid::new_v1(RAW, hash))
        .into_iter()
        .collect();
    encode_header(&roots)
}

impl Packs {
    /// Lists the packs in `dir`; reads none of them.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: PathBuf, reserve_bytes: u64) -> io::Result<Self> {
        let capacity = NonZeroUsize::new(PACKS_OPEN_MAX).unwrap_or(NonZeroUsize::MIN);
        let packs = Self {
            reserve: Reserve::new(Arc::clone(&disk), dir.clone(), reserve_bytes),
            disk,
            dir,
            all: RwLock::default(),
            files: Mutex::new(LruCache::new(capacity)),
            next: [AtomicU32::new(1), AtomicU32::new(1)],
            tick: AtomicU64::new(1),
        };
        for tier in [Tier::Own, Tier::Cache] {
            packs.disk.make_dirs(&packs.dir.join(tier.name()))?;
            packs.list_tier(tier)?;
        }
        packs.disk.sync_dir(&packs.dir)?;
        Ok(packs)
    }

    fn list_tier(&self, tier: Tier) -> io::Result<()> {
        let dir = self.dir.join(tier.name());
        let mut numbers = Vec::new();
        for entry in self.disk.list(&dir)? {
            let name = entry.name.to_string_lossy();
            if name.ends_with(".car.new") {
                // A rewrite that a crash cut short; the packs it read are still there.
                self.disk.remove(&dir.join(&entry.name))?;
            } else if let Some(number) = number_of(&name) {
                numbers.push((number, entry.len));
            }
        }
        numbers.sort_unstable();
        let mut all = self.all.write();
        for (number, len) in numbers {
            let id = PackId { tier, number };
            let pack = Pack::new(id, len, u32::MAX, self.tick());
            all.insert(id, Arc::new(pack));
            self.next_of(tier)
                .store(number.saturating_add(1), Ordering::Release);
        }
        Ok(())
    }

    fn next_of(&self, tier: Tier) -> &AtomicU32 {
        let [own, cache] = &self.next;
        match tier {
            Tier::Own => own,
            Tier::Cache => cache,
        }
    }

    /// A number that grows with every call.
    pub(super) fn tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::Relaxed)
    }

    /// The directory of a tier.
    pub(super) fn dir(&self, tier: Tier) -> PathBuf {
        self.dir.join(tier.name())
    }

    fn path(&self, id: PackId) -> PathBuf {
        self.dir(id.tier).join(format!("{:08}.car", id.number))
    }

    /// A pack, if it is there.
    pub(super) fn get(&self, id: PackId) -> Option<Arc<Pack>> {
        self.all.read().get(&id).cloned()
    }

    /// The packs of a tier, oldest first.
    pub(super) fn of(&self, tier: Tier) -> Vec<Arc<Pack>> {
        let all = self.all.read();
        let mut found: Vec<_> = all
            .values()
            .filter(|p| p.id.tier == tier)
            .cloned()
            .collect();
        found.sort_unstable_by_key(|pack| pack.id.number);
        found
    }

    /// The open file of a pack.
    pub(super) fn file(&self, id: PackId) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.files.lock().get(&id) {
            return Ok(Arc::clone(file));
        }
        let file = self.disk.open(&self.path(id))?;
        self.files.lock().put(id, Arc::clone(&file));
        Ok(file)
    }

    /// Takes the next number of a tier.
    fn reserve(&self, tier: Tier) -> PackId {
        let number = self.next_of(tier).fetch_add(1, Ordering::AcqRel);
        PackId { tier, number }
    }

    /// Begins a new pack. Its name is not durable before [`sync_names`](Self::sync_names).
    fn begin(&self, tier: Tier) -> io::Result<Begun> {
        let id = self.reserve(tier);
        let path = self.path(id);
        let file = self.disk.create(&path)?;
        let header = pack_header();
        if let Err(error) = append_all(&*file, &mut [IoSlice::new(&header)]) {
            drop(self.disk.remove(&path));
            return Err(error);
        }
        let pack = Arc::new(Pack::new(id, header.len() as u64, 0, self.tick()));
        self.register(&pack, &file);
        Ok((pack, file))
    }

    /// Begins a new own pack in the reserve for so many bytes, and gives up to where
    /// it may be written; `None` where they do not fit.
    fn begin_in_reserve(&self, bytes: u64, spend: Spend) -> io::Result<Option<(Begun, u64)>> {
        let id = self.reserve(Tier::Own);
        let header = pack_header();
        let begin = |file: &dyn DiskFile| append_all(file, &mut [IoSlice::new(&header)]);
        let wanted = (header.len() as u64 + bytes, spend == Spend::Last);
        let taken = self.reserve.take(&self.path(id), wanted, begin)?;
        let Some((file, usable)) = taken else {
            return Ok(None);
        };
        let pack = Arc::new(Pack::new(id, header.len() as u64, 0, self.tick()));
        self.register(&pack, &file);
        Ok(Some(((pack, file), usable)))
    }

    fn register(&self, pack: &Arc<Pack>, file: &Arc<dyn DiskFile>) {
        self.files.lock().put(pack.id, Arc::clone(file));
        self.all.write().insert(pack.id, Arc::clone(pack));
    }

    /// Makes the names of the packs of a tier survive a power loss.
    pub(super) fn sync_names(&self, tier: Tier) -> io::Result<()> {
        self.disk.sync_dir(&self.dir(tier))
    }

    /// Takes a pack away. Who reads it still has the file open.
    pub(super) fn remove(&self, id: PackId) -> io::Result<()> {
        self.all.write().remove(&id);
        self.files.lock().pop(&id);
        match self.disk.remove(&self.path(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Forgets what this run proved, and counts again; for a rebuild of the index.
    ///
    /// Readers that hold an old [`Pack`] mark bits that nobody looks at, and
    /// the appender begins a new pack: blocks get new numbers where damage has
    /// come between them.
    pub(super) fn renew(&self) {
        let mut all = self.all.write();
        for pack in all.values_mut() {
            let used = pack.used.load(Ordering::Relaxed);
            let mut renewed = Pack::new(pack.id, 0, u32::MAX, used);
            renewed.len = Arc::clone(&pack.len);
            *pack = Arc::new(renewed);
        }
    }
}

/// The number that a pack's file name stands for.
fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".car")?;
    let fine = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    fine.then(|| digits.parse().ok()).flatten()
}

/// Names a pack in messages, from the repository.
pub(super) fn name_of(id: PackId) -> String {
    let path = Path::new("packs").join(id.tier.name());
    format!("{}/{:08}.car", path.display(), id.number)
}
