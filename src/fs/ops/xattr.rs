//! Extended attributes, and STATFS.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::super::files::Files;
use crate::tree::{Node, TreeError};

/// Why an attribute was not given.
#[derive(Debug, Clone)]
pub(in crate::fs) enum XattrError {
    /// The node has no attribute of this name.
    Absent,
    /// The tree failed.
    Tree(TreeError),
}

impl Files {
    /// Gives `ipfs.cid` or `ipfs.path` of content.
    ///
    /// They are never listed: tools that copy what is listed would fail to set them.
    pub(in crate::fs) async fn getxattr(
        self,
        ino: u64,
        name: Vec<u8>,
    ) -> Result<Result<String, XattrError>, TreeError> {
        if !matches!(&name[..], b"ipfs.cid" | b"ipfs.path") {
            return Ok(Err(XattrError::Absent));
        }
        let node = self.shared.node(ino)?;
        if matches!(node, Node::Top | Node::Ipfs | Node::Ipns) {
            return Ok(Err(XattrError::Absent));
        }
        let cid = match self.shared.tree.cid(&node).await {
            Ok(Some(cid)) => cid,
            Ok(None) => return Ok(Err(XattrError::Absent)),
            Err(error) => return Ok(Err(XattrError::Tree(error))),
        };
        Ok(Ok(if name == b"ipfs.cid" {
            cid.to_string()
        } else {
            format!("/ipfs/{cid}")
        }))
    }
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
