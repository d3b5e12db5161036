//! Directories as blocks: basic while they fit, HAMT above a threshold.
//!
//! A pure function of the entries: order of adding and history have no
//! influence. Nothing here hashes or stores; `seal` does.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::dag_pb::{bytes_field_len, link_field_len, write_data, write_link};
use super::data::{Kind, UnixFs};
use super::hamt_build::{self, HamtTooDeep};
use super::layout::Metadata;
use super::profile::Profile;
use crate::block::Cid;
use crate::config::{HAMT_FANOUT_PLAIN, HAMT_THRESHOLD_BYTES};

/// An entry of a directory under construction, packed: a million of them
/// should cost no more memory than they must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// The name, then the CID.
    bytes: Box<[u8]>,
    name_len: u32,
    tsize: u64,
}

impl NewEntry {
    /// An entry; a name is cut at 4 GiB, which no filesystem has.
    pub fn new(name: &[u8], cid: &Cid, tsize: u64) -> Self {
        let name_len = u32::try_from(name.len()).unwrap_or(u32::MAX);
        let name = name.get(..name_len as usize).unwrap_or(name);
        Self {
            bytes: [name, &cid.to_bytes()].concat().into(),
            name_len,
            tsize,
        }
    }

    /// The name.
    pub fn name(&self) -> &[u8] {
        self.bytes.get(..self.name_len as usize).unwrap_or_default()
    }

    /// The CID, encoded.
    pub fn cid_bytes(&self) -> &[u8] {
        self.bytes.get(self.name_len as usize..).unwrap_or_default()
    }

    /// Bytes of all blocks below.
    pub fn tsize(&self) -> u64 {
        self.tsize
    }

    /// Bytes that the entry takes in a basic directory's block.
    pub fn block_bytes(&self) -> usize {
        link_field_len(self.cid_bytes().len(), self.name().len(), self.tsize)
    }
}

/// How the size of a directory is estimated for the choice between basic and HAMT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SizeEstimate {
    /// Bytes of names and CIDs.
    Links,
    /// Bytes of the whole block.
    Block,
    /// Not at all: only the number of links decides.
    Disabled,
}

/// What decides the form of directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirRules {
    /// How the size is estimated.
    pub estimate: SizeEstimate,
    /// A directory over this is a HAMT.
    pub threshold_bytes: u64,
    /// A directory with more entries is a HAMT; `None` for no bound.
    pub links_max: Option<usize>,
    /// Children of a HAMT's node: a power of two from 8 to 1024.
    pub fanout: u32,
}

impl From<Profile> for DirRules {
    fn from(profile: Profile) -> Self {
        Self {
            estimate: match profile {
                Profile::UnixfsV1_2025 => SizeEstimate::Block,
                Profile::UnixfsV0_2015 => SizeEstimate::Links,
            },
            threshold_bytes: HAMT_THRESHOLD_BYTES,
            links_max: None,
            fanout: HAMT_FANOUT_PLAIN as u32,
        }
    }
}

/// What the form of a directory depends on, added up over its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DirTally {
    /// How many there are.
    pub entries: u64,
    /// Bytes that they take in a basic directory's block.
    pub links_bytes: u64,
    /// Bytes of their names and CIDs.
    pub names_bytes: u64,
}

impl DirTally {
    /// Adds up entries with different names.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a NewEntry>) -> Self {
        let mut tally = Self::default();
        entries.into_iter().for_each(|entry| tally.add(entry));
        tally
    }

    /// Counts an entry in.
    pub fn add(&mut self, entry: &NewEntry) {
        self.entries = self.entries.saturating_add(1);
        self.links_bytes = self.links_bytes.saturating_add(entry.block_bytes() as u64);
        self.names_bytes = self.names_bytes.saturating_add(entry.bytes.len() as u64);
    }

    /// Takes an entry out that was counted in.
    pub fn remove(&mut self, entry: &NewEntry) {
        self.entries = self.entries.saturating_sub(1);
        self.links_bytes = self.links_bytes.saturating_sub(entry.block_bytes() as u64);
        self.names_bytes = self.names_bytes.saturating_sub(entry.bytes.len() as u64);
    }

    /// Whether a directory of these entries is a HAMT.
    pub fn is_sharded(&self, rules: &DirRules, meta: &Metadata) -> bool {
        if rules.links_max.is_some_and(|max| self.entries > max as u64) {
            return true;
        }
        let estimate = match rules.estimate {
            SizeEstimate::Disabled => return false,
            SizeEstimate::Links => self.names_bytes,
            SizeEstimate::Block => {
                let data = bytes_field_len(message(meta).encode().len()) as u64;
                self.links_bytes.saturating_add(data)
            }
        };
        estimate > rules.threshold_bytes
    }
}

/// A finished directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltDir {
    /// Its root.
    pub cid: Cid,
    /// Bytes of all blocks below and in it.
    pub tsize: u64,
    /// Whether it is a HAMT.
    pub sharded: bool,
}

