//! Kept checkpoints that are let go by who wants their room back.
//!
//! Each commit object names the one before it, and what is kept is found along
//! these names. So those that stay are named anew, each after the one before
//! that stays too, and the last of them is put in force again.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::calls::content::store_failed;
use crate::tree::mfs::checkpoint::Checkpointed;
use crate::tree::mfs::checkpoint::head;
use crate::tree::posix::commit::Commit;

impl Mfs {
    /// Lets kept checkpoints go, by their sequences; gives those that did. The newest
    /// stays. What only they had goes with the next collection.
    pub async fn let_go(&self, which: &BTreeSet<u64>) -> Result<Vec<Checkpointed>, TreeError> {
        let _only = self.checkpointing.lock().await;
        // No collection begins before what is made here is in force.
        let _adding = self.blocks.own_sink();
        self.journal.check()?;
        self.check_open()?;
        let before = self.kept.lock().clone();
        let newest = before.last().map(|last| last.sequence);
        let goes =
            |one: &Checkpointed| which.contains(&one.sequence) && Some(one.sequence) != newest;
        let (gone, stay): (Vec<_>, Vec<_>) = before.into_iter().partition(goes);
        if gone.is_empty() {
            return Ok(gone);
        }
        let stay = self.named_anew(&stay)?;
        let Some(last) = stay.last().copied() else {
            return Ok(Vec::new());
        };
        {
            let _appends_are_under_it = self.state.lock();
            self.log_checkpoint(&last)?;
        }
        self.sync()?;
        if let Err(error) = head::write(&*self.disk, &self.journal_dir, &last.commit) {
            tracing::warn!(%error, "the checkpoint is in the journal, but not named beside it");
        }
        *self.kept.lock() = stay;
        // Who chose what stays has chosen the newest too.
        self.passing.store(false, Ordering::Relaxed);
        self.newest.send_replace(Some(last));
        Ok(gone)
    }

    /// Makes new commit objects of checkpoints, each with the one before it.
    fn named_anew(&self, stay: &[Checkpointed]) -> Result<Vec<Checkpointed>, TreeError> {
        let mut named = Vec::with_capacity(stay.len());
        let mut parent = None;
        for one in stay {
            let commit = Commit {
                sequence: one.sequence,
                time: one.time,
                parent,
                root: one.root,
                posix: one.posix,
            };
            let block = commit.seal();
            let block = block.map_err(|error| TreeError::Failed(error.to_string()))?;
            let cid = *block.cid();
            self.blocks.put_last(block).map_err(store_failed)?;
            named.push(Checkpointed {
                commit: cid,
                ..*one
            });
            parent = Some(cid);
        }
        self.blocks.sync_last().map_err(store_failed)?;
        Ok(named)
    }
}
