//! One fetch per block, however many wait for it.
//!
//! Waiters share one future. Whoever is awake drives it; when one leaves, the
//! others still do, and when the last one leaves it is dropped, which gives
//! the fetch up. A fetch that panics is an error for its waiters.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

use super::error::CacheError;
use super::key::Key;
use crate::block::{Block, Cid};

type Outcome = Result<Block, CacheError>;
type Work = BoxFuture<'static, Outcome>;
type Flights = Arc<Mutex<HashMap<Key, (u64, WeakShared<Work>)>>>;

/// The fetches under way.
#[derive(Default)]
pub(super) struct Inflight {
    flights: Flights,
    next: AtomicU64,
}

/// Takes its entry out of the table when the fetch ends, whatever way.
struct Entry {
    flights: Flights,
    key: Key,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        // A newcomer may have begun anew between the last waiter's leaving and now.
        if flights
            .get(&self.key)
            .is_some_and(|(n, _)| *n == self.number)
        {
            flights.remove(&self.key);
        }
    }
}

impl Inflight {
    /// Joins the fetch of `key`, or begins one. Tells whether it was joined.
    pub(super) fn join<F>(
        &self,
        key: Key,
        cid: Cid,
        begin: impl FnOnce() -> F,
    ) -> (Shared<Work>, bool)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut flights = self.flights.lock();
        if let Some(shared) = flights.get(&key).and_then(|(_, weak)| weak.upgrade()) {
            return (shared, true);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Entry {
            flights: Arc::clone(&self.flights),
            key,
            number,
        };
        let work = AssertUnwindSafe(begin()).catch_unwind();
        let work: Work = Box::pin(async move {
            let _entry = entry;
            work.await.unwrap_or_else(|_| {
                let why = "the fetch panicked".to_owned();
                Err(CacheError::Unavailable { cid, why })
            })
        });
        let shared = work.shared();
        if let Some(weak) = shared.downgrade() {
            flights.insert(key, (number, weak));
        }
        (shared, false)
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.flights.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::sync::oneshot;

    use super::*;
    use crate::block::{RAW, SHA2_256};

    fn block() -> Block {
        Block::seal(RAW, SHA2_256, Bytes::from_static(b"x")).unwrap()
    }

    fn key() -> Key {
        Key::of(block().cid()).unwrap()
    }

    #[tokio::test]
    async fn the_fetch_goes_on_when_the_one_who_began_it_leaves() {
        let inflight = Inflight::default();
        let (send, receive) = oneshot::channel::<()>();
        let (leader, joined) = inflight.join(key(), *block().cid(), || async move {
            receive.await.unwrap();
            Ok(block())
        });
        assert!(!joined);
        let leader = tokio::spawn(leader);
        let (waiter, joined) = inflight.join(key(), *block().cid(), || async {
            unreachable!("began twice")
        });
        assert!(joined);
        let waiter = tokio::spawn(waiter);
        tokio::time::sleep(Duration::from_millis(10)).await;
        leader.abort();
        assert!(leader.await.is_err());
        send.send(()).unwrap();
        assert_eq!(waiter.await.unwrap().unwrap(), block());
        assert_eq!(inflight.len(), 0);
    }

    #[tokio::test]
    async fn the_fetch_is_given_up_when_the_last_waiter_leaves() {
        struct Dropped(Arc<AtomicUsize>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let inflight = Inflight::default();
        let drops = Arc::new(AtomicUsize::new(0));
        let dropped = Dropped(Arc::clone(&drops));
        let begin = || async move {
            let _dropped = dropped;
            std::future::pending().await
        };
        let (one, _) = inflight.join(key(), *block().cid(), begin);
        let (two, _) = inflight.join(key(), *block().cid(), || async { Ok(block()) });
        drop(one);
        assert_eq!((drops.load(Ordering::SeqCst), inflight.len()), (0, 1));
        drop(two);
        assert_eq!((drops.load(Ordering::SeqCst), inflight.len()), (1, 0));
        let (anew, joined) = inflight.join(key(), *block().cid(), || async { Ok(block()) });
        assert!(!joined);
        assert!(anew.await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_in_the_fetch_is_an_error_for_everyone() {
        let inflight = Inflight::default();
        let (one, _) = inflight.join(key(), *block().cid(), || async { panic!("on purpose") });
        let (two, _) = inflight.join(key(), *block().cid(), || async { Ok(block()) });
        for result in [one.await, two.await] {
            assert!(matches!(result, Err(CacheError::Unavailable { .. })));
        }
        assert_eq!(inflight.len(), 0);
    }
}
