//! One of the two trees, and the thread that works in it.
//!
//! The thread has the tree as its root directory, so that a path, also one through links, means
//! the same on both sides and leaves neither. Files that are held open are in numbered slots.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "each family of operations hands the rest on to the next"
)]

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use libc::c_long;

use crate::beside_calls::{
    Done, Stat, addr, arg, c, close, entries, fstat, holes, open, pread, pwrite, stat, sys,
};
use crate::beside_ops::{At, Bytes, New, Op, ROOT, SLOTS, Target, User};

/// Nothing takes so long.
const NO_ANSWER: Duration = Duration::from_secs(120);

/// What an operation gave.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Number(i64),
    Bytes(Vec<u8>),
    Names(Vec<(Vec<u8>, u8)>),
    Stat(Stat),
    Wrong(String),
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => {
                let shown = bytes.get(..120).unwrap_or(bytes);
                write!(f, "{} bytes \"{}\"", bytes.len(), shown.escape_ascii())
            }
            Self::Names(names) => {
                let names = names
                    .iter()
                    .map(|(name, kind)| format!("{}:{kind}", name.escape_ascii()));
                f.debug_list().entries(names).finish()
            }
            Self::Stat(stat) => stat.fmt(f),
            Self::Wrong(why) => f.write_str(why),
        }
    }
}

pub(crate) type Answer = Done<Said>;

type Job = Box<dyn FnOnce(&mut Hands) + Send>;

/// A tree, and who works in it.
pub(crate) struct Side {
    root: PathBuf,
    worker: Option<(Sender<Job>, JoinHandle<()>)>,
}

impl Side {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            worker: None,
        }
    }

    /// Lets go of all that is held in the tree.
    pub(crate) fn leave(&mut self) {
        if let Some((jobs, thread)) = self.worker.take() {
            drop(jobs);
            thread.join().unwrap();
        }
    }

    /// Does a piece of work in the tree.
    pub(crate) fn ask<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Hands) -> T + Send + 'static,
    ) -> Result<T, String> {
        let (jobs, _) = self.worker.get_or_insert_with(|| {
            let (jobs, waiting) = channel::<Job>();
            let root = self.root.clone();
            let thread = std::thread::spawn(move || {
                let mut hands = Hands::within(&root);
                for job in waiting {
                    job(&mut hands);
                }
            });
            (jobs, thread)
        });
        let (answer, answered) = channel();
        let job = Box::new(move |hands: &mut Hands| drop(answer.send(job(hands))));
        jobs.send(job).map_err(|_| "its thread has ended")?;
        answered
            .recv_timeout(NO_ANSWER)
            .map_err(|why| format!("no answer: {why}"))
    }
}

/// What the thread holds.
pub(crate) struct Hands {
    slots: [Option<i32>; SLOTS as usize],
    who: User,
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.slots.iter().flatten().for_each(|fd| close(*fd));
    }
}

impl Hands {
    fn within(root: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt;
        sys(libc::SYS_unshare, &[libc::CLONE_FS as usize]).unwrap();
        sys(libc::SYS_chroot, &[addr(&c(root.as_os_str().as_bytes()))]).unwrap();
        sys(libc::SYS_chdir, &[addr(&c(b"/"))]).unwrap();
        Self {
            slots: [None; SLOTS as usize],
            who: ROOT,
        }
    }

    /// Becomes somebody, who can always come back.
    fn become_who(&mut self, who: User) {
        if who == self.who {
            return;
        }
        let (keep, groups) = (usize::MAX, who.groups);
        let uid = |uid: u32| sys(libc::SYS_setresuid, &[keep, uid as usize, keep]).unwrap();
        uid(0);
        let list = groups.as_ptr() as usize;
        sys(libc::SYS_setgroups, &[groups.len(), list]).unwrap();
        sys(libc::SYS_setresgid, &[keep, who.gid as usize, keep]).unwrap();
        uid(who.uid);
        self.who = who;
    }

    /// A slot's file; what no file has where it holds none.
    fn fd(&self, slot: u8) -> i32 {
        self.slots[usize::from(slot)].unwrap_or(-1)
    }

    fn base(&self, at: &At) -> i32 {
        at.base.map_or(libc::AT_FDCWD, |slot| self.fd(slot))
    }

    pub(crate) fn run(&mut self, who: User, umask: u32, op: &Op) -> Answer {
        sys(libc::SYS_umask, &[umask as usize]).unwrap();
        self.become_who(who);
        let answer = self.names(op);
        self.become_who(ROOT);
        answer
    }

