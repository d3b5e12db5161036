//! Which cache packs go: a function of values.

/// What is known of a cache pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackUse {
    pub(super) number: u32,
    pub(super) bytes: u64,
    /// When it was last read from; larger is later.
    pub(super) used: u64,
    /// Whether it is being appended to.
    pub(super) current: bool,
}

/// What bounds the cache packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) bytes_max: u64,
    pub(super) free_min: u64,
}

/// Chooses the packs to drop so that `wanted` bytes more fit: the longest
/// unused first, the one that is appended to last. `None` where dropping all
/// of them would not do; then none is to be dropped for it.
pub(super) fn choose(
    packs: &[PackUse],
    limits: &Limits,
    free: u64,
    wanted: u64,
) -> Option<Vec<u32>> {
    let mut total: u64 = packs.iter().map(|pack| pack.bytes).sum();
    let mut free = free;
    let fits = |total: u64, free: u64| {
        total.saturating_add(wanted) <= limits.bytes_max
            && free >= limits.free_min.saturating_add(wanted)
    };
    let mut order: Vec<&PackUse> = packs.iter().collect();
    order.sort_unstable_by_key(|pack| (pack.current, pack.used, pack.number));
    let mut victims = Vec::new();
    let mut order = order.into_iter();
    while !fits(total, free) {
        let pack = order.next()?;
        total -= pack.bytes;
        free = free.saturating_add(pack.bytes);
        victims.push(pack.number);
    }
    Some(victims)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs() -> Vec<PackUse> {
        [(1, 50), (2, 10), (3, 40), (4, 5)]
            .map(|(number, used)| PackUse {
                number,
                bytes: 100,
                used,
                current: number == 4,
            })
            .to_vec()
    }

    const LIMITS: Limits = Limits {
        bytes_max: 450,
        free_min: 1000,
    };

    #[test]
    fn nothing_goes_while_there_is_room() {
        assert_eq!(choose(&packs(), &LIMITS, 2000, 50), Some(vec![]));
    }

    #[test]
    fn the_longest_unused_go_first_and_only_as_many_as_needed() {
        assert_eq!(choose(&packs(), &LIMITS, 2000, 51), Some(vec![2]));
        assert_eq!(choose(&packs(), &LIMITS, 2000, 200), Some(vec![2, 3]));
    }

    #[test]
    fn the_pack_that_is_appended_to_goes_last() {
        assert_eq!(choose(&packs(), &LIMITS, 2000, 400), Some(vec![2, 3, 1, 4]));
    }

    #[test]
    fn free_disk_is_kept_and_no_pack_dies_in_vain() {
        assert_eq!(choose(&packs(), &LIMITS, 950, 0), Some(vec![2]));
        assert_eq!(choose(&packs(), &LIMITS, 500, 0), None);
        assert_eq!(choose(&packs(), &LIMITS, 2000, 451), None);
    }
}
