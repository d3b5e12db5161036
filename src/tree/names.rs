//! IPNS names: asked for once, kept as long as their record says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::error::TreeError;
use super::node::{Found, Node};
use super::{Tree, resolve};
use crate::block::Cid;
use crate::config::{FETCH_DEADLINE, NAME_HOPS_MAX, NAME_TTL_MAX, NAME_TTL_MIN, NAMES_KEPT_MAX};
use crate::patience::{Failures, Patience};

/// Resolves one step of an IPNS name or DNSLink domain.
#[async_trait]
pub trait NameResolver: Send + Sync {
    /// Gives what `name` stands for now; has a deadline of its own.
    async fn resolve(&self, name: &str) -> Result<Resolved, NameError>;
}

/// Lists the CIDs that `ipfs/` shows: local pins and the sources' roots.
pub trait RootLister: Send + Sync {
    /// The CIDs, in any order, repeats allowed.
    fn roots(&self) -> Vec<Cid>;

    /// When they last changed, as far as that is known.
    fn changed(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// `/ipfs/<cid>[/path]` or `/ipns/<name>[/path]`.
    pub value: String,
    /// How long it may be kept.
    pub ttl: Duration,
}

/// Why a name could not be resolved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NameError {
    /// No source knows the name.
    #[error("no source knows /ipns/{0}")]
    Unknown(String),
    /// The sources did not answer in time.
    #[error("/ipns/{0} was not resolved before the deadline")]
    Timeout(String),
    /// They failed, or what they gave is not valid.
    #[error("{0}")]
    Failed(String),
}

impl From<NameError> for TreeError {
    fn from(error: NameError) -> Self {
        match error {
            NameError::Timeout(name) => Self::Timeout(format!("/ipns/{name}")),
            error @ (NameError::Unknown(_) | NameError::Failed(_)) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

/// The names resolved in this run.
pub(super) struct Names {
    resolver: Arc<dyn NameResolver>,
    kept: Mutex<HashMap<Arc<str>, (Cid, Instant)>>,
    late: Failures<String, NameError>,
}

impl Names {
    pub(super) fn new(resolver: Arc<dyn NameResolver>) -> Self {
        Self {
            resolver,
            kept: Mutex::default(),
            late: Failures::default(),
        }
    }

    /// Names that were resolved, with what they stood for.
    pub(super) fn known(&self) -> Vec<(Arc<str>, Cid)> {
        let mut known: Vec<_> = self
            .kept
            .lock()
            .iter()
            .map(|(name, (cid, _))| (name.clone(), *cid))
            .collect();
        known.sort_unstable();
        known
    }

    /// Resolves one step, within the time of whoever waits for it.
    async fn resolve(&self, name: &str) -> Result<Resolved, NameError> {
        let patience = Patience::current(FETCH_DEADLINE);
        if let Some(error) = self.late.recall(&name.to_owned(), &patience) {
            return Err(error);
        }
        let (left, resolving) = (patience.left(), self.resolver.resolve(name));
        let Ok(answer) = tokio::time::timeout(left, resolving).await else {
            let error = NameError::Timeout(name.to_owned());
            self.late
                .note_late(name.to_owned(), error.clone(), left, &patience);
            return Err(error);
        };
        if let Err(error @ NameError::Timeout(_)) = &answer {
            self.late.note(name.to_owned(), error.clone());
        }
        answer
    }

    fn get(&self, name: &str) -> Option<Found> {
        let kept = self.kept.lock();
        let (cid, until) = kept.get(name)?;
        let ttl = until.checked_duration_since(Instant::now())?;
        Some(Found {
            node: Node::Object(*cid),
            ttl: Some(ttl),
        })
    }

    fn keep(&self, name: &str, cid: Cid, ttl: Duration) {
        let mut kept = self.kept.lock();
        if kept.len() >= NAMES_KEPT_MAX {
            let now = Instant::now();
            kept.retain(|_, (_, until)| *until > now);
        }
        if kept.len() < NAMES_KEPT_MAX {
            kept.insert(name.into(), (cid, Instant::now() + ttl));
        }
    }
}

impl Tree {
    /// Follows a name to the content that it stands for now.
    pub(super) async fn follow(&self, name: &str) -> Result<Found, TreeError> {
        if let Some(found) = self.names.get(name) {
            return Ok(found);
        }
        let mut ttl = NAME_TTL_MAX;
        let mut at = name.to_owned();
        let mut tail = String::new();
        for _ in 0..NAME_HOPS_MAX {
            let step = self.names.resolve(&at).await?;
            ttl = ttl.min(step.ttl.max(NAME_TTL_MIN));
            let (space, head, rest) = resolve::split(&step.value)?;
            tail = join(rest, &tail);
            if space == "ipns" {
                at = head.to_owned();
                continue;
            }
            let node = Box::pin(self.resolve(&format!("/ipfs/{head}{tail}"))).await?;
            let Node::Object(cid) = node else {
                return Err(TreeError::NotFound);
            };
            self.names.keep(name, cid, ttl);
            return Ok(Found {
                node: Node::Object(cid),
                ttl: Some(ttl),
            });
        }
        Err(NameError::Failed(format!("/ipns/{name} leads through too many names")).into())
    }
}

fn join(path: &str, tail: &str) -> String {
    let path = path.trim_matches('/');
    if path.is_empty() {
        tail.to_owned()
    } else {
        format!("/{path}{tail}")
    }
}
