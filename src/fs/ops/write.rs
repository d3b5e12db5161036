//! WRITE, FALLOCATE, LSEEK, COPY_FILE_RANGE and FSYNC: the bytes of files.

use super::super::files::{Files, Shared};
use super::attr::{PRIVILEGES, setgid_is_no_ones};
use crate::config::COPY_BYTES_MAX;
use crate::tree::mfs::{Allocate, Caller, CopySource, Seek, SetAttr};
use crate::tree::{Kind, Node, TreeError};

/// How a write is to be done.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::fs) struct How {
    /// setuid and setgid go.
    pub(in crate::fs) kill_privileges: bool,
    /// At the file's end: the kernel's idea of that may be an old one.
    pub(in crate::fs) append: bool,
    /// Whose groups count, where that is asked.
    pub(in crate::fs) pid: u32,
}

impl Files {
    /// Writes all of `data`; gives its length.
    pub(in crate::fs) async fn write(
        &self,
        caller: Caller,
        (ino, offset): (u64, u64),
        data: &[u8],
        how: How,
    ) -> Result<usize, TreeError> {
        let (mfs, node) = self.shared.writable(ino)?;
        let kill = how.kill_privileges;
        let killed = kill && mfs.attr(node)?.mode & PRIVILEGES != 0;
        if kill {
            self.shared.take_setgid((caller, how.pid), ino).await?;
        }
        let at = if how.append {
            mfs.append(caller, node, offset, data, kill).await?
        } else {
            mfs.write(caller, node, offset, data, kill).await?;
            offset
        };
        // The kernel does not know that its own write changed the mode, or that
        // the file was longer, and has the bytes where they are not.
        if killed || at != offset {
            self.shared.notices.node(ino, at != offset);
        }
        Ok(data.len())
    }

    /// Reserves, zeroes or frees a range.
    pub async fn allocate(
        self,
        (caller, pid): (Caller, u32),
        ino: u64,
        what: Allocate,
        (offset, len): (u64, u64),
    ) -> Result<(), TreeError> {
        let (mfs, node) = self.shared.writable(ino)?;
        self.shared.take_setgid((caller, pid), ino).await?;
        mfs.allocate(caller, node, what, offset, len).await
    }

    /// Finds the next data or hole. What is immutable is data from end to end.
    pub async fn seek(self, ino: u64, offset: i64, what: Seek) -> Result<i64, TreeError> {
        let shared = self.shared;
        let from = u64::try_from(offset).map_err(|_| TreeError::NoSuchPosition)?;
        let node = shared.node(ino)?;
        let found = if let Some(id) = node.writable() {
            shared.nodes()?.mfs().seek(id, from, what).await?
        } else if let (Node::Kept(kept), Some(mfs)) = (&node, shared.tree.mfs()) {
            mfs.kept_seek(kept, from, what).await?
        } else {
            let attr = shared.tree.attr(&node).await?;
            seek_in_data(attr.kind, attr.size, from, what)?
        };
        i64::try_from(found).map_err(|_| TreeError::TooLarge)
    }

    /// Shares blocks of one file with another; gives how many bytes.
    pub async fn copy_range(
        self,
        (caller, pid): (Caller, u32),
        (from, from_offset): (u64, u64),
        (to, to_offset): (u64, u64),
        len: u64,
    ) -> Result<u64, TreeError> {
        let shared = self.shared;
        let (mfs, target) = shared.writable(to)?;
        let source = shared.copy_source(from).await?;
        shared.take_setgid((caller, pid), to).await?;
        let len = len.min(COPY_BYTES_MAX);
        mfs.copy_range(caller, source, from_offset, target, to_offset, len)
            .await
    }

    /// Makes safe what was acknowledged. Blocks.
    pub fn sync(&self, ino: u64) -> Result<(), TreeError> {
        if self.shared.node(ino)?.writable().is_none() {
            // Nothing of it was written through here.
            return Ok(());
        }
        self.shared.nodes()?.mfs().sync()
    }
}

impl Shared {
    /// Takes setgid from a file that is about to be changed, where the tree would leave it. Before
    /// the change, as the kernel does where it clears it itself.
    async fn take_setgid(&self, (caller, pid): (Caller, u32), ino: u64) -> Result<(), TreeError> {
        let (mfs, node) = self.writable(ino)?;
        let attr = mfs.attr(node)?;
        if !setgid_is_no_ones(&attr, caller, pid) {
            return Ok(());
        }
        let set = SetAttr {
            mode: Some(attr.mode & !PRIVILEGES),
            ..SetAttr::default()
        };
        mfs.set_attr(caller, node, set).await?;
        self.notices.node(ino, false);
        Ok(())
    }

    async fn copy_source(&self, ino: u64) -> Result<CopySource, TreeError> {
        let node = self.node(ino)?;
        match node {
            Node::Mfs(id) => Ok(CopySource::Node(id)),
            Node::Object(cid) => Ok(CopySource::Content(cid)),
            Node::Name(_) | Node::Kept(_) => {
                let cid = self.tree.cid(&node).await?;
                cid.map(CopySource::Content).ok_or(TreeError::NotFound)
            }
            Node::Top | Node::Ipfs | Node::Ipns | Node::Snapshots => Err(TreeError::IsADirectory),
        }
    }
}

/// Where data or the hole at the end begins, in a file without other holes.
fn seek_in_data(kind: Kind, size: u64, from: u64, what: Seek) -> Result<u64, TreeError> {
    if kind != Kind::File {
        return Err(TreeError::Invalid("only files have positions"));
    }
    if from >= size {
        return Err(TreeError::NoSuchPosition);
    }
    Ok(match what {
        Seek::Data => from,
        Seek::Hole => size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_data_and_then_the_hole_at_its_end() {
        let seek = |from, what| seek_in_data(Kind::File, 10, from, what);
        assert_eq!(seek(3, Seek::Data).unwrap(), 3);
        assert_eq!(seek(3, Seek::Hole).unwrap(), 10);
        for what in [Seek::Data, Seek::Hole] {
            assert!(matches!(seek(10, what), Err(TreeError::NoSuchPosition)));
            let of_dir = seek_in_data(Kind::Directory, 10, 0, what);
            assert!(matches!(of_dir, Err(TreeError::Invalid(_))));
        }
    }
}
