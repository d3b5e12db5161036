//! Content mounted in the tree: what unmounting would lose, and by attribute.

use bytes::Bytes;
use cidfs::block::Cid;
use cidfs::testing::dag::Dag;
use cidfs::tree::TreeError;
use cidfs::tree::mfs::path::TreePath;
use cidfs::tree::mfs::{
    Allocate, MfsOptions, New, NodeId, Refused, RenameMode, SetAttr, Staged, XattrMode,
};

use crate::mfs_sim::quiet;
use crate::mfs_support::{ME, World};

const ROOT: NodeId = NodeId::ROOT;
const MOUNT: &[u8] = b"cidfs.mount";

/// A directory with `file`, `sub/deep` and `sub/below/deepest`.
fn content(world: &World) -> Cid {
    let mut dag = Dag::default();
    let leaf = dag.leaf(Bytes::from_static(b"far away"));
    let deepest = dag.directory(&[("deepest", leaf)]);
    let below = dag.directory(&[("below", deepest), ("deep", leaf)]);
    let root = dag.directory(&[("file", leaf), ("sub", below)]);
    for block in dag.blocks {
        world.place.source.insert(block);
    }
    root
}

/// A world with that at `m`.
async fn mounted(options: MfsOptions) -> World {
    let world = World::with(options).await;
    let cid = content(&world);
    world.mfs.mount(ME, ROOT, b"m", &cid).await.unwrap();
    world
}

