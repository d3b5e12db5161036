//! Much at once, and many at once.

use std::collections::BTreeMap;

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cidfs::disk::{Disk, DiskEntry, DiskFile, RealDisk, Ring};
use cidfs::tree::TreeError;
use cidfs::tree::mfs::{MfsOptions, New, NodeId, RenameMode, SetAttr};

use crate::mfs_crash::seen;
use crate::mfs_sim::{Sim, quiet};
use crate::mfs_support::{ME, open};
use crate::store_support::Place;

const ROOT: NodeId = NodeId::ROOT;

/// A disk that counts the bytes that are appended.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU64>);

struct CountingFile(Arc<dyn DiskFile>, Arc<AtomicU64>);

impl Disk for Counting {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(CountingFile(
            RealDisk.create(path)?,
            self.0.clone(),
        )))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(CountingFile(RealDisk.open(path)?, self.0.clone())))
    }
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        RealDisk.read(path, bytes_max)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>> {
        RealDisk.list(dir)
    }
    fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        RealDisk.make_dirs(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn remove_tree(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_tree(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    // Of fixed length, and never synced: what goes through it is not counted.
    fn ring(&self, path: &Path, len: u64) -> io::Result<Option<Arc<dyn Ring>>> {
        RealDisk.ring(path, len)
    }
    fn write_again(&self, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        RealDisk.write_again(path, bytes, offset)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }
}

impl DiskFile for CountingFile {
    fn append(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let taken = self.0.append(parts)?;
        self.1.fetch_add(taken as u64, Ordering::Relaxed);
        Ok(taken)
    }
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(out, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn cut(&self, len: u64) -> io::Result<()> {
        self.0.cut(len)
    }
    fn reserve(&self, len: u64) -> io::Result<()> {
        self.0.reserve(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_data_is_written_once() {
    const MIB: usize = 256;
    let (place, disk) = (Place::new(), Counting::default());
    let (_blocks, mfs) = open(&place, &quiet(), Arc::new(disk.clone())).await;
    let node = mfs
        .make(ME, ROOT, b"f", New::File, 0o644, 0, false)
        .await
        .unwrap()
        .node;
    let mut chunk = vec![0; 1 << 20];
    for count in 0..MIB {
        chunk[..8].copy_from_slice(&(count as u64).to_le_bytes());
        mfs.write(ME, node, (count as u64) << 20, &chunk, false)
            .await
            .unwrap();
    }
    mfs.sync().unwrap();
    mfs.checkpoint().await.unwrap();
    let appended = disk.0.load(Ordering::Relaxed);
    let ratio = appended as f64 / (MIB << 20) as f64;
    println!("{appended} bytes appended: {ratio:.4} times");
    assert!((1.0..1.1).contains(&ratio), "{ratio}");
    mfs.close().await;
}

/// What a task did with its own part of the tree, and must be there.
type Kept = BTreeMap<String, Vec<u8>>;

/// Works in a directory of its own, and moves things through a shared one.
async fn hammer(sim: Arc<Sim>, task: u64, checkpoints: Arc<AtomicU64>) -> Kept {
    let mfs = &sim.mfs;
    let name = format!("d{task}");
    let dir = mfs
        .make(ME, ROOT, name.as_bytes(), New::Directory, 0o755, 0, false)
        .await
        .unwrap()
        .node;
    let shared = mfs.lookup(ROOT, b"shared", false).await.unwrap().node;
    let mut kept = Kept::new();
    for round in 0.. {
        if round >= 100 && checkpoints.load(Ordering::Relaxed) >= 6 {
            break;
        }
        let file = format!("f{}", round % 17);
        let found = mfs.lookup(dir, file.as_bytes(), false).await;
        let node = match found {
            Ok(found) => found.node,
            Err(TreeError::NotFound) => {
                mfs.make(ME, dir, file.as_bytes(), New::File, 0o644, 0, false)
                    .await
                    .unwrap()
                    .node
            }
            Err(error) => panic!("{error}"),
        };
        let round: u64 = round;
        // Else the checkpoints wait for a thread.
        tokio::task::yield_now().await;
        let bytes = vec![round as u8; 40 + (round as usize * 37) % 500];
        let at = (round * 53) % 300;
        mfs.write(ME, node, at, &bytes, false).await.unwrap();
        let content = kept.entry(file.clone()).or_default();
        let end = at as usize + bytes.len();
        content.resize(content.len().max(end), 0);
        content[at as usize..end].copy_from_slice(&bytes);
        match round % 6 {
            0 => {
                let cut = SetAttr {
                    size: Some(at + 7),
                    ..SetAttr::default()
                };
                mfs.set_attr(ME, node, cut).await.unwrap();
                content.truncate(at as usize + 7);
            }
            1 => {
                // Out and back, under a name that the others try to take too.
                let to = (shared, b"slot".as_slice());
                let from = (dir, file.as_bytes());
                if mfs
                    .rename(ME, from, to, RenameMode::NoReplace)
                    .await
                    .is_ok()
                {
                    mfs.rename(ME, to, from, RenameMode::NoReplace)
                        .await
                        .unwrap();
                }
            }
            2 => {
                mfs.unlink(ME, dir, file.as_bytes()).await.unwrap();
                kept.remove(&file);
            }
            3 => {
                let other = format!("g{}", round % 5);
                let linked = mfs
                    .link(
                        ME,
                        node,
                        shared,
                        format!("{task} {other}").as_bytes(),
                        false,
                    )
                    .await;
                // The name may be taken.
                drop(linked);
            }
            _ => drop(mfs.readdir(dir, 0, 50).await.unwrap()),
        }
    }
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn many_at_once_beside_checkpoints_neither_lose_nor_mix() {
    let form = cidfs::unixfs::file_update::FileForm {
        chunk_bytes: 64,
        links_max: 3,
        ..cidfs::unixfs::profile::Profile::default().into()
    };
    let options = MfsOptions {
        file_form: Some(form),
        unsealed_bytes_max: 9000,
        ..quiet()
    };
    for _ in 0..3 {
        let sim = Arc::new(Sim::new(options.clone()).await);
        sim.mfs
            .make(ME, ROOT, b"shared", New::Directory, 0o755, 0, false)
            .await
            .unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let made = Arc::new(AtomicU64::new(0));
        let (mfs, end, count) = (sim.mfs.clone(), ended.clone(), made.clone());
        let checkpoints = tokio::spawn(async move {
            while !end.load(Ordering::Relaxed) {
                mfs.checkpoint().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let task = |task| tokio::spawn(hammer(sim.clone(), task, made.clone()));
        let tasks: Vec<_> = (0..4).map(task).collect();
        let mut kept = Vec::new();
        for task in tasks {
            kept.push(task.await.unwrap());
        }
        ended.store(true, Ordering::Relaxed);
        checkpoints.await.unwrap();
        sim.mfs.check_sound().unwrap();
        let before = seen(&sim.mfs).await.unwrap();
        let sim = Arc::into_inner(sim).unwrap().killed().await;
        assert_eq!(seen(&sim.mfs).await.unwrap(), before, "after a kill");
        for (task, kept) in kept.iter().enumerate() {
            let dir = sim
                .mfs
                .lookup(ROOT, format!("d{task}").as_bytes(), false)
                .await
                .unwrap()
                .node;
            let names = sim.mfs.readdir(dir, 0, 99).await.unwrap();
            assert_eq!(names.len(), kept.len());
            for (name, bytes) in kept {
                let node = sim
                    .mfs
                    .lookup(dir, name.as_bytes(), false)
                    .await
                    .unwrap()
                    .node;
                assert!(
                    crate::mfs_support::read(&sim.mfs, node).await == *bytes,
                    "{task} {name}"
                );
            }
        }
        let sim = sim.reopened().await;
        assert_eq!(seen(&sim.mfs).await.unwrap(), before, "after an end");
        sim.mfs.close().await;
    }
}
