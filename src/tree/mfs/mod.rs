//! The writable tree: POSIX nodes over immutable content, every change journaled.
//!
//! A call is planned under the lock of the loaded tree (`state`), which
//! proves that it may happen; its frame goes to the journal; it is applied,
//! which cannot fail; and then it is acknowledged. What a plan meets and is not
//! loaded is loaded from the last checkpoint without the lock, and the plan is
//! made again. Memory follows the changes and what mounts hold, not the tree.
//!
//! What survives: a kill of this process, everything acknowledged; a power
//! loss, everything up to the last [`Mfs::sync`] and of what came later a
//! prefix of the order in which it was acknowledged. Bulk data goes into own
//! packs once, in whole chunks; only partial chunks are in the journal. Of a
//! stream of whole chunks the last few are acknowledged when they are in the
//! ring, before they are hashed and journaled.
//!
//! It never checks permissions (the kernel does), never knows the kernel's
//! protocol or a source, and never waits for the network to write, except for
//! the part of a foreign chunk that is kept when the rest is overwritten.

mod ahead;
mod allocating;
mod apply;
mod background;
mod bulk;
mod chain;
mod checkpoint;
mod class;
mod codec;
mod content;
mod elsewhere;
mod entries;
mod extent_map;
mod extents;
mod fault;
mod figures;
mod fsck;
mod head;
mod history;
mod keep;
mod kept;
mod let_go;
mod load;
pub mod log;
mod meta;
mod mounts;
mod name;
mod node;
mod op;
mod open;
mod options;
pub mod path;
mod rename;
mod restore;
mod ring;
mod seal;
mod small_cid;
mod snapshots;
mod state;
mod table;
mod transaction;
mod types;
mod unmounting;
mod way;
mod xattr;

pub use checkpoint::Checkpointed;
pub use figures::Figures;
pub use fsck::{FsckProgress, Inspection, OnFsck};
pub use kept::KeptNode;
pub use mounts::Content;
pub use name::Name;
pub use open::{Parts, Recovery};
pub use options::MfsOptions;
pub use restore::{Restore, Restored};
pub use snapshots::{Difference, Differences};
pub use transaction::{CONTROL, OpenTransaction, Refused, Staged, WriteAt};
pub use types::*;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::error::TreeError;
use super::posix::PosixMap;
use crate::cache::Blocks;
use crate::clock::Clock;
use crate::config::{NODES_LOADED_MAX, PLAN_ROUNDS_MAX};
use crate::journal::{Class, Journal, JournalError, Record, Seq, TxId};
use crate::unixfs::Reader;
use fault::{Fault, Step};
use op::{Logged, Op};
use state::State;

/// The writable tree.
pub struct Mfs {
    state: ahead::Gate,
    journal: Journal,
    blocks: Arc<Blocks>,
    reader: Arc<Reader>,
    map: PosixMap,
    clock: Arc<dyn Clock>,
    options: MfsOptions,
    watchers: RwLock<Vec<Weak<dyn Watcher>>>,
    /// One checkpoint at a time.
    checkpointing: tokio::sync::Mutex<()>,
    /// Kept checkpoints, oldest first.
    kept: Mutex<Vec<Checkpointed>>,
    /// Whether the newest was made in passing: the next takes its place.
    passing: AtomicBool,
    /// The newest of them, for who waits for one.
    newest: tokio::sync::watch::Sender<Option<Checkpointed>>,
    /// Why the last try to make a checkpoint failed, if it did.
    checkpoint_failed: Mutex<Option<String>>,
    /// Files that the last checkpoint has as they were before, and why.
    held_back: Mutex<Vec<checkpoint::held::HeldBack>>,
    /// Files that could not be sealed, why, and until when they are let alone.
    unsealable: Mutex<HashMap<NodeId, (Instant, TreeError)>>,
    /// One at a time makes room by sealing files.
    relieving: tokio::sync::Mutex<()>,
    /// When it was opened: what was there then was not left unsynced by this run.
    opened_ns: u64,
    /// The last entry that needs no mark behind it.
    marked: AtomicU64,
    recovery: Recovery,
    /// Blocks that were sealed and that no entry of the journal names.
    sealed: seal::Unsynced,
    /// Transactions of clients that are under way.
    open: Arc<transaction::Open>,
    log: log::Log,
    /// Where the journal is, to tell how much room it has.
    disk: Arc<dyn crate::disk::Disk>,
    journal_dir: std::path::PathBuf,
    /// What of the journal may go where the disk is full, and what has gone.
    history: history::History,
    /// Whether it is about to end: who follows the journal stops.
    closing: AtomicBool,
    /// Bytes journaled since the last checkpoint, and changes.
    journaled_bytes: AtomicU64,
    journaled_changes: AtomicU64,
    background: background::Background,
    keeping: keep::Keeping,
}

