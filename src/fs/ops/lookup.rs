//! LOOKUP: from a name to an inode.

use std::sync::Arc;

use super::super::files::{FOR_EVER, Files, Shared, Told, check_name};
use crate::tree::mfs::NodeId;
use crate::tree::{Node, SNAPSHOTS, TreeError};

impl Files {
    /// Finds `name` in a directory; the kernel will FORGET what it is given.
    ///
    /// `NotFound` is proof, and may be kept as long as the answer itself.
    pub async fn lookup(self, parent: u64, name: Vec<u8>) -> Result<Told, TreeError> {
        let (shared, thread): (Arc<Shared>, u32) = (self.shared, self.thread);
        check_name(&name)?;
        let node = shared.node(parent)?;
        if let Node::Mfs(dir) = node {
            match shared.lookup_writable(dir, &name, thread).await {
                // Not listed, and found where nothing else has the name.
                Err(TreeError::NotFound) if dir == NodeId::ROOT && name == SNAPSHOTS => {}
                found => return found,
            }
        }
        let found = shared.tree.lookup(&node, &name).await?;
        if let Node::Mfs(id) = found.node {
            return shared.tell_held(id);
        }
        let (attr, changed) = shared.attr(&found.node).await?;
        let ino = shared
            .inodes
            .remember(parent, &name, &found.node, attr.kind);
        let attr_ttl = shared.attr_ttl(&found.node);
        Ok(Told {
            stat: shared.stat(ino, &attr).changed(changed),
            ttl: found.ttl.unwrap_or(FOR_EVER),
            attr_ttl,
        })
    }
}

impl Shared {
    async fn lookup_writable(
        &self,
        dir: NodeId,
        name: &[u8],
        thread: u32,
    ) -> Result<Told, TreeError> {
        let nodes = self.nodes()?;
        let attr = match nodes.mfs().lookup(dir, name, true).await {
            Err(
                error @ (TreeError::Timeout(_)
                | TreeError::Unavailable(_)
                | TreeError::Malformed { .. }),
            ) => return self.guesses.find(thread, dir, name).ok_or(error),
            found => found?,
        };
        nodes.told(attr.node);
        self.tell_node(&attr)
    }

    /// Tells of a node that is known to be loaded.
    fn tell_held(&self, node: NodeId) -> Result<Told, TreeError> {
        let nodes = self.nodes()?;
        let held = nodes.hold(node).ok_or(TreeError::NotFound)?;
        let told = self.tell_node(&nodes.mfs().attr(node)?)?;
        nodes.keep(held);
        Ok(told)
    }
}
