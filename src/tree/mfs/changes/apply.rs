//! Applies a change to the loaded tree: the same for live calls and recovery.
//!
//! The change was validated, live or by [`fits`](super::fits), so it cannot fail;
//! what a damaged journal might name and is not there is passed over.

use bytes::Bytes;

use super::op::{Attr, Make, Mount, Op, Stamp};
use crate::block::DAG_PB;
use crate::tree::mfs::nodes::extents::{Data, Extents};
use crate::tree::mfs::nodes::fault::{Fault, Need};
use crate::tree::mfs::nodes::node::{
    Base, Body, Content, Directory, Inode, Links, Name, Sealed, Symlink, To, Whole,
};
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::types::{Allocate, New, NodeId, NodeKind, RenameMode, Time};

/// Attribute that says which CID was mounted at a node.
pub(in crate::tree::mfs) const MOUNTED: &[u8] = b"cidfs.mount";
/// Attribute of what has held mounted content and counts as made here.
pub(in crate::tree::mfs) const HELD: &[u8] = b"cidfs.held";
/// Attribute that holds the access ACL.
pub(in crate::tree::mfs) const ACL_ACCESS: &[u8] = b"system.posix_acl_access";

/// Applies `op`, whose frame has the sequence number `seq`.
pub(in crate::tree::mfs) fn apply(state: &mut State, op: &Op, seq: u64, chunk: u64) {
    match op {
        Op::Make(one) => make(state, one, seq),
        Op::Link {
            node,
            parent,
            name,
            time,
        } => link(state, *node, (*parent, name), *time, seq),
        Op::Unlink { parent, name, time }
        | Op::Rmdir { parent, name, time }
        | Op::Unmount { parent, name, time } => {
            drop_name(state, (*parent, name), *time, seq);
            touch_directory(state, *parent, *time, seq);
        }
        Op::Rename {
            from,
            to,
            mode,
            time,
        } => rename(state, from, to, *mode, *time, seq),
        Op::Write { .. }
        | Op::WriteBlocks { .. }
        | Op::Resize { .. }
        | Op::Allocate { .. }
        | Op::Share { .. } => {
            if let Some((node, at, stamp)) = op.content() {
                change_file(state, node, stamp, seq, |extents| {
                    put(extents, op, at, chunk)
                });
            }
        }
        Op::Attr(attr) => set_attr(state, attr, seq),
        Op::SetXattr {
            node,
            name,
            value,
            mode,
            time,
        } => {
            change_meta(state, *node, *time, seq, |inode| {
                inode.mode = mode.unwrap_or(inode.mode);
                inode.set_xattr(name.clone(), value.clone());
            });
        }
        Op::RemoveXattr { node, name, time } => {
            change_meta(state, *node, *time, seq, |inode| {
                if **name == *MOUNTED && holds_nodes(inode) {
                    inode.set_xattr(HELD.into(), Bytes::new());
                }
                inode.remove_xattr(name);
            });
        }
        Op::Mount(one) => mount(state, one, seq),
        Op::Checkpoint { .. }
        | Op::Begin
        | Op::Commit
        | Op::Rollback
        | Op::Failed { .. }
        | Op::Synced => {}
    }
}

/// Changes a file's bytes.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only changes of bytes come here"
)]
fn put(extents: &mut Extents, op: &Op, mut at: u64, chunk: u64) {
    match op {
        Op::Write { bytes, .. } => extents.write(at, bytes, chunk),
        Op::WriteBlocks { blocks, .. } => {
            for (cid, len) in blocks {
                extents.put(
                    at,
                    u64::from(*len),
                    Data::Shared {
                        cid: cid.into(),
                        offset: 0,
                    },
                );
                at += u64::from(*len);
            }
        }
        Op::Resize { size, .. } => extents.resize(*size),
        Op::Allocate { what, len, .. } => allocate(extents, *what, at, *len),
        Op::Share { ranges, .. } => {
            for range in ranges {
                match &range.data {
                    Data::Bytes(bytes) => extents.write(at, bytes, chunk),
                    data @ (Data::Hole | Data::Shared { .. }) => {
                        extents.put(at, range.len, data.clone());
                    }
                }
                at += range.len;
            }
        }
        _ => {}
    }
}

fn allocate(extents: &mut Extents, what: Allocate, offset: u64, len: u64) {
    let end = offset + len;
    match what {
        // Content-addressed storage has nothing to reserve: only the length counts.
        Allocate::Reserve { keep_size } => {
            if !keep_size && end > extents.size() {
                extents.resize(end);
            }
        }
        Allocate::Punch => extents.punch(offset, end),
        Allocate::Zero { keep_size } => {
            if !keep_size && end > extents.size() {
                extents.resize(end);
            }
            extents.punch(offset, end);
        }
    }
}

