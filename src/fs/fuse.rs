//! The kernel's side: decodes, calls [`Files`], replies. With `reply.rs` and
//! `session.rs` the only place that knows the FUSE library.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno as FuseErrno, FileAttr, FileHandle,
    Filesystem, Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use tokio::runtime::Handle;

use super::errno::report;
use super::files::Files;
use super::forgets::Forgets;
use super::linger::Linger;
use super::ops::{How, statfs};
use super::wait::{self, Terms, serve};
use super::{decode, reply, time};
use crate::config::{NAME_BYTES_MAX, REQUEST_BYTES_MAX, REQUESTS_AHEAD_MAX};
use crate::tree::mfs::{Caller, New, SetAttr, SetTime};

/// A mount's file system as the FUSE library wants it.
pub(super) struct Adapter {
    files: Files,
    runtime: Handle,
    forgets: Forgets,
    next: Arc<Linger>,
}

impl Adapter {
    pub(super) fn new(files: Files, runtime: Handle, next: Arc<Linger>) -> Self {
        let forgets = Forgets::default();
        Self {
            files,
            runtime,
            forgets,
            next,
        }
    }

    fn terms(&self, doing: &'static str, req: &Request) -> Terms<'_> {
        Terms {
            doing,
            pid: req.pid(),
            deadline: self.files.options().deadline,
            closing: &self.files.shared.closing,
            next: &self.next,
        }
    }

    fn files(&self) -> Files {
        self.files.clone()
    }

    fn caller(&self, req: &Request) -> Caller {
        Caller {
            uid: req.uid(),
            gid: req.gid(),
            origin: self.files.origin(),
        }
    }

    /// Makes safe what was acknowledged, on a thread that may block: one that
    /// answers requests would hold up what has nothing to do with the disk.
    fn sync(&self, ino: INodeNo, reply: ReplyEmpty) {
        let files = self.files();
        self.runtime.spawn_blocking(move || {
            let outcome = files.sync(ino.0).map_err(|error| report("fsync", &error));
            reply::done(reply)(outcome);
        });
    }

    fn capabilities(&self) -> Vec<InitFlags> {
        let mut wanted = vec![
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        ];
        if self.files.shows_writable() {
            wanted.extend([
                // What others change, the kernel is told; by the time of a file
                // it would drop the pages after each of its own writes.
                InitFlags::FUSE_EXPLICIT_INVAL_DATA,
                InitFlags::FUSE_POSIX_ACL,
                // Default ACLs come before the umask, which is ours to apply.
                InitFlags::FUSE_DONT_MASK,
            ]);
        } else {
            // Listings of the namespaces change: their times are asked for.
            wanted.push(InitFlags::FUSE_AUTO_INVAL_DATA);
        }
        wanted
    }
}

fn bytes(name: &OsStr) -> Vec<u8> {
    name.as_bytes().to_vec()
}

fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(time::asked(time)),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        for flag in self.capabilities() {
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
            .files()
            .asked_by(req.pid())
            .lookup(parent.0, bytes(name));
        let absent = self.files.absent_ttl(parent.0);
        let reply = reply::found(reply, absent);
        serve(&self.runtime, self.terms("lookup", req), work, reply);
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        let one = (ino.0, nlookup);
        self.forgets.forget(&self.runtime, &self.files, one);
        self.next.linger();
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let work = self.files().getattr(ino.0);
        let reply = reply::attr(reply);
        serve(&self.runtime, self.terms("getattr", req), work, reply);
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttr {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            kill_privileges: false,
        };
        let caller = (self.caller(req), req.pid());
        let work = self.files().setattr(caller, ino.0, set);
        let reply = reply::attr(reply);
        serve(&self.runtime, self.terms("setattr", req), work, reply);
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let work = self.files().readlink(ino.0);
        let reply = reply::data(reply);
        serve(&self.runtime, self.terms("readlink", req), work, reply);
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let new = match decode::new_node(mode, rdev) {
            Ok(new) => new,
            Err(error) => return reply.error(report("mknod", &error).into()),
        };
        let (caller, place) = (self.caller(req), (parent.0, bytes(name)));
        let work = self.files().make(caller, place, new, (mode, umask));
        let reply = reply::entry(reply);
        serve(&self.runtime, self.terms("mknod", req), work, reply);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let (caller, place) = (self.caller(req), (parent.0, bytes(name)));
        let work = self
            .files()
            .make(caller, place, New::Directory, (mode, umask));
        let reply = reply::entry(reply);
        serve(&self.runtime, self.terms("mkdir", req), work, reply);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (caller, place) = (self.caller(req), (parent.0, bytes(link_name)));
        let new = New::Symlink(Bytes::copy_from_slice(target.as_os_str().as_bytes()));
        let work = self.files().make(caller, place, new, (0o777, 0));
        let reply = reply::entry(reply);
        serve(&self.runtime, self.terms("symlink", req), work, reply);
    }

