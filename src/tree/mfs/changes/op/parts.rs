//! The parts of changes that have many fields, as bytes.

use super::super::codec::{BadOp, Reader, Writer};
use super::{Attr, Make, Mount};
use crate::tree::mfs::nodes::extents::{Data, Extent};
use crate::tree::mfs::nodes::small_cid::SmallCid;
use crate::tree::mfs::types::{New, NodeKind};

pub(super) fn write_range(out: &mut Writer, range: &Extent) {
    out.u64(range.len);
    match &range.data {
        Data::Hole => out.u8(0),
        Data::Shared { cid, offset } => {
            out.u8(1);
            out.bytes(&cid.get().to_bytes());
            out.u64(*offset);
        }
        Data::Bytes(bytes) => {
            out.u8(2);
            out.bytes(bytes);
        }
    }
}

/// Bytes that a range takes in an entry.
pub(in crate::tree::mfs) fn range_bytes(range: &Extent) -> usize {
    9 + match &range.data {
        Data::Hole => 0,
        Data::Shared { cid, .. } => 12 + cid.get().encoded_len(),
        Data::Bytes(bytes) => 4 + bytes.len(),
    }
}

pub(super) fn read_range(input: &mut Reader) -> Result<Extent, BadOp> {
    let len = input.u64()?;
    let data = match input.u8()? {
        0 => Data::Hole,
        1 => Data::Shared {
            cid: SmallCid::from(&input.cid()?),
            offset: input.u64()?,
        },
        2 => {
            let bytes = input.bytes()?;
            if bytes.len() as u64 != len {
                return Err(BadOp("length of a range"));
            }
            Data::Bytes(std::sync::Arc::new(bytes.to_vec()))
        }
        _ => return Err(BadOp("kind of range")),
    };
    Ok(Extent { len, data })
}

impl Make {
    pub(super) fn write(&self, out: &mut Writer) {
        out.entry(self.parent, &self.name);
        out.node(self.node);
        let (kind, rdev, target): (_, u32, &[u8]) = match &self.new {
            New::File => (NodeKind::File, 0, &[]),
            New::Directory => (NodeKind::Directory, 0, &[]),
            New::Symlink(target) => (NodeKind::Symlink, 0, target),
            New::Fifo => (NodeKind::Fifo, 0, &[]),
            New::Socket => (NodeKind::Socket, 0, &[]),
            New::CharDevice(rdev) => (NodeKind::CharDevice, *rdev, &[]),
            New::BlockDevice(rdev) => (NodeKind::BlockDevice, *rdev, &[]),
        };
        out.u8(kind as u8);
        out.u32(rdev);
        out.bytes(target);
        for number in [self.mode, self.uid, self.gid] {
            out.u32(number);
        }
        out.time(self.time);
        out.u32(self.xattrs.len() as u32);
        for (name, value) in &self.xattrs {
            out.bytes(name);
            out.bytes(value);
        }
    }

    pub(super) fn read(input: &mut Reader) -> Result<Self, BadOp> {
        let (parent, name) = input.entry()?;
        let node = input.node()?;
        let kind = input.kind()?;
        let (rdev, target) = (input.u32()?, input.bytes()?);
        let new = match kind {
            NodeKind::File => New::File,
            NodeKind::Directory => New::Directory,
            NodeKind::Symlink => New::Symlink(target),
            NodeKind::Fifo => New::Fifo,
            NodeKind::Socket => New::Socket,
            NodeKind::CharDevice => New::CharDevice(rdev),
            NodeKind::BlockDevice => New::BlockDevice(rdev),
        };
        let (mode, uid, gid) = (input.u32()?, input.u32()?, input.u32()?);
        let time = input.time()?;
        let mut xattrs = Vec::new();
        for _ in 0..input.u32()? {
            xattrs.push((input.name()?, input.bytes()?));
        }
        Ok(Self {
            parent,
            name,
            node,
            new,
            mode,
            uid,
            gid,
            time,
            xattrs,
        })
    }
}

impl Attr {
    pub(super) fn write(&self, out: &mut Writer) {
        out.node(self.node);
        for number in [self.mode, self.uid, self.gid] {
            out.maybe_u32(number);
        }
        for time in [self.atime, self.mtime] {
            out.u8(u8::from(time.is_some()));
            out.time(time.unwrap_or_default());
        }
        out.time(self.ctime);
        out.u8(u8::from(self.acl.is_some()));
        out.bytes(self.acl.as_deref().unwrap_or_default());
    }

    pub(super) fn read(input: &mut Reader) -> Result<Self, BadOp> {
        let node = input.node()?;
        let (mode, uid, gid) = (input.maybe_u32()?, input.maybe_u32()?, input.maybe_u32()?);
        let mut maybe_time = || {
            let there = input.u8()? != 0;
            let time = input.time()?;
            Ok(there.then_some(time))
        };
        let (atime, mtime) = (maybe_time()?, maybe_time()?);
        let ctime = input.time()?;
        let has_acl = input.u8()? != 0;
        let acl = input.bytes()?;
        let acl = has_acl.then_some(acl);
        Ok(Self {
            node,
            mode,
            uid,
            gid,
            atime,
            mtime,
            ctime,
            acl,
        })
    }
}

impl Mount {
    pub(super) fn write(&self, out: &mut Writer) {
        out.entry(self.parent, &self.name);
        out.node(self.node);
        out.bytes(&self.cid.to_bytes());
        out.u8(self.kind as u8);
        out.u64(self.size);
        out.u64(self.tsize);
        out.bytes(&self.target);
        for number in [self.mode, self.uid, self.gid] {
            out.u32(number);
        }
        out.time(self.mtime);
        out.time(self.time);
    }

    pub(super) fn read(input: &mut Reader) -> Result<Self, BadOp> {
        let (parent, name) = input.entry()?;
        Ok(Self {
            parent,
            name,
            node: input.node()?,
            cid: input.cid()?,
            kind: input.kind()?,
            size: input.u64()?,
            tsize: input.u64()?,
            target: input.bytes()?,
            mode: input.u32()?,
            uid: input.u32()?,
            gid: input.u32()?,
            mtime: input.time()?,
            time: input.time()?,
        })
    }
}
