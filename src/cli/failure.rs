//! How a command ends when it does not go well.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::control::{ErrorKind, OperationError};
use crate::repo::RepoError;

/// Exit code after the reader of our output has gone: 128 + SIGPIPE, as shells show it.
const PIPE_CLOSED: u8 = 141;

/// Why a command did not go well.
#[derive(Debug)]
pub(super) enum Failure {
    /// With a message.
    Error(OperationError),
    /// Said already, or nobody is there to hear it.
    Quiet(u8),
}

impl Failure {
    /// Wraps an error of writing our output: a closed pipe ends us quietly.
    pub(super) fn output(error: io::Error) -> Self {
        match error.kind() == io::ErrorKind::BrokenPipe {
            true => Self::Quiet(PIPE_CLOSED),
            false => {
                let mut error = OperationError::from(error).context("cannot write the output");
                // What is full is where the output goes, which need not be the repository's disk.
                if error.kind == ErrorKind::NoSpace {
                    error.hint = Some("free space where the output goes".to_owned());
                }
                Self::Error(error)
            }
        }
    }

    /// Shows the message on standard error and gives the exit code.
    pub(super) fn report(self, json: bool) -> ExitCode {
        let error = match self {
            Self::Quiet(code) => return ExitCode::from(code),
            Self::Error(error) => error,
        };
        let text = if json {
            format!(
                "{}\n",
                serde_json::json!({"success": false, "error": error})
            )
        } else {
            let hint = error.hint.iter().map(|hint| format!("  try: {hint}\n"));
            format!("cidfs: {error}\n{}", hint.collect::<String>())
        };
        // Nowhere else to say it.
        drop(io::stderr().write_all(text.as_bytes()));
        ExitCode::from(error.kind.exit_code())
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Error(error.into())
    }
}

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        Self::Error(error.into())
    }
}
