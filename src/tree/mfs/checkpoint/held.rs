//! Files that cannot be sealed, and do not hold up the checkpoint.
//!
//! A part of a chunk was written, and what stays of the chunk is damaged: until
//! it is written anew as a whole, no block can be made of it. The checkpoint has
//! such a file as it was when it was last sealed (of a new one: empty), and what
//! the file is now is journaled again behind the last entry that is in the
//! checkpoint, as one transaction. So a recovery that begins with the checkpoint
//! finds all that was acknowledged, and entries before it are needed no more.

use std::collections::HashMap;

use crate::config::HELD_BACK_BYTES_MAX;
use crate::journal::Class;
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::calls::content::framed;
use crate::tree::mfs::changes::apply::apply;
use crate::tree::mfs::changes::op::{Logged, Op, Stamp};
use crate::tree::mfs::nodes::node::{Body, Inode, Sealed};
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::snapshots::restore::times_of;
use crate::tree::mfs::types::NodeId;

/// Files that are not sealed in a checkpoint, and why.
pub(super) type Stuck = HashMap<NodeId, TreeError>;
/// What it has in their places; `None` is an empty file.
pub(super) type Before = HashMap<NodeId, Option<Sealed>>;

/// A file that a checkpoint has as it was before.
#[derive(Debug, Clone)]
pub(in crate::tree::mfs) struct HeldBack {
    pub(in crate::tree::mfs) path: String,
    pub(in crate::tree::mfs) why: String,
}

impl Mfs {
    /// What the checkpoint has in the places of files that cannot be sealed.
    /// Fails where one has more bytes than are journaled again.
    pub(super) fn before(&self, state: &State, stuck: &Stuck) -> Result<Before, TreeError> {
        let mut before = Before::new();
        for (node, error) in stuck {
            let Some(inode) = state.nodes.get(node).filter(|inode| inode.nlink > 0) else {
                continue;
            };
            let Body::File(content) = &inode.body else {
                continue;
            };
            if content.sealed().is_some() {
                continue;
            }
            if content.unsealed_bytes() > HELD_BACK_BYTES_MAX {
                return Err(error.clone());
            }
            before.insert(*node, content.before());
        }
        Ok(before)
    }

    /// Journals again what files are whose changes are not in the checkpoint.
    pub(super) fn journal_again(
        &self,
        state: &mut State,
        before: &Before,
        stuck: &Stuck,
    ) -> Result<(), TreeError> {
        let mut held_back = Vec::new();
        if !before.is_empty() {
            // Recovery does not look for what such entries refer to.
            self.sealed.sync(&self.blocks)?;
        }
        for node in before.keys() {
            let Some(inode) = state.nodes.get(node) else {
                continue;
            };
            let path = state.path(*node, None).escape_ascii().to_string();
            let why = stuck.get(node).map(ToString::to_string).unwrap_or_default();
            tracing::error!(
                path,
                why,
                "the checkpoint has the file as it was before: what is damaged must be written anew"
            );
            let again = all_of(state, *node, inode);
            let commit = Logged {
                path: Vec::new(),
                to: Vec::new(),
                op: Op::Commit,
            };
            let all: Vec<&Logged> = again.iter().chain([&commit]).collect();
            let last = self.log(Class::Reserve, self.next_transaction(), &all)?;
            let first = last.0 - again.len() as u64;
            for (seq, one) in (first..).zip(&again) {
                apply(state, &one.op, seq, self.options.chunk_bytes());
            }
            held_back.push(HeldBack { path, why });
        }
        *self.held_back.lock() = held_back;
        Ok(())
    }
}

/// The changes that make of a file, whatever it was, what it is now.
fn all_of(state: &State, node: NodeId, inode: &Inode) -> Vec<Logged> {
    let Body::File(content) = &inode.body else {
        return Vec::new();
    };
    let ranges = content.ranges();
    let ranges: Vec<_> = ranges.iter().map(|(_, extent)| extent.clone()).collect();
    let stamp = Stamp {
        time: inode.mtime.into(),
        mode: None,
    };
    let mut ops = Vec::new();
    let mut offset = 0;
    for ranges in framed(&ranges) {
        let len: u64 = ranges.iter().map(|range| range.len).sum();
        ops.push(Op::Share {
            node,
            offset,
            stamp,
            ranges,
        });
        offset += len;
    }
    let size = content.size();
    ops.push(Op::Resize { node, size, stamp });
    ops.push(Op::Attr(times_of(inode, node, inode.ctime.into())));
    let path = state.way(node, None);
    let logged = |op| Logged {
        path: path.clone(),
        to: Vec::new(),
        op,
    };
    ops.into_iter().map(logged).collect()
}