fn make(state: &mut State, one: &Make, seq: u64) {
    let (kind, body, rdev) = match &one.new {
        New::File => (NodeKind::File, Body::File(Content::empty()), 0),
        New::Directory => {
            let directory = Directory {
                complete: true,
                directories: Some(0),
                ..Directory::default()
            };
            (NodeKind::Directory, Body::Directory(directory.into()), 0)
        }
        New::Symlink(target) => (
            NodeKind::Symlink,
            Body::Symlink(Box::new(Symlink {
                target: target.clone(),
                sealed: None,
            })),
            0,
        ),
        New::Fifo => (NodeKind::Fifo, Body::Special, 0),
        New::Socket => (NodeKind::Socket, Body::Special, 0),
        New::CharDevice(rdev) => (NodeKind::CharDevice, Body::Special, *rdev),
        New::BlockDevice(rdev) => (NodeKind::BlockDevice, Body::Special, *rdev),
    };
    let time = one.time.into();
    let mut inode = Inode {
        mode: one.mode,
        uid: one.uid,
        gid: one.gid,
        atime: time,
        mtime: time,
        ctime: time,
        home: Some((one.parent, one.name.clone())),
        ..Inode::plain(kind, body)
    };
    inode.set_rdev(rdev);
    inode.set_xattrs(one.xattrs.iter().cloned().collect());
    add(state, one.node, inode, one.time, seq);
}

/// Adds a new node where it says that it is.
fn add(state: &mut State, node: NodeId, mut inode: Inode, time: Time, seq: u64) {
    inode.set_meta_changed(seq);
    inode.set_content_changed(seq);
    let home = inode.home.clone();
    if let Some(count) = node.count() {
        state.next = state.next.max(count + 1);
    }
    state.insert(node, inode);
    state.dirty.insert(node);
    if let Some((parent, name)) = &home {
        enter(state, node, (*parent, name), time, seq);
    }
}

/// Gives a new node its first name.
fn enter(state: &mut State, node: NodeId, at: (NodeId, &Name), time: Time, seq: u64) {
    let is_directory = is_directory(state, node);
    state.set_entry(at.0, at.1, To::Node(node), seq);
    count_directories(state, at.0, 0, u64::from(is_directory));
    touch_directory(state, at.0, time, seq);
}

/// Applies to the tree a change of a node that was made beside it: only its
/// name is left to appear.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other changes are of the tree"
)]
pub(in crate::tree::mfs) fn attach(state: &mut State, op: &Op, seq: u64, chunk: u64) {
    match op {
        Op::Make(one) => enter(state, one.node, (one.parent, &one.name), one.time, seq),
        Op::Mount(one) => enter(state, one.node, (one.parent, &one.name), one.time, seq),
        Op::Link {
            node,
            parent,
            name,
            time,
        } => {
            state.set_entry(*parent, name, To::Node(*node), seq);
            touch_directory(state, *parent, *time, seq);
        }
        other => apply(state, other, seq, chunk),
    }
}

/// What a mounted CID is at its node.
fn mounted_body(one: &Mount, seq: u64) -> Body {
    let sealed = Sealed {
        cid: (&one.cid).into(),
        tsize: one.tsize,
    };
    match one.kind {
        NodeKind::Directory => {
            let base = Some(Base {
                sealed,
                tally: None,
            });
            Body::Directory(Box::new(Directory {
                base,
                mounted: seq,
                ..Directory::default()
            }))
        }
        NodeKind::Symlink => Body::Symlink(Box::new(Symlink {
            target: one.target.clone(),
            sealed: Some(sealed),
        })),
        NodeKind::File
        | NodeKind::Fifo
        | NodeKind::Socket
        | NodeKind::CharDevice
        | NodeKind::BlockDevice => Body::File(Content::Whole(Whole::new(sealed, one.size))),
    }
}

/// Whether mounted content is more than a raw leaf: numbers below it follow from
/// it, and changes rest on its root.
fn holds_nodes(inode: &Inode) -> bool {
    match &inode.body {
        Body::File(Content::Whole(whole)) => whole.cid().get().codec() == DAG_PB,
        Body::File(Content::Ranges(_)) | Body::Special => false,
        Body::Directory(_) | Body::Symlink(_) => true,
    }
}

