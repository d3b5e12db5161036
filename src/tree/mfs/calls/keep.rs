//! What a change rests on stays here, though it is content from elsewhere.
//!
//! A directory that was only mounted is in no own pack. Before something in or
//! below it changes, all blocks of the directory itself become own ones (not
//! what its entries lead to), and the root block of what is changed: a recovery
//! and the next checkpoint need these, and must not depend on a source. After
//! that checkpoint the directory is one that was made here, which shows in that
//! its entries are counted.

use std::collections::HashSet;
use std::sync::OnceLock;

use parking_lot::Mutex;

use super::content::{shared_at, store_failed};
use crate::block::DAG_PB;
use crate::config::KEPT_REMEMBERED_MAX;
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::changes::apply::{HELD, MOUNTED};
use crate::tree::mfs::changes::op::{Logged, Op};
use crate::tree::mfs::nodes::fault::{Fault, Keep, Need, Step};
use crate::tree::mfs::nodes::node::{Body, Content, Inode};
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::path::TreePath;
use crate::tree::mfs::transaction::WriteAt;
use crate::tree::mfs::types::NodeId;

/// What was kept in this run, and whether the tree takes no change.
#[derive(Default)]
pub(in crate::tree::mfs) struct Keeping {
    done: Mutex<HashSet<Keep>>,
    frozen: OnceLock<String>,
}

impl Keeping {
    /// Forgets what was kept: it is looked up again.
    pub(in crate::tree::mfs) fn forget(&self) {
        self.done.lock().clear();
    }
}

impl Mfs {
    /// What changes rest on and was not kept yet.
    pub(in crate::tree::mfs) fn unkept(&self, state: &State, logged: &[Logged]) -> Option<Need> {
        let done = self.keeping.done.lock();
        let mut lacking = Vec::new();
        let mut want = |keep| {
            if !done.contains(&keep) && !lacking.contains(&keep) {
                lacking.push(keep);
            }
        };
        for one in logged {
            for node in changed(state, &one.op) {
                root_block(state, node).into_iter().for_each(&mut want);
                let links = state.nodes.get(&node).and_then(Inode::links);
                let linked = links.into_iter().flatten().map(|(parent, _)| *parent);
                for parent in linked.chain(parent_of(state, node)) {
                    above(state, parent, &mut want);
                }
            }
            for directory in one.op.directories() {
                above(state, directory, &mut want);
            }
        }
        (!lacking.is_empty()).then_some(Need::Keep(lacking))
    }

    /// What an append rests on: the last leaf, which may be short and is read when
    /// the file goes on. `None` where nothing is there yet.
    pub(in crate::tree::mfs) fn end_of_file(
        &self,
        state: &State,
        path: &TreePath,
    ) -> Step<Option<Keep>> {
        let inode = match state.at(path) {
            Ok(node) => state.node(node)?,
            Err(Fault::Error(TreeError::NotFound | TreeError::NotADirectory)) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        // The plan says what is wrong with the rest.
        let Body::File(content) = &inode.body else {
            return Ok(None);
        };
        let end = shared_at(content, content.size());
        Ok(end.map(|(cid, offset)| Keep::Leaf(cid, offset)))
    }

    /// Proves that what an append rests on was kept; other writes end their own way.
    pub(in crate::tree::mfs) fn end_is_kept(
        &self,
        state: &State,
        path: &TreePath,
        at: WriteAt,
    ) -> Step<()> {
        if at != WriteAt::End {
            return Ok(());
        }
        match self.end_of_file(state, path)? {
            Some(keep) if !self.keeping.done.lock().contains(&keep) => {
                Err(Fault::Need(Need::Keep(vec![keep])))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Makes blocks own ones; fetches what is not here.
    pub(in crate::tree::mfs) async fn keep(&self, all: &[Keep]) -> Result<(), TreeError> {
        for keep in all {
            let cids = match keep {
                Keep::Directory(cid) => self.reader.directory_blocks(cid).await?,
                Keep::Block(cid) => vec![*cid],
                Keep::Leaf(cid, offset) => {
                    self.keep_cut_leaf(cid, *offset).await?;
                    continue;
                }
            };
            for cid in cids.iter().filter(|cid| !self.blocks.has_own(cid)) {
                let block = self.reader.block(cid).await?;
                // What is removed on a full disk may be such content.
                self.blocks.put_reserved(block).map_err(store_failed)?;
            }
        }
        // Before the entry that rests on it, also if this process is killed.
        self.blocks.flush_reserved().map_err(store_failed)?;
        let mut done = self.keeping.done.lock();
        if done.len() > KEPT_REMEMBERED_MAX {
            done.clear();
        }
        done.extend(all);
        Ok(())
    }

    /// Takes no more changes, because one that was acknowledged cannot be shown.
    pub(in crate::tree::mfs) fn freeze(&self, why: String) {
        drop(self.keeping.frozen.set(why));
    }

    /// Says why the tree takes no change, if it takes none.
    pub(in crate::tree::mfs) fn check_frozen(&self) -> Result<(), TreeError> {
        match self.keeping.frozen.get() {
            Some(why) => Err(TreeError::ReadOnly(why.clone())),
            None => Ok(()),
        }
    }
}

fn parent_of(state: &State, node: NodeId) -> Option<NodeId> {
    let home = state.nodes.get(&node)?.home.as_ref()?;
    Some(home.0)
}

/// Asks for a directory and those above it, as far as they were not made here.
fn above(state: &State, directory: NodeId, want: &mut impl FnMut(Keep)) {
    let mut at = Some(directory);
    while let Some(node) = at {
        let directory = state.nodes.get(&node).and_then(|n| n.directory());
        if let Some(base) = directory.and_then(|directory| directory.base.as_ref())
            && base.tally.is_none()
        {
            want(Keep::Directory(base.sealed.cid.get()));
        }
        at = parent_of(state, node);
    }
}

/// The root block of content that was never made here.
fn root_block(state: &State, node: NodeId) -> Option<Keep> {
    let inode = state.nodes.get(&node)?;
    let mounted = [MOUNTED, HELD];
    if node.count().is_some() && mounted.iter().all(|name| inode.xattr(name).is_none()) {
        return None;
    }
    let cid = match &inode.body {
        Body::File(Content::Whole(whole)) => whole.cid().get(),
        Body::Directory(directory) => directory.base.as_ref()?.sealed.cid.get(),
        Body::Symlink(link) => link.sealed.as_ref()?.cid.get(),
        Body::File(Content::Ranges(_)) | Body::Special => return None,
    };
    (cid.codec() == DAG_PB).then_some(Keep::Block(cid))
}

/// The nodes that a change is about and that stay.
fn changed(state: &State, op: &Op) -> Vec<NodeId> {
    match op {
        Op::Rename { from, to, .. } => [from, to]
            .into_iter()
            .filter_map(|(parent, name)| state.find(*parent, name).ok().flatten())
            .collect(),
        Op::Link { node, .. }
        | Op::Write { node, .. }
        | Op::WriteBlocks { node, .. }
        | Op::Resize { node, .. }
        | Op::Allocate { node, .. }
        | Op::Share { node, .. }
        | Op::SetXattr { node, .. }
        | Op::RemoveXattr { node, .. } => vec![*node],
        Op::Attr(attr) => vec![attr.node],
        Op::Make(_)
        | Op::Mount(_)
        | Op::Unlink { .. }
        | Op::Rmdir { .. }
        | Op::Unmount { .. }
        | Op::Checkpoint { .. }
        | Op::Begin
        | Op::Commit
        | Op::Rollback
        | Op::Failed { .. }
        | Op::Synced => Vec::new(),
    }
}
