//! Blocks on disk: append-only CARv1 files, `packs/{own,cache}/<id>.car`.
//!
//! `own` packs hold what was written or added here and are never evicted;
//! `cache` packs hold fetched blocks and may go at any time. A pack that was
//! begun by an earlier run is never written again: a torn tail stays as it is
//! and is reported, and new blocks go to a new pack. Reading is `pread`, so a
//! bad sector is an error of its block. After a crash the whole blocks of
//! every pack are there; what was synced is there after a loss of power.

mod pack;
mod set;

pub(super) use pack::{Pack, sections};
pub use pack::{PackId, Tier};
pub(super) use set::Packs;

/// Where a block's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) pack: PackId,
    /// Offset of the bytes in the pack.
    pub(super) offset: u32,
    pub(super) len: u32,
}

impl Location {
    /// Twelve bytes: pack, offset, length, little-endian.
    pub(super) fn encode(self) -> [u8; 12] {
        let mut out = [0; 12];
        let fields = [self.pack.0, self.offset, self.len];
        for (to, from) in out.chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 12] = bytes.try_into().ok()?;
        let mut fields = bytes.chunks_exact(4).map(|f| match f {
            [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
            _ => 0,
        });
        let (pack, offset, len) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self {
            pack: PackId(pack),
            offset,
            len,
        })
    }
}
