//! Sources in memory, and sources that fail as they are told.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::block::{Block, BlockSink, Cid, Multihash};
use crate::source::{BlockSource, Fetched, NameRecord, Selector, SourceError, SourceFigures};

/// Blocks in memory, found by multihash. Also a sink.
#[derive(Debug)]
pub struct MemorySource {
    name: String,
    keep: bool,
    blocks: Mutex<HashMap<Multihash, Block>>,
    names: Mutex<HashMap<String, NameRecord>>,
    gets: AtomicU64,
}

impl Default for MemorySource {
    fn default() -> Self {
        Self::new("memory")
    }
}

impl MemorySource {
    /// Makes an empty source whose blocks are worth keeping.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            keep: true,
            blocks: Mutex::default(),
            names: Mutex::default(),
            gets: AtomicU64::new(0),
        }
    }

    /// Makes a source that holds `blocks`.
    pub fn with(name: &str, blocks: impl IntoIterator<Item = Block>) -> Self {
        let source = Self::new(name);
        for block in blocks {
            source.insert(block);
        }
        source
    }

    /// Says that its blocks need no copy nearby, as sources on disk do.
    #[must_use]
    pub fn local(mut self) -> Self {
        self.keep = false;
        self
    }

    /// Adds a block.
    pub fn insert(&self, block: Block) {
        self.blocks.lock().insert(*block.cid().hash(), block);
    }

    /// Takes a block away.
    pub fn remove(&self, cid: &Cid) -> Option<Block> {
        self.blocks.lock().remove(cid.hash())
    }

    /// Sets what a name leads to.
    pub fn set_name(&self, name: &str, record: NameRecord) {
        self.names.lock().insert(name.to_owned(), record);
    }

    /// How often a block was asked for.
    pub fn gets(&self) -> u64 {
        self.gets.load(Ordering::SeqCst)
    }

    /// All its blocks.
    pub fn blocks(&self) -> Vec<Block> {
        self.blocks.lock().values().cloned().collect()
    }

    fn find(&self, cid: &Cid) -> Result<Block, SourceError> {
        let found = self
            .blocks
            .lock()
            .get(cid.hash())
            .map(|block| block.data().clone());
        let absent = || SourceError::NotFound {
            what: cid.to_string(),
            source_name: self.name.clone(),
        };
        let data = found.ok_or_else(absent)?;
        Block::verify(*cid, data).map_err(|error| SourceError::Corrupt {
            what: cid.to_string(),
            source_name: self.name.clone(),
            why: error.to_string(),
        })
    }
}

impl BlockSink for MemorySource {
    fn put(&self, block: Block) -> std::io::Result<()> {
        self.insert(block);
        Ok(())
    }
}

#[async_trait]
impl BlockSource for MemorySource {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn get(&self, cid: &Cid) -> Result<Fetched, SourceError> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        Ok(Fetched {
            block: self.find(cid)?,
            keep: self.keep,
        })
    }

    /// Gives the root only, as a gateway does for `dag-scope=block`.
    async fn select(&self, selector: &Selector, sink: &dyn BlockSink) -> Result<(), SourceError> {
        let block = self.find(&selector.root)?;
        sink.put(block).map_err(|error| SourceError::Io {
            source_name: self.name.clone(),
            error: Arc::new(error),
        })
    }

    async fn resolve(&self, name: &str) -> Result<NameRecord, SourceError> {
        let found = self.names.lock().get(name).cloned();
        found.ok_or_else(|| SourceError::NotFound {
            what: format!("/ipns/{name}"),
            source_name: self.name.clone(),
        })
    }

    fn is_local(&self) -> bool {
        !self.keep
    }

    fn figures(&self) -> Vec<SourceFigures> {
        vec![SourceFigures {
            requests: self.gets(),
            ..SourceFigures::named(self.name.clone())
        }]
    }
}

