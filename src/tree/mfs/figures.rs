//! What the tree is doing, in numbers.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::{Checkpointed, Mfs};
use crate::journal::{JournalError, JournalFigures};
use crate::tree::error::TreeError;

/// Figures of the writable tree.
#[derive(Debug, Clone)]
pub struct Figures {
    /// The journal.
    pub journal: JournalFigures,
    /// Why nothing is written any more, if that is so.
    pub stopped: Option<String>,
    /// The last checkpoint.
    pub checkpoint: Option<Checkpointed>,
    /// Why the last try to make one failed, if it did.
    pub checkpoint_failed: Option<String>,
    /// Files that it has as they were before, since they cannot be sealed: the
    /// path and why.
    pub held_back: Vec<(String, String)>,
    /// Changes journaled since then.
    pub changes: u64,
    /// Bytes journaled since then.
    pub changed_bytes: u64,
    /// Nodes in memory.
    pub nodes: usize,
    /// Of these, nodes that differ from the checkpoint.
    pub dirty: usize,
    /// Bytes of files that are in no block yet.
    pub unsealed_bytes: u64,
    /// Transactions of clients that are under way.
    pub transactions: usize,
    /// Age of the oldest change that a power loss would take, in this run.
    pub unsynced_for: Duration,
    /// Files of the journal that a recovery or a repair has set aside.
    pub set_aside: Vec<String>,
    /// Segments of the journal that were given up in this run because the disk
    /// was full, and their bytes.
    pub given_up: (u64, u64),
    /// Free bytes of the journal's disk.
    pub disk_free_bytes: Option<u64>,
}

impl Mfs {
    /// Gives the figures. Reads one journal entry.
    pub fn figures(&self) -> Result<Figures, TreeError> {
        let journal = self.journal.figures();
        let unsynced = match journal.last > journal.durable {
            true => self
                .log
                .get(journal.durable.next().0)?
                .map(|entry| entry.time_ns.max(self.opened_ns)),
            false => None,
        };
        let now = self
            .clock
            .now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let unsynced_for = unsynced.map(|ns| now.saturating_sub(Duration::from_nanos(ns)));
        let (nodes, dirty, unsealed_bytes) = {
            let state = self.state.lock();
            (state.nodes.len(), state.dirty.len(), state.unsealed_bytes)
        };
        Ok(Figures {
            journal,
            stopped: self.stopped(),
            checkpoint: self.kept.lock().last().copied(),
            checkpoint_failed: self.checkpoint_failed.lock().clone(),
            held_back: {
                let held_back = self.held_back.lock();
                let told = held_back.iter();
                told.map(|one| (one.path.clone(), one.why.clone()))
                    .collect()
            },
            changes: self.changes(),
            changed_bytes: self.journaled_bytes.load(Ordering::Relaxed),
            nodes,
            dirty,
            unsealed_bytes,
            transactions: self.open.count(),
            unsynced_for: unsynced_for.unwrap_or_default(),
            set_aside: self.journal.reader().set_aside()?,
            given_up: self.history.given_up(),
            disk_free_bytes: self.disk.free_bytes(&self.journal_dir).ok(),
        })
    }

    /// Why nothing is written any more, if that is so.
    pub fn stopped(&self) -> Option<String> {
        match self.journal.check() {
            Err(error) if !matches!(error, JournalError::OnlyRead) => Some(error.to_string()),
            Ok(()) | Err(_) => self.check_frozen().err().map(|error| error.to_string()),
        }
    }

    /// Changes that are in no checkpoint yet.
    pub fn changes(&self) -> u64 {
        self.journaled_changes.load(Ordering::Relaxed)
    }

    /// Kept checkpoints, oldest first.
    pub fn checkpoints(&self) -> Vec<Checkpointed> {
        self.kept.lock().clone()
    }
}
