//! Keeps the number of requests at once below a limit.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{BlockSource, Fetched, NameRecord, Selector, SourceError, SourceFigures};
use crate::block::{BlockSink, Cid};

/// A source that gets so many requests at once and no more; the others wait
/// in the order in which they came.
pub struct Limit {
    inner: Arc<dyn BlockSource>,
    permits: Semaphore,
}

impl Limit {
    /// Lets `concurrency` requests (at least one) through at once.
    pub fn new(inner: Arc<dyn BlockSource>, concurrency: usize) -> Self {
        let concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            inner,
            permits: Semaphore::new(concurrency),
        }
    }

    async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // It fails only when closed, which nobody does.
        self.permits.acquire().await.ok()
    }
}

#[async_trait]
impl BlockSource for Limit {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn get(&self, cid: &Cid) -> Result<Fetched, SourceError> {
        let _permit = self.permit().await;
        self.inner.get(cid).await
    }

    async fn select(&self, selector: &Selector, sink: &dyn BlockSink) -> Result<(), SourceError> {
        let _permit = self.permit().await;
        self.inner.select(selector, sink).await
    }

    async fn resolve(&self, name: &str) -> Result<NameRecord, SourceError> {
        let _permit = self.permit().await;
        self.inner.resolve(name).await
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
