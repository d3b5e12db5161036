//! The part of dag-cbor that the posix DAG uses, strictly.
//!
//! Format: <https://ipld.io/specs/codecs/dag-cbor/spec/>. Only definite lengths
//! and the shortest heads are taken, so that a value has one encoding. Nothing
//! here recurses or allocates by what a head claims.

use crate::block::Cid;

/// Why bytes are not the dag-cbor that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// The bytes end inside a value.
    #[error("dag-cbor is cut off")]
    CutOff,
    /// A number or length is written longer than it need be.
    #[error("dag-cbor is not in its shortest form")]
    NotShortest,
    /// A value is of another type than the one that stands there.
    #[error("dag-cbor has another type than {0}")]
    Type(&'static str),
    /// A number does not fit.
    #[error("dag-cbor has a number out of range")]
    Range,
    /// A link is no CID in its binary form.
    #[error("dag-cbor has a link without a valid CID")]
    Link,
    /// Something follows the value.
    #[error("dag-cbor is followed by more bytes")]
    Trailing,
}

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
/// The tag of a link.
const LINK: u64 = 42;

/// Bytes that the head of a number or length takes.
pub(super) fn head_len(value: usize) -> usize {
    match value {
        0..24 => 1,
        24..0x100 => 2,
        0x100..0x1_0000 => 3,
        0x1_0000..0x1_0000_0000 => 5,
        _ => 9,
    }
}

/// Writes values one after the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Adds what another writer has written.
    pub(super) fn encoded(&mut self, values: &[u8]) {
        self.out.extend_from_slice(values);
    }

    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        let bytes = value.to_be_bytes();
        let [.., b4, b5, b6, b7] = bytes;
        match value {
            0..24 => self.out.push(major | b7),
            24..0x100 => self.out.extend([major | 24, b7]),
            0x100..0x1_0000 => self.out.extend([major | 25, b6, b7]),
            0x1_0000..0x1_0000_0000 => self.out.extend([major | 26, b4, b5, b6, b7]),
            _ => {
                self.out.push(major | 27);
                self.out.extend(bytes);
            }
        }
    }

    pub(super) fn uint(&mut self, value: u64) {
        self.head(UNSIGNED, value);
    }

    pub(super) fn int(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.head(UNSIGNED, value),
            // -1 - n is what the format stores, which is the complement.
            Err(_) => self.head(NEGATIVE, !value as u64),
        }
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.head(BYTES, value.len() as u64);
        self.out.extend_from_slice(value);
    }

    pub(super) fn text(&mut self, value: &str) {
        self.head(TEXT, value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
    }

    pub(super) fn array(&mut self, len: usize) {
        self.head(ARRAY, len as u64);
    }

    pub(super) fn map(&mut self, len: usize) {
        self.head(MAP, len as u64);
    }

    pub(super) fn link(&mut self, cid: &Cid) {
        self.head(TAG, LINK);
        let cid = cid.to_bytes();
        self.head(BYTES, cid.len() as u64 + 1);
        self.out.push(0);
        self.out.extend(cid);
    }
}

