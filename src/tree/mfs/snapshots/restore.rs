//! What a kept checkpoint has is brought back, of any size, all or nothing.
//!
//! With all that it has: everything is made anew, its content shared. Content
//! alone: one change for each root, whatever its size. Either is made beside
//! the tree (`detached`) and becomes part of it at once.

mod detached;

use std::collections::HashMap;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::kept::KeptNode;
use crate::block::Cid;
use crate::config::{FETCHES_PER_REQUEST_MAX, MFS_LIST_BATCH, TREE_DEPTH_MAX};
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::calls::content::framed;
use crate::tree::mfs::calls::elsewhere::{is_elsewhere, note_elsewhere};
use crate::tree::mfs::changes::apply::{HELD, MOUNTED};
use crate::tree::mfs::changes::op::{Attr, Logged, Make, Op, Stamp};
use crate::tree::mfs::checkpoint::Checkpointed;
use crate::tree::mfs::nodes::node::{Body, Inode, Name};
use crate::tree::mfs::path::TreePath;
use crate::tree::mfs::types::{Caller, New, NodeId, NodeKind, Time};
use detached::Detached;

/// What was brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The journal entry with which it is there.
    pub last: u64,
    /// How many names were made.
    pub made: u64,
}

/// What is brought back, and to where.
#[derive(Debug, Clone)]
pub struct Restore {
    /// A kept checkpoint.
    pub snapshot: Checkpointed,
    /// Path in it.
    pub from: TreePath,
    /// Path in the tree.
    pub to: TreePath,
    /// What is there goes.
    pub replace: bool,
    /// Only the content, without what UnixFS cannot say.
    pub content_only: bool,
}

impl Mfs {
    /// Brings a path back as a kept checkpoint has it; `each` is told of progress.
    ///
    /// No checkpoint is made meanwhile.
    pub async fn restore(
        &self,
        caller: Caller,
        what: &Restore,
        each: &(dyn Fn(u64) + Sync),
    ) -> Result<Restored, TreeError> {
        // One would stand for entries whose transaction may come to nothing.
        let _no_checkpoint = self.checkpointing.lock().await;
        let mut top = KeptNode::root(what.snapshot);
        for name in what.from.names() {
            top = self.kept_find(&top, name).await?;
        }
        let loaded = self.load_kept(&top).await?;
        if what.to.names().is_empty() {
            loaded.inode.directory().ok_or(TreeError::NotADirectory)?;
        }
        let mut walk = Walk {
            caller,
            detached: Detached::begin(self, caller, &what.to, what.replace).await?,
            links: HashMap::new(),
            open: Vec::new(),
        };
        let made = match what.content_only {
            true => walk.content(top, &what.to).await,
            false => walk.everything(top, &what.to, each).await,
        };
        match made {
            Ok(()) => walk.detached.commit().await,
            Err(error) => Err(walk.detached.refuse(error)),
        }
    }
}

/// A walk through a checkpoint that makes what it meets.
struct Walk<'m> {
    caller: Caller,
    detached: Detached<'m>,
    /// Nodes with several names: what was made of each, and its first path.
    links: HashMap<u64, (NodeId, TreePath)>,
    /// Directories that were made and are to be filled.
    open: Vec<(KeptNode, TreePath, NodeId)>,
}

