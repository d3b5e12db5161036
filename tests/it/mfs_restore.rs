//! What a checkpoint has is brought back whole, or not at all.

use std::collections::BTreeMap;

use cidfs::tree::TreeError;
use cidfs::tree::mfs::path::TreePath;
use cidfs::tree::mfs::{Allocate, Checkpointed, Mfs, New, NodeId, Restore, SetAttr, XattrMode};

use crate::mfs_sim::{Sim, quiet};
use crate::mfs_support::{ME, World, dump};
use crate::store_support::runtime;

const ROOT: NodeId = NodeId::ROOT;

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn whole(snapshot: Checkpointed, from: &str, to: &str) -> Restore {
    Restore {
        snapshot,
        from: path(from),
        to: path(to),
        replace: true,
        content_only: false,
    }
}

async fn make(mfs: &Mfs, parent: NodeId, name: &str, new: New) -> NodeId {
    let made = mfs.make(ME, parent, name.as_bytes(), new, 0o640, 0, false);
    made.await.unwrap().node
}

/// A bit of everything under `/dir`.
async fn rich(mfs: &Mfs) {
    let dir = make(mfs, ROOT, "dir", New::Directory).await;
    let file = make(mfs, dir, "file", New::File).await;
    mfs.write(ME, file, 0, b"hello", false).await.unwrap();
    let sub = make(mfs, dir, "sub", New::Directory).await;
    mfs.link(ME, file, sub, b"hard", false).await.unwrap();
    let sparse = make(mfs, sub, "sparse", New::File).await;
    mfs.write(ME, sparse, 9_000_000, b"end", false)
        .await
        .unwrap();
    mfs.allocate(
        ME,
        sparse,
        Allocate::Zero { keep_size: false },
        0,
        10_000_000,
    )
    .await
    .unwrap();
    make(mfs, sub, "fifo", New::Fifo).await;
    make(mfs, sub, "link", New::Symlink("file".into())).await;
    mfs.set_xattr(ME, sub, b"user.color", b"blue", XattrMode::Set)
        .await
        .unwrap();
    let set = SetAttr {
        mode: Some(0o4711),
        uid: Some(5),
        ..SetAttr::default()
    };
    mfs.set_attr(ME, file, set).await.unwrap();
}

