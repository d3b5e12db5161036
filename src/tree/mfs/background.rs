//! What happens by itself: the regular sync, and checkpoints when they are due.
//!
//! Each has a thread of its own: a checkpoint may wait for a source, and the
//! sync may not wait for a checkpoint.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::Mfs;
use super::changes::op::{Logged, Op};
use crate::config::{CHANGED_WAIT_MAX, CHECKPOINT_RETRY, GIVE_BACK_NODES_MIN};
use crate::journal::{Class, JournalError, Record, Seq, TxId};
use crate::tree::error::TreeError;

/// The threads, and what they are told.
#[derive(Default)]
pub(super) struct Background {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
    /// Whether the last change went into the journal's reserve.
    in_reserve: AtomicBool,
    /// Whether the journal has room for removals only until checkpoints let it give
    /// up what is before them.
    pressed: AtomicBool,
    /// Whether the last change that may use what is kept back found no room.
    exhausted: AtomicBool,
    /// Bytes that changes hold, about, and how many make a checkpoint due.
    changed_bytes: AtomicU64,
    changed_max: AtomicU64,
    /// Whether a checkpoint is under way, and told to who waits for its end.
    making: AtomicBool,
    made: Notify,
    /// Nodes that listings loaded, or that were dropped, since memory was given back.
    moved: AtomicUsize,
}

/// A checkpoint is under way; ends with it, also where whoever waits for it goes.
pub(super) struct UnderWay<'b>(&'b Shared);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.making.store(false, Ordering::Release);
        self.0.made.notify_waiters();
    }
}

impl Background {
    /// Notes how much was journaled since the last checkpoint.
    pub(super) fn logged(&self, bytes: u64, changes: u64) {
        let over = bytes > self.shared.bytes_max.load(Ordering::Relaxed)
            || changes > self.shared.changes_max.load(Ordering::Relaxed);
        if over {
            self.shared.ask();
        }
    }

    /// Notes whether a change went into the journal's reserve. The first that does,
    /// and one that has no room even there, asks for a checkpoint: it is what frees
    /// what was deleted. So does each while the journal is `pressed`.
    pub(super) fn in_reserve(&self, in_reserve: bool, exhausted: bool, pressed: bool) {
        let before = self.shared.in_reserve.swap(in_reserve, Ordering::Relaxed);
        self.shared.pressed.store(pressed, Ordering::Relaxed);
        self.shared.exhausted.store(exhausted, Ordering::Relaxed);
        if exhausted || pressed || (in_reserve && !before) {
            self.shared.ask();
        }
    }

    /// Notes how much memory changes hold.
    pub(super) fn changed(&self, bytes: u64) {
        self.shared.changed_bytes.store(bytes, Ordering::Relaxed);
        if bytes > self.shared.changed_max.load(Ordering::Relaxed) {
            self.shared.ask();
        }
    }

    /// Notes that nodes were loaded or dropped: when that has ended, what it has
    /// used for a while is given back to the system.
    pub(super) fn moved(&self, nodes: usize) {
        self.shared.moved.fetch_add(nodes, Ordering::Relaxed);
    }

    /// Notes that a checkpoint is under way.
    pub(super) fn making(&self) -> UnderWay<'_> {
        self.shared.making.store(true, Ordering::Release);
        UnderWay(&self.shared)
    }

    /// Whether the disk is nearly full.
    pub(super) fn is_tight(&self) -> bool {
        self.shared.tight.load(Ordering::Relaxed)
    }

    /// Ends the threads and waits for them.
    pub(super) fn end(&self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        drop(self.shared.wake.lock());
        self.shared.bell.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if thread.thread().id() != std::thread::current().id() {
                drop(thread.join());
            }
        }
    }
}

