//! Gives up after a time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{BlockSource, Fetched, NameRecord, Selector, SourceError, SourceFigures};
use crate::block::{BlockSink, Cid};
use crate::config::SELECT_DEADLINE;

/// A source that answers, or fails, before a deadline.
///
/// A request for many blocks has [`SELECT_DEADLINE`] instead, since it takes
/// as long as its bytes; that it makes progress is its source's business.
pub struct Deadline {
    inner: Arc<dyn BlockSource>,
    after: Duration,
}

impl Deadline {
    /// Gives `inner` the time `after` for each request.
    pub fn new(inner: Arc<dyn BlockSource>, after: Duration) -> Self {
        Self { inner, after }
    }

    async fn within<T>(
        &self,
        after: Duration,
        what: impl FnOnce() -> String + Send,
        request: impl Future<Output = Result<T, SourceError>> + Send,
    ) -> Result<T, SourceError> {
        match tokio::time::timeout(after, request).await {
            Ok(answer) => answer,
            Err(_) => Err(SourceError::Timeout {
                what: what(),
                source_name: self.name(),
                after,
            }),
        }
    }
}

#[async_trait]
impl BlockSource for Deadline {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn get(&self, cid: &Cid) -> Result<Fetched, SourceError> {
        self.within(self.after, || cid.to_string(), self.inner.get(cid))
            .await
    }

    async fn select(&self, selector: &Selector, sink: &dyn BlockSink) -> Result<(), SourceError> {
        let request = self.inner.select(selector, sink);
        self.within(SELECT_DEADLINE, || selector.root.to_string(), request)
            .await
    }

    async fn resolve(&self, name: &str) -> Result<NameRecord, SourceError> {
        self.within(
            self.after,
            || format!("/ipns/{name}"),
            self.inner.resolve(name),
        )
        .await
    }

    async fn probe(&self) -> Result<(), SourceError> {
        self.within(self.after, || "a probe".to_owned(), self.inner.probe())
            .await
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
