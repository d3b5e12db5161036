//! The index proper: sorted runs of entries, kept in sled.
//!
//! One sled key for each block would cost sled over 100 bytes of memory and
//! some hundred microseconds a block once there are a million, since hashes
//! come in no order. So new entries gather in memory; when there are
//! [`INDEX_RECENT_ENTRIES`] they become a run, sorted, in chunks of 1 KiB, each
//! a value of sled; and four runs of about one size are merged into the next
//! size. A filter in memory tells which runs need not be asked. A million
//! blocks take 32 MB on disk and about 2 MB of memory.
//!
//! Blocks are told apart by 16 bytes of their hash. Two that agree in them (2^64
//! tries for someone who wants that) hide each other; neither is ever served
//! for the other, since what is read is proved.

use std::collections::HashMap;
use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::vec::IntoIter;

use parking_lot::{Mutex, RwLock};

use super::database::Database;
use super::entry::Entry;
use super::run::{Run, RunWriter, load};
use super::{Index, IndexError};
use crate::cache::key::Key;
use crate::cache::packs::Location;
use crate::config::INDEX_RECENT_ENTRIES;

/// How many runs of one size are merged.
const MERGED: usize = 4;

type Recent = HashMap<u128, Option<Location>>;

/// An index in sled.
pub(in crate::cache) struct SledIndex {
    database: Database,
    state: RwLock<State>,
    /// One at a time makes runs.
    making: Mutex<()>,
    next: AtomicU32,
}

#[derive(Clone, Default)]
struct State {
    recent: Recent,
    /// What is being made a run of.
    leaving: Arc<Recent>,
    /// Oldest first.
    runs: Arc<Vec<Arc<Run>>>,
}

impl SledIndex {
    /// Opens the database in `dir`, or makes it.
    pub(in crate::cache) fn open(dir: &Path) -> Result<Self, IndexError> {
        let database = Database::open(dir)?;
        let runs: Vec<_> = load(&database)?.into_iter().map(Arc::new).collect();
        let next = runs.last().map_or(1, |run| run.id + 1);
        Ok(Self {
            database,
            state: RwLock::new(State {
                runs: Arc::new(runs),
                ..State::default()
            }),
            making: Mutex::new(()),
            next: AtomicU32::new(next),
        })
    }

    /// Makes a run of what is recent, and merges. Reads go on meanwhile.
    fn make_run(&self) -> Result<(), IndexError> {
        let _one = self.making.lock();
        let leaving = {
            let mut state = self.state.write();
            state.leaving = Arc::new(std::mem::take(&mut state.recent));
            Arc::clone(&state.leaving)
        };
        if leaving.is_empty() {
            return Ok(());
        }
        let mut entries: Vec<Entry> = leaving.iter().map(|(key, at)| (*key, *at)).collect();
        entries.sort_unstable_by_key(|(fingerprint, _)| *fingerprint);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut writer = RunWriter::new(&self.database, id, entries.len());
        entries
            .into_iter()
            .try_for_each(|entry| writer.push(entry))?;
        self.replace(0, writer.finish()?);
        while self.merge()? {}
        Ok(())
    }

    /// Puts a run in the place of the last `merged` ones, which it gives back.
    fn replace(&self, merged: usize, run: Run) -> Vec<Arc<Run>> {
        let mut state = self.state.write();
        let mut runs = Vec::clone(&state.runs);
        let old = runs.split_off(runs.len().saturating_sub(merged));
        if run.len > 0 {
            runs.push(Arc::new(run));
        }
        state.runs = Arc::new(runs);
        if merged == 0 {
            state.leaving = Arc::default();
        }
        old
    }

    /// Merges the newest runs if there are enough of one size.
    fn merge(&self) -> Result<bool, IndexError> {
        let runs = Arc::clone(&self.state.read().runs);
        let size = |run: &Arc<Run>| (run.len / INDEX_RECENT_ENTRIES).max(1).ilog(MERGED);
        let first = runs.len().saturating_sub(MERGED);
        let last = runs.get(first..).unwrap_or_default();
        let newest = last.last().map(&size);
        if last.len() < MERGED || last.iter().any(|run| Some(size(run)) > newest) {
            return Ok(false);
        }
        let total = last.iter().map(|run| run.len).sum();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut writer = RunWriter::new(&self.database, id, total);
        let mut merge = Merge::new(&self.database, last)?;
        while let Some(entry) = merge.next_entry()? {
            // What is gone need not hide anything where nothing is older.
            if entry.1.is_some() || first > 0 {
                writer.push(entry)?;
            }
        }
        for run in self.replace(MERGED, writer.finish()?) {
            self.database.remove(run.id, run.chunks())?;
        }
        Ok(true)
    }

