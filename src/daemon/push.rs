//! Kubo nodes as the tree pushes to them.

use std::sync::Arc;

use async_trait::async_trait;

use crate::block::Cid;
use crate::cache::Blocks;
use crate::clock::SystemClock;
use crate::control::OperationError;
use crate::disk::RealDisk;
use crate::repo::Repo;
use crate::source::{self, KuboPush, PushSpec, SourceError, SpecError};
use crate::tree::mfs::Mfs;
use crate::tree::push::{CarStream, Configured, Node, Pinned, PushError, PushParts, Pusher};

/// What was pushed, in a repository.
const PUSH_FILE: &str = "push.json";

/// What pushes the tree to the nodes of the config file. Sends nothing.
pub(super) fn pusher(
    repo: &Repo,
    blocks: &Arc<Blocks>,
    mfs: &Arc<Mfs>,
) -> Result<Arc<Pusher>, OperationError> {
    let nodes = repo.config().push.iter().map(open);
    let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
    let parts = PushParts {
        blocks: Arc::clone(blocks),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        file: repo.dir().join(PUSH_FILE),
        newest: mfs.newest_checkpoint(),
        open_node: Box::new(|text| {
            PushSpec::parse(text)
                .and_then(|spec| open(&spec))
                .map_err(|error| PushError::Unknown(error.to_string()))
        }),
    };
    Ok(Pusher::open(parts, nodes)?)
}

fn open(spec: &PushSpec) -> Result<Configured, SpecError> {
    Ok(Configured {
        node: Arc::new(KuboNode(spec.open(Arc::new(SystemClock))?)),
        fetch: spec.fetch,
    })
}

/// A Kubo node.
struct KuboNode(KuboPush);

fn explain(error: SourceError) -> PushError {
    let why = error.to_string();
    match error {
        SourceError::Limited { retry_after, .. } => PushError::Later {
            why,
            after: retry_after.unwrap_or_default(),
        },
        SourceError::Unsupported { .. } => PushError::Refused(why),
        SourceError::NotFound { .. }
        | SourceError::Timeout { .. }
        | SourceError::Unreachable { .. }
        | SourceError::Corrupt { .. }
        | SourceError::Io { .. } => PushError::Away(why),
    }
}

/// A node that pins and does not get on searches for what it lacks.
fn explain_pin(error: SourceError) -> PushError {
    match error {
        SourceError::Timeout { .. } => PushError::Lacking {
            why: error.to_string(),
            far: 0,
        },
        error @ (SourceError::Limited { .. }
        | SourceError::Unsupported { .. }
        | SourceError::NotFound { .. }
        | SourceError::Unreachable { .. }
        | SourceError::Corrupt { .. }
        | SourceError::Io { .. }) => explain(error),
    }
}

#[async_trait]
impl Node for KuboNode {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn pinned(&self, root: &Cid) -> Result<Pinned, PushError> {
        match self.0.pinned(root).await.map_err(explain)? {
            source::Pinned::No => Ok(Pinned::No),
            source::Pinned::Yes => Ok(Pinned::Yes),
            source::Pinned::OtherName => Ok(Pinned::OtherName),
        }
    }

    async fn holds(&self, cid: &Cid) -> Result<bool, PushError> {
        self.0.holds(cid).await.map_err(explain)
    }

    async fn import(&self, root: &Cid, car: CarStream) -> Result<Option<u64>, PushError> {
        let what = format!("the blocks of {root}");
        self.0.import(&what, car).await.map_err(explain)
    }

    async fn pin(&self, root: &Cid, pinned: &(dyn Fn(u64) + Sync)) -> Result<(), PushError> {
        self.0.pin(root, pinned).await.map_err(explain_pin)
    }

    async fn move_pin(&self, from: &Cid, to: &Cid, unpin: bool) -> Result<(), PushError> {
        let moved = self.0.move_pin(from, to, unpin).await;
        moved.map_err(explain_pin)
    }

    async fn unpin(&self, root: &Cid) -> Result<(), PushError> {
        self.0.unpin(root).await.map_err(explain)
    }
}
