//! The UnixFS message that a dag-pb node carries as its data.
//!
//! Format: <https://specs.ipfs.tech/unixfs/> (with mode and mtime of 1.5).

use bytes::Bytes;

use super::dag_pb::{
    WIRE_BYTES, WIRE_FIXED32, WIRE_VARINT, read_bytes, read_fixed32, read_key, read_varint,
    write_bytes_key, write_varint, write_varint_field,
};
use super::error::Malformed;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A leaf of bytes (old; new leaves are raw blocks).
    Raw = 0,
    /// A directory whose entries are its links.
    Directory = 1,
    /// A file, or a part of one.
    File = 2,
    /// Metadata of something else; never made, not readable.
    Metadata = 3,
    /// A symbolic link; data is its target.
    Symlink = 4,
    /// A shard of a HAMT directory; data is its bitfield.
    HamtShard = 5,
}

/// Modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mtime {
    /// Seconds since the epoch, negative before it.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999999999; 0 is absent in the bytes.
    pub nanoseconds: u32,
}

/// The message, as in the bytes: absent fields are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixFs {
    /// What the node is.
    pub kind: Kind,
    /// Inline bytes, link target or bitfield.
    pub data: Option<Bytes>,
    /// Size of the file below this node.
    pub filesize: Option<u64>,
    /// Bytes below each link.
    pub blocksizes: Vec<u64>,
    /// Multihash code of the HAMT's hash.
    pub hash_type: Option<u64>,
    /// Children per HAMT node.
    pub fanout: Option<u64>,
    /// Permission bits; the low 12 mean something, the others are kept.
    pub mode: Option<u32>,
    /// Modification time.
    pub mtime: Option<Mtime>,
}

impl UnixFs {
    /// A message of `kind` with every other field absent.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            data: None,
            filesize: None,
            blocksizes: Vec::new(),
            hash_type: None,
            fanout: None,
            mode: None,
            mtime: None,
        }
    }

    /// Decodes a message; data shares the memory of `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut kind = None;
        let mut out = Self::new(Kind::Raw);
        let mut rest = bytes.clone();
        while let Some((field, wire)) = read_key(&mut rest)? {
            match (field, wire) {
                (1, WIRE_VARINT) => kind = Some(kind_of(read_varint(&mut rest)?)?),
                (2, WIRE_BYTES) => out.data = Some(read_bytes(&mut rest)?),
                (3, WIRE_VARINT) => out.filesize = Some(read_varint(&mut rest)?),
                (4, WIRE_VARINT) => out.blocksizes.push(read_varint(&mut rest)?),
                (4, WIRE_BYTES) => {
                    let mut packed = read_bytes(&mut rest)?;
                    while !packed.is_empty() {
                        out.blocksizes.push(read_varint(&mut packed)?);
                    }
                }
                (5, WIRE_VARINT) => out.hash_type = Some(read_varint(&mut rest)?),
                (6, WIRE_VARINT) => out.fanout = Some(read_varint(&mut rest)?),
                (7, WIRE_VARINT) => out.mode = Some(read_varint(&mut rest)? as u32),
                (8, WIRE_BYTES) => out.mtime = Some(decode_mtime(read_bytes(&mut rest)?)?),
                _ => return Err(Malformed::Field { field, wire }),
            }
        }
        out.kind = kind.ok_or(Malformed::Kind("no UnixFS type"))?;
        Ok(out)
    }

    /// Encodes the message, fields in the order of their numbers.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(32 + self.data.as_ref().map_or(0, Bytes::len));
        write_varint_field(&mut out, 1, self.kind as u64);
        if let Some(data) = &self.data {
            write_bytes_key(&mut out, 2, data.len());
            out.extend_from_slice(data);
        }
        if let Some(filesize) = self.filesize {
            write_varint_field(&mut out, 3, filesize);
        }
        for size in &self.blocksizes {
            write_varint_field(&mut out, 4, *size);
        }
        if let Some(hash_type) = self.hash_type {
            write_varint_field(&mut out, 5, hash_type);
        }
        if let Some(fanout) = self.fanout {
            write_varint_field(&mut out, 6, fanout);
        }
        if let Some(mode) = self.mode {
            write_varint_field(&mut out, 7, u64::from(mode));
        }
        if let Some(mtime) = &self.mtime {
            let inner = encode_mtime(mtime);
            write_bytes_key(&mut out, 8, inner.len());
            out.extend_from_slice(&inner);
        }
        out.into()
    }
}

fn kind_of(value: u64) -> Result<Kind, Malformed> {
    Ok(match value {
        0 => Kind::Raw,
        1 => Kind::Directory,
        2 => Kind::File,
        3 => Kind::Metadata,
        4 => Kind::Symlink,
        5 => Kind::HamtShard,
        other => return Err(Malformed::Type(other)),
    })
}

fn decode_mtime(mut rest: Bytes) -> Result<Mtime, Malformed> {
    let mut mtime = Mtime {
        seconds: 0,
        nanoseconds: 0,
    };
    while let Some((field, wire)) = read_key(&mut rest)? {
        match (field, wire) {
            (1, WIRE_VARINT) => mtime.seconds = read_varint(&mut rest)? as i64,
            (2, WIRE_FIXED32) => {
                mtime.nanoseconds = read_fixed32(&mut rest)?;
                if !(1..=999_999_999).contains(&mtime.nanoseconds) {
                    return Err(Malformed::Nanoseconds(mtime.nanoseconds));
                }
            }
            _ => return Err(Malformed::Field { field, wire }),
        }
    }
    Ok(mtime)
}

fn encode_mtime(mtime: &Mtime) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    out.push(1 << 3 | WIRE_VARINT);
    write_varint(&mut out, mtime.seconds as u64);
    if mtime.nanoseconds != 0 {
        out.push(2 << 3 | WIRE_FIXED32);
        out.extend_from_slice(&mtime.nanoseconds.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_is_two_bytes() {
        assert_eq!(&UnixFs::new(Kind::Directory).encode()[..], &[8, 1]);
    }

    #[test]
    fn every_field_survives_encoding() {
        let message = UnixFs {
            kind: Kind::File,
            data: Some("inline".into()),
            filesize: Some(6 + 7),
            blocksizes: vec![3, 4],
            hash_type: Some(0x22),
            fanout: Some(256),
            mode: Some(0o100_644),
            mtime: Some(Mtime {
                seconds: -5,
                nanoseconds: 999_999_999,
            }),
        };
        assert_eq!(UnixFs::decode(&message.encode()).unwrap(), message);
    }

    #[test]
    fn packed_blocksizes_are_read() {
        let bytes = Bytes::from_static(&[8, 2, 0x22, 3, 1, 0x80, 1]);
        assert_eq!(UnixFs::decode(&bytes).unwrap().blocksizes, vec![1, 128]);
    }

    #[test]
    fn zero_nanoseconds_in_the_bytes_are_malformed() {
        let bytes = Bytes::from_static(&[8, 2, 0x42, 5, 0x15, 0, 0, 0, 0]);
        assert_eq!(UnixFs::decode(&bytes), Err(Malformed::Nanoseconds(0)));
    }

    #[test]
    fn an_unknown_type_is_malformed() {
        assert_eq!(
            UnixFs::decode(&Bytes::from_static(&[8, 9])),
            Err(Malformed::Type(9))
        );
    }
}
