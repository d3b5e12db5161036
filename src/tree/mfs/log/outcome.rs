//! What became of a transaction.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

use super::entry::Status;
use crate::config::LOG_OUTCOMES_KEPT;
use crate::journal::{Frame, JournalError, Reader, Seq};
use crate::tree::error::TreeError;
use crate::tree::mfs::changes::op::kind;
use crate::tree::mfs::transaction::Open;

/// Finds what became of transactions, and remembers it.
pub(super) struct Outcomes {
    reader: Reader,
    open: Option<Arc<Open>>,
    known: Mutex<LruCache<u64, Status>>,
}

impl Outcomes {
    pub(super) fn new(reader: Reader, open: Option<Arc<Open>>) -> Self {
        let kept = NonZeroUsize::new(LOG_OUTCOMES_KEPT).unwrap_or(NonZeroUsize::MIN);
        Self {
            reader,
            open,
            known: Mutex::new(LruCache::new(kept)),
        }
    }

    /// The status of a frame.
    pub(super) fn of(&self, frame: &Frame) -> Result<Status, TreeError> {
        let tx = frame.head.tx.0;
        match frame.head.kind {
            kind::FAILED => return Ok(Status::Failed),
            kind::COMMIT | kind::ROLLBACK => return Ok(Status::Completed),
            _ if tx == 0 => return Ok(Status::Completed),
            _ => {}
        }
        if let Some(known) = self.known.lock().get(&tx) {
            return Ok(*known);
        }
        // Asked first: a transaction that ends meanwhile is found in the journal.
        let is_open = self.open.as_ref().is_some_and(|open| open.has(tx));
        let found = self.look_for(tx, frame.head.seq)?;
        match found {
            None if is_open => Ok(Status::Pending),
            other => {
                let status = other.unwrap_or(Status::RolledBack);
                self.known.lock().put(tx, status);
                Ok(status)
            }
        }
    }

    /// Looks for the end of a transaction behind one of its frames.
    fn look_for(&self, tx: u64, after: Seq) -> Result<Option<Status>, TreeError> {
        for frame in self.reader.frames(after.next())? {
            let head = match frame {
                Ok(frame) => frame.head,
                Err(JournalError::Damaged(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            match head.kind {
                kind::COMMIT if head.tx.0 == tx => return Ok(Some(Status::Completed)),
                kind::ROLLBACK if head.tx.0 == tx => return Ok(Some(Status::RolledBack)),
                _ => {}
            }
        }
        Ok(None)
    }
}
