//! Lists what is in the packs.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::blocks::Blocks;
use super::error::CacheError;
use super::index::Lookup;
use super::key::Key;
use super::options::{Spend, Tier};
use super::packs::{Cursor, PackId, scan};
use super::store::location;
use crate::block::Cid;

/// Where a listing goes on. Opaque; good while the store is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CidCursor {
    pack: PackId,
    at: Option<Cursor>,
}

impl Blocks {
    /// Lists CIDs of blocks in packs, own ones first, from a cursor on, about
    /// `count_max` of them; `None` in the second place is the end.
    ///
    /// Each block shows once, under the CID that it was put with. Blocks that
    /// come or go meanwhile may be missed, others not.
    pub fn cids(
        &self,
        from: Option<CidCursor>,
        count_max: usize,
    ) -> Result<(Vec<Cid>, Option<CidCursor>), CacheError> {
        let mut found = Vec::new();
        let Some(store) = self.store() else {
            return Ok((found, None));
        };
        store.flush(Tier::Own, Spend::Nothing)?;
        let packs = [Tier::Own, Tier::Cache]
            .into_iter()
            .flat_map(|tier| store.packs.of(tier));
        for pack in packs {
            if from.is_some_and(|from| pack.id < from.pack) {
                continue;
            }
            let Ok(file) = store.packs.file(pack.id) else {
                continue;
            };
            let at = from
                .filter(|from| from.pack == pack.id)
                .and_then(|from| from.at);
            let len = pack.len.load(Ordering::Acquire);
            let mut stopped = false;
            let scanned = scan(&*file, len, at, &mut |head, ordinal| {
                if found.len() >= count_max {
                    stopped = true;
                    return ControlFlow::Break(());
                }
                let here = Lookup::Found(location(&pack, head, ordinal));
                if Key::of(&head.cid).is_ok_and(|key| store.lookup(&key) == here) {
                    found.push(head.cid);
                }
                ControlFlow::Continue(())
            })?;
            if stopped {
                let at = Some(scanned.end);
                return Ok((found, Some(CidCursor { pack: pack.id, at })));
            }
        }
        Ok((found, None))
    }
}