/// A planned change, and what its caller wants to know of it.
struct Plan<T> {
    /// What is done: all of it or nothing, also by a recovery.
    logged: Vec<Logged>,
    told: T,
}

impl<T> Plan<T> {
    fn of(path: Vec<u8>, op: Op, told: T) -> Self {
        Self {
            logged: vec![Logged {
                path,
                to: Vec::new(),
                op,
            }],
            told,
        }
    }

    fn nothing(told: T) -> Self {
        Self {
            logged: Vec::new(),
            told,
        }
    }
}

impl Mfs {
    /// Tries a step until everything that it needs is loaded.
    async fn look<T>(&self, mut step: impl FnMut(&mut State) -> Step<T>) -> Result<T, TreeError> {
        for _ in 0..PLAN_ROUNDS_MAX {
            let need = match step(&mut self.state.lock()) {
                Ok(value) => return Ok(value),
                Err(Fault::Error(error)) => return Err(error),
                Err(Fault::Need(need)) => need,
            };
            self.load(&need).await?;
        }
        Err(TreeError::Busy(
            "the tree changes faster than it can be read",
        ))
    }

    /// Plans a change, journals it, applies it; `done` sees the tree after it.
    async fn change<T, R>(
        &self,
        origin: Origin,
        mut plan: impl FnMut(&mut State, Time) -> Step<Plan<T>>,
        done: impl FnOnce(&mut State, T) -> R,
    ) -> Result<R, TreeError> {
        let mut done = Some(done);
        self.wait_for_checkpoint().await;
        for _ in 0..PLAN_ROUNDS_MAX {
            let need = {
                let mut state = self.state.lock();
                let planned = plan(&mut state, self.now()).and_then(|plan| {
                    match self.unkept(&state, &plan.logged) {
                        Some(need) => Err(Fault::Need(need)),
                        None => Ok(plan),
                    }
                });
                match planned {
                    Ok(plan) => {
                        let changes = self.perform(&mut state, &plan.logged)?;
                        let done = done.take().ok_or(TreeError::Busy("planned twice"))?;
                        let told = done(&mut state, plan.told);
                        drop(state);
                        self.tell(origin, &changes);
                        return Ok(told);
                    }
                    Err(Fault::Error(error)) => return Err(error),
                    Err(Fault::Need(need)) => need,
                }
            };
            self.load(&need).await?;
        }
        Err(TreeError::Busy(
            "the tree changes faster than it can be read",
        ))
    }

    /// Journals changes, as one transaction where there are several, and applies them.
    fn perform(&self, state: &mut State, logged: &[Logged]) -> Result<Vec<Change>, TreeError> {
        let mut effect = class::Effect::default();
        for one in logged {
            effect.add(state, &one.op, self.options.chunk_bytes());
        }
        self.perform_as(state, effect.class(), logged)
    }

    /// The same, for who knows what room they may use.
    fn perform_as(
        &self,
        state: &mut State,
        class: Class,
        logged: &[Logged],
    ) -> Result<Vec<Change>, TreeError> {
        let watched = !self.watchers.read().is_empty();
        let mut changes = Vec::new();
        let last = match logged {
            [] => return Ok(changes),
            [one] => self.log(class, TxId(0), &[one])?,
            several => {
                let commit = Logged {
                    path: Vec::new(),
                    to: Vec::new(),
                    op: Op::Commit,
                };
                let all: Vec<&Logged> = several.iter().chain([&commit]).collect();
                Seq(self.log(class, self.next_transaction(), &all)?.0 - 1)
            }
        };
        let first = last.0 + 1 - logged.len() as u64;
        for (seq, one) in (first..).zip(logged) {
            if watched {
                changes.extend(changes_of(state, &one.op));
            }
            apply::apply(state, &one.op, seq, self.options.chunk_bytes());
        }
        self.background.changed(state.changed_bytes());
        Ok(changes)
    }

    /// The number of a transaction is that of its first entry, so it is never
    /// given twice. Only right under the tree's lock: all appends are under it.
    fn next_transaction(&self) -> TxId {
        TxId(self.journal.last().next().0)
    }

