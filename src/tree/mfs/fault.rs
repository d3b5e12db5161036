//! Why a step on the state did not finish: it lacks something, or must fail.

use super::keep::Keep;
use super::node::Name;
use super::types::NodeId;
use crate::tree::error::TreeError;

/// What must be loaded before a step can be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Need {
    /// What a name leads to.
    Entry(NodeId, Name),
    /// All names of a directory.
    Listing(NodeId),
    /// Whether names of a directory have equal hashes.
    Hashes(NodeId),
    /// What has names in these directories and elsewhere too: with a node that
    /// is unmounted it loses those below, whether it was loaded or not.
    Linked(NodeId, Vec<u64>),
    /// Proof that what is mounted at a node is as the checkpoint has it unchanged.
    Unchanged(NodeId),
    /// What a change rests on, as own blocks.
    Keep(Vec<Keep>),
}

/// Why a step did not finish.
#[derive(Debug)]
pub(super) enum Fault {
    /// Load this and try again.
    Need(Need),
    /// It fails.
    Error(TreeError),
}

impl From<TreeError> for Fault {
    fn from(error: TreeError) -> Self {
        Self::Error(error)
    }
}

/// The outcome of a step.
pub(super) type Step<T> = Result<T, Fault>;
