//! The journal's history on a full disk: it goes before anybody is refused.
//!
//! Segments before the checkpoint are kept for people to look at. Where the disk
//! is full they are given up, one after the other from the oldest on, as far as
//! no recovery needs them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Checkpointed, Mfs};
use crate::journal::{Retention, Seq};
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

    /// Segments that were given up in this run, and their bytes.
    pub(super) fn given_up(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.segments), load(&self.bytes))
    }
}

impl Mfs {
    /// Does something that needs room; where the disk is full, again for each
    /// segment of history that can be given up for it.
    pub(super) fn in_place_of_history<T>(
        &self,
        mut work: impl FnMut() -> Result<T, TreeError>,
    ) -> Result<T, TreeError> {
        loop {
            match work() {
                Err(TreeError::NoSpace(why)) if !self.give_up_history() => {
                    return Err(TreeError::NoSpace(why));
                }
                Err(TreeError::NoSpace(_)) => {}
                other => return other,
            }
        }
    }

    /// Gives up the oldest segment of the journal; false where all are needed.
    pub(super) fn give_up_history(&self) -> bool {
        let before = Seq(self.history.before.load(Ordering::Acquire));
        let one_less = Retention {
            age: Duration::MAX,
            bytes: self.journal.figures().bytes.saturating_sub(1),
        };
        match self.journal.retire_beyond(before, one_less) {
            Ok(gone) if gone.segments > 0 => {
                let (segments, bytes) = (gone.segments as u64, gone.bytes);
                self.history.segments.fetch_add(segments, Ordering::Relaxed);
                self.history.bytes.fetch_add(bytes, Ordering::Relaxed);
                tracing::warn!(
                    segments,
                    bytes,
                    "the disk is full: the oldest entries of the journal were given up"
                );
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, "the disk is full, and old entries of the journal stay");
                false
            }
        }
    }
}
