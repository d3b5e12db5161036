//! The mounts of this daemon, by directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config::STOP_TIMEOUT;
use crate::control::{ErrorKind, MountInfo, MountRequest, Mounts, OperationError};

/// Makes mounts. The kernel's side stands behind it.
#[async_trait]
pub trait Mounter: Send + Sync + 'static {
    /// Mounts, and returns when the mount is usable.
    async fn mount(&self, request: &MountRequest) -> Result<Arc<dyn Mounted>, OperationError>;
}

/// One mount.
#[async_trait]
pub trait Mounted: Send + Sync + 'static {
    /// Where it is, links resolved.
    fn dir(&self) -> &Path;

    /// Ends it; refuses what is in use with who uses it, unless `lazy`.
    /// May block for as long as unmounting takes.
    fn unmount(&self, lazy: bool) -> Result<(), OperationError>;

    /// Waits until it has ended, by whomever.
    async fn ended(&self);
}

struct Entry {
    mount: Arc<dyn Mounted>,
    source: String,
    options: String,
    since: Instant,
}

/// The mounts of this daemon.
pub struct MountTable {
    mounter: Arc<dyn Mounter>,
    entries: Arc<Mutex<BTreeMap<PathBuf, Entry>>>,
    count: Arc<watch::Sender<usize>>,
}

impl MountTable {
    /// An empty table of mounts that `mounter` makes.
    pub fn new(mounter: Arc<dyn Mounter>) -> Self {
        let (count, _) = watch::channel(0);
        Self {
            mounter,
            entries: Arc::default(),
            count: Arc::new(count),
        }
    }