impl Walk<'_> {
    async fn everything(
        &mut self,
        top: KeptNode,
        to: &TreePath,
        each: &(dyn Fn(u64) + Sync),
    ) -> Result<(), TreeError> {
        if to.names().is_empty() {
            self.open.push((top, to.clone(), NodeId::ROOT));
        } else {
            let parent = self.detached.parent();
            self.make(top, to.clone(), parent).await?;
        }
        while let Some((dir, path, node)) = self.open.pop() {
            self.fill(&dir, &path, node).await?;
            each(self.detached.made());
        }
        Ok(())
    }

    /// Makes what is in a directory, and then sets what that has changed of it.
    async fn fill(
        &mut self,
        dir: &KeptNode,
        path: &TreePath,
        node: NodeId,
    ) -> Result<(), TreeError> {
        let mfs = self.detached.mfs();
        let names = mfs.kept_names(dir).await?;
        for names in names.chunks(MFS_LIST_BATCH) {
            let load = |child: KeptNode| async move {
                match mfs.load_kept(&child).await {
                    Ok(_) => Ok(Some(child)),
                    // A record without content: it is in no listing either.
                    Err(TreeError::NotFound) => Ok(None),
                    Err(error) => Err(error),
                }
            };
            let children = stream::iter(dir.child(names)).map(load);
            let children = children.buffered(FETCHES_PER_REQUEST_MAX);
            let children: Vec<Option<KeptNode>> = children.try_collect().await?;
            for child in children.into_iter().flatten() {
                let here = path.join(child.name());
                self.make(child, here, node).await?;
            }
        }
        let inode = &mfs.load_kept(dir).await?.inode;
        let time = self.detached.time();
        self.detached.log(path, Op::Attr(all_of(inode, node, time)))
    }

    /// Makes a node; a directory is filled later.
    async fn make(
        &mut self,
        kept: KeptNode,
        path: TreePath,
        parent: NodeId,
    ) -> Result<(), TreeError> {
        let (mfs, time) = (self.detached.mfs(), self.detached.time());
        if path.names().len() > TREE_DEPTH_MAX {
            return Err(TreeError::Limit(format!(
                "directories deeper than {TREE_DEPTH_MAX}"
            )));
        }
        let loaded = mfs.load_kept(&kept).await?;
        let (number, inode) = (loaded.number.number(), &loaded.inode);
        let name = path.names().last().cloned();
        let name = name.ok_or(TreeError::Invalid("the root has no name"))?;
        let several = inode.links().is_some_and(|links| links.len() > 1);
        if several && let Some((node, first)) = self.links.get(&number) {
            mfs.check_links()?;
            let linked = Logged {
                path: first.bytes(),
                to: path.bytes(),
                op: Op::Link {
                    node: *node,
                    parent,
                    name,
                    time,
                },
            };
            return self.detached.log_made(linked);
        }
        let node = self.detached.number();
        if several {
            self.links.insert(number, (node, path.clone()));
        }
        if let Some(cid) = mounted(inode) {
            return self.mount(&path, inode, (parent, name, node), &cid).await;
        }
        let made = made(inode, (parent, name, node), time);
        mfs.check_new(&made.new)?;
        self.detached.log_made(logged(&path, Op::Make(made)))?;
        self.share(&path, (loaded.number, inode), node)?;
        if inode.kind == NodeKind::Directory {
            self.open.push((kept, path, node));
            return Ok(());
        }
        self.detached
            .log(&path, Op::Attr(times_of(inode, node, time)))
    }

    /// Puts the content of a file, with its holes, into the new one.
    fn share(
        &mut self,
        path: &TreePath,
        (number, inode): (NodeId, &Inode),
        node: NodeId,
    ) -> Result<(), TreeError> {
        let Body::File(content) = &inode.body else {
            return Ok(());
        };
        let time = self.detached.time();
        if is_elsewhere(number, inode)
            // The mark of a mount is not taken along, and leaves its room.
            && let Some(op) = note_elsewhere(
                node,
                Some(inode).filter(|inode| inode.xattr(MOUNTED).is_none()),
                time,
            )
        {
            self.detached.log(path, op)?;
        }
        let ranges = content.ranges();
        let ranges: Vec<_> = ranges.iter().map(|(_, extent)| extent.clone()).collect();
        let mut offset = 0;
        for ranges in framed(&ranges) {
            let len: u64 = ranges.iter().map(|range| range.len).sum();
            let stamp = Stamp { time, mode: None };
            let op = Op::Share {
                node,
                offset,
                stamp,
                ranges,
            };
            self.detached.log(path, op)?;
            offset += len;
        }
        Ok(())
    }

    /// Mounts what was mounted and is still as it was then.
    async fn mount(
        &mut self,
        path: &TreePath,
        inode: &Inode,
        (parent, name, node): (NodeId, Name, NodeId),
        cid: &Cid,
    ) -> Result<(), TreeError> {
        let time = self.detached.time();
        let content = self.detached.mfs().content(cid).await?;
        let op = content.mount((parent, name), node, self.caller, time);
        self.detached.log_made(logged(path, Op::Mount(op)))?;
        for (name, value) in inode.xattrs() {
            let op = Op::SetXattr {
                node,
                name: name.clone(),
                value: value.clone(),
                mode: None,
                time,
            };
            self.detached.log(path, op)?;
        }
        self.detached.log(path, Op::Attr(all_of(inode, node, time)))
    }

    /// Makes the content of a node part of the tree, whatever its size.
    async fn content(&mut self, top: KeptNode, to: &TreePath) -> Result<(), TreeError> {
        let mfs = self.detached.mfs();
        let cid = mfs.kept_cid(&top).await?;
        let cid = cid.ok_or(TreeError::Invalid("it has no content"))?;
        let mut wanted = Vec::new();
        if to.names().is_empty() {
            let entries = mfs.reader.entries(&cid).await?;
            wanted.extend(entries.into_iter().map(|e| (to.join(&e.name), e.cid)));
        } else {
            wanted.push((to.clone(), cid));
        }
        let (parent, time) = (self.detached.parent(), self.detached.time());
        let loaded = mfs.load_kept(&top).await?;
        let is_elsewhere = is_elsewhere(loaded.number, &loaded.inode);
        for (path, cid) in wanted {
            let Some(name) = path.names().last().cloned() else {
                continue;
            };
            let content = mfs.content(&cid).await?;
            let node = self.detached.number();
            let op = content.mount((parent, name), node, self.caller, time);
            self.detached.log_made(logged(&path, Op::Mount(op)))?;
            if is_elsewhere && let Some(op) = note_elsewhere(node, None, time) {
                self.detached.log(&path, op)?;
            }
            // It is part of the tree, not something mounted.
            let name = MOUNTED.into();
            self.detached
                .log(&path, Op::RemoveXattr { node, name, time })?;
        }
        Ok(())
    }
}

