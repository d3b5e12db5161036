//! One frame: the codec, and nothing else.
//!
//! The checksum covers the frame and the place where it stands. Bytes that
//! look like a frame but stand elsewhere (a copy of a journal inside a payload,
//! a sector that the disk put in the wrong place) are therefore no frame.

use bytes::Bytes;

use crate::config::JOURNAL_FRAME_BYTES_MAX;

/// Bytes of a frame before its payload.
pub const FRAME_HEAD_BYTES: usize = 48;
/// Longest payload of a frame.
pub const PAYLOAD_BYTES_MAX: usize = JOURNAL_FRAME_BYTES_MAX - FRAME_HEAD_BYTES;

/// What a frame begins with. The first byte is in no UTF-8 text.
pub(super) const MARKER: [u8; 4] = [0xC1, 0xDF, b'J', b'F'];
/// Bytes of a frame that the checksum does not cover: marker and checksum.
const UNCHECKED_BYTES: usize = 8;

/// Number of a frame: 1, 2, 3 and so on without gaps. 0 is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The next number.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number before; 0 stays 0.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl std::fmt::Display for Seq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which frames belong together. 0: the frame is a transaction of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TxId(pub u64);

/// What a caller puts into a frame.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The transaction that it belongs to.
    pub tx: TxId,
    /// What the payload is; the journal does not look at it.
    pub kind: u8,
    /// At most [`PAYLOAD_BYTES_MAX`].
    pub payload: &'a [u8],
}

/// All of a frame but its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// Its number.
    pub seq: Seq,
    /// The transaction that it belongs to.
    pub tx: TxId,
    /// What the payload is.
    pub kind: u8,
    /// When it was appended, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// The last frame that was known to survive a power loss when this one was
    /// written.
    pub durable: Seq,
}

/// A frame that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// All but the payload.
    pub head: FrameHead,
    /// What the caller put there.
    pub payload: Bytes,
}

/// Where a frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// First frame of the segment, which is its name.
    pub segment: Seq,
    /// Bytes of the segment before the frame.
    pub offset: u64,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// It does not begin with the marker.
    #[error("no frame begins there")]
    Marker,
    /// It claims to be shorter or longer than a frame can be.
    #[error("a frame cannot have {0} bytes")]
    Length(u32),
    /// The checksum is another.
    #[error("the checksum does not match")]
    Checksum,
    /// The checksum matches, but the fields contradict each other.
    #[error("its fields contradict each other")]
    Fields,
    /// It is whole, but another frame should be there.
    #[error("frame {0} is not the one that should follow")]
    Order(Seq),
}

/// What the bytes at a place are, as far as there are any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A frame.
    Whole {
        /// All but the payload.
        head: FrameHead,
        /// The payload.
        payload: &'a [u8],
    },
    /// The beginning of a frame, perhaps: so many bytes are needed to tell.
    Short(usize),
}

/// Tells how long the frame is that begins here, or how many bytes are needed
/// to tell.
pub(super) fn needed(bytes: &[u8]) -> Result<usize, FrameFault> {
    let known = bytes.len().min(MARKER.len());
    if bytes.get(..known) != MARKER.get(..known) {
        return Err(FrameFault::Marker);
    }
    if bytes.len() < FRAME_HEAD_BYTES {
        return Ok(FRAME_HEAD_BYTES);
    }
    let len = u32_at(bytes, 8);
    let fine = (FRAME_HEAD_BYTES..=JOURNAL_FRAME_BYTES_MAX).contains(&(len as usize));
    if fine {
        Ok(len as usize)
    } else {
        Err(FrameFault::Length(len))
    }
}

/// Decodes the frame that the bytes begin with.
pub fn decode(bytes: &[u8], place: Place) -> Result<Decoded<'_>, FrameFault> {
    let needed = needed(bytes)?;
    if bytes.len() < FRAME_HEAD_BYTES || bytes.len() < needed {
        return Ok(Decoded::Short(needed));
    }
    let covered = bytes.get(UNCHECKED_BYTES..needed).unwrap_or_default();
    if u32_at(bytes, 4) != checksum(place, covered, &[]) {
        return Err(FrameFault::Checksum);
    }
    let head = FrameHead {
        seq: Seq(u64_at(bytes, 16)),
        tx: TxId(u64_at(bytes, 24)),
        kind: bytes.get(12).copied().unwrap_or_default(),
        time_ns: u64_at(bytes, 32),
        durable: Seq(u64_at(bytes, 40)),
    };
    if head.durable >= head.seq || bytes.get(13..16) != Some(&[0; 3]) {
        return Err(FrameFault::Fields);
    }
    let payload = bytes.get(FRAME_HEAD_BYTES..needed).unwrap_or_default();
    Ok(Decoded::Whole { head, payload })
}

