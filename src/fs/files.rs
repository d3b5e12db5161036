//! The file system as calls on inodes, without the kernel's format.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::attr::Stat;
use super::guesses::Guesses;
use super::inodes::{Inodes, ROOT};
use super::nodes::Nodes;
use super::notices::Notices;
use super::options::MountOptions;
use super::watch::{Watch, origin};
use crate::config::NAME_BYTES_MAX;
use crate::sync::BufferPool;
use crate::tree::mfs::{Mfs, NodeAttr, NodeId, Origin, Watcher};
use crate::tree::{Attr, Node, Tree, TreeError};

/// The file system of one mount. Cheap to clone.
#[derive(Clone)]
pub struct Files {
    pub(super) shared: Arc<Shared>,
    /// The thread that asks; 0 where it does not matter.
    pub(super) thread: u32,
}

/// What the clones share.
pub(super) struct Shared {
    pub(super) tree: Arc<Tree>,
    pub(super) inodes: Inodes,
    pub(super) options: MountOptions,
    pub(super) buffers: Arc<BufferPool>,
    /// The writable tree, where the mount shows it.
    nodes: Option<Nodes>,
    pub(super) notices: Arc<Notices>,
    /// Turned true when no request is to wait any more.
    pub(super) closing: Arc<watch::Sender<bool>>,
    /// The door that this mount is.
    origin: Origin,
    /// The tree tells it of changes for as long as it is held here.
    _watch: Option<Arc<dyn Watcher>>,
    pub(super) guesses: Guesses,
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

/// Set in the numbers of what was only guessed, and in no other.
pub(super) const GUESSED: u64 = 1 << 63;

/// How old a namespace's own attributes may be: a new pin shows within it.
const NAMESPACE_TTL: Duration = Duration::from_secs(1);

impl Files {
    /// Makes the file system of a mount whose root is `root`; `NotFound`
    /// where that is of the writable tree and went in the meantime.
    pub fn new(tree: Arc<Tree>, root: Node, options: MountOptions) -> Result<Self, TreeError> {
        let shown = tree.mfs().filter(|_| shows_writable(&tree, &root));
        let nodes = match shown {
            Some(mfs) => Some(Nodes::new(Arc::clone(mfs), &root)?),
            None => None,
        };
        let origin = origin();
        let notices = Arc::new(Notices::default());
        let watch = nodes.as_ref().map(|nodes| {
            let watch: Arc<dyn Watcher> = Arc::new(Watch {
                origin,
                known: nodes.known().clone(),
                notices: Arc::clone(&notices),
            });
            nodes.mfs().watch(Arc::downgrade(&watch));
            watch
        });
        let inodes = Inodes::new(root);
        let buffers = BufferPool::new();
        let changed = Mutex::default();
        let guesses = Guesses::default();
        Ok(Self {
            thread: 0,
            shared: Arc::new(Shared {
                tree,
                inodes,
                options,
                buffers,
                nodes,
                notices,
                closing: Arc::default(),
                origin,
                _watch: watch,
                guesses,
                changed,
            }),
        })
    }

    /// The same, asked by a thread.
    #[must_use]
    pub fn asked_by(self, thread: u32) -> Self {
        Self { thread, ..self }
    }

    /// Whether the mount shows the writable tree, or part of it.
    pub fn shows_writable(&self) -> bool {
        self.shared.nodes.is_some()
    }

    /// The door that this mount is.
    pub fn origin(&self) -> Origin {
        self.shared.origin
    }

    /// The inode numbers that the kernel may know, of the writable tree.
    pub(super) fn known(&self) -> impl Fn() -> Vec<u64> + Send + Sync + 'static {
        let known = self.shared.nodes.as_ref().map(|n| n.known().clone());
        move || known.as_ref().map(|k| k.all()).unwrap_or_default()
    }

    /// The options of the mount.
    pub fn options(&self) -> &MountOptions {
        &self.shared.options
    }

    /// How many inodes the kernel refers to.
    pub fn inodes(&self) -> usize {
        let writable = self.shared.nodes.as_ref().map_or(0, Nodes::len);
        self.shared.inodes.len() + writable
    }

    /// Takes back what the kernel no longer refers to.
    ///
    /// Each is an inode number and how many lookups of it are taken back.
    pub fn forget(&self, forgotten: &[(u64, u64)]) {
        let mut writable = Vec::new();
        for (ino, lookups) in forgotten {
            match (NodeId::from_number(*ino), &self.shared.nodes) {
                (Some(node), Some(_)) => writable.push((node, *lookups)),
                _ => self.shared.inodes.forget(*ino, *lookups),
            }
        }
        if let Some(nodes) = &self.shared.nodes {
            nodes.forget(writable);
        }
    }

