//! RENAME, with NOREPLACE and EXCHANGE.

use super::entries::{check_name, check_names, fits_beside, not_reserved};
use crate::config::TREE_DEPTH_MAX;
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::changes::op::{Logged, Op};
use crate::tree::mfs::nodes::fault::Step;
use crate::tree::mfs::nodes::node::Name;
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::perform::Plan;
use crate::tree::mfs::types::{Caller, NodeId, NodeKind, RenameMode, Time};

impl Mfs {
    /// Moves a name, or makes two names change places.
    pub async fn rename(
        &self,
        caller: Caller,
        from: (NodeId, &[u8]),
        to: (NodeId, &[u8]),
        mode: RenameMode,
    ) -> Result<(), TreeError> {
        check_name(from.1)?;
        let plan = |state: &mut State, time: Time| {
            if !may_move(state, from, to, mode)? {
                return Ok(Plan::nothing(()));
            }
            let name = |at: (NodeId, &[u8])| (at.0, Name::from(at.1));
            let logged = Logged {
                path: state.way(from.0, Some(from.1)),
                to: state.way(to.0, Some(to.1)),
                op: Op::Rename {
                    from: name(from),
                    to: name(to),
                    mode,
                    time,
                },
            };
            Ok(Plan {
                logged: vec![logged],
                told: (),
            })
        };
        self.change(caller.origin, plan, |_, ()| ()).await
    }
}

/// Proves that a rename may happen; false where there is nothing to do.
pub(in crate::tree::mfs) fn may_move(
    state: &State,
    from: (NodeId, &[u8]),
    to: (NodeId, &[u8]),
    mode: RenameMode,
) -> Step<bool> {
    let node = state.find(from.0, from.1)?.ok_or(TreeError::NotFound)?;
    check_name(to.1)?;
    not_reserved(to.0, to.1)?;
    let there = state.find(to.0, to.1)?;
    // In the order in which Linux looks.
    match (there, mode) {
        (Some(_), RenameMode::NoReplace) => return Err(TreeError::Exists.into()),
        (None, RenameMode::Exchange) => return Err(TreeError::NotFound.into()),
        (Some(_), RenameMode::Replace | RenameMode::Exchange)
        | (None, RenameMode::Replace | RenameMode::NoReplace) => {}
    }
    if there.is_none() {
        let leaving = (from.0 == to.0).then_some(from.1);
        fits_beside(state, to.0, to.1, leaving)?;
    }
    let kind = state.node(node)?.kind;
    let into_itself = TreeError::Invalid("a directory cannot be moved into itself");
    if kind == NodeKind::Directory && state.is_under(to.0, node) {
        return Err(into_itself.into());
    }
    if let Some(other) = there
        && state.node(other)?.kind == NodeKind::Directory
        && state.is_under(from.0, other)
    {
        let replaces = mode == RenameMode::Replace;
        return Err(if replaces {
            TreeError::NotEmpty
        } else {
            into_itself
        }
        .into());
    }
    if from.0 != to.0 && state.depth(to.0) >= TREE_DEPTH_MAX {
        return Err(TreeError::Limit(format!("directories deeper than {TREE_DEPTH_MAX}")).into());
    }
    let exchanges = mode == RenameMode::Exchange;
    check_names(state, node, from, to.1)?;
    if let Some(other) = there.filter(|_| exchanges) {
        check_names(state, other, to, from.1)?;
    }
    match (there, mode) {
        (Some(other), RenameMode::Exchange) => Ok(other != node),
        (None, _) | (_, RenameMode::NoReplace) => Ok(true),
        (Some(other), RenameMode::Replace) if other == node => Ok(false),
        (Some(other), RenameMode::Replace) => {
            let replaced = state.node(other)?.kind;
            match (kind == NodeKind::Directory, replaced == NodeKind::Directory) {
                (true, false) => Err(TreeError::NotADirectory.into()),
                (false, true) => Err(TreeError::IsADirectory.into()),
                (true, true) if !state.is_empty(other)? => Err(TreeError::NotEmpty.into()),
                (true, true) | (false, false) => Ok(true),
            }
        }
    }
}
