//! What handlers work on, and the traits behind which the rest stands.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ErrorKind, OperationError};
use crate::cache::Blocks;
use crate::tree::Tree;
use crate::tree::mfs::Mfs;
use crate::tree::push::Pusher;

/// What to mount, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MountRequest {
    /// `/ipfs/<cid>[/path]`, `/ipns/<name>[/path]`, or `/` for all namespaces.
    #[serde(default = "all_namespaces")]
    pub source: String,
    /// Absolute path of the directory to mount on.
    pub dir: PathBuf,
    /// Mount options, separated by commas, as after `-o`.
    #[serde(default)]
    pub options: String,
}

fn all_namespaces() -> String {
    "/".to_owned()
}

/// A mount of this daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountInfo {
    /// What is mounted.
    pub source: String,
    /// Where.
    pub dir: PathBuf,
    /// With which options.
    pub options: String,
    /// For how long, in seconds.
    pub age_seconds: u64,
}

/// The mounts of this daemon.
#[async_trait]
pub trait Mounts: Send + Sync {
    /// Lists them in the order of their directories.
    fn list(&self) -> Vec<MountInfo>;

    /// Whether the daemon stays when the last one is gone.
    fn stays(&self) -> bool {
        true
    }

    /// Mounts, and returns when the mount is usable.
    async fn add(&self, request: MountRequest) -> Result<MountInfo, OperationError>;

    /// Unmounts. A busy mount is refused with who uses it, unless `lazy`.
    async fn remove(&self, dir: &Path, lazy: bool) -> Result<(), OperationError>;
}

/// The sources of blocks.
#[async_trait]
pub trait SourceAdmin: Send + Sync {
    /// Gives one object of figures for each source, in the order of asking.
    fn list(&self) -> Vec<Value>;

    /// Asks the source `name`, or each, for a block that all have.
    async fn test(&self, name: Option<&str>) -> Result<Value, OperationError>;

    /// Adds a source by its specification; `save` writes it into the config file.
    async fn add(&self, spec: &str, save: bool) -> Result<Value, OperationError>;

    /// Takes a source away; `save` takes it out of the config file too.
    async fn remove(&self, name: &str, save: bool) -> Result<Value, OperationError>;
}

/// The end of the daemon.
#[async_trait]
pub trait Lifecycle: Send + Sync {
    /// Unmounts everything and lets the daemon end once the answer is sent.
    /// Busy mounts are refused unless `force`, which detaches them.
    async fn shutdown(&self, force: bool) -> Result<(), OperationError>;
}

/// What is known about this process from the start.
#[derive(Debug, Clone)]
pub struct Info {
    /// The repository's directory.
    pub repo: PathBuf,
    /// The configuration in force, as JSON.
    pub config: Value,
    /// Whether this is a daemon (or a command that opened the repository itself).
    pub daemon: bool,
    /// When it started.
    pub started: Instant,
}

/// What handlers work on.
pub struct Context {
    /// About this process.
    pub info: Info,
    /// The namespaces.
    pub tree: Arc<Tree>,
    /// The writable tree.
    pub mfs: Arc<Mfs>,
    /// The blocks.
    pub blocks: Arc<Blocks>,
    /// The mounts.
    pub mounts: Arc<dyn Mounts>,
    /// The sources.
    pub sources: Arc<dyn SourceAdmin>,
    /// The nodes that get the tree's root.
    pub push: Arc<Pusher>,
    /// The end.
    pub lifecycle: Arc<dyn Lifecycle>,
}

/// No mounts: a command that opened the repository itself.
pub struct NoMounts;

#[async_trait]
impl Mounts for NoMounts {
    fn list(&self) -> Vec<MountInfo> {
        Vec::new()
    }

    async fn add(&self, _request: MountRequest) -> Result<MountInfo, OperationError> {
        Err(no_daemon())
    }

    async fn remove(&self, _dir: &Path, _lazy: bool) -> Result<(), OperationError> {
        Err(no_daemon())
    }
}

/// The end of a command that opened the repository itself: nothing to end.
pub struct AloneLifecycle;

#[async_trait]
impl Lifecycle for AloneLifecycle {
    async fn shutdown(&self, _force: bool) -> Result<(), OperationError> {
        Err(no_daemon())
    }
}

impl Context {
    /// Refuses what would be gone with the command that asks for it.
    pub(super) fn need_daemon(&self) -> Result<(), OperationError> {
        match self.info.daemon {
            true => Ok(()),
            false => Err(no_daemon()),
        }
    }
}

fn no_daemon() -> OperationError {
    OperationError::new(ErrorKind::Unavailable, "no daemon runs for this repository")
        .hint("`cidfs mount DIR` or `cidfs daemon` starts one")
}
