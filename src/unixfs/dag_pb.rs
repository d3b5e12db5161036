//! dag-pb nodes, and the few protobuf primitives that they and UnixFS need.
//!
//! Format: <https://ipld.io/specs/codecs/dag-pb/spec/>. In the bytes that are
//! made here links come before data. Decoding takes either order, keeps the
//! order of the links, and refuses fields that the format does not have.

use bytes::{Buf, Bytes};

use super::error::Malformed;
use crate::block::Cid;

/// One link of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What it leads to.
    pub cid: Cid,
    /// Its name; `None` where the field is absent, which differs from empty in the bytes.
    pub name: Option<Bytes>,
    /// Size of the DAG below, as its maker says. Untrusted.
    pub tsize: Option<u64>,
}

/// A dag-pb node: ordered links and data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PbNode {
    /// The links in the order of the bytes.
    pub links: Vec<Link>,
    /// The data; `None` where the field is absent.
    pub data: Option<Bytes>,
}

impl PbNode {
    /// Decodes a node; names and data share the memory of `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut node = Self::default();
        let mut rest = bytes.clone();
        while let Some((field, wire)) = read_key(&mut rest)? {
            match (field, wire) {
                (2, WIRE_BYTES) => {
                    let index = node.links.len();
                    node.links.push(decode_link(read_bytes(&mut rest)?, index)?);
                }
                (1, WIRE_BYTES) if node.data.is_none() => node.data = Some(read_bytes(&mut rest)?),
                _ => return Err(Malformed::Field { field, wire }),
            }
        }
        Ok(node)
    }

    /// Encodes the node: links in their order, then data.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_len());
        for link in &self.links {
            write_bytes_key(&mut out, 2, link_len(link));
            encode_link(&mut out, link);
        }
        if let Some(data) = &self.data {
            write_bytes_key(&mut out, 1, data.len());
            out.extend_from_slice(data);
        }
        out.into()
    }

    /// Length of what [`encode`](Self::encode) gives.
    pub fn encoded_len(&self) -> usize {
        let links: usize = self
            .links
            .iter()
            .map(|l| bytes_field_len(link_len(l)))
            .sum();
        links + self.data.as_ref().map_or(0, |d| bytes_field_len(d.len()))
    }
}

fn decode_link(mut rest: Bytes, index: usize) -> Result<Link, Malformed> {
    let (mut cid, mut name, mut tsize) = (None, None, None);
    while let Some((field, wire)) = read_key(&mut rest)? {
        match (field, wire) {
            (1, WIRE_BYTES) if cid.is_none() => {
                let bytes = read_bytes(&mut rest)?;
                cid = Some(Cid::try_from(&*bytes).map_err(|_| Malformed::LinkCid { index })?);
            }
            (2, WIRE_BYTES) if name.is_none() => name = Some(read_bytes(&mut rest)?),
            (3, WIRE_VARINT) if tsize.is_none() => tsize = Some(read_varint(&mut rest)?),
            _ => return Err(Malformed::Field { field, wire }),
        }
    }
    Ok(Link {
        cid: cid.ok_or(Malformed::LinkCid { index })?,
        name,
        tsize,
    })
}

fn encode_link(out: &mut Vec<u8>, link: &Link) {
    let cid = link.cid.to_bytes();
    write_bytes_key(out, 1, cid.len());
    out.extend_from_slice(&cid);
    if let Some(name) = &link.name {
        write_bytes_key(out, 2, name.len());
        out.extend_from_slice(name);
    }
    if let Some(tsize) = link.tsize {
        write_varint_field(out, 3, tsize);
    }
}

fn link_len(link: &Link) -> usize {
    bytes_field_len(link.cid.encoded_len())
        + link.name.as_ref().map_or(0, |n| bytes_field_len(n.len()))
        + link.tsize.map_or(0, |t| 1 + varint_len(t))
}

/// Writes one link as it stands in a node, from the bytes of its CID.
pub(super) fn write_link(out: &mut Vec<u8>, cid: &[u8], name: &[&[u8]], tsize: u64) {
    let name_len = name.iter().map(|part| part.len()).sum();
    write_bytes_key(out, 2, link_body_len(cid.len(), name_len, tsize));
    write_bytes_key(out, 1, cid.len());
    out.extend_from_slice(cid);
    write_bytes_key(out, 2, name_len);
    for part in name {
        out.extend_from_slice(part);
    }
    write_varint_field(out, 3, tsize);
}

/// Bytes that a link takes in a node.
pub(super) fn link_field_len(cid_len: usize, name_len: usize, tsize: u64) -> usize {
    bytes_field_len(link_body_len(cid_len, name_len, tsize))
}

