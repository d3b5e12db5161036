//! The journal as people and programs read it: entries with paths, times and
//! statuses, filtered, from either end.
//!
//! Never changes the journal. An entry never carries the bytes of a file, only
//! where they went. What an entry of a transaction came to is found further on
//! in the journal; a transaction that never ended was rolled back by the
//! recovery that followed.

mod data;
mod entry;
mod outcome;
mod query;
pub mod time;

pub use entry::{Entry, OPERATIONS, Status};
pub use query::{Entries, Order, Query};

use std::path::Path;
use std::sync::Arc;

use super::changes::op::kind;
use super::transaction::Open;
use crate::disk::Disk;
use crate::journal::{JournalError, Reader, Seq};
use crate::tree::error::TreeError;
use outcome::Outcomes;

/// What a recovery would find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Entries after the checkpoint.
    pub seen: u64,
    /// Of these, changes that would be applied.
    pub applied: u64,
    /// Changes of transactions that have not ended.
    pub rolled_back: u64,
}

/// Reads entries. Remembers places and outcomes that it has come by.
pub struct Log {
    reader: Reader,
    outcomes: Outcomes,
}

impl Log {
    /// Reads beside a writer, with the transactions that are under way there.
    pub(super) fn new(reader: Reader, open: Option<Arc<Open>>) -> Self {
        let outcomes = Outcomes::new(reader.clone(), open);
        Self { reader, outcomes }
    }

    /// Reads the journal of a directory that nobody has open.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> Self {
        Self::new(Reader::open(dir, disk), None)
    }

    /// One entry; `None` if it is not there, or no longer.
    pub fn get(&self, entry_id: u64) -> Result<Option<Entry>, TreeError> {
        match self.reader.get(Seq(entry_id))? {
            Some(frame) => Ok(Some(self.entry(&frame)?)),
            None => Ok(None),
        }
    }

    /// Number of the last entry.
    pub fn last(&self) -> Result<u64, TreeError> {
        Ok(self.reader.last()?.0)
    }

    /// Counts what a recovery from a checkpoint would find.
    pub fn count_since(&self, checkpoint: u64) -> Result<Counts, TreeError> {
        let mut counts = Counts::default();
        for frame in self.reader.frames(Seq(checkpoint).next())? {
            let frame = match frame {
                Ok(frame) => frame,
                Err(JournalError::Damaged(_)) => break,
                Err(error) => return Err(error.into()),
            };
            counts.seen += 1;
            if !(kind::CHECKPOINT..=kind::SYNCED).contains(&frame.head.kind) {
                match self.outcomes.of(&frame)? {
                    Status::Completed => counts.applied += 1,
                    Status::Pending | Status::Failed | Status::RolledBack => {
                        counts.rolled_back += 1;
                    }
                }
            }
        }
        Ok(counts)
    }

    /// The entries that `query` asks for, one page of them.
    pub fn page(&self, query: &Query) -> Result<Entries, TreeError> {
        match query.order {
            Order::Newest => self.newest_first(query),
            Order::Oldest => self.oldest_first(query),
        }
    }

    fn newest_first(&self, query: &Query) -> Result<Entries, TreeError> {
        let mut found = Entries::default();
        let mut before = query.before();
        let stop = query.first();
        loop {
            let page = self.reader.page(before.map(Seq), query.frames_at_once())?;
            found.damaged(page.damage.iter().map(ToString::to_string));
            for frame in &page.frames {
                let seq = frame.head.seq.0;
                if seq < stop {
                    return Ok(found);
                }
                found.looked_at += 1;
                if query.may_want(&frame.head) {
                    let entry = self.entry(frame)?;
                    if query.wants(&entry) {
                        found.entries.push(entry);
                    }
                }
                if found.is_full(query) {
                    found.cursor = (seq > stop && seq > 1).then_some(seq);
                    return Ok(found);
                }
            }
            match page.before {
                Some(next) if next.0 > stop => before = Some(next.0),
                Some(_) | None => return Ok(found),
            }
        }
    }

    fn oldest_first(&self, query: &Query) -> Result<Entries, TreeError> {
        let mut found = Entries::default();
        let until = query.before().unwrap_or(u64::MAX);
        for frame in self.reader.frames(Seq(query.first()))? {
            let frame = match frame {
                Ok(frame) => frame,
                Err(JournalError::Damaged(damage)) => {
                    found.damaged([damage.to_string()]);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let seq = frame.head.seq.0;
            if seq >= until {
                return Ok(found);
            }
            found.looked_at += 1;
            if query.may_want(&frame.head) {
                let entry = self.entry(&frame)?;
                if query.wants(&entry) {
                    found.entries.push(entry);
                }
            }
            if found.is_full(query) {
                let goes_on = seq.saturating_add(1) < until && seq < self.last()?;
                found.cursor = goes_on.then_some(seq);
                return Ok(found);
            }
        }
        Ok(found)
    }

    fn entry(&self, frame: &crate::journal::Frame) -> Result<Entry, TreeError> {
        let status = self.outcomes.of(frame)?;
        Ok(Entry::of(frame, status))
    }
}
