//! How the chunks of a file hang together: balanced and trickle trees.
//!
//! Both are built from the left while the chunks come in, with one open node
//! a level, so a file of any length needs little memory. Nothing here hashes
//! or stores: a finished node is handed to the caller's `seal`, which gives
//! back its CID. The trees are those of Kubo, link for link.

mod balanced;
mod trickle;

pub use balanced::Balanced;
pub use trickle::Trickle;

use bytes::Bytes;

use super::dag_pb::varint_len;
use super::dag_pb::{bytes_field_len, link_field_len, write_bytes_key, write_data, write_link};
use super::data::{Kind, Mtime, UnixFs};
use crate::block::Cid;

/// A finished part of a file: a chunk, or a tree of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Its root.
    pub cid: Cid,
    /// Bytes of the file in it.
    pub size: u64,
    /// Bytes of all its blocks, shared ones counted each time.
    pub tsize: u64,
}

/// What UnixFS stores of a node beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Modification time.
    pub mtime: Option<Mtime>,
}

impl Metadata {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A tree under construction, of either layout.
#[derive(Debug)]
pub enum Tree {
    /// All chunks at one depth.
    Balanced(Balanced),
    /// The first chunks near the root.
    Trickle(Trickle),
}

impl Tree {
    /// Adds the next piece of the file; `seal` takes nodes that became full.
    pub fn push<E>(
        &mut self,
        piece: Piece,
        seal: &mut impl FnMut(Bytes) -> Result<Cid, E>,
    ) -> Result<(), E> {
        match self {
            Self::Balanced(tree) => tree.push(piece, seal),
            Self::Trickle(tree) => tree.push(piece, seal),
        }
    }

