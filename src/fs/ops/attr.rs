//! GETATTR and SETATTR.

use super::super::files::{FOR_EVER, Files, Told};
use crate::tree::mfs::{Caller, NodeKind, SetAttr};
use crate::tree::{Node, TreeError};

impl Files {
    /// Tells what an inode is.
    pub async fn getattr(self, ino: u64) -> Result<Told, TreeError> {
        let shared = self.shared;
        let node = shared.node(ino)?;
        if let Node::Mfs(id) = node {
            let attr = shared.nodes()?.mfs().attr(id)?;
            return shared.tell_node(&attr);
        }
        let (attr, changed) = shared.attr(&node).await?;
        Ok(Told {
            stat: shared.stat(ino, &attr).changed(changed),
            ttl: FOR_EVER,
            attr_ttl: shared.attr_ttl(&node),
        })
    }

    /// Sets attributes.
    ///
    /// setuid and setgid go with a new owner whoever asks, and with a new
    /// length unless root asks: the kernel says so in a flag that the library
    /// drops. It sends a call that sets nothing where only they are to go.
    pub async fn setattr(
        self,
        caller: Caller,
        ino: u64,
        mut set: SetAttr,
    ) -> Result<Told, TreeError> {
        let shared = self.shared;
        let (mfs, node) = shared.writable(ino)?;
        let owner = set.uid.is_some() || set.gid.is_some();
        let nothing = set == SetAttr::default();
        let cut = set.size.is_some() && caller.uid != 0;
        if owner || nothing || cut {
            set.kill_privileges = mfs.attr(node)?.kind != NodeKind::Directory;
        }
        let attr = mfs.set_attr(caller, node, set).await?;
        shared.tell_node(&attr)
    }
}