/// What can be seen of a tree, but for the numbers of nodes, the times of
/// changes, and the root.
async fn told(mfs: &Mfs) -> BTreeMap<String, String> {
    let mut all = dump(mfs).await;
    all.remove("/");
    for line in all.values_mut() {
        for (from, to) in [("node: NodeId(", ")"), ("ctime: Time {", "}")] {
            let at = line.find(from).unwrap();
            let end = at + line[at..].find(to).unwrap();
            line.replace_range(at..end, "");
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_any_size_comes_back_as_one_transaction() {
    let world = World::with(quiet()).await;
    let mfs = &world.mfs;
    rich(mfs).await;
    let dir = world.dir(ROOT, "many").await;
    for count in 0..52_000 {
        make(mfs, dir, &format!("{count}"), New::Fifo).await;
    }
    let made = mfs.checkpoint().await.unwrap();
    let before = told(mfs).await;
    mfs.rename(ME, (ROOT, b"dir"), (dir, b"moved"), Default::default())
        .await
        .unwrap();
    world.file(ROOT, "other", b"x").await;
    mfs.checkpoint().await.unwrap();
    let world = world.killed().await;
    let done = world.mfs.restore(ME, &whole(made, "/", "/"), &|_| {}).await;
    assert_eq!(done.unwrap().made, 52_008);
    assert_eq!(world.mfs.check_sound(), Ok(()));
    assert!(told(&world.mfs).await == before, "it is as it was");
    let world = world.killed().await;
    assert_eq!(world.mfs.recovery().errors, Vec::<String>::new());
    assert!(told(&world.mfs).await == before, "after a kill");
    world.mfs.checkpoint().await.unwrap();
    let world = world.killed().await;
    assert!(told(&world.mfs).await == before, "after a checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_whose_place_changes_meanwhile_comes_to_nothing() {
    let world = World::with(quiet()).await;
    let mfs = world.mfs.clone();
    rich(&mfs).await;
    let made = mfs.checkpoint().await.unwrap();
    world.dir(ROOT, "copy").await;
    let (replaced, here) = (mfs.clone(), std::sync::atomic::AtomicBool::new(false));
    let each = |_| {
        if !here.swap(true, std::sync::atomic::Ordering::SeqCst) {
            let change = async {
                replaced.rmdir(ME, ROOT, b"copy").await.unwrap();
                make(&replaced, ROOT, "copy", New::File).await;
            };
            futures::executor::block_on(change);
        }
    };
    let what = whole(made, "/dir", "/copy");
    let outcome = mfs.restore(ME, &what, &each).await;
    assert!(matches!(outcome, Err(TreeError::Busy(_))), "{outcome:?}");
    assert!(mfs.transactions().is_empty());
    let before = told(&mfs).await;
    assert!(before["/copy"].contains("kind: File"));
    drop((mfs, replaced));
    let world = world.killed().await;
    assert!(world.mfs.recovery().rolled_back <= 1);
    assert_eq!(told(&world.mfs).await, before);
    let refused = Restore {
        replace: false,
        ..what.clone()
    };
    let outcome = world.mfs.restore(ME, &refused, &|_| {}).await;
    assert!(matches!(outcome, Err(TreeError::Exists)), "{outcome:?}");
    world.mfs.restore(ME, &what, &|_| {}).await.unwrap();
    assert_eq!(told(&world.mfs).await.len(), before.len() + 6);
    assert_eq!(world.mfs.check_sound(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_nobody_waits_for_any_more_is_rolled_back() {
    let world = World::with(quiet()).await;
    rich(&world.mfs).await;
    let made = world.mfs.checkpoint().await.unwrap();
    let before = dump(&world.mfs).await;
    let mfs = world.mfs.clone();
    let what = whole(made, "/dir", "/copy");
    let gives_up = tokio::spawn(async move { mfs.restore(ME, &what, &|_| panic!("gone")).await });
    assert!(gives_up.await.is_err());
    assert!(world.mfs.transactions().is_empty());
    assert_eq!(dump(&world.mfs).await, before);
    world.file(ROOT, "new", b"x").await;
    world.mfs.checkpoint().await.unwrap();
    let world = world.killed().await;
    assert_eq!(dump(&world.mfs).await.len(), before.len() + 1);
}

#[test]
fn a_death_at_any_change_of_the_disk_leaves_a_restore_done_or_not_begun() {
    runtime().block_on(async {
        let (mut done, mut undone) = (0, 0);
        for stop in 0..40 {
            let sim = Sim::new(quiet()).await;
            rich(&sim.mfs).await;
            let made = sim.mfs.checkpoint().await.unwrap();
            let wanted = told(&sim.mfs).await;
            sim.mfs.unlink(ME, ROOT, b"none").await.unwrap_err();
            let dir = sim.mfs.lookup(ROOT, b"dir", false).await.unwrap().node;
            make(&sim.mfs, dir, "new", New::File).await;
            sim.mfs.sync().unwrap();
            let before = told(&sim.mfs).await;
            sim.disk.stop_at(Some(sim.disk.counts().changes + stop));
            let what = whole(made, "/dir", "/dir");
            let restored =
                sim.mfs.restore(ME, &what, &|_| {}).await.is_ok() && sim.mfs.sync().is_ok();
            let sim = match stop % 2 {
                0 => sim.killed().await,
                _ => sim.crashed(stop).await,
            };
            assert_eq!(sim.mfs.recovery().errors, Vec::<String>::new(), "{stop}");
            let found = told(&sim.mfs).await;
            match found == wanted {
                true => done += 1,
                false => {
                    assert_eq!(found, before, "{stop}: neither done nor not begun");
                    assert!(!restored, "{stop}: it was acknowledged");
                    undone += 1;
                }
            }
        }
        assert!(done > 5 && undone > 1, "{done} {undone}");
    });
}
