//! What is loaded and of no use any more goes.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::config::ABSENT_NAMES_MAX;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::nodes::node::{Dentry, Directory, Inode, Key, Name, To};
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::types::NodeId;

/// While this lives, no node is dropped: for who goes from node to node by their
/// numbers and holds none of them. Brief, since memory has no limit meanwhile.
pub(in crate::tree) struct Stay<'a>(&'a Mfs);

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        let is_last = self.0.staying.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last && self.0.trim_due.swap(false, Ordering::AcqRel) {
            self.0.trim(&mut self.0.state.lock(), None);
        }
    }
}

impl Mfs {
    /// Keeps everything loaded that is.
    pub(in crate::tree) fn stay(&self) -> Stay<'_> {
        self.staying.fetch_add(1, Ordering::AcqRel);
        Stay(self)
    }

    /// Drops clean nodes that nobody holds when there are too many. The names in
    /// `listed` stay: whoever lists it wants the next of them.
    pub(in crate::tree::mfs) fn trim(&self, state: &mut State, listed: Option<NodeId>) {
        let nodes_max = self.options.nodes_loaded_max;
        if state.absent > ABSENT_NAMES_MAX.min(nodes_max) {
            forget_absent(state);
        }
        let is_full = state.nodes.len() >= state.trim_at.max(nodes_max);
        if !is_full && state.let_go <= nodes_max {
            return;
        }
        if self.staying.load(Ordering::Acquire) > 0 {
            self.trim_due.store(true, Ordering::Release);
            return;
        }
        state.let_go = 0;
        let before = state.nodes.len();
        while trim_leaves(state) > 0 {}
        self.background.moved(before - state.nodes.len());
        trim_listings(state, listed);
        state.nodes.shrink();
        // Where most of them are held there is still room for what a step needs.
        state.trim_at = state.nodes.len() + state.nodes.len().max(nodes_max) / 2;
    }
}

/// Drops clean, unheld nodes that have no loaded node below; tells how many.
fn trim_leaves(state: &mut State) -> usize {
    let idle = |node: &NodeId, inode: &Inode| {
        let is_node = |dentry: &Dentry| matches!(dentry.to(), To::Node(_));
        let bare = inode.directory().is_none_or(|directory| {
            directory.changed.is_empty() && !directory.entries.values().any(is_node)
        });
        *node != NodeId::ROOT && inode.held() == 0 && inode.is_clean() && bare
    };
    let gone: Vec<NodeId> = state
        .nodes
        .iter()
        .filter(|(node, inode)| idle(node, inode))
        .map(|(node, _)| node)
        .collect();
    for node in &gone {
        let Some(inode) = state.nodes.remove(node) else {
            continue;
        };
        for (parent, name) in inode.names() {
            let parent = state.nodes.get_mut(parent);
            if let Some(directory) = parent.and_then(Inode::directory_mut) {
                forget_entry(directory, name);
            }
        }
    }
    gone.len()
}

/// Forgets what a name leads to.
fn forget_entry(directory: &mut Directory, name: &Name) {
    let key = Key::of(name.clone());
    if !directory.complete {
        directory.entries.remove(&key);
    } else if let Some(dentry) = directory.entries.get_mut(&key) {
        *dentry = Dentry::new(To::Unloaded);
    }
}

/// Forgets names that were looked for and are not there: they can be looked for again.
fn forget_absent(state: &mut State) {
    state.absent = 0;
    for (_, inode) in state.nodes.iter_mut() {
        if let Some(directory) = inode.directory_mut() {
            let changed = &directory.changed;
            directory
                .entries
                .retain(|key, dentry| dentry.to() != To::Absent || changed.contains_key(key));
        }
    }
}

/// Drops the listings of directories of which nothing is loaded.
fn trim_listings(state: &mut State, listed: Option<NodeId>) {
    for (node, inode) in state.nodes.iter_mut() {
        if Some(node) == listed {
            continue;
        }
        let is_clean = inode.is_clean();
        let Some(directory) = inode.directory_mut() else {
            continue;
        };
        let is_idle = |d: &Dentry| matches!(d.to(), To::Unloaded | To::Absent);
        if !directory.changed.is_empty() {
            continue;
        }
        if is_clean && directory.base.is_some() && directory.entries.values().all(is_idle) {
            directory.entries = BTreeMap::new();
            directory.complete = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::mfs::nodes::node::Body;
    use crate::tree::mfs::types::NodeKind;

    #[test]
    fn names_that_were_looked_for_in_vain_are_forgotten_and_removed_ones_are_not() {
        let mut directory = Directory::default();
        for (name, to) in [
            (&b"never"[..], To::Absent),
            (b"removed", To::Absent),
            (b"there", To::Unloaded),
        ] {
            directory.entries.insert(Key::new(name), Dentry::new(to));
        }
        directory.changed.insert(Key::new(b"removed"), 7);
        let body = Body::Directory(directory.into());
        let mut state = State::default();
        let root = Inode::plain(NodeKind::Directory, body);
        state.nodes.insert(NodeId::ROOT, root);
        state.absent = 1;
        forget_absent(&mut state);
        let directory = state.directory(NodeId::ROOT).unwrap();
        let names: Vec<_> = directory
            .entries
            .keys()
            .map(|key| key.name.to_vec())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(!names.contains(&b"never".to_vec()));
        assert_eq!(state.absent, 0);
    }
}
