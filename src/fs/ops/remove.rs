//! UNLINK, RMDIR and RENAME: names that go.

use super::super::files::{Files, Shared, check_name};
use crate::tree::mfs::{Caller, NodeId, RenameMode};
use crate::tree::{SNAPSHOTS, TreeError};

impl Files {
    /// Removes a name of anything but a directory.
    pub async fn unlink(self, caller: Caller, parent: u64, name: Vec<u8>) -> Result<(), TreeError> {
        let shared = self.shared;
        let dir = shared.removable(parent, &name)?;
        let gone = shared.nodes()?.mfs().unlink(caller, dir, &name).await;
        gone.map_err(|error| not_for_removal(dir, &name, error))
    }

    /// Removes an empty directory.
    pub async fn rmdir(self, caller: Caller, parent: u64, name: Vec<u8>) -> Result<(), TreeError> {
        let shared = self.shared;
        let dir = shared.removable(parent, &name)?;
        let gone = shared.nodes()?.mfs().rmdir(caller, dir, &name).await;
        gone.map_err(|error| not_for_removal(dir, &name, error))
    }

    /// Moves what `from` leads to.
    pub async fn rename(
        self,
        caller: Caller,
        from: (u64, Vec<u8>),
        to: (u64, Vec<u8>),
        mode: RenameMode,
    ) -> Result<(), TreeError> {
        let shared = self.shared;
        let ends = [from.0, to.0].map(|ino| shared.node(ino).map(|n| n.writable().is_some()));
        let [source, target] = ends;
        if source? != target? {
            return Err(TreeError::OtherNamespace);
        }
        let source = shared.removable(from.0, &from.1)?;
        let target = shared.place(to.0, &to.1)?;
        let moved = shared
            .nodes()?
            .mfs()
            .rename(caller, (source, &from.1), (target, &to.1), mode);
        moved
            .await
            .map_err(|error| not_for_removal(source, &from.1, error))
    }
}

impl Shared {
    fn removable(&self, parent: u64, name: &[u8]) -> Result<NodeId, TreeError> {
        check_name(name)?;
        let (_, dir) = self
            .writable(parent)
            .map_err(|_| self.not_here(parent, name))?;
        Ok(dir)
    }
}

/// `.snapshots` is found without being an entry: it cannot go.
fn not_for_removal(dir: NodeId, name: &[u8], error: TreeError) -> TreeError {
    let reserved = dir == NodeId::ROOT && name == SNAPSHOTS;
    if reserved && matches!(error, TreeError::NotFound) {
        return TreeError::NotPermitted("the name is for snapshots");
    }
    error
}
