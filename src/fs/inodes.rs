//! Inode numbers: stable over remounts, since they follow from content.
//!
//! A file or link is one inode per CID wherever it appears, so its pages are
//! cached once; a directory is one per path, so that its parent is its own.
//! The table holds what the kernel refers to and no more: a FORGET drops it.
//! Nodes of the writable tree have numbers of their own and are not in it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::block::Cid;
use crate::tree::{Kind, Node};

/// Number of a mount's root.
pub(super) const ROOT: u64 = 1;
/// Numbers below this are never given by hash.
const FIRST: u64 = 1 << 10;
/// Numbers stay positive for programs that read them as signed, and apart
/// from those of the writable tree, which have bit 62 set.
const MASK: u64 = (1 << 62) - 1;

/// Who an inode is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// A file or symbolic link: its CID.
    Content(Cid),
    /// A directory: its parent, its name there, and what it is.
    Path {
        parent: u64,
        name: Box<[u8]>,
        node: Node,
    },
    /// Something in a kept checkpoint: its number there, which all its names have.
    Kept { sequence: u64, number: u64 },
}

#[derive(Debug)]
struct Inode {
    identity: Identity,
    node: Node,
    parent: u64,
    lookups: u64,
}

/// The inodes that the kernel refers to.
#[derive(Debug)]
pub(super) struct Inodes {
    table: RwLock<Table>,
}

#[derive(Debug)]
struct Table {
    by_number: HashMap<u64, Inode>,
    root: Node,
}

impl Inodes {
    /// A table whose root is `root`.
    pub(super) fn new(root: Node) -> Self {
        Self {
            table: RwLock::new(Table {
                by_number: HashMap::new(),
                root,
            }),
        }
    }

    /// The node of an inode; `None` only if the kernel was told of no such inode.
    pub(super) fn node(&self, ino: u64) -> Option<Node> {
        let table = self.table.read();
        if ino == ROOT {
            return Some(table.root.clone());
        }
        table.by_number.get(&ino).map(|inode| inode.node.clone())
    }

    /// The parent that a directory was reached through; the root is its own.
    pub(super) fn parent(&self, ino: u64) -> u64 {
        self.table
            .read()
            .by_number
            .get(&ino)
            .map_or(ROOT, |inode| inode.parent)
    }

    /// The number that `number_of` gives, without the kernel referring to it.
    pub(super) fn peek(&self, parent: u64, name: &[u8], node: &Node, kind: Kind) -> u64 {
        let identity = identity(parent, name, node, kind);
        self.table.read().place(&identity).0
    }

    /// Gives the inode of a node that is now told to the kernel, which will
    /// FORGET it once for each call.
    pub(super) fn remember(&self, parent: u64, name: &[u8], node: &Node, kind: Kind) -> u64 {
        let identity = identity(parent, name, node, kind);
        let mut table = self.table.write();
        let (ino, _) = table.place(&identity);
        let fresh = || Inode {
            identity,
            node: node.clone(),
            parent,
            lookups: 0,
        };
        table.by_number.entry(ino).or_insert_with(fresh).lookups += 1;
        ino
    }

    /// Takes back `lookups` of the kernel's references.
    pub(super) fn forget(&self, ino: u64, lookups: u64) {
        let mut table = self.table.write();
        if let Some(inode) = table.by_number.get_mut(&ino) {
            inode.lookups = inode.lookups.saturating_sub(lookups);
            if inode.lookups == 0 {
                table.by_number.remove(&ino);
            }
        }
    }

    /// How many inodes the kernel refers to, the root aside.
    pub(super) fn len(&self) -> usize {
        self.table.read().by_number.len()
    }
}

impl Table {
    /// The number of an identity, and whether it is in the table already.
    fn place(&self, identity: &Identity) -> (u64, bool) {
        let mut ino = number(identity);
        loop {
            match self.by_number.get(&ino) {
                None => return (ino, false),
                Some(inode) if inode.identity == *identity => return (ino, true),
                // A collision of 62-bit hashes: the next number.
                Some(_) => ino = ((ino + 1) & MASK).max(FIRST),
            }
        }
    }
}

