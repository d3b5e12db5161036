//! A block as what it means: file, directory, HAMT shard or symbolic link.
//!
//! Decoding is pure and refuses what a mount must not serve; what it gives is
//! indexed for the look-ups that follow, so that a hot node is decoded once.

use std::collections::HashMap;
use std::sync::OnceLock;

use bytes::Bytes;

use super::dag_pb::{Link, PbNode};
use super::data::{Kind, Mtime, UnixFs};
use super::error::Malformed;
use super::hamt;
use crate::block::Cid;
use crate::config::NAME_BYTES_MAX;

/// A decoded dag-pb node.
#[derive(Debug)]
pub struct Node {
    /// What it holds.
    pub body: Body,
    /// Permission bits, where stored.
    pub mode: Option<u32>,
    /// Modification time, where stored.
    pub mtime: Option<Mtime>,
    /// Bytes of its block.
    pub block_bytes: usize,
    /// Memory that the node keeps alive, in bytes, roughly.
    pub weight_bytes: usize,
}

/// What a node holds.
#[derive(Debug)]
pub enum Body {
    /// A file, or a part of one.
    File(File),
    /// A directory in one block.
    Directory(Directory),
    /// A shard of a HAMT directory.
    Shard(hamt::Shard),
    /// A symbolic link with its target.
    Symlink(Bytes),
}

/// Bytes of a file: inline ones first, then its parts.
#[derive(Debug)]
pub struct File {
    /// Bytes in the node itself.
    pub inline: Bytes,
    /// The parts, in order, without gaps.
    pub parts: Vec<Part>,
    /// Size of all.
    pub size: u64,
}

/// A part of a file.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Its root.
    pub cid: Cid,
    /// Where it ends in this node's file.
    pub end: u64,
    /// Size of the DAG below as its maker says; that of the content where he
    /// does not. Untrusted.
    pub tsize: u64,
}

/// A directory entry as the blocks say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name; bytes, not necessarily UTF-8.
    pub name: Bytes,
    /// What it leads to.
    pub cid: Cid,
    /// Size of the DAG below as its maker says. Untrusted.
    pub tsize: Option<u64>,
}

/// A directory in one block.
#[derive(Debug)]
pub struct Directory {
    /// The entries that can be shown, in the order of the block.
    pub entries: Vec<DirEntry>,
    /// Those that cannot.
    pub hidden: Vec<DirEntry>,
    by_name: OnceLock<HashMap<Bytes, usize>>,
}

impl Directory {
    /// Finds an entry by its name.
    pub fn find(&self, name: &[u8]) -> Option<&DirEntry> {
        let index = self.by_name.get_or_init(|| {
            // Entries are unique by now: the first of a name won.
            self.entries
                .iter()
                .enumerate()
                .map(|(i, e)| (e.name.clone(), i))
                .collect()
        });
        index.get(name).and_then(|i| self.entries.get(*i))
    }
}

impl Node {
    /// Decodes a dag-pb block.
    pub fn decode(block: &Bytes) -> Result<Self, Malformed> {
        let pb = PbNode::decode(block)?;
        let data = pb
            .data
            .as_ref()
            .ok_or(Malformed::Kind("dag-pb without UnixFS data"))?;
        let unixfs = UnixFs::decode(data)?;
        let weight_bytes = block.len() + pb.links.len() * 3 * size_of::<DirEntry>() / 2 + 128;
        let (mode, mtime) = (unixfs.mode, unixfs.mtime);
        let body = match unixfs.kind {
            Kind::File | Kind::Raw => Body::File(file(pb.links, unixfs)?),
            Kind::Directory => Body::Directory(directory(pb.links)),
            Kind::HamtShard => Body::Shard(hamt::Shard::decode(pb.links, &unixfs)?),
            Kind::Symlink => Body::Symlink(unixfs.data.unwrap_or_default()),
            Kind::Metadata => return Err(Malformed::Kind("UnixFS metadata node")),
        };
        Ok(Self {
            body,
            mode,
            mtime,
            block_bytes: block.len(),
            weight_bytes,
        })
    }
}

fn file(links: Vec<Link>, unixfs: UnixFs) -> Result<File, Malformed> {
    if links.len() != unixfs.blocksizes.len() {
        let (links, sizes) = (links.len(), unixfs.blocksizes.len());
        return Err(Malformed::Blocksizes { links, sizes });
    }
    let inline = unixfs.data.unwrap_or_default();
    let declared = unixfs.filesize.unwrap_or(0);
    let mut end = inline.len() as u64;
    let mut parts = Vec::with_capacity(links.len());
    for (index, (link, size)) in links.into_iter().zip(unixfs.blocksizes).enumerate() {
        if link.name.is_some_and(|n| !n.is_empty()) {
            return Err(Malformed::ChunkName { index });
        }
        end = end.checked_add(size).ok_or(Malformed::FileSize {
            declared,
            parts: u64::MAX,
        })?;
        parts.push(Part {
            cid: link.cid,
            end,
            tsize: link.tsize.unwrap_or(size),
        });
    }
    if end != declared {
        return Err(Malformed::FileSize {
            declared,
            parts: end,
        });
    }
    // Offsets reach the kernel as signed numbers.
    if i64::try_from(end).is_err() {
        return Err(Malformed::Kind("file is larger than an offset can say"));
    }
    Ok(File {
        inline,
        parts,
        size: end,
    })
}

