//! What callers of the writable tree say and are told.

use bytes::Bytes;

use crate::block::Cid;
pub use crate::tree::posix::record::Time;

/// Number of a node of the writable tree; never one of an immutable inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

/// Set in every number of the writable tree, and in no other.
const MARK: u64 = 1 << 62;
/// Set in the numbers of nodes that were made here.
const MADE: u64 = 1 << 61;

impl NodeId {
    /// The root of the tree.
    pub const ROOT: Self = Self(MARK | 1);

    /// The number, as inodes show it.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The node of an inode number; `None` for numbers that are not of this tree.
    pub fn from_number(number: u64) -> Option<Self> {
        (number & MARK != 0 && number >> 63 == 0).then_some(Self(number))
    }

    /// The number of what was never made here (content that is only mounted):
    /// it follows from where it is.
    pub(super) fn from_hash(hash: u64) -> Self {
        Self((hash & (MADE - 1)).max(16) | MARK)
    }

    /// The number of a node that was made here, by its count.
    pub(super) fn counted(count: u64) -> Self {
        Self((count & (MADE - 1)) | MADE | MARK)
    }

    /// The count of a node that was made here.
    pub(super) fn count(self) -> Option<u64> {
        (self.0 & MADE != 0).then_some(self.0 & (MADE - 1))
    }
}

/// Which door a call came through: a mount's number, or 0 for control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Origin(pub u64);

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The door.
    pub origin: Origin,
}

/// What kind of thing a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum NodeKind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

/// What `stat` shows of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeAttr {
    /// Its number.
    pub node: NodeId,
    /// What it is.
    pub kind: NodeKind,
    /// Bytes of a file or of a link's target; 0 otherwise.
    pub size: u64,
    /// 512-byte blocks that are not holes.
    pub blocks: u64,
    /// The 12 permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that lead to it, 0 once it is unlinked; of a directory 2 and its
    /// subdirectories, or 1 where these are not counted.
    pub nlink: u32,
    /// Device number, as the kernel encodes it.
    pub rdev: u32,
    /// Access time; changes only when it is set.
    pub atime: Time,
    /// Modification time.
    pub mtime: Time,
    /// Change time.
    pub ctime: Time,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// Belongs to the entry: below 2^63, unique, at least 16, the same after
    /// a restart. The listing goes on after it.
    pub cookie: u64,
    /// Its name.
    pub name: Bytes,
    /// Its attributes.
    pub attr: NodeAttr,
    /// Whether they only follow from what the directory says: the content was
    /// not looked at, or cannot be had. The node is not loaded then.
    pub guessed: bool,
}

/// What to make.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum New {
    File,
    Directory,
    /// A link to this target.
    Symlink(Bytes),
    Fifo,
    Socket,
    /// With its device number, as the kernel encodes it.
    CharDevice(u32),
    /// With its device number, as the kernel encodes it.
    BlockDevice(u32),
}

/// How a name may be replaced by a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RenameMode {
    /// What has the new name goes.
    #[default]
    Replace,
    /// The new name must be free (RENAME_NOREPLACE).
    NoReplace,
    /// Both must exist and change places (RENAME_EXCHANGE).
    Exchange,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the call.
    Now,
    /// This time.
    At(Time),
}

/// What of a node's attributes to set; absent ones stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// The 12 permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length of a file.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// Clear setuid and, where the group may execute, setgid.
    pub kill_privileges: bool,
}

/// What `fallocate` does to a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    /// Reserve it; the file grows to its end unless `keep_size`.
    Reserve {
        /// The file's length stays.
        keep_size: bool,
    },
    /// Make it a hole; the length stays.
    Punch,
    /// Make it zeros; the file grows unless `keep_size`.
    Zero {
        /// The file's length stays.
        keep_size: bool,
    },
}

/// What `lseek` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// SEEK_DATA.
    Data,
    /// SEEK_HOLE.
    Hole,
}

/// Where `copy_range` copies from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopySource {
    /// A file of this tree.
    Node(NodeId),
    /// Immutable content.
    Content(Cid),
}

/// What an extended attribute's name must be for it to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XattrMode {
    /// Anything.
    #[default]
    Set,
    /// Absent (XATTR_CREATE), else `Exists`.
    Create,
    /// Present (XATTR_REPLACE), else `NoAttribute`.
    Replace,
}

/// What changed, for those who keep copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A name in a directory leads elsewhere or nowhere.
    Entry {
        /// The directory.
        parent: NodeId,
        /// The name.
        name: Bytes,
    },
    /// A node's attributes changed, and its bytes if `content`.
    Node {
        /// The node.
        node: NodeId,
        /// Its bytes changed too.
        content: bool,
    },
}

/// Is told of changes after they are acknowledged; must not block or call back.
pub trait Watcher: Send + Sync {
    /// Changes that came through the door `origin`.
    fn changed(&self, origin: Origin, changes: &[Change]);

    /// Waits until whoever it tells has been told of all changes so far, at
    /// most until `deadline`. Unlike the other this may block.
    fn wait_told(&self, deadline: std::time::Instant) {
        let _ = deadline;
    }
}
