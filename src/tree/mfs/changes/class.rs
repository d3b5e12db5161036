//! Which changes make room: they may use what is kept back on a full disk.
//!
//! What can be done over and over, or makes something larger, may not.

use super::op::Op;
use crate::journal::Class;
use crate::tree::mfs::nodes::extents;
use crate::tree::mfs::nodes::node::{Body, Content};
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::types::{Allocate, NodeId};

/// What changes that are journaled together do to the room.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::tree::mfs) struct Effect {
    frees: bool,
    grows: bool,
}

impl Effect {
    /// Adds a change that has not been applied yet.
    pub(in crate::tree::mfs) fn add(&mut self, state: &State, op: &Op, chunk: u64) {
        match op {
            Op::Unlink { .. } | Op::Rmdir { .. } | Op::Unmount { .. } | Op::RemoveXattr { .. } => {
                self.frees = true;
            }
            Op::Resize { node, size, .. } => {
                self.count(file(state, *node).is_some_and(|content| *size < content.size()));
            }
            Op::Allocate {
                node,
                what,
                offset,
                len,
                ..
            } => {
                let range = (*offset, offset.saturating_add(*len));
                self.count(
                    file(state, *node).is_some_and(|content| frees(content, *what, range, chunk)),
                );
            }
            // It goes with a change of the length, and alone it makes no room.
            Op::Attr(_) => {}
            Op::Make(_)
            | Op::Link { .. }
            | Op::Rename { .. }
            | Op::Write { .. }
            | Op::WriteBlocks { .. }
            | Op::Share { .. }
            | Op::SetXattr { .. }
            | Op::Mount(_)
            | Op::Checkpoint { .. }
            | Op::Begin
            | Op::Commit
            | Op::Rollback
            | Op::Failed { .. }
            | Op::Synced => self.grows = true,
        }
    }

    fn count(&mut self, frees: bool) {
        self.frees |= frees;
        self.grows |= !frees;
    }

    /// What their append may use.
    pub(in crate::tree::mfs) fn class(self) -> Class {
        match self.frees && !self.grows {
            true => Class::Reserve,
            false => Class::Normal,
        }
    }
}

/// Whether a range that is set aside, punched or zeroed makes room: a hole in the
/// place of a whole chunk of data, or of all there is. Smaller ones leave parts
/// of chunks, which take room of their own.
pub(in crate::tree::mfs) fn frees(
    content: &Content,
    what: Allocate,
    (from, to): (u64, u64),
    chunk: u64,
) -> bool {
    if what != Allocate::Punch {
        return false;
    }
    let all = content.data_bytes();
    let freed = match content {
        Content::Whole(whole) => to.min(whole.size()).saturating_sub(from),
        Content::Ranges(ranges) => {
            let extents = &ranges.extents;
            let mut data = 0;
            extents.each(from, to, |_, len, what, _| {
                if *what != extents::Data::Hole {
                    data += len;
                }
            });
            data
        }
    };
    freed > 0 && (freed >= chunk || freed == all)
}

fn file(state: &State, node: NodeId) -> Option<&Content> {
    match &state.nodes.get(&node)?.body {
        Body::File(content) => Some(content),
        Body::Directory(_) | Body::Symlink(_) | Body::Special => None,
    }
}
