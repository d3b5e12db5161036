//! Why a call on the tree failed.

use crate::block::Cid;
use crate::cache::CacheError;
use crate::unixfs::ReadError;

/// Why a call on the tree failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TreeError {
    /// The name is proven absent.
    #[error("no such file or directory")]
    NotFound,
    /// A directory was needed.
    #[error("not a directory")]
    NotADirectory,
    /// A file was needed.
    #[error("is a directory")]
    IsADirectory,
    /// A symbolic link was needed.
    #[error("not a symbolic link")]
    NotALink,
    /// The name is over 255 bytes.
    #[error("file name too long")]
    NameTooLong,
    /// The content did not arrive before the deadline.
    #[error("{0} did not arrive before the deadline")]
    Timeout(String),
    /// The content cannot be had: no source has it, or they failed.
    #[error("{0}")]
    Unavailable(String),
    /// A block is not what it must be.
    #[error("{cid} is malformed: {why}")]
    Malformed {
        /// The block.
        cid: Box<Cid>,
        /// Why, in words.
        why: String,
    },
    /// The path is not one that this tree has.
    #[error("{0}")]
    BadPath(String),
}

impl From<ReadError> for TreeError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Block(error) => match error {
                CacheError::Timeout { cid } => Self::Timeout(cid.to_string()),
                CacheError::Refused(why) => Self::Unavailable(why.to_string()),
                error @ (CacheError::NotFound { .. }
                | CacheError::Unavailable { .. }
                | CacheError::Io(_)) => Self::Unavailable(error.to_string()),
            },
            ReadError::Malformed { cid, why } => Self::Malformed {
                cid,
                why: why.to_string(),
            },
            ReadError::NotADirectory => Self::NotADirectory,
            ReadError::NotAFile => Self::IsADirectory,
            ReadError::NotALink => Self::NotALink,
        }
    }
}
