//! Sends a failed request again, after a wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::Rng;

use super::{BlockSource, Fetched, NameRecord, Selector, SourceError, SourceFigures};
use crate::block::{BlockSink, Cid};
use crate::config::{RETRY_AFTER_MAX, RETRY_WAIT_MAX, RETRY_WAIT_MIN};

/// A source whose passing failures are tried again.
///
/// Waits double from [`RETRY_WAIT_MIN`] to [`RETRY_WAIT_MAX`], half of each
/// random, so that clients do not come back in step. What the source asks for
/// by Retry-After holds for every request to it; if that is longer than
/// [`RETRY_AFTER_MAX`], requests fail at once until then.
pub struct Retry {
    inner: Arc<dyn BlockSource>,
    retries: u32,
    /// When the source wants to be asked again.
    not_before: Mutex<Option<Instant>>,
}

impl Retry {
    /// Sends a failed request up to `retries` more times.
    pub fn new(inner: Arc<dyn BlockSource>, retries: u32) -> Self {
        Self {
            inner,
            retries,
            not_before: Mutex::new(None),
        }
    }

    async fn run<'a, T>(
        &'a self,
        request: impl Fn() -> BoxFuture<'a, Result<T, SourceError>> + Send,
    ) -> Result<T, SourceError> {
        let mut tries = 0;
        loop {
            self.keep_away().await?;
            let error = match request().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if let SourceError::Limited {
                retry_after: Some(after),
                ..
            } = &error
            {
                *self.not_before.lock() = Some(Instant::now() + (*after).min(MUCH));
            }
            if !is_passing(&error) || tries == self.retries {
                return Err(error);
            }
            tokio::time::sleep(wait(tries)).await;
            tries += 1;
        }
    }

    /// Waits until the source wants to be asked again, if that is soon.
    async fn keep_away(&self) -> Result<(), SourceError> {
        let until = *self.not_before.lock();
        let left = until.map_or(Duration::ZERO, |at| {
            at.saturating_duration_since(Instant::now())
        });
        if left > RETRY_AFTER_MAX {
            return Err(SourceError::Limited {
                source_name: self.name(),
                retry_after: Some(left),
            });
        }
        tokio::time::sleep(left).await;
        Ok(())
    }
}

/// Longest Retry-After that is believed.
const MUCH: Duration = Duration::from_secs(3600);

/// Whether the same request may well succeed a moment later.
fn is_passing(error: &SourceError) -> bool {
    match error {
        SourceError::Timeout { .. }
        | SourceError::Unreachable { .. }
        | SourceError::Limited { .. } => true,
        SourceError::NotFound { .. }
        | SourceError::Corrupt { .. }
        | SourceError::Unsupported { .. }
        | SourceError::Io { .. } => false,
    }
}

/// The wait before a retry: half of it fixed, half random.
fn wait(tries: u32) -> Duration {
    let full = RETRY_WAIT_MIN
        .saturating_mul(1 << tries.min(16))
        .min(RETRY_WAIT_MAX);
    full / 2 + full.mul_f64(rand::rng().random_range(0.0..0.5))
}

#[async_trait]
impl BlockSource for Retry {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn get(&self, cid: &Cid) -> Result<Fetched, SourceError> {
        let cid = *cid;
        self.run(move || Box::pin(async move { self.inner.get(&cid).await }))
            .await
    }

    async fn select(&self, selector: &Selector, sink: &dyn BlockSink) -> Result<(), SourceError> {
        let mut tries = 0;
        // Not by `run`: a borrow of the sink does not live as long as `self`.
        loop {
            self.keep_away().await?;
            let Err(error) = self.inner.select(selector, sink).await else {
                return Ok(());
            };
            if !is_passing(&error) || tries == self.retries {
                return Err(error);
            }
            tokio::time::sleep(wait(tries)).await;
            tries += 1;
        }
    }

    async fn resolve(&self, name: &str) -> Result<NameRecord, SourceError> {
        let name: Arc<str> = name.into();
        self.run(move || {
            let name = Arc::clone(&name);
            Box::pin(async move { self.inner.resolve(&name).await })
        })
        .await
    }

    async fn probe(&self) -> Result<(), SourceError> {
        self.inner.probe().await
    }

    fn is_local(&self) -> bool {
        self.inner.is_local()
    }

    fn roots(&self) -> Vec<Cid> {
        self.inner.roots()
    }

    fn figures(&self) -> Vec<SourceFigures> {
        self.inner.figures()
    }
}
