//! What `stat` shows of a node.

use std::time::{Duration, SystemTime};

use super::options::MountOptions;
use crate::tree::{Attr, Kind};

/// What `stat` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Inode number.
    pub ino: u64,
    /// File, directory or symbolic link.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, also shown as access and change time.
    pub mtime: SystemTime,
}

impl Stat {
    /// Shows `attr` under the rules of a mount: where no metadata is stored,
    /// files are 0444, directories 0555, times the epoch.
    pub(super) fn new(ino: u64, attr: &Attr, options: &MountOptions) -> Self {
        let stored = attr.mode.map(|m| (m & 0o7777) as u16);
        let mode = match attr.kind {
            Kind::File => {
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
        Self {
            ino,
            kind: attr.kind,
            size: attr.size,
            mode,
            uid: options.uid,
            gid: options.gid,
            mtime: attr
                .mtime
                .map_or(SystemTime::UNIX_EPOCH, |t| time(t.seconds, t.nanoseconds)),
        }
    }

    /// 512-byte blocks, cached here or not.
    pub fn blocks(&self) -> u64 {
        self.size.div_ceil(512)
    }
}

/// Clamped to what a time can hold: the seconds come from outside.
fn time(seconds: i64, nanoseconds: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    };
    base.and_then(|t| t.checked_add(Duration::from_nanos(u64::from(nanoseconds))))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
