//! CIDs at paths: a node that refers to content, whatever its size.
//!
//! Nothing is copied and nothing below the root block is fetched. Reading
//! fetches on demand; what is written below keeps the rest shared.

use bytes::Bytes;

use super::content::store_failed;
use super::xattr::check_room;
use crate::block::Cid;
use crate::cache::Referring;
use crate::tree::error::TreeError;
use crate::tree::mfs::changes::apply::{HELD, MOUNTED};
use crate::tree::mfs::changes::op::{Mount, Op};
use crate::tree::mfs::nodes::node::{Body, Name};
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::path;
use crate::tree::mfs::perform::Plan;
use crate::tree::mfs::types::{Caller, NodeId, NodeKind, Time};
use crate::tree::mfs::{CONTROL, Mfs};
use crate::unixfs::MetaKind;

/// Content that can be mounted.
#[derive(Debug, Clone)]
pub struct Content {
    cid: Cid,
    kind: NodeKind,
    size: u64,
    tsize: u64,
    target: Bytes,
    mode: u32,
    mtime: Time,
}

impl Mfs {
    /// Mounts the content that `value` says at an empty directory or file, which
    /// keeps its number, owner and mode.
    pub(in crate::tree::mfs) async fn mount_at_node(
        &self,
        caller: Caller,
        node: NodeId,
        value: &[u8],
    ) -> Result<(), TreeError> {
        let cid = self.meant(value).await?;
        let _held = self.hold_content(vec![cid]).await?;
        let content = self.content(&cid).await?;
        self.sealed.sync(&self.blocks)?;
        let plan = |state: &mut State, time: Time| {
            let inode = state.node(node)?;
            check_room(inode, MOUNTED, cid.to_string().as_bytes())?;
            let marks = [MOUNTED, HELD].map(|name| inode.xattr(name).is_some());
            let had_content = marks.contains(&true) || node.count().is_none();
            if inode.kind == NodeKind::Directory && had_content {
                // Numbers of unchanged content follow from where it is: those of
                // what was here, and was moved away, must not be given twice.
                return Err(TreeError::Busy("a directory that has held mounted content").into());
            }
            if inode.kind != content.kind {
                return Err(
                    TreeError::Invalid("the content is of another kind than the node").into(),
                );
            }
            match &inode.body {
                Body::File(file) if file.size() == 0 => {}
                Body::File(_) => return Err(TreeError::Busy("the file is not empty").into()),
                Body::Directory(_) if state.is_empty(node)? => {}
                Body::Directory(_) | Body::Symlink(_) | Body::Special => {
                    return Err(TreeError::NotEmpty.into());
                }
            }
            let at = inode
                .home
                .clone()
                .ok_or(TreeError::Busy("the root of the tree"))?;
            let op = Op::Mount(content.mount(at, node, caller, time));
            Ok(Plan::of(state.way(node, None), op, ()))
        };
        // To the mount that asks too: its kernel knows the node as empty.
        self.change(CONTROL, plan, |_, ()| ()).await
    }

    /// Takes away what was mounted at a node, with its name; refused where something
    /// in it was changed.
    pub(in crate::tree::mfs) async fn unmount_node(
        &self,
        caller: Caller,
        node: NodeId,
    ) -> Result<(), TreeError> {
        let path = {
            let state = self.state.lock();
            let inode = state.node(node)?;
            inode.xattr(MOUNTED).ok_or(TreeError::NoAttribute)?;
            state.path(node, None)
        };
        if path.is_empty() {
            return Err(TreeError::NotFound);
        }
        let (path, force) = (path::TreePath::parse(&path)?, false);
        // To the mount that asks too: its kernel knows the name.
        let caller = Caller {
            origin: CONTROL,
            ..caller
        };
        self.perform_one(caller, crate::tree::mfs::Staged::Unmount { path, force })
            .await
    }

    async fn perform_one(
        &self,
        caller: Caller,
        one: crate::tree::mfs::Staged,
    ) -> Result<(), TreeError> {
        match self.perform_staged(caller, &[one]).await {
            Ok(_) => Ok(()),
            Err(
                crate::tree::mfs::Refused::Change { error, .. }
                | crate::tree::mfs::Refused::Whole(error),
            ) => Err(error),
        }
    }

