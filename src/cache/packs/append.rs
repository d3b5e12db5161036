//! Appends blocks to the last pack of a tier.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Location, Pack, PackId, Packs, is_full};
use crate::block::Block;
use crate::cache::options::{Spend, Tier};
use crate::car::encode_section_head;
use crate::config::{APPEND_COPY_BYTES_MAX, APPEND_STARTED_BYTES};
use crate::disk::{DiskFile, append_all};

/// The one appender of a tier.
pub(in crate::cache) struct Appender {
    tier: Tier,
    pack_bytes_max: u64,
    current: Option<Current>,
    /// Files that were appended to and not synced since, and the lengths up to
    /// which they were.
    unsynced: Vec<(PackId, Arc<dyn DiskFile>, u64)>,
    /// Whether a pack was begun since the names were synced.
    names_unsynced: bool,
    /// A sync that failed: what it should have saved may be lost, for good.
    failed: Option<io::ErrorKind>,
}

struct Current {
    pack: Arc<Pack>,
    file: Arc<dyn DiskFile>,
    dirty: bool,
    /// Up to where it may be written, if it is in the reserve.
    reserved: Option<u64>,
    /// Up to where the disk was told to begin.
    started: u64,
    /// Up to where it survives a power loss.
    synced: u64,
}

impl Current {
    /// Has the disk begin with what was appended, once it is much.
    fn start_writing(&mut self, end: u64) {
        let bytes = end.saturating_sub(self.started);
        if bytes >= APPEND_STARTED_BYTES {
            self.file.start_writing(self.started, bytes);
            self.started = end;
        }
    }
}

/// What goes to the file in one piece: heads and small data, or a block's data.
enum Part {
    Copied(usize, usize),
    Data(usize),
}

impl Appender {
    pub(in crate::cache) fn new(tier: Tier, pack_bytes_max: u64) -> Self {
        Self {
            tier,
            pack_bytes_max,
            current: None,
            unsynced: Vec::new(),
            names_unsynced: false,
            failed: None,
        }
    }

    /// Appends to a pack of an earlier run, which must be whole to its end.
    pub(in crate::cache) fn adopt(&mut self, packs: &Packs, pack: &Arc<Pack>) -> io::Result<()> {
        let len = pack.len.load(Ordering::Acquire);
        if self.current.is_some() || len >= self.pack_bytes_max {
            return Ok(());
        }
        let file = packs.file(pack.id)?;
        if file.len()? == len {
            let pack = Arc::clone(pack);
            self.current = Some(Current {
                pack,
                file,
                dirty: false,
                started: len,
                synced: len,
                reserved: None,
            });
        }
        Ok(())
    }

    /// The pack that is appended to.
    pub(in crate::cache) fn current(&self) -> Option<PackId> {
        self.current.as_ref().map(|current| current.pack.id)
    }

    /// Lets the current pack be: the next block begins a new one.
    pub(in crate::cache) fn roll(&mut self) {
        // Cache packs are never synced.
        if let Some(current) = self.current.take()
            && current.dirty
            && self.tier == Tier::Own
        {
            self.unsynced
                .push((current.pack.id, current.file, current.synced));
        }
    }

    /// Forgets what need not survive, for a pack that was dropped.
    pub(in crate::cache) fn abandon(&mut self) {
        self.current = None;
        self.unsynced.clear();
    }

