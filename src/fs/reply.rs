//! Outcomes as the library's replies.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fuser::{
    Errno as FuseErrno, FileAttr, FileType, Generation, INodeNo, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyWrite, ReplyXattr,
};

use super::attr::Stat;
use super::errno::Errno;
use super::files::Told;
use crate::config::REQUEST_BYTES_MAX;
use crate::tree::Kind;

impl From<Errno> for FuseErrno {
    fn from(errno: Errno) -> Self {
        Self::from_i32(errno.0)
    }
}

impl From<&Stat> for FileAttr {
    fn from(stat: &Stat) -> Self {
        Self {
            ino: INodeNo(stat.ino),
            size: stat.size,
            blocks: stat.blocks,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
            crtime: SystemTime::UNIX_EPOCH,
            kind: file_type(stat.kind),
            perm: stat.mode,
            nlink: stat.nlink,
            uid: stat.uid,
            gid: stat.gid,
            rdev: stat.rdev,
            blksize: REQUEST_BYTES_MAX,
            flags: 0,
        }
    }
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

/// Answers with an inode under a name; a name that is absent may be taken for
/// that for `absent`.
pub(super) fn found(reply: ReplyEntry, absent: Duration) -> impl FnOnce(Result<Told, Errno>) {
    move |outcome| match outcome {
        // Inode 0 is a negative entry, kept like any other: it is proven.
        Err(Errno(libc::ENOENT)) => reply.entry(&absent, &no_attr(), Generation(0)),
        outcome => entry(reply)(outcome),
    }
}

/// Answers with an inode under a name.
pub(super) fn entry(reply: ReplyEntry) -> impl FnOnce(Result<Told, Errno>) {
    move |outcome| match outcome {
        Ok(told) => {
            let attr = FileAttr::from(&told.stat);
            reply.entry_with_ttls(&told.attr_ttl, &told.ttl, &attr, Generation(0));
        }
        Err(errno) => reply.error(errno.into()),
    }
}

/// Answers with attributes.
pub(super) fn attr(reply: ReplyAttr) -> impl FnOnce(Result<Told, Errno>) {
    move |outcome| match outcome {
        Ok(told) => reply.attr(&told.attr_ttl, &FileAttr::from(&told.stat)),
        Err(errno) => reply.error(errno.into()),
    }
}

/// Answers with bytes.
pub(super) fn data<B: AsRef<[u8]>>(reply: ReplyData) -> impl FnOnce(Result<B, Errno>) {
    move |outcome| match outcome {
        Ok(bytes) => reply.data(bytes.as_ref()),
        Err(errno) => reply.error(errno.into()),
    }
}

/// Answers that it is done.
pub(super) fn done(reply: ReplyEmpty) -> impl FnOnce(Result<(), Errno>) {
    move |outcome| match outcome {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno.into()),
    }
}

/// Answers with how many bytes were written.
pub(super) fn written(reply: ReplyWrite) -> impl FnOnce(Result<u64, Errno>) {
    move |outcome| match outcome {
        Ok(count) => reply.written(u32::try_from(count).unwrap_or(u32::MAX)),
        Err(errno) => reply.error(errno.into()),
    }
}

/// Answers with the value of an attribute, or with its size where `size` is 0.
pub(super) fn xattr(reply: ReplyXattr, size: u32) -> impl FnOnce(Result<Bytes, Errno>) {
    move |outcome| match outcome {
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() > size as usize => reply.error(FuseErrno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(errno) => reply.error(errno.into()),
    }
}

/// What a negative entry carries: inode 0 and nothing.
fn no_attr() -> FileAttr {
    FileAttr::from(&Stat {
        ino: 0,
        kind: Kind::File,
        size: 0,
        blocks: 0,
        mode: 0,
        uid: 0,
        gid: 0,
        nlink: 0,
        rdev: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
    })
}
