//! Changes as they are journaled: absolute values, so that to apply one
//! needs no clock, no random number and no permission, and cannot fail.
//!
//! docs/TREE.md has the bytes. A payload begins with the paths that the
//! change concerns, for people and for a recovery that finds nodes by them.

mod parts;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::codec::{BadOp, Reader, Writer};
use crate::block::Cid;
use crate::tree::mfs::nodes::extents::{Data, Extent};
use crate::tree::mfs::nodes::node::Name;
use crate::tree::mfs::types::{Allocate, New, NodeId, NodeKind, RenameMode, Time};
pub(in crate::tree::mfs) use parts::range_bytes;
use parts::{read_range, write_range};

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tree::mfs) enum Op {
    Make(Make),
    Link {
        node: NodeId,
        parent: NodeId,
        name: Name,
        time: Time,
    },
    Unlink {
        parent: NodeId,
        name: Name,
        time: Time,
    },
    Rmdir {
        parent: NodeId,
        name: Name,
        time: Time,
    },
    Rename {
        from: (NodeId, Name),
        to: (NodeId, Name),
        mode: RenameMode,
        time: Time,
    },
    /// Bytes that are in the journal only.
    Write {
        node: NodeId,
        offset: u64,
        stamp: Stamp,
        bytes: Bytes,
    },
    /// Whole chunks that are in packs already.
    WriteBlocks {
        node: NodeId,
        offset: u64,
        stamp: Stamp,
        blocks: Vec<(Cid, u32)>,
    },
    Resize {
        node: NodeId,
        size: u64,
        stamp: Stamp,
    },
    Allocate {
        node: NodeId,
        what: Allocate,
        offset: u64,
        len: u64,
        stamp: Stamp,
    },
    /// Ranges that are shared with other content.
    Share {
        node: NodeId,
        offset: u64,
        stamp: Stamp,
        ranges: Vec<Extent>,
    },
    Attr(Attr),
    SetXattr {
        node: NodeId,
        name: Name,
        value: Bytes,
        mode: Option<u32>,
        time: Time,
    },
    RemoveXattr {
        node: NodeId,
        name: Name,
        time: Time,
    },
    Mount(Mount),
    Unmount {
        parent: NodeId,
        name: Name,
        time: Time,
    },
    /// The commit object of a checkpoint, and the last change that is in it.
    Checkpoint {
        commit: Cid,
        through: u64,
    },
    /// A transaction of a client begins; its changes come with its commit.
    Begin,
    /// The changes of this transaction before it hold.
    Commit,
    /// The transaction is given up.
    Rollback,
    /// A staged change was refused; the text says which and why.
    Failed {
        why: String,
    },
    /// Everything before it survives a power loss, as its frame says.
    Synced,
}

/// A new node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tree::mfs) struct Make {
    pub(in crate::tree::mfs) parent: NodeId,
    pub(in crate::tree::mfs) name: Name,
    pub(in crate::tree::mfs) node: NodeId,
    pub(in crate::tree::mfs) new: New,
    pub(in crate::tree::mfs) mode: u32,
    pub(in crate::tree::mfs) uid: u32,
    pub(in crate::tree::mfs) gid: u32,
    pub(in crate::tree::mfs) time: Time,
    pub(in crate::tree::mfs) xattrs: Vec<(Name, Bytes)>,
}

/// Attributes that are set; absent ones stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tree::mfs) struct Attr {
    pub(in crate::tree::mfs) node: NodeId,
    pub(in crate::tree::mfs) mode: Option<u32>,
    pub(in crate::tree::mfs) uid: Option<u32>,
    pub(in crate::tree::mfs) gid: Option<u32>,
    pub(in crate::tree::mfs) atime: Option<Time>,
    pub(in crate::tree::mfs) mtime: Option<Time>,
    pub(in crate::tree::mfs) ctime: Time,
    /// The access ACL that goes with a new mode.
    pub(in crate::tree::mfs) acl: Option<Bytes>,
}

