//! The head of a section: its length and its CID.

use super::error::CarError;
use super::varint::{decode_varint, encode_varint};
use crate::block::Cid;
use crate::config::CID_BYTES_MAX;

/// Where a section stands and whose block it holds. Its data is not proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionHead {
    /// The CID that stands before the data.
    pub cid: Cid,
    /// Where the section begins, from the start of the file.
    pub offset: u64,
    /// Length of the head: the varint and the CID.
    pub head_len: u64,
    /// Length of the block's data, as the section says.
    pub data_len: u64,
}

impl SectionHead {
    /// Where the block's data begins, from the start of the file.
    pub fn data_offset(&self) -> u64 {
        self.offset + self.head_len
    }

    /// Where the section ends, from the start of the file.
    pub fn end(&self) -> u64 {
        self.data_offset().saturating_add(self.data_len)
    }
}

/// Decodes the head of the section that begins at `offset` with `bytes`.
///
/// `None` where `bytes` ends before the head does. At most
/// [`CID_BYTES_MAX`] + 10 bytes are looked at. The length is not checked
/// against any limit here.
pub fn decode_section_head(bytes: &[u8], offset: u64) -> Result<Option<SectionHead>, CarError> {
    let Some((len, varint_len)) = decode_varint(bytes).map_err(|_| CarError::Varint { offset })?
    else {
        return Ok(None);
    };
    let section = bytes.get(varint_len..).unwrap_or_default();
    let wanted = usize::try_from(len)
        .unwrap_or(usize::MAX)
        .min(CID_BYTES_MAX);
    let Some(mut rest) = section.get(..wanted) else {
        return decode_early(section, len, varint_len, offset);
    };
    let cid = Cid::read_bytes(&mut rest).map_err(|error| CarError::Cid {
        offset,
        why: error.to_string(),
    })?;
    let cid_len = (wanted - rest.len()) as u64;
    Ok(Some(SectionHead {
        cid,
        offset,
        head_len: varint_len as u64 + cid_len,
        data_len: len - cid_len,
    }))
}

/// A CID may be whole although fewer bytes than the longest CID are there.
fn decode_early(
    section: &[u8],
    len: u64,
    varint_len: usize,
    offset: u64,
) -> Result<Option<SectionHead>, CarError> {
    let mut rest = section;
    let Ok(cid) = Cid::read_bytes(&mut rest) else {
        return Ok(None);
    };
    let cid_len = (section.len() - rest.len()) as u64;
    Ok(Some(SectionHead {
        cid,
        offset,
        head_len: varint_len as u64 + cid_len,
        data_len: len - cid_len,
    }))
}

/// Encodes the head of a section that holds `data_len` bytes of `cid`.
pub fn encode_section_head(cid: &Cid, data_len: usize) -> Vec<u8> {
    let cid_bytes = cid.to_bytes();
    let mut out = Vec::with_capacity(10 + cid_bytes.len());
    encode_varint((cid_bytes.len() + data_len) as u64, &mut out);
    out.extend_from_slice(&cid_bytes);
    out
}
