//! Words and bits of system calls as calls on the tree. Pure.

use bytes::Bytes;

use crate::tree::TreeError;
use crate::tree::mfs::{Allocate, New, RenameMode, Seek, XattrMode};

/// What `mknod` is to make; `rdev` counts for devices only.
pub(super) fn new_node(mode: u32, rdev: u32) -> Result<New, TreeError> {
    match mode & libc::S_IFMT {
        // No type is a file: mknod(2).
        0 | libc::S_IFREG => Ok(New::File),
        libc::S_IFIFO => Ok(New::Fifo),
        libc::S_IFSOCK => Ok(New::Socket),
        libc::S_IFCHR => Ok(New::CharDevice(rdev)),
        libc::S_IFBLK => Ok(New::BlockDevice(rdev)),
        _ => Err(TreeError::Invalid("mknod makes no such type")),
    }
}

/// What `renameat2` is to do.
pub(super) fn rename_mode(flags: u32) -> Result<RenameMode, TreeError> {
    match flags {
        0 => Ok(RenameMode::Replace),
        libc::RENAME_NOREPLACE => Ok(RenameMode::NoReplace),
        libc::RENAME_EXCHANGE => Ok(RenameMode::Exchange),
        _ => Err(TreeError::Invalid("no such way to rename")),
    }
}

/// What `fallocate` is to do.
pub(super) fn allocate(mode: i32) -> Result<Allocate, TreeError> {
    let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
    match mode & !libc::FALLOC_FL_KEEP_SIZE {
        0 => Ok(Allocate::Reserve { keep_size }),
        libc::FALLOC_FL_PUNCH_HOLE if keep_size => Ok(Allocate::Punch),
        libc::FALLOC_FL_ZERO_RANGE => Ok(Allocate::Zero { keep_size }),
        _ => Err(TreeError::Unsupported("this mode of fallocate")),
    }
}

/// What `lseek` looks for; the rest of it is the kernel's.
pub(super) fn seek(whence: i32) -> Result<Seek, TreeError> {
    match whence {
        libc::SEEK_DATA => Ok(Seek::Data),
        libc::SEEK_HOLE => Ok(Seek::Hole),
        _ => Err(TreeError::Invalid("no such way to seek")),
    }
}

/// Whether `setxattr` may make or replace.
pub(super) fn xattr_mode(flags: i32) -> Result<XattrMode, TreeError> {
    match flags {
        0 => Ok(XattrMode::Set),
        libc::XATTR_CREATE => Ok(XattrMode::Create),
        libc::XATTR_REPLACE => Ok(XattrMode::Replace),
        _ => Err(TreeError::Invalid("no such way to set an attribute")),
    }
}

/// Setting it mounts a CID, removing it unmounts; it is answered like the other
/// attributes of ours.
pub(super) const MOUNT: &[u8] = b"cidfs.mount";

/// Attributes that are answered and never stored: they follow from the node.
pub(super) fn is_told_only(name: &[u8]) -> bool {
    name.starts_with(b"ipfs.") || name.starts_with(b"cidfs.")
}

/// Whether an extended attribute of this name can be stored.
pub(super) fn may_store(name: &[u8]) -> Result<(), TreeError> {
    const SPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
    if name == MOUNT {
        return Ok(());
    }
    if is_told_only(name) {
        return Err(TreeError::NotPermitted(
            "what it tells follows from the content",
        ));
    }
    if SPACES.contains(&name) {
        return Err(TreeError::Invalid("the attribute has no name"));
    }
    let named = SPACES.iter().any(|space| name.starts_with(space));
    if named || ACLS.contains(&name) {
        Ok(())
    } else {
        Err(TreeError::Unsupported("attributes of this namespace"))
    }
}

