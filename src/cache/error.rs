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
    /// The CID can never be served (hash not supported, block too large).
    #[error("{0}")]
    Refused(#[from] crate::block::BlockError),
    /// The repository's disk failed.
    #[error("repository: {0}")]
    Io(Arc<std::io::Error>),
}

impl From<std::io::Error> for CacheError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<CacheError> for std::io::Error {
    fn from(error: CacheError) -> Self {
        let kind = match &error {
            CacheError::Io(cause) => cause.kind(),
            CacheError::NotFound { .. } => std::io::ErrorKind::NotFound,
            CacheError::Timeout { .. } => std::io::ErrorKind::TimedOut,
            CacheError::Refused(_) => std::io::ErrorKind::InvalidInput,
            CacheError::Unavailable { .. } => std::io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