    fn names(&mut self, op: &Op) -> Answer {
        let number = match op {
            Op::Make { at, new, mode } => self.make(at, *new, *mode),
            Op::Symlink { at, target } => {
                let (path, target) = (c(&at.path), c(&target.path));
                sys(
                    libc::SYS_symlinkat,
                    &[addr(&target), arg(self.base(at)), addr(&path)],
                )
            }
            Op::Link { from, to, follow } => {
                let follow = if *follow { libc::AT_SYMLINK_FOLLOW } else { 0 };
                self.two(libc::SYS_linkat, from, to, follow as usize)
            }
            Op::Unlink { at, dir } => {
                let flags = if *dir { libc::AT_REMOVEDIR } else { 0 };
                self.one(libc::SYS_unlinkat, at, &[flags as usize])
            }
            Op::Rename { from, to, flags } => {
                self.two(libc::SYS_renameat2, from, to, *flags as usize)
            }
            Op::Access { at, mode } => self.one(
                libc::SYS_faccessat2,
                at,
                &[*mode as usize, libc::AT_EACCESS as usize],
            ),
            Op::Open {
                at,
                flags,
                mode,
                slot,
            } => self.hold(at, *flags, *mode, *slot),
            Op::Close { slot } => {
                let fd = self.slots[usize::from(*slot)].take();
                sys(libc::SYS_close, &[arg(fd.unwrap_or(-1))])
            }
            _ => return self.bytes(op),
        };
        number.map(Said::Number)
    }

    /// A call on a directory, a path and more.
    fn one(&self, number: c_long, at: &At, more: &[usize]) -> Done<i64> {
        let path = c(&at.path);
        let mut args = vec![arg(self.base(at)), addr(&path)];
        args.extend(more);
        sys(number, &args)
    }

    fn two(&self, number: c_long, from: &At, to: &At, flags: usize) -> Done<i64> {
        let path = c(&to.path);
        self.one(number, from, &[arg(self.base(to)), addr(&path), flags])
    }

    fn make(&self, at: &At, new: New, mode: u32) -> Done<i64> {
        let (kind, rdev) = match new {
            New::Dir => return self.one(libc::SYS_mkdirat, at, &[mode as usize]),
            New::File => (libc::S_IFREG, 0),
            New::Fifo => (libc::S_IFIFO, 0),
            New::Socket => (libc::S_IFSOCK, 0),
            New::Char(rdev) => (libc::S_IFCHR, rdev),
            New::Block(rdev) => (libc::S_IFBLK, rdev),
            New::Bad => (libc::S_IFMT, 0),
        };
        let mode = (kind | mode) as usize;
        self.one(libc::SYS_mknodat, at, &[mode, rdev as usize])
    }

    fn hold(&mut self, at: &At, flags: i32, mode: u32, slot: u8) -> Done<i64> {
        let fd = open(self.base(at), &c(&at.path), flags, mode)?;
        if let Some(before) = self.slots[usize::from(slot)].replace(fd) {
            close(before);
        }
        Ok(0)
    }

    fn bytes(&mut self, op: &Op) -> Answer {
        let number = match op {
            Op::Save {
                at,
                flags,
                off,
                bytes,
            } => {
                let fd = open(self.base(at), &c(&at.path), *flags, 0o666)?;
                let done = pwrite(fd, *off, &bytes.made());
                close(fd);
                done
            }
            Op::Load { at } => return self.load(at),
            Op::Write { slot, off, bytes } => pwrite(self.fd(*slot), *off, &bytes.made()),
            Op::Put { slot, bytes } => {
                let bytes = bytes.made();
                let args = [arg(self.fd(*slot)), bytes.as_ptr() as usize, bytes.len()];
                sys(libc::SYS_write, &args)
            }
            Op::Read { slot, off, len } => {
                return pread(self.fd(*slot), *off, *len).map(Said::Bytes);
            }
            Op::Truncate { target, len } => match target {
                Target::Path { at, .. } => {
                    sys(libc::SYS_truncate, &[addr(&c(&at.path)), *len as usize])
                }
                Target::Slot(slot) => {
                    sys(libc::SYS_ftruncate, &[arg(self.fd(*slot)), *len as usize])
                }
            },
            Op::Allocate {
                slot,
                mode,
                off,
                len,
            } => {
                let fd = arg(self.fd(*slot));
                let args = [fd, *mode as usize, *off as usize, *len as usize];
                sys(libc::SYS_fallocate, &args)
            }
            Op::Sync { slot, data } => {
                let number = if *data {
                    libc::SYS_fdatasync
                } else {
                    libc::SYS_fsync
                };
                sys(number, &[arg(self.fd(*slot))])
            }
            _ => return self.ranges(op),
        };
        number.map(Said::Number)
    }

