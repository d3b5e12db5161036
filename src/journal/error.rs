//! Why the journal refuses, and what is wrong with it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::frame::{FrameFault, Seq};
use super::segment::{FORMAT_VERSION, HeadFault};

/// Why the journal refuses.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The disk is full. Nothing was written, and the next append may succeed.
    #[error("the disk has no room for the journal")]
    Full,
    /// A payload or an append is longer than it may be.
    #[error("{bytes} bytes are too long for the journal, which takes {bytes_max}")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// The journal is damaged inside and was opened to be read only.
    #[error("the journal is damaged and read-only: {0}")]
    ReadOnly(Arc<Damage>),
    /// It was opened only to be read.
    #[error("the journal was opened only to be read")]
    OnlyRead,
    /// A write or a sync failed. Nobody can tell what the disk has, so nothing
    /// is written any more before the journal is opened again.
    #[error("the journal has stopped, since its {step} failed: {cause}; open the repository again")]
    Stopped {
        /// What failed.
        step: Step,
        /// How.
        cause: Arc<io::Error>,
    },
    /// Where a frame should be is something else.
    #[error("the journal is damaged: {0}")]
    Damaged(Arc<Damage>),
    /// A later program wrote it.
    #[error("the journal has format {found}, and this program knows format {FORMAT_VERSION}")]
    Version {
        /// Its format.
        found: u32,
    },
    /// A frame that survives a power loss cannot be taken back.
    #[error("entry {durable} is durable, so entries after {after} cannot be taken back")]
    Durable {
        /// The last that should have stayed.
        after: Seq,
        /// The last that is durable.
        durable: Seq,
    },
    /// The disk failed, and nothing was written.
    #[error("{path}: {cause}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// How.
        cause: Arc<io::Error>,
    },
}

/// What the journal was doing when it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Appending.
    Append,
    /// Making survive a power loss what the frames refer to.
    Data,
    /// Making the frames themselves survive a power loss.
    Sync,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Append => "append",
            Self::Data => "sync of data",
            Self::Sync => "sync",
        })
    }
}

/// Something that is no frame, where one should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {expected} should be at byte {offset} of segment {segment}, but {fault}")]
pub struct Damage {
    /// Name of the segment.
    pub segment: Seq,
    /// Where in it.
    pub offset: u64,
    /// The frame that should be there.
    pub expected: Seq,
    /// What is wrong.
    pub fault: Fault,
    /// The next whole frame in the same segment.
    pub resumes: Option<Seq>,
    /// Whether no whole frame follows, in this segment or a later one: what a
    /// crash or a writer at work leaves.
    pub tail: bool,
}

impl Damage {
    /// Tells whether it costs no frame: a head of a segment behind which the
    /// first frame is there.
    pub fn costs_nothing(&self) -> bool {
        matches!(self.fault, Fault::Head(_)) && self.resumes == Some(self.expected)
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The segment's head is not right.
    #[error("{0}")]
    Head(HeadFault),
    /// There is no whole frame.
    #[error("{0}")]
    Frame(FrameFault),
    /// The file ends inside the frame.
    #[error("the file ends after {0} bytes of it")]
    Short(u64),
    /// The segment that should follow is not there; this one is.
    #[error("segment {0} follows")]
    Missing(Seq),
    /// It is whole, and its reader does not believe what it says.
    #[error("it contradicts what is before it: {0}")]
    Contradiction(String),
    /// The disk does not give the bytes.
    #[error("the disk cannot read it ({0})")]
    Unreadable(io::ErrorKind),
}

impl Fault {
    /// Tells whether the disk failed, rather than that it has something else.
    pub(super) fn is_of_the_disk(&self) -> bool {
        matches!(self, Self::Unreadable(_))
    }
}

impl JournalError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io {
            path,
            cause: Arc::new(cause),
        }
    }
}
