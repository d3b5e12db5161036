//! A transaction of the tree's own: journaled in parts, ended by who began it.

use super::{Refused, mark};
use crate::config::TRANSACTION_DEADLINE_MAX;
use crate::journal::{Class, TxId};
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::changes::op::Op;
use crate::tree::mfs::types::Caller;

/// One that is under way; rolled back where it is dropped without an end. Not
/// to be dropped with the tree's lock held.
pub(in super::super) struct OwnTransaction<'m> {
    mfs: &'m Mfs,
    id: u64,
    ended: bool,
}

impl Mfs {
    /// Begins one. Nobody else can end it, and no deadline does.
    pub(in super::super) fn begin_own(
        &self,
        caller: Caller,
    ) -> Result<OwnTransaction<'_>, TreeError> {
        let id = self.begin_transaction(caller, TRANSACTION_DEADLINE_MAX)?;
        if let Some(staging) = self.open.0.lock().get_mut(&id) {
            staging.committing = true;
        }
        Ok(OwnTransaction {
            mfs: self,
            id,
            ended: false,
        })
    }
}

impl OwnTransaction<'_> {
    /// Its number.
    pub(in super::super) fn id(&self) -> u64 {
        self.id
    }

    /// Journals its end, under the tree's lock; gives the number of that entry.
    pub(in super::super) fn commit(&mut self) -> Result<u64, TreeError> {
        let commit = mark(Op::Commit);
        let last = self.mfs.log(Class::Normal, TxId(self.id), &[&commit])?;
        self.ended = true;
        Ok(last.0)
    }

    /// Journals that it came to nothing, and why.
    pub(in super::super) fn refuse(mut self, error: &TreeError) {
        self.ended = true;
        self.mfs
            .end_refused(self.id, &Refused::Whole(error.clone()));
    }
}

impl Drop for OwnTransaction<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let why = TreeError::Busy("nobody waits for it any more");
            self.mfs.end_refused(self.id, &Refused::Whole(why));
        }
        self.mfs.open.0.lock().remove(&self.id);
    }
}
