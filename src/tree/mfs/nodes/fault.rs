//! Why a step on the state did not finish: it lacks something, or must fail.

use super::node::Name;
use crate::block::Cid;
use crate::tree::error::TreeError;
use crate::tree::mfs::types::NodeId;

/// What must be loaded before a step can be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tree::mfs) enum Need {
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

/// What must become own before a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::tree::mfs) enum Keep {
    /// All blocks of a directory.
    Directory(Cid),
    /// A block.
    Block(Cid),
    /// The leaf of a file that a cut there goes through.
    Leaf(Cid, u64),
}

/// Why a step did not finish.
#[derive(Debug)]
pub(in crate::tree::mfs) enum Fault {
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
pub(in crate::tree::mfs) type Step<T> = Result<T, Fault>;
