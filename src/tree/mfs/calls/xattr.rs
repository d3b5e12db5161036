//! Extended attributes, and the ACLs among them.

use bytes::Bytes;

use crate::config::{NAME_BYTES_MAX, POSIX_XATTRS_BYTES_MAX, XATTR_BYTES_MAX};
use crate::tree::acl::{self, Acl, AclError};
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::changes::apply::{ACL_ACCESS, MOUNTED};
use crate::tree::mfs::changes::op;
use crate::tree::mfs::changes::op::Op;
use crate::tree::mfs::nodes::fault::Step;
use crate::tree::mfs::nodes::node::{Inode, Name};
use crate::tree::mfs::nodes::state::State;
use crate::tree::mfs::perform::Plan;
use crate::tree::mfs::types::{Caller, NodeId, NodeKind, Time, XattrMode};

/// Attribute of a directory with the ACL that what is made in it inherits.
pub(in crate::tree::mfs) const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
/// Prefixes of what is answered and neither stored nor listed.
const ANSWERED: [&[u8]; 2] = [b"ipfs.", b"cidfs."];
/// Prefixes of what may be stored.
const STORED: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

impl Mfs {
    /// An attribute; `NoAttribute` where there is none. `ipfs.cid`, `ipfs.path`
    /// and `cidfs.*` are answered too, and never listed.
    pub async fn get_xattr(&self, node: NodeId, name: &[u8]) -> Result<Bytes, TreeError> {
        match name {
            b"ipfs.cid" | b"ipfs.path" => {
                let cid = self.cid(node).await?.ok_or(TreeError::NoAttribute)?;
                let prefix = if name == b"ipfs.path" { "/ipfs/" } else { "" };
                Ok(Bytes::from(format!("{prefix}{cid}")))
            }
            b"cidfs.checkpoint" if node == NodeId::ROOT => {
                let root = self.kept.lock().last().map(|one| one.root);
                Ok(Bytes::from(root.ok_or(TreeError::NoAttribute)?.to_string()))
            }
            _ => {
                let state = self.state.lock();
                state
                    .node(node)?
                    .xattr(name)
                    .cloned()
                    .ok_or(TreeError::NoAttribute)
            }
        }
    }

    /// The names of a node's attributes.
    pub fn list_xattr(&self, node: NodeId) -> Result<Vec<Bytes>, TreeError> {
        let state = self.state.lock();
        let names = state.node(node)?.xattrs().map(|(name, _)| name);
        let listed = names.filter(|name| !starts_with(name, &ANSWERED));
        Ok(listed.map(|name| Bytes::copy_from_slice(name)).collect())
    }

    /// Sets an attribute, of a caller who is in no group but its own.
    pub async fn set_xattr(
        &self,
        caller: Caller,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), TreeError> {
        self.set_xattr_among(caller, &[], node, (name, value), mode)
            .await
    }

    /// Sets an attribute. An access ACL sets the mode too, and takes setgid where
    /// the caller is not root and neither its group nor one of `groups` is the
    /// node's; `cidfs.mount` mounts a CID at an empty directory or file.
    pub async fn set_xattr_among(
        &self,
        caller: Caller,
        groups: &[u32],
        node: NodeId,
        (name, value): (&[u8], &[u8]),
        mode: XattrMode,
    ) -> Result<(), TreeError> {
        if name == MOUNTED {
            return self.mount_at_node(caller, node, value).await;
        }
        check_name(name)?;
        if value.len() > XATTR_BYTES_MAX {
            return Err(TreeError::AttributeTooLarge);
        }
        let is_acl = matches!(name, ACL_ACCESS | ACL_DEFAULT);
        let acl = match is_acl {
            true => Acl::decode(value)?,
            false => None,
        };
        let says_more = |acl: &Acl| name == ACL_DEFAULT || acl.equivalent_mode().is_none();
        if self.options.portable && (!is_acl || acl.as_ref().is_some_and(says_more)) {
            // Who copies files goes on where it is not supported, and not where it is forbidden.
            return Err(TreeError::Unsupported("attributes are not portable"));
        }
        let plan = |state: &mut State, time: Time| {
            let inode = state.node(node)?;
            match name {
                ACL_ACCESS | ACL_DEFAULT => {
                    let is_member =
                        caller.uid == 0 || caller.gid == inode.gid || groups.contains(&inode.gid);
                    acl_plan(state, node, name, (acl.as_ref(), is_member), time)
                }
                _ => {
                    check_mode(inode, name, mode)?;
                    check_room(inode, name, value)?;
                    let (name, value): (Name, _) = (name.into(), Bytes::copy_from_slice(value));
                    let op = Op::SetXattr {
                        node,
                        name,
                        value,
                        mode: None,
                        time,
                    };
                    Ok(Plan::of(state.way(node, None), op, ()))
                }
            }
        };
        self.change(caller.origin, plan, |_, ()| ()).await
    }

    /// Takes an attribute away; with `cidfs.mount` what was mounted goes.
    pub async fn remove_xattr(
        &self,
        caller: Caller,
        node: NodeId,
        name: &[u8],
    ) -> Result<(), TreeError> {
        if name == MOUNTED {
            return self.unmount_node(caller, node).await;
        }
        if starts_with(name, &ANSWERED) {
            return Err(TreeError::NotPermitted("this attribute is not stored"));
        }
        let plan = |state: &mut State, time: Time| {
            let inode = state.node(node)?;
            inode.xattr(name).ok_or(TreeError::NoAttribute)?;
            let op = Op::RemoveXattr {
                node,
                name: name.into(),
                time,
            };
            Ok(Plan::of(state.way(node, None), op, ()))
        };
        self.change(caller.origin, plan, |_, ()| ()).await
    }
}

