//! CAR files, versions 1 and 2: the codec and nothing else.
//!
//! Format: <https://ipld.io/specs/transport/car/>. Everything here is bounded:
//! a header by [`CAR_HEADER_BYTES_MAX`](crate::config::CAR_HEADER_BYTES_MAX), a
//! section by [`CAR_SECTION_BYTES_MAX`](crate::config::CAR_SECTION_BYTES_MAX),
//! and a length that the bytes do not bear out is an error that says where.
//! A block that was read is **not proved**: who takes it calls
//! [`Block::verify`](crate::block::Block::verify).
//!
//! * [`CarReader`] reads a `Read`, gives exact offsets, and can skip the data
//!   of a file whose length is known.
//! * [`CarDecoder`] is fed with pieces as they arrive from a network.
//! * [`CarWriter`] writes version 1; [`encode_header`] and
//!   [`encode_section_head`] are its parts for who appends by himself.
//! * [`index`] reads the index of a version 2 file, which is a hint only.
//!
//! After a crash in the middle of an append the file ends in a torn section:
//! [`CarReader::position`] is then the end of the last whole one.

mod decoder;
mod error;
mod header;
pub mod index;
mod reader;
mod section;
mod varint;
mod writer;

pub use decoder::{CarDecoder, Section};
pub use error::CarError;
pub use header::{CarHeader, HeaderV2, PRAGMA_V2, decode_header, encode_header};
pub use reader::CarReader;
pub use section::{SectionHead, decode_section_head, encode_section_head};
pub use varint::{decode_varint, encode_varint};
pub use writer::CarWriter;

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;

    use super::{CarWriter, HeaderV2, PRAGMA_V2};
    use crate::block::{Block, RAW, SHA2_256};

    /// Blocks of different contents and lengths.
    pub(crate) fn blocks(count: usize) -> Vec<Block> {
        (0..count)
            .map(|index| {
                let data = Bytes::from(index.to_string().repeat(index * 31));
                Block::seal(RAW, SHA2_256, data).unwrap()
            })
            .collect()
    }

    /// A version 1 file without roots.
    pub(crate) fn car_v1(blocks: &[Block]) -> Vec<u8> {
        let mut writer = CarWriter::new(Vec::new(), &[]).unwrap();
        for block in blocks {
            writer.write(block).unwrap();
        }
        writer.into_inner()
    }

    /// A version 2 file with padding before the data and rubbish behind it.
    pub(crate) fn car_v2(blocks: &[Block]) -> Vec<u8> {
        let inner = car_v1(blocks);
        let v2 = HeaderV2 {
            characteristics: 0,
            data_offset: 64,
            data_size: inner.len() as u64,
            index_offset: 0,
        };
        let mut out = PRAGMA_V2.to_vec();
        out.extend(v2.encode());
        out.resize(64, 0);
        out.extend(inner);
        out.extend([0xff; 32]);
        out
    }
}
