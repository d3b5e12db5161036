//! Reads a CAR file from a `Read`.

use std::io::{BufRead, BufReader, Read, Seek};

use bytes::Bytes;

use super::decoder::{Section, check_length};
use super::error::CarError;
use super::header::{CarHeader, HeaderV2, decode_header};
use super::section::{SectionHead, decode_section_head};
use crate::config::{CAR_HEADER_BYTES_MAX, CAR_SECTION_BYTES_MAX, CID_BYTES_MAX};

/// Reads sections one after the other, with their exact offsets.
///
/// [`next_section`](Self::next_section) reads heads and data;
/// [`next_head`](Self::next_head) with [`skip`](Self::skip) reads heads only.
/// After an error the reader is at no defined place; [`position`](Self::position)
/// still is the end of the last whole section.
#[derive(Debug)]
pub struct CarReader<R> {
    input: BufReader<R>,
    header: CarHeader,
    v2: Option<HeaderV2>,
    /// Where the sections end, if that is known.
    data_end: Option<u64>,
    /// End of the last whole section.
    position: u64,
}

impl<R: Read> CarReader<R> {
    /// Reads the header, or both headers of a version 2 file.
    pub fn new(input: R) -> Result<Self, CarError> {
        Self::with_buffer(input, 64 << 10)
    }

    /// As [`new`](Self::new) for a file of `file_len` bytes: sections that go
    /// beyond it are refused before they are read or skipped.
    pub fn with_len(input: R, file_len: u64) -> Result<Self, CarError> {
        let mut reader = Self::new(input)?;
        reader.data_end = Some(reader.data_end.map_or(file_len, |end| end.min(file_len)));
        Ok(reader)
    }

    fn with_buffer(input: R, buffer: usize) -> Result<Self, CarError> {
        let mut input = BufReader::with_capacity(buffer, input);
        let (header, len) = read_header(&mut input)?;
        let mut position = len;
        if header.version == 1 {
            return Ok(Self {
                input,
                header,
                v2: None,
                data_end: None,
                position,
            });
        }
        let mut fields = [0; HeaderV2::LEN];
        read_exact(&mut input, &mut fields, 0)?;
        position += HeaderV2::LEN as u64;
        let v2 = HeaderV2::decode(&fields)?.ok_or(CarError::Truncated { offset: 0 })?;
        discard(&mut input, v2.data_offset - position, position)?;
        let (header, len) = read_header(&mut input)?;
        if header.version != 1 {
            return Err(CarError::Header("version 2 inside version 2".to_owned()));
        }
        let position = v2.data_offset + len;
        let data_end = Some(v2.data_offset + v2.data_size);
        Ok(Self {
            input,
            header,
            v2: Some(v2),
            data_end,
            position,
        })
    }

    /// The header of version 1, which a version 2 file has inside.
    pub fn header(&self) -> &CarHeader {
        &self.header
    }

    /// The fields of version 2, if it is such a file.
    pub fn v2(&self) -> Option<&HeaderV2> {
        self.v2.as_ref()
    }

    /// End of the last whole section (or of the header), from the start of the file.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads the head of the next section; `None` at the end.
    ///
    /// [`read`](Self::read) or [`skip`](Self::skip) must follow.
    pub fn next_head(&mut self) -> Result<Option<SectionHead>, CarError> {
        let offset = self.position;
        if self.data_end == Some(offset) {
            return Ok(None);
        }
        let Some(head) = self.decode_head(offset)? else {
            return Ok(None);
        };
        if self.data_end.is_some_and(|end| head.end() > end) {
            return Err(CarError::Truncated { offset });
        }
        Ok(Some(head))
    }

    fn decode_head(&mut self, offset: u64) -> Result<Option<SectionHead>, CarError> {
        let buffered = self.input.fill_buf()?;
        if let Some(head) = decode_section_head(buffered, offset)? {
            self.input
                .consume(usize::try_from(head.head_len).unwrap_or(usize::MAX));
            return Ok(Some(head));
        }
        // Byte by byte where the head goes over the end of the buffer, since
        // only the head may be taken.
        let mut bytes = Vec::with_capacity(64);
        loop {
            if let Some(head) = decode_section_head(&bytes, offset)? {
                return Ok(Some(head));
            }
            if bytes.len() > CID_BYTES_MAX + 10 {
                return Err(CarError::Cid {
                    offset,
                    why: "it does not end".to_owned(),
                });
            }
            match self.input.fill_buf()?.first() {
                Some(byte) => bytes.push(*byte),
                None if bytes.is_empty() && self.v2.is_none() => return Ok(None),
                None => return Err(CarError::Truncated { offset }),
            }
            self.input.consume(1);
        }
    }

    /// Reads the data of the section whose head was just read.
    pub fn read(&mut self, head: &SectionHead) -> Result<Bytes, CarError> {
        check_length(head, self.data_end)?;
        // The limit bounds what a lying length can allocate.
        let len = usize::try_from(head.data_len).unwrap_or(CAR_SECTION_BYTES_MAX);
        let mut data = vec![0; len];
        read_exact(&mut self.input, &mut data, head.offset)?;
        self.position = head.end();
        Ok(data.into())
    }

    /// Reads the next section whole; `None` at the end.
    pub fn next_section(&mut self) -> Result<Option<Section>, CarError> {
        let Some(head) = self.next_head()? else {
            return Ok(None);
        };
        let data = self.read(&head)?;
        Ok(Some(Section { head, data }))
    }
}

