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

mod background;
mod calls;
mod changes;
mod checkpoint;
mod chunks;
mod figures;
mod fsck;
mod history;
mod loading;
pub mod log;
mod nodes;
mod open;
mod options;
pub mod path;
mod perform;
mod snapshots;
mod transaction;
mod types;
mod watch;

pub use calls::mounts::Content;
pub use calls::unmounting::CHANGED as CHANGED_SINCE_MOUNTED;
pub use checkpoint::Checkpointed;
pub use figures::Figures;
pub use fsck::{FsckProgress, Inspection, OnFsck};
pub use nodes::name::Name;
pub use open::{Parts, Recovery};
pub use options::MfsOptions;
pub use snapshots::differences::{Difference, Differences};
pub use snapshots::kept::KeptNode;
pub use snapshots::restore::{Restore, Restored};
pub use transaction::{CONTROL, OpenTransaction, Refused, Staged, WriteAt};
pub use types::*;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::error::TreeError;
use super::posix::PosixMap;
use crate::cache::Blocks;
use crate::clock::Clock;
use crate::journal::{Journal, JournalError};
use crate::unixfs::Reader;

/// The writable tree.
pub struct Mfs {
    state: chunks::ahead::Gate,
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
    sealed: chunks::seal::Unsynced,
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
    /// Who goes by numbers of nodes, and whether nodes should have been dropped meanwhile.
    staying: AtomicUsize,
    trim_due: AtomicBool,
    keeping: calls::keep::Keeping,
}

impl Mfs {
    fn now(&self) -> Time {
        time_of(self.clock.now())
    }

    /// Whether it was opened only to be read.
    pub fn is_only_read(&self) -> bool {
        self.options.only_read
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

    /// Checks the loaded tree; an error says what contradicts itself.
    #[cfg(feature = "testing")]
    pub fn check_sound(&self) -> Result<(), String> {
        let is_idle = self.checkpointing.try_lock();
        let state = self.state.lock();
        if is_idle.is_ok() && state.checkpointing {
            return Err("a checkpoint that has ended counts as being made".to_owned());
        }
        state.unsound().map_or(Ok(()), Err)
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
        if state.let_go > self.options.nodes_loaded_max {
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
            nodes::node::Body::Symlink(link) => Ok(link.target.clone()),
            nodes::node::Body::File(_)
            | nodes::node::Body::Directory(_)
            | nodes::node::Body::Special => Err(TreeError::NotALink),
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
