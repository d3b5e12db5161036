//! A run: entries sorted by fingerprint, in chunks, and what is in memory of it.

use super::entry::{ENTRY_BYTES, Entry, decode, encode};
use super::{IndexError, database::Database};
use crate::cache::packs::Location;
use crate::config::INDEX_CHUNK_ENTRIES;

/// Bits of the filter for each entry: about one wrong "maybe" in a hundred.
const FILTER_BITS: usize = 10;
/// Bits that an entry sets in the filter.
const FILTER_HASHES: u32 = 7;

/// What is in memory of a run: about 1.4 bytes an entry.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: u32,
    /// Number of entries.
    pub(super) len: usize,
    /// The first fingerprint of each chunk.
    firsts: Vec<u128>,
    filter: Vec<u64>,
}

impl Run {
    fn new(id: u32, entries: usize) -> Self {
        Self {
            id,
            len: 0,
            firsts: Vec::new(),
            filter: vec![0; (entries * FILTER_BITS).div_ceil(64).max(1)],
        }
    }

    /// The words and bits of the filter that stand for a fingerprint, which is
    /// as good as random already.
    fn bits(&self, fingerprint: u128) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = self.filter.len() as u64 * 64;
        let (one, two) = (fingerprint as u64, (fingerprint >> 64) as u64 | 1);
        (0..FILTER_HASHES).map(move |round| {
            let bit = one.wrapping_add(two.wrapping_mul(u64::from(round))) % bits;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }

    fn note_chunk(&mut self, entries: &[Entry]) {
        self.firsts
            .extend(entries.first().map(|(fingerprint, _)| fingerprint));
        self.len += entries.len();
        for (fingerprint, _) in entries {
            for (word, bit) in self.bits(*fingerprint) {
                if let Some(word) = self.filter.get_mut(word) {
                    *word |= bit;
                }
            }
        }
    }

    fn may_have(&self, fingerprint: u128) -> bool {
        let set = |(word, bit)| {
            self.filter
                .get(word)
                .is_some_and(|word: &u64| word & bit != 0)
        };
        self.bits(fingerprint).all(set)
    }

    /// Looks a fingerprint up: what the run says of it, if anything.
    pub(super) fn get(
        &self,
        database: &Database,
        fingerprint: u128,
    ) -> Result<Option<Option<Location>>, IndexError> {
        if !self.may_have(fingerprint) {
            return Ok(None);
        }
        let chunk = self.firsts.partition_point(|first| *first <= fingerprint);
        let Some(chunk) = chunk.checked_sub(1) else {
            return Ok(None);
        };
        let bytes = database.chunk(self.id, chunk)?;
        let entries = bytes.chunks_exact(ENTRY_BYTES).collect::<Vec<_>>();
        let wanted = fingerprint.to_be_bytes();
        let found = entries.binary_search_by(|entry| entry.get(..16).cmp(&Some(&wanted[..])));
        let Some(entry) = found.ok().and_then(|place| entries.get(place)) else {
            return Ok(None);
        };
        let (_, location) = decode(entry).ok_or_else(malformed)?;
        Ok(Some(location))
    }

    /// The entries of a chunk; none behind the last.
    pub(super) fn entries(
        &self,
        database: &Database,
        chunk: usize,
    ) -> Result<Vec<Entry>, IndexError> {
        if chunk >= self.firsts.len() {
            return Ok(Vec::new());
        }
        decode_chunk(&database.chunk(self.id, chunk)?)
    }

    /// Number of chunks.
    pub(super) fn chunks(&self) -> usize {
        self.firsts.len()
    }
}

fn malformed() -> IndexError {
    IndexError("an entry is malformed".to_owned())
}

fn decode_chunk(bytes: &[u8]) -> Result<Vec<Entry>, IndexError> {
    let entries = bytes.chunks_exact(ENTRY_BYTES);
    if !entries.remainder().is_empty() {
        return Err(malformed());
    }
    entries
        .map(|entry| decode(entry).ok_or_else(malformed))
        .collect()
}

/// Writes a run from entries that come sorted.
pub(super) struct RunWriter<'a> {
    database: &'a Database,
    run: Run,
    chunk: Vec<Entry>,
}

impl<'a> RunWriter<'a> {
    /// Begins a run of at most `entries`.
    pub(super) fn new(database: &'a Database, id: u32, entries: usize) -> Self {
        Self {
            database,
            run: Run::new(id, entries),
            chunk: Vec::with_capacity(INDEX_CHUNK_ENTRIES),
        }
    }

    pub(super) fn push(&mut self, entry: Entry) -> Result<(), IndexError> {
        self.chunk.push(entry);
        if self.chunk.len() == INDEX_CHUNK_ENTRIES {
            self.end_chunk()?;
        }
        Ok(())
    }

    fn end_chunk(&mut self) -> Result<(), IndexError> {
        let mut bytes = Vec::with_capacity(self.chunk.len() * ENTRY_BYTES);
        for entry in &self.chunk {
            // An entry that does not fit is left out: its block counts as absent.
            bytes.extend(encode(entry).into_iter().flatten());
        }
        self.database
            .put_chunk(self.run.id, self.run.chunks(), bytes)?;
        self.run.note_chunk(&self.chunk);
        self.chunk.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Run, IndexError> {
        if !self.chunk.is_empty() {
            self.end_chunk()?;
        }
        Ok(self.run)
    }
}

/// Finds the runs of a database, oldest first, by reading them once.
pub(super) fn load(database: &Database) -> Result<Vec<Run>, IndexError> {
    let mut runs: Vec<Run> = Vec::new();
    for (id, chunks) in database.runs()? {
        let mut run = Run::new(id, chunks * INDEX_CHUNK_ENTRIES);
        for chunk in 0..chunks {
            run.note_chunk(&decode_chunk(&database.chunk(id, chunk)?)?);
        }
        runs.push(run);
    }
    Ok(runs)
}
