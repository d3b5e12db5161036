//! Everything of a repository, wired: sources, blocks, tree, operations.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::kernel::KernelMounter;
use super::mounts::Mounter;
use super::sources::{Roots, SourceSet};
use crate::cache::{Blocks, StoreOptions};
use crate::clock::SystemClock;
use crate::config::FETCH_DEADLINE;
use crate::control::{
    AloneLifecycle, Context, Info, Lifecycle, Mounts, NoMounts, OperationError, Registry,
};
use crate::disk::RealDisk;
use crate::repo::Repo;
use crate::source::without_password;
use crate::tree::Tree;
use crate::tree::mfs::{Mfs, MfsOptions, Parts};
use crate::tree::push::Pusher;
use crate::unixfs::Reader;

/// Directory of the journal in a repository.
pub(super) const JOURNAL_DIR: &str = "journal";

/// An open repository and what works on it.
pub struct Engine {
    repo: Repo,
    sources: Arc<SourceSet>,
    blocks: Arc<Blocks>,
    tree: Arc<Tree>,
    mfs: Arc<Mfs>,
    push: Arc<Pusher>,
    registry: Arc<Registry>,
    started: Instant,
}

impl Engine {
    /// Opens the repository in `dir` with the sources of its config file and
    /// of `specs`.
    pub async fn open(dir: PathBuf, specs: Vec<String>) -> Result<Self, OperationError> {
        Self::open_as(dir, specs, false).await
    }

    /// Opens the repository only to show the tree and its journal as they are,
    /// without the recovery that a start makes of them.
    pub async fn open_to_look(dir: PathBuf) -> Result<Self, OperationError> {
        Self::open_as(dir, Vec::new(), true).await
    }

    async fn open_as(
        dir: PathBuf,
        specs: Vec<String>,
        only_read: bool,
    ) -> Result<Self, OperationError> {
        let started = Instant::now();
        let base = Base::open_async(dir, specs).await?;
        // While the index opens: the journal waits for it only where it must.
        let parts = base.parts();
        let Base {
            repo,
            sources,
            blocks,
            reader,
        } = base;
        let options = MfsOptions {
            only_read,
            ..tree_options(&repo)
        };
        let mfs = Mfs::open(parts, options).await.map_err(|error| {
            let error = OperationError::from(error).context("the writable tree");
            error.hint("`cidfs fsck` tells what is wrong")
        })?;
        let roots = Roots {
            sources: sources.source(),
            blocks: Arc::clone(&blocks),
            repo: repo.dir().to_owned(),
        };
        let tree = Tree::new(reader, Arc::clone(&sources) as _, Arc::new(roots));
        drop(tree.attach(Arc::clone(&mfs)));
        let push = super::push::pusher(&repo, &blocks, &mfs)?;
        let registry = Arc::new(Registry::standard());
        Ok(Self {
            repo,
            sources,
            blocks,
            tree,
            mfs,
            push,
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
            mfs: Arc::clone(&self.mfs),
            blocks: Arc::clone(&self.blocks),
            mounts,
            sources: Arc::clone(&self.sources) as _,
            push: Arc::clone(&self.push),
            lifecycle,
        })
    }

    /// What operations work on in a command that has no daemon.
    pub fn alone(&self) -> Arc<Context> {
        self.context(Arc::new(NoMounts), Arc::new(AloneLifecycle), false)
    }

    /// From now on each new root of the tree is pushed to the configured nodes.
    pub fn start_pushes(&self) {
        self.push.start();
    }

    /// Says that the end is near: who follows the journal is let go, and pushes
    /// are given up.
    pub fn begin_close(&self) {
        self.push.stop();
        self.mfs.begin_close();
    }

    /// Makes what was written safe and lets the repository go.
    pub async fn close(self) -> Result<(), OperationError> {
        self.push.ended().await;
        self.mfs.close().await;
        tokio::task::spawn_blocking(move || self.blocks.close())
            .await
            .map_err(|error| OperationError::internal(error.to_string()))
    }
}

