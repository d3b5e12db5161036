//! Checkpoints that are kept, and those that come to nothing.

use std::sync::Arc;
use std::time::Duration;

use cidfs::cache::PinMode;
use cidfs::disk::RealDisk;
use cidfs::fs::{Files, MountOptions};
use cidfs::testing::dag::Dag;
use cidfs::testing::source::{Fault, FaultSource};
use cidfs::tree::Node;
use cidfs::tree::mfs::{MfsOptions, NodeId};
use cidfs::unixfs::Reader;
use futures::FutureExt;

use crate::control_world::context_over;
use crate::mfs_sim::quiet;
use crate::mfs_support::{ME, World, open_from};
use crate::store_support::files;

const ROOT: NodeId = NodeId::ROOT;

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_nobody_waits_for_any_more_leaves_no_mark() {
    let world = World::new().await;
    let mut dag = Dag::default();
    let mut part = |at| {
        let leaves = [0, 1].map(|leaf| (dag.leaf(format!("leaf {at}.{leaf}")), 8));
        dag.file(&leaves)
    };
    let parts: Vec<_> = (0..3).map(&mut part).collect();
    let parts: Vec<_> = parts.into_iter().map(|part| (part, 16)).collect();
    let root = dag.file(&parts);
    for block in dag.blocks {
        world.place.source.insert(block);
    }
    let mounted = world.mfs.mount(ME, ROOT, b"m", &root).await.unwrap();
    world
        .mfs
        .write(ME, mounted.node, 3, b"x", false)
        .await
        .unwrap();
    let World {
        place,
        blocks,
        mfs,
        options,
    } = world;
    drop(mfs);
    blocks.close();
    drop(blocks);
    // A node on the way to the last leaf must be had from afar, and does not come.
    std::fs::remove_dir_all(place.path("packs/cache")).unwrap();
    std::fs::remove_dir_all(place.path("index")).unwrap();
    let source = Arc::new(FaultSource::new(place.source.clone()));
    source.always(Some(Fault::Hang));
    let disk = Arc::new(RealDisk);
    let (_blocks, mfs) = open_from(&place, &options, disk, source.clone()).await;
    let waited = tokio::time::timeout(Duration::from_millis(300), mfs.checkpoint()).await;
    assert!(waited.is_err(), "it cannot be made: {waited:?}");
    assert_eq!(mfs.check_sound(), Ok(()));
    source.always(None);
    mfs.checkpoint().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_the_cid_of_what_is_not_sealed_does_not_seal_it() {
    let world = World::new().await;
    let dir = world.dir(ROOT, "dir").await;
    let file = world.file(dir, "file", b"x").await;
    let reader = Reader::new(world.blocks.clone());
    let (repo, mfs) = (world.place.path(""), world.mfs.clone());
    let context = context_over(repo, world.blocks.clone(), mfs, reader, Arc::default());
    context.tree.attach(world.mfs.clone()).ok().unwrap();
    let root = Node::Top;
    let files = Files::new(context.tree.clone(), root, MountOptions::default()).unwrap();
    let mut waited = 0;
    for round in 0..20u8 {
        // Each change leaves the file, and then the directory, unsealed.
        world.mfs.write(ME, file, 0, &[round], false).await.unwrap();
        for node in [file, dir] {
            let asked = || files.clone().getxattr(node.number(), b"ipfs.cid".to_vec());
            // Another thread may be so fast that there is nothing to wait for.
            waited += u32::from(asked().now_or_never().is_none());
            let told = asked().await.unwrap();
            let cid = world.mfs.cid(node).await.unwrap().unwrap();
            assert_eq!(told, cid.to_string());
            let again = asked().now_or_never();
            assert_eq!(again.unwrap().unwrap(), told, "now it is known");
        }
    }
    assert!(waited > 0, "the thread that asked has sealed it, each time");
}

/// What an end of retention leaves: only the newest segment.
fn drop_old_segments(world: &World) {
    let mut segments = files(&world.place.path("journal"));
    segments.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".seg") && name != "next.seg"
    });
    segments.pop();
    assert!(!segments.is_empty(), "all is in one segment");
    for path in segments {
        std::fs::remove_file(path).unwrap();
    }
}

/// Fills a segment of the journal.
async fn fill_a_segment(world: &World) {
    let file = world.file(ROOT, "filler", b"").await;
    let bytes = vec![1; 900_000];
    for _ in 0..75 {
        world.mfs.write(ME, file, 0, &bytes, false).await.unwrap();
    }
    world.mfs.unlink(ME, ROOT, b"filler").await.unwrap();
}

