//! Attributes: mode, owner, times, and the length through them.

use super::content::{content, stamp, without_privileges};
use super::elsewhere::forget_elsewhere;
use super::xattr::acl_for_mode;
use crate::journal::Class;
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::changes::op::{Attr, Logged, Op};
use crate::tree::mfs::nodes::node::Inode;
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::perform::Plan;
use crate::tree::mfs::types::{Caller, NodeAttr, NodeId, NodeKind, SetAttr, SetTime, Time};

impl Mfs {
    /// Sets attributes; a length needs a file. ACL and mode are kept in step.
    pub async fn set_attr(
        &self,
        caller: Caller,
        node: NodeId,
        set: SetAttr,
    ) -> Result<NodeAttr, TreeError> {
        if let Some(size) = set.size {
            if size >= self.attr(node)?.size {
                self.check_room(Class::Normal)?;
            }
            self.prepare_resize(node, size).await?;
        }
        let rest = SetAttr {
            size: None,
            kill_privileges: false,
            ..set
        };
        let plan = |state: &mut State, time: Time| {
            let inode = state.node(node)?;
            self.check_owner(inode, &set)?;
            let mut ops = Vec::new();
            if let Some(size) = set.size {
                content(inode)?;
                let stamp = stamp(inode, time, set.kill_privileges);
                ops.push(Op::Resize { node, size, stamp });
                if size == 0 {
                    ops.extend(forget_elsewhere(node, inode, time));
                }
            }
            if rest != SetAttr::default() {
                ops.push(Op::Attr(attr_op(inode, node, &rest, time)?));
            }
            let path = state.way(node, None);
            let logged = |op| Logged {
                path: path.clone(),
                to: Vec::new(),
                op,
            };
            Ok(Plan {
                logged: ops.into_iter().map(logged).collect(),
                told: (),
            })
        };
        let done = |state: &mut State, ()| state.node(node).map(|inode| inode.attr(node));
        self.change(caller.origin, plan, done).await?
    }

    /// Refuses another owner where only UnixFS is kept, as vfat does.
    pub(in crate::tree::mfs) fn check_owner(
        &self,
        inode: &Inode,
        set: &SetAttr,
    ) -> Result<(), TreeError> {
        let uid = set.uid.is_some_and(|uid| uid != inode.uid);
        let gid = set.gid.is_some_and(|gid| gid != inode.gid);
        if self.options.portable && (uid || gid) {
            return Err(TreeError::NotPermitted("owners are not portable"));
        }
        Ok(())
    }
}

pub(in crate::tree::mfs) fn attr_op(
    inode: &Inode,
    node: NodeId,
    set: &SetAttr,
    now: Time,
) -> Result<Attr, TreeError> {
    let time = |set: Option<SetTime>| {
        set.map(|set| match set {
            SetTime::Now => now,
            SetTime::At(time) => time,
        })
    };
    let mut mode = set.mode.map(|mode| mode & 0o7777);
    let chown = set.uid.is_some() || set.gid.is_some();
    if chown && inode.kind != NodeKind::Directory {
        // Whoever becomes the owner must not get a program that runs as somebody else.
        let killed = without_privileges(mode.unwrap_or(inode.mode));
        mode = (mode.is_some() || killed != inode.mode).then_some(killed);
    }
    let acl = match mode {
        Some(mode) => acl_for_mode(inode, mode)?,
        None => None,
    };
    Ok(Attr {
        node,
        mode,
        uid: set.uid,
        gid: set.gid,
        atime: time(set.atime),
        mtime: time(set.mtime),
        ctime: now,
        acl,
    })
}
