//! Opens, rebuilds and closes.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::{Mutex, RwLock};

use super::evict::location;
use super::pending::Pending;
use super::{Counters, Lane, Store};
use crate::cache::index::marker::{self, Marker};
use crate::cache::index::{Index, IndexHost, PlainIndex, SledIndex};
use crate::cache::key::Key;
use crate::cache::options::{Spend, StoreOptions, Tier};
use crate::cache::packs::{Pack, Packs, name_of, scan};
use crate::disk::Disk;
use crate::sync::BufferPool;

impl Store {
    /// Opens the store in a repository. Lists the packs and reads one small
    /// file; the index opens, or is rebuilt, in another thread.
    pub(in crate::cache) fn open(
        repo_dir: &Path,
        disk: Arc<dyn Disk>,
        options: StoreOptions,
        pool: Arc<BufferPool>,
    ) -> io::Result<Arc<Self>> {
        let packs = Packs::open(
            Arc::clone(&disk),
            repo_dir.join("packs"),
            options.own_reserve_bytes,
        )?;
        let index_dir = repo_dir.join("index");
        let marker = marker::take(&*disk, &index_dir, &packs)?;
        let store = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            disk,
            index_dir,
            packs,
            index: IndexHost::new(),
            pending: Pending::default(),
            own: Lane::new(Tier::Own, &options),
            cache: Lane::new(Tier::Cache, &options),
            options,
            pool,
            sweeping: RwLock::new(()),
            fresh: Mutex::new(None),
            referred: Mutex::new(None),
            collecting: Mutex::new(()),
            counters: Counters::default(),
            told: Mutex::default(),
            opener: Mutex::new(None),
            closing: AtomicBool::new(false),
            spoilt: AtomicBool::new(false),
            resting_until: Mutex::new(None),
        });
        store.start_opening(marker);
        Ok(store)
    }

    /// Opens the index in a thread of its own.
    fn start_opening(&self, marker: Option<Marker>) {
        let Some(store) = self.me.upgrade() else {
            return;
        };
        let work = move || {
            let index = marker
                .filter(|marker| marker.holds(&store.index_dir))
                .and_then(|_| SledIndex::open(&marker::database(&store.index_dir)).ok())
                .map(|index| Box::new(index) as Box<dyn Index>);
            store.finish_opening(index);
        };
        let thread = thread::Builder::new()
            .name("block index".to_owned())
            .spawn(work);
        match thread {
            Ok(thread) => *self.opener.lock() = Some(thread),
            Err(error) => tracing::error!("the block index cannot be opened: {error}"),
        }
    }

    /// Syncs the own packs of a run that did not end in order: blocks that it
    /// has appended are found here, and not appended again.
    fn sync_earlier(&self) {
        let packs = self.packs.of(Tier::Own);
        let sync = |pack: &Arc<Pack>| {
            let synced = self.packs.file(pack.id)?.sync();
            if synced.is_err() {
                // Nobody knows how much of it: the next start writes all of it again.
                self.packs.note_unsure(&[(pack.id, 0)])?;
            }
            synced
        };
        // All of them: of one that is passed over nobody would know at the next start.
        let mut all: Vec<io::Result<()>> = packs.iter().map(sync).collect();
        if !packs.is_empty() {
            all.push(self.packs.sync_names(Tier::Own));
        }
        let synced: io::Result<()> = all.into_iter().collect();
        if let Err(error) = synced {
            self.own.appender.lock().fail(&error);
            self.owe();
        }
    }

    fn finish_opening(&self, index: Option<Box<dyn Index>>) {
        let clean = index.is_some();
        let index = match index {
            Some(index) => index,
            None => match self.rebuilt() {
                Some(index) => index,
                None => return,
            },
        };
        if !self.spoilt.load(Ordering::Acquire) {
            // Held meanwhile, so that no sync says before that all is safe.
            let mut appender = self.own.appender.lock();
            if let Err(error) = self.packs.make_sure() {
                appender.fail(&error);
            }
            drop(appender);
            if !clean {
                self.sync_earlier();
            }
            self.adopt_last_packs();
        }
        if let Err(error) = self.index.open(index) {
            tracing::error!("the block index failed while it was opened ({error})");
            // What was scanned is lost with it; memory does not fail.
            if let Some(index) = self.filled(Box::<PlainIndex>::default()) {
                drop(self.index.open(index));
            }
        }
    }

    /// Appends go on in the last pack, if it is whole to its end.
    fn adopt_last_packs(&self) {
        for lane in [&self.own, &self.cache] {
            let packs = self.packs.of(lane.tier);
            let Some(last) = packs.last() else { continue };
            let known = last.count.load(Ordering::Acquire) != u32::MAX;
            if known && last.damage.lock().is_empty() {
                let adopted = lane.appender.lock().adopt(&self.packs, last);
                if let Err(error) = adopted {
                    tracing::warn!("{} is not continued: {error}", name_of(last.id));
                }
            }
        }
    }

    /// Makes the index anew from the packs; `None` where the store closes meanwhile.
    fn rebuilt(&self) -> Option<Box<dyn Index>> {
        self.counters.rebuilds.fetch_add(1, Ordering::Relaxed);
        let any = [Tier::Own, Tier::Cache]
            .iter()
            .any(|tier| !self.packs.of(*tier).is_empty());
        if any {
            tracing::info!("the block index is rebuilt from the packs");
        }
        let made = self
            .disk
            .remove_tree(&marker::database(&self.index_dir))
            .and_then(|()| self.disk.make_dirs(&self.index_dir))
            .map_err(|error| error.to_string())
            .and_then(|()| {
                SledIndex::open(&marker::database(&self.index_dir)).map_err(|e| e.to_string())
            });
        match made {
            Ok(index) => match self.filled(Box::new(index)) {
                Some(index) => return Some(index),
                None if self.closing.load(Ordering::Acquire) => return None,
                None => {}
            },
            Err(why) => tracing::error!("the block index is held in memory: {why}"),
        }
        self.filled(Box::<PlainIndex>::default())
    }

    /// Fills an index from the packs: cache before own, old before new, so that
    /// of two copies the better one stays. `None` where it fails or the store closes.
    fn filled(&self, index: Box<dyn Index>) -> Option<Box<dyn Index>> {
        for tier in [Tier::Cache, Tier::Own] {
            for pack in self.packs.of(tier) {
                if let Err(why) = self.index_pack(&pack, &*index) {
                    tracing::error!("{}: {why}", name_of(pack.id));
                    return None;
                }
            }
        }
        Some(index)
    }

    /// Enters the blocks of one pack. A pack that cannot be read is damage, no failure.
    fn index_pack(&self, pack: &Pack, index: &dyn Index) -> Result<(), String> {
        let len = pack.len.load(Ordering::Acquire);
        let mut failed = None;
        let mut count = 0_u32;
        let scanned = self.packs.file(pack.id).and_then(|file| {
            scan(&*file, len, None, &mut |head, ordinal| {
                if self.closing.load(Ordering::Acquire) {
                    failed = Some("the store closes".to_owned());
                    return ControlFlow::Break(());
                }
                count = ordinal + 1;
                let Ok(key) = Key::of(&head.cid) else {
                    return ControlFlow::Continue(());
                };
                if let Err(error) = index.set(&key, Some(location(pack, head, ordinal))) {
                    failed = Some(error.to_string());
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })
        });
        if let Some(why) = failed {
            return Err(why);
        }
        match scanned {
            Ok(mut scanned) => {
                // What a collection has cut off meanwhile is none.
                if !pack.reaches(len) {
                    scanned
                        .damage
                        .retain(|damage| pack.reaches(damage.offset + 1));
                }
                for damage in &scanned.damage {
                    tracing::warn!(
                        "{}: {} bytes at {} are no blocks ({}); they are left as they are",
                        name_of(pack.id),
                        damage.bytes,
                        damage.offset,
                        damage.why
                    );
                }
                *pack.damage.lock() = scanned.damage;
            }
            Err(error) => self.unreadable(pack, len, &error),
        }
        // What was appended while this ran has been counted by the appender.
        let unknown = pack.count.load(Ordering::Acquire) == u32::MAX;
        if unknown {
            pack.count.store(count, Ordering::Release);
        }
        Ok(())
    }

    fn unreadable(&self, pack: &Pack, len: u64, error: &io::Error) {
        tracing::error!("{} cannot be read: {error}", name_of(pack.id));
        let why = error.to_string();
        pack.damage.lock().push(crate::cache::packs::Damage {
            offset: 0,
            bytes: len,
            torn: false,
            why,
        });
    }

    /// Puts an index that failed away and makes a new one. `false` where there
    /// is nothing to be done: the store closes.
    pub(in crate::cache) fn rebuild_index(&self, why: &str) -> bool {
        if self.closing.load(Ordering::Acquire) {
            return false;
        }
        let Some(failed) = self.index.fail() else {
            return true;
        };
        tracing::error!("{why}; it is rebuilt from the packs");
        // A database that failed may hang when it is closed.
        std::mem::forget(failed);
        self.spoilt.store(true, Ordering::Release);
        self.packs.renew();
        let Some(store) = self.me.upgrade() else {
            return false;
        };
        let work = move || {
            let index = store.rebuilt();
            if index.is_some() {
                store.finish_opening(index);
            }
        };
        let thread = thread::Builder::new()
            .name("block index".to_owned())
            .spawn(work);
        match thread {
            Ok(thread) => *self.opener.lock() = Some(thread),
            Err(error) => tracing::error!("the block index cannot be rebuilt: {error}"),
        }
        true
    }

    /// Tells whether the store is being closed.
    pub(in crate::cache) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Appends and syncs what waits, and leaves the index clean. Idempotent.
    pub(in crate::cache) fn close(&self) -> io::Result<()> {
        if self.closing.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let synced = self.sync(Spend::Reserve);
        self.flush_cache();
        let opener = self.opener.lock().take();
        if let Some(opener) = opener
            && opener.thread().id() != thread::current().id()
            && opener.join().is_err()
        {
            tracing::error!("the thread of the block index panicked");
        }
        let Some(index) = self.index.close() else {
            return synced;
        };
        // Without the marker the next start rebuilds, so nothing here is an error.
        let left = match index.close() {
            // The blocks of a pack may have been counted while one was appended.
            Ok(()) if self.spoilt.load(Ordering::Acquire) => Ok(()),
            // The next start syncs all that it finds.
            Ok(()) if synced.is_err() => Ok(()),
            Ok(()) => marker::leave(&*self.disk, &self.index_dir, &self.packs),
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = left {
            tracing::warn!("the block index will be rebuilt at the next start: {error}");
        }
        synced
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!("blocks may not have reached the disk: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::cache::index::IndexError;
    use crate::cache::packs::Location;

    struct Panicky(Mutex<HashSet<Vec<u8>>>);

    impl Index for Panicky {
        fn get(&self, key: &Key) -> Result<Option<Location>, IndexError> {
            self.0.lock().insert(key.as_bytes().to_vec());
            Err(IndexError("on purpose".to_owned()))
        }

        fn set(&self, _: &Key, _: Option<Location>) -> Result<(), IndexError> {
            Err(IndexError("on purpose".to_owned()))
        }

        fn close(self: Box<Self>) -> Result<(), IndexError> {
            Ok(())
        }
    }

    #[test]
    fn an_index_that_fails_while_in_use_is_rebuilt_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(crate::disk::RealDisk);
        let store =
            Store::open(dir.path(), disk, StoreOptions::default(), BufferPool::new()).unwrap();
        let blocks = crate::car::tests::blocks(20);
        for block in &blocks {
            let key = Key::of(block.cid()).unwrap();
            store.put_own(block, &key, false, Spend::Nothing).unwrap();
        }
        store.flush(Tier::Own, Spend::Nothing).unwrap();
        let good = store.index.fail().unwrap();
        drop(good.close());
        let panicky = Box::new(Panicky(Mutex::default()));
        store.index.open(panicky).unwrap();
        let rebuilds = store.counters.rebuilds.load(Ordering::Relaxed);
        let key = Key::of(blocks[3].cid()).unwrap();
        store.lookup(&key);
        assert!(store.index.wait(std::time::Duration::from_secs(10)));
        assert_eq!(
            store.counters.rebuilds.load(Ordering::Relaxed),
            rebuilds + 1
        );
        for block in &blocks {
            let key = Key::of(block.cid()).unwrap();
            let super::super::Near::Found(found) = store.read(block.cid(), &key) else {
                panic!("it is there");
            };
            assert_eq!(found, *block.data());
        }
    }
}
