//! Where each block is: a cache of the packs that can be rebuilt from them.
//!
//! [`IndexHost`] stands before the index proper. While that opens in another
//! thread, the host takes what is appended meanwhile; when the index fails,
//! the host goes back to opening. The index itself is behind the trait
//! [`Index`], so that sled can be swapped.
//!
//! Nothing here has to survive a crash. [`marker`] decides whether what is on
//! disk may be used at all.

pub(super) mod database;
mod entry;
mod host;
pub(super) mod marker;
mod plain;
mod run;
mod runs;

pub(super) use host::{IndexHost, Lookup};
pub(super) use plain::PlainIndex;
pub(super) use runs::SledIndex;

use super::key::Key;
use super::packs::{Location, PackId};

/// The index failed; it is to be rebuilt.
#[derive(Debug, thiserror::Error)]
#[error("block index: {0}")]
pub(super) struct IndexError(pub(super) String);

/// A map from multihash to location.
pub(super) trait Index: Send + Sync {
    /// Gives the location of a block.
    fn get(&self, key: &Key) -> Result<Option<Location>, IndexError>;

    /// Sets or removes the location of a block.
    fn set(&self, key: &Key, location: Option<Location>) -> Result<(), IndexError>;

    /// Writes everything to disk and lets go of it.
    fn close(self: Box<Self>) -> Result<(), IndexError>;
}

/// A change of the index. What compares is dropped where the block has moved meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// A block was appended. A cache copy does not hide an own one.
    Put(Key, Location),
    /// A block is gone from this place.
    Remove(Key, Location),
    /// A block was copied from one pack to another place.
    Move(Key, PackId, Location),
}

impl Change {
    fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Remove(key, _) | Self::Move(key, _, _) => key,
        }
    }

    /// What becomes of the entry, if it changes.
    fn outcome(&self, found: Option<Location>) -> Option<Option<Location>> {
        use super::options::Tier;
        match self {
            Self::Put(_, new) => {
                let hides = new.pack.tier == Tier::Cache
                    && found.is_some_and(|old| old.pack.tier == Tier::Own);
                (!hides).then_some(Some(*new))
            }
            Self::Remove(_, old) => (found == Some(*old)).then_some(None),
            Self::Move(_, old, new) => found
                .is_some_and(|found| found.pack == *old)
                .then_some(Some(*new)),
        }
    }
}
