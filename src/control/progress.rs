//! How an operation tells what it is doing while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use crate::config::PROGRESS_INTERVAL;

/// The one who listened has gone: stop working for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the caller has gone")]
pub struct Gone;

/// Someone who hears of progress. Called from several threads at once.
pub trait Listener: Send + Sync {
    /// Takes something that must not be lost (a file that was added). May
    /// block until there is room: never called from an async task.
    fn item(&self, event: Value) -> Result<(), Gone>;

    /// Takes figures that a later call replaces. Never blocks; may be dropped.
    fn tick(&self, event: Value);

    /// Tells whether nobody listens any more. Never blocks.
    fn is_gone(&self) -> bool {
        false
    }
}

/// Where an operation reports to. Cheap to clone; reports nowhere by default.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<Heard>>);

struct Heard {
    listener: Arc<dyn Listener>,
    start: Instant,
    /// When the next figures are wanted, in milliseconds since the start.
    next_ms: AtomicU64,
}

impl Progress {
    /// Reports to `listener`.
    pub fn new(listener: Arc<dyn Listener>) -> Self {
        let (start, next_ms) = (Instant::now(), AtomicU64::new(0));
        Self(Some(Arc::new(Heard {
            listener,
            start,
            next_ms,
        })))
    }

    /// Tells whether anyone listens.
    pub fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// An error where someone listened and has gone: for work that has nothing
    /// to say on the way. Never blocks.
    pub fn heard(&self) -> Result<(), Gone> {
        match &self.0 {
            Some(heard) if heard.listener.is_gone() => Err(Gone),
            Some(_) | None => Ok(()),
        }
    }

    /// Reports something that must not be lost. May block.
    pub fn item(&self, event: impl Serialize) -> Result<(), Gone> {
        match (&self.0, serde_json::to_value(event)) {
            (Some(heard), Ok(value)) => heard.listener.item(value),
            (None, _) | (_, Err(_)) => Ok(()),
        }
    }

    /// Reports figures that a later call replaces, as `{"progress": …}`; they
    /// are only made when it is time again to report some.
    pub fn tick(&self, figures: impl FnOnce() -> Value) {
        let Some(heard) = &self.0 else { return };
        let now = u64::try_from(heard.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = heard.next_ms.load(Ordering::Relaxed);
        let then = now + u64::try_from(PROGRESS_INTERVAL.as_millis()).unwrap_or(0);
        let order = Ordering::Relaxed;
        if now >= next
            && heard
                .next_ms
                .compare_exchange(next, then, order, order)
                .is_ok()
        {
            heard.listener.tick(json!({"progress": figures()}));
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Value>>);

    impl Listener for Kept {
        fn item(&self, event: Value) -> Result<(), Gone> {
            self.0.lock().push(event);
            Ok(())
        }

        fn tick(&self, event: Value) {
            self.0.lock().push(event);
        }
    }

    #[test]
    fn figures_are_thinned_out_and_items_are_not() {
        let kept = Arc::new(Kept::default());
        let progress = Progress::new(Arc::clone(&kept) as _);
        for number in 0..1000 {
            progress.tick(|| json!({"bytes": number}));
            progress.item(json!({"number": number})).unwrap();
        }
        let all = kept.0.lock();
        let figures = all
            .iter()
            .filter(|event| event.get("progress").is_some())
            .count();
        assert!((1..100).contains(&figures), "{figures}");
        assert_eq!(all.len() - figures, 1000);
    }
}
