//! Why a call on the posix map failed.

use std::sync::Arc;

use super::cbor::CborError;
use crate::block::Cid;
use crate::cache::CacheError;
use crate::config::{POSIX_KEY_BYTES_MAX, POSIX_LEVEL_MAX, POSIX_VALUE_BYTES_MAX};

/// Why a call on the posix map failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MapError {
    /// A block could not be had.
    #[error(transparent)]
    Block(#[from] CacheError),
    /// A block is not what it must be here.
    #[error("{cid} is malformed: {why}")]
    Malformed {
        /// The block.
        cid: Box<Cid>,
        /// Why.
        why: Malformed,
    },
    /// A key is over [`POSIX_KEY_BYTES_MAX`]; nothing was made.
    #[error("key of {bytes} bytes is over the limit of {POSIX_KEY_BYTES_MAX}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A value is over [`POSIX_VALUE_BYTES_MAX`]; nothing was made.
    #[error("value of {bytes} bytes is over the limit of {POSIX_VALUE_BYTES_MAX}")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A new block could not be kept.
    #[error("block cannot be kept: {0}")]
    Sink(Arc<std::io::Error>),
}

impl MapError {
    pub(super) fn malformed(cid: &Cid, why: impl Into<Malformed>) -> Self {
        Self::Malformed {
            cid: Box::new(*cid),
            why: why.into(),
        }
    }
}

/// Why bytes are not a node of the posix map, or not the one that belongs there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes are not the dag-cbor of a node.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// The CID is not one that a node has: version 1, dag-cbor, sha2-256.
    #[error("not a node's CID")]
    Cid,
    /// The version is one that this program does not know.
    #[error("version {0} of the posix map is not known")]
    Version(u64),
    /// The map of the node has another key than the one that stands there.
    #[error("unexpected field")]
    Field,
    /// The level is over [`POSIX_LEVEL_MAX`].
    #[error("level {0} is over the limit of {POSIX_LEVEL_MAX}")]
    TooHigh(u64),
    /// A node's level is not one below its parent's.
    #[error("level {found} where {wanted} belongs")]
    Level {
        /// What the node says.
        found: u8,
        /// One below the parent.
        wanted: u8,
    },
    /// Block, key or value are over their limits.
    #[error("{0} is over the limit")]
    TooLarge(&'static str),
    /// There is no entry, or of links just one where a root needs two.
    #[error("too few entries")]
    TooFew,
    /// Keys are not in strictly ascending order.
    #[error("keys are not in order")]
    Order,
    /// Keys are outside what the parent says of this node.
    #[error("keys are not those that the parent names")]
    Bounds,
    /// The node ends elsewhere than where the rule cuts.
    #[error("node ends in the wrong place")]
    Cut,
}
