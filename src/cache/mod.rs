//! Blocks kept near: memory first, then packs on disk, then the sources.
//!
//! [`Blocks`] is the store. One fetch per CID however many wait. Every block
//! from outside is proved before anyone sees it; a block from disk is proved on
//! its first read of each run ([`VerifyPolicy`]). A damaged block is never
//! served: the sources are asked for a good copy. A failure of the cache never
//! fails a read that a source can serve. Does not know of files or inodes; what
//! a block links to is a function that a collection is given.
//!
//! Survives a crash: packs are append-only CARv1 files, and the whole blocks in
//! them survive; what is torn is reported and left alone. `pins` is replaced as
//! a whole. `index/` is a cache of the packs and is rebuilt from them whenever
//! the last run did not end cleanly. docs/STORE.md has the bytes.
//!
//! From the bottom: `key`, `options`, `packs` (the files), `index` (where each
//! block is), `eviction` (pure), `store` (packs and index together), `memory`,
//! `inflight`, `pins`, `notes` (facts that outlive their blocks), and `blocks` over all of them;
//! `decoded` keeps what blocks mean to others; `gc`, `scrub` and `cids`
//! go through the packs as a whole.

mod blocks;
mod cids;
mod decoded;
mod error;
mod eviction;
mod figures;
mod gc;
mod index;
mod inflight;
mod key;
mod memory;
mod notes;
mod options;
mod packs;
mod pins;
mod scrub;
mod sink;
mod store;

pub use blocks::Blocks;
pub use cids::CidCursor;
pub use decoded::Decoded;
pub use error::CacheError;
pub use figures::{CacheFigures, FetchFigures, MemoryFigures, ReserveFigures, TierFigures};
pub use gc::{GcProgress, GcReport, Links, Roots};
pub use notes::{NOTE_BYTES, Note, Notes};
pub use options::{Spend, StoreOptions, Tier, VerifyPolicy};
pub use packs::Damage;
pub use pins::{Pin, PinMode, Pins};
pub use scrub::{DamagedBlock, TornPack, VerifyProgress, VerifyReport};
pub use sink::{OwnSink, Referring};
