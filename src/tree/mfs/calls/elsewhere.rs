//! What of the tree is not expected to be here: content that was only referred to.
//!
//! A block that is missing is a loss if it was written here, and as it should be
//! if it belongs to content that was mounted, or shared from elsewhere, and was
//! never fetched. Which of them it is follows from what is recorded of the file
//! or directory: mounted content has the attribute `cidfs.mount` at its root and
//! numbers of its own kind below, and a file that shares content which was not
//! here has `cidfs.elsewhere`.

use super::xattr::check_room;
use crate::tree::mfs::changes::apply::MOUNTED;
use crate::tree::mfs::changes::op::Op;
use crate::tree::mfs::nodes::node::Inode;
use crate::tree::mfs::types::{NodeId, Time};
use crate::tree::posix::record::Posix;

/// Attribute of what was shared from content that was not here. Never listed.
pub(in crate::tree::mfs) const ELSEWHERE: &[u8] = b"cidfs.elsewhere";

/// Whether content of a node may be elsewhere.
pub(in crate::tree::mfs) fn is_elsewhere(node: NodeId, inode: &Inode) -> bool {
    let has = |name| inode.xattr(name).is_some();
    node.count().is_none() && node != NodeId::ROOT || has(MOUNTED) || has(ELSEWHERE)
}

/// The same, of a node as it is recorded.
pub(in crate::tree::mfs) fn is_recorded_elsewhere(number: u64, posix: &Posix) -> bool {
    let node = NodeId::from_number(number);
    let has = |name: &[u8]| posix.xattrs.contains_key(name);
    node.is_none_or(|node| node.count().is_none() && node != NodeId::ROOT)
        || has(MOUNTED)
        || has(ELSEWHERE)
}

/// Notes that content of a node may be elsewhere, unless that is known, or its
/// record has no room: `inode` has the attributes that it has or will have.
pub(in crate::tree::mfs) fn note_elsewhere(
    node: NodeId,
    inode: Option<&Inode>,
    time: Time,
) -> Option<Op> {
    const VALUE: &[u8] = b"1";
    let has_room = |inode: &Inode| check_room(inode, ELSEWHERE, VALUE).is_ok();
    let wanted = inode.is_none_or(|inode| !is_elsewhere(node, inode) && has_room(inode));
    wanted.then(|| Op::SetXattr {
        node,
        name: ELSEWHERE.into(),
        value: bytes::Bytes::from_static(VALUE),
        mode: None,
        time,
    })
}

/// Takes that back, for a file whose content is all gone.
pub(in crate::tree::mfs) fn forget_elsewhere(
    node: NodeId,
    inode: &Inode,
    time: Time,
) -> Option<Op> {
    inode.xattr(ELSEWHERE).map(|_| Op::RemoveXattr {
        node,
        name: ELSEWHERE.into(),
        time,
    })
}
