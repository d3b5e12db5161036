//! One fetch per block, however many wait for it.
//!
//! A flight is a shared future: whoever waits drives it, so nobody depends on
//! who came first, and it is given up when its last waiter is gone.

use std::collections::HashMap;
use std::future::Future;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

use super::error::CacheError;
use crate::block::{Block, Multihash};

type Flight = BoxFuture<'static, Result<Block, CacheError>>;

/// The fetches under way.
#[derive(Default)]
pub(super) struct Flights {
    open: Mutex<HashMap<Multihash, WeakShared<Flight>>>,
}

impl Flights {
    /// Joins the flight for `key`, or starts one with `fetch`.
    pub(super) fn join<F>(&self, key: Multihash, fetch: impl FnOnce() -> F) -> Shared<Flight>
    where
        F: Future<Output = Result<Block, CacheError>> + Send + 'static,
    {
        let mut open = self.open.lock();
        if let Some(flight) = open.get(&key).and_then(WeakShared::upgrade) {
            // One that has landed is over: a failure must not be given to the late.
            if flight.peek().is_none() {
                return flight;
            }
        }
        let flight = fetch().boxed().shared();
        if open.len() >= SWEEP_AT {
            open.retain(|_, flight| flight.upgrade().is_some_and(|f| f.peek().is_none()));
        }
        if let Some(weak) = flight.downgrade() {
            open.insert(key, weak);
        }
        flight
    }

    /// Forgets a flight that has landed.
    pub(super) fn land(&self, key: &Multihash) {
        let mut open = self.open.lock();
        let over = open
            .get(key)
            .is_some_and(|f| f.upgrade().is_none_or(|f| f.peek().is_some()));
        if over {
            open.remove(key);
        }
    }
}

/// Abandoned flights are swept out when there are so many entries.
const SWEEP_AT: usize = 4096;