fn mount(state: &mut State, one: &Mount, seq: u64) {
    let body = mounted_body(one, seq);
    let mounted = Bytes::from(one.cid.to_string());
    if state.nodes.contains_key(&one.node) {
        let unsealed = unsealed_of(state, one.node);
        state.unsealed_bytes -= unsealed;
        if one.kind == NodeKind::Directory {
            // What the checkpoint records of its former names must not be taken for the new ones'.
            state.gone.insert(one.node);
        }
        change_meta(state, one.node, one.time, seq, |inode| {
            inode.body = body;
            inode.set_content_changed(seq);
            inode.set_xattr(MOUNTED.into(), mounted);
        });
        return;
    }
    let mut inode = Inode {
        mode: one.mode,
        uid: one.uid,
        gid: one.gid,
        atime: one.mtime.into(),
        mtime: one.mtime.into(),
        ctime: one.time.into(),
        home: Some((one.parent, one.name.clone())),
        ..Inode::plain(one.kind, body)
    };
    inode.set_xattr(MOUNTED.into(), mounted);
    add(state, one.node, inode, one.time, seq);
}

fn link(state: &mut State, node: NodeId, at: (NodeId, &Name), time: Time, seq: u64) {
    change_meta(state, node, time, seq, |inode| {
        inode.nlink += 1;
        let mut links = links_of(inode);
        links.insert((at.0, at.1.clone()));
        inode.set_links(links);
        inode.home.get_or_insert_with(|| (at.0, at.1.clone()));
    });
    state.set_entry(at.0, at.1, To::Node(node), seq);
    touch_directory(state, at.0, time, seq);
}

/// Counts directories of a directory out and in.
fn count_directories(state: &mut State, parent: NodeId, out: u64, into: u64) {
    if out == into {
        return;
    }
    if let Some(directory) = state.directory_mut(parent)
        && let Some(count) = &mut directory.directories
    {
        *count = (*count + into).saturating_sub(out);
    }
}

fn is_directory(state: &State, node: NodeId) -> bool {
    state
        .nodes
        .get(&node)
        .is_some_and(|inode| inode.kind == NodeKind::Directory)
}

/// Takes a name away, and the node with its last one, and what is below that.
fn drop_name(state: &mut State, at: (NodeId, &Name), time: Time, seq: u64) {
    let node = match state.find(at.0, at.1) {
        Ok(Some(node)) => Some(node),
        // Content that cannot be had: it was never changed, and nothing is loaded of it.
        Err(Fault::Need(Need::Entry(..))) => None,
        Ok(None) | Err(_) => return,
    };
    state.set_entry(at.0, at.1, To::Absent, seq);
    let Some(node) = node else { return };
    count_directories(state, at.0, u64::from(is_directory(state, node)), 0);
    let mut open = vec![(node, at.0, at.1.clone())];
    while let Some((node, parent, name)) = open.pop() {
        lose_name(state, node, (parent, &name), time, seq, &mut open);
    }
}

/// Takes one of a node's names; what is below a node without names follows.
fn lose_name(
    state: &mut State,
    node: NodeId,
    at: (NodeId, &Name),
    time: Time,
    seq: u64,
    below: &mut Vec<(NodeId, NodeId, Name)>,
) {
    change_meta(state, node, time, seq, |inode| {
        inode.nlink = inode.nlink.saturating_sub(1);
        leave_home(inode, at);
    });
    let Some(inode) = state.nodes.get(&node) else {
        return;
    };
    if inode.nlink > 0 {
        return;
    }
    let is_linked = inode.links().is_some();
    if let Some(directory) = inode.directory() {
        let loaded = loaded_below(directory).into_iter();
        below.extend(loaded.map(|(child, name)| (child, node, name)));
        state.gone.insert(node);
    } else if is_linked {
        // Its record goes by its number.
        state.gone.insert(node);
    }
    if state
        .nodes
        .get(&node)
        .is_some_and(|inode| inode.held() == 0)
    {
        state.remove(node);
    } else {
        // Open somewhere: it lives until it is let go, and is in no checkpoint.
        state.dirty.remove(&node);
    }
}

/// Takes a name that leads nowhere from a node with several.
pub(in crate::tree::mfs) fn lose_link(
    state: &mut State,
    node: NodeId,
    at: (NodeId, &Name),
    seq: u64,
) {
    if let Some(ctime) = state.nodes.get(&node).map(|inode| inode.ctime) {
        lose_name(state, node, at, ctime.into(), seq, &mut Vec::new());
    }
}

fn loaded_below(directory: &Directory) -> Vec<(NodeId, Name)> {
    let loaded = directory
        .entries
        .iter()
        .filter_map(|(key, dentry)| match dentry.to() {
            To::Node(node) => Some((node, key.name.clone())),
            To::Unloaded | To::Absent => None,
        });
    loaded.collect()
}

