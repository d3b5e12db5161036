//! Blocks that are not here: which of them are lost, what is listed without
//! them, and that what cannot be had can be removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cidfs::block::Cid;
use cidfs::cache::Blocks;
use cidfs::disk::Disk;
use cidfs::testing::dag::{Dag, link};
use cidfs::testing::source::{Fault, FaultSource};
use cidfs::tree::TreeError;
use cidfs::tree::mfs::path::TreePath;
use cidfs::tree::mfs::{CopySource, Mfs, New, NodeId, RenameMode, Staged};
use cidfs::unixfs::data::{Kind, UnixFs};

use crate::mfs_sim::{Sim, quiet};
use crate::mfs_support::{ME, open_waiting};
use crate::store_support::Place;

const ROOT: NodeId = NodeId::ROOT;
const CHUNK: usize = 1 << 20;

fn insert(place: &Place, dag: Dag) {
    for block in dag.blocks {
        place.source.insert(block);
    }
}

async fn file(mfs: &Mfs, dir: NodeId, name: &str, bytes: &[u8]) -> NodeId {
    let made = mfs.make(ME, dir, name.as_bytes(), New::File, 0o644, 0, false);
    let node = made.await.unwrap().node;
    mfs.write(ME, node, 0, bytes, false).await.unwrap();
    node
}

