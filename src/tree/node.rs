//! What a path leads to, what it is, and what is in it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use lru::LruCache;

use super::Kind;
use super::mfs::{KeptNode, NodeAttr, NodeId};
use crate::block::{Cid, DAG_PB};
use crate::unixfs::data::Mtime;
use crate::unixfs::node::DirEntry;
use crate::unixfs::{Meta, MetaKind};

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    /// `/`: the namespaces.
    Top,
    /// `/ipfs`.
    Ipfs,
    /// `/ipns`.
    Ipns,
    /// What an IPNS name stands for at the time of each call; only ever the
    /// root of a mount. Below it, and under `/ipns`, nodes are objects.
    Name(Arc<str>),
    /// Something immutable.
    Object(Cid),
    /// Something in the writable tree. Loaded only as long as someone holds it.
    Mfs(NodeId),
    /// Something in a kept checkpoint of the writable tree.
    Kept(Arc<KeptNode>),
    /// `.snapshots` in the root of the writable tree: its kept checkpoints.
    Snapshots,
}

impl Node {
    /// The node of the writable tree that this is, if it is one.
    pub fn writable(&self) -> Option<NodeId> {
        match self {
            Self::Mfs(node) => Some(*node),
            Self::Top
            | Self::Ipfs
            | Self::Ipns
            | Self::Name(_)
            | Self::Object(_)
            | Self::Kept(_)
            | Self::Snapshots => None,
        }
    }
}

/// A node that was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The node.
    pub node: Node,
    /// How long the name leads to it; `None` is for ever.
    pub ttl: Option<std::time::Duration>,
}

impl Found {
    pub(super) fn for_ever(node: Node) -> Self {
        Self { node, ttl: None }
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// What kind of thing it is.
    pub kind: Kind,
    /// Bytes of a file or of a link's target; 0 for a directory.
    pub size: u64,
    /// Permission bits, where the content stores them.
    pub mode: Option<u32>,
    /// Modification time, where the content stores it.
    pub mtime: Option<Mtime>,
    /// The content's CID; `None` for the namespaces, and for what is writable:
    /// that is known once it is sealed, by `Tree::cid`.
    pub cid: Option<Cid>,
    /// All that is recorded of a node of a kept checkpoint.
    pub kept: Option<NodeAttr>,
}

impl Attr {
    pub(super) fn namespace() -> Self {
        Self {
            kind: Kind::Directory,
            size: 0,
            mode: None,
            mtime: None,
            cid: None,
            kept: None,
        }
    }

    pub(super) fn of(cid: &Cid, meta: Meta) -> Self {
        let Meta {
            kind,
            size,
            mode,
            mtime,
        } = meta;
        Self {
            kind: kind.into(),
            size,
            mode,
            mtime,
            cid: Some(*cid),
            kept: None,
        }
    }

    pub(super) fn of_kept(attr: &NodeAttr, cid: Option<Cid>) -> Self {
        Self {
            cid,
            kept: Some(*attr),
            ..Self::of_writable(attr)
        }
    }

    pub(super) fn of_writable(attr: &NodeAttr) -> Self {
        Self {
            kind: attr.kind,
            size: attr.size,
            mode: Some(attr.mode),
            mtime: Some(Mtime {
                seconds: attr.mtime.sec,
                nanoseconds: attr.mtime.nsec,
            }),
            cid: None,
            kept: None,
        }
    }
}

impl From<MetaKind> for Kind {
    fn from(kind: MetaKind) -> Self {
        match kind {
            MetaKind::File => Self::File,
            MetaKind::Directory => Self::Directory,
            MetaKind::Symlink => Self::Symlink,
        }
    }
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name; bytes, not necessarily UTF-8.
    pub name: Bytes,
    /// What it leads to.
    pub node: Node,
    /// What it is, where the parent tells; `None` needs the node's root block.
    pub kind: Option<Kind>,
    /// Size of the DAG below as its maker says. Untrusted.
    pub tsize: Option<u64>,
}

/// All entries of a directory, in a stable order.
#[derive(Debug, Default)]
pub struct Listing {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Sizes of files under a CID, once they were found out: they never change.
    sizes: Box<[OnceLock<u64>]>,
}

impl Listing {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let sizes = entries.iter().map(|_| OnceLock::new()).collect();
        Self { entries, sizes }
    }

