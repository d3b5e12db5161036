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
use crate::config::{GUESS_KEPT_FOR, GUESSES_KEPT_MAX};
use crate::tree::mfs::NodeId;

/// Who was told of which name.
type Key = (u32, NodeId, Box<[u8]>);

/// What was told to whom.
pub(super) struct Guesses(Mutex<LruCache<Key, (Instant, Told)>>);

impl Default for Guesses {
    fn default() -> Self {
        let most = NonZeroUsize::new(GUESSES_KEPT_MAX).unwrap_or(NonZeroUsize::MIN);
        Self(Mutex::new(LruCache::new(most)))
    }
}

impl Guesses {
    /// Notes what a thread is told of a name.
    pub(super) fn note(&self, thread: u32, dir: NodeId, name: &[u8], told: Told) {
        let key = (thread, dir, name.into());
        self.0.lock().put(key, (Instant::now(), told));
    }

    /// What a thread was told of a name a short while ago.
    pub(super) fn find(&self, thread: u32, dir: NodeId, name: &[u8]) -> Option<Told> {
        let key = (thread, dir, name.into());
        let mut guesses = self.0.lock();
        let (at, told) = guesses.get(&key)?;
        (at.elapsed() < GUESS_KEPT_FOR).then_some(*told)
    }
}
