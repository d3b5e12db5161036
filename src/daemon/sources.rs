//! The sources of a repository: those of its config file, of `--source`, and
//! those that are added while it runs.

use async_trait::async_trait;
use parking_lot::RwLock;
use serde_json::Value;
use std::sync::Arc;

use crate::block::Cid;
use crate::control::{OperationError, SourceAdmin};
use crate::repo::Repo;
use crate::source::{BlockSource, Fetched, NameRecord, SourceError, SourceFigures};
use crate::tree::{NameError, NameResolver, Resolved, RootLister};

/// All sources as one.
pub(super) struct SourceSet {
    all: RwLock<Vec<Arc<dyn BlockSource>>>,
}

impl SourceSet {
    /// Opens the sources of a repository and of `specs`.
    pub(super) fn open(_repo: &Repo, _specs: &[String]) -> Result<Self, OperationError> {
        Ok(Self {
            all: RwLock::default(),
        })
    }

    fn snapshot(&self) -> Vec<Arc<dyn BlockSource>> {
        self.all.read().clone()
    }
}

#[async_trait]
impl BlockSource for SourceSet {
    fn name(&self) -> String {
        "sources".to_owned()
    }

    async fn get(&self, cid: &Cid) -> Result<Fetched, SourceError> {
        let mut last = None;
        for source in self.snapshot() {
            match source.get(cid).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| SourceError::NotFound {
            what: cid.to_string(),
            source_name: self.name(),
        }))
    }

    async fn resolve(&self, name: &str) -> Result<NameRecord, SourceError> {
        let mut last = None;
        for source in self.snapshot() {
            match source.resolve(name).await {
                Ok(record) => return Ok(record),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| SourceError::NotFound {
            what: format!("/ipns/{name}"),
            source_name: self.name(),
        }))
    }

    fn roots(&self) -> Vec<Cid> {
        self.snapshot().iter().flat_map(|one| one.roots()).collect()
    }

    fn figures(&self) -> Vec<SourceFigures> {
        self.snapshot()
            .iter()
            .flat_map(|one| one.figures())
            .collect()
    }
}

#[async_trait]
impl NameResolver for SourceSet {
    async fn resolve(&self, name: &str) -> Result<Resolved, NameError> {
        let record = BlockSource::resolve(self, name)
            .await
            .map_err(|error| NameError::Failed(error.to_string()))?;
        Ok(Resolved {
            value: record.value,
            ttl: record.ttl,
        })
    }
}

impl RootLister for SourceSet {
    fn roots(&self) -> Vec<Cid> {
        BlockSource::roots(self)
    }
}

#[async_trait]
impl SourceAdmin for SourceSet {
    fn list(&self) -> Vec<Value> {
        self.figures()
            .into_iter()
            .filter_map(|one| serde_json::to_value(one).ok())
            .collect()
    }

    async fn test(&self, _name: Option<&str>) -> Result<Value, OperationError> {
        Ok(Value::Null)
    }

    async fn add(&self, _spec: &str, _save: bool) -> Result<Value, OperationError> {
        Err(OperationError::internal("not wired"))
    }

    async fn remove(&self, _name: &str, _save: bool) -> Result<Value, OperationError> {
        Err(OperationError::internal("not wired"))
    }
}
