//! Much in memory, and large directories.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cidfs::testing::dag::Dag;
use cidfs::testing::source::{Fault, FaultSource};
use cidfs::tree::mfs::{Mfs, MfsOptions, New, NodeAttr, NodeId};

use crate::mfs_sim::quiet;
use crate::mfs_support::{ME, World, open_waiting, two_halves};
use crate::store_support::Place;

const ROOT: NodeId = NodeId::ROOT;

async fn make(mfs: &Mfs, dir: NodeId, name: &str, new: New) -> NodeId {
    let made = mfs.make(ME, dir, name.as_bytes(), new, 0o644, 0, false);
    made.await.unwrap().node
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_hold_much_memory_become_a_checkpoint_by_themselves() {
    let limit = 256;
    let world = World::with(MfsOptions {
        commit_interval: Duration::from_millis(20),
        changed_bytes_max: limit * 1024,
        ..quiet()
    })
    .await;
    let mut dirty_most = 0;
    for count in 0..40 * limit {
        make(&world.mfs, ROOT, &format!("f{count}"), New::File).await;
        dirty_most = dirty_most.max(world.mfs.figures().unwrap().dirty as u64);
    }
    assert!(dirty_most < 20 * limit, "{dirty_most} of {}", 40 * limit);
    let until = Instant::now() + Duration::from_secs(20);
    while world.mfs.figures().unwrap().dirty as u64 > limit {
        assert!(Instant::now() < until, "changes are left in memory");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(world.mfs.checkpoints().len() > 2);
    world.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_hold_too_much_wait_for_a_checkpoint_and_are_made_all_the_same() {
    let place = Place::new();
    let (root, far) = two_halves(&place);
    let source = Arc::new(FaultSource::new(place.source.clone()));
    let options = MfsOptions {
        changed_bytes_max: 16 << 10,
        commit_interval: Duration::from_millis(20),
        ..quiet()
    };
    let deadline = Duration::from_secs(60);
    let (_, mfs) = open_waiting(&place, &options, source.clone(), deadline).await;
    let mounted = mfs.mount(ME, ROOT, b"m", &root).await.unwrap();
    mfs.write(ME, mounted.node, 50, b"x", false).await.unwrap();
    source.for_cid(&far, Some(Fault::Hang));
    // The checkpoint that these make due hangs; behind twice the limit each waits.
    let took = async |name: String| {
        let began = Instant::now();
        make(&mfs, ROOT, &name, New::File).await;
        began.elapsed()
    };
    let mut count = 0;
    loop {
        count += 1;
        assert!(count < 2000, "nothing waits");
        if took(format!("f{count}")).await > Duration::from_millis(900) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(count > 16, "{count}");
    source.for_cid(&far, None);
    mfs.checkpoint().await.ok();
    let until = Instant::now() + Duration::from_secs(60);
    while took(format!("g{count}")).await > Duration::from_millis(900) {
        count += 1;
        assert!(Instant::now() < until, "it never goes on");
    }
    mfs.close().await;
}

/// A directory with something of every kind among files.
async fn mixed(world: &World, files: usize) -> NodeId {
    let dir = world.dir(ROOT, "d").await;
    for count in 0..files {
        let name = format!("name-{count}");
        let bytes = format!("{count}");
        let bytes = if count % 5 == 0 { "" } else { &bytes };
        world.file(dir, &name, bytes.as_bytes()).await;
    }
    let large = vec![7; (1 << 20) + 5];
    world.file(dir, "large", &large).await;
    let sparse = world.file(dir, "sparse", b"x").await;
    world
        .mfs
        .write(ME, sparse, 1 << 22, b"y", false)
        .await
        .unwrap();
    for (name, new) in [
        ("link", New::Symlink("target".into())),
        ("fifo", New::Fifo),
        ("device", New::CharDevice(5)),
        ("below", New::Directory),
    ] {
        world.make(dir, name, new, 0o755).await;
    }
    let linked = world.file(dir, "linked", b"twice").await;
    let other = world.dir(ROOT, "other").await;
    world
        .mfs
        .link(ME, linked, other, b"l", false)
        .await
        .unwrap();
    let mut dag = Dag::default();
    let leaf = dag.leaf(vec![3; 77]);
    let file = dag.file(&[(leaf, 77)]);
    for block in dag.blocks {
        world.place.source.insert(block);
    }
    world.mfs.mount(ME, dir, b"mounted", &file).await.unwrap();
    world.mfs.mount(ME, dir, b"raw", &leaf).await.unwrap();
    dir
}

async fn listed(mfs: &Mfs, dir: NodeId, limit: usize) -> BTreeMap<Vec<u8>, NodeAttr> {
    let (mut all, mut cookie) = (BTreeMap::new(), 0);
    loop {
        let page = mfs.list(dir, cookie, limit).await.unwrap();
        let Some(last) = page.last() else { break };
        cookie = last.cookie;
        for entry in page {
            assert!(!entry.guessed);
            assert!(all.insert(entry.name.to_vec(), entry.attr).is_none());
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_of_a_directory_is_what_is_found_name_by_name() {
    let world = World::with(quiet()).await;
    mixed(&world, 5000).await;
    world.mfs.checkpoint().await.unwrap();
    let world = world.reopen().await;
    let dir = world.mfs.lookup(ROOT, b"d", false).await.unwrap().node;
    let all = listed(&world.mfs, dir, 256).await;
    assert_eq!(all.len(), 5009);
    let world = world.reopen().await;
    let found = world.mfs.lookup(ROOT, b"d", false).await.unwrap().node;
    assert_eq!(found, dir);
    for (name, attr) in &all {
        let found = world.mfs.lookup(dir, name, false).await.unwrap();
        assert_eq!(found, *attr, "{}", name.escape_ascii());
    }
    world.mfs.check_sound().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_goes_on_loads_what_comes_next_and_sees_every_change() {
    let world = World::with(quiet()).await;
    let dir = mixed(&world, 3000).await;
    world.mfs.checkpoint().await.unwrap();
    let world = world.reopen().await;
    world.mfs.lookup(ROOT, b"d", false).await.unwrap();
    let page = world.mfs.list(dir, 0, 256).await.unwrap();
    assert!(world.mfs.figures().unwrap().nodes > 1000, "nothing ahead");
    world.mfs.unlink(ME, dir, b"name-7").await.unwrap();
    let longer = world.mfs.lookup(dir, b"name-8", false).await.unwrap().node;
    let wrote = world.mfs.write(ME, longer, 0, b"longer than it was", false);
    wrote.await.unwrap();
    world.file(dir, "new", b"new").await;
    let mut names: Vec<_> = page.into_iter().map(|entry| entry.name.to_vec()).collect();
    names.retain(|name| name != b"name-7");
    let all = listed(&world.mfs, dir, 100).await;
    assert_eq!(all.len(), 3009);
    assert!(names.iter().all(|name| all.contains_key(name)));
    assert_eq!(all.get(&b"name-8"[..]).unwrap().size, 18);
    assert!(!all.contains_key(&b"name-7"[..]) && all.contains_key(&b"new"[..]));
    world.mfs.check_sound().unwrap();
}