    /// Journals changes: once this returns they survive a kill.
    fn log(&self, class: Class, tx: TxId, logged: &[&Logged]) -> Result<Seq, TreeError> {
        self.check_open()?;
        logged.iter().try_for_each(|one| one.check_ways())?;
        self.check_room(class)?;
        let payloads: Vec<Vec<u8>> = logged.iter().map(|one| one.encode()).collect();
        let records: Vec<Record<'_>> = logged
            .iter()
            .zip(&payloads)
            .map(|(one, payload)| Record {
                tx,
                kind: one.kind(),
                payload,
            })
            .collect();
        let appended = self.in_place_of_history(|| Ok(self.journal.append(class, &records)?));
        let exhausted = class == Class::Reserve && matches!(appended, Err(TreeError::NoSpace(_)));
        let in_reserve = self.journal.in_reserve();
        self.background.in_reserve(in_reserve, exhausted);
        let seq = appended?;
        let bytes: usize = payloads.iter().map(Vec::len).sum();
        let before = self
            .journaled_bytes
            .fetch_add(bytes as u64 + 64, Ordering::Relaxed);
        let changes = self
            .journaled_changes
            .fetch_add(logged.len() as u64, Ordering::Relaxed);
        self.background.logged(before + bytes as u64, changes);
        Ok(seq)
    }

    /// Whether it was opened only to be read.
    pub fn is_only_read(&self) -> bool {
        self.options.only_read
    }

    /// Fails while what was acknowledged waits for the next start: no entry may
    /// take its place.
    fn check_open(&self) -> Result<(), TreeError> {
        self.state.lane.check()?;
        self.check_frozen()
    }

    /// Refuses what does not make room while only that may use the disk: the
    /// next checkpoint must find room for what is acknowledged until then.
    fn check_room(&self, class: Class) -> Result<(), TreeError> {
        match class {
            Class::Normal => {
                let check = || self.blocks.check_room().map_err(content::store_failed);
                self.in_place_of_history(check)
            }
            Class::Reserve | Class::Last => Ok(()),
        }
    }

    fn tell(&self, origin: Origin, changes: &[Change]) {
        if !changes.is_empty() {
            for watcher in self.watchers.read().iter().filter_map(Weak::upgrade) {
                watcher.changed(origin, changes);
            }
        }
    }

    fn now(&self) -> Time {
        time_of(self.clock.now())
    }

    /// Tells what a node is.
    pub fn attr(&self, node: NodeId) -> Result<NodeAttr, TreeError> {
        Ok(self.state.lock().node(node)?.attr(node))
    }

    /// A directory's parent; the root is its own. `None` once it is unlinked.
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        let state = self.state.lock();
        if node == NodeId::ROOT {
            return Some(node);
        }
        state
            .nodes
            .get(&node)?
            .home
            .as_ref()
            .map(|(parent, _)| *parent)
    }

    /// Holds a node once more; false where it is not loaded.
    pub fn hold(&self, node: NodeId) -> bool {
        match self.state.lock().nodes.get_mut(&node) {
            Some(inode) => {
                inode.hold();
                true
            }
            None => false,
        }
    }

    /// Lets go of `count` holds; an unlinked node goes with its last one.
    pub fn release(&self, node: NodeId, count: u64) {
        self.release_all(&[(node, count)]);
    }

    /// Lets go of holds of several nodes; the lock is taken once.
    pub fn release_all(&self, holds: &[(NodeId, u64)]) {
        let mut state = self.state.lock();
        for (node, count) in holds.iter().filter(|(_, count)| *count > 0) {
            let Some(inode) = state.nodes.get_mut(node) else {
                continue;
            };
            inode.release(*count);
            let is_let_go = inode.held() == 0;
            if is_let_go && inode.nlink == 0 {
                state.remove(*node);
            }
            state.let_go += usize::from(is_let_go);
        }
        if state.let_go > NODES_LOADED_MAX {
            self.trim(&mut state, None);
        }
    }

    /// Everything acknowledged so far survives a power loss once this returned.
    ///
    /// Blocks. Once it failed it keeps failing until the repository is opened anew.
    pub fn sync(&self) -> Result<(), TreeError> {
        // What is acknowledged gets into the journal first.
        drop(self.state.lock());
        // Also where a write beyond it could not be stored.
        let synced = self.journal.sync(self.journal.last());
        self.state.lane.check()?;
        Ok(synced?)
    }

    /// Waits until those who watch have been told of all changes so far and have
    /// passed it on, at most `within`. For who came through another door; never
    /// for a thread that answers the kernel.
    pub async fn told(&self, within: std::time::Duration) {
        let watchers: Vec<_> = self
            .watchers
            .read()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        if watchers.is_empty() {
            return;
        }
        let deadline = std::time::Instant::now() + within;
        let wait = move || watchers.iter().for_each(|one| one.wait_told(deadline));
        if let Err(error) = tokio::task::spawn_blocking(wait).await {
            tracing::error!(%error, "who watches the tree panicked");
        }
    }

    /// Whoever wants to be told of changes, for as long as it is there.
    pub fn watch(&self, watcher: Weak<dyn Watcher>) {
        let mut watchers = self.watchers.write();
        watchers.retain(|one| one.strong_count() > 0);
        watchers.push(watcher);
    }

    /// The journal, to be read.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Profile of the CIDs that it makes.
    pub fn profile(&self) -> crate::unixfs::profile::Profile {
        self.options.profile
    }

    /// The journal, as people and programs read it.
    pub fn history(&self) -> &log::Log {
        &self.log
    }

    /// Says that it is about to end.
    pub fn begin_close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Whether it is about to end.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// The newest checkpoint, as it changes.
    pub fn newest_checkpoint(&self) -> tokio::sync::watch::Receiver<Option<Checkpointed>> {
        self.newest.subscribe()
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The target of a symbolic link.
    pub fn readlink(&self, node: NodeId) -> Result<Bytes, TreeError> {
        match &self.state.lock().node(node)?.body {
            node::Body::Symlink(link) => Ok(link.target.clone()),
            node::Body::File(_) | node::Body::Directory(_) | node::Body::Special => {
                Err(TreeError::NotALink)
            }
        }
    }
}

