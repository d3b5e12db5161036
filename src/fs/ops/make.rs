//! MKNOD, MKDIR, SYMLINK and LINK: new names.

use super::super::files::{Files, Shared, Told, check_name};
use crate::tree::mfs::{Caller, New, NodeId};
use crate::tree::{Node, SNAPSHOTS, TreeError};

/// Name in the root of a mount that is not for others to make.
const CONTROL: &[u8] = b".cidfs";

impl Files {
    /// Makes a node; the kernel will FORGET what it is given.
    pub async fn make(
        self,
        caller: Caller,
        (parent, name): (u64, Vec<u8>),
        new: New,
        (mode, umask): (u32, u32),
    ) -> Result<Told, TreeError> {
        let shared = self.shared;
        let dir = shared.place(parent, &name)?;
        let nodes = shared.nodes()?;
        let made = nodes
            .mfs()
            .make(caller, dir, &name, new, mode & 0o7777, umask & 0o777, true);
        let attr = made.await?;
        nodes.told(attr.node);
        shared.tell_node(&attr)
    }

    /// Gives a node another name; the kernel will FORGET it once more.
    pub async fn link(
        self,
        caller: Caller,
        ino: u64,
        (parent, name): (u64, Vec<u8>),
    ) -> Result<Told, TreeError> {
        let shared = self.shared;
        let to = shared.node(parent)?;
        let node = match (shared.node(ino)?, to) {
            (Node::Mfs(node), Node::Mfs(_)) => node,
            (Node::Mfs(_), _) | (_, Node::Mfs(_)) => return Err(TreeError::OtherNamespace),
            _ => return Err(shared.not_here(parent, &name)),
        };
        let dir = shared.place(parent, &name)?;
        let nodes = shared.nodes()?;
        let attr = nodes.mfs().link(caller, node, dir, &name, true).await?;
        nodes.told(attr.node);
        shared.tell_node(&attr)
    }
}

impl Shared {
    /// The directory in which a new name may be made.
    pub(super) fn place(&self, parent: u64, name: &[u8]) -> Result<NodeId, TreeError> {
        check_name(name)?;
        let (_, dir) = self
            .writable(parent)
            .map_err(|_| self.not_here(parent, name))?;
        if dir == NodeId::ROOT && name == SNAPSHOTS {
            return Err(TreeError::NotPermitted("the name is for snapshots"));
        }
        Ok(dir)
    }

    /// Why nothing can be made in what is not writable.
    pub(super) fn not_here(&self, parent: u64, name: &[u8]) -> TreeError {
        match self.node(parent) {
            Err(error) => error,
            Ok(Node::Snapshots) => TreeError::NotPermitted("snapshots are made by checkpoints"),
            Ok(Node::Top) if name == CONTROL => {
                TreeError::NotPermitted("the name is for the daemon")
            }
            Ok(_) => TreeError::ReadOnly("content never changes".into()),
        }
    }
}
