//! The bytes of a bucket of notes: records of 48 bytes, the newest first.
//!
//! The end of the multihash (16, big-endian), the CID's codec (4), the note
//! (24), CRC-32 of these 44 bytes (4, little-endian like the codec). A record
//! that does not hold is no record, since sled may give back garbage.

use super::{NOTE_BYTES, Note};
use crate::block::Cid;
use crate::cache::key::Key;
use crate::config::{NOTES_BUCKETS, NOTES_PER_BUCKET};

const SUBJECT_BYTES: usize = 20;
const BODY_BYTES: usize = SUBJECT_BYTES + NOTE_BYTES;
/// Length of a record.
const RECORD_BYTES: usize = BODY_BYTES + 4;

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    tail: u128,
    codec: u32,
}

impl Subject {
    /// `None` for a CID that nothing is noted about: one that carries its
    /// block, or whose hash is too short to tell it from others.
    pub(super) fn of(cid: &Cid) -> Option<Self> {
        let long = cid.hash().digest().len() >= 16 && cid.hash().code() != crate::block::IDENTITY;
        let codec = u32::try_from(cid.codec()).ok()?;
        let tail = Key::of(cid).ok().filter(|_| long)?.tail();
        Some(Self { tail, codec })
    }

    /// The number of its bucket.
    pub(super) fn bucket(&self) -> usize {
        (self.tail % NOTES_BUCKETS as u128) as usize
    }

    fn bytes(&self) -> [u8; SUBJECT_BYTES] {
        let mut out = [0; SUBJECT_BYTES];
        let fields = self.tail.to_be_bytes().into_iter();
        for (slot, byte) in out.iter_mut().zip(fields.chain(self.codec.to_le_bytes())) {
            *slot = byte;
        }
        out
    }
}

/// Finds a note in a bucket.
pub(super) fn find(bucket: &[u8], subject: &Subject) -> Option<Note> {
    let wanted = subject.bytes();
    let mut alike = bucket
        .chunks_exact(RECORD_BYTES)
        .filter(|record| record.starts_with(&wanted));
    let record = alike.find(|record| holds(record))?;
    record.get(SUBJECT_BYTES..BODY_BYTES)?.try_into().ok()
}

/// Puts notes into a bucket; the oldest beyond the limit go. `None` where
/// nothing changes.
pub(super) fn merge(bucket: &[u8], notes: &[(Subject, Note)]) -> Option<Vec<u8>> {
    let news: Vec<_> = notes
        .iter()
        .filter(|(subject, note)| find(bucket, subject) != Some(*note))
        .map(|(subject, note)| record(subject, note))
        .collect();
    if news.is_empty() {
        return None;
    }
    let is_new = |old: &&[u8]| {
        let subject = old.get(..SUBJECT_BYTES);
        news.iter().any(|new| new.get(..SUBJECT_BYTES) == subject)
    };
    let olds = records(bucket).filter(|old| !is_new(old));
    let all = news.iter().map(Vec::as_slice).chain(olds);
    Some(all.take(NOTES_PER_BUCKET).flatten().copied().collect())
}

/// The records of a bucket that hold.
fn records(bucket: &[u8]) -> impl Iterator<Item = &[u8]> {
    bucket
        .chunks_exact(RECORD_BYTES)
        .filter(|record| holds(record))
}

fn holds(record: &[u8]) -> bool {
    record
        .split_at_checked(BODY_BYTES)
        .is_some_and(|(body, sum)| crc32fast::hash(body).to_le_bytes() == *sum)
}

fn record(subject: &Subject, note: &Note) -> Vec<u8> {
    let mut record = Vec::with_capacity(RECORD_BYTES);
    record.extend(subject.bytes());
    record.extend(note);
    record.extend(crc32fast::hash(&record).to_le_bytes());
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(tail: u128) -> Subject {
        Subject { tail, codec: 0x70 }
    }

    #[test]
    fn a_record_has_the_documented_bytes() {
        let note = [9; NOTE_BYTES];
        let bucket = merge(&[], &[(subject(0x0102 << 112), note)]).unwrap();
        let mut documented = vec![1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        documented.extend([0x70, 0, 0, 0]);
        documented.extend([9; 24]);
        documented.extend(crc32fast::hash(&documented).to_le_bytes());
        assert_eq!(bucket, documented);
    }

    #[test]
    fn notes_are_found_replaced_and_pushed_out_by_newer_ones() {
        let note = |n: usize| [n as u8; NOTE_BYTES];
        let one = merge(&[], &[(subject(1), note(1)), (subject(2), note(2))]).unwrap();
        assert_eq!(find(&one, &subject(2)), Some(note(2)));
        assert_eq!(find(&one, &subject(3)), None);
        let other_codec = Subject {
            codec: 0x55,
            ..subject(1)
        };
        assert_eq!(find(&one, &other_codec), None);
        assert_eq!(merge(&one, &[(subject(1), note(1))]), None);
        let two = merge(&one, &[(subject(1), note(7))]).unwrap();
        assert_eq!(
            (two.len(), find(&two, &subject(1))),
            (one.len(), Some(note(7)))
        );
        let many: Vec<_> = (10..10 + NOTES_PER_BUCKET)
            .map(|n| (subject(n as u128), note(n)))
            .collect();
        let full = merge(&two, &many).unwrap();
        assert_eq!(full.len(), NOTES_PER_BUCKET * RECORD_BYTES);
        assert_eq!(find(&full, &subject(1)), None, "pushed out");
        assert_eq!(find(&full, &subject(10)), Some(note(10)));
    }

    #[test]
    fn garbage_is_never_taken_for_a_note() {
        let note = [3; NOTE_BYTES];
        let good = merge(&[], &[(subject(1), note)]).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(find(&bad, &subject(1)), None, "bit {bit}");
        }
        assert_eq!(find(&good[..good.len() - 1], &subject(1)), None);
        let mended = merge(&good[..40], &[(subject(1), note)]).unwrap();
        assert_eq!(mended, good);
    }
}
