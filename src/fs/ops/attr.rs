//! GETATTR and SETATTR.

use super::super::files::{FOR_EVER, Files, Told};
use super::xattr::groups_of;
use crate::tree::mfs::{Caller, NodeAttr, NodeKind, SetAttr};
use crate::tree::{Node, TreeError};

/// setuid and setgid.
pub(super) const PRIVILEGES: u32 = 0o6000;

/// Whether setgid goes with a change by this caller though the group may not execute the file: the
/// kernel's rule for who is not in that group. FUSE's own rule, which the tree follows, leaves it.
pub(super) fn setgid_is_no_ones(attr: &NodeAttr, caller: Caller, pid: u32) -> bool {
    attr.kind != NodeKind::Directory
        && attr.mode & 0o2010 == 0o2000
        && caller.uid != 0
        && caller.gid != attr.gid
        && !groups_of(pid).contains(&attr.gid)
}

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
    /// drops. A call that sets nothing is nothing: it comes before changes of
    /// bytes, which take them away themselves, and of `chown` by anybody that
    /// names no owner.
    pub async fn setattr(
        self,
        (caller, pid): (Caller, u32),
        ino: u64,
        mut set: SetAttr,
    ) -> Result<Told, TreeError> {
        let shared = self.shared;
        let (mfs, node) = shared.writable(ino)?;
        let owner = set.uid.is_some() || set.gid.is_some();
        let cut = set.size.is_some() && caller.uid != 0;
        if owner || cut {
            let attr = mfs.attr(node)?;
            set.kill_privileges = attr.kind != NodeKind::Directory;
            if setgid_is_no_ones(&attr, caller, pid) {
                set.mode = Some(set.mode.unwrap_or(attr.mode) & !PRIVILEGES);
            }
        }
        let attr = mfs.set_attr(caller, node, set).await?;
        shared.tell_node(&attr)
    }
}