    fn link(
        &self,
        req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let (caller, place) = (self.caller(req), (newparent.0, bytes(newname)));
        let work = self.files().link(caller, ino.0, place);
        let reply = reply::entry(reply);
        serve(&self.runtime, self.terms("link", req), work, reply);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let work = self.files().unlink(self.caller(req), parent.0, bytes(name));
        let reply = reply::done(reply);
        serve(&self.runtime, self.terms("unlink", req), work, reply);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let work = self.files().rmdir(self.caller(req), parent.0, bytes(name));
        let reply = reply::done(reply);
        serve(&self.runtime, self.terms("rmdir", req), work, reply);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = match decode::rename_mode(flags.bits()) {
            Ok(mode) => mode,
            Err(error) => return reply.error(report("rename", &error).into()),
        };
        let (from, to) = ((parent.0, bytes(name)), (newparent.0, bytes(newname)));
        let work = self.files().rename(self.caller(req), from, to, mode);
        let reply = reply::done(reply);
        serve(&self.runtime, self.terms("rename", req), work, reply);
    }

    fn create(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        // It would open too. The kernel makes the file by MKNOD from now on.
        reply.error(FuseErrno::ENOSYS);
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
        let work = self.files().read(ino.0, offset, size);
        let reply = reply::data(reply);
        serve(&self.runtime, self.terms("read", req), work, reply);
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (caller, at) = (self.caller(req), (ino.0, offset));
        let how = How {
            kill_privileges: write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
            // What was stored through a mapping has its place.
            append: flags.0 & libc::O_APPEND != 0
                && !write_flags.contains(WriteFlags::FUSE_WRITE_CACHE),
            pid: req.pid(),
        };
        let reply = reply::written(reply);
        // The bytes are lent by the library: they are copied only to wait.
        let tried = self.files.write(caller, at, data, how);
        if let Some(outcome) = wait::at_once(&self.runtime, "write", tried) {
            reply(outcome.map(|written| written as u64));
            return self.next.linger();
        }
        let (files, data) = (self.files(), data.to_vec());
        let work = async move {
            let written = files.write(caller, at, &data, how).await?;
            Ok(written as u64)
        };
        serve(&self.runtime, self.terms("write", req), work, reply);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let what = match decode::allocate(mode) {
            Ok(what) => what,
            Err(error) => return reply.error(report("fallocate", &error).into()),
        };
        let range = (offset, length);
        let caller = (self.caller(req), req.pid());
        let work = self.files().allocate(caller, ino.0, what, range);
        let reply = reply::done(reply);
        serve(&self.runtime, self.terms("fallocate", req), work, reply);
    }

    fn lseek(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let what = match decode::seek(whence) {
            Ok(what) => what,
            Err(error) => return reply.error(report("lseek", &error).into()),
        };
        let work = self.files().seek(ino.0, offset, what);
        serve(
            &self.runtime,
            self.terms("lseek", req),
            work,
            move |outcome| match outcome {
                Ok(found) => reply.offset(found),
                Err(errno) => reply.error(errno.into()),
            },
        );
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((ino_in.0, offset_in), (ino_out.0, offset_out));
        let caller = (self.caller(req), req.pid());
        let work = self.files().copy_range(caller, from, to, len);
        let reply = reply::written(reply);
        serve(&self.runtime, self.terms("copy", req), work, reply);
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.sync(ino, reply);
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.sync(ino, reply);
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let files = self.files().asked_by(req.pid());
        let work = files.readdir(ino.0, offset, false);
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
                    let stat = &listed.told.stat;
                    let (ino, kind) = (INodeNo(stat.ino), reply::file_type(stat.kind));
                    if reply.add(ino, listed.cookie, kind, OsStr::from_bytes(&listed.name)) {
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
        let files = self.files();
        let work = self
            .files()
            .asked_by(req.pid())
            .readdir(ino.0, offset, true);
        serve(
            &self.runtime,
            self.terms("readdir", req),
            work,
            move |outcome| {
                let batch = match outcome {
                    Ok(batch) => batch,
                    Err(errno) => return reply.error(errno.into()),
                };
                for listed in batch {
                    let told = &listed.told;
                    // The library takes one time for the name and for the attributes.
                    let ttl = told.ttl.min(told.attr_ttl);
                    let attr = FileAttr::from(&told.stat);
                    let name = OsStr::from_bytes(&listed.name);
                    if reply.add(attr.ino, listed.cookie, name, &ttl, &attr, Generation(0)) {
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

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let mode = match decode::xattr_mode(flags) {
            Ok(mode) => mode,
            Err(error) => return reply.error(report("setxattr", &error).into()),
        };
        let caller = (self.caller(req), req.pid());
        let pair = (bytes(name), value.to_vec());
        let work = self.files().setxattr(caller, ino.0, pair, mode);
        let reply = reply::done(reply);
        serve(&self.runtime, self.terms("setxattr", req), work, reply);
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let work = self.files().getxattr(ino.0, bytes(name));
        let reply = reply::xattr(reply, size);
        serve(&self.runtime, self.terms("getxattr", req), work, reply);
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.files.listxattr(self.caller(req), ino.0);
        let names = names.map_err(|error| report("listxattr", &error));
        reply::xattr(reply, size)(names.map(Bytes::from));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let work = self
            .files()
            .removexattr(self.caller(req), ino.0, bytes(name));
        let reply = reply::done(reply);
        serve(&self.runtime, self.terms("removexattr", req), work, reply);
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // Permissions are the kernel's to check.
        reply.error(FuseErrno::ENOSYS);
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        // What `lsattr` and the like are told by a file system without flags.
        reply.error(FuseErrno::ENOTTY);
    }
}
