//! Writes that are acknowledged before they are hashed.
//!
//! Hashing takes longer than everything else of a write, and who writes one
//! chunk after the other would wait for it each time, with a core that has
//! nothing to do. So a chunk that goes on a stream is put into the [ring](super::ring),
//! which outlives this process, and is acknowledged; threads hash it, append it to its pack
//! and journal it, in order. A recovery takes up what the journal lacks.
//!
//! Nobody sees the difference: whoever locks the tree first waits until all that
//! was acknowledged is in it. Who does so while chunks are on their way ends the
//! stream, and the next chunks go the long way, so that streams beside other
//! work cost nobody a wait.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::ring::{PATH_BYTES_MAX, Slot, Slots};
use crate::block::Block;
use crate::cache::OwnSink;
use crate::config::{
    AHEAD_CHUNKS_MAX, AHEAD_FREE_BYTES_MIN, AHEAD_GAP_MAX, AHEAD_RUN_MAX, AHEAD_RUN_MIN,
    AHEAD_THREADS,
};
use crate::journal::Class;
use crate::sync::BufferPool;
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::calls::content::{content, leaf_block, stamp, store_failed};
use crate::tree::mfs::changes::op::{Logged, Op, Stamp};
use crate::tree::mfs::changes::way;
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::open;
use crate::tree::mfs::open::Recovery;
use crate::tree::mfs::types::{Caller, NodeId, Origin};

/// The lock of the loaded tree.
#[derive(Default)]
pub(in crate::tree::mfs) struct Gate {
    state: Mutex<State>,
    pub(in crate::tree::mfs) lane: Arc<Lane>,
}

impl Gate {
    /// Locks the tree when all that was acknowledged is in it.
    pub(in crate::tree::mfs) fn lock(&self) -> MutexGuard<'_, State> {
        loop {
            let state = self.state.lock();
            // Raised under this lock only.
            if self.lane.pending.load(Ordering::Acquire) == 0 {
                return state;
            }
            drop(state);
            self.lane.drain();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.lane.queue.lock().ending = true;
        self.lane.bell.notify_all();
        self.lane.moved.notify_all();
    }
}

/// The chunks on their way, in the order in which they were acknowledged.
#[derive(Default)]
pub(in crate::tree::mfs) struct Lane {
    slots: OnceLock<Slots>,
    pub(in crate::tree::mfs) pool: Arc<BufferPool>,
    /// How many chunks are on their way.
    pending: AtomicUsize,
    /// One at a time puts a chunk in, so that none is acknowledged before the one before it.
    entering: Mutex<()>,
    queue: Mutex<Queue>,
    /// There is a chunk to hash.
    bell: Condvar,
    /// A chunk has arrived.
    moved: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// How many of them a thread has taken.
    taken: usize,
    stream: Option<Stream>,
    /// Why nothing more is taken: a chunk that was acknowledged could not be stored.
    stopped: Option<String>,
    ending: bool,
}

/// A file to whose end one whole chunk after the other is written.
struct Stream {
    node: NodeId,
    /// Where the next chunk goes.
    next: u64,
    /// Chunks so far.
    run: u64,
    /// The entry that was the last to change the file.
    changed: u64,
    /// When the last chunk came.
    at: Instant,
}

/// A chunk on its way.
#[derive(Clone)]
struct Job {
    slot: Slot,
    origin: Origin,
    data: Bytes,
    /// No collection begins before the entry that names it.
    _adding: Arc<OwnSink>,
}

impl Lane {
    /// Waits until all chunks have arrived, and ends the stream.
    fn drain(&self) {
        let mut queue = self.queue.lock();
        queue.stream = None;
        while !queue.jobs.is_empty() && !queue.ending {
            self.moved.wait(&mut queue);
        }
    }

    /// Fails once a chunk that was acknowledged could not be stored.
    pub(in crate::tree::mfs) fn check(&self) -> Result<(), TreeError> {
        match &self.queue.lock().stopped {
            None => Ok(()),
            Some(why) => Err(TreeError::Failed(format!(
                "a write could not be stored ({why}); it is tried again at the next start, \
                 and nothing more is taken until then"
            ))),
        }
    }

    /// Notes a chunk that went the long way, and the entry that it became.
    pub(in crate::tree::mfs) fn ran(&self, node: NodeId, offset: u64, len: u64, changed: u64) {
        if self.slots.get().is_none() {
            return;
        }
        let mut queue = self.queue.lock();
        let goes_on = queue.stream.as_ref();
        let goes_on = goes_on.filter(|stream| (stream.node, stream.next) == (node, offset));
        queue.stream = Some(Stream {
            node,
            next: offset + len,
            run: goes_on.map_or(0, |stream| stream.run) + 1,
            changed,
            at: Instant::now(),
        });
    }