fn identity(parent: u64, name: &[u8], node: &Node, kind: Kind) -> Identity {
    match (node, kind) {
        (Node::Object(cid), Kind::File | Kind::Symlink) => Identity::Content(*cid),
        (Node::Kept(kept), _) if let Some(number) = kept.number() => Identity::Kept {
            sequence: kept.sequence(),
            number,
        },
        _ => Identity::Path {
            parent,
            name: name.into(),
            node: node.clone(),
        },
    }
}

fn push_cid(bytes: &mut Vec<u8>, cid: &Cid) {
    // Memory takes whatever is written.
    drop(cid.write_bytes(bytes));
}

fn number(identity: &Identity) -> u64 {
    let mut bytes = Vec::with_capacity(128);
    match identity {
        Identity::Content(cid) => push_cid(&mut bytes, cid),
        Identity::Path { parent, name, node } => {
            bytes.extend(parent.to_le_bytes());
            bytes.extend((name.len() as u64).to_le_bytes());
            bytes.extend(name);
            match node {
                Node::Object(cid) => push_cid(&mut bytes, cid),
                Node::Name(name) => bytes.extend(Arc::as_ref(name).as_bytes()),
                Node::Top
                | Node::Ipfs
                | Node::Ipns
                | Node::Mfs(_)
                | Node::Kept(_)
                | Node::Snapshots => {}
            }
        }
        Identity::Kept { sequence, number } => {
            bytes.extend(b"kept");
            bytes.extend(sequence.to_le_bytes());
            bytes.extend(number.to_le_bytes());
        }
    }
    // Not for security: a collision costs a probe.
    (fastmurmur3::murmur3_x64_128(&bytes, 0) as u64 & MASK).max(FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, RAW, SHA2_256};
    use crate::tree::mfs::NodeId;

    fn object(data: &'static [u8]) -> Node {
        Node::Object(*Block::seal(RAW, SHA2_256, data.into()).unwrap().cid())
    }

    #[test]
    fn a_file_is_one_inode_wherever_it_appears_and_a_directory_one_per_path() {
        let inodes = Inodes::new(Node::Top);
        let file = object(b"file");
        let here = inodes.remember(ROOT, b"a", &file, Kind::File);
        let there = inodes.remember(77, b"b", &file, Kind::File);
        assert_eq!(here, there);
        let here = inodes.remember(ROOT, b"a", &file, Kind::Directory);
        let there = inodes.remember(77, b"b", &file, Kind::Directory);
        assert_ne!(here, there);
    }

    #[test]
    fn numbers_are_the_same_after_a_restart() {
        let first = Inodes::new(Node::Top).remember(ROOT, b"a", &object(b"x"), Kind::File);
        let again = Inodes::new(Node::Top).remember(ROOT, b"a", &object(b"x"), Kind::File);
        assert_eq!(first, again);
        assert!((FIRST..=MASK).contains(&first));
        assert!(NodeId::from_number(first).is_none());
        assert!(NodeId::from_number(MASK).is_none());
    }

    #[test]
    fn an_inode_lives_until_every_lookup_is_forgotten() {
        let inodes = Inodes::new(Node::Top);
        let node = object(b"x");
        let ino = inodes.remember(ROOT, b"a", &node, Kind::File);
        inodes.remember(ROOT, b"b", &node, Kind::File);
        inodes.forget(ino, 1);
        assert_eq!(inodes.node(ino), Some(node));
        inodes.forget(ino, 1);
        assert_eq!(inodes.node(ino), None);
        assert_eq!(inodes.len(), 0);
    }

    #[test]
    fn a_collision_gets_another_number() {
        let inodes = Inodes::new(Node::Top);
        let wanted = number(&identity(ROOT, b"a", &object(b"x"), Kind::File));
        let squatter = Inode {
            identity: identity(ROOT, b"b", &object(b"other"), Kind::File),
            node: object(b"other"),
            parent: ROOT,
            lookups: 1,
        };
        inodes.table.write().by_number.insert(wanted, squatter);
        assert_eq!(
            inodes.remember(ROOT, b"a", &object(b"x"), Kind::File),
            wanted + 1
        );
        assert_eq!(
            inodes.remember(ROOT, b"a", &object(b"x"), Kind::File),
            wanted + 1
        );
    }
}
