//! The kernel's side: decodes, calls [`Files`], replies. With `session.rs`
//! the only place that knows the FUSE library.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, Errno as FuseErrno, FileAttr, FileHandle, FileType, Filesystem, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use tokio::runtime::Handle;

use super::attr::Stat;
use super::errno::{Errno, report};
use super::files::{FOR_EVER, Files};
use super::ops::{Listed, XattrError, statfs};
use super::wait::serve;
use crate::config::{NAME_BYTES_MAX, REQUEST_BYTES_MAX, REQUEST_GRACE, REQUESTS_AHEAD_MAX};
use crate::tree::Kind;

/// A mount's file system as the FUSE library wants it.
pub(super) struct Adapter {
    files: Files,
    runtime: Handle,
}

impl Adapter {
    pub(super) fn new(files: Files, runtime: Handle) -> Self {
        Self { files, runtime }
    }

    fn terms(&self, doing: &'static str, req: &Request) -> (&'static str, u32, Duration) {
        (
            doing,
            req.pid(),
            self.files.options().deadline + REQUEST_GRACE,
        )
    }
}

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
            blocks: stat.blocks(),
            atime: stat.mtime,
            mtime: stat.mtime,
            ctime: stat.mtime,
            crtime: SystemTime::UNIX_EPOCH,
            kind: file_type(stat.kind),
            perm: stat.mode,
            nlink: 1,
            uid: stat.uid,
            gid: stat.gid,
            rdev: 0,
            blksize: REQUEST_BYTES_MAX,
            flags: 0,
        }
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
            // Listings of the namespaces change: their times are asked for.
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        ];
        for flag in wanted {
            if let Err(missing) = config.add_capabilities(flag) {
                tracing::debug!(?missing, "the kernel lacks a capability");
            }
        }
        let asked = [
            config.set_max_write(REQUEST_BYTES_MAX).err(),
            config.set_max_readahead(REQUEST_BYTES_MAX).err(),
        ];
        tracing::debug!(?asked, "nearest limits that the kernel takes");
        for set in [
            KernelConfig::set_max_background,
            KernelConfig::set_congestion_threshold,
        ] {
            if let Err(nearest) = set(config, REQUESTS_AHEAD_MAX) {
                tracing::debug!(nearest, "the kernel takes fewer requests at once");
            }
        }
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let work = self
            .files
            .clone()
            .lookup(parent.0, name.as_bytes().to_vec());
        let attr_of_absent = absent();
        serve(
            &self.runtime,
            self.terms("lookup", req),
            work,
            move |outcome| match outcome {
                Ok(told) => {
                    let attr = FileAttr::from(&told.stat);
                    reply.entry_with_ttls(&told.attr_ttl, &told.ttl, &attr, Generation(0));
                }
                // Inode 0 is a negative entry, kept like any other: it is proven.
                Err(Errno(libc::ENOENT)) => reply.entry(&FOR_EVER, &attr_of_absent, Generation(0)),
                Err(errno) => reply.error(errno.into()),
            },
        );
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.files.forget(ino.0, nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let work = self.files.clone().getattr(ino.0);
        serve(
            &self.runtime,
            self.terms("getattr", req),
            work,
            move |outcome| match outcome {
                Ok(told) => reply.attr(&told.attr_ttl, &FileAttr::from(&told.stat)),
                Err(errno) => reply.error(errno.into()),
            },
        );
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let work = self.files.clone().readlink(ino.0);
        serve(
            &self.runtime,
            self.terms("readlink", req),
            work,
            move |outcome| match outcome {
                Ok(target) => reply.data(&target),
                Err(errno) => reply.error(errno.into()),
            },
        );
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Once answered so, the kernel opens and closes without asking.
        reply.error(FuseErrno::ENOSYS);
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(FuseErrno::ENOSYS);
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(FuseErrno::ENOSYS);
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let work = self.files.clone().read(ino.0, offset, size);
        serve(
            &self.runtime,
            self.terms("read", req),
            work,
            move |outcome| match outcome {
                Ok(bytes) => reply.data(&bytes),
                Err(errno) => reply.error(errno.into()),
            },
        );
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let work = self.files.clone().readdir(ino.0, offset);
        serve(
            &self.runtime,
            self.terms("readdir", req),
            work,
            move |outcome| {
                let batch = match outcome {
                    Ok(batch) => batch,
                    Err(errno) => return reply.error(errno.into()),
                };
                for Listed {
                    cookie, name, told, ..
                } in &batch
                {
                    let (ino, kind) = (INodeNo(told.stat.ino), file_type(told.stat.kind));
                    if reply.add(ino, *cookie, kind, OsStr::from_bytes(name)) {
                        break;
                    }
                }
                reply.ok();
            },
        );
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let files = self.files.clone();
        let work = self.files.clone().readdir(ino.0, offset);
        serve(
            &self.runtime,
            self.terms("readdir", req),
            work,
            move |outcome| {
                let batch = match outcome {
                    Ok(batch) => batch,
                    Err(errno) => return reply.error(errno.into()),
                };
                for listed in &batch {
                    let Listed {
                        cookie, name, told, ..
                    } = listed;
                    // The library takes one time for the name and for the attributes.
                    let ttl = told.ttl.min(told.attr_ttl);
                    let attr = FileAttr::from(&told.stat);
                    let name = OsStr::from_bytes(name);
                    if reply.add(attr.ino, *cookie, name, &ttl, &attr, Generation(0)) {
                        break;
                    }
                    files.told(ino.0, listed);
                }
                reply.ok();
            },
        );
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let space = statfs(self.files.options().space_of.as_deref());
        let (blocks, bfree, bavail, files, ffree, frsize) = space;
        reply.statfs(
            blocks,
            bfree,
            bavail,
            files,
            ffree,
            frsize,
            NAME_BYTES_MAX as u32,
            frsize,
        );
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let work = self.files.clone().getxattr(ino.0, name.as_bytes().to_vec());
        serve(
            &self.runtime,
            self.terms("getxattr", req),
            work,
            move |outcome| match outcome {
                Ok(Ok(value)) if size == 0 => reply.size(value.len() as u32),
                Ok(Ok(value)) if value.len() > size as usize => reply.error(FuseErrno::ERANGE),
                Ok(Ok(value)) => reply.data(value.as_bytes()),
                Ok(Err(XattrError::Absent)) => reply.error(FuseErrno::ENODATA),
                Ok(Err(XattrError::Tree(error))) => reply.error(report("getxattr", &error).into()),
                Err(errno) => reply.error(errno.into()),
            },
        );
    }

    fn listxattr(&self, _req: &Request, _ino: INodeNo, size: u32, reply: ReplyXattr) {
        if size == 0 {
            reply.size(0)
        } else {
            reply.data(&[])
        }
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // Permissions are the kernel's to check.
        reply.error(FuseErrno::ENOSYS);
    }
}

/// What a negative entry carries: inode 0 and nothing.
fn absent() -> FileAttr {
    FileAttr::from(&Stat {
        ino: 0,
        kind: Kind::File,
        size: 0,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: SystemTime::UNIX_EPOCH,
    })
}
