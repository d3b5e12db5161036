//! Which entries are asked for. Pure.

use super::entry::{Entry, Status};
use crate::config::{LOG_DAMAGE_LISTED_MAX, LOG_FRAMES_LOOKED_AT_MAX, LOG_FRAMES_PAGE};
use crate::journal::FrameHead;

/// From which end of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The newest first.
    #[default]
    Newest,
    /// The oldest first.
    Oldest,
}

/// What is asked for. What is not said is not looked at.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// From which end.
    pub order: Order,
    /// Where the page before ended.
    pub cursor: Option<u64>,
    /// Most entries; 0 gives none.
    pub limit: usize,
    /// Only entries of this status.
    pub status: Option<Status>,
    /// Only these types of operations.
    pub operations: Vec<String>,
    /// Only what concerns this path or something below it.
    pub path: Option<Vec<u8>>,
    /// Only entries from this time on, in nanoseconds since the epoch.
    pub from_ns: Option<u64>,
    /// Only entries before this time.
    pub until_ns: Option<u64>,
    /// Only entries after this one.
    pub since: Option<u64>,
    /// Only entries before this one.
    pub before: Option<u64>,
    /// Only this transaction.
    pub transaction: Option<u64>,
}

impl Query {
    /// The first entry that may be wanted.
    pub(super) fn first(&self) -> u64 {
        let since = self.since.map_or(1, |since| since.saturating_add(1));
        let cursor = match self.order {
            Order::Oldest => self.cursor.map_or(1, |cursor| cursor.saturating_add(1)),
            Order::Newest => 1,
        };
        // A transaction is called after its first entry.
        since.max(cursor).max(self.transaction.unwrap_or(1))
    }

    /// The entry before which all wanted ones are.
    pub(super) fn before(&self) -> Option<u64> {
        let cursor = self.cursor.filter(|_| self.order == Order::Newest);
        self.before.into_iter().chain(cursor).min()
    }

    /// Whether nothing that comes can be wanted any more, of a list from the oldest
    /// on whose `cursor` is behind all that was there at a time.
    pub fn is_over(&self, at_ns: u64) -> bool {
        self.before.is_some_and(|before| self.first() >= before)
            || self.until_ns.is_some_and(|until| until <= at_ns)
    }

    /// How many frames are read at once.
    pub(super) fn frames_at_once(&self) -> usize {
        let is_filtered = self.status.is_some()
            || !self.operations.is_empty()
            || self.path.is_some()
            || self.transaction.is_some();
        if is_filtered {
            LOG_FRAMES_PAGE
        } else {
            self.limit.clamp(1, LOG_FRAMES_PAGE)
        }
    }

    /// Whether a frame may be wanted, by its head alone.
    pub(super) fn may_want(&self, head: &FrameHead) -> bool {
        let own = if head.tx.0 == 0 {
            head.seq.0
        } else {
            head.tx.0
        };
        self.from_ns.is_none_or(|from| head.time_ns >= from)
            && self.until_ns.is_none_or(|until| head.time_ns < until)
            && self
                .transaction
                .is_none_or(|transaction| transaction == own)
    }

    /// Whether an entry is wanted.
    pub(super) fn wants(&self, entry: &Entry) -> bool {
        self.status.is_none_or(|status| status == entry.status)
            && (self.operations.is_empty()
                || self
                    .operations
                    .iter()
                    .any(|one| one == entry.operation_type))
            && self.path.as_ref().is_none_or(|path| entry.concerns(path))
    }
}

/// A page of entries.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Where the next page goes on; `None` at the end.
    pub cursor: Option<u64>,
    /// Damage that was met: entries that should be here are not.
    pub damage: Vec<String>,
    /// Journal entries that were looked at for it.
    pub looked_at: u64,
}

impl Entries {
    pub(super) fn damaged(&mut self, damage: impl IntoIterator<Item = String>) {
        let room = LOG_DAMAGE_LISTED_MAX.saturating_sub(self.damage.len());
        self.damage.extend(damage.into_iter().take(room));
    }

    /// Whether the page ends here: it has what was asked for, or took long enough.
    pub(super) fn is_full(&self, query: &Query) -> bool {
        self.entries.len() >= query.limit || self.looked_at >= LOG_FRAMES_LOOKED_AT_MAX
    }
}