/// Builds a directory; of entries with the same name the first stays.
pub fn build<E: From<HamtTooDeep>>(
    mut entries: Vec<NewEntry>,
    rules: &DirRules,
    meta: &Metadata,
    seal: &mut impl FnMut(Bytes) -> Result<Cid, E>,
) -> Result<BuiltDir, E> {
    // The sort is stable, so the first of a name stays first.
    entries.sort_by(|a, b| a.name().cmp(b.name()));
    entries.dedup_by(|later, first| later.name() == first.name());
    if is_sharded(&entries, rules, meta) {
        return hamt_build::build(&entries, rules.fanout, meta, seal);
    }
    let node = basic_node(&entries, meta);
    let tsize = tsize_of(&entries).saturating_add(node.len() as u64);
    let cid = seal(node)?;
    Ok(BuiltDir {
        cid,
        tsize,
        sharded: false,
    })
}

/// Whether a directory of these entries is a HAMT.
pub fn is_sharded(entries: &[NewEntry], rules: &DirRules, meta: &Metadata) -> bool {
    DirTally::of(entries).is_sharded(rules, meta)
}

fn tsize_of(entries: &[NewEntry]) -> u64 {
    entries.iter().fold(0, |sum, e| sum.saturating_add(e.tsize))
}

fn message(meta: &Metadata) -> UnixFs {
    UnixFs {
        mode: meta.mode,
        mtime: meta.mtime,
        ..UnixFs::new(Kind::Directory)
    }
}

fn basic_node(entries: &[NewEntry], meta: &Metadata) -> Bytes {
    let data = message(meta).encode();
    let links: usize = entries.iter().map(NewEntry::block_bytes).sum();
    let mut out = Vec::with_capacity(links + bytes_field_len(data.len()));
    for entry in entries {
        write_link(&mut out, entry.cid_bytes(), &[entry.name()], entry.tsize);
    }
    write_data(&mut out, &data);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::Store;
    use super::*;
    use crate::block::{Block, RAW, SHA2_256};
    use crate::unixfs::dag_pb::PbNode;

    #[derive(Debug)]
    struct Never;
    impl From<HamtTooDeep> for Never {
        fn from(_: HamtTooDeep) -> Self {
            Self
        }
    }

    fn entry(name: &str, content: &'static str) -> NewEntry {
        let cid = *Block::seal(RAW, SHA2_256, content.into()).unwrap().cid();
        NewEntry::new(name.as_bytes(), &cid, content.len() as u64)
    }

    fn rules(estimate: SizeEstimate, threshold_bytes: u64) -> DirRules {
        DirRules {
            estimate,
            threshold_bytes,
            links_max: None,
            fanout: 256,
        }
    }

    fn build_in(store: &mut Store, entries: Vec<NewEntry>, rules: &DirRules) -> BuiltDir {
        let mut seal = |node| store.seal(node).map_err(|_| Never);
        build(entries, rules, &Metadata::default(), &mut seal).unwrap()
    }

    #[test]
    fn entries_are_sorted_by_bytes_and_the_first_of_a_name_stays() {
        let mut store = Store::default();
        let entries = vec![
            entry("b", "1"),
            entry("Z", "2"),
            entry("b", "3"),
            entry("", "4"),
        ];
        let built = build_in(&mut store, entries, &rules(SizeEstimate::Block, 1 << 18));
        let node = PbNode::decode(&store.0[&built.cid]).unwrap();
        let names: Vec<_> = node.links.iter().map(|l| l.name.clone().unwrap()).collect();
        assert_eq!(names, ["", "Z", "b"]);
        assert_eq!(node.links[2].cid.to_bytes(), entry("b", "1").cid_bytes());
        assert_eq!(built.tsize, 3 + store.0[&built.cid].len() as u64);
        assert_eq!(node.encode(), store.0[&built.cid]);
    }

    #[test]
    fn the_threshold_itself_is_still_basic_by_either_estimate() {
        let entries = vec![entry("one", "1"), entry("two", "2")];
        let meta = Metadata {
            mode: Some(0o755),
            mtime: None,
        };
        let block = basic_node(&entries, &meta).len() as u64;
        let links = 2 * (3 + 36);
        for (estimate, bytes) in [(SizeEstimate::Block, block), (SizeEstimate::Links, links)] {
            assert!(!is_sharded(&entries, &rules(estimate, bytes), &meta));
            assert!(is_sharded(&entries, &rules(estimate, bytes - 1), &meta));
        }
        assert!(!is_sharded(
            &entries,
            &rules(SizeEstimate::Disabled, 0),
            &meta
        ));
    }

    #[test]
    fn more_links_than_allowed_make_a_hamt() {
        let mut store = Store::default();
        let few = DirRules {
            links_max: Some(2),
            ..rules(SizeEstimate::Block, 1 << 18)
        };
        let names = ["a", "b", "c"].map(|n| entry(n, "x"));
        assert!(!build_in(&mut store, names[..2].to_vec(), &few).sharded);
        assert!(build_in(&mut store, names.to_vec(), &few).sharded);
    }
}