async fn node(world: &World, path: &str) -> NodeId {
    let mut at = ROOT;
    for name in path.split('/') {
        let found = world.mfs.lookup(at, name.as_bytes(), false).await;
        at = found.unwrap().node;
    }
    at
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

async fn unmount(world: &World, at: &str, force: bool) -> Result<(), TreeError> {
    let path = path(at);
    match world
        .mfs
        .perform_staged(ME, &[Staged::Unmount { path, force }])
        .await
    {
        Ok(_) => Ok(()),
        Err(Refused::Change { error, .. } | Refused::Whole(error)) => Err(error),
    }
}

/// One change in or below `m`.
async fn change(world: &World, which: usize) {
    let (mfs, m) = (&world.mfs, node(world, "m").await);
    let sub = node(world, "m/sub").await;
    let deepest = node(world, "m/sub/below/deepest").await;
    match which {
        0 => drop(world.file(m, "added", b"x").await),
        1 => drop(mfs.write(ME, deepest, 2, b"x", false).await.unwrap()),
        2 => mfs.unlink(ME, sub, b"deep").await.unwrap(),
        3 => drop(world.make(sub, "fifo", New::Fifo, 0o600).await),
        4 => {
            let set = SetAttr {
                mode: Some(0o600),
                ..SetAttr::default()
            };
            mfs.set_attr(ME, deepest, set).await.unwrap();
        }
        5 => {
            let below = node(world, "m/sub/below").await;
            let to = (below, &b"again"[..]);
            let cid = content(world);
            mfs.mount(ME, to.0, to.1, &cid).await.unwrap();
        }
        6 => {
            let own = world.file(ROOT, "own", b"own").await;
            mfs.link(ME, own, sub, b"linked", false).await.unwrap();
        }
        7 => {
            let to = (m, &b"moved"[..]);
            let mode = RenameMode::Replace;
            mfs.rename(ME, (sub, b"deep"), to, mode).await.unwrap();
        }
        _ => unreachable!(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_below_is_not_unmounted_unless_it_is_forced() {
    for store_metadata in [false, true] {
        for (which, moment) in (0..8).flat_map(|which| (0..3).map(move |at| (which, at))) {
            let options = MfsOptions {
                store_metadata,
                ..quiet()
            };
            let mut world = mounted(options).await;
            if moment == 2 {
                world.mfs.checkpoint().await.unwrap();
            }
            change(&world, which).await;
            if moment > 0 {
                world.mfs.checkpoint().await.unwrap();
                world = world.killed().await;
            }
            let refused = unmount(&world, "/m", false).await;
            let shown = format!("change {which}, moment {moment}, {store_metadata}: {refused:?}");
            assert!(matches!(refused, Err(TreeError::Busy(_))), "{shown}");
            node(&world, "m/file").await;
            unmount(&world, "/m", true).await.unwrap();
            let gone = world.mfs.lookup(ROOT, b"m", false).await;
            assert!(matches!(gone, Err(TreeError::NotFound)), "{shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_changed_is_unmounted_whenever_it_was_mounted_and_whatever_was_read() {
    for store_metadata in [false, true] {
        for moment in 0..3 {
            let options = MfsOptions {
                store_metadata,
                ..quiet()
            };
            let mut world = mounted(options).await;
            let mut dag = Dag::default();
            let leaf = dag.leaf(Bytes::from_static(b"a file"));
            let link = dag.symlink("nowhere");
            for block in dag.blocks {
                world.place.source.insert(block);
            }
            world.mfs.mount(ME, ROOT, b"f", &leaf).await.unwrap();
            world.mfs.mount(ME, ROOT, b"l", &link).await.unwrap();
            let m = node(&world, "m").await;
            if moment > 0 {
                world.mfs.checkpoint().await.unwrap();
            }
            if moment > 1 {
                world = world.killed().await;
            }
            // What is mounted is itself renamed, and given another mode.
            let mode = RenameMode::Replace;
            world
                .mfs
                .rename(ME, (ROOT, b"m"), (ROOT, b"n"), mode)
                .await
                .unwrap();
            let set = SetAttr {
                mode: Some(0o700),
                ..SetAttr::default()
            };
            world
                .mfs
                .set_attr(ME, node(&world, "n").await, set)
                .await
                .unwrap();
            assert_eq!(node(&world, "n").await, m);
            let deep = node(&world, "n/sub/below/deepest").await;
            assert_eq!(world.read(deep).await, b"far away");
            for name in ["/n", "/f", "/l"] {
                let done = unmount(&world, name, false).await;
                assert!(done.is_ok(), "{name} {moment} {store_metadata}: {done:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_file_that_was_written_to_is_not_unmounted() {
    for checkpoint in [false, true] {
        let world = World::with(quiet()).await;
        let mut dag = Dag::default();
        let leaf = dag.leaf(Bytes::from_static(b"a file"));
        world.place.source.insert(dag.blocks.remove(0));
        let file = world.mfs.mount(ME, ROOT, b"f", &leaf).await.unwrap().node;
        world.mfs.write(ME, file, 0, b"THE", false).await.unwrap();
        if checkpoint {
            world.mfs.checkpoint().await.unwrap();
        }
        let refused = unmount(&world, "/f", false).await;
        assert!(matches!(refused, Err(TreeError::Busy(_))), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_the_attribute_unmounts_under_the_same_rules() {
    let world = mounted(quiet()).await;
    let m = node(&world, "m").await;
    change(&world, 1).await;
    let refused = world.mfs.remove_xattr(ME, m, MOUNT).await;
    assert!(matches!(refused, Err(TreeError::Busy(_))), "{refused:?}");
    unmount(&world, "/m", true).await.unwrap();
    let cid = content(&world);
    let again = world
        .mfs
        .mount(ME, ROOT, b"again", &cid)
        .await
        .unwrap()
        .node;
    world.mfs.remove_xattr(ME, again, MOUNT).await.unwrap();
    let gone = world.mfs.lookup(ROOT, b"again", false).await;
    assert!(matches!(gone, Err(TreeError::NotFound)));
    let plain = world.dir(ROOT, "plain").await;
    let none = world.mfs.remove_xattr(ME, plain, MOUNT).await;
    assert!(matches!(none, Err(TreeError::NoAttribute)), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_attribute_takes_a_path_below_a_cid_and_says_what_is_in_its_way() {
    let world = World::with(quiet()).await;
    let (mfs, cid) = (&world.mfs, content(&world));
    let dir = world.dir(ROOT, "d").await;
    let value = format!("/ipfs/{cid}/sub/below/");
    let set = mfs.set_xattr(ME, dir, MOUNT, value.as_bytes(), XattrMode::Set);
    set.await.unwrap();
    node(&world, "d/deepest").await;
    let file = world.file(ROOT, "f", b"").await;
    let value = format!("{cid}/file");
    let set = mfs.set_xattr(ME, file, MOUNT, value.as_bytes(), XattrMode::Set);
    set.await.unwrap();
    assert_eq!(world.read(file).await, b"far away");
    let absent = format!("{cid}/absent");
    let empty = world.dir(ROOT, "e").await;
    let set = mfs.set_xattr(ME, empty, MOUNT, absent.as_bytes(), XattrMode::Set);
    assert!(matches!(set.await, Err(TreeError::NotFound)));
    let full = world.file(ROOT, "full", b"has bytes").await;
    let set = mfs.set_xattr(ME, full, MOUNT, value.as_bytes(), XattrMode::Set);
    assert!(matches!(set.await, Err(TreeError::Busy(_))));
}

/// The list that says what mode 0640 says.
const PLAIN_ACL: [u8; 28] = [
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 4, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255,
    255, 255, 255,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_portable_tree_takes_an_acl_that_is_a_mode_and_no_owner() {
    let options = MfsOptions {
        portable: true,
        ..quiet()
    };
    let world = World::with(options).await;
    let (mfs, set) = (&world.mfs, XattrMode::Set);
    let file = world.file(ROOT, "f", b"x").await;
    let (access, default) = (b"system.posix_acl_access", b"system.posix_acl_default");
    mfs.set_xattr(ME, file, access, &PLAIN_ACL, set)
        .await
        .unwrap();
    assert_eq!(mfs.attr(file).unwrap().mode, 0o640);
    let dir = world.dir(ROOT, "d").await;
    for (node, name) in [
        (dir, &default[..]),
        (file, b"user.x"),
        (file, b"security.x"),
    ] {
        let refused = mfs.set_xattr(ME, node, name, &PLAIN_ACL, set).await;
        assert!(
            matches!(refused, Err(TreeError::Unsupported(_))),
            "{refused:?}"
        );
    }
    let owner = |uid, gid| SetAttr {
        uid,
        gid,
        ..SetAttr::default()
    };
    mfs.set_attr(ME, file, owner(Some(1000), Some(1000)))
        .await
        .unwrap();
    for other in [owner(Some(0), None), owner(None, Some(0))] {
        let refused = mfs.set_attr(ME, file, other).await;
        assert!(
            matches!(refused, Err(TreeError::NotPermitted(_))),
            "{refused:?}"
        );
        let (path, set) = (path("/f"), other);
        let staged = Staged::Metadata { path, set };
        assert!(mfs.perform_staged(ME, &[staged]).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_reserved_than_the_disk_has_free() {
    let world = World::with(quiet()).await;
    let file = world.file(ROOT, "f", b"some").await;
    let huge = 500 << 40;
    for keep_size in [false, true] {
        for what in [
            Allocate::Reserve { keep_size },
            Allocate::Zero { keep_size },
        ] {
            let refused = world.mfs.allocate(ME, file, what, 0, huge).await;
            assert!(matches!(refused, Err(TreeError::NoSpace(_))), "{refused:?}");
        }
    }
    assert_eq!(world.mfs.attr(file).unwrap().size, 4, "nothing was done");
    let set = SetAttr {
        size: Some(huge),
        ..SetAttr::default()
    };
    world.mfs.set_attr(ME, file, set).await.unwrap();
    let some = Allocate::Reserve { keep_size: false };
    world
        .mfs
        .allocate(ME, file, some, 0, 1 << 20)
        .await
        .unwrap();
    world
        .mfs
        .allocate(ME, file, Allocate::Punch, 0, huge)
        .await
        .unwrap();
}
