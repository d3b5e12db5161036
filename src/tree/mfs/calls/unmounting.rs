//! What unmounting would lose: changes below what was mounted.
//!
//! What nobody changed has no records: the way to each changed node is recorded
//! by checkpoints, and so is every attribute that UnixFS cannot say. What only
//! names or bytes say shows in the root.

use std::collections::HashMap;

use crate::block::Cid;
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::changes::apply::MOUNTED;
use crate::tree::mfs::nodes::fault::{Fault, Need, Step};
use crate::tree::mfs::nodes::node::{Body, Inode};
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::transaction::Staged;
use crate::tree::mfs::types::NodeId;
use crate::tree::posix::key;

/// Why it is refused.
pub const CHANGED: &str = "it was changed since it was mounted, and that would be lost";

/// What the loaded tree says of a mounted node.
enum Seen {
    Unchanged,
    Changed,
    /// It is in a checkpoint, which has to be looked at.
    InCheckpoint,
}

/// Proves that a change, if it unmounts, loses nothing that it may not. Nodes that
/// were `unchanged` at a checkpoint are known by its epoch.
pub(in crate::tree::mfs) fn loses_nothing(
    state: &State,
    staged: &Staged,
    unchanged: &HashMap<NodeId, u64>,
) -> Step<()> {
    let Staged::Unmount { path, force: false } = staged else {
        return Ok(());
    };
    let node = state.at(path)?;
    match seen(state, node)? {
        Seen::Unchanged => Ok(()),
        Seen::Changed => Err(TreeError::Busy(CHANGED).into()),
        Seen::InCheckpoint if unchanged.get(&node) == Some(&state.epoch) => Ok(()),
        Seen::InCheckpoint => Err(Fault::Need(Need::Unchanged(node))),
    }
}

fn seen(state: &State, node: NodeId) -> Result<Seen, TreeError> {
    let inode = state.node(node)?;
    let Some(mounted) = inode.xattr(MOUNTED) else {
        return Ok(Seen::Unchanged);
    };
    let is_mounted = |cid: Cid| cid.to_string().as_bytes() == &mounted[..];
    Ok(match &inode.body {
        Body::Directory(directory) => {
            let below = |inode: &Inode| {
                let mut names = inode.names();
                names.any(|(parent, _)| state.is_under(*parent, node))
            };
            let mut dirty = state.dirty.iter().filter_map(|node| state.nodes.get(node));
            if inode.content_changed() > directory.mounted || dirty.any(below) {
                Seen::Changed
            } else if directory.mounted > 0 {
                Seen::Unchanged
            } else {
                Seen::InCheckpoint
            }
        }
        Body::File(content) => match content.sealed() {
            Some(sealed) if is_mounted(sealed.cid.get()) => Seen::Unchanged,
            Some(_) => Seen::InCheckpoint,
            None => Seen::Changed,
        },
        // A target never changes.
        Body::Symlink(_) | Body::Special => Seen::Unchanged,
    })
}

impl Mfs {
    /// Looks at the last checkpoint for changes in what is mounted at a node;
    /// gives its epoch where there are none.
    pub(in crate::tree::mfs) async fn unchanged_in_checkpoint(
        &self,
        node: NodeId,
    ) -> Result<u64, TreeError> {
        let (mounted, now, posix, epoch) = {
            let state = self.state.lock();
            let inode = state.node(node)?;
            let now = match &inode.body {
                Body::Directory(directory) => {
                    directory.base.as_ref().map(|base| base.sealed.cid.get())
                }
                Body::File(content) => content.sealed().map(|sealed| sealed.cid.get()),
                Body::Symlink(_) | Body::Special => None,
            };
            let posix = state.posix.filter(|_| inode.directory().is_some());
            (inode.xattr(MOUNTED).cloned(), now, posix, state.epoch)
        };
        let changed = TreeError::Busy(CHANGED);
        let text = mounted
            .as_deref()
            .and_then(|text| std::str::from_utf8(text).ok());
        let (Some(mounted), Some(now)) = (text.and_then(|text| Cid::try_from(text).ok()), now)
        else {
            return Err(changed);
        };
        if let Some(root) = posix {
            let (from, until) = key::dentries(node.number());
            if !self
                .map
                .range(&root, &from, Some(&until), 1)
                .await?
                .is_empty()
            {
                return Err(changed);
            }
        }
        match self.reader.holds_same(&mounted, &now).await? {
            true => Ok(epoch),
            false => Err(changed),
        }
    }
}
