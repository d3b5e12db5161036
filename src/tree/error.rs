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
    /// What the repository keeps is not what it must be.
    #[error("{0}")]
    Damaged(String),
    /// The path is not one that this tree has.
    #[error("{0}")]
    BadPath(String),
    /// The name is taken.
    #[error("file exists")]
    Exists,
    /// The directory has entries.
    #[error("directory not empty")]
    NotEmpty,
    /// The call makes no sense for this node or range.
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// It is not allowed, whoever asks.
    #[error("operation not permitted: {0}")]
    NotPermitted(&'static str),
    /// What is asked for is immutable, or the tree is read-only.
    #[error("read-only: {0}")]
    ReadOnly(String),
    /// The disk, or the room kept for the journal, is full.
    #[error("no space left: {0}")]
    NoSpace(String),
    /// Over the largest size of a file.
    #[error("file too large")]
    TooLarge,
    /// A node has too many names.
    #[error("too many links")]
    TooManyLinks,
    /// A count or size limit of the tree is reached; the text names it.
    #[error("limit reached: {0}")]
    Limit(String),
    /// No extended attribute of this name.
    #[error("no such attribute")]
    NoAttribute,
    /// An extended attribute is over the limit.
    #[error("attribute too large")]
    AttributeTooLarge,
    /// No data, or no hole, from there on.
    #[error("no such position")]
    NoSuchPosition,
    /// What is in one namespace was to become part of another.
    #[error("not within one namespace")]
    OtherNamespace,
    /// It is in use.
    #[error("busy: {0}")]
    Busy(&'static str),
    /// Not supported by choice.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// The repository cannot be written any more; the text says why and what to do.
    #[error("{0}")]
    Failed(String),
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
