//! A repository in a temporary directory, and blocks to put into it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cidfs::block::{Block, Cid, RAW, SHA2_256};
use cidfs::cache::{Blocks, StoreOptions};
use cidfs::disk::{Disk, RealDisk};
use cidfs::source::BlockSource;
use cidfs::testing::source::MemorySource;

/// A repository's directory.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) options: StoreOptions,
    pub(crate) source: Arc<MemorySource>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            options: StoreOptions {
                disk_free_min: 0,
                ..StoreOptions::default()
            },
            source: Arc::new(MemorySource::new("far")),
        }
    }

    /// Opens the store and waits for its index.
    pub(crate) fn open(&self) -> Arc<Blocks> {
        self.open_on(Arc::new(RealDisk), self.source.clone())
    }

    pub(crate) fn open_on(&self, disk: Arc<dyn Disk>, source: Arc<dyn BlockSource>) -> Arc<Blocks> {
        let options = self.options.clone();
        let blocks = Blocks::open(self.dir.path(), disk, options, source).unwrap();
        until("the index is open", || blocks.figures().index == "ready");
        blocks
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The packs of a tier, oldest first.
    pub(crate) fn packs(&self, tier: &str) -> Vec<PathBuf> {
        files(&self.path("packs").join(tier))
    }

    /// What a kill leaves: no clean end.
    pub(crate) fn forget_clean_end(&self) {
        std::fs::remove_file(self.path("index/clean")).unwrap();
    }
}

pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Waits for something that another thread does.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A raw block of `len` bytes that `seed` tells apart.
pub(crate) fn block(seed: u64, len: usize) -> Block {
    let mut data = Vec::with_capacity(len + 8);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while data.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend(state.to_le_bytes());
    }
    data.truncate(len);
    data.extend(seed.to_le_bytes());
    Block::seal(RAW, SHA2_256, Bytes::from(data)).unwrap()
}

pub(crate) fn blocks(count: u64, len: usize) -> Vec<Block> {
    (0..count).map(|seed| block(seed, len)).collect()
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

/// Says that a block is local and whole.
pub(crate) fn assert_local(store: &Blocks, block: &Block) {
    let found = store.get_local(block.cid()).unwrap();
    assert_eq!(found.as_ref(), Some(block), "{}", block.cid());
}

/// Says that a block is not local.
pub(crate) fn assert_absent(store: &Blocks, cid: &Cid) {
    assert_eq!(store.get_local(cid).unwrap(), None, "{cid}");
}
