//! One node, and what is known of it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::figures::{Counts, NodeFigures};
use super::kept::Kept;
use super::{Configured, Node, PushError, Shared};
use crate::block::Cid;
use crate::clock::since_epoch;
use crate::tree::mfs::Checkpointed;

/// A root to push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The root.
    pub root: Cid,
    /// Last journal entry that is in it.
    pub sequence: u64,
}

impl From<&Checkpointed> for Wanted {
    fn from(one: &Checkpointed) -> Self {
        Self {
            root: one.root,
            sequence: one.sequence,
        }
    }
}

/// One node.
pub(super) struct Target {
    pub(super) shared: Arc<Shared>,
    pub(super) node: Arc<dyn Node>,
    pub(super) fetch: bool,
    configured: bool,
    /// One push at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) counts: Mutex<Counts>,
    /// Someone got through: who waits to try again need not.
    pub(super) through: Notify,
}

impl Target {
    pub(super) fn new(shared: Arc<Shared>, one: Configured, configured: bool) -> Self {
        Self {
            shared,
            node: one.node,
            fetch: one.fetch,
            configured,
            turn: tokio::sync::Mutex::default(),
            counts: Mutex::default(),
            through: Notify::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.node.name()
    }

    pub(super) fn is_configured(&self) -> bool {
        self.configured
    }

    /// What the node has.
    pub(super) fn kept(&self) -> Kept {
        self.shared.kept.get(self.name())
    }

    /// Whether a root is what the node pinned last.
    pub(super) fn has(&self, root: &Cid) -> bool {
        self.kept()
            .pinned
            .is_some_and(|pinned| pinned.root == *root)
    }

    /// Writes down what the node has.
    pub(super) async fn note(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Kept) + Send + 'static,
    ) -> Result<(), PushError> {
        let this = Arc::clone(self);
        let written =
            tokio::task::spawn_blocking(move || this.shared.kept.change(this.name(), change));
        written
            .await
            .map_err(|error| PushError::Content(error.to_string()))?
    }

    /// Seconds since the epoch.
    pub(super) fn now(&self) -> u64 {
        since_epoch(self.shared.clock.now()).as_secs()
    }

    pub(super) fn figures(&self, newest: Option<Cid>) -> NodeFigures {
        let counts = self.counts.lock();
        counts.figures(self.name(), self.configured, self.kept().pinned, newest)
    }
}