/// Reads values one after the other.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Says that nothing is left.
    pub(super) fn end(&self) -> Result<(), CborError> {
        match self.rest {
            [] => Ok(()),
            _ => Err(CborError::Trailing),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], CborError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(CborError::CutOff)?;
        self.rest = rest;
        Ok(taken)
    }

    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let (first, rest) = self.rest.split_first().ok_or(CborError::CutOff)?;
        self.rest = rest;
        let (major, info) = (first >> 5, first & 31);
        let (len, least) = match info {
            0..24 => return Ok((major, u64::from(info))),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return Err(CborError::Type("a definite length")),
        };
        let bytes = self.take(len)?;
        let value = bytes.iter().fold(0, |sum, b| sum << 8 | u64::from(*b));
        if value < least {
            return Err(CborError::NotShortest);
        }
        Ok((major, value))
    }

    fn expect(&mut self, wanted: u8, what: &'static str) -> Result<u64, CborError> {
        match self.head()? {
            (major, value) if major == wanted => Ok(value),
            _ => Err(CborError::Type(what)),
        }
    }

    pub(super) fn uint(&mut self) -> Result<u64, CborError> {
        self.expect(UNSIGNED, "an unsigned number")
    }

    pub(super) fn uint32(&mut self) -> Result<u32, CborError> {
        u32::try_from(self.uint()?).map_err(|_| CborError::Range)
    }

    pub(super) fn int(&mut self) -> Result<i64, CborError> {
        let (major, value) = self.head()?;
        let value = i64::try_from(value).map_err(|_| CborError::Range)?;
        match major {
            UNSIGNED => Ok(value),
            NEGATIVE => Ok(!value),
            _ => Err(CborError::Type("a number")),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        let len = self.expect(BYTES, "bytes")?;
        self.take(usize::try_from(len).map_err(|_| CborError::CutOff)?)
    }

    /// The bytes of a text; who compares them with a known one needs no UTF-8.
    pub(super) fn text(&mut self) -> Result<&'a [u8], CborError> {
        let len = self.expect(TEXT, "text")?;
        self.take(usize::try_from(len).map_err(|_| CborError::CutOff)?)
    }

    /// How many items follow; never more than there are bytes.
    pub(super) fn array(&mut self) -> Result<usize, CborError> {
        let len = self.expect(ARRAY, "a list")?;
        self.counted(len)
    }

    /// How many pairs follow; never more than there are bytes.
    pub(super) fn map(&mut self) -> Result<usize, CborError> {
        let len = self.expect(MAP, "a map")?;
        self.counted(len)
    }

    fn counted(&self, len: u64) -> Result<usize, CborError> {
        let len = usize::try_from(len).map_err(|_| CborError::CutOff)?;
        if len > self.rest.len() {
            return Err(CborError::CutOff);
        }
        Ok(len)
    }

    /// Says that a list of just `len` items follows.
    pub(super) fn tuple(&mut self, len: usize, what: &'static str) -> Result<(), CborError> {
        match self.expect(ARRAY, what)? {
            found if found == len as u64 => Ok(()),
            _ => Err(CborError::Type(what)),
        }
    }

    pub(super) fn link(&mut self) -> Result<Cid, CborError> {
        if self.expect(TAG, "a link")? != LINK {
            return Err(CborError::Type("a link"));
        }
        let bytes = self.bytes()?;
        let (zero, bytes) = bytes.split_first().ok_or(CborError::Link)?;
        let cid = Cid::try_from(bytes).map_err(|_| CborError::Link)?;
        // The parser of CIDs takes overlong numbers and overlooks what follows.
        if *zero != 0 || cid.to_bytes() != bytes {
            return Err(CborError::Link);
        }
        Ok(cid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        write(&mut writer);
        writer.finish()
    }

    #[test]
    fn numbers_are_written_as_others_write_them_and_read_back() {
        let edges = [0, 1, 23, 24, 255, 256, 65_535, 65_536];
        let edges = edges
            .into_iter()
            .chain([u32::MAX.into(), 1 << 32, i64::MAX]);
        for value in edges.flat_map(|v: i64| [v, -v, !v]) {
            let bytes = written(|w| w.int(value));
            assert_eq!(bytes, serde_ipld_dagcbor::to_vec(&value).unwrap());
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.int(), Ok(value));
            assert_eq!(reader.end(), Ok(()));
            assert_eq!(bytes.len(), head_len(value.max(!value) as usize));
        }
    }

    #[test]
    fn a_number_written_too_long_is_refused() {
        for bytes in [&[0x18, 23][..], &[0x19, 0, 255], &[0x1a, 0, 0, 255, 255]] {
            assert_eq!(Reader::new(bytes).uint(), Err(CborError::NotShortest));
        }
        let long = [0x1b, 0, 0, 0, 0, 255, 255, 255, 255];
        assert_eq!(Reader::new(&long).uint(), Err(CborError::NotShortest));
    }

    #[test]
    fn lengths_beyond_the_bytes_and_endless_values_are_refused() {
        let huge = [0x9b, 255, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(Reader::new(&huge).array(), Err(CborError::CutOff));
        assert_eq!(Reader::new(&[0x82, 0]).array(), Err(CborError::CutOff));
        assert_eq!(Reader::new(&[0x44, 1, 2]).bytes(), Err(CborError::CutOff));
        assert!(Reader::new(&[0x9f, 0, 0xff]).array().is_err());
        assert!(Reader::new(&[0x5f, 0x41, 0, 0xff]).bytes().is_err());
        assert_eq!(Reader::new(&[]).uint(), Err(CborError::CutOff));
        let beyond = [0x3b, 255, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(Reader::new(&beyond).int(), Err(CborError::Range));
    }

    #[test]
    fn links_are_whole_cids_behind_a_zero() {
        let block = crate::block::Block::seal(0x71, 0x12, "x".into()).unwrap();
        let bytes = written(|w| w.link(block.cid()));
        assert_eq!(Reader::new(&bytes).link(), Ok(*block.cid()));
        let mut longer = bytes.clone();
        longer.push(0);
        longer[3] += 1;
        assert_eq!(Reader::new(&longer).link(), Err(CborError::Link));
        let mut not_binary = bytes.clone();
        not_binary[4] = 1;
        assert_eq!(Reader::new(&not_binary).link(), Err(CborError::Link));
        let mut other_tag = bytes;
        other_tag[1] = 43;
        assert_eq!(
            Reader::new(&other_tag).link(),
            Err(CborError::Type("a link"))
        );
    }
}
