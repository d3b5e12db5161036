//! A decoder that is fed with pieces, for CAR streams from a network.

use bytes::{Buf, Bytes, BytesMut};

use super::error::CarError;
use super::header::{CarHeader, HeaderV2, decode_header};
use super::section::{SectionHead, decode_section_head};
use crate::block::Cid;
use crate::config::CAR_SECTION_BYTES_MAX;

/// One section: where it stands, and its data, which is **not proved**.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// CID, offset and length.
    pub head: SectionHead,
    /// The bytes that the file claims for the CID.
    pub data: Bytes,
}

impl Section {
    /// The CID that stands before the data.
    pub fn cid(&self) -> &Cid {
        &self.head.cid
    }
}

/// Turns pieces of a CAR file into sections. Does no I/O.
///
/// Holds at most one section and what was fed beyond it: feed a piece, take
/// sections until `None`, feed the next, and [`finish`](Self::finish).
#[derive(Debug, Default)]
pub struct CarDecoder {
    buffer: BytesMut,
    /// Offset of the first byte of `buffer`.
    position: u64,
    stage: Stage,
    /// Where the sections end, in a version 2 file.
    data_end: Option<u64>,
    header: Option<CarHeader>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Header,
    HeaderV2,
    /// Bytes to drop before the inner header.
    Padding(u64),
    InnerHeader,
    Sections,
    /// What follows the data of a version 2 file does not matter.
    Done,
}

impl CarDecoder {
    /// Starts at the beginning of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        if self.stage != Stage::Done {
            self.buffer.extend_from_slice(piece);
        }
    }

    /// The header, once it has arrived and a section was asked for.
    pub fn header(&self) -> Option<&CarHeader> {
        self.header.as_ref()
    }

    /// Offset of what comes next: the end of the last section that was given.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Gives the next section, or `None` until more is fed.
    pub fn next_section(&mut self) -> Result<Option<Section>, CarError> {
        while self.stage != Stage::Sections {
            if !self.advance()? {
                return Ok(None);
            }
        }
        if self.data_end == Some(self.position) {
            self.stage = Stage::Done;
            self.buffer.clear();
            return Ok(None);
        }
        let Some(head) = decode_section_head(&self.buffer, self.position)? else {
            return Ok(None);
        };
        check_length(&head, self.data_end)?;
        let head_len = usize::try_from(head.head_len).unwrap_or(usize::MAX);
        let data_len = usize::try_from(head.data_len).unwrap_or(usize::MAX);
        if self.buffer.len() < head_len + data_len {
            return Ok(None);
        }
        self.consume(head_len);
        let data = self.buffer.split_to(data_len).freeze();
        self.position += data_len as u64;
        Ok(Some(Section { head, data }))
    }

    /// Tells whether the file was whole: a header, and no section begun.
    pub fn finish(&self) -> Result<(), CarError> {
        let whole = match self.stage {
            Stage::Done => true,
            Stage::Sections => {
                self.buffer.is_empty() && self.data_end.is_none_or(|end| end == self.position)
            }
            Stage::Header | Stage::HeaderV2 | Stage::Padding(_) | Stage::InnerHeader => false,
        };
        if whole {
            Ok(())
        } else {
            Err(CarError::Truncated {
                offset: self.position,
            })
        }
    }

    fn consume(&mut self, len: usize) {
        self.buffer.advance(len);
        self.position += len as u64;
    }

    /// Goes one stage further; `false` where bytes are missing.
    fn advance(&mut self) -> Result<bool, CarError> {
        match self.stage {
            Stage::Header | Stage::InnerHeader => {
                let Some((header, len)) = decode_header(&self.buffer)? else {
                    return Ok(false);
                };
                self.consume(len);
                self.stage = match (header.version, self.stage) {
                    (2, Stage::Header) => Stage::HeaderV2,
                    (2, _) => {
                        return Err(CarError::Header("version 2 inside version 2".to_owned()));
                    }
                    _ => Stage::Sections,
                };
                if self.stage == Stage::Sections {
                    self.header = Some(header);
                }
            }
            Stage::HeaderV2 => {
                let Some(header) = HeaderV2::decode(&self.buffer)? else {
                    return Ok(false);
                };
                self.consume(HeaderV2::LEN);
                self.data_end = Some(header.data_offset + header.data_size);
                self.stage = Stage::Padding(header.data_offset - self.position);
            }
            Stage::Padding(0) => self.stage = Stage::InnerHeader,
            Stage::Padding(left) => {
                let len = self
                    .buffer
                    .len()
                    .min(usize::try_from(left).unwrap_or(usize::MAX));
                if len == 0 {
                    return Ok(false);
                }
                self.consume(len);
                self.stage = Stage::Padding(left - len as u64);
            }
            Stage::Sections | Stage::Done => return Ok(false),
        }
        Ok(true)
    }
}

