//! One block of the posix map: a run of entries in the order of their keys.
//!
//! dag-cbor `{"v": 1, "level": level, "entries": [[key, value or link], …]}`.
//! Level 0 holds values, a level above holds links to the nodes of the level
//! below, each with the last key of its node. Pure.

use bytes::Bytes;

use super::cbor::{Reader, Writer};
use super::cut::{Cutter, link_entry_bytes, value_entry_bytes};
use super::error::Malformed;
use crate::block::{Cid, DAG_CBOR, Multihash, SHA2_256};
use crate::config::{
    POSIX_KEY_BYTES_MAX, POSIX_LEVEL_MAX, POSIX_NODE_BYTES_MAX, POSIX_VALUE_BYTES_MAX,
};

/// Version of the node's format and of the rule that cuts.
const VERSION: u64 = 1;
/// Bytes of a node beside its entries, at most.
const FRAME_BYTES: usize = 32;

/// The CID of a node, which is always version 1, dag-cbor and sha2-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Link([u8; 32]);

impl Link {
    /// Takes a CID if it is one that a node can have.
    pub(super) fn of(cid: &Cid) -> Option<Self> {
        let hash = cid.hash();
        let digest = hash.digest().try_into().ok()?;
        let fine =
            cid.version() == cid::Version::V1 && cid.codec() == DAG_CBOR && hash.code() == SHA2_256;
        fine.then_some(Self(digest))
    }

    /// Gives the CID.
    #[expect(clippy::expect_used, reason = "32 bytes fit into a multihash of 128")]
    pub(super) fn cid(&self) -> Cid {
        let hash = Multihash::wrap(SHA2_256, &self.0).expect("the digest fits");
        Cid::new_v1(DAG_CBOR, hash)
    }
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// In a leaf.
    Value(Bytes),
    /// Above.
    Link(Link),
}

impl Item {
    /// Encoded bytes of the entry.
    pub(super) fn entry_bytes(&self, key: &[u8]) -> usize {
        match self {
            Self::Value(value) => value_entry_bytes(key.len(), value.len()),
            Self::Link(_) => link_entry_bytes(key.len()),
        }
    }
}

/// A key and what it holds.
pub(super) type Entry = (Bytes, Item);

/// A decoded node; it has at least one entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) level: u8,
    pub(super) entries: Vec<Entry>,
    /// Whether the rule cuts after the last entry; if not, the node is the
    /// last of its row.
    pub(super) closed: bool,
    pub(super) weight_bytes: usize,
}

impl Node {
    /// Decodes and checks a node; keys and values share the memory of `data`.
    pub(super) fn decode(data: &Bytes) -> Result<Self, Malformed> {
        if data.len() > POSIX_NODE_BYTES_MAX {
            return Err(Malformed::TooLarge("node"));
        }
        let mut reader = Reader::new(data);
        if reader.map()? != 3 {
            return Err(Malformed::Field);
        }
        field(&mut reader, b"v")?;
        match reader.uint()? {
            VERSION => {}
            other => return Err(Malformed::Version(other)),
        }
        field(&mut reader, b"level")?;
        let level = reader.uint()?;
        let level = u8::try_from(level).map_err(|_| Malformed::TooHigh(level))?;
        if level > POSIX_LEVEL_MAX {
            return Err(Malformed::TooHigh(level.into()));
        }
        field(&mut reader, b"entries")?;
        let count = reader.array()?;
        let (entries, closed) = read_entries(&mut reader, data, level, count)?;
        reader.end()?;
        let weight_bytes = data.len() + size_of::<Self>() + entries.len() * size_of::<Entry>();
        Ok(Self {
            level,
            entries,
            closed,
            weight_bytes,
        })
    }

    /// The last key.
    pub(super) fn last_key(&self) -> &[u8] {
        self.entries.last().map_or(&[], |(key, _)| key)
    }

    /// Position of the first entry whose key is not below `key`.
    pub(super) fn find(&self, key: &[u8]) -> usize {
        self.entries.partition_point(|(found, _)| found < key)
    }
}

fn field(reader: &mut Reader<'_>, name: &[u8]) -> Result<(), Malformed> {
    match reader.text()? == name {
        true => Ok(()),
        false => Err(Malformed::Field),
    }
}

/// Reads the entries; tells too whether the last of them ends the node by the rule.
fn read_entries(
    reader: &mut Reader<'_>,
    data: &Bytes,
    level: u8,
    count: usize,
) -> Result<(Vec<Entry>, bool), Malformed> {
    // Three bytes are the shortest entry.
    let mut entries: Vec<Entry> = Vec::with_capacity(count.min(data.len() / 3));
    let mut cutter = Cutter::new(level);
    let mut closed = false;
    for _ in 0..count {
        if closed {
            return Err(Malformed::Cut);
        }
        let (key, item) = read_entry(reader, data, level)?;
        if entries.last().is_some_and(|(last, _)| *last >= key) {
            return Err(Malformed::Order);
        }
        closed = cutter.push(&key, item.entry_bytes(&key));
        entries.push((key, item));
    }
    if entries.is_empty() {
        return Err(Malformed::TooFew);
    }
    Ok((entries, closed))
}

fn read_entry(reader: &mut Reader<'_>, data: &Bytes, level: u8) -> Result<Entry, Malformed> {
    reader.tuple(2, "an entry")?;
    let key = reader.bytes()?;
    if key.len() > POSIX_KEY_BYTES_MAX {
        return Err(Malformed::TooLarge("key"));
    }
    let item = if level == 0 {
        let value = reader.bytes()?;
        if value.len() > POSIX_VALUE_BYTES_MAX {
            return Err(Malformed::TooLarge("value"));
        }
        Item::Value(data.slice_ref(value))
    } else {
        Item::Link(Link::of(&reader.link()?).ok_or(Malformed::Cid)?)
    };
    Ok((data.slice_ref(key), item))
}

