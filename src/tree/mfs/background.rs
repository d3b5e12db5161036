//! What happens by itself: the regular sync, and checkpoints when they are due.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use super::Mfs;
use crate::config::CHECKPOINT_RETRY;

/// The thread, and what it is told.
#[derive(Default)]
pub(super) struct Background {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    wake: Mutex<()>,
    bell: Condvar,
    ending: AtomicBool,
    due: AtomicBool,
    bytes_max: AtomicU64,
    changes_max: AtomicU64,
    /// Whether the disk was nearly full when it was last looked at.
    tight: AtomicBool,
}

impl Background {
    /// Notes how much was journaled since the last checkpoint.
    pub(super) fn logged(&self, bytes: u64, changes: u64) {
        let over = bytes > self.shared.bytes_max.load(Ordering::Relaxed)
            || changes > self.shared.changes_max.load(Ordering::Relaxed);
        if over && !self.shared.due.swap(true, Ordering::Relaxed) {
            self.shared.bell.notify_all();
        }
    }

    /// Whether the disk is nearly full.
    pub(super) fn is_tight(&self) -> bool {
        self.shared.tight.load(Ordering::Relaxed)
    }

    /// Ends the thread and waits for it.
    pub(super) fn end(&self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        drop(self.shared.wake.lock());
        self.shared.bell.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
        {
            drop(thread.join());
        }
    }
}

impl Mfs {
    /// Starts the thread. It ends with the tree, or by [`close`](Self::close).
    pub(super) fn start(self: &Arc<Self>, runtime: Handle) -> std::io::Result<()> {
        let shared = Arc::clone(&self.background.shared);
        shared
            .bytes_max
            .store(self.options.checkpoint_bytes, Ordering::Relaxed);
        shared
            .changes_max
            .store(self.options.checkpoint_changes, Ordering::Relaxed);
        // What was journaled before the limits were known was measured against none.
        shared.due.store(false, Ordering::Relaxed);
        let me = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("tree-background".into());
        let thread = thread.spawn(move || run(&me, &shared, &runtime))?;
        *self.background.thread.lock() = Some(thread);
        Ok(())
    }

    /// Makes a last checkpoint and ends what happens by itself.
    pub async fn close(&self) {
        self.begin_close();
        self.background.end();
        self.end_transactions();
        if self.journal.check().is_err() {
            return;
        }
        if let Err(error) = self.checkpoint().await {
            // Nothing is lost: the journal has it, and the next start replays it.
            tracing::error!(%error, "no checkpoint at the end");
            if let Err(error) = self.sync() {
                tracing::error!(%error, "the journal could not be synced at the end");
            }
        }
    }

    /// A checkpoint was made: what was journaled before it no longer counts.
    pub(super) fn counted_anew(&self) {
        self.journaled_bytes.store(0, Ordering::Relaxed);
        self.journaled_changes.store(0, Ordering::Relaxed);
        self.background.shared.due.store(false, Ordering::Relaxed);
    }
}

fn run(me: &Weak<Mfs>, shared: &Shared, runtime: &Handle) {
    let mut last = Instant::now();
    let mut not_before = Instant::now();
    loop {
        let Some(interval) = me.upgrade().map(|mfs| mfs.options.commit_interval) else {
            return;
        };
        let mut wake = shared.wake.lock();
        if !shared.ending.load(Ordering::Relaxed) && !shared.due.load(Ordering::Relaxed) {
            shared.bell.wait_for(&mut wake, interval);
        }
        drop(wake);
        if shared.ending.load(Ordering::Relaxed) {
            return;
        }
        let Some(mfs) = me.upgrade() else { return };
        mfs.expire_transactions();
        let free = mfs.disk.free_bytes(&mfs.journal_dir);
        let tight = free.is_ok_and(|free| free < mfs.options.unsealed_bytes_max);
        shared.tight.store(tight, Ordering::Relaxed);
        if mfs.journal.last() > mfs.journal.durable()
            && let Err(error) = mfs.sync()
        {
            tracing::error!(%error, "the journal could not be synced");
            return;
        }
        let changes = mfs.journaled_changes.load(Ordering::Relaxed);
        let is_due = shared.due.load(Ordering::Relaxed)
            || (changes > 0 && last.elapsed() >= mfs.options.checkpoint_interval);
        if is_due && Instant::now() >= not_before {
            if let Err(error) = runtime.block_on(mfs.checkpoint()) {
                tracing::error!(%error, "the checkpoint failed and will be tried again");
                not_before = Instant::now() + CHECKPOINT_RETRY;
                shared.due.store(false, Ordering::Relaxed);
            }
            last = Instant::now();
        }
    }
}
