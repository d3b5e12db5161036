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

    /// Tells the kernel nothing more: the process ends. May block.
    fn quiet(&self);

    /// Refuses with who uses it. May block.
    fn check_unused(&self) -> Result<(), OperationError>;

    /// Waits until it has ended, by whomever.
    async fn ended(&self);
}

struct Entry {
    mount: Arc<dyn Mounted>,
    source: String,
    options: String,
    since: Instant,
}

#[derive(Default)]
struct Entries {
    mounts: BTreeMap<PathBuf, Entry>,
    /// Detached ones still in use, in whose place another was mounted.
    detached: Vec<Arc<dyn Mounted>>,
    /// Mounts that are being made or taken away: the daemon stays for them.
    busy: usize,
    /// Set once the daemon ends: nothing is mounted any more.
    closed: bool,
}

impl Entries {
    fn count(&self) -> usize {
        self.mounts.len() + self.detached.len() + self.busy
    }
}

/// The mounts of this daemon.
pub struct MountTable {
    mounter: Arc<dyn Mounter>,
    entries: Arc<Mutex<Entries>>,
    count: Arc<watch::Sender<usize>>,
    /// Whether the daemon stays when the last one is gone.
    stays: bool,
}

impl MountTable {
    /// An empty table of mounts that `mounter` makes.
    pub fn new(mounter: Arc<dyn Mounter>) -> Self {
        let (count, _) = watch::channel(0);
        Self {
            mounter,
            entries: Arc::default(),
            count: Arc::new(count),
            stays: true,
        }
    }

    /// Says whether the daemon stays when the last mount is gone.
    #[must_use]
    pub fn staying(self, stays: bool) -> Self {
        Self { stays, ..self }
    }

    /// How many mounts there are or are being made, and when that changes.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// If there is no mount and none is being made, refuses new ones from now
    /// on and says so.
    pub fn close_if_empty(&self) -> bool {
        let mut entries = self.entries.lock();
        entries.closed |= entries.count() == 0;
        entries.closed
    }

    /// Refuses new mounts from now on.
    pub fn close(&self) {
        self.entries.lock().closed = true;
    }

    /// Ends all mounts. While one is in use, none is ended, unless `lazy`
    /// detaches them.
    pub async fn end_all(&self, lazy: bool) -> Result<(), OperationError> {
        let _answered = Busy::new(self);
        // What lies in another mount comes after it in the order of names.
        let all: Vec<_> = self
            .entries
            .lock()
            .mounts
            .values()
            .rev()
            .map(|one| Arc::clone(&one.mount))
            .collect();
        if !lazy {
            check_unused(all.clone()).await?;
        }
        let mut first_error = None;
        for mount in all {
            if let Err(error) = end(&mount, lazy).await {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Has no mount tell the kernel anything more: the process ends, whoever
    /// still uses one.
    pub async fn quiet(&self) {
        let all: Vec<_> = {
            let entries = self.entries.lock();
            let listed = entries.mounts.values().map(|one| &one.mount);
            listed.chain(&entries.detached).cloned().collect()
        };
        let blocking = move || all.iter().for_each(|mount| mount.quiet());
        if let Err(error) = tokio::task::spawn_blocking(blocking).await {
            tracing::error!(%error, "a mount panicked");
        }
    }

    /// Takes a mount out of the table when it has ended, by whomever.
    fn watch(&self, dir: PathBuf, mount: Arc<dyn Mounted>) {
        let (entries, count) = (Arc::clone(&self.entries), Arc::clone(&self.count));
        tokio::spawn(async move {
            mount.ended().await;
            let left = {
                let mut entries = entries.lock();
                let ours = |one: &Entry| Arc::ptr_eq(&one.mount, &mount);
                if entries.mounts.get(&dir).is_some_and(ours) {
                    entries.mounts.remove(&dir);
                }
                entries.detached.retain(|one| !Arc::ptr_eq(one, &mount));
                // Told under the lock, as everywhere: the last one told is the newest.
                count.send_replace(entries.count());
                entries.count()
            };
            tracing::info!(dir = %dir.display(), left, "unmounted");
        });
    }
}

async fn check_unused(all: Vec<Arc<dyn Mounted>>) -> Result<(), OperationError> {
    tokio::task::spawn_blocking(move || all.iter().try_for_each(|mount| mount.check_unused()))
        .await
        .map_err(|error| OperationError::internal(error.to_string()))?
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
            .mounts
            .iter()
            .map(|(dir, entry)| info(dir, entry))
            .collect()
    }

    fn stays(&self) -> bool {
        self.stays
    }

    async fn add(&self, request: MountRequest) -> Result<MountInfo, OperationError> {
        let coming = Busy::with_new_mount(self)?;
        let mount = self.mounter.mount(&request).await?;
        let dir = mount.dir().to_owned();
        let entry = Entry {
            mount: Arc::clone(&mount),
            source: request.source,
            options: request.options,
            since: Instant::now(),
        };
        let added = info(&dir, &entry);
        {
            let mut entries = self.entries.lock();
            let before = entries.mounts.insert(dir.clone(), entry);
            entries.detached.extend(before.map(|one| one.mount));
        }
        drop(coming);
        tracing::info!(dir = %dir.display(), source = added.source, "mounted");
        self.watch(dir, mount);
        Ok(added)
    }

    async fn remove(&self, dir: &Path, lazy: bool) -> Result<(), OperationError> {
        let mount = self
            .entries
            .lock()
            .mounts
            .get(dir)
            .map(|one| Arc::clone(&one.mount));
        let Some(mount) = mount else {
            let message = format!("this daemon has no mount at {}", dir.display());
            return Err(OperationError::not_found(message).hint("`cidfs mounts` lists what it has"));
        };
        // The kernel may take seconds to forget a large tree after the mount has ended.
        let _answered = Busy::new(self);
        end(&mount, lazy).await?;
        // Who asks for the list next does not see it, whoever else is told first.
        if tokio::time::timeout(Duration::ZERO, mount.ended())
            .await
            .is_ok()
        {
            let mut entries = self.entries.lock();
            let is_it = |one: &Entry| Arc::ptr_eq(&one.mount, &mount);
            if entries.mounts.get(dir).is_some_and(is_it) {
                entries.mounts.remove(dir);
            }
        }
        Ok(())
    }
}

/// A mount that is being made or taken away. It counts as one for as long as this
/// lives: whoever asked for it gets an answer before the daemon ends.
struct Busy<'a>(&'a MountTable);

impl<'a> Busy<'a> {
    fn new(table: &'a MountTable) -> Self {
        Self::counted(table, &mut table.entries.lock())
    }