    /// Whether a chunk goes on a stream that has lasted.
    fn goes_on(&self, node: NodeId, offset: u64) -> bool {
        let queue = self.queue.lock();
        queue.stream.as_ref().is_some_and(|stream| {
            (stream.node, stream.next) == (node, offset)
                && (AHEAD_RUN_MIN..AHEAD_RUN_MAX).contains(&stream.run)
                && stream.at.elapsed() < AHEAD_GAP_MAX
        })
    }

    /// Waits until a slot of the ring is free.
    fn wait_for_slot(&self) {
        let mut queue = self.queue.lock();
        while queue.jobs.len() >= AHEAD_CHUNKS_MAX {
            self.moved.wait(&mut queue);
        }
    }

    /// Takes the next chunk to hash; waits for one. `None` at the end.
    fn take(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if queue.ending {
                return None;
            }
            if let Some(job) = queue.jobs.get(queue.taken).cloned() {
                queue.taken += 1;
                return Some(job);
            }
            self.bell.wait(&mut queue);
        }
    }

    /// Waits until a chunk is the first of those on their way; false if it is given up.
    fn wait_turn(&self, seq: u64) -> bool {
        let mut queue = self.queue.lock();
        loop {
            match queue.jobs.front() {
                Some(job) if job.slot.seq == seq => return true,
                Some(_) if !queue.ending => self.moved.wait(&mut queue),
                Some(_) | None => return false,
            }
        }
    }

    /// The first chunk is in the tree. Called under its lock.
    fn landed(&self, changed: u64) {
        let mut queue = self.queue.lock();
        queue.jobs.pop_front();
        queue.taken = queue.taken.saturating_sub(1);
        if let Some(stream) = &mut queue.stream {
            stream.changed = changed;
        }
        self.pending.store(queue.jobs.len(), Ordering::Release);
        self.moved.notify_all();
    }

    /// Gives up: what was acknowledged stays in the ring for the next start.
    fn stop(&self, error: &TreeError) {
        tracing::error!(%error, "a write that was acknowledged could not be stored");
        let mut queue = self.queue.lock();
        queue.stopped = Some(error.to_string());
        queue.stream = None;
        queue.jobs.clear();
        queue.taken = 0;
        self.pending.store(0, Ordering::Release);
        self.moved.notify_all();
    }
}

impl Mfs {
    /// Takes a chunk that goes on a stream: it survives a kill of this process once
    /// this has returned. False where it must go the long way.
    pub(in crate::tree::mfs) fn write_ahead(
        &self,
        caller: Caller,
        (node, offset): (NodeId, u64),
        data: &[u8],
        kill_privileges: bool,
    ) -> bool {
        let lane = &self.state.lane;
        let Some(slots) = lane.slots.get() else {
            return false;
        };
        let whole = data.len() as u64 == self.options.chunk_bytes();
        if !whole || !lane.goes_on(node, offset) || !self.has_room_ahead() {
            return false;
        }
        let mut copy = lane.pool.take(data.len());
        copy.copy_from_slice(data);
        let _entering = lane.entering.lock();
        lane.wait_for_slot();
        let adding = self.blocks.own_sink();
        let place = (node, offset);
        let enter = self.enter(caller.origin, place, kill_privileges, copy.freeze(), adding);
        let Some(slot) = enter else {
            return false;
        };
        if let Err(error) = slots.put(&slot, data) {
            tracing::warn!(%error, "the ring takes nothing");
            // It is safe once it is journaled. Where that failed the next sync says so.
            lane.drain();
            return lane.check().is_ok();
        }
        true
    }

    /// A full disk is found before anything is acknowledged. A quota is not seen
    /// here: what meets it lands in the reserves.
    fn has_room_ahead(&self) -> bool {
        let free = self.disk.free_bytes(&self.journal_dir);
        free.is_ok_and(|free| free >= AHEAD_FREE_BYTES_MIN)
            && self.journal.check().is_ok()
            && !self.journal.in_reserve()
            && self.check_room(Class::Normal).is_ok()
    }

    /// Puts a chunk in line, if it can only succeed.
    fn enter(
        &self,
        origin: Origin,
        (node, offset): (NodeId, u64),
        kill_privileges: bool,
        data: Bytes,
        adding: Arc<OwnSink>,
    ) -> Option<Slot> {
        let lane = &self.state.lane;
        let len = data.len() as u64;
        self.end_of(offset, len).ok()?;
        let state = self.state.state.lock();
        let time = self.now();
        let inode = state.node(node).ok()?;
        let path = state.way(node, None);
        let mut queue = lane.queue.lock();
        let behind = queue.jobs.len() as u64;
        let stream = queue.stream.as_mut()?;
        let fits = (stream.node, stream.next) == (node, offset)
            && stream.changed == inode.content_changed()
            && content(inode).ok()?.size() + behind * len == offset
            && stamp(inode, time, kill_privileges).mode.is_none()
            && state.unsealed_bytes <= self.options.unsealed_bytes_max
            && (1..=PATH_BYTES_MAX).contains(&path.len());
        if !fits {
            return None;
        }
        stream.next += len;
        stream.run += 1;
        stream.at = Instant::now();
        let slot = Slot {
            // All else that is journaled waits for these.
            seq: self.journal.last().0 + 1 + behind,
            node,
            path,
            offset,
            time,
        };
        queue.jobs.push_back(Job {
            slot: slot.clone(),
            origin,
            data,
            _adding: adding,
        });
        lane.pending.store(queue.jobs.len(), Ordering::Release);
        lane.bell.notify_one();
        Some(slot)
    }