impl Mfs {
    /// Starts the threads. They end with the tree, or by [`close`](Self::close).
    pub(super) fn start(self: &Arc<Self>, runtime: Handle) -> std::io::Result<()> {
        let shared = Arc::clone(&self.background.shared);
        shared
            .bytes_max
            .store(self.options.checkpoint_bytes, Ordering::Relaxed);
        shared
            .changes_max
            .store(self.options.checkpoint_changes, Ordering::Relaxed);
        shared
            .changed_max
            .store(self.options.changed_bytes_max, Ordering::Relaxed);
        // Opening used memory for a while too.
        shared.moved.store(GIVE_BACK_NODES_MIN, Ordering::Relaxed);
        // What was journaled before the limits were known was measured against none.
        shared.due.store(false, Ordering::Relaxed);
        let mut threads = self.background.threads.lock();
        let (me, told) = (Arc::downgrade(self), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("tree-sync".into());
        threads.push(thread.spawn(move || keep_synced(&me, &told))?);
        let me = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("tree-checkpoint".into());
        threads.push(thread.spawn(move || keep_checkpointed(&me, &shared, &runtime))?);
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

    /// Says in the journal that everything up to `last` survives a power loss,
    /// once nothing has come for a while: damage there is then told from a torn
    /// end. Once for each end; the mark itself needs none.
    fn mark_synced(&self, last: Seq) -> Result<(), TreeError> {
        let mark = Logged {
            path: Vec::new(),
            to: Vec::new(),
            op: Op::Synced,
        };
        {
            let _all_appends_are_under_it = self.state.lock();
            if last <= self.marked() || self.journal.last() != last {
                return Ok(());
            }
            // The next number may be that of a write that was acknowledged.
            if self.check_open().is_err() {
                return Ok(());
            }
            let record = Record {
                tx: TxId(0),
                kind: mark.kind(),
                payload: &mark.encode(),
            };
            let marked = match self.journal.append(Class::Normal, &[record]) {
                Ok(marked) => marked,
                // It can do without.
                Err(JournalError::Full | JournalError::ReadOnly(_)) => last,
                Err(error) => return Err(error.into()),
            };
            self.marked.store(marked.0, Ordering::Relaxed);
        }
        self.sync()
    }

    /// The last entry that needs no mark behind it.
    fn marked(&self) -> Seq {
        Seq(self.marked.load(Ordering::Relaxed))
    }

    /// Waits while changes hold too much, or have little room, until the checkpoint that is under way
    /// has ended; not long. To be called before anything of a change is done.
    pub(super) async fn wait_for_checkpoint(&self) {
        let shared = &self.background.shared;
        if !shared.is_crowded() {
            return;
        }
        let until = tokio::time::Instant::now() + CHANGED_WAIT_MAX;
        loop {
            let mut made = pin!(shared.made.notified());
            // From here on no end goes unheard.
            made.as_mut().enable();
            let ended = shared.is_crowded() && tokio::time::timeout_at(until, made).await.is_ok();
            if !ended {
                return;
            }
        }
    }

    /// Waits for the checkpoint that makes room for a removal that found none; not
    /// long. False where that was not what lacked room.
    pub(super) async fn wait_for_room(&self) -> bool {
        let shared = &self.background.shared;
        if !shared.exhausted.load(Ordering::Relaxed) {
            return false;
        }
        let mut made = pin!(shared.made.notified());
        made.as_mut().enable();
        // Where none is due or under way it has just ended.
        if shared.due.load(Ordering::Relaxed) || shared.making.load(Ordering::Acquire) {
            drop(tokio::time::timeout(CHANGED_WAIT_MAX, made).await);
        }
        true
    }

    /// Bytes and changes that were journaled since the checkpoint.
    pub(super) fn counted(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.journaled_bytes), load(&self.journaled_changes))
    }

    /// Counts so much no longer; what came after it does. Only under the tree's lock.
    pub(super) fn counted_off(&self, (bytes, changes): (u64, u64)) {
        let (more, others) = self.counted();
        let left = (more.saturating_sub(bytes), others.saturating_sub(changes));
        self.journaled_bytes.store(left.0, Ordering::Relaxed);
        self.journaled_changes.store(left.1, Ordering::Relaxed);
    }

    /// A checkpoint was made.
    pub(super) fn none_due(&self) {
        self.background.shared.due.store(false, Ordering::Relaxed);
    }
}

