//! Copies the sections worth keeping of old packs into a new one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::append::write;
use super::{Location, Pack, PackId, Packs, is_full, pack_header};
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
    /// Whether it is written into the reserve.
    reserved: bool,
}

impl<'a> Rewrite<'a> {
    /// Begins one for `bytes` of sections. A full disk is found here, unless
    /// they fit into the reserve.
    pub(in crate::cache) fn begin(packs: &'a Packs, tier: Tier, bytes: u64) -> io::Result<Self> {
        let id = packs.reserve(tier);
        let beside = packs.path(id).with_extension("car.new");
        let header = pack_header();
        let least = header.len() as u64 + bytes;
        let (file, reserved) = room(packs, &beside, least)?;
        let rewrite = Self {
            packs,
            id,
            beside,
            file,
            len: header.len() as u64,
            count: 0,
            finished: false,
            reserved,
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
        if self.reserved {
            // What it did not need is set aside again.
            self.packs.reserve.give_back(&*self.file)?;
        }
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

/// A file with room for `least` bytes, and whether it was the reserve.
fn room(packs: &Packs, path: &Path, least: u64) -> io::Result<(Arc<dyn DiskFile>, bool)> {
    let file = packs.disk.create(path)?;
    let Err(error) = file.reserve(least) else {
        return Ok((file, false));
    };
    drop(packs.disk.remove(path));
    if !is_full(&error) {
        return Err(error);
    }
    match packs.reserve.take(path, (least, true), |_| Ok(()))? {
        Some((file, _)) => Ok((file, true)),
        None => Err(error),
    }
}

impl Drop for Rewrite<'_> {
    fn drop(&mut self) {
        if !self.finished {
            drop(self.packs.disk.remove(&self.beside));
        }
    }
}