/// Writes the names of attributes as `listxattr` gives them. Those of
/// `trusted.` are for root alone: xattr(7).
pub(super) fn names(names: &[Bytes], root: bool) -> Vec<u8> {
    let shown = names
        .iter()
        .filter(|name| root || !name.starts_with(b"trusted."))
        .filter(|name| !is_told_only(name));
    let mut list = Vec::new();
    for name in shown {
        list.extend_from_slice(name);
        list.push(0);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_node_is_made_and_no_other() {
        assert_eq!(new_node(0o644, 0).unwrap(), New::File);
        assert_eq!(new_node(libc::S_IFREG | 0o600, 9).unwrap(), New::File);
        assert_eq!(new_node(libc::S_IFIFO, 0).unwrap(), New::Fifo);
        assert_eq!(new_node(libc::S_IFSOCK, 0).unwrap(), New::Socket);
        assert_eq!(new_node(libc::S_IFCHR, 259).unwrap(), New::CharDevice(259));
        assert_eq!(new_node(libc::S_IFBLK, 7).unwrap(), New::BlockDevice(7));
        for bad in [libc::S_IFDIR, libc::S_IFLNK] {
            assert!(matches!(new_node(bad, 0), Err(TreeError::Invalid(_))));
        }
    }

    #[test]
    fn renames_take_one_flag_and_no_whiteout() {
        assert_eq!(rename_mode(0).unwrap(), RenameMode::Replace);
        assert_eq!(rename_mode(1).unwrap(), RenameMode::NoReplace);
        assert_eq!(rename_mode(2).unwrap(), RenameMode::Exchange);
        for bad in [3, libc::RENAME_WHITEOUT, 8] {
            assert!(matches!(rename_mode(bad), Err(TreeError::Invalid(_))));
        }
    }

    #[test]
    fn fallocate_refuses_what_would_move_bytes() {
        let zero = libc::FALLOC_FL_ZERO_RANGE;
        let keep = libc::FALLOC_FL_KEEP_SIZE;
        let punch = libc::FALLOC_FL_PUNCH_HOLE;
        let reserve = |keep_size| Allocate::Reserve { keep_size };
        assert_eq!(allocate(0).unwrap(), reserve(false));
        assert_eq!(allocate(keep).unwrap(), reserve(true));
        assert_eq!(allocate(keep | punch).unwrap(), Allocate::Punch);
        let zeros = |keep_size| Allocate::Zero { keep_size };
        assert_eq!(allocate(zero).unwrap(), zeros(false));
        assert_eq!(allocate(zero | keep).unwrap(), zeros(true));
        for bad in [
            punch,
            libc::FALLOC_FL_COLLAPSE_RANGE,
            libc::FALLOC_FL_INSERT_RANGE,
            libc::FALLOC_FL_UNSHARE_RANGE,
            zero | punch | keep,
        ] {
            assert!(
                matches!(allocate(bad), Err(TreeError::Unsupported(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn seeks_are_for_data_and_holes() {
        assert_eq!(seek(libc::SEEK_DATA).unwrap(), Seek::Data);
        assert_eq!(seek(libc::SEEK_HOLE).unwrap(), Seek::Hole);
        assert!(seek(libc::SEEK_END).is_err());
    }

    #[test]
    fn attributes_have_a_namespace_that_can_be_stored() {
        for good in [
            "user.a",
            "trusted.a",
            "security.capability",
            "system.posix_acl_default",
        ] {
            assert!(may_store(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in ["user.", "trusted.", "security."] {
            let refused = may_store(bad.as_bytes());
            assert!(matches!(refused, Err(TreeError::Invalid(_))), "{bad}");
        }
        for bad in ["a", "", "system.nfs4_acl", "system.posix_acl_accessory"] {
            let refused = may_store(bad.as_bytes());
            assert!(matches!(refused, Err(TreeError::Unsupported(_))), "{bad}");
        }
        for told in ["ipfs.cid", "cidfs.state"] {
            let refused = may_store(told.as_bytes());
            assert!(matches!(refused, Err(TreeError::NotPermitted(_))), "{told}");
        }
        assert_eq!(xattr_mode(1).unwrap(), XattrMode::Create);
        assert_eq!(xattr_mode(2).unwrap(), XattrMode::Replace);
        assert!(xattr_mode(3).is_err());
    }

    #[test]
    fn lists_hide_what_is_only_told_and_what_is_for_root() {
        let all = ["user.a", "trusted.b", "ipfs.cid"].map(Bytes::from);
        assert_eq!(names(&all, true), b"user.a\0trusted.b\0");
        assert_eq!(names(&all, false), b"user.a\0");
    }
}