    fn ranges(&mut self, op: &Op) -> Answer {
        match op {
            Op::Copy {
                from,
                from_off,
                to,
                off,
                len,
            } => {
                let (from, to) = ((self.fd(*from), *from_off), (self.fd(*to), *off));
                copy(from, to, *len).map(Said::Number)
            }
            Op::Seek { slot, off } => {
                let fd = self.fd(*slot);
                let of = fstat(fd)?;
                if of.kind() != libc::S_IFREG {
                    // Where directories have data is each file system's own.
                    return Ok(Said::Number(0));
                }
                let bytes = pread(fd, 0, of.size as usize)?;
                let wrong = holes(fd, *off, &bytes)?;
                Ok(wrong.map_or(Said::Number(0), Said::Wrong))
            }
            Op::Map {
                slot,
                off,
                bytes,
                msync,
            } => map(self.fd(*slot), *off, *bytes, *msync),
            _ => self.attributes(op),
        }
    }

    fn load(&self, at: &At) -> Answer {
        let flags = libc::O_RDONLY | libc::O_NONBLOCK;
        let fd = open(self.base(at), &c(&at.path), flags, 0)?;
        let size = fstat(fd)?;
        // A device has no end.
        let len = if size.kind() == libc::S_IFREG {
            size.size as usize + 10
        } else {
            10
        };
        let bytes = pread(fd, 0, len);
        close(fd);
        bytes.map(Said::Bytes)
    }

    fn attributes(&mut self, op: &Op) -> Answer {
        match op {
            Op::Chmod { target, mode } => self.chmod(target, *mode as usize),
            Op::Chown { target, uid, gid } => {
                let ids = [*uid as usize, *gid as usize];
                match target {
                    Target::Slot(slot) => {
                        sys(libc::SYS_fchown, &[arg(self.fd(*slot)), ids[0], ids[1]])
                    }
                    Target::Path { at, follow } => {
                        self.one(libc::SYS_fchownat, at, &[ids[0], ids[1], nofollow(*follow)])
                    }
                }
            }
            Op::Times {
                target,
                atime,
                mtime,
            } => {
                let both = [atime.0, atime.1, mtime.0, mtime.1];
                let both = both.as_ptr() as usize;
                match target {
                    Target::Slot(slot) => {
                        sys(libc::SYS_utimensat, &[arg(self.fd(*slot)), 0, both, 0])
                    }
                    Target::Path { at, follow } => {
                        self.one(libc::SYS_utimensat, at, &[both, nofollow(*follow)])
                    }
                }
            }
            _ => return self.looks(op),
        }
        .map(Said::Number)
    }

    fn chmod(&self, target: &Target, mode: usize) -> Done<i64> {
        match target {
            Target::Slot(slot) => sys(libc::SYS_fchmod, &[arg(self.fd(*slot)), mode]),
            Target::Path { at, follow: true } => self.one(libc::SYS_fchmodat, at, &[mode]),
            Target::Path { at, .. } => self.one(
                libc::SYS_fchmodat2,
                at,
                &[mode, libc::AT_SYMLINK_NOFOLLOW as usize],
            ),
        }
    }

    /// A call on attributes, of which there are three: by path, of a link itself, of a file.
    fn xattr(&self, target: &Target, numbers: [c_long; 3], more: &[usize]) -> Done<i64> {
        let (number, path, fd);
        let mut args = match target {
            Target::Path { at, follow } => {
                number = numbers[usize::from(!*follow)];
                path = c(&at.path);
                vec![addr(&path)]
            }
            Target::Slot(slot) => {
                number = numbers[2];
                fd = self.fd(*slot);
                vec![arg(fd)]
            }
        };
        args.extend(more);
        sys(number, &args)
    }

