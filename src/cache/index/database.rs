//! sled, with a guard against its panics. Holds the chunks of runs.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use super::IndexError;
use crate::config::{INDEX_CACHE_BYTES, INDEX_LOCK_WAIT};

/// What sled says where somebody else has the lock.
const LOCKED: &str = "could not acquire lock";

/// A sled database. It is not flushed before it is closed: a crash means a rebuild.
pub(in crate::cache) struct Database {
    db: sled::Db,
}

/// sled panics where its files are damaged.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(IndexError(error.to_string())),
        Err(_) => Err(IndexError("sled panicked".to_owned())),
    }
}

/// The key of a chunk: run and number, big-endian, so that runs are ranges.
fn key(run: u32, chunk: usize) -> [u8; 8] {
    let chunk = u64::try_from(chunk).unwrap_or(u64::MAX) & u64::from(u32::MAX);
    ((u64::from(run) << 32) | chunk).to_be_bytes()
}

impl Database {
    /// Opens the database in `dir`, or makes it.
    pub(in crate::cache) fn open(dir: &Path) -> Result<Self, IndexError> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(INDEX_CACHE_BYTES)
            .flush_every_ms(None);
        // A program that somebody begins has copies of all descriptors until its exec:
        // for that moment the lock of a database that was closed is still held.
        let until = Instant::now() + INDEX_LOCK_WAIT;
        loop {
            match guarded(|| config.open()) {
                Err(IndexError(why)) if why.contains(LOCKED) && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => return other.map(|db| Self { db }),
            }
        }
    }

    /// The runs that are there, oldest first, with their number of chunks.
    pub(super) fn runs(&self) -> Result<BTreeMap<u32, usize>, IndexError> {
        let mut runs = BTreeMap::new();
        guarded(|| {
            for found in self.db.iter().keys() {
                if let Ok(key) = <[u8; 8]>::try_from(&*found?) {
                    let run = (u64::from_be_bytes(key) >> 32) as u32;
                    *runs.entry(run).or_insert(0) += 1;
                }
            }
            Ok(())
        })?;
        Ok(runs)
    }

    /// The bytes of a chunk, if it is there.
    pub(in crate::cache) fn find_chunk(
        &self,
        run: u32,
        chunk: usize,
    ) -> Result<Option<sled::IVec>, IndexError> {
        guarded(|| self.db.get(key(run, chunk)))
    }

    /// The bytes of a chunk, which must be there.
    pub(super) fn chunk(&self, run: u32, chunk: usize) -> Result<sled::IVec, IndexError> {
        self.find_chunk(run, chunk)?
            .ok_or_else(|| IndexError("a chunk is missing".to_owned()))
    }

    /// Writes a chunk.
    pub(in crate::cache) fn put_chunk(
        &self,
        run: u32,
        chunk: usize,
        bytes: Vec<u8>,
    ) -> Result<(), IndexError> {
        guarded(|| self.db.insert(key(run, chunk), bytes)).map(drop)
    }

    /// Removes a run.
    pub(super) fn remove(&self, run: u32, chunks: usize) -> Result<(), IndexError> {
        (0..chunks).try_for_each(|chunk| guarded(|| self.db.remove(key(run, chunk))).map(drop))
    }

    /// Writes everything to disk and lets go of it.
    pub(in crate::cache) fn close(self) -> Result<(), IndexError> {
        guarded(|| self.db.flush())?;
        guarded(|| {
            drop(self.db);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_whose_lock_is_let_go_of_in_a_moment_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let first = Database::open(dir.path()).unwrap();
        let closing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            first.close().unwrap();
        });
        Database::open(dir.path()).unwrap().close().unwrap();
        closing.join().unwrap();
        let held = Database::open(dir.path()).unwrap();
        let Err(IndexError(why)) = Database::open(dir.path()) else {
            panic!("two have it");
        };
        assert!(why.contains(LOCKED), "{why}");
        held.close().unwrap();
    }
}