impl From<JournalError> for TreeError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Full => Self::NoSpace(error.to_string()),
            JournalError::ReadOnly(_) | JournalError::OnlyRead => Self::ReadOnly(error.to_string()),
            JournalError::Damaged(_) => Self::Damaged(error.to_string()),
            JournalError::TooLong { .. } => Self::Limit(error.to_string()),
            other @ (JournalError::Stopped { .. }
            | JournalError::Version { .. }
            | JournalError::Durable { .. }
            | JournalError::Io { .. }) => Self::Failed(other.to_string()),
        }
    }
}

/// A time of day as nodes keep it.
fn time_of(time: std::time::SystemTime) -> Time {
    match time.duration_since(std::time::SystemTime::UNIX_EPOCH) {
        Ok(since) => Time {
            sec: since.as_secs() as i64,
            nsec: since.subsec_nanos(),
        },
        Err(before) => {
            let before = before.duration();
            let borrow = i64::from(before.subsec_nanos() > 0);
            Time {
                sec: -(before.as_secs() as i64) - borrow,
                nsec: (1_000_000_000 - before.subsec_nanos()) % 1_000_000_000,
            }
        }
    }
}

/// What a change will look like to those who keep copies.
fn changes_of(state: &State, op: &Op) -> Vec<Change> {
    let entry = |(parent, name): (NodeId, &node::Name)| Change::Entry {
        parent,
        name: Bytes::copy_from_slice(name),
    };
    let meta = |node: NodeId| Change::Node {
        node,
        content: false,
    };
    let content = |node: NodeId| Change::Node {
        node,
        content: true,
    };
    let led_to = |at: (NodeId, &node::Name)| match state.find(at.0, at.1) {
        Ok(Some(node)) => vec![meta(node)],
        Ok(None) | Err(_) => Vec::new(),
    };
    match op {
        Op::Make(one) => vec![entry((one.parent, &one.name)), content(one.parent)],
        Op::Mount(one) => {
            vec![
                entry((one.parent, &one.name)),
                content(one.parent),
                content(one.node),
            ]
        }
        Op::Link {
            node, parent, name, ..
        } => {
            vec![entry((*parent, name)), content(*parent), meta(*node)]
        }
        Op::Unlink { parent, name, .. }
        | Op::Rmdir { parent, name, .. }
        | Op::Unmount { parent, name, .. } => {
            let mut changes = led_to((*parent, name));
            changes.extend([entry((*parent, name)), content(*parent)]);
            changes
        }
        Op::Rename { from, to, .. } => {
            let mut changes = led_to((from.0, &from.1));
            changes.extend(led_to((to.0, &to.1)));
            changes.extend([entry((from.0, &from.1)), entry((to.0, &to.1))]);
            changes.extend([content(from.0), content(to.0)]);
            changes
        }
        Op::Write { node, .. }
        | Op::WriteBlocks { node, .. }
        | Op::Resize { node, .. }
        | Op::Allocate { node, .. }
        | Op::Share { node, .. } => vec![content(*node)],
        Op::Attr(attr) => vec![meta(attr.node)],
        Op::SetXattr { node, .. } | Op::RemoveXattr { node, .. } => vec![meta(*node)],
        Op::Checkpoint { .. }
        | Op::Begin
        | Op::Commit
        | Op::Rollback
        | Op::Failed { .. }
        | Op::Synced => Vec::new(),
    }
}