/// Encodes all of a frame but its payload, which follows.
pub fn encode(head: &FrameHead, payload: &[u8], place: Place) -> [u8; FRAME_HEAD_BYTES] {
    let len = (FRAME_HEAD_BYTES + payload.len()) as u32;
    let mut out = [0; FRAME_HEAD_BYTES];
    let (unchecked, covered) = out.split_at_mut(UNCHECKED_BYTES);
    let fields: [&[u8]; 6] = [
        &len.to_le_bytes(),
        &[head.kind, 0, 0, 0],
        &head.seq.0.to_le_bytes(),
        &head.tx.0.to_le_bytes(),
        &head.time_ns.to_le_bytes(),
        &head.durable.0.to_le_bytes(),
    ];
    fill(covered, &fields);
    let sum = checksum(place, covered, payload);
    fill(unchecked, &[&MARKER, &sum.to_le_bytes()]);
    out
}

/// CRC32C over the place, then the bytes.
fn checksum(place: Place, covered: &[u8], payload: &[u8]) -> u32 {
    let mut at = [0; 16];
    let fields: [&[u8]; 2] = [&place.segment.0.to_le_bytes(), &place.offset.to_le_bytes()];
    fill(&mut at, &fields);
    let sum = crc32c::crc32c_append(crc32c::crc32c(&at), covered);
    if payload.is_empty() {
        return sum;
    }
    crc32c::crc32c_append(sum, payload)
}

/// Puts fields one after the other.
pub(super) fn fill(out: &mut [u8], fields: &[&[u8]]) {
    let mut rest = out;
    for field in fields {
        let (place, after) = rest.split_at_mut(field.len().min(rest.len()));
        place.copy_from_slice(field.get(..place.len()).unwrap_or_default());
        rest = after;
    }
}

/// A field of 4 bytes; 0 where there are none.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |field| u32::from_le_bytes(*field))
}

/// A field of 8 bytes; 0 where there are none.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |field| u64::from_le_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place {
        segment: Seq(1),
        offset: 48,
    };

    fn head() -> FrameHead {
        FrameHead {
            seq: Seq(0x0102_0304_0506_0708),
            tx: TxId(0x1112_1314_1516_1718),
            kind: 0x2A,
            time_ns: 0x2122_2324_2526_2728,
            durable: Seq(0x0102_0304_0506_0707),
        }
    }

    fn frame(payload: &[u8]) -> Vec<u8> {
        [&encode(&head(), payload, PLACE), payload].concat()
    }

    #[test]
    fn a_frame_is_these_bytes() {
        let sum = [0xEB, 0x93, 0xD1, 0x8D];
        let expected: Vec<u8> = [
            &[0xC1, 0xDF, 0x4A, 0x46][..],
            &sum,
            &[51, 0, 0, 0],
            &[0x2A, 0, 0, 0],
            &[8, 7, 6, 5, 4, 3, 2, 1],
            &[0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11],
            &[0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21],
            &[7, 7, 6, 5, 4, 3, 2, 1],
            b"abc",
        ]
        .concat();
        assert_eq!(frame(b"abc"), expected);
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        for payload in [&b""[..], b"x", &[7; PAYLOAD_BYTES_MAX]] {
            let bytes = frame(payload);
            let decoded = decode(&bytes, PLACE).unwrap();
            assert_eq!(
                decoded,
                Decoded::Whole {
                    head: head(),
                    payload
                }
            );
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = frame(b"payload");
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let decoded = decode(&bad, PLACE);
            let whole = matches!(decoded, Ok(Decoded::Whole { .. }));
            assert!(!whole, "bit {bit}");
        }
    }

    #[test]
    fn a_frame_that_ends_early_is_short_at_every_byte() {
        let bytes = frame(b"payload");
        for len in 0..bytes.len() {
            let needs = if len < FRAME_HEAD_BYTES {
                FRAME_HEAD_BYTES
            } else {
                bytes.len()
            };
            assert_eq!(decode(&bytes[..len], PLACE), Ok(Decoded::Short(needs)));
        }
    }

    #[test]
    fn a_frame_elsewhere_is_no_frame() {
        let bytes = frame(b"payload");
        let places = [(1, 49), (1, 0), (2, 48), (u64::MAX, 48)];
        for (segment, offset) in places {
            let place = Place {
                segment: Seq(segment),
                offset,
            };
            assert_eq!(decode(&bytes, place), Err(FrameFault::Checksum));
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_before_anything_is_read() {
        for len in [0, 47, (1 << 20) + 1, u32::MAX] {
            let mut bytes = frame(b"");
            bytes[8..12].copy_from_slice(&len.to_le_bytes());
            assert_eq!(decode(&bytes, PLACE), Err(FrameFault::Length(len)));
        }
    }

    #[test]
    fn fields_that_contradict_each_other_are_refused() {
        let mut wrong = head();
        wrong.durable = wrong.seq;
        let bytes = encode(&wrong, b"", PLACE);
        assert_eq!(decode(&bytes, PLACE), Err(FrameFault::Fields));
    }
}