    /// How long the kernel may take a name that was not found for absent.
    pub fn absent_ttl(&self, parent: u64) -> Duration {
        match self.shared.node(parent) {
            // It may come without notice.
            Err(_) | Ok(Node::Snapshots | Node::Name(_)) => Duration::ZERO,
            Ok(
                Node::Top
                | Node::Ipfs
                | Node::Ipns
                | Node::Object(_)
                | Node::Mfs(_)
                | Node::Kept(_),
            ) => FOR_EVER,
        }
    }
}

/// Whether a mount of `root` shows the writable tree.
pub(super) fn shows_writable(tree: &Tree, root: &Node) -> bool {
    root.writable().is_some() || *root == Node::Top && tree.mfs().is_some()
}

impl Shared {
    pub(super) fn node(&self, ino: u64) -> Result<Node, TreeError> {
        if let Some(node) = NodeId::from_number(ino) {
            return Ok(Node::Mfs(node));
        }
        if NodeId::from_number(ino & !GUESSED).is_some() {
            let why = "what was only guessed to be a file cannot be had";
            return Err(TreeError::Unavailable(why.to_owned()));
        }
        self.inodes.node(ino).ok_or(TreeError::NotFound)
    }

    /// The nodes of the writable tree.
    pub(super) fn nodes(&self) -> Result<&Nodes, TreeError> {
        self.nodes.as_ref().ok_or(TreeError::NotFound)
    }

    /// The writable node of an inode; what is immutable is read-only.
    pub(super) fn writable(&self, ino: u64) -> Result<(&Arc<Mfs>, NodeId), TreeError> {
        let immutable = || TreeError::ReadOnly("content never changes".into());
        let node = self.node(ino)?.writable().ok_or_else(immutable)?;
        Ok((self.nodes()?.mfs(), node))
    }

    /// A writable node as the kernel is told of it. It keeps that until it is
    /// told otherwise: it knows what it changed itself, and is given notice of
    /// the rest.
    pub(super) fn tell_node(&self, attr: &NodeAttr) -> Result<Told, TreeError> {
        let ino = self.nodes()?.known().number(attr.node);
        Ok(Told {
            stat: Stat::of_node(ino, attr),
            ttl: FOR_EVER,
            attr_ttl: FOR_EVER,
        })
    }

    /// The inode of `..` of a directory.
    pub(super) fn parent(&self, ino: u64) -> u64 {
        let (Some(node), Some(nodes)) = (NodeId::from_number(ino), &self.nodes) else {
            return self.inodes.parent(ino);
        };
        match nodes.mfs().parent(node) {
            // Above the writable tree is the root of the mount.
            _ if node == NodeId::ROOT => ROOT,
            Some(parent) => nodes.known().number(parent),
            None => ino,
        }
    }

    pub(super) fn stat(&self, ino: u64, attr: &Attr) -> Stat {
        Stat::new(ino, attr, &self.options)
    }

    /// How long attributes hold: for ever, but for what changes behind a name.
    pub(super) fn attr_ttl(&self, node: &Node) -> Duration {
        match node {
            // Not zero: every path goes through them, and each step would ask.
            Node::Ipfs | Node::Ipns | Node::Name(_) | Node::Snapshots => NAMESPACE_TTL,
            Node::Top | Node::Object(_) | Node::Mfs(_) | Node::Kept(_) => FOR_EVER,
        }
    }

    /// How long a name in a directory leads to the same node, when it was listed.
    pub(super) fn listed_ttl(&self, parent: &Node) -> Duration {
        match parent {
            Node::Ipns | Node::Name(_) => Duration::ZERO,
            Node::Snapshots => NAMESPACE_TTL,
            Node::Top | Node::Ipfs | Node::Object(_) | Node::Mfs(_) | Node::Kept(_) => FOR_EVER,
        }
    }

    /// Tells what a node is. The modification time of a namespace is when its
    /// listing last changed: the kernel keeps a listing as long as that stays.
    pub(super) async fn attr(&self, node: &Node) -> Result<(Attr, SystemTime), TreeError> {
        let attr = self.tree.attr(node).await?;
        if !matches!(node, Node::Ipfs | Node::Ipns | Node::Snapshots) {
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
            .or_insert_with(|| (hash, self.tree.listing_changed(node)));
        if known.0 != hash {
            let told = self.tree.listing_changed(node);
            let at = match told > known.1 {
                true => told,
                // Never the time of the listing before.
                false => SystemTime::now().max(known.1 + Duration::from_nanos(1)),
            };
            *known = (hash, at);
        }
        Ok((attr, known.1))
    }
}

/// Refuses a name that no directory can have.
pub(super) fn check_name(name: &[u8]) -> Result<(), TreeError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(TreeError::NameTooLong);
    }
    Ok(())
}