fn link_body_len(cid_len: usize, name_len: usize, tsize: u64) -> usize {
    bytes_field_len(cid_len) + bytes_field_len(name_len) + 1 + varint_len(tsize)
}

/// Writes the data of a node, which follows its links.
pub(super) fn write_data(out: &mut Vec<u8>, data: &[u8]) {
    write_bytes_key(out, 1, data.len());
    out.extend_from_slice(data);
}

/// Wire type of varints.
pub(super) const WIRE_VARINT: u8 = 0;
/// Wire type of length-delimited fields.
pub(super) const WIRE_BYTES: u8 = 2;
/// Wire type of fixed 32-bit fields.
pub(super) const WIRE_FIXED32: u8 = 5;

/// Reads a field's number and wire type; `None` at the end.
pub(super) fn read_key(rest: &mut Bytes) -> Result<Option<(u64, u8)>, Malformed> {
    if rest.is_empty() {
        return Ok(None);
    }
    let key = read_varint(rest)?;
    Ok(Some((key >> 3, (key & 7) as u8)))
}

/// Reads a varint of at most ten bytes.
pub(super) fn read_varint(rest: &mut Bytes) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        if rest.is_empty() {
            return Err(Malformed::Protobuf);
        }
        let byte = rest.get_u8();
        if shift == 63 && byte > 1 {
            return Err(Malformed::Protobuf);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed::Protobuf)
}

/// Reads a length-delimited field, sharing its memory.
pub(super) fn read_bytes(rest: &mut Bytes) -> Result<Bytes, Malformed> {
    let len = usize::try_from(read_varint(rest)?).map_err(|_| Malformed::Protobuf)?;
    if len > rest.len() {
        return Err(Malformed::Protobuf);
    }
    Ok(rest.split_to(len))
}

/// Reads a little-endian fixed 32-bit field.
pub(super) fn read_fixed32(rest: &mut Bytes) -> Result<u32, Malformed> {
    if rest.len() < 4 {
        return Err(Malformed::Protobuf);
    }
    Ok(rest.get_u32_le())
}

/// Writes a varint.
pub(super) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a varint field; field numbers below 16 only.
pub(super) fn write_varint_field(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3 | WIRE_VARINT);
    write_varint(out, value);
}

/// Writes the key and length of a length-delimited field.
pub(super) fn write_bytes_key(out: &mut Vec<u8>, field: u8, len: usize) {
    out.push(field << 3 | WIRE_BYTES);
    write_varint(out, len as u64);
}

/// Bytes that a varint takes.
pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Bytes that a length-delimited field takes with its one-byte key.
pub(super) fn bytes_field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(data: &'static [u8]) -> Cid {
        let block = crate::block::Block::seal(0x55, 0x12, Bytes::from_static(data));
        *block.unwrap().cid()
    }

    #[test]
    fn a_node_survives_encoding_with_absent_and_empty_names_told_apart() {
        let node = PbNode {
            links: vec![
                Link {
                    cid: raw(b"a"),
                    name: Some(Bytes::new()),
                    tsize: Some(1),
                },
                Link {
                    cid: raw(b"b"),
                    name: None,
                    tsize: None,
                },
                Link {
                    cid: raw(b"c"),
                    name: Some("z".into()),
                    tsize: Some(u64::MAX),
                },
            ],
            data: Some(Bytes::from_static(&[8, 1])),
        };
        let bytes = node.encode();
        assert_eq!(bytes.len(), node.encoded_len());
        assert_eq!(PbNode::decode(&bytes).unwrap(), node);
    }

    #[test]
    fn a_node_cut_at_any_byte_never_panics_and_never_equals_the_whole() {
        let node = PbNode {
            links: vec![Link {
                cid: raw(b"a"),
                name: Some("n".into()),
                tsize: Some(300),
            }],
            data: Some(Bytes::from_static(b"\x08\x01")),
        };
        let bytes = node.encode();
        for cut in 0..bytes.len() {
            if let Ok(decoded) = PbNode::decode(&bytes.slice(..cut)) {
                assert_ne!(decoded, node, "cut at {cut}");
            }
        }
    }

    #[test]
    fn unknown_fields_and_overlong_varints_are_refused() {
        let unknown = Bytes::from_static(&[0x18, 1]);
        assert_eq!(
            PbNode::decode(&unknown),
            Err(Malformed::Field { field: 3, wire: 0 })
        );
        let overlong = Bytes::from_static(&[0xff; 12]);
        assert_eq!(PbNode::decode(&overlong), Err(Malformed::Protobuf));
    }

    #[test]
    fn varint_lengths_agree_with_what_is_written() {
        for value in [0, 1, 127, 128, 16383, 16384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            write_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            assert_eq!(read_varint(&mut Bytes::from(out)).unwrap(), value);
        }
    }
}
