//! The tree's root, pushed to other nodes after each checkpoint.
//!
//! Of the newest root each node gets the blocks that it has not got, pins it,
//! and lets go of the root before. What a node has is known from the last root
//! that it pinned: both are walked side by side, and equal subtrees are skipped.
//! A node that is away is tried again, ever more rarely; meanwhile only the
//! newest root waits. Nothing here holds up the tree or a checkpoint.
//!
//! What the tree only links to (mounted content that was never read) is not
//! sent: the node fetches it itself while it pins, or the push waits and says
//! so; a node with `fetch` gets it through this repository's sources.
//!
//! Survives a crash: the file `push.json`, replaced as a whole, with the root
//! that each node pinned last, and those that it may have pinned for us. Losing
//! it costs sending the tree once more, and leaves pins at nodes.
//!
//! Does not know what a node is or how it is spoken to ([`Node`]).

mod attempt;
mod difference;
mod figures;
mod kept;
mod sending;
mod target;
mod worker;

pub use attempt::Pushed;
pub use figures::{Doing, NodeFigures, PushProgress};
pub use target::Wanted;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::mfs::Checkpointed;
use crate::block::Cid;
use crate::cache::Blocks;
use crate::clock::Clock;
use crate::config::PUSH_NODES_MAX;
use crate::disk::Disk;
use figures::Counts;
use kept::KeptFile;
use target::Target;

/// A CAR file as it is made.
pub type CarStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Hears how far a push is.
pub type OnProgress = Arc<dyn Fn(&PushProgress) + Send + Sync>;

/// Why a root is not at a node.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PushError {
    /// The node cannot be reached, or failed.
    #[error("{0}")]
    Away(String),
    /// The node asks to be left alone for a while.
    #[error("{why}")]
    Later {
        /// What it said.
        why: String,
        /// For how long.
        after: Duration,
    },
    /// The node does not get on with pinning: it lacks blocks.
    #[error(
        "{why}: it lacks blocks that only a link leads to here ({far} were not sent); set fetch = true \
         to send those too"
    )]
    Lacking {
        /// What it said.
        why: String,
        /// Subtrees that were left out.
        far: u64,
    },
    /// The node will not.
    #[error("{0}")]
    Refused(String),
    /// No node has that name, or the text names none.
    #[error("{0}")]
    Unknown(String),
    /// There are as many nodes as may be.
    #[error("there are {PUSH_NODES_MAX} nodes to push to already")]
    TooMany,
    /// A block of the tree cannot be had or understood.
    #[error("{0}")]
    Content(String),
    /// What was pushed cannot be written down.
    #[error("{}: {error}", file.display())]
    Kept {
        /// The file.
        file: PathBuf,
        /// The cause.
        error: Arc<std::io::Error>,
    },
}

/// Whether a node pinned a root as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// No.
    No,
    /// It did, under the name that our pins have there.
    Yes,
    /// It did, under another name.
    OtherName,
}

/// A node that takes blocks and pins. Every wait of it has an end.
#[async_trait]
pub trait Node: Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> &str;

    /// Whether it has pinned the DAG below a root as a whole.
    async fn pinned(&self, root: &Cid) -> Result<Pinned, PushError>;

    /// Whether it has a block, without looking elsewhere.
    async fn holds(&self, cid: &Cid) -> Result<bool, PushError>;

    /// Takes blocks, pins nothing; how many they were, if it says so.
    async fn import(&self, root: &Cid, car: CarStream) -> Result<Option<u64>, PushError>;

    /// Pins a DAG as a whole; `pinned` hears how many blocks are. What is pinned
    /// under another name gets ours.
    async fn pin(&self, root: &Cid, pinned: &(dyn Fn(u64) + Sync)) -> Result<(), PushError>;

    /// Pins `to` by what differs from the pin `from`, whose name it gets; unpins
    /// that if `unpin`. Tells no progress, so that it is given up after a time.
    async fn move_pin(&self, from: &Cid, to: &Cid, unpin: bool) -> Result<(), PushError>;

    /// Takes a pin away; that there is none is fine.
    async fn unpin(&self, root: &Cid) -> Result<(), PushError>;
}

/// A node, and how it is pushed to.
#[derive(Clone)]
pub struct Configured {
    /// The node.
    pub node: Arc<dyn Node>,
    /// Fetch what the tree only links to, and send that too.
    pub fetch: bool,
}

/// Makes a node of its specification.
pub type OpenNode = Box<dyn Fn(&str) -> Result<Configured, PushError> + Send + Sync>;

/// What pushes are made of.
pub struct PushParts {
    /// The blocks.
    pub blocks: Arc<Blocks>,
    /// Where `file` is.
    pub disk: Arc<dyn Disk>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// What was pushed.
    pub file: PathBuf,
    /// The newest checkpoint.
    pub newest: watch::Receiver<Option<Checkpointed>>,
    /// Makes nodes that are not configured.
    pub open_node: OpenNode,
}

/// What all targets share.
struct Shared {
    blocks: Arc<Blocks>,
    clock: Arc<dyn Clock>,
    kept: KeptFile,
    /// Roots on their way, which no collection may take.
    held: Mutex<HashMap<Cid, usize>>,
}

