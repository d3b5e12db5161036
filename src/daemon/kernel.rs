//! Real mounts: the kernel's side behind [`Mounter`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::mounts::{Mounted, Mounter};
use crate::config::MOUNT_LOOK_WAIT;
use crate::control::{MountRequest, OperationError};
use crate::fs;
use crate::tree::{Kind, Node, Tree};

/// Mounts parts of a tree.
pub(super) struct KernelMounter {
    pub(super) tree: Arc<Tree>,
    pub(super) repo: PathBuf,
    /// Options of every mount; those of the request come after.
    pub(super) options: String,
    pub(super) deadline: Duration,
}

#[async_trait]
impl Mounter for KernelMounter {
    async fn mount(&self, request: &MountRequest) -> Result<Arc<dyn Mounted>, OperationError> {
        let deadline = self.deadline.as_secs();
        let words = format!("deadline={deadline},{},{}", self.options, request.options);
        let mut options = fs::MountOptions::parse_for(&request.source, &words)
            .map_err(|error| OperationError::invalid(error.to_string()))?;
        options.space_of = Some(self.repo.clone());
        let root = self
            .tree
            .resolve_root(&request.source)
            .await
            .map_err(|error| {
                OperationError::from(error).context(format!("cannot mount {}", request.source))
            })?;
        refuse_files(&self.tree, &root, &request.source).await?;
        let (tree, dir) = (Arc::clone(&self.tree), request.dir.clone());
        let runtime = tokio::runtime::Handle::current();
        let mounting =
            tokio::task::spawn_blocking(move || fs::mount(tree, root, &dir, &options, runtime));
        let mount = mounting
            .await
            .map_err(|error| OperationError::internal(error.to_string()))??;
        Ok(Arc::new(KernelMount(mount)))
    }
}

/// Refuses what is proven to be no directory. Content that is not here yet may
/// come later, and is mounted.
async fn refuse_files(tree: &Tree, root: &Node, source: &str) -> Result<(), OperationError> {
    let looked = tokio::time::timeout(MOUNT_LOOK_WAIT, tree.attr(root)).await;
    let Ok(Ok(attr)) = looked else {
        return Ok(());
    };
    if attr.kind == Kind::Directory {
        return Ok(());
    }
    let what = if attr.kind == Kind::Symlink {
        "a symbolic link"
    } else {
        "a file"
    };
    let message = format!("cannot mount {source}: it is {what}, and only directories are mounted");
    Err(OperationError::invalid(message).hint("mount the directory that it is in"))
}

struct KernelMount(fs::Mount);

#[async_trait]
impl Mounted for KernelMount {
    fn dir(&self) -> &Path {
        self.0.dir()
    }

    fn unmount(&self, lazy: bool) -> Result<(), OperationError> {
        Ok(self.0.unmount(lazy)?)
    }

    fn quiet(&self) {
        self.0.quiet();
    }

    fn check_unused(&self) -> Result<(), OperationError> {
        Ok(self.0.check_unused()?)
    }

    async fn ended(&self) {
        self.0.ended().await;
    }
}
