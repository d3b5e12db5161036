//! An index in memory, for when none can be had on disk.

use std::collections::HashMap;

use parking_lot::RwLock;

use super::{Index, IndexError};
use crate::cache::key::Key;
use crate::cache::packs::Location;

/// A map. Costs about 120 bytes a block, and is gone with the process.
#[derive(Default)]
pub(in crate::cache) struct PlainIndex(RwLock<HashMap<Key, Location>>);

impl Index for PlainIndex {
    fn get(&self, key: &Key) -> Result<Option<Location>, IndexError> {
        Ok(self.0.read().get(key).copied())
    }

    fn set(&self, key: &Key, location: Option<Location>) -> Result<(), IndexError> {
        let mut map = self.0.write();
        match location {
            Some(location) => map.insert(*key, location),
            None => map.remove(key),
        };
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), IndexError> {
        Err(IndexError("it is in memory only".to_owned()))
    }
}
