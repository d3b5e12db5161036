//! Changes by path.

use bytes::Bytes;

use crate::block::Cid;
use crate::tree::mfs::calls::mounts::Content;
use crate::tree::mfs::path::TreePath;
use crate::tree::mfs::types::{RenameMode, SetAttr};

/// Where content goes in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteAt {
    /// In the place of all that is there.
    Whole,
    /// From this offset on.
    Offset(u64),
    /// Behind what is there when the change is made.
    End,
}

/// A change, by path.
#[derive(Debug, Clone)]
pub enum Staged {
    /// Makes a directory, with those above it if `parents`; one that is there
    /// is then fine.
    Mkdir {
        /// Where.
        path: TreePath,
        /// The 12 permission bits.
        mode: u32,
        /// Make those above it too.
        parents: bool,
    },
    /// Puts content into a file, which is made if it is not there.
    Write {
        /// Where.
        path: TreePath,
        /// The content, a file.
        content: Cid,
        /// Its length.
        size: u64,
        /// Where in the file.
        at: WriteAt,
        /// Permission bits of a new file.
        mode: u32,
    },
    /// Sets a file's length.
    Truncate {
        /// Where.
        path: TreePath,
        /// The length.
        size: u64,
    },
    /// Takes something away.
    Remove {
        /// What.
        path: TreePath,
        /// All below a directory too.
        recursive: bool,
    },
    /// Moves something.
    Move {
        /// What.
        from: TreePath,
        /// Where to.
        to: TreePath,
        /// A directory that is there is moved into.
        into: bool,
        /// What happens to what is there.
        mode: RenameMode,
    },
    /// Makes a symbolic link.
    Symlink {
        /// Where.
        path: TreePath,
        /// To where.
        target: Bytes,
    },
    /// Gives something one more name.
    Link {
        /// What.
        from: TreePath,
        /// The name.
        to: TreePath,
    },
    /// Sets attributes; not the length.
    Metadata {
        /// Of what.
        path: TreePath,
        /// Which.
        set: SetAttr,
    },
    /// Mounts content.
    Mount {
        /// Where; nothing may be there.
        path: TreePath,
        /// The content.
        content: Content,
        /// It becomes part of the tree at once, not something mounted.
        plain: bool,
    },
    /// Takes mounted content away.
    Unmount {
        /// From where.
        path: TreePath,
        /// Also where something below was changed, which is lost with it.
        force: bool,
    },
}

impl Staged {
    /// What it concerns.
    pub fn path(&self) -> &TreePath {
        match self {
            Self::Mkdir { path, .. }
            | Self::Write { path, .. }
            | Self::Truncate { path, .. }
            | Self::Remove { path, .. }
            | Self::Symlink { path, .. }
            | Self::Metadata { path, .. }
            | Self::Mount { path, .. }
            | Self::Unmount { path, .. } => path,
            Self::Move { from, .. } | Self::Link { from, .. } => from,
        }
    }

    /// Where it goes, of what moves or gets a name.
    pub fn to(&self) -> Option<&TreePath> {
        match self {
            Self::Move { to, .. } | Self::Link { to, .. } => Some(to),
            Self::Mkdir { .. }
            | Self::Write { .. }
            | Self::Truncate { .. }
            | Self::Remove { .. }
            | Self::Symlink { .. }
            | Self::Metadata { .. }
            | Self::Mount { .. }
            | Self::Unmount { .. } => None,
        }
    }

    /// What it does, as entries of the journal call it.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Mkdir { .. } => "mkdir",
            Self::Write { .. } => "write",
            Self::Truncate { .. } => "truncate",
            Self::Remove {
                recursive: true, ..
            } => "rmdir",
            Self::Remove {
                recursive: false, ..
            } => "unlink",
            Self::Move { .. } => "rename",
            Self::Symlink { .. } => "symlink",
            Self::Link { .. } => "link",
            Self::Metadata { .. } => "metadata",
            Self::Mount { .. } => "mount",
            Self::Unmount { .. } => "unmount",
        }
    }

    /// Content that it will refer to.
    pub(super) fn content(&self) -> Option<Cid> {
        match self {
            Self::Write { content, .. } => Some(*content),
            Self::Mount { content, .. } => Some(content.cid()),
            Self::Mkdir { .. }
            | Self::Truncate { .. }
            | Self::Remove { .. }
            | Self::Move { .. }
            | Self::Symlink { .. }
            | Self::Link { .. }
            | Self::Metadata { .. }
            | Self::Unmount { .. } => None,
        }
    }
}
