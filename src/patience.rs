//! How long those wait for whom work is done, and what failed them a moment ago.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;
use tokio::task::futures::TaskLocalFuture;

use crate::config::{FAILURE_KEPT_FOR, FAILURES_KEPT_MAX};

tokio::task_local! {
    static PATIENCE: Patience;
}

/// How long someone waits, from when they asked.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    whole: Duration,
    until: Instant,
}

/// Does work for someone who waits so long, all its steps together.
///
/// Tasks that the work starts do not know of it.
pub fn within<W: Future>(whole: Duration, work: W) -> TaskLocalFuture<Patience, W> {
    PATIENCE.scope(Patience::of(whole), work)
}

impl Patience {
    /// Waits so long from now.
    pub fn of(whole: Duration) -> Self {
        let until = Instant::now() + whole;
        Self { whole, until }
    }

    /// That of whoever waits for the work under way; where nobody said, `plain`.
    pub fn current(plain: Duration) -> Self {
        PATIENCE
            .try_with(|patience| *patience)
            .unwrap_or_else(|_| Self::of(plain))
    }

    /// What is left of it.
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// What failed a moment ago, so that those who queue up for it, or ask again at
/// once, do not wait one after the other.
#[derive(Debug)]
pub struct Failures<K: Hash + Eq, E> {
    kept: Mutex<LruCache<K, Failure<E>>>,
}

#[derive(Debug)]
struct Failure<E> {
    error: E,
    until: Instant,
    /// How long who waited in vain would wait at most: it says nothing to those
    /// who wait longer.
    waited: Option<Duration>,
}

impl<K: Hash + Eq, E: Clone> Default for Failures<K, E> {
    fn default() -> Self {
        let room = NonZeroUsize::new(FAILURES_KEPT_MAX).unwrap_or(NonZeroUsize::MIN);
        Self {
            kept: Mutex::new(LruCache::new(room)),
        }
    }
}

impl<K: Hash + Eq, E: Clone> Failures<K, E> {
    /// What someone of this patience would be told again.
    pub fn recall(&self, key: &K, patience: &Patience) -> Option<E> {
        let mut kept = self.kept.lock();
        let failure = kept.get(key)?;
        let counts = Instant::now() < failure.until
            && failure.waited.is_none_or(|waited| patience.whole <= waited);
        counts.then(|| failure.error.clone())
    }

    /// Notes a failure, which is one for everybody.
    pub fn note(&self, key: K, error: E) {
        self.put(key, error, None);
    }

    /// Notes that someone of this patience waited in vain.
    pub fn note_late(&self, key: K, error: E, patience: &Patience) {
        self.put(key, error, Some(patience.whole));
    }

    fn put(&self, key: K, error: E, waited: Option<Duration>) {
        let failure = Failure {
            error,
            until: Instant::now() + FAILURE_KEPT_FOR,
            waited,
        };
        self.kept.lock().put(key, failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn waiting_in_vain_is_a_failure_for_those_who_wait_no_longer() {
        let failures = Failures::default();
        failures.note_late("a", "late", &Patience::of(SHORT));
        let recall = |key, whole| failures.recall(&key, &Patience::of(whole));
        assert_eq!(recall("a", SHORT), Some("late"));
        assert_eq!(recall("a", LONG), None);
        failures.note("a", "absent");
        assert_eq!(recall("a", LONG), Some("absent"));
        assert_eq!(recall("b", SHORT), None);
    }

    #[tokio::test]
    async fn work_knows_how_long_it_is_waited_for() {
        let left = || async { Patience::current(LONG).left() };
        assert!(within(SHORT, left()).await <= SHORT);
        assert!(left().await > SHORT);
    }
}
