//! READ and READLINK.

use bytes::Bytes;

use super::super::files::Files;
use crate::sync::PooledBuffer;
use crate::tree::TreeError;

impl Files {
    /// Reads a file's bytes from `offset`; fewer than `size` only at its end.
    pub(in crate::fs) async fn read(
        self,
        ino: u64,
        offset: u64,
        size: u32,
    ) -> Result<PooledBuffer, TreeError> {
        let shared = self.shared;
        let node = shared.node(ino)?;
        let mut out = shared.buffers.take_huge(size as usize);
        let len = shared.tree.read(&node, offset, &mut out).await?;
        out.truncate(len);
        Ok(out)
    }

    /// Reads a symbolic link's target.
    pub async fn readlink(self, ino: u64) -> Result<Bytes, TreeError> {
        let node = self.shared.node(ino)?;
        self.shared.tree.readlink(&node).await
    }
}