    /// Ends the file and gives its root; `None` for a balanced tree without pieces.
    ///
    /// The root carries `meta`, unless it is the only piece of a balanced tree.
    pub fn finish<E>(
        self,
        meta: &Metadata,
        seal: &mut impl FnMut(Bytes) -> Result<Cid, E>,
    ) -> Result<Option<Piece>, E> {
        match self {
            Self::Balanced(tree) => tree.finish(meta, seal),
            Self::Trickle(tree) => tree.finish(meta, seal).map(Some),
        }
    }
}

/// Builds a balanced tree over pieces that are known already.
///
/// `None` where there are none. `links_max` is at least 2.
pub fn balanced<E>(
    pieces: impl IntoIterator<Item = Piece>,
    links_max: usize,
    meta: &Metadata,
    seal: &mut impl FnMut(Bytes) -> Result<Cid, E>,
) -> Result<Option<Piece>, E> {
    let mut tree = Balanced::new(links_max);
    for piece in pieces {
        tree.push(piece, seal)?;
    }
    tree.finish(meta, seal)
}

/// Encodes and seals a node over `children`.
pub(super) fn seal_node<E>(
    children: &[Piece],
    meta: &Metadata,
    seal: &mut impl FnMut(Bytes) -> Result<Cid, E>,
) -> Result<Piece, E> {
    let node = file_node(children, meta);
    let below: u64 = children
        .iter()
        .fold(0, |sum, c| sum.saturating_add(c.tsize));
    let tsize = below.saturating_add(node.len() as u64);
    let cid = seal(node)?;
    Ok(Piece {
        cid,
        size: size(children),
        tsize,
    })
}

fn size(children: &[Piece]) -> u64 {
    children.iter().fold(0, |sum, c| sum.saturating_add(c.size))
}

/// A file's node over its parts.
pub fn file_node(children: &[Piece], meta: &Metadata) -> Bytes {
    let message = UnixFs {
        filesize: Some(size(children)),
        blocksizes: children.iter().map(|c| c.size).collect(),
        mode: meta.mode,
        mtime: meta.mtime,
        ..UnixFs::new(Kind::File)
    };
    let data = message.encode();
    let links: usize = children
        .iter()
        .map(|c| link_field_len(c.cid.encoded_len(), 0, c.tsize))
        .sum();
    let mut out = Vec::with_capacity(links + bytes_field_len(data.len()));
    for child in children {
        // An empty name, not an absent one: so it is in all files out there.
        write_link(&mut out, &child.cid.to_bytes(), &[], child.tsize);
    }
    write_data(&mut out, &data);
    out.into()
}

/// A dag-pb leaf: `kind` is `File`, or `Raw` in trickle trees.
pub fn leaf_node(kind: Kind, data: &[u8], meta: &Metadata) -> Bytes {
    let tail = UnixFs {
        filesize: Some(data.len() as u64),
        mode: meta.mode,
        mtime: meta.mtime,
        ..UnixFs::new(kind)
    };
    // The message without its data is the kind, two bytes, and what follows the data.
    let tail = tail.encode();
    let (head, tail) = tail.split_at(2.min(tail.len()));
    let inline = if data.is_empty() {
        0
    } else {
        bytes_field_len(data.len())
    };
    let message = head.len() + inline + tail.len();
    let mut out = Vec::with_capacity(1 + varint_len(message as u64) + message);
    write_bytes_key(&mut out, 1, message);
    out.extend_from_slice(head);
    if !data.is_empty() {
        write_bytes_key(&mut out, 2, data.len());
        out.extend_from_slice(data);
    }
    out.extend_from_slice(tail);
    out.into()
}

/// A symbolic link's node.
pub fn symlink_node(target: &[u8], mtime: Option<Mtime>) -> Bytes {
    let message = UnixFs {
        data: Some(Bytes::copy_from_slice(target)),
        mtime,
        ..UnixFs::new(Kind::Symlink)
    };
    let data = message.encode();
    let mut out = Vec::with_capacity(bytes_field_len(data.len()));
    write_data(&mut out, &data);
    out.into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::block::{Block, DAG_PB, RAW, SHA2_256};
    use crate::unixfs::dag_pb::PbNode;
    use std::collections::HashMap;
    use std::convert::Infallible;

    /// Seals into memory and reads a tree back as nested brackets of sizes.
    #[derive(Default)]
    pub(in crate::unixfs) struct Store(pub(in crate::unixfs) HashMap<Cid, Bytes>);

    impl Store {
        pub(in crate::unixfs) fn seal(&mut self, node: Bytes) -> Result<Cid, Infallible> {
            let block = Block::seal(DAG_PB, SHA2_256, node).unwrap();
            self.0.insert(*block.cid(), block.data().clone());
            Ok(*block.cid())
        }

        pub(super) fn shape(&self, cid: &Cid) -> String {
            let Some(bytes) = self.0.get(cid) else {
                return ".".to_owned();
            };
            let node = PbNode::decode(bytes).unwrap();
            let inside: String = node.links.iter().map(|l| self.shape(&l.cid)).collect();
            format!("[{inside}]")
        }
    }

    pub(super) fn leaf(number: u64) -> Piece {
        let data = Bytes::from(number.to_le_bytes().to_vec());
        let cid = *Block::seal(RAW, SHA2_256, data).unwrap().cid();
        Piece {
            cid,
            size: 8,
            tsize: 8,
        }
    }

    #[test]
    fn a_leaf_is_the_message_around_its_data() {
        let mtime = Some(Mtime {
            seconds: 5,
            nanoseconds: 6,
        });
        let meta = Metadata {
            mode: Some(0o644),
            mtime,
        };
        for data in [&b""[..], b"x", &[7; 300]] {
            for meta in [Metadata::default(), meta] {
                let message = UnixFs {
                    data: (!data.is_empty()).then(|| Bytes::copy_from_slice(data)),
                    filesize: Some(data.len() as u64),
                    mode: meta.mode,
                    mtime: meta.mtime,
                    ..UnixFs::new(Kind::File)
                };
                let node = PbNode {
                    links: vec![],
                    data: Some(message.encode()),
                };
                assert_eq!(leaf_node(Kind::File, data, &meta), node.encode());
            }
        }
    }

    #[test]
    fn a_file_node_names_its_parts_with_empty_names_and_adds_up_their_sizes() {
        let parts = [leaf(1), leaf(2)];
        let node = PbNode::decode(&file_node(&parts, &Metadata::default())).unwrap();
        let message = UnixFs::decode(node.data.as_ref().unwrap()).unwrap();
        assert!(node.links.iter().all(|l| l.name == Some(Bytes::new())));
        assert_eq!(message.blocksizes, [8, 8]);
        assert_eq!(message.filesize, Some(16));
        assert_eq!(node.encode(), file_node(&parts, &Metadata::default()));
    }
}