/// The lock, the sources and the blocks of a repository.
pub(super) struct Base {
    pub(super) repo: Repo,
    pub(super) sources: Arc<SourceSet>,
    pub(super) blocks: Arc<Blocks>,
    pub(super) reader: Arc<Reader>,
}

impl Base {
    pub(super) async fn open_async(
        dir: PathBuf,
        specs: Vec<String>,
    ) -> Result<Self, OperationError> {
        tokio::task::spawn_blocking(move || Self::open(&dir, &specs))
            .await
            .map_err(|error| OperationError::internal(error.to_string()))?
    }

    /// What the writable tree is made of.
    pub(super) fn parts(&self) -> Parts {
        Parts {
            journal_dir: self.repo.dir().join(JOURNAL_DIR),
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            blocks: Arc::clone(&self.blocks),
            reader: Arc::clone(&self.reader),
        }
    }

    /// Makes what was written safe and lets the repository go.
    pub(super) async fn close(self) -> Result<(), OperationError> {
        tokio::task::spawn_blocking(move || self.blocks.close())
            .await
            .map_err(|error| OperationError::internal(error.to_string()))
    }

    fn open(dir: &Path, specs: &[String]) -> Result<Self, OperationError> {
        let repo = Repo::open(dir)?;
        let sources = Arc::new(SourceSet::open(&repo, specs)?);
        let disk = Arc::new(RealDisk);
        let blocks = Blocks::open(dir, disk, store_options(&repo), sources.source())?;
        let reader = Reader::with_deadline(Arc::clone(&blocks), deadline(&repo));
        Ok(Self {
            repo,
            sources,
            blocks,
            reader,
        })
    }
}

/// What the configuration says of the writable tree, over the defaults.
pub(super) fn tree_options(repo: &Repo) -> MfsOptions {
    let defaults = MfsOptions::default();
    let said = &repo.config().tree;
    MfsOptions {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        profile: said.profile,
        store_metadata: said.store_metadata,
        portable: said.portable,
        unsealed_bytes_max: said
            .unsealed_bytes_max
            .unwrap_or(defaults.unsealed_bytes_max),
        file_bytes_max: said.file_bytes_max.unwrap_or(defaults.file_bytes_max),
        commit_interval: said
            .commit_interval_ms
            .map_or(defaults.commit_interval, |ms| {
                Duration::from_millis(ms.max(1))
            }),
        checkpoint_interval: said
            .checkpoint_interval_seconds
            .map_or(defaults.checkpoint_interval, Duration::from_secs),
        checkpoint_bytes: said.checkpoint_bytes.unwrap_or(defaults.checkpoint_bytes),
        checkpoint_changes: said
            .checkpoint_changes
            .unwrap_or(defaults.checkpoint_changes),
        changed_bytes_max: said.changed_bytes_max.unwrap_or(defaults.changed_bytes_max),
        snapshots_kept: said.snapshots_kept.unwrap_or(defaults.snapshots_kept),
        ..defaults
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
        own_reserve_bytes: said.own_reserve_bytes.unwrap_or(defaults.own_reserve_bytes),
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
    let mut shown = serde_json::to_value(repo.config())
        .unwrap_or_else(|error| json!({"error": error.to_string()}));
    hide_passwords(&mut shown);
    shown
}

/// Takes user and password out of every address.
fn hide_passwords(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if let Value::String(url) = field
                    && name == "url"
                {
                    *url = without_password(url);
                }
                hide_passwords(field);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(hide_passwords),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_shown_without_passwords() {
        let mut config = json!({
            "source": [{"kind": "gateway", "url": "https://u:secret@example.net/x", "name": "u@h"}],
            "push": [{"url": "http://127.0.0.1:5001"}],
        });
        hide_passwords(&mut config);
        assert_eq!(config["source"][0]["url"], "https://example.net/x");
        assert_eq!(config["source"][0]["name"], "u@h");
        assert_eq!(config["push"][0]["url"], "http://127.0.0.1:5001");
    }
}
