//! Where a file has zeros that take no room, it has them after a restart.

use bytes::Bytes;
use cidfs::testing::dag::Dag;
use cidfs::tree::mfs::{Allocate, CopySource, New, NodeId};

use crate::mfs_support::{ME, World, dump, holes};

const ROOT: NodeId = NodeId::ROOT;

async fn node(world: &World, name: &str) -> NodeId {
    let found = world.mfs.lookup(ROOT, name.as_bytes(), false).await;
    found.unwrap().node
}

/// A checkpoint and a start change nothing that can be seen.
async fn restarted(world: World) -> World {
    let before = dump(&world.mfs).await;
    world.mfs.checkpoint().await.unwrap();
    assert_eq!(dump(&world.mfs).await, before, "after a checkpoint");
    let world = world.killed().await;
    assert_eq!(world.mfs.recovery().entries_applied, 0);
    assert_eq!(dump(&world.mfs).await, before, "after a start");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_of_a_sealed_file_are_holes_after_a_restart() {
    let world = World::new().await;
    let mfs = &world.mfs;
    let sparse = world.file(ROOT, "sparse", b"head").await;
    mfs.write(ME, sparse, 5_000_000, b"tail", false)
        .await
        .unwrap();
    mfs.link(ME, sparse, ROOT, b"again", false).await.unwrap();
    let zeros = world.file(ROOT, "zeros", &vec![0; 3 << 20]).await;
    let punched = world.file(ROOT, "punched", &vec![7; 3 << 20]).await;
    mfs.allocate(ME, punched, Allocate::Punch, 4096, 1 << 20)
        .await
        .unwrap();
    let hole = world.make(ROOT, "hole", New::File, 0o644).await.node;
    mfs.allocate(ME, hole, Allocate::Zero { keep_size: false }, 0, 1 << 30)
        .await
        .unwrap();
    let world = restarted(world).await;
    let sparse = node(&world, "sparse").await;
    let attr = world.mfs.attr(sparse).unwrap();
    assert_eq!((attr.size, attr.blocks, attr.nlink), (5_000_004, 1, 2));
    assert_eq!(holes(&world.mfs, sparse).await, [(4, 4_999_996)]);
    let hole = node(&world, "hole").await;
    assert_eq!(world.mfs.attr(hole).unwrap().blocks, 0);
    assert_eq!(world.mfs.attr(zeros).unwrap().blocks, (3 << 20) / 512);
    // What changes by then changes what is known.
    let mfs = &world.mfs;
    mfs.write(ME, sparse, 10, b"mid", false).await.unwrap();
    mfs.allocate(ME, punched, Allocate::Punch, 0, 4096)
        .await
        .unwrap();
    mfs.write(ME, hole, 1 << 29, b"x", false).await.unwrap();
    let world = restarted(world).await;
    let found = holes(&world.mfs, node(&world, "punched").await).await;
    assert_eq!(found, [(0, (1 << 20) + 4096)]);
    let found = holes(&world.mfs, node(&world, "again").await).await;
    assert_eq!(found, [(4, 6), (13, 4_999_987)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_holes_are_remembered() {
    let world = World::new().await;
    let many = world.make(ROOT, "many", New::File, 0o644).await.node;
    for at in 0..5000u64 {
        let at = at * 8192 + 4096;
        world
            .mfs
            .write(ME, many, at, &[1; 64], false)
            .await
            .unwrap();
    }
    assert_eq!(holes(&world.mfs, many).await.len(), 5000);
    let world = restarted(world).await;
    assert_eq!(
        holes(&world.mfs, node(&world, "many").await).await.len(),
        5000
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn content_of_others_is_data_and_a_copy_keeps_its_holes() {
    let world = World::new().await;
    let mut dag = Dag::default();
    let leaf = dag.leaf(Bytes::from(vec![0; 100_000]));
    for block in dag.blocks {
        world.place.source.insert(block);
    }
    let mfs = &world.mfs;
    mfs.mount(ME, ROOT, b"zeros", &leaf).await.unwrap();
    let sparse = world.file(ROOT, "sparse", b"head").await;
    mfs.write(ME, sparse, 3_000_000, b"tail", false)
        .await
        .unwrap();
    mfs.checkpoint().await.unwrap();
    let world = world.killed().await;
    let mfs = &world.mfs;
    let sparse = node(&world, "sparse").await;
    let copy = world.make(ROOT, "copy", New::File, 0o644).await.node;
    let from = CopySource::Node(sparse);
    mfs.copy_range(ME, from, 0, copy, 0, u64::MAX / 4)
        .await
        .unwrap();
    assert_eq!(holes(mfs, copy).await, [(4, 2_999_996)]);
    assert_eq!(holes(mfs, node(&world, "zeros").await).await, []);
    restarted(world).await;
}