    /// Appends all of the blocks, or none of them. Where the disk is full, own
    /// ones that may go into the reserve, as the beginning of the next pack.
    pub(in crate::cache) fn append<'a>(
        &mut self,
        packs: &Packs,
        blocks: impl Iterator<Item = &'a Block> + Clone,
        spend: Spend,
    ) -> io::Result<Vec<Location>> {
        if self.tier == Tier::Own && spend == Spend::Nothing {
            packs.reserve.check()?;
        }
        if spend == Spend::Reserve && self.is_beyond(blocks.clone()) {
            self.give_rest_back(packs);
        }
        match self.try_append(packs, blocks.clone()) {
            Err(error) if spend != Spend::Nothing && is_full(&error) => {
                let bytes = blocks.clone().map(section_bytes).sum();
                if self.tier == Tier::Cache || !self.go_on_in_reserve(packs, bytes, spend)? {
                    return Err(error);
                }
                self.try_append(packs, blocks)
            }
            other => other,
        }
    }

    /// Whether blocks do not fit into what may be used of the reserve, where that
    /// is what is appended to.
    fn is_beyond<'a>(&self, blocks: impl Iterator<Item = &'a Block>) -> bool {
        let Some(current) = &self.current else {
            return false;
        };
        current.reserved.is_some_and(|limit| {
            let end = current.pack.len.load(Ordering::Acquire);
            end + blocks.map(section_bytes).sum::<u64>() > limit
        })
    }

    fn go_on_in_reserve(&mut self, packs: &Packs, bytes: u64, spend: Spend) -> io::Result<bool> {
        let Some(((pack, file), limit)) = packs.begin_in_reserve(bytes, spend)? else {
            return Ok(false);
        };
        self.roll();
        self.names_unsynced = true;
        self.current = Some(Current {
            pack,
            file,
            dirty: true,
            started: 0,
            synced: 0,
            reserved: Some(limit),
        });
        Ok(true)
    }

    fn try_append<'a>(
        &mut self,
        packs: &Packs,
        blocks: impl Iterator<Item = &'a Block> + Clone,
    ) -> io::Result<Vec<Location>> {
        if let Some(kind) = self.failed {
            return Err(kind.into());
        }
        let done = |current: &Current| {
            let known = packs.get(current.pack.id);
            current.pack.len.load(Ordering::Acquire) >= self.pack_bytes_max
                || known.is_none_or(|known| !Arc::ptr_eq(&known, &current.pack))
        };
        if self.current.as_ref().is_some_and(done) {
            self.roll();
        }
        let current = match &mut self.current {
            Some(current) => current,
            none => {
                let (pack, file) = packs.begin(self.tier)?;
                self.names_unsynced = true;
                none.insert(Current {
                    pack,
                    file,
                    dirty: true,
                    started: 0,
                    synced: 0,
                    reserved: None,
                })
            }
        };
        let start = current.pack.len.load(Ordering::Acquire);
        let first = current.pack.count.load(Ordering::Acquire);
        current.dirty = true;
        match write(&*current.file, current.pack.id, blocks, start, first) {
            Ok((locations, end)) => {
                let count = u32::try_from(locations.len()).unwrap_or(u32::MAX);
                current.pack.len.store(end, Ordering::Release);
                current
                    .pack
                    .count
                    .store(first.saturating_add(count), Ordering::Release);
                if self.tier == Tier::Own {
                    current.start_writing(end);
                }
                Ok(locations)
            }
            Err(error) => {
                // Half an append is taken back. Where that fails too, the pack
                // stays as it is with its torn end, and a new one is begun.
                let cut = current.file.cut(start);
                if cut.is_err() || !is_full(&error) {
                    self.roll();
                }
                Err(error)
            }
        }
    }

    /// Makes what was appended survive a power loss. Once it failed it keeps failing.
    pub(in crate::cache) fn sync(&mut self, packs: &Packs) -> io::Result<()> {
        if let Some(kind) = self.failed {
            return Err(kind.into());
        }
        let result = self.sync_files(packs);
        match &result {
            Ok(()) => self.give_rest_back(packs),
            Err(error) => {
                self.note_unsure(packs);
                self.fail(error);
            }
        }
        result
    }

    /// Leaves a note for the next start: what could not be synced reads as if it
    /// were safe.
    fn note_unsure(&self, packs: &Packs) {
        let current = self.current.as_ref().filter(|current| current.dirty);
        let current = current.map(|current| (current.pack.id, current.synced));
        let rolled = self.unsynced.iter().map(|(id, _, synced)| (*id, *synced));
        let all: Vec<_> = rolled.chain(current).collect();
        if let Err(error) = packs.note_unsure(&all) {
            tracing::error!(
                "packs/unsure cannot be written ({error}): restart the machine, or what the disk did not take will be believed"
            );
        }
    }

    /// What a pack in the reserve did not need becomes the next, smaller reserve.
    fn give_rest_back(&mut self, packs: &Packs) {
        if let Some(current) = self.current.take_if(|current| current.reserved.is_some()) {
            if let Err(error) = packs.reserve.give_back(&*current.file) {
                tracing::warn!("the rest of the reserve cannot be kept: {error}");
            }
            if current.dirty {
                self.unsynced
                    .push((current.pack.id, current.file, current.synced));
            }
        }
    }

    /// Takes nothing more: what should survive a power loss may not.
    pub(in crate::cache) fn fail(&mut self, error: &io::Error) {
        self.failed = Some(error.kind());
        tracing::error!(
            "packs/{} could not be synced ({error}); nothing more is taken until the next start",
            self.tier.name()
        );
    }

    fn sync_files(&mut self, packs: &Packs) -> io::Result<()> {
        // Forgotten only together: one that fails must be known to be unsure.
        for (_, file, _) in &self.unsynced {
            file.sync()?;
        }
        self.unsynced.clear();
        if let Some(current) = &mut self.current
            && current.dirty
        {
            current.file.sync()?;
            current.dirty = false;
            current.started = current.pack.len.load(Ordering::Acquire);
            current.synced = current.started;
        }
        if self.names_unsynced {
            packs.sync_names(self.tier)?;
            self.names_unsynced = false;
        }
        Ok(())
    }
}

fn section_bytes(block: &Block) -> u64 {
    let data = block.data().len();
    (encode_section_head(block.cid(), data).len() + data) as u64
}

/// Writes sections in as few calls as they fit in: where each landed, and the end.
pub(super) fn write<'a>(
    file: &dyn DiskFile,
    pack: PackId,
    blocks: impl Iterator<Item = &'a Block>,
    start: u64,
    first: u32,
) -> io::Result<(Vec<Location>, u64)> {
    let mut locations = Vec::new();
    let mut copied = Vec::new();
    let mut parts = Vec::new();
    let mut large = Vec::new();
    let mut begun = 0;
    let mut end = start;
    for (block, ordinal) in blocks.zip(first..) {
        let data = block.data();
        let head = encode_section_head(block.cid(), data.len());
        copied.extend_from_slice(&head);
        locations.push(Location {
            pack,
            offset: end + head.len() as u64,
            len: u32::try_from(data.len()).unwrap_or(u32::MAX),
            ordinal,
        });
        end += (head.len() + data.len()) as u64;
        if data.len() <= APPEND_COPY_BYTES_MAX {
            copied.extend_from_slice(data);
        } else {
            parts.push(Part::Copied(begun, copied.len()));
            parts.push(Part::Data(large.len()));
            large.push(data);
            begun = copied.len();
        }
    }
    parts.push(Part::Copied(begun, copied.len()));
    let mut slices: Vec<IoSlice<'_>> = parts
        .iter()
        .map(|part| match part {
            Part::Copied(from, to) => copied.get(*from..*to).unwrap_or_default(),
            Part::Data(place) => large.get(*place).map_or(&[][..], |data| data),
        })
        .map(IoSlice::new)
        .collect();
    append_all(file, &mut slices)?;
    Ok((locations, end))
}