impl<R: Read + Seek> CarReader<R> {
    /// Passes over the data of the section whose head was just read, whatever
    /// its length.
    ///
    /// Of a file opened by [`new`](CarReader::new) the end is not known here,
    /// and a seek beyond it is no error: use [`with_len`](CarReader::with_len).
    pub fn skip(&mut self, head: &SectionHead) -> Result<(), CarError> {
        let len = i64::try_from(head.data_len).map_err(|_| CarError::Truncated {
            offset: head.offset,
        })?;
        self.input.seek_relative(len)?;
        self.position = head.end();
        Ok(())
    }
}

/// Reads a header: it and its length.
fn read_header<R: Read>(input: &mut BufReader<R>) -> Result<(CarHeader, u64), CarError> {
    let mut bytes = Vec::with_capacity(64);
    loop {
        let available = input.fill_buf()?;
        if available.is_empty() {
            return Err(CarError::Truncated { offset: 0 });
        }
        let before = bytes.len();
        bytes.extend_from_slice(available);
        let Some((header, len)) = decode_header(&bytes)? else {
            if bytes.len() > CAR_HEADER_BYTES_MAX + 10 {
                return Err(CarError::Header("it does not end".to_owned()));
            }
            let taken = bytes.len() - before;
            input.consume(taken);
            continue;
        };
        input.consume(len - before);
        return Ok((header, len as u64));
    }
}

fn read_exact(input: &mut impl Read, out: &mut [u8], offset: u64) -> Result<(), CarError> {
    input.read_exact(out).map_err(|error| {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            CarError::Truncated { offset }
        } else {
            CarError::Io(error)
        }
    })
}

fn discard(input: &mut impl Read, len: u64, offset: u64) -> Result<(), CarError> {
    let passed = std::io::copy(&mut input.take(len), &mut std::io::sink())?;
    if passed == len {
        Ok(())
    } else {
        Err(CarError::Truncated { offset })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::car::tests::{blocks, car_v1, car_v2};

    #[test]
    fn reading_and_skipping_see_the_same_heads() {
        for bytes in [car_v1(&blocks(6)), car_v2(&blocks(6))] {
            let mut reading = CarReader::new(Cursor::new(&bytes)).unwrap();
            let len = bytes.len() as u64;
            let mut skipping = CarReader::with_len(Cursor::new(&bytes), len).unwrap();
            while let Some(section) = reading.next_section().unwrap() {
                let head = skipping.next_head().unwrap().unwrap();
                skipping.skip(&head).unwrap();
                assert_eq!(head, section.head);
                assert_eq!(reading.position(), skipping.position());
            }
            assert!(skipping.next_head().unwrap().is_none());
        }
    }

    #[test]
    fn a_file_cut_at_any_byte_gives_its_whole_blocks_and_says_where_they_end() {
        let bytes = car_v1(&blocks(4));
        let header = crate::car::encode_header(&[]).len();
        for cut in header..bytes.len() {
            for skip in [false, true] {
                let mut reader =
                    CarReader::with_len(Cursor::new(&bytes[..cut]), cut as u64).unwrap();
                let mut end = header as u64;
                let result = loop {
                    match reader.next_head() {
                        Ok(Some(head)) if skip => reader.skip(&head).unwrap(),
                        Ok(Some(head)) => drop(reader.read(&head).unwrap()),
                        other => break other,
                    }
                    end = reader.position();
                };
                assert_eq!(result.is_ok(), end == cut as u64, "cut at {cut}");
                assert_eq!(reader.position(), end);
            }
        }
    }

    #[test]
    fn a_header_longer_than_the_buffer_is_read() {
        let roots: Vec<_> = blocks(400).iter().map(|block| *block.cid()).collect();
        let mut bytes = crate::car::encode_header(&roots);
        bytes.extend(&car_v1(&blocks(1))[crate::car::encode_header(&[]).len()..]);
        let mut reader = CarReader::with_buffer(Cursor::new(&bytes), 100).unwrap();
        assert_eq!(reader.header().roots, roots);
        assert_eq!(
            reader.next_section().unwrap().unwrap().cid(),
            blocks(1)[0].cid()
        );
        assert!(reader.next_section().unwrap().is_none());
    }

    #[test]
    fn a_section_over_the_limit_is_not_read_and_can_be_skipped() {
        let mut bytes = car_v1(&blocks(1));
        let big = vec![0; CAR_SECTION_BYTES_MAX + 1];
        bytes.extend(crate::car::encode_section_head(
            blocks(1)[0].cid(),
            big.len(),
        ));
        bytes.extend(&big);
        let rest = car_v1(&blocks(2));
        bytes.extend(&rest[crate::car::encode_header(&[]).len()..]);
        let mut reader = CarReader::with_len(Cursor::new(&bytes), bytes.len() as u64).unwrap();
        let mut seen = 0;
        while let Some(head) = reader.next_head().unwrap() {
            if head.data_len > CAR_SECTION_BYTES_MAX as u64 {
                assert!(matches!(reader.read(&head), Err(CarError::TooLong { .. })));
            }
            reader.skip(&head).unwrap();
            seen += 1;
        }
        assert_eq!(seen, 4);
    }
}