fn logged(path: &TreePath, op: Op) -> Logged {
    Logged {
        path: path.bytes(),
        to: Vec::new(),
        op,
    }
}

/// The content that was mounted at a directory, while it was still that.
fn mounted(inode: &Inode) -> Option<Cid> {
    let text = inode.xattr(MOUNTED)?;
    let cid = Cid::try_from(std::str::from_utf8(text).ok()?).ok()?;
    let base = inode.directory()?.base.as_ref()?;
    (base.sealed.cid.get() == cid).then_some(cid)
}

fn made(inode: &Inode, (parent, name, node): (NodeId, Name, NodeId), time: Time) -> Make {
    let new = match (inode.kind, &inode.body) {
        (NodeKind::Directory, _) => New::Directory,
        (NodeKind::Fifo, _) => New::Fifo,
        (NodeKind::Socket, _) => New::Socket,
        (NodeKind::CharDevice, _) => New::CharDevice(inode.rdev()),
        (NodeKind::BlockDevice, _) => New::BlockDevice(inode.rdev()),
        (_, Body::Symlink(link)) => New::Symlink(link.target.clone()),
        (_, Body::File(_) | Body::Directory(_) | Body::Special) => New::File,
    };
    let xattrs = inode
        .xattrs()
        .filter(|(name, _)| ![MOUNTED, HELD].contains(&&***name));
    Make {
        parent,
        name,
        node,
        new,
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        time,
        xattrs: xattrs.map(|(n, v)| (n.clone(), v.clone())).collect(),
    }
}

pub(in crate::tree::mfs) fn times_of(inode: &Inode, node: NodeId, time: Time) -> Attr {
    Attr {
        node,
        mode: None,
        uid: None,
        gid: None,
        atime: Some(inode.atime.into()),
        mtime: Some(inode.mtime.into()),
        ctime: time,
        acl: None,
    }
}

fn all_of(inode: &Inode, node: NodeId, time: Time) -> Attr {
    Attr {
        mode: Some(inode.mode),
        uid: Some(inode.uid),
        gid: Some(inode.gid),
        ..times_of(inode, node, time)
    }
}
