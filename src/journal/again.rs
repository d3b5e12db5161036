//! What a start cannot know to be on the disk is written again.
//!
//! After a sync that failed the system takes for written what it could not write:
//! the next process reads it as if it were there, and no later sync saves it. The
//! same happens unseen where a process was killed and the disk fails afterwards. So
//! recovery writes all frames again, over themselves, that no later one says to be
//! safe: the next sync then does write them. That is what was appended since the
//! last sync that another append followed, seldom more than a second's worth.

use std::io;
use std::sync::Arc;

use super::error::JournalError;
use super::frame::{Seq, encode};
use super::reader::segment_of;
use super::segment::{Folder, SEGMENT_HEAD_BYTES, SegmentFile, decode_head, name_of};
use super::walk::{Event, Walk};
use crate::config::JOURNAL_COPY_BYTES_MAX;
use crate::disk::{is_full, read_exact_at};

/// Most bytes that are written in one call.
const BATCH_BYTES: usize = 64 * JOURNAL_COPY_BYTES_MAX;

/// Bytes of one segment that follow each other.
struct Batch<'a> {
    folder: &'a Folder,
    segment: Seq,
    offset: u64,
    bytes: Vec<u8>,
}

impl Batch<'_> {
    /// Adds what is at a place; writes what is elsewhere first.
    fn add(&mut self, segment: Seq, offset: u64, parts: [&[u8]; 2]) -> Result<(), JournalError> {
        let follows = segment == self.segment && offset == self.offset + self.bytes.len() as u64;
        if !follows || self.bytes.len() >= BATCH_BYTES {
            self.write()?;
            (self.segment, self.offset) = (segment, offset);
        }
        self.bytes.extend(parts.concat());
        Ok(())
    }

    fn write(&mut self) -> Result<(), JournalError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let path = self.folder.path(&name_of(self.segment));
        let written = self
            .folder
            .disk
            .write_again(&path, &self.bytes, self.offset);
        self.bytes.clear();
        written.map_err(JournalError::io(path))
    }
}

/// Sees to it that the next sync takes all frames after one to the disk; the inner
/// error is that of a disk that cannot.
pub(super) fn make_sure(
    folder: &Folder,
    after: Seq,
) -> Result<Result<(), Arc<io::Error>>, JournalError> {
    let segments = folder.segments().map_err(JournalError::io(&folder.dir))?;
    match write_again(folder, &segments, after) {
        // One that never writes in place has no room for it.
        Err(JournalError::Io { cause, .. }) if is_full(&cause) => {
            tracing::warn!(%after, "a full disk lets nothing be written again: should a sync before this start have failed, entries may not survive a power loss");
            Ok(Ok(()))
        }
        Err(JournalError::Io { cause, .. }) => Ok(Err(cause)),
        other => other.map(Ok),
    }
}

/// Writes the whole frames after one again, as they were read and proved.
fn write_again(folder: &Folder, segments: &[SegmentFile], after: Seq) -> Result<(), JournalError> {
    let start = segment_of(segments, after.next());
    let mut walk = Walk::new(folder.clone(), segments.iter().skip(start).copied(), None)?;
    let mut batch = Batch {
        folder,
        segment: Seq(0),
        offset: 0,
        bytes: Vec::new(),
    };
    while let Some(event) = walk.step()? {
        // Damage was judged before; what is behind it is not needed.
        let Event::Frame(head) = event else { continue };
        if head.seq <= after {
            continue;
        }
        let place = walk.place;
        if place.offset == SEGMENT_HEAD_BYTES as u64
            && let Some(head) = head_of(folder, place.segment)
        {
            batch.add(place.segment, 0, [&head, &[]])?;
        }
        let payload = walk.payload();
        let head = encode(&head, payload, place);
        batch.add(place.segment, place.offset, [&head, payload])?;
    }
    batch.write()
}

/// The head of a segment, if it is whole.
fn head_of(folder: &Folder, segment: Seq) -> Option<[u8; SEGMENT_HEAD_BYTES]> {
    let mut head = [0; SEGMENT_HEAD_BYTES];
    let file = folder.open(segment).ok()?;
    read_exact_at(&*file, &mut head, 0).ok()?;
    decode_head(&head, segment).is_ok().then_some(head)
}
