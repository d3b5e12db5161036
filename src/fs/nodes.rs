//! The nodes of the writable tree that the kernel refers to: how often, and no more.
//!
//! The tree itself keeps a node loaded while it is held; each reference of the
//! kernel is one hold. What the kernel never gave back goes when this is dropped.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::inodes::ROOT;
use crate::tree::mfs::{Mfs, NodeId};
use crate::tree::{Node, TreeError};

/// The references of one mount.
pub(super) struct Nodes {
    known: Known,
    mfs: Arc<Mfs>,
}

/// Which nodes the kernel may know, and by which numbers.
#[derive(Debug, Clone)]
pub(super) struct Known {
    counts: Arc<Counts>,
    /// The node that is the mount's root, if it is of this tree.
    root: Option<NodeId>,
}

/// A hold that the kernel has not been told of yet.
pub(super) struct Held {
    mfs: Arc<Mfs>,
    node: Option<NodeId>,
}

impl Nodes {
    /// The references of a mount of `root`, which is held while this lives.
    pub(super) fn new(mfs: Arc<Mfs>, root: &Node) -> Result<Self, TreeError> {
        let root = root.writable();
        if root.is_some_and(|node| !mfs.hold(node)) {
            return Err(TreeError::NotFound);
        }
        Ok(Self {
            known: Known {
                counts: Arc::default(),
                root,
            },
            mfs,
        })
    }

    /// The tree that they are of.
    pub(super) fn mfs(&self) -> &Arc<Mfs> {
        &self.mfs
    }

    /// What the kernel may know.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// Notes that the kernel is told once of a node which is held for that.
    pub(super) fn told(&self, node: NodeId) {
        self.known.counts.add(node.number(), 1);
    }

    /// Takes a hold that is to become a reference of the kernel.
    pub(super) fn hold(&self, node: NodeId) -> Option<Held> {
        self.mfs.hold(node).then(|| self.held(node))
    }

    /// A hold that was taken already.
    pub(super) fn held(&self, node: NodeId) -> Held {
        Held {
            mfs: Arc::clone(&self.mfs),
            node: Some(node),
        }
    }

    /// Notes that the kernel was told of what is held.
    pub(super) fn keep(&self, mut held: Held) {
        if let Some(node) = held.node.take() {
            self.told(node);
        }
    }

    /// Takes back references of the kernel.
    pub(super) fn forget(&self, node: NodeId, lookups: u64) {
        let taken = self.known.counts.take(node.number(), lookups);
        if taken > 0 {
            self.mfs.release(node, taken);
        }
    }

    /// How many nodes the kernel refers to, the root aside.
    pub(super) fn len(&self) -> usize {
        self.known.counts.len()
    }
}

impl Known {
    /// The inode number of a node in this mount.
    pub(super) fn number(&self, node: NodeId) -> u64 {
        number(self.root, node)
    }

    /// Whether the kernel may know a node.
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.root == Some(node) || self.counts.has(node.number())
    }

    /// The inode numbers that the kernel may know.
    pub(super) fn all(&self) -> Vec<u64> {
        let mut all = self.counts.all();
        all.extend(self.root.map(|_| ROOT));
        all
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for (number, lookups) in self.known.counts.drain() {
            if let Some(node) = NodeId::from_number(number) {
                self.mfs.release(node, lookups);
            }
        }
        if let Some(root) = self.known.root {
            self.mfs.release(root, 1);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(node) = self.node {
            self.mfs.release(node, 1);
        }
    }
}

fn number(root: Option<NodeId>, node: NodeId) -> u64 {
    if root == Some(node) {
        ROOT
    } else {
        node.number()
    }
}

/// Number to count of lookups.
#[derive(Debug, Default)]
struct Counts {
    by_number: Mutex<HashMap<u64, u64>>,
}

impl Counts {
    fn add(&self, number: u64, lookups: u64) {
        *self.by_number.lock().entry(number).or_default() += lookups;
    }

    /// Takes `lookups` away; gives how many there were of them.
    fn take(&self, number: u64, lookups: u64) -> u64 {
        let mut counts = self.by_number.lock();
        let Some(count) = counts.get_mut(&number) else {
            return 0;
        };
        let taken = lookups.min(*count);
        *count -= taken;
        if *count == 0 {
            counts.remove(&number);
        }
        taken
    }

    fn has(&self, number: u64) -> bool {
        self.by_number.lock().contains_key(&number)
    }

    fn all(&self) -> Vec<u64> {
        self.by_number.lock().keys().copied().collect()
    }

    fn len(&self) -> usize {
        self.by_number.lock().len()
    }

    fn drain(&self) -> HashMap<u64, u64> {
        std::mem::take(&mut *self.by_number.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_until_every_lookup_is_forgotten() {
        let counts = Counts::default();
        counts.add(7, 1);
        counts.add(7, 2);
        assert_eq!(counts.take(7, 2), 2);
        assert!(counts.has(7));
        assert_eq!(counts.take(7, 1), 1);
        assert!(!counts.has(7));
        assert_eq!(counts.len(), 0);
    }

    #[test]
    fn no_more_is_given_back_than_was_taken() {
        let counts = Counts::default();
        assert_eq!(counts.take(7, 1), 0);
        counts.add(7, 1);
        assert_eq!(counts.take(7, 5), 1);
        counts.add(8, 3);
        assert_eq!(counts.drain().into_iter().collect::<Vec<_>>(), [(8, 3)]);
        assert_eq!(counts.len(), 0);
    }

    #[test]
    fn the_node_that_is_the_root_of_a_mount_has_the_number_of_a_root() {
        assert_eq!(number(Some(NodeId::ROOT), NodeId::ROOT), ROOT);
        assert_eq!(number(None, NodeId::ROOT), NodeId::ROOT.number());
        assert!(NodeId::from_number(ROOT).is_none());
    }
}
