//! Errors of the layers below as errors of operations.

use super::{ErrorKind, OperationError};
use crate::cache::CacheError;
use crate::tree::TreeError;
use crate::tree::push::PushError;

/// What to try when content cannot be had.
const FETCH_HINT: &str = "`cidfs sources` shows where blocks come from and how that goes";

impl From<TreeError> for OperationError {
    fn from(error: TreeError) -> Self {
        let message = error.to_string();
        match error {
            // A name below a file is as absent as one that its directory lacks.
            TreeError::NotFound | TreeError::NotADirectory => Self::not_found(message),
            TreeError::IsADirectory
            | TreeError::NotALink
            | TreeError::NameTooLong
            | TreeError::BadPath(_)
            | TreeError::Invalid(_)
            | TreeError::OtherNamespace
            | TreeError::NoSuchPosition => Self::invalid(message),
            TreeError::NoAttribute => Self::not_found(message),
            TreeError::Exists | TreeError::NotEmpty | TreeError::Busy(_) => {
                Self::new(ErrorKind::Busy, message)
            }
            TreeError::NotPermitted(_) | TreeError::ReadOnly(_) => {
                Self::new(ErrorKind::Denied, message)
            }
            TreeError::NoSpace(_) => Self::new(ErrorKind::NoSpace, message),
            TreeError::TooLarge
            | TreeError::TooManyLinks
            | TreeError::Limit(_)
            | TreeError::AttributeTooLarge => Self::new(ErrorKind::TooLarge, message),
            TreeError::Unsupported(_) => Self::new(ErrorKind::Unsupported, message),
            TreeError::Failed(_) => Self::internal(message),
            TreeError::Timeout(_) => Self::new(ErrorKind::Timeout, message).hint(FETCH_HINT),
            TreeError::Unavailable(_) => {
                Self::new(ErrorKind::Unavailable, message).hint(FETCH_HINT)
            }
            TreeError::Malformed { .. } => Self::new(ErrorKind::Corrupt, message),
            TreeError::Damaged(_) => {
                Self::new(ErrorKind::Corrupt, message).hint("`cidfs fsck` tells what is lost")
            }
        }
    }
}

impl From<CacheError> for OperationError {
    fn from(error: CacheError) -> Self {
        let message = error.to_string();
        match error {
            CacheError::NotFound { .. } | CacheError::Unavailable { .. } => {
                Self::new(ErrorKind::Unavailable, message).hint(FETCH_HINT)
            }
            CacheError::Timeout { .. } => Self::new(ErrorKind::Timeout, message).hint(FETCH_HINT),
            CacheError::Refused(_) => Self::new(ErrorKind::Unsupported, message),
            CacheError::Io(error) => {
                let kind = Self::from(std::io::Error::from(error.kind())).kind;
                Self::new(kind, message)
            }
        }
    }
}

impl From<PushError> for OperationError {
    fn from(error: PushError) -> Self {
        let message = error.to_string();
        match error {
            PushError::Away(_) | PushError::Later { .. } | PushError::Lacking { .. } => {
                Self::new(ErrorKind::Unavailable, message)
            }
            PushError::Refused(_) => Self::new(ErrorKind::Denied, message),
            PushError::Unknown(_) => Self::invalid(message)
                .hint("`cidfs tree push --status` lists the nodes; others are kubo:ADDRESS"),
            PushError::TooMany => Self::new(ErrorKind::TooLarge, message),
            PushError::Content(_) => Self::new(ErrorKind::Unavailable, message).hint(FETCH_HINT),
            PushError::Kept { error, .. } => Self {
                message,
                ..Self::from(std::io::Error::from(error.kind()))
            },
        }
    }
}
