//! What the kernel forgets, put together.
//!
//! It forgets a hundred thousand inodes at once when its caches are dropped, and
//! asks for nothing else meanwhile; the FUSE library hands them over one by one.
//! Taken back one by one, each would cost the tree's lock, which lookups need.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::files::Files;
use crate::config::{FORGET_AFTER, FORGETS_AT_ONCE};

/// Inode numbers, and how many lookups of each are taken back.
type Batch = Vec<(u64, u64)>;

/// What is forgotten and not taken back yet.
#[derive(Debug, Default)]
pub(super) struct Forgets {
    waiting: Arc<Mutex<Batch>>,
}

/// What to do about what waits.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// Somebody sees to it already.
    Nothing,
    /// It is the first: somebody must see to it in a while.
    Later,
    /// It is enough.
    Now(Batch),
}

impl Forgets {
    /// Takes lookups of an inode back, at once or in a while.
    pub(super) fn forget(&self, runtime: &Handle, files: &Files, one: (u64, u64)) {
        match self.push(one) {
            Due::Nothing => {}
            Due::Now(batch) => files.forget(&batch),
            Due::Later => {
                let (waiting, files) = (Arc::clone(&self.waiting), files.clone());
                runtime.spawn(async move {
                    tokio::time::sleep(FORGET_AFTER).await;
                    let batch = std::mem::take(&mut *waiting.lock());
                    files.forget(&batch);
                });
            }
        }
    }

    fn push(&self, one: (u64, u64)) -> Due {
        let mut waiting = self.waiting.lock();
        waiting.push(one);
        match waiting.len() {
            1 => Due::Later,
            enough if enough >= FORGETS_AT_ONCE => Due::Now(std::mem::take(&mut *waiting)),
            _ => Due::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_forgotten_inode_is_seen_to_once_and_the_first_of_a_batch_in_a_while() {
        let forgets = Forgets::default();
        let mut now = Vec::new();
        let count = FORGETS_AT_ONCE as u64 * 2 + 1;
        for ino in 0..count {
            match forgets.push((ino, 1)) {
                Due::Later => assert_eq!(ino % FORGETS_AT_ONCE as u64, 0),
                Due::Now(batch) => {
                    assert_eq!(batch.len(), FORGETS_AT_ONCE);
                    now.extend(batch);
                }
                Due::Nothing => {}
            }
        }
        now.extend(forgets.waiting.lock().iter());
        assert_eq!(now, (0..count).map(|ino| (ino, 1)).collect::<Vec<_>>());
    }
}