/// Checks a section that is to be held in memory.
pub(super) fn check_length(head: &SectionHead, data_end: Option<u64>) -> Result<(), CarError> {
    let limit = CAR_SECTION_BYTES_MAX as u64;
    if head.data_len > limit {
        return Err(CarError::TooLong {
            offset: head.offset,
            len: head.data_len,
            limit,
        });
    }
    if data_end.is_some_and(|end| head.end() > end) {
        return Err(CarError::Truncated {
            offset: head.offset,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::car::tests::{blocks, car_v1, car_v2};

    fn decode(bytes: &[u8], piece: usize) -> Result<Vec<Section>, CarError> {
        let mut decoder = CarDecoder::new();
        let mut sections = Vec::new();
        for piece in bytes.chunks(piece) {
            decoder.feed(piece);
            while let Some(section) = decoder.next_section()? {
                sections.push(section);
            }
        }
        decoder.finish()?;
        Ok(sections)
    }

    #[test]
    fn pieces_of_any_size_give_the_same_sections_with_exact_offsets() {
        for bytes in [car_v1(&blocks(5)), car_v2(&blocks(5))] {
            for piece in [1, 2, 7, 64, 1000, bytes.len()] {
                let sections = decode(&bytes, piece).unwrap();
                assert_eq!(sections.len(), 5);
                for (section, block) in sections.iter().zip(blocks(5)) {
                    assert_eq!((section.cid(), &section.data), (block.cid(), block.data()));
                    let start = usize::try_from(section.head.data_offset()).unwrap();
                    assert_eq!(&bytes[start..start + section.data.len()], &section.data[..]);
                }
            }
        }
    }

    #[test]
    fn a_stream_cut_at_any_byte_inside_a_section_is_reported_as_truncated() {
        let bytes = car_v1(&blocks(3));
        let whole: Vec<usize> = {
            let mut ends = vec![crate::car::encode_header(&[]).len()];
            ends.extend(
                decode(&bytes, 64)
                    .unwrap()
                    .iter()
                    .map(|s| usize::try_from(s.head.end()).unwrap()),
            );
            ends
        };
        for cut in 0..bytes.len() {
            let result = decode(&bytes[..cut], 64);
            assert_eq!(result.is_ok(), whole.contains(&cut), "cut at {cut}");
        }
    }

    #[test]
    fn a_section_that_lies_about_its_length_is_refused_before_it_is_awaited() {
        let mut bytes = crate::car::encode_header(&[]);
        bytes.extend(crate::car::encode_section_head(blocks(1)[0].cid(), 1 << 40));
        let error = decode(&bytes, 1000).unwrap_err();
        assert!(matches!(error, CarError::TooLong { .. }), "{error}");
    }

    #[test]
    fn a_section_that_is_shorter_than_its_cid_is_refused() {
        let mut bytes = crate::car::encode_header(&[]);
        bytes.push(4);
        bytes.extend(blocks(1)[0].cid().to_bytes());
        assert!(matches!(
            decode(&bytes, 1000).unwrap_err(),
            CarError::Cid { .. }
        ));
        let mut empty = crate::car::encode_header(&[]);
        empty.push(0);
        assert!(matches!(
            decode(&empty, 1000).unwrap_err(),
            CarError::Cid { .. }
        ));
    }
}
