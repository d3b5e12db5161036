//! Where an entry of the journal says that something is.
//!
//! A path from the root of the tree. Where that is long, the number of a
//! directory that was made here, and the path from there: so an entry never
//! outgrows its frame, however deep the tree is. Such a directory is found by
//! its number, since it is loaded or has a record of its place.

use super::op::{Logged, Op};
use crate::config::{PATH_BYTES_MAX, TREE_WAY_BYTES_MAX};
use crate::tree::error::TreeError;
use crate::tree::mfs::nodes::node::Name;
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::types::{NodeId, NodeKind};

/// Begins a way from a number; the eight bytes of that follow. No path begins so.
const NUMBER: u8 = 0;
/// Bytes before the path of such a way.
const NUMBER_BYTES: usize = 9;

impl State {
    /// Where a node, or a name in it, is; empty where it has no name any more.
    pub(in crate::tree::mfs) fn way(&self, node: NodeId, name: Option<&[u8]>) -> Vec<u8> {
        let mut parts: Vec<&[u8]> = name.into_iter().collect();
        let mut bytes = name.map_or(0, |name| name.len() + 1);
        // The highest directory to begin with so far, and how many names are below it.
        let mut from = None;
        let mut at = node;
        while at != NodeId::ROOT {
            let Some(inode) = self.nodes.get(&at) else {
                return Vec::new();
            };
            let was_made = inode.kind == NodeKind::Directory && at.count().is_some();
            if was_made && (bytes <= PATH_BYTES_MAX || from.is_none()) {
                from = Some((at, parts.len()));
            }
            match &inode.home {
                _ if bytes > PATH_BYTES_MAX && from.is_some() => break,
                Some((parent, name)) => {
                    parts.push(name);
                    bytes += name.len() + 1;
                    at = *parent;
                }
                // It was unlinked while it was open.
                None => return Vec::new(),
            }
        }
        match from.filter(|_| bytes > PATH_BYTES_MAX) {
            Some((from, count)) => from_number(from, parts.get(..count).unwrap_or_default()),
            None => joined(Vec::new(), &parts),
        }
    }
}

/// A path of names that are given from the last to the first.
fn joined(mut path: Vec<u8>, parts: &[&[u8]]) -> Vec<u8> {
    let is_root = path.is_empty() && parts.is_empty();
    path.reserve(parts.iter().map(|part| part.len() + 1).sum());
    for part in parts.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if is_root {
        path.push(b'/');
    }
    path
}

fn from_number(from: NodeId, parts: &[&[u8]]) -> Vec<u8> {
    let mut way = vec![NUMBER];
    way.extend(from.number().to_le_bytes());
    joined(way, parts)
}

/// The directory that a way begins with, and the path from there; `None` where
/// it is malformed.
pub(in crate::tree::mfs) fn begin(way: &[u8]) -> Option<(NodeId, &[u8])> {
    if way.first() != Some(&NUMBER) {
        return Some((NodeId::ROOT, way));
    }
    let (head, rest) = way.split_at_checked(NUMBER_BYTES)?;
    let number = u64::from_le_bytes(head.get(1..)?.try_into().ok()?);
    Some((NodeId::from_number(number)?, rest))
}

/// A way as people see it: a number in brackets in the place of what is left out.
pub(in crate::tree::mfs) fn shown(way: Vec<u8>) -> Vec<u8> {
    match begin(&way) {
        Some((from, rest)) if way.first() == Some(&NUMBER) => {
            let mut shown = format!("[{}]", from.number()).into_bytes();
            shown.extend_from_slice(rest);
            shown
        }
        Some(_) | None => way,
    }
}

impl Logged {
    /// Refuses what lies deeper in mounted content than an entry can say.
    pub(in crate::tree::mfs) fn check_ways(&self) -> Result<(), TreeError> {
        match self.path.len().max(self.to.len()) > TREE_WAY_BYTES_MAX {
            true => Err(TreeError::NameTooLong),
            false => Ok(()),
        }
    }

