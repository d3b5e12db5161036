//! The journal's history on a full disk: it goes before anybody is refused.
//!
//! Segments before the checkpoint are kept for people to look at. Where the disk
//! is full they are given up, one after the other from the oldest on, as far as
//! no recovery needs them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Checkpointed, Mfs};
use crate::config::HISTORY_SLACK_BYTES;
use crate::journal::{JournalError, Retention, Retired, Seq};
use crate::tree::error::TreeError;

/// What was given up in this run, and from where on it may not be.
#[derive(Default)]
pub(super) struct History {
    /// The last entry before those that a recovery may need.
    before: AtomicU64,
    segments: AtomicU64,
    bytes: AtomicU64,
}

impl History {
    /// As the checkpoints that are kept, oldest first, have it at the start.
    pub(super) fn of(kept: &[Checkpointed]) -> Self {
        let history = Self::default();
        history.needed_after(kept.iter().rev().nth(1).map_or(0, |one| one.sequence));
        history
    }

    /// Notes the last entry of the checkpoint that a recovery may begin with.
    pub(super) fn needed_after(&self, sequence: u64) {
        self.before.store(sequence, Ordering::Release);
    }

    /// The last entry of the checkpoint that a recovery may begin with.
    pub(super) fn before(&self) -> Seq {
        Seq(self.before.load(Ordering::Acquire))
    }

    /// Segments that were given up in this run, and their bytes.
    pub(super) fn given_up(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.segments), load(&self.bytes))
    }
}

impl Mfs {
    /// Does something that needs room; where the disk is full, again for each
    /// segment of history that is given up for it. `needed` tells how much room that
    /// takes: no segment goes unless all together make it, and none after that.
    pub(super) fn in_place_of_history<T>(
        &self,
        needed: impl Fn() -> u64,
        mut work: impl FnMut() -> Result<T, TreeError>,
    ) -> Result<T, TreeError> {
        let mut lacking = None;
        loop {
            let why = match work() {
                Err(TreeError::NoSpace(why)) => why,
                other => return other,
            };
            let left = lacking.unwrap_or_else(|| self.worth_giving_up(needed()));
            let given = if left > 0 { self.give_up_history() } else { 0 };
            if given == 0 {
                return Err(TreeError::NoSpace(why));
            }
            lacking = Some(left.saturating_sub(given));
        }
    }

    /// How much has to be given up for so many bytes; 0 where that would be for nothing.
    fn worth_giving_up(&self, needed: u64) -> u64 {
        let needed = needed + HISTORY_SLACK_BYTES;
        let free = self.disk.free_bytes(&self.journal_dir).unwrap_or(0);
        let lacking = match needed.saturating_sub(free) {
            // A quota, which does not show in what is free.
            0 => needed,
            lacking => lacking,
        };
        let all = self.journal.bytes_before(self.history.before());
        if all < lacking { 0 } else { lacking }
    }

    /// Gives up the oldest segment of the journal; gives its bytes, 0 where all are needed.
    pub(super) fn give_up_history(&self) -> u64 {
        let one_less = Retention {
            age: Duration::MAX,
            bytes: self.journal.figures().bytes.saturating_sub(1),
        };
        let before = self.history.before();
        self.given_up(self.journal.retire_beyond(before, one_less))
    }

    /// Appends to the journal something that may use what is kept back, which is made
    /// whole before it is refused.
    pub(super) fn in_place_of_spare<T>(
        &self,
        mut append: impl FnMut() -> Result<T, TreeError>,
    ) -> Result<T, TreeError> {
        match append() {
            Err(TreeError::NoSpace(_)) if self.journal.is_short() => {
                self.replenish();
                append()
            }
            other => other,
        }
    }

    /// Gives the journal room for removals again, in the place of what no recovery needs.
    pub(super) fn replenish(&self) {
        self.given_up(self.journal.replenish(self.history.before()));
    }

    fn given_up(&self, gone: Result<Retired, JournalError>) -> u64 {
        match gone {
            Ok(gone) if gone.segments > 0 => {
                let (segments, bytes) = (gone.segments as u64, gone.bytes);
                self.history.segments.fetch_add(segments, Ordering::Relaxed);
                self.history.bytes.fetch_add(bytes, Ordering::Relaxed);
                tracing::warn!(
                    segments,
                    bytes,
                    "the disk is full: the oldest entries of the journal were given up"
                );
                bytes
            }
            Ok(_) => 0,
            Err(error) => {
                tracing::warn!(%error, "the disk is full, and old entries of the journal stay");
                0
            }
        }
    }
}
