//! LOOKUP: from a name to an inode.

use std::sync::Arc;

use super::super::files::{FOR_EVER, Files, Shared, Told};
use crate::tree::TreeError;

impl Files {
    /// Finds `name` in a directory; the kernel will FORGET what it is given.
    ///
    /// `NotFound` is proof, and may be kept as long as the answer itself.
    pub async fn lookup(self, parent: u64, name: Vec<u8>) -> Result<Told, TreeError> {
        let shared: Arc<Shared> = self.shared;
        let node = shared.node(parent)?;
        let found = shared.tree.lookup(&node, &name).await?;
        let (attr, changed) = shared.attr(&found.node).await?;
        let ino = shared
            .inodes
            .remember(parent, &name, &found.node, attr.kind);
        let mut stat = shared.stat(ino, &attr);
        stat.mtime = stat.mtime.max(changed);
        let attr_ttl = shared.attr_ttl(&found.node);
        Ok(Told {
            stat,
            ttl: found.ttl.unwrap_or(FOR_EVER),
            attr_ttl,
        })
    }
}
