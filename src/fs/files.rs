//! The file system as calls on inodes, without the kernel's format.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::attr::Stat;
use super::buffers::Buffers;
use super::inodes::Inodes;
use super::options::MountOptions;
use crate::tree::{Attr, Node, Tree, TreeError};

/// The file system of one mount. Cheap to clone.
#[derive(Clone)]
pub struct Files {
    pub(super) shared: Arc<Shared>,
}

/// What the clones share.
pub(super) struct Shared {
    pub(super) tree: Arc<Tree>,
    pub(super) inodes: Inodes,
    pub(super) options: MountOptions,
    pub(super) buffers: Buffers,
    /// Hash of each namespace's listing, and when it last changed.
    changed: Mutex<HashMap<Node, (u128, SystemTime)>>,
}

/// A node as the kernel is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// What `stat` shows.
    pub stat: Stat,
    /// How long the kernel may keep the name.
    pub ttl: Duration,
    /// How long it may keep what `stat` shows.
    pub attr_ttl: Duration,
}

/// As long as the kernel takes: a CID never changes. Half a century, since
/// the kernel turns it into ticks from now.
pub(super) const FOR_EVER: Duration = Duration::from_secs(50 * 365 * 86_400);

/// How old a namespace's own attributes may be: a new pin shows within it.
const NAMESPACE_TTL: Duration = Duration::from_secs(1);

impl Files {
    /// Makes the file system of a mount whose root is `root`.
    pub fn new(tree: Arc<Tree>, root: Node, options: MountOptions) -> Self {
        let inodes = Inodes::new(root);
        let buffers = Buffers::default();
        let changed = Mutex::default();
        Self {
            shared: Arc::new(Shared {
                tree,
                inodes,
                options,
                buffers,
                changed,
            }),
        }
    }

    /// The options of the mount.
    pub fn options(&self) -> &MountOptions {
        &self.shared.options
    }

    /// How many inodes the kernel refers to.
    pub fn inodes(&self) -> usize {
        self.shared.inodes.len()
    }

    /// Takes back what the kernel no longer refers to.
    pub fn forget(&self, ino: u64, lookups: u64) {
        self.shared.inodes.forget(ino, lookups);
    }
}

impl Shared {
    pub(super) fn node(&self, ino: u64) -> Result<Node, TreeError> {
        self.inodes.node(ino).ok_or(TreeError::NotFound)
    }

    pub(super) fn stat(&self, ino: u64, attr: &Attr) -> Stat {
        Stat::new(ino, attr, &self.options)
    }

    /// How long attributes hold: for ever, but for what changes behind a name.
    pub(super) fn attr_ttl(&self, node: &Node) -> Duration {
        match node {
            // Not zero: every path goes through them, and each step would ask.
            Node::Ipfs | Node::Ipns | Node::Name(_) => NAMESPACE_TTL,
            Node::Top | Node::Object(_) => FOR_EVER,
        }
    }

    /// How long a name in a directory leads to the same node, when it was listed.
    pub(super) fn listed_ttl(&self, parent: &Node) -> Duration {
        match parent {
            Node::Ipns | Node::Name(_) => Duration::ZERO,
            Node::Top | Node::Ipfs | Node::Object(_) => FOR_EVER,
        }
    }

    /// Tells what a node is. The modification time of a namespace is when its
    /// listing last changed: the kernel keeps a listing as long as that stays.
    pub(super) async fn attr(&self, node: &Node) -> Result<(Attr, SystemTime), TreeError> {
        let attr = self.tree.attr(node).await?;
        if !matches!(node, Node::Ipfs | Node::Ipns) {
            return Ok((attr, SystemTime::UNIX_EPOCH));
        }
        let listing = self.tree.list(node).await?;
        let mut names = Vec::new();
        listing
            .entries
            .iter()
            .for_each(|entry| names.extend_from_slice(&entry.name));
        let hash = fastmurmur3::hash(&names);
        let mut changed = self.changed.lock();
        let known = changed
            .entry(node.clone())
            .or_insert((hash, SystemTime::UNIX_EPOCH));
        if known.0 != hash {
            *known = (hash, SystemTime::now());
        }
        Ok((attr, known.1))
    }
}