/// What a [`FaultSource`] does with a request instead of serving it.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Passes it on after a while.
    Slow(Duration),
    /// Never answers.
    Hang,
    /// Says that the block is not here.
    NotFound,
    /// Breaks off.
    Unreachable,
    /// Asks to be left alone.
    Limited(Option<Duration>),
    /// Says that the bytes were wrong.
    Corrupt,
    /// Says that nothing came in time.
    Timeout,
}

/// A source that fails as it is told, and else serves what it wraps.
pub struct FaultSource {
    inner: Arc<dyn BlockSource>,
    script: Mutex<VecDeque<Option<Fault>>>,
    always: Mutex<Option<Fault>>,
    by_cid: Mutex<HashMap<Multihash, Fault>>,
    gets: AtomicU64,
}

impl FaultSource {
    /// Wraps a source; without faults it only counts.
    pub fn new(inner: Arc<dyn BlockSource>) -> Self {
        Self {
            inner,
            script: Mutex::default(),
            always: Mutex::default(),
            by_cid: Mutex::default(),
            gets: AtomicU64::new(0),
        }
    }

    /// The next requests meet these, one each; `None` is served.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.script.lock().extend(faults);
    }

    /// Every request that the script leaves meets this; `None` heals.
    pub fn always(&self, fault: Option<Fault>) {
        *self.always.lock() = fault;
    }

    /// Every request for one block meets this; `None` heals.
    pub fn for_cid(&self, cid: &Cid, fault: Option<Fault>) {
        let mut by_cid = self.by_cid.lock();
        match fault {
            Some(fault) => drop(by_cid.insert(*cid.hash(), fault)),
            None => drop(by_cid.remove(cid.hash())),
        }
    }

    /// How often it was asked for anything.
    pub fn gets(&self) -> u64 {
        self.gets.load(Ordering::SeqCst)
    }

    fn next_fault(&self, cid: Option<&Cid>) -> Option<Fault> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        let by_cid = cid.and_then(|cid| self.by_cid.lock().get(cid.hash()).cloned());
        let scripted = self.script.lock().pop_front();
        by_cid.or_else(|| scripted.unwrap_or_else(|| self.always.lock().clone()))
    }

    async fn meet(&self, fault: Option<Fault>, what: String) -> Result<(), SourceError> {
        let source_name = self.inner.name();
        let why = "as it was told".to_owned();
        Err(match fault {
            None => return Ok(()),
            Some(Fault::Slow(while_)) => {
                tokio::time::sleep(while_).await;
                return Ok(());
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::NotFound) => SourceError::NotFound { what, source_name },
            Some(Fault::Unreachable) => SourceError::Unreachable {
                what,
                source_name,
                why,
            },
            Some(Fault::Limited(retry_after)) => SourceError::Limited {
                source_name,
                retry_after,
            },
            Some(Fault::Corrupt) => SourceError::Corrupt {
                what,
                source_name,
                why,
            },
            Some(Fault::Timeout) => SourceError::Timeout {
                what,
                source_name,
                after: Duration::from_secs(1),
            },
        })
    }
}

#[async_trait]
impl BlockSource for FaultSource {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn get(&self, cid: &Cid) -> Result<Fetched, SourceError> {
        self.meet(self.next_fault(Some(cid)), cid.to_string())
            .await?;
        self.inner.get(cid).await
    }

    async fn select(&self, selector: &Selector, sink: &dyn BlockSink) -> Result<(), SourceError> {
        self.meet(
            self.next_fault(Some(&selector.root)),
            selector.root.to_string(),
        )
        .await?;
        self.inner.select(selector, sink).await
    }

    async fn resolve(&self, name: &str) -> Result<NameRecord, SourceError> {
        self.meet(self.next_fault(None), format!("/ipns/{name}"))
            .await?;
        self.inner.resolve(name).await
    }

    async fn probe(&self) -> Result<(), SourceError> {
        self.meet(self.next_fault(None), "a probe".to_owned())
            .await?;
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
