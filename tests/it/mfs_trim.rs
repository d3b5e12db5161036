//! What is dropped from memory and loaded again, where little may stay loaded.

use std::collections::BTreeMap;

use cidfs::config::NODES_LOADED_MAX;
use cidfs::tree::mfs::path::TreePath;
use cidfs::tree::mfs::{NodeId, SetAttr, Staged};

use crate::mfs_support::{ME, World, dump};

const ROOT: NodeId = NodeId::ROOT;
/// So few that nearly every step drops something, and enough for one step.
const SMALL: usize = 8;

fn mode(mode: u32) -> SetAttr {
    SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    }
}

/// A tree in a checkpoint, opened anew where hardly anything stays loaded.
async fn opened_small(mut world: World) -> World {
    world.mfs.checkpoint().await.unwrap();
    world.options.nodes_loaded_max = SMALL;
    world.killed().await
}

/// What is there after a checkpoint, seen where everything stays loaded.
async fn seen_large(mut world: World) -> BTreeMap<String, String> {
    assert_eq!(world.mfs.recovery().errors, Vec::<String>::new());
    world.mfs.checkpoint().await.unwrap();
    world.mfs.check_sound().unwrap();
    world.options.nodes_loaded_max = NODES_LOADED_MAX;
    let world = world.killed().await;
    dump(&world.mfs).await
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_replayed_though_little_stays_loaded() {
    let world = World::new().await;
    let mut at = ROOT;
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        at = world.dir(at, name).await;
        world.file(at, "file", b"as it was").await;
    }
    let file = world.file(at, "deep", b"as it was").await;
    world.mfs.checkpoint().await.unwrap();
    world.mfs.set_attr(ME, file, mode(0o600)).await.unwrap();
    let before = dump(&world.mfs).await;
    let mut world = world;
    world.options.nodes_loaded_max = SMALL;
    let world = world.killed().await;
    assert_eq!(world.mfs.recovery().entries_applied, 1);
    assert_eq!(seen_large(world).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_keeps_its_names_though_the_directories_of_some_are_dropped() {
    let world = World::new().await;
    let mut dirs = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let dir = world.dir(ROOT, name).await;
        dirs.push(world.dir(dir, "sub").await);
    }
    let file = world.file(dirs[0], "file", b"shared").await;
    for dir in &dirs[1..] {
        world
            .mfs
            .link(ME, file, *dir, b"file", false)
            .await
            .unwrap();
    }
    let world = opened_small(world).await;
    let found = world
        .mfs
        .find(&TreePath::parse(b"/a/sub/file").unwrap())
        .await;
    let found = found.unwrap();
    world
        .mfs
        .set_attr(ME, found.node(), mode(0o640))
        .await
        .unwrap();
    drop(found);
    let after = seen_large(world).await;
    for path in ["a", "b", "c", "d", "e"].map(|name| format!("/{name}/sub/file")) {
        let told = after.get(&path).unwrap_or_else(|| panic!("{path} is gone"));
        assert!(told.contains("nlink: 5"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_several_names_are_dropped_as_others_are() {
    let world = World::new().await;
    let dir = world.dir(ROOT, "dir").await;
    for number in 0..40 {
        let file = world.file(dir, &format!("{number}"), b"x").await;
        let other = format!("{number} again");
        let named = world.mfs.link(ME, file, dir, other.as_bytes(), false);
        named.await.unwrap();
    }
    let before = dump(&world.mfs).await;
    let mut world = opened_small(world).await;
    let listed = world.mfs.readdir(ROOT, 0, 9).await.unwrap();
    let dir = listed.first().unwrap().attr.node;
    assert!(world.mfs.hold(dir));
    let mut cookie = 0;
    while let Some(last) = world.mfs.readdir(dir, cookie, 1).await.unwrap().last() {
        cookie = last.cookie;
        let loaded = world.mfs.figures().unwrap().nodes;
        assert!(loaded < 20, "{loaded} nodes are loaded");
    }
    world.mfs.release(dir, 1);
    world.options.nodes_loaded_max = NODES_LOADED_MAX;
    let world = world.killed().await;
    assert_eq!(dump(&world.mfs).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_directory_is_removed_though_little_stays_loaded() {
    let world = World::new().await;
    let top = world.dir(ROOT, "top").await;
    for name in ["a", "b", "c", "d", "e"] {
        let dir = world.dir(top, name).await;
        let below = world.dir(dir, "below").await;
        world.file(below, "file", b"x").await;
    }
    let world = opened_small(world).await;
    let removal = Staged::Remove {
        path: TreePath::parse(b"/top").unwrap(),
        recursive: true,
    };
    world.mfs.perform_staged(ME, &[removal]).await.unwrap();
    let after = seen_large(world).await;
    assert_eq!(after.keys().collect::<Vec<_>>(), ["/"]);
}