async fn collect(world: &World) {
    let (mfs, blocks) = (world.mfs.clone(), world.blocks.clone());
    let collecting = tokio::task::spawn_blocking(move || {
        let links = |block: &_| cidfs::unixfs::links::links(block).map_err(|e| e.to_string());
        let live = mfs.live_roots().unwrap();
        let live = live.into_iter().map(|cid| (cid, PinMode::Recursive));
        let commits = mfs.live_commits().into_iter();
        let roots: Vec<_> = live
            .chain(commits.map(|cid| (cid, PinMode::Direct)))
            .collect();
        blocks.gc(&links, &|| Ok(roots.clone()), &|_| {}).unwrap();
    });
    collecting.await.unwrap();
}

async fn reads(world: &World, root: &cidfs::block::Cid) -> Option<Vec<u8>> {
    let reader = Reader::new(world.blocks.clone());
    let found = reader.find(root, b"file").await.ok()??;
    let mut out = vec![0; 100];
    let len = reader.read(&found.cid, 0, &mut out).await.ok()?;
    out.truncate(len);
    Some(out)
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_whose_entries_the_journal_has_dropped_are_still_kept() {
    let options = MfsOptions {
        snapshots_kept: 3,
        checkpoint_bytes: u64::MAX,
        ..MfsOptions::default()
    };
    let world = World::with(options).await;
    let mut made = Vec::new();
    let file = world.file(ROOT, "file", b"").await;
    for round in 0..4u8 {
        if round == 3 {
            fill_a_segment(&world).await;
        }
        let text = [b'0' + round];
        world.mfs.write(ME, file, 0, &text, false).await.unwrap();
        made.push(world.mfs.checkpoint().await.unwrap());
    }
    let before = world.mfs.checkpoints();
    assert_eq!(before, made[1..]);
    drop_old_segments(&world);
    let world = world.killed().await;
    assert_eq!(world.mfs.checkpoints(), before);
    collect(&world).await;
    for (round, one) in before.iter().enumerate() {
        let wanted = vec![b'1' + round as u8];
        assert_eq!(reads(&world, &one.root).await, Some(wanted), "{round}");
    }
    assert_eq!(reads(&world, &made[0].root).await, None, "let go");
    let world = world.killed().await;
    assert_eq!(world.mfs.checkpoints(), before, "after a collection");
    // The oldest goes when there is one more, and with it its blocks.
    let file = world.mfs.lookup(ROOT, b"file", false).await.unwrap().node;
    world.mfs.write(ME, file, 0, b"new", false).await.unwrap();
    world.mfs.checkpoint().await.unwrap();
    collect(&world).await;
    assert_eq!(reads(&world, &made[1].root).await, None);
    let world = world.killed().await;
    assert_eq!(world.mfs.checkpoints()[..2], made[2..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_cids_again_and_again_pushes_no_checkpoint_out() {
    let world = World::with(quiet()).await;
    let dir = world.dir(NodeId::ROOT, "d").await;
    let mut wanted = Vec::new();
    for count in 0..3 {
        world.file(dir, &format!("file {count}"), b"x").await;
        wanted.push(world.mfs.checkpoint().await.unwrap());
    }
    let mut last = None;
    for count in 0..40 {
        world.file(dir, &format!("later {count}"), b"x").await;
        last = world.mfs.cid(dir).await.unwrap();
    }
    let kept = world.mfs.checkpoints();
    assert_eq!(kept[..3], wanted[..]);
    assert_eq!(kept.len(), 4, "and the last one that was looked at");
    let world = world.killed().await;
    assert_eq!(world.mfs.recovery().errors, Vec::<String>::new());
    assert_eq!(world.mfs.checkpoints(), kept, "the same after a restart");
    let dir = world.mfs.lookup(NodeId::ROOT, b"d", false).await.unwrap();
    assert_eq!(world.mfs.cid(dir.node).await.unwrap(), last);
    // One that is asked for stays, though nothing changed since somebody looked.
    world.file(dir.node, "one more", b"x").await;
    world.mfs.cid(dir.node).await.unwrap();
    let asked = world.mfs.checkpoint().await.unwrap();
    world.file(dir.node, "and one", b"x").await;
    let newest = world.mfs.checkpoint().await.unwrap();
    let kept = world.mfs.checkpoints();
    assert_eq!(kept[kept.len() - 2..], [asked, newest]);
}
