//! A segment: the head of its file, its name, and the list of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{Seq, fill, u32_at, u64_at};
use crate::disk::{Disk, DiskFile};

/// Bytes of a segment before its first frame.
pub const SEGMENT_HEAD_BYTES: usize = 48;
/// The format that this program writes. It reads no other.
pub const FORMAT_VERSION: u32 = 1;
/// Name of the file that becomes the next segment.
pub(super) const NEXT_NAME: &str = "next.seg";

const MAGIC: [u8; 8] = *b"cidfsJNL";

/// What a segment says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHead {
    /// Its first frame.
    pub first: Seq,
    /// When it was begun, in nanoseconds since the epoch.
    pub begun_ns: u64,
    /// The last frame that was known to survive a power loss then.
    pub durable: Seq,
}

/// Why bytes are no head of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// The file ends before it.
    #[error("the head is cut off")]
    Short,
    /// It is the head of something else.
    #[error("this is no head of a segment")]
    Magic,
    /// The checksum is another.
    #[error("the checksum of the head does not match")]
    Checksum,
    /// The checksum matches, but the fields contradict each other or the name.
    #[error("the fields of the head contradict each other or the file's name")]
    Fields,
    /// It is whole and of a format that this program does not know.
    #[error("it has format {0}, and this program knows format {FORMAT_VERSION}")]
    Version(u32),
}

/// Encodes the head of a segment.
pub fn encode_head(head: &SegmentHead) -> [u8; SEGMENT_HEAD_BYTES] {
    let mut out = [0; SEGMENT_HEAD_BYTES];
    let mut fields: [&[u8]; 7] = [
        &MAGIC,
        &FORMAT_VERSION.to_le_bytes(),
        &[0; 4],
        &head.first.0.to_le_bytes(),
        &head.begun_ns.to_le_bytes(),
        &head.durable.0.to_le_bytes(),
        &[0; 8],
    ];
    fill(&mut out, &fields);
    let sum = crc32c::crc32c(&out).to_le_bytes();
    if let Some(field) = fields.get_mut(2) {
        *field = &sum;
    }
    fill(&mut out, &fields);
    out
}

/// Decodes the head of the segment that is named `first`.
pub fn decode_head(bytes: &[u8], first: Seq) -> Result<SegmentHead, HeadFault> {
    let Some(head) = bytes.first_chunk::<SEGMENT_HEAD_BYTES>() else {
        return Err(HeadFault::Short);
    };
    if head.first_chunk() != Some(&MAGIC) {
        return Err(HeadFault::Magic);
    }
    let mut zeroed = *head;
    fill(zeroed.get_mut(12..16).unwrap_or_default(), &[&[0; 4]]);
    if u32_at(head, 12) != crc32c::crc32c(&zeroed) {
        return Err(HeadFault::Checksum);
    }
    let version = u32_at(head, 8);
    if version != FORMAT_VERSION {
        return Err(HeadFault::Version(version));
    }
    let decoded = SegmentHead {
        first: Seq(u64_at(head, 16)),
        begun_ns: u64_at(head, 24),
        durable: Seq(u64_at(head, 32)),
    };
    let zero = u64_at(head, 40) == 0;
    if decoded.first != first || decoded.durable >= first || !zero {
        return Err(HeadFault::Fields);
    }
    Ok(decoded)
}

/// A segment in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFile {
    /// Its first frame, by its name.
    pub first: Seq,
    /// Length of the file.
    pub bytes: u64,
}

/// Where the segments are.
#[derive(Clone)]
pub(super) struct Folder {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
}

impl Folder {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self {
            disk,
            dir: dir.to_owned(),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn open(&self, first: Seq) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(&self.path(&name_of(first)))
    }

    /// Lists the segments, oldest first. An absent directory has none.
    pub(super) fn segments(&self) -> io::Result<Vec<SegmentFile>> {
        let entries = match self.disk.list(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let segment = |entry: &crate::disk::DiskEntry| {
            let first = number_of(entry.name.to_str()?)?;
            Some(SegmentFile {
                first,
                bytes: entry.len,
            })
        };
        let mut found: Vec<_> = entries.iter().filter_map(segment).collect();
        found.sort_unstable_by_key(|segment| segment.first);
        Ok(found)
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match self.disk.remove(&self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.dir)
    }
}

/// The name of the segment that begins with a frame.
pub(super) fn name_of(first: Seq) -> String {
    format!("{:020}.seg", first.0)
}

/// The first frame of the segment that has a name.
fn number_of(name: &str) -> Option<Seq> {
    let digits = name.strip_suffix(".seg")?;
    let fine = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = fine.then(|| digits.parse().ok()).flatten()?;
    (number > 0).then_some(Seq(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> SegmentHead {
        SegmentHead {
            first: Seq(5),
            begun_ns: 6,
            durable: Seq(4),
        }
    }

    #[test]
    fn a_head_is_these_bytes() {
        let sum = [0x3D, 0xAF, 0x3E, 0xAF];
        let expected: Vec<u8> = [
            &b"cidfsJNL"[..],
            &[1, 0, 0, 0],
            &sum,
            &[5, 0, 0, 0, 0, 0, 0, 0],
            &[6, 0, 0, 0, 0, 0, 0, 0],
            &[4, 0, 0, 0, 0, 0, 0, 0],
            &[0; 8],
        ]
        .concat();
        assert_eq!(encode_head(&head()).to_vec(), expected);
        assert_eq!(decode_head(&expected, Seq(5)), Ok(head()));
    }

    #[test]
    fn every_flipped_bit_of_a_head_is_found() {
        let bytes = encode_head(&head());
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_head(&bad, Seq(5)).is_err(), "bit {bit}");
        }
        assert_eq!(decode_head(&bytes[..47], Seq(5)), Err(HeadFault::Short));
        assert_eq!(decode_head(&bytes, Seq(6)), Err(HeadFault::Fields));
    }

    #[test]
    fn a_later_format_is_told_from_damage() {
        let mut bytes = encode_head(&head());
        bytes[8] = 2;
        bytes[12..16].fill(0);
        let sum = crc32c::crc32c(&bytes);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(decode_head(&bytes, Seq(5)), Err(HeadFault::Version(2)));
    }

    #[test]
    fn names_are_numbers_of_twenty_digits() {
        assert_eq!(name_of(Seq(7)), "00000000000000000007.seg");
        assert_eq!(number_of("00000000000000000007.seg"), Some(Seq(7)));
        assert_eq!(number_of(&name_of(Seq(u64::MAX))), Some(Seq(u64::MAX)));
        let wrong = [
            "next.seg",
            "7.seg",
            "00000000000000000000.seg",
            "00000000000000000007.torn",
            "99999999999999999999.seg",
            "+0000000000000000007.seg",
        ];
        for name in wrong {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
