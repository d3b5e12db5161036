//! Everything of a repository, wired: sources, blocks, tree, operations.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::kernel::KernelMounter;
use super::mounts::Mounter;
use super::sources::SourceSet;
use crate::cache::{Blocks, StoreOptions, VerifyPolicy};
use crate::config::FETCH_DEADLINE;
use crate::control::{
    AloneLifecycle, Context, Info, Lifecycle, Mounts, NoMounts, OperationError, Registry,
};
use crate::disk::RealDisk;
use crate::repo::{Repo, StoreConfig, Verify};
use crate::tree::Tree;
use crate::unixfs::Reader;

/// An open repository and what works on it.
pub struct Engine {
    repo: Repo,
    sources: Arc<SourceSet>,
    blocks: Arc<Blocks>,
    tree: Arc<Tree>,
    registry: Arc<Registry>,
    started: Instant,
}

impl Engine {
    /// Opens the repository in `dir` with the sources of its config file and
    /// of `specs`.
    pub async fn open(dir: PathBuf, specs: Vec<String>) -> Result<Self, OperationError> {
        tokio::task::spawn_blocking(move || Self::open_blocking(&dir, &specs))
            .await
            .map_err(|error| OperationError::internal(error.to_string()))?
    }

    fn open_blocking(dir: &Path, specs: &[String]) -> Result<Self, OperationError> {
        let started = Instant::now();
        let repo = Repo::open(dir)?;
        let sources = Arc::new(SourceSet::open(&repo, specs)?);
        let options = store_options(repo.config().store.clone());
        let disk = Arc::new(RealDisk);
        let blocks = Blocks::open(repo.dir(), disk, options, Arc::clone(&sources) as _)
            .map_err(|error| OperationError::internal(error.to_string()))?;
        let deadline = deadline(&repo);
        let reader = Reader::with_deadline(Arc::clone(&blocks), deadline);
        let tree = Tree::new(reader, Arc::clone(&sources) as _, Arc::clone(&sources) as _);
        let registry = Arc::new(Registry::standard());
        Ok(Self {
            repo,
            sources,
            blocks,
            tree,
            registry,
            started,
        })
    }

    /// The repository's directory.
    pub fn dir(&self) -> &Path {
        self.repo.dir()
    }

    /// The operations.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// What makes mounts of its tree.
    pub fn mounter(&self) -> Arc<dyn Mounter> {
        Arc::new(KernelMounter {
            tree: Arc::clone(&self.tree),
            repo: self.repo.dir().to_owned(),
            options: self.repo.config().mount.options.clone(),
            deadline: deadline(&self.repo),
        })
    }

    /// What operations work on, with mounts and an end.
    pub fn context(
        &self,
        mounts: Arc<dyn Mounts>,
        lifecycle: Arc<dyn Lifecycle>,
        daemon: bool,
    ) -> Arc<Context> {
        let info = Info {
            repo: self.repo.dir().to_owned(),
            config: config_as_json(&self.repo),
            daemon,
            started: self.started,
        };
        Arc::new(Context {
            info,
            tree: Arc::clone(&self.tree),
            blocks: Arc::clone(&self.blocks),
            mounts,
            sources: Arc::clone(&self.sources) as _,
            lifecycle,
        })
    }

    /// What operations work on in a command that has no daemon.
    pub fn alone(&self) -> Arc<Context> {
        self.context(Arc::new(NoMounts), Arc::new(AloneLifecycle), false)
    }

    /// Makes what was written safe and lets the repository go.
    pub async fn close(self) -> Result<(), OperationError> {
        let blocks = Arc::clone(&self.blocks);
        tokio::task::spawn_blocking(move || blocks.close())
            .await
            .map_err(|error| OperationError::internal(error.to_string()))
    }
}

/// The store's options as the config file has them, over the defaults.
fn store_options(config: StoreConfig) -> StoreOptions {
    let default = StoreOptions::default();
    StoreOptions {
        memory_bytes_max: config.memory_bytes_max.unwrap_or(default.memory_bytes_max),
        cache_bytes_max: config.cache_bytes_max.unwrap_or(default.cache_bytes_max),
        disk_free_min: config.disk_free_min.unwrap_or(default.disk_free_min),
        verify: match config.verify {
            Some(Verify::FirstRead) | None => VerifyPolicy::FirstRead,
            Some(Verify::Always) => VerifyPolicy::Always,
            Some(Verify::Never) => VerifyPolicy::Never,
        },
    }
}

/// How long a reader waits for a block.
fn deadline(repo: &Repo) -> Duration {
    repo.config()
        .fetch
        .deadline_seconds
        .map_or(FETCH_DEADLINE, Duration::from_secs)
}

fn config_as_json(repo: &Repo) -> Value {
    serde_json::to_value(repo.config()).unwrap_or_else(|error| json!({"error": error.to_string()}))
}
