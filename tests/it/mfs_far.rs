//! Mounted content whose source and cache are gone: what was changed in it
//! stays, and nothing but a read of what was never here fails.

use std::sync::Arc;

use cidfs::block::Cid;
use cidfs::cache::PinMode;
use cidfs::testing::dag::{Dag, link};
use cidfs::tree::TreeError;
use cidfs::tree::mfs::{MfsOptions, New, NodeId, RenameMode, SetAttr};
use cidfs::unixfs::data::{Kind, UnixFs};
use cidfs::unixfs::links::links;

use crate::mfs_sim::quiet;
use crate::mfs_support::{ME, World};

const ROOT: NodeId = NodeId::ROOT;

/// A directory of directories of files, in the source only.
fn far(world: &World) -> Cid {
    let mut dag = Dag::default();
    let leaves: Vec<Cid> = (0..4).map(|n| dag.leaf(vec![n; 900])).collect();
    let file = dag.file(&[(leaves[0], 900), (leaves[1], 900)]);
    let other = dag.file(&[(leaves[1], 900), (leaves[0], 900)]);
    let names = [
        ("big", file, 1900),
        ("gone", other, 1900),
        ("gone.raw", leaves[2], 900),
        ("moved", file, 1900),
        ("raw", leaves[3], 900),
    ];
    let names = names.map(|(name, cid, tsize)| link(name, &cid, tsize));
    let inner = dag.node(names.to_vec(), &UnixFs::new(Kind::Directory));
    let empty = dag.directory(&[]);
    let root = dag.directory(&[("empty", empty), ("inner", inner), ("untouched", file)]);
    for block in dag.blocks {
        world.place.source.insert(block);
    }
    root
}

/// Takes away what can be fetched, and what was.
fn forget(world: &World) {
    for block in world.place.source.blocks() {
        world.place.source.remove(block.cid());
    }
}

fn forget_cache(world: &World) {
    for pack in world.place.packs("cache") {
        std::fs::remove_file(pack).unwrap();
    }
    // Notes of what CIDs were found to be are in the index.
    std::fs::remove_dir_all(world.place.path("index")).unwrap();
}

async fn without_source(world: World, in_order: bool) -> World {
    forget(&world);
    if in_order {
        world.mfs.close().await;
    }
    world.blocks.close();
    forget_cache(&world);
    world.killed().await
}

async fn change_all(world: &World) -> NodeId {
    let mfs = &world.mfs;
    let root = mfs.lookup(ROOT, b"m", false).await.unwrap().node;
    let inner = mfs.lookup(root, b"inner", false).await.unwrap().node;
    world.file(inner, "new", b"written here").await;
    mfs.unlink(ME, inner, b"gone").await.unwrap();
    mfs.unlink(ME, inner, b"gone.raw").await.unwrap();
    mfs.rmdir(ME, root, b"empty").await.unwrap();
    mfs.rename(ME, (inner, b"moved"), (ROOT, b"here"), RenameMode::Replace)
        .await
        .unwrap();
    let big = mfs.lookup(inner, b"big", false).await.unwrap().node;
    let set = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    mfs.set_attr(ME, big, set).await.unwrap();
    inner
}