/// Encodes a node.
pub(super) fn encode(level: u8, entries: &[Entry]) -> Bytes {
    let bytes: usize = entries
        .iter()
        .map(|(key, item)| item.entry_bytes(key))
        .sum();
    let mut writer = Writer::with_capacity(bytes + FRAME_BYTES);
    writer.map(3);
    writer.text("v");
    writer.uint(VERSION);
    writer.text("level");
    writer.uint(level.into());
    writer.text("entries");
    writer.array(entries.len());
    for (key, item) in entries {
        writer.array(2);
        writer.bytes(key);
        match item {
            Item::Value(value) => writer.bytes(value),
            Item::Link(link) => writer.link(&link.cid()),
        }
    }
    writer.finish().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: u8) -> Vec<Entry> {
        let entry = |k: u8| (Bytes::from(vec![k]), Item::Value(Bytes::from(vec![k; 3])));
        (0..count).map(entry).collect()
    }

    fn link(seed: u8) -> Item {
        Item::Link(Link([seed; 32]))
    }

    fn refused(level: u8, entries: &[Entry]) -> Malformed {
        Node::decode(&encode(level, entries)).unwrap_err()
    }

    #[test]
    fn a_node_is_the_dag_cbor_that_the_documents_say() {
        let data = encode(0, &[("k".into(), Item::Value("abc".into()))]);
        assert_eq!(
            &data[..],
            b"\xa3\x61v\x01\x65level\x00\x67entries\x81\x82\x41k\x43abc"
        );
        let data = encode(1, &[("k".into(), link(7))]);
        let mut expected = b"\xa3\x61v\x01\x65level\x01\x67entries\x81\x82\x41k".to_vec();
        expected.extend(b"\xd8\x2a\x58\x25\x00\x01\x71\x12\x20");
        expected.extend([7; 32]);
        assert_eq!(data, expected);
    }

    #[test]
    fn a_node_is_read_back_as_it_was_written() {
        for (level, entries) in [(0, values(5)), (3, vec![("k".into(), link(7))])] {
            let node = Node::decode(&encode(level, &entries)).unwrap();
            assert_eq!((node.level, node.entries), (level, entries));
        }
    }

    #[test]
    fn the_weight_of_entries_is_that_of_their_bytes() {
        for (level, item) in [(0, Item::Value(Bytes::from(vec![1; 300]))), (1, link(1))] {
            for len in [0, 23, 24, 255, 256, 4096] {
                let key = Bytes::from(vec![9; len]);
                let bytes = item.entry_bytes(&key);
                let data = encode(level, &[(key, item.clone())]);
                assert_eq!(data.len(), bytes + encode(level, &[]).len());
            }
        }
    }

    #[test]
    fn nodes_that_break_a_rule_are_refused_with_the_reason() {
        assert_eq!(refused(0, &[]), Malformed::TooFew);
        assert_eq!(
            refused(25, &[("k".into(), link(1))]),
            Malformed::TooHigh(25)
        );
        let mut twice = values(3);
        twice[1] = twice[0].clone();
        assert_eq!(refused(0, &twice), Malformed::Order);
        let long = Bytes::from(vec![0; POSIX_KEY_BYTES_MAX + 1]);
        let entries = [(long, Item::Value(Bytes::new()))];
        assert_eq!(refused(0, &entries), Malformed::TooLarge("key"));
        let long = Bytes::from(vec![0; POSIX_VALUE_BYTES_MAX + 1]);
        let entries = [(Bytes::new(), Item::Value(long))];
        assert_eq!(refused(0, &entries), Malformed::TooLarge("value"));
        // 255 entries are cut somewhere.
        assert_eq!(refused(0, &values(255)), Malformed::Cut);
        assert!(matches!(refused(1, &values(1)), Malformed::Cbor(_)));
        assert!(matches!(
            refused(0, &[("k".into(), link(1))]),
            Malformed::Cbor(_)
        ));
    }

    #[test]
    fn a_node_of_another_version_or_with_more_fields_is_refused() {
        let data = encode(0, &values(1)).to_vec();
        let mut newer = data.clone();
        newer[3] = 2;
        assert_eq!(Node::decode(&newer.into()), Err(Malformed::Version(2)));
        let mut more = data.clone();
        more[0] = 0xa4;
        more.extend(b"\x68childrenX");
        assert_eq!(Node::decode(&more.into()), Err(Malformed::Field));
        let mut longer = data.clone();
        longer.push(0);
        let error = Node::decode(&longer.into()).unwrap_err();
        assert_eq!(
            error,
            Malformed::Cbor(super::super::cbor::CborError::Trailing)
        );
        for len in 0..data.len() {
            assert!(Node::decode(&data[..len].to_vec().into()).is_err(), "{len}");
        }
    }

    #[test]
    fn only_the_cid_of_a_node_is_a_link() {
        let sealed = |codec, code| {
            *crate::block::Block::seal(codec, code, "x".into())
                .unwrap()
                .cid()
        };
        let cid = sealed(DAG_CBOR, SHA2_256);
        assert_eq!(Link::of(&cid).map(|l| l.cid()), Some(cid));
        assert_eq!(Link::of(&sealed(0x55, SHA2_256)), None);
        assert_eq!(Link::of(&sealed(DAG_CBOR, 0x1e)), None);
        assert_eq!(Link::of(&sealed(DAG_CBOR, 0)), None);
    }
}
