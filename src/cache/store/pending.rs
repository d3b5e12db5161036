//! Blocks that wait to be appended.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::block::Block;
use crate::cache::key::Key;
use crate::cache::options::Tier;

/// The order in which blocks wait for one tier.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) blocks: VecDeque<(Key, Block)>,
    pub(super) bytes: usize,
}

impl Queue {
    pub(super) fn push(&mut self, key: Key, block: Block) -> usize {
        self.bytes += block.data().len();
        self.blocks.push_back((key, block));
        self.bytes
    }

    /// Takes blocks of about `bytes_max`.
    pub(super) fn take(&mut self, bytes_max: usize) -> Vec<(Key, Block)> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some((key, block)) = self.blocks.pop_front() else {
                break;
            };
            bytes += block.data().len();
            taken.push((key, block));
        }
        self.bytes -= bytes;
        taken
    }

    /// Puts back what could not be appended.
    pub(super) fn put_back(&mut self, blocks: Vec<(Key, Block)>) {
        for (key, block) in blocks.into_iter().rev() {
            self.bytes += block.data().len();
            self.blocks.push_front((key, block));
        }
    }
}

/// The blocks that wait, by key, so that they are found meanwhile.
#[derive(Default)]
pub(super) struct Pending {
    blocks: Mutex<HashMap<Key, (Bytes, Tier)>>,
}

impl Pending {
    /// Adds a block; `false` where it waits already for this tier or for `Own`.
    pub(super) fn begin(&self, key: &Key, block: &Block, tier: Tier) -> bool {
        let mut blocks = self.blocks.lock();
        if let Some((_, waiting)) = blocks.get(key)
            && (*waiting == Tier::Own || tier == Tier::Cache)
        {
            return false;
        }
        blocks.insert(*key, (block.data().clone(), tier));
        true
    }

    /// Takes out what was appended, or given up, for a tier.
    pub(super) fn finish(&self, done: &[(Key, Block)], tier: Tier) {
        let mut blocks = self.blocks.lock();
        for (key, _) in done {
            if blocks.get(key).is_some_and(|(_, waiting)| *waiting == tier) {
                blocks.remove(key);
            }
        }
    }

    /// A block that waits.
    pub(super) fn get(&self, key: &Key) -> Option<Bytes> {
        self.blocks.lock().get(key).map(|(data, _)| data.clone())
    }
}
