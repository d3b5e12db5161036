//! A writable tree in a temporary directory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cidfs::block::Cid;
use cidfs::cache::Blocks;
use cidfs::clock::SystemClock;
use cidfs::disk::{Disk, RealDisk};
use cidfs::source::BlockSource;
use cidfs::testing::dag::Dag;
use cidfs::tree::mfs::{Caller, Mfs, MfsOptions, New, NodeAttr, NodeId, NodeKind, Parts, Seek};
use cidfs::unixfs::Reader;

use crate::store_support::Place;

/// Who calls in these tests.
pub(crate) const ME: Caller = Caller {
    uid: 1000,
    gid: 1000,
    origin: cidfs::tree::mfs::Origin(0),
};

/// A tree and what it lies on.
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) mfs: Arc<Mfs>,
    pub(crate) options: MfsOptions,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(MfsOptions::default()).await
    }

    pub(crate) async fn with(options: MfsOptions) -> Self {
        let place = Place::new();
        let (blocks, mfs) = open(&place, &options, Arc::new(RealDisk)).await;
        Self {
            place,
            blocks,
            mfs,
            options,
        }
    }

    /// Ends it in order and opens it again.
    pub(crate) async fn reopen(self) -> Self {
        self.mfs.close().await;
        self.again().await
    }

    /// Opens it again without any end, as after a kill.
    pub(crate) async fn killed(self) -> Self {
        self.again().await
    }

    async fn again(self) -> Self {
        let Self {
            place,
            blocks,
            mfs,
            options,
        } = self;
        drop(mfs);
        blocks.close();
        drop(blocks);
        let (blocks, mfs) = open(&place, &options, Arc::new(RealDisk)).await;
        Self {
            place,
            blocks,
            mfs,
            options,
        }
    }

    pub(crate) async fn make(&self, parent: NodeId, name: &str, new: New, mode: u32) -> NodeAttr {
        self.mfs
            .make(ME, parent, name.as_bytes(), new, mode, 0o022, false)
            .await
            .unwrap()
    }

    pub(crate) async fn file(&self, parent: NodeId, name: &str, bytes: &[u8]) -> NodeId {
        let node = self.make(parent, name, New::File, 0o644).await.node;
        self.mfs.write(ME, node, 0, bytes, false).await.unwrap();
        node
    }

    pub(crate) async fn dir(&self, parent: NodeId, name: &str) -> NodeId {
        self.make(parent, name, New::Directory, 0o755).await.node
    }

    pub(crate) async fn read(&self, node: NodeId) -> Vec<u8> {
        read(&self.mfs, node).await
    }
}

pub(crate) async fn open(
    place: &Place,
    options: &MfsOptions,
    disk: Arc<dyn Disk>,
) -> (Arc<Blocks>, Arc<Mfs>) {
    open_from(place, options, disk, place.source.clone()).await
}

pub(crate) async fn open_from(
    place: &Place,
    options: &MfsOptions,
    disk: Arc<dyn Disk>,
    source: Arc<dyn BlockSource>,
) -> (Arc<Blocks>, Arc<Mfs>) {
    open_reading(place, options, disk, source, Reader::new).await
}

/// One on the real disk whose reads wait so long for a source.
pub(crate) async fn open_waiting(
    place: &Place,
    options: &MfsOptions,
    source: Arc<dyn BlockSource>,
    deadline: Duration,
) -> (Arc<Blocks>, Arc<Mfs>) {
    let reader = |blocks| Reader::with_deadline(blocks, deadline);
    open_reading(place, options, Arc::new(RealDisk), source, reader).await
}

