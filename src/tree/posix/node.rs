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

/// A decoded node; it has at least one entry. Its block is kept as it is, and
/// where the entries stand in it: millions are read, and few of each are wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) level: u8,
    data: Bytes,
    places: Box<[Place]>,
    /// Whether the rule cuts after the last entry; if not, the node is the
    /// last of its row.
    pub(super) closed: bool,
    pub(super) weight_bytes: usize,
}

/// Where an entry stands in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    key: u32,
    /// The value, or the digest of the link.
    item: u32,
    item_len: u32,
    key_len: u16,
}

impl Node {
    /// Decodes and checks a node, which holds on to `data`.
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
        let (places, closed) = read_entries(&mut reader, data, level, count)?;
        reader.end()?;
        let weight_bytes = data.len() + size_of::<Self>() + places.len() * size_of::<Place>();
        Ok(Self {
            level,
            data: data.clone(),
            places: places.into(),
            closed,
            weight_bytes,
        })
    }

    /// How many entries it has.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The key of an entry.
    pub(super) fn key(&self, at: usize) -> Option<&[u8]> {
        Some(key_at(&self.data, self.places.get(at)?))
    }

    /// An entry of a leaf.
    pub(super) fn pair(&self, at: usize) -> Option<(&[u8], &[u8])> {
        let place = self.places.get(at).filter(|_| self.level == 0)?;
        Some((key_at(&self.data, place), item_at(&self.data, place)))
    }

    /// What an entry above the leaves links to.
    pub(super) fn link(&self, at: usize) -> Option<Link> {
        let place = self.places.get(at).filter(|_| self.level > 0)?;
        Some(Link(item_at(&self.data, place).try_into().ok()?))
    }

    /// An entry, which shares the memory of the block.
    pub(super) fn entry(&self, at: usize) -> Option<Entry> {
        let item = match self.level {
            0 => Item::Value(self.data.slice_ref(self.pair(at)?.1)),
            _ => Item::Link(self.link(at)?),
        };
        Some((self.data.slice_ref(self.key(at)?), item))
    }

    /// All entries in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        (0..self.len()).filter_map(|at| self.entry(at))
    }

    /// The last key.
    pub(super) fn last_key(&self) -> &[u8] {
        let last = self.places.last();
        last.map_or(&[], |place| key_at(&self.data, place))
    }

    /// Position of the first entry whose key is not below `key`.
    pub(super) fn find(&self, key: &[u8]) -> usize {
        self.places
            .partition_point(|place| key_at(&self.data, place) < key)
    }
}

fn key_at<'d>(data: &'d Bytes, place: &Place) -> &'d [u8] {
    let from = place.key as usize;
    data.get(from..from + usize::from(place.key_len))
        .unwrap_or_default()
}

fn item_at<'d>(data: &'d Bytes, place: &Place) -> &'d [u8] {
    let from = place.item as usize;
    data.get(from..from + place.item_len as usize)
        .unwrap_or_default()
}

fn field(reader: &mut Reader<'_>, name: &[u8]) -> Result<(), Malformed> {
    match reader.text()? == name {
        true => Ok(()),
        false => Err(Malformed::Field),
    }
}

/// Reads where the entries stand; tells too whether the last of them ends the
/// node by the rule.
fn read_entries(
    reader: &mut Reader<'_>,
    data: &Bytes,
    level: u8,
    count: usize,
) -> Result<(Vec<Place>, bool), Malformed> {
    // Three bytes are the shortest entry.
    let mut places: Vec<Place> = Vec::with_capacity(count.min(data.len() / 3));
    let mut cutter = Cutter::new(level);
    let mut closed = false;
    for _ in 0..count {
        if closed {
            return Err(Malformed::Cut);
        }
        let (place, entry_bytes) = read_entry(reader, data, level)?;
        let key = key_at(data, &place);
        let last = places.last().map(|last| key_at(data, last));
        if last.is_some_and(|last| last >= key) {
            return Err(Malformed::Order);
        }
        closed = cutter.push(key, entry_bytes);
        places.push(place);
    }
    if places.is_empty() {
        return Err(Malformed::TooFew);
    }
    Ok((places, closed))
}

/// Reads where an entry stands, and how many bytes it takes.
fn read_entry(
    reader: &mut Reader<'_>,
    data: &Bytes,
    level: u8,
) -> Result<(Place, usize), Malformed> {
    reader.tuple(2, "an entry")?;
    // What was read last ends where the rest begins.
    let begin = |reader: &Reader<'_>, len: usize| (data.len() - reader.left() - len) as u32;
    let key = reader.bytes()?.len();
    if key > POSIX_KEY_BYTES_MAX {
        return Err(Malformed::TooLarge("key"));
    }
    let key_begin = begin(reader, key);
    let (item, entry_bytes) = if level == 0 {
        let value = reader.bytes()?.len();
        if value > POSIX_VALUE_BYTES_MAX {
            return Err(Malformed::TooLarge("value"));
        }
        (value, value_entry_bytes(key, value))
    } else {
        // A CID ends with its digest.
        let link = Link::of(&reader.link()?).ok_or(Malformed::Cid)?;
        (link.0.len(), link_entry_bytes(key))
    };
    let place = Place {
        key: key_begin,
        item: begin(reader, item),
        item_len: item as u32,
        key_len: key as u16,
    };
    Ok((place, entry_bytes))
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
            let read: Vec<_> = node.entries().collect();
            assert_eq!((node.level, read), (level, entries));
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
