//! Why a block could not be had or kept.

use std::sync::Arc;

use crate::block::Cid;

/// Why a block could not be had or kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheError {
    /// Nothing local has it and every source says that it does not have it,
    /// or there is no source.
    #[error("no source has {cid}")]
    NotFound {
        /// The block.
        cid: Cid,
    },
    /// It may exist, but no source answered in time.
    #[error("{cid} did not arrive before the deadline")]
    Timeout {
        /// The block.
        cid: Cid,
    },
    /// It may exist, but the sources failed.
    #[error("{cid} cannot be fetched: {why}")]
    Unavailable {
        /// The block.
        cid: Cid,
        /// Cause in words.
        why: String,
    },
    /// It is here, its bytes are not good, and no source gave a good copy.
    #[error("{cid} is damaged on disk ({why}) and no source has a good copy")]
    Damaged {
        /// The block.
        cid: Cid,
        /// Cause in words.
        why: String,
    },
    /// The CID can never be served (hash not supported, block too large).
    #[error("{0}")]
    Refused(#[from] crate::block::BlockError),
    /// The repository's disk failed.
    #[error("repository: {0}")]
    Io(Arc<std::io::Error>),
    /// This store has no disk, so it cannot do this.
    #[error("there is no repository to do this in")]
    NoRepository,
    /// The index has not finished opening.
    #[error("the block index is still opening")]
    NotReady,
    /// The pins cannot be read or changed.
    #[error("pins: {0}")]
    Pins(String),
    /// A collection was refused because it could lose blocks.
    #[error("nothing was collected: {0}")]
    Unsafe(String),
}

impl From<std::io::Error> for CacheError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<CacheError> for std::io::Error {
    fn from(error: CacheError) -> Self {
        match &error {
            CacheError::Io(cause) => {
                let code = cause.raw_os_error();
                code.map_or_else(|| Self::new(cause.kind(), error), Self::from_raw_os_error)
            }
            CacheError::NotFound { .. } => Self::new(std::io::ErrorKind::NotFound, error),
            CacheError::Timeout { .. } => Self::new(std::io::ErrorKind::TimedOut, error),
            CacheError::Refused(_) => Self::new(std::io::ErrorKind::InvalidInput, error),
            CacheError::Unavailable { .. }
            | CacheError::Damaged { .. }
            | CacheError::NoRepository
            | CacheError::NotReady
            | CacheError::Pins(_)
            | CacheError::Unsafe(_) => Self::other(error),
        }
    }
}