impl Shared {
    /// Asks for a checkpoint.
    fn ask(&self) {
        if !self.due.swap(true, Ordering::Relaxed) {
            // Whoever has just seen that none is due waits by now.
            drop(self.wake.lock());
            self.bell.notify_all();
        }
    }

    /// Whether changes hold too much, or have little room, and a checkpoint is under
    /// way that ends that.
    fn is_crowded(&self) -> bool {
        let most = self.changed_max.load(Ordering::Relaxed).saturating_mul(2);
        let much = self.changed_bytes.load(Ordering::Relaxed) > most;
        (much || self.pressed.load(Ordering::Relaxed)) && self.making.load(Ordering::Acquire)
    }

    /// Gives memory back to the system if many nodes have moved and none has since
    /// there were `before`; tells how many there are now.
    fn settle_memory(&self, before: usize) -> usize {
        let moved = self.moved.load(Ordering::Relaxed);
        if moved < GIVE_BACK_NODES_MIN || moved != before {
            return moved;
        }
        self.moved.fetch_sub(moved, Ordering::Relaxed);
        crate::memory::give_back();
        0
    }

    /// Waits for a while, and until it ends; with `wanted` until a checkpoint
    /// is due. False if it ends.
    fn wait(&self, interval: Duration, wanted: bool) -> bool {
        let mut wake = self.wake.lock();
        let is_due = wanted && self.due.load(Ordering::Relaxed);
        if !is_due && !self.ending.load(Ordering::Relaxed) {
            self.bell.wait_for(&mut wake, interval);
        }
        !self.ending.load(Ordering::Relaxed)
    }
}

/// How long a thread waits; `None` where the tree is gone.
fn interval(me: &Weak<Mfs>) -> Option<Duration> {
    me.upgrade().map(|mfs| mfs.options.commit_interval)
}

fn keep_synced(me: &Weak<Mfs>, shared: &Shared) {
    let (mut seen, mut moved) = (Seq(0), 0);
    while let Some(interval) = interval(me) {
        if !shared.wait(interval, false) {
            return;
        }
        moved = shared.settle_memory(moved);
        let Some(mfs) = me.upgrade() else { return };
        mfs.expire_transactions();
        let free = mfs.disk.free_bytes(&mfs.journal_dir);
        let tight = free.is_ok_and(|free| free < mfs.options.unsealed_bytes_max);
        shared.tight.store(tight, Ordering::Relaxed);
        let last = mfs.journal.last();
        let done = if last > mfs.journal.durable() {
            mfs.sync()
        } else if last == seen {
            mfs.mark_synced(last)
        } else {
            Ok(())
        };
        if let Err(error) = done {
            tracing::error!(%error, "the journal could not be synced");
            if mfs.journal.check().is_err() {
                return;
            }
        }
        seen = last;
    }
}

fn keep_checkpointed(me: &Weak<Mfs>, shared: &Shared, runtime: &Handle) {
    let mut last = Instant::now();
    let mut not_before = Instant::now();
    while let Some(interval) = interval(me) {
        let may = Instant::now() >= not_before;
        if !shared.wait(interval, may) {
            return;
        }
        let Some(mfs) = me.upgrade() else { return };
        if mfs.journal.check().is_err() {
            return;
        }
        let changes = mfs.journaled_changes.load(Ordering::Relaxed);
        let is_due = shared.due.load(Ordering::Relaxed)
            || (changes > 0 && last.elapsed() >= mfs.options.checkpoint_interval);
        if is_due && Instant::now() >= not_before {
            let made = match mfs.checkpointing.try_lock() {
                Ok(only) => runtime.block_on(mfs.checkpoint_alone(only, true)).map(drop),
                // A restore is under way: the regular sync must not wait for it.
                Err(_) => Err(TreeError::Busy("another one, or a restore, is under way")),
            };
            if let Err(error) = made {
                tracing::warn!(%error, "no checkpoint now; it will be tried again");
                not_before = Instant::now() + CHECKPOINT_RETRY;
                shared.due.store(false, Ordering::Relaxed);
            }
            last = Instant::now();
        }
    }
}