/// A CID at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tree::mfs) struct Mount {
    pub(in crate::tree::mfs) parent: NodeId,
    pub(in crate::tree::mfs) name: Name,
    pub(in crate::tree::mfs) node: NodeId,
    pub(in crate::tree::mfs) cid: Cid,
    pub(in crate::tree::mfs) kind: NodeKind,
    pub(in crate::tree::mfs) size: u64,
    pub(in crate::tree::mfs) tsize: u64,
    /// Target of a symbolic link.
    pub(in crate::tree::mfs) target: Bytes,
    pub(in crate::tree::mfs) mode: u32,
    pub(in crate::tree::mfs) uid: u32,
    pub(in crate::tree::mfs) gid: u32,
    pub(in crate::tree::mfs) mtime: Time,
    pub(in crate::tree::mfs) time: Time,
}

/// What every change of a file's bytes sets: its times, and its mode where
/// setuid or setgid is cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tree::mfs) struct Stamp {
    pub(in crate::tree::mfs) time: Time,
    pub(in crate::tree::mfs) mode: Option<u32>,
}

/// Numbers of the kinds of frames.
pub(in crate::tree::mfs) mod kind {
    pub(in crate::tree) const MAKE: u8 = 1;
    pub(in crate::tree) const LINK: u8 = 2;
    pub(in crate::tree) const UNLINK: u8 = 3;
    pub(in crate::tree) const RMDIR: u8 = 4;
    pub(in crate::tree) const RENAME: u8 = 5;
    pub(in crate::tree) const WRITE: u8 = 6;
    pub(in crate::tree) const WRITE_BLOCKS: u8 = 7;
    pub(in crate::tree) const RESIZE: u8 = 8;
    pub(in crate::tree) const ALLOCATE: u8 = 9;
    pub(in crate::tree) const SHARE: u8 = 10;
    pub(in crate::tree) const ATTR: u8 = 11;
    pub(in crate::tree) const SET_XATTR: u8 = 12;
    pub(in crate::tree) const REMOVE_XATTR: u8 = 13;
    pub(in crate::tree) const MOUNT: u8 = 14;
    pub(in crate::tree) const UNMOUNT: u8 = 15;
    pub(in crate::tree) const CHECKPOINT: u8 = 16;
    pub(in crate::tree) const BEGIN: u8 = 17;
    pub(in crate::tree) const COMMIT: u8 = 18;
    pub(in crate::tree) const ROLLBACK: u8 = 19;
    pub(in crate::tree) const FAILED: u8 = 20;
    pub(in crate::tree) const SYNCED: u8 = 21;
}

/// A change with the paths that it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tree::mfs) struct Logged {
    /// Path of the name or node; empty where it has none any more.
    pub(in crate::tree::mfs) path: Vec<u8>,
    /// New path of a rename or link, else empty.
    pub(in crate::tree::mfs) to: Vec<u8>,
    pub(in crate::tree::mfs) op: Op,
}

impl Logged {
    /// The kind of its frame.
    pub(in crate::tree::mfs) fn kind(&self) -> u8 {
        match &self.op {
            Op::Make(_) => kind::MAKE,
            Op::Link { .. } => kind::LINK,
            Op::Unlink { .. } => kind::UNLINK,
            Op::Rmdir { .. } => kind::RMDIR,
            Op::Rename { .. } => kind::RENAME,
            Op::Write { .. } => kind::WRITE,
            Op::WriteBlocks { .. } => kind::WRITE_BLOCKS,
            Op::Resize { .. } => kind::RESIZE,
            Op::Allocate { .. } => kind::ALLOCATE,
            Op::Share { .. } => kind::SHARE,
            Op::Attr(_) => kind::ATTR,
            Op::SetXattr { .. } => kind::SET_XATTR,
            Op::RemoveXattr { .. } => kind::REMOVE_XATTR,
            Op::Mount(_) => kind::MOUNT,
            Op::Unmount { .. } => kind::UNMOUNT,
            Op::Checkpoint { .. } => kind::CHECKPOINT,
            Op::Begin => kind::BEGIN,
            Op::Commit => kind::COMMIT,
            Op::Rollback => kind::ROLLBACK,
            Op::Failed { .. } => kind::FAILED,
            Op::Synced => kind::SYNCED,
        }
    }

