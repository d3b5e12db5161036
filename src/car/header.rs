//! Headers: the dag-cbor map of version 1, and the fixed fields of version 2.

use serde::{Deserialize, Serialize};

use super::error::CarError;
use super::varint::{decode_varint, encode_varint};
use crate::block::Cid;
use crate::config::CAR_HEADER_BYTES_MAX;

/// How a version 2 file begins: a version 1 header that says `{"version": 2}`.
pub const PRAGMA_V2: [u8; 11] = [
    0x0a, 0xa1, 0x67, b'v', b'e', b'r', b's', b'i', b'o', b'n', 0x02,
];

/// The header of version 1: version and roots.
///
/// The field order is the one of dag-cbor (shorter keys first).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarHeader {
    /// The CIDs that the file is about. May be empty, and need not be in it.
    #[serde(default)]
    pub roots: Vec<Cid>,
    /// 1; or 2 for the pragma of a version 2 file, which has no roots here.
    pub version: u64,
}

/// Decodes a header with its length: the header and how many bytes it took.
///
/// `None` where bytes are missing; a length over [`CAR_HEADER_BYTES_MAX`] is
/// refused before anything is waited for.
pub fn decode_header(bytes: &[u8]) -> Result<Option<(CarHeader, usize)>, CarError> {
    let Some((len, varint_len)) =
        decode_varint(bytes).map_err(|_| CarError::Varint { offset: 0 })?
    else {
        return Ok(None);
    };
    let limit = CAR_HEADER_BYTES_MAX as u64;
    if len > limit {
        return Err(CarError::TooLong {
            offset: 0,
            len,
            limit,
        });
    }
    let end = varint_len + usize::try_from(len).unwrap_or(CAR_HEADER_BYTES_MAX);
    let Some(body) = bytes.get(varint_len..end) else {
        return Ok(None);
    };
    let header: CarHeader = serde_ipld_dagcbor::from_slice(body)
        .map_err(|error| CarError::Header(error.to_string()))?;
    if !matches!(header.version, 1 | 2) {
        return Err(CarError::Header(format!(
            "version {} is not known",
            header.version
        )));
    }
    Ok(Some((header, end)))
}

/// Encodes the header of version 1 with its length.
pub fn encode_header(roots: &[Cid]) -> Vec<u8> {
    let header = CarHeader {
        roots: roots.to_vec(),
        version: 1,
    };
    #[expect(clippy::expect_used, reason = "CIDs and a number always encode")]
    let body = serde_ipld_dagcbor::to_vec(&header).expect("a header encodes");
    let mut out = Vec::with_capacity(body.len() + 5);
    encode_varint(body.len() as u64, &mut out);
    out.extend_from_slice(&body);
    out
}

/// The fixed fields of version 2, which follow the pragma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderV2 {
    /// Flags that nothing here needs.
    pub characteristics: u128,
    /// Where the inner version 1 file begins.
    pub data_offset: u64,
    /// Length of the inner file.
    pub data_size: u64,
    /// Where the index begins; 0 where there is none.
    pub index_offset: u64,
}

impl HeaderV2 {
    /// Length in bytes.
    pub const LEN: usize = 40;

    /// Decodes the fields; `None` where bytes are missing.
    ///
    /// A file that was never finished (no data size), and offsets that lie
    /// inside the header or overlap, are refused.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, CarError> {
        let Some((characteristics, rest)) = bytes.split_first_chunk::<16>() else {
            return Ok(None);
        };
        let mut fields = rest.chunks_exact(8).map(|chunk| {
            chunk
                .iter()
                .rev()
                .fold(0_u64, |value, byte| (value << 8) | u64::from(*byte))
        });
        let (Some(data_offset), Some(data_size), Some(index_offset)) =
            (fields.next(), fields.next(), fields.next())
        else {
            return Ok(None);
        };
        let header = Self {
            characteristics: u128::from_le_bytes(*characteristics),
            data_offset,
            data_size,
            index_offset,
        };
        header.check().map(Some)
    }

    fn check(self) -> Result<Self, CarError> {
        let first = (PRAGMA_V2.len() + Self::LEN) as u64;
        let refuse = |why: &str| Err(CarError::Header(why.to_owned()));
        if self.data_size == 0 {
            return refuse("the file was never finished: it says that it has no data");
        }
        let Some(data_end) = self.data_offset.checked_add(self.data_size) else {
            return refuse("the data ends beyond any file");
        };
        if self.data_offset < first {
            return refuse("the data begins inside the header");
        }
        if self.index_offset != 0 && self.index_offset < data_end {
            return refuse("the index begins inside the data");
        }
        Ok(self)
    }

    /// Encodes the fields.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let fields = self
            .characteristics
            .to_le_bytes()
            .into_iter()
            .chain(self.data_offset.to_le_bytes())
            .chain(self.data_size.to_le_bytes())
            .chain(self.index_offset.to_le_bytes());
        for (slot, byte) in out.iter_mut().zip(fields) {
            *slot = byte;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_with_no_root_and_with_long_identity_roots_survive_a_round_trip() {
        let long = Cid::new_v1(0x55, crate::block::hash(0, &[7; 128]).unwrap());
        for roots in [
            vec![],
            vec![long],
            vec![
                long,
                "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"
                    .parse()
                    .unwrap(),
            ],
        ] {
            let bytes = encode_header(&roots);
            let (header, len) = decode_header(&bytes).unwrap().unwrap();
            assert_eq!((header.roots, header.version, len), (roots, 1, bytes.len()));
            for cut in 0..bytes.len() {
                assert!(
                    decode_header(&bytes[..cut]).unwrap().is_none(),
                    "cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn an_empty_header_has_the_bytes_that_other_tools_write() {
        let expected = b"\x11\xa2eroots\x80gversion\x01";
        assert_eq!(encode_header(&[]), expected);
    }

    #[test]
    fn a_header_that_lies_about_its_length_is_refused_before_it_is_awaited() {
        let mut bytes = Vec::new();
        encode_varint(1 << 40, &mut bytes);
        let error = decode_header(&bytes).unwrap_err();
        assert!(
            matches!(error, CarError::TooLong { len, .. } if len == 1 << 40),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_version_and_a_header_of_rubbish_are_refused() {
        assert!(decode_header(b"\x0a\xa1gversion\x03").is_err());
        assert!(decode_header(b"\x03\xff\xff\xff").is_err());
        assert!(decode_header(b"\x00").is_err());
    }

    #[test]
    fn the_pragma_of_version_two_is_a_header() {
        let (header, len) = decode_header(&PRAGMA_V2).unwrap().unwrap();
        assert_eq!((header.version, header.roots.len(), len), (2, 0, 11));
    }

    #[test]
    fn fields_of_version_two_survive_a_round_trip_and_lies_are_refused() {
        let good = HeaderV2 {
            characteristics: 1 << 127,
            data_offset: 51,
            data_size: 99,
            index_offset: 150,
        };
        assert_eq!(HeaderV2::decode(&good.encode()).unwrap(), Some(good));
        assert_eq!(HeaderV2::decode(&good.encode()[..39]).unwrap(), None);
        for bad in [
            HeaderV2 {
                data_offset: 50,
                ..good
            },
            HeaderV2 {
                data_size: 0,
                ..good
            },
            HeaderV2 {
                data_size: u64::MAX,
                ..good
            },
            HeaderV2 {
                index_offset: 149,
                ..good
            },
        ] {
            assert!(HeaderV2::decode(&bad.encode()).is_err(), "{bad:?}");
        }
    }
}
