//! sled, with a guard against its panics. Holds the chunks of runs.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::IndexError;
use crate::config::INDEX_CACHE_BYTES;

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
        guarded(|| config.open()).map(|db| Self { db })
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
