//! Extended attributes, and STATFS.
//!
//! `ipfs.*` and `cidfs.*` are told and never listed: tools that copy what is
//! listed would fail to set them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::super::decode::{MOUNT, is_told_only, may_store, names};
use super::super::files::Files;
use crate::tree::acl::{ACCESS, DEFAULT};
use crate::tree::mfs::{Caller, Mfs, NodeId, XattrMode};
use crate::tree::{Node, TreeError};

impl Files {
    /// Gives an attribute; of content `ipfs.cid` and `ipfs.path`.
    pub async fn getxattr(self, ino: u64, name: Vec<u8>) -> Result<Bytes, TreeError> {
        let shared = self.shared;
        let node = shared.node(ino)?;
        if let Node::Mfs(id) = node {
            if !is_told_only(&name) {
                may_store(&name)?;
            }
            return written_attribute(Arc::clone(shared.nodes()?.mfs()), id, name).await;
        }
        if !matches!(&name[..], b"ipfs.cid" | b"ipfs.path") {
            return match (&node, shared.tree.mfs()) {
                (Node::Kept(kept), Some(mfs)) => mfs.kept_xattr(kept, &name).await,
                _ => Err(TreeError::NoAttribute),
            };
        }
        let cid = shared
            .tree
            .cid(&node)
            .await?
            .ok_or(TreeError::NoAttribute)?;
        Ok(if name == b"ipfs.cid" {
            cid.to_string().into()
        } else {
            format!("/ipfs/{cid}").into()
        })
    }

    /// Gives the names of the attributes that are stored, each ended by a NUL.
    pub fn listxattr(&self, caller: Caller, ino: u64) -> Result<Vec<u8>, TreeError> {
        let node = self.shared.node(ino)?;
        let all = match (&node, node.writable()) {
            (_, Some(id)) => self.shared.nodes()?.mfs().list_xattr(id)?,
            (Node::Kept(kept), None) => kept.xattr_names(),
            (_, None) => return Ok(Vec::new()),
        };
        Ok(names(&all, caller.uid == 0))
    }

    /// Sets an attribute; `cidfs.mount` only for root and who has mounted the file system.
    pub async fn setxattr(
        self,
        (caller, pid): (Caller, u32),
        ino: u64,
        (name, value): (Vec<u8>, Vec<u8>),
        mode: XattrMode,
    ) -> Result<(), TreeError> {
        let (mfs, node) = self.shared.writable(ino)?;
        may_store(&name)?;
        if name == MOUNT {
            may_mount(caller)?;
        }
        let asks = caller.uid != 0 && name == ACCESS;
        let groups = if asks { groups_of(pid) } else { Vec::new() };
        mfs.set_xattr_among(caller, &groups, node, (&name, &value), mode)
            .await
    }

    /// Removes an attribute; with `cidfs.mount` what was mounted goes.
    pub async fn removexattr(
        self,
        caller: Caller,
        ino: u64,
        name: Vec<u8>,
    ) -> Result<(), TreeError> {
        let (mfs, node) = self.shared.writable(ino)?;
        if name == MOUNT {
            may_mount(caller)?;
        } else if is_told_only(&name) {
            return Err(TreeError::NotPermitted(
                "what it tells follows from the content",
            ));
        } else {
            may_store(&name)?;
        }
        let removed = mfs.remove_xattr(caller, node, &name).await;
        match removed {
            // To have no ACL beside the mode is what was asked for: local file systems say so too.
            Err(TreeError::NoAttribute) if [ACCESS, DEFAULT].contains(&&name[..]) => Ok(()),
            other => other,
        }
    }
}

/// Refuses to mount and unmount content for others than root and who has mounted
/// the file system: the content belongs to the latter.
fn may_mount(caller: Caller) -> Result<(), TreeError> {
    if caller.uid == 0 || caller.uid == rustix::process::getuid().as_raw() {
        return Ok(());
    }
    Err(TreeError::NotPermitted(
        "mounting content is for who has mounted the file system",
    ))
}

/// An attribute of what is writable. Sealing is work for a thread of its own:
/// the one that took the request has others to answer, and it goes on if who
/// asked is killed meanwhile.
async fn written_attribute(mfs: Arc<Mfs>, node: NodeId, name: Vec<u8>) -> Result<Bytes, TreeError> {
    if !mfs.must_seal_for(node, &name)? {
        return mfs.get_xattr(node, &name).await;
    }
    let runtime = tokio::runtime::Handle::current();
    let sealing = runtime.clone();
    let sealed = runtime.spawn_blocking(move || sealing.block_on(mfs.get_xattr(node, &name)));
    let failed = |error: tokio::task::JoinError| Err(TreeError::Failed(error.to_string()));
    sealed.await.unwrap_or_else(failed)
}

/// The supplementary groups of a process; none where that cannot be told.
pub(super) fn groups_of(pid: u32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.map(|text| groups(&text)).unwrap_or_default()
}

/// Reads the groups of a `/proc/<pid>/status`.
fn groups(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    let all = line.unwrap_or_default().split_whitespace();
    all.filter_map(|group| group.parse().ok()).collect()
}

/// What `statfs` tells: blocks in all, free, available; files in all, free;
/// the size of a block.
pub(in crate::fs) type Space = (u64, u64, u64, u64, u64, u32);

/// Describes the file system that `dir` is on.
pub(in crate::fs) fn statfs(dir: Option<&Path>) -> Space {
    let Some(path) = dir.and_then(|d| std::ffi::CString::new(d.as_os_str().as_bytes()).ok()) else {
        return (0, 0, 0, 0, 0, 4096);
    };
    // SAFETY: all zeroes is a valid statvfs; the call fills it, or fails and leaves it.
    #[allow(unsafe_code)]
    let found = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &raw mut found) == 0).then_some(found)
    };
    match found {
        Some(s) => (
            s.f_blocks,
            s.f_bfree,
            s.f_bavail,
            s.f_files,
            s.f_ffree,
            s.f_frsize as u32,
        ),
        None => (0, 0, 0, 0, 0, 4096),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_a_process_are_read_from_its_status() {
        let status = "Name:\tcat\nGid:\t4\t4\t4\t4\nGroups:\t4 24 1000 \nNgid:\t0\n";
        assert_eq!(groups(status), [4, 24, 1000]);
        assert!(groups("Groups:\t \n").is_empty());
        assert!(groups_of(0).is_empty());
    }
}
