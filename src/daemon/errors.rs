//! Errors of the parts as errors of operations.

use crate::control::{ErrorKind, OperationError};
use crate::fs::{MountError, UnmountError};
use crate::repo::RepoError;

impl From<RepoError> for OperationError {
    fn from(error: RepoError) -> Self {
        let message = error.to_string();
        match error {
            RepoError::Nowhere => Self::invalid(message).hint("give --repo DIR"),
            RepoError::Locked { .. } => {
                Self::new(ErrorKind::Busy, message).hint("wait for that process, or end it")
            }
            RepoError::Version { .. } => Self::new(ErrorKind::Unsupported, message)
                .hint("use the version of cidfs that made it, or another directory"),
            RepoError::Config { .. } => Self::invalid(message).hint("correct that line"),
            RepoError::Io { error, .. }
                if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem =>
            {
                Self::new(ErrorKind::Denied, message).hint(
                    "a repository is locked by who reads it, and so must be on a writable disk: \
                     copy it there (`cp -a`) and name the copy by --repo or $CIDFS_REPO",
                )
            }
            RepoError::Io { error, .. } => Self {
                message,
                ..Self::from(error)
            },
        }
    }
}

impl From<MountError> for OperationError {
    fn from(error: MountError) -> Self {
        let message = error.to_string();
        match error {
            MountError::Root(error) => Self::from(error),
            MountError::Mounted(_) => Self::new(ErrorKind::Busy, message),
            MountError::Dir { error, .. } | MountError::Refused { error, .. } => Self {
                message,
                ..Self::from(error)
            },
        }
    }
}

impl From<UnmountError> for OperationError {
    fn from(error: UnmountError) -> Self {
        let message = error.to_string();
        match error {
            UnmountError::NotMounted { .. } => Self::not_found(message),
            UnmountError::Busy { .. } => Self::new(ErrorKind::Busy, message)
                .hint("end these programs, or `cidfs umount --lazy`"),
            UnmountError::Io { error, .. } => Self {
                message,
                ..Self::from(error)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_on_a_disk_that_is_only_read_is_named_with_what_to_do() {
        let error = OperationError::from(RepoError::Io {
            path: "/backup/lock".into(),
            error: std::io::ErrorKind::ReadOnlyFilesystem.into(),
        });
        assert!(error.message.contains("/backup/lock"), "{error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("copy")));
    }
}
