//! The writable tree (skeleton of signatures; the bodies come with the merge).

mod types;

pub use types::*;

use std::sync::Arc;

use bytes::Bytes;

use super::error::TreeError;
use crate::block::Cid;

/// The writable tree.
pub struct Mfs {}

#[allow(
    unused_variables,
    clippy::unimplemented,
    missing_docs,
    clippy::missing_panics_doc
)]
impl Mfs {
    /// Finds a name; `NotFound` is proven. With `hold` the node is held once (see `release`).
    pub async fn lookup(
        &self,
        parent: NodeId,
        name: &[u8],
        hold: bool,
    ) -> Result<NodeAttr, TreeError> {
        unimplemented!()
    }
    /// Tells what a node is.
    pub fn attr(&self, node: NodeId) -> Result<NodeAttr, TreeError> {
        unimplemented!()
    }
    /// A directory's parent; the root is its own.
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        unimplemented!()
    }
    /// Holds a node once more; false where it is not loaded (then the kernel must not be told of it).
    pub fn hold(&self, node: NodeId) -> bool {
        unimplemented!()
    }
    /// Lets go of `count` holds; an unlinked node goes with its last one.
    pub fn release(&self, node: NodeId, count: u64) {
        unimplemented!()
    }
    /// Entries after `cookie` (0: from the start), at most `limit`, without `.` and `..`; empty at the end.
    pub async fn readdir(
        &self,
        dir: NodeId,
        cookie: u64,
        limit: usize,
    ) -> Result<Vec<NodeEntry>, TreeError> {
        unimplemented!()
    }
    /// Reads bytes; fewer than `out` only at the end of the file.
    pub async fn read(
        &self,
        node: NodeId,
        offset: u64,
        out: &mut [u8],
    ) -> Result<usize, TreeError> {
        unimplemented!()
    }
    pub fn readlink(&self, node: NodeId) -> Result<Bytes, TreeError> {
        unimplemented!()
    }
    /// Makes a node (held once if `hold`). Applies setgid directories, umask and default ACLs itself.
    pub async fn make(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
        new: New,
        mode: u32,
        umask: u32,
        hold: bool,
    ) -> Result<NodeAttr, TreeError> {
        unimplemented!()
    }
    pub async fn link(
        &self,
        caller: Caller,
        node: NodeId,
        parent: NodeId,
        name: &[u8],
        hold: bool,
    ) -> Result<NodeAttr, TreeError> {
        unimplemented!()
    }
    pub async fn unlink(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
    ) -> Result<(), TreeError> {
        unimplemented!()
    }
    pub async fn rmdir(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
    ) -> Result<(), TreeError> {
        unimplemented!()
    }
    pub async fn rename(
        &self,
        caller: Caller,
        from: (NodeId, &[u8]),
        to: (NodeId, &[u8]),
        mode: RenameMode,
    ) -> Result<(), TreeError> {
        unimplemented!()
    }
    /// Writes all of `data`; acknowledged means that it survives a kill of this process.
    pub async fn write(
        &self,
        caller: Caller,
        node: NodeId,
        offset: u64,
        data: &[u8],
        kill_privileges: bool,
    ) -> Result<usize, TreeError> {
        unimplemented!()
    }
    /// Sets attributes; truncation needs a file. ACL and mode are kept in step here.
    pub async fn set_attr(
        &self,
        caller: Caller,
        node: NodeId,
        set: SetAttr,
    ) -> Result<NodeAttr, TreeError> {
        unimplemented!()
    }
    pub async fn allocate(
        &self,
        caller: Caller,
        node: NodeId,
        what: Allocate,
        offset: u64,
        len: u64,
    ) -> Result<(), TreeError> {
        unimplemented!()
    }
    /// `NoSuchPosition` (ENXIO) behind the last data or the end.
    pub async fn seek(&self, node: NodeId, offset: u64, what: Seek) -> Result<u64, TreeError> {
        unimplemented!()
    }
    /// Shares blocks instead of copying; gives how many bytes (fewer at the end of the source).
    pub async fn copy_range(
        &self,
        caller: Caller,
        from: CopySource,
        from_offset: u64,
        to: NodeId,
        to_offset: u64,
        len: u64,
    ) -> Result<u64, TreeError> {
        unimplemented!()
    }
    /// `NoAttribute` where there is none. `ipfs.cid` and `cidfs.*` are answered too, and never listed.
    pub async fn get_xattr(&self, node: NodeId, name: &[u8]) -> Result<Bytes, TreeError> {
        unimplemented!()
    }
    pub fn list_xattr(&self, node: NodeId) -> Result<Vec<Bytes>, TreeError> {
        unimplemented!()
    }
    pub async fn set_xattr(
        &self,
        caller: Caller,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), TreeError> {
        unimplemented!()
    }
    pub async fn remove_xattr(
        &self,
        caller: Caller,
        node: NodeId,
        name: &[u8],
    ) -> Result<(), TreeError> {
        unimplemented!()
    }
    /// Everything acknowledged so far survives a power loss once this returned. Blocks; runs on a blocking thread.
    pub fn sync(&self) -> Result<(), TreeError> {
        unimplemented!()
    }
    /// The CID of a node's content now; seals what is not sealed.
    pub async fn cid(&self, node: NodeId) -> Result<Option<Cid>, TreeError> {
        unimplemented!()
    }
    /// Kept checkpoints: sequence number and root, oldest first.
    pub fn snapshots(&self) -> Vec<(u64, Cid)> {
        unimplemented!()
    }
    /// Whoever wants to be told of changes.
    pub fn watch(&self, watcher: Arc<dyn Watcher>) {
        unimplemented!()
    }
}
