//! `verify`: reads every block of every pack and proves it.

use bytes::Bytes;
use serde::Serialize;

use super::blocks::Blocks;
use super::error::CacheError;
use super::packs::sections;
use crate::block::{Cid, verify_bytes};

/// How far a scrub is: bytes read, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Bytes of packs read so far.
    pub bytes: u64,
    /// Bytes of all packs.
    pub of: u64,
}

/// What a scrub found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Packs read.
    pub packs: u64,
    /// Blocks that are sound.
    pub blocks: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Blocks whose bytes are wrong, or cannot be read.
    pub damaged: Vec<DamagedBlock>,
    /// Packs that end in something other than a whole block.
    pub torn: Vec<TornPack>,
}

/// A damaged block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedBlock {
    /// Its CID.
    pub cid: String,
    /// Its pack, relative to `packs/`.
    pub pack: String,
    /// Where its bytes begin in the pack.
    pub offset: u64,
    /// Cause in words.
    pub why: String,
}

/// A pack with a torn or damaged tail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TornPack {
    /// The pack, relative to `packs/`.
    pub pack: String,
    /// Where its whole blocks end.
    pub end: u64,
    /// Its length.
    pub len: u64,
    /// Cause in words.
    pub why: String,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty() && self.torn.is_empty()
    }
}

impl Blocks {
    /// Proves every block on disk. What is damaged is isolated: no read gets
    /// it any more, and sources are asked for it.
    pub fn verify_all(
        &self,
        progress: &dyn Fn(VerifyProgress),
    ) -> Result<VerifyReport, CacheError> {
        let mut report = VerifyReport::default();
        let Some(store) = &self.store else {
            return Ok(report);
        };
        self.wait_for_index(store)?;
        let packs = store.packs.all();
        let of = packs.iter().map(|p| p.len()).sum();
        let mut done = 0;
        for pack in packs {
            let file = pack.id.file().display().to_string();
            let mut data = Vec::new();
            let (end, torn) = sections(&pack, &mut |head| {
                data.resize(usize::try_from(head.data_len).unwrap_or(0), 0);
                let read = pack.file.read_at(&mut data, head.data_offset());
                let sound = read
                    .map_err(|e| e.to_string())
                    .and_then(|()| verify_bytes(&head.cid, &data).map_err(|e| e.to_string()));
                match sound {
                    Ok(()) => {
                        report.blocks += 1;
                        report.bytes += head.data_len;
                    }
                    Err(why) => {
                        let (cid, offset) = (head.cid.to_string(), head.data_offset());
                        self.isolate(&head.cid, &pack, offset, &why);
                        report.damaged.push(DamagedBlock {
                            cid,
                            pack: file.clone(),
                            offset,
                            why,
                        });
                    }
                }
                progress(VerifyProgress {
                    bytes: done + head.end(),
                    of,
                });
                Ok(())
            })?;
            done += pack.len();
            report.packs += 1;
            if let Some(error) = torn {
                let (len, why) = (pack.len(), error.to_string());
                report.torn.push(TornPack {
                    pack: file,
                    end,
                    len,
                    why,
                });
            }
        }
        Ok(report)
    }

    /// As a damaged read does, if it is this copy that would be read.
    fn isolate(&self, cid: &Cid, pack: &super::packs::Pack, offset: u64, why: &str) {
        let Some(store) = &self.store else { return };
        let read_from = store.index.get(cid.hash());
        if read_from.is_some_and(|l| l.pack == pack.id && u64::from(l.offset) == offset) {
            self.damage(pack, cid, why);
        }
    }

    /// Calls `each` with the multihash and length of every block on disk.
    pub fn for_each_block(&self, each: &mut dyn FnMut(Bytes, u64)) -> Result<(), CacheError> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        self.wait_for_index(store)?;
        store
            .index
            .for_each(&mut |key, at| each(Bytes::copy_from_slice(key), at.len.into()));
        Ok(())
    }
}