    /// Shortens ways to what is made in the same transaction, which no recovery
    /// has to look for.
    pub(in crate::tree::mfs) fn shorten_made(&mut self) {
        if self.path.len().max(self.to.len()) <= PATH_BYTES_MAX {
            return;
        }
        let made = match &self.op {
            Op::Make(one) => Some((one.parent, &one.name)),
            Op::Mount(one) => Some((one.parent, &one.name)),
            Op::Link { parent, name, .. } => Some((*parent, name)),
            Op::Unlink { .. }
            | Op::Rmdir { .. }
            | Op::Rename { .. }
            | Op::Write { .. }
            | Op::WriteBlocks { .. }
            | Op::Resize { .. }
            | Op::Allocate { .. }
            | Op::Share { .. }
            | Op::Attr(_)
            | Op::SetXattr { .. }
            | Op::RemoveXattr { .. }
            | Op::Unmount { .. }
            | Op::Checkpoint { .. }
            | Op::Begin
            | Op::Commit
            | Op::Rollback
            | Op::Failed { .. }
            | Op::Synced => None,
        };
        let at = |(parent, name): (NodeId, &Name)| from_number(parent, &[name]);
        let made = made.map(at).unwrap_or_default();
        if self.to.is_empty() {
            self.path = made;
        } else {
            (self.path, self.to) = (Vec::new(), made);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::mfs::nodes::node::{Body, Directory, Inode};

    /// A chain of directories with names of 200 bytes, made here or mounted.
    fn chain(depth: u64, made: impl Fn(u64) -> bool) -> (State, NodeId) {
        let mut state = State::default();
        let mut parent = NodeId::ROOT;
        for index in 1..=depth {
            let node = match made(index) {
                true => NodeId::counted(index),
                false => NodeId::from_hash(1000 + index),
            };
            let body = Body::Directory(Directory::default().into());
            let mut inode = Inode::plain(NodeKind::Directory, body);
            inode.home = Some((parent, Name::from(&[b'd'; 200][..])));
            state.insert(node, inode);
            parent = node;
        }
        (state, parent)
    }

    #[test]
    fn a_short_way_is_the_path() {
        let (state, last) = chain(3, |_| true);
        assert_eq!(state.way(last, Some(b"f")), state.path(last, Some(b"f")));
        assert_eq!(state.way(NodeId::ROOT, None), b"/");
        assert_eq!(shown(b"/a".to_vec()), b"/a");
        assert_eq!(begin(b"/a"), Some((NodeId::ROOT, &b"/a"[..])));
    }

    #[test]
    fn a_long_way_begins_at_a_directory_that_was_made_here() {
        let (state, last) = chain(4000, |_| true);
        let way = state.way(last, Some(b"f"));
        assert!(way.len() <= PATH_BYTES_MAX + NUMBER_BYTES, "{}", way.len());
        let (from, rest) = begin(&way).unwrap();
        let path = state.path(last, Some(b"f"));
        let above = state.path(from, None);
        assert_eq!([&above[..], rest].concat(), path);
        let shown = String::from_utf8(shown(way)).unwrap();
        assert!(shown.starts_with(&format!("[{}]/ddd", from.number())));
    }

    #[test]
    fn in_mounted_content_a_way_goes_up_to_where_that_is_mounted() {
        let (state, last) = chain(200, |index| index < 10);
        let way = state.way(last, None);
        let (from, rest) = begin(&way).unwrap();
        assert_eq!(from, NodeId::counted(9));
        assert_eq!(rest.len(), 191 * 201);
    }

    #[test]
    fn a_way_that_is_cut_off_is_malformed() {
        assert_eq!(begin(&[NUMBER, 1, 2, 3]), None);
        assert_eq!(begin(&[NUMBER; 12]), None);
    }
}
