//! What a journal is opened with.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::segment::SEGMENT_HEAD_BYTES;
use crate::clock::Clock;
use crate::config::{
    JOURNAL_APPEND_BYTES_MAX, JOURNAL_LAST_BYTES, JOURNAL_RESERVE_BYTES, JOURNAL_RETAIN_AGE,
    JOURNAL_RETAIN_BYTES, JOURNAL_ROOM_BYTES, JOURNAL_SEGMENT_BYTES,
};
use crate::disk::Disk;
use crate::room::Room;

/// Makes survive a power loss what the frames refer to.
pub type BeforeSync = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// Where a journal is, and the world around it.
#[derive(Clone)]
pub struct JournalPlace {
    /// The directory; it is made if it is not there.
    pub dir: PathBuf,
    /// The disk that it is on.
    pub disk: Arc<dyn Disk>,
    /// Tells when a frame was appended.
    pub clock: Arc<dyn Clock>,
    /// The room of that disk, which others take too.
    pub room: Arc<Room>,
    /// Called before each sync of the journal. An error stops the journal.
    pub before_sync: BeforeSync,
}

/// Sizes and limits. The defaults are those of `config`.
#[derive(Debug, Clone, Copy)]
pub struct JournalOptions {
    /// Length at which a segment is full.
    pub segment_bytes: u64,
    /// Space that [`Class::Normal`](super::Class::Normal) may not use.
    pub reserve_bytes: u64,
    /// The end of it, which only [`Class::Last`](super::Class::Last) may use.
    pub last_bytes: u64,
    /// Space that is set aside at a time.
    pub room_bytes: u64,
    /// Most bytes of one append.
    pub append_bytes_max: usize,
    /// What [`retire`](super::Journal::retire) keeps.
    pub retain: Retention,
    /// Whether a thread sets space aside before it is needed. Without it an
    /// append does so that finds none.
    pub prepare_ahead: bool,
    /// Whether it is opened only to be read: nothing is cut off then, and nothing
    /// written.
    pub only_read: bool,
}

/// Which segments before the checkpoint stay: those that are neither older nor
/// beyond the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Age of the segment's last frame.
    pub age: Duration,
    /// Bytes of this segment and all later ones.
    pub bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: JOURNAL_SEGMENT_BYTES,
            reserve_bytes: JOURNAL_RESERVE_BYTES,
            last_bytes: JOURNAL_LAST_BYTES,
            room_bytes: JOURNAL_ROOM_BYTES,
            append_bytes_max: JOURNAL_APPEND_BYTES_MAX,
            retain: Retention {
                age: JOURNAL_RETAIN_AGE,
                bytes: JOURNAL_RETAIN_BYTES,
            },
            prepare_ahead: true,
            only_read: false,
        }
    }
}

impl JournalOptions {
    /// Every append must fit into a segment beside the reserve.
    pub(super) fn checked(mut self) -> Self {
        let least = SEGMENT_HEAD_BYTES as u64 + self.reserve_bytes + self.append_bytes_max as u64;
        self.segment_bytes = self.segment_bytes.max(least);
        self.last_bytes = self.last_bytes.min(self.reserve_bytes);
        self
    }
}
