//! What is pushed to whom, in numbers.

use std::time::{Duration, Instant};

use super::kept::PinnedRoot;
use crate::block::Cid;

/// What is done for a node now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// Nothing.
    Idle,
    /// A root is on its way.
    Pushing(Cid),
    /// It failed and will be tried again, after so long.
    Waiting(Duration),
}

/// How far a push is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushProgress {
    /// The node.
    pub node: String,
    /// `waiting`, `comparing`, `sending` or `pinning`.
    pub phase: &'static str,
    /// Blocks sent.
    pub blocks: u64,
    /// Of so many.
    pub blocks_total: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Of so many.
    pub bytes_total: u64,
}

/// One node: what it has, and how that went since the start.
#[derive(Debug, Clone)]
pub struct NodeFigures {
    /// Its name.
    pub name: String,
    /// Whether each new root is pushed to it.
    pub configured: bool,
    /// What is done for it now.
    pub doing: Doing,
    /// The root that it pinned last.
    pub root: Option<Cid>,
    /// The last journal entry that is in it.
    pub sequence: u64,
    /// When, in seconds since the epoch.
    pub pushed_at: u64,
    /// Whether that is the newest root.
    pub current: bool,
    /// Roots that it got since the start.
    pub pushes: u64,
    /// Blocks that were sent to it.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Subtrees of the last root that only a link leads to here, and that were not sent.
    pub far: u64,
    /// Pushes that failed.
    pub failures: u64,
    /// Of these, since the last one that did not.
    pub failures_in_a_row: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
}

/// What a target counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) pushing: Option<Cid>,
    pub(super) again_at: Option<Instant>,
    pub(super) pushes: u64,
    pub(super) blocks: u64,
    pub(super) bytes: u64,
    pub(super) far: u64,
    pub(super) failures: u64,
    pub(super) in_a_row: u32,
    pub(super) last_error: Option<String>,
    /// Whether one went well, also one that had nothing to send.
    pub(super) went_well: bool,
}

impl Counts {
    /// Whether the last push went well.
    pub(super) fn pushes_well(&self) -> bool {
        self.went_well && self.in_a_row == 0
    }

    pub(super) fn figures(
        &self,
        name: &str,
        configured: bool,
        pinned: Option<PinnedRoot>,
        newest: Option<Cid>,
    ) -> NodeFigures {
        NodeFigures {
            name: name.to_owned(),
            configured,
            doing: self.doing(),
            root: pinned.map(|pinned| pinned.root),
            sequence: pinned.map_or(0, |pinned| pinned.sequence),
            pushed_at: pinned.map_or(0, |pinned| pinned.at),
            current: pinned.map(|pinned| pinned.root) == newest,
            pushes: self.pushes,
            blocks: self.blocks,
            bytes: self.bytes,
            far: self.far,
            failures: self.failures,
            failures_in_a_row: self.in_a_row,
            last_error: self.last_error.clone(),
        }
    }

    fn doing(&self) -> Doing {
        match (self.pushing, self.again_at) {
            (Some(root), _) => Doing::Pushing(root),
            (None, Some(at)) => Doing::Waiting(at.saturating_duration_since(Instant::now())),
            (None, None) => Doing::Idle,
        }
    }
}
