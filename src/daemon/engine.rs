//! Everything of a repository, wired: sources, blocks, tree, operations.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::kernel::KernelMounter;
use super::mounts::Mounter;
use super::sources::{Roots, SourceSet};
use crate::cache::{Blocks, StoreOptions};
use crate::config::FETCH_DEADLINE;
use crate::control::{
    AloneLifecycle, Context, Info, Lifecycle, Mounts, NoMounts, OperationError, Registry,
};
use crate::disk::RealDisk;
use crate::repo::Repo;
use crate::clock::SystemClock;
use crate::tree::Tree;
use crate::tree::mfs::{Mfs, MfsOptions, Parts};
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
        let engine = tokio::task::spawn_blocking(move || Self::open_blocking(&dir, &specs))
            .await
            .map_err(|error| OperationError::internal(error.to_string()))??;
        let mfs = engine.open_mfs().await?;
        drop(engine.tree.attach(mfs));
        Ok(engine)
    }

    /// Opens the writable tree and recovers it.
    async fn open_mfs(&self) -> Result<Arc<Mfs>, OperationError> {
        let journal_dir = self.repo.dir().join("journal");
        let is_new = std::fs::read_dir(&journal_dir).is_ok_and(|mut dir| dir.next().is_none());
        if !is_new {
            // Recovery asks for blocks, and without the index none is found.
            self.blocks.index_ready().await;
        }
        // SAFETY: these two calls read this process's ids and cannot fail.
        #[allow(unsafe_code)]
        let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
        let options = MfsOptions { uid, gid, ..MfsOptions::default() };
        let parts = Parts {
            journal_dir,
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            blocks: Arc::clone(&self.blocks),
            reader: Arc::clone(self.tree.reader()),
        };
        Ok(Mfs::open(parts, options).await?)
    }

    fn open_blocking(dir: &Path, specs: &[String]) -> Result<Self, OperationError> {
        let started = Instant::now();
        let repo = Repo::open(dir)?;
        let sources = Arc::new(SourceSet::open(&repo, specs)?);
        let disk = Arc::new(RealDisk);
        let blocks = Blocks::open(dir, disk, store_options(&repo), sources.source())?;
        let deadline = deadline(&repo);
        let reader = Reader::with_deadline(Arc::clone(&blocks), deadline);
        let roots = Roots {
            sources: sources.source(),
            blocks: Arc::clone(&blocks),
        };
        let tree = Tree::new(reader, Arc::clone(&sources) as _, Arc::new(roots));
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
        if let Some(mfs) = self.tree.mfs() {
            mfs.close().await;
        }
        tokio::task::spawn_blocking(move || self.blocks.close())
            .await
            .map_err(|error| OperationError::internal(error.to_string()))
    }
}

/// What the configuration says of the store, over the defaults.
fn store_options(repo: &Repo) -> StoreOptions {
    let defaults = StoreOptions::default();
    let said = &repo.config().store;
    StoreOptions {
        memory_bytes_max: said.memory_bytes_max.unwrap_or(defaults.memory_bytes_max),
        cache_bytes_max: said.cache_bytes_max.unwrap_or(defaults.cache_bytes_max),
        disk_free_min: said.disk_free_min.unwrap_or(defaults.disk_free_min),
        verify: said.verify,
        ..defaults
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