    /// The content that a value of `cidfs.mount` means: a CID, or a path below one.
    async fn meant(&self, value: &[u8]) -> Result<Cid, TreeError> {
        let value = value.trim_ascii();
        let value = value.strip_prefix(b"/ipfs/").unwrap_or(value);
        let mut names = value.split(|byte| *byte == b'/');
        let root = std::str::from_utf8(names.next().unwrap_or_default()).unwrap_or_default();
        let mut at = Cid::try_from(root).map_err(|_| {
            TreeError::Invalid("the value of cidfs.mount is neither a CID nor a path below one")
        })?;
        for name in names.filter(|name| !name.is_empty()) {
            let found = self.reader.find(&at, name).await?;
            at = found.ok_or(TreeError::NotFound)?.cid;
        }
        Ok(at)
    }

    /// Sees that no collection takes content away before the tree refers to it.
    pub(in crate::tree::mfs) async fn hold_content(
        &self,
        cids: Vec<Cid>,
    ) -> Result<Referring, TreeError> {
        self.blocks.refer(cids).await.map_err(store_failed)
    }

    /// Looks at content that is to be mounted. Needs its root block.
    pub async fn content(&self, cid: &Cid) -> Result<Content, TreeError> {
        let meta = self.reader.meta(cid).await?;
        let (kind, plain) = match meta.kind {
            MetaKind::File => (NodeKind::File, 0o644),
            MetaKind::Directory => (NodeKind::Directory, 0o755),
            MetaKind::Symlink => (NodeKind::Symlink, 0o777),
        };
        let target = match meta.kind {
            MetaKind::Symlink => self.reader.readlink(cid).await?,
            MetaKind::File | MetaKind::Directory => Bytes::new(),
        };
        let mtime = meta.mtime.map_or(Time::default(), |t| Time {
            sec: t.seconds,
            nsec: t.nanoseconds,
        });
        Ok(Content {
            cid: *cid,
            kind,
            size: meta.size,
            tsize: self.reader.tsize(cid).await?,
            target,
            mode: meta.mode.unwrap_or(plain),
            mtime,
        })
    }
}

#[cfg(feature = "testing")]
impl Mfs {
    /// Mounts content under a name of a directory.
    pub async fn mount(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
        cid: &Cid,
    ) -> Result<crate::tree::mfs::NodeAttr, TreeError> {
        let path = self.path_of(parent, name)?;
        let content = self.content(cid).await?;
        let plain = false;
        let staged = crate::tree::mfs::Staged::Mount {
            path,
            content,
            plain,
        };
        self.perform_one(caller, staged).await?;
        self.lookup(parent, name, false).await
    }

    /// Takes what is mounted under a name of a directory away.
    pub async fn unmount(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &[u8],
    ) -> Result<(), TreeError> {
        let path = self.path_of(parent, name)?;
        self.perform_one(
            caller,
            crate::tree::mfs::Staged::Unmount { path, force: true },
        )
        .await
    }

    fn path_of(&self, parent: NodeId, name: &[u8]) -> Result<path::TreePath, TreeError> {
        super::entries::check_name(name)?;
        let path = self.state.lock().path(parent, Some(name));
        if path.is_empty() {
            return Err(TreeError::NotFound);
        }
        path::TreePath::parse(&path)
    }
}

impl Content {
    /// Its CID.
    pub fn cid(&self) -> Cid {
        self.cid
    }

    /// What it is.
    pub fn kind(&self) -> NodeKind {
        self.kind
    }

    /// Bytes of a file.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub(in crate::tree::mfs) fn mount(
        &self,
        at: (NodeId, Name),
        node: NodeId,
        caller: Caller,
        time: Time,
    ) -> Mount {
        Mount {
            parent: at.0,
            name: at.1,
            node,
            cid: self.cid,
            kind: self.kind,
            size: self.size,
            tsize: self.tsize,
            target: self.target.clone(),
            mode: self.mode,
            uid: caller.uid,
            gid: caller.gid,
            mtime: self.mtime,
            time,
        }
    }
}
