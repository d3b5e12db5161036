//! Keeps the cache packs within their limits.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Store;
use crate::cache::eviction::{Limits, PackUse, choose};
use crate::cache::index::Change;
use crate::cache::key::Key;
use crate::cache::options::Tier;
use crate::cache::packs::{Location, Pack, scan};

/// Says which limit leaves no room.
fn no_room(limits: &Limits, free: u64, wanted: u64) -> io::Error {
    let why = if free < limits.free_min.saturating_add(wanted) {
        format!(
            "{} MiB of the disk are free, and disk_free_min leaves {} MiB of it alone",
            free >> 20,
            limits.free_min >> 20
        )
    } else {
        format!("cache_bytes_max is {} bytes", limits.bytes_max)
    };
    io::Error::new(io::ErrorKind::StorageFull, why)
}

impl Store {
    pub(super) fn skipped(&self, blocks: u64) {
        self.counters.skipped.fetch_add(blocks, Ordering::Relaxed);
    }

    /// Drops packs until what waits fits.
    pub(super) fn make_room(&self) -> io::Result<()> {
        let wanted = self.cache.queue.lock().bytes as u64;
        let limits = Limits {
            bytes_max: self.options.cache_bytes_max,
            free_min: self.options.disk_free_min,
        };
        let current = self.cache.appender.lock().current();
        let uses: Vec<PackUse> = self
            .packs
            .of(Tier::Cache)
            .iter()
            .map(|pack| PackUse {
                number: pack.id.number,
                bytes: pack.len.load(Ordering::Acquire),
                used: pack.used.load(Ordering::Relaxed),
                current: current == Some(pack.id),
            })
            .collect();
        // A disk that does not say how full it is counts as empty: an append
        // that fails is taken back anyway.
        let dir = self.packs.dir(Tier::Cache);
        let free = self.disk.free_bytes(&dir).unwrap_or(u64::MAX);
        let Some(victims) = choose(&uses, &limits, free, wanted) else {
            return Err(no_room(&limits, free, wanted));
        };
        for pack in self.packs.of(Tier::Cache) {
            if victims.contains(&pack.id.number) {
                self.evict(&pack)?;
            }
        }
        Ok(())
    }

    fn evict(&self, pack: &Arc<Pack>) -> io::Result<()> {
        let bytes = pack.len.load(Ordering::Acquire);
        let file = self.packs.file(pack.id);
        {
            let mut appender = self.cache.appender.lock();
            if appender.current() == Some(pack.id) {
                appender.abandon();
            }
            self.packs.remove(pack.id)?;
        }
        self.counters.evicted_packs.fetch_add(1, Ordering::Relaxed);
        self.counters
            .evicted_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        // Entries that lead to no pack are harmless, so this may fail.
        if let Ok(file) = file {
            let forgotten = self.forget(pack, &*file, bytes);
            if let Err(error) = forgotten {
                tracing::debug!("an evicted pack was not read to its end: {error}");
            }
        }
        Ok(())
    }

    /// Takes the blocks of a pack out of the index.
    pub(in crate::cache) fn forget(
        &self,
        pack: &Pack,
        file: &dyn crate::disk::DiskFile,
        len: u64,
    ) -> io::Result<()> {
        let mut changes = Vec::with_capacity(256);
        scan(file, len, None, &mut |head, ordinal| {
            if let Ok(key) = Key::of(&head.cid) {
                changes.push(Change::Remove(key, location(pack, head, ordinal)));
            }
            if changes.len() == 256 {
                self.change_index(&changes);
                changes.clear();
            }
            ControlFlow::Continue(())
        })?;
        self.change_index(&changes);
        Ok(())
    }
}

/// The location of a section's data.
pub(in crate::cache) fn location(
    pack: &Pack,
    head: &crate::car::SectionHead,
    ordinal: u32,
) -> Location {
    Location {
        pack: pack.id,
        offset: head.data_offset(),
        len: u32::try_from(head.data_len).unwrap_or(u32::MAX),
        ordinal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_no_room_is_told_with_its_figures() {
        let limits = Limits {
            bytes_max: 10 << 30,
            free_min: 1 << 30,
        };
        let told = no_room(&limits, 200 << 20, 5).to_string();
        assert!(
            told.contains("200 MiB") && told.contains("disk_free_min") && told.contains("1024 MiB"),
            "{told}"
        );
        let told = no_room(&limits, 5 << 30, 20 << 30).to_string();
        assert!(told.contains("disk_free_min"), "{told}");
        let small = Limits {
            bytes_max: 4,
            ..limits
        };
        let told = no_room(&small, 50 << 30, 5).to_string();
        assert!(told.contains("cache_bytes_max is 4 bytes"), "{told}");
    }
}
