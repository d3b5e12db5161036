//! A node of the writable tree in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::extents::Extents;
use super::small_cid::SmallCid;
use super::types::{NodeAttr, NodeId, NodeKind, Time};
use crate::unixfs::dir_build::DirTally;

/// A file name, shared by the directory's entry and the node's way home.
pub(super) type Name = Arc<[u8]>;

/// A node: what `stat` shows, and its content.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) kind: NodeKind,
    /// The 12 permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) nlink: u32,
    pub(super) rdev: u32,
    pub(super) atime: Time,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
    pub(super) xattrs: Option<BTreeMap<Name, Bytes>>,
    /// One of the names that lead here; `None` once it is unlinked.
    pub(super) home: Option<(NodeId, Name)>,
    /// All names that lead here, where there are or were several.
    pub(super) links: Option<BTreeSet<(NodeId, Name)>>,
    /// References of mounts.
    pub(super) held: u64,
    /// Sequence of the last change of what `stat` and xattrs show; 0: as in the checkpoint.
    pub(super) meta_changed: u64,
    /// Sequence of the last change of the content; 0: as in the checkpoint.
    pub(super) content_changed: u64,
    pub(super) body: Body,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(super) enum Body {
    File(Content),
    Directory(Directory),
    Symlink {
        target: Bytes,
        /// Its block, once it has one.
        sealed: Option<Sealed>,
    },
    /// A fifo, a socket or a device.
    Special,
}

/// Immutable content with the size of its DAG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) cid: SmallCid,
    pub(super) tsize: u64,
}

/// A file's bytes.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// As they were sealed, all of it.
    Whole { sealed: Sealed, size: u64 },
    /// In ranges; `sealed` while it is still what they say.
    Ranges {
        extents: Box<Extents>,
        sealed: Option<Sealed>,
    },
}

impl Content {
    /// An empty file that is in no block yet.
    pub(super) fn empty() -> Self {
        Self::Ranges {
            extents: Box::default(),
            sealed: None,
        }
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Whole { size, .. } => *size,
            Self::Ranges { extents, .. } => extents.size(),
        }
    }

    /// Bytes that are not holes.
    pub(super) fn data_bytes(&self) -> u64 {
        match self {
            Self::Whole { size, .. } => *size,
            Self::Ranges { extents, .. } => extents.data_bytes(),
        }
    }

    pub(super) fn unsealed_bytes(&self) -> u64 {
        match self {
            Self::Whole { .. } => 0,
            Self::Ranges { extents, .. } => extents.unsealed_bytes(),
        }
    }

    pub(super) fn sealed(&self) -> Option<&Sealed> {
        match self {
            Self::Whole { sealed, .. } => Some(sealed),
            Self::Ranges { sealed, .. } => sealed.as_ref(),
        }
    }

    /// The ranges, to look at.
    pub(super) fn ranges(&self) -> std::borrow::Cow<'_, Extents> {
        match self {
            Self::Whole { sealed, size } => {
                std::borrow::Cow::Owned(Extents::whole(sealed.cid.clone(), *size))
            }
            Self::Ranges { extents, .. } => std::borrow::Cow::Borrowed(extents),
        }
    }

    /// The ranges, to change: it is no longer sealed.
    pub(super) fn ranges_mut(&mut self) -> &mut Extents {
        if let Self::Whole { sealed, size } = self {
            let extents = Box::new(Extents::whole(sealed.cid.clone(), *size));
            *self = Self::Ranges {
                extents,
                sealed: None,
            };
        }
        match self {
            Self::Ranges { extents, sealed } => {
                *sealed = None;
                extents
            }
            Self::Whole { .. } => unreachable!("was made ranges above"),
        }
    }
}

/// A directory: what the last checkpoint has, and what is known beyond it.
#[derive(Debug, Clone, Default)]
pub(super) struct Directory {
    /// As it was sealed last, if it was.
    pub(super) base: Option<Base>,
    /// Names that are known to lead somewhere or nowhere.
    pub(super) entries: BTreeMap<Key, Dentry>,
    /// Whether `entries` has every name that there is.
    pub(super) complete: bool,
    /// How many of the names lead to directories, where it is known: not for
    /// content that was only mounted.
    pub(super) directories: Option<u64>,
    /// Sequence of the mount that gave it its base since the checkpoint, whose
    /// records of what is in it count no longer; 0: none.
    pub(super) mounted: u64,
}

/// A sealed directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) sealed: Sealed,
    /// Entries and bytes of links, where known.
    pub(super) tally: Option<DirTally>,
}

/// Place of a name in a directory: by hash, as listings go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Below 2^62, at least 16: the cookie of the entry.
    pub(super) hash: u64,
    pub(super) name: Name,
}

impl Key {
    pub(super) fn new(name: &[u8]) -> Self {
        Self {
            hash: hash(name),
            name: name.into(),
        }
    }

    pub(super) fn of(name: Name) -> Self {
        Self {
            hash: hash(&name),
            name,
        }
    }
}

fn hash(name: &[u8]) -> u64 {
    // The two lowest bits are left to tell equal hashes apart.
    ((fastmurmur3::hash(name) as u64) >> 2).max(16) & !3
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dentry {
    pub(super) to: To,
    /// Sequence of its last change; 0: as in the checkpoint.
    pub(super) changed: u64,
}

/// Where a name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum To {
    /// A node that is loaded.
    Node(NodeId),
    /// Sealed content whose node is not loaded.
    Unloaded,
    /// Nowhere; proven.
    Absent,
}

impl Inode {
    /// What `stat` shows.
    pub(super) fn attr(&self, node: NodeId) -> NodeAttr {
        let (size, data) = match &self.body {
            Body::File(content) => (content.size(), content.data_bytes()),
            Body::Symlink { target, .. } => (target.len() as u64, target.len() as u64),
            Body::Directory(_) | Body::Special => (0, 0),
        };
        NodeAttr {
            node,
            kind: self.kind,
            size,
            blocks: data.div_ceil(512),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            nlink: self.nlink_shown(),
            rdev: self.rdev,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
        }
    }

    /// The link count: of a directory its name, its `.`, and the `..` of those
    /// in it; 1 where these are not counted.
    fn nlink_shown(&self) -> u32 {
        match self.directory().and_then(|directory| directory.directories) {
            Some(below) if self.nlink > 0 => u32::try_from(below + 2).unwrap_or(u32::MAX),
            Some(_) | None => self.nlink,
        }
    }

    /// Whether it is as the checkpoint has it.
    pub(super) fn is_clean(&self) -> bool {
        self.meta_changed == 0 && self.content_changed == 0
    }

    pub(super) fn directory(&self) -> Option<&Directory> {
        match &self.body {
            Body::Directory(directory) => Some(directory),
            Body::File(_) | Body::Symlink { .. } | Body::Special => None,
        }
    }

    pub(super) fn xattr(&self, name: &[u8]) -> Option<&Bytes> {
        self.xattrs.as_ref()?.get(name)
    }
}