    /// Makes a chunk a block of its own pack.
    fn store_ahead(&self, data: Bytes) -> Result<Block, TreeError> {
        let block = leaf_block(&self.options.file_form(), data);
        let block = block.map_err(|error| TreeError::Failed(error.to_string()))?;
        // It is acknowledged: where there is no room the reserve is for it.
        let stored = self.blocks.put_reserved(block.clone());
        stored
            .and_then(|()| self.blocks.flush_reserved())
            .map_err(store_failed)?;
        Ok(block)
    }

    /// Journals the first chunk in line and applies it.
    fn land(&self, job: &Job, block: &Block) -> Result<(), TreeError> {
        let logged = logged(&job.slot, block, job.data.len());
        let changes = {
            let mut state = self.state.state.lock();
            let changes = self.perform_as(&mut state, Class::Reserve, &[logged])?;
            let inode = state.node(job.slot.node);
            self.state
                .lane
                .landed(inode.map_or(0, |inode| inode.content_changed()));
            changes
        };
        self.tell(job.origin, &changes);
        Ok(())
    }

    /// Takes up what the last process had acknowledged and not journaled, and
    /// from then on takes chunks itself.
    pub(in crate::tree::mfs) async fn take_up(&self, recovery: &mut Recovery) {
        if self.journal.check().is_err() || self.check_frozen().is_err() {
            return;
        }
        let chunk = self.options.chunk_bytes();
        let path = self.journal_dir.join("ahead.ring");
        let ring = match self.disk.ring(&path, Slots::bytes(chunk)) {
            Ok(Some(ring)) => ring,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "chunks are hashed before they are acknowledged");
                return;
            }
        };
        let slots = Slots::new(ring, chunk);
        while let Some((slot, data)) = slots.get(self.journal.last().0 + 1) {
            if let Err(error) = self.write_again(&slot, &data).await {
                let path = way::shown(slot.path.clone());
                let path = path.escape_ascii();
                let why =
                    format!("a write of {path} that was acknowledged cannot be stored: {error}");
                // Entries behind it would take the numbers of the writes in the ring.
                self.freeze(format!("{why}; it is tried again at the next start"));
                open::note(recovery, why);
                return;
            }
            recovery.entries_applied += 1;
        }
        if slots.clear().is_ok() {
            drop(self.state.lane.slots.set(slots));
        }
    }

    async fn write_again(&self, slot: &Slot, data: &[u8]) -> Result<(), TreeError> {
        let _stay = self.stay();
        // This loads it.
        if self.find_path(&slot.path).await? != Some(slot.node) {
            return Err(TreeError::NotFound);
        }
        // It is acknowledged: where the disk is full what is kept back is for it.
        let block = self.store_ahead(Bytes::copy_from_slice(data))?;
        let logged = logged(slot, &block, data.len());
        self.perform_as(&mut self.state.lock(), Class::Reserve, &[logged])?;
        Ok(())
    }

    /// Starts the threads that hash, where there is a ring.
    pub(in crate::tree::mfs) fn start_hashing(self: &Arc<Self>) -> std::io::Result<()> {
        if self.state.lane.slots.get().is_none() {
            return Ok(());
        }
        for number in 0..AHEAD_THREADS {
            let (me, lane) = (Arc::downgrade(self), Arc::clone(&self.state.lane));
            let thread = std::thread::Builder::new().name(format!("tree-hash-{number}"));
            thread.spawn(move || run(&me, &lane))?;
        }
        Ok(())
    }
}

/// The change that a write in the ring becomes, once it is a block.
fn logged(slot: &Slot, block: &Block, len: usize) -> Logged {
    Logged {
        path: slot.path.clone(),
        to: Vec::new(),
        op: Op::WriteBlocks {
            node: slot.node,
            offset: slot.offset,
            stamp: Stamp {
                time: slot.time,
                mode: None,
            },
            blocks: vec![(*block.cid(), len as u32)],
        },
    }
}

fn run(me: &Weak<Mfs>, lane: &Lane) {
    while let Some(job) = lane.take() {
        let Some(mfs) = me.upgrade() else { return };
        let stored = mfs.store_ahead(job.data.clone());
        if lane.wait_turn(job.slot.seq)
            && let Err(error) = stored.and_then(|block| mfs.land(&job, &block))
        {
            lane.stop(&error);
        }
    }
}