    /// The payload of its frame.
    pub(in crate::tree::mfs) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_room(self.room());
        out.bytes(&self.path);
        out.bytes(&self.to);
        self.op.write(&mut out);
        out.finish()
    }

    fn room(&self) -> usize {
        let data = if let Op::Write { bytes, .. } = &self.op {
            bytes.len()
        } else {
            0
        };
        self.path.len() + self.to.len() + data + 160
    }

    /// Decodes a frame of `kind`.
    pub(in crate::tree::mfs) fn decode(kind: u8, payload: &Bytes) -> Result<Self, BadOp> {
        let mut input = Reader::new(payload);
        let path = input.bytes()?.to_vec();
        let to = input.bytes()?.to_vec();
        let op = Op::read(kind, &mut input)?;
        input.end()?;
        if !op.ends_in_a_file() {
            return Err(BadOp("an end that no file can have"));
        }
        Ok(Self { path, to, op })
    }
}

impl Op {
    /// The directories whose names it changes.
    pub(in crate::tree::mfs) fn directories(&self) -> Vec<NodeId> {
        match self {
            Self::Make(one) => vec![one.parent],
            Self::Mount(one) => vec![one.parent],
            Self::Link { parent, .. }
            | Self::Unlink { parent, .. }
            | Self::Rmdir { parent, .. }
            | Self::Unmount { parent, .. } => vec![*parent],
            Self::Rename { from, to, .. } => vec![from.0, to.0],
            Self::Write { .. }
            | Self::WriteBlocks { .. }
            | Self::Resize { .. }
            | Self::Allocate { .. }
            | Self::Share { .. }
            | Self::SetXattr { .. }
            | Self::RemoveXattr { .. }
            | Self::Attr(_)
            | Self::Checkpoint { .. }
            | Self::Begin
            | Self::Commit
            | Self::Rollback
            | Self::Failed { .. }
            | Self::Synced => Vec::new(),
        }
    }

    /// Content that it names.
    pub(in crate::tree::mfs) fn referred(&self, roots: &mut Vec<Cid>) {
        match self {
            Self::WriteBlocks { blocks, .. } => roots.extend(blocks.iter().map(|(cid, _)| *cid)),
            Self::Share { ranges, .. } => {
                for range in ranges {
                    if let Data::Shared { cid, .. } = &range.data {
                        roots.push(cid.get());
                    }
                }
            }
            Self::Mount(mount) => roots.push(mount.cid),
            Self::Make(_)
            | Self::Link { .. }
            | Self::Unlink { .. }
            | Self::Rmdir { .. }
            | Self::Rename { .. }
            | Self::Write { .. }
            | Self::Resize { .. }
            | Self::Allocate { .. }
            | Self::Attr(_)
            | Self::SetXattr { .. }
            | Self::RemoveXattr { .. }
            | Self::Unmount { .. }
            | Self::Checkpoint { .. }
            | Self::Begin
            | Self::Commit
            | Self::Rollback
            | Self::Failed { .. }
            | Self::Synced => {}
        }
    }

