//! The one table from errors of the tree to what a program sees.

use crate::tree::TreeError;

/// An error number of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl From<&TreeError> for Errno {
    fn from(error: &TreeError) -> Self {
        Self(match error {
            // Only for what is proven absent.
            TreeError::NotFound => libc::ENOENT,
            TreeError::NotADirectory => libc::ENOTDIR,
            TreeError::IsADirectory => libc::EISDIR,
            TreeError::NotALink => libc::EINVAL,
            TreeError::NameTooLong => libc::ENAMETOOLONG,
            TreeError::Timeout(_) => libc::ETIMEDOUT,
            TreeError::Unavailable(_) | TreeError::Malformed { .. } => libc::EIO,
            TreeError::BadPath(_) => libc::ENOENT,
        })
    }
}

/// Turns an error into its number, and leaves the one log line that EIO and
/// ETIMEDOUT owe: what failed, why, and what to do next.
pub(super) fn report(doing: &str, error: &TreeError) -> Errno {
    let next = match error {
        TreeError::Timeout(_) => "check `cidfs sources list`, or raise the deadline",
        TreeError::Unavailable(_) => "add a source that has it: `cidfs sources add`",
        TreeError::Malformed { .. } => "the content itself is damaged or hostile",
        TreeError::NotFound
        | TreeError::NotADirectory
        | TreeError::IsADirectory
        | TreeError::NotALink
        | TreeError::NameTooLong
        | TreeError::BadPath(_) => return error.into(),
    };
    tracing::warn!(doing, cause = %error, next, "a program got an error");
    error.into()
}
