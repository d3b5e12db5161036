//! Blocks kept near: memory first, then packs on disk, then the sources.
//!
//! One fetch per CID however many wait. Every block from outside is proved
//! before anyone sees it; a block from disk is proved on its first read of
//! each run (policy in the config). A failure of the cache never fails a read
//! that a source can serve. Does not know of files or inodes.
//!
//! After a crash: packs are append-only CARv1 files, whole blocks in them
//! survive; `index/` is a cache of the packs and is rebuilt from them.

mod error;

pub use error::CacheError;