    fn with_new_mount(table: &'a MountTable) -> Result<Self, OperationError> {
        let mut entries = table.entries.lock();
        if entries.closed {
            let message = "the daemon is ending";
            return Err(OperationError::new(ErrorKind::Ending, message).hint("try again"));
        }
        Ok(Self::counted(table, &mut entries))
    }

    fn counted(table: &'a MountTable, entries: &mut Entries) -> Self {
        entries.busy += 1;
        table.count.send_replace(entries.count());
        Self(table)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut entries = self.0.entries.lock();
        entries.busy -= 1;
        self.0.count.send_replace(entries.count());
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
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Fake {
        dir: PathBuf,
        busy: bool,
        ended: watch::Sender<bool>,
        used: bool,
        forgets_at: Option<Arc<Barrier>>,
        quiet: Arc<AtomicUsize>,
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
            self.ended.send_replace(!self.used);
            if let Some(forgets_at) = &self.forgets_at {
                forgets_at.wait();
            }
            Ok(())
        }

        fn quiet(&self) {
            self.quiet.fetch_add(1, Ordering::SeqCst);
        }

        fn check_unused(&self) -> Result<(), OperationError> {
            if self.busy {
                return Err(OperationError::new(ErrorKind::Busy, "in use"));
            }
            Ok(())
        }

        async fn ended(&self) {
            drop(self.ended.subscribe().wait_for(|ended| *ended).await);
        }
    }

    #[derive(Default)]
    struct Fakes {
        busy: bool,
        /// The directory in use, where only one is.
        busy_dir: &'static str,
        /// Mounts wait for it.
        slow: Option<Arc<tokio::sync::Notify>>,
        /// Detached mounts do not end.
        used: bool,
        /// Where an unmount waits after the mount has ended: the kernel forgets what it had.
        forgets_at: Option<Arc<Barrier>>,
        /// How many were told to be quiet.
        quiet: Arc<AtomicUsize>,
    }