/// Takes the own block with these bytes out of its pack: what the section is
/// called is damaged, so that nobody knows that it was there.
fn lose(sim: &Sim, disk: &cidfs::testing::sim_disk::SimDisk, bytes: &[u8]) {
    let dir = sim.place.path("packs/own");
    for entry in disk.list(&dir).unwrap() {
        let pack = dir.join(entry.name);
        let content = disk.read(&pack, 1 << 30).unwrap();
        if let Some(at) = content.windows(bytes.len()).position(|at| at == bytes) {
            disk.flip(&pack, at - 1).unwrap();
            return;
        }
    }
    panic!("not in a pack");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_was_written_here_is_lost_and_one_that_was_only_referred_to_is_not() {
    let sim = Sim::new(quiet()).await;
    let mut dag = Dag::default();
    let leaves: Vec<Cid> = (1..6).map(|n| dag.leaf(vec![n; 900])).collect();
    let far = dag.file(&[(leaves[0], 900), (leaves[1], 900)]);
    let other = dag.file(&[(leaves[2], 900), (leaves[3], 900)]);
    let dir = dag.directory(&[("changed", far), ("raw", leaves[4])]);
    insert(&sim.place, dag);
    let mounted = sim.mfs.mount(ME, ROOT, b"m", &dir).await.unwrap().node;
    file(&sim.mfs, mounted, "new", &[7; CHUNK]).await;
    let copy = file(&sim.mfs, ROOT, "copy", b"").await;
    let content = CopySource::Content(other);
    let copied = sim.mfs.copy_range(ME, content, 0, copy, 0, 1800).await;
    assert_eq!(copied.unwrap(), 1800);
    let again = file(&sim.mfs, ROOT, "again", b"").await;
    let source = CopySource::Node(copy);
    let copied = sim.mfs.copy_range(ME, source, 0, again, 0, 1800).await;
    assert_eq!(copied.unwrap(), 1800);
    let mine = [[8; CHUNK], [9; CHUNK]].concat();
    let mine = file(&sim.mfs, ROOT, "mine", &mine).await;
    // What is shared with a file of which parts are elsewhere is written here all the same.
    let source = CopySource::Node(mine);
    let len = 2 * CHUNK as u64;
    for name in ["a", "z"] {
        let both = file(&sim.mfs, ROOT, name, b"").await;
        let content = CopySource::Content(other);
        let copied = sim.mfs.copy_range(ME, content, 0, both, 0, 1800).await;
        assert_eq!(copied.unwrap(), 1800);
        let copied = sim.mfs.copy_range(ME, source, 0, both, 1 << 20, len).await;
        assert_eq!(copied.unwrap(), len);
    }
    sim.mfs.checkpoint().await.unwrap();
    assert_eq!(
        sim.mfs.list_xattr(copy).unwrap(),
        Vec::<bytes::Bytes>::new()
    );
    let found = sim.mfs.inspect(&|_| ()).await.unwrap();
    assert_eq!((found.lost_blocks, &found.problems[..]), (0, &[][..]));
    let absent = found.absent_blocks;
    assert!(absent >= 3, "{:?}", found.absent);
    assert!(found.absent.iter().any(|one| one.ends_with(" of /m/raw")));
    // One of the four that share it.
    let copies = ["/copy", "/again", "/a", "/z"];
    let is_copy = |one: &String| copies.iter().any(|path| one.ends_with(path));
    assert!(found.absent.iter().any(is_copy), "{:?}", found.absent);
    let disk = sim.disk.kill();
    lose(&sim, &disk, &[9; 1000]);
    lose(&sim, &disk, &[7; 1000]);
    let sim = sim.next(disk).await;
    let found = sim.mfs.inspect(&|_| ()).await.unwrap();
    assert_eq!(found.absent_blocks, absent, "{:?}", found.absent);
    assert_eq!(found.lost_blocks, 2, "{:?}", found.problems);
    for path in ["/mine", "/m/new"] {
        assert!(found.problems.iter().any(|one| one.contains(path)));
        assert!(found.lost.iter().any(|one| one.contains(path)));
    }
}

/// A mounted directory with many children of which nobody has the blocks.
struct Far {
    place: Place,
    source: Arc<FaultSource>,
    blocks: Arc<Blocks>,
    mfs: Arc<Mfs>,
    dir: NodeId,
    names: Vec<String>,
}

const DEADLINE: Duration = Duration::from_secs(2);

async fn open(place: &Place, source: &Arc<FaultSource>) -> (Arc<Blocks>, Arc<Mfs>) {
    open_waiting(place, &quiet(), source.clone(), DEADLINE).await
}

async fn far(count: u32, fault: &Fault) -> Far {
    let place = Place::new();
    let mut dag = Dag::default();
    let leaf = dag.leaf(&b"leaf"[..]);
    let mut links = Vec::new();
    let mut children = Vec::new();
    for index in 0..count {
        let child = match index % 2 {
            0 => {
                let other = dag.leaf(index.to_le_bytes().to_vec());
                dag.file(&[(leaf, 4), (other, 4)])
            }
            _ => dag.directory(&[(&format!("f{index}"), leaf)]),
        };
        children.push(child);
        links.push(link(&format!("{index:03}"), &child, 100));
    }
    let root = dag.node(links, &UnixFs::new(Kind::Directory));
    insert(&place, dag);
    let source = Arc::new(FaultSource::new(place.source.clone()));
    for child in &children {
        source.for_cid(child, Some(fault.clone()));
    }
    let (blocks, mfs) = open(&place, &source).await;
    let dir = mfs.mount(ME, ROOT, b"m", &root).await.unwrap().node;
    let names = (0..count).map(|index| format!("{index:03}")).collect();
    Far {
        place,
        source,
        blocks,
        mfs,
        dir,
        names,
    }
}

impl Far {
    /// Ends it as by a kill and opens it again.
    async fn killed(self) -> Self {
        let Self {
            place,
            source,
            blocks,
            mfs,
            names,
            ..
        } = self;
        drop(mfs);
        blocks.close();
        drop(blocks);
        let (blocks, mfs) = open(&place, &source).await;
        let found = mfs.lookup(ROOT, b"m", false).await.unwrap();
        Self {
            place,
            source,
            blocks,
            mfs,
            dir: found.node,
            names,
        }
    }

    async fn listed(&self) -> Vec<String> {
        let (mut listed, mut cookie) = (Vec::new(), 0);
        loop {
            let page = self.mfs.list(self.dir, cookie, 256).await.unwrap();
            let Some(last) = page.last() else { break };
            cookie = last.cookie;
            let names = page.iter().map(|entry| entry.name.to_vec());
            listed.extend(names.map(|name| String::from_utf8(name).unwrap()));
        }
        listed.sort();
        listed
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_children_that_nobody_answers_for_cost_a_listing_one_deadline() {
    let far = far(70, &Fault::Hang).await;
    let begun = Instant::now();
    assert_eq!(far.listed().await, far.names);
    let took = begun.elapsed();
    assert!(took < DEADLINE + DEADLINE / 2, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_removed_whatever_it_is_and_stays_removed() {
    let mut far = far(6, &Fault::NotFound).await;
    for (index, name) in far.names.iter().enumerate().take(4) {
        let done = match index < 2 {
            true => far.mfs.unlink(ME, far.dir, name.as_bytes()).await,
            false => far.mfs.rmdir(ME, far.dir, name.as_bytes()).await,
        };
        done.unwrap();
    }
    let absent = far.mfs.unlink(ME, far.dir, b"never").await;
    assert!(matches!(absent, Err(TreeError::NotFound)), "{absent:?}");
    let again = far.mfs.unlink(ME, far.dir, b"000").await;
    assert!(matches!(again, Err(TreeError::NotFound)), "{again:?}");
    for in_checkpoint in [false, true] {
        if in_checkpoint {
            far.mfs.checkpoint().await.unwrap();
        }
        far = far.killed().await;
        assert_eq!(far.mfs.recovery().errors, Vec::<String>::new());
        assert_eq!(far.listed().await, ["004", "005"]);
    }
    // All of it, by path.
    let path = |text: &str| TreePath::parse(text.as_bytes()).unwrap();
    let remove = |text: &str| Staged::Remove {
        path: path(text),
        recursive: true,
    };
    far.mfs
        .perform_staged(ME, &[remove("/m/004")])
        .await
        .unwrap();
    let made = far
        .mfs
        .make(ME, ROOT, b"d", New::Directory, 0o755, 0, false);
    let into = made.await.unwrap().node;
    let from = (ROOT, &b"m"[..]);
    let mode = RenameMode::Replace;
    far.mfs.rename(ME, from, (into, b"m"), mode).await.unwrap();
    far.mfs.perform_staged(ME, &[remove("/d")]).await.unwrap();
    let mfs = &far.mfs;
    let gone = mfs.lookup(ROOT, b"d", false).await;
    assert!(matches!(gone, Err(TreeError::NotFound)), "{gone:?}");
    mfs.checkpoint().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_removed_with_what_cannot_be_had_in_it() {
    let mut far = far(5, &Fault::NotFound).await;
    // No mount any more, so that what is in it is looked at.
    let content = far.mfs.cid(far.dir).await.unwrap().unwrap();
    let plain = Staged::Mount {
        path: TreePath::parse(b"/plain").unwrap(),
        content: far.mfs.content(&content).await.unwrap(),
        plain: true,
    };
    far.mfs.perform_staged(ME, &[plain]).await.unwrap();
    let remove = Staged::Remove {
        path: TreePath::parse(b"/plain").unwrap(),
        recursive: true,
    };
    far.mfs.perform_staged(ME, &[remove]).await.unwrap();
    for _ in 0..2 {
        let gone = far.mfs.lookup(ROOT, b"plain", false).await;
        assert!(matches!(gone, Err(TreeError::NotFound)), "{gone:?}");
        far = far.killed().await;
        assert_eq!(far.mfs.recovery().errors, Vec::<String>::new());
    }
}
