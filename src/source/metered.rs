//! Counts what a source does and judges its health.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{BlockSource, Fetched, NameRecord, Selector, SourceError, SourceFigures};
use crate::block::{Block, BlockSink, Cid};
use crate::config::{FAILING_PAUSE, FAILURES_IN_A_ROW_MAX};

/// Counters and health of one source since start.
#[derive(Debug, Default)]
pub struct Meter {
    requests: AtomicU64,
    blocks: AtomicU64,
    bytes: AtomicU64,
    not_found: AtomicU64,
    failures: AtomicU64,
    corrupt: AtomicU64,
    distrusted: AtomicBool,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    failures_in_a_row: u32,
    failed_at: Option<Instant>,
    last_error: Option<String>,
}

impl Meter {
    /// Whether it sent wrong bytes since start.
    pub fn is_distrusted(&self) -> bool {
        self.distrusted.load(Ordering::Relaxed)
    }

    /// Whether it failed several times in a row, the last time a short while ago.
    pub fn is_failing(&self) -> bool {
        let recent = self.recent.lock();
        recent.failures_in_a_row >= FAILURES_IN_A_ROW_MAX
            && recent
                .failed_at
                .is_some_and(|at| at.elapsed() < FAILING_PAUSE)
    }

    fn count_block(&self, block: &Block) {
        self.blocks.fetch_add(1, Ordering::Relaxed);
        self.bytes
            .fetch_add(block.data().len() as u64, Ordering::Relaxed);
    }

    fn count_answer(&self, answer: Result<(), &SourceError>, local: bool) {
        match answer {
            Ok(()) => self.recent.lock().failures_in_a_row = 0,
            // It works; it cannot do everything.
            Err(SourceError::Unsupported { .. }) => (),
            Err(SourceError::NotFound { .. }) => {
                self.not_found.fetch_add(1, Ordering::Relaxed);
                self.recent.lock().failures_in_a_row = 0;
            }
            Err(error @ SourceError::Corrupt { .. }) => {
                self.corrupt.fetch_add(1, Ordering::Relaxed);
                if !local && !self.distrusted.swap(true, Ordering::Relaxed) {
                    tracing::warn!("{error}; this source is asked last from now on");
                }
                self.count_failure(error);
            }
            Err(
                error @ (SourceError::Timeout { .. }
                | SourceError::Unreachable { .. }
                | SourceError::Limited { .. }
                | SourceError::Io { .. }),
            ) => self.count_failure(error),
        }
    }

    fn count_failure(&self, error: &SourceError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut recent = self.recent.lock();
        recent.failures_in_a_row = recent.failures_in_a_row.saturating_add(1);
        recent.failed_at = Some(Instant::now());
        recent.last_error = Some(error.to_string());
    }

    /// The figures so far, over what the source itself reports.
    fn figures(&self, own: SourceFigures) -> SourceFigures {
        let health = if self.is_distrusted() {
            "distrusted".to_owned()
        } else if self.is_failing() {
            "failing".to_owned()
        } else {
            own.health
        };
        SourceFigures {
            name: own.name,
            health,
            requests: self.requests.load(Ordering::Relaxed),
            blocks: self.blocks.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            not_found: self.not_found.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            corrupt: self.corrupt.load(Ordering::Relaxed),
            last_error: self.recent.lock().last_error.clone().or(own.last_error),
        }
    }
}

impl SourceFigures {
    /// Figures of a source that counts nothing itself.
    pub fn named(name: String) -> Self {
        Self {
            name,
            health: "good".to_owned(),
            ..Self::default()
        }
    }
}

/// A source with figures and health.
///
/// A request whose future is dropped counts as sent and as nothing else.
pub struct Metered {
    inner: Arc<dyn BlockSource>,
    meter: Arc<Meter>,
}

impl Metered {
    /// Counts what `inner` does.
    pub fn new(inner: Arc<dyn BlockSource>) -> Self {
        Self {
            inner,
            meter: Arc::new(Meter::default()),
        }
    }

    /// The counters, shared.
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    fn count<T>(&self, answer: Result<T, SourceError>) -> Result<T, SourceError> {
        self.meter
            .count_answer(answer.as_ref().map(|_| ()), self.inner.is_local());
        answer
    }
}

/// Counts the blocks that pass into a sink.
struct Counting<'a> {
    sink: &'a dyn BlockSink,
    meter: &'a Meter,
}

impl BlockSink for Counting<'_> {
    fn put(&self, block: Block) -> std::io::Result<()> {
        self.meter.count_block(&block);
        self.sink.put(block)
    }
}

#[async_trait]
impl BlockSource for Metered {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn get(&self, cid: &Cid) -> Result<Fetched, SourceError> {
        self.meter.requests.fetch_add(1, Ordering::Relaxed);
        let answer = self.count(self.inner.get(cid).await)?;
        self.meter.count_block(&answer.block);
        Ok(answer)
    }

    async fn select(&self, selector: &Selector, sink: &dyn BlockSink) -> Result<(), SourceError> {
        self.meter.requests.fetch_add(1, Ordering::Relaxed);
        let counting = Counting {
            sink,
            meter: &self.meter,
        };
        self.count(self.inner.select(selector, &counting).await)
    }

    async fn resolve(&self, name: &str) -> Result<NameRecord, SourceError> {
        self.meter.requests.fetch_add(1, Ordering::Relaxed);
        self.count(self.inner.resolve(name).await)
    }

    async fn probe(&self) -> Result<(), SourceError> {
        self.meter.requests.fetch_add(1, Ordering::Relaxed);
        self.count(self.inner.probe().await)
    }

    fn is_local(&self) -> bool {
        self.inner.is_local()
    }

    fn roots(&self) -> Vec<Cid> {
        self.inner.roots()
    }

    fn figures(&self) -> Vec<SourceFigures> {
        self.inner
            .figures()
            .into_iter()
            .map(|own| self.meter.figures(own))
            .collect()
    }
}
