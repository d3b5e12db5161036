//! Entries that were listed as files though nobody can tell what they are.
//!
//! Whoever was told so may look such a name up and gets the same answer, so that
//! `rm -r` can remove what it was shown. All others get the error: to them it
//! would be a claim about content that cannot be had.

use std::num::NonZeroUsize;
use std::time::Instant;

use lru::LruCache;
use parking_lot::Mutex;

use super::files::Told;
use crate::config::{GUESS_KEPT_FOR, GUESS_PATIENCE, GUESSES_KEPT_MAX};
use crate::patience::within;
use crate::tree::mfs::NodeId;

/// Who was told of which name.
type Key = (u32, NodeId, Box<[u8]>);

/// What was told to whom.
pub(super) struct Guesses(Mutex<Kept>);

struct Kept {
    told: LruCache<Key, Told>,
    /// When a thread was last told so of anything in a directory: reading a long
    /// one takes longer than a guess is kept.
    last: LruCache<(u32, NodeId), Instant>,
}

impl Default for Guesses {
    fn default() -> Self {
        let most = NonZeroUsize::new(GUESSES_KEPT_MAX).unwrap_or(NonZeroUsize::MIN);
        Self(Mutex::new(Kept {
            told: LruCache::new(most),
            last: LruCache::new(most),
        }))
    }
}

impl Guesses {
    /// Notes what a thread is told of a name.
    pub(super) fn note(&self, thread: u32, dir: NodeId, name: &[u8], told: Told) {
        let mut kept = self.0.lock();
        kept.told.put((thread, dir, name.into()), told);
        kept.last.put((thread, dir), Instant::now());
    }

    /// What a thread was told of a name a short while ago.
    pub(super) fn find(&self, thread: u32, dir: NodeId, name: &[u8]) -> Option<Told> {
        let mut kept = self.0.lock();
        let told = *kept.told.get(&(thread, dir, name.into()))?;
        kept.is_fresh(thread, dir).then_some(told)
    }

    /// Whether a thread was told so of anything in a directory a short while ago.
    pub(super) fn any(&self, thread: u32, dir: NodeId) -> bool {
        self.0.lock().is_fresh(thread, dir)
    }

    /// Does what looks for a name: not long where a guess can be told instead.
    pub(super) async fn look<W: Future>(
        &self,
        (thread, dir, name): (u32, NodeId, &[u8]),
        work: W,
    ) -> W::Output {
        match self.find(thread, dir, name) {
            Some(_) => within(GUESS_PATIENCE, work).await,
            None => work.await,
        }
    }
}

impl Kept {
    fn is_fresh(&mut self, thread: u32, dir: NodeId) -> bool {
        let last = self.last.get(&(thread, dir));
        last.is_some_and(|at| at.elapsed() < GUESS_KEPT_FOR)
    }
}
