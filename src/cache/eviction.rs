//! Which cache packs go when space is short: a pure choice.

use super::blocks::Blocks;
use super::figures::Counters;
use super::packs::{PackId, Tier};

/// A cache pack as the choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: PackId,
    pub(super) bytes: u64,
    /// The tick of its last use.
    pub(super) used: u64,
}

/// Chooses packs, least recently used first, until `excess` bytes are freed.
pub(super) fn choose(mut packs: Vec<Candidate>, excess: u64) -> Vec<PackId> {
    packs.sort_by_key(|p| (p.used, p.id));
    let mut freed = 0;
    let mut chosen = Vec::new();
    for pack in packs {
        if freed >= excess {
            break;
        }
        freed += pack.bytes;
        chosen.push(pack.id);
    }
    chosen
}

impl Blocks {
    /// Makes room for `more` bytes of cache; false if there is none to make.
    pub(super) fn make_room(&self, more: u64) -> bool {
        let Some(store) = &self.store else {
            return true;
        };
        let used = store.packs.bytes(Tier::Cache);
        let over = (used + more).saturating_sub(self.options.cache_bytes_max);
        let free = store.packs.free_bytes().unwrap_or(u64::MAX);
        let short = (self.options.disk_free_min + more).saturating_sub(free);
        let excess = over.max(short);
        if excess == 0 {
            return true;
        }
        if excess > used || more > self.options.cache_bytes_max {
            return false;
        }
        let packs = store
            .packs
            .all()
            .into_iter()
            .filter(|p| p.id.tier() == Tier::Cache);
        let candidates = packs.map(|p| Candidate {
            id: p.id,
            bytes: p.len(),
            used: p.used.load(std::sync::atomic::Ordering::Relaxed),
        });
        for id in choose(candidates.collect(), excess) {
            store.packs.roll_over_if(id);
            // The index first: an entry without a pack is only slow.
            store.index.remove_pack(id);
            if let Err(error) = store.packs.remove(id) {
                tracing::warn!(%error, "a cache pack was not removed");
                return false;
            }
            Counters::add(&self.counters.evicted_packs);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_packs_go_and_no_more_than_needed() {
        let pack = |number, bytes, used| Candidate {
            id: PackId(number),
            bytes,
            used,
        };
        let packs = vec![pack(1, 10, 30), pack(2, 10, 10), pack(3, 10, 20)];
        assert_eq!(choose(packs.clone(), 0), []);
        assert_eq!(choose(packs.clone(), 10), [PackId(2)]);
        assert_eq!(choose(packs.clone(), 11), [PackId(2), PackId(3)]);
        assert_eq!(choose(packs, 1000).len(), 3);
    }
}