    fn looks(&mut self, op: &Op) -> Answer {
        let number = match op {
            Op::SetXattr {
                target,
                name,
                value,
                flags,
            } => {
                let name = c(name.as_bytes());
                let value_at = value.as_ptr() as usize;
                let more = [addr(&name), value_at, value.len(), *flags as usize];
                self.xattr(target, SET, &more)
            }
            Op::RemoveXattr { target, name } => {
                self.xattr(target, REMOVE, &[addr(&c(name.as_bytes()))])
            }
            Op::GetXattr { target, name, room } => {
                let name = c(name.as_bytes());
                let mut value = vec![0; *room];
                let to = value.as_mut_ptr() as usize;
                let len = self.xattr(target, GET, &[addr(&name), to, *room])?;
                if *room == 0 {
                    return Ok(Said::Number(len));
                }
                value.truncate(len as usize);
                return Ok(Said::Bytes(value));
            }
            Op::ListXattr { target } => {
                let mut names = vec![0; 4096];
                let to = names.as_mut_ptr() as usize;
                let len = self.xattr(target, LIST, &[to, names.len()])?;
                let mut names: Vec<_> = names[..len as usize].split(|byte| *byte == 0).collect();
                names.sort_unstable();
                return Ok(Said::Bytes(names.join(&b' ')));
            }
            Op::Stat { target } => return self.stat(target).map(Said::Stat),
            Op::Readlink { at } => {
                let mut link = vec![0; 5000];
                let len = self.one(
                    libc::SYS_readlinkat,
                    at,
                    &[link.as_mut_ptr() as usize, 5000],
                )?;
                link.truncate(len as usize);
                return Ok(Said::Bytes(link));
            }
            Op::List { at } => {
                let flags = libc::O_RDONLY | libc::O_DIRECTORY;
                let fd = open(self.base(at), &c(&at.path), flags, 0)?;
                let names = entries(fd);
                close(fd);
                let names = names?.into_iter().map(|(name, _, kind)| (name, kind));
                return Ok(Said::Names(names.collect()));
            }
            other => panic!("nobody does {other:?}"),
        };
        number.map(Said::Number)
    }

    pub(crate) fn stat(&self, target: &Target) -> Done<Stat> {
        match target {
            Target::Slot(slot) => fstat(self.fd(*slot)),
            Target::Path { at, follow } => {
                stat(self.base(at), &c(&at.path), nofollow(*follow) as i32)
            }
        }
    }

    /// The bytes around a place of a slot's file, and its last ones.
    pub(crate) fn around(&self, slot: u8, off: i64, len: usize) -> Answer {
        let fd = self.fd(slot);
        let of = fstat(fd)?;
        if of.kind() != libc::S_IFREG {
            return Ok(Said::Number(0));
        }
        let from = off.clamp(64, 1 << 40) - 64;
        let mut bytes = pread(fd, from, len + 128)?;
        bytes.extend(pread(fd, (of.size as i64 - 64).max(0), 100)?);
        Ok(Said::Bytes(bytes))
    }
}

const SET: [c_long; 3] = [libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr];
const GET: [c_long; 3] = [libc::SYS_getxattr, libc::SYS_lgetxattr, libc::SYS_fgetxattr];
const LIST: [c_long; 3] = [
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
];
const REMOVE: [c_long; 3] = [
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];

fn nofollow(follow: bool) -> usize {
    if follow {
        0
    } else {
        libc::AT_SYMLINK_NOFOLLOW as usize
    }
}

/// Copies until it is done or no more comes: how much one call copies is each one's own.
fn copy(from: (i32, i64), to: (i32, i64), len: usize) -> Done<i64> {
    let (mut source, mut target, mut left) = (from.1, to.1, len);
    while left > 0 {
        let args = [
            arg(from.0),
            &raw mut source as usize,
            arg(to.0),
            &raw mut target as usize,
            left,
            0,
        ];
        match sys(libc::SYS_copy_file_range, &args) {
            Ok(0) => break,
            Ok(copied) => left -= copied as usize,
            Err(_) if left < len => break,
            Err(error) => return Err(error),
        }
    }
    Ok((len - left) as i64)
}

/// Stores through a mapping, no further than the file reaches, and reads back. It is the kernel
/// that stores, so that a page that cannot be had is an error and no signal.
fn map(fd: i32, off: i64, bytes: Bytes, msync: bool) -> Answer {
    let size = fstat(fd)?.size as i64;
    let len = bytes.len.min((size - off).max(0) as usize);
    if len == 0 {
        return Ok(Said::Number(0));
    }
    let both = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let shared = libc::MAP_SHARED as usize;
    let at = sys(
        libc::SYS_mmap,
        &[0, len, both, shared, arg(fd), off as usize],
    )? as usize;
    let beside = sys(libc::SYS_memfd_create, &[addr(&c(b"store")), 0]).unwrap() as i32;
    let stored = pwrite(beside, 0, &bytes.made()[..len])
        .and_then(|_| sys(libc::SYS_pread64, &[arg(beside), at, len, 0]))
        .and_then(|_| sys(libc::SYS_pwrite64, &[arg(beside), at, len, 0]))
        .and_then(|_| pread(beside, 0, len));
    close(beside);
    if msync {
        sys(libc::SYS_msync, &[at, len, libc::MS_SYNC as usize])?;
    }
    sys(libc::SYS_munmap, &[at, len]).unwrap();
    if !msync {
        sys(libc::SYS_fsync, &[arg(fd)])?;
    }
    stored.map(Said::Bytes)
}
