//! What is done on the mount and beside it.

use std::fmt;

/// How many open files are held at a time.
pub(crate) const SLOTS: u8 = 7;

/// A path, from the root of the tree or from the directory that a slot holds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) base: Option<u8>,
    pub(crate) path: Vec<u8>,
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(base) = self.base {
            write!(f, "{base}:")?;
        }
        let shown = self.path.get(..300).unwrap_or(&self.path);
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if shown.len() < self.path.len() {
            write!(f, "… of {} bytes", self.path.len())?;
        }
        Ok(())
    }
}

/// What a change of attributes is about.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Path { at: At, follow: bool },
    Slot(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum New {
    Dir,
    File,
    Fifo,
    Socket,
    Char(u32),
    Block(u32),
    /// A type that nothing has.
    Bad,
}

/// Seconds and nanoseconds as utimensat takes them.
pub(crate) type Stamp = (i64, i64);

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Make {
        at: At,
        new: New,
        mode: u32,
    },
    Symlink {
        at: At,
        target: At,
    },
    Link {
        from: At,
        to: At,
        follow: bool,
    },
    Unlink {
        at: At,
        dir: bool,
    },
    Rename {
        from: At,
        to: At,
        flags: u32,
    },
    Open {
        at: At,
        flags: i32,
        mode: u32,
        slot: u8,
    },
    Close {
        slot: u8,
    },
    /// Opens, writes and closes.
    Save {
        at: At,
        flags: i32,
        off: i64,
        bytes: Bytes,
    },
    Load {
        at: At,
    },
    Write {
        slot: u8,
        off: i64,
        bytes: Bytes,
    },
    /// Where the last one ended, or at the end with O_APPEND.
    Put {
        slot: u8,
        bytes: Bytes,
    },
    Read {
        slot: u8,
        off: i64,
        len: usize,
    },
    Truncate {
        target: Target,
        len: i64,
    },
    Allocate {
        slot: u8,
        mode: i32,
        off: i64,
        len: i64,
    },
    Copy {
        from: u8,
        from_off: i64,
        to: u8,
        off: i64,
        len: usize,
    },
    Seek {
        slot: u8,
        off: i64,
    },
    /// Stores through a shared mapping, then `msync`, or `munmap` and `fsync`.
    Map {
        slot: u8,
        off: i64,
        bytes: Bytes,
        msync: bool,
    },
    Sync {
        slot: u8,
        data: bool,
    },
    Chmod {
        target: Target,
        mode: u32,
    },
    Chown {
        target: Target,
        uid: u32,
        gid: u32,
    },
    Times {
        target: Target,
        atime: Stamp,
        mtime: Stamp,
    },
    SetXattr {
        target: Target,
        name: &'static str,
        value: Vec<u8>,
        flags: i32,
    },
    GetXattr {
        target: Target,
        name: &'static str,
        room: usize,
    },
    ListXattr {
        target: Target,
    },
    RemoveXattr {
        target: Target,
        name: &'static str,
    },
    Stat {
        target: Target,
    },
    Readlink {
        at: At,
    },
    List {
        at: At,
    },
    Access {
        at: At,
        mode: u32,
    },
}

/// Bytes to be written: zeros, or noise by their seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes {
    pub(crate) len: usize,
    pub(crate) seed: Option<u64>,
}

impl Bytes {
    pub(crate) fn made(self) -> Vec<u8> {
        self.seed.map_or_else(
            || vec![0; self.len],
            |seed| crate::world::noise(self.len, seed),
        )
    }
}

/// Who does it: root, or somebody with no privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: &'static [u32],
}

pub(crate) const ROOT: User = User {
    uid: 0,
    gid: 0,
    groups: &[],
};
pub(crate) const ONE: User = User {
    uid: 4001,
    gid: 4001,
    groups: &[],
};
pub(crate) const TWO: User = User {
    uid: 4002,
    gid: 4001,
    groups: &[4003],
};

/// What happens to the mount alone; the tree has to be the same behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Remount,
    /// By `kill -9` of the daemon.
    Kill,
    Checkpoint,
    /// The kernel's pages are dropped while everything is compared.
    Compare,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Do { who: User, umask: u32, op: Op },
    Event(Event),
}

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taste {
    /// Names of each kind.
    pub(crate) names: u32,
    /// Files reach beyond a chunk or several.
    pub(crate) large: bool,
    /// One of so many steps compares everything.
    pub(crate) compare_every: u32,
    /// One of so many is a checkpoint, a remount or a kill.
    pub(crate) event_every: u32,
    /// Of ten, how many steps are by others than root.
    pub(crate) others: u32,
    /// Whether the file system beside zeroes ranges.
    pub(crate) zero_range: bool,
}
