//! Whether a change that the journal has fits the tree that it is applied to.
//!
//! Live calls are validated when they are planned. What a recovery reads is
//! believed as far as it can be true: an entry under a right checksum that
//! contradicts those before it is damage. What is not loaded is not looked for:
//! the checks are a few look-ups in memory.

use super::op::{Mount, Op};
use crate::tree::error::TreeError;
use crate::tree::mfs::nodes::fault::Step;
use crate::tree::mfs::nodes::node::Name;
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::types::{NodeId, NodeKind, RenameMode};

/// Proves that everything that a change touches is loaded.
pub(in crate::tree::mfs) fn ready(state: &State, op: &Op) -> Step<()> {
    let node = |node: &NodeId| state.node(*node).map(|_| ());
    match op {
        Op::Make(one) => {
            state.directory(one.parent)?;
        }
        Op::Mount(one) => {
            // It may be mounted at what is there.
            state.find(one.parent, &one.name)?;
        }
        Op::Link {
            node: linked,
            parent,
            ..
        } => {
            node(linked)?;
            state.directory(*parent)?;
        }
        Op::Unlink { parent, name, .. }
        | Op::Rmdir { parent, name, .. }
        | Op::Unmount { parent, name, .. } => {
            state.find(*parent, name)?.ok_or(TreeError::NotFound)?;
        }
        Op::Rename { from, to, .. } => {
            state.find(from.0, &from.1)?.ok_or(TreeError::NotFound)?;
            state.find(to.0, &to.1)?;
        }
        Op::Write { node: at, .. }
        | Op::WriteBlocks { node: at, .. }
        | Op::Resize { node: at, .. }
        | Op::Allocate { node: at, .. }
        | Op::Share { node: at, .. }
        | Op::SetXattr { node: at, .. }
        | Op::RemoveXattr { node: at, .. } => node(at)?,
        Op::Attr(attr) => node(&attr.node)?,
        Op::Checkpoint { .. }
        | Op::Begin
        | Op::Commit
        | Op::Rollback
        | Op::Failed { .. }
        | Op::Synced => {}
    }
    Ok(())
}

/// Whether it takes a name away, which must be there.
pub(in crate::tree::mfs) fn takes_name(op: &Op) -> bool {
    matches!(
        op,
        Op::Unlink { .. } | Op::Rmdir { .. } | Op::Unmount { .. } | Op::Rename { .. }
    )
}

/// What of the tree a change contradicts, for which everything is loaded.
pub(in crate::tree::mfs) fn contradiction(state: &State, op: &Op) -> Option<&'static str> {
    match op {
        Op::Make(one) => {
            given_twice(state, one.node).or_else(|| taken(state, one.parent, &one.name))
        }
        Op::Mount(one) => mounted(state, one),
        Op::Link {
            node, parent, name, ..
        } => match state.nodes.get(node) {
            Some(inode) if inode.kind == NodeKind::Directory => Some("a directory has one name"),
            Some(inode) if inode.nlink == 0 => Some("what was removed gets no name again"),
            Some(_) | None => taken(state, *parent, name),
        },
        Op::Rename { from, to, mode, .. } => renamed(state, from, to, *mode),
        Op::Unlink { .. }
        | Op::Rmdir { .. }
        | Op::Unmount { .. }
        | Op::Write { .. }
        | Op::WriteBlocks { .. }
        | Op::Resize { .. }
        | Op::Allocate { .. }
        | Op::Share { .. }
        | Op::Attr(_)
        | Op::SetXattr { .. }
        | Op::RemoveXattr { .. }
        | Op::Checkpoint { .. }
        | Op::Begin
        | Op::Commit
        | Op::Rollback
        | Op::Failed { .. }
        | Op::Synced => None,
    }
}

fn given_twice(state: &State, node: NodeId) -> Option<&'static str> {
    let there = state.nodes.contains_key(&node);
    there.then_some("the number of the node is that of another")
}

/// Where a name leads, as far as that is loaded.
fn leads_to(state: &State, parent: NodeId, name: &Name) -> Option<NodeId> {
    state.find(parent, name).ok().flatten()
}

fn taken(state: &State, parent: NodeId, name: &Name) -> Option<&'static str> {
    let there = leads_to(state, parent, name).is_some();
    there.then_some("the name is there already")
}

fn mounted(state: &State, one: &Mount) -> Option<&'static str> {
    let at = leads_to(state, one.parent, &one.name);
    match state.nodes.get(&one.node) {
        None => at.and(Some("the name is there already")),
        Some(_) if at != Some(one.node) => Some("the number of the node is that of another"),
        Some(inode) if inode.kind != one.kind => Some("it is mounted at something of another kind"),
        Some(_) => None,
    }
}

fn renamed(
    state: &State,
    from: &(NodeId, Name),
    to: &(NodeId, Name),
    mode: RenameMode,
) -> Option<&'static str> {
    let node = leads_to(state, from.0, &from.1)?;
    let target = leads_to(state, to.0, &to.1);
    let holds = |above: NodeId, below: NodeId| {
        let above_kind = state.nodes.get(&above).map(|inode| inode.kind);
        above_kind == Some(NodeKind::Directory) && state.is_under(below, above)
    };
    match (mode, target) {
        (RenameMode::NoReplace, Some(_)) => Some("the name is there already"),
        (RenameMode::Exchange, None) => Some("the name is not there"),
        (_, Some(target)) if target == node => Some("both names lead to the same"),
        (RenameMode::Exchange, Some(target)) if holds(target, from.0) => {
            Some("a directory is moved into itself")
        }
        (_, Some(target)) if holds(target, from.0) => Some("what is replaced has something in it"),
        _ if holds(node, to.0) => Some("a directory is moved into itself"),
        _ => None,
    }
}
