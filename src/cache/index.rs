//! Where each block is: a cache of the packs, in sled.
//!
//! It may be lost or wrong at any time. It is opened behind a marker that a
//! clean end leaves and the next start takes away; without the marker, or on
//! any doubt, it is deleted and made anew from the packs. Opening runs in a
//! thread of its own; until it is done nobody is told that a block is absent.

use std::collections::HashMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::packs::{Location, PackId, Packs, sections};
use crate::block::Multihash;
use crate::config::INDEX_MEMORY_BYTES;

/// The index.
pub(super) struct Index {
    db: RwLock<Option<sled::Db>>,
    state: watch::Sender<State>,
    dir: PathBuf,
}

/// How far the index is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is being opened.
    Opening,
    /// It is being made from the packs: blocks so far.
    Rebuilding(u64),
    /// It answers.
    Ready,
    /// It cannot be had, and neither can what is in the packs.
    Failed(String),
}

/// What a clean end writes: the packs and lengths that the index covers.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    packs: HashMap<u32, u64>,
}

impl Index {
    /// Begins to open the index in `dir` for `packs`.
    pub(super) fn open(dir: &Path, packs: Arc<Packs>) -> io::Result<Arc<Self>> {
        let (state, _) = watch::channel(State::Opening);
        let index = Arc::new(Self {
            db: RwLock::default(),
            state,
            dir: dir.into(),
        });
        let opener = index.clone();
        let name = std::thread::Builder::new().name("index-open".into());
        name.spawn(move || {
            let state = match opener.load(&packs) {
                Ok(()) => State::Ready,
                Err(error) => {
                    tracing::error!(%error, "the index cannot be made; local blocks are out of reach");
                    State::Failed(error.to_string())
                }
            };
            opener.state.send_replace(state);
        })?;
        Ok(index)
    }

    fn load(&self, packs: &Packs) -> io::Result<()> {
        let marker = self.take_marker();
        let covered = marker.is_some_and(|m| m == Marker::of(packs));
        if covered && let Some(db) = guarded(|| open(&self.dir)) {
            *self.db.write() = Some(db);
            return Ok(());
        }
        self.rebuild(packs)
    }

    /// Deletes the index and makes it from the packs.
    fn rebuild(&self, packs: &Packs) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let db = guarded(|| open(&self.dir)).ok_or_else(|| io::Error::other("sled fails"))?;
        let mut blocks = 0;
        for pack in packs.all() {
            let mut batch = Batch {
                db: &db,
                pending: sled::Batch::default(),
                count: 0,
            };
            let (_, torn) = sections(&pack, &mut |head| {
                let (Ok(offset), Ok(len)) = (
                    u32::try_from(head.data_offset()),
                    u32::try_from(head.data_len),
                ) else {
                    return Ok(());
                };
                let location = Location {
                    pack: pack.id,
                    offset,
                    len,
                };
                blocks += 1;
                if blocks % 10_000 == 0 {
                    self.state.send_replace(State::Rebuilding(blocks));
                }
                batch.insert(head.cid.hash(), location)
            })?;
            batch.apply()?;
            if let Some(error) = torn {
                let file = pack.path.display();
                tracing::warn!(%file, %error, "pack is damaged; the whole blocks before it are served");
            }
        }
        *self.db.write() = Some(db);
        Ok(())
    }

    /// The state, and its changes.
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Where a block is; `None` also while the index is not ready.
    pub(super) fn get(&self, key: &Multihash) -> Option<Location> {
        let found = self.with(|db| db.get(key.to_bytes()))??;
        Location::decode(&found)
    }

    /// Notes where blocks are.
    pub(super) fn put(&self, entries: &[(Multihash, Location)]) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for (key, location) in entries {
            batch.insert(key.to_bytes(), &location.encode());
        }
        self.with(|db| db.apply_batch(batch)).ok_or_else(not_ready)
    }

    /// Forgets a block.
    pub(super) fn remove(&self, key: &Multihash) {
        self.with(|db| db.remove(key.to_bytes()));
    }

    /// Forgets every block of a pack.
    pub(super) fn remove_pack(&self, id: PackId) {
        let Some(db) = self.db.read().clone() else {
            return;
        };
        let of_pack = db.iter().flatten().filter(|(_, value)| {
            Location::decode(value).is_some_and(|location| location.pack == id)
        });
        for (key, _) in of_pack {
            self.with(|db| db.remove(&key));
        }
    }

    /// Blocks known.
    pub(super) fn len(&self) -> Option<u64> {
        let db = self.db.read().clone()?;
        Some(db.len() as u64)
    }

    /// Calls `each` with every block known.
    pub(super) fn for_each(&self, each: &mut dyn FnMut(&[u8], Location)) {
        let Some(db) = self.db.read().clone() else {
            return;
        };
        for (key, value) in db.iter().flatten() {
            if let Some(location) = Location::decode(&value) {
                each(&key, location);
            }
        }
    }

    /// Runs a call on sled, which may fail or panic: either way the answer is
    /// that nothing is known.
    fn with<T>(&self, call: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Option<T> {
        let db = self.db.read();
        let db = db.as_ref()?;
        guarded(|| call(db))
    }

    /// Closes the index so that the next start can trust it.
    pub(super) fn close(&self, packs: &Packs) {
        let Some(db) = self.db.write().take() else {
            return;
        };
        if guarded(|| db.flush()).is_none() {
            return;
        }
        drop(db);
        let written = serde_json::to_vec(&Marker::of(packs))
            .map_err(io::Error::other)
            .and_then(|bytes| std::fs::write(self.marker(), bytes));
        if let Err(error) = written {
            tracing::info!(%error, "the next start makes the index anew");
        }
    }

    fn marker(&self) -> PathBuf {
        self.dir.join("clean")
    }

    /// Reads the marker and takes it away, so that only a clean end leaves one.
    fn take_marker(&self) -> Option<Marker> {
        let bytes = std::fs::read(self.marker()).ok()?;
        std::fs::remove_file(self.marker()).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

impl Marker {
    fn of(packs: &Packs) -> Self {
        Self {
            packs: packs.all().iter().map(|p| (p.id.0, p.len())).collect(),
        }
    }
}

/// Entries on their way into sled, some thousands at a time.
struct Batch<'a> {
    db: &'a sled::Db,
    pending: sled::Batch,
    count: usize,
}

impl Batch<'_> {
    fn insert(&mut self, key: &Multihash, location: Location) -> io::Result<()> {
        self.pending.insert(key.to_bytes(), &location.encode());
        self.count += 1;
        if self.count.is_multiple_of(4096) {
            self.apply()
        } else {
            Ok(())
        }
    }

    fn apply(&mut self) -> io::Result<()> {
        let batch = std::mem::take(&mut self.pending);
        self.db.apply_batch(batch).map_err(io::Error::other)
    }
}

fn open(dir: &Path) -> sled::Result<sled::Db> {
    sled::Config::new()
        .path(dir)
        .cache_capacity(INDEX_MEMORY_BYTES)
        .mode(sled::Mode::LowSpace)
        .flush_every_ms(Some(2_000))
        .open()
}

/// sled panics where a page is damaged; that is a `None` too.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Option<T> {
    match std::panic::catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::warn!(%error, "index");
            None
        }
        Err(_) => {
            tracing::warn!("index: sled panicked");
            None
        }
    }
}

fn not_ready() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "the index is not ready")
}
