//! Why an operation failed, in a form that every face can show.

use serde::{Deserialize, Serialize};

/// What kind of failure it was; decides HTTP status and exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The parameters are wrong.
    Invalid,
    /// The operation wants another method of HTTP.
    Method,
    /// No operation has that name.
    UnknownOperation,
    /// What was asked for does not exist, proven.
    NotFound,
    /// It may exist, but cannot be had now.
    Unavailable,
    /// The daemon is ending: nothing was done, and the next one can be asked.
    Ending,
    /// It did not arrive before the deadline.
    Timeout,
    /// Bytes are damaged or not what they claim to be.
    Corrupt,
    /// Someone uses it, or it exists already.
    Busy,
    /// The tree has moved on since the transaction was staged.
    Conflict,
    /// The caller may not.
    Denied,
    /// A limit was exceeded.
    TooLarge,
    /// The disk is full.
    NoSpace,
    /// Not supported by choice.
    Unsupported,
    /// Everything else: an I/O error, a bug.
    Internal,
}

impl ErrorKind {
    /// The HTTP status of this kind.
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Denied => 403,
            Self::Method => 405,
            Self::UnknownOperation | Self::NotFound => 404,
            Self::Busy | Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Corrupt => 422,
            Self::Internal => 500,
            Self::Unsupported => 501,
            Self::Unavailable | Self::Ending => 503,
            Self::Timeout => 504,
            Self::NoSpace => 507,
        }
    }

    /// The exit code of the program for this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Internal | Self::NoSpace | Self::Unsupported => 1,
            Self::Invalid | Self::Method | Self::UnknownOperation | Self::TooLarge => 2,
            Self::NotFound => 3,
            Self::Unavailable | Self::Ending | Self::Timeout => 4,
            Self::Corrupt => 5,
            Self::Busy => 6,
            Self::Denied => 7,
            Self::Conflict => 8,
        }
    }
}

/// Why an operation failed: the kind, what happened, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct OperationError {
    /// Kind, for programs.
    pub kind: ErrorKind,
    /// What happened, for people.
    pub message: String,
    /// What to do next, where there is something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl OperationError {
    /// Makes an error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts what was being done in front of the message.
    #[must_use]
    pub fn context(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Wrong parameters.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Proven absent.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// A failure that nobody foresaw.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
}

impl From<std::io::Error> for OperationError {
    fn from(error: std::io::Error) -> Self {
        // One of ours that went through somebody's I/O comes out as it was.
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Self>());
        if let Some(inner) = inner {
            return inner.clone();
        }
        let kind = kind_of_io(error.kind());
        let error = Self::new(kind, error.to_string());
        if kind == ErrorKind::NoSpace {
            return error.hint("free space on the repository's disk, or run `cidfs gc`");
        }
        error
    }
}

/// Gives the kind of failure that an I/O error is.
fn kind_of_io(kind: std::io::ErrorKind) -> ErrorKind {
    use std::io::ErrorKind as Io;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the standard library's list is open"
    )]
    match kind {
        Io::NotFound => ErrorKind::NotFound,
        Io::PermissionDenied => ErrorKind::Denied,
        Io::TimedOut => ErrorKind::Timeout,
        Io::ResourceBusy | Io::AlreadyExists => ErrorKind::Busy,
        Io::StorageFull | Io::QuotaExceeded => ErrorKind::NoSpace,
        Io::InvalidData => ErrorKind::Corrupt,
        Io::InvalidInput => ErrorKind::Invalid,
        Io::FileTooLarge => ErrorKind::TooLarge,
        _ => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_error_status_and_a_failing_exit_code() {
        for kind in [
            ErrorKind::Invalid,
            ErrorKind::Method,
            ErrorKind::UnknownOperation,
            ErrorKind::NotFound,
            ErrorKind::Unavailable,
            ErrorKind::Ending,
            ErrorKind::Timeout,
            ErrorKind::Corrupt,
            ErrorKind::Busy,
            ErrorKind::Conflict,
            ErrorKind::Denied,
            ErrorKind::TooLarge,
            ErrorKind::NoSpace,
            ErrorKind::Unsupported,
            ErrorKind::Internal,
        ] {
            assert!((400..600).contains(&kind.status()), "{kind:?}");
            assert!((1..9).contains(&kind.exit_code()), "{kind:?}");
        }
    }

    #[test]
    fn an_error_survives_the_way_through_io() {
        let error = OperationError::not_found("gone").hint("look elsewhere");
        let wrapped = std::io::Error::other(error.clone());
        assert_eq!(OperationError::from(wrapped), error);
    }

    #[test]
    fn an_error_survives_the_way_over_json() {
        let error = OperationError::not_found("gone").hint("look elsewhere");
        let text = serde_json::to_string(&error).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"not_found","message":"gone","hint":"look elsewhere"}"#
        );
        assert_eq!(
            serde_json::from_str::<OperationError>(&text).unwrap(),
            error
        );
    }
}
