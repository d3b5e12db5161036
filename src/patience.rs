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
    until: Instant,
    /// The thread of the program that waits; 0 where nobody said.
    thread: u32,
}

/// Does work for someone who waits so long, all its steps together.
///
/// Tasks that the work starts do not know of it.
pub fn within<W: Future>(whole: Duration, work: W) -> TaskLocalFuture<Patience, W> {
    PATIENCE.scope(Patience::of(whole), work)
}

/// Does work for a thread of a program that waits so long.
pub fn within_for<W: Future>(
    thread: u32,
    whole: Duration,
    work: W,
) -> TaskLocalFuture<Patience, W> {
    let patience = Patience {
        thread,
        ..Patience::of(whole)
    };
    PATIENCE.scope(patience, work)
}

impl Patience {
    /// Waits so long from now.
    pub fn of(whole: Duration) -> Self {
        Self {
            until: Instant::now() + whole,
            thread: 0,
        }
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
///
/// That someone's time was used up says something about what they waited for only
/// if they have waited for it: who came with little left tells nothing to others.
#[derive(Debug)]
pub struct Failures<K: Hash + Eq, E> {
    kept: Mutex<LruCache<K, Failure<E>>>,
}

#[derive(Debug)]
struct Failure<E> {
    error: E,
    until: Instant,
    /// How long this was waited for in vain, and by which thread; `None` if it is
    /// a failure for everybody.
    late: Option<(Duration, u32)>,
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
        let tells = |(waited, thread): (Duration, u32)| {
            let asks_again = thread != 0 && thread == patience.thread;
            // Half of it is enough to tell: the rest went into what came before.
            asks_again || patience.left() <= waited * 2
        };
        let counts = Instant::now() < failure.until && failure.late.is_none_or(tells);
        counts.then(|| failure.error.clone())
    }

    /// Notes a failure, which is one for everybody.
    pub fn note(&self, key: K, error: E) {
        self.put(key, error, None);
    }

    /// Notes that someone of this patience has waited so long in vain.
    pub fn note_late(&self, key: K, error: E, waited: Duration, patience: &Patience) {
        self.put(key, error, Some((waited, patience.thread)));
    }

    fn put(&self, key: K, error: E, late: Option<(Duration, u32)>) {
        let failure = Failure {
            error,
            until: Instant::now() + FAILURE_KEPT_FOR,
            late,
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
        failures.note_late("a", "late", SHORT, &Patience::of(SHORT));
        let recall = |key, whole| failures.recall(&key, &Patience::of(whole));
        assert_eq!(recall("a", SHORT), Some("late"));
        assert_eq!(recall("a", LONG), None);
        failures.note("a", "absent");
        assert_eq!(recall("a", LONG), Some("absent"));
        assert_eq!(recall("b", SHORT), None);
    }

    #[test]
    fn time_that_was_used_up_elsewhere_is_a_failure_for_nobody_else() {
        let failures = Failures::default();
        let of = |thread| Patience {
            thread,
            ..Patience::of(LONG)
        };
        failures.note_late("a", "late", SHORT, &of(7));
        assert_eq!(failures.recall(&"a", &of(8)), None);
        assert_eq!(failures.recall(&"a", &of(0)), None);
        // A call that is made again, as the kernel does it, has waited before.
        assert_eq!(failures.recall(&"a", &of(7)), Some("late"));
    }

    #[tokio::test]
    async fn work_knows_how_long_it_is_waited_for() {
        let left = || async { Patience::current(LONG).left() };
        assert!(within(SHORT, left()).await <= SHORT);
        assert!(left().await > SHORT);
    }
}
