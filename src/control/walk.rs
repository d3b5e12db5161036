//! Every block of a DAG, once, parents first, a few fetches ahead.
//!
//! Once for each CID, that is: the codec says what a block links to, and the same
//! bytes under another one have other blocks below them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::{ErrorKind, OperationError};
use crate::block::{Block, Cid};
use crate::cache::{Blocks, CacheError};
use crate::config::FETCHES_PER_REQUEST_MAX;
use crate::unixfs::links::links;

/// A walk over a DAG, in the order of a depth-first search.
pub(super) struct Walk {
    blocks: Arc<Blocks>,
    open: Vec<Cid>,
    seen: HashSet<Cid>,
    ahead: HashMap<Cid, Fetch>,
}

/// A fetch under way; dropping it gives it up.
struct Fetch(JoinHandle<Result<Block, CacheError>>);

impl Drop for Fetch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Walk {
    /// Starts at `roots`, the first one first.
    pub(super) fn new(blocks: Arc<Blocks>, roots: &[Cid]) -> Self {
        let open = roots.iter().rev().copied().collect();
        Self {
            blocks,
            open,
            seen: HashSet::new(),
            ahead: HashMap::new(),
        }
    }

    /// Gives the next block; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Block>, OperationError> {
        while let Some(cid) = self.open.pop() {
            if !self.seen.insert(cid) {
                continue;
            }
            let block = self.take(&cid).await?;
            let children = links(&block).map_err(|error| {
                OperationError::new(ErrorKind::Corrupt, format!("{cid} is malformed: {error}"))
            })?;
            self.open.extend(children.into_iter().rev());
            self.look_ahead();
            return Ok(Some(block));
        }
        Ok(None)
    }

    async fn take(&mut self, cid: &Cid) -> Result<Block, OperationError> {
        let Some(mut fetch) = self.ahead.remove(cid) else {
            return Ok(self.blocks.get(cid).await?);
        };
        match (&mut fetch.0).await {
            Ok(block) => Ok(block?),
            Err(error) => Err(OperationError::internal(error.to_string())),
        }
    }

    /// Starts to fetch what comes next.
    fn look_ahead(&mut self) {
        let next = self.open.iter().rev().take(FETCHES_PER_REQUEST_MAX);
        for cid in next {
            if self.ahead.len() >= FETCHES_PER_REQUEST_MAX {
                break;
            }
            if self.ahead.contains_key(cid) || self.seen.contains(cid) {
                continue;
            }
            let (blocks, wanted) = (Arc::clone(&self.blocks), *cid);
            let task = tokio::spawn(async move { blocks.get(&wanted).await });
            self.ahead.insert(*cid, Fetch(task));
        }
    }
}