    /// What an entry is, if it is a file by its codec and its size was noted.
    pub(super) fn noted(&self, index: usize) -> Option<Attr> {
        let size = *self.sizes.get(index)?.get()?;
        let Node::Object(cid) = &self.entries.get(index)?.node else {
            return None;
        };
        Some(Attr {
            kind: Kind::File,
            size,
            mode: None,
            mtime: None,
            cid: Some(*cid),
            kept: None,
        })
    }

    /// Notes what an entry is, where all that there is to it is its size.
    pub(super) fn note(&self, index: usize, attr: &Attr) {
        let entry = self.entries.get(index);
        let by_codec = entry.is_some_and(|entry| entry.kind == Some(Kind::File));
        if let Some(size) = self.sizes.get(index).filter(|_| by_codec) {
            // Another reader of the listing may have noted the same.
            size.get_or_init(|| attr.size);
        }
    }

    pub(super) fn namespaces(mfs: bool) -> Self {
        let entry = |name: &'static str, node| Entry {
            name: Bytes::from_static(name.as_bytes()),
            node,
            kind: Some(Kind::Directory),
            tsize: None,
        };
        let mut entries = vec![entry("ipfs", Node::Ipfs), entry("ipns", Node::Ipns)];
        if mfs {
            entries.push(entry("mfs", Node::Mfs(NodeId::ROOT)));
        }
        Self::new(entries)
    }

    pub(super) fn of_roots(mut roots: Vec<Cid>) -> Self {
        roots.sort_unstable();
        roots.dedup();
        let entries = roots.into_iter().map(|cid| Entry {
            name: cid.to_string().into(),
            kind: kind_by_codec(&cid),
            node: Node::Object(cid),
            tsize: None,
        });
        Self::new(entries.collect())
    }

    pub(super) fn of_names(names: Vec<(Arc<str>, Cid)>) -> Self {
        let entries = names.into_iter().map(|(name, cid)| Entry {
            name: Bytes::copy_from_slice(name.as_bytes()),
            kind: kind_by_codec(&cid),
            node: Node::Object(cid),
            tsize: None,
        });
        Self::new(entries.collect())
    }

    pub(super) fn of_entries(entries: Vec<DirEntry>) -> Self {
        let entries = entries.into_iter().map(|entry| Entry {
            name: entry.name,
            kind: kind_by_codec(&entry.cid),
            node: Node::Object(entry.cid),
            tsize: entry.tsize,
        });
        Self::new(entries.collect())
    }
}

/// Every codec but dag-pb is a file; a dag-pb node must be looked into.
fn kind_by_codec(cid: &Cid) -> Option<Kind> {
    (cid.codec() != DAG_PB).then_some(Kind::File)
}

/// Listings kept, by CID, within a byte limit.
pub(super) struct Listings {
    kept: LruCache<Cid, Arc<Listing>>,
    bytes: usize,
    bytes_max: usize,
}

impl Listings {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            kept: LruCache::unbounded(),
            bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn get(&mut self, cid: &Cid) -> Option<Arc<Listing>> {
        self.kept.get(cid).cloned()
    }

    pub(super) fn insert(&mut self, cid: Cid, listing: Arc<Listing>) {
        self.bytes += weight(&listing);
        if let Some((_, old)) = self.kept.push(cid, listing) {
            self.bytes -= weight(&old);
        }
        while self.bytes > self.bytes_max {
            let Some((_, old)) = self.kept.pop_lru() else {
                break;
            };
            self.bytes -= weight(&old);
        }
    }
}

fn weight(listing: &Listing) -> usize {
    256 + listing.entries.len() * (size_of::<Entry>() + size_of::<OnceLock<u64>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, RAW, SHA2_256};

    #[test]
    fn a_size_is_remembered_of_files_by_codec_and_of_nothing_else() {
        let cid = |codec| *Block::seal(codec, SHA2_256, "x".into()).unwrap().cid();
        let entry = |codec| DirEntry {
            name: "a".into(),
            cid: cid(codec),
            tsize: None,
        };
        let listing = Listing::of_entries(vec![entry(RAW), entry(DAG_PB)]);
        let attr = Attr {
            kind: Kind::File,
            size: 7,
            mode: None,
            mtime: None,
            cid: Some(cid(RAW)),
            kept: None,
        };
        assert_eq!(listing.noted(0), None);
        for index in 0..3 {
            listing.note(index, &attr);
        }
        assert_eq!(listing.noted(0), Some(attr));
        // A dag-pb file has more to it: its mode and time.
        assert_eq!(listing.noted(1), None);
        let namespaces = Listing::namespaces(true);
        namespaces.note(0, &Attr::namespace());
        assert_eq!(namespaces.noted(0), None);
    }
}
