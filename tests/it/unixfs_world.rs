//! Blocks in memory that are made, read and counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cidfs::block::{Block, BlockSink, Cid};
use cidfs::cache::{Blocks, StoreOptions};
use cidfs::testing::source::MemorySource;
use cidfs::unixfs::builder::{AddOptions, Adder};
use cidfs::unixfs::{Reader, UpdateError};

/// A sink whose blocks can be read back.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) source: Arc<MemorySource>,
    made: Arc<AtomicU64>,
}

impl BlockSink for World {
    fn put(&self, block: Block) -> io::Result<()> {
        self.made.fetch_add(1, Ordering::SeqCst);
        self.source.insert(block);
        Ok(())
    }
}

/// Blocks that an action read and made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) read: u64,
    pub(crate) made: u64,
}

impl World {
    /// A reader that has nothing near.
    pub(crate) fn reader(&self) -> Arc<Reader> {
        let options = StoreOptions::default();
        Reader::new(Blocks::without_disk(options, self.source.clone()))
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            read: self.source.gets(),
            made: self.made.load(Ordering::SeqCst),
        }
    }

    /// What was read and made since.
    pub(crate) fn since(&self, before: Counts) -> Counts {
        let now = self.counts();
        Counts {
            read: now.read - before.read,
            made: now.made - before.made,
        }
    }

    /// Takes dag-pb nodes under CIDs of version 1, or 0.
    pub(crate) fn seal(&self, v0: bool) -> impl FnMut(Bytes) -> Result<Cid, UpdateError> + Send {
        let world = self.clone();
        move |node| {
            let block = if v0 {
                Block::seal_v0(node)?
            } else {
                Block::seal(cidfs::block::DAG_PB, cidfs::block::SHA2_256, node)?
            };
            let cid = *block.cid();
            world.put(block).map_err(UpdateError::Store)?;
            Ok(cid)
        }
    }

    /// What the builder makes of bytes.
    pub(crate) fn add(&self, options: AddOptions, bytes: &[u8]) -> (Cid, u64) {
        let adder = Adder::new(options, Arc::new(self.clone())).unwrap();
        let added = adder.add_reader(bytes, Some(b"f"), &|_| {}).unwrap();
        (added.cid, added.tsize)
    }
}

/// The bytes of a file, read with a reader that has nothing near.
pub(crate) async fn read_all(world: &World, cid: &Cid) -> Vec<u8> {
    let reader = world.reader();
    let size = reader.meta(cid).await.unwrap().size;
    let mut out = vec![0; usize::try_from(size).unwrap()];
    assert_eq!(reader.read(cid, 0, &mut out).await.unwrap(), out.len());
    out
}

/// Numbers that look random; the seed tells everything.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }

    pub(crate) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.roll() as u8).collect()
    }
}
