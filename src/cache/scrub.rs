//! Reads every block on disk and proves it.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::blocks::Blocks;
use super::error::CacheError;
use super::index::{Change, Lookup};
use super::key::Key;
use super::options::{Spend, Tier};
use super::packs::{Pack, name_of, read_section, scan};
use super::store::{Store, location};
use crate::car::SectionHead;
use crate::config::DAMAGE_LISTED_MAX;

/// How far a scrub is.
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
    /// Blocks that are good.
    pub blocks: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Blocks whose bytes are wrong or cannot be read, the first of them.
    pub damaged: Vec<DamagedBlock>,
    /// How many there are.
    pub damaged_blocks: u64,
    /// Parts of packs that are no blocks.
    pub torn: Vec<TornPack>,
}

/// A damaged block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedBlock {
    /// Its CID.
    pub cid: String,
    /// Its pack, from the repository.
    pub pack: String,
    /// Where its bytes begin in the pack.
    pub offset: u64,
    /// Cause in words.
    pub why: String,
}

/// A part of a pack that is no block: its torn end, mostly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TornPack {
    /// The pack, from the repository.
    pub pack: String,
    /// Where the whole blocks before it end.
    pub end: u64,
    /// How long it is.
    pub bytes: u64,
    /// Whether whole blocks follow it.
    pub inside: bool,
    /// Cause in words.
    pub why: String,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.damaged_blocks == 0 && self.torn.is_empty()
    }
}

impl Blocks {
    /// Proves every block on disk. Damage is reported; a damaged cache block is
    /// forgotten, of a damaged own one reads ask the sources for a good copy.
    pub fn verify_all(
        &self,
        progress: &dyn Fn(VerifyProgress),
    ) -> Result<VerifyReport, CacheError> {
        let mut report = VerifyReport::default();
        let Some(store) = self.store() else {
            return Ok(report);
        };
        store.flush(Tier::Own, Spend::Nothing)?;
        store.flush_cache();
        let packs: Vec<_> = [Tier::Own, Tier::Cache]
            .into_iter()
            .flat_map(|tier| store.packs.of(tier))
            .collect();
        let of = packs
            .iter()
            .map(|pack| pack.len.load(Ordering::Acquire))
            .sum();
        let mut done = 0;
        for pack in &packs {
            let len = pack.len.load(Ordering::Acquire);
            verify_pack(store, pack, len, &mut report, &mut |bytes| {
                progress(VerifyProgress {
                    bytes: done + bytes,
                    of,
                });
            })?;
            done += len;
            progress(VerifyProgress { bytes: done, of });
        }
        Ok(report)
    }
}

fn verify_pack(
    store: &Store,
    pack: &Arc<Pack>,
    len: u64,
    report: &mut VerifyReport,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let file = match store.packs.file(pack.id) {
        // It was evicted or collected meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut data = Vec::new();
    let mut said = 0;
    let mut scanned = scan(&*file, len, None, &mut |head, _| {
        match read_section(&*file, head, &mut data) {
            Ok(_) => {
                report.blocks += 1;
                report.bytes += head.data_len;
            }
            // A collection has cut it off meanwhile.
            Err(_) if !pack.reaches(head.end()) => {}
            Err(why) => damaged(store, pack, head, why, report),
        }
        if head.end() - said > 1 << 20 {
            said = head.end();
            progress(said);
        }
        ControlFlow::Continue(())
    })?;
    if !pack.reaches(len) {
        scanned
            .damage
            .retain(|damage| pack.reaches(damage.offset + 1));
    }
    report.packs += 1;
    report
        .torn
        .extend(scanned.damage.iter().map(|damage| TornPack {
            pack: name_of(pack.id),
            end: damage.offset,
            bytes: damage.bytes,
            inside: !damage.torn,
            why: damage.why.clone(),
        }));
    *pack.damage.lock() = scanned.damage;
    Ok(())
}

fn damaged(store: &Store, pack: &Pack, head: &SectionHead, why: String, report: &mut VerifyReport) {
    let place = location(pack, head, 0);
    let Ok(key) = Key::of(&head.cid) else { return };
    // A bad copy that a good one has replaced is not looked up any more.
    if let Lookup::Found(at) = store.lookup(&key)
        && at == place
    {
        pack.disprove(at.ordinal);
        if pack.id.tier == Tier::Cache {
            store.change_index(&[Change::Remove(key, place)]);
        }
    }
    report.damaged_blocks += 1;
    if report.damaged.len() < DAMAGE_LISTED_MAX {
        report.damaged.push(DamagedBlock {
            cid: head.cid.to_string(),
            pack: name_of(pack.id),
            offset: head.data_offset(),
            why,
        });
    }
}
