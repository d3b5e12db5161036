//! Transactions of clients.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Transactions that are under way, by number.
#[derive(Debug, Default)]
pub(super) struct Open(Mutex<BTreeMap<u64, ()>>);

impl Open {
    /// Content that is staged.
    pub(super) fn referred(&self, _roots: &mut Vec<crate::block::Cid>) {}

    /// How many are under way.
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Tells whether a transaction is under way.
    pub(super) fn has(&self, transaction: u64) -> bool {
        self.0.lock().contains_key(&transaction)
    }
}
