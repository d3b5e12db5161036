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
            TreeError::Exists => libc::EEXIST,
            TreeError::NotEmpty => libc::ENOTEMPTY,
            TreeError::Invalid(_) => libc::EINVAL,
            TreeError::NotPermitted(_) => libc::EPERM,
            TreeError::ReadOnly(_) => libc::EROFS,
            // POSIX has nothing for a limit on a count; programs take it as room that ran out.
            TreeError::NoSpace(_) | TreeError::Limit(_) => libc::ENOSPC,
            TreeError::TooLarge => libc::EFBIG,
            TreeError::TooManyLinks => libc::EMLINK,
            TreeError::NoAttribute => libc::ENODATA,
            // setxattr(2): over a limit of the file system.
            TreeError::AttributeTooLarge => libc::ERANGE,
            TreeError::NoSuchPosition => libc::ENXIO,
            TreeError::OtherNamespace => libc::EXDEV,
            TreeError::Busy(_) => libc::EBUSY,
            TreeError::Unsupported(_) => libc::EOPNOTSUPP,
            // What could not be written stays unwritten, and each fsync says so.
            TreeError::Failed(_) | TreeError::Damaged(_) => libc::EIO,
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
        TreeError::Damaged(_) => "`cidfs fsck` tells what is lost",
        TreeError::Failed(_) => "free or mend the disk, then mount again",
        TreeError::NotFound
        | TreeError::NotADirectory
        | TreeError::IsADirectory
        | TreeError::NotALink
        | TreeError::NameTooLong
        | TreeError::BadPath(_)
        | TreeError::Exists
        | TreeError::NotEmpty
        | TreeError::Invalid(_)
        | TreeError::NotPermitted(_)
        | TreeError::ReadOnly(_)
        | TreeError::NoSpace(_)
        | TreeError::Limit(_)
        | TreeError::TooLarge
        | TreeError::TooManyLinks
        | TreeError::NoAttribute
        | TreeError::AttributeTooLarge
        | TreeError::NoSuchPosition
        | TreeError::OtherNamespace
        | TreeError::Busy(_)
        | TreeError::Unsupported(_) => return error.into(),
    };
    tracing::warn!(doing, cause = %error, next, "a program got an error");
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(error: &TreeError) -> i32 {
        Errno::from(error).0
    }

    #[test]
    fn what_is_absent_is_told_from_what_cannot_be_had() {
        assert_eq!(number(&TreeError::NotFound), libc::ENOENT);
        assert_eq!(number(&TreeError::Timeout("x".into())), libc::ETIMEDOUT);
        assert_eq!(number(&TreeError::Unavailable("x".into())), libc::EIO);
    }

    #[test]
    fn a_write_that_is_refused_says_why() {
        let text = || String::from("why");
        for (error, wanted) in [
            (TreeError::ReadOnly(text()), libc::EROFS),
            (TreeError::NoSpace(text()), libc::ENOSPC),
            (TreeError::Limit(text()), libc::ENOSPC),
            (TreeError::Failed(text()), libc::EIO),
            (TreeError::Damaged(text()), libc::EIO),
            (TreeError::TooLarge, libc::EFBIG),
            (TreeError::TooManyLinks, libc::EMLINK),
            (TreeError::NotPermitted("why"), libc::EPERM),
            (TreeError::OtherNamespace, libc::EXDEV),
            (TreeError::Busy("why"), libc::EBUSY),
        ] {
            assert_eq!(number(&error), wanted, "{error}");
        }
    }

    #[test]
    fn attributes_and_positions_have_errors_of_their_own() {
        assert_eq!(number(&TreeError::NoAttribute), libc::ENODATA);
        assert_eq!(number(&TreeError::AttributeTooLarge), libc::ERANGE);
        assert_eq!(number(&TreeError::Unsupported("why")), libc::EOPNOTSUPP);
        assert_eq!(number(&TreeError::NoSuchPosition), libc::ENXIO);
    }

    #[test]
    fn reporting_changes_no_number() {
        for error in [
            TreeError::Exists,
            TreeError::Failed("x".into()),
            TreeError::NotEmpty,
        ] {
            assert_eq!(report("test", &error), Errno::from(&error));
        }
    }
}
