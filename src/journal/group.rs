//! Group commit: one sync for all who wait.
//!
//! The first who finds no sync under way leads one; it covers what was
//! appended before it began. Who comes later waits for it and then for the
//! next one, which one of them leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use super::error::{JournalError, Step};
use super::frame::Seq;
use super::writer::Shared;

/// How far the journal survives a power loss, and who waits for more.
pub(super) struct Group {
    durable: AtomicU64,
    syncs: AtomicU64,
    leading: Mutex<bool>,
    done: Condvar,
}

/// Leads until it is dropped, even by a panic of `before_sync`.
struct Leader<'a>(&'a Group);

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        *self.0.leading.lock() = false;
        self.0.done.notify_all();
    }
}

impl Group {
    pub(super) fn new(durable: Seq) -> Self {
        Self {
            durable: AtomicU64::new(durable.0),
            syncs: AtomicU64::new(0),
            leading: Mutex::new(false),
            done: Condvar::new(),
        }
    }

    /// The last frame that survives a power loss.
    pub(super) fn durable(&self) -> Seq {
        Seq(self.durable.load(Ordering::Acquire))
    }

    /// Syncs so far.
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Waits for the sync under way, or becomes the leader of the next one.
    /// `None` if the frame has become durable meanwhile.
    fn wait_or_lead(
        &self,
        shared: &Shared,
        through: Seq,
    ) -> Result<Option<Leader<'_>>, JournalError> {
        let mut leading = self.leading.lock();
        loop {
            if self.durable() >= through {
                return Ok(None);
            }
            shared.check()?;
            if !*leading {
                *leading = true;
                return Ok(Some(Leader(self)));
            }
            self.done.wait(&mut leading);
        }
    }
}

impl Shared {
    /// Returns when all frames up to `through` survive a power loss.
    pub(super) fn sync(&self, through: Seq) -> Result<(), JournalError> {
        let through = through.min(Seq(self.last.load(Ordering::Acquire)));
        if let Some(leader) = self.group.wait_or_lead(self, through)? {
            self.sync_all()?;
            drop(leader);
        }
        Ok(())
    }

    /// The leader's part.
    fn sync_all(&self) -> Result<(), JournalError> {
        let (target, earlier, files, names) = {
            let mut writer = self.writer.lock();
            let mut files = writer.unsynced.clone();
            files.extend(writer.current.as_ref().map(|c| Arc::clone(&c.file)));
            let names = std::mem::take(&mut writer.names_unsynced);
            (
                writer.next_seq.previous(),
                writer.unsynced.len(),
                files,
                names,
            )
        };
        // What the frames refer to goes first: a frame that is on the disk
        // before its data is one that recovery has to take back.
        (self.before_sync)().map_err(|error| self.stop(Step::Data, error))?;
        for file in &files {
            file.sync().map_err(|error| self.stop(Step::Sync, error))?;
        }
        if names {
            let synced = self.folder.sync();
            synced.map_err(|error| self.stop(Step::Sync, error))?;
        }
        // What was current may have got more frames, and another may be now.
        self.writer.lock().unsynced.drain(..earlier);
        self.group.syncs.fetch_add(1, Ordering::Relaxed);
        self.group.durable.fetch_max(target.0, Ordering::AcqRel);
        Ok(())
    }
}