/// Pushes the tree to nodes.
pub struct Pusher {
    shared: Arc<Shared>,
    newest: watch::Receiver<Option<Checkpointed>>,
    open_node: OpenNode,
    targets: Mutex<Vec<Arc<Target>>>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl Pusher {
    /// Reads what was pushed. Sends nothing.
    pub fn open(parts: PushParts, nodes: Vec<Configured>) -> Result<Arc<Self>, PushError> {
        let shared = Arc::new(Shared {
            blocks: parts.blocks,
            clock: parts.clock,
            kept: KeptFile::open(parts.disk, parts.file),
            held: Mutex::default(),
        });
        let mut targets: Vec<Arc<Target>> = Vec::new();
        for one in nodes {
            let name = one.node.name();
            if targets.iter().any(|other| other.name() == name) {
                return Err(PushError::Unknown(format!("two nodes are called {name:?}")));
            }
            targets.push(Arc::new(Target::new(Arc::clone(&shared), one, true)));
        }
        if targets.len() > PUSH_NODES_MAX {
            return Err(PushError::TooMany);
        }
        Ok(Arc::new(Self {
            shared,
            newest: parts.newest,
            open_node: parts.open_node,
            targets: Mutex::new(targets),
            workers: Mutex::default(),
        }))
    }

    /// From now on the newest root is pushed to the configured nodes. Needs a runtime.
    pub fn start(&self) {
        let mut workers = self.workers.lock();
        for target in self.targets.lock().iter() {
            let (target, newest) = (Arc::clone(target), self.newest.clone());
            workers.push(tokio::spawn(worker::run(target, newest)));
        }
    }

    /// Gives up what is under way and begins nothing more by itself.
    pub fn stop(&self) {
        for worker in self.workers.lock().iter() {
            worker.abort();
        }
    }

    /// Waits until what was given up has ended.
    pub async fn ended(&self) {
        self.stop();
        let workers = std::mem::take(&mut *self.workers.lock());
        for worker in workers {
            // That it was given up is what it says.
            drop(worker.await);
        }
    }

    /// Names of the nodes that each root is pushed to.
    pub fn configured(&self) -> Vec<String> {
        let targets = self.targets.lock();
        let configured = targets.iter().filter(|one| one.is_configured());
        configured.map(|one| one.name().to_owned()).collect()
    }

    /// Pushes a root to a node now: one of those that are known, by its name, or
    /// another by its specification. With `wait` it goes on until it is there.
    pub async fn push(
        &self,
        node: &str,
        wanted: Wanted,
        wait: bool,
        progress: OnProgress,
    ) -> Result<Pushed, PushError> {
        let target = self.target(node)?;
        let _listed = Listed {
            pusher: self,
            target: &target,
        };
        match wait {
            true => worker::until_there(&target, wanted, &progress).await,
            false => target.attempt(wanted, &progress).await,
        }
    }

    fn target(&self, node: &str) -> Result<Arc<Target>, PushError> {
        let known = |targets: &[Arc<Target>], name: &str| {
            let found = targets.iter().find(|one| one.name() == name);
            found.map(Arc::clone)
        };
        if let Some(found) = known(&self.targets.lock(), node) {
            return Ok(found);
        }
        let made = (self.open_node)(node)?;
        let mut targets = self.targets.lock();
        // A specification of one that is known.
        if let Some(found) = known(&targets, made.node.name()) {
            return Ok(found);
        }
        if targets.len() >= PUSH_NODES_MAX {
            return Err(PushError::TooMany);
        }
        let made = Arc::new(Target::new(Arc::clone(&self.shared), made, false));
        targets.push(Arc::clone(&made));
        Ok(made)
    }

    /// What is pushed to whom, and how that goes; last the nodes that got a root
    /// in an earlier run.
    pub fn figures(&self) -> Vec<NodeFigures> {
        let newest = self.newest.borrow().map(|one| one.root);
        let targets = self.targets.lock();
        let mut all: Vec<NodeFigures> = targets.iter().map(|one| one.figures(newest)).collect();
        for (name, kept) in self.shared.kept.all() {
            if !targets.iter().any(|one| one.name() == name) {
                all.push(Counts::default().figures(&name, false, kept.pinned, newest));
            }
        }
        all
    }

    /// Roots that a collection must keep, since they are on their way.
    pub fn held(&self) -> Vec<Cid> {
        self.shared.held.lock().keys().copied().collect()
    }
}

/// A push to a node. One that is not configured is forgotten when it did not go
/// well, or was given up: nobody goes on trying.
struct Listed<'a> {
    pusher: &'a Pusher,
    target: &'a Arc<Target>,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        if self.target.is_configured() || self.target.counts.lock().pushes_well() {
            return;
        }
        let mut targets = self.pusher.targets.lock();
        // Two have it beside another push to it: the list, and this one.
        let is_used = Arc::strong_count(self.target) > 2;
        if !is_used {
            targets.retain(|one| !Arc::ptr_eq(one, self.target));
        }
    }
}

/// Keeps a root from being collected while it lives.
struct Held<'a> {
    shared: &'a Shared,
    root: Cid,
}

impl Shared {
    fn hold(&self, root: Cid) -> Held<'_> {
        *self.held.lock().entry(root).or_default() += 1;
        Held { shared: self, root }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut held = self.shared.held.lock();
        if let Some(count) = held.get_mut(&self.root) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.root);
            }
        }
    }
}