    fn find(&self, fingerprint: u128) -> Result<Option<Location>, IndexError> {
        let runs = {
            let state = self.state.read();
            let recent = state.recent.get(&fingerprint);
            if let Some(found) = recent.or_else(|| state.leaving.get(&fingerprint)) {
                return Ok(*found);
            }
            Arc::clone(&state.runs)
        };
        for run in runs.iter().rev() {
            if let Some(found) = run.get(&self.database, fingerprint)? {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

impl Index for SledIndex {
    fn get(&self, key: &Key) -> Result<Option<Location>, IndexError> {
        // A merge may remove a run between the look at the list and the read.
        let fingerprint = key.tail();
        self.find(fingerprint)
            .or_else(|_| self.find(fingerprint))
            .or_else(|_| {
                let _one = self.making.lock();
                self.find(fingerprint)
            })
    }

    fn set(&self, key: &Key, location: Option<Location>) -> Result<(), IndexError> {
        let recent = {
            let mut state = self.state.write();
            state.recent.insert(key.tail(), location);
            state.recent.len()
        };
        if recent < INDEX_RECENT_ENTRIES {
            return Ok(());
        }
        self.make_run()
    }

    fn close(self: Box<Self>) -> Result<(), IndexError> {
        self.make_run()?;
        self.database.close()
    }
}

/// Several runs as one, the newest of them counting.
struct Merge<'a> {
    database: &'a Database,
    /// Oldest first: run, next chunk, what is left of the last one.
    inputs: Vec<(&'a Run, usize, Peekable<IntoIter<Entry>>)>,
}

impl<'a> Merge<'a> {
    fn new(database: &'a Database, runs: &'a [Arc<Run>]) -> Result<Self, IndexError> {
        let mut inputs = Vec::new();
        for run in runs {
            let entries = run.entries(database, 0)?;
            inputs.push((&**run, 1, entries.into_iter().peekable()));
        }
        Ok(Self { database, inputs })
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, IndexError> {
        let heads = self
            .inputs
            .iter_mut()
            .filter_map(|(_, _, rest)| rest.peek());
        let Some(lowest) = heads.map(|(fingerprint, _)| *fingerprint).min() else {
            return Ok(None);
        };
        let mut entry = None;
        for (run, chunk, rest) in &mut self.inputs {
            if let Some(found) = rest.next_if(|(fingerprint, _)| *fingerprint == lowest) {
                entry = Some(found);
            }
            if rest.peek().is_none() {
                *rest = run.entries(self.database, *chunk)?.into_iter().peekable();
                *chunk += 1;
            }
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Cid, RAW, SHA2_256, hash};
    use crate::cache::options::Tier;
    use crate::cache::packs::PackId;

    fn key(seed: u32) -> Key {
        let hash = hash(SHA2_256, &seed.to_le_bytes()).unwrap();
        Key::of(&Cid::new_v1(RAW, hash)).unwrap()
    }

    fn place(seed: u32) -> Location {
        let pack = PackId {
            tier: Tier::Own,
            number: 1,
        };
        Location {
            pack,
            offset: u64::from(seed),
            len: 7,
            ordinal: seed,
        }
    }

    /// Against a plain map: sets, replaces, removes, over many runs and a restart.
    #[test]
    fn runs_and_merges_answer_as_a_plain_map_does() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = Box::new(SledIndex::open(dir.path()).unwrap());
        let mut plain: HashMap<u32, Location> = HashMap::new();
        let mut state = 1_u32;
        for round in 0..6 {
            for _ in 0..INDEX_RECENT_ENTRIES {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let seed = state >> 14;
                if state.is_multiple_of(5) {
                    plain.remove(&seed);
                    index.set(&key(seed), None).unwrap();
                } else {
                    plain.insert(seed, place(seed + round));
                    index.set(&key(seed), Some(place(seed + round))).unwrap();
                }
            }
            if round == 3 {
                index.close().unwrap();
                index = Box::new(SledIndex::open(dir.path()).unwrap());
            }
            assert!(index.state.read().runs.len() < 2 * MERGED);
        }
        for seed in (0..1 << 18).step_by(7) {
            assert_eq!(
                index.get(&key(seed)).unwrap(),
                plain.get(&seed).copied(),
                "{seed}"
            );
        }
    }
}
