//! Where some frames of a segment are, remembered while it is read.
//!
//! A hint only: who starts from a place checks that the frame is there.

use super::frame::{Place, Seq};
use crate::config::JOURNAL_INDEX_STRIDE_BYTES;

/// Places of one segment: one for each [`JOURNAL_INDEX_STRIDE_BYTES`].
#[derive(Debug, Default)]
pub(super) struct SparseIndex {
    /// In order of both.
    marks: Vec<(Seq, u64)>,
}

impl SparseIndex {
    /// Learns where a frame is.
    pub(super) fn note(&mut self, seq: Seq, offset: u64) {
        let far = self.marks.last().is_none_or(|(last_seq, last)| {
            seq > *last_seq && offset >= last + JOURNAL_INDEX_STRIDE_BYTES
        });
        if far {
            self.marks.push((seq, offset));
        }
    }

    /// The last place that is known at or before a frame.
    pub(super) fn before(&self, segment: Seq, seq: Seq) -> Option<(Seq, Place)> {
        let count = self.marks.partition_point(|(mark, _)| *mark <= seq);
        let (mark, offset) = self.marks.get(count.checked_sub(1)?)?;
        let place = Place {
            segment,
            offset: *offset,
        };
        Some((*mark, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_place_before_a_frame_is_found() {
        let mut index = SparseIndex::default();
        for seq in 1..=1000 {
            index.note(Seq(seq), seq * 1000);
        }
        assert_eq!(index.marks.len(), 16);
        for seq in 1..=1000 {
            let (mark, place) = index.before(Seq(1), Seq(seq)).unwrap();
            assert!(mark.0 <= seq && mark.0 + 66 > seq, "{mark:?} for {seq}");
            assert_eq!(place.offset, mark.0 * 1000);
        }
        assert_eq!(index.before(Seq(1), Seq(0)), None);
    }

    #[test]
    fn notes_out_of_order_are_passed_over() {
        let mut index = SparseIndex::default();
        index.note(Seq(100), 1_000_000);
        index.note(Seq(1), 48);
        index.note(Seq(50), 2_000_000);
        assert_eq!(index.marks, [(Seq(100), 1_000_000)]);
    }
}
