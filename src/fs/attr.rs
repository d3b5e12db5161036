//! What `stat` shows of a node.

use std::time::SystemTime;

use super::options::MountOptions;
use super::time;
use crate::tree::mfs::{NodeAttr, Time};
use crate::tree::{Attr, Kind};

/// What `stat` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Inode number.
    pub ino: u64,
    /// What kind of thing it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// 512-byte blocks, cached here or not.
    pub blocks: u64,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that lead to it.
    pub nlink: u32,
    /// Device number of a device.
    pub rdev: u32,
    /// Access time; of what is immutable the modification time, like `ctime`.
    pub atime: SystemTime,
    /// Modification time.
    pub mtime: SystemTime,
    /// Change time.
    pub ctime: SystemTime,
}

impl Stat {
    /// Shows `attr` under the rules of a mount: where no metadata is stored,
    /// files are 0444, directories 0555, times the epoch.
    pub(super) fn new(ino: u64, attr: &Attr, options: &MountOptions) -> Self {
        if let Some(kept) = &attr.kept {
            return Self::of_node(ino, kept);
        }
        let stored = attr.mode.map(|m| (m & 0o7777) as u16);
        let mode = match attr.kind {
            Kind::File | Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                let plain = if options.executable { 0o555 } else { 0o444 };
                stored.unwrap_or(plain) & !options.fmask
            }
            Kind::Directory => stored.unwrap_or(0o555) & !options.dmask,
            Kind::Symlink => 0o777,
        };
        // What is immutable is shown so, whatever mode was stored with it.
        let mode = if attr.kind == Kind::Symlink {
            mode
        } else {
            mode & !0o222
        };
        let mtime = attr.mtime.map_or(SystemTime::UNIX_EPOCH, |t| {
            time::shown(Time {
                sec: t.seconds,
                nsec: t.nanoseconds,
            })
        });
        Self {
            ino,
            kind: attr.kind,
            size: attr.size,
            blocks: attr.size.div_ceil(512),
            mode,
            uid: options.uid,
            gid: options.gid,
            nlink: 1,
            rdev: 0,
            atime: mtime,
            mtime,
            ctime: mtime,
        }
    }

    /// Shows a node of the writable tree, which knows all of it itself.
    pub(super) fn of_node(ino: u64, attr: &NodeAttr) -> Self {
        Self {
            ino,
            kind: attr.kind,
            size: attr.size,
            blocks: attr.blocks,
            mode: (attr.mode & 0o7777) as u16,
            uid: attr.uid,
            gid: attr.gid,
            nlink: attr.nlink,
            rdev: attr.rdev,
            atime: time::shown(attr.atime),
            mtime: time::shown(attr.mtime),
            ctime: time::shown(attr.ctime),
        }
    }

    /// Shows that something below changed at `changed`, if it is later.
    pub(super) fn changed(mut self, changed: SystemTime) -> Self {
        self.mtime = self.mtime.max(changed);
        self.ctime = self.ctime.max(changed);
        self
    }
}
