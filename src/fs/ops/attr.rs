//! GETATTR.

use super::super::files::{FOR_EVER, Files, Told};
use crate::tree::TreeError;

impl Files {
    /// Tells what an inode is.
    pub async fn getattr(self, ino: u64) -> Result<Told, TreeError> {
        let shared = self.shared;
        let node = shared.node(ino)?;
        let (attr, changed) = shared.attr(&node).await?;
        let mut stat = shared.stat(ino, &attr);
        stat.mtime = stat.mtime.max(changed);
        Ok(Told {
            stat,
            ttl: FOR_EVER,
            attr_ttl: shared.attr_ttl(&node),
        })
    }
}