async fn open_reading(
    place: &Place,
    options: &MfsOptions,
    disk: Arc<dyn Disk>,
    source: Arc<dyn BlockSource>,
    reader: impl FnOnce(Arc<Blocks>) -> Arc<Reader>,
) -> (Arc<Blocks>, Arc<Mfs>) {
    let blocks = place.open_on(disk.clone(), source);
    let reader = reader(blocks.clone());
    let parts = Parts {
        journal_dir: place.path("journal"),
        disk,
        clock: Arc::new(SystemClock),
        blocks: blocks.clone(),
        reader,
    };
    let mfs = Mfs::open(parts, options.clone()).await.unwrap();
    (blocks, mfs)
}

/// A file of two halves that the source of a place has; gives it, and the second
/// half, which a test can take away from it.
pub(crate) fn two_halves(place: &Place) -> (Cid, Cid) {
    let mut dag = Dag::default();
    let leaves: Vec<Cid> = (0..4_u8).map(|n| dag.leaf(vec![n; 100])).collect();
    let near = dag.file(&[(leaves[0], 100), (leaves[1], 100)]);
    let far = dag.file(&[(leaves[2], 100), (leaves[3], 100)]);
    let root = dag.file(&[(near, 200), (far, 200)]);
    for block in dag.blocks {
        place.source.insert(block);
    }
    (root, far)
}

pub(crate) async fn read(mfs: &Mfs, node: NodeId) -> Vec<u8> {
    let size = mfs.attr(node).unwrap().size as usize;
    let mut out = vec![0xaa; size];
    assert_eq!(mfs.read(node, 0, &mut out).await.unwrap(), size);
    out
}

/// One line for each node of a tree: everything that a program can see of it.
pub(crate) async fn dump(mfs: &Mfs) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut open = vec![(String::new(), NodeId::ROOT)];
    while let Some((path, dir)) = open.pop() {
        let mut cookie = 0;
        loop {
            let page = mfs.readdir(dir, cookie, 7).await.unwrap();
            let Some(last) = page.last() else { break };
            assert!(last.cookie > cookie && last.cookie < 1 << 63);
            cookie = last.cookie;
            for entry in page {
                let path = format!("{path}/{}", entry.name.escape_ascii());
                let found = mfs.lookup(dir, &entry.name, false).await.unwrap();
                assert_eq!(found, entry.attr, "{path}");
                let told = line(mfs, &entry.attr).await;
                assert!(out.insert(path.clone(), told).is_none(), "{path} twice");
                if entry.attr.kind == NodeKind::Directory {
                    open.push((path, entry.attr.node));
                }
            }
        }
    }
    out.insert(
        "/".into(),
        line(mfs, &mfs.attr(NodeId::ROOT).unwrap()).await,
    );
    out
}

async fn line(mfs: &Mfs, attr: &NodeAttr) -> String {
    let content = match attr.kind {
        NodeKind::File => format!("{:x}", crc32fast::hash(&read(mfs, attr.node).await)),
        NodeKind::Symlink => format!("{:?}", mfs.readlink(attr.node).unwrap()),
        NodeKind::Directory
        | NodeKind::Fifo
        | NodeKind::Socket
        | NodeKind::CharDevice
        | NodeKind::BlockDevice => String::new(),
    };
    let mut xattrs = Vec::new();
    for name in mfs.list_xattr(attr.node).unwrap() {
        xattrs.push((name.clone(), mfs.get_xattr(attr.node, &name).await.unwrap()));
    }
    let holes = match attr.kind {
        NodeKind::File => holes(mfs, attr.node).await,
        _ => Vec::new(),
    };
    format!("{attr:?} {content} {xattrs:?} {holes:?}")
}

/// Where a file has holes, as `lseek` tells.
pub(crate) async fn holes(mfs: &Mfs, node: NodeId) -> Vec<(u64, u64)> {
    let size = mfs.attr(node).unwrap().size;
    let (mut found, mut at) = (Vec::new(), 0);
    while at < size {
        let hole = mfs.seek(node, at, Seek::Hole).await.unwrap();
        at = mfs.seek(node, hole, Seek::Data).await.unwrap_or(size);
        if hole < size {
            found.push((hole, at - hole));
        }
    }
    found
}