    #[async_trait]
    impl Mounter for Fakes {
        async fn mount(&self, request: &MountRequest) -> Result<Arc<dyn Mounted>, OperationError> {
            let (ended, _) = watch::channel(false);
            if let Some(slow) = &self.slow {
                slow.notified().await;
            }
            Ok(Arc::new(Fake {
                dir: request.dir.clone(),
                busy: self.busy || request.dir == Path::new(self.busy_dir),
                ended,
                used: self.used,
                forgets_at: self.forgets_at.clone(),
                quiet: Arc::clone(&self.quiet),
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
        let table = MountTable::new(Arc::new(Fakes::default()));
        table.add(request("/a")).await.unwrap();
        table.add(request("/b")).await.unwrap();
        assert_eq!(*table.count().borrow(), 2);
        table.remove(Path::new("/a"), false).await.unwrap();
        table.count().wait_for(|count| *count == 1).await.unwrap();
        let left: Vec<_> = table.list().into_iter().map(|one| one.dir).collect();
        assert_eq!(left, [PathBuf::from("/b")]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_daemon_does_not_end_before_who_unmounts_has_an_answer() {
        let forgets_at = Arc::new(Barrier::new(2));
        let table = Arc::new(MountTable::new(Arc::new(Fakes {
            forgets_at: Some(Arc::clone(&forgets_at)),
            ..Fakes::default()
        })));
        table.add(request("/a")).await.unwrap();
        let ours = Arc::clone(&table);
        let removal = tokio::spawn(async move { ours.remove(Path::new("/a"), false).await });
        while !table.list().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let ends = table.close_if_empty();
        forgets_at.wait();
        assert!(!ends, "the mount has ended, the answer is not there");
        removal.await.unwrap().unwrap();
        assert!(table.close_if_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 8)]
    async fn the_last_count_that_is_told_is_that_of_the_table() {
        let table = MountTable::new(Arc::new(Fakes::default()));
        for round in 0..2000 {
            table.add(request("/a")).await.unwrap();
            table.remove(Path::new("/a"), false).await.unwrap();
            while !table.list().is_empty() {
                tokio::task::yield_now().await;
            }
            // Whoever took it out may only now tell of it.
            let mut count = table.count();
            let told = tokio::time::timeout(Duration::from_secs(5), async {
                for _ in 0..50 {
                    count.wait_for(|count| *count == 0).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            told.await
                .unwrap_or_else(|_| panic!("round {round}: {}", *table.count().borrow()));
        }
    }

    #[tokio::test]
    async fn a_busy_mount_stays_unless_it_is_detached() {
        let table = MountTable::new(Arc::new(Fakes {
            busy: true,
            ..Fakes::default()
        }));
        table.add(request("/a")).await.unwrap();
        let refused = table.end_all(false).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Busy);
        assert_eq!(table.list().len(), 1);
        table.end_all(true).await.unwrap();
        table.count().wait_for(|count| *count == 0).await.unwrap();
    }

    #[tokio::test]
    async fn while_one_mount_is_busy_none_is_ended() {
        let table = MountTable::new(Arc::new(Fakes {
            busy_dir: "/a",
            ..Fakes::default()
        }));
        for dir in ["/a", "/a/b", "/c"] {
            table.add(request(dir)).await.unwrap();
        }
        assert!(table.end_all(false).await.is_err());
        assert_eq!(table.list().len(), 3);
        table.end_all(true).await.unwrap();
        table.count().wait_for(|count| *count == 0).await.unwrap();
    }

    #[tokio::test]
    async fn the_daemon_does_not_end_under_a_mount_that_is_being_made() {
        let slow = Arc::new(tokio::sync::Notify::new());
        let table = Arc::new(MountTable::new(Arc::new(Fakes {
            slow: Some(Arc::clone(&slow)),
            ..Fakes::default()
        })));
        let adding = {
            let table = Arc::clone(&table);
            tokio::spawn(async move { table.add(request("/a")).await })
        };
        table.count().wait_for(|count| *count == 1).await.unwrap();
        assert!(!table.close_if_empty(), "one is being made");
        slow.notify_one();
        adding.await.unwrap().unwrap();
        table.remove(Path::new("/a"), false).await.unwrap();
        table.count().wait_for(|count| *count == 0).await.unwrap();
        assert!(table.close_if_empty());
        let refused = table.add(request("/b")).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Ending);
    }

    #[tokio::test]
    async fn a_detached_mount_counts_until_its_end_though_another_is_in_its_place() {
        let quiet = Arc::new(AtomicUsize::new(0));
        let table = MountTable::new(Arc::new(Fakes {
            used: true,
            quiet: Arc::clone(&quiet),
            ..Fakes::default()
        }));
        table.add(request("/a")).await.unwrap();
        table.remove(Path::new("/a"), true).await.unwrap();
        assert_eq!(*table.count().borrow(), 1, "someone uses it");
        table.add(request("/a")).await.unwrap();
        assert_eq!((*table.count().borrow(), table.list().len()), (2, 1));
        table.quiet().await;
        assert_eq!(quiet.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn unmounting_what_is_not_mounted_is_not_found() {
        let table = MountTable::new(Arc::new(Fakes::default()));
        let refused = table.remove(Path::new("/x"), false).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::NotFound);
    }
}