fn starts_with(name: &[u8], prefixes: &[&[u8]]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn check_name(name: &[u8]) -> Result<(), TreeError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(TreeError::Invalid("attribute name too long"));
    }
    if starts_with(name, &ANSWERED) {
        return Err(TreeError::NotPermitted(
            "this attribute is answered, not stored",
        ));
    }
    if starts_with(name, &STORED) || matches!(name, ACL_ACCESS | ACL_DEFAULT) {
        return Ok(());
    }
    Err(TreeError::Unsupported(
        "attributes outside user, trusted and security",
    ))
}

fn check_mode(inode: &Inode, name: &[u8], mode: XattrMode) -> Result<(), TreeError> {
    match (mode, inode.xattr(name).is_some()) {
        (XattrMode::Create, true) => Err(TreeError::Exists),
        (XattrMode::Replace, false) => Err(TreeError::NoAttribute),
        (XattrMode::Set | XattrMode::Create | XattrMode::Replace, _) => Ok(()),
    }
}

/// All attributes of a node together have a limit: that of its record.
pub(in crate::tree::mfs) fn check_room(
    inode: &Inode,
    name: &[u8],
    value: &[u8],
) -> Result<(), TreeError> {
    let others = inode.xattrs();
    let others = others.filter(|(other, _)| ***other != *name);
    let bytes: usize = others.map(|(name, value)| xattr_bytes(name, value)).sum();
    check_xattrs(bytes + xattr_bytes(name, value))
}

/// What an attribute counts against the limit of all of a node.
pub(in crate::tree::mfs) fn xattr_bytes(name: &[u8], value: &[u8]) -> usize {
    name.len() + value.len() + 16
}

/// Refuses attributes that the record of a node has no room for.
pub(in crate::tree::mfs) fn check_xattrs(bytes: usize) -> Result<(), TreeError> {
    if bytes > POSIX_XATTRS_BYTES_MAX {
        let why = format!("attributes of a node over {POSIX_XATTRS_BYTES_MAX} bytes");
        return Err(TreeError::NoSpace(why));
    }
    Ok(())
}

/// Plans that a node gets an ACL, or loses it.
fn acl_plan(
    state: &State,
    node: NodeId,
    name: &[u8],
    (acl, is_member): (Option<&Acl>, bool),
    time: Time,
) -> Step<Plan<()>> {
    let inode = state.node(node)?;
    if inode.kind == NodeKind::Symlink {
        return Err(TreeError::Unsupported("ACLs of symbolic links").into());
    }
    let path = state.way(node, None);
    let is_access = name == ACL_ACCESS;
    if !is_access && inode.kind != NodeKind::Directory {
        return match acl {
            Some(_) => Err(TreeError::NotPermitted("only directories have default ACLs").into()),
            None => Ok(Plan::nothing(())),
        };
    }
    // Who is not in the group must not lend its rights to anyone.
    let kept = if is_member { !0o777 } else { !0o2777 };
    let mode = acl
        .filter(|_| is_access)
        .map(|acl| (inode.mode & kept) | acl.mode_of());
    let minimal = is_access && acl.is_some_and(|acl| acl.equivalent_mode().is_some());
    let name: Name = name.into();
    let op = match acl {
        Some(acl) if !minimal => {
            let value = acl.encode();
            check_room(inode, &name, &value)?;
            Op::SetXattr {
                node,
                name,
                value: value.into(),
                mode,
                time,
            }
        }
        Some(_) | None => {
            let had = inode.xattr(&name).is_some();
            let remove = had.then_some(Op::RemoveXattr { node, name, time });
            let attr = mode.map(|mode| {
                Op::Attr(op::Attr {
                    node,
                    mode: Some(mode),
                    uid: None,
                    gid: None,
                    atime: None,
                    mtime: None,
                    ctime: time,
                    acl: None,
                })
            });
            let logged = |op| op::Logged {
                path: path.clone(),
                to: Vec::new(),
                op,
            };
            let logged = remove.into_iter().chain(attr).map(logged).collect();
            return Ok(Plan { logged, told: () });
        }
    };
    Ok(Plan::of(path, op, ()))
}

/// The access ACL that goes with a new mode, where the node has one.
pub(in crate::tree::mfs) fn acl_for_mode(
    inode: &Inode,
    mode: u32,
) -> Result<Option<Bytes>, TreeError> {
    let Some(value) = inode.xattr(ACL_ACCESS) else {
        return Ok(None);
    };
    let acl = Acl::decode(value)?;
    Ok(acl.map(|acl| acl.chmod(mode).encode().into()))
}

/// Mode and ACLs of what is made in a directory.
pub(in crate::tree::mfs) fn inherited(
    above: &Inode,
    mode: u32,
    umask: u32,
    is_directory: bool,
) -> Result<(u32, Vec<(Name, Bytes)>), TreeError> {
    let Some(value) = above.xattr(ACL_DEFAULT) else {
        return Ok((mode & !(umask & 0o777), Vec::new()));
    };
    let default = Acl::decode(value)?;
    let created = acl::create(default.as_ref(), mode, umask, is_directory);
    let access = created
        .access
        .map(|acl| (ACL_ACCESS.into(), acl.encode().into()));
    let default = created
        .default
        .map(|acl| (ACL_DEFAULT.into(), acl.encode().into()));
    Ok((created.mode, access.into_iter().chain(default).collect()))
}

impl From<AclError> for TreeError {
    fn from(error: AclError) -> Self {
        match error {
            AclError::Version(_) => Self::Unsupported("version of the ACL"),
            AclError::Invalid(_) => Self::Invalid("not a valid ACL"),
        }
    }
}
