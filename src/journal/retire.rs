//! Old segments are dropped, whole and from the oldest on.

use std::io;
use std::time::Duration;

use super::error::JournalError;
use super::frame::Seq;
use super::options::Retention;
use super::segment::name_of;
use super::writer::{Known, Shared};

/// What was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retired {
    /// Segments.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Tells how many of the segments, from the oldest on, may go. Those stay that
/// have a frame from the checkpoint on, and those within the retention.
fn droppable(segments: &[Known], checkpoint: Seq, keep: Retention, now_ns: u64) -> usize {
    let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut count = 0;
    for pair in segments.windows(2) {
        let [segment, next] = pair else { break };
        // The next one was begun right after this one's last frame.
        let age = Duration::from_nanos(now_ns.saturating_sub(next.begun_ns));
        let kept = age <= keep.age && bytes <= keep.bytes;
        if next.first > checkpoint || kept {
            break;
        }
        bytes -= segment.bytes;
        count += 1;
    }
    count
}

impl Shared {
    /// Drops segments that are wholly before the checkpoint and beyond what is kept.
    pub(super) fn retire(&self, checkpoint: Seq, keep: Retention) -> Result<Retired, JournalError> {
        let mut retired = Retired::default();
        // Two at once would remove out of order.
        let _only = self.retiring.lock();
        self.check()?;
        // A checkpoint that a power loss may take back needs what is before it.
        let checkpoint = checkpoint.min(self.group.durable());
        let gone: Vec<_> = {
            let mut writer = self.writer.lock();
            let len = writer.current.as_ref().map_or(0, |current| current.len);
            if let Some(known) = writer.segments.last_mut() {
                known.bytes = len;
            }
            let count = droppable(&writer.segments, checkpoint, keep, self.now_ns());
            writer.segments.iter().take(count).copied().collect()
        };
        for segment in gone {
            self.remove_segment(&segment)?;
            self.forget_segment(&segment);
            retired.segments += 1;
            retired.bytes += segment.bytes;
        }
        Ok(retired)
    }

    /// Removes a segment for good. One by one: a power loss must not bring back a
    /// segment without those that follow it.
    pub(super) fn remove_segment(&self, segment: &Known) -> Result<(), JournalError> {
        let name = name_of(segment.first);
        let removed = match self.folder.remove(&name) {
            // Removed before, and that could not be synced.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        removed
            .and_then(|()| self.folder.sync())
            .map_err(JournalError::io(self.folder.path(&name)))
    }

    /// Only after it was removed: what could not be goes first the next time.
    pub(super) fn forget_segment(&self, segment: &Known) {
        let mut writer = self.writer.lock();
        writer.segments.retain(|known| known.first != segment.first);
    }

    /// The oldest segment, if it is wholly before a checkpoint that is durable.
    pub(super) fn oldest_before(&self, checkpoint: Seq) -> Option<Known> {
        let checkpoint = checkpoint.min(self.group.durable());
        let writer = self.writer.lock();
        let [oldest, next] = writer.segments.first_chunk::<2>()?;
        (next.first <= checkpoint).then_some(*oldest)
    }

    /// Bytes of all segments that are wholly before a checkpoint that is durable.
    pub(super) fn bytes_before(&self, checkpoint: Seq) -> u64 {
        let checkpoint = checkpoint.min(self.group.durable());
        let writer = self.writer.lock();
        let pairs = writer.segments.windows(2);
        let gone = pairs.filter(|pair| pair.last().is_some_and(|next| next.first <= checkpoint));
        gone.filter_map(|pair| pair.first())
            .map(|known| known.bytes)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five segments of 10 frames and 100 bytes, begun every 10 s.
    fn segments() -> Vec<Known> {
        let known = |number: u64| Known {
            first: Seq(1 + 10 * number),
            begun_ns: number * 10_000_000_000,
            bytes: 100,
        };
        (0..5).map(known).collect()
    }

    fn dropped(checkpoint: u64, age_s: u64, bytes: u64) -> usize {
        let keep = Retention {
            age: Duration::from_secs(age_s),
            bytes,
        };
        // Now is 50 s: the segments' last frames are 40, 30, 20 and 10 s old.
        droppable(&segments(), Seq(checkpoint), keep, 50_000_000_000)
    }

    #[test]
    fn what_the_checkpoint_needs_stays_whatever_its_age_and_bytes() {
        let counts = [1, 10, 11, 20, 21, 41, 99].map(|checkpoint| dropped(checkpoint, 0, 0));
        assert_eq!(counts, [0, 0, 1, 1, 2, 4, 4]);
    }

    #[test]
    fn what_is_older_than_the_age_goes() {
        let counts = [50, 40, 39, 30, 29, 0].map(|age_s| dropped(99, age_s, u64::MAX));
        assert_eq!(counts, [0, 0, 1, 1, 2, 4]);
    }

    #[test]
    fn what_is_beyond_the_bytes_goes() {
        let counts = [500, 499, 400, 399, 0].map(|bytes| dropped(99, 1000, bytes));
        assert_eq!(counts, [0, 1, 1, 2, 4]);
    }
}
