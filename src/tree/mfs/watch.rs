//! Who keeps copies of the tree is told of its changes.

use std::sync::Weak;

use bytes::Bytes;

use super::Mfs;
use super::changes::op::Op;
use super::nodes::node::Name;
use super::nodes::state::State;
use super::types::{Change, NodeId, Origin, Watcher};

impl Mfs {
    pub(super) fn tell(&self, origin: Origin, changes: &[Change]) {
        if !changes.is_empty() {
            for watcher in self.watchers.read().iter().filter_map(Weak::upgrade) {
                watcher.changed(origin, changes);
            }
        }
    }

    /// Waits until those who watch have been told of all changes so far and have
    /// passed it on, at most `within`. For who came through another door; never
    /// for a thread that answers the kernel.
    pub async fn told(&self, within: std::time::Duration) {
        let watchers: Vec<_> = self
            .watchers
            .read()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        if watchers.is_empty() {
            return;
        }
        let deadline = std::time::Instant::now() + within;
        let wait = move || watchers.iter().for_each(|one| one.wait_told(deadline));
        if let Err(error) = tokio::task::spawn_blocking(wait).await {
            tracing::error!(%error, "who watches the tree panicked");
        }
    }

    /// Whoever wants to be told of changes, for as long as it is there.
    pub fn watch(&self, watcher: Weak<dyn Watcher>) {
        let mut watchers = self.watchers.write();
        watchers.retain(|one| one.strong_count() > 0);
        watchers.push(watcher);
    }
}

/// What a change will look like to those who keep copies.
pub(super) fn changes_of(state: &State, op: &Op) -> Vec<Change> {
    let entry = |(parent, name): (NodeId, &Name)| Change::Entry {
        parent,
        name: Bytes::copy_from_slice(name),
    };
    let meta = |node: NodeId| Change::Node {
        node,
        content: false,
    };
    let content = |node: NodeId| Change::Node {
        node,
        content: true,
    };
    let led_to = |at: (NodeId, &Name)| match state.find(at.0, at.1) {
        Ok(Some(node)) => vec![meta(node)],
        Ok(None) | Err(_) => Vec::new(),
    };
    match op {
        Op::Make(one) => vec![entry((one.parent, &one.name)), content(one.parent)],
        Op::Mount(one) => {
            vec![
                entry((one.parent, &one.name)),
                content(one.parent),
                content(one.node),
            ]
        }
        Op::Link {
            node, parent, name, ..
        } => {
            vec![entry((*parent, name)), content(*parent), meta(*node)]
        }
        Op::Unlink { parent, name, .. }
        | Op::Rmdir { parent, name, .. }
        | Op::Unmount { parent, name, .. } => {
            let mut changes = led_to((*parent, name));
            changes.extend([entry((*parent, name)), content(*parent)]);
            changes
        }
        Op::Rename { from, to, .. } => {
            let mut changes = led_to((from.0, &from.1));
            changes.extend(led_to((to.0, &to.1)));
            changes.extend([entry((from.0, &from.1)), entry((to.0, &to.1))]);
            changes.extend([content(from.0), content(to.0)]);
            changes
        }
        Op::Write { node, .. }
        | Op::WriteBlocks { node, .. }
        | Op::Resize { node, .. }
        | Op::Allocate { node, .. }
        | Op::Share { node, .. } => vec![content(*node)],
        Op::Attr(attr) => vec![meta(attr.node)],
        Op::SetXattr { node, .. } | Op::RemoveXattr { node, .. } => vec![meta(*node)],
        Op::Checkpoint { .. }
        | Op::Begin
        | Op::Commit
        | Op::Rollback
        | Op::Failed { .. }
        | Op::Synced => Vec::new(),
    }
}
