//! Why a source did not give a block.

use std::sync::Arc;
use std::time::Duration;

/// Why a source did not give what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    /// The source says that it does not have it.
    #[error("{what} is not at {source_name}")]
    NotFound {
        /// CID or path.
        what: String,
        /// Which source.
        source_name: String,
    },
    /// Nothing came before the deadline.
    #[error("{source_name} did not answer in {}s for {what}", after.as_secs())]
    Timeout {
        /// CID or path.
        what: String,
        /// Which source.
        source_name: String,
        /// The deadline.
        after: Duration,
    },
    /// The source cannot be reached, or broke off, or answered with a failure.
    #[error("{source_name} failed for {what}: {why}")]
    Unreachable {
        /// CID or path.
        what: String,
        /// Which source.
        source_name: String,
        /// Cause in words.
        why: String,
    },
    /// The source asks to be left alone for a while (429).
    #[error("{source_name} limits its rate")]
    Limited {
        /// Which source.
        source_name: String,
        /// What it asked for, if it said.
        retry_after: Option<Duration>,
    },
    /// The bytes are not what their CID says, or a record's signature is wrong.
    #[error("{source_name} sent wrong data for {what}: {why}")]
    Corrupt {
        /// CID or path.
        what: String,
        /// Which source.
        source_name: String,
        /// Cause in words.
        why: String,
    },
    /// The source cannot do this at all.
    #[error("{source_name} cannot serve {what}")]
    Unsupported {
        /// Which source.
        source_name: String,
        /// The thing.
        what: &'static str,
    },
    /// A local file failed.
    #[error("{source_name}: {error}")]
    Io {
        /// Which source.
        source_name: String,
        /// The cause.
        error: Arc<std::io::Error>,
    },
}

impl SourceError {
    /// How much the error says to who reads it, for a choice among several.
    ///
    /// "Not here" says least: it counts only when every source says so.
    pub(super) fn weight(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 0,
            Self::Unsupported { .. } => 1,
            Self::Io { .. } => 2,
            Self::Limited { .. } => 3,
            Self::Unreachable { .. } => 4,
            Self::Timeout { .. } => 5,
            Self::Corrupt { .. } => 6,
        }
    }
}