async fn check(world: &World) {
    let mfs = &world.mfs;
    assert_eq!(mfs.recovery().errors, [""; 0]);
    let root = mfs.lookup(ROOT, b"m", false).await.unwrap().node;
    let inner = mfs.lookup(root, b"inner", false).await.unwrap().node;
    let new = mfs.lookup(inner, b"new", false).await.unwrap().node;
    assert_eq!(world.read(new).await, b"written here");
    for (dir, name) in [(inner, "gone"), (inner, "gone.raw"), (root, "empty")] {
        let found = mfs.lookup(dir, name.as_bytes(), false).await;
        assert!(matches!(found, Err(TreeError::NotFound)), "{name}");
    }
    let big = mfs.lookup(inner, b"big", false).await.unwrap();
    assert_eq!((big.mode, big.size), (0o600, 1800));
    assert_eq!(mfs.lookup(ROOT, b"here", false).await.unwrap().size, 1800);
    // A raw file is known from its directory alone.
    assert_eq!(mfs.lookup(inner, b"raw", false).await.unwrap().size, 900);
    let mut out = [0; 10];
    let read = mfs.read(big.node, 0, &mut out).await;
    assert!(matches!(read, Err(TreeError::Unavailable(_))), "{read:?}");
    let untouched = mfs.lookup(root, b"untouched", false).await;
    assert!(untouched.is_err() || untouched.unwrap().size == 1800);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_in_mounted_content_outlives_its_source_and_the_cache() {
    for in_order in [false, true] {
        let world = World::with(quiet()).await;
        let cid = far(&world);
        world.mfs.mount(ME, ROOT, b"m", &cid).await.unwrap();
        change_all(&world).await;
        world.mfs.sync().unwrap();
        let world = without_source(world, in_order).await;
        check(&world).await;
        world.mfs.checkpoint().await.expect("it needs no source");
        let world = world.killed().await;
        check(&world).await;
        let root = world.mfs.lookup(ROOT, b"m", false).await.unwrap().node;
        let inner = world.mfs.lookup(root, b"inner", false).await.unwrap().node;
        world.file(inner, "more", b"later").await;
        world.mfs.checkpoint().await.unwrap();
        world.mfs.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_mounted_directory_is_kept_whole_before_it_changes() {
    let world = World::with(MfsOptions {
        dir_rules: Some(cidfs::unixfs::dir_build::DirRules {
            threshold_bytes: 200,
            fanout: 8,
            ..cidfs::unixfs::profile::Profile::default().into()
        }),
        ..quiet()
    })
    .await;
    // Made here, so that it is a HAMT, and then only in the source.
    let dir = world.dir(ROOT, "d").await;
    for number in 0..60 {
        world.file(dir, &format!("name {number}"), b"x").await;
    }
    let sub = world.dir(dir, "sub").await;
    world.file(sub, "f", b"x").await;
    let cid = world.mfs.cid(dir).await.unwrap().unwrap();
    let other = World::with(world.options.clone()).await;
    let mut open = vec![cid];
    while let Some(cid) = open.pop() {
        let block = world.blocks.get_local(&cid).unwrap().unwrap();
        open.extend(links(&block).unwrap());
        other.place.source.insert(block);
    }
    let mfs = &other.mfs;
    let mounted = mfs.mount(ME, ROOT, b"m", &cid).await.unwrap().node;
    let sub = mfs.lookup(mounted, b"sub", false).await.unwrap().node;
    other.file(sub, "new", b"written here").await;
    let other = without_source(other, false).await;
    assert_eq!(other.mfs.recovery().errors, [""; 0]);
    other.mfs.checkpoint().await.expect("it needs no source");
    let names = other.mfs.lookup(ROOT, b"m", false).await.unwrap().node;
    let sub = other.mfs.lookup(names, b"sub", false).await.unwrap().node;
    let new = other.mfs.lookup(sub, b"new", false).await.unwrap().node;
    assert_eq!(other.read(new).await, b"written here");
    other.mfs.close().await;
    world.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_keeps_what_is_mounted_while_it_runs() {
    let world = World::with(quiet()).await;
    // In own packs, and nothing leads there.
    let mut dag = Dag::default();
    let leaves: Vec<Cid> = (0..4).map(|n| dag.leaf(vec![n; 900])).collect();
    let file = dag.file(&[(leaves[0], 900), (leaves[1], 900)]);
    let dir = dag.directory(&[("f", file), ("g", leaves[2])]);
    let lone = leaves[3];
    for block in dag.blocks {
        world.blocks.put(block, cidfs::cache::Tier::Own).unwrap();
    }
    let (blocks, mfs) = (Arc::clone(&world.blocks), Arc::clone(&world.mfs));
    let handle = tokio::runtime::Handle::current();
    let collecting = tokio::task::spawn_blocking(move || {
        let roots = || {
            let live = mfs.live_roots().map_err(std::io::Error::other)?;
            Ok(live
                .into_iter()
                .map(|cid| (cid, PinMode::Recursive))
                .collect())
        };
        let mounted = std::cell::Cell::new(false);
        let progress = |_| {
            // It has asked for the roots, and not swept yet.
            if !mounted.replace(true) {
                handle.block_on(mfs.mount(ME, ROOT, b"m", &dir)).unwrap();
            }
        };
        let links = |block: &_| links(block).map_err(|error| error.to_string());
        blocks.gc(&links, &roots, &progress).unwrap()
    });
    let report = collecting.await.unwrap();
    assert!(!world.blocks.has_local(&lone), "{report:?}");
    for cid in [dir, file, leaves[0], leaves[1], leaves[2]] {
        assert!(world.blocks.has_local(&cid), "{cid}: {report:?}");
    }
    world.mfs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_content_is_gone_makes_the_tree_read_only_and_not_fail_to_open() {
    let world = World::with(quiet()).await;
    let cid = far(&world);
    let mounted = world.mfs.mount(ME, ROOT, b"m", &cid).await.unwrap().node;
    world.file(ROOT, "mine", b"mine").await;
    let inner = world.mfs.lookup(mounted, b"inner", false).await.unwrap();
    world.file(inner.node, "new", b"new").await;
    world.mfs.sync().unwrap();
    // What was kept is lost too, as if an older version had not kept it.
    forget(&world);
    world.blocks.close();
    forget_cache(&world);
    for pack in world.place.packs("own") {
        std::fs::remove_file(pack).unwrap();
    }
    let world = world.killed().await;
    assert!(!world.mfs.recovery().errors.is_empty());
    let mine = world.mfs.lookup(ROOT, b"mine", false).await.unwrap().node;
    assert_eq!(world.read(mine).await, b"mine");
    let made = world
        .mfs
        .make(ME, ROOT, b"x", New::File, 0o644, 0, false)
        .await;
    assert!(matches!(made, Err(TreeError::ReadOnly(_))), "{made:?}");
    world.mfs.close().await;
    // With the source again all of it is there.
    far(&world);
    let world = world.killed().await;
    assert_eq!(world.mfs.recovery().errors, [""; 0]);
    let root = world.mfs.lookup(ROOT, b"m", false).await.unwrap().node;
    let inner = world.mfs.lookup(root, b"inner", false).await.unwrap().node;
    let new = world.mfs.lookup(inner, b"new", false).await.unwrap().node;
    assert_eq!(world.read(new).await, b"new");
    world.mfs.close().await;
}