    /// How many mounts there are, and when that changes.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Ends all mounts. What is in use is refused, unless `lazy` detaches it.
    pub async fn end_all(&self, lazy: bool) -> Result<(), OperationError> {
        let all: Vec<_> = self
            .entries
            .lock()
            .values()
            .map(|one| Arc::clone(&one.mount))
            .collect();
        let mut first_error = None;
        for mount in all {
            if let Err(error) = end(&mount, lazy).await {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Takes a mount out of the table when it has ended, by whomever.
    fn watch(&self, dir: PathBuf, mount: Arc<dyn Mounted>) {
        let (entries, count) = (Arc::clone(&self.entries), Arc::clone(&self.count));
        tokio::spawn(async move {
            mount.ended().await;
            let left = {
                let mut entries = entries.lock();
                let ours = |one: &Entry| Arc::ptr_eq(&one.mount, &mount);
                if entries.get(&dir).is_some_and(ours) {
                    entries.remove(&dir);
                }
                entries.len()
            };
            tracing::info!(dir = %dir.display(), left, "unmounted");
            count.send_replace(left);
        });
    }
}

/// Unmounts on a thread that may block, and waits for the end of the mount.
///
/// A detached mount ends when its last user leaves: that is not waited for.
async fn end(mount: &Arc<dyn Mounted>, lazy: bool) -> Result<(), OperationError> {
    let blocking = Arc::clone(mount);
    tokio::task::spawn_blocking(move || blocking.unmount(lazy))
        .await
        .map_err(|error| OperationError::internal(error.to_string()))??;
    let wait = if lazy { DETACH_GRACE } else { STOP_TIMEOUT };
    match tokio::time::timeout(wait, mount.ended()).await {
        Ok(()) => Ok(()),
        Err(_) if lazy => Ok(()),
        Err(_) => {
            let message = format!("{} did not end in time", mount.dir().display());
            Err(OperationError::new(ErrorKind::Timeout, message))
        }
    }
}

/// How long a detached mount that nobody uses is given to end.
const DETACH_GRACE: Duration = Duration::from_millis(500);

#[async_trait]
impl Mounts for MountTable {
    fn list(&self) -> Vec<MountInfo> {
        let entries = self.entries.lock();
        entries
            .iter()
            .map(|(dir, entry)| info(dir, entry))
            .collect()
    }

    async fn add(&self, request: MountRequest) -> Result<MountInfo, OperationError> {
        let mount = self.mounter.mount(&request).await?;
        let dir = mount.dir().to_owned();
        let entry = Entry {
            mount: Arc::clone(&mount),
            source: request.source,
            options: request.options,
            since: Instant::now(),
        };
        let added = info(&dir, &entry);
        let now = {
            let mut entries = self.entries.lock();
            entries.insert(dir.clone(), entry);
            entries.len()
        };
        tracing::info!(dir = %dir.display(), source = added.source, "mounted");
        self.count.send_replace(now);
        self.watch(dir, mount);
        Ok(added)
    }

    async fn remove(&self, dir: &Path, lazy: bool) -> Result<(), OperationError> {
        let mount = self
            .entries
            .lock()
            .get(dir)
            .map(|one| Arc::clone(&one.mount));
        let Some(mount) = mount else {
            let message = format!("this daemon has no mount at {}", dir.display());
            return Err(OperationError::not_found(message).hint("`cidfs mounts` lists what it has"));
        };
        end(&mount, lazy).await
    }
}

fn info(dir: &Path, entry: &Entry) -> MountInfo {
    MountInfo {
        source: entry.source.clone(),
        dir: dir.to_owned(),
        options: entry.options.clone(),
        age_seconds: entry.since.elapsed().as_secs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        dir: PathBuf,
        busy: bool,
        ended: watch::Sender<bool>,
    }

    #[async_trait]
    impl Mounted for Fake {
        fn dir(&self) -> &Path {
            &self.dir
        }

        fn unmount(&self, lazy: bool) -> Result<(), OperationError> {
            if self.busy && !lazy {
                return Err(OperationError::new(
                    ErrorKind::Busy,
                    "in use by less (pid 7)",
                ));
            }
            self.ended.send_replace(true);
            Ok(())
        }

        async fn ended(&self) {
            drop(self.ended.subscribe().wait_for(|ended| *ended).await);
        }
    }

    struct Fakes {
        busy: bool,
    }

    #[async_trait]
    impl Mounter for Fakes {
        async fn mount(&self, request: &MountRequest) -> Result<Arc<dyn Mounted>, OperationError> {
            let (ended, _) = watch::channel(false);
            Ok(Arc::new(Fake {
                dir: request.dir.clone(),
                busy: self.busy,
                ended,
            }))
        }
    }

    fn request(dir: &str) -> MountRequest {
        MountRequest {
            source: "/".into(),
            dir: dir.into(),
            options: String::new(),
        }
    }

    #[tokio::test]
    async fn a_mount_that_ends_leaves_the_table_and_the_count_says_so() {
        let table = MountTable::new(Arc::new(Fakes { busy: false }));
        table.add(request("/a")).await.unwrap();
        table.add(request("/b")).await.unwrap();
        assert_eq!(*table.count().borrow(), 2);
        table.remove(Path::new("/a"), false).await.unwrap();
        table.count().wait_for(|count| *count == 1).await.unwrap();
        let left: Vec<_> = table.list().into_iter().map(|one| one.dir).collect();
        assert_eq!(left, [PathBuf::from("/b")]);
    }

    #[tokio::test]
    async fn a_busy_mount_stays_unless_it_is_detached() {
        let table = MountTable::new(Arc::new(Fakes { busy: true }));
        table.add(request("/a")).await.unwrap();
        let refused = table.end_all(false).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Busy);
        assert_eq!(table.list().len(), 1);
        table.end_all(true).await.unwrap();
        table.count().wait_for(|count| *count == 0).await.unwrap();
    }

    #[tokio::test]
    async fn unmounting_what_is_not_mounted_is_not_found() {
        let table = MountTable::new(Arc::new(Fakes { busy: false }));
        let refused = table.remove(Path::new("/x"), false).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::NotFound);
    }
}
