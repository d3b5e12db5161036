//! Copies the sections worth keeping of old packs into a new one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::append::write;
use super::{Location, Pack, PackId, Packs, pack_header};
use crate::block::Block;
use crate::cache::options::Tier;
use crate::disk::{DiskFile, append_all};

/// A pack in the making. It has no name that a reader would find before
/// [`finish`](Self::finish); what a crash leaves is removed at the next start.
pub(in crate::cache) struct Rewrite<'a> {
    packs: &'a Packs,
    id: PackId,
    beside: PathBuf,
    file: Arc<dyn DiskFile>,
    len: u64,
    count: u32,
    finished: bool,
}

impl<'a> Rewrite<'a> {
    /// Begins one.
    pub(in crate::cache) fn begin(packs: &'a Packs, tier: Tier) -> io::Result<Self> {
        let id = packs.reserve(tier);
        let beside = packs.path(id).with_extension("car.new");
        let file = packs.disk.create(&beside)?;
        let header = pack_header();
        let rewrite = Self {
            packs,
            id,
            beside,
            file,
            len: header.len() as u64,
            count: 0,
            finished: false,
        };
        append_all(&*rewrite.file, &mut [io::IoSlice::new(&header)])?;
        Ok(rewrite)
    }

    /// Appends blocks.
    pub(in crate::cache) fn append(&mut self, blocks: &[Block]) -> io::Result<Vec<Location>> {
        let (locations, end) = write(&*self.file, self.id, blocks.iter(), self.len, self.count)?;
        self.len = end;
        self.count += u32::try_from(locations.len()).unwrap_or(0);
        Ok(locations)
    }

    /// Makes the pack durable and gives it its name.
    pub(in crate::cache) fn finish(mut self) -> io::Result<Arc<Pack>> {
        self.file.sync()?;
        self.packs
            .disk
            .rename(&self.beside, &self.packs.path(self.id))?;
        self.finished = true;
        self.packs.sync_names(self.id.tier)?;
        let pack = Arc::new(Pack::new(self.id, self.len, self.count, self.packs.tick()));
        self.packs.register(&pack, &self.file);
        Ok(pack)
    }
}

impl Drop for Rewrite<'_> {
    fn drop(&mut self) {
        if !self.finished {
            drop(self.packs.disk.remove(&self.beside));
        }
    }
}
