//! Reads blocks from the packs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::Store;
use crate::block::{Block, Cid, verify_bytes};
use crate::cache::index::{Change, Lookup};
use crate::cache::key::Key;
use crate::cache::options::{Tier, VerifyPolicy};
use crate::cache::packs::{Location, Pack, name_of};
use crate::config::{BAD_PLACES_TOLD_MAX, BLOCK_BYTES_MAX};
use crate::disk::{DiskFile, read_exact_at};

/// What a read from the packs gave.
#[derive(Debug)]
pub(in crate::cache) enum Near<T> {
    /// This.
    Found(T),
    /// No pack has it, or the index is not open yet.
    Absent,
    /// A pack has it, and its bytes are not good.
    Damaged(Tier, String),
    /// A pack has it, and the disk does not give it: it may be as good as ever.
    Failed(Tier, Arc<io::Error>),
}

/// Why a block in a pack cannot be used.
enum Bad {
    /// Its bytes are not good.
    Bytes(String),
    /// The disk does not give them.
    Disk(io::Error),
}

impl From<io::Error> for Bad {
    fn from(error: io::Error) -> Self {
        // The pack is shorter than it was.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Bytes(error.to_string());
        }
        Self::Disk(error)
    }
}

/// A block's place, its pack, and the file.
struct Place {
    location: Location,
    pack: Arc<Pack>,
    file: Arc<dyn DiskFile>,
}

impl Store {
    /// Says where a block is. An index that fails is rebuilt.
    pub(in crate::cache) fn lookup(&self, key: &Key) -> Lookup {
        let mut gone = None;
        loop {
            match self.index.get(key) {
                Ok(Lookup::Found(at)) if self.packs.get(at.pack).is_none() => {
                    // The pack was dropped. A collection has moved what was live
                    // in it before, and so maybe between the two looks.
                    if gone.replace(at) == Some(at) {
                        return Lookup::Absent;
                    }
                }
                Ok(lookup) => return lookup,
                Err(error) => {
                    self.rebuild_index(&error.to_string());
                    return Lookup::Unknown;
                }
            }
        }
    }

    /// A block that waits to be appended.
    pub(in crate::cache) fn waiting(&self, key: &Key) -> Option<Bytes> {
        self.pending.get(key)
    }

    /// Length of a block, without reading it.
    pub(in crate::cache) fn len_of(&self, key: &Key) -> Option<u64> {
        match self.lookup(key) {
            Lookup::Found(location) => Some(u64::from(location.len)),
            Lookup::Absent | Lookup::Unknown => None,
        }
    }

    /// The tier of the pack that has a block.
    pub(in crate::cache) fn tier_of(&self, key: &Key) -> Option<Tier> {
        match self.lookup(key) {
            Lookup::Found(location) => Some(location.pack.tier),
            Lookup::Absent | Lookup::Unknown => None,
        }
    }

    /// Reads a whole block.
    pub(in crate::cache) fn read(&self, cid: &Cid, key: &Key) -> Near<Bytes> {
        self.with_place(cid, key, |place| {
            let data = self.read_whole(place)?;
            self.prove(cid, place, &data)?;
            Ok(data)
        })
    }

    /// Fills `out` from `offset` of a block. Gives the whole block too where it
    /// had to be read to be proved, so that the next read is cheap. `Err` is
    /// the length of a block that has no such range.
    pub(in crate::cache) fn read_range(
        &self,
        cid: &Cid,
        key: &Key,
        offset: u64,
        out: &mut [u8],
    ) -> Near<Result<Option<Bytes>, u64>> {
        self.with_place(cid, key, |place| {
            let len = u64::from(place.location.len);
            if offset
                .checked_add(out.len() as u64)
                .is_none_or(|end| end > len)
            {
                return Ok(Err(len));
            }
            if self.is_proved(place) {
                let from = place.location.offset + offset;
                read_exact_at(&*place.file, out, from)?;
                return Ok(Ok(None));
            }
            if out.len() as u64 == len {
                let from = place.location.offset;
                read_exact_at(&*place.file, out, from)?;
                self.prove(cid, place, out)?;
                return Ok(Ok(None));
            }
            let data = self.read_whole(place)?;
            self.prove(cid, place, &data)?;
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            let part = data.get(from..from + out.len()).unwrap_or_default();
            out.copy_from_slice(part);
            Ok(Ok(Some(data)))
        })
    }

