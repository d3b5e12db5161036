//! Little-endian numbers and counted bytes: what changes are made of.

use bytes::{Buf, Bytes};

use crate::block::Cid;
use crate::tree::mfs::nodes::node::Name;
use crate::tree::mfs::types::{NodeId, NodeKind, Time};

/// A payload that is not a change; the text names the part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed change: {0}")]
pub(in crate::tree::mfs) struct BadOp(pub(in crate::tree::mfs) &'static str);

/// Writes a payload.
pub(in crate::tree::mfs) struct Writer(Vec<u8>);

impl Writer {
    pub(in crate::tree::mfs) fn with_room(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(in crate::tree::mfs) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(in crate::tree::mfs) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(in crate::tree::mfs) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(in crate::tree::mfs) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(in crate::tree::mfs) fn maybe_u32(&mut self, value: Option<u32>) {
        self.u8(u8::from(value.is_some()));
        self.u32(value.unwrap_or_default());
    }

    pub(in crate::tree::mfs) fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
    }

    pub(in crate::tree::mfs) fn node(&mut self, node: NodeId) {
        self.u64(node.number());
    }

    pub(in crate::tree::mfs) fn entry(&mut self, parent: NodeId, name: &Name) {
        self.node(parent);
        self.bytes(name);
    }

    pub(in crate::tree::mfs) fn time(&mut self, time: Time) {
        self.u64(time.sec as u64);
        self.u32(time.nsec);
    }
}

/// Reads a payload; what it gives shares the payload's memory.
pub(in crate::tree::mfs) struct Reader(Bytes);

impl Reader {
    pub(in crate::tree::mfs) fn new(payload: &Bytes) -> Self {
        Self(payload.clone())
    }

    pub(in crate::tree::mfs) fn end(&self) -> Result<(), BadOp> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(BadOp("bytes behind its end"))
        }
    }

    pub(in crate::tree::mfs) fn u8(&mut self) -> Result<u8, BadOp> {
        self.0.try_get_u8().map_err(|_| BadOp("cut off"))
    }

    pub(in crate::tree::mfs) fn u32(&mut self) -> Result<u32, BadOp> {
        self.0.try_get_u32_le().map_err(|_| BadOp("cut off"))
    }

    pub(in crate::tree::mfs) fn u64(&mut self) -> Result<u64, BadOp> {
        self.0.try_get_u64_le().map_err(|_| BadOp("cut off"))
    }

    pub(in crate::tree::mfs) fn maybe_u32(&mut self) -> Result<Option<u32>, BadOp> {
        let there = self.u8()? != 0;
        let value = self.u32()?;
        Ok(there.then_some(value))
    }

    pub(in crate::tree::mfs) fn bytes(&mut self) -> Result<Bytes, BadOp> {
        let len = self.u32()? as usize;
        if len > self.0.len() {
            return Err(BadOp("cut off"));
        }
        Ok(self.0.split_to(len))
    }

    pub(in crate::tree::mfs) fn name(&mut self) -> Result<Name, BadOp> {
        Ok(Name::from(&*self.bytes()?))
    }

    pub(in crate::tree::mfs) fn node(&mut self) -> Result<NodeId, BadOp> {
        NodeId::from_number(self.u64()?).ok_or(BadOp("number of a node"))
    }

    pub(in crate::tree::mfs) fn entry(&mut self) -> Result<(NodeId, Name), BadOp> {
        Ok((self.node()?, self.name()?))
    }

    pub(in crate::tree::mfs) fn time(&mut self) -> Result<Time, BadOp> {
        let (sec, nsec) = (self.u64()? as i64, self.u32()?);
        if nsec > 999_999_999 {
            return Err(BadOp("nanoseconds"));
        }
        Ok(Time { sec, nsec })
    }

    pub(in crate::tree::mfs) fn kind(&mut self) -> Result<NodeKind, BadOp> {
        const KINDS: [NodeKind; 7] = [
            NodeKind::File,
            NodeKind::Directory,
            NodeKind::Symlink,
            NodeKind::Fifo,
            NodeKind::Socket,
            NodeKind::CharDevice,
            NodeKind::BlockDevice,
        ];
        KINDS
            .get(usize::from(self.u8()?))
            .copied()
            .ok_or(BadOp("kind of node"))
    }

    pub(in crate::tree::mfs) fn cid(&mut self) -> Result<Cid, BadOp> {
        Cid::try_from(&*self.bytes()?).map_err(|_| BadOp("CID"))
    }
}
