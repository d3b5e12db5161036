//! What a check finds in the kept checkpoints, and what it calls damage.

use std::sync::Arc;

use cidfs::clock::SystemClock;
use cidfs::disk::RealDisk;
use cidfs::tree::mfs::path::TreePath;
use cidfs::tree::mfs::{Checkpointed, Inspection, Mfs, NodeId, Parts, SetAttr};
use cidfs::unixfs::Reader;

use crate::mfs_sim::quiet;
use crate::mfs_support::{ME, World};

const ROOT: NodeId = NodeId::ROOT;

fn parts(world: &World) -> Parts {
    Parts {
        journal_dir: world.place.path("journal"),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        blocks: world.blocks.clone(),
        reader: Reader::new(world.blocks.clone()),
    }
}

async fn inspect(world: &World) -> Inspection {
    let found = Mfs::inspect_closed(&parts(world), 16, &|_| ()).await;
    found.unwrap()
}

/// Damages the first place in the packs that has these bytes.
fn flip(world: &World, bytes: &[u8]) {
    for path in crate::store_support::files(&world.place.path("packs/own")) {
        let mut content = std::fs::read(&path).unwrap();
        let at = content
            .windows(bytes.len())
            .position(|found| found == bytes);
        if let Some(at) = at {
            content[at] ^= 1;
            std::fs::write(&path, content).unwrap();
            return;
        }
    }
    panic!("in no pack");
}

async fn write(world: &World, node: NodeId, byte: u8) -> Checkpointed {
    let bytes = vec![byte; 3 << 20];
    world.mfs.write(ME, node, 0, &bytes, false).await.unwrap();
    world.mfs.checkpoint().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_only_an_older_checkpoint_has_is_found_and_told_by_a_restore() {
    let world = World::with(quiet()).await;
    let file = world.file(ROOT, "large", b"").await;
    let first = write(&world, file, b'a').await;
    write(&world, file, b'b').await;
    let clean = inspect(&world).await;
    assert_eq!(clean.problems, Vec::<String>::new());
    flip(&world, &[b'a'; 1000]);
    let world = world.killed().await;
    let path = TreePath::parse(b"/large").unwrap();
    let told = world.mfs.damage_in_snapshot(&first, &path).await.unwrap();
    assert!(told.iter().any(|line| line.contains("/large")), "{told:?}");
    let found = inspect(&world).await;
    assert_eq!(found.problems.len(), 1, "{found:?}");
    let place = format!("snapshot {}:/large", first.sequence);
    assert!(found.lost[0].contains(&place), "{found:?}");
    let newest = *world.mfs.checkpoints().last().unwrap();
    let none = world.mfs.damage_in_snapshot(&newest, &path).await.unwrap();
    assert_eq!(none, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_checkpoint_that_cannot_be_used_is_a_notice_and_a_newest_one_a_problem_once() {
    let world = World::with(quiet()).await;
    let mut made = Vec::new();
    for mode in [0o600, 0o640, 0o644] {
        let set = SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        };
        let file = world.file(ROOT, &format!("file {mode}"), b"x").await;
        world.mfs.set_attr(ME, file, set).await.unwrap();
        made.push(world.mfs.checkpoint().await.unwrap());
    }
    let commit = |one: &Checkpointed| world.blocks.get_local(&one.commit).unwrap().unwrap();
    let (middle, newest) = (commit(&made[1]), commit(&made[2]));
    flip(&world, middle.data());
    let world = world.killed().await;
    let found = inspect(&world).await;
    assert_eq!(found.problems, Vec::<String>::new(), "{found:?}");
    assert_eq!(found.notices.len(), 1, "{found:?}");
    assert_eq!(found.checkpoints, 1, "they end there");
    // The newest is a problem, until another was made after it.
    flip(&world, newest.data());
    let world = world.killed().await;
    let found = inspect(&world).await;
    assert!(!found.problems.is_empty(), "{found:?}");
    let world = world.reopen().await;
    let found = inspect(&world).await;
    assert_eq!(found.problems, Vec::<String>::new(), "{found:?}");
}
