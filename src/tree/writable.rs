//! The writable tree among the namespaces: `/mfs`, and `.snapshots` inside it.

use std::ops::Deref;
use std::sync::Arc;

use super::Tree;
use super::error::TreeError;
use super::mfs::{Mfs, NodeId};
use super::node::{Entry, Listing, Node};
use crate::config::MFS_LIST_BATCH;

/// Name of the directory of kept checkpoints, in the root of the writable
/// tree. Never listed; an entry of the tree with this name wins.
pub const SNAPSHOTS: &[u8] = b".snapshots";

/// A node that stays loaded while this or a clone of it lives.
#[derive(Debug, Clone)]
pub struct Located {
    node: Node,
    _hold: Option<Arc<Hold>>,
}

impl Deref for Located {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

/// One hold of a node of the writable tree.
struct Hold {
    mfs: Arc<Mfs>,
    node: NodeId,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hold").field(&self.node).finish()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.mfs.release(self.node, 1);
    }
}

impl Tree {
    /// Adds the writable tree. Once: a second one is given back.
    pub fn attach(&self, mfs: Arc<Mfs>) -> Result<(), Arc<Mfs>> {
        self.mfs.set(mfs)
    }

    /// The writable tree, where this repository has one.
    pub fn mfs(&self) -> Option<&Arc<Mfs>> {
        self.mfs.get()
    }

    pub(super) fn writable(&self) -> Result<&Arc<Mfs>, TreeError> {
        self.mfs().ok_or(TreeError::NotFound)
    }

    pub(super) fn mfs_root(&self) -> Result<Node, TreeError> {
        self.writable().map(|_| Node::Mfs(NodeId::ROOT))
    }

    /// Finds what a path leads to, as `resolve` does, and keeps it loaded.
    pub async fn locate(&self, path: &str) -> Result<Located, TreeError> {
        let _stay = self.mfs().map(|mfs| mfs.stay());
        let node = self.resolve(path).await?;
        self.keep(node)
    }

    /// Finds a name in a directory, and keeps what it leads to loaded.
    pub async fn locate_in(&self, parent: &Node, name: &[u8]) -> Result<Located, TreeError> {
        let _stay = self.mfs().map(|mfs| mfs.stay());
        let node = self.lookup(parent, name).await?.node;
        self.keep(node)
    }

    /// Keeps a node loaded; `NotFound` where it went in the meantime.
    pub fn keep(&self, node: Node) -> Result<Located, TreeError> {
        let Some(id) = node.writable() else {
            return Ok(Located { node, _hold: None });
        };
        let mfs = Arc::clone(self.writable()?);
        if !mfs.hold(id) {
            return Err(TreeError::NotFound);
        }
        let hold = Some(Arc::new(Hold { mfs, node: id }));
        Ok(Located { node, _hold: hold })
    }

    pub(super) async fn find_writable(&self, dir: NodeId, name: &[u8]) -> Result<Node, TreeError> {
        match self.writable()?.lookup(dir, name, false).await {
            Ok(attr) => Ok(Node::Mfs(attr.node)),
            Err(TreeError::NotFound) if dir == NodeId::ROOT && name == SNAPSHOTS => {
                Ok(Node::Snapshots)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn list_writable(&self, dir: NodeId) -> Result<Listing, TreeError> {
        let mfs = self.writable()?;
        let (mut entries, mut cookie) = (Vec::new(), 0);
        loop {
            let batch = mfs.readdir(dir, cookie, MFS_LIST_BATCH).await?;
            let Some(last) = batch.last() else {
                return Ok(Listing::new(entries));
            };
            cookie = last.cookie;
            entries.extend(batch.into_iter().map(|entry| Entry {
                name: entry.name,
                node: Node::Mfs(entry.attr.node),
                kind: Some(entry.attr.kind),
                tsize: None,
            }));
        }
    }
}