/// Forgets a name that led to a node.
fn leave_home(inode: &mut Inode, at: (NodeId, &Name)) {
    let gone = (at.0, at.1.clone());
    if let Some(links) = inode.links_mut() {
        links.remove(&gone);
    }
    if inode.home.as_ref() == Some(&gone) {
        inode.home = inode.links().and_then(|links| links.first().cloned());
    }
}

fn rename(
    state: &mut State,
    from: &(NodeId, Name),
    to: &(NodeId, Name),
    mode: RenameMode,
    time: Time,
    seq: u64,
) {
    let Ok(Some(node)) = state.find(from.0, &from.1) else {
        return;
    };
    let moved = u64::from(is_directory(state, node));
    if mode == RenameMode::Exchange {
        let Ok(Some(other)) = state.find(to.0, &to.1) else {
            return;
        };
        let came = u64::from(is_directory(state, other));
        count_directories(state, from.0, moved, came);
        count_directories(state, to.0, came, moved);
        move_home(state, other, to, from, time, seq);
        state.set_entry(from.0, &from.1, To::Node(other), seq);
    } else {
        drop_name(state, (to.0, &to.1), time, seq);
        state.set_entry(from.0, &from.1, To::Absent, seq);
        count_directories(state, from.0, moved, 0);
        count_directories(state, to.0, 0, moved);
    }
    move_home(state, node, from, to, time, seq);
    state.set_entry(to.0, &to.1, To::Node(node), seq);
    touch_directory(state, from.0, time, seq);
    touch_directory(state, to.0, time, seq);
}

fn move_home(
    state: &mut State,
    node: NodeId,
    from: &(NodeId, Name),
    to: &(NodeId, Name),
    time: Time,
    seq: u64,
) {
    change_meta(state, node, time, seq, |inode| {
        if inode.home.as_ref() == Some(from) {
            inode.home = Some(to.clone());
        }
        if let Some(links) = inode.links_mut() {
            links.remove(from);
            links.insert(to.clone());
        }
    });
}

fn set_attr(state: &mut State, attr: &Attr, seq: u64) {
    change_meta(state, attr.node, attr.ctime, seq, |inode| {
        inode.mode = attr.mode.unwrap_or(inode.mode);
        inode.uid = attr.uid.unwrap_or(inode.uid);
        inode.gid = attr.gid.unwrap_or(inode.gid);
        inode.atime = attr.atime.map_or(inode.atime, Into::into);
        inode.mtime = attr.mtime.map_or(inode.mtime, Into::into);
        if let Some(acl) = &attr.acl {
            inode.set_xattr(ACL_ACCESS.into(), acl.clone());
        }
    });
}

/// Changes what `stat` or xattrs show of a node.
fn change_meta(
    state: &mut State,
    node: NodeId,
    time: Time,
    seq: u64,
    change: impl FnOnce(&mut Inode),
) {
    let Some(inode) = state.node_mut(node) else {
        return;
    };
    change(inode);
    inode.ctime = time.into();
    inode.set_meta_changed(seq);
    if inode.nlink > 0 {
        state.dirty.insert(node);
    }
}

/// Changes a file's bytes.
fn change_file(
    state: &mut State,
    node: NodeId,
    stamp: Stamp,
    seq: u64,
    change: impl FnOnce(&mut Extents),
) {
    let before = unsealed_of(state, node);
    change_meta(state, node, stamp.time, seq, |inode| {
        inode.mtime = stamp.time.into();
        inode.mode = stamp.mode.unwrap_or(inode.mode);
        inode.set_content_changed(seq);
        if let Body::File(content) = &mut inode.body {
            change(content.ranges_mut());
        }
    });
    state.unsealed_bytes = state.unsealed_bytes - before + unsealed_of(state, node);
}

fn unsealed_of(state: &State, node: NodeId) -> u64 {
    match state.nodes.get(&node).map(|n| &n.body) {
        Some(Body::File(content)) => content.unsealed_bytes(),
        Some(Body::Directory(_) | Body::Symlink(_) | Body::Special) | None => 0,
    }
}

/// A directory whose entries changed.
fn touch_directory(state: &mut State, node: NodeId, time: Time, seq: u64) {
    change_meta(state, node, time, seq, |inode| {
        inode.mtime = time.into();
        inode.set_content_changed(seq);
    });
}

/// The links of a node that has one name and may get more.
fn links_of(inode: &Inode) -> Links {
    inode.names().cloned().collect()
}
