//! The index in sled, with a guard against its panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::value::{decode, encode};
use super::{Index, IndexError};
use crate::cache::key::Key;
use crate::cache::packs::Location;
use crate::config::INDEX_CACHE_BYTES;

/// A sled database. It is never flushed before it is closed: a crash means a rebuild.
pub(in crate::cache) struct SledIndex {
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

impl SledIndex {
    /// Opens the database in `dir`, or makes it.
    pub(in crate::cache) fn open(dir: &Path) -> Result<Self, IndexError> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(INDEX_CACHE_BYTES)
            .flush_every_ms(None);
        guarded(|| config.open()).map(|db| Self { db })
    }
}

impl Index for SledIndex {
    fn get(&self, key: &Key) -> Result<Option<Location>, IndexError> {
        let found = guarded(|| self.db.get(key.as_bytes()))?;
        let wrong = || IndexError("a value is malformed".to_owned());
        found
            .map(|value| decode(&value).ok_or_else(wrong))
            .transpose()
    }

    fn set(&self, key: &Key, location: Option<Location>) -> Result<(), IndexError> {
        let key = key.as_bytes();
        guarded(|| match location {
            Some(location) => self.db.insert(key, &encode(&location)).map(drop),
            None => self.db.remove(key).map(drop),
        })
    }

    fn close(self: Box<Self>) -> Result<(), IndexError> {
        guarded(|| self.db.flush())?;
        guarded(|| {
            drop(self.db);
            Ok(())
        })
    }
}