fn directory(links: Vec<Link>) -> Directory {
    let mut seen = std::collections::HashSet::with_capacity(links.len());
    let (entries, hidden) = links
        .into_iter()
        .map(|l| DirEntry {
            name: l.name.unwrap_or_default(),
            cid: l.cid,
            tsize: l.tsize,
        })
        .filter(|e| seen.insert(e.name.clone()))
        .partition(|e| showable(&e.name));
    Directory {
        entries,
        hidden,
        by_name: OnceLock::new(),
    }
}

/// Whether a mount can show an entry of this name; one that it cannot is logged.
pub(super) fn showable(name: &[u8]) -> bool {
    let fine = !name.is_empty()
        && name != b"."
        && name != b".."
        && name.len() <= NAME_BYTES_MAX
        && !name.contains(&b'/')
        && !name.contains(&0);
    if !fine {
        tracing::warn!(name = %name.escape_ascii(), "directory entry hidden: not a file name");
    }
    fine
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, RAW, SHA2_256};

    fn link(name: Option<&'static str>, data: &'static [u8]) -> Link {
        let cid = *Block::seal(RAW, SHA2_256, Bytes::from_static(data))
            .unwrap()
            .cid();
        Link {
            cid,
            name: name.map(Bytes::from),
            tsize: Some(data.len() as u64),
        }
    }

    fn node(links: Vec<Link>, unixfs: UnixFs) -> Result<Node, Malformed> {
        Node::decode(
            &PbNode {
                links,
                data: Some(unixfs.encode()),
            }
            .encode(),
        )
    }

    fn a_file(sizes: Vec<u64>, filesize: Option<u64>) -> UnixFs {
        UnixFs {
            blocksizes: sizes,
            filesize,
            ..UnixFs::new(Kind::File)
        }
    }

    #[test]
    fn blocksizes_that_do_not_match_the_links_are_refused() {
        let found = node(vec![link(None, b"a")], a_file(vec![], Some(0)));
        assert_eq!(
            found.unwrap_err(),
            Malformed::Blocksizes { links: 1, sizes: 0 }
        );
    }

    #[test]
    fn blocksizes_that_do_not_add_up_are_refused() {
        let found = node(vec![link(None, b"a")], a_file(vec![1], Some(2)));
        assert_eq!(
            found.unwrap_err(),
            Malformed::FileSize {
                declared: 2,
                parts: 1
            }
        );
        let links = vec![link(None, b"a"), link(None, b"b")];
        let found = node(links, a_file(vec![u64::MAX, 2], Some(1)));
        assert!(
            matches!(found.unwrap_err(), Malformed::FileSize { .. }),
            "overflow"
        );
    }

    #[test]
    fn a_chunk_link_with_a_name_is_refused_and_an_empty_name_is_not() {
        let found = node(vec![link(Some("x"), b"a")], a_file(vec![1], Some(1)));
        assert_eq!(found.unwrap_err(), Malformed::ChunkName { index: 0 });
        assert!(node(vec![link(Some(""), b"a")], a_file(vec![1], Some(1))).is_ok());
    }

    #[test]
    fn names_that_no_file_can_have_are_hidden_and_their_siblings_stay() {
        let long: &'static str = Box::leak("n".repeat(256).into_boxed_str());
        let links = ["..", ".", "a/b", "a\0b", "", long, "good"]
            .map(|n| link(Some(n), b"a"))
            .to_vec();
        let Body::Directory(dir) = node(links, UnixFs::new(Kind::Directory)).unwrap().body else {
            panic!("not a directory")
        };
        let names: Vec<_> = dir.entries.iter().map(|e| &e.name[..]).collect();
        assert_eq!(names, [b"good"]);
    }

    #[test]
    fn the_first_of_two_equal_names_wins() {
        let links = vec![link(Some("n"), b"first"), link(Some("n"), b"second")];
        let Body::Directory(dir) = node(links, UnixFs::new(Kind::Directory)).unwrap().body else {
            panic!("not a directory")
        };
        assert_eq!(dir.find(b"n").unwrap().cid, link(None, b"first").cid);
        assert_eq!(dir.entries.len(), 1);
    }
}