    fn with_place<T>(
        &self,
        cid: &Cid,
        key: &Key,
        mut read: impl FnMut(&Place) -> Result<T, Bad>,
    ) -> Near<T> {
        // A sweep may move the block between the look-up and the opening.
        for _ in 0..3 {
            let Lookup::Found(location) = self.lookup(key) else {
                return Near::Absent;
            };
            let Some(pack) = self.packs.get(location.pack) else {
                continue;
            };
            let file = match self.packs.file(location.pack) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return self.bad(cid, key, location, Bad::Disk(error)),
            };
            let place = Place {
                location,
                pack,
                file,
            };
            let read = read(&place);
            // A collection may have cut off what was just read, and zeros were read.
            let end = location.offset + u64::from(location.len);
            if !place.pack.reaches(end) && !self.is_at(key, location) {
                continue;
            }
            return match read {
                Ok(value) => {
                    place.pack.used.store(self.packs.tick(), Ordering::Relaxed);
                    let hits = &self.lane(location.pack.tier).hits;
                    hits.fetch_add(1, Ordering::Relaxed);
                    Near::Found(value)
                }
                Err(why) => self.bad(cid, key, location, why),
            };
        }
        Near::Absent
    }

    /// Whether a block is looked up there.
    fn is_at(&self, key: &Key, location: Location) -> bool {
        matches!(self.lookup(key), Lookup::Found(at) if at == location)
    }

    /// Whether the copy at `location` has the bytes of `block`; proves it.
    pub(super) fn holds(&self, location: Location, block: &Block) -> bool {
        let Some(pack) = self.packs.get(location.pack) else {
            return false;
        };
        if pack.is_proved(location.ordinal) {
            return true;
        }
        let Ok(file) = self.packs.file(location.pack) else {
            return false;
        };
        let place = Place {
            location,
            pack,
            file,
        };
        let same = self
            .read_whole(&place)
            .is_ok_and(|data| data == block.data());
        if same {
            place.pack.prove(location.ordinal);
        }
        same
    }

    fn read_whole(&self, place: &Place) -> Result<Bytes, Bad> {
        let len = place.location.len as usize;
        if len > BLOCK_BYTES_MAX {
            return Err(Bad::Bytes(format!("{len} bytes are over the limit")));
        }
        let mut buffer = self.pool.take(len);
        read_exact_at(&*place.file, &mut buffer, place.location.offset)?;
        Ok(buffer.freeze())
    }

    fn is_proved(&self, place: &Place) -> bool {
        match self.options.verify {
            VerifyPolicy::Never => true,
            VerifyPolicy::Always => false,
            VerifyPolicy::FirstRead => place.pack.is_proved(place.location.ordinal),
        }
    }

    fn prove(&self, cid: &Cid, place: &Place, data: &[u8]) -> Result<(), Bad> {
        if self.is_proved(place) {
            return Ok(());
        }
        verify_bytes(cid, data).map_err(|error| Bad::Bytes(error.to_string()))?;
        place.pack.prove(place.location.ordinal);
        Ok(())
    }

    /// Whether the log does not tell yet that a place is bad, and in which way.
    fn is_news(&self, place: Location, is_damaged: bool) -> bool {
        let mut told = self.told.lock();
        if told.len() >= BAD_PLACES_TOLD_MAX {
            told.clear();
        }
        told.insert((place.pack, place.offset, is_damaged))
    }

    /// Notes damage. A cached block is forgotten; an own one keeps its place,
    /// so that a collection knows that something was there.
    fn bad<T>(&self, cid: &Cid, key: &Key, location: Location, bad: Bad) -> Near<T> {
        let (pack, offset) = (name_of(location.pack), location.offset);
        let (is, why) = match &bad {
            Bad::Bytes(why) => ("is damaged", why.clone()),
            Bad::Disk(error) => ("cannot be read", error.to_string()),
        };
        // Once in a run: one block of records is read hundreds of times by a check.
        if self.is_news(location, matches!(bad, Bad::Bytes(_))) {
            tracing::error!(
                "block {cid} {is} in {pack} at byte {offset}: {why}; \
                 the sources are asked for a good copy"
            );
        }
        let tier = location.pack.tier;
        // A place that the disk has lost. Too many open files, say, is none.
        let lost = match &bad {
            Bad::Bytes(_) => true,
            Bad::Disk(error) => error.raw_os_error() == Some(libc::EIO),
        };
        self.counters
            .damaged
            .fetch_add(u64::from(lost), Ordering::Relaxed);
        if lost && tier == Tier::Cache {
            self.change_index(&[Change::Remove(*key, location)]);
        }
        match bad {
            Bad::Bytes(why) => Near::Damaged(tier, why),
            Bad::Disk(error) => Near::Failed(tier, Arc::new(error)),
        }
    }
}