    /// Whether the state of the blocks matters to who replays it. Checkpoints see to
    /// their own.
    pub(in crate::tree::mfs) fn rests_on_blocks(&self) -> bool {
        matches!(
            self,
            Self::WriteBlocks { .. } | Self::Share { .. } | Self::Mount(_)
        )
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Self::Make(make) => make.write(out),
            Self::Link {
                node,
                parent,
                name,
                time,
            } => {
                out.node(*node);
                out.entry(*parent, name);
                out.time(*time);
            }
            Self::Unlink { parent, name, time }
            | Self::Rmdir { parent, name, time }
            | Self::Unmount { parent, name, time } => {
                out.entry(*parent, name);
                out.time(*time);
            }
            Self::Rename {
                from,
                to,
                mode,
                time,
            } => {
                out.entry(from.0, &from.1);
                out.entry(to.0, &to.1);
                out.u8(*mode as u8);
                out.time(*time);
            }
            Self::Write { .. }
            | Self::WriteBlocks { .. }
            | Self::Resize { .. }
            | Self::Allocate { .. }
            | Self::Share { .. } => self.write_content(out),
            Self::Attr(attr) => attr.write(out),
            Self::SetXattr {
                node,
                name,
                value,
                mode,
                time,
            } => {
                out.node(*node);
                out.bytes(name);
                out.bytes(value);
                out.maybe_u32(*mode);
                out.time(*time);
            }
            Self::RemoveXattr { node, name, time } => {
                out.node(*node);
                out.bytes(name);
                out.time(*time);
            }
            Self::Mount(mount) => mount.write(out),
            Self::Checkpoint { commit, through } => {
                out.bytes(&commit.to_bytes());
                out.u64(*through);
            }
            Self::Begin | Self::Commit | Self::Rollback | Self::Synced => {}
            Self::Failed { why } => out.bytes(why.as_bytes()),
        }
    }

    /// Of a change of a file's bytes: the file, where (or how long it gets),
    /// and what it sets beside them.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others change no bytes")]
    pub(in crate::tree::mfs) fn content(&self) -> Option<(NodeId, u64, Stamp)> {
        match self {
            Self::Write {
                node,
                offset,
                stamp,
                ..
            }
            | Self::WriteBlocks {
                node,
                offset,
                stamp,
                ..
            }
            | Self::Resize {
                node,
                size: offset,
                stamp,
            }
            | Self::Allocate {
                node,
                offset,
                stamp,
                ..
            }
            | Self::Share {
                node,
                offset,
                stamp,
                ..
            } => Some((*node, *offset, *stamp)),
            _ => None,
        }
    }

    /// Whether what it changes of a file's bytes ends at an offset that a program
    /// can name; so it does if it changes none.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others change no bytes")]
    fn ends_in_a_file(&self) -> bool {
        let Some((_, offset, _)) = self.content() else {
            return true;
        };
        let end = match self {
            Self::Write { bytes, .. } => offset.checked_add(bytes.len() as u64),
            Self::WriteBlocks { blocks, .. } => {
                let mut lens = blocks.iter().map(|(_, len)| u64::from(*len));
                lens.try_fold(offset, u64::checked_add)
            }
            Self::Allocate { len, .. } => offset.checked_add(*len),
            Self::Share { ranges, .. } => {
                let mut lens = ranges.iter().map(|range| range.len);
                lens.try_fold(offset, u64::checked_add)
            }
            _ => Some(offset),
        };
        end.is_some_and(|end| i64::try_from(end).is_ok())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only changes of bytes come here"
    )]
    fn write_content(&self, out: &mut Writer) {
        let Some((node, offset, stamp)) = self.content() else {
            return;
        };
        out.node(node);
        out.u64(offset);
        out.time(stamp.time);
        out.maybe_u32(stamp.mode);
        match self {
            Self::Write { bytes, .. } => out.bytes(bytes),
            Self::WriteBlocks { blocks, .. } => {
                out.u32(blocks.len() as u32);
                for (cid, len) in blocks {
                    out.bytes(&cid.to_bytes());
                    out.u32(*len);
                }
            }
            Self::Allocate { what, len, .. } => {
                out.u64(*len);
                out.u8(match what {
                    Allocate::Reserve { keep_size } => u8::from(*keep_size),
                    Allocate::Punch => 2,
                    Allocate::Zero { keep_size } => 4 + u8::from(*keep_size),
                });
            }
            Self::Share { ranges, .. } => {
                out.u32(ranges.len() as u32);
                ranges.iter().for_each(|range| write_range(out, range));
            }
            _ => {}
        }
    }

    fn read(number: u8, input: &mut Reader) -> Result<Self, BadOp> {
        Ok(match number {
            kind::MAKE => Self::Make(Make::read(input)?),
            kind::LINK => {
                let node = input.node()?;
                let (parent, name) = input.entry()?;
                Self::Link {
                    node,
                    parent,
                    name,
                    time: input.time()?,
                }
            }
            kind::UNLINK | kind::RMDIR | kind::UNMOUNT => {
                let (parent, name) = input.entry()?;
                let time = input.time()?;
                match number {
                    kind::UNLINK => Self::Unlink { parent, name, time },
                    kind::RMDIR => Self::Rmdir { parent, name, time },
                    _ => Self::Unmount { parent, name, time },
                }
            }
            kind::RENAME => {
                let (from, to) = (input.entry()?, input.entry()?);
                let mode = match input.u8()? {
                    0 => RenameMode::Replace,
                    1 => RenameMode::NoReplace,
                    2 => RenameMode::Exchange,
                    _ => return Err(BadOp("mode of a rename")),
                };
                Self::Rename {
                    from,
                    to,
                    mode,
                    time: input.time()?,
                }
            }
            kind::WRITE..=kind::SHARE => Self::read_content(number, input)?,
            kind::ATTR => Self::Attr(Attr::read(input)?),
            kind::SET_XATTR => Self::SetXattr {
                node: input.node()?,
                name: input.name()?,
                value: input.bytes()?,
                mode: input.maybe_u32()?,
                time: input.time()?,
            },
            kind::REMOVE_XATTR => Self::RemoveXattr {
                node: input.node()?,
                name: input.name()?,
                time: input.time()?,
            },
            kind::MOUNT => Self::Mount(Mount::read(input)?),
            kind::CHECKPOINT => Self::Checkpoint {
                commit: input.cid()?,
                through: input.u64()?,
            },
            kind::BEGIN => Self::Begin,
            kind::COMMIT => Self::Commit,
            kind::ROLLBACK => Self::Rollback,
            kind::FAILED => {
                let why = input.bytes()?;
                Self::Failed {
                    why: String::from_utf8_lossy(&why).into_owned(),
                }
            }
            kind::SYNCED => Self::Synced,
            _ => return Err(BadOp("kind of change")),
        })
    }

    fn read_content(number: u8, input: &mut Reader) -> Result<Self, BadOp> {
        let (node, offset) = (input.node()?, input.u64()?);
        let stamp = Stamp {
            time: input.time()?,
            mode: input.maybe_u32()?,
        };
        Ok(match number {
            kind::WRITE => Self::Write {
                node,
                offset,
                stamp,
                bytes: input.bytes()?,
            },
            kind::WRITE_BLOCKS => {
                let count = input.u32()?;
                let mut blocks = Vec::new();
                for _ in 0..count {
                    blocks.push((input.cid()?, input.u32()?));
                }
                Self::WriteBlocks {
                    node,
                    offset,
                    stamp,
                    blocks,
                }
            }
            kind::RESIZE => Self::Resize {
                node,
                size: offset,
                stamp,
            },
            kind::ALLOCATE => {
                let len = input.u64()?;
                let what = match input.u8()? {
                    keep @ (0 | 1) => Allocate::Reserve {
                        keep_size: keep == 1,
                    },
                    2 => Allocate::Punch,
                    keep @ (4 | 5) => Allocate::Zero {
                        keep_size: keep == 5,
                    },
                    _ => return Err(BadOp("kind of allocation")),
                };
                Self::Allocate {
                    node,
                    what,
                    offset,
                    len,
                    stamp,
                }
            }
            _ => {
                let count = input.u32()?;
                let mut ranges = Vec::new();
                for _ in 0..count {
                    ranges.push(read_range(input)?);
                }
                Self::Share {
                    node,
                    offset,
                    stamp,
                    ranges,
                }
            }
        })
    }
}
